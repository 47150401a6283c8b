#include "outrigger/header_map.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/block.h"

namespace outrigger {
namespace {

std::string dump(const HeaderMap& map) {
  std::string out;
  map.for_each([&](const Header& h) { out.append(h.name).append("=").append(h.value).append(";"); });
  return out;
}

TEST(Arena, AlignsCopiesAndStopsAtItsLimit) {
  const size_t before = BlockPool::local().blocks_in_use();
  {
    Arena arena(2 * Block::kSmall);
    EXPECT_EQ(arena.copy("").size(), 0u);
    EXPECT_NE(arena.copy("").data(), nullptr);  // an empty text is not an overflow
    EXPECT_EQ(arena.bytes_reserved(), 0u);
    EXPECT_EQ(arena.copy("text"), "text");
    for (const size_t align : {1, 2, 4, 8, 16})
      EXPECT_EQ(reinterpret_cast<uintptr_t>(arena.try_allocate(3, align)) % align, 0u);
    EXPECT_EQ(*arena.make<int>(7), 7);
    EXPECT_EQ(arena.try_allocate(Block::kLarge), nullptr);  // beyond the limit, and the arena goes on
    EXPECT_NE(arena.try_allocate(Block::kSmall - 16), nullptr);
    EXPECT_EQ(arena.copy(std::string(Block::kSmall, 'x')).data(), nullptr);
    EXPECT_EQ(arena.bytes_reserved(), 2u * Block::kSmall);
    arena.reset();
    EXPECT_EQ(arena.bytes_reserved(), 0u);
    EXPECT_NE(arena.try_allocate(100), nullptr);
  }
  EXPECT_EQ(BlockPool::local().blocks_in_use(), before);
}

TEST(Arena, ManyAllocationsDoNotOverlap) {
  Arena arena;
  std::vector<std::pair<char*, size_t>> all;
  for (size_t i = 0; i < 2000; ++i) {
    const size_t size = 1 + i * 37 % 300;
    char* at = static_cast<char*>(arena.try_allocate(size, size_t{1} << (i % 5)));
    ASSERT_NE(at, nullptr);
    std::memset(at, static_cast<int>(i), size);
    all.emplace_back(at, size);
  }
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t j = 0; j < all[i].second; ++j) ASSERT_EQ(all[i].first[j], static_cast<char>(i));
}

TEST(HeaderIds, EveryNameFindsItsIdAndNoOther) {
  for (size_t i = 1; i < kHeaderIdCount; ++i) {
    const auto id = static_cast<HeaderId>(i);
    const std::string name(header_name(id));
    EXPECT_EQ(find_header_id(name), id);
    EXPECT_EQ(find_header_id(name + "x"), HeaderId::kNone);
    EXPECT_EQ(find_header_id(name.substr(1)), name == "te" ? HeaderId::kNone : find_header_id(name.substr(1)));
  }
  for (const char* name : {"", "x", "Host", "HOST", "unknown", ":", "x-forwarded"})
    EXPECT_EQ(find_header_id(name), HeaderId::kNone) << name;
}

TEST(HeaderMap, AddsFindsAndKeepsOrder) {
  Arena arena;
  HeaderMap map(arena);
  map.add("Content-Type", "text/plain");
  map.add("X-Mine", "1");
  map.add(HeaderId::kHost, "a.test");
  map.add("x-mine", "2");
  EXPECT_EQ(dump(map), "content-type=text/plain;x-mine=1;host=a.test;x-mine=2;");
  EXPECT_EQ(map.get(HeaderId::kContentType), "text/plain");
  EXPECT_EQ(map.get("host"), "a.test");
  EXPECT_EQ(map.get("x-mine"), "1");
  EXPECT_EQ(map.get_all("x-mine"), "1,2");
  EXPECT_EQ(map.get_all("host"), "a.test");
  EXPECT_EQ(map.get_all("none"), "");
  EXPECT_TRUE(map.has(HeaderId::kHost));
  EXPECT_FALSE(map.has(HeaderId::kCookie));
  EXPECT_EQ(map.find("none"), nullptr);
  EXPECT_EQ(map.size(), 4u);
  EXPECT_EQ(map.byte_size(), 22u + 7 + 10 + 7);
}

TEST(HeaderMap, SetReplacesAllOfAName) {
  Arena arena;
  HeaderMap map(arena);
  for (const char* value : {"1", "2", "3"}) {
    map.add("via", value);
    map.add("x-own", value);
  }
  map.set("via", "v");
  map.set("x-own", "w");
  map.set("fresh", "f");
  map.set(HeaderId::kServer, "s");
  EXPECT_EQ(dump(map), "via=v;x-own=w;fresh=f;server=s;");
  map.set(HeaderId::kVia, "v2");
  EXPECT_EQ(map.get("via"), "v2");
  EXPECT_EQ(map.size(), 4u);
  EXPECT_EQ(map.byte_size(), 5u + 6 + 6 + 7);
}

TEST(HeaderMap, RemoveAndItsIndexes) {
  Arena arena;
  HeaderMap map(arena);
  map.add("cookie", "a");
  map.add("x-own", "b");
  map.add("cookie", "c");
  map.remove_if([](const Header& h) { return h.value == "a"; });
  EXPECT_EQ(map.get(HeaderId::kCookie), "c");  // the next one is the first now
  EXPECT_EQ(map.remove("x-own"), 1u);
  EXPECT_EQ(map.remove("x-own"), 0u);
  EXPECT_EQ(map.remove(HeaderId::kCookie), 1u);
  EXPECT_FALSE(map.has(HeaderId::kCookie));
  EXPECT_EQ(map.size(), 0u);
  EXPECT_EQ(map.byte_size(), 0u);
  map.add("cookie", "again");
  EXPECT_EQ(map.get("cookie"), "again");
  EXPECT_EQ(dump(map), "cookie=again;");
}

TEST(HeaderMap, EmptyValuesAreKept) {
  Arena arena;
  HeaderMap map(arena);
  map.add("x-empty", "");
  map.set("host", "");
  EXPECT_EQ(dump(map), "x-empty=;host=;");
  EXPECT_FALSE(map.overflowed());
}

TEST(HeaderMap, OverflowIsRememberedAndNothingIsHalfDone) {
  Arena arena(Block::kSmall);
  HeaderMap map(arena);
  map.add("first", "1");
  const std::string big(10'000, 'x');
  map.add("fits", big);
  EXPECT_FALSE(map.overflowed());
  map.add("does-not", big);
  EXPECT_TRUE(map.overflowed());
  map.set("first", big);
  EXPECT_EQ(map.get("first"), "1");
  EXPECT_EQ(map.find("does-not"), nullptr);
  EXPECT_EQ(map.size(), 2u);
}

TEST(HeaderMap, ManyFieldsUntilItsTableFillsABlock) {
  Arena arena(16 * 1024 * 1024);
  HeaderMap map(arena);
  for (int i = 0; i < 1536; ++i) map.add("h" + std::to_string(i), std::to_string(i));
  EXPECT_FALSE(map.overflowed());
  EXPECT_EQ(map.size(), 1536u);
  EXPECT_EQ(map.get("h1535"), "1535");
  map.add("one", "too many");
  EXPECT_TRUE(map.overflowed());
  EXPECT_EQ(map.size(), 1536u);
}

}  // namespace
}  // namespace outrigger
