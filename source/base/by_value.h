// ByValue: a value that most of its owners lack, or that many of them have alike. Copies share it; two are equal if
// both are empty or their values are. 8 bytes, and nothing beside them while it is empty.
//
// Thread rule: a value; what is held is immutable and may be held by any number of threads.
// Use:  ByValue<HealthCheckSpec> check;  check = HealthCheckSpec{...};  if (check) use(check->path);
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace outrigger {

template <class T>
class ByValue {
 public:
  ByValue() = default;
  ByValue(T value) : held_(new Held{{1}, std::move(value)}) {}  // NOLINT: as std::optional
  ByValue(const ByValue& other) : held_(other.held_) {
    if (held_ != nullptr) held_->holds.fetch_add(1, std::memory_order_relaxed);
  }
  ByValue(ByValue&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
  ByValue& operator=(ByValue other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  ~ByValue() {
    if (held_ != nullptr && held_->holds.fetch_sub(1, std::memory_order_acq_rel) == 1) delete held_;
  }

  explicit operator bool() const { return held_ != nullptr; }
  const T* get() const { return held_ == nullptr ? nullptr : &held_->value; }
  const T& operator*() const { return held_->value; }
  const T* operator->() const { return &held_->value; }
  // Of those that hold the same value; 0: empty.
  uint32_t holds() const { return held_ == nullptr ? 0 : held_->holds.load(std::memory_order_acquire); }
  bool operator==(const ByValue& other) const {
    return held_ == other.held_ || (held_ != nullptr && other.held_ != nullptr && held_->value == other.held_->value);
  }

 private:
  struct Held {
    std::atomic<uint32_t> holds;
    const T value;
  };
  Held* held_ = nullptr;
};

}  // namespace outrigger
