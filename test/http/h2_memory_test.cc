// The recycled memory of HTTP/2's streams and tables.
#include "http/h2_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace outrigger::http {
namespace {

TEST(H2Memory, ChunksOfAllSizesHoldWhatTheyAreAskedFor) {
  std::vector<std::pair<char*, size_t>> held;
  for (int round = 0; round < 2; ++round) {  // new, then recycled
    for (size_t bytes = 1; bytes < 40'000; bytes += bytes < 5'000 ? 7 : 997) {
      auto* const at = static_cast<char*>(h2_allocate(bytes));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(at) % 8, 0u);
      std::memset(at, static_cast<char>(bytes), bytes);
      held.emplace_back(at, bytes);
    }
    for (const auto& [at, bytes] : held) {
      for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(at[i], static_cast<char>(bytes)) << bytes;
      h2_free(at);
    }
    held.clear();
  }
  h2_free(nullptr);
}

TEST(H2Memory, WhatIsGivenBackIsTakenAgain) {
  for (const size_t bytes : {40u, 300u, 4096u, 16'384u}) {
    void* const first = h2_allocate(bytes);
    h2_free(first);
    void* const second = h2_allocate(bytes);
    EXPECT_EQ(second, first) << bytes;
    h2_free(second);
  }
}

}  // namespace
}  // namespace outrigger::http
