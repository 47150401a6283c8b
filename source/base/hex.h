// Hexadecimal digits.
//
// Thread rule: a pure function.
// Use:  const int high = hex_digit(text[1]);
#pragma once

namespace outrigger {

// 0 to 15; -1: it is none.
constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace outrigger
