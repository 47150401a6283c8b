// operator new of the whole program, counted (support/count_allocations.h): for one file of a test binary.
#pragma once

#include <new>

#include "support/count_allocations.h"

void* operator new(size_t size) { return outrigger::test::counted(size); }
void* operator new[](size_t size) { return outrigger::test::counted(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return outrigger::test::counted(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return outrigger::test::counted(size); }
void operator delete(void* at) noexcept { outrigger::test::discounted(at); }
void operator delete[](void* at) noexcept { outrigger::test::discounted(at); }
void operator delete(void* at, size_t) noexcept { outrigger::test::discounted(at); }
void operator delete[](void* at, size_t) noexcept { outrigger::test::discounted(at); }
