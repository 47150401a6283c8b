#include "http/h1_server_codec.h"

#include <array>

#include "base/check.h"
#include "http/h1_codec.h"
#include "http/h1_encode.h"
#include "http/h1_scan.h"

namespace outrigger::http {
namespace {

constexpr auto kLegal = [] {
  std::array<uint8_t, 8> table{};
  for (const H1ServerMove& move : kServerMoves)
    table[static_cast<size_t>(move.from)] |= static_cast<uint8_t>(1u << static_cast<unsigned>(move.to));
  return table;
}();

// 0: none.
uint16_t status_of(const HeaderMap& headers) {
  const std::string_view text = headers.get(HeaderId::kStatus);
  const int64_t status = text.size() == 3 ? parse_decimal(text) : 0;
  return static_cast<uint16_t>(status < 100 ? 0 : status);
}

}  // namespace

std::unique_ptr<Codec> make_h1_server_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H1Options& options) {
  return std::make_unique<H1ServerCodec>(connection, owner, options);
}

H1ServerCodec::H1ServerCodec(net::Connection& connection, CodecCallbacks& owner, const H1Options& options)
    : connection_(connection), owner_(owner), options_(options), parser_(H1Parser::Kind::kRequest, options_) {}

void H1ServerCodec::move_to(H1ServerState to) {
  CHECK((kLegal[static_cast<size_t>(state_)] >> static_cast<unsigned>(to) & 1) != 0);
  state_ = to;
}

CodecStream& H1ServerCodec::new_stream(StreamSink&) { CHECK(!"a server codec begins no stream"); }

// --- decode ----------------------------------------------------------------------------------------------------------

void H1ServerCodec::on_read(Block* block, const char* data, size_t size) {
  if (state_ == H1ServerState::kRefusing || state_ == H1ServerState::kClosed) return;
  if (state_ == H1ServerState::kTunnel && pending_.empty()) {
    Buffer bytes;
    bytes.append_shared(block, data, size);
    sink_->on_data(bytes, false);
    return;
  }
  if (feeding_ || !pending_.empty() || !reading()) return retain(block, data, size);
  feed(block, data, data + size);
}

void H1ServerCodec::retain(Block* block, const char* data, size_t size) {
  pending_.append_shared(block, data, size);
  connection_.pause_read(net::Pause::kPipeline);
}

void H1ServerCodec::on_turn_end() {
  if (state_ == H1ServerState::kTunnel) return deliver_waiting();
  if (!reading() || pending_.empty()) return;
  const Buffer waiting = std::move(pending_);
  for (const Buffer::Slice& slice : waiting) {
    if (reading()) {
      feed(slice.block, slice.data, slice.data + slice.size);
    } else if (state_ == H1ServerState::kAnswering) {
      pending_.append_shared(slice.block, slice.data, slice.size);
    }
  }
  if (pending_.empty()) {
    connection_.resume_read(net::Pause::kPipeline);
  } else if (reading()) {
    connection_.loop().at_turn_end(*this);
  }
}

// Reads bytes while there is a request to read them into. The body bytes of one call are delivered together.
void H1ServerCodec::feed(Block* block, const char* at, const char* end) {
  feeding_ = true;
  Buffer body;
  while (reading()) {
    if (state_ == H1ServerState::kIdle && at == end) break;
    const H1Parser::Event event = parser_.next(at, end);
    if (state_ == H1ServerState::kIdle && !parser_.at_start()) move_to(H1ServerState::kHead);
    if (event == H1Parser::Event::kNeedMore) break;
    switch (event) {
      case H1Parser::Event::kHead:
        begin_request();
        break;
      case H1Parser::Event::kData:
        body.append_shared(block, parser_.data().data(), parser_.data().size());
        break;
      case H1Parser::Event::kTrailers:
        trailers(body);
        break;
      case H1Parser::Event::kEnd:
        end_request(body);
        break;
      default:
        refuse(body);
        break;
    }
  }
  if (!body.empty() && state_ == H1ServerState::kReceiving) sink_->on_data(body, false);
  feeding_ = false;
  if (at < end && state_ == H1ServerState::kAnswering) retain(block, at, static_cast<size_t>(end - at));
}

