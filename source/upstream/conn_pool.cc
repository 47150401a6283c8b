#include "upstream/conn_pool.h"

#include "base/check.h"
#include "upstream/worker_clusters.h"

namespace outrigger::upstream {

// --- PooledConnection
// --------------------------------------------------------------------------------------------------

PooledConnection::PooledConnection(HostPool& pool)
    : pool_(pool),
      idle_timeout_(
          [](void* self) {
            auto* c = static_cast<PooledConnection*>(self);
            WorkerCluster& cluster = c->pool_.cluster();
            cluster.shard().add(cluster.stats().cx_idle_timeout);
            c->connection_->close(net::Close::kNow);
          },
          this) {}

const Host& PooledConnection::host() const { return *pool_.host_; }

http::CodecStream& PooledConnection::start(http::StreamSink& sink) {
  CHECK(connected_ && !busy_);
  busy_ = true;
  ++requests_;
  pool_.host_->active_requests.fetch_add(1, std::memory_order_relaxed);
  return codec_->new_stream(sink);
}

void PooledConnection::end_use() {
  if (!busy_) return;
  busy_ = false;
  pool_.host_->active_requests.fetch_sub(1, std::memory_order_relaxed);
}

void PooledConnection::on_connected(net::Connection&) {
  WorkerCluster& cluster = pool_.cluster();
  connected_ = true;
  --pool_.connecting_;
  cluster.shard().record(cluster.stats().cx_connect_ms,
                         static_cast<double>(cluster.loop().now_ns() - started_ns_) / 1e6);
  http::H1Options options;
  options.max_headers_count = cluster.cluster().spec().max_response_headers_count;
  options.enable_trailers = true;
  codec_ = http::make_h1_client_codec(*connection_, *this, options);
  pool_.on_idle(*this);
}

void PooledConnection::on_read(net::Connection&, Block* block, const char* data, size_t size) {
  codec_->on_read(block, data, size);
}

void PooledConnection::on_eof(net::Connection&) { codec_->on_eof(); }

void PooledConnection::on_write_watermark(net::Connection&, bool above) {
  if (codec_ != nullptr) codec_->on_write_watermark(above);
}

void PooledConnection::on_close(net::Connection&, const Error* error) {
  idle_timeout_.disarm();
  end_use();
  if (codec_ != nullptr) codec_->on_close();
  pool_.on_gone(*this, error);
}

http::StreamSink& PooledConnection::on_new_stream(http::CodecStream&) {
  CHECK(false);  // servers only
  __builtin_unreachable();
}

void PooledConnection::on_stream_end(bool reusable) {
  end_use();
  if (!reusable) return;  // the codec is closing it
  const config::ClusterSpec& spec = pool_.cluster().cluster().spec();
  if (spec.max_requests_per_connection != 0 && requests_ >= spec.max_requests_per_connection) {
    pool_.cluster().shard().add(pool_.cluster().stats().cx_max_requests);
    connection_->close(net::Close::kNow);
    return;
  }
  pool_.on_idle(*this);
}

// --- HostPool
// ----------------------------------------------------------------------------------------------------------

HostPool::HostPool(WorkerCluster& cluster, std::shared_ptr<Host> host) : cluster_(cluster), host_(std::move(host)) {}

HostPool::~HostPool() { CHECK(empty()); }

void HostPool::acquire(PoolClient& client) {
  if (PooledConnection* connection = idle_.front(); connection != nullptr) {
    others_.push_back(*connection);
    connection->idle_timeout_.disarm();
    client.on_pool_ready(*connection);
    return;
  }
  const config::ClusterSpec& spec = cluster_.cluster().spec();
  ClusterState& state = cluster_.cluster().state();
  if (!take(state.pending, spec.max_pending_requests)) {
    cluster_.shard().add(cluster_.stats().rq_pending_overflow);
    client.on_pool_failure(PoolFailure::kOverflow, "upstream_overflow");
    return;
  }
  cluster_.shard().add(cluster_.stats().rq_pending_total);
  cluster_.shard().inc(cluster_.stats().rq_pending_active);
  waiting_.push_back(client);
  ++waiting_count_;
  if (connecting_ >= waiting_count_) return;
  // A pool without any connection may always make one, or its waiters would wait for nobody (as Envoy).
  if (take(state.connections, spec.max_connections)) {
    connect();
  } else {
    cluster_.shard().add(cluster_.stats().cx_overflow);
    if (connections_ == 0) {
      state.connections.fetch_add(1, std::memory_order_relaxed);
      connect();
    }
  }
}

PoolClient* HostPool::pop_waiter() {
  PoolClient* client = waiting_.pop_front();
  if (client == nullptr) return nullptr;
  --waiting_count_;
  give(cluster_.cluster().state().pending);
  cluster_.shard().dec(cluster_.stats().rq_pending_active);
  return client;
}

void HostPool::cancel(PoolClient& client) {
  if (!client.linked()) return;
  client.unlink();
  --waiting_count_;
  give(cluster_.cluster().state().pending);
  cluster_.shard().dec(cluster_.stats().rq_pending_active);
  cluster_.maybe_remove(*this);
}

void HostPool::connect() {
  auto* pooled = new PooledConnection(*this);
  others_.push_back(*pooled);
  ++connecting_;
  ++connections_;
  pooled->started_ns_ = cluster_.loop().now_ns();
  cluster_.shard().add(cluster_.stats().cx_total);
  cluster_.shard().inc(cluster_.stats().cx_active);
  const config::ClusterSpec& spec = cluster_.cluster().spec();
  pooled->connection_ = net::Connection::connect(
      cluster_.loop(), host_->address, *pooled,
      {.write_high_watermark = spec.per_connection_buffer_limit_bytes, .connect_timeout_ms = spec.connect_timeout_ms});
}

void HostPool::on_idle(PooledConnection& connection) {
  if (PoolClient* waiter = pop_waiter(); waiter != nullptr) {
    waiter->on_pool_ready(connection);
    return;
  }
  if (draining_) {
    connection.connection_->close(net::Close::kNow);
    return;
  }
  idle_.push_front(connection);
  if (const uint64_t ms = cluster_.cluster().spec().idle_timeout_ms; ms != 0)
    cluster_.loop().timers().arm(connection.idle_timeout_, ms);
}

void HostPool::on_gone(PooledConnection& connection, const Error* error) {
  connection.unlink();
  --connections_;
  give(cluster_.cluster().state().connections);
  cluster_.shard().dec(cluster_.stats().cx_active);
  cluster_.shard().add(error != nullptr ? cluster_.stats().cx_destroy_remote : cluster_.stats().cx_destroy_local);
  cluster_.loop().defer_delete(std::unique_ptr<event::Deferred>(&connection));
  if (!connection.connected_) {
    --connecting_;
    const bool timeout = error != nullptr && error->code == Errc::kTimeout;
    cluster_.shard().add(timeout ? cluster_.stats().cx_connect_timeout : cluster_.stats().cx_connect_fail);
    fail_waiters(timeout ? PoolFailure::kConnectTimeout : PoolFailure::kConnectFailure,
                 timeout ? "connection_timeout" : "connection_failure");
  } else if (waiting_count_ > connecting_) {
    // Somebody waited for this one: another takes its place.
    cluster_.cluster().state().connections.fetch_add(1, std::memory_order_relaxed);
    connect();
  }
  cluster_.maybe_remove(*this);
}

// A connect failed: fail those waiters for whom no other connection is on its way.
void HostPool::fail_waiters(PoolFailure why, std::string_view details) {
  while (waiting_count_ > connecting_) {
    PoolClient* waiter = pop_waiter();
    cluster_.shard().add(cluster_.stats().rq_pending_failure_eject);
    waiter->on_pool_failure(why, details);
  }
}

void HostPool::drain() {
  draining_ = true;
  idle_.for_each([](PooledConnection& c) { c.connection_->close(net::Close::kNow); });
}

void HostPool::shutdown() {
  draining_ = true;
  const auto close = [](PooledConnection& c) { c.connection_->close(net::Close::kNow); };
  idle_.for_each(close);
  others_.for_each(close);
}

}  // namespace outrigger::upstream
