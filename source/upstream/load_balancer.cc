#include "upstream/load_balancer.h"

namespace outrigger::upstream {
namespace {

// Host i of n is picked in generation g if (stride_i * g + i * half) mod 2^16 reaches over 2^16 - stride_i: a host of
// the largest weight in every generation, one of half that weight in every second, without any state but a counter.
class RoundRobin final : public LoadBalancer {
 public:
  explicit RoundRobin(uint64_t start) : next_(start) {}
  const HostSet::Entry* pick(const HostSet::Choices& hosts, uint64_t) override {
    const auto& usable = hosts.entries;
    if (usable.empty()) return nullptr;
    const size_t n = usable.size();
    if (hosts.equal_weights) return &usable[next_++ % n];
    constexpr uint64_t kMax = UINT16_MAX;
    for (;;) {
      const uint64_t sequence = next_++;
      const size_t i = sequence % n;
      const uint64_t stride = hosts.strides[i];
      const uint64_t position = (stride * (sequence / n) + i * (kMax / 2)) % kMax;
      if (position >= kMax - stride) return &usable[i];
    }
  }

 private:
  uint64_t next_;
};

const HostSet::Entry* pick_by_weight(const HostSet::Choices& hosts, uint64_t random) {
  const auto& usable = hosts.entries;
  const size_t n = usable.size();
  if (hosts.equal_weights) return &usable[random % n];
  // Rejection sampling against the largest stride; a few rounds at most matter, then any will do.
  for (int round = 0; round < 16; ++round) {
    const size_t i = (random & 0xffffffff) % n;
    if ((random >> 48) <= hosts.strides[i]) return &usable[i];
    random = random * 6364136223846793005u + 1442695040888963407u;
    random ^= random >> 29;
  }
  return &usable[random % n];
}

class Random final : public LoadBalancer {
 public:
  const HostSet::Entry* pick(const HostSet::Choices& hosts, uint64_t random) override {
    return hosts.entries.empty() ? nullptr : pick_by_weight(hosts, random);
  }
};

class LeastRequest final : public LoadBalancer {
 public:
  explicit LeastRequest(uint32_t choices) : choices_(choices) {}
  const HostSet::Entry* pick(const HostSet::Choices& hosts, uint64_t random) override {
    const auto& usable = hosts.entries;
    if (usable.empty()) return nullptr;
    const HostSet::Entry* best = nullptr;
    uint64_t best_active = 0;
    for (uint32_t c = 0; c < choices_; ++c) {
      const HostSet::Entry& candidate = usable[(random >> 16) % usable.size()];
      random = random * 6364136223846793005u + 1442695040888963407u;
      const uint64_t active = candidate.host->active_requests.load(std::memory_order_relaxed) + 1;
      // active / weight < best_active / best_weight, without dividing
      if (best == nullptr || active * best->weight < best_active * candidate.weight) {
        best = &candidate;
        best_active = active;
      }
    }
    return best;
  }

 private:
  uint32_t choices_;
};

}  // namespace

std::unique_ptr<LoadBalancer> make_load_balancer(config::ClusterSpec::Lb kind, uint32_t choice_count, uint64_t start) {
  switch (kind) {
    case config::ClusterSpec::Lb::kLeastRequest:
      return std::make_unique<LeastRequest>(choice_count);
    case config::ClusterSpec::Lb::kRandom:
      return std::make_unique<Random>();
    case config::ClusterSpec::Lb::kRoundRobin:
      break;
  }
  return std::make_unique<RoundRobin>(start);
}

}  // namespace outrigger::upstream
