// H2Session, reading: bytes become frames, frames what streams have received. RFC 9113 sections 3.4 to 6; what it lets
// a receiver choose is as strict as can be. Frames on streams that are over are dropped: they may have been on their
// way.
#include <algorithm>
#include <cstring>
#include <utility>

#include "http/h2_session.h"

namespace outrigger::http {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr size_t kPriorityBytes = 5;  // of a HEADERS or PRIORITY frame: dependency and weight
constexpr size_t kGoawayBytes = 8;    // without the debug data

}  // namespace

// --- faults and floods -----------------------------------------------------------------------------------------------

bool H2Session::fault(H2Error code) {
  fault_code_ = code;
  return false;
}

bool H2Session::flood(stats::Counter counter, std::string_view details) {
  count(counter);
  fault_ = details;
  return fault(H2Error::kEnhanceYourCalm);
}

bool H2Session::spend_control() {
  const int64_t now = connection_.loop().now_ns();
  const int64_t tenth = std::max<int64_t>(1, options_.max_control_frames / 10);
  if (const int64_t back = (now - control_refilled_ns_) * tenth / kSecondNs; back > 0) {
    control_left_ = static_cast<uint32_t>(std::min<int64_t>(options_.max_control_frames, control_left_ + back));
    control_refilled_ns_ = now;
  }
  if (control_left_ == 0) return false;
  --control_left_;
  return true;
}

bool H2Session::premature_reset() {
  ++premature_resets_;
  return premature_resets_ > options_.max_premature_resets && premature_resets_ * 2 > streams_opened_;
}

// A message that breaks the rules of section 8.
void H2Session::malformed(H2Stream& stream) {
  count(counting_.stats->rx_messaging_error);
  reset_on_wire(stream, H2Error::kProtocolError);
}

// --- bytes to frames -------------------------------------------------------------------------------------------------

void H2Session::on_read(Block* block, const char* data, size_t size) {
  if (over()) return;
  block_ = block;
  inside_ = true;
  const bool good = read_bytes(data, size);
  inside_ = false;
  block_ = nullptr;
  if (over()) return;
  if (!good || !fault_.empty()) {
    const bool calm = !fault_.empty();
    return fail(calm ? H2Error::kEnhanceYourCalm : fault_code_, calm ? fault_ : "http2.protocol_error",
                calm ? ResetReason::kOverflow : ResetReason::kProtocolError);
  }
  tell_all();
  flush();
}

