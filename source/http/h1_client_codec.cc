#include "http/h1_client_codec.h"

#include <array>

#include "base/check.h"
#include "http/h1_codec.h"
#include "http/h1_encode.h"
#include "http/h1_scan.h"

namespace outrigger::http {
namespace {

constexpr auto kLegal = [] {
  std::array<uint8_t, 5> table{};
  for (const H1ClientMove& move : kClientMoves)
    table[static_cast<size_t>(move.from)] |= static_cast<uint8_t>(1u << static_cast<unsigned>(move.to));
  return table;
}();

// A request target that may stand in a request line: the parser would take it.
bool valid_target(std::string_view text) {
  return !text.empty() &&
         find_target_end(text.data(), text.data() + text.size(), text.data()) == text.data() + text.size();
}

}  // namespace

std::unique_ptr<Codec> make_h1_client_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H1Options& options) {
  return std::make_unique<H1ClientCodec>(connection, owner, options);
}

H1ClientCodec::H1ClientCodec(net::Connection& connection, CodecCallbacks& owner, const H1Options& options)
    : connection_(connection), owner_(owner), options_(options), parser_(H1Parser::Kind::kResponse, options_) {}

void H1ClientCodec::move_to(H1ClientState to) {
  CHECK((kLegal[static_cast<size_t>(state_)] >> static_cast<unsigned>(to) & 1) != 0);
  state_ = to;
}

CodecStream& H1ClientCodec::new_stream(StreamSink& sink) {
  CHECK(sink_ == nullptr);
  sink_ = &sink;
  request_ = Request::kNotBegun;
  message_ = H1Message{};
  if (state_ != H1ClientState::kClosed)
    move_to(H1ClientState::kWaiting);  // closed: on_close() is near and tells the sink
  return *this;
}

// --- decode ----------------------------------------------------------------------------------------------------------

void H1ClientCodec::on_read(Block* block, const char* data, size_t size) {
  if (state_ == H1ClientState::kClosed) return;
  if (state_ == H1ClientState::kIdle) {  // nobody asked
    move_to(H1ClientState::kClosed);
    connection_.close(net::Close::kNow);
    return;
  }
  if (request_ == Request::kNotBegun) return abort_stream(ResetReason::kProtocolError, "http1.response_before_request");
  const char* at = data;
  const char* const end = data + size;
  Buffer body;
  while (reading()) {
    switch (parser_.next(at, end)) {
      case H1Parser::Event::kNeedMore:
        if (!body.empty()) sink_->on_data(body, false);
        return;
      case H1Parser::Event::kHead:
        read_head(at < end);
        break;
      case H1Parser::Event::kData:
        body.append_shared(block, parser_.data().data(), parser_.data().size());
        break;
      case H1Parser::Event::kTrailers:
        read_trailers(body, at < end);
        break;
      case H1Parser::Event::kEnd: {
        StreamSink* const sink = sink_;
        sink->on_data(body, true);
        if (reading() && sink_ == sink) finish_response(at < end);
        return;
      }
      case H1Parser::Event::kFault: {
        const H1Fault fault = parser_.fault();
        return abort_stream(fault.status == 431 ? ResetReason::kOverflow : ResetReason::kProtocolError, fault.details);
      }
    }
  }
}

// `more_bytes`: the read went on after the head.
void H1ClientCodec::read_head(bool more_bytes) {
  if (!parser_.parse_head(sink_->arena(), message_)) return;  // kFault follows
  if (message_.status < 200 && !message_.upgrade) return sink_->on_1xx(*message_.headers);
  if (request_ == Request::kUpgrade) request_ = message_.upgrade ? Request::kTunnel : Request::kSent;
  const bool end_stream = message_.body == H1Body::kNone;
  if (!end_stream) move_to(H1ClientState::kBody);
  sink_->on_headers(*message_.headers, end_stream);
  if (end_stream && reading()) finish_response(more_bytes);
}

