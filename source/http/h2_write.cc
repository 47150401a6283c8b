// H2Session, writing: frames into the connection's output, DATA as far as windows and the socket allow, streams in
// turn.
#include <algorithm>

#include "http/h2_session.h"

namespace outrigger::http {
namespace {

// A peer's fault, or what it can make us say as often as it likes.
bool peers_fault(H2Error code) {
  switch (code) {
    case H2Error::kProtocolError:
    case H2Error::kFlowControlError:
    case H2Error::kStreamClosed:
    case H2Error::kFrameSizeError:
    case H2Error::kRefusedStream:
      return true;
    default:
      return false;
  }
}

}  // namespace

void H2Session::write_frame(const H2FrameHead& head, const uint8_t* payload) {
  if (connection_.closing()) return;
  Buffer& out = connection_.output();
  const size_t size = kH2FrameHeadBytes + head.length;
  auto* const to = head.write(reinterpret_cast<uint8_t*>(out.reserve(size)));
  if (head.length != 0) std::copy_n(payload, head.length, to);
  out.commit(size);
  wrote_ = true;
}

// RFC 9113 section 3.4.
void H2Session::write_first() {
  if (!server_) connection_.output().append(kH2Preface);
  uint8_t payload[5 * 6];
  uint8_t* to = payload;
  const auto set = [&](uint16_t id, uint32_t value) { to = write_be32(write_be16(to, id), value); };
  set(h2_setting::kInitialWindowSize, options_.initial_stream_window_bytes);
  set(h2_setting::kMaxHeaderListSize, options_.max_head_bytes);
  if (server_) {
    set(h2_setting::kMaxConcurrentStreams, options_.max_concurrent_streams);
    set(h2_setting::kNoRfc7540Priorities, 1);
    if (options_.allow_connect) set(h2_setting::kEnableConnectProtocol, 1);
  } else {
    set(h2_setting::kEnablePush, 0);
  }
  write_frame({static_cast<uint32_t>(to - payload), H2Type::kSettings, 0, 0}, payload);
  if (options_.initial_connection_window_bytes > kH2InitialWindow) {
    write_window_update(0, options_.initial_connection_window_bytes - kH2InitialWindow);
    read_window_ = options_.initial_connection_window_bytes;
  }
}

void H2Session::write_rst(uint32_t id, H2Error code) {
  uint8_t payload[4];
  write_be32(payload, static_cast<uint32_t>(code));
  write_frame({sizeof(payload), H2Type::kRstStream, 0, id}, payload);
  count(counting_.stats->tx_reset);
  // A peer can make us reset as well as reset itself.
  if (server_ && peers_fault(code) && premature_reset() && fault_.empty())
    flood(counting_.stats->premature_reset_flood, "http2.reset_flood");
}

void H2Session::write_goaway(uint32_t last_stream, H2Error code) {
  uint8_t payload[8];
  write_be32(write_be32(payload, last_stream), static_cast<uint32_t>(code));
  write_frame({sizeof(payload), H2Type::kGoaway, 0, 0}, payload);
  count(counting_.stats->goaway_sent);
}

void H2Session::write_ping(const uint8_t* opaque, bool ack) {
  write_frame({8, H2Type::kPing, ack ? h2_flag::kAck : uint8_t{0}, 0}, opaque);
}

void H2Session::write_window_update(uint32_t id, uint32_t increment) {
  uint8_t payload[4];
  write_be32(payload, increment);
  write_frame({sizeof(payload), H2Type::kWindowUpdate, 0, id}, payload);
}

HpackOutput& H2Session::new_block() {
  static thread_local HpackOutput block;
  block.clear();
  block.end(block.room(kH2FrameHeadBytes) + kH2FrameHeadBytes);
  return block;
}

// What was encoded must leave: the peer's table changes with it.
void H2Session::write_head(H2Stream& stream, HpackOutput& block, bool end_stream) {
  const std::string_view all(block.data(), block.size());
  const auto write = [&](H2Type type, uint8_t flags, size_t at, size_t size) {
    H2FrameHead{static_cast<uint32_t>(size), type, flags, stream.id_}.write(
        reinterpret_cast<uint8_t*>(block.data() + at - kH2FrameHeadBytes));
    connection_.output().append(all.substr(at - kH2FrameHeadBytes, kH2FrameHeadBytes + size));
  };
  size_t at = kH2FrameHeadBytes;
  H2Type type = H2Type::kHeaders;
  uint8_t flags = end_stream ? h2_flag::kEndStream : 0;
  for (; block.size() - at > kH2MaxPayload; at += kH2MaxPayload, type = H2Type::kContinuation, flags = 0)
    write(type, flags, at, kH2MaxPayload);  // its head overwrites bytes that have been written already
  write(type, flags | h2_flag::kEndHeaders, at, block.size() - at);
  wrote_ = true;
  if (end_stream) end_self(stream);
}

void H2Session::reset_on_wire(H2Stream& stream, H2Error code) {
  write_rst(stream.id_, code);
  on_stream_closed(stream, code);
}

// Our side has said END_STREAM.
void H2Session::end_self(H2Stream& stream) {
  stream.self_closed_ = true;
  if (stream.peer_closed_) return on_stream_closed(stream, H2Error::kNoError);
  // The whole answer to half a request: the client shall not send the rest (RFC 9113 section 8.1).
  if (server_ && !stream.tunnel_) reset_on_wire(stream, H2Error::kNoError);
}

// --- DATA ------------------------------------------------------------------------------------------------------------

void H2Session::offer(H2Stream& stream) {
  if (stream.to_send_.empty() || stream.closed_ || stream.send_window_ <= 0 || stream.sender()) return;
  senders_.push_back(stream);
}

// An end without a body needs no window.
void H2Session::send_body(H2Stream& stream) {
  if (!stream.to_send_.empty()) {
    offer(stream);
  } else if (stream.sending_ == H2Stream::Sending::kEnd) {
    send_end(stream);
  }
  flush();
  if (stream.to_send_.size() <= options_.stream_buffer_bytes || stream.above_) return;
  stream.above_ = true;
  note(stream);
  connection_.loop().at_turn_end(*this);
}

void H2Session::send_end(H2Stream& stream) {
  if (stream.held_trailers_ != nullptr) {
    HpackOutput& block = new_block();
    if (encode_trailers(*stream.held_trailers_, encoder_, block)) return write_head(stream, block, true);
  }
  write_data(stream, 0, true);
}

void H2Session::write_data(H2Stream& stream, size_t size, bool end_stream) {
  uint8_t head[kH2FrameHeadBytes];
  H2FrameHead{static_cast<uint32_t>(size), H2Type::kData, end_stream ? h2_flag::kEndStream : uint8_t{0}, stream.id_}
      .write(head);
  Buffer& out = connection_.output();
  out.append(std::string_view(reinterpret_cast<const char*>(head), sizeof(head)));
  if (size != 0) stream.to_send_.move_front(size, out);
  send_window_ -= static_cast<int64_t>(size);
  stream.send_window_ -= static_cast<int64_t>(size);
  ++data_frames_sent_;
  wrote_ = true;
  if (stream.above_ && stream.to_send_.size() <= options_.stream_buffer_bytes / 2) {
    stream.above_ = false;
    note(stream);
  }
  if (end_stream) end_self(stream);
}

// A frame of each in turn, so that no body waits for the end of another.
void H2Session::pump() {
  while (!senders_.empty()) {
    if (connection_.above_watermark()) {
      data_waits_ = true;
      return;
    }
    if (send_window_ <= 0) return;
    H2Stream& stream = *senders_.pop_front();
    if (stream.send_window_ <= 0) continue;
    const size_t size = static_cast<size_t>(std::min(
        {static_cast<int64_t>(stream.to_send_.size()), int64_t{kH2MaxPayload}, send_window_, stream.send_window_}));
    const bool last = size == stream.to_send_.size() && stream.sending_ == H2Stream::Sending::kEnd;
    write_data(stream, size, last && stream.held_trailers_ == nullptr);
    if (!last) {
      offer(stream);
    } else if (stream.held_trailers_ != nullptr) {
      send_end(stream);
    }
  }
}

}  // namespace outrigger::http