bool H2Session::read_bytes(const char* data, size_t size) {
  const auto* at = reinterpret_cast<const uint8_t*>(data);
  const auto* const end = at + size;
  const auto left = [&] { return static_cast<size_t>(end - at); };
  // DATA without a body ends with its head.
  const auto done = [&] { return at == end && !(reading_ == Reading::kData && left_ == 0 && padding_ == 0); };
  while (!done() && !over() && fault_.empty()) {
    switch (reading_) {
      case Reading::kPreface: {
        const size_t take = std::min(left(), kH2Preface.size() - have_);
        if (std::memcmp(at, kH2Preface.data() + have_, take) != 0) return fault(H2Error::kProtocolError);
        at += take;
        have_ += static_cast<uint32_t>(take);
        if (have_ < kH2Preface.size()) return true;
        have_ = 0;
        reading_ = Reading::kHead;
        break;
      }
      case Reading::kHead: {
        const uint8_t* head = at;
        if (have_ == 0 && left() >= kH2FrameHeadBytes) {
          at += kH2FrameHeadBytes;
        } else {
          const size_t take = std::min(left(), kH2FrameHeadBytes - have_);
          std::memcpy(head_bytes_ + have_, at, take);
          at += take;
          have_ += static_cast<uint32_t>(take);
          if (have_ < kH2FrameHeadBytes) return true;
          have_ = 0;
          head = head_bytes_;
        }
        head_ = H2FrameHead::read(head);
        if (!on_frame_head(head_)) return false;
        if (reading_ == Reading::kPayload && head_.length == 0 && !on_payload(nullptr, 0)) return false;
        break;
      }
      case Reading::kPayload: {
        if (partial_ == nullptr && left() >= head_.length) {
          const uint8_t* const payload = at;
          at += head_.length;
          if (!on_payload(payload, head_.length)) return false;
          break;
        }
        if (partial_ == nullptr) partial_ = static_cast<uint8_t*>(h2_allocate(head_.length));
        const size_t take = std::min<size_t>(left(), head_.length - have_);
        std::memcpy(partial_ + have_, at, take);
        at += take;
        have_ += static_cast<uint32_t>(take);
        if (have_ < head_.length) return true;
        have_ = 0;
        const bool good = on_payload(partial_, head_.length);
        h2_free(std::exchange(partial_, nullptr));
        if (!good) return false;
        break;
      }
      case Reading::kPadLength:
        padding_ = *at++;
        if (padding_ > left_) return fault(H2Error::kProtocolError);
        left_ -= padding_;
        if (H2Stream* const stream = find(head_.stream); stream != nullptr) give_stream_credit(*stream, padding_ + 1);
        owed_ += padding_ + 1;
        reading_ = Reading::kData;
        break;
      case Reading::kData: {
        const size_t take = std::min<size_t>(left(), left_);
        if (take != 0) {
          if (H2Stream* const stream = find(head_.stream); stream != nullptr) {
            on_data(*stream, reinterpret_cast<const char*>(at), take);
          } else {
            owed_ += take;
          }
        }
        at += take;
        left_ -= static_cast<uint32_t>(take);
        if (left_ != 0) break;
        end_data();
        left_ = std::exchange(padding_, 0);
        reading_ = left_ != 0 ? Reading::kSkipped : Reading::kHead;
        break;
      }
      case Reading::kSkipped: {
        const size_t take = std::min<size_t>(left(), left_);
        at += take;
        left_ -= static_cast<uint32_t>(take);
        if (left_ == 0) reading_ = Reading::kHead;
        break;
      }
    }
  }
  return true;
}

// What is wrong with a frame by its head alone, and how its payload is read.
bool H2Session::on_frame_head(const H2FrameHead& head) {
  if (head.length > kH2MaxPayload) return fault(H2Error::kFrameSizeError);
  if (!settings_seen_ && (head.type != H2Type::kSettings || head.has(h2_flag::kAck)))
    return fault(H2Error::kProtocolError);
  if ((headers_id_ != 0) != (head.type == H2Type::kContinuation) || (headers_id_ != 0 && head.stream != headers_id_))
    return fault(H2Error::kProtocolError);
  const auto fixed = [&](bool right_stream, size_t bytes) {
    if (!right_stream) return fault(H2Error::kProtocolError);
    if (head.length != bytes) return fault(H2Error::kFrameSizeError);
    reading_ = Reading::kPayload;
    return true;
  };
  switch (head.type) {
    case H2Type::kData:
    case H2Type::kHeaders:
    case H2Type::kContinuation: {
      const uint8_t end = head.type == H2Type::kData ? h2_flag::kEndStream : h2_flag::kEndHeaders;
      if (head.length != 0 || head.has(end)) {
        empty_frames_ = 0;
      } else if (++empty_frames_ > options_.max_consecutive_empty_frames) {
        return flood(counting_.stats->empty_frames_flood, "http2.empty_frames_flood");
      }
      if (head.type == H2Type::kData) return begin_data();
      // As many as the largest head that is allowed may need, and a few for those who send small ones.
      if (head.type == H2Type::kContinuation && ++continuations_ > options_.max_head_bytes / kH2MaxPayload + 8)
        return flood(counting_.stats->continuation_flood, "http2.continuation_flood");
      reading_ = Reading::kPayload;
      return true;
    }
    case H2Type::kPushPromise:  // our first SETTINGS forbid it, whether they were acknowledged or not
      return fault(H2Error::kProtocolError);
    case H2Type::kPing:
      if (!head.has(h2_flag::kAck) && !spend_control())
        return flood(counting_.stats->control_flood, "http2.control_flood");
      return fixed(head.stream == 0, 8);
    case H2Type::kSettings:
      if (head.has(h2_flag::kAck)) return fixed(head.stream == 0, 0);
      if (!spend_control()) return flood(counting_.stats->control_flood, "http2.control_flood");
      return fixed(head.stream == 0, head.length - head.length % 6);
    case H2Type::kPriority:
    case H2Type::kPriorityUpdate:
      if (++priorities_ > options_.max_priority_frames_per_stream * (1 + streams_opened_))
        return flood(counting_.stats->priority_flood, "http2.priority_frames_flood");
      if (head.type == H2Type::kPriority) return fixed(head.stream != 0, kPriorityBytes);
      break;
    case H2Type::kWindowUpdate:
      if (++window_updates_ >
          5 + 2 * (streams_opened_ + options_.max_window_updates_per_data_frame * data_frames_sent_))
        return flood(counting_.stats->window_update_flood, "http2.window_update_flood");
      return fixed(true, 4);
    case H2Type::kRstStream:
      return fixed(head.stream != 0 && !idle_stream(head.stream), 4);
    case H2Type::kGoaway:
      if (head.stream != 0) return fault(H2Error::kProtocolError);
      if (head.length < kGoawayBytes) return fault(H2Error::kFrameSizeError);
      reading_ = Reading::kPayload;
      return true;
    default:
      break;
  }
  left_ = head.length;  // of no meaning to us
  reading_ = left_ != 0 ? Reading::kSkipped : Reading::kHead;
  return true;
}

