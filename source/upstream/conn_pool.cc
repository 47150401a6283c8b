#include "upstream/conn_pool.h"

#include "base/check.h"
#include "base/give_back.h"
#include "upstream/client_codec.h"
#include "upstream/connect_host.h"
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
            c->codec_->close_idle();
          },
          this),
      age_([](void* self) { static_cast<PooledConnection*>(self)->on_age(); }, this) {}

const Host& PooledConnection::host() const { return *pool_.host_; }

void PooledConnection::make_codec() {
  WorkerCluster& cluster = pool_.cluster();
  const http::H2Stats* const counts = http2_ ? pool_.counted_in_->stats().http2.get() : nullptr;
  codec_ = make_client_codec(http2_, *connection_, *this, cluster.cluster().spec(), {counts, &cluster.shard()});
}

http::CodecStream& PooledConnection::start(http::StreamSink& sink) {
  CHECK(connected_ && !last_);
  const config::ClusterSpec& spec = pool_.cluster().cluster().spec();
  idle_timeout_.disarm();
  ++streams_;
  ++requests_;
  ++pool_.streams_;
  ++pool_.cluster().demand.streams;
  if (spec.max_requests_per_connection != 0 && requests_ >= spec.max_requests_per_connection) {
    pool_.cluster().shard().add(pool_.cluster().stats().cx_max_requests);
    last_ = true;
  }
  pool_.host_->active_requests.fetch_add(1, std::memory_order_relaxed);
  http::CodecStream& stream = codec_->new_stream(sink);
  pool_.place(*this);
  return stream;
}

uint32_t PooledConnection::room() const { return last_ ? 0 : codec_->capacity(); }

void PooledConnection::end_streams(uint32_t count) {
  streams_ -= count;
  pool_.streams_ -= count;
  pool_.cluster().demand.streams -= count;
  pool_.host_->active_requests.fetch_sub(count, std::memory_order_relaxed);
}

void PooledConnection::on_connected(net::Connection&) {
  WorkerCluster& cluster = pool_.cluster();
  connected_ = true;
  http2_ = pool_.protocol_ == PoolProtocol::kHttp2;
  if (const net::TlsSession* tls = connection_->tls(); tls != nullptr) {
    if (cluster.stats().tls != nullptr) cluster.stats().tls->count_handshake(cluster.shard(), *tls);
    if (pool_.protocol_ == PoolProtocol::kByAlpn) pool_.learn(http2_ = tls->info().alpn == "h2");
  }
  --pool_.connecting_;
  cluster.shard().record(cluster.stats().cx_connect_ms,
                         static_cast<double>(cluster.loop().now_ns() - started_ns_) / 1e6);
  if (const uint64_t ms = cluster.cluster().spec().max_connection_duration_ms; ms != 0)
    cluster.loop().timers().arm(age_, ms);
  if (pool_.addresses_ != nullptr) remote_text_ = connection_->remote().str();
  local_text_ = connection_->local().str();
  make_codec();
  pool_.settle(*this);
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
  age_.disarm();
  last_ = true;
  end_streams(streams_);
  if (codec_ != nullptr) codec_->on_close();
  pool_.on_gone(*this, error);
}

http::StreamSink& PooledConnection::on_new_stream(http::CodecStream&) {
  CHECK(false);  // servers only
  __builtin_unreachable();
}

void PooledConnection::on_stream_end(bool reusable) {
  end_streams(1);
  last_ = last_ || !reusable;
  if (!reusable && !http2_) return;  // the codec is closing it
  pool_.settle(*this);
}

// SETTINGS and GOAWAY of the peer's.
void PooledConnection::on_capacity_change() {
  if (!last_ && codec_->capacity() != 0) pool_.expect_streams(codec_->capacity() + streams_);
  pool_.settle(*this);
}

void PooledConnection::on_age() {
  pool_.cluster().shard().add(pool_.cluster().stats().cx_max_duration);
  last_ = true;
  pool_.place(*this);
}

// --- HostPool
// ----------------------------------------------------------------------------------------------------------

