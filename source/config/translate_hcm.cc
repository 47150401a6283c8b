// HttpConnectionManager.
#include <fmt/format.h>

#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/core/v3/protocol.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace hcm = envoy::extensions::filters::network::http_connection_manager::v3;

namespace {

using Manager = hcm::HttpConnectionManager;

void route_specifier(const Manager& manager, const std::string& scope, HcmSpec& spec, const FieldPath& path,
                     Translation& t) {
  switch (manager.route_specifier_case()) {
    case Manager::kRds: {
      const FieldPath at = path.field("rds");
      spec.rds_name = manager.rds().route_config_name();
      if (spec.rds_name.empty()) t.fault(at.field("route_config_name"), "must not be empty");
      if (!manager.rds().has_config_source())
        t.fault(at.field("config_source"), "is required");
      else
        spec.rds_source = config_source_spec(manager.rds().config_source(), true, at.field("config_source"), t);
      break;
    }
    case Manager::kRouteConfig:
      spec.route_table = std::make_shared<const RouteTableSpec>(route_table_spec(
          manager.route_config(), false, scope + "/" + manager.route_config().name(), path.field("route_config"), t));
      break;
    case Manager::ROUTE_SPECIFIER_NOT_SET:
      t.fault(path, "needs rds or route_config");
  }
}

void common_options(const core::HttpProtocolOptions& options, HcmSpec& spec, const FieldPath& path, Translation& t) {
  if (options.has_idle_timeout())
    spec.idle_timeout_ms = duration_ms(options.idle_timeout(), path.field("idle_timeout"), t);
  if (options.has_max_connection_duration())
    spec.max_connection_duration_ms =
        duration_ms(options.max_connection_duration(), path.field("max_connection_duration"), t);
  if (options.has_max_stream_duration())
    spec.max_stream_duration_ms = duration_ms(options.max_stream_duration(), path.field("max_stream_duration"), t);
  if (options.has_max_headers_count()) {
    spec.max_headers_count = options.max_headers_count().value();
    if (spec.max_headers_count == 0) t.fault(path.field("max_headers_count"), "must be at least 1");
  }
  spec.max_requests_per_connection = options.max_requests_per_connection().value();
  switch (options.headers_with_underscores_action()) {
    case core::HttpProtocolOptions::REJECT_REQUEST:
      spec.underscores = HcmSpec::Underscores::kReject;
      break;
    case core::HttpProtocolOptions::DROP_HEADER:
      spec.underscores = HcmSpec::Underscores::kDrop;
      break;
    default:
      spec.underscores = HcmSpec::Underscores::kAllow;
  }
}

void http1_options(const core::Http1ProtocolOptions& options, HcmSpec& spec, const FieldPath& path, Translation& t) {
  spec.allow_absolute_url = !options.has_allow_absolute_url() || options.allow_absolute_url().value();
  spec.accept_http_10 = options.accept_http_10();
  spec.default_host_for_http_10 = options.default_host_for_http_10();
  check_header_value(spec.default_host_for_http_10, path.field("default_host_for_http_10"), t);
  spec.enable_trailers = options.enable_trailers();
}

HcmSpec::Codec codec(Manager::CodecType type) {
  switch (type) {
    case Manager::HTTP1:
      return HcmSpec::Codec::kHttp1;
    case Manager::HTTP2:
      return HcmSpec::Codec::kHttp2;
    default:
      return HcmSpec::Codec::kAuto;
  }
}

void timeouts(const Manager& manager, HcmSpec& spec, const FieldPath& path, Translation& t) {
  if (manager.has_stream_idle_timeout())
    spec.stream_idle_timeout_ms = duration_ms(manager.stream_idle_timeout(), path.field("stream_idle_timeout"), t);
  if (manager.has_request_timeout())
    spec.request_timeout_ms = duration_ms(manager.request_timeout(), path.field("request_timeout"), t);
  if (manager.has_request_headers_timeout())
    spec.request_headers_timeout_ms =
        duration_ms(manager.request_headers_timeout(), path.field("request_headers_timeout"), t);
  if (manager.has_drain_timeout())
    spec.drain_timeout_ms = duration_ms(manager.drain_timeout(), path.field("drain_timeout"), t);
  if (manager.has_delayed_close_timeout())
    spec.delayed_close_timeout_ms =
        duration_ms(manager.delayed_close_timeout(), path.field("delayed_close_timeout"), t);
}

// Who the client is and what it is told.
void identity(const Manager& manager, HcmSpec& spec, const FieldPath& path, Translation& t) {
  if (!manager.server_name().empty()) spec.server_name = manager.server_name();
  check_header_value(spec.server_name, path.field("server_name"), t);
  spec.server_header = static_cast<HcmSpec::ServerHeader>(manager.server_header_transformation());
  spec.forward_client_cert = static_cast<HcmSpec::ForwardClientCert>(manager.forward_client_cert_details());
  const auto& details = manager.set_current_client_cert_details();
  spec.client_cert_details = {
      .subject = details.subject().value(), .cert = details.cert(), .dns = details.dns(), .uri = details.uri()};
  spec.use_remote_address = manager.use_remote_address().value();
  spec.xff_num_trusted_hops = manager.xff_num_trusted_hops();
  spec.skip_xff_append = manager.skip_xff_append();
  spec.via = manager.via();
  check_header_value(spec.via, path.field("via"), t);
  spec.generate_request_id = !manager.has_generate_request_id() || manager.generate_request_id().value();
  spec.preserve_external_request_id = manager.preserve_external_request_id();
  spec.always_set_request_id_in_response = manager.always_set_request_id_in_response();
  each(manager.internal_address_config().cidr_ranges(), path.field("internal_address_config").field("cidr_ranges"),
       [&](const auto& range, const FieldPath& at) { spec.internal_cidrs.push_back(cidr_spec(range, at, t)); });
}

void paths_and_hosts(const Manager& manager, HcmSpec& spec, const FieldPath& path, Translation& t) {
  using Escaped = HcmSpec::EscapedSlashes;
  if (manager.has_normalize_path()) spec.normalize_path = manager.normalize_path().value();
  spec.merge_slashes = manager.merge_slashes();
  switch (manager.path_with_escaped_slashes_action()) {
    case Manager::REJECT_REQUEST:
      spec.escaped_slashes = Escaped::kReject;
      break;
    case Manager::UNESCAPE_AND_REDIRECT:
      spec.escaped_slashes = Escaped::kUnescapeAndRedirect;
      break;
    case Manager::UNESCAPE_AND_FORWARD:
      spec.escaped_slashes = Escaped::kUnescapeAndForward;
      break;
    default:
      spec.escaped_slashes = Escaped::kKeep;
  }
  spec.strip_matching_host_port = manager.strip_matching_host_port();
  spec.strip_any_host_port = manager.strip_any_host_port();
  if (spec.strip_matching_host_port && spec.strip_any_host_port)
    t.fault(path.field("strip_any_host_port"), "and strip_matching_host_port exclude each other");
  spec.strip_trailing_host_dot = manager.strip_trailing_host_dot();
}

}  // namespace

