// H2Session: HTTP/2 on one connection, either role: an nghttp2 session below, streams above. nghttp2 keeps the frames,
// HPACK, the streams' states and the windows; here is what makes it a codec.
//
//   on_read: nghttp2 reads all bytes and what it finds is noted on the streams (head, body, trailers, end, reset); then
//   the noted streams are told, outside of nghttp2: a sink may call anything. A stream that a peer opens and resets in
//   one read is never seen above.
//   encode_*: given to nghttp2 and serialised at once into the connection's output (so that no head is copied), DATA as
//   far as windows and the socket allow; the rest waits in to_send_ and tells its writer by on_write_watermark. The
//   connection writes once a round.
//
// A stream:   begun --head told--> open --our end / peer's end told / reset()--> detached (no sink) --both directions
//   closed in nghttp2--> over (on_stream_end).
//
// Windows: the connection's is given back as bytes arrive, a stream's as its sink takes them: a stream that is not read
// holds its own window and nothing else. Only when such streams hold kHeldWindows windows together does the
// connection's wait too. So a connection holds at most those and its own window. Its DATA waits while the socket is
// full; a peer that does not even take answers and control frames is not read on.
//
// Thread rule: the connection's loop thread.
// Use: make_h2_server_codec() in h2_codec.h.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string_view>

#include "base/list.h"
#include "event/loop.h"
#include "event/timer.h"
#include "http/h2_codec.h"
#include "http/h2_head.h"
#include "http/h2_memory.h"

namespace outrigger::http {

class H2Session;
struct H2OpenTag;
struct H2NewsTag;

class H2Stream final : public CodecStream, public ListNode<H2OpenTag>, public ListNode<H2NewsTag> {
 public:
  H2Stream(H2Session& session, StreamSink* sink) : session_(session), sink_(sink) {}

  void encode_1xx(const HeaderMap& headers) override;
  void encode_headers(const HeaderMap& headers, bool end_stream) override;
  void encode_data(Buffer&& data, bool end_stream) override;
  void encode_trailers(const HeaderMap& trailers) override;
  void reset(ResetReason reason) override;
  void pause_read(net::Pause why) override { pauses_ |= static_cast<uint8_t>(why); }
  void resume_read(net::Pause why) override;
  size_t write_queue_bytes() const override;
  Protocol protocol() const override { return Protocol::kHttp2; }

 private:
  friend class H2Session;
  enum class Sending : uint8_t { kNothing, kBody, kEnd };  // what our side has been given: not even a head; all

  void send_body();
  void break_framing(std::string_view details);

  H2Session& session_;
  StreamSink* sink_;                    // nullptr: not told yet (servers), or nobody listens any more
  HeaderMap* incoming_ = nullptr;       // the field section that comes in
  HeaderMap* head_ = nullptr;           // whole, not told yet
  HeaderMap* trailers_ = nullptr;       // came in, not told yet
  HeaderMap* held_trailers_ = nullptr;  // ours, behind to_send_
  std::string_view upgrade_;            // what the request asks for, in the sink's arena; empty: no upgrade
  bool connect_ = false;                // the request is CONNECT without a protocol
  Arena arena_;                         // of what has come of a request until it is told; of held_trailers_
  Buffer received_, to_send_;
  uint64_t send_left_ = 0;  // with length_known_: body bytes still due
  std::string_view reset_details_;
  int64_t opened_ns_ = 0;
  int32_t id_ = 0;  // 0: not begun
  uint32_t head_bytes_ = 0;
  uint32_t interims_ = 0;
  ResetReason reset_reason_{};
  Sending sending_ = Sending::kNothing;
  uint8_t pauses_ = 0;
  bool head_told_ = false;
  bool seen_ = false;       // a server's owner has been told of it
  bool too_large_ = false;  // incoming_ is
  bool head_too_large_ = false;
  bool ended_ = false;  // the peer's side
  bool end_told_ = false;
  bool reset_ = false;      // to be told: reset_reason_
  bool closed_ = false;     // in nghttp2, both sides
  bool head_sent_ = false;  // the last head given to nghttp2 has left it
  bool no_body_ = false;    // our message has none: the answer to HEAD
  bool tunnel_ = false;     // its upgrade or CONNECT was accepted: it ends when both sides have ended
  bool head_request_ = false;
  bool length_known_ = false;
  bool data_given_ = false;  // nghttp2 asks for our body
  bool deferred_ = false;    // ... and has been told to wait
  bool above_ = false;       // to_send_ is over its mark
  bool told_above_ = false;
};

class H2Session final : public Codec, public event::TurnEnd {
 public:
  H2Session(bool server, net::Connection& connection, CodecCallbacks& owner, const H2Options& options,
            H2Counting counting);
  ~H2Session() override;

