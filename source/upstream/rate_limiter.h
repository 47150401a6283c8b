// Rate limits that all workers share, exactly: GCRA, which is a token bucket kept as one number. With I = fill interval
// / tokens per fill and a capacity of B tokens, a bucket's TAT ("theoretical arrival time") is when it will be full
// again; a request is admitted if max(TAT, now) + I - now <= B·I, and moves TAT on by I. Any window of length t admits
// at most B + t/I.
//
// RateBucket is one bucket. RateTable holds the buckets of keys that clients choose, in fixed memory: sets of 8 slots
// of (keyed 128-bit hash, TAT). A slot whose TAT is past is free, for its bucket is full. If no slot of a key's set is
// free, the key takes the one with the smallest TAT and inherits that TAT, so a key that was pushed out finds on its
// return a TAT that is no earlier than its own was: nobody gains by flooding the table.
//
// admit() decides over several buckets at once: each must have a token; either all are charged or none is changed. It
// holds the spin bits of the buckets and sets concerned, taken in address order, for the whole decision (well under a
// microsecond; design: a named exception to "no lock on a worker").
//
// Clocks: the caller's steady time. Workers' clocks may differ by less than a second (a loop caches its time); the
// bound then holds with t counted from the earliest of them. A changed limit clamps: a TAT further than B·I + 1 s ahead
// becomes now + B·I. (The second keeps a late clock from clamping what a punctual one has just charged. A key that lost
// its slot before a change may start from the clamped TAT, once.)
//
// Thread rule: admit() from any thread. Make and destroy on the builder thread.
// Use:  RateClaim claim{.rate = Rate::make(100, 100, 60'000'000'000), .bucket = &bucket};
//       if (!admit({&claim, 1}, now_ns)) retry_after = claim.wait_ns();
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/hash.h"

namespace outrigger::upstream {

// One limit. Times are nanoseconds.
struct Rate {
  // The longest time in which a bucket may fill (146 years). A limit that would take longer holds only as many tokens
  // as fill in that time; config refuses it.
  static constexpr uint64_t kMaxBurstNs = (uint64_t{1} << 62) - 1;

  uint64_t interval_ns =
      1;                  // I, rounded up to a nanosecond (so a limit is never exceeded; 1e9 tokens a second at most)
  uint64_t burst_ns = 1;  // B·I
  uint32_t tokens = 1;    // B

  // All arguments at least 1.
  static Rate make(uint32_t max_tokens, uint32_t tokens_per_fill, uint64_t fill_interval_ns);
  // Whether make() would have to cut the capacity.
  static bool too_slow(uint32_t max_tokens, uint32_t tokens_per_fill, uint64_t fill_interval_ns);
  bool operator==(const Rate&) const = default;
};

// One bucket, on a cache line of its own. Starts full.
class alignas(64) RateBucket {
 public:
  RateBucket() = default;
  RateBucket(const RateBucket&) = delete;
  RateBucket& operator=(const RateBucket&) = delete;

 private:
  friend struct RateClaim;
  uint32_t lock_ = 0;
  uint64_t tat_ = 0;
};

class RateTable {
 public:
  static constexpr uint32_t kSlots = 8;  // in a set
  static constexpr uint32_t kDefaultSets = 4096;
  static constexpr uint32_t kMaxSets = 1u << 20;

  // `sets` is a power of two. Memory is reserved at once and becomes resident as it is used: 256 bytes a set.
  explicit RateTable(uint32_t sets = kDefaultSets);
  ~RateTable();
  RateTable(const RateTable&) = delete;
  RateTable& operator=(const RateTable&) = delete;

  uint32_t sets() const { return static_cast<uint32_t>(mask_ + 1); }
  size_t bytes() const { return sets() * sizeof(Set); }

  // Sets in which `count` keys at once practically never share a slot (less than one set in 4,000 is over full).
  static uint32_t sets_for(uint64_t count);

 private:
  friend struct RateClaim;
  struct alignas(64) Set {
    uint32_t lock;
    uint64_t tat[kSlots];
    Hash128 key[kSlots];
  };
  static_assert(sizeof(Set) == 256);
  Set& set_of(const Hash128& key) const { return sets_[key.high & mask_]; }

  void* memory_ = nullptr;
  Set* sets_ = nullptr;
  size_t mask_ = 0;
};

// One bucket's part in a decision. Give `rate` and either `bucket`, or `table` and `key`; read the rest afterwards.
struct RateClaim {
  Rate rate;
  RateBucket* bucket = nullptr;
  RateTable* table = nullptr;
  Hash128 key;

  bool admitted = false;  // this bucket has a token; whether all have is what admit() returns
  bool evicted = false;   // another key lost its slot to this one
  uint64_t level_ns = 0;  // how far TAT is ahead of now, after the decision

  // Tokens left.
  uint32_t remaining() const;
  // Until the bucket is full again; 0: it is.
  uint64_t reset_ns() const { return level_ns; }
  // Until the bucket has a token.
  uint64_t wait_ns() const {
    const uint64_t want = level_ns + rate.interval_ns;
    return want > rate.burst_ns ? want - rate.burst_ns : 0;
  }

  // admit()'s own; leave it alone. Where the bucket lies, and what to put back if the decision fails.
  struct Scratch {
    uint32_t* lock;
    RateTable::Set* set;  // nullptr: a bucket
    uint64_t* tat;
    uint64_t old_tat;
    Hash128 old_key;
    uint32_t slot;
    bool written;
    RateClaim* next;  // by address of the lock
  } scratch{};
  void locate();
  bool find_slot(uint64_t now);
  void decide(uint64_t now);
  void undo();
};

// True, and every bucket is charged one token, if each has one; false, and no bucket is changed, otherwise. The same
// bucket named twice is charged twice.
bool admit(std::span<RateClaim> claims, int64_t now_ns);

// What admit() would answer. Nothing is charged: each claim's level is the one before the decision.
bool peek(std::span<RateClaim> claims, int64_t now_ns);

}  // namespace outrigger::upstream
