// What is too small for a file of its own: List, hashes, the log's levels.
#include <gtest/gtest.h>

#include <string>

#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"

namespace outrigger {
namespace {

struct Tag;
struct Item : ListNode<Tag> {
  explicit Item(int n) : n(n) {}
  int n;
};

std::string order(List<Item, Tag>& list) {
  std::string out;
  list.for_each([&](Item& i) { out += std::to_string(i.n); });
  return out;
}

TEST(List, LinksUnlinksAndMoves) {
  List<Item, Tag> list;
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), nullptr);
  EXPECT_EQ(list.back(), nullptr);
  EXPECT_EQ(list.pop_front(), nullptr);
  Item a(1), b(2), c(3);
  list.push_back(a);
  list.push_back(b);
  list.push_front(c);
  EXPECT_EQ(order(list), "312");
  list.push_back(c);  // moves
  EXPECT_EQ(order(list), "123");
  list.push_front(a);  // where it is
  EXPECT_EQ(order(list), "123");
  EXPECT_EQ(list.next(a), &b);
  EXPECT_EQ(list.next(c), nullptr);
  EXPECT_EQ(list.front()->n, 1);
  EXPECT_EQ(list.back()->n, 3);
  b.unlink();
  b.unlink();
  EXPECT_FALSE(b.linked());
  EXPECT_EQ(order(list), "13");
  EXPECT_EQ(list.pop_front(), &a);
  EXPECT_EQ(order(list), "3");
}

TEST(List, NodesUnlinkThemselvesAndMayOutliveTheList) {
  Item outlives(1);
  {
    List<Item, Tag> list;
    list.push_back(outlives);
    {
      Item dies(2);
      list.push_back(dies);
    }
    EXPECT_EQ(order(list), "1");
    Item third(3);
    list.push_back(third);
    list.for_each([](Item& i) { i.unlink(); });
    EXPECT_TRUE(list.empty());
    list.push_back(outlives);
  }
  outlives.unlink();
}

TEST(Hash, KeyedAndStable) {
  EXPECT_EQ(keyed_hash("a"), keyed_hash("a"));
  EXPECT_NE(keyed_hash("a"), keyed_hash("b"));
  EXPECT_EQ(keyed_hash128("a"), keyed_hash128("a"));
  EXPECT_FALSE(keyed_hash128("a") == keyed_hash128("b"));
  EXPECT_NE(keyed_hash("a"), content_hash("a"));        // the key is in it
  EXPECT_EQ(content_hash_hex(""), "2d06800538d394c2");  // XXH3's published value: the same in every process
  EXPECT_EQ(content_hash_hex("abc").size(), 16u);
}

TEST(Log, LevelsByName) {
  EXPECT_EQ(log::parse_level("warn"), log::Level::kWarning);
  for (const char* name : {"trace", "debug", "info", "warning", "error", "critical", "off"})
    EXPECT_EQ(log::level_name(*log::parse_level(name)), name);
  EXPECT_FALSE(log::parse_level("loud").has_value());
  EXPECT_FALSE(log::parse_level("").has_value());
}

TEST(Log, ArgumentsOfASilentLineAreNotEvaluated) {
  const log::Level before = log::level();
  log::set_level(log::Level::kError);
  int evaluated = 0;
  OUTRIGGER_LOG(kInfo, "test", "{}", ++evaluated);
  EXPECT_EQ(evaluated, 0);
  testing::internal::CaptureStderr();
  OUTRIGGER_LOG(kError, "test", "number {}", ++evaluated);
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find(" error    test     number 1\n"), std::string::npos) << line;
  log::set_level(before);
}

}  // namespace
}  // namespace outrigger
