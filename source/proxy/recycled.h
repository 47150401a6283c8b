// Recycled<T>: memory for objects that come and go with requests. What is retired is destroyed at the turn's end, so a
// callback never destroys its caller, and its memory is used again.
//
// Thread rule: one thread.
// Use:  T* t = new (pool.memory()) T(...);   ...   pool.retire(*t);   // at the turn's end: pool.sweep();
#pragma once

#include <vector>

#include "base/free_list.h"

namespace outrigger::proxy {

template <class T>
class Recycled {
 public:
  Recycled() = default;
  Recycled(const Recycled&) = delete;
  Recycled& operator=(const Recycled&) = delete;

  void* memory() { return free_.take(); }
  void retire(T& object) { retired_.push_back(&object); }
  bool any_retired() const { return !retired_.empty(); }

  // Destroys what was retired, also what is retired meanwhile.
  void sweep() {
    while (!retired_.empty()) {
      T* object = retired_.back();
      retired_.pop_back();
      object->~T();
      free_.give(object);
    }
  }

 private:
  FreeList<T, 1024> free_;
  std::vector<T*> retired_;
};

}  // namespace outrigger::proxy
