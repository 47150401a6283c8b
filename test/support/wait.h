// wait_until: asks again until a condition holds or patience ends. For tests of things that happen in other threads or
// processes; the deadline is only for the failing case, so it is long.
//
// Use:  ASSERT_TRUE(wait_until([&] { return upstream.request_count() == 3; }));
#pragma once

#include <chrono>
#include <functional>

namespace outrigger::test {

using Milliseconds = std::chrono::milliseconds;

// How long a test waits for what must come. Generous: sanitizers on a busy machine are slow.
inline constexpr Milliseconds kPatience{20'000};

// A moment from which waiting time can be reckoned down.
class Deadline {
 public:
  explicit Deadline(Milliseconds patience) : end_(std::chrono::steady_clock::now() + patience) {}
  // Never negative.
  Milliseconds left() const;
  bool over() const { return left().count() == 0; }

 private:
  std::chrono::steady_clock::time_point end_;
};

bool wait_until(const std::function<bool()>& condition, Milliseconds patience = kPatience);

}  // namespace outrigger::test
