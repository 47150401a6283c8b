// The connection's side of H2Session: what nghttp2 finds, floods, windows, output, the end.
#include "http/h2_session.h"

#include <algorithm>

#include "base/check.h"
#include "http/h2_callbacks.h"
#include "http/h2_memory.h"

namespace outrigger::http {
namespace {

constexpr std::string_view kDisconnect[2] = {"upstream_remote_disconnect", "downstream_remote_disconnect"};
constexpr int64_t kSecondNs = 1'000'000'000;

bool peers_fault(uint32_t error_code) {
  switch (error_code) {
    case NGHTTP2_PROTOCOL_ERROR:
    case NGHTTP2_FLOW_CONTROL_ERROR:
    case NGHTTP2_STREAM_CLOSED:
    case NGHTTP2_FRAME_SIZE_ERROR:
    case NGHTTP2_REFUSED_STREAM:
      return true;
    default:
      return false;
  }
}

}  // namespace

H2Stats::H2Stats(stats::Layout& layout, std::string_view prefix) {
  const auto counter = [&](const char* name) { return layout.counter(std::string(prefix) + name); };
  rx_reset = counter("rx_reset");
  tx_reset = counter("tx_reset");
  rx_messaging_error = counter("rx_messaging_error");
  header_overflow = counter("header_overflow");
  goaway_sent = counter("goaway_sent");
  keepalive_timeout = counter("keepalive_timeout");
  control_flood = counter("outbound_control_flood");
  empty_frames_flood = counter("inbound_empty_frames_flood");
  priority_flood = counter("inbound_priority_frames_flood");
  window_update_flood = counter("inbound_window_update_frames_flood");
  continuation_flood = counter("continuation_flood");
  premature_reset_flood = counter("premature_reset_flood");
  header_bomb = counter("header_bomb");
  streams_active = layout.gauge(std::string(prefix) + "streams_active");
}

std::unique_ptr<Codec> make_h2_server_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H2Options& options, H2Counting counting) {
  return std::make_unique<H2Session>(true, connection, owner, options, counting);
}

std::unique_ptr<Codec> make_h2_client_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H2Options& options, H2Counting counting) {
  return std::make_unique<H2Session>(false, connection, owner, options, counting);
}

H2Session::H2Session(bool server, net::Connection& connection, CodecCallbacks& owner, const H2Options& options,
                     H2Counting counting)
    : connection_(connection),
      owner_(owner),
      options_(options),
      counting_(counting),
      keepalive_([](void* self) { static_cast<H2Session*>(self)->on_keepalive(); }, this),
      later_([](void* self) { static_cast<H2Session*>(self)->on_later(); }, this),
      end_details_(kDisconnect[server]),
      control_left_(options.max_control_frames),
      server_(server) {
  control_refilled_ns_ = connection_.loop().now_ns();
  const H2Memory::Framing framing(memory_);
  session_ = make_session(server, options_, *this, memory_);
  connection_.gather_rounds();
  flush();
  arm_keepalive();
}

H2Session::~H2Session() {
  while (H2Stream* stream = open_.front()) destroy(*stream);
  nghttp2_session_del(session_);
}

// --- streams' memory -------------------------------------------------------------------------------------------------

// nghttp2 calls for the same stream many times in a row.
H2Stream* H2Session::find(int32_t id) const {
  if (last_found_ != nullptr && last_found_->id_ == id) return last_found_;
  return last_found_ = static_cast<H2Stream*>(nghttp2_session_get_stream_user_data(session_, id));
}

H2Stream& H2Session::make_stream(StreamSink* sink) {
  auto* const stream = new (h2_allocate(sizeof(H2Stream))) H2Stream(*this, sink);
  stream->opened_ns_ = connection_.loop().now_ns();
  open_.push_back(*stream);
  ++open_count_;
  ++streams_opened_;
  if (!later_.armed()) rest_later();
  counting_.shard->inc(counting_.stats->streams_active);
  return *stream;
}

void H2Session::destroy(H2Stream& stream) {
  counting_.shard->dec(counting_.stats->streams_active);
  --open_count_;
  if (last_found_ == &stream) last_found_ = nullptr;
  stream.~H2Stream();
  h2_free(&stream);
}

// --- reading ---------------------------------------------------------------------------------------------------------

void H2Session::on_read(Block* block, const char* data, size_t size) {
  if (over()) return;
  block_ = block;
  inside_ = true;
  const ssize_t read = nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(data), size);
  inside_ = false;
  block_ = nullptr;
  if (read < 0) {
    const auto error = static_cast<int>(read);
    if (error == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
      flood(counting_.stats->continuation_flood, "http2.continuation_flood");
    if (error == NGHTTP2_ERR_FLOODED) flood(counting_.stats->control_flood, "http2.control_flood");
    const bool calm = !fault_.empty();
    fail(calm ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR, calm ? fault_ : "http2.protocol_error",
         calm ? ResetReason::kOverflow : ResetReason::kProtocolError);
    return;
  }
  tell_all();
  flush();
}

