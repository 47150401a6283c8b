// Loop: one thread's event loop (libuv), with cross-thread posts, deferred deletion and turn-end work.
//
// A *turn* is one callback from libuv with everything that it causes. Every libuv callback of ours opens a Turn; when the
// outermost one ends, the loop flushes what asked for it (connections write what was gathered) and then destroys what was
// given to defer_delete. So a request's head and body leave in one gathered write, and no object dies under its caller.
//
// Thread rule: construct, use and destroy on one thread (destroy after run() has returned); post() and stop() from any.
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
  ~Loop();  // closes its own handles; every other handle must be closed before (CHECKed)
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(). May be called again afterwards.
  void run();
  // One poll that waits at most until something happens (tests).
  void run_once();
  void stop();

  // Runs `task` on the loop's thread, in order of posting, in a turn of its own. False: the loop is shut for posts
  // (close_posts() was called or it is being destroyed) and the task was destroyed without running.
  bool post(std::function<void()> task);
  // From the loop's thread: runs what is queued, refuses later posts. The defined answer after the end.
  void close_posts();

  void defer_delete(std::unique_ptr<Deferred> object);
  // Asks for object.on_turn_end() at the end of this turn; idempotent.
  void at_turn_end(TurnEnd& object) {
    if (!object.linked()) turn_ends_.push_back(object);
  }

  // Steady time in ns, read once per turn: cheap, the same for all that a turn does.
  int64_t now_ns() const { return now_ns_; }
  // Wall clock in µs since 1970, derived from now_ns (an offset refreshed about once a second).
  int64_t wall_us() const;
  // A fast pseudo-random number (xoshiro; seeded from the kernel). Not for secrets.
  uint64_t random();

  bool on_thread() const;
  uv_loop_t* uv() { return &uv_; }
  TimerWheel& timers() { return *timers_; }

  // The longest turn since the last call, ns (admin, benchmarks; loop's thread).
  int64_t take_longest_turn_ns();

 private:
  friend class Turn;
  void begin_turn();
  void end_turn();
  void drain_posts();
  void refresh_time();

  uv_loop_t uv_;
  uv_async_t wake_;
  std::unique_ptr<TimerWheel> timers_;
  std::mutex post_mutex_;
  std::vector<std::function<void()>> posted_;
  bool posts_closed_ = false;
  std::atomic<bool> stopping_{false};
  int depth_ = 0;
  List<TurnEnd, TurnEndTag> turn_ends_;
  std::vector<std::unique_ptr<Deferred>> deferred_;
  int64_t now_ns_ = 0;
  int64_t wall_offset_us_ = 0;
  int64_t wall_read_ns_ = 0;
  int64_t longest_turn_ns_ = 0;
  uint64_t random_[4];
  unsigned long thread_ = 0;
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
