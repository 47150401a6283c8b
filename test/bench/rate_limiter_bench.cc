// Nanoseconds per decision of the shared rate limiter, by one and by two threads.
#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>

#include "upstream/rate_limiter.h"

namespace outrigger::upstream {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// One bucket that all threads charge.
void one_bucket(benchmark::State& state) {
  static RateBucket bucket;
  const Rate rate = Rate::make(1000, 1000, kSecond);
  int64_t now = steady_ns();
  for (auto _ : state) {
    RateClaim claim{.rate = rate, .bucket = &bucket};
    benchmark::DoNotOptimize(admit({&claim, 1}, now += 1000));
  }
}
BENCHMARK(one_bucket)->Threads(1)->Threads(2)->UseRealTime();

// The usual case: a default bucket and a client's own out of 10,000, the client's name hashed each time.
void default_and_client(benchmark::State& state) {
  static RateBucket bucket;
  static RateTable table;
  const Rate all = Rate::make(1'000'000, 1'000'000, kSecond), each = Rate::make(100, 100, 60 * kSecond);
  int64_t now = steady_ns();
  uint64_t client = static_cast<uint64_t>(state.thread_index()) << 32;
  for (auto _ : state) {
    client = (client & ~uint64_t{0xffffffff}) | ((client * 2654435761u + 1) % 10'000);
    RateClaim claims[2] = {
        {.rate = each, .table = &table, .key = keyed_hash128({reinterpret_cast<const char*>(&client), sizeof(client)})},
        {.rate = all, .bucket = &bucket}};
    benchmark::DoNotOptimize(admit(claims, now += 1000));
  }
}
BENCHMARK(default_and_client)->Threads(1)->Threads(2)->UseRealTime();

// Every key is new: the table is full of other keys.
void flood(benchmark::State& state) {
  static RateTable table;
  static std::atomic<uint64_t> next{0};
  const Rate rate = Rate::make(100, 100, 60 * kSecond);
  const int64_t now = steady_ns();
  uint64_t key = next.fetch_add(uint64_t{1} << 40);
  for (auto _ : state) {
    ++key;
    RateClaim claim{
        .rate = rate, .table = &table, .key = keyed_hash128({reinterpret_cast<const char*>(&key), sizeof(key)})};
    benchmark::DoNotOptimize(admit({&claim, 1}, now));
  }
}
BENCHMARK(flood)->Threads(1)->Threads(2)->UseRealTime();

}  // namespace
}  // namespace outrigger::upstream

BENCHMARK_MAIN();
