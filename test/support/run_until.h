// run_until: turns a loop on the test's own thread until a condition holds or patience ends.
//
// Use:  ASSERT_TRUE(test::run_until(loop, [&] { return handler.closed(); }));
#pragma once

#include <functional>

#include "event/loop.h"
#include "event/timer.h"
#include "support/socket.h"

namespace outrigger::test {

// False: it did not within kWaitMs.
inline bool run_until(event::Loop& loop, const std::function<bool()>& done) {
  bool late = false;
  event::Timeout watchdog([](void* flag) { *static_cast<bool*>(flag) = true; }, &late);
  loop.timers().arm(watchdog, kWaitMs);
  while (!done() && !late) loop.run_once();
  watchdog.disarm();
  return !late;
}

}  // namespace outrigger::test
