// Arena: bump memory of one stream. Everything that a request's heads need lives here and goes back to the worker's
// block pool in one step when the stream ends. Destructors of what is placed in it are the caller's duty.
//
// Thread rule: one thread, the one that made it.
// Use:  std::string_view name = arena.copy(text);   auto* f = arena.make<MyFilter>(handle);
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

namespace outrigger {

struct Block;  // base/block.h

class Arena {
 public:
  static constexpr size_t kDefaultLimit = 1024 * 1024;  // bytes

  explicit Arena(size_t limit_bytes = kDefaultLimit) : limit_(limit_bytes) {}
  ~Arena() { reset(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Memory of `size` bytes, or nullptr when the arena's limit would be passed. `align` is at most 16.
  void* try_allocate(size_t size, size_t align = 8) {
    uintptr_t at = (cursor_ + align - 1) & ~(static_cast<uintptr_t>(align) - 1);
    if (at + size <= end_) [[likely]] {
      cursor_ = at + size;
      return reinterpret_cast<void*>(at);
    }
    return allocate_slow(size, align);
  }

  // A copy of `text`, or an empty view with data() == nullptr when the limit would be passed.
  std::string_view copy(std::string_view text);

  // Constructs a T here; nullptr when the limit would be passed.
  template <class T, class... Args>
  T* make(Args&&... args) {
    void* at = try_allocate(sizeof(T), alignof(T));
    return at == nullptr ? nullptr : new (at) T(std::forward<Args>(args)...);
  }

  // Takes over all memory of `other`, which is empty afterwards; what lies in it stays where it is.
  void take(Arena& other);

  // Gives all memory back. Views into the arena dangle afterwards.
  void reset();

  size_t bytes_reserved() const { return reserved_; }

 private:
  void* allocate_slow(size_t size, size_t align);

  uintptr_t cursor_ = 0;
  uintptr_t end_ = 0;
  Block* blocks_ = nullptr;  // newest first
  size_t reserved_ = 0;
  size_t limit_;
};

}  // namespace outrigger
