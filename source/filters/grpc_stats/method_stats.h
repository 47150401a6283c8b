// MethodStats: the counters of (cluster, service, method), made when a worker first needs them. Methods without
// counters of their own share their cluster's.
//
// Thread rule: find() on the worker of that index. The first find() of a triple on a worker takes a lock and allocates,
// a bounded number of times in a worker's life (source/docs/decisions/0010-metrics-made-by-workers.md); all others do
// neither.
// Use:  const MethodCounters& c = stats.find(worker, "backend", "pkg.Service", "Method");  shard.add(c.total);
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "filters/hash_index.h"
#include "stats/stats.h"

namespace outrigger::filters {

struct MethodCounters {
  static constexpr uint32_t kStatuses = 17;  // those that gRPC has
  stats::Counter success, failure, total, request_messages, response_messages;
  stats::Counter status[kStatuses];
};

class MethodStats {
 public:
  static constexpr size_t kMaxMethods = 1024;  // and clusters; what comes then counts nowhere, or in its cluster

  MethodStats(stats::Registry& registry, bool dots_replaced);
  // `service` and `method` empty: the cluster's.
  const MethodCounters& find(uint32_t worker, std::string_view cluster, std::string_view service,
                             std::string_view method);

 private:
  struct Entry {
    std::string cluster, service, method;
    std::unique_ptr<stats::Group> group;
    MethodCounters counters;
  };
  struct alignas(64) Known {
    HashIndex index;  // into entries
    std::vector<const Entry*> entries;
    bool full[2] = {};  // for methods, for clusters: no room is left in entries_, all of which is known
  };

  static void learn(Known& known, const Entry& entry);
  const Entry* find_or_make(std::string_view cluster, std::string_view service, std::string_view method);
  std::unique_ptr<Entry> make(std::string_view cluster, std::string_view service, std::string_view method);

  stats::Registry& registry_;
  const bool dots_replaced_;
  std::vector<Known> known_;  // by worker
  std::mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_;  // under mutex_
};

}  // namespace outrigger::filters
