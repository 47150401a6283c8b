// Recycled<T>: memory for objects that come and go with requests. What is retired is destroyed at the turn's end, so a
// callback never destroys its caller, and its memory is used again. Free memory is poisoned under AddressSanitizer.
//
// Thread rule: one thread.
// Use:  T* t = new (pool.memory()) T(...);   ...   pool.retire(*t);   // at the turn's end: pool.sweep();
#pragma once

#include <sanitizer/asan_interface.h>

#include <cstddef>
#include <new>
#include <vector>

namespace outrigger::proxy {

template <class T>
class Recycled {
 public:
  Recycled() = default;
  Recycled(const Recycled&) = delete;
  Recycled& operator=(const Recycled&) = delete;
  ~Recycled() {
    for (void* memory : free_) {
      ASAN_UNPOISON_MEMORY_REGION(memory, sizeof(T));
      ::operator delete (memory, std::align_val_t{alignof(T)});
    }
  }

  void* memory() {
    if (free_.empty()) return ::operator new (sizeof(T), std::align_val_t{alignof(T)});
    void* memory = free_.back();
    free_.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(memory, sizeof(T));
    return memory;
  }
  void retire(T& object) { retired_.push_back(&object); }
  bool any_retired() const { return !retired_.empty(); }

  // Destroys what was retired, also what is retired meanwhile.
  void sweep() {
    while (!retired_.empty()) {
      T* object = retired_.back();
      retired_.pop_back();
      object->~T();
      if (free_.size() < kKeep) {
        ASAN_POISON_MEMORY_REGION(object, sizeof(T));
        free_.push_back(object);
      } else {
        ::operator delete (static_cast<void*>(object), std::align_val_t{alignof(T)});
      }
    }
  }

 private:
  static constexpr size_t kKeep = 1024;
  std::vector<void*> free_;
  std::vector<T*> retired_;
};

}  // namespace outrigger::proxy
