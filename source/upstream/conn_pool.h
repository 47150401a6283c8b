// HostPool, PooledConnection: a worker's HTTP/1 connections to one host. A request takes an idle connection (the one
// used last), or waits for a new one within the cluster's limits.
//
//   connecting --connected--> busy (a waiter was there) or idle --start()--> busy --response ends, reusable--> idle
//   Anything else that ends it closes it. A draining pool closes idle connections and takes none back.
//
// Thread rule: the worker's thread.
// Use:  pool.acquire(client);  ...client.on_pool_ready(connection): CodecStream& s = connection.start(sink);
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/list.h"
#include "event/timer.h"
#include "http/h1_codec.h"
#include "net/connection.h"
#include "upstream/host.h"

namespace outrigger::upstream {

class HostPool;
class WorkerCluster;
class PooledConnection;

enum class PoolFailure : uint8_t { kOverflow, kConnectFailure, kConnectTimeout };

struct PoolWaitTag;
// A request that waits for a connection.
class PoolClient : public ListNode<PoolWaitTag> {
 public:
  // Call connection.start() from inside. Comes from inside acquire() if a connection was idle.
  virtual void on_pool_ready(PooledConnection& connection) = 0;
  // kOverflow comes from inside acquire().
  virtual void on_pool_failure(PoolFailure why, std::string_view details) = 0;

 protected:
  ~PoolClient() = default;
};

struct PoolTag;
class PooledConnection final : public net::ConnectionHandler,
                               public http::CodecCallbacks,
                               public event::Deferred,
                               public ListNode<PoolTag> {
 public:
  explicit PooledConnection(HostPool& pool);
  // Begins the connection's stream; once per hand-out. The stream's end gives the connection back.
  http::CodecStream& start(http::StreamSink& sink);
  const Host& host() const;
  const net::Address& local() const { return connection_->local(); }

 private:
  friend class HostPool;
  void on_connected(net::Connection&) override;
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
  void on_eof(net::Connection&) override;
  void on_write_watermark(net::Connection&, bool above) override;
  void on_close(net::Connection&, const Error* error) override;
  http::StreamSink& on_new_stream(http::CodecStream&) override;
  void on_stream_end(bool reusable) override;
  void end_use();

  HostPool& pool_;
  net::Connection* connection_ = nullptr;
  std::unique_ptr<http::Codec> codec_;
  event::Timeout idle_timeout_;
  int64_t started_ns_ = 0;
  uint32_t requests_ = 0;
  bool connected_ = false;
  bool busy_ = false;
};

class HostPool {
 public:
  HostPool(WorkerCluster& cluster, std::shared_ptr<Host> host);
  ~HostPool();  // every connection is gone (empty())

  void acquire(PoolClient& client);
  // The client does not want a connection any more.
  void cancel(PoolClient& client);
  // The host left its cluster: idle connections close now, busy ones after their request. Waiters are still served.
  void drain();
  void revive() { draining_ = false; }
  // Everything closes now; waiters fail.
  void shutdown();

  bool empty() const { return connections_ == 0 && waiting_count_ == 0; }
  Host& host() { return *host_; }
  WorkerCluster& cluster() { return cluster_; }

 private:
  friend class PooledConnection;
  void connect();
  void hand_out(PooledConnection& connection);
  void on_idle(PooledConnection& connection);
  void on_gone(PooledConnection& connection, const Error* error);
  void fail_waiters(PoolFailure why, std::string_view details);
  PoolClient* pop_waiter();

  WorkerCluster& cluster_;
  std::shared_ptr<Host> host_;
  List<PooledConnection, PoolTag> idle_, others_;
  List<PoolClient, PoolWaitTag> waiting_;
  uint32_t waiting_count_ = 0;
  uint32_t connecting_ = 0;
  uint32_t connections_ = 0;
  bool draining_ = false;
};

}  // namespace outrigger::upstream
