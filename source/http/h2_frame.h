// Frames of HTTP/2 as numbers and bytes (RFC 9113 sections 4, 6, 7; RFC 9218 section 7.1).
//
// Thread rule: pure functions.
// Use:  const H2FrameHead head = H2FrameHead::read(bytes);   head.write(nine_bytes);
#pragma once

#include <cstddef>
#include <cstdint>

namespace outrigger::http {

enum class H2Type : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kRstStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoaway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
  kPriorityUpdate = 16
};

namespace h2_flag {
inline constexpr uint8_t kEndStream = 0x01, kAck = 0x01, kEndHeaders = 0x04, kPadded = 0x08, kPriority = 0x20;
}

enum class H2Error : uint32_t {
  kNoError = 0,
  kProtocolError = 1,
  kInternalError = 2,
  kFlowControlError = 3,
  kSettingsTimeout = 4,
  kStreamClosed = 5,
  kFrameSizeError = 6,
  kRefusedStream = 7,
  kCancel = 8,
  kCompressionError = 9,
  kConnectError = 10,
  kEnhanceYourCalm = 11
};

namespace h2_setting {
inline constexpr uint16_t kHeaderTableSize = 1, kEnablePush = 2, kMaxConcurrentStreams = 3, kInitialWindowSize = 4,
                          kMaxFrameSize = 5, kMaxHeaderListSize = 6, kEnableConnectProtocol = 8,
                          kNoRfc7540Priorities = 9;
}

inline constexpr size_t kH2FrameHeadBytes = 9;
inline constexpr uint32_t kH2MaxPayload = 16 * 1024;  // a frame's, unless SETTINGS allow more; ours never do
inline constexpr uint32_t kH2MaxStreamId = 0x7fffffff;
inline constexpr uint32_t kH2InitialWindow = 65'535;  // before SETTINGS say otherwise; a connection's always
inline constexpr int64_t kH2MaxWindow = 0x7fffffff;

inline uint32_t read_be16(const uint8_t* at) { return static_cast<uint32_t>(at[0]) << 8 | at[1]; }
inline uint32_t read_be32(const uint8_t* at) { return read_be16(at) << 16 | read_be16(at + 2); }
inline uint8_t* write_be16(uint8_t* to, uint32_t value) {
  *to++ = static_cast<uint8_t>(value >> 8);
  *to++ = static_cast<uint8_t>(value);
  return to;
}
inline uint8_t* write_be32(uint8_t* to, uint32_t value) { return write_be16(write_be16(to, value >> 16), value); }

struct H2FrameHead {
  uint32_t length = 0;  // of the payload
  H2Type type = H2Type::kData;
  uint8_t flags = 0;
  uint32_t stream = 0;

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
  static H2FrameHead read(const uint8_t* at) {
    return {read_be32(at) >> 8, static_cast<H2Type>(at[3]), at[4], read_be32(at + 5) & kH2MaxStreamId};
  }
  uint8_t* write(uint8_t* to) const {
    to = write_be16(to, length >> 8);
    *to++ = static_cast<uint8_t>(length);
    *to++ = static_cast<uint8_t>(type);
    *to++ = flags;
    return write_be32(to, stream);
  }
};

}  // namespace outrigger::http
