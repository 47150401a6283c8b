#include "upstream/rate_limiter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace outrigger::upstream {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 5'000'000'000'000;  // some uptime

Hash128 key_of(uint64_t n) { return keyed_hash128({reinterpret_cast<const char*>(&n), sizeof(n)}); }

// ---- one bucket ----

struct OneBucket {
  RateBucket bucket;
  Rate rate;
  RateClaim last;
  bool try_at(int64_t now) {
    last = RateClaim{.rate = rate, .bucket = &bucket};
    return admit({&last, 1}, now);
  }
};

TEST(RateLimiter, StartsFullAndRefillsOneByOne) {
  OneBucket b{.rate = Rate::make(3, 1, kSecond)};
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(b.try_at(kNow));
    EXPECT_EQ(b.last.remaining(), 2u - i);
    EXPECT_EQ(b.last.reset_ns(), (i + 1) * kSecond);
  }
  EXPECT_FALSE(b.try_at(kNow));
  EXPECT_EQ(b.last.remaining(), 0u);
  EXPECT_EQ(b.last.wait_ns(), kSecond);
  EXPECT_EQ(b.last.reset_ns(), 3 * kSecond);

  EXPECT_FALSE(b.try_at(kNow + kSecond - 1));
  EXPECT_EQ(b.last.wait_ns(), 1u);
  EXPECT_TRUE(b.try_at(kNow + kSecond));
  EXPECT_FALSE(b.try_at(kNow + kSecond));
  // Idle for long: full, not fuller.
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(b.try_at(kNow + 1000 * kSecond));
  EXPECT_FALSE(b.try_at(kNow + 1000 * kSecond));
}

TEST(RateLimiter, APeekTellsTheAnswerAndTakesNothing) {
  OneBucket b{.rate = Rate::make(2, 1, kSecond)};
  RateTable table(16);
  const auto peek_at = [&](int64_t now) {
    RateClaim claims[] = {{.rate = b.rate, .bucket = &b.bucket}, {.rate = b.rate, .table = &table, .key = key_of(1)}};
    const bool all = peek(claims, now);
    EXPECT_EQ(claims[0].remaining(), all ? 2u - (now == kNow ? 0 : 1) : 0u);
    EXPECT_EQ(claims[1].remaining(), 2u);
    return all;
  };
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(peek_at(kNow));
  EXPECT_TRUE(b.try_at(kNow));
  EXPECT_TRUE(b.try_at(kNow));
  EXPECT_FALSE(peek_at(kNow + 1));
  EXPECT_FALSE(b.try_at(kNow + kSecond - 1));
  EXPECT_TRUE(peek_at(kNow + kSecond));
  EXPECT_TRUE(b.try_at(kNow + kSecond));
  EXPECT_FALSE(b.try_at(kNow + kSecond));
}

TEST(RateLimiter, ADeniedTryCostsNothing) {
  OneBucket b{.rate = Rate::make(1, 1, kSecond)};
  EXPECT_TRUE(b.try_at(kNow));
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(b.try_at(kNow + i));
  EXPECT_TRUE(b.try_at(kNow + kSecond));
}

