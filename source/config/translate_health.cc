// Active health checks.
#include <fmt/format.h>

#include <algorithm>

#include "base/hex.h"
#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/core/v3/health_check.pb.h"
#include "envoy/config/endpoint/v3/endpoint_components.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace endpoint = envoy::config::endpoint::v3;

namespace {

using core::HealthCheck;

constexpr int kMaxHeaders = 1000;  // Envoy's
constexpr size_t kMaxPayloadBytes = 16 * 1024;

// A duration that is there and above 0; else a fault.
template <class Duration>
uint64_t needed_ms(bool there, const Duration& duration, const FieldPath& path, Translation& t) {
  if (!there) {
    t.fault(path, "is required");
    return 1;
  }
  const size_t errors = t.faults.errors();
  const uint64_t ms = duration_ms(duration, path, t);
  if (ms == 0 && t.faults.errors() == errors) t.fault(path, "must be above 0");
  return std::max<uint64_t>(1, ms);
}

template <class Duration>
uint64_t interval_ms(bool there, const Duration& duration, uint64_t otherwise, const FieldPath& path, Translation& t) {
  return there ? needed_ms(true, duration, path, t) : otherwise;
}

uint32_t threshold(bool there, uint32_t value, const FieldPath& path, Translation& t) {
  if (!there) t.fault(path, "is required");
  return std::max<uint32_t>(1, value);  // Envoy counts 0 as 1
}

std::string payload(const HealthCheck::Payload& from, const FieldPath& path, Translation& t) {
  std::string bytes = from.binary();
  if (from.payload_case() == HealthCheck::Payload::kText) {
    const std::string& text = from.text();
    const bool good =
        text.size() % 2 == 0 && std::all_of(text.begin(), text.end(), [](char c) { return hex_digit(c) >= 0; });
    if (!good) t.fault(path.field("text"), "must be hexadecimal, two digits a byte");
    for (size_t i = 0; good && i < text.size(); i += 2)
      bytes.push_back(static_cast<char>(hex_digit(text[i]) * 16 + hex_digit(text[i + 1])));
    if (good && bytes.empty()) t.fault(path.field("text"), "must not be empty");
  } else if (bytes.empty()) {
    t.fault(path, "needs text or binary");
  }
  if (bytes.size() > kMaxPayloadBytes) t.fault(path, fmt::format("is longer than {} bytes", kMaxPayloadBytes));
  return bytes;
}

// Headers with values as they stand: there is no request whose properties could be filled in.
template <class Options>
void headers(const Options& options, HealthCheckSpec& spec, const FieldPath& path, Translation& t) {
  if (options.size() > kMaxHeaders) t.fault(path, fmt::format("has more than {} entries", kMaxHeaders));
  each(options, path, [&](const core::HeaderValueOption& option, const FieldPath& at) {
    const HeaderAddSpec added = header_add_spec(option, at, t);
    if (added.value.find('%') != std::string::npos)
      t.fault(at.field("header").field("value"), "must be literal: checks know no command operators");
    if (added.action != HeaderAddSpec::Action::kAppendIfExistsOrAdd &&
        added.action != HeaderAddSpec::Action::kOverwriteIfExistsOrAdd)
      t.fault(at.field("append_action"), "must be APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD in checks");
    if (added.value.empty() && !added.keep_empty_value) return;
    if (added.action == HeaderAddSpec::Action::kOverwriteIfExistsOrAdd)
      std::erase_if(spec.headers, [&](const auto& one) { return one.first == added.name; });
    spec.headers.emplace_back(added.name, added.value);
  });
}

template <class Ranges>
std::vector<HealthCheckSpec::Statuses> statuses(const Ranges& ranges, const FieldPath& path, Translation& t) {
  std::vector<HealthCheckSpec::Statuses> all;
  each(ranges, path, [&](const auto& range, const FieldPath& at) {
    if (range.start() < 100 || range.end() > 600 || range.start() >= range.end())
      return t.fault(at, fmt::format("is from {} to {}; start must be from 100 and below end, end at most 600",
                                     range.start(), range.end()));
    all.push_back({static_cast<uint16_t>(range.start()), static_cast<uint16_t>(range.end())});
  });
  return all;
}

void http(const HealthCheck::HttpHealthCheck& from, HealthCheckSpec& spec, const FieldPath& path, Translation& t) {
  spec.kind = HealthCheckSpec::Kind::kHttp;
  spec.host = from.host();
  check_header_value(spec.host, path.field("host"), t);
  spec.path = from.path();
  if (spec.path.empty()) t.fault(path.field("path"), "must not be empty");
  const auto bad = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; };
  if (std::any_of(spec.path.begin(), spec.path.end(), bad))
    t.fault(path.field("path"), "must not contain blanks or control characters");
  headers(from.request_headers_to_add(), spec, path.field("request_headers_to_add"), t);
  if (!from.expected_statuses().empty())
    spec.expected = statuses(from.expected_statuses(), path.field("expected_statuses"), t);
  spec.retriable = statuses(from.retriable_statuses(), path.field("retriable_statuses"), t);
  spec.http2 = from.codec_client_type() == envoy::type::v3::HTTP2;
  if (from.method() != core::METHOD_UNSPECIFIED) spec.method = core::RequestMethod_Name(from.method());
}