bool H2Session::on_payload(const uint8_t* at, size_t size) {
  reading_ = Reading::kHead;
  switch (head_.type) {
    case H2Type::kHeaders:
      return begin_headers(at, size);
    case H2Type::kContinuation:
      return on_block(at, size);
    case H2Type::kSettings:
      return on_settings(at, size);
    case H2Type::kPing:
      if (!head_.has(h2_flag::kAck)) {
        write_ping(at, true);
        return true;
      }
      ping_out_ = false;
      arm_keepalive();
      if (draining_ && drained_.armed()) connection_.loop().timers().arm(drained_, 0);
      return true;
    case H2Type::kWindowUpdate:
      return on_window_update(read_be32(at) & kH2MaxStreamId);
    case H2Type::kRstStream:
      count(counting_.stats->rx_reset);
      if (H2Stream* const stream = find(head_.stream); stream != nullptr)
        on_stream_closed(*stream, static_cast<H2Error>(read_be32(at)));
      if (server_ && premature_reset()) return flood(counting_.stats->premature_reset_flood, "http2.reset_flood");
      return true;
    case H2Type::kGoaway:
      return on_goaway(read_be32(at) & kH2MaxStreamId);
    default:
      return true;  // PRIORITY
  }
}

// Neither side has opened it yet.
bool H2Session::idle_stream(uint32_t id) const {
  const bool ours = id % 2 == (server_ ? 0 : 1);
  return id >= (ours ? next_id_ : last_peer_id_ + 1);
}

// --- DATA ------------------------------------------------------------------------------------------------------------

bool H2Session::begin_data() {
  if (head_.stream == 0 || idle_stream(head_.stream)) return fault(H2Error::kProtocolError);
  H2Stream* const stream = find(head_.stream);
  if (stream != nullptr && stream->peer_closed_) return fault(H2Error::kStreamClosed);
  if (head_.length > read_window_) return fault(H2Error::kFlowControlError);
  read_window_ -= head_.length;
  if (stream != nullptr) {
    if (head_.length > stream->read_window_) {
      reset_on_wire(*stream, H2Error::kFlowControlError);
    } else if (!server_ && !stream->final_head_) {
      malformed(*stream);
    } else {
      stream->read_window_ -= head_.length;
    }
  }
  left_ = head_.length;
  padding_ = 0;
  reading_ = Reading::kData;
  if (!head_.has(h2_flag::kPadded)) return true;
  if (left_ == 0) return fault(H2Error::kFrameSizeError);
  --left_;
  reading_ = Reading::kPadLength;
  return true;
}

void H2Session::on_data(H2Stream& stream, const char* data, size_t size) {
  owed_ += size;
  if (stream.due_ >= 0) {
    stream.due_ -= static_cast<int64_t>(size);
    if (stream.due_ < 0) {
      malformed(stream);
      return give_credit();
    }
  }
  if (stream.unheard()) return give_credit();
  held_ += size;
  stream.received_.append_shared(block_, data, size);
  give_credit();
  note(stream);
}

