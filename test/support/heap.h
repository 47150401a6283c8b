// How much of the heap is taken, by libraries too.
//
// Thread rule: any; other threads' memory counts.
// Use:  const size_t before = heap_in_use();  ...;  EXPECT_LT(heap_in_use() - before, 4096u);
#pragma once

#include <malloc.h>

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
extern "C" size_t __sanitizer_get_current_allocated_bytes();  // GCC has no header for it
#endif

namespace outrigger::test {

inline size_t heap_in_use() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return __sanitizer_get_current_allocated_bytes();
#else
  return mallinfo2().uordblks;
#endif
}

}  // namespace outrigger::test