  void on_read(Block* block, const char* data, size_t size) override;
  void on_eof() override;
  void on_close() override;
  void on_write_watermark(bool above) override;
  CodecStream& new_stream(StreamSink& sink) override;
  uint32_t capacity() const override;
  void drain() override;
  bool head_incomplete() const override;
  void on_head_timeout() override;
  void close_idle() override;
  bool idle() const override { return open_.empty(); }
  Protocol protocol() const override { return Protocol::kHttp2; }

 private:
  friend class H2Stream;
  friend struct H2Callbacks;
  static constexpr uint32_t kHeldWindows = 16;
  static constexpr uint32_t kMaxInterims = 16;
  static constexpr size_t kOutputSlack = 256 * 1024;  // above the socket's mark: heads and control frames
  static constexpr uint64_t kDrainRoundTripMs = 1'000;
  static constexpr uint64_t kRestMs = 5'000;  // without a new stream

  // nghttp2's events (h2_session.cc); below zero: the connection is at fault.
  int on_begin_frame(const nghttp2_frame_hd& head);
  int on_begin_headers(const nghttp2_frame& frame);
  int on_field(H2Stream& stream, std::string_view name, std::string_view value);
  int on_frame(const nghttp2_frame& frame);
  int on_head_frame(const nghttp2_frame& frame, H2Stream& stream);
  int on_data(H2Stream& stream, const char* data, size_t size);
  void on_sent(const nghttp2_frame& frame);
  void on_stream_closed(H2Stream& stream, uint32_t error_code);
  ssize_t read_body(H2Stream& stream, size_t most, uint32_t* flags);
  void write_body(H2Stream& stream, const uint8_t* head, size_t size);

  // Floods. Each: whether it is one now.
  int flood(stats::Counter counter, std::string_view details);
  bool spend_control();
  bool premature_reset();

  H2Stream* find(int32_t id) const;
  H2Stream& make_stream(StreamSink* sink);
  void destroy(H2Stream& stream);
  void note(H2Stream& stream);  // something is to be told
  void tell_all();
  void tell(H2Stream& stream);
  void tell_head(H2Stream& stream);
  void tell_body(H2Stream& stream);
  void tell_watermark(H2Stream& stream);
  bool over_with(const H2Stream& stream) const;
  void finish_if_over(H2Stream& stream);
  void give_credit();
  void tell_capacity();
  void send_head(H2Stream& stream, const FieldList& fields, bool end_stream);
  void detach(H2Stream& stream);
  void flush();
  void resume_data();
  void on_turn_end() override;
  void fail(uint32_t error_code, std::string_view details, ResetReason reason);
  void reset_all();
  void close(net::Close how);
  void arm_keepalive();
  void on_keepalive();
  void on_later();
  void rest_later();
  void final_goaway();
  bool refuses_upgrades() const;
  bool over() const { return closing_ || connection_.closing(); }
  void count(stats::Counter counter) { counting_.shard->add(counter); }

  net::Connection& connection_;
  CodecCallbacks& owner_;
  const H2Options options_;
  const H2Counting counting_;
  H2Memory memory_;
  nghttp2_session* session_ = nullptr;
  mutable H2Stream* last_found_ = nullptr;
  List<H2Stream, H2OpenTag> open_;
  List<H2Stream, H2NewsTag> news_;
  event::Timeout keepalive_;
  event::Timeout later_;          // draining: a round trip is over; else: time to rest, perhaps
  Block* block_ = nullptr;        // of the read under way
  std::string_view fault_;        // why a callback refused
  std::string_view end_details_;  // what streams are told that the connection's end resets
  ResetReason end_reason_ = ResetReason::kConnectionTermination;
  uint64_t opened_before_rest_ = 0;  // of streams_opened_
  uint64_t streams_opened_ = 0, data_frames_sent_ = 0, window_updates_ = 0, priorities_ = 0, premature_resets_ = 0;
  int64_t control_refilled_ns_ = 0;
  size_t held_ = 0, owed_ = 0;  // body bytes that streams hold; of the connection's window, not given back
  uint32_t control_left_;
  uint32_t open_count_ = 0;
  uint32_t empty_frames_ = 0;
  int32_t head_of_ = 0;  // the stream whose field section is incomplete
  const bool server_;
  bool inside_ = false;  // nghttp2 runs
  bool telling_ = false;
  bool closing_ = false;
  bool settings_seen_ = false;
  bool draining_ = false;
  bool goaway_seen_ = false;
  bool socket_above_ = false;
  bool data_waits_ = false;  // DATA was deferred for the socket's sake
  bool ping_out_ = false;
  bool capacity_changed_ = false;
};

}  // namespace outrigger::http
