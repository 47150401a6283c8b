// HealthState: what a row of checks makes of one host, by Envoy's rules.
//
//   unknown --first success--> healthy, --first failure--> unhealthy: one check decides
//   healthy --unhealthy_threshold failures in a row, or one that the host itself tells--> unhealthy
//   unhealthy --healthy_threshold successes in a row--> healthy
//
// Thread rule: one thread.
// Use:  const HealthState::Change change = state.succeeded(spec);   wait_ms(spec, state, change, traffic)
#pragma once

#include <cstdint>

#include "config/health_spec.h"

namespace outrigger::upstream {

class HealthState {
 public:
  enum class Change : uint8_t {
    kNone,
    kPending,  // the threshold for a change is not reached yet
    kChanged,  // healthy() is another
  };
  // `known`: what earlier checks have said; a host of which nothing is known counts as unhealthy.
  HealthState(bool known, bool healthy) : first_(!known), healthy_(healthy) {}

  Change succeeded(const config::HealthCheckSpec& spec) {
    failures_ = 0;
    const bool first = first_;
    first_ = false;
    if (healthy_) return Change::kNone;
    if (!first && ++successes_ < spec.healthy_threshold) return Change::kPending;
    healthy_ = true;
    return Change::kChanged;
  }

  // `at_once`: the host says itself that it is unwell.
  Change failed(const config::HealthCheckSpec& spec, bool at_once) {
    successes_ = 0;
    first_ = false;
    if (!healthy_) return Change::kNone;
    if (!at_once && ++failures_ < spec.unhealthy_threshold) return Change::kPending;
    healthy_ = false;
    return Change::kChanged;
  }

  bool healthy() const { return healthy_; }

 private:
  uint32_t failures_ = 0, successes_ = 0;  // in a row
  bool first_;
  bool healthy_;
};

// From the end of a check to the next one, without jitter. `success`: how it ended; `traffic`: the cluster has had a
// connection for a request.
inline uint64_t wait_ms(const config::HealthCheckSpec& spec, bool success, HealthState::Change change, bool traffic) {
  if (!traffic) return success ? spec.no_traffic_healthy_interval_ms : spec.no_traffic_interval_ms;
  const bool edge = change == HealthState::Change::kPending;
  if (success) return edge ? spec.healthy_edge_interval_ms : spec.interval_ms;
  return edge ? spec.unhealthy_edge_interval_ms : spec.unhealthy_interval_ms;
}

}  // namespace outrigger::upstream