int H2Session::flood(stats::Counter counter, std::string_view details) {
  count(counter);
  fault_ = details;
  return NGHTTP2_ERR_CALLBACK_FAILURE;
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

int H2Session::on_begin_frame(const nghttp2_frame_hd& head) {
  switch (head.type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION: {
      const uint8_t end = head.type == NGHTTP2_DATA ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_END_HEADERS;
      if (head.length != 0 || (head.flags & end) != 0) {
        empty_frames_ = 0;
      } else if (++empty_frames_ > options_.max_consecutive_empty_frames) {
        return flood(counting_.stats->empty_frames_flood, "http2.empty_frames_flood");
      }
      return 0;
    }
    case NGHTTP2_PUSH_PROMISE:  // our first SETTINGS forbid it, whether they were acknowledged or not
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
      if ((head.flags & NGHTTP2_FLAG_ACK) == 0 && !spend_control())
        return flood(counting_.stats->control_flood, "http2.control_flood");
      return 0;
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PRIORITY_UPDATE:
      if (++priorities_ > options_.max_priority_frames_per_stream * (1 + streams_opened_))
        return flood(counting_.stats->priority_flood, "http2.priority_frames_flood");
      return 0;
    case NGHTTP2_WINDOW_UPDATE:
      if (++window_updates_ >
          5 + 2 * (streams_opened_ + options_.max_window_updates_per_data_frame * data_frames_sent_))
        return flood(counting_.stats->window_update_flood, "http2.window_update_flood");
      return 0;
    default:
      return 0;
  }
}

int H2Session::on_begin_headers(const nghttp2_frame& frame) {
  H2Stream* stream = find(frame.hd.stream_id);
  if (stream == nullptr) {
    if (!server_ || frame.headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    stream = &make_stream(nullptr);
    stream->id_ = frame.hd.stream_id;
    nghttp2_session_set_stream_user_data(session_, stream->id_, stream);
    constexpr nghttp2_extpri kInTurn{NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};  // no body waits for the end of another
    nghttp2_session_change_extpri_stream_priority(session_, stream->id_, &kInTurn, 1);
  }
  head_of_ = stream->id_;
  Arena& arena = stream->sink_ != nullptr ? stream->sink_->arena() : stream->arena_;
  stream->incoming_ = stream->reset_ ? nullptr : arena.make<HeaderMap>(arena);
  stream->head_bytes_ = 0;
  stream->too_large_ = false;
  return 0;
}

int H2Session::on_field(H2Stream& stream, std::string_view name, std::string_view value) {
  if (stream.incoming_ == nullptr) return 0;
  HeaderMap& map = *stream.incoming_;
  stream.head_bytes_ += static_cast<uint32_t>(name.size() + value.size() + 2);
  if (stream.too_large_ || stream.head_bytes_ > options_.max_head_bytes ||
      map.size() > options_.max_headers_count + 4) {  // and the pseudo-headers
    stream.too_large_ = true;
    // Indexed fields cost a byte each on the wire: what goes on like this is not a large head but an attack.
    if (stream.head_bytes_ > 8 * options_.max_head_bytes + 64 * 1024)
      return flood(counting_.stats->header_bomb, "http2.header_bomb");
    return 0;
  }
  Arena& arena = map.arena();
  const HeaderId id = find_header_id(name);
  const std::string_view own_name = id != HeaderId::kNone ? header_name(id) : arena.copy(name);
  const std::string_view own_value = arena.copy(value);
  if (own_name.data() == nullptr || own_value.data() == nullptr) {
    map.mark_overflowed();
  } else {
    map.add_view(own_name, own_value, id);
  }
  if (map.overflowed()) stream.too_large_ = true;
  return 0;
}

int H2Session::on_frame(const nghttp2_frame& frame) {
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
      head_of_ = 0;
      if (H2Stream* const stream = find(frame.hd.stream_id); stream != nullptr) return on_head_frame(frame, *stream);
      return 0;
    case NGHTTP2_DATA:
      if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
      if (H2Stream* const stream = find(frame.hd.stream_id); stream != nullptr) {
        stream->ended_ = true;
        note(*stream);
      }
      return 0;
    case NGHTTP2_SETTINGS:
      if ((frame.hd.flags & NGHTTP2_FLAG_ACK) != 0) return 0;
      settings_seen_ = true;
      tell_capacity();
      return 0;
    case NGHTTP2_PING:
      if ((frame.hd.flags & NGHTTP2_FLAG_ACK) == 0) return 0;
      ping_out_ = false;
      arm_keepalive();
      if (draining_ && later_.armed()) connection_.loop().timers().arm(later_, 0);
      return 0;
    case NGHTTP2_GOAWAY:
      goaway_seen_ = true;
      tell_capacity();
      return 0;
    case NGHTTP2_RST_STREAM:
      count(counting_.stats->rx_reset);
      if (server_ && premature_reset()) return flood(counting_.stats->premature_reset_flood, "http2.reset_flood");
      return 0;
    default:
      return 0;
  }
}

int H2Session::on_head_frame(const nghttp2_frame& frame, H2Stream& stream) {
  const bool end = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  HeaderMap* const map = std::exchange(stream.incoming_, nullptr);
  if (map == nullptr) return 0;
  if (stream.too_large_) count(counting_.stats->header_overflow);
  if (stream.head_ != nullptr || stream.head_told_) {  // trailers; dropped if they are too large
    if (!stream.too_large_) {
      finish_trailers(*map);
      if (map->size() != 0) stream.trailers_ = map;
    }
  } else if (const uint16_t status = server_ ? 0 : status_of(*map); !server_ && status < 200) {
    if (++stream.interims_ > kMaxInterims || stream.too_large_) {
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id_, NGHTTP2_ENHANCE_YOUR_CALM);
      stream.reset_reason_ = ResetReason::kOverflow;
      return 0;
    }
    if (stream.sink_ == nullptr) return 0;
    finish_response(*map, status);
    stream.sink_->on_1xx(*map);  // not noted: there may be several
    return 0;
  } else {
    stream.head_ = map;
    stream.head_too_large_ = stream.too_large_;
  }
  stream.ended_ = stream.ended_ || end;
  note(stream);
  return 0;
}

