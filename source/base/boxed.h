// Boxed: a value that is mostly absent, on the heap: an std::optional that takes 8 bytes while it is empty. Copies are
// deep; two are equal if both are empty or their values are.
//
// Thread rule: a value.
// Use:  Boxed<TlsSpec> tls;  tls = TlsSpec{...};  if (tls) use(tls->common);
#pragma once

#include <memory>
#include <optional>
#include <utility>

namespace outrigger {

template <class T>
class Boxed {
 public:
  Boxed() = default;
  Boxed(T value) : value_(std::make_unique<T>(std::move(value))) {}  // NOLINT: as std::optional
  Boxed(std::optional<T> value)                                      // NOLINT: likewise
      : value_(value ? std::make_unique<T>(std::move(*value)) : nullptr) {}
  Boxed(const Boxed& other) : value_(other.value_ == nullptr ? nullptr : std::make_unique<T>(*other.value_)) {}
  Boxed(Boxed&&) noexcept = default;
  Boxed& operator=(Boxed other) noexcept {
    value_ = std::move(other.value_);
    return *this;
  }
  ~Boxed() = default;

  // The value, made now if there is none.
  T& make() {
    if (value_ == nullptr) value_ = std::make_unique<T>();
    return *value_;
  }
  void reset() { value_ = nullptr; }

  explicit operator bool() const { return value_ != nullptr; }
  bool has_value() const { return value_ != nullptr; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return value_.get(); }
  const T* operator->() const { return value_.get(); }
  bool operator==(const Boxed& other) const {
    return value_ == other.value_ || (value_ != nullptr && other.value_ != nullptr && *value_ == *other.value_);
  }

 private:
  std::unique_ptr<T> value_;
};

}  // namespace outrigger
