#include "upstream/tcp_pool.h"

#include "base/check.h"
#include "base/give_back.h"
#include "net/tls_session.h"
#include "upstream/connect_host.h"
#include "upstream/worker_clusters.h"

namespace outrigger::upstream {
namespace {

// Once the host has said so much, it waits; then its end is not noticed.
constexpr size_t kMostSaid = 16 * 1024;

}  // namespace

// --- SpareConnection
// ---------------------------------------------------------------------------------------------------

SpareConnection::SpareConnection(TcpPool& pool)
    : cluster_(pool.cluster()),
      pool_(&pool),
      idle_(
          [](void* self) {
            auto* spare = static_cast<SpareConnection*>(self);
            spare->cluster_.shard().add(spare->cluster_.stats().cx_idle_timeout);
            spare->close();
          },
          this) {
  cluster_.hold();
}

void SpareConnection::connect(const HostAddresses* addresses) {
  started_ns_ = cluster_.loop().now_ns();
  cluster_.shard().add(cluster_.stats().cx_total);
  cluster_.shard().inc(cluster_.stats().cx_active);
  tls_ = cluster_.cluster().tls();
  const Host& host = pool_->host();
  connection_ = connect_host(cluster_.loop(), host, addresses, cluster_.cluster().spec(), *this,
                             tls_ == nullptr ? net::TlsSessionPtr() : tls_->client_session(host.hostname, {}, nullptr));
}

void SpareConnection::retire() {
  if (pool_ == nullptr) return;
  ListNode<SpareTag>::unlink();
  ListNode<ClusterSpareTag>::unlink();
  idle_.disarm();
  --std::exchange(pool_, nullptr)->spares_;
  --cluster_.demand.room;
}

void SpareConnection::close() {
  retire();
  connection_->close(net::Close::kNow);
}

void SpareConnection::give_way() {
  limited_ = false;
  close();
}

void SpareConnection::on_connected(net::Connection& connection) {
  connected_ = true;
  cluster_.count_connected(connection, started_ns_);
  pool_->ready_.push_front(*this);
  if (const uint64_t ms = cluster_.cluster().spec().tcp_idle_timeout_ms; ms != 0)
    cluster_.loop().timers().arm(idle_, ms);
}

void SpareConnection::on_read(net::Connection& connection, Block* block, const char* data, size_t size) {
  said_.append_shared(block, data, size);
  if (said_.size() >= kMostSaid) connection.pause_read(net::Pause::kBuffer);
}

void SpareConnection::on_close(net::Connection& connection, const Error* error) {
  retire();
  const ClusterStats& stats = cluster_.stats();
  stats::Shard& shard = cluster_.shard();
  shard.dec(stats.cx_active);
  shard.add(error != nullptr ? stats.cx_destroy_remote : stats.cx_destroy_local);
  if (error != nullptr && !connected_)
    shard.add(error->code == Errc::kTimeout ? stats.cx_connect_timeout : stats.cx_connect_fail);
  if (connection.tls() != nullptr && stats.tls != nullptr) stats.tls->count_end(shard, *connection.tls());
  give_back(tls_, cluster_.cluster().tls(), cluster_);
  if (limited_) give(cluster_.cluster().state().connections);
  cluster_.loop().defer_delete(std::unique_ptr<event::Deferred>(this));
  cluster_.drop();
}

// --- TcpPool
// -----------------------------------------------------------------------------------------------------------

TcpPool::~TcpPool() { CHECK(empty()); }

void TcpPool::connect() {
  auto* const spare = new SpareConnection(*this);
  connecting_.push_back(*spare);
  cluster_.add_spare(*spare);
  ++spares_;
  ++cluster_.demand.room;
  spare->connect(addresses_.get());
}

TcpPool::Spare TcpPool::take_spare(net::ConnectionHandler& handler) {
  for (List<SpareConnection, SpareTag>* list : {&ready_, &connecting_}) {
    while (SpareConnection* const first = list->front()) {
      first->retire();
      if (first->connection_->closing()) continue;  // its end is told at the turn's
      const std::unique_ptr<SpareConnection> spare(first);
      add_client();
      cluster_.drop();
      spare->connection_->set_handler(handler);
      spare->connection_->resume_read(net::Pause::kBuffer);
      return {spare->connection_, std::move(spare->tls_), std::move(spare->said_), spare->started_ns_};
    }
  }
  return {};
}

void TcpPool::add_client() {
  ++clients_;
  ++cluster_.demand.streams;
  ++cluster_.demand.room;
}

void TcpPool::refill() { connect_ahead(cluster_.cluster().spec().preconnect_ratio, 0, kMostAtOnce); }

void TcpPool::leave() {
  --clients_;
  --cluster_.demand.streams;
  --cluster_.demand.room;
  cluster_.maybe_remove(*this);
}

void TcpPool::close_spares() {
  for (List<SpareConnection, SpareTag>* list : {&ready_, &connecting_})
    while (SpareConnection* const spare = list->front()) spare->close();
}

void TcpPool::drain() {
  draining_ = true;
  close_spares();
}

}  // namespace outrigger::upstream