void H2Session::end_data() {
  give_credit();
  if (!head_.has(h2_flag::kEndStream)) return;
  if (H2Stream* const stream = find(head_.stream); stream != nullptr) end_on_wire(*stream);
}

// The peer has sent all of its message.
void H2Session::end_on_wire(H2Stream& stream) {
  if (stream.due_ > 0) return malformed(stream);
  stream.ended_ = true;
  stream.peer_closed_ = true;
  note(stream);
  if (stream.self_closed_) on_stream_closed(stream, H2Error::kNoError);
}

// The connection's window, unless streams that nobody reads hold too much already. Half a window at a time.
void H2Session::give_credit() {
  if (owed_ < options_.initial_connection_window_bytes / 2 || closing_ ||
      held_ > size_t{kHeldWindows} * options_.initial_stream_window_bytes)
    return;
  read_window_ += static_cast<int64_t>(owed_);
  write_window_update(0, static_cast<uint32_t>(std::exchange(owed_, 0)));
}

void H2Session::give_stream_credit(H2Stream& stream, size_t size) {
  if (stream.closed_ || stream.peer_closed_) return;
  stream.owed_ += static_cast<uint32_t>(size);
  if (stream.owed_ < own_stream_window_ / 2) return;
  stream.read_window_ += stream.owed_;
  write_window_update(stream.id_, std::exchange(stream.owed_, 0));
}

// --- HEADERS and CONTINUATION ----------------------------------------------------------------------------------------

bool H2Session::begin_headers(const uint8_t* at, size_t size) {
  if (head_.stream == 0) return fault(H2Error::kProtocolError);
  size_t padding = 0;
  if (head_.has(h2_flag::kPadded)) {
    if (size == 0) return fault(H2Error::kFrameSizeError);
    padding = *at++;
    --size;
  }
  if (head_.has(h2_flag::kPriority)) {
    if (size < kPriorityBytes) return fault(H2Error::kFrameSizeError);
    if ((read_be32(at) & kH2MaxStreamId) == head_.stream) return fault(H2Error::kProtocolError);
    at += kPriorityBytes;
    size -= kPriorityBytes;
  }
  if (padding > size) return fault(H2Error::kProtocolError);
  size -= padding;

  bool good = true;
  headers_of_ = stream_of_headers(good);
  if (!good) return false;
  headers_id_ = head_.stream;
  end_stream_ = head_.has(h2_flag::kEndStream);
  continuations_ = 0;
  decoder_.begin();
  if (H2Stream* const stream = headers_of_; stream != nullptr) {
    const bool trailers = stream->final_head_;
    check_.begin(trailers  ? H2HeadCheck::Of::kTrailers
                 : server_ ? H2HeadCheck::Of::kRequest
                           : H2HeadCheck::Of::kResponse,
                 options_.allow_connect);
    Arena& arena = stream->sink_ != nullptr ? stream->sink_->arena() : stream->arena_;
    stream->incoming_ = arena.make<HeaderMap>(arena);
    stream->head_bytes_ = 0;
    stream->too_large_ = stream->incoming_ == nullptr;
    if (trailers && !end_stream_) malformed(*stream);
  }
  return on_block(at, size);
}

// nullptr: the section is decoded, for the table's sake, and dropped.
H2Stream* H2Session::stream_of_headers(bool& good) {
  const uint32_t id = head_.stream;
  if (server_ && id % 2 == 1 && id > last_peer_id_) {
    last_peer_id_ = id;
    if (goaway_sent_) return nullptr;  // it has been told
    if (live_ >= options_.max_concurrent_streams) {
      if (settings_acknowledged_) {
        good = fault(H2Error::kProtocolError);
      } else {
        write_rst(id, H2Error::kRefusedStream);
      }
      return nullptr;
    }
    last_taken_id_ = id;
    H2Stream& stream = make_stream(nullptr);
    enter(stream, id);
    return &stream;
  }
  if (idle_stream(id)) {
    good = fault(H2Error::kProtocolError);
    return nullptr;
  }
  H2Stream* const stream = find(id);
  if (stream != nullptr && stream->peer_closed_) good = fault(H2Error::kStreamClosed);
  return stream;
}

