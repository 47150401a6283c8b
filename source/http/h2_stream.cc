// The streams' side of H2Session: what sinks are told, what they send.
#include <algorithm>

#include "base/check.h"
#include "http/h1_encode.h"
#include "http/h2_session.h"

namespace outrigger::http {
namespace {

ResetReason reason_of(H2Error code) {
  switch (code) {
    case H2Error::kRefusedStream:
      return ResetReason::kRefused;
    case H2Error::kProtocolError:
    case H2Error::kFlowControlError:
    case H2Error::kFrameSizeError:
    case H2Error::kCompressionError:
    case H2Error::kStreamClosed:
      return ResetReason::kProtocolError;
    default:
      return ResetReason::kRemoteReset;
  }
}

H2Error code_of(ResetReason reason, bool server) {
  switch (reason) {
    case ResetReason::kProtocolError:
      return H2Error::kProtocolError;
    case ResetReason::kRefused:
      return H2Error::kRefusedStream;
    case ResetReason::kOverflow:
      return H2Error::kEnhanceYourCalm;
    default:  // a server breaks its answer off; a client wants none any more
      return server ? H2Error::kInternalError : H2Error::kCancel;
  }
}

}  // namespace

// --- what becomes of a stream on the wire ----------------------------------------------------------------------------

void H2Session::note(H2Stream& stream) {
  if (!static_cast<ListNode<H2NewsTag>&>(stream).linked()) news_.push_back(stream);
}

void H2Session::on_stream_closed(H2Stream& stream, H2Error code) {
  leave(stream);
  stream.closed_ = true;
  if (headers_of_ == &stream) headers_of_ = nullptr;
  stream.incoming_ = nullptr;
  static_cast<ListNode<H2SenderTag>&>(stream).unlink();
  stream.to_send_.clear();
  const bool sent = stream.sending_ == H2Stream::Sending::kEnd;
  const bool whole = stream.tunnel_ ? sent && stream.ended_ : server_ ? sent : stream.ended_;
  if (!whole && !stream.reset_) {
    stream.reset_ = true;
    if (code == H2Error::kNoError) {
      stream.reset_reason_ = ResetReason::kRemoteReset;
    } else if (stream.reset_reason_ == ResetReason::kLocalReset) {
      stream.reset_reason_ = reason_of(code);
    }
    if (stream.reset_details_.empty())
      stream.reset_details_ = stream.reset_reason_ == ResetReason::kProtocolError
                                  ? std::string_view("http2.protocol_error")
                                  : std::string_view("http2.remote_reset");
  }
  note(stream);
}

// --- what sinks are told ---------------------------------------------------------------------------------------------

void H2Session::tell_all() {
  if (telling_) return;
  telling_ = true;
  while (H2Stream* const stream = news_.pop_front()) tell(*stream);
  telling_ = false;
}

void H2Session::tell(H2Stream& stream) {
  if (stream.head_ != nullptr && (stream.sink_ != nullptr || (server_ && !stream.head_told_)) &&
      !(server_ && stream.reset_))
    tell_head(stream);
  if (stream.reset_ && stream.sink_ != nullptr) {
    StreamSink* const sink = stream.sink_;
    detach(stream);
    sink->on_reset(stream.reset_reason_, stream.reset_details_);
  }
  if (stream.sink_ != nullptr) tell_watermark(stream);
  if (stream.sink_ != nullptr && stream.head_told_) tell_body(stream);
  finish_if_over(stream);
}

void H2Session::tell_head(H2Stream& stream) {
  HeaderMap& map = *std::exchange(stream.head_, nullptr);
  stream.head_told_ = true;
  const bool end = stream.ended_ && stream.received_.empty() && stream.trailers_ == nullptr;
  if (!server_) {
    if (stream.head_too_large_) {
      stream.reset_ = true;
      stream.reset_reason_ = ResetReason::kOverflow;
      stream.reset_details_ = "http2.headers_too_large";
      if (!stream.closed_) reset_on_wire(stream, H2Error::kCancel);
      return;
    }
    const uint16_t status = status_of(map);
    if (!stream.upgrade_.empty() && status / 100 == 2) {
      stream.tunnel_ = true;
      finish_upgrade(map, stream.upgrade_);
      stream.sink_->on_headers(map, false);
      return;
    }
    if (stream.connect_ && status / 100 == 2) {
      stream.tunnel_ = true;
      map.remove(HeaderId::kContentLength);
      stream.sink_->on_headers(map, false);
      return;
    }
    finish_response(map, status);
    stream.end_told_ = end;
    stream.sink_->on_headers(map, end);
    if (end && stream.sink_ != nullptr) detach(stream);
    return;
  }
  const H2Fault fault = stream.head_too_large_ ? H2Fault{431, false, "http2.headers_too_large"} : finish_request(map);
  if (fault.malformed) {
    if (!stream.closed_) malformed(stream);
    return;
  }
  stream.head_request_ = map.get(HeaderId::kMethod) == "HEAD";
  stream.upgrade_ = map.get(HeaderId::kUpgrade);
  stream.connect_ = map.get(HeaderId::kMethod) == "CONNECT";
  stream.sink_ = &owner_.on_new_stream(stream);
  stream.seen_ = true;
  Arena& arena = stream.sink_->arena();
  arena.take(stream.arena_);
  map.moved_to(arena);
  if (stream.incoming_ != nullptr) stream.incoming_->moved_to(arena);
  if (stream.trailers_ != nullptr) stream.trailers_->moved_to(arena);
  if (fault) {
    stream.received_.clear();
    stream.end_told_ = true;
    stream.sink_->on_bad_request(fault.status, fault.details);
    return;
  }
  stream.end_told_ = end && stream.upgrade_.empty() && !stream.connect_;
  stream.sink_->on_headers(map, stream.end_told_);
}

// Whether a stream whose peer's end has been told has nothing to do any more.
bool H2Session::over_with(const H2Stream& stream) const {
  if (stream.sink_ == nullptr) return false;
  return stream.tunnel_ ? stream.sending_ == H2Stream::Sending::kEnd : !server_;
}

void H2Session::tell_body(H2Stream& stream) {
  if (stream.end_told_ || stream.pauses_ != 0) return;
  if (!stream.received_.empty() || (stream.ended_ && stream.trailers_ == nullptr)) {
    const size_t size = stream.received_.size();
    const bool end = stream.ended_ && stream.trailers_ == nullptr;
    Buffer data = std::move(stream.received_);
    held_ -= size;
    give_credit();
    give_stream_credit(stream, size);
    stream.end_told_ = end;
    stream.sink_->on_data(data, end);
    if (end && over_with(stream)) detach(stream);
    if (stream.sink_ == nullptr || stream.pauses_ != 0) return;
  }
  if (stream.trailers_ == nullptr || !stream.ended_) return;
  HeaderMap& trailers = *std::exchange(stream.trailers_, nullptr);
  stream.end_told_ = true;
  if (stream.tunnel_) {  // has none; its end is what counts
    Buffer none;
    stream.sink_->on_data(none, true);
  } else {
    stream.sink_->on_trailers(trailers);
  }
  if (over_with(stream)) detach(stream);
}

void H2Session::tell_watermark(H2Stream& stream) {
  const bool above = stream.above_ || socket_above_;
  if (above == stream.told_above_) return;
  stream.told_above_ = above;
  stream.sink_->on_write_watermark(above);
}

// Nobody listens any more: what has come is dropped, and the rest of a field section, whose place goes with the sink,
// will be. A client whose request is not sent whole takes it back; of a tunnel, what it was given is still sent.
void H2Session::detach(H2Stream& stream) {
  stream.sink_ = nullptr;
  stream.trailers_ = nullptr;
  if (std::exchange(stream.incoming_, nullptr) != nullptr) stream.too_large_ = true;
  held_ -= stream.received_.size();
  stream.received_.clear();
  note(stream);
  if (over()) return;
  give_credit();
  const bool sent = stream.tunnel_ ? stream.sending_ == H2Stream::Sending::kEnd : stream.self_closed_;
  if (!server_ && !stream.closed_ && stream.id_ != 0 && !sent) reset_on_wire(stream, H2Error::kNoError);
}

void H2Session::finish_if_over(H2Stream& stream) {
  if (stream.sink_ != nullptr || !(stream.closed_ || stream.id_ == 0)) return;
  const bool told = stream.seen_ || !server_;
  held_ -= stream.received_.size();
  destroy(stream);
  if (told && !connection_.closing()) owner_.on_stream_end(!goaway_seen_ && !draining_);
}

// --- streams that we begin -------------------------------------------------------------------------------------------

CodecStream& H2Session::new_stream(StreamSink& sink) {
  CHECK(!server_);
  return make_stream(&sink);
}

uint32_t H2Session::capacity() const {
  if (server_ || over() || draining_ || goaway_seen_ || next_id_ > kH2MaxStreamId) return 0;
  const uint32_t most = std::min(options_.max_concurrent_streams, peer_max_streams_);
  return open_count_ < most ? most - open_count_ : 0;
}

bool H2Session::refuses_upgrades() const { return settings_seen_ && !peer_takes_connect_; }

// The next stream may go on the wire.
bool H2Session::may_begin() const { return !goaway_seen_ && next_id_ <= kH2MaxStreamId && live_ < peer_max_streams_; }

// The peer takes no more streams. The sink hears of it later.
void H2Session::not_begun(H2Stream& stream) {
  stream.reset_ = stream.closed_ = true;
  stream.reset_reason_ = ResetReason::kRefused;
  stream.reset_details_ = "http2.stream_not_begun";
  note(stream);
  connection_.loop().at_turn_end(*this);
}

// --- CodecStream -----------------------------------------------------------------------------------------------------

void H2Stream::encode_1xx(const HeaderMap& headers) {
  if (session_.over() || closed_ || reset_) return;
  CHECK(sending_ == Sending::kNothing);
  const uint16_t status = status_of(headers);
  if (status < 100 || status >= 200 || status == 101) return break_framing("http2.invalid_status");
  HpackOutput& block = H2Session::new_block();
  if (encode_response(headers, session_.encoder_, block)) session_.write_head(*this, block, false);
  session_.flush();
}

void H2Stream::encode_headers(const HeaderMap& headers, bool end_stream) {
  CHECK(sink_ != nullptr && sending_ == Sending::kNothing);
  if (session_.over() || closed_ || reset_) return;
  const bool server = session_.server_;
  const DeclaredLength declared = declared_length(headers);
  const uint16_t status = server ? status_of(headers) : 200;
  tunnel_ =
      server && (connect_ ? status / 100 == 2 && !end_stream && !declared.given : status == 101 && !upgrade_.empty());
  if (status < 200 && !tunnel_) return break_framing("http2.invalid_status");
  if (!server && !end_stream) {
    upgrade_ = headers.get(HeaderId::kUpgrade);
    connect_ = upgrade_.empty() && headers.get(HeaderId::kMethod) == "CONNECT";
  }
  if (!server && !upgrade_.empty() && session_.refuses_upgrades()) return break_framing("http2.upgrade_not_offered");
  no_body_ = server && !tunnel_ && (head_request_ || status == 204 || status == 304);
  if (!server) head_request_ = headers.get(HeaderId::kMethod) == "HEAD";
  if (declared.invalid || (declared.given && end_stream && !no_body_ && declared.bytes != 0))
    return break_framing("http2.content_length_mismatch");
  length_known_ = declared.given && !no_body_ && upgrade_.empty();
  send_left_ = declared.bytes;
  if (!server && !session_.may_begin()) return session_.not_begun(*this);
  HpackOutput& block = H2Session::new_block();
  const bool good = !server                ? encode_request(headers, session_.encoder_, block)
                    : tunnel_ && !connect_ ? encode_acceptance(headers, session_.encoder_, block)
                                           : encode_response(headers, session_.encoder_, block);
  if (!good) return break_framing("http2.invalid_head");
  sending_ = end_stream ? Sending::kEnd : Sending::kBody;
  if (!server) session_.enter(*this, std::exchange(session_.next_id_, session_.next_id_ + 2));
  if (end_stream && server) session_.detach(*this);  // no tunnel: its head never ends it
  session_.write_head(*this, block, end_stream);
  session_.flush();
}

void H2Stream::encode_data(Buffer&& data, bool end_stream) {
  CHECK(sink_ != nullptr);
  if (session_.over() || closed_ || reset_) return;
  CHECK(sending_ == Sending::kBody);
  if (no_body_) data.clear();
  if (length_known_ && (data.size() > send_left_ || (end_stream && data.size() < send_left_)))
    return break_framing("http2.content_length_mismatch");
  send_left_ -= length_known_ ? data.size() : 0;
  if (data.empty() && !end_stream) return;
  to_send_.append(std::move(data));
  if (end_stream) {
    sending_ = Sending::kEnd;
    if (tunnel_ ? end_told_ : session_.server_) session_.detach(*this);
  }
  session_.send_body(*this);
}

void H2Stream::encode_trailers(const HeaderMap& trailers) {
  CHECK(sink_ != nullptr);
  if (session_.over() || closed_ || reset_) return;
  CHECK(sending_ == Sending::kBody);
  if (tunnel_) return encode_data({}, true);
  if (length_known_ && send_left_ != 0) return break_framing("http2.content_length_mismatch");
  sending_ = Sending::kEnd;
  if (session_.server_) session_.detach(*this);
  if (to_send_.empty()) {
    HpackOutput& block = H2Session::new_block();
    if (!http::encode_trailers(trailers, session_.encoder_, block)) return session_.send_body(*this);
    session_.write_head(*this, block, true);
    return session_.flush();
  }
  held_trailers_ = arena_.make<HeaderMap>(arena_);  // behind the body: the sender's map will be gone
  if (held_trailers_ != nullptr) trailers.for_each([&](const Header& h) { held_trailers_->add_copy(h); });
  session_.send_body(*this);
}

void H2Stream::reset(ResetReason reason) {
  CHECK(sink_ != nullptr);
  const bool begun = id_ != 0 && !closed_;
  const bool live = !session_.over();
  if (begun && live) {
    sending_ = Sending::kEnd;
    session_.reset_on_wire(*this, code_of(reason, session_.server_));
  }
  session_.detach(*this);
  if (live) session_.flush();
  session_.connection_.loop().at_turn_end(session_);
}

// The sender did not keep to the length that it had announced, or announced nonsense: the peer must not take it for a
// whole message. The sink hears of it later, not from inside its own call.
void H2Stream::break_framing(std::string_view details) {
  reset_ = true;
  reset_reason_ = ResetReason::kLocalReset;
  reset_details_ = details;
  if (id_ != 0) {
    session_.reset_on_wire(*this, H2Error::kInternalError);
  } else {
    closed_ = true;
  }
  session_.note(*this);
  session_.flush();
  session_.connection_.loop().at_turn_end(session_);
}

void H2Stream::resume_read(net::Pause why) {
  if (pauses_ == 0) return;
  pauses_ &= static_cast<uint8_t>(~static_cast<uint8_t>(why));
  if (pauses_ != 0) return;
  session_.note(*this);
  session_.connection_.loop().at_turn_end(session_);
}

size_t H2Stream::write_queue_bytes() const { return to_send_.size() + session_.connection_.write_queue_bytes(); }

}  // namespace outrigger::http
