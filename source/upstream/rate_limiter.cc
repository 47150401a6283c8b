#include "upstream/rate_limiter.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>

#include "base/check.h"

namespace outrigger::upstream {

// Where one claim is decided: the spin bit that guards it and, once found, its TAT. Plain words under the spin bit.
// Trivial, so that an array of it costs nothing.
struct Place {
  uint32_t* lock;
  RateTable::Set* set;  // nullptr: a bucket
  uint64_t* tat;
  uint64_t old_tat, old_low, old_high;
  uint32_t slot;
  bool written;

  void locate(const RateClaim& claim) {
    written = false;
    if (claim.bucket != nullptr) {
      set = nullptr;
      lock = &claim.bucket->lock_;
      tat = &claim.bucket->tat_;
    } else {
      set = &claim.table->set_of(claim.key);
      lock = &set->lock;
    }
  }

  // Finds the claim's slot: its own, else a free one, else the one with the smallest TAT. True: it is another key's.
  bool find_slot(const Hash128& key, uint64_t now) {
    uint32_t least = 0;
    for (uint32_t i = 0; i < RateTable::kSlots; ++i) {
      if (set->key[i] == key) {
        slot = i;
        tat = &set->tat[i];
        return false;
      }
      if (set->tat[i] < set->tat[least]) least = i;
    }
    slot = least;
    tat = &set->tat[least];
    return *tat > now;
  }

  void write(const RateClaim& claim, uint64_t new_tat) {
    old_tat = *tat;
    *tat = new_tat;
    written = true;
    if (set == nullptr) return;
    old_low = set->key[slot].low;
    old_high = set->key[slot].high;
    set->key[slot] = claim.key;
  }

  void undo() {
    *tat = old_tat;
    if (set != nullptr) set->key[slot] = {old_low, old_high};
  }
};

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
  explicit Locks(std::span<const Place> places) {
    for (const Place& place : places) {
      size_t at = count_;
      while (at > 0 && words_[at - 1] > place.lock) --at;
      if (at > 0 && words_[at - 1] == place.lock) continue;
      std::copy_backward(words_ + at, words_ + count_, words_ + count_ + 1);
      words_[at] = place.lock;
      ++count_;
    }
    for (size_t i = 0; i < count_; ++i) spin_lock(*words_[i]);
  }
  ~Locks() {
    while (count_ > 0) spin_unlock(*words_[--count_]);
  }
  Locks(const Locks&) = delete;
  Locks& operator=(const Locks&) = delete;

 private:
  uint32_t* words_[kMaxRateClaims];
  size_t count_ = 0;
};

// Decides one claim under its spin bit; charges it if it has a token.
void decide(RateClaim& claim, Place& place, uint64_t now) {
  const Rate& rate = claim.rate;
  const bool foreign = place.set != nullptr && place.find_slot(claim.key, now);
  uint64_t tat = std::max(*place.tat, now);
  bool clamped = false;
  if (!foreign && tat - now > rate.burst_ns + kClockSlackNs) {
    tat = now + rate.burst_ns;
    clamped = true;
  }
  claim.admitted = tat - now + rate.interval_ns <= rate.burst_ns;
  claim.evicted = claim.admitted && foreign;
  if (claim.admitted) {
    tat += rate.interval_ns;
    place.write(claim, tat);
  } else if (clamped) {
    *place.tat = tat;
  }
  claim.level_ns = tat - now;
}

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

bool admit(std::span<RateClaim> claims, int64_t now_ns) {
  CHECK(claims.size() <= kMaxRateClaims);
  const uint64_t now = now_ns < 0 ? 0 : std::min(static_cast<uint64_t>(now_ns), kMaxNowNs);
  Place places[kMaxRateClaims];
  for (size_t i = 0; i < claims.size(); ++i) places[i].locate(claims[i]);

  const Locks locks({places, claims.size()});
  bool all = true;
  for (size_t i = 0; i < claims.size(); ++i) {
    decide(claims[i], places[i], now);
    all = all && claims[i].admitted;
  }
  if (all) return true;
  for (size_t i = claims.size(); i-- > 0;) {
    if (!places[i].written) continue;
    places[i].undo();
    claims[i].level_ns -= claims[i].rate.interval_ns;
    claims[i].evicted = false;
  }
  return false;
}

}  // namespace outrigger::upstream