void H1ServerCodec::begin_request() {
  sink_ = &owner_.on_new_stream(*this);
  response_ = Response::kNone;
  close_after_ = false;
  message_ = H1Message{};
  if (!parser_.parse_head(sink_->arena(), message_)) {
    message_ = H1Message{};
    close_after_ = true;
    move_to(H1ServerState::kRefusing);
    const H1Fault fault = parser_.fault();
    sink_->on_bad_request(fault.status, fault.details);
    return;
  }
  close_after_ = !message_.keep_alive || message_.connect_request;
  const bool whole = message_.body == H1Body::kNone;
  move_to(whole ? H1ServerState::kAnswering : H1ServerState::kReceiving);
  sink_->on_headers(*message_.headers, whole && !message_.upgrade && !message_.connect_request);
}

void H1ServerCodec::end_request(Buffer& body) {
  move_to(H1ServerState::kAnswering);
  sink_->on_data(body, true);
  body.clear();
}

void H1ServerCodec::trailers(Buffer& body) {
  HeaderMap* const map = parser_.parse_trailers(sink_->arena());
  if (map == nullptr) return refuse(body);
  if (!options_.enable_trailers || map->size() == 0) return;  // kEnd follows
  if (!body.empty()) {
    sink_->on_data(body, false);
    body.clear();
    if (state_ != H1ServerState::kReceiving) return;
  }
  move_to(H1ServerState::kAnswering);
  sink_->on_trailers(*map);
}

// The parser has failed: a head (no stream yet) or a body.
void H1ServerCodec::refuse(Buffer& body) {
  body.clear();
  const H1Fault fault = parser_.fault();
  if (sink_ == nullptr) {
    message_ = H1Message{};
    response_ = Response::kNone;
    sink_ = &owner_.on_new_stream(*this);
  }
  close_after_ = true;
  if (response_ != Response::kNone) return abort_stream(ResetReason::kProtocolError, fault.details, net::Close::kReset);
  move_to(H1ServerState::kRefusing);
  sink_->on_bad_request(fault.status, fault.details);
}

void H1ServerCodec::on_eof() {
  if (state_ == H1ServerState::kClosed) return;
  if (state_ == H1ServerState::kTunnel) {
    peer_ended_ = true;
    StreamSink* const sink = sink_;
    Buffer last = std::move(pending_);
    sink->on_data(last, true);
    if (we_ended_ && sink_ == sink) finish_tunnel();
    return;
  }
  if (sink_ != nullptr)
    return abort_stream(ResetReason::kConnectionTermination, "downstream_remote_disconnect", net::Close::kNow);
  move_to(H1ServerState::kClosed);
  connection_.close(net::Close::kFlush);
}

