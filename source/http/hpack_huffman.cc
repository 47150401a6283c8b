#include "http/hpack_huffman.h"

#include <array>
#include <bit>
#include <cstring>

namespace outrigger::http {
namespace {

constexpr size_t kSymbols = 257;  // the bytes and EOS
constexpr unsigned kLongest = 30;

// Bits of each symbol's code. The code is canonical: codes of one length follow each other in the order of their
// symbols, and longer ones follow shorter ones. So the lengths say it all.
constexpr std::array<uint8_t, kSymbols> kLengths = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,  // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,  // 0x10
    6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,   // 0x20
    5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8,  15, 6,  12, 10,  // 0x30
    13, 6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,   // 0x40
    7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8,  13, 19, 13, 14, 6,   // 0x50
    15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,   // 0x60
    6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7,  15, 11, 14, 13, 28,  // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,  // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,  // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,  // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,  // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,  // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,  // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,  // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,  // 0xf0
    30};
constexpr uint16_t kEos = 256;

struct Code {
  std::array<uint32_t, kSymbols> codes{};            // right-aligned
  std::array<uint16_t, kSymbols> symbols{};          // by code
  std::array<uint32_t, kLongest + 1> first{};        // code of each length
  std::array<uint16_t, kLongest + 1> count{}, at{};  // codes of that length; where they begin in `symbols`
  uint64_t space = 0;                                // of 1 << kLongest that the codes fill
};

constexpr Code make_code() {
  Code out;
  uint32_t code = 0;
  uint16_t at = 0;
  for (unsigned length = 1; length <= kLongest; ++length) {
    code <<= 1;
    out.first[length] = code;
    out.at[length] = at;
    for (uint16_t symbol = 0; symbol < kSymbols; ++symbol) {
      if (kLengths[symbol] != length) continue;
      out.codes[symbol] = code++;
      out.symbols[at++] = symbol;
      ++out.count[length];
      out.space += uint64_t{1} << (kLongest - length);
    }
  }
  return out;
}
constexpr Code kCode = make_code();
static_assert(kCode.space == uint64_t{1} << kLongest, "a complete code");
static_assert(kCode.codes[kEos] == 0x3fffffff);

// By the next nine bits: a symbol whose code begins them. length 0: it is longer.
constexpr unsigned kShort = 9;
struct Short {
  uint8_t symbol = 0, length = 0;
};
constexpr std::array<Short, 1 << kShort> kShorts = [] {
  std::array<Short, 1 << kShort> table{};
  for (size_t symbol = 0; symbol < 256; ++symbol) {
    const unsigned length = kLengths[symbol];
    if (length > kShort) continue;
    const uint32_t begin = kCode.codes[symbol] << (kShort - length);
    for (uint32_t i = 0; i < 1u << (kShort - length); ++i)
      table[begin + i] = {static_cast<uint8_t>(symbol), static_cast<uint8_t>(length)};
  }
  return table;
}();

}  // namespace

size_t huffman_size(std::string_view text) {
  size_t bits = 0;
  for (const char c : text) bits += kLengths[static_cast<uint8_t>(c)];
  return (bits + 7) / 8;
}

char* huffman_encode(std::string_view text, char* to) {
  uint64_t bits = 0;  // the lower `count` are to be written
  unsigned count = 0;
  for (const char c : text) {
    const auto symbol = static_cast<uint8_t>(c);
    bits = bits << kLengths[symbol] | kCode.codes[symbol];
    count += kLengths[symbol];
    if (count < 32) continue;
    count -= 32;
    const auto word = static_cast<uint32_t>(bits >> count);
    for (unsigned shift = 32; shift > 0; shift -= 8) *to++ = static_cast<char>(word >> (shift - 8));
  }
  if (const unsigned padding = (8 - count % 8) % 8; padding != 0) {
    bits = bits << padding | ((1u << padding) - 1);
    count += padding;
  }
  for (; count > 0; count -= 8) *to++ = static_cast<char>(bits >> (count - 8));
  return to;
}

bool huffman_decode(std::string_view coded, char* to, size_t& size) {
  const char* const begin = to;
  const auto* at = reinterpret_cast<const uint8_t*>(coded.data());
  const auto* const end = at + coded.size();
  uint64_t bits = ~uint64_t{0};  // the upper `count` are the code's, the others ones
  unsigned count = 0;
  for (;;) {
    while (count <= 56 && at != end) {
      const unsigned shift = 56 - count;
      bits &= ~(uint64_t{0xff} << shift) | uint64_t{*at++} << shift;
      count += 8;
    }
    unsigned length = kShorts[bits >> (64 - kShort)].length;
    uint16_t symbol = kShorts[bits >> (64 - kShort)].symbol;
    if (length == 0) {
      for (length = kShort + 1; length < kLongest; ++length)
        if ((bits >> (64 - length)) - kCode.first[length] < kCode.count[length]) break;
      // The longest codes are all that are left.
      symbol = kCode.symbols[kCode.at[length] + (bits >> (64 - length)) - kCode.first[length]];
    }
    if (length > count) break;  // what is left is no code
    if (symbol == kEos) return false;
    *to++ = static_cast<char>(symbol);
    bits = ~(~bits << length);
    count -= length;
  }
  size = static_cast<size_t>(to - begin);
  return count < 8 && (count == 0 || std::countl_one(bits) >= static_cast<int>(count));
}

}  // namespace outrigger::http
