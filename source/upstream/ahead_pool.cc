#include "upstream/ahead_pool.h"

#include "upstream/worker_clusters.h"

namespace outrigger::upstream {

AheadPool::AheadPool(WorkerCluster& cluster, std::shared_ptr<Host> host) : cluster_(cluster), host_(std::move(host)) {}

AheadPool::~AheadPool() {
  if (addresses_ != nullptr) cluster_.release(std::move(addresses_));
}

bool AheadPool::connect_ahead(float ratio, uint32_t coming, int most) {
  if (ratio <= 1 || !ahead_ || draining_) return false;
  int made = 0;
  for (; made < most; ++made) {
    const Streams now = streams();
    if (enough_ahead(now.needed + coming, ratio, now.room)) break;
    if (connect_more()) continue;
    cluster_.shard().add(cluster_.stats().cx_overflow);
    break;
  }
  return made != 0;
}

bool AheadPool::connect_more() {
  if (!take(cluster_.cluster().state().connections, cluster_.cluster().spec().max_connections)) return false;
  connect();
  return true;
}

void AheadPool::move_to(std::shared_ptr<const HostAddresses> addresses) {
  addresses_.swap(addresses);
  if (addresses != nullptr) cluster_.release(std::move(addresses));
}

}  // namespace outrigger::upstream
