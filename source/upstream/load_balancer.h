// LoadBalancer: chooses a host of a HostSet's choices. State is per worker and per cluster and survives changes of the
// set.
//
// Thread rule: its worker's thread.
// Use:  auto lb = make_load_balancer(spec.lb, choice_count);   const HostSet::Entry* e =
// lb->pick(hosts.usable(), loop.random());
#pragma once

#include <cstdint>
#include <memory>

#include "upstream/host.h"

namespace outrigger::upstream {

class LoadBalancer {
 public:
  virtual ~LoadBalancer() = default;
  // One of them, nullptr if there is none. O(1) (expected).
  virtual const HostSet::Entry* pick(const HostSet::Choices& hosts, uint64_t random) = 0;
};

// kRoundRobin: in turn, weights by a stride scheduler (each host has its share of every round, without a heap).
// kLeastRequest: of `choice_count` hosts drawn at random the one with the fewest requests under way per weight.
// kRandom: uniform over weights.
// `start` sets where round robin begins, so that workers do not march in step.
std::unique_ptr<LoadBalancer> make_load_balancer(config::ClusterSpec::Lb kind, uint32_t choice_count, uint64_t start);

}  // namespace outrigger::upstream
