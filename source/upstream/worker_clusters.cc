#include "upstream/worker_clusters.h"

#include <algorithm>

#include "net/tls_session.h"

namespace outrigger::upstream {
namespace {

constexpr size_t kMaxNextPicks = 64;
constexpr int kMaxHostsAhead = 3;  // at once, as Envoy

using Codec = config::ClusterSpec::Codec;

PoolProtocol protocol_of(Codec codec, bool http2_client) {
  switch (codec) {
    case Codec::kHttp1:
      return PoolProtocol::kHttp1;
    case Codec::kHttp2:
      return PoolProtocol::kHttp2;
    case Codec::kAsDownstream:
      return http2_client ? PoolProtocol::kHttp2 : PoolProtocol::kHttp1;
    case Codec::kByAlpn:
      break;
  }
  return PoolProtocol::kByAlpn;
}

}  // namespace

// --- MetadataHold
// ------------------------------------------------------------------------------------------------------

struct MetadataHold::Hosts {
  WorkerClusters& owner;
  std::shared_ptr<const HostSet> set;
  uint32_t holds = 0;
  bool current = true;  // a WorkerCluster points here
  void maybe_end() {
    if (holds != 0 || current) return;
    owner.release_(std::move(set));
    delete this;
  }
};

void MetadataHold::end() {
  --hosts_->holds;
  hosts_->maybe_end();
}

MetadataHold WorkerCluster::hold_metadata(const HostSet::Entry& entry) {
  MetadataHold hold;
  hold.metadata_ = hosts_->metadata(entry);
  if (held_hosts_ == nullptr) held_hosts_ = new MetadataHold::Hosts{owner_, hosts_};
  hold.hosts_ = held_hosts_;
  ++held_hosts_->holds;
  return hold;
}

void WorkerCluster::forget_held_hosts() {
  if (held_hosts_ == nullptr) return;
  held_hosts_->current = false;
  std::exchange(held_hosts_, nullptr)->maybe_end();
}

// --- WorkerCluster
// -----------------------------------------------------------------------------------------------------

WorkerCluster::WorkerCluster(WorkerClusters& owner, std::shared_ptr<const Cluster> cluster,
                             std::shared_ptr<const HostSet> hosts)
    : owner_(owner), cluster_(std::move(cluster)), hosts_(std::move(hosts)) {
  const config::ClusterSpec& spec = cluster_->spec();
  balancer_ = make_load_balancer(spec.lb, spec.least_request_choice_count, owner_.loop_.random());
}

WorkerCluster::~WorkerCluster() {
  for (auto& pools : pools_) pools.clear();
  client_pools_.clear();
  tcp_pools_.clear();
  forget_held_hosts();
  owner_.release_(std::move(cluster_));
  owner_.release_(std::move(hosts_));
}

event::Loop& WorkerCluster::loop() { return owner_.loop_; }
stats::Shard& WorkerCluster::shard() { return owner_.shard_; }

void WorkerCluster::look(uint32_t epoch) {
  seen_epoch_ = epoch;
  seen_hosts_ = hosts_.get();
  view_.look(*hosts_);
  next_picks_.clear();
  for (SubsetRun& run : subset_runs_) run.seen = false;
}

const HostSet::Entry* WorkerCluster::pick_from(const HostView& now, LoadBalancer& balancer, uint8_t panic_percent) {
  const bool panic = now.in_panic(panic_percent);
  if (panic) [[unlikely]]
    shard().add(stats().lb_healthy_panic);
  return balancer.pick(panic ? now.all() : now.healthy(), owner_.loop_.random());
}

const HostSet::Entry* WorkerCluster::pick(uint8_t panic_percent, const config::MetadataMatch* match) {
  view();
  if (const Subsets* subsets = hosts_->subsets(); subsets != nullptr) [[unlikely]]
    return pick_subset(*subsets, panic_percent, match);
  if (next_picks_.empty()) [[likely]]
    return choose(panic_percent);
  const HostSet::Entry* const next = next_picks_.front();
  next_picks_.erase(next_picks_.begin());
  return next;
}

// By what was seen last: what pick() has given stays good.
const HostSet::Entry* WorkerCluster::choose(uint8_t panic_percent) {
  return pick_from(view_, *balancer_, panic_percent);
}

const HostSet::Entry* WorkerCluster::pick_subset(const Subsets& subsets, uint8_t panic_percent,
                                                 const config::MetadataMatch* match) {
  const Subsets::Choice choice = subsets.choose(match);
  const ClusterSubsetHandles& counts = *stats().subsets;
  if (choice.way == Subsets::Way::kSelected) shard().add(counts.selected);
  if (choice.subset == Subsets::kNone) return nullptr;
  const HostSet::Entry* entry = pick_of(subsets, choice.subset, panic_percent);
  if (choice.way != Subsets::Way::kFallback) return entry;
  if (entry != nullptr) {
    shard().add(counts.fallback);
  } else if (subsets.panic_mode_any()) {
    entry = pick_of(subsets, Subsets::kAny, panic_percent);
    if (entry != nullptr) shard().add(counts.fallback_panic);
  }
  return entry;
}

const HostSet::Entry* WorkerCluster::pick_of(const Subsets& subsets, uint32_t subset, uint8_t panic_percent) {
  if (subset == Subsets::kAny) return pick_from(view_, *balancer_, panic_percent);
  if (subset_runs_.size() < subsets.size()) subset_runs_.resize(subsets.size());
  SubsetRun& run = subset_runs_[subset];
  if (!run.seen) {
    const config::ClusterSpec& spec = cluster_->spec();
    if (run.balancer == nullptr)
      run.balancer = make_load_balancer(spec.lb, spec.least_request_choice_count, owner_.loop_.random());
    run.view.look(subsets.at(subset));
    run.seen = true;
  }
  return pick_from(run.view, *run.balancer, panic_percent);
}

template <class F>
void WorkerCluster::for_each_pool(F&& f) {
  for (auto& pools : pools_)
    for (auto& [host, pool] : pools) f(*pool);
  for (auto& [key, pool] : client_pools_) f(*pool);
}

void WorkerCluster::on_host_failed(const Host& host) {
  for_each_pool([&](HostPool& pool) {
    if (&pool.host() == &host) pool.renew();
  });
  if (const auto at = tcp_pools_.find(&host); at != tcp_pools_.end()) at->second->close_spares();
  if (!cluster_->spec().close_connections_on_host_health_failure) return;
  host_users_.for_each([&](HostUser& user) { user.on_host_failed(host); });
}

const HostSet::Entry* WorkerCluster::pick_original(const net::Address& address) {
  if (originals_.size() >= sweep_originals_at_) {
    std::erase_if(originals_, [](const auto& one) { return one.second.expired(); });
    sweep_originals_at_ = std::max<size_t>(64, 2 * originals_.size());
  }
  std::weak_ptr<Host>& known = originals_[address];
  std::shared_ptr<Host> host = known.lock();
  if (host == nullptr) {
    host = std::make_shared<Host>();
    host->address = address;
    host->text = address.str();
    known = host;
  }
  original_ = {std::move(host), 1, true};
  return &original_;
}

void WorkerCluster::release(std::shared_ptr<const void> part) { owner_.release_(std::move(part)); }

HostPool& WorkerCluster::pool(const HostSet::Entry& entry, bool http2_client, ClientPools* client) {
  if (client != nullptr && tells_clients()) {
    const PoolProtocol protocol = protocol_of(cluster_->spec().codec, http2_client);
    std::unique_ptr<HostPool>& pool = client_pools_[{client->id(), entry.host.get(), protocol}];
    if (pool == nullptr) pool = std::make_unique<HostPool>(*this, entry.host, protocol, client);
    pool->know(entry);
    return *pool;
  }
  HostPool& pool = common_pool(entry, http2_client);
  if (cluster_->spec().predictive_preconnect_ratio > 1) [[unlikely]]
    connect_ahead([&](const HostSet::Entry& next) -> AheadPool& { return common_pool(next, http2_client); });
  return pool;
}

HostPool& WorkerCluster::common_pool(const HostSet::Entry& entry, bool http2_client) {
  const PoolProtocol protocol = protocol_of(cluster_->spec().codec, http2_client);
  std::unique_ptr<HostPool>& pool = pools_[static_cast<size_t>(protocol)][entry.host.get()];
  if (pool == nullptr) pool = std::make_unique<HostPool>(*this, entry.host, protocol);
  pool->know(entry);
  return *pool;
}

// A spare connection has told nobody of a client, and may be any client's.
bool WorkerCluster::wants_spares() const {
  const config::ClusterSpec& spec = cluster_->spec();
  return (spec.preconnect_ratio > 1 || spec.predictive_preconnect_ratio > 1) && !tells_clients() && !takes_original() &&
         !draining_ && !spares_ended_ && !owner_.spares_ended_;
}

TcpPool* WorkerCluster::tcp_pool(const HostSet::Entry& entry) {
  if (!wants_spares()) [[likely]]
    return nullptr;
  TcpPool& pool = spare_pool(entry);
  if (cluster_->spec().predictive_preconnect_ratio > 1)
    connect_ahead([this](const HostSet::Entry& next) -> AheadPool& { return spare_pool(next); });
  return &pool;
}

TcpPool& WorkerCluster::spare_pool(const HostSet::Entry& entry) {
  std::unique_ptr<TcpPool>& pool = tcp_pools_[entry.host.get()];
  if (pool == nullptr) pool = std::make_unique<TcpPool>(*this, entry.host);
  pool->know(entry);
  return *pool;
}

bool WorkerCluster::take_connection() {
  if (take(cluster_->state().connections, cluster_->spec().max_connections)) return true;
  SpareConnection* const spare = spares_.front();
  if (spare == nullptr) return false;
  spare->give_way();
  return true;
}

void WorkerCluster::count_connected(const net::Connection& connection, int64_t started_ns) {
  if (const net::TlsSession* tls = connection.tls(); tls != nullptr && stats().tls != nullptr)
    stats().tls->count_handshake(shard(), *tls);
  shard().record(stats().cx_connect_ms, static_cast<double>(loop().now_ns() - started_ns) / 1e6);
}

// The host after those that are chosen already; nullptr: that is known only when it is asked for.
const HostSet::Entry* WorkerCluster::look_ahead() {
  if (cluster_->spec().lb == config::ClusterSpec::Lb::kLeastRequest || takes_original()) return nullptr;
  if (hosts_->subsets() != nullptr) return nullptr;  // which one comes next is the requests' choice
  if (seen_hosts_ == nullptr || next_picks_.size() >= std::min(kMaxNextPicks, view_.healthy_count())) return nullptr;
  const HostSet::Entry* const next = choose(cluster_->spec().healthy_panic_percent);
  if (next != nullptr) next_picks_.push_back(next);
  return next;
}

// As Envoy: while the cluster has less than predictive_preconnect_ratio asks for, one more request counted, the hosts
// that come next are connected, a few at a time.
template <class PoolOf>
void WorkerCluster::connect_ahead(PoolOf&& pool_of) {
  const float ratio = cluster_->spec().predictive_preconnect_ratio;
  for (int i = 0; i < kMaxHostsAhead; ++i) {
    if (enough_ahead(demand.waiting + demand.streams + 1, ratio, demand.room)) return;
    const HostSet::Entry* const next = look_ahead();
    if (next == nullptr || !pool_of(*next).connect_ahead(ratio, 1, 1)) return;
  }
}

bool WorkerCluster::wanted(const HostPool& pool) const {
  const Codec codec = cluster_->spec().codec;
  const PoolProtocol protocol = pool.protocol();
  return !draining_ && (protocol == protocol_of(codec, false) || protocol == protocol_of(codec, true)) &&
         (takes_original() || hosts_->contains(&pool.host())) &&
         (pool.client_id() == 0 || (pool.has_client() && tells_clients()));
}

bool WorkerCluster::wanted(const TcpPool& pool) const { return wants_spares() && hosts_->contains(&pool.host()); }

void WorkerCluster::update(std::shared_ptr<const Cluster> cluster, std::shared_ptr<const HostSet> hosts) {
  draining_ = false;
  spares_ended_ = false;
  bool changed = hosts != hosts_;
  if (cluster != cluster_) {
    const config::ClusterSpec& before = cluster_->spec();
    const config::ClusterSpec& after = cluster->spec();
    if (before.lb != after.lb || before.least_request_choice_count != after.least_request_choice_count) {
      balancer_ = make_load_balancer(after.lb, after.least_request_choice_count, owner_.loop_.random());
      subset_runs_.clear();
    }
    changed = changed || before.codec != after.codec;
    changed = changed || before.proxy_header != after.proxy_header;
    if (cluster_->tls_identity() != cluster->tls_identity() || before.proxy_header != after.proxy_header) {
      for_each_pool([](HostPool& pool) { pool.renew(); });
      while (SpareConnection* const spare = spares_.front()) spare->close();
    }
    std::swap(cluster, cluster_);
    release(std::move(cluster));
    changed = changed || !tcp_pools_.empty();
  }
  if (!changed) return;
  seen_hosts_ = nullptr;
  next_picks_.clear();
  forget_held_hosts();
  if (const Subsets* subsets = hosts->subsets(); subsets == nullptr || subsets->size() < subset_runs_.size())
    subset_runs_.clear();
  std::swap(hosts, hosts_);
  release(std::move(hosts));
  drain_unwanted();
}

void WorkerCluster::drain_unwanted() {
  const auto drain_these = [&](auto& pools) {
    for (auto at = pools.begin(); at != pools.end();) {
      auto& pool = *at->second;
      if (wanted(pool)) {
        pool.revive();
        ++at;
        continue;
      }
      pool.drain();
      at = pool.empty() ? pools.erase(at) : std::next(at);
    }
  };
  for (auto& pools : pools_) drain_these(pools);
  drain_these(client_pools_);
  drain_these(tcp_pools_);
}

void WorkerCluster::end_spares() {
  spares_ended_ = true;
  if (!tcp_pools_.empty()) drain_unwanted();
}

void WorkerCluster::drain() {
  draining_ = true;
  drain_unwanted();
}

void WorkerCluster::shutdown() {
  drain();
  for_each_pool([](HostPool& pool) { pool.shutdown(); });
}

// Destroys a pool after the turn: it is called from the pool's own code. Its cluster waits for that, too.
struct WorkerCluster::Reaper final : event::Deferred {
  Reaper(WorkerCluster& c, std::unique_ptr<HostPool> p) : cluster(c), pool(std::move(p)) { cluster.hold(); }
  ~Reaper() override {
    pool.reset();
    cluster.drop();
  }
  WorkerCluster& cluster;
  std::unique_ptr<HostPool> pool;
};

void WorkerCluster::maybe_remove(HostPool& pool) {
  if (!pool.empty() || (wanted(pool) && !takes_original())) return;
  const auto remove = [&](auto& pools, const auto& key) {
    const auto at = pools.find(key);
    if (at == pools.end() || at->second.get() != &pool) return;
    std::unique_ptr<HostPool> mine = std::move(at->second);
    pools.erase(at);
    owner_.loop_.defer_delete(std::make_unique<Reaper>(*this, std::move(mine)));
  };
  if (pool.client_id() == 0) {
    remove(pools_[static_cast<size_t>(pool.protocol())], &pool.host());
  } else {
    remove(client_pools_, ClientKey{pool.client_id(), &pool.host(), pool.protocol()});
  }
}

// Its last client is leaving, and is the last to use it.
void WorkerCluster::maybe_remove(TcpPool& pool) {
  if (pool.empty() && !wanted(pool)) tcp_pools_.erase(&pool.host());
}

// --- WorkerClusters
// ----------------------------------------------------------------------------------------------------

WorkerClusters::WorkerClusters(event::Loop& loop, stats::Shard& shard,
                               std::function<void(std::shared_ptr<const void>)> release)
    : loop_(loop), shard_(shard), release_(std::move(release)) {}

WorkerCluster* WorkerClusters::find(std::string_view name, uint64_t hash, const Lookup& lookup) {
  if (Slot* slot = map_.find(name, hash); slot != nullptr) return slot->cluster.get();
  std::shared_ptr<const Cluster> cluster;
  std::shared_ptr<const HostSet> hosts;
  if (!lookup(name, hash, cluster, hosts)) return nullptr;
  Slot slot{std::make_unique<WorkerCluster>(*this, std::move(cluster), std::move(hosts))};
  return map_.insert(name, std::move(slot)).cluster.get();
}

void WorkerClusters::update(std::string_view name, uint64_t hash, std::shared_ptr<const Cluster> cluster,
                            std::shared_ptr<const HostSet> hosts) {
  Slot* slot = map_.find(name, hash);
  if (slot == nullptr) return;
  std::erase(departed_, name);
  if (cluster != nullptr) return slot->cluster->update(std::move(cluster), std::move(hosts));
  departed_.emplace_back(name);
  slot->cluster->end_spares();
}

void WorkerClusters::end_spares() {
  spares_ended_ = true;
  map_.for_each([](const std::string&, Slot& slot) { slot.cluster->end_spares(); });
}

void WorkerClusters::on_host_failed(std::string_view cluster, const Host& host) {
  if (Slot* slot = map_.find(cluster, content_hash(cluster)); slot != nullptr) slot->cluster->on_host_failed(host);
}

void WorkerClusters::sweep() {
  std::erase_if(departed_, [&](const std::string& name) {
    Slot* slot = map_.find(name);
    slot->cluster->drain();
    return slot->cluster->empty() && map_.erase(name);
  });
}

void WorkerClusters::shutdown() {
  departed_.clear();
  map_.for_each([&](const std::string& name, Slot& slot) {
    departed_.push_back(name);
    slot.cluster->shutdown();
  });
}

}  // namespace outrigger::upstream
