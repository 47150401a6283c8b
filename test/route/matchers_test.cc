#include "config/matchers.h"

#include <gtest/gtest.h>

#include "support/route_harness.h"

namespace outrigger::test {
namespace {

using config::HeaderMatcher;
using config::HeaderMatchSpec;
using config::QueryMatcher;
using config::StringMatcher;
using config::StringMatchSpec;
using SKind = StringMatchSpec::Kind;
using HKind = HeaderMatchSpec::Kind;

TEST(StringMatcher, Kinds) {
  const struct {
    StringMatchSpec spec;
    const char* text;
    bool match;
  } cases[] = {
      {{SKind::kExact, "ab"}, "ab", true},
      {{SKind::kExact, "ab"}, "abc", false},
      {{SKind::kExact, "aB", true}, "Ab", true},
      {{SKind::kExact, "aB", true}, "Abc", false},
      {{SKind::kExact, ""}, "", true},
      {{SKind::kPrefix, "ab"}, "abc", true},
      {{SKind::kPrefix, "ab"}, "a", false},
      {{SKind::kPrefix, "AB", true}, "abc", true},
      {{SKind::kSuffix, "bc"}, "abc", true},
      {{SKind::kSuffix, "bc"}, "c", false},
      {{SKind::kSuffix, "BC", true}, "abc", true},
      {{SKind::kContains, "b"}, "abc", true},
      {{SKind::kContains, "x"}, "abc", false},
      {{SKind::kContains, "BC", true}, "abc", true},
      {{SKind::kContains, "", true}, "", true},
      {{SKind::kRegex, "a+"}, "aaa", true},
      {{SKind::kRegex, "a+"}, "aab", false},
      {{SKind::kRegex, "A", true}, "a", false},
  };
  for (const auto& c : cases)
    EXPECT_EQ(StringMatcher(c.spec).match(c.text), c.match) << c.spec.value << " against " << c.text;
}

HeaderMatchSpec present(bool wanted, bool invert = false, bool missing_is_empty = false) {
  return {.name = "x",
          .kind = HKind::kPresent,
          .present = wanted,
          .invert = invert,
          .treat_missing_as_empty = missing_is_empty};
}
HeaderMatchSpec exact(const char* value, bool invert = false, bool missing_is_empty = false) {
  return {.name = "x",
          .kind = HKind::kString,
          .string = {.value = value},
          .invert = invert,
          .treat_missing_as_empty = missing_is_empty};
}

TEST(HeaderMatcher, PresenceInversionAndMissingHeaders) {
  const struct {
    HeaderMatchSpec spec;
    bool with, without;  // the answer with "x: v", and without x
  } cases[] = {
      {present(true), true, false},
      {present(false), false, true},
      {present(true, true), false, true},
      {present(false, true), true, false},
      {present(true, false, true), true, true},
      {present(false, false, true), false, false},
      {exact("v"), true, false},
      {exact("v", true), false, false},  // a missing header never satisfies a value match, inverted or not
      {exact("v", true, true), false, true},
      {exact("", false, true), false, true},
      {exact("other", true), true, false},
  };
  Headers with(Fields{{"x", "v"}}), without;
  for (size_t i = 0; i < std::size(cases); ++i) {
    EXPECT_EQ(HeaderMatcher(cases[i].spec).match(*with), cases[i].with) << i;
    EXPECT_EQ(HeaderMatcher(cases[i].spec).match(*without), cases[i].without) << i;
  }
}

TEST(HeaderMatcher, SeveralFieldsAreJoined) {
  Headers headers({{"x", "a"}, {"other", "z"}, {"x", "b"}, {"cookie", "c=1"}, {"cookie", "d=2"}, {":authority", "h"}});
  EXPECT_EQ(config::joined_header(*headers, "x"), "a,b");
  EXPECT_EQ(config::joined_header(*headers, "cookie"), "c=1; d=2");
  EXPECT_EQ(config::joined_header(*headers, "host"), "h");
  EXPECT_EQ(config::joined_header(*headers, "none"), std::nullopt);
  EXPECT_TRUE(HeaderMatcher(exact("a,b")).match(*headers));
  EXPECT_FALSE(HeaderMatcher(exact("a")).match(*headers));
  headers->remove("x");
  EXPECT_EQ(config::joined_header(*headers, "x"), std::nullopt);
  HeaderMatchSpec host = exact("h");
  host.name = "host";
  EXPECT_TRUE(HeaderMatcher(host).match(*headers));
}

TEST(HeaderMatcher, Ranges) {
  HeaderMatchSpec spec{.name = "x", .kind = HKind::kRange, .range_start = -10, .range_end = 20};
  const HeaderMatcher matcher(spec);
  for (const auto& [value, match] : {std::pair{"-10", true},
                                     {"19", true},
                                     {"+5", true},
                                     {"20", false},
                                     {"-11", false},
                                     {"", false},
                                     {"5x", false},
                                     {"0x5", false},
                                     {"1.5", false},
                                     {"+-5", false},
                                     {"+", false},
                                     {"99999999999999999999", false}}) {
    Headers headers(Fields{{"x", value}});
    EXPECT_EQ(matcher.match(*headers), match) << value;
  }
}

TEST(QueryMatcher, TheFirstValueCountsAsItCame) {
  using config::query_parameter;
  const char* path = "/p?a=1&b&c=&a=2&d=x%20y&%65=6&f==&&=none";
  EXPECT_EQ(query_parameter(path, "a"), "1");
  EXPECT_EQ(query_parameter(path, "b"), "");
  EXPECT_EQ(query_parameter(path, "c"), "");
  EXPECT_EQ(query_parameter(path, "d"), "x%20y");
  EXPECT_EQ(query_parameter(path, "e"), std::nullopt);
  EXPECT_EQ(query_parameter(path, "f"), "=");
  EXPECT_EQ(query_parameter(path, ""), "");
  EXPECT_EQ(query_parameter("/p", "a"), std::nullopt);
  EXPECT_EQ(query_parameter("/p?", "a"), std::nullopt);
  Arena arena;
  EXPECT_EQ(config::decoded_query_parameter(path, "d", arena), "x y");
  EXPECT_EQ(config::decoded_query_parameter(path, "e", arena), "6");
  EXPECT_EQ(config::decoded_query_parameter("/p?a=%4", "a", arena), "%4");
  EXPECT_EQ(config::decoded_query_parameter("/p?a=%zz%41", "a", arena), "%zzA");

  EXPECT_TRUE(QueryMatcher({.name = "a", .string = StringMatchSpec{.value = "1"}}).match(path));
  EXPECT_FALSE(QueryMatcher({.name = "a", .string = StringMatchSpec{.value = "2"}}).match(path));
  EXPECT_TRUE(QueryMatcher({.name = "b"}).match(path));
  EXPECT_FALSE(QueryMatcher({.name = "b", .present = false}).match(path));
  EXPECT_TRUE(QueryMatcher({.name = "z", .present = false}).match(path));
  EXPECT_FALSE(QueryMatcher({.name = "z", .string = StringMatchSpec{.value = ""}}).match(path));
}

TEST(Regex, IsSharedWhileSomebodyHoldsIt) {
  const auto a = config::shared_regex("/shared[0-9]");
  EXPECT_EQ(a, config::shared_regex("/shared[0-9]"));
  EXPECT_NE(a, config::shared_regex("/shared[0-8]"));
  EXPECT_EQ(config::shared_regex("(unclosed"), nullptr);
  EXPECT_TRUE(a->full_match("/shared5"));
  EXPECT_FALSE(a->full_match("x/shared5"));
}

TEST(Regex, Literals) {
  using Strings = std::vector<std::string>;
  const struct {
    const char* pattern;
    const char* prefix;
    Strings required;
    bool folded = false;
  } cases[] = {
      {"/abc", "/abc", {"/abc"}},
      {"/abc/.*", "/abc/", {"/abc/"}},
      {"^/a$", "/a", {"/a"}},
      {"/a.*/b[0-9]+/c", "/a", {"/a", "/b", "/c"}},
      {"/ab*c", "/a", {"/a", "c"}},
      {"/ab+c", "/ab", {"/ab", "bc"}},
      {"/ab{2,}c", "/ab", {"/ab", "bc"}},
      {"/ab{0,3}c", "/a", {"/a", "c"}},
      {"/(?:v1|v2)/x", "/v", {"/v", "/x"}},
      {"/(one|two)", "/", {"/"}},
      {"/(?P<name>ab)c", "/abc", {"/abc"}},
      {"/a|/b", "/", {"/"}},
      {"/a\\.html", "/a.html", {"/a.html"}},
      {"/[]x]/y", "/", {"/", "/y"}},
      {"/[[:alpha:]\\]]z", "/", {"/", "z"}},
      {"(?i)/Abc/KEY", "/abc/", {"/abc/", "ey"}, true},
      {"/a(?i)b", "", {}},
      {"/\\Qa.b\\E", "", {}},
      {"/\\x41", "", {}},
      {"/\\pL", "", {}},
      {".*", "", {}},
      {"", "", {}},
  };
  for (const auto& c : cases) {
    const config::RegexLiterals literals = config::regex_literals(c.pattern);
    EXPECT_EQ(literals.prefix, c.prefix) << c.pattern;
    EXPECT_EQ(literals.required, c.required) << c.pattern;
    EXPECT_EQ(literals.folded, c.folded) << c.pattern;
  }
  EXPECT_EQ(config::regex_literals(std::string(10'000, '(')).prefix, "");
}

}  // namespace
}  // namespace outrigger::test
