#include "base/shared_name_map.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/boxed.h"

namespace outrigger {
namespace {

struct Value {
  std::string name;
  int number = 0;
};
struct NameOfValue {
  const std::string& operator()(const Value& value) const { return value.name; }
};
using Map = SharedNameMap<Value, NameOfValue>;

std::map<std::string, int> contents(const Map& map) {
  std::map<std::string, int> out;
  map.for_each([&](const std::string& name, const Value& value) { out[name] = value.number; });
  return out;
}

TEST(SharedNameMap, AnEmptyOneHasNothing) {
  Map map;
  EXPECT_EQ(map.find("a"), nullptr);
  EXPECT_FALSE(map.erase("a"));
  EXPECT_EQ(map.size(), 0u);
  EXPECT_TRUE(contents(map).empty());
}

TEST(SharedNameMap, EveryVersionStaysAsItWas) {
  std::mt19937 random(std::random_device{}());
  std::vector<std::unique_ptr<Map>> versions;
  std::vector<std::map<std::string, int>> expected(1);
  versions.push_back(std::make_unique<Map>());
  for (int version = 0; version < 200; ++version) {
    versions.push_back(std::make_unique<Map>(*versions.back()));
    expected.push_back(expected.back());
    for (uint32_t n = random() % (version % 20 == 0 ? 400 : 5); n > 0; --n) {
      const std::string name = "name" + std::to_string(random() % 1000);
      if (random() % 3 == 0) {
        EXPECT_EQ(versions.back()->erase(name), expected.back().erase(name) == 1);
      } else {
        versions.back()->insert({name, version});
        expected.back()[name] = version;
      }
    }
    ASSERT_EQ(versions.back()->size(), expected.back().size());
  }
  for (size_t i = 0; i < versions.size(); ++i) {
    ASSERT_EQ(contents(*versions[i]), expected[i]);
    for (int n = 0; n < 1000; ++n) {
      const std::string name = "name" + std::to_string(n);
      const Value* found = versions[i]->find(Name(name));
      const auto known = expected[i].find(name);
      ASSERT_EQ(found != nullptr, known != expected[i].end());
      if (found != nullptr) ASSERT_EQ(found->number, known->second);
    }
  }
}

TEST(SharedNameMap, ACopyWithOneChangeSharesTheRest) {
  Map before;
  for (int i = 0; i < 10'000; ++i) before.insert({"name" + std::to_string(i), i});
  Map after = before;
  after.insert({"name7", -1});
  EXPECT_EQ(before.find("name7")->number, 7);
  EXPECT_EQ(after.find("name7")->number, -1);
  size_t same = 0;
  before.for_each([&](const std::string& name, const Value& value) { same += after.find(name) == &value ? 1 : 0; });
  EXPECT_GE(same, 10'000u - 100u);
}

TEST(SharedNameMap, ChangesAreFoundAndLittleElse) {
  Map before;
  for (int i = 0; i < 2'000; ++i) before.insert({"name" + std::to_string(i), i});
  Map after = before;
  after.insert({"name7", -1});
  after.insert({"new", 1});
  after.erase("name9");
  std::map<std::string, int> told;
  const auto note = [&](const std::string& name, uint64_t hash, const Value* value) {
    EXPECT_EQ(hash, content_hash(name));
    EXPECT_EQ(value, after.find(name));
    told[name] = value == nullptr ? -2 : value->number;
  };
  after.for_each_change(before, note);
  EXPECT_EQ(told.at("name7"), -1);
  EXPECT_EQ(told.at("new"), 1);
  EXPECT_EQ(told.at("name9"), -2);
  EXPECT_LT(told.size(), 300u);
  told.clear();
  Map larger = after;
  for (int i = 0; i < 4'000; ++i) larger.insert({"more" + std::to_string(i), i});
  size_t all = 0;
  larger.for_each_change(after, [&](const std::string&, uint64_t, const Value* value) { all += value != nullptr; });
  EXPECT_EQ(all, larger.size());
  after.for_each_change(Map(), [&](const std::string& name, uint64_t, const Value*) { told[name] = 0; });
  EXPECT_EQ(told.size(), after.size());
}

TEST(SharedNameMapDeathTest, WhatWasCopiedIsNotChanged) {
  Map before;
  before.insert({"a", 1});
  const Map after = before;
  EXPECT_DEATH(before.insert({"b", 2}), "");
}

TEST(Boxed, IsAnOptionalThatCopiesDeeply) {
  Boxed<std::string> none, a(std::string("a")), other(std::optional<std::string>("a"));
  EXPECT_FALSE(none);
  EXPECT_FALSE(Boxed<std::string>(std::optional<std::string>()));
  EXPECT_TRUE(a == other);
  EXPECT_FALSE(a == none);
  Boxed<std::string> copy = a;
  copy->append("b");
  EXPECT_EQ(*a, "a");
  EXPECT_EQ(*copy, "ab");
  a = copy;
  EXPECT_EQ(*a, "ab");
  EXPECT_EQ(none.make(), "");
  EXPECT_TRUE(none.has_value());
  none.reset();
  EXPECT_FALSE(none.has_value());
}

}  // namespace
}  // namespace outrigger
