// Timeout, TimerWheel: O(1) deadlines. One queue per distinct duration: arming appends to its queue, so each queue is
// in order of its deadlines by construction; one libuv timer serves all queues and is only ever moved earlier, so
// re-arming an idle timeout at each request costs a few pointer writes and no libuv call.
// At most kMaxQueues distinct durations are kept apart at a time; while all of those are in use, further ones are
// rounded up to the next power of two in ms.
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

// Disarms itself when destroyed.
class Timeout : public ListNode<TimeoutTag> {
 public:
  using Callback = void (*)(void* owner);
  Timeout(Callback callback, void* owner) : callback_(callback), owner_(owner) {}
  void disarm() { unlink(); }
  bool armed() const { return linked(); }
  int64_t deadline_ns() const { return deadline_ns_; }  // of the last arming, on Loop::now_ns's scale

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

  // Calls the timeout's callback once, `ms` from now, in a turn of its own, never early; a timeout that is armed is
  // restarted. 0: as soon as the loop comes round. The callback may destroy its owner, arm and disarm any timeout.
  void arm(Timeout& timeout, uint64_t ms);

  // Calls what is due by now, in order of deadlines. The libuv timer does; tests with a clock of their own call it
  // after having moved their clock (from a posted task).
  void fire_due();

  static constexpr size_t kMaxQueues = 64;
  static constexpr uint64_t kMaxMs = 10ull * 366 * 24 * 3600 * 1000;  // longer ones are cut to this

 private:
  struct Queue {
    List<Timeout, TimeoutTag> list;
  };
  Queue& queue_for(uint64_t ms);
  Queue* find(uint64_t ms);
  Queue& put(uint64_t ms);
  Timeout* earliest();
  void schedule(int64_t deadline_ns);

  Loop& loop_;
  uv_timer_t* timer_;
  int64_t scheduled_ns_ = 0;            // 0: not scheduled
  int64_t firing_ns_ = 0;               // what is armed while firing is due after this
  std::vector<uint64_t> durations_ms_;  // of queues_, apart so that a search stays in few cache lines
  std::vector<std::unique_ptr<Queue>> queues_;
  uint8_t hint_[64] = {};  // by a hash of the duration: where it was found last
};

}  // namespace outrigger::event