// A part of a field section; a field may go on in the next one.
bool H2Session::on_block(const uint8_t* at, size_t size) {
  const bool last = head_.has(h2_flag::kEndHeaders);
  uint8_t* joined = nullptr;
  if (rest_ != nullptr) {
    joined = static_cast<uint8_t*>(h2_allocate(rest_size_ + size));
    std::memcpy(joined, rest_, rest_size_);
    if (size != 0) std::memcpy(joined + rest_size_, at, size);
    size += rest_size_;
    at = joined;
    h2_free(std::exchange(rest_, nullptr));
  }
  const uint8_t* const end = at + size;
  bool good = decode_block(at, end);
  if (good && at != end) {
    if (last) good = fault(H2Error::kCompressionError);
    rest_size_ = static_cast<uint32_t>(end - at);
    rest_ = static_cast<uint8_t*>(h2_allocate(rest_size_));
    std::memcpy(rest_, at, rest_size_);
  }
  h2_free(joined);
  if (good && last) end_headers();
  return good;
}

bool H2Session::decode_block(const uint8_t*& at, const uint8_t* end) {
  HpackField field;
  for (;;) {
    switch (decoder_.next(at, end, field)) {
      case HpackDecoder::Got::kField:
        if (headers_of_ != nullptr && !on_field(*headers_of_, field)) return false;
        break;
      case HpackDecoder::Got::kEnd:
      case HpackDecoder::Got::kMore:
        return true;
      case HpackDecoder::Got::kError:
        return fault(H2Error::kCompressionError);
    }
  }
}

bool H2Session::on_field(H2Stream& stream, const HpackField& field) {
  if (!check_.add(field)) {
    malformed(stream);
    return true;
  }
  stream.head_bytes_ += static_cast<uint32_t>(field.name.size() + field.value.size() + 2);
  if (stream.too_large_ || stream.head_bytes_ > options_.max_head_bytes ||
      stream.incoming_->size() > options_.max_headers_count + 4) {  // and the pseudo-headers
    stream.too_large_ = true;
    // Indexed fields cost a byte each on the wire: what goes on like this is not a large head but an attack.
    if (stream.head_bytes_ > 8 * options_.max_head_bytes + 64 * 1024)
      return flood(counting_.stats->header_bomb, "http2.header_bomb");
    return true;
  }
  HeaderMap& map = *stream.incoming_;
  Arena& arena = map.arena();
  const std::string_view name = field.id != HeaderId::kNone ? field.name : arena.copy(field.name);
  const std::string_view value = arena.copy(field.value);
  if (name.data() == nullptr || value.data() == nullptr) {
    map.mark_overflowed();
  } else {
    map.add_view(name, value, field.id, field.never_indexed);
  }
  if (map.overflowed()) stream.too_large_ = true;
  return true;
}

// The section is whole: an interim head, the message's head, or its trailers.
void H2Session::end_headers() {
  headers_id_ = 0;
  if (headers_of_ == nullptr) return;
  H2Stream& stream = *std::exchange(headers_of_, nullptr);
  HeaderMap* const map = std::exchange(stream.incoming_, nullptr);
  if (!check_.whole()) return malformed(stream);
  if (stream.too_large_ && !stream.unheard()) count(counting_.stats->header_overflow);
  if (stream.final_head_) {  // trailers; dropped if they are too large
    if (!stream.too_large_) {
      finish_trailers(*map);
      if (map->size() != 0) stream.trailers_ = map;
    }
    return end_on_wire(stream);
  }
  const uint16_t status = server_ || map == nullptr ? 0 : status_of(*map);
  const bool interim = !server_ && status < 200;
  if (map == nullptr || (interim && (++stream.interims_ > kMaxInterims || stream.too_large_))) {
    stream.reset_reason_ = ResetReason::kOverflow;
    return reset_on_wire(stream, H2Error::kEnhanceYourCalm);
  }
  if (interim) {
    if (end_stream_) return malformed(stream);
    if (stream.sink_ == nullptr) return;
    finish_response(*map, status);
    return stream.sink_->on_1xx(*map);  // not noted: there may be several
  }
  stream.final_head_ = true;
  const bool bodiless = !server_ && (stream.head_request_ || status == 204 || status == 304);
  const bool tunnel =
      server_ ? check_.asks_for_tunnel() : (stream.connect_ || !stream.upgrade_.empty()) && status / 100 == 2;
  stream.due_ = tunnel ? -1 : bodiless ? 0 : check_.content_length();
  stream.head_ = map;
  stream.head_too_large_ = stream.too_large_;
  note(stream);
  if (end_stream_) end_on_wire(stream);
}

