// H2Session: HTTP/2 on one connection, either role (RFC 9113): frames, HPACK (hpack.h), the streams' states and windows
// below, sinks above.
//
//   on_read (h2_read.cc): all bytes are read, and what is found is noted on the streams (head, body, trailers, end,
//   reset); then the noted streams are told: a sink may call anything. A stream that a peer opens and resets in one
//   read is never seen above. encode_* (h2_stream.cc) write heads at once into the connection's output, DATA as far as
//   windows and the socket allow (h2_write.cc); the rest waits in to_send_ and tells its writer by on_write_watermark.
//   The connection writes once a round.
//
// A stream:   begun --head told--> open --our end / peer's end told / reset()--> detached (no sink) --both directions
//   closed on the wire--> over (on_stream_end).
//
// Windows: the connection's is given back as bytes arrive, a stream's as its sink takes them: a stream that is not read
// holds its own window and nothing else. Only when such streams hold kHeldWindows windows together does the
// connection's wait too. So a connection holds at most those and its own window. Its DATA waits while the socket is
// full; a peer that does not even take answers and control frames is not read on.
//
// Thread rule: the connection's loop thread.
// Use: make_h2_server_codec() in h2_codec.h.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/list.h"
#include "event/loop.h"
#include "event/timer.h"
#include "http/h2_codec.h"
#include "http/h2_frame.h"
#include "http/h2_head.h"
#include "http/h2_memory.h"
#include "http/hpack.h"

