// The connection's side of H2Session: its streams, output, keepalive, drain, the end.
#include "http/h2_session.h"

#include <algorithm>
#include <new>

#include "base/check.h"

namespace outrigger::http {
namespace {

constexpr uint8_t kOpaque[8] = {};  // of our PINGs: one is under way at a time
constexpr std::string_view kDisconnect[2] = {"upstream_remote_disconnect", "downstream_remote_disconnect"};

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
      drained_([](void* self) { static_cast<H2Session*>(self)->final_goaway(); }, this),
      reading_(server ? Reading::kPreface : Reading::kHead),
      end_details_(kDisconnect[server]),
      control_left_(options.max_control_frames),
      next_id_(server ? 2 : 1),
      server_(server) {
  control_refilled_ns_ = connection_.loop().now_ns();
  connection_.gather_rounds();
  write_first();
  flush();
  arm_keepalive();
}

H2Session::~H2Session() {
  while (H2Stream* stream = open_.front()) destroy(*stream);
  h2_free(partial_);
  h2_free(rest_);
  if (buckets_ != few_) h2_free(buckets_);
}

// --- streams ---------------------------------------------------------------------------------------------------------

H2Stream& H2Session::make_stream(StreamSink* sink) {
  auto* const stream = new (h2_allocate(sizeof(H2Stream))) H2Stream(*this, sink);
  open_.push_back(*stream);
  ++open_count_;
  ++streams_opened_;
  counting_.shard->inc(counting_.stats->streams_active);
  return *stream;
}

void H2Session::destroy(H2Stream& stream) {
  counting_.shard->dec(counting_.stats->streams_active);
  --open_count_;
  stream.~H2Stream();
  h2_free(&stream);
}

H2Stream* H2Session::find(uint32_t id) const {
  H2Stream* stream = buckets_[id / 2 % bucket_count_];
  while (stream != nullptr && stream->id_ != id) stream = stream->next_in_bucket_;
  return stream;
}

void H2Session::enter(H2Stream& stream, uint32_t id) {
  if (live_ == 2 * bucket_count_) rehash(2 * bucket_count_);
  stream.id_ = id;
  stream.send_window_ = peer_stream_window_;
  stream.read_window_ = own_stream_window_;
  H2Stream*& bucket = buckets_[id / 2 % bucket_count_];
  stream.next_in_bucket_ = std::exchange(bucket, &stream);
  ++live_;
}

void H2Session::leave(H2Stream& stream) {
  H2Stream** at = &buckets_[stream.id_ / 2 % bucket_count_];
  while (*at != &stream) at = &(*at)->next_in_bucket_;
  *at = stream.next_in_bucket_;
  --live_;
  if (live_ == 0 && buckets_ != few_) rehash(kFirstBuckets);
}

void H2Session::rehash(uint32_t count) {
  H2Stream** const buckets =
      count == kFirstBuckets ? few_ : static_cast<H2Stream**>(h2_allocate(count * sizeof(H2Stream*)));
  std::fill_n(buckets, count, nullptr);
  for (uint32_t i = 0; i < bucket_count_; ++i) {
    while (H2Stream* const stream = buckets_[i]) {
      buckets_[i] = stream->next_in_bucket_;
      H2Stream*& bucket = buckets[stream->id_ / 2 % count];
      stream->next_in_bucket_ = std::exchange(bucket, stream);
    }
  }
  if (buckets_ != few_) h2_free(buckets_);
  buckets_ = buckets;
  bucket_count_ = count;
}

void H2Session::tell_capacity() {
  if (server_) return;
  capacity_changed_ = true;
  connection_.loop().at_turn_end(*this);
}

// --- output ----------------------------------------------------------------------------------------------------------

void H2Session::flush() {
  if (inside_ || connection_.closing()) return;
  if (!closing_) pump();
  if (std::exchange(wrote_, false)) connection_.written();
  // Behind the connection's own write; when that has been tried already, its watermark says when to go on.
  if (data_waits_ && connection_.flush_pending()) connection_.loop().at_round_end(*this);
  if (!news_.empty()) connection_.loop().at_turn_end(*this);
  if (!fault_.empty() && !closing_) return fail(H2Error::kEnhanceYourCalm, fault_, ResetReason::kOverflow);
  if (connection_.above_watermark() && connection_.write_queue_bytes() > connection_.high_watermark() + kOutputSlack)
    connection_.pause_read(net::Pause::kPipeline);
  if (!closing_ && live_ == 0 && (goaway_sent_ || goaway_seen_)) {
    close(net::Close::kFlush);
    reset_all();
  }
}

void H2Session::on_write_watermark(bool above) {
  socket_above_ = above;
  if (!above) {
    connection_.resume_read(net::Pause::kPipeline);
    data_waits_ = false;
    if (!over()) flush();
  }
  open_.for_each([&](H2Stream& stream) { note(stream); });
  connection_.loop().at_turn_end(*this);
}

void H2Session::on_turn_end() {
  if (!connection_.above_watermark()) data_waits_ = false;
  tell_all();
  if (std::exchange(capacity_changed_, false) && !over()) owner_.on_capacity_change();
  if (!over()) flush();
}

// --- keepalive, drain, the end ---------------------------------------------------------------------------------------

void H2Session::arm_keepalive() {
  if (options_.keepalive_interval_ms != 0) connection_.loop().timers().arm(keepalive_, options_.keepalive_interval_ms);
}

void H2Session::on_keepalive() {
  if (over()) return;
  if (ping_out_) {
    count(counting_.stats->keepalive_timeout);
    return fail(H2Error::kNoError, "http2.keepalive_timeout", ResetReason::kConnectionTermination);
  }
  ping_out_ = true;
  write_ping(kOpaque, false);
  connection_.loop().timers().arm(keepalive_, options_.keepalive_timeout_ms);
  flush();
}

// RFC 9113 section 6.8: a notice first, and after a round trip, when what was on its way has come, the last stream's
// id.
void H2Session::drain() {
  if (draining_ || over()) return;
  draining_ = true;
  if (!server_) return;
  write_goaway(kH2MaxStreamId, H2Error::kNoError);
  write_ping(kOpaque, false);
  connection_.loop().timers().arm(drained_, kDrainRoundTripMs);
  flush();
}

void H2Session::final_goaway() {
  if (over()) return;
  write_goaway(last_taken_id_, H2Error::kNoError);
  goaway_sent_ = true;
  flush();
}

void H2Session::close_idle() {
  if (over()) return;
  write_goaway(last_taken_id_, H2Error::kNoError);
  closing_ = true;
  flush();
  close(net::Close::kFlush);
}

bool H2Session::head_incomplete() const { return server_ && !over() && (!settings_seen_ || headers_id_ != 0); }

void H2Session::on_head_timeout() { fail(H2Error::kNoError, "request_headers_timeout", ResetReason::kLocalReset); }

void H2Session::on_eof() {
  if (over()) return;
  fail(H2Error::kNoError, kDisconnect[server_], ResetReason::kConnectionTermination);
}

// Says why (GOAWAY), resets all streams above, closes.
void H2Session::fail(H2Error code, std::string_view details, ResetReason reason) {
  if (over()) return;
  end_reason_ = reason;
  end_details_ = details;
  write_goaway(last_taken_id_, code);
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
    if (stream.id_ != 0 && !stream.closed_) leave(stream);
    stream.reset_ = stream.closed_ = true;
    note(stream);
  });
  if (!news_.empty()) connection_.loop().at_turn_end(*this);
}

void H2Session::close(net::Close how) {
  closing_ = true;
  keepalive_.disarm();
  drained_.disarm();
  connection_.close(how);
}

void H2Session::on_close() {
  closing_ = true;
  keepalive_.disarm();
  drained_.disarm();
  reset_all();
  unlink();
  tell_all();
}

}  // namespace outrigger::http
