// HealthChecker: active health checks. It asks every host of the clusters that it is told of, at their intervals, and
// writes what it finds into Host::health, where every worker's load balancing reads it. At most kMaxRunning checks run
// at a time; a check that waits for its turn has not begun, and its timeout neither.
//
// Thread rule: its loop's thread (control); made and destroyed there, and shutdown() in a turn before the loop's end.
// Use:  HealthChecker checker(loop, registry, on_change);   checker.want({.cluster = "a", .part = part});
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/list.h"
#include "event/loop.h"
#include "event/timer.h"
#include "stats/stats.h"
#include "upstream/cluster.h"
#include "upstream/health_probe.h"
#include "upstream/health_state.h"

namespace outrigger::upstream {

struct CheckedHost {
  std::shared_ptr<Host> host;
  net::Address address;  // where its checks go
};

// The hosts of one cluster that are to be checked. No part: it is not checked any more.
struct HealthTarget {
  std::string cluster;
  std::shared_ptr<const Cluster> part;
  std::vector<CheckedHost> hosts;
};

class HealthChecker {
 public:
  static constexpr size_t kMaxRunning = 512;

  // A host's health is another, or its first check has ended.
  using OnChange = std::function<void(const std::string& cluster, const std::shared_ptr<Host>& host)>;
  HealthChecker(event::Loop& loop, stats::Registry& stats, OnChange on_change);
  ~HealthChecker();
  HealthChecker(const HealthChecker&) = delete;
  HealthChecker& operator=(const HealthChecker&) = delete;

  // All that is wanted of this cluster now; hosts that were checked already go on as they were, unless how has changed.
  void want(HealthTarget target);
  // Ends all checks. The loop has to turn until idle() before the destructor.
  void shutdown();
  bool idle() const { return probes_.empty(); }  // no connection is left

 private:
  class Session;
  struct Checked;
  struct WaitTag;
  using Due = std::tuple<int64_t, uint64_t, Session*>;  // when, in order of arming

  void arm();
  void run_due();
  bool traffic_seen(const Cluster& part) const;

  event::Loop& loop_;
  stats::Registry& stats_;
  stats::Shard uncounted_;
  OnChange on_change_;
  std::map<std::string, std::unique_ptr<Checked>> clusters_;
  std::set<Due> due_;
  uint64_t armed_ = 0;                  // how often; orders what is due at the same time
  List<Session, WaitTag> waiting_;      // due, but too many are running
  List<HealthProbe, ProbeTag> probes_;  // all that have a connection, those that are only closing included
  size_t running_ = 0;
  event::Timeout timer_{[](void* self) { static_cast<HealthChecker*>(self)->run_due(); }, this};
};

}  // namespace outrigger::upstream
