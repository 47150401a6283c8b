// spread_load: Envoy's distribution of requests over priorities. The first priority takes as much as its healthy hosts
// can bear, with 40 % to spare (all of it down to 72 % healthy), the next what is left, and so on. Here the priorities
// are the members of an aggregate cluster.
//
// Thread rule: pure functions.
// Use:  PriorityLoad of[] = {{.healthy = 1, .total = 2}, {.healthy = 3, .total = 3}};   // of[0].percent: 70, of[1]: 30
//       const bool panic = spread_load(of);   const size_t chosen = choose_priority(of, random);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace outrigger::upstream {

// What hosts can bear, in percent of their share of the load (Envoy's overprovisioning factor).
inline constexpr uint64_t kBearablePercent = 140;
// Whether less than `panic_percent` of the hosts are healthy: all are used then, if those cannot bear the load.
inline bool below_panic_threshold(uint64_t healthy, uint64_t total, uint8_t panic_percent) {
  return 100 * healthy < panic_percent * total;
}

struct PriorityLoad {
  uint32_t healthy = 0;  // hosts
  uint32_t total = 0;
  uint32_t percent = 0;  // of the requests; what spread_load() finds out
};

// Fills in `percent`; the sum is 100 unless there is no host at all. True: all healthy hosts together cannot bear the
// load, so a priority with less than `panic_percent` of its hosts healthy is in panic and uses all of them. False: only
// healthy hosts are used. If every priority is in panic, they share by the number of their hosts.
bool spread_load(std::span<PriorityLoad> priorities, uint8_t panic_percent = 50);

// The priority for a random value; priorities.size() if there is no host at all.
size_t choose_priority(std::span<const PriorityLoad> priorities, uint64_t random);

}  // namespace outrigger::upstream
