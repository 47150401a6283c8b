// Pool: bump memory of one route table: texts and small compiled structs without destructors. It grows in blocks and is
// freed as a whole with the table.
//
// Thread rule: filled on the builder thread, read by any.
// Use:  Pool pool;  std::string_view own = pool.copy(text);  auto* action = pool.make<ForwardAction>();
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace outrigger::route {

class Pool {
 public:
  // `first_block`: bytes of the first block; the later ones grow from there.
  explicit Pool(size_t first_block = 512) : next_block_(first_block) {}

  void* allocate(size_t size, size_t align) {
    uintptr_t at = (cursor_ + align - 1) & ~(static_cast<uintptr_t>(align) - 1);
    if (at + size > end_) {
      const size_t block = std::max(size + align, next_block_);
      next_block_ = std::min<size_t>(next_block_ * 2, 64 * 1024);
      blocks_.push_back(std::make_unique_for_overwrite<char[]>(block));
      cursor_ = reinterpret_cast<uintptr_t>(blocks_.back().get());
      end_ = cursor_ + block;
      at = (cursor_ + align - 1) & ~(static_cast<uintptr_t>(align) - 1);
    }
    cursor_ = at + size;
    return reinterpret_cast<void*>(at);
  }

  std::string_view copy(std::string_view text) {
    if (text.empty()) return {"", 0};
    char* at = static_cast<char*>(allocate(text.size(), 1));
    std::memcpy(at, text.data(), text.size());
    return {at, text.size()};
  }

  template <class T, class... Args>
  T* make(Args&&... args) {
    static_assert(std::is_trivially_destructible_v<T>);
    return new (allocate(sizeof(T), alignof(T))) T{std::forward<Args>(args)...};
  }

  template <class T>
  std::span<T> array(size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    if (count == 0) return {};
    T* at = static_cast<T*>(allocate(sizeof(T) * count, alignof(T)));
    std::uninitialized_value_construct_n(at, count);
    return {at, count};
  }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  uintptr_t cursor_ = 0;
  uintptr_t end_ = 0;
  size_t next_block_;
};

}  // namespace outrigger::route
