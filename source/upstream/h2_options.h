// h2_options: the HTTP/2 codec's options of a listener's or a cluster's Http2ProtocolOptions. Limits of heads are of
// other messages: the caller sets them.
//
// Thread rule: a pure function.
// Use:  http::H2Options options = h2_options(spec.http2, spec.per_connection_buffer_limit_bytes);
#pragma once

#include <algorithm>

#include "config/spec.h"
#include "http/h2_codec.h"

namespace outrigger::upstream {

inline http::H2Options h2_options(const config::Http2Spec& spec, uint32_t buffer_limit_bytes) {
  http::H2Options options;
  options.max_concurrent_streams = spec.max_concurrent_streams;
  options.initial_stream_window_bytes = spec.initial_stream_window_bytes;
  options.initial_connection_window_bytes = spec.initial_connection_window_bytes;
  options.stream_buffer_bytes = std::min(buffer_limit_bytes, options.stream_buffer_bytes);
  options.keepalive_interval_ms = spec.keepalive_interval_ms;
  options.keepalive_timeout_ms = spec.keepalive_timeout_ms;
  options.max_control_frames = spec.max_control_frames;
  options.max_consecutive_empty_frames = spec.max_consecutive_empty_frames;
  options.max_priority_frames_per_stream = spec.max_priority_frames_per_stream;
  options.max_window_updates_per_data_frame = spec.max_window_updates_per_data_frame;
  return options;
}

}  // namespace outrigger::upstream