int H2Session::on_data(H2Stream& stream, const char* data, size_t size) {
  if (stream.sink_ == nullptr && (stream.head_told_ || stream.reset_)) {  // nobody listens
    owed_ += size;
    give_credit();
    return 0;
  }
  held_ += size;
  owed_ += size;
  stream.received_.append_shared(block_, data, size);
  give_credit();
  note(stream);
  return 0;
}

void H2Session::tell_capacity() {
  if (server_) return;
  capacity_changed_ = true;
  connection_.loop().at_turn_end(*this);
}

// --- windows ---------------------------------------------------------------------------------------------------------

// The connection's window, unless streams that nobody reads hold too much already.
void H2Session::give_credit() {
  if (owed_ == 0 || held_ > size_t{kHeldWindows} * options_.initial_stream_window_bytes) return;
  nghttp2_session_consume_connection(session_, std::exchange(owed_, 0));
}

// --- writing ---------------------------------------------------------------------------------------------------------

void H2Session::flush() {
  if (inside_ || connection_.closing()) return;
  inside_ = true;
  ssize_t size = 0;
  const size_t before = connection_.write_queue_bytes();
  {
    const H2Memory::Framing framing(memory_);
    const uint8_t* data = nullptr;
    while ((size = nghttp2_session_mem_send(session_, &data)) > 0)
      connection_.output().append(std::string_view(reinterpret_cast<const char*>(data), static_cast<size_t>(size)));
  }
  inside_ = false;
  if (connection_.write_queue_bytes() != before) connection_.written();
  // Behind the connection's own write; when that has been tried already, its watermark says when to go on.
  if (data_waits_ && connection_.flush_pending()) connection_.loop().at_round_end(*this);
  if (!news_.empty()) connection_.loop().at_turn_end(*this);
  if (size < 0) return fail(NGHTTP2_INTERNAL_ERROR, "http2.session_failed", ResetReason::kLocalReset);
  if (!fault_.empty() && !closing_) return fail(NGHTTP2_ENHANCE_YOUR_CALM, fault_, ResetReason::kOverflow);
  if (connection_.above_watermark() && connection_.write_queue_bytes() > connection_.high_watermark() + kOutputSlack)
    connection_.pause_read(net::Pause::kPipeline);
  if (!closing_ && nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) {
    close(net::Close::kFlush);
    reset_all();
  }
}

void H2Session::on_write_watermark(bool above) {
  socket_above_ = above;
  if (!above) {
    connection_.resume_read(net::Pause::kPipeline);
    resume_data();
  }
  open_.for_each([&](H2Stream& stream) { note(stream); });
  connection_.loop().at_turn_end(*this);
}

void H2Session::resume_data() {
  if (over()) return;
  data_waits_ = false;
  open_.for_each([&](H2Stream& stream) {
    if (!stream.deferred_ || (stream.to_send_.empty() && stream.sending_ != H2Stream::Sending::kEnd)) return;
    stream.deferred_ = false;
    nghttp2_session_resume_data(session_, stream.id_);
  });
  flush();
}

void H2Session::on_turn_end() {
  if (data_waits_ && !connection_.above_watermark()) resume_data();
  tell_all();
  if (std::exchange(capacity_changed_, false) && !over()) owner_.on_capacity_change();
  if (!over()) flush();
}

