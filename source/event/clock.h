// The process's clocks. Production code reads time from its Loop (Loop::now_ns, Loop::wall_us); only the loop, and
// threads without one, read these. Tests may put a clock of their own in place, which every Loop then follows.
//
// Thread rule: any thread; set_clock_for_test before loops run, and back to nullptr after they have stopped.
// Use:  static std::atomic<int64_t> now{1};  set_clock_for_test([] { return now.load(); });
//       now += 60'000'000'000;  loop.post([&] { loop.timers().fire_due(); });
#pragma once

#include <cstdint>

namespace outrigger::event {

// CLOCK_MONOTONIC in ns, or the test's clock.
int64_t steady_ns();
// Wall clock in µs since 1970. Under a test's clock: steady_ns() / 1000, so that it is frozen too.
int64_t wall_clock_us();
inline int64_t wall_clock_ms() { return wall_clock_us() / 1000; }

// nullptr: the real clock. The test's clock must never go back.
void set_clock_for_test(int64_t (*clock)());
bool test_clock_set();

}  // namespace outrigger::event
