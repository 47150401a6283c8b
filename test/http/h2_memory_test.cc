// The memory of nghttp2's sessions.
#include "http/h2_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace outrigger::http {
namespace {

constexpr size_t kFrameBuffer = 16'394;  // what nghttp2 1.52 asks for, once a session
constexpr size_t kTable = 4096;          // as 256 buckets of 16 bytes

// As nghttp2 calls it.
struct Session {
  H2Memory memory;
  nghttp2_mem functions = memory.functions();
  std::vector<char*> held;

  char* allocate(size_t bytes) {
    return held.emplace_back(static_cast<char*>(functions.malloc(bytes, functions.mem_user_data)));
  }
  char* table() {
    return held.emplace_back(static_cast<char*>(functions.calloc(kTable / 16, 16, functions.mem_user_data)));
  }
  void free(char* at) { functions.free(at, functions.mem_user_data); }
  ~Session() {
    for (char* const at : held) free(at);
  }
};

std::vector<std::unique_ptr<Session>> sessions(size_t count) {
  std::vector<std::unique_ptr<Session>> all(count);
  for (auto& one : all) one = std::make_unique<Session>();
  return all;
}

TEST(H2Memory, AllSessionsHaveOneFrameBuffer) {
  const auto all = sessions(100);
  for (const auto& one : all) {
    const H2Memory::Framing framing(one->memory);
    char* const buffer = one->allocate(kFrameBuffer);
    EXPECT_EQ(buffer, all[0]->held[0]);
    std::memset(one->held[0], 1, kFrameBuffer);
    char* const second = one->allocate(kFrameBuffer);  // a head that takes two
    EXPECT_NE(second, buffer);
    std::memset(one->held[1], 2, kFrameBuffer);
  }
  const H2Memory::Framing framing(all[0]->memory);
  char* const later = all[0]->allocate(kFrameBuffer);
  EXPECT_NE(later, all[0]->held[0]);  // only what session_new asks for is the buffer
}

TEST(H2Memory, TheFrameBufferIsOneSessionsAtATime) {
  Session first, second;
  EXPECT_DEATH(first.allocate(kFrameBuffer), "");
  const H2Memory::Framing framing(first.memory);
  const H2Memory::Framing again(first.memory);
  first.allocate(kFrameBuffer);
  EXPECT_DEATH(H2Memory::Framing(second.memory), "");
  EXPECT_DEATH(second.allocate(kFrameBuffer), "");
}

TEST(H2Memory, ATableWithNothingInItTakesNoMemoryAtRest) {
  const auto all = sessions(600);
  for (const auto& one : all) {
    char* const table = one->table();
    for (size_t i = 0; i < kTable; ++i) ASSERT_EQ(table[i], 0);
    table[2528] = 1;  // stream 1
  }
  EXPECT_EQ(h2_resident_tables(), 600u);
  for (size_t i = 0; i < 600; ++i) {
    EXPECT_FALSE(all[i]->memory.rest());
    if (i >= 10) all[i]->held[0][2528] = 0;
  }
  for (size_t i = 0; i < 600; ++i) EXPECT_EQ(all[i]->memory.rest(), i >= 10);
  EXPECT_EQ(h2_resident_tables(), 10u);
  for (const auto& one : all) EXPECT_EQ(one->held[0][2528], one->memory.rest() ? 0 : 1);
  for (const auto& one : all) one->held[0][0] = 1;  // and are good for use again
  EXPECT_EQ(h2_resident_tables(), 600u);
}

TEST(H2Memory, TablesThatWereUsedAreZeroesAgain) {
  for (int round = 0; round < 3; ++round) {
    const auto all = sessions(200);
    for (const auto& one : all) {
      char* const table = one->table();
      for (size_t i = 0; i < kTable; ++i) ASSERT_EQ(table[i], 0);
      std::memset(table, 7, kTable);
    }
  }
  EXPECT_EQ(h2_resident_tables(), 0u);
}

TEST(H2Memory, ChunksGrowAndKeepWhatTheyHold) {
  Session session;
  for (size_t first = 1; first < 40'000; first += first < 5'000 ? 1 : 997) {
    const auto again = [&] { return static_cast<char*>(session.functions.calloc(1, first, &session.memory)); };
    auto* at = static_cast<char*>(session.functions.malloc(first, &session.memory));
    std::memset(at, 7, first);
    at = static_cast<char*>(session.functions.realloc(at, 3 * first, &session.memory));
    for (size_t i = 0; i < first; ++i) ASSERT_EQ(at[i], 7) << first;
    std::memset(at, 8, 3 * first);
    session.free(at);
    char* zeros = again();
    for (size_t i = 0; i < first; ++i) ASSERT_EQ(zeros[i], 0) << first;
    std::memset(zeros, 9, first);
    zeros = static_cast<char*>(session.functions.realloc(zeros, first + 1, &session.memory));
    for (size_t i = 0; i < first; ++i) ASSERT_EQ(zeros[i], 9) << first;
    session.free(zeros);
  }
}

}  // namespace
}  // namespace outrigger::http
