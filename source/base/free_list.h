// FreeList<T, keep>: memory for objects of one kind, used again: up to `keep` pieces, the rest is the heap's. Free
// memory is poisoned under AddressSanitizer, so that what is used after it was given back is seen.
//
// Thread rule: one thread.
// Use:  T* t = new (list.take()) T(...);   ...   t->~T();  list.give(t);
#pragma once

#include <sanitizer/asan_interface.h>

#include <cstddef>
#include <new>
#include <vector>

namespace outrigger {

template <class T, size_t kKeep>
class FreeList {
 public:
  FreeList() = default;
  FreeList(const FreeList&) = delete;
  FreeList& operator=(const FreeList&) = delete;
  ~FreeList() {
    for (void* const memory : free_) {
      ASAN_UNPOISON_MEMORY_REGION(memory, sizeof(T));
      release(memory);
    }
  }

  void* take() {
    if (free_.empty()) return ::operator new (sizeof(T), std::align_val_t{alignof(T)});
    void* const memory = free_.back();
    free_.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(memory, sizeof(T));
    return memory;
  }
  void give(void* memory) {
    if (free_.size() >= kKeep) return release(memory);
    ASAN_POISON_MEMORY_REGION(memory, sizeof(T));
    free_.push_back(memory);
  }

 private:
  static void release(void* memory) { ::operator delete (memory, std::align_val_t{alignof(T)}); }

  std::vector<void*> free_;
};

}  // namespace outrigger
