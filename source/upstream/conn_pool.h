// HostPool, PooledConnection: a worker's connections to one host in one version of HTTP, of all clients or, where hosts
// are told who the client is, of one of its connections (client_pools.h). A request takes a connection
// that has room for a stream (one in use, if HTTP/2; else the one that was used last), or waits for a new one within
// the cluster's limits.
//
//   connecting --connected--> idle or, if somebody waited, in use
//   idle --start()--> in use: open (room for more streams; HTTP/2 only) or full --streams end--> open, idle
//   What will take no more streams (the peer's GOAWAY, max_requests_per_connection, max_connection_duration, a draining
//   pool) closes with its last one. Anything else that ends a connection closes it.
//
// Thread rule: the worker's thread.
// Use:  pool.acquire(client);  ...client.on_pool_ready(connection): CodecStream& s = connection.start(sink);
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/list.h"
#include "event/timer.h"
#include "http/codec.h"
#include "net/connection.h"
#include "net/tls_session.h"
#include "upstream/ahead_pool.h"
#include "upstream/client_pools.h"
#include "upstream/host.h"

namespace outrigger::upstream {

class Cluster;
class TlsContext;
class HostPool;
class WorkerCluster;
class PooledConnection;

enum class PoolFailure : uint8_t { kOverflow, kConnectFailure, kConnectTimeout };

struct PoolWaitTag;
// A request that waits for a connection.
class PoolClient : public ListNode<PoolWaitTag> {
 public:
  // Call connection.start() from inside. Comes from inside acquire() if a connection had room.
  virtual void on_pool_ready(PooledConnection& connection) = 0;
  // kOverflow comes from inside acquire(). `details`: of kOverflow what the log says, else why TLS failed, if it did;
  // valid for the call.
  virtual void on_pool_failure(PoolFailure why, std::string_view details) = 0;
  // "ip:port" of the connection that it has got, for logs; valid for the call. `remote` empty: the host's only one.
  virtual void on_addresses(std::string_view /*remote*/, std::string_view /*local*/) {}

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
  // Begins a stream; once per hand-out. Its end gives its room back.
  http::CodecStream& start(http::StreamSink& sink);
  const Host& host() const;
  // Which of its host's addresses it has; empty: the host has one.
  std::string_view remote_text() const { return remote_text_; }
  std::string_view local_text() const { return local_text_; }

 private:
  friend class HostPool;
  void on_connected(net::Connection&) override;
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
  void on_eof(net::Connection&) override;
  void on_write_watermark(net::Connection&, bool above) override;
  void on_close(net::Connection&, const Error* error) override;
  http::StreamSink& on_new_stream(http::CodecStream&) override;
  void on_stream_end(bool reusable) override;
  void on_capacity_change() override;
  void make_codec();
  // How many streams may begin now.
  uint32_t room() const;
  void end_streams(uint32_t count);
  void on_age();

  HostPool& pool_;
  net::Connection* connection_ = nullptr;
  std::unique_ptr<http::Codec> codec_;
  std::shared_ptr<const TlsContext> tls_;
  event::Timeout idle_timeout_, age_;
  std::string remote_text_, local_text_;
  int64_t started_ns_ = 0;
  uint32_t requests_ = 0;  // ever begun
  uint32_t streams_ = 0;   // begun and not over
  bool connected_ = false;
  bool last_ = false;  // takes no more streams
  bool http2_ = false;
};

// What the connections of a pool speak.
enum class PoolProtocol : uint8_t { kHttp1, kHttp2, kByAlpn };

class HostPool final : public AheadPool, public ListNode<ClientPoolTag> {
 public:
  // `client`: whose it is; nullptr: everybody's.
  HostPool(WorkerCluster& cluster, std::shared_ptr<Host> host, PoolProtocol protocol, ClientPools* client = nullptr);
  ~HostPool();  // every connection is gone (empty())

  void acquire(PoolClient& client);
  // The client does not want a connection any more.
  void cancel(PoolClient& client);
  // The host left its cluster: idle connections close now, busy ones after their request. Waiters are still served.
  void drain();
  // What the cluster asks of TLS has changed: the connections that there are take no more requests.
  void renew();
  // The client's connection has ended.
  void leave_client();
  // Everything closes now; waiters fail.
  void shutdown();

  bool empty() const { return connections_ == 0 && waiting_count_ == 0; }
  PoolProtocol protocol() const { return protocol_; }
  uint64_t client_id() const { return client_id_; }  // 0: everybody's
  bool has_client() const { return client_ != nullptr; }

 private:
  friend class PooledConnection;
  Streams streams() const override {
    return {uint64_t{waiting_count_} + streams_, uint64_t{connections_} * streams_per_connection_};
  }
  void connect() override;
  void learn(bool http2);
  void expect_streams(uint32_t per_connection);
  std::string_view alpn() const;
  PooledConnection* with_room();
  // After its room has changed: serves those who wait, then puts it where it belongs.
  void settle(PooledConnection& connection);
  void place(PooledConnection& connection);
  bool enough_connecting() const { return uint64_t{connecting_} * streams_per_connection_ >= waiting_count_; }
  void on_gone(PooledConnection& connection, const Error* error);
  void fail_waiters(PoolFailure why, std::string_view details);
  PoolClient* pop_waiter();

  std::shared_ptr<const Cluster> counted_in_;  // HTTP/2: its codecs count in this version's stats
  // With room: no stream, some streams. others_: connecting, full, ending.
  List<PooledConnection, PoolTag> idle_, open_, others_;
  List<PoolClient, PoolWaitTag> waiting_;
  uint32_t waiting_count_ = 0;
  uint32_t connecting_ = 0;
  uint32_t connections_ = 0;
  uint32_t streams_ = 0;             // under way
  uint32_t streams_per_connection_;  // what a new connection is expected to take
  net::TlsSessionCache sessions_{0};
  ClientPools* client_;  // nullptr: everybody's, or the client is gone
  const uint64_t client_id_;
  const PoolProtocol protocol_;
  bool http2_;  // kByAlpn: as the last connection had it, at first expected
};

}  // namespace outrigger::upstream
