#include "event/loop.h"

#include <pthread.h>
#include <sys/random.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/check.h"
#include "event/clock.h"
#include "event/timer.h"

namespace outrigger::event {
namespace {

constexpr int64_t kWallRefreshNs = 1'000'000'000;

uint64_t rotate_left(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

}  // namespace

Loop::Loop() : thread_(pthread_self()) {
  CHECK(uv_loop_init(&uv_) == 0);
  uv_.data = this;
  CHECK(uv_async_init(&uv_, &wake_, [](uv_async_t* handle) { static_cast<Loop*>(handle->data)->on_wake(); }) == 0);
  wake_.data = this;
  // libuv prepares after timers and closed handles, right before it waits; what its waiting then finds belongs to the
  // next round.
  CHECK(uv_prepare_init(&uv_, &round_) == 0);
  round_.data = this;
  uv_prepare_start(&round_, [](uv_prepare_t* handle) { static_cast<Loop*>(handle->data)->end_round(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&round_));
  CHECK(uv_idle_init(&uv_, &leisure_) == 0);
  leisure_.data = this;
  CHECK(getrandom(random_, sizeof(random_), 0) == static_cast<ssize_t>(sizeof(random_)));
  random_[0] |= 1;  // xoshiro's state must not be all zero
  refresh_time();
  timers_ = std::make_unique<TimerWheel>(*this);
}

Loop::~Loop() {
  thread_.store(pthread_self(), std::memory_order_relaxed);
  std::vector<std::function<void()>> never_run;
  {
    std::lock_guard lock(post_mutex_);
    posts_closed_ = true;
    never_run.swap(posted_);
  }
  never_run.clear();  // what the tasks own may still defer or close something
  { Turn turn(*this); }
  timers_->close();
  end_round();
  uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&round_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&leisure_), nullptr);
  int rc;
  while ((rc = uv_loop_close(&uv_)) == UV_EBUSY) {
    uv_walk(
        &uv_, [](uv_handle_t* handle, void*) { CHECK(uv_is_closing(handle)); }, nullptr);
    uv_run(&uv_, UV_RUN_ONCE);
    Turn turn(*this);
  }
  CHECK(rc == 0);
}

void Loop::run() {
  thread_.store(pthread_self(), std::memory_order_relaxed);
  { Turn turn(*this); }
  if (stopping_.load(std::memory_order_acquire)) uv_async_send(&wake_);  // on_wake runs what was posted, then stops
  do {
    uv_run(&uv_, UV_RUN_DEFAULT);
  } while (!stopping_.load(std::memory_order_acquire));
  end_round();
  stopping_.store(false, std::memory_order_relaxed);
}

void Loop::run_once() {
  thread_.store(pthread_self(), std::memory_order_relaxed);
  begin_turn();
  const bool settled = settle();
  end_turn();
  waits_after_ = turns_;
  once_ = true;
  uv_run(&uv_, settled ? UV_RUN_NOWAIT : UV_RUN_ONCE);
  once_ = false;
}

void Loop::stop() {
  stopping_.store(true, std::memory_order_release);
  uv_async_send(&wake_);
}

bool Loop::post(std::function<void()> task) {
  std::lock_guard lock(post_mutex_);
  if (posts_closed_) return false;
  posted_.push_back(std::move(task));
  // Under the lock, so that the destructor cannot close wake_ in between.
  if (posted_.size() == 1) uv_async_send(&wake_);
  return true;
}

void Loop::close_posts() {
  CHECK(on_thread());
  std::vector<std::function<void()>> last;
  {
    std::lock_guard lock(post_mutex_);
    posts_closed_ = true;
    last.swap(posted_);
  }
  run_posted(last);
}

void Loop::on_wake() {
  // Read before the queue is: what was posted before the stop() is then in the queue.
  const bool stopping = stopping_.load(std::memory_order_acquire);
  {
    std::lock_guard lock(post_mutex_);
    running_.swap(posted_);
  }
  std::vector<std::function<void()>> tasks = std::move(running_);  // a task may call close_posts()
  run_posted(tasks);
  tasks.clear();
  running_ = std::move(tasks);
  if (stopping) uv_stop(&uv_);
}

void Loop::run_posted(std::vector<std::function<void()>>& tasks) {
  for (std::function<void()>& task : tasks) {
    TaskMeter meter(*this);
    Turn turn(*this);
    task();
    task = nullptr;  // what it holds is freed in its own turn
  }
}

void Loop::at_leisure(TurnEnd& object) {
  if (object.linked()) return;
  waits_for_leisure_.push_back(object);
  uv_idle_start(&leisure_, [](uv_idle_t* handle) { static_cast<Loop*>(handle->data)->on_leisure(); });
}

// libuv comes here right before it prepares: with what a round's long work has left of its time.
void Loop::on_leisure() {
  do {
    TurnEnd* const object = waits_for_leisure_.pop_front();
    if (object == nullptr) break;
    Turn turn(*this);
    object->on_turn_end();
  } while (long_ns_ < kLongNs);
  if (waits_for_leisure_.empty()) uv_idle_stop(&leisure_);
}

void Loop::end_round() {
  long_ns_ = 0;
  while (TurnEnd* object = round_ends_.pop_front()) {
    Turn turn(*this);
    object->on_turn_end();
  }
  if (once_ && turns_ != waits_after_) uv_async_send(&wake_);
}

void Loop::defer_delete(std::unique_ptr<Deferred> object) { deferred_.push_back(std::move(object)); }

void Loop::end_turn() {
  if (depth_ > 1) {
    --depth_;
    return;
  }
  settle();
  const int64_t turn_ns = steady_ns() - now_ns_;
  if (turn_ns > longest_turn_ns_.load(std::memory_order_relaxed))
    longest_turn_ns_.store(turn_ns, std::memory_order_relaxed);
  depth_ = 0;
}

bool Loop::settle() {
  bool any = false;
  while (true) {
    if (TurnEnd* object = turn_ends_.pop_front(); object != nullptr) {
      object->on_turn_end();
    } else if (!deferred_.empty()) {
      // The vector may grow while its objects are destroyed.
      for (size_t i = 0; i < deferred_.size(); ++i) std::exchange(deferred_[i], nullptr).reset();
      deferred_.clear();
    } else {
      return any;
    }
    any = true;
  }
}

void Loop::refresh_time() {
  now_ns_ = steady_ns();
  if (wall_read_ns_ == 0 || now_ns_ - wall_read_ns_ >= kWallRefreshNs) {
    wall_offset_us_ = test_clock_set() ? 0 : wall_clock_us() - now_ns_ / 1000;
    wall_read_ns_ = now_ns_;
  }
}

uint64_t Loop::random() {
  const uint64_t result = rotate_left(random_[1] * 5, 7) * 9;
  const uint64_t t = random_[1] << 17;
  random_[2] ^= random_[0];
  random_[3] ^= random_[1];
  random_[1] ^= random_[2];
  random_[0] ^= random_[3];
  random_[2] ^= t;
  random_[3] = rotate_left(random_[3], 45);
  return result;
}

bool Loop::on_thread() const { return thread_.load(std::memory_order_relaxed) == pthread_self(); }

int64_t Loop::take_longest_turn_ns() { return longest_turn_ns_.exchange(0, std::memory_order_relaxed); }
int64_t Loop::take_longest_task_cpu_ns() { return longest_task_cpu_ns_.exchange(0, std::memory_order_relaxed); }

namespace {

int64_t thread_cpu_ns() {
  timespec now{};
  CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

TaskMeter::TaskMeter(Loop& loop) : loop_(loop), begin_ns_(thread_cpu_ns()) {}

TaskMeter::~TaskMeter() {
  const int64_t took_ns = thread_cpu_ns() - begin_ns_;
  if (took_ns > loop_.longest_task_cpu_ns_.load(std::memory_order_relaxed))
    loop_.longest_task_cpu_ns_.store(took_ns, std::memory_order_relaxed);
}

}  // namespace outrigger::event
