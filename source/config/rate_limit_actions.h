// RateLimitPolicy: one compiled `rate_limits` entry of a route or virtual host; it makes one descriptor of a request.
// Descriptor: what a limiter looks up: keys and values in the order of the actions.
//
// Thread rule: immutable; any worker.
// Use:  for (const RateLimitPolicy& p : route.rate_limits)
//         if (Descriptor d; p.stage() == stage && p.descriptor(headers, info, node_cluster, arena, d))
//         limiter.check(d);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/matchers.h"
#include "outrigger/stream_info.h"

namespace outrigger::config {

struct DescriptorEntry {
  std::string_view key, value;
  bool operator==(const DescriptorEntry&) const = default;
};

// Views into the policy, the request's headers, its StreamInfo and the arena that was given.
struct Descriptor {
  std::span<const DescriptorEntry> entries;
};

class RateLimitPolicy {
 public:
  explicit RateLimitPolicy(const RateLimitSpec& spec);

  uint32_t stage() const { return stage_; }
  const std::string& disable_key() const { return disable_key_; }

  // Makes the descriptor of one request. False: an action does not apply (or the arena is full), so this policy makes
  // none. `local_cluster` is the node's cluster (source_cluster); destination_cluster is info.cluster, which the proxy
  // sets when it has chosen the route. No heap allocation.
  bool descriptor(const HeaderMap& headers, const StreamInfo& info, std::string_view local_cluster, Arena& arena,
                  Descriptor& out) const;

 private:
  struct Action {
    RateLimitActionSpec::Kind kind;
    bool skip_if_absent, expect_match;
    uint8_t v4_prefix, v6_prefix;
    std::string key, value, name;
    std::vector<HeaderMatcher> headers;
    std::vector<QueryMatcher> query_parameters;
  };
  enum class Outcome : uint8_t { kEntry, kSkip, kNoDescriptor };
  static Outcome apply(const Action& action, const HeaderMap& headers, const StreamInfo& info,
                       std::string_view local_cluster, Arena& arena, DescriptorEntry& entry);

  uint32_t stage_;
  std::string disable_key_;
  std::vector<Action> actions_;
};

std::vector<RateLimitPolicy> compile(const std::vector<RateLimitSpec>& specs);

}  // namespace outrigger::config