void H1ClientCodec::read_trailers(Buffer& body, bool more_bytes) {
  HeaderMap* const map = parser_.parse_trailers(sink_->arena());
  if (map == nullptr || !options_.enable_trailers || map->size() == 0) return;  // kFault or kEnd follows
  if (!body.empty()) {
    sink_->on_data(body, false);
    body.clear();
    if (!reading()) return;
  }
  sink_->on_trailers(*map);
  if (reading()) finish_response(more_bytes);
}

void H1ClientCodec::on_eof() {
  if (state_ == H1ClientState::kClosed || state_ == H1ClientState::kTunnelEnd) return;
  if (state_ == H1ClientState::kIdle) {
    move_to(H1ClientState::kClosed);
    connection_.close(net::Close::kNow);
    return;
  }
  if (!parser_.finish_at_close())
    return abort_stream(ResetReason::kConnectionTermination, "upstream_remote_disconnect");
  Buffer none;
  StreamSink* const sink = sink_;
  if (request_ == Request::kTunnel) {
    move_to(H1ClientState::kTunnelEnd);
    sink->on_data(none, true);
    return;
  }
  sink->on_data(none, true);
  if (reading() && sink_ == sink) finish_response(false);
}

void H1ClientCodec::on_close() {
  if (state_ != H1ClientState::kClosed) move_to(H1ClientState::kClosed);
  if (sink_ == nullptr) return;
  StreamSink* const sink = sink_;
  forget_stream();
  const bool ours = !reset_details_.empty();
  sink->on_reset(ours ? ResetReason::kLocalReset : ResetReason::kConnectionTermination,
                 ours ? reset_details_ : std::string_view("upstream_remote_disconnect"));
}

void H1ClientCodec::on_write_watermark(bool above) {
  if (sink_ != nullptr && state_ != H1ClientState::kClosed) sink_->on_write_watermark(above);
}

// --- the stream's end ------------------------------------------------------------------------------------------------

void H1ClientCodec::forget_stream() {
  sink_ = nullptr;
  message_.headers = nullptr;
  for (const net::Pause why : {net::Pause::kBackpressure, net::Pause::kBuffer, net::Pause::kDrain})
    if ((stream_pauses_ & static_cast<uint8_t>(why)) != 0) connection_.resume_read(why);
  stream_pauses_ = 0;
}

void H1ClientCodec::finish_response(bool more_bytes) {
  const bool reusable = message_.keep_alive && request_ == Request::kSent && !draining_ && !more_bytes;
  forget_stream();
  if (reusable) {
    move_to(H1ClientState::kIdle);
    parser_.reset();
  } else {  // a tunnel's last bytes may have still to leave
    move_to(H1ClientState::kClosed);
    connection_.close(message_.upgrade ? net::Close::kFlush : net::Close::kNow);
  }
  owner_.on_stream_end(reusable);
}

void H1ClientCodec::abort_stream(ResetReason reason, std::string_view details) {
  StreamSink* const sink = sink_;
  forget_stream();
  move_to(H1ClientState::kClosed);
  connection_.close(net::Close::kNow);
  sink->on_reset(reason, details);
}

// As the server codec's: the request's framing would break, so the connection does.
void H1ClientCodec::break_framing(std::string_view details) {
  reset_details_ = details;
  move_to(H1ClientState::kClosed);
  connection_.close(net::Close::kReset);
}

void H1ClientCodec::reset(ResetReason) {
  CHECK(sink_ != nullptr);
  forget_stream();
  if (state_ == H1ClientState::kClosed) return;
  move_to(H1ClientState::kClosed);
  connection_.close(net::Close::kNow);
}

void H1ClientCodec::pause_read(net::Pause why) {
  CHECK(sink_ != nullptr);
  stream_pauses_ |= static_cast<uint8_t>(why);
  connection_.pause_read(why);
}

void H1ClientCodec::resume_read(net::Pause why) {
  CHECK(sink_ != nullptr);
  stream_pauses_ &= static_cast<uint8_t>(~static_cast<uint8_t>(why));
  connection_.resume_read(why);
}

// --- encode ----------------------------------------------------------------------------------------------------------

