#include "config/spec.h"

#include <tuple>

namespace outrigger::config {
namespace {

constexpr std::string_view kTypeUrls[kResourceTypeCount] = {
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
};

bool equal_tables(const std::shared_ptr<const RouteTableSpec>& a, const std::shared_ptr<const RouteTableSpec>& b) {
  if (a == b) return true;
  return a != nullptr && b != nullptr && *a == *b;
}

// Every member but route_table; a member added to HcmSpec and forgotten here fails spec_test's size check.
auto comparable(const HcmSpec& s) {
  return std::tie(s.codec, s.stat_prefix, s.rds_name, s.rds_source, s.filters, s.router_suppress_envoy_headers,
                  s.respect_expected_rq_timeout, s.access_logs, s.server_name, s.server_header,
                  s.max_request_headers_kb, s.max_headers_count, s.underscores, s.idle_timeout_ms,
                  s.max_connection_duration_ms, s.max_stream_duration_ms, s.max_requests_per_connection,
                  s.stream_idle_timeout_ms, s.request_timeout_ms, s.request_headers_timeout_ms, s.drain_timeout_ms,
                  s.delayed_close_timeout_ms, s.accept_http_10, s.default_host_for_http_10, s.allow_absolute_url,
                  s.enable_trailers, s.http2, s.upgrades, s.use_remote_address, s.xff_num_trusted_hops,
                  s.skip_xff_append, s.via, s.generate_request_id, s.preserve_external_request_id,
                  s.always_set_request_id_in_response, s.forward_client_cert, s.client_cert_details, s.normalize_path,
                  s.merge_slashes, s.escaped_slashes, s.strip_matching_host_port, s.strip_any_host_port,
                  s.strip_trailing_host_dot, s.internal_cidrs);
}

}  // namespace

bool HcmSpec::operator==(const HcmSpec& other) const {
  return comparable(*this) == comparable(other) && equal_tables(route_table, other.route_table);
}

bool same_source(const ConfigSourceSpec& a, const ConfigSourceSpec& b) {
  const auto stream = [](const ConfigSourceSpec& s) {
    return std::tie(s.kind, s.path, s.watched_directory, s.services, s.set_node_on_first_message_only, s.delta);
  };
  return stream(a) == stream(b);
}

std::string_view type_url(ResourceType type) { return kTypeUrls[static_cast<size_t>(type)]; }

std::optional<ResourceType> find_resource_type(std::string_view url) {
  for (size_t i = 0; i < kResourceTypeCount; ++i) {
    if (kTypeUrls[i] == url) return static_cast<ResourceType>(i);
  }
  return std::nullopt;
}

std::string_view resource_name(const Spec& spec) {
  struct Name {
    std::string_view operator()(const EndpointsSpec& s) const { return s.cluster_name; }
    std::string_view operator()(const ListenerSpec& s) const { return s.name; }
    std::string_view operator()(const RouteTableSpec& s) const { return s.name; }
    std::string_view operator()(const ClusterSpec& s) const { return s.name; }
    std::string_view operator()(const SecretSpec& s) const { return s.name; }
  };
  return std::visit(Name(), spec);
}

}  // namespace outrigger::config
