#include "base/shared_sorted.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

namespace outrigger {
namespace {

struct Value {
  std::string name;
  int number = 0;
};
struct NameOfValue {
  std::string_view operator()(const Value& value) const { return value.name; }
};
using List = SharedSorted<Value, NameOfValue>;
using Contents = std::vector<std::pair<std::string, int>>;

Contents contents(const List& list) {
  Contents out;
  for (const Value& value : list) out.emplace_back(value.name, value.number);
  return out;
}

TEST(SharedSorted, AnEmptyOneHasNothing) {
  List list;
  EXPECT_EQ(list.find(std::string_view("a")), nullptr);
  EXPECT_FALSE(list.erase(std::string_view("a")));
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.begin(), list.end());
}

TEST(SharedSorted, EveryVersionStaysAsItWasAndIsSorted) {
  std::mt19937 random(7);
  std::vector<std::unique_ptr<List>> versions;
  std::vector<std::map<std::string, int>> expected(1);
  versions.push_back(std::make_unique<List>());
  for (int version = 0; version < 200; ++version) {
    versions.push_back(std::make_unique<List>(*versions.back()));
    expected.push_back(expected.back());
    for (uint32_t n = random() % (version % 20 == 0 ? 400 : 5); n > 0; --n) {
      const std::string name = "name" + std::to_string(random() % 1000);
      if (random() % 3 == 0) {
        EXPECT_EQ(versions.back()->erase(std::string_view(name)), expected.back().erase(name) == 1);
      } else {
        versions.back()->put({name, version});
        expected.back()[name] = version;
      }
    }
  }
  for (size_t i = 0; i < versions.size(); ++i) {
    ASSERT_EQ(versions[i]->size(), expected[i].size());
    ASSERT_EQ(contents(*versions[i]), Contents(expected[i].begin(), expected[i].end()));
    for (int n = 0; n < 1000; ++n) {
      const std::string name = "name" + std::to_string(n);
      const Value* found = versions[i]->find(std::string_view(name));
      const auto known = expected[i].find(name);
      ASSERT_EQ(found != nullptr, known != expected[i].end());
      if (found != nullptr) ASSERT_EQ(found->number, known->second);
    }
  }
}

// In order, the other way round, and emptied again.
TEST(SharedSorted, GrowsAndShrinksFromEitherEnd) {
  for (const bool upwards : {true, false}) {
    List list;
    Contents expected;
    for (int i = 0; i < 1000; ++i) {
      const int n = 1000 + (upwards ? i : 999 - i);
      list.put({std::to_string(n), n});
      expected.emplace_back(std::to_string(1000 + i), 1000 + i);
    }
    EXPECT_EQ(contents(list), expected);
    for (int i = 0; i < 1000; ++i) EXPECT_TRUE(list.erase(std::string_view(expected[static_cast<size_t>(i)].first)));
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.begin(), list.end());
  }
}

TEST(SharedSorted, AChangeCopiesOneChunk) {
  List before;
  for (int i = 0; i < 10'000; ++i) before.put({std::to_string(10'000 + i), i});
  List after(before);
  after.put({"12345", -1});
  size_t others = 0;
  auto a = before.begin();
  for (const Value& value : after) others += &value == &*a++ ? 0 : 1;
  EXPECT_LE(others, 64u);
  EXPECT_EQ(before.find(std::string_view("12345"))->number, 2345);
  EXPECT_EQ(after.find(std::string_view("12345"))->number, -1);
}

}  // namespace
}  // namespace outrigger
