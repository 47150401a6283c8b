// H1ClientCodec: HTTP/1.1 on a connection that we have made. One stream at a time.
//
//              new_stream()              head of the final response
//    kIdle ------------------> kWaiting ---------------------------> kBody
//      ^ \                     |  ^ |  \                              / |
//      |  \ bytes,             |  '-'   \ all bad things:            /  |
//      |   \ EOF, close        |  1xx    \ reset, EOF, close        /   |
//      |    `-------------> kClosed <-----`------------------------'    |
//      |                       ^                                        |
//      |  response ends        | response ends, not reusable            |
//      `-----------------------+----------------------------------------'
//
// A tunnel (101, or 2xx to CONNECT) is a body without an end of its own; when the upstream's side ends first, kBody
// goes to kTunnelEnd, and from there to kClosed when ours has ended or all bad things.
//
// The request is the other half: not begun, under way, sent. A connection is reusable if the request was sent whole,
// the response was framed by length or chunks, said nothing against it, and not one more byte came with it.
//
// kClientMoves is the table; H1ClientCodec checks every move against it, a test walks it.
//
// Thread rule: the connection's loop thread.
// Use: make_h1_client_codec() in h1_codec.h; this header is for the codec's own tests.
#pragma once

#include <cstdint>
#include <string_view>

#include "http/codec.h"
#include "http/h1_parser.h"
#include "http/h1_writer.h"

namespace outrigger::http {

enum class H1ClientState : uint8_t {
  kIdle,       // no stream
  kWaiting,    // a stream; no final response head yet
  kBody,       // a stream; its response is under way
  kTunnelEnd,  // a stream; the upstream's side of its tunnel has ended, ours has not
  kClosed,     // the connection is being closed; input is dropped
};

struct H1ClientMove {
  H1ClientState from, to;
  std::string_view when;
};
inline constexpr H1ClientMove kClientMoves[] = {
    {H1ClientState::kIdle, H1ClientState::kWaiting, "new_stream"},
    {H1ClientState::kIdle, H1ClientState::kClosed, "unexpected bytes, EOF, close"},
    {H1ClientState::kWaiting, H1ClientState::kBody, "response head, body follows"},
    {H1ClientState::kWaiting, H1ClientState::kIdle, "response ends with its head, reusable"},
    {H1ClientState::kWaiting, H1ClientState::kClosed, "response ends, not reusable; malformed; reset, EOF, close"},
    {H1ClientState::kBody, H1ClientState::kIdle, "response ends, reusable"},
    {H1ClientState::kBody, H1ClientState::kTunnelEnd, "EOF in a tunnel"},
    {H1ClientState::kBody, H1ClientState::kClosed, "response ends, not reusable; malformed; reset, EOF, close"},
    {H1ClientState::kTunnelEnd, H1ClientState::kClosed, "our side of the tunnel ends; reset, close"},
};

class H1ClientCodec final : public Codec, public CodecStream {
 public:
  H1ClientCodec(net::Connection& connection, CodecCallbacks& owner, const H1Options& options);

  // Codec
  void on_read(Block* block, const char* data, size_t size) override;
  void on_eof() override;
  void on_close() override;
  void on_write_watermark(bool above) override;
  CodecStream& new_stream(StreamSink& sink) override;
  uint32_t capacity() const override { return state_ == H1ClientState::kIdle && !draining_ ? 1 : 0; }
  void drain() override { draining_ = true; }
  void close_idle() override { connection_.close(net::Close::kNow); }
  bool idle() const override { return state_ == H1ClientState::kIdle; }
  Protocol protocol() const override { return message_.http_10 ? Protocol::kHttp10 : Protocol::kHttp11; }
  H1ClientState state() const { return state_; }

  // CodecStream
  void encode_1xx(const HeaderMap& headers) override;
  void encode_headers(const HeaderMap& headers, bool end_stream) override;
  void encode_data(Buffer&& data, bool end_stream) override;
  void encode_trailers(const HeaderMap& trailers) override;
  void reset(ResetReason reason) override;
  void pause_read(net::Pause why) override;
  void resume_read(net::Pause why) override;
  size_t write_queue_bytes() const override { return connection_.write_queue_bytes(); }

 private:
  // kUpgrade: whether there is a tunnel is not known yet.
  enum class Request : uint8_t { kNotBegun, kFixed, kChunked, kUpgrade, kTunnel, kSent };

  void move_to(H1ClientState to);
  bool reading() const { return state_ == H1ClientState::kWaiting || state_ == H1ClientState::kBody; }
  void read_head(bool more_bytes);
  void read_trailers(Buffer& body, bool more_bytes);
  void finish_response(bool more_bytes);
  void forget_stream();
  void abort_stream(ResetReason reason, std::string_view details);
  void break_framing(std::string_view details);
  void tunnel_data(Buffer&& data, bool end);

  net::Connection& connection_;
  CodecCallbacks& owner_;
  const H1Options options_;
  H1Parser parser_;
  H1Message message_;  // the response in hand
  StreamSink* sink_ = nullptr;
  uint64_t request_left_ = 0;  // kFixed: body bytes still due
  std::string_view reset_details_;
  H1ClientState state_ = H1ClientState::kIdle;
  Request request_ = Request::kNotBegun;
  uint8_t stream_pauses_ = 0;
  bool draining_ = false;
};

}  // namespace outrigger::http