// --- SETTINGS, WINDOW_UPDATE, GOAWAY ---------------------------------------------------------------------------------

bool H2Session::on_settings(const uint8_t* at, size_t size) {
  if (head_.has(h2_flag::kAck)) {
    if (std::exchange(settings_acknowledged_, true)) return fault(H2Error::kProtocolError);
    const int64_t more = int64_t{options_.initial_stream_window_bytes} - own_stream_window_;
    own_stream_window_ += more;
    open_.for_each([&](H2Stream& stream) { stream.read_window_ += more; });
    return true;
  }
  if (!settings_seen_) peer_max_streams_ = UINT32_MAX;
  settings_seen_ = true;
  int64_t window = peer_stream_window_;
  for (const uint8_t* const end = at + size; at != end; at += 6) {
    const uint32_t value = read_be32(at + 2);
    switch (read_be16(at)) {
      case h2_setting::kHeaderTableSize:
        encoder_.set_limit(value);
        break;
      case h2_setting::kEnablePush:
        if (value > (server_ ? 1 : 0)) return fault(H2Error::kProtocolError);
        break;
      case h2_setting::kMaxConcurrentStreams:
        peer_max_streams_ = value;
        break;
      case h2_setting::kInitialWindowSize:
        if (value > kH2MaxWindow) return fault(H2Error::kFlowControlError);
        window = value;
        break;
      case h2_setting::kMaxFrameSize:
        if (value < kH2MaxPayload || value > 0xffffff) return fault(H2Error::kProtocolError);
        break;
      case h2_setting::kEnableConnectProtocol:  // RFC 8441 section 3: never taken back
        if (value > 1 || (value == 0 && peer_takes_connect_)) return fault(H2Error::kProtocolError);
        peer_takes_connect_ = value == 1;
        break;
      case h2_setting::kNoRfc7540Priorities:
        if (value > 1) return fault(H2Error::kProtocolError);
        break;
      default:
        break;
    }
  }
  const int64_t more = window - std::exchange(peer_stream_window_, window);
  bool good = true;
  if (more != 0) {
    open_.for_each([&](H2Stream& stream) {
      stream.send_window_ += more;
      good = good && stream.send_window_ <= kH2MaxWindow;
      if (more > 0) offer(stream);
    });
  }
  if (!good) return fault(H2Error::kFlowControlError);
  write_frame({0, H2Type::kSettings, h2_flag::kAck, 0});
  tell_capacity();
  return true;
}

bool H2Session::on_window_update(uint32_t increment) {
  if (head_.stream == 0) {
    if (increment == 0) return fault(H2Error::kProtocolError);
    send_window_ += increment;
    return send_window_ <= kH2MaxWindow || fault(H2Error::kFlowControlError);
  }
  if (idle_stream(head_.stream)) return fault(H2Error::kProtocolError);
  H2Stream* const stream = find(head_.stream);
  if (stream == nullptr) return true;
  stream->send_window_ += increment;
  if (increment == 0) {
    reset_on_wire(*stream, H2Error::kProtocolError);
  } else if (stream->send_window_ > kH2MaxWindow) {
    reset_on_wire(*stream, H2Error::kFlowControlError);
  } else {
    offer(*stream);
  }
  return true;
}

// Streams behind the last that the peer looks at may be sent again, elsewhere.
bool H2Session::on_goaway(uint32_t last_stream) {
  if (last_stream > goaway_last_) return fault(H2Error::kProtocolError);
  goaway_last_ = last_stream;
  goaway_seen_ = true;
  if (!server_) {
    open_.for_each([&](H2Stream& stream) {
      if (stream.id_ > last_stream && !stream.closed_) on_stream_closed(stream, H2Error::kRefusedStream);
    });
  }
  tell_capacity();
  return true;
}

}  // namespace outrigger::http
