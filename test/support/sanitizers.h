// Which sanitizer this program is built with: instrumented programs are slow and large, so tests do less of what takes
// long, and bounds of time and memory are wider.
//
// Use:  constexpr int kChanges = kInstrumented ? 20 : 100;
#pragma once

namespace outrigger::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
// Its programs have files that are not instrumented (CMakeLists.txt).
#if defined(__SANITIZE_THREAD__) || defined(OUTRIGGER_UNSEEN_BY_TSAN)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
inline constexpr bool kInstrumented = kAddressSanitizer || kThreadSanitizer;

}  // namespace outrigger::test