HcmSpec hcm_spec(const Manager& manager, const std::string& scope, const FieldPath& path, Translation& t) {
  constexpr uint32_t kMaxHeadersKb = 63;  // a head's positions are 16 bits
  HcmSpec spec;
  spec.codec = codec(manager.codec_type());
  spec.stat_prefix = manager.stat_prefix();
  if (spec.stat_prefix.empty()) t.fault(path.field("stat_prefix"), "must not be empty");
  route_specifier(manager, scope, spec, path, t);
  http_filters(manager, scope, spec, path, t);
  each(manager.access_log(), path.field("access_log"), [&](const auto& log, const FieldPath& at) {
    if (auto translated = access_log_spec(log, at, t)) spec.access_logs.push_back(std::move(*translated));
  });
  common_options(manager.common_http_protocol_options(), spec, path.field("common_http_protocol_options"), t);
  http1_options(manager.http_protocol_options(), spec, path.field("http_protocol_options"), t);
  spec.http2 = http2_spec(manager.http2_protocol_options(), path.field("http2_protocol_options"), t);
  if (manager.has_max_request_headers_kb()) {
    spec.max_request_headers_kb = manager.max_request_headers_kb().value();
    if (spec.max_request_headers_kb == 0 || spec.max_request_headers_kb > kMaxHeadersKb)
      t.fault(path.field("max_request_headers_kb"),
              fmt::format("is {}, must be from 1 to {}", spec.max_request_headers_kb, kMaxHeadersKb));
  }
  timeouts(manager, spec, path, t);
  identity(manager, spec, path, t);
  paths_and_hosts(manager, spec, path, t);
  spec.upgrades = upgrade_specs(manager.upgrade_configs(), path.field("upgrade_configs"), t);
  return spec;
}

}  // namespace outrigger::config
