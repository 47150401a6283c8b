// Loop: one thread's event loop (libuv), with cross-thread posts, deferred deletion and turn-end work.
//
// A *turn* is one callback from libuv with everything that it causes. Every libuv callback of ours opens a Turn; when
// the outermost one ends, the loop flushes what asked for it (connections write what was gathered) and then destroys
// what was given to defer_delete; both may ask for more, until nothing is left. So a request's head and body leave in
// one gathered write, and no object dies under its caller. What is asked for outside a turn (before run()) is done when
// run() begins. A *round* is all the turns between two waits for events: what many turns give to one connection
// (HTTP/2) leaves in one write at its end. What takes long and may wait (a TLS handshake) has a share of each round, so
// that however many come at once the others' turns come between.
//
// Thread rule: one thread at a time: it may be made on one thread, run on another and be destroyed after run() has
// returned; post() and stop() from any.
// Use:  Loop loop;  std::thread t([&] { loop.run(); });  loop.post([] { ... });  loop.stop();  t.join();
#pragma once

#include <uv.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/list.h"

namespace outrigger::event {

// Base of everything that defer_delete takes.
class Deferred {
 public:
  virtual ~Deferred() = default;
};

struct TurnEndTag;
// Something that wants to run once when the current turn ends (net::Connection: flush).
class TurnEnd : public ListNode<TurnEndTag> {
 public:
  virtual void on_turn_end() = 0;

 protected:
  ~TurnEnd() = default;
};

class TimerWheel;

class Loop {
 public:
  Loop();
  // Closes its own handles and waits for those that are closing; every other handle must be closed before (CHECKed).
  // Posted tasks that have not run are destroyed without running.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(). May be called again afterwards. After a stop() before run() it returns at once.
  void run();
  // One poll that waits at most until something happens; a turn that runs before it waits is something (tests).
  void run_once();
  // Tasks posted before the stop() run before run() returns.
  void stop();

  // Runs `task` on the loop's thread, in order of posting, in a turn of its own. False: the loop is shut for posts
  // (close_posts() was called or it is being destroyed) and the task was destroyed without running.
  bool post(std::function<void()> task);
  // From the loop's thread: refuses later posts, then runs what was queued. The defined answer after the end.
  void close_posts();

  void defer_delete(std::unique_ptr<Deferred> object);
  // Asks for object.on_turn_end() at the end of this turn; idempotent.
  void at_turn_end(TurnEnd& object) {
    if (!object.linked()) turn_ends_.push_back(object);
  }

  // The same, at the end of this round: before the loop waits for events again.
  void at_round_end(TurnEnd& object) {
    if (!object.linked()) round_ends_.push_back(object);
  }

  // Long work: about kLongNs of it in each round, one piece at least. Whether there is time for some now; if not,
  // at_leisure(). The worker of it tells how long it took.
  static constexpr int64_t kLongNs = 1'000'000;
  bool has_leisure() const { return long_ns_ < kLongNs && waits_for_leisure_.empty(); }
  void took_long(int64_t ns) { long_ns_ += ns; }
  // object.on_turn_end() in a turn of its own when there is time for it, in order of asking. An object waits for one of
  // the three.
  void at_leisure(TurnEnd& object);

  // Steady time in ns, read once per turn: cheap, the same for all that a turn does.
  int64_t now_ns() const { return now_ns_; }
  // Wall clock in µs since 1970, derived from now_ns (an offset refreshed about once a second).
  int64_t wall_us() const { return now_ns_ / 1000 + wall_offset_us_; }
  // A fast pseudo-random number (xoshiro256**; seeded from the kernel). Not for secrets.
  uint64_t random();

  // Whether the caller's is the thread that runs (or last ran, or made) the loop.
  bool on_thread() const;
  bool in_turn() const { return depth_ > 0; }
  uv_loop_t* uv() { return &uv_; }
  TimerWheel& timers() { return *timers_; }

  // The longest turn since the last call, ns. Any thread, but only one asks.
  int64_t take_longest_turn_ns();
  // The same of the turns that a posted task or a timer began, in CPU time of the thread: waiting for a core, and for
  // anything else, is not in it. (Turns of sockets are many and short; to measure them would cost system calls.)
  int64_t take_longest_task_cpu_ns();

 private:
  friend class TaskMeter;
  friend class Turn;
  friend class TimerWheel;
  void begin_turn() {
    if (depth_++ != 0) return;
    ++turns_;
    refresh_time();
  }
  void end_turn();
  bool settle();  // turn ends and deferred objects, until none is left; whether there was any
  void run_posted(std::vector<std::function<void()>>& tasks);
  void on_wake();
  void end_round();
  void on_leisure();
  void refresh_time();

  uv_loop_t uv_;
  uv_async_t wake_;
  uv_prepare_t round_;
  uv_idle_t leisure_;  // runs while somebody waits: then the loop does not wait for events
  std::unique_ptr<TimerWheel> timers_;
  std::mutex post_mutex_;
  std::vector<std::function<void()>> posted_;   // under post_mutex_
  bool posts_closed_ = false;                   // under post_mutex_
  std::vector<std::function<void()>> running_;  // its capacity is reused
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned long> thread_{0};
  int depth_ = 0;
  uint32_t turns_ = 0, waits_after_ = 0;
  bool once_ = false;  // in run_once(): waits only if turns_ is waits_after_ still
  List<TurnEnd, TurnEndTag> turn_ends_, round_ends_, waits_for_leisure_;
  int64_t long_ns_ = 0;  // in this round
  std::vector<std::unique_ptr<Deferred>> deferred_;
  int64_t now_ns_ = 0;
  int64_t wall_offset_us_ = 0;
  int64_t wall_read_ns_ = 0;
  // Written by the loop's thread and, to zero, by the one that asks.
  std::atomic<int64_t> longest_turn_ns_{0}, longest_task_cpu_ns_{0};
  uint64_t random_[4];
};

// Around the turn of a posted task or timer.
class TaskMeter {
 public:
  explicit TaskMeter(Loop& loop);
  ~TaskMeter();
  TaskMeter(const TaskMeter&) = delete;
  TaskMeter& operator=(const TaskMeter&) = delete;

 private:
  Loop& loop_;
  const int64_t begin_ns_;
};

// Opened by every libuv callback of ours.
class Turn {
 public:
  explicit Turn(Loop& loop) : loop_(loop) { loop_.begin_turn(); }
  ~Turn() { loop_.end_turn(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Loop& loop_;
};

}  // namespace outrigger::event
