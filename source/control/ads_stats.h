// AdsCounters: what the discovery server has sent and was answered, by type. Bounded: a client may name any type.
//
// Thread rule: any thread; it locks.
// Use:  counters.sent(reply, bytes);  counters.answered(type_url, accepted);  counters.fill(stats);
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "control/ads_session.h"
#include "outrigger/control/ads_server.h"

namespace outrigger::control {

class AdsCounters {
 public:
  void opened();
  void requested(const std::string& type_url, uint64_t stale, uint64_t resumed);
  void sent(const DiscoveryReply& reply, size_t bytes);
  void answered(const std::string& type_url, bool accepted);
  void fill(AdsServerStats& stats) const;

 private:
  static constexpr size_t kMaxTypes = 64;
  AdsTypeStats& of(const std::string& type_url);  // with the mutex held

  mutable std::mutex mutex_;
  uint64_t opened_ = 0, requests_ = 0, stale_ = 0;
  std::map<std::string, AdsTypeStats> types_;
};

}  // namespace outrigger::control