void tcp(const HealthCheck::TcpHealthCheck& from, HealthCheckSpec& spec, const FieldPath& path, Translation& t) {
  spec.kind = HealthCheckSpec::Kind::kTcp;
  if (from.has_send()) spec.send = payload(from.send(), path.field("send"), t);
  each(from.receive(), path.field("receive"),
       [&](const HealthCheck::Payload& one, const FieldPath& at) { spec.receive.push_back(payload(one, at, t)); });
}

void grpc(const HealthCheck::GrpcHealthCheck& from, HealthCheckSpec& spec, const ClusterSpec& cluster,
          const FieldPath& path, Translation& t) {
  spec.kind = HealthCheckSpec::Kind::kGrpc;
  if (cluster.codec == ClusterSpec::Codec::kHttp1)
    t.fault(path, "needs a cluster that speaks HTTP/2: set http2_protocol_options");
  spec.service = from.service_name();
  spec.host = from.authority();
  check_header_value(spec.host, path.field("authority"), t);
  headers(from.initial_metadata(), spec, path.field("initial_metadata"), t);
}

}  // namespace

HealthCheckSpec health_check_spec(const HealthCheck& from, const ClusterSpec& cluster, const FieldPath& path,
                                  Translation& t) {
  HealthCheckSpec spec;
  spec.timeout_ms = needed_ms(from.has_timeout(), from.timeout(), path.field("timeout"), t);
  spec.interval_ms = needed_ms(from.has_interval(), from.interval(), path.field("interval"), t);
  spec.initial_jitter_ms = duration_ms(from.initial_jitter(), path.field("initial_jitter"), t);
  spec.interval_jitter_ms = duration_ms(from.interval_jitter(), path.field("interval_jitter"), t);
  spec.interval_jitter_percent = from.interval_jitter_percent();
  if (spec.interval_jitter_percent > 1000) t.fault(path.field("interval_jitter_percent"), "must be at most 1000");
  spec.unhealthy_threshold = threshold(from.has_unhealthy_threshold(), from.unhealthy_threshold().value(),
                                       path.field("unhealthy_threshold"), t);
  spec.healthy_threshold =
      threshold(from.has_healthy_threshold(), from.healthy_threshold().value(), path.field("healthy_threshold"), t);
  spec.no_traffic_interval_ms = interval_ms(from.has_no_traffic_interval(), from.no_traffic_interval(), 60'000,
                                            path.field("no_traffic_interval"), t);
  spec.no_traffic_healthy_interval_ms =
      interval_ms(from.has_no_traffic_healthy_interval(), from.no_traffic_healthy_interval(),
                  spec.no_traffic_interval_ms, path.field("no_traffic_healthy_interval"), t);
  spec.unhealthy_interval_ms = interval_ms(from.has_unhealthy_interval(), from.unhealthy_interval(), spec.interval_ms,
                                           path.field("unhealthy_interval"), t);
  spec.unhealthy_edge_interval_ms = interval_ms(from.has_unhealthy_edge_interval(), from.unhealthy_edge_interval(),
                                                spec.unhealthy_interval_ms, path.field("unhealthy_edge_interval"), t);
  spec.healthy_edge_interval_ms = interval_ms(from.has_healthy_edge_interval(), from.healthy_edge_interval(),
                                              spec.interval_ms, path.field("healthy_edge_interval"), t);
  spec.reuse_connection = !from.has_reuse_connection() || from.reuse_connection().value();
  spec.log_failures = from.always_log_health_check_failures();
  spec.log_successes = from.always_log_health_check_success();
  each(from.tls_options().alpn_protocols(), path.field("tls_options").field("alpn_protocols"),
       [&](const std::string& protocol, const FieldPath& at) {
         if (protocol.empty() || protocol.size() > 255) t.fault(at, "must have from 1 to 255 bytes");
         spec.alpn_protocols.push_back(protocol);
       });
  switch (from.health_checker_case()) {
    case HealthCheck::kHttpHealthCheck:
      http(from.http_health_check(), spec, path.field("http_health_check"), t);
      break;
    case HealthCheck::kTcpHealthCheck:
      tcp(from.tcp_health_check(), spec, path.field("tcp_health_check"), t);
      break;
    case HealthCheck::kGrpcHealthCheck:
      grpc(from.grpc_health_check(), spec, cluster, path.field("grpc_health_check"), t);
      break;
    case HealthCheck::HEALTH_CHECKER_NOT_SET:
      t.fault(path, "needs http_health_check, tcp_health_check or grpc_health_check");
  }
  return spec;
}

EndpointCheckSpec endpoint_check_spec(const endpoint::Endpoint_HealthCheckConfig& from, const FieldPath& path,
                                      Translation& t) {
  EndpointCheckSpec spec;
  if (from.port_value() > 65'535)
    t.fault(path.field("port_value"), fmt::format("is {}, must be at most 65535", from.port_value()));
  spec.port = static_cast<uint16_t>(from.port_value());
  spec.hostname = from.hostname();
  check_header_value(spec.hostname, path.field("hostname"), t);
  spec.disabled = from.disable_active_health_check();
  if (from.has_address()) {
    spec.address = address_spec(from.address(), AddressUse::kStaticHost, path.field("address"), t);
    if (spec.port != 0) t.fault(path.field("port_value"), "and address exclude each other; address has a port");
  }
  return spec;
}

}  // namespace outrigger::config
