// The memory of nghttp2's sessions.
#include "http/h2_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace outrigger::http {
namespace {

constexpr size_t kFrameBuffer = 16'394;  // what nghttp2 1.52 asks for, once a session
constexpr size_t kWritten = 100;         // of it, by control frames and small heads

size_t resident_pages(void* at, size_t bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto from = reinterpret_cast<uintptr_t>(at) / page * page;
  const size_t pages = (reinterpret_cast<uintptr_t>(at) + bytes - from + page - 1) / page;
  std::vector<unsigned char> in(pages);
  if (::mincore(reinterpret_cast<void*>(from), pages * page, in.data()) != 0) return 0;
  size_t count = 0;
  for (const unsigned char one : in) count += one & 1;
  return count;
}

TEST(H2Memory, AFrameBufferTakesWhatIsWrittenOfIt) {
  // What the heap would give again.
  std::vector<std::vector<char>> large(300, std::vector<char>(kFrameBuffer, 'x'));
  large.clear();
  std::vector<void*> held;
  const auto take = [&] {
    size_t pages = 0;
    for (int i = 0; i < 300; ++i) {
      held.push_back(h2_allocate(kFrameBuffer));
      std::memset(held.back(), 1, kWritten);
      pages += resident_pages(held.back(), kFrameBuffer);
    }
    return pages;
  };
  const auto give = [&](size_t written) {
    for (void* const one : held) {
      std::memset(one, 1, written);
      h2_free(one);
    }
    held.clear();
  };
  EXPECT_EQ(take(), 300u);
  give(kFrameBuffer);
  // Most of those that are free have given their memory back; 64 keep it.
  EXPECT_LE(take(), 300u + 64 * 4);
  give(kWritten);
}

TEST(H2Memory, ChunksGrowAndKeepWhatTheyHold) {
  nghttp2_mem* const memory = h2_memory();
  for (const size_t first : {1u, 32u, 33u, 100u, 4'000u, 4'096u, 5'000u, 11'000u, 16'394u, 20'464u, 20'465u}) {
    auto* at = static_cast<char*>(memory->malloc(first, nullptr));
    std::memset(at, 7, first);
    at = static_cast<char*>(memory->realloc(at, 3 * first, nullptr));
    for (size_t i = 0; i < first; ++i) ASSERT_EQ(at[i], 7) << first;
    std::memset(at, 8, 3 * first);
    memory->free(at, nullptr);
    auto* const zeros = static_cast<char*>(memory->calloc(1, first, nullptr));
    for (size_t i = 0; i < first; ++i) ASSERT_EQ(zeros[i], 0) << first;
    memory->free(zeros, nullptr);
  }
}

}  // namespace
}  // namespace outrigger::http