void H1ServerCodec::on_head_timeout() {
  if (state_ == H1ServerState::kHead) {
    connection_.output().append("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    connection_.written();
    move_to(H1ServerState::kClosed);
  }
  connection_.close(net::Close::kFlush);
}

void H1ServerCodec::on_close() {
  if (state_ != H1ServerState::kClosed) move_to(H1ServerState::kClosed);
  unlink();
  pending_.clear();
  if (sink_ == nullptr) return;
  StreamSink* const sink = sink_;
  forget_stream();
  const bool ours = !reset_details_.empty();
  sink->on_reset(ours ? ResetReason::kLocalReset : ResetReason::kConnectionTermination,
                 ours ? reset_details_ : std::string_view("downstream_remote_disconnect"));
}

void H1ServerCodec::on_write_watermark(bool above) {
  if (sink_ != nullptr && state_ != H1ServerState::kClosed) sink_->on_write_watermark(above);
}

// --- the stream's end ------------------------------------------------------------------------------------------------

void H1ServerCodec::forget_stream() {
  sink_ = nullptr;
  message_.headers = nullptr;
  for (const net::Pause why : {net::Pause::kBackpressure, net::Pause::kBuffer, net::Pause::kDrain})
    if ((stream_pauses_ & static_cast<uint8_t>(why)) != 0) connection_.resume_read(why);
  stream_pauses_ = 0;
}

void H1ServerCodec::finish_response() {
  connection_.written();
  const bool reusable = state_ == H1ServerState::kAnswering && !close_after_ && response_ != Response::kUntilClose;
  forget_stream();
  if (reusable) {
    move_to(H1ServerState::kIdle);
    parser_.reset();
    if (!pending_.empty()) connection_.loop().at_turn_end(*this);
  } else {
    move_to(H1ServerState::kClosed);
    pending_.clear();
    connection_.close(net::Close::kFlush);
  }
  owner_.on_stream_end(reusable);
}

// --- tunnels ---------------------------------------------------------------------------------------------------------

void H1ServerCodec::accept_tunnel(const HeaderMap& headers, uint16_t status) {
  {
    HeadWriter out(connection_.output(), expected_head_bytes(headers));
    write_status(out, status);
    write_fields(out, headers, options_.enable_trailers);
    if (status == 101) {
      out.text("connection: upgrade\r\n");
      const Header* const upgrade = headers.find(HeaderId::kUpgrade);
      out.field(upgrade != nullptr ? *upgrade : *message_.headers->find(HeaderId::kUpgrade));
    }
    out.text("\r\n");
  }
  response_ = Response::kTunnel;
  peer_ended_ = we_ended_ = false;
  move_to(H1ServerState::kTunnel);
  connection_.written();
  if (!pending_.empty()) connection_.loop().at_turn_end(*this);
}

// What came before the answer.
void H1ServerCodec::deliver_waiting() {
  if (pending_.empty()) return;
  Buffer waiting = std::move(pending_);
  connection_.resume_read(net::Pause::kPipeline);
  sink_->on_data(waiting, false);
}

void H1ServerCodec::tunnel_data(Buffer&& data, bool end) {
  connection_.output().append(std::move(data));
  connection_.written();
  if (!end) return;
  we_ended_ = true;
  if (peer_ended_) return finish_tunnel();
  connection_.shutdown_write();
}

void H1ServerCodec::finish_tunnel() {
  forget_stream();
  move_to(H1ServerState::kClosed);
  connection_.close(net::Close::kFlush);
  owner_.on_stream_end(false);
}

void H1ServerCodec::abort_stream(ResetReason reason, std::string_view details, net::Close how) {
  StreamSink* const sink = sink_;
  forget_stream();
  move_to(H1ServerState::kClosed);
  pending_.clear();
  connection_.close(how);
  sink->on_reset(reason, details);
}

// The sender did not keep to the length that it had announced, or announced nonsense. The peer must not take what it
// got for a whole message: RST. The sink hears of it in on_close(), not from inside its own call.
void H1ServerCodec::break_framing(std::string_view details) {
  reset_details_ = details;
  move_to(H1ServerState::kClosed);
  pending_.clear();
  connection_.close(net::Close::kReset);
}

void H1ServerCodec::reset(ResetReason) {
  CHECK(sink_ != nullptr);
  const bool begun = response_ != Response::kNone;
  forget_stream();
  if (state_ == H1ServerState::kClosed) return;
  move_to(H1ServerState::kClosed);
  pending_.clear();
  connection_.close(begun ? net::Close::kReset : net::Close::kNow);
}

void H1ServerCodec::pause_read(net::Pause why) {
  CHECK(sink_ != nullptr);
  stream_pauses_ |= static_cast<uint8_t>(why);
  connection_.pause_read(why);
}

void H1ServerCodec::resume_read(net::Pause why) {
  CHECK(sink_ != nullptr);
  stream_pauses_ &= static_cast<uint8_t>(~static_cast<uint8_t>(why));
  connection_.resume_read(why);
}

// --- encode ----------------------------------------------------------------------------------------------------------

void H1ServerCodec::write_status(HeadWriter& out, uint16_t status) {
  out.text("HTTP/1.1 ");
  if (const std::string_view end = status_line_end(status); !end.empty()) {
    out.text(end);
  } else {
    out.number(status);
    out.text(" Unknown\r\n");
  }
}

void H1ServerCodec::encode_1xx(const HeaderMap& headers) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ServerState::kClosed || state_ == H1ServerState::kRefusing || message_.http_10) return;
  CHECK(response_ == Response::kNone);
  const uint16_t status = status_of(headers);
  if (status < 100 || status >= 200 || status == 101) return break_framing("http1.invalid_status");
  {
    HeadWriter out(connection_.output(), expected_head_bytes(headers));
    write_status(out, status);
    write_fields(out, headers, options_.enable_trailers);
    out.text("\r\n");
  }
  connection_.written();
}