TEST(RateLimiter, FillsTokensPerFill) {
  const Rate rate = Rate::make(100, 100, 60 * kSecond);
  EXPECT_EQ(rate.interval_ns, 600'000'000u);
  EXPECT_EQ(rate.burst_ns, 60 * kSecond);
  // Rounded up: never more than the limit.
  EXPECT_EQ(Rate::make(1, 3, kSecond).interval_ns, 333'333'334u);
  EXPECT_EQ(Rate::make(1, 4'000'000'000, 50'000'000).interval_ns, 1u);
}

TEST(RateLimiter, ExtremeLimitsDoNotOverflow) {
  struct Case {
    uint32_t max, fill;
    uint64_t interval;
    bool too_slow;
  };
  const Case cases[] = {
      {1, 1, 1, false},
      {UINT32_MAX, UINT32_MAX, 1, false},
      {UINT32_MAX, 1, kSecond, false},  // 136 years
      {UINT32_MAX, 1, 2 * kSecond, true},
      {1, 1, UINT64_MAX, true},
      {UINT32_MAX, 1, UINT64_MAX, true},
      {1, UINT32_MAX, UINT64_MAX, false},
      {1000, 1, 3'155'760'000 * kSecond, true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Rate::too_slow(c.max, c.fill, c.interval), c.too_slow) << c.max << " " << c.fill << " " << c.interval;
    OneBucket b{.rate = Rate::make(c.max, c.fill, c.interval)};
    EXPECT_GE(b.rate.burst_ns, b.rate.interval_ns);
    EXPECT_LE(b.rate.burst_ns, Rate::kMaxBurstNs);
    for (const int64_t now : {int64_t{0}, kNow, INT64_MAX / 4, INT64_MAX}) {
      uint32_t admitted = 0;
      while (admitted < 50 && b.try_at(now)) ++admitted;
      EXPECT_LE(b.last.remaining(), c.max);
      EXPECT_LE(b.last.level_ns, 2 * Rate::kMaxBurstNs);
      if (now == 0) {
        const uint64_t capacity = b.rate.burst_ns / b.rate.interval_ns;
        EXPECT_EQ(admitted, std::min<uint64_t>(50, capacity));
      }
    }
    EXPECT_EQ(b.try_at(-1), b.try_at(-1)) << "a clock before zero is zero";
  }
}

TEST(RateLimiter, AChangedLimitClamps) {
  OneBucket b{.rate = Rate::make(10, 1, 3600 * kSecond)};  // 10 hours to fill
  while (b.try_at(kNow)) {
  }
  EXPECT_EQ(b.last.reset_ns(), 36'000 * kSecond);
  b.rate = Rate::make(10, 10, 10 * kSecond);
  EXPECT_FALSE(b.try_at(kNow));
  EXPECT_EQ(b.last.reset_ns(), 10 * kSecond) << "not ten hours of the old limit";
  EXPECT_TRUE(b.try_at(kNow + kSecond));
  EXPECT_FALSE(b.try_at(kNow + kSecond));
  // A larger limit: what was used stays used.
  b.rate = Rate::make(20, 10, 10 * kSecond);
  uint32_t admitted = 0;
  while (b.try_at(kNow + kSecond)) ++admitted;
  EXPECT_EQ(admitted, 10u);
}

// ---- workers ----

// N threads, one clock that stands still: exactly the capacity gets through.
TEST(RateLimiter, ExactAcrossWorkers) {
  for (const bool in_table : {false, true}) {
    RateBucket bucket;
    RateTable table(16);
    const Rate rate = Rate::make(100, 100, 60 * kSecond);
    std::atomic<int> admitted{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> workers;
    for (int w = 0; w < 8; ++w) {
      workers.emplace_back([&] {
        while (!go.load()) {
        }
        int mine = 0;
        for (int i = 0; i < 100'000 / 8; ++i) {
          RateClaim claim{.rate = rate, .bucket = in_table ? nullptr : &bucket, .table = &table, .key = key_of(7)};
          mine += admit({&claim, 1}, kNow) ? 1 : 0;
        }
        admitted += mine;
      });
    }
    go = true;
    for (std::thread& worker : workers) worker.join();
    EXPECT_EQ(admitted.load(), 100) << (in_table ? "table" : "bucket");
  }
}

// Several buckets in one decision, given in different orders by different threads: no deadlock, and all or nothing.
TEST(RateLimiter, SeveralBucketsAreAllOrNothingAcrossWorkers) {
  RateBucket shared;
  RateBucket own[4];
  RateTable table(16);
  const Rate shared_rate = Rate::make(1000, 1, 3600 * kSecond);
  const Rate own_rate = Rate::make(400, 1, 3600 * kSecond);
  std::atomic<int> admitted[4] = {};
  std::vector<std::thread> workers;
  for (int w = 0; w < 4; ++w) {
    workers.emplace_back([&, w] {
      for (int i = 0; i < 20'000; ++i) {
        RateClaim claims[4] = {
            {.rate = shared_rate, .bucket = &shared},
            {.rate = own_rate, .bucket = &own[w]},
            {.rate = shared_rate, .table = &table, .key = key_of(1)},
            {.rate = own_rate, .table = &table, .key = key_of(100 + w)},
        };
        std::rotate(claims, claims + w, claims + 4);
        if (admit(claims, kNow)) ++admitted[w];
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  int total = 0;
  for (int w = 0; w < 4; ++w) {
    EXPECT_LE(admitted[w].load(), 400);
    total += admitted[w].load();
    // What was not admitted was not charged: each thread's own bucket has exactly what is left.
    RateClaim claim{.rate = own_rate, .bucket = &own[w]};
    int left = 0;
    while (admit({&claim, 1}, kNow)) ++left;
    EXPECT_EQ(left, 400 - admitted[w].load());
  }
  EXPECT_EQ(total, 1000) << "the shared bucket is used up, and no token of it was lost";
}

TEST(RateLimiter, ADecisionThatFailsLeavesNoTrace) {
  RateTable table(16);
  RateBucket empty;
  const Rate rate = Rate::make(2, 1, kSecond);
  RateClaim drain{.rate = rate, .bucket = &empty};
  while (admit({&drain, 1}, kNow)) {
  }
  for (int i = 0; i < 100; ++i) {
    RateClaim claims[3] = {{.rate = rate, .table = &table, .key = key_of(1)},
                           {.rate = rate, .bucket = &empty},
                           {.rate = rate, .table = &table, .key = key_of(2)}};
    EXPECT_FALSE(admit(claims, kNow));
    EXPECT_TRUE(claims[0].admitted);
    EXPECT_FALSE(claims[1].admitted);
    EXPECT_TRUE(claims[2].admitted);
    EXPECT_EQ(claims[0].remaining(), 2u);
    EXPECT_EQ(claims[1].wait_ns(), kSecond);
    EXPECT_FALSE(claims[0].evicted);
  }
  for (uint64_t k : {1, 2}) {
    RateClaim claim{.rate = rate, .table = &table, .key = key_of(k)};
    EXPECT_TRUE(admit({&claim, 1}, kNow));
    EXPECT_TRUE(admit({&claim, 1}, kNow));
    EXPECT_FALSE(admit({&claim, 1}, kNow));
  }
}

TEST(RateLimiter, TheSameBucketTwiceIsChargedTwice) {
  RateBucket bucket;
  RateTable table(16);
  const Rate rate = Rate::make(3, 1, kSecond);
  for (const bool in_table : {false, true}) {
    RateClaim one{.rate = rate, .bucket = in_table ? nullptr : &bucket, .table = &table, .key = key_of(3)};
    RateClaim twice[2] = {one, one};
    EXPECT_TRUE(admit(twice, kNow));
    EXPECT_FALSE(admit(twice, kNow)) << "only one is left";
    EXPECT_TRUE(admit({&one, 1}, kNow));
    EXPECT_FALSE(admit({&one, 1}, kNow));
  }
}

TEST(RateLimiter, NoBucketsIsYes) { EXPECT_TRUE(admit({}, kNow)); }

// ---- properties ----

// For every window of the admitted times: count <= B + t / I. With a_i the i-th admission that is: i·I - a_i never
// rises above its lowest earlier value by more than (B - 1)·I.
void expect_within(const std::vector<int64_t>& admitted, const Rate& rate, uint64_t skew_ns, const std::string& what) {
  __int128 lowest = 0;
  for (size_t i = 0; i < admitted.size(); ++i) {
    const __int128 at = static_cast<__int128>(i) * rate.interval_ns - admitted[i];
    if (i == 0 || at < lowest) lowest = at;
    ASSERT_LE(at - lowest, static_cast<__int128>(rate.burst_ns) - rate.interval_ns + skew_ns)
        << what << ": too many by admission " << i;
  }
}

TEST(RateLimiter, AnyWindowAdmitsAtMostCapacityPlusRefill) {
  std::mt19937_64 random(20);
  for (int round = 0; round < 300; ++round) {
    const uint32_t tokens = 1 + random() % 50;
    const Rate rate = Rate::make(tokens, 1 + random() % 20, 1 + random() % (2 * kSecond));
    RateBucket bucket;
    RateTable table(16);
    const bool in_table = round % 2 == 1;
    int64_t now = static_cast<int64_t>(random() % (uint64_t{1} << 50));
    uint64_t denied_at = 0;
    std::vector<int64_t> admitted;
    for (int i = 0; i < 2000; ++i) {
      switch (random() % 4) {
        case 0:
          break;
        case 1:
          now += random() % (rate.interval_ns + 1);
          break;
        case 2:
          now += random() % (rate.interval_ns / 4 + 1);
          break;
        case 3:
          now += random() % 64 == 0 ? random() % (2 * rate.burst_ns) : 0;
          break;
      }
      RateClaim claim{.rate = rate, .bucket = in_table ? nullptr : &bucket, .table = &table, .key = key_of(round)};
      if (admit({&claim, 1}, now)) {
        admitted.push_back(now);
      } else {
        // And not too strict: it says when the next one gets through, and that is true.
        denied_at = claim.wait_ns();
        ASSERT_GT(denied_at, 0u);
        ASSERT_LE(denied_at, rate.interval_ns);
        RateClaim early = claim, late = claim;
        ASSERT_FALSE(admit({&early, 1}, now + static_cast<int64_t>(denied_at) - 1));
        if (random() % 8 == 0) {
          now += static_cast<int64_t>(denied_at);
          ASSERT_TRUE(admit({&late, 1}, now));
          admitted.push_back(now);
        }
      }
    }
    expect_within(admitted, rate, 0, "round " + std::to_string(round));
    EXPECT_GE(admitted.size(), std::min<size_t>(tokens, 100));
  }
}

// Workers' clocks differ: the bound holds with the window stretched by the difference, however often they take turns.
TEST(RateLimiter, LateClocksGainNothing) {
  std::mt19937_64 random(21);
  const Rate rate = Rate::make(20, 1, 10'000);  // 10 µs: a clock 500 ms late would be 50,000 tokens
  const uint64_t skew = kSecond / 2;
  RateBucket bucket;
  std::vector<int64_t> admitted;
  int64_t now = kNow;
  for (int i = 0; i < 200'000; ++i) {
    now += static_cast<int64_t>(random() % 4000);
    RateClaim claim{.rate = rate, .bucket = &bucket};
    const int64_t clock = now - static_cast<int64_t>(random() % 2 * skew);
    if (admit({&claim, 1}, clock)) admitted.push_back(now);
  }
  expect_within(admitted, rate, skew, "late clocks");
}

// Millions of other keys: nobody's own limit is ever exceeded, and memory does not grow.
TEST(RateLimiter, FloodingGainsNothing) {
  RateTable table(16);  // 128 slots, so that the flood is far beyond the table
  const size_t bytes = table.bytes();
  const Rate victim_rate = Rate::make(10, 1, kSecond);
  const Rate flood_rate = Rate::make(5, 1, kSecond / 2);
  std::mt19937_64 random(22);
  std::map<uint64_t, std::vector<int64_t>> victims;
  int64_t now = kNow;
  uint64_t evicted = 0, flood_admitted = 0;
  constexpr uint64_t kFlood = 3'000'000;
  for (uint64_t i = 0; i < kFlood; ++i) {
    now += static_cast<int64_t>(random() % 2000);
    RateClaim flood{.rate = flood_rate, .table = &table, .key = key_of(1'000'000 + i)};
    flood_admitted += admit({&flood, 1}, now) ? 1 : 0;
    evicted += flood.evicted ? 1 : 0;
    if (i % 16 != 0) continue;
    const uint64_t victim = random() % 40;
    RateClaim claim{.rate = victim_rate, .table = &table, .key = key_of(victim)};
    if (admit({&claim, 1}, now)) victims[victim].push_back(now);
    evicted += claim.evicted ? 1 : 0;
  }
  for (const auto& [victim, admitted] : victims) expect_within(admitted, victim_rate, 0, std::to_string(victim));
  EXPECT_GT(evicted, 0u);
  EXPECT_EQ(table.bytes(), bytes);
  EXPECT_EQ(bytes, 16 * 256u);
  // The flood as a whole got no more than the table's slots give: 128 buckets.
  const double seconds = static_cast<double>(now - kNow) / kSecond;
  EXPECT_LE(static_cast<double>(flood_admitted), 128 * (5 + seconds * 2) + 1);
}

TEST(RateLimiter, AKeyKeepsItsSlotWhileTheTableIsRoomy) {
  RateTable table;
  EXPECT_EQ(table.sets(), RateTable::kDefaultSets);
  const Rate rate = Rate::make(1, 1, 3600 * kSecond);
  uint64_t evicted = 0, denied = 0;
  for (uint64_t k = 0; k < table.sets() * 2; ++k) {
    RateClaim claim{.rate = rate, .table = &table, .key = key_of(k)};
    denied += admit({&claim, 1}, kNow) ? 0 : 1;
    evicted += claim.evicted ? 1 : 0;
  }
  EXPECT_EQ(evicted, 0u);
  EXPECT_LE(denied, 20u) << "a few sets of a quarter-full table are over full";
  for (uint64_t k = 0; k < table.sets() * 2; ++k) {
    RateClaim claim{.rate = rate, .table = &table, .key = key_of(k)};
    EXPECT_FALSE(admit({&claim, 1}, kNow + 1));
  }
}

TEST(RateLimiter, SetsForACount) {
  EXPECT_EQ(RateTable::sets_for(0), 16u);
  EXPECT_EQ(RateTable::sets_for(20), 16u);
  EXPECT_EQ(RateTable::sets_for(1000), 512u);
  EXPECT_EQ(RateTable::sets_for(UINT64_MAX), RateTable::kMaxSets);
}

}  // namespace
}  // namespace outrigger::upstream
