#include "http/grpc_frames.h"

#include <algorithm>

namespace outrigger::http {

size_t GrpcFrames::next(std::string_view bytes, bool& ended) {
  size_t at = 0;
  for (; head_bytes_ < kHeadBytes && at < bytes.size(); ++at)
    if (head_bytes_++ != 0) left_ = left_ << 8 | static_cast<uint8_t>(bytes[at]);
  ended = false;
  if (head_bytes_ < kHeadBytes) return at;
  const size_t size = std::min<size_t>(left_, bytes.size() - at);
  left_ -= static_cast<uint32_t>(size);
  ended = left_ == 0;
  if (ended) {
    ++messages_;
    head_bytes_ = 0;
  }
  return at + size;
}

void GrpcFrames::skip(std::string_view bytes) {
  for (bool ended; !bytes.empty();) bytes.remove_prefix(next(bytes, ended));
}

void GrpcFrames::write_head(char* out, uint8_t flags, uint32_t size) {
  out[0] = static_cast<char>(flags);
  for (int i = 0; i < 4; ++i) out[i + 1] = static_cast<char>(size >> (24 - 8 * i));
}

}  // namespace outrigger::http
