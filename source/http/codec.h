// Codec, CodecStream, StreamSink: the seam between HTTP versions and everything above. Above it there is one kind of
// message: a HeaderMap, body Buffers, an optional trailer HeaderMap. HTTP/1 (h1_codec.h) and HTTP/2 (h2_codec.h) stand
// below.
//
//   Connection --bytes--> Codec --on_headers/on_data/on_trailers--> StreamSink   (decode)
//   Connection <--bytes-- Codec <--encode_headers/data/trailers---- CodecStream user   (encode)
//
// A server codec asks its owner for a StreamSink when a request's head is complete (on_new_stream); the sink's arena
// then gets the head, copied once. A client codec is given its sink by new_stream(). A message ends with the call whose
// end_stream is true (or trailers). The codec forgets a stream when both its directions have ended, or on reset() /
// on_reset(); afterwards neither side touches the other: the CodecStream is gone when the call returns.
//
// Upgrades: a request whose head has "upgrade" (and no end_stream) asks for a tunnel, in whatever version; HTTP/2's
// form of it (RFC 8441: CONNECT with :protocol) is this one above the codec. The response head 101 accepts: from then
// on data in both directions are the tunnel's bytes, an end_stream is a half-close, and the stream ends when both sides
// have ended. CONNECT (no :path, and no end_stream either) asks for one too, and gets it by a response head with 2xx
// that neither ends the stream nor has a content-length. Any other response is an answer like others, and the tunnel's
// bytes are never sent.
//
// Flow control: CodecStream::pause_read(why) stops the delivery of body bytes of that stream as soon as can be (what
// the codec has already taken from the socket, at most one read, may still come). The write side reports
// on_write_watermark. An HTTP/1 stream has the connection to itself; HTTP/2 streams share it and wait each for itself.
//
// Thread rule: the connection's loop thread. Reentrancy: a sink may call encode_*, pause_read, reset from inside its
// own callbacks; the codec must stand it. encode_* never call on_reset(): a stream whose sender breaks its own framing
// (more or less than content-length, a status that is none) hears of it when the connection has closed. They may call
// on_stream_end() (the response's end, on a server). reset() calls nobody; the owner sees the connection's on_close.
#pragma once

#include <cstdint>
#include <string_view>

#include "net/connection.h"
#include "outrigger/buffer.h"
#include "outrigger/header_map.h"
#include "outrigger/stream_info.h"

namespace outrigger::http {

enum class ResetReason : uint8_t {
  kLocalReset,             // our own decision
  kRemoteReset,            // the peer reset the stream
  kRefused,                // the peer did so before it did anything with it: safe to send again (RFC 9113 section 8.7)
  kConnectionTermination,  // the connection ended (FIN or RST) before the message did
  kConnectionFailure,      // it could not be made
  kProtocolError,          // the peer broke the protocol
  kOverflow,               // a limit of ours
};

class CodecStream {
 public:
  // Server only: an interim response (":status" 100, 103; never 101, which is a response's own head).
  virtual void encode_1xx(const HeaderMap& headers) = 0;
  // The message's head. Hop-by-hop fields (connection, keep-alive, te, transfer-encoding, upgrade...) are not in it:
  // the codec adds what its version needs. A body without content-length is chunked in HTTP/1.1, close-delimited
  // in 1.0.
  virtual void encode_headers(const HeaderMap& headers, bool end_stream) = 0;
  virtual void encode_data(Buffer&& data, bool end_stream) = 0;
  virtual void encode_trailers(const HeaderMap& trailers) = 0;
  // Ends the stream now, in both directions. HTTP/1: closes the connection. HTTP/2: RST_STREAM.
  virtual void reset(ResetReason reason) = 0;

  virtual void pause_read(net::Pause why) = 0;
  virtual void resume_read(net::Pause why) = 0;
  // Bytes written but not yet taken by the kernel (of the connection; HTTP/2: and those of the stream that wait here).
  virtual size_t write_queue_bytes() const = 0;
  virtual Protocol protocol() const = 0;

