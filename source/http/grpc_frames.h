// GrpcFrames: follows the length-prefixed messages of a gRPC body through bytes that arrive in any pieces. It keeps no
// byte of them, so a message may have any size (up to the format's 4 GiB); what must hold messages bounds them itself.
//
//   a flags byte (1: compressed; 128: trailers, in grpc-web), four bytes of length, the message
//
// Thread rule: one thread.
// Use:  for (bool ended; !bytes.empty(); bytes.remove_prefix(n)) n = frames.next(bytes, ended);   frames.messages()
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace outrigger::http {

class GrpcFrames {
 public:
  static constexpr size_t kHeadBytes = 5;

  // Goes on at `bytes`, to the end of the message in hand if that lies in there (`ended`), else to their end. How many
  // bytes that was.
  size_t next(std::string_view bytes, bool& ended);
  // Goes on over all of `bytes`.
  void skip(std::string_view bytes);
  uint64_t messages() const { return messages_; }    // that have ended
  bool between() const { return head_bytes_ == 0; }  // no message has begun and not ended

  // Writes a message's head, kHeadBytes at `out`.
  static void write_head(char* out, uint8_t flags, uint32_t size);

 private:
  uint64_t messages_ = 0;
  uint32_t left_ = 0;       // of the message; while its head comes: the length so far
  uint8_t head_bytes_ = 0;  // of the head, that have come
};

}  // namespace outrigger::http
