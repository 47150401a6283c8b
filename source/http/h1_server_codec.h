// H1ServerCodec: HTTP/1 on an accepted connection. One request at a time; what a client pipelines waits, bounded, until
// the response before it has ended, and is then read in order.
//
// States. "Response" is the other half: none, begun, ended (a stream whose response has ended is forgotten).
//
//            first byte            head, body follows                  request ends
//    kIdle ------------> kHead --------------------> kReceiving ------------------------> kAnswering
//      ^  \                | \  head, no body             | \  bad body, no response yet      |  |
//      |   \               |  `---------------------------|--\--------------------------> kAnswering
//      |    \              |  bad head                    |   `----> kRefusing <--(bad head)  |  |
//      |     \             | EOF                          |            | response ends        |  |
//      |      `--EOF---.   |                              |            |                      |  |
//      |                v  v   response ends, bad body    v            v    response ends,    |  |
//      |               kClosed <---- after it began, reset, EOF, close -----   to close <-----'  |
//      `-------------------------------- response ends, keep-alive ------------------------------'
//
// An upgrade or CONNECT is a request whose body waits (kAnswering; what comes is kept like pipelined bytes). 101, or
// 2xx to CONNECT, leads to kTunnel; any other response ends as usual. What waited is the next request then, after
// CONNECT nothing: the connection ends.
//
// kServerMoves below is the table; H1ServerCodec checks every move against it, a test walks it.
//
// Thread rule: the connection's loop thread.
// Use: make_h1_server_codec() in h1_codec.h; this header is for the codec's own tests.
#pragma once

#include <cstdint>
#include <string_view>

#include "event/loop.h"
#include "http/codec.h"
#include "http/h1_parser.h"
#include "http/h1_writer.h"

namespace outrigger::http {

enum class H1ServerState : uint8_t {
  kIdle,       // between requests
  kHead,       // a request's head has begun
  kReceiving,  // a stream; its request is under way
  kAnswering,  // a stream; its request is complete, its response is not
  kRefusing,   // a stream; its request is malformed: input is dropped, the answer is awaited
  kTunnel,     // a stream; its upgrade or CONNECT was accepted: bytes pass as they are
  kClosed,     // the connection is being closed; input is dropped
};

struct H1ServerMove {
  H1ServerState from, to;
  std::string_view when;
};
inline constexpr H1ServerMove kServerMoves[] = {
    {H1ServerState::kIdle, H1ServerState::kHead, "first byte"},
    {H1ServerState::kIdle, H1ServerState::kClosed, "EOF, close"},
    {H1ServerState::kHead, H1ServerState::kReceiving, "head complete, body follows"},
    {H1ServerState::kHead, H1ServerState::kAnswering, "head complete, no body"},
    {H1ServerState::kHead, H1ServerState::kRefusing, "head malformed or over a limit"},
    {H1ServerState::kHead, H1ServerState::kClosed, "EOF, close, timeout"},
    {H1ServerState::kReceiving, H1ServerState::kAnswering, "request complete"},
    {H1ServerState::kReceiving, H1ServerState::kRefusing, "body malformed, response not begun"},
    {H1ServerState::kReceiving, H1ServerState::kClosed,
     "body malformed after the response began; response ends; reset, EOF, close"},
    {H1ServerState::kAnswering, H1ServerState::kIdle, "response ends, keep-alive"},
    {H1ServerState::kAnswering, H1ServerState::kTunnel, "101"},
    {H1ServerState::kAnswering, H1ServerState::kClosed, "response ends, close; reset, EOF, close"},
    {H1ServerState::kTunnel, H1ServerState::kClosed, "both sides have ended; reset, close"},
    {H1ServerState::kRefusing, H1ServerState::kClosed, "response ends; reset, EOF, close"},
};

class H1ServerCodec final : public Codec, public CodecStream, public event::TurnEnd {
 public:
  H1ServerCodec(net::Connection& connection, CodecCallbacks& owner, const H1Options& options);

  // Codec
  void on_read(Block* block, const char* data, size_t size) override;
  void on_eof() override;
  void on_close() override;
  void on_write_watermark(bool above) override;
  CodecStream& new_stream(StreamSink& sink) override;
  void drain() override { draining_ = true; }
  bool idle() const override { return state_ == H1ServerState::kIdle && pending_.empty(); }
  Protocol protocol() const override { return message_.http_10 ? Protocol::kHttp10 : Protocol::kHttp11; }
  bool head_incomplete() const override { return state_ == H1ServerState::kHead; }
  void on_head_timeout() override;
  void close_idle() override { connection_.close(net::Close::kFlush); }
  H1ServerState state() const { return state_; }

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
  enum class Response : uint8_t { kNone, kFixed, kChunked, kUntilClose, kNoBody, kTunnel };

  void on_turn_end() override;  // pipelined bytes
  void move_to(H1ServerState to);
  bool reading() const { return state_ <= H1ServerState::kReceiving; }
  void feed(Block* block, const char* at, const char* end);
  void retain(Block* block, const char* data, size_t size);
  void begin_request();
  void end_request(Buffer& body);
  void trailers(Buffer& body);
  void refuse(Buffer& body);
  void finish_response();
  void forget_stream();
  void abort_stream(ResetReason reason, std::string_view details, net::Close how);
  void break_framing(std::string_view details);
  void write_status(HeadWriter& out, uint16_t status);
  void accept_tunnel(const HeaderMap& headers, uint16_t status);
  void deliver_waiting();
  void tunnel_data(Buffer&& data, bool end);
  void finish_tunnel();

  net::Connection& connection_;
  CodecCallbacks& owner_;
  const H1Options options_;
  H1Parser parser_;
  H1Message message_;               // the request in hand
  StreamSink* sink_ = nullptr;      // not null: a stream is open
  Buffer pending_;                  // pipelined bytes
  uint64_t response_left_ = 0;      // kFixed: body bytes still due
  std::string_view reset_details_;  // kClosed with a stream: what on_close() tells it
  H1ServerState state_ = H1ServerState::kIdle;
  Response response_ = Response::kNone;
  uint8_t stream_pauses_ = 0;  // net::Pause bits set through the stream
  bool feeding_ = false;
  bool draining_ = false;
  bool close_after_ = false;  // this response is the connection's last
  bool peer_ended_ = false;   // kTunnel: each side's half-close
  bool we_ended_ = false;
};

}  // namespace outrigger::http
