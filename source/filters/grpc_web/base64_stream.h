// Base64Decoder, Base64Encoder: base64 (RFC 4648 section 4) of a body that arrives in any pieces. gRPC-Web's text form
// is a row of base64 texts one after the other, each padded for itself, so that every message can be sent at once.
//
// Thread rule: one thread.
// Use:  Buffer out;  if (!decoder.decode(bytes, out)) bad();   encoder.encode(bytes, out);  encoder.finish(out);
#pragma once

#include <cstdint>
#include <string_view>

#include "outrigger/buffer.h"

namespace outrigger::filters {

class Base64Decoder {
 public:
  // False: these bytes are no base64. A padded group may stand anywhere.
  bool decode(std::string_view text, Buffer& out);
  bool between() const { return count_ == 0; }  // no group of four is incomplete

 private:
  uint32_t bits_ = 0;
  uint8_t count_ = 0;    // characters of the group
  uint8_t padding_ = 0;  // '=' among them
};

class Base64Encoder {
 public:
  void encode(std::string_view bytes, Buffer& out);
  // Ends a text: what is left over is written with its padding.
  void finish(Buffer& out);

 private:
  uint8_t left_[3] = {};  // over from the last call; room for one more
  uint8_t count_ = 0;
};

}  // namespace outrigger::filters
