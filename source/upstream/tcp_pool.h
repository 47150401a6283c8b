// TcpPool, SpareConnection: where preconnect_policy asks for it, a worker's TCP connections to one host: how many its
// clients have, and the spare ones that wait for the next clients.
//
//   connecting --connected (TLS: after the handshake)--> ready
//   Either is handed to a client, who has it from then on. The host's end, a time without a client, a limit that leaves
//   no room for a client's own and drain() close it.
//
// A spare connection is read, so that its end is noticed; what a host says first (SMTP, MySQL) is kept for the client.
//
// Thread rule: the worker's thread.
// Use:  TcpPool* pool = cluster.tcp_pool(entry);   TcpPool::Spare spare = pool->take_spare(handler);
//       if (spare.connection == nullptr) { pool->add_client();  connect(); }   pool->refill();   ...   pool->leave();
#pragma once

#include <cstdint>
#include <memory>

#include "base/list.h"
#include "event/loop.h"
#include "event/timer.h"
#include "net/connection.h"
#include "upstream/ahead_pool.h"

namespace outrigger::upstream {

class TcpPool;
class TlsContext;

struct SpareTag;
struct ClusterSpareTag;
class SpareConnection final : public net::ConnectionHandler,
                              public event::Deferred,
                              public ListNode<SpareTag>,
                              public ListNode<ClusterSpareTag> {
 public:
  explicit SpareConnection(TcpPool& pool);
  // No client gets it any more.
  void close();
  // The same, and what it takes of the cluster's limit is the caller's now.
  void give_way();

 private:
  friend class TcpPool;
  void connect(const HostAddresses* addresses);
  void retire();
  void on_connected(net::Connection&) override;
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
  void on_eof(net::Connection&) override { close(); }
  void on_close(net::Connection&, const Error* error) override;

  WorkerCluster& cluster_;  // held
  TcpPool* pool_;           // nullptr: it has retired
  net::Connection* connection_ = nullptr;
  std::shared_ptr<const TlsContext> tls_;
  Buffer said_;  // by the host
  event::Timeout idle_;
  int64_t started_ns_ = 0;
  bool connected_ = false;
  bool limited_ = true;  // it takes one of the cluster's limit
};

class TcpPool final : public AheadPool {
 public:
  using AheadPool::AheadPool;
  ~TcpPool();  // empty()

  // A connection that was made ahead, connected or about to be, and counted as one of the cluster's.
  struct Spare {
    net::Connection* connection = nullptr;  // nullptr: there is none
    std::shared_ptr<const TlsContext> tls;
    Buffer said;             // by the host, before what it will say
    int64_t started_ns = 0;  // when it began to connect
  };
  // For a client, whose `handler` takes over. leave() ends either.
  Spare take_spare(net::ConnectionHandler& handler);
  // A client that makes a connection of its own.
  void add_client();
  // Makes as many as per_upstream_preconnect_ratio asks for.
  void refill();
  // The client's connection is gone. May destroy this.
  void leave();

  void close_spares();
  // The host left its cluster, or nothing is to be made ahead any more.
  void drain();
  bool empty() const { return clients_ == 0 && spares_ == 0; }

 private:
  friend class SpareConnection;
  Streams streams() const override { return {clients_, uint64_t{clients_} + spares_}; }
  void connect() override;

  List<SpareConnection, SpareTag> ready_, connecting_;  // ready_: the last one first
  uint32_t clients_ = 0;
  uint32_t spares_ = 0;
};

}  // namespace outrigger::upstream