void H1ServerCodec::encode_headers(const HeaderMap& headers, bool end_stream) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ServerState::kClosed) return;
  CHECK(response_ == Response::kNone);
  const DeclaredLength declared = declared_length(headers);
  const uint16_t status = status_of(headers);
  const bool connected = message_.connect_request && status / 100 == 2 && !end_stream && !declared.given;
  if (state_ == H1ServerState::kAnswering && (connected || (status == 101 && message_.upgrade)))
    return accept_tunnel(headers, status);
  if (status < 200) return break_framing("http1.invalid_status");
  const bool no_body = message_.head_request || status == 204 || status == 304;
  if (declared.invalid || (declared.given && end_stream && !no_body && declared.bytes != 0))
    return break_framing("http1.content_length_mismatch");
  if (draining_ || asks_to_close(headers) || (end_stream && state_ != H1ServerState::kAnswering)) close_after_ = true;
  if (no_body) {
    response_ = Response::kNoBody;
  } else if (declared.given || end_stream) {
    response_ = Response::kFixed;
    response_left_ = declared.bytes;
  } else if (message_.http_10) {
    response_ = Response::kUntilClose;
    close_after_ = true;
  } else {
    response_ = Response::kChunked;
  }
  {
    HeadWriter out(connection_.output(), expected_head_bytes(headers));
    write_status(out, status);
    write_fields(out, headers, options_.enable_trailers);
    if (response_ == Response::kChunked) {
      out.text("transfer-encoding: chunked\r\n");
    } else if (response_ == Response::kFixed || (declared.given && status != 204)) {
      out.content_length(declared.bytes);
    }
    if (close_after_) {
      out.text("connection: close\r\n");
    } else if (message_.http_10) {
      out.text("connection: keep-alive\r\n");
    }
    out.text("\r\n");
  }
  if (end_stream) return finish_response();
  connection_.written();
}

void H1ServerCodec::encode_data(Buffer&& data, bool end_stream) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ServerState::kClosed) return;
  CHECK(response_ != Response::kNone);
  if (response_ == Response::kTunnel) return tunnel_data(std::move(data), end_stream);
  switch (response_) {
    case Response::kFixed:
      if (data.size() > response_left_ || (end_stream && data.size() < response_left_))
        return break_framing("http1.content_length_mismatch");
      response_left_ -= data.size();
      connection_.output().append(std::move(data));
      break;
    case Response::kChunked:
      write_chunk(connection_.output(), std::move(data), end_stream);
      break;
    case Response::kUntilClose:
      connection_.output().append(std::move(data));
      break;
    default:  // the answer to HEAD, 204, 304: no byte of a body
      data.clear();
      break;
  }
  if (end_stream) return finish_response();
  connection_.written();
}

void H1ServerCodec::encode_trailers(const HeaderMap& trailers) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ServerState::kClosed) return;
  CHECK(response_ != Response::kNone);
  if (response_ == Response::kTunnel) return tunnel_data({}, true);
  if (response_ == Response::kFixed && response_left_ != 0) return break_framing("http1.content_length_mismatch");
  if (response_ == Response::kChunked)
    write_last_chunk(connection_.output(), options_.enable_trailers ? &trailers : nullptr);
  finish_response();
}

}  // namespace outrigger::http
