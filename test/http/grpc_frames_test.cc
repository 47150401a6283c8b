#include "http/grpc_frames.h"

#include <string>

namespace outrigger::http {
namespace {

std::string message(std::string_view text, uint8_t flags = 0) {
  std::string out(GrpcFrames::kHeadBytes, '\0');
  GrpcFrames::write_head(out.data(), flags, static_cast<uint32_t>(text.size()));
  return out.append(text);
}

TEST(GrpcFrames, HeadsAreBigEndian) {
  EXPECT_EQ(message(std::string(0x010203, 'x'), 0x80).substr(0, 5), std::string("\x80\0\1\2\3", 5));
}

TEST(GrpcFrames, FindsEveryEndWhereverTheBytesAreCut) {
  const std::string all =
      message("hello") + message("") + message(std::string(300, 'm'), 1) + message("") + message("!");
  for (size_t first = 0; first <= all.size(); ++first) {
    for (size_t step : {size_t{1}, size_t{7}, all.size()}) {
      GrpcFrames frames;
      std::string ends;  // each byte: '|' behind it if a message ended there
      for (size_t at = 0; at < all.size();) {
        const size_t piece = at == 0 && first != 0 ? first : step;
        std::string_view bytes = std::string_view(all).substr(at, piece);
        at += bytes.size();
        while (!bytes.empty()) {
          bool ended = false;
          const size_t n = frames.next(bytes, ended);
          ASSERT_NE(n, 0u);
          ends.append(n, '.');
          if (ended) ends.back() = '|';
          bytes.remove_prefix(n);
        }
      }
      ASSERT_EQ(ends.size(), all.size());
      EXPECT_EQ(frames.messages(), 5u);
      EXPECT_TRUE(frames.between());
      EXPECT_EQ(ends.find('|'), 9u);
      EXPECT_EQ(ends.substr(10, 5), "....|");
    }
  }
}

TEST(GrpcFrames, WhatHasNotEndedIsNotCounted) {
  GrpcFrames frames;
  frames.skip(message("a") + message("bcd").substr(0, 7));
  EXPECT_EQ(frames.messages(), 1u);
  EXPECT_FALSE(frames.between());
  frames.skip("cd");
  frames.skip(std::string("\0\xff\xff\xff\xff", 5));
  frames.skip(std::string(100'000, 'x'));
  EXPECT_EQ(frames.messages(), 2u);
}

}  // namespace
}  // namespace outrigger::http
