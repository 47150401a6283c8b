#include "upstream/rate_limiter.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>

#include "base/check.h"

namespace outrigger::upstream {

namespace {

constexpr uint64_t kMaxNowNs = uint64_t{1} << 61;  // 73 years of uptime; TATs then stay below 2^63
constexpr uint64_t kClockSlackNs = 1'000'000'000;  // by how much workers' clocks may differ
constexpr uint32_t kSpinsBeforeYield = 128;        // the holder may have lost its processor

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void spin_lock(uint32_t& word) {
  std::atomic_ref<uint32_t> bit(word);
  for (uint32_t spins = 0; bit.exchange(1, std::memory_order_acquire) != 0;) {
    while (bit.load(std::memory_order_relaxed) != 0) {
      if (++spins % kSpinsBeforeYield == 0)
        sched_yield();
      else
        relax();
    }
  }
}
void spin_unlock(uint32_t& word) { std::atomic_ref<uint32_t>(word).store(0, std::memory_order_release); }

// The spin bits of a decision: each once, in address order, so that two decisions cannot wait for each other.
class Locks {
 public:
  explicit Locks(std::span<RateClaim> claims) {
    for (RateClaim& claim : claims) {
      RateClaim** at = &first_;
      while (*at != nullptr && (*at)->scratch.lock < claim.scratch.lock) at = &(*at)->scratch.next;
      if (*at != nullptr && (*at)->scratch.lock == claim.scratch.lock) continue;
      claim.scratch.next = *at;
      *at = &claim;
    }
    for (const RateClaim* claim = first_; claim != nullptr; claim = claim->scratch.next)
      spin_lock(*claim->scratch.lock);
  }
  ~Locks() {
    for (const RateClaim* claim = first_; claim != nullptr; claim = claim->scratch.next)
      spin_unlock(*claim->scratch.lock);
  }
  Locks(const Locks&) = delete;
  Locks& operator=(const Locks&) = delete;

 private:
  RateClaim* first_ = nullptr;
};

}  // namespace

Rate Rate::make(uint32_t max_tokens, uint32_t tokens_per_fill, uint64_t fill_interval_ns) {
  CHECK(max_tokens > 0 && tokens_per_fill > 0 && fill_interval_ns > 0);
  const uint64_t whole = fill_interval_ns / tokens_per_fill;
  Rate rate;
  rate.tokens = max_tokens;
  rate.interval_ns = std::min(whole + (fill_interval_ns % tokens_per_fill != 0 ? 1 : 0), kMaxBurstNs);
  rate.burst_ns = rate.interval_ns > kMaxBurstNs / max_tokens ? kMaxBurstNs : rate.interval_ns * uint64_t{max_tokens};
  return rate;
}

bool Rate::too_slow(uint32_t max_tokens, uint32_t tokens_per_fill, uint64_t fill_interval_ns) {
  const Rate rate = make(max_tokens, tokens_per_fill, fill_interval_ns);
  return rate.burst_ns / rate.interval_ns < max_tokens || fill_interval_ns / tokens_per_fill > kMaxBurstNs;
}

RateTable::RateTable(uint32_t sets) {
  CHECK(std::has_single_bit(sets) && sets <= kMaxSets);
  mask_ = sets - 1;
  // calloc: pages that nobody touches stay unallocated, and zero is the state of a free slot.
  memory_ = std::calloc(sets + 1, sizeof(Set));
  CHECK(memory_ != nullptr);
  const auto at = (reinterpret_cast<uintptr_t>(memory_) + alignof(Set) - 1) & ~uintptr_t{alignof(Set) - 1};
  sets_ = reinterpret_cast<Set*>(at);
}

RateTable::~RateTable() { std::free(memory_); }

uint32_t RateTable::sets_for(uint64_t count) {
  // A quarter full: on average 2 keys in a set of 8 (Poisson: 2.4 of 10,000 sets have more than 8).
  const uint64_t sets = std::clamp<uint64_t>(count / 2, 16, kMaxSets);
  return static_cast<uint32_t>(std::bit_ceil(sets));
}

uint32_t RateClaim::remaining() const {
  if (level_ns >= rate.burst_ns) return 0;
  return static_cast<uint32_t>(std::min<uint64_t>((rate.burst_ns - level_ns) / rate.interval_ns, rate.tokens));
}

void RateClaim::locate() {
  scratch = {};
  if (bucket != nullptr) {
    scratch.lock = &bucket->lock_;
    scratch.tat = &bucket->tat_;
  } else {
    scratch.set = &table->set_of(key);
    scratch.lock = &scratch.set->lock;
  }
}

// Finds the slot: the key's own, else a free one, else the one with the smallest TAT. True: it is another key's.
bool RateClaim::find_slot(uint64_t now) {
  RateTable::Set& set = *scratch.set;
  uint32_t least = 0;
  for (uint32_t i = 0; i < RateTable::kSlots; ++i) {
    if (set.key[i] == key) {
      scratch.slot = i;
      scratch.tat = &set.tat[i];
      return false;
    }
    if (set.tat[i] < set.tat[least]) least = i;
  }
  scratch.slot = least;
  scratch.tat = &set.tat[least];
  return *scratch.tat > now;
}

// Under the spin bit: charges the bucket if it has a token.
void RateClaim::decide(uint64_t now) {
  const bool foreign = scratch.set != nullptr && find_slot(now);
  uint64_t tat = std::max(*scratch.tat, now);
  if (!foreign && tat - now > rate.burst_ns + kClockSlackNs) {
    tat = now + rate.burst_ns;
    *scratch.tat = tat;
  }
  admitted = tat - now + rate.interval_ns <= rate.burst_ns;
  evicted = admitted && foreign;
  if (admitted) {
    scratch.written = true;
    scratch.old_tat = *scratch.tat;
    tat += rate.interval_ns;
    *scratch.tat = tat;
    if (scratch.set != nullptr) {
      scratch.old_key = scratch.set->key[scratch.slot];
      scratch.set->key[scratch.slot] = key;
    }
  }
  level_ns = tat - now;
}

void RateClaim::undo() {
  if (!scratch.written) return;
  *scratch.tat = scratch.old_tat;
  if (scratch.set != nullptr) scratch.set->key[scratch.slot] = scratch.old_key;
  level_ns -= rate.interval_ns;
  evicted = false;
}

namespace {

bool decide(std::span<RateClaim> claims, int64_t now_ns, bool charge) {
  const uint64_t now = now_ns < 0 ? 0 : std::min(static_cast<uint64_t>(now_ns), kMaxNowNs);
  for (RateClaim& claim : claims) claim.locate();
  const Locks locks(claims);
  bool all = true;
  for (RateClaim& claim : claims) {
    claim.decide(now);
    all = all && claim.admitted;
  }
  if (all && charge) return true;
  for (size_t i = claims.size(); i-- > 0;) claims[i].undo();
  return all;
}

}  // namespace

bool admit(std::span<RateClaim> claims, int64_t now_ns) { return decide(claims, now_ns, true); }
bool peek(std::span<RateClaim> claims, int64_t now_ns) { return decide(claims, now_ns, false); }

}  // namespace outrigger::upstream