void H2Session::on_sent(const nghttp2_frame& frame) {
  switch (frame.hd.type) {
    case NGHTTP2_DATA:
      ++data_frames_sent_;
      [[fallthrough]];
    case NGHTTP2_HEADERS: {
      H2Stream* const stream = find(frame.hd.stream_id);
      if (stream == nullptr) return;
      if (frame.hd.type == NGHTTP2_HEADERS) stream->head_sent_ = true;
      // The whole answer to half a request: the client shall not send the rest (RFC 9113 section 8.1).
      if (server_ && (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && !stream->ended_ && !stream->tunnel_)
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR);
      return;
    }
    case NGHTTP2_RST_STREAM:
      count(counting_.stats->tx_reset);
      // A peer can make us reset as well as reset itself.
      if (server_ && peers_fault(frame.rst_stream.error_code) && premature_reset() && fault_.empty())
        flood(counting_.stats->premature_reset_flood, "http2.reset_flood");
      return;
    case NGHTTP2_GOAWAY:
      count(counting_.stats->goaway_sent);
      if (frame.goaway.error_code != NGHTTP2_NO_ERROR && end_reason_ == ResetReason::kConnectionTermination) {
        end_reason_ = ResetReason::kProtocolError;  // nghttp2's own verdict on the peer
        end_details_ = "http2.protocol_error";
      }
      return;
    default:
      return;
  }
}

// --- keepalive, drain, the end ---------------------------------------------------------------------------------------

void H2Session::arm_keepalive() {
  if (options_.keepalive_interval_ms != 0) connection_.loop().timers().arm(keepalive_, options_.keepalive_interval_ms);
}

void H2Session::on_keepalive() {
  if (over()) return;
  if (ping_out_) {
    count(counting_.stats->keepalive_timeout);
    return fail(NGHTTP2_NO_ERROR, "http2.keepalive_timeout", ResetReason::kConnectionTermination);
  }
  ping_out_ = true;
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  connection_.loop().timers().arm(keepalive_, options_.keepalive_timeout_ms);
  flush();
}

void H2Session::on_later() {
  if (draining_) return final_goaway();  // a client's is not armed then
  if (opened_before_rest_ != streams_opened_ || !open_.empty() || !memory_.rest()) rest_later();
}

// So an idle connection costs one system call, and a busy one costs a timeout now and then.
void H2Session::rest_later() {
  if (draining_) return;
  opened_before_rest_ = streams_opened_;
  connection_.loop().timers().arm(later_, kRestMs);
}

// RFC 9113 section 6.8: a notice first, and after a round trip, when what was on its way has come, the last stream's
// id.
void H2Session::drain() {
  if (draining_ || over()) return;
  draining_ = true;
  later_.disarm();
  if (!server_) return;
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  connection_.loop().timers().arm(later_, kDrainRoundTripMs);
  flush();
}

void H2Session::final_goaway() {
  if (over()) return;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
  flush();
}

void H2Session::close_idle() {
  if (over()) return;
  nghttp2_session_terminate_session(session_, NGHTTP2_NO_ERROR);
  flush();
  close(net::Close::kFlush);
}

bool H2Session::head_incomplete() const { return server_ && !over() && (!settings_seen_ || head_of_ != 0); }

void H2Session::on_head_timeout() { fail(NGHTTP2_NO_ERROR, "request_headers_timeout", ResetReason::kLocalReset); }

void H2Session::on_eof() {
  if (over()) return;
  fail(NGHTTP2_NO_ERROR, kDisconnect[server_], ResetReason::kConnectionTermination);
}

// Says why (GOAWAY), resets all streams above, closes.
void H2Session::fail(uint32_t error_code, std::string_view details, ResetReason reason) {
  if (over()) return;
  end_reason_ = reason;
  end_details_ = details;
  nghttp2_session_terminate_session(session_, error_code);
  closing_ = true;
  flush();
  close(net::Close::kFlush);
  reset_all();
}

// The sinks hear of it with the turn's end, or when the caller tells them.
void H2Session::reset_all() {
  open_.for_each([&](H2Stream& stream) {
    if (!stream.reset_) {
      stream.reset_reason_ = end_reason_;
      stream.reset_details_ = end_details_;
    }
    stream.reset_ = stream.closed_ = true;
    note(stream);
  });
  if (!news_.empty()) connection_.loop().at_turn_end(*this);
}

void H2Session::close(net::Close how) {
  closing_ = true;
  keepalive_.disarm();
  later_.disarm();
  connection_.close(how);
}

void H2Session::on_close() {
  closing_ = true;
  keepalive_.disarm();
  later_.disarm();
  reset_all();
  unlink();
  tell_all();
}

}  // namespace outrigger::http
