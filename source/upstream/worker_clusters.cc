#include "upstream/worker_clusters.h"

namespace outrigger::upstream {

// --- WorkerCluster
// -----------------------------------------------------------------------------------------------------

WorkerCluster::WorkerCluster(WorkerClusters& owner, std::shared_ptr<const Cluster> cluster,
                             std::shared_ptr<const HostSet> hosts)
    : owner_(owner), cluster_(std::move(cluster)), hosts_(std::move(hosts)) {
  const config::ClusterSpec& spec = cluster_->spec();
  balancer_ = make_load_balancer(spec.lb, spec.least_request_choice_count, owner_.loop_.random());
}

WorkerCluster::~WorkerCluster() {
  pools_.clear();
  owner_.release_(std::move(cluster_));
  owner_.release_(std::move(hosts_));
}

event::Loop& WorkerCluster::loop() { return owner_.loop_; }
stats::Shard& WorkerCluster::shard() { return owner_.shard_; }

const HostSet::Entry* WorkerCluster::pick(bool healthy_only) {
  return balancer_->pick(healthy_only ? hosts_->healthy() : hosts_->usable(), owner_.loop_.random());
}

HostPool& WorkerCluster::pool(const HostSet::Entry& entry) {
  std::unique_ptr<HostPool>& pool = pools_[entry.host.get()];
  if (pool == nullptr) pool = std::make_unique<HostPool>(*this, entry.host);
  return *pool;
}

void WorkerCluster::update(std::shared_ptr<const Cluster> cluster, std::shared_ptr<const HostSet> hosts) {
  draining_ = false;
  if (cluster != cluster_) {
    const config::ClusterSpec& before = cluster_->spec();
    const config::ClusterSpec& after = cluster->spec();
    if (before.lb != after.lb || before.least_request_choice_count != after.least_request_choice_count)
      balancer_ = make_load_balancer(after.lb, after.least_request_choice_count, owner_.loop_.random());
    std::swap(cluster, cluster_);
    owner_.release_(std::move(cluster));
  }
  if (hosts == hosts_) return;
  std::swap(hosts, hosts_);
  owner_.release_(std::move(hosts));
  for (auto at = pools_.begin(); at != pools_.end();) {
    HostPool& pool = *at->second;
    if (hosts_->contains(&pool.host())) {
      pool.revive();
      ++at;
      continue;
    }
    pool.drain();
    at = pool.empty() ? pools_.erase(at) : std::next(at);
  }
}

void WorkerCluster::drain() {
  draining_ = true;
  for (auto at = pools_.begin(); at != pools_.end();) {
    at->second->drain();
    at = at->second->empty() ? pools_.erase(at) : std::next(at);
  }
}

void WorkerCluster::shutdown() {
  drain();
  for (auto& [host, pool] : pools_) pool->shutdown();
}

// Destroys a pool after the turn: it is called from the pool's own code.
struct WorkerCluster::Reaper final : event::Deferred {
  explicit Reaper(std::unique_ptr<HostPool> p) : pool(std::move(p)) {}
  std::unique_ptr<HostPool> pool;
};

void WorkerCluster::maybe_remove(HostPool& pool) {
  if (!pool.empty()) return;
  if (!draining_ && hosts_->contains(&pool.host())) return;
  const auto at = pools_.find(&pool.host());
  if (at == pools_.end()) return;
  std::unique_ptr<HostPool> mine = std::move(at->second);
  pools_.erase(at);
  owner_.loop_.defer_delete(std::make_unique<Reaper>(std::move(mine)));
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

void WorkerClusters::adopt(const Lookup& lookup) {
  departed_.clear();
  map_.for_each([&](const std::string& name, Slot& slot) {
    std::shared_ptr<const Cluster> cluster;
    std::shared_ptr<const HostSet> hosts;
    if (lookup(name, content_hash(name), cluster, hosts)) {
      slot.cluster->update(std::move(cluster), std::move(hosts));
    } else {
      departed_.push_back(name);
    }
  });
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