namespace outrigger::http {

class H2Session;
struct H2OpenTag;
struct H2NewsTag;
struct H2SenderTag;

class H2Stream final : public CodecStream,
                       public ListNode<H2OpenTag>,
                       public ListNode<H2NewsTag>,
                       public ListNode<H2SenderTag> {
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

  bool sender() const { return ListNode<H2SenderTag>::linked(); }
  bool unheard() const { return sink_ == nullptr && (head_told_ || reset_); }  // nobody listens any more
  void break_framing(std::string_view details);

  H2Session& session_;
  StreamSink* sink_;                    // nullptr: not told yet (servers), or nobody listens any more
  H2Stream* next_in_bucket_ = nullptr;  // of those that live on the wire
  HeaderMap* incoming_ = nullptr;       // the field section that comes in, in the sink's arena or arena_
  HeaderMap* head_ = nullptr;           // whole, not told yet
  HeaderMap* trailers_ = nullptr;       // came in, not told yet
  HeaderMap* held_trailers_ = nullptr;  // ours, behind to_send_
  std::string_view upgrade_;            // what the request asks for, in the sink's arena; empty: no upgrade
  Arena arena_;                         // of what has come of a request until it is told; of held_trailers_
  Buffer received_, to_send_;
  uint64_t send_left_ = 0;                     // with length_known_: body bytes still due
  int64_t due_ = -1;                           // body bytes that the peer has announced and not sent; -1: any
  int64_t send_window_ = 0, read_window_ = 0;  // once it is on the wire
  uint32_t owed_ = 0;                          // of read_window_: taken, not given back
  std::string_view reset_details_;
  uint32_t id_ = 0;  // 0: not begun
  uint32_t head_bytes_ = 0;
  uint32_t interims_ = 0;
  ResetReason reset_reason_{};
  Sending sending_ = Sending::kNothing;
  uint8_t pauses_ = 0;
  bool connect_ = false;  // the request is CONNECT without a protocol
  bool head_told_ = false;
  bool seen_ = false;       // a server's owner has been told of it
  bool too_large_ = false;  // incoming_ is
  bool head_too_large_ = false;
  bool final_head_ = false;  // has come: what follows is DATA or trailers
  bool ended_ = false;       // the peer's side
  bool end_told_ = false;
  bool reset_ = false;                              // to be told: reset_reason_
  bool peer_closed_ = false, self_closed_ = false;  // on the wire: END_STREAM has come, has been sent
  bool closed_ = false;                             // on the wire: both, or RST_STREAM
  bool no_body_ = false;                            // our message has none: the answer to HEAD
  bool tunnel_ = false;  // its upgrade or CONNECT was accepted: it ends when both sides have ended
  bool head_request_ = false;
  bool length_known_ = false;
  bool above_ = false;  // to_send_ is over its mark
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
  static constexpr uint32_t kHeldWindows = 16;
  static constexpr uint32_t kMaxInterims = 16;
  static constexpr size_t kOutputSlack = 256 * 1024;  // above the socket's mark: heads and control frames
  static constexpr uint64_t kDrainRoundTripMs = 1'000;
  static constexpr uint32_t kFirstBuckets = 8;

  // --- h2_read.cc. Of those that return bool, false: the connection is at fault (fault(), flood()).
  enum class Reading : uint8_t { kPreface, kHead, kPayload, kPadLength, kData, kSkipped };
  bool read_bytes(const char* data, size_t size);
  bool on_frame_head(const H2FrameHead& head);
  bool on_payload(const uint8_t* at, size_t size);
  bool begin_data();
  void end_data();
  void end_on_wire(H2Stream& stream);
  void on_data(H2Stream& stream, const char* data, size_t size);
  bool begin_headers(const uint8_t* at, size_t size);
  H2Stream* stream_of_headers(bool& good);
  bool on_block(const uint8_t* at, size_t size);
  bool decode_block(const uint8_t*& at, const uint8_t* end);
  bool on_field(H2Stream& stream, const HpackField& field);
  void end_headers();
  bool on_settings(const uint8_t* at, size_t size);
  bool on_window_update(uint32_t increment);
  bool on_goaway(uint32_t last_stream);
  bool idle_stream(uint32_t id) const;
  void malformed(H2Stream& stream);
  bool fault(H2Error code);
  bool flood(stats::Counter counter, std::string_view details);
  bool spend_control();
  bool premature_reset();
  void give_credit();
  void give_stream_credit(H2Stream& stream, size_t size);

  // --- h2_write.cc
  void write_frame(const H2FrameHead& head, const uint8_t* payload = nullptr);
  void write_first();
  void write_rst(uint32_t id, H2Error code);
  void write_goaway(uint32_t last_stream, H2Error code);
  void write_ping(const uint8_t* opaque, bool ack);
  void write_window_update(uint32_t id, uint32_t increment);
  static HpackOutput& new_block();  // of a head: frame's head first
  void write_head(H2Stream& stream, HpackOutput& block, bool end_stream);
  void reset_on_wire(H2Stream& stream, H2Error code);
  void end_self(H2Stream& stream);
  void offer(H2Stream& stream);  // it may have something to send
  void send_body(H2Stream& stream);
  void send_end(H2Stream& stream);
  void write_data(H2Stream& stream, size_t size, bool end_stream);
  void pump();

  // --- streams on the wire
  H2Stream* find(uint32_t id) const;
  void enter(H2Stream& stream, uint32_t id);
  void leave(H2Stream& stream);
  void rehash(uint32_t buckets);
  void on_stream_closed(H2Stream& stream, H2Error code);

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
  void tell_capacity();
  bool may_begin() const;
  void not_begun(H2Stream& stream);
  void detach(H2Stream& stream);
  void flush();
  void on_turn_end() override;
  void fail(H2Error code, std::string_view details, ResetReason reason);
  void reset_all();
  void close(net::Close how);
  void arm_keepalive();
  void on_keepalive();
  void final_goaway();
  bool refuses_upgrades() const;
  bool over() const { return closing_ || connection_.closing(); }
  void count(stats::Counter counter) { counting_.shard->add(counter); }

  net::Connection& connection_;
  CodecCallbacks& owner_;
  const H2Options options_;
  const H2Counting counting_;
  HpackDecoder decoder_;
  HpackEncoder encoder_;
  List<H2Stream, H2OpenTag> open_;
  List<H2Stream, H2NewsTag> news_;
  List<H2Stream, H2SenderTag> senders_;  // with DATA or an end to send, and not held back by their own window
  H2Stream* few_[kFirstBuckets] = {};
  H2Stream** buckets_ = few_;
  uint32_t bucket_count_ = kFirstBuckets;
  uint32_t live_ = 0;  // streams on the wire
  event::Timeout keepalive_;
  event::Timeout drained_;  // servers that drain: a round trip is over
  Block* block_ = nullptr;  // of the read under way

  // What is read. A frame that is whole in one read is not copied.
  H2FrameHead head_;
  H2HeadCheck check_;
  H2Stream* headers_of_ = nullptr;  // whose field section comes; nullptr: it is dropped
  uint8_t* partial_ = nullptr;      // a payload that is not there whole; head_.length bytes
  uint8_t* rest_ = nullptr;         // of a field section: the beginning of a field that goes on in the next frame
  uint32_t have_ = 0;               // bytes: of the preface, of partial_, of head_bytes_
  uint32_t rest_size_ = 0;
  uint32_t left_ = 0, padding_ = 0;  // of DATA or a skipped payload
  uint8_t head_bytes_[kH2FrameHeadBytes];
  Reading reading_ = Reading::kHead;
  bool end_stream_ = false;  // of the field section
  uint32_t continuations_ = 0;
  uint32_t headers_id_ = 0;  // the stream whose field section is incomplete

  std::string_view fault_;  // a flood: why
  H2Error fault_code_{};
  std::string_view end_details_;  // what streams are told that the connection's end resets
  ResetReason end_reason_ = ResetReason::kConnectionTermination;
  uint64_t streams_opened_ = 0, data_frames_sent_ = 0, window_updates_ = 0, priorities_ = 0, premature_resets_ = 0;
  int64_t control_refilled_ns_ = 0;
  int64_t send_window_ = kH2InitialWindow;
  int64_t peer_stream_window_ = kH2InitialWindow;  // of a new stream, for us to send
  int64_t own_stream_window_ = kH2InitialWindow;   // for the peer; as in our SETTINGS once they are acknowledged
  int64_t read_window_ = kH2InitialWindow;
  size_t held_ = 0, owed_ = 0;       // body bytes that streams hold; of the connection's window, not given back
  uint32_t peer_max_streams_ = 100;  // until its SETTINGS
  uint32_t control_left_;
  uint32_t open_count_ = 0;
  uint32_t empty_frames_ = 0;
  uint32_t last_peer_id_ = 0, last_taken_id_ = 0;  // streams that the peer has begun; those that we took
  uint32_t next_id_;                               // ours
  uint32_t goaway_last_ = kH2MaxStreamId;          // the peer's
  const bool server_;
  bool inside_ = false;  // read_bytes runs
  bool wrote_ = false;   // and has not said so to the connection
  bool telling_ = false;
  bool closing_ = false;
  bool settings_seen_ = false;
  bool settings_acknowledged_ = false;
  bool peer_takes_connect_ = false;  // ENABLE_CONNECT_PROTOCOL
  bool draining_ = false;
  bool goaway_seen_ = false;
  bool goaway_sent_ = false;  // the final one: no new streams
  bool socket_above_ = false;
  bool data_waits_ = false;  // for the socket's sake
  bool ping_out_ = false;
  bool capacity_changed_ = false;
};

}  // namespace outrigger::http
