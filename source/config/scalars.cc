#include "config/scalars.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

namespace outrigger::config {

namespace {

constexpr int64_t kMaxDurationSeconds = 315'576'000'000;  // 10,000 years
constexpr int32_t kNanosPerSecond = 1'000'000'000;

bool all_digits(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// Damerau's distance of neighbours (optimal string alignment), ignoring case.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before;
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1])) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

ParsedInt parse_int(std::string_view text, bool plain) {
  ParsedInt out;
  std::string_view digits = text;
  if (!digits.empty() && (digits.front() == '-' || digits.front() == '+')) {
    out.negative = digits.front() == '-';
    digits.remove_prefix(1);
  }
  int base = 10;
  if (plain && digits.size() > 1 && digits.front() == '0') {
    if (digits[1] == 'x' || digits[1] == 'X') {
      base = 16;
      digits.remove_prefix(2);
    } else if (digits[1] == 'o') {
      base = 8;
      digits.remove_prefix(2);
    } else if (all_digits(digits)) {
      base = 8;
      digits.remove_prefix(1);
    }
  }
  const char* end = digits.data() + digits.size();
  auto [stop, error] = std::from_chars(digits.data(), end, out.magnitude, base);
  if (error == std::errc() && stop == end && !digits.empty() && digits.front() != '-') return out;
  if (error == std::errc::result_out_of_range && stop == end) {
    out.error = IntError::kOutOfRange;
    return out;
  }
  out.error = IntError::kNotANumber;
  if (base != 10 || text.size() > 64) return out;
  const std::optional<double> real = parse_double(text);
  if (!real || !std::isfinite(*real) || std::trunc(*real) != *real) return out;
  if (std::fabs(*real) >= 18446744073709551616.0) {
    out.error = IntError::kOutOfRange;
    return out;
  }
  out.magnitude = static_cast<uint64_t>(std::fabs(*real));
  out.error.reset();
  return out;
}

std::optional<double> parse_double(std::string_view text) {
  std::string_view s = text;
  const bool negative = !s.empty() && s.front() == '-';
  if (!s.empty() && (s.front() == '-' || s.front() == '+')) s.remove_prefix(1);
  if (s == ".inf" || s == ".Inf" || s == ".INF" || s == "Infinity") {
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  if (s == text && (s == ".nan" || s == ".NaN" || s == ".NAN" || s == "NaN")) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (s.empty() || (s.front() != '.' && (s.front() < '0' || s.front() > '9'))) return {};
  double value = 0;
  auto [stop, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (error != std::errc() || stop != s.data() + s.size()) return {};
  return negative ? -value : value;
}

std::optional<bool> parse_bool(std::string_view text, bool yaml11) {
  if (text == "true") return true;
  if (text == "false") return false;
  if (!yaml11 || text.empty() || text.size() > 5) return {};
  std::string folded(text);
  std::transform(folded.begin(), folded.end(), folded.begin(), lower);
  // "True" and "TRUE", but not "tRue".
  const std::string_view rest = text.substr(1);
  const bool rest_lower = std::none_of(rest.begin(), rest.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  const bool all_upper = std::none_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  if (!rest_lower && !all_upper) return {};
  if (folded == "true" || folded == "yes" || folded == "on" || folded == "y") return true;
  if (folded == "false" || folded == "no" || folded == "off" || folded == "n") return false;
  return {};
}

std::optional<ParsedDuration> parse_duration(std::string_view text) {
  if (text.size() < 2 || text.back() != 's') return {};
  text.remove_suffix(1);
  const bool negative = text.front() == '-';
  if (negative) text.remove_prefix(1);
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  ParsedDuration out;
  if (!all_digits(whole) || whole.size() > 12) return {};
  std::from_chars(whole.data(), whole.data() + whole.size(), out.seconds);
  if (dot != std::string_view::npos) {
    const std::string_view fraction = text.substr(dot + 1);
    if (!all_digits(fraction) || fraction.size() > 9) return {};
    std::from_chars(fraction.data(), fraction.data() + fraction.size(), out.nanos);
    for (size_t i = fraction.size(); i < 9; ++i) out.nanos *= 10;
  }
  if (negative) {
    out.seconds = -out.seconds;
    out.nanos = -out.nanos;
  }
  if (!valid_duration(out.seconds, out.nanos)) return {};
  return out;
}

bool valid_duration(int64_t seconds, int32_t nanos) {
  if (seconds < -kMaxDurationSeconds || seconds > kMaxDurationSeconds) return false;
  if (nanos <= -kNanosPerSecond || nanos >= kNanosPerSecond) return false;
  return (seconds >= 0 || nanos <= 0) && (seconds <= 0 || nanos >= 0);
}

bool valid_timestamp(int64_t seconds, int32_t nanos) {
  constexpr int64_t kYear1 = -62'135'596'800;
  constexpr int64_t kYear9999End = 253'402'300'799;
  return seconds >= kYear1 && seconds <= kYear9999End && nanos >= 0 && nanos < kNanosPerSecond;
}

std::optional<std::string> parse_base64(std::string_view text) {
  const size_t padded = text.size();
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  const size_t padding = padded - text.size();
  if (text.size() % 4 == 1 || padding > 2 || (padding > 0 && padded % 4 != 0)) return {};
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t group = 0;
  int bits = 0;
  for (char c : text) {
    uint32_t six = 0;
    if (c >= 'A' && c <= 'Z') {
      six = static_cast<uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      six = static_cast<uint32_t>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      six = static_cast<uint32_t>(c - '0') + 52;
    } else if (c == '+' || c == '-') {
      six = 62;
    } else if (c == '/' || c == '_') {
      six = 63;
    } else {
      return {};
    }
    group = group << 6 | six;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out += static_cast<char>(group >> bits & 0xff);
    }
  }
  return out;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() < 2 || word.size() > 128) return {};
  std::string_view best;
  size_t best_distance = std::min<size_t>(3, 1 + word.size() / 4) + 1;
  for (std::string_view candidate : candidates) {
    const size_t more = std::max(candidate.size(), word.size()) - std::min(candidate.size(), word.size());
    if (more >= best_distance) continue;
    if (const size_t d = distance(word, candidate); d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace outrigger::config
