#include "filters/grpc_stats/method_stats.h"

#include <fmt/format.h>

#include <algorithm>

namespace outrigger::filters {
namespace {

const MethodCounters kNowhere{};

Hash128 hash_of(std::string_view cluster, std::string_view service, std::string_view method) {
  const Hash128 a = keyed_hash128(cluster), b = keyed_hash128(service), c = keyed_hash128(method);
  return {a.low ^ (b.low * 3) ^ (c.low * 5), a.high ^ (b.high * 3) ^ (c.high * 5)};
}

}  // namespace

MethodStats::MethodStats(stats::Registry& registry, bool dots_replaced)
    : registry_(registry), dots_replaced_(dots_replaced), known_(registry.workers()) {}

const MethodCounters& MethodStats::find(uint32_t worker, std::string_view cluster, std::string_view service,
                                        std::string_view method) {
  Known& known = known_[worker];
  const Hash128 hash = hash_of(cluster, service, method);
  const uint32_t* const at = known.index.find(hash, [&](uint32_t i) {
    const Entry& entry = *known.entries[i];
    return entry.cluster == cluster && entry.service == service && entry.method == method;
  });
  if (at != nullptr) return known.entries[*at]->counters;
  const bool whole_cluster = service.empty();
  if (!known.full[whole_cluster]) {
    const std::lock_guard lock(mutex_);
    if (const Entry* const entry = find_or_make(cluster, service, method); entry != nullptr) {
      learn(known, *entry);
      return entry->counters;
    }
    // It stays full, so nothing has to be asked for again.
    for (const auto& entry : entries_)
      if (std::find(known.entries.begin(), known.entries.end(), entry.get()) == known.entries.end())
        learn(known, *entry);
    known.full[whole_cluster] = true;
  }
  return whole_cluster ? kNowhere : find(worker, cluster, {}, {});
}

void MethodStats::learn(Known& known, const Entry& entry) {
  known.index.insert(hash_of(entry.cluster, entry.service, entry.method), static_cast<uint32_t>(known.entries.size()));
  known.entries.push_back(&entry);
}

// nullptr: there is no room.
const MethodStats::Entry* MethodStats::find_or_make(std::string_view cluster, std::string_view service,
                                                    std::string_view method) {
  for (const auto& entry : entries_)
    if (entry->cluster == cluster && entry->service == service && entry->method == method) return entry.get();
  // Clusters are the configuration's and few: they find room beside the methods that clients name.
  if (entries_.size() >= (service.empty() ? 2 * kMaxMethods : kMaxMethods)) return nullptr;
  return entries_.emplace_back(make(cluster, service, method)).get();
}

std::unique_ptr<MethodStats::Entry> MethodStats::make(std::string_view cluster, std::string_view service,
                                                      std::string_view method) {
  auto entry = std::make_unique<Entry>();
  entry->cluster = cluster;
  entry->service = service;
  entry->method = method;
  stats::Labels labels{{"cluster", entry->cluster}};
  std::string prefix = "cluster.{cluster}.grpc.";
  if (!service.empty()) {
    std::string shown = entry->service;
    if (dots_replaced_) std::replace(shown.begin(), shown.end(), '.', '_');
    labels.emplace_back("grpc_bridge_service", shown);
    labels.emplace_back("grpc_bridge_method", entry->method);
    prefix += "{grpc_bridge_service}.{grpc_bridge_method}.";
  }
  entry->group = std::make_unique<stats::Group>(registry_, std::move(labels));
  const auto counter = [&](std::string_view name, const stats::Labels& more = {}) {
    return entry->group->counter(prefix + std::string(name), more);
  };
  entry->counters.success = counter("success");
  entry->counters.failure = counter("failure");
  entry->counters.total = counter("total");
  entry->counters.request_messages = counter("request_message_count");
  entry->counters.response_messages = counter("response_message_count");
  for (uint32_t i = 0; i < MethodCounters::kStatuses; ++i)
    entry->counters.status[i] = counter("{grpc_status}", {{"grpc_status", fmt::format("{}", i)}});
  return entry;
}

}  // namespace outrigger::filters
