// CHECK(condition): our own mistakes stop the process, in release too. What the world does wrong is a Result instead.
#pragma once

namespace outrigger {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define CHECK(condition)                                         \
  do {                                                           \
    if (!(condition)) [[unlikely]]                               \
      ::outrigger::check_failed(#condition, __FILE__, __LINE__); \
  } while (0)