void H1ClientCodec::encode_1xx(const HeaderMap&) { CHECK(!"a client sends no interim response"); }

void H1ClientCodec::encode_headers(const HeaderMap& headers, bool end_stream) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ClientState::kClosed) return;
  CHECK(request_ == Request::kNotBegun);
  const std::string_view method = headers.get(HeaderId::kMethod);
  const std::string_view authority = headers.get(HeaderId::kAuthority);
  const std::string_view target = method == "CONNECT" ? authority : headers.get(HeaderId::kPath);
  if (!is_token(method) || !valid_target(target) || !valid_authority(authority))
    return break_framing("http1.invalid_request_head");
  const DeclaredLength declared = declared_length(headers);
  if (declared.invalid || (declared.given && end_stream && declared.bytes != 0))
    return break_framing("http1.content_length_mismatch");
  const bool connect = method == "CONNECT" && !end_stream;
  const Header* const upgrade = end_stream || connect ? nullptr : headers.find(HeaderId::kUpgrade);
  const bool tunnel = connect || upgrade != nullptr;
  parser_.set_request({.head = method == "HEAD", .connect = connect, .upgrade = upgrade != nullptr});
  request_left_ = declared.bytes;
  request_ = tunnel ? Request::kUpgrade : declared.given ? Request::kFixed : Request::kChunked;
  {
    HeadWriter out(connection_.output(), expected_head_bytes(headers));
    out.text(method);
    out.text(" ");
    out.text(target);
    out.text(" HTTP/1.1\r\nhost: ");
    out.text(authority);
    out.text("\r\n");
    write_fields(out, headers, options_.enable_trailers);
    if (upgrade != nullptr) {
      out.text("connection: upgrade\r\n");
      out.field(*upgrade);
    } else if (connect) {
      // No framing of its own: what follows is the tunnel's.
    } else if (declared.given) {
      out.content_length(declared.bytes);
    } else if (!end_stream) {
      out.text("transfer-encoding: chunked\r\n");
    } else if (method == "POST" || method == "PUT" || method == "PATCH") {  // RFC 9110 section 8.6
      out.text("content-length: 0\r\n");
    }
    if (options_.enable_trailers && !tunnel && headers.has(HeaderId::kTe))
      out.text("te: trailers\r\nconnection: te\r\n");
    out.text("\r\n");
  }
  if (end_stream) request_ = Request::kSent;
  connection_.written();
}

void H1ClientCodec::encode_data(Buffer&& data, bool end_stream) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ClientState::kClosed) return;
  if (request_ == Request::kTunnel) return tunnel_data(std::move(data), end_stream);
  CHECK(request_ == Request::kFixed || request_ == Request::kChunked);
  if (request_ == Request::kFixed) {
    if (data.size() > request_left_ || (end_stream && data.size() < request_left_))
      return break_framing("http1.content_length_mismatch");
    request_left_ -= data.size();
    connection_.output().append(std::move(data));
  } else {
    write_chunk(connection_.output(), std::move(data), end_stream);
  }
  if (end_stream) request_ = Request::kSent;
  connection_.written();
}

void H1ClientCodec::tunnel_data(Buffer&& data, bool end) {
  connection_.output().append(std::move(data));
  connection_.written();
  if (!end) return;
  request_ = Request::kSent;
  if (state_ == H1ClientState::kTunnelEnd) return finish_response(false);
  connection_.shutdown_write();
}

void H1ClientCodec::encode_trailers(const HeaderMap& trailers) {
  CHECK(sink_ != nullptr);
  if (state_ == H1ClientState::kClosed) return;
  if (request_ == Request::kTunnel) return tunnel_data({}, true);
  CHECK(request_ == Request::kFixed || request_ == Request::kChunked);
  if (request_ == Request::kFixed && request_left_ != 0) return break_framing("http1.content_length_mismatch");
  if (request_ == Request::kChunked)
    write_last_chunk(connection_.output(), options_.enable_trailers ? &trailers : nullptr);
  request_ = Request::kSent;
  connection_.written();
}

}  // namespace outrigger::http
