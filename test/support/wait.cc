#include "support/wait.h"

#include <algorithm>
#include <thread>

namespace outrigger::test {

Milliseconds Deadline::left() const {
  const auto left = std::chrono::ceil<Milliseconds>(end_ - std::chrono::steady_clock::now());
  return std::max(left, Milliseconds(0));
}

bool wait_until(const std::function<bool()>& condition, Milliseconds patience) {
  const Deadline deadline(patience);
  Milliseconds pause(1);
  while (!condition()) {
    if (deadline.over()) return false;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, Milliseconds(20));
  }
  return true;
}

}  // namespace outrigger::test
