// Timeout, TimerWheel: O(1) deadlines. One queue per distinct duration: arming appends to its queue, so each queue is
// in order of its deadlines by construction; one libuv timer serves all queues. Disarming is an unlink.
// At most kMaxQueues distinct durations are kept apart; any more are rounded up to the next power of two in ms.
//
// Thread rule: the loop's thread.
// Use:  class Stream { Timeout idle_{[](void* self) { static_cast<Stream*>(self)->on_idle(); }, this}; };
//       loop.timers().arm(stream.idle_, 30'000);   // again: restarts;   stream.idle_.disarm();
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/list.h"

namespace outrigger::event {

class Loop;
struct TimeoutTag;

class Timeout : public ListNode<TimeoutTag> {
 public:
  using Callback = void (*)(void* owner);
  Timeout(Callback callback, void* owner) : callback_(callback), owner_(owner) {}
  void disarm() { unlink(); }
  bool armed() const { return linked(); }

 private:
  friend class TimerWheel;
  Callback callback_;
  void* owner_;
  int64_t deadline_ns_ = 0;
};

class TimerWheel {
 public:
  explicit TimerWheel(Loop& loop);
  ~TimerWheel();
  void close();  // before the uv loop closes

  // Calls the timeout's callback once, `ms` from now, in a turn of its own; a timeout that is armed is restarted.
  void arm(Timeout& timeout, uint64_t ms);

  static constexpr size_t kMaxQueues = 64;

 private:
  struct Queue {
    uint64_t ms;
    List<Timeout, TimeoutTag> list;
  };
  Queue& queue_for(uint64_t ms);
  void schedule(int64_t deadline_ns);
  void fire();

  Loop& loop_;
  uv_timer_t* timer_;
  int64_t scheduled_ns_ = 0;  // 0: not scheduled
  std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace outrigger::event
