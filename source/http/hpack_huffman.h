// The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//
// Thread rule: pure functions.
// Use:  size_t n = huffman_size(text);  at = huffman_encode(text, at);   huffman_decode(coded, buffer, size)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace outrigger::http {

// Bytes that the code of `text` takes.
size_t huffman_size(std::string_view text);
// Writes huffman_size(text) bytes; the position behind them.
char* huffman_encode(std::string_view text, char* to);

// At most so many bytes come of `coded` coded ones: the shortest code has five bits.
constexpr size_t huffman_room(size_t coded) { return coded * 8 / 5 + 1; }
// Writes the text, `size` bytes, to `to`, which has huffman_room(coded.size()). False: `coded` holds the code of EOS,
// or ends in more than 7 bits of padding or in padding other than ones.
bool huffman_decode(std::string_view coded, char* to, size_t& size);

}  // namespace outrigger::http