 protected:
  ~CodecStream() = default;
};

class StreamSink {
 public:
  // Where the heads of this stream's messages go.
  virtual Arena& arena() = 0;
  // Client only.
  virtual void on_1xx(HeaderMap& headers) = 0;
  virtual void on_headers(HeaderMap& headers, bool end_stream) = 0;  // `headers` lives in arena() as long as the stream
  virtual void on_data(Buffer& data, bool end_stream) = 0;  // take what you want by moving; the rest is dropped
  virtual void on_trailers(HeaderMap& trailers) = 0;        // ends the message
  // Server only: the request is malformed or over a limit: answer `status` (400, 413, 431, 501, 505...) if nothing was
  // sent yet; the codec ends the connection (HTTP/2: the stream) after that answer, and at once if a response had
  // begun.
  virtual void on_bad_request(uint16_t status, std::string_view details) = 0;
  // The stream ended without its message being complete.
  virtual void on_reset(ResetReason reason, std::string_view details) = 0;
  virtual void on_write_watermark(bool above) = 0;

 protected:
  ~StreamSink() = default;
};

// Owner of a codec.
class CodecCallbacks {
 public:
  // Server only: a request begins.
  virtual StreamSink& on_new_stream(CodecStream& stream) = 0;
  // Both directions of a stream have ended; a client connection may be used again if `reusable`. HTTP/1 servers go on
  // to the next request by themselves. Called after the last sink callback, with the stream already forgotten. HTTP/2
  // calls it once for each stream, those that were reset included, until the connection closes.
  virtual void on_stream_end(bool reusable) = 0;
  // HTTP/2 clients: capacity() has changed by what the peer said (SETTINGS, GOAWAY).
  virtual void on_capacity_change() {}

 protected:
  ~CodecCallbacks() = default;
};

class Codec {
 public:
  virtual ~Codec() = default;
  // From the connection's handler, which the codec's owner is.
  virtual void on_read(Block* block, const char* data, size_t size) = 0;
  virtual void on_eof() = 0;
  // The connection is gone: every open stream gets on_reset(kConnectionTermination).
  virtual void on_close() = 0;
  virtual void on_write_watermark(bool above) = 0;
  // Client: begins a stream; at most capacity() at a time. The head follows by encode_headers.
  virtual CodecStream& new_stream(StreamSink& sink) = 0;
  // Client: how many streams may be begun now. HTTP/1: one if it is idle.
  virtual uint32_t capacity() const { return 0; }
  // Server: finish what is under way, announce the end (HTTP/1: "connection: close" on the next response head; an idle
  // connection is closed at once by its owner. HTTP/2: GOAWAY in two steps; the codec closes when the last stream has
  // ended).
  virtual void drain() = 0;
  // Server: a request's head (or the connection's preface) has begun and is incomplete; the request-headers timeout
  // runs. When it is over: on_head_timeout() says so as the version can (HTTP/1: 408) and closes.
  virtual bool head_incomplete() const { return false; }
  virtual void on_head_timeout() {}
  // Closes a connection on which nothing is under way. HTTP/2: GOAWAY first.
  virtual void close_idle() = 0;
  virtual bool idle() const = 0;  // no stream open, no byte of a message waiting
  virtual Protocol protocol() const = 0;
};

// Limits and switches, by their Envoy fields. Codecs copy them; the text of default_host_for_http_10 must outlive the
// codec.
struct H1Options {
  uint32_t max_head_bytes = 60 * 1024;  // request or status line and header section; above 63 KiB counts as 63 KiB
  uint32_t max_headers_count = 100;
  bool accept_http_10 = false;  // else 426 for HTTP/1.0 requests, as Envoy
  std::string_view default_host_for_http_10;
  bool allow_absolute_url = true;
  bool enable_trailers = false;  // forward trailers; else they are parsed, bounded and dropped
};

}  // namespace outrigger::http
