#include "filters/grpc_web/base64_stream.h"

#include <algorithm>
#include <array>

namespace outrigger::filters {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::array<int8_t, 256> kValues = [] {
  std::array<int8_t, 256> values{};
  for (int8_t& value : values) value = -1;
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  return values;
}();

constexpr size_t kStepBytes = 3 * 1024;  // at once; 4 KiB of text

char* write_group(char* at, const uint8_t* bytes) {
  *at++ = kAlphabet[bytes[0] >> 2];
  *at++ = kAlphabet[(bytes[0] & 3) << 4 | bytes[1] >> 4];
  *at++ = kAlphabet[(bytes[1] & 15) << 2 | bytes[2] >> 6];
  *at++ = kAlphabet[bytes[2] & 63];
  return at;
}

}  // namespace

bool Base64Decoder::decode(std::string_view text, Buffer& out) {
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, kStepBytes / 3 * 4);
    text.remove_prefix(piece.size());
    char* const begin = out.reserve(kStepBytes + 3);
    char* at = begin;
    for (const char c : piece) {
      if (c == '=') {
        if (count_ < 2) return false;
        ++padding_;
      } else if (const int8_t value = kValues[static_cast<unsigned char>(c)]; value >= 0 && padding_ == 0) {
        bits_ = bits_ << 6 | static_cast<uint32_t>(value);
      } else {
        return false;
      }
      if (++count_ < 4) continue;
      bits_ <<= 6 * padding_;
      for (int i = 0; i < 3 - padding_; ++i) *at++ = static_cast<char>(bits_ >> (16 - 8 * i));
      bits_ = 0;
      count_ = padding_ = 0;
    }
    out.commit(static_cast<size_t>(at - begin));
  }
  return true;
}

void Base64Encoder::encode(std::string_view bytes, Buffer& out) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kStepBytes);
    bytes.remove_prefix(piece.size());
    char* const begin = out.reserve(kStepBytes / 3 * 4 + 4);
    char* at = begin;
    for (const char c : piece) {
      left_[count_++] = static_cast<uint8_t>(c);
      if (count_ < 3) continue;
      at = write_group(at, left_);
      count_ = 0;
    }
    out.commit(static_cast<size_t>(at - begin));
  }
}

void Base64Encoder::finish(Buffer& out) {
  if (count_ == 0) return;
  std::fill(left_ + count_, left_ + 3, uint8_t{0});
  char group[4];
  write_group(group, left_);
  for (int i = count_ + 1; i < 4; ++i) group[i] = '=';
  out.append(std::string_view(group, 4));
  count_ = 0;
}

}  // namespace outrigger::filters
