// ConnectUpstream: where a CONNECT request that ends here goes: a TCP connection to a host of the cluster (over TLS, if
// the cluster has it). To its Stream it is a codec's stream: the head 200 comes when the host is connected, then the
// host's bytes; what the Stream sends is sent as it is; an end is a half-close.
//
//   connecting --connected: head 200--> open --both sides have ended--> closed
//   A failure to connect is told as a pool's (on_pool_failure), a connection that ends early as a reset.
//
// Thread rule: the worker's thread. It frees itself when its connection has closed, and outlives its Stream till then.
// Use:  upstream_ = ConnectUpstream::begin(worker, cluster, host, sink, client, {remote, local, version});
#pragma once

#include <cstdint>
#include <memory>

#include "base/list.h"
#include "http/codec.h"
#include "proxy/worker_state.h"
#include "upstream/conn_pool.h"

namespace outrigger::proxy {

struct ConnectUpstreamTag;
class ConnectUpstream final : public http::CodecStream,
                              public net::ConnectionHandler,
                              public event::Deferred,
                              public ListNode<ConnectUpstreamTag> {
 public:
  // The downstream connection's addresses, and the version of the PROXY header that comes before the payload.
  struct Client {
    const net::Address& remote;
    const net::Address& local;
    config::ProxyHeaderVersion header;
  };
  // nullptr: the cluster has as many connections as it may, and `waiting` has been told so.
  static ConnectUpstream* begin(WorkerState& worker, upstream::WorkerCluster& cluster,
                                const upstream::HostSet::Entry& host, http::StreamSink& sink,
                                upstream::PoolClient& waiting, const Client& client);
  // Closes at once: the worker ends.
  void cut() { connection_->close(net::Close::kNow); }

  void encode_1xx(const HeaderMap&) override {}
  void encode_headers(const HeaderMap&, bool) override {}
  void encode_data(Buffer&& data, bool end_stream) override;
  void encode_trailers(const HeaderMap&) override { encode_data({}, true); }
  void reset(http::ResetReason reason) override;
  void pause_read(net::Pause why) override { connection_->pause_read(why); }
  void resume_read(net::Pause why) override { connection_->resume_read(why); }
  size_t write_queue_bytes() const override { return connection_->write_queue_bytes(); }
  Protocol protocol() const override { return Protocol::kNone; }

 private:
  ConnectUpstream(WorkerState& worker, upstream::WorkerCluster& cluster, std::shared_ptr<upstream::Host> host,
                  http::StreamSink& sink, upstream::PoolClient& waiting);
  void connect(const Client& client, const upstream::HostAddresses* addresses);
  void on_connected(net::Connection&) override;
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
  void on_eof(net::Connection&) override;
  void on_write_watermark(net::Connection&, bool above) override;
  void on_close(net::Connection&, const Error* error) override;
  void leave(const Error* error);

  WorkerState& worker_;
  upstream::WorkerCluster& cluster_;  // held
  std::shared_ptr<upstream::Host> host_;
  std::shared_ptr<const upstream::TlsContext> tls_;
  http::StreamSink* sink_;  // nullptr: the Stream has forgotten it
  upstream::PoolClient& waiting_;
  net::Connection* connection_ = nullptr;
  int64_t started_ns_ = 0;
  bool connected_ = false;
  bool host_ended_ = false, we_ended_ = false;
};

}  // namespace outrigger::proxy
