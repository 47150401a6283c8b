// The HTTP/2 codecs (RFC 9113). See codec.h for the seam, h2_session.h for how they work. The connection
// must outlive the codec; on_close() comes before it goes.
//
// Thread rule: the connection's loop thread.
// Use:  codec = make_h2_server_codec(*connection, *this, options, {&stats, &shard});   codec->on_read(...)
#pragma once

#include <memory>
#include <string_view>

#include "http/codec.h"
#include "stats/stats.h"

namespace outrigger::http {

// What a client's connection begins with (RFC 9113 section 3.4).
inline constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Limits, by Envoy's Http2ProtocolOptions where it has them. Codecs copy them.
struct H2Options {
  uint32_t max_concurrent_streams = 100;              // servers: the peer's; clients: ours, if the peer allows as many
  uint32_t initial_stream_window_bytes = 256 * 1024;  // what a stream may hold here that nobody has taken yet
  uint32_t initial_connection_window_bytes = 1024 * 1024;
  uint32_t stream_buffer_bytes = 256 * 1024;  // written to a stream and not sent: its writer hears of it above this
  uint32_t max_head_bytes = 60 * 1024;        // names, values and 2 a field; a request over it: 431
  uint32_t max_headers_count = 100;
  uint64_t keepalive_interval_ms = 0;  // 0: no PING
  uint64_t keepalive_timeout_ms = 0;
  bool allow_connect = false;  // servers: extended CONNECT (RFC 8441) is offered
  // Floods: the connection ends with ENHANCE_YOUR_CALM. Counts as Envoy defines them, except for control frames: PING
  // and SETTINGS have a budget of so many, a tenth of which comes back each second.
  uint32_t max_control_frames = 1000;
  uint32_t max_consecutive_empty_frames = 1;
  uint32_t max_priority_frames_per_stream = 100;
  uint32_t max_window_updates_per_data_frame = 10;
  // Streams reset before they were answered, or for a fault of the peer's: at most this many and half of all streams.
  uint32_t max_premature_resets = 500;
};

// Envoy's names; `prefix` is "http.{http}.http2." or "cluster.{cluster}.http2.".
struct H2Stats {
  H2Stats(stats::Layout& layout, std::string_view prefix);
  stats::Counter rx_reset, tx_reset, rx_messaging_error, header_overflow, goaway_sent, keepalive_timeout;
  stats::Counter control_flood, empty_frames_flood, priority_flood, window_update_flood, continuation_flood,
      premature_reset_flood, header_bomb;
  stats::Gauge streams_active;
};

// Where a codec counts; neither is owned.
struct H2Counting {
  const H2Stats* stats;
  stats::Shard* shard;
};

std::unique_ptr<Codec> make_h2_server_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H2Options& options, H2Counting counting);
std::unique_ptr<Codec> make_h2_client_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H2Options& options, H2Counting counting);

}  // namespace outrigger::http
