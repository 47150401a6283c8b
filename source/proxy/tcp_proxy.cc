#include "proxy/tcp_proxy.h"

#include <algorithm>

#include "base/check.h"
#include "base/give_back.h"
#include "net/tls_session.h"
#include "proxy/aggregate.h"
#include "upstream/connect_host.h"

namespace outrigger::proxy {

TcpProxy::TcpProxy(WorkerState& worker, ActiveChain& chain, Accepted accepted, std::function<void()> on_gone)
    : worker_(worker),
      chain_(chain),
      idle_([](void* self) { static_cast<TcpProxy*>(self)->on_idle(); }, this),
      age_([](void* self) { static_cast<TcpProxy*>(self)->on_age(); }, this),
      on_gone_(std::move(on_gone)),
      original_(accepted.redirected),
      remote_text_(accepted.remote.str()),
      direct_text_(accepted.direct_remote.str()),
      local_text_(accepted.local.str()) {
  event::Loop& loop = worker_.loop();
  worker_.shard().add(part().tcp_stats->cx_total);
  worker_.shard().inc(part().tcp_stats->cx_active);
  ++chain_.count;
  chain_.connections.push_back(*this);
  client_tls_ = chain_.linked.tls;
  client_.connection = net::Connection::accept(
      loop, accepted.fd, accepted.local, accepted.remote, client_, {.write_high_watermark = chain_.buffer_limit},
      client_tls_ == nullptr ? net::TlsSessionPtr() : client_tls_->server_session(), std::move(accepted.first));
  client_.connection->pause_read(net::Pause::kBuffer);
  info_.protocol = Protocol::kNone;
  info_.start_time_unix_us = loop.wall_us();
  info_.start_ns = loop.now_ns();
  info_.snapshot_version = worker_.current()->snapshot->version;
  info_.connection_id = client_.connection->id();
  info_.downstream_remote_address = remote_text_;
  info_.downstream_direct_remote_address = direct_text_;
  info_.downstream_local_address = local_text_;
  if (const uint64_t ms = spec().max_connection_duration_ms; ms != 0) loop.timers().arm(age_, ms);
  if (client_tls_ == nullptr) {
    progress();
    connect();
  } else if (const uint64_t ms = part().spec.handshake_timeout_ms; ms != 0) {
    loop.timers().arm(idle_, ms);
  }
}

// Only now is it known whether the client may be served.
void TcpProxy::on_client_handshake() {
  const net::TlsSession& session = *client_.connection->tls();
  part().transport_stats->tls.count_handshake(worker_.shard(), session);
  info_.downstream_tls = &session.info();
  idle_.disarm();
  if (ending_) return;
  progress();
  connect();
}

// The connection takes what it knew along; the log comes later.
void TcpProxy::keep_tls_info() {
  if (info_.downstream_tls == nullptr) return;
  const TlsInfo& from = *std::exchange(info_.downstream_tls, &tls_info_);
  tls_info_ = {.version = from.version,
               .cipher = from.cipher,
               .server_name = from.server_name,
               .alpn = from.alpn,
               .resumed = from.resumed,
               .peer_verified = from.peer_verified,
               .peer = from.peer == nullptr ? nullptr : std::make_unique<CertificateInfo>(*from.peer)};
}

TcpProxy::~TcpProxy() { CHECK(cluster_ == nullptr && target_ == nullptr); }

// ---- the host

void TcpProxy::name_cluster(upstream::WorkerCluster* cluster) {
  if (named_ != nullptr) named_->drop();
  named_ = cluster;
  if (named_ != nullptr) named_->hold();
}

// Chooses cluster and host, and takes a connection that is there already; false: there is no host, or no room for a
// connection, and what was wrong is noted.
bool TcpProxy::take_target(upstream::TcpPool::Spare& spare) {
  const auto& targets = part().tcp_targets;
  const uint64_t at = worker_.loop().random() % targets.back().weights;
  const auto chosen = std::find_if(targets.begin(), targets.end(), [&](const auto& one) { return at < one.weights; });
  cluster_name_ = chosen->cluster.text;
  info_.cluster = cluster_name_;
  upstream::WorkerCluster* cluster = worker_.find_cluster(chosen->cluster.text, chosen->cluster.hash, chain_.kept);
  if (cluster == nullptr) {
    worker_.shard().add(part().tcp_stats->cx_no_route);
    fail(ResponseFlag::kNoClusterFound, "cluster_not_found");
    return false;
  }
  name_cluster(cluster);
  const PickedHost picked = pick_host(worker_, *cluster, chain_.kept,
                                      original_ ? &client_.connection->local() : nullptr, chosen->metadata_match);
  if (picked.host == nullptr) {
    worker_.shard().add(cluster->stats().cx_none_healthy);
    fail(ResponseFlag::kNoHealthyUpstream, "no_healthy_upstream");
    return false;
  }
  upstream::TcpPool* const pool = picked.cluster->tcp_pool(*picked.host);
  if (pool != nullptr) spare = pool->take_spare(host_);
  const bool ahead = spare.connection != nullptr;
  if (!ahead && !picked.cluster->take_connection()) {
    worker_.shard().add(picked.cluster->stats().cx_overflow);
    fail(ResponseFlag::kUpstreamOverflow, "upstream_overflow");
    return false;
  }
  cluster_ = picked.cluster;
  cluster_->hold();
  cluster_->add_user(*this);
  pool_ = pool;
  if (pool_ != nullptr && !ahead) pool_->add_client();
  target_ = picked.host->host;
  addresses_ = picked.host->addresses;
  upstream_text_ = picked.host->text();
  target_->active_requests.fetch_add(1, std::memory_order_relaxed);
  target_metadata_ = cluster_->metadata(*picked.host);
  return true;
}

void TcpProxy::connect() {
  upstream::TcpPool::Spare spare;
  if (!take_target(spare)) return;
  ++attempts_;
  info_.upstream_attempts = attempts_;
  info_.upstream_host = upstream_text_;
  if (spare.connection == nullptr) {
    connect_host();
  } else {
    use(std::move(spare));
  }
  if (pool_ != nullptr) pool_->refill();
}

void TcpProxy::connect_host() {
  worker_.shard().add(cluster_->stats().cx_total);
  worker_.shard().inc(cluster_->stats().cx_active);
  connect_started_ns_ = worker_.loop().now_ns();
  const config::ClusterSpec& spec = cluster_->cluster().spec();
  host_tls_ = cluster_->cluster().tls();
  host_.connection = upstream::connect_host(
      worker_.loop(), *target_, addresses_.get(), spec, host_,
      host_tls_ == nullptr ? net::TlsSessionPtr() : host_tls_->client_session(target_->hostname, {}, nullptr));
  if (spec.proxy_header != config::ProxyHeaderVersion::kNone)
    upstream::tell_client(*host_.connection, spec.proxy_header, client_.connection->remote(),
                          client_.connection->local());
}

// It is counted already.
void TcpProxy::use(upstream::TcpPool::Spare spare) {
  host_.connection = spare.connection;
  host_tls_ = std::move(spare.tls);
  connect_started_ns_ = spare.started_ns;
  if (!host_.connection->connected()) return;
  begin();
  client_.connection->write(std::move(spare.said));
}

void TcpProxy::on_upstream_connected() {
  cluster_->count_connected(*host_.connection, connect_started_ns_);
  begin();
}

void TcpProxy::begin() {
  connected_ = true;
  upstream_remote_text_ = host_.connection->remote().str();
  info_.upstream_remote_address = upstream_remote_text_;
  upstream_local_text_ = host_.connection->local().str();
  info_.upstream_local_address = upstream_local_text_;
  client_.connection->resume_read(net::Pause::kBuffer);
  if (client_.at_eof) host_.connection->shutdown_write();
  progress();
}

// The attempt, or the connection, is over.
void TcpProxy::leave_host() {
  if (cluster_ == nullptr) return;
  upstream::give(cluster_->cluster().state().connections);
  worker_.shard().dec(cluster_->stats().cx_active);
  target_->active_requests.fetch_sub(1, std::memory_order_relaxed);
  target_ = nullptr;
  if (addresses_ != nullptr) cluster_->release(std::move(addresses_));
  ListNode<upstream::HostUserTag>::unlink();
  if (pool_ != nullptr) std::exchange(pool_, nullptr)->leave();
  std::exchange(cluster_, nullptr)->drop();
}

void TcpProxy::on_host_failed(const upstream::Host& host) {
  if (&host != target_.get() || ending_) return;
  if (host_.connection != nullptr) host_.connection->close(net::Close::kNow);
  fail(ResponseFlag::kUpstreamConnectionTermination, "host_health_failure");
}

void TcpProxy::on_upstream_gone(const Error* error) {
  const upstream::ClusterStats& stats = cluster_->stats();
  worker_.shard().add(error != nullptr ? stats.cx_destroy_remote : stats.cx_destroy_local);
  const bool timeout = error != nullptr && error->code == Errc::kTimeout;
  if (!connected_ && !ending_) worker_.shard().add(timeout ? stats.cx_connect_timeout : stats.cx_connect_fail);
  leave_host();
  if (client_.connection == nullptr || ending_) return;
  if (connected_) {
    if (error != nullptr) info_.set(ResponseFlag::kUpstreamConnectionTermination);
  } else if (attempts_ < spec().max_connect_attempts) {
    return connect();
  } else {
    worker_.shard().add(part().tcp_stats->connect_attempts_exceeded);
    info_.set(ResponseFlag::kUpstreamConnectionFailure);
    info_.response_code_details = timeout ? "connection_timeout" : "connection_failure";
  }
  end_both();
}

// ---- bytes

void TcpProxy::Side::on_read(net::Connection&, Block* block, const char* data, size_t size) {
  owner.progress();
  if (other.connection == nullptr) return;
  other.connection->output().append_shared(block, data, size);
  other.connection->written();
}

void TcpProxy::Side::on_eof(net::Connection&) {
  at_eof = true;
  owner.progress();
  if (other.connection == nullptr) {
    if (this == &owner.host_ || owner.ending_) owner.end_both();
  } else if (other.at_eof) {
    owner.end_both();
  } else if (owner.connected_) {
    other.connection->shutdown_write();
  }
}

void TcpProxy::Side::on_write_watermark(net::Connection&, bool above) {
  if (other.connection == nullptr) return;
  if (above) {
    other.connection->pause_read(net::Pause::kBackpressure);
  } else {
    owner.progress();
    other.connection->resume_read(net::Pause::kBackpressure);
  }
}

void TcpProxy::progress() {
  if (const uint64_t ms = spec().idle_timeout_ms; ms != 0 && !ending_) worker_.loop().timers().arm(idle_, ms);
}

// ---- the end

void TcpProxy::fail(ResponseFlag flag, std::string_view details) {
  info_.set(flag);
  info_.response_code_details = details;
  end_both();
}

void TcpProxy::on_idle() {
  if (client_tls_ != nullptr && !client_.connection->tls()->handshake_done()) {
    worker_.shard().add(part().transport_stats->connect_timeout);
    return close_now();
  }
  worker_.shard().add(part().tcp_stats->idle_timeout);
  fail(ResponseFlag::kStreamIdleTimeout, "idle_timeout");
}

void TcpProxy::on_age() {
  worker_.shard().add(part().tcp_stats->max_duration);
  fail(ResponseFlag::kDurationTimeout, "max_connection_duration");
}

void TcpProxy::end_both() {
  ending_ = true;
  idle_.disarm();
  age_.disarm();
  if (client_.connection != nullptr) client_.connection->close(net::Close::kFlush);
  if (host_.connection != nullptr) host_.connection->close(connected_ ? net::Close::kFlush : net::Close::kNow);
}

void TcpProxy::close_now() {
  ending_ = true;
  for (Side* side : {&client_, &host_})
    if (side->connection != nullptr) side->connection->close(net::Close::kNow);
}

void TcpProxy::on_side_closed(Side& side, const Error* error) {
  net::Connection& gone = *std::exchange(side.connection, nullptr);
  if (&side == &client_) {
    info_.request_bytes = gone.bytes_read();
    info_.response_bytes = gone.bytes_written();
    if (error != nullptr && !ending_) info_.set(ResponseFlag::kDownstreamConnectionTermination);
    if (client_tls_ != nullptr) {
      part().transport_stats->tls.count_end(worker_.shard(), *gone.tls());
      keep_tls_info();
      give_back(client_tls_, chain_.linked.tls, worker_);
    }
    end_both();
  } else {
    if (host_tls_ != nullptr) {
      if (cluster_->stats().tls != nullptr) cluster_->stats().tls->count_end(worker_.shard(), *gone.tls());
      give_back(host_tls_, cluster_->cluster().tls(), worker_);
    }
    on_upstream_gone(error);
  }
  if (client_.connection == nullptr && host_.connection == nullptr) finish();
}

void TcpProxy::finish() {
  idle_.disarm();
  age_.disarm();
  stats::Shard& shard = worker_.shard();
  const TcpStats& stats = *part().tcp_stats;
  info_.end_ns = worker_.loop().now_ns();
  shard.add(stats.cx_rx_bytes, info_.request_bytes);
  shard.add(stats.cx_tx_bytes, info_.response_bytes);
  shard.dec(stats.cx_active);
  const route::FormatContext context{
      .info = &info_,
      .cluster_metadata = named_ == nullptr ? nullptr : named_->cluster().spec().metadata.get(),
      .listener_metadata = part().spec.listener_metadata.get(),
      .upstream_metadata = target_metadata_.get()};
  for (const auto& logger : part().access_logs) logger->log(worker_.index(), context);
  target_metadata_ = {};
  name_cluster(nullptr);
  ListNode<ChainConnectionTag>::unlink();
  --chain_.count;
  worker_.loop().defer_delete(std::unique_ptr<event::Deferred>(this));
  if (on_gone_) on_gone_();
}

}  // namespace outrigger::proxy
