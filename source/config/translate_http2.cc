// Http2ProtocolOptions, of listeners and clusters.
#include <fmt/format.h>

#include "config/translation.h"
#include "envoy/config/core/v3/protocol.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;

namespace {

void number(bool given, uint32_t value, uint32_t least, uint32_t& to, const FieldPath& path, Translation& t) {
  constexpr uint32_t kMost = 0x7fffffff;
  if (!given) return;
  to = value;
  if (value < least || value > kMost) t.fault(path, fmt::format("is {}, must be from {} to {}", value, least, kMost));
}

}  // namespace

Http2Spec http2_spec(const core::Http2ProtocolOptions& from, const FieldPath& path, Translation& t) {
  constexpr uint32_t kLeastWindow = 65'535;  // RFC 9113 section 6.9.2; Envoy takes no less
  Http2Spec spec;
  spec.allow_connect = from.allow_connect();
  number(from.has_max_concurrent_streams(), from.max_concurrent_streams().value(), 1, spec.max_concurrent_streams,
         path.field("max_concurrent_streams"), t);
  number(from.has_initial_stream_window_size(), from.initial_stream_window_size().value(), kLeastWindow,
         spec.initial_stream_window_bytes, path.field("initial_stream_window_size"), t);
  number(from.has_initial_connection_window_size(), from.initial_connection_window_size().value(), kLeastWindow,
         spec.initial_connection_window_bytes, path.field("initial_connection_window_size"), t);
  number(from.has_max_outbound_control_frames(), from.max_outbound_control_frames().value(), 1, spec.max_control_frames,
         path.field("max_outbound_control_frames"), t);
  number(from.has_max_consecutive_inbound_frames_with_empty_payload(),
         from.max_consecutive_inbound_frames_with_empty_payload().value(), 0, spec.max_consecutive_empty_frames,
         path.field("max_consecutive_inbound_frames_with_empty_payload"), t);
  number(from.has_max_inbound_priority_frames_per_stream(), from.max_inbound_priority_frames_per_stream().value(), 0,
         spec.max_priority_frames_per_stream, path.field("max_inbound_priority_frames_per_stream"), t);
  number(from.has_max_inbound_window_update_frames_per_data_frame_sent(),
         from.max_inbound_window_update_frames_per_data_frame_sent().value(), 1, spec.max_window_updates_per_data_frame,
         path.field("max_inbound_window_update_frames_per_data_frame_sent"), t);
  if (!from.has_connection_keepalive()) return spec;
  const FieldPath at = path.field("connection_keepalive");
  const core::KeepaliveSettings& keepalive = from.connection_keepalive();
  if (keepalive.has_interval()) spec.keepalive_interval_ms = duration_ms(keepalive.interval(), at.field("interval"), t);
  if (!keepalive.has_timeout())
    t.fault(at.field("timeout"), "is required");
  else
    spec.keepalive_timeout_ms = duration_ms(keepalive.timeout(), at.field("timeout"), t);
  return spec;
}

}  // namespace outrigger::config
