// Byte classes of HTTP/1 and scans over 16 bytes at a time (SSE2; plain loops elsewhere).
//
// Thread rule: pure functions.
// Use:  const char* p = find_control(at, end, base);   // the first byte that no field line may hold, a line's end
// mostly
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace outrigger::http {

// A token's byte (RFC 9110 section 5.6.2) in lower case, 0 for any other byte.
inline constexpr std::array<char, 256> kTokenLower = [] {
  std::array<char, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = static_cast<char>(c);
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = static_cast<char>(c + 32);
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = static_cast<char>(c);
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<size_t>(c)] = c;
  return table;
}();

inline constexpr std::array<int8_t, 256> kHexDigit = [] {
  std::array<int8_t, 256> table{};
  for (auto& v : table) v = -1;
  for (int i = 0; i < 10; ++i) table[static_cast<size_t>('0' + i)] = static_cast<int8_t>(i);
  for (int i = 0; i < 6; ++i) {
    table[static_cast<size_t>('a' + i)] = static_cast<int8_t>(10 + i);
    table[static_cast<size_t>('A' + i)] = static_cast<int8_t>(10 + i);
  }
  return table;
}();

inline char token_lower(char c) { return kTokenLower[static_cast<unsigned char>(c)]; }
inline bool is_token(std::string_view text) {
  bool good = !text.empty();
  for (const char c : text) good &= token_lower(c) != 0;
  return good;
}
inline bool is_ows(char c) { return c == ' ' || c == '\t'; }
inline std::string_view trim_ows(std::string_view text) {
  while (!text.empty() && is_ows(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_ows(text.back())) text.remove_suffix(1);
  return text;
}
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
// `lower` is lower-case already.
inline bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != lower[i]) return false;
  }
  return true;
}

// A control byte other than HTAB: 0x00-0x08, 0x0a-0x1f, 0x7f. CR and LF are among them.
inline bool is_control(char c) {
  const auto u = static_cast<unsigned char>(c);
  return (u < 0x20 && u != '\t') || u == 0x7f;
}

#if defined(__SSE2__)
// Bit i is set where byte i is_control().
inline unsigned control_mask(__m128i bytes) {
  const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  const __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
  const __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del)));
}
inline unsigned byte_mask(__m128i bytes, char c) {
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(c))));
}
// 0xff where a byte is in [first, last], both of which are ASCII.
inline __m128i in_range(__m128i bytes, char first, char last) {
  return _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(static_cast<char>(first - 1))),
                       _mm_cmplt_epi8(bytes, _mm_set1_epi8(static_cast<char>(last + 1))));
}
inline __m128i load16(const char* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

// The first byte in [at, end) whose bit `mask_of` sets, else end; [base, end) is readable, base <= at.
template <class MaskOf>
const char* scan16(const char* at, const char* end, const char* base, MaskOf mask_of) {
  for (; end - at >= 16; at += 16)
    if (const unsigned m = mask_of(load16(at)); m != 0) return at + __builtin_ctz(m);
  if (at == end) return end;
  if (end - base >= 16) {  // the last bytes, read together with some before them
    const auto left = static_cast<unsigned>(end - at);
    const unsigned m = mask_of(load16(end - 16)) >> (16 - left);
    return m == 0 ? end : at + __builtin_ctz(m);
  }
  char padded[16];
  std::memset(padded, 'x', sizeof(padded));
  std::memcpy(padded, at, static_cast<size_t>(end - at));
  const unsigned m = mask_of(load16(padded));
  return m == 0 ? end : at + __builtin_ctz(m);
}
inline const char* find_control(const char* at, const char* end, const char* base) {
  return scan16(at, end, base, [](__m128i bytes) { return control_mask(bytes); });
}
// The first byte that no request target may hold: white space, controls, DEL, bytes above 0x7f, '#'.
inline const char* find_target_end(const char* at, const char* end, const char* base) {
  return scan16(at, end, base, [](__m128i bytes) {
    const auto graphic = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x20))));
    return (~graphic & 0xffffu) | byte_mask(bytes, 0x7f) | byte_mask(bytes, '#');
  });
}
#else
inline const char* find_control(const char* at, const char* end, const char*) {
  while (at < end && !is_control(*at)) ++at;
  return at;
}
inline const char* find_target_end(const char* at, const char* end, const char*) {
  while (at<end&& * at> 0x20 && *at < 0x7f && *at != '#') ++at;
  return at;
}
#endif

// Decimal digits only, at most INT64_MAX; -1 otherwise.
inline int64_t parse_decimal(std::string_view text) {
  if (text.empty() || text.size() > 32) return -1;
  int64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return -1;
    if (__builtin_mul_overflow(value, int64_t{10}, &value) || __builtin_add_overflow(value, int64_t{c - '0'}, &value))
      return -1;
  }
  return value;
}

}  // namespace outrigger::http
