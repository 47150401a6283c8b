// Counts what operator new is asked for. It replaces operator new of the whole program: include it in one file of a
// test binary.
//
// Thread rule: a thread counts its own.
// Use:  counting = true;  ...;  counting = false;  EXPECT_EQ(allocations, 0u);
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace outrigger::test {

inline thread_local bool counting = false;
inline thread_local size_t allocations = 0;

inline void* counted(size_t size) {
  if (counting) ++allocations;
  void* const at = std::malloc(size);
  if (at == nullptr) std::abort();
  return at;
}

}  // namespace outrigger::test

void* operator new(size_t size) { return outrigger::test::counted(size); }
void* operator new[](size_t size) { return outrigger::test::counted(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return outrigger::test::counted(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return outrigger::test::counted(size); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete[](void* at, size_t) noexcept { std::free(at); }
