// What operator new is asked for, counted. The operators of the whole program are replaced by support/replace_new.h,
// which one file of a test binary includes.
//
// Thread rule: a thread counts its own.
// Use:  counting = true;  ...;  counting = false;  EXPECT_EQ(allocations, 0u);
#pragma once

#include <malloc.h>

#include <cstddef>
#include <cstdlib>

namespace outrigger::test {

inline thread_local bool counting = false;
inline thread_local size_t allocations = 0;
// Bytes of the heap, taken and not given back while counting; with malloc's own.
inline thread_local ptrdiff_t held_bytes = 0;

inline ptrdiff_t heap_bytes(void* at) { return static_cast<ptrdiff_t>(malloc_usable_size(at) + sizeof(size_t)); }

inline void* counted(size_t size) {
  void* const at = std::malloc(size);
  if (at == nullptr) std::abort();
  if (counting) {
    ++allocations;
    held_bytes += heap_bytes(at);
  }
  return at;
}
inline void discounted(void* at) {
  if (counting && at != nullptr) held_bytes -= heap_bytes(at);
  std::free(at);
}

}  // namespace outrigger::test
