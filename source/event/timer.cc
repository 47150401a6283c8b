#include "event/timer.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "event/clock.h"
#include "event/loop.h"

namespace outrigger::event {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

size_t hint_slot(uint64_t ms) { return (ms * 0x9E3779B97F4A7C15ull) >> 58; }

}  // namespace

TimerWheel::TimerWheel(Loop& loop) : loop_(loop), timer_(new uv_timer_t) {
  CHECK(uv_timer_init(loop.uv(), timer_) == 0);
  timer_->data = this;
}

TimerWheel::~TimerWheel() {
  close();
  for (auto& queue : queues_)
    while (queue->list.pop_front() != nullptr) {
    }
}

void TimerWheel::close() {
  if (timer_ == nullptr) return;
  uv_close(reinterpret_cast<uv_handle_t*>(timer_), [](uv_handle_t* h) { delete reinterpret_cast<uv_timer_t*>(h); });
  timer_ = nullptr;
}

void TimerWheel::arm(Timeout& timeout, uint64_t ms) {
  if (!loop_.in_turn()) loop_.refresh_time();
  ms = std::min(ms, kMaxMs);
  Queue& queue = queue_for(ms);
  // A rounded-up duration may share a queue with the exact one: the queue's order is what counts, never early.
  int64_t deadline = loop_.now_ns() + static_cast<int64_t>(ms) * kNsPerMs;
  deadline = std::max(deadline, firing_ns_ + 1);
  timeout.unlink();
  if (Timeout* last = queue.list.back(); last != nullptr) deadline = std::max(deadline, last->deadline_ns_);
  timeout.deadline_ns_ = deadline;
  queue.list.push_back(timeout);
  if (scheduled_ns_ == 0 || deadline < scheduled_ns_) schedule(deadline);
}

TimerWheel::Queue& TimerWheel::queue_for(uint64_t ms) {
  if (Queue* queue = find(ms); queue != nullptr) return *queue;
  if (durations_ms_.size() < kMaxQueues) return put(ms);
  for (size_t i = 0; i < kMaxQueues; ++i) {  // those behind are for powers of two, which bounds their number
    if (!queues_[i]->list.empty()) continue;
    durations_ms_[i] = ms;
    return *queues_[i];
  }
  const uint64_t rounded = std::bit_ceil(ms);
  Queue* queue = find(rounded);
  return queue != nullptr ? *queue : put(rounded);
}

TimerWheel::Queue* TimerWheel::find(uint64_t ms) {
  uint8_t& hint = hint_[hint_slot(ms)];
  if (hint < durations_ms_.size() && durations_ms_[hint] == ms) [[likely]]
    return queues_[hint].get();
  const auto it = std::find(durations_ms_.begin(), durations_ms_.end(), ms);
  if (it == durations_ms_.end()) return nullptr;
  hint = static_cast<uint8_t>(it - durations_ms_.begin());
  return queues_[hint].get();
}

TimerWheel::Queue& TimerWheel::put(uint64_t ms) {
  durations_ms_.push_back(ms);
  queues_.push_back(std::make_unique<Queue>());
  CHECK(queues_.size() <= kMaxQueues + 64);  // powers of two
  return *queues_.back();
}

Timeout* TimerWheel::earliest() {
  Timeout* first = nullptr;
  for (auto& queue : queues_) {
    Timeout* front = queue->list.front();
    if (front != nullptr && (first == nullptr || front->deadline_ns_ < first->deadline_ns_)) first = front;
  }
  return first;
}

void TimerWheel::schedule(int64_t deadline_ns) {
  if (timer_ == nullptr) return;
  scheduled_ns_ = deadline_ns;
  uint64_t ms;
  if (test_clock_set()) {
    ms = static_cast<uint64_t>(std::max<int64_t>(0, deadline_ns - loop_.now_ns() + kNsPerMs - 1) / kNsPerMs);
  } else {
    // libuv's time is the same clock in whole ms, as of the beginning of its iteration.
    const int64_t due_ms = (deadline_ns + kNsPerMs - 1) / kNsPerMs;
    ms = static_cast<uint64_t>(std::max<int64_t>(0, due_ms - static_cast<int64_t>(uv_now(loop_.uv()))));
  }
  const auto callback = [](uv_timer_t* timer) {
    auto* wheel = static_cast<TimerWheel*>(timer->data);
    wheel->scheduled_ns_ = 0;
    wheel->fire_due();
  };
  CHECK(uv_timer_start(timer_, callback, ms, 0) == 0);
}

void TimerWheel::fire_due() {
  const int64_t now = steady_ns();
  firing_ns_ = now;
  Timeout* first;
  while ((first = earliest()) != nullptr && first->deadline_ns_ <= now) {
    TaskMeter meter(loop_);
    Turn turn(loop_);
    first->unlink();
    first->callback_(first->owner_);
  }
  firing_ns_ = 0;
  if (first != nullptr && (scheduled_ns_ == 0 || first->deadline_ns_ < scheduled_ns_)) schedule(first->deadline_ns_);
}

}  // namespace outrigger::event
