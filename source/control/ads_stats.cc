#include "control/ads_stats.h"

namespace outrigger::control {

AdsTypeStats& AdsCounters::of(const std::string& type_url) {
  const auto at = types_.find(type_url);
  if (at != types_.end()) return at->second;
  const std::string& key = types_.size() < kMaxTypes ? type_url : "other";
  AdsTypeStats& made = types_[key];
  made.type_url = key;
  return made;
}

void AdsCounters::opened() {
  std::lock_guard lock(mutex_);
  ++opened_;
}

void AdsCounters::requested(const std::string& type_url, uint64_t stale, uint64_t resumed) {
  std::lock_guard lock(mutex_);
  ++requests_;
  stale_ += stale;
  if (resumed > 0) of(type_url).resumed += resumed;
}

void AdsCounters::sent(const DiscoveryReply& reply, size_t bytes) {
  std::lock_guard lock(mutex_);
  AdsTypeStats& type = of(reply.type_url);
  ++type.responses;
  type.resources += reply.resources.size();
  type.repeated += reply.repeated;
  type.bytes += bytes;
}

void AdsCounters::answered(const std::string& type_url, bool accepted) {
  std::lock_guard lock(mutex_);
  AdsTypeStats& type = of(type_url);
  ++(accepted ? type.acks : type.nacks);
}

void AdsCounters::fill(AdsServerStats& stats) const {
  std::lock_guard lock(mutex_);
  stats.streams_opened = opened_;
  stats.requests = requests_;
  stats.stale_requests = stale_;
  for (const auto& [url, type] : types_) stats.types.push_back(type);
}

}  // namespace outrigger::control
