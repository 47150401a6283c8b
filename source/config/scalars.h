// Scalars of YAML and JSON as protobuf's JSON mapping and Envoy read them.
//
// Thread rule: pure functions.
// Use:  if (auto v = parse_int(text, plain, min, max); v) ...
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace outrigger::config {

enum class IntError : uint8_t { kNotANumber, kOutOfRange };

// Result of parse_int: a value of at most 65 bits' range (int64 and uint64).
struct ParsedInt {
  bool negative = false;
  uint64_t magnitude = 0;
  std::optional<IntError> error;
};

// Decimal with or without sign; integral floats such as 5.0 or 1e3. Plain scalars may also be 0x.. and 0o.. or 0..
// (octal).
ParsedInt parse_int(std::string_view text, bool plain);

// Decimal and exponent forms, inf and nan as YAML (.inf, .nan) and JSON (Infinity, NaN) write them.
std::optional<double> parse_double(std::string_view text);

// true/false; `yaml11`: yes/no/on/off/y/n and capitals as well.
std::optional<bool> parse_bool(std::string_view text, bool yaml11);

// "1.5s": seconds and nanoseconds of the same sign.
struct ParsedDuration {
  int64_t seconds = 0;
  int32_t nanos = 0;
};
std::optional<ParsedDuration> parse_duration(std::string_view text);

// The ranges that google/protobuf/duration.proto and timestamp.proto give.
bool valid_duration(int64_t seconds, int32_t nanos);
bool valid_timestamp(int64_t seconds, int32_t nanos);

// The standard and the URL-safe alphabet, with or without padding.
std::optional<std::string> parse_base64(std::string_view text);

// The candidate that `word` is probably a misspelling of, ignoring case; empty: none is near.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace outrigger::config
