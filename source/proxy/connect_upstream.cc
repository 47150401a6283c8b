#include "proxy/connect_upstream.h"

#include <utility>

#include "base/give_back.h"
#include "net/tls_session.h"
#include "upstream/client_pools.h"
#include "upstream/connect_host.h"

namespace outrigger::proxy {

ConnectUpstream::ConnectUpstream(WorkerState& worker, upstream::WorkerCluster& cluster,
                                 std::shared_ptr<upstream::Host> host, http::StreamSink& sink,
                                 upstream::PoolClient& waiting)
    : worker_(worker), cluster_(cluster), host_(std::move(host)), sink_(&sink), waiting_(waiting) {
  cluster_.hold();
  worker_.connects.push_back(*this);
  host_->active_requests.fetch_add(1, std::memory_order_relaxed);
  worker_.shard().add(cluster_.stats().cx_total);
  worker_.shard().inc(cluster_.stats().cx_active);
}

ConnectUpstream* ConnectUpstream::begin(WorkerState& worker, upstream::WorkerCluster& cluster,
                                        const upstream::HostSet::Entry& host, http::StreamSink& sink,
                                        upstream::PoolClient& waiting, const Client& client) {
  if (!upstream::take(cluster.cluster().state().connections, cluster.cluster().spec().max_connections)) {
    worker.shard().add(cluster.stats().cx_overflow);
    waiting.on_pool_failure(upstream::PoolFailure::kOverflow, "upstream_overflow");
    return nullptr;
  }
  auto* made = new ConnectUpstream(worker, cluster, host.host, sink, waiting);
  made->connect(client, host.addresses.get());
  return made;
}

void ConnectUpstream::connect(const Client& client, const upstream::HostAddresses* addresses) {
  const config::ClusterSpec& spec = cluster_.cluster().spec();
  started_ns_ = worker_.loop().now_ns();
  tls_ = cluster_.cluster().tls();
  connection_ = upstream::connect_host(
      worker_.loop(), *host_, addresses, spec, *this,
      tls_ == nullptr ? net::TlsSessionPtr() : tls_->client_session(host_->hostname, {}, nullptr));
  if (spec.proxy_header != config::ProxyHeaderVersion::kNone)
    upstream::tell_client(*connection_, spec.proxy_header, client.remote, client.local);
  if (client.header == config::ProxyHeaderVersion::kNone) return;
  upstream::write_client_header(client.header, client.remote, client.local, connection_->output());
  connection_->written();
}

void ConnectUpstream::on_connected(net::Connection&) {
  connected_ = true;
  if (const net::TlsSession* tls = connection_->tls(); tls != nullptr && cluster_.stats().tls != nullptr)
    cluster_.stats().tls->count_handshake(worker_.shard(), *tls);
  worker_.shard().record(cluster_.stats().cx_connect_ms,
                         static_cast<double>(worker_.loop().now_ns() - started_ns_) / 1e6);
  if (sink_ == nullptr) return;
  waiting_.on_addresses(connection_->remote().str(), connection_->local().str());
  Arena& arena = sink_->arena();
  auto* const head = arena.make<HeaderMap>(arena);
  if (head == nullptr) {
    std::exchange(sink_, nullptr)->on_reset(http::ResetReason::kOverflow, "stream_memory_exhausted");
    return connection_->close(net::Close::kNow);
  }
  head->add_view(header_name(HeaderId::kStatus), "200", HeaderId::kStatus);
  sink_->on_headers(*head, false);
}

void ConnectUpstream::on_read(net::Connection&, Block* block, const char* data, size_t size) {
  if (sink_ == nullptr) return;
  Buffer bytes;
  bytes.append_shared(block, data, size);
  sink_->on_data(bytes, false);
}

void ConnectUpstream::on_eof(net::Connection&) {
  host_ended_ = true;
  if (sink_ == nullptr) return;
  http::StreamSink& sink = *sink_;
  if (we_ended_) {
    sink_ = nullptr;
    connection_->close(net::Close::kFlush);
  }
  Buffer none;
  sink.on_data(none, true);
}

void ConnectUpstream::encode_data(Buffer&& data, bool end_stream) {
  connection_->write(std::move(data));
  if (!end_stream) return;
  we_ended_ = true;
  if (!host_ended_) return connection_->shutdown_write();
  sink_ = nullptr;
  connection_->close(net::Close::kFlush);
}

void ConnectUpstream::reset(http::ResetReason) {
  sink_ = nullptr;
  connection_->close(net::Close::kNow);
}

void ConnectUpstream::on_write_watermark(net::Connection&, bool above) {
  if (sink_ != nullptr) sink_->on_write_watermark(above);
}

void ConnectUpstream::on_close(net::Connection&, const Error* error) {
  const net::TlsSession* const tls = connection_->tls();
  if (tls != nullptr && cluster_.stats().tls != nullptr) cluster_.stats().tls->count_end(worker_.shard(), *tls);
  const std::string_view reason = tls == nullptr ? std::string_view() : std::string_view(tls->reason());
  leave(error);
  unlink();
  worker_.loop().defer_delete(std::unique_ptr<event::Deferred>(this));
  http::StreamSink* const sink = std::exchange(sink_, nullptr);
  if (sink == nullptr) return;
  if (connected_) return sink->on_reset(http::ResetReason::kConnectionTermination, "upstream_remote_disconnect");
  const bool timeout = error != nullptr && error->code == Errc::kTimeout;
  waiting_.on_pool_failure(timeout ? upstream::PoolFailure::kConnectTimeout : upstream::PoolFailure::kConnectFailure,
                           reason);
}

// Gives back all that it has taken.
void ConnectUpstream::leave(const Error* error) {
  const upstream::ClusterStats& stats = cluster_.stats();
  stats::Shard& shard = worker_.shard();
  upstream::give(cluster_.cluster().state().connections);
  shard.dec(stats.cx_active);
  shard.add(error != nullptr ? stats.cx_destroy_remote : stats.cx_destroy_local);
  if (!connected_ && error != nullptr)
    shard.add(error->code == Errc::kTimeout ? stats.cx_connect_timeout : stats.cx_connect_fail);
  host_->active_requests.fetch_sub(1, std::memory_order_relaxed);
  host_ = nullptr;
  give_back(tls_, cluster_.cluster().tls(), worker_);
  cluster_.drop();
}

}  // namespace outrigger::proxy
