// HTTP/2 as bytes, for tests that say things which no library would: frames are written by hand, field sections as
// literals without compression; what comes back is cut into frames and its field sections decoded.
//
// Thread rule: one thread.
// Use:  socket.send(h2::preface() + h2::settings() + h2::headers(1, h2::get("/"), h2::kEndStream | h2::kEndHeaders));
//       h2::Reader reader;  reader.feed(socket.recv_some());  reader.find(h2::kHeaders, 1)->fields
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/hpack_peer.h"

namespace outrigger::test::h2 {

enum Type : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoaway = 7,
  kWindowUpdate = 8,
  kContinuation = 9
};
enum Flag : uint8_t { kNone = 0, kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8, kWithPriority = 0x20 };
using Fields = hpack::Fields;

inline std::string number(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}
inline std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload = {}) {
  std::string out = number(static_cast<uint32_t>(payload.size())).substr(1);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  return out + number(stream) + std::string(payload);
}
inline std::string preface() { return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; }
inline std::string settings(const std::vector<std::pair<uint16_t, uint32_t>>& entries = {}) {
  std::string payload;
  for (const auto& [id, value] : entries) payload += number(id).substr(2) + number(value);
  return frame(kSettings, kNone, 0, payload);
}
inline std::string length(size_t size) {  // an HPACK integer with a prefix of 7 bits
  if (size < 127) return std::string(1, static_cast<char>(size));
  std::string out(1, '\x7f');
  for (size -= 127; size >= 128; size >>= 7) out += static_cast<char>(size % 128 + 128);
  return out + static_cast<char>(size);
}
inline std::string block(const Fields& fields) {
  std::string out;
  for (const auto& [name, value] : fields)
    out.append(1, '\0').append(length(name.size())).append(name).append(length(value.size())).append(value);
  return out;
}
inline std::string headers(uint32_t stream, const Fields& fields, int flags = kEndStream | kEndHeaders) {
  return frame(kHeaders, static_cast<uint8_t>(flags), stream, block(fields));
}
inline std::string data(uint32_t stream, std::string_view bytes, bool end = false) {
  return frame(kData, end ? kEndStream : kNone, stream, bytes);
}
inline std::string reset(uint32_t stream, uint32_t code) { return frame(kRstStream, kNone, stream, number(code)); }
inline std::string window(uint32_t stream, uint32_t size) { return frame(kWindowUpdate, kNone, stream, number(size)); }
inline Fields request(std::string method, std::string path, Fields more = {}) {
  Fields out = {
      {":method", std::move(method)}, {":scheme", "http"}, {":authority", "a.test"}, {":path", std::move(path)}};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}
inline Fields get(std::string path) { return request("GET", std::move(path)); }

struct Frame {
  uint8_t type, flags;
  uint32_t stream;
  std::string payload;
  std::string fields;  // of HEADERS, its CONTINUATION included: "name=value name=value"
  std::string never;   // those of them that are never indexed
  bool ended() const { return (type == kData || type == kHeaders) && (flags & kEndStream) != 0; }
  uint32_t code() const {  // of RST_STREAM and GOAWAY; the increment of WINDOW_UPDATE
    const size_t at = type == kGoaway ? 4 : 0;
    uint32_t out = 0;
    for (size_t i = 0; i < 4; ++i) out = out << 8 | static_cast<uint8_t>(payload[at + i]);
    return out;
  }
};

class Reader {
 public:
  void feed(std::string_view bytes) {
    rest_ += bytes;
    for (;;) {
      if (rest_.size() < 9) return;
      const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(rest_[i])); };
      const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
      if (rest_.size() < 9 + size) return;
      Frame f{static_cast<uint8_t>(byte(3)), static_cast<uint8_t>(byte(4)),
              (byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)) & 0x7fffffff, rest_.substr(9, size), ""};
      rest_.erase(0, 9 + size);
      if (f.type == kHeaders || f.type == kContinuation) {
        block_ += f.payload;
        if (f.type == kHeaders) head_ = frames.size();
      }
      const bool whole = (f.type == kHeaders || f.type == kContinuation) && (f.flags & kEndHeaders) != 0;
      frames.push_back(std::move(f));
      if (whole) inflate(std::exchange(block_, {}), frames[head_]);
    }
  }
  const Frame* find(uint8_t type, uint32_t stream) const {
    for (const Frame& f : frames)
      if (f.type == type && f.stream == stream) return &f;
    return nullptr;
  }
  std::string body(uint32_t stream) const {
    std::string out;
    for (const Frame& f : frames)
      if (f.type == kData && f.stream == stream) out += f.payload;
    return out;
  }
  // The frame with END_STREAM.
  const Frame* end_of(uint32_t stream) const {
    for (const Frame& f : frames)
      if (f.stream == stream && f.ended()) return &f;
    return nullptr;
  }
  bool ended(uint32_t stream) const { return end_of(stream) != nullptr; }
  // RST_STREAM's or (stream 0) GOAWAY's code; -1: there was none.
  int code(uint32_t stream) const {
    const Frame* const f = find(stream == 0 ? kGoaway : kRstStream, stream);
    return f == nullptr ? -1 : static_cast<int>(f->code());
  }
  std::vector<Frame> frames;

 private:
  void inflate(const std::string& block, Frame& head) {
    Fields fields, never;
    if (!inflater_->take(block, fields, &never)) fields = {{"?", ""}};
    const auto join = [](const Fields& list, std::string& out) {
      for (const auto& [name, value] : list) out += (out.empty() ? "" : " ") + name + "=" + value;
    };
    join(fields, head.fields);
    join(never, head.never);
  }
  std::unique_ptr<hpack::Inflater> inflater_ = std::make_unique<hpack::Inflater>();
  std::string block_;
  size_t head_ = 0;  // the frame that it began with
  std::string rest_;
};

}  // namespace outrigger::test::h2
