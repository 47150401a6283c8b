#include "config/scalars.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>

namespace outrigger::config {
namespace {

std::string int_text(std::string_view text, bool plain = true) {
  const ParsedInt parsed = parse_int(text, plain);
  if (parsed.error) return *parsed.error == IntError::kOutOfRange ? "range" : "not";
  std::string out(parsed.negative ? "-" : "");
  out += std::to_string(parsed.magnitude);
  return out;
}

TEST(Scalars, Integers) {
  EXPECT_EQ(int_text("0"), "0");
  EXPECT_EQ(int_text("-1"), "-1");
  EXPECT_EQ(int_text("+7"), "7");
  EXPECT_EQ(int_text("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(int_text("18446744073709551616"), "range");
  EXPECT_EQ(int_text("-18446744073709551616"), "range");
  EXPECT_EQ(int_text("5.0"), "5");
  EXPECT_EQ(int_text("-1.5e1"), "-15");
  EXPECT_EQ(int_text("1e3"), "1000");
  EXPECT_EQ(int_text("1e400"), "not");
  EXPECT_EQ(int_text("1e30"), "range");
  EXPECT_EQ(int_text("0x1F"), "31");
  EXPECT_EQ(int_text("0o17"), "15");
  EXPECT_EQ(int_text("0644"), "420");
  EXPECT_EQ(int_text("0644", false), "644");
  EXPECT_EQ(int_text("08"), "not");
  EXPECT_EQ(int_text("00"), "0");
  for (const char* bad : {"", "-", "+", "--1", "1-", "5.5", "0x", "0xg", "1 ", " 1", "1_000", "nan", ".inf", "abc"}) {
    EXPECT_EQ(int_text(bad), "not") << bad;
  }
}

TEST(Scalars, Doubles) {
  EXPECT_EQ(parse_double("1.5"), 1.5);
  EXPECT_EQ(parse_double("-1e-3"), -0.001);
  EXPECT_EQ(parse_double("+.5"), 0.5);
  EXPECT_TRUE(std::isinf(*parse_double("-.inf")));
  EXPECT_TRUE(std::isinf(*parse_double("Infinity")));
  EXPECT_TRUE(std::isnan(*parse_double(".nan")));
  for (const char* bad : {"", "-", ".", "e5", "1e", "1.5x", "-nan", "inf", "nan", "infinity", "0x1p3"}) {
    EXPECT_FALSE(parse_double(bad)) << bad;
  }
}

TEST(Scalars, Bools) {
  for (const char* yes : {"true", "True", "TRUE", "yes", "On", "y", "Y"}) EXPECT_EQ(parse_bool(yes, true), true) << yes;
  for (const char* no : {"false", "False", "NO", "off", "n"}) EXPECT_EQ(parse_bool(no, true), false) << no;
  for (const char* bad : {"", "tRue", "1", "0", "yess", "truth!"}) EXPECT_FALSE(parse_bool(bad, true)) << bad;
  EXPECT_EQ(parse_bool("true", false), true);
  EXPECT_FALSE(parse_bool("yes", false));
  EXPECT_FALSE(parse_bool("True", false));
}

TEST(Scalars, Durations) {
  auto text = [](std::string_view s) {
    const auto d = parse_duration(s);
    return d ? std::to_string(d->seconds) + "," + std::to_string(d->nanos) : "not";
  };
  EXPECT_EQ(text("300s"), "300,0");
  EXPECT_EQ(text("0.25s"), "0,250000000");
  EXPECT_EQ(text("-1.000000001s"), "-1,-1");
  EXPECT_EQ(text("315576000000s"), "315576000000,0");
  for (const char* bad : {"", "s", "5", "5ms", ".5s", "5.s", "5 s", "1.0000000001s", "315576000001s", "+5s", "--5s",
                          "9999999999999s", "1e3s"}) {
    EXPECT_EQ(text(bad), "not") << bad;
  }
  EXPECT_TRUE(valid_duration(-1, -999'999'999));
  EXPECT_FALSE(valid_duration(1, -1));
  EXPECT_FALSE(valid_duration(0, 1'000'000'000));
  EXPECT_TRUE(valid_timestamp(0, 0));
  EXPECT_FALSE(valid_timestamp(0, -1));
  EXPECT_FALSE(valid_timestamp(253'402'300'800, 0));
}

TEST(Scalars, Base64) {
  EXPECT_EQ(parse_base64(""), "");
  EXPECT_EQ(parse_base64("Zg=="), "f");
  EXPECT_EQ(parse_base64("Zg"), "f");
  EXPECT_EQ(parse_base64("Zm8="), "fo");
  EXPECT_EQ(parse_base64("Zm9v"), "foo");
  EXPECT_EQ(parse_base64("-_-_"), parse_base64("+/+/"));
  for (const char* bad : {"Z", "Zg=", "Zg===", "Zm9v=", "Zm9v====", "Z m8", "Zg==Zg==", "Zm9\n", "===="}) {
    EXPECT_FALSE(parse_base64(bad)) << bad;
  }
}

TEST(Scalars, Nearest) {
  constexpr std::array<std::string_view, 3> kNames = {"listeners", "clusters", "name"};
  EXPECT_EQ(nearest("listner", kNames), "listeners");
  EXPECT_EQ(nearest("cluster", kNames), "clusters");
  EXPECT_EQ(nearest("nmae", kNames), "name");
  EXPECT_EQ(nearest("NAME", kNames), "name");
  EXPECT_EQ(nearest("secrets", kNames), "");
  EXPECT_EQ(nearest("n", kNames), "");
  EXPECT_EQ(nearest(std::string(10'000, 'n'), kNames), "");
}

}  // namespace
}  // namespace outrigger::config