HostPool::HostPool(WorkerCluster& cluster, std::shared_ptr<Host> host, PoolProtocol protocol, ClientPools* client)
    : AheadPool(cluster, std::move(host)),
      streams_per_connection_(protocol == PoolProtocol::kHttp1 ? 1
                                                               : cluster.cluster().spec().http2.max_concurrent_streams),
      client_(client),
      client_id_(client == nullptr ? 0 : client->id()),
      protocol_(protocol),
      http2_(protocol != PoolProtocol::kHttp1) {
  if (client_ != nullptr) client_->add(*this);
  if (http2_) counted_in_ = cluster_.shared_cluster();
}

HostPool::~HostPool() {
  CHECK(empty());
  if (counted_in_ != nullptr) cluster_.release(std::move(counted_in_));
}

// What a connection has room for can go without a word (its session has failed and closes at the turn's end).
PooledConnection* HostPool::with_room() {
  for (List<PooledConnection, PoolTag>* list : {&open_, &idle_}) {
    while (PooledConnection* const connection = list->front()) {
      if (!connection->http2_ || connection->room() != 0) return connection;
      connection->idle_timeout_.disarm();
      others_.push_back(*connection);
    }
  }
  return nullptr;
}

void HostPool::acquire(PoolClient& client) {
  if (PooledConnection* const connection = with_room(); connection != nullptr) {
    client.on_pool_ready(*connection);
    connect_ahead(cluster_.cluster().spec().preconnect_ratio, 0, kMostAtOnce);
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
  ++cluster_.demand.waiting;
  if (enough_connecting()) {
    connect_ahead(spec.preconnect_ratio, 0, kMostAtOnce);
    return;
  }
  // A pool without any connection may always make one, or its waiters would wait for nobody (as Envoy).
  if (take(state.connections, spec.max_connections)) {
    connect();
  } else {
    cluster_.shard().add(cluster_.stats().cx_overflow);
    if (connections_ == 0) {
      state.connections.fetch_add(1, std::memory_order_relaxed);
      connect();
    }
    return;
  }
  connect_ahead(spec.preconnect_ratio, 0, kMostAtOnce);
}

PoolClient* HostPool::pop_waiter() {
  PoolClient* client = waiting_.pop_front();
  if (client == nullptr) return nullptr;
  --waiting_count_;
  --cluster_.demand.waiting;
  give(cluster_.cluster().state().pending);
  cluster_.shard().dec(cluster_.stats().rq_pending_active);
  return client;
}

void HostPool::cancel(PoolClient& client) {
  if (!client.linked()) return;
  client.unlink();
  --waiting_count_;
  --cluster_.demand.waiting;
  give(cluster_.cluster().state().pending);
  cluster_.shard().dec(cluster_.stats().rq_pending_active);
  cluster_.maybe_remove(*this);
}

void HostPool::connect() {
  auto* pooled = new PooledConnection(*this);
  others_.push_back(*pooled);
  ++connecting_;
  ++connections_;
  cluster_.demand.room += streams_per_connection_;
  pooled->started_ns_ = cluster_.loop().now_ns();
  cluster_.shard().add(cluster_.stats().cx_total);
  cluster_.shard().inc(cluster_.stats().cx_active);
  const config::ClusterSpec& spec = cluster_.cluster().spec();
  net::TlsSessionPtr session;
  pooled->tls_ = cluster_.cluster().tls();
  if (pooled->tls_ != nullptr) session = pooled->tls_->client_session(host_->hostname, alpn(), &sessions_);
  pooled->connection_ = connect_host(cluster_.loop(), *host_, addresses_.get(), spec, *pooled, std::move(session));
  if (spec.proxy_header == config::ProxyHeaderVersion::kNone) return;
  const net::Address nobody;
  tell_client(*pooled->connection_, spec.proxy_header, client_ == nullptr ? nobody : client_->remote(),
              client_ == nullptr ? nobody : client_->local());
}

std::string_view HostPool::alpn() const {
  switch (protocol_) {
    case PoolProtocol::kHttp1:
      return "\x08http/1.1";
    case PoolProtocol::kHttp2:
      return "\x02h2";
    case PoolProtocol::kByAlpn:
      break;
  }
  return "\x02h2\x08http/1.1";
}

// ALPN has decided. Who counted on a share of a connection may need one of his own.
void HostPool::learn(bool http2) {
  if (std::exchange(http2_, http2) == http2) return;
  expect_streams(http2 ? cluster_.cluster().spec().http2.max_concurrent_streams : 1);
}

void HostPool::expect_streams(uint32_t per_connection) {
  cluster_.demand.room -= uint64_t{connections_} * streams_per_connection_;
  streams_per_connection_ = per_connection;
  cluster_.demand.room += uint64_t{connections_} * streams_per_connection_;
}

void HostPool::settle(PooledConnection& connection) {
  while (waiting_count_ != 0 && connection.room() != 0) pop_waiter()->on_pool_ready(connection);
  place(connection);
  // It took fewer than was expected.
  if (protocol_ == PoolProtocol::kHttp1 || enough_connecting()) return;
  while (connect_more() && !http2_ && !enough_connecting()) {
  }
}

void HostPool::place(PooledConnection& connection) {
  if (!connection.linked()) return;  // gone meanwhile
  const bool idle = connection.streams_ == 0;
  if (idle && (connection.last_ || draining_)) {
    others_.push_back(connection);
    connection.codec_->close_idle();
    return;
  }
  // An HTTP/1 connection has room when it is idle; no need to ask.
  if (connection.http2_ ? connection.room() == 0 : !idle) return others_.push_back(connection);
  if (!idle) return open_.push_back(connection);
  idle_.push_front(connection);
  if (const uint64_t ms = cluster_.cluster().spec().idle_timeout_ms; ms != 0)
    cluster_.loop().timers().arm(connection.idle_timeout_, ms);
}

void HostPool::on_gone(PooledConnection& connection, const Error* error) {
  connection.unlink();
  --connections_;
  cluster_.demand.room -= streams_per_connection_;
  give(cluster_.cluster().state().connections);
  cluster_.shard().dec(cluster_.stats().cx_active);
  cluster_.shard().add(error != nullptr ? cluster_.stats().cx_destroy_remote : cluster_.stats().cx_destroy_local);
  cluster_.loop().defer_delete(std::unique_ptr<event::Deferred>(&connection));
  const net::TlsSession* tls = connection.connection_->tls();
  // (The cluster may have given TLS up meanwhile.)
  if (tls != nullptr && cluster_.stats().tls != nullptr) cluster_.stats().tls->count_end(cluster_.shard(), *tls);
  give_back(connection.tls_, cluster_.cluster().tls(), cluster_);
  if (!connection.connected_) {
    --connecting_;
    const bool timeout = error != nullptr && error->code == Errc::kTimeout;
    cluster_.shard().add(timeout ? cluster_.stats().cx_connect_timeout : cluster_.stats().cx_connect_fail);
    fail_waiters(timeout ? PoolFailure::kConnectTimeout : PoolFailure::kConnectFailure,
                 tls == nullptr ? std::string_view() : std::string_view(tls->reason()));
  } else if (!enough_connecting()) {
    // Somebody waited for this one: another takes its place.
    cluster_.cluster().state().connections.fetch_add(1, std::memory_order_relaxed);
    connect();
  }
  cluster_.maybe_remove(*this);
}

// A connect failed: fail those waiters for whom no other connection is on its way.
void HostPool::fail_waiters(PoolFailure why, std::string_view details) {
  while (!enough_connecting()) {
    PoolClient* waiter = pop_waiter();
    cluster_.shard().add(cluster_.stats().rq_pending_failure_eject);
    waiter->on_pool_failure(why, details);
  }
}

void HostPool::drain() {
  draining_ = true;
  idle_.for_each([](PooledConnection& c) { c.codec_->close_idle(); });
}

void HostPool::leave_client() {
  client_ = nullptr;
  drain();
  cluster_.maybe_remove(*this);
}

void HostPool::renew() {
  const auto last = [](PooledConnection& c) { c.last_ = true; };
  open_.for_each(last);
  others_.for_each(last);
  while (PooledConnection* const connection = idle_.front()) {
    connection->last_ = true;
    place(*connection);
  }
}

void HostPool::shutdown() {
  draining_ = true;
  const auto close = [](PooledConnection& c) { c.connection_->close(net::Close::kNow); };
  for (List<PooledConnection, PoolTag>* list : {&idle_, &open_, &others_}) list->for_each(close);
}

}  // namespace outrigger::upstream
