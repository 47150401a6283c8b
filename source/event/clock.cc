#include "event/clock.h"

#include <atomic>
#include <ctime>

namespace outrigger::event {
namespace {

std::atomic<int64_t (*)()> test_clock{nullptr};

int64_t read_ns(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

int64_t steady_ns() {
  if (auto* clock = test_clock.load(std::memory_order_relaxed); clock != nullptr) [[unlikely]]
    return clock();
  return read_ns(CLOCK_MONOTONIC);
}

int64_t wall_clock_us() {
  if (auto* clock = test_clock.load(std::memory_order_relaxed); clock != nullptr) [[unlikely]]
    return clock() / 1000;
  return read_ns(CLOCK_REALTIME) / 1000;
}

void set_clock_for_test(int64_t (*clock)()) { test_clock.store(clock); }
bool test_clock_set() { return test_clock.load(std::memory_order_relaxed) != nullptr; }

}  // namespace outrigger::event
