// Clusters and their endpoints.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "config/any.h"
#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/core/v3/health_check.pb.h"
#include "envoy/config/core/v3/protocol.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/extensions/clusters/aggregate/v3/cluster.pb.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb.h"
#include "envoy/extensions/upstreams/tcp/v3/tcp_protocol_options.pb.h"

namespace outrigger::config {
namespace cluster = envoy::config::cluster::v3;
namespace core = envoy::config::core::v3;
namespace endpoint = envoy::config::endpoint::v3;

namespace {

using cluster::Cluster;
using UpstreamOptions = envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
using TcpOptions = envoy::extensions::upstreams::tcp::v3::TcpProtocolOptions;

constexpr int kMaxAdditionalAddresses = 31;
constexpr std::string_view kAggregateName = "envoy.clusters.aggregate";
constexpr std::string_view kUpstreamOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
constexpr std::string_view kTcpOptionsKey = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions";

bool takes_requests(core::HealthStatus status) {
  return status == core::UNKNOWN || status == core::HEALTHY || status == core::DEGRADED;
}

void more_addresses(const endpoint::Endpoint& from, AddressUse use, EndpointSpec& spec, const FieldPath& path,
                    Translation& t) {
  if (use != AddressUse::kStaticHost) return t.fault(path, "needs a cluster of type STATIC or EDS");
  if (from.additional_addresses_size() > kMaxAdditionalAddresses)
    t.fault(path,
            fmt::format("has {} entries, may have {}", from.additional_addresses_size(), kMaxAdditionalAddresses));
  if (spec.address.kind == AddressSpec::Kind::kPipe) t.fault(path, "a host at a Unix socket has no other addresses");
  EndpointAddressesSpec addresses;
  each(from.additional_addresses(), path, [&](const auto& one, const FieldPath& at) {
    if (one.address().has_pipe()) return t.fault(at.field("address").field("pipe"), "must be an IP address");
    addresses.more.push_back(address_spec(one.address(), use, at.field("address"), t));
  });
  spec.addresses = std::move(addresses);
}

EndpointSpec endpoint_spec(const endpoint::LbEndpoint& from, AddressUse use, const FieldPath& path, Translation& t) {
  EndpointSpec spec;
  const FieldPath at = path.field("endpoint");
  if (from.host_identifier_case() != endpoint::LbEndpoint::kEndpoint)
    t.fault(at, "is required");
  else if (!from.endpoint().has_address())
    t.fault(at.field("address"), "is required");
  else
    spec.address = address_spec(from.endpoint().address(), use, at.field("address"), t);
  spec.hostname = from.endpoint().hostname();
  check_header_value(spec.hostname, at.field("hostname"), t);
  if (from.endpoint().has_health_check_config())
    spec.check = endpoint_check_spec(from.endpoint().health_check_config(), at.field("health_check_config"), t);
  if (!from.endpoint().additional_addresses().empty())
    more_addresses(from.endpoint(), use, spec, at.field("additional_addresses"), t);
  if (from.has_load_balancing_weight()) {
    spec.weight = from.load_balancing_weight().value();
    if (spec.weight == 0) t.fault(path.field("load_balancing_weight"), "must be at least 1");
  }
  spec.healthy = takes_requests(from.health_status());
  spec.draining = from.health_status() == core::DRAINING;
  spec.metadata = metadata(from.metadata(), path.field("metadata"), t);
  return spec;
}

// An address twice is one host; the first counts, as in Envoy.
void drop_duplicates(std::vector<EndpointSpec>& endpoints) {
  std::vector<size_t> order(endpoints.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto key = [&](size_t i) {
    const AddressSpec& a = endpoints[i].address;
    return std::tie(a.host, a.port);
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  std::vector<bool> drop(endpoints.size(), false);
  for (size_t i = 1; i < order.size(); ++i) drop[order[i]] = key(order[i]) == key(order[i - 1]);
  size_t at = 0;
  std::erase_if(endpoints, [&](const EndpointSpec&) { return drop[at++]; });
}

// A cluster of clusters: it has no hosts of its own.
void aggregate(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  spec.discovery = ClusterSpec::Discovery::kAggregate;
  const FieldPath type = path.field("cluster_type");
  const FieldPath typed = type.field("typed_config");
  if (from.cluster_type().name() != kAggregateName)
    t.fault(type.field("name"),
            fmt::format("\"{}\" is not supported; only {} is", from.cluster_type().name(), kAggregateName));
  envoy::extensions::clusters::aggregate::v3::ClusterConfig config;
  if (unpack_to(from.cluster_type().typed_config(), config, typed, t.faults)) {
    const FieldPath list = typed.field("clusters");
    if (config.clusters().empty()) t.fault(list, "needs at least one cluster");
    each(config.clusters(), list, [&](const std::string& name, const FieldPath& at) {
      if (name.empty()) return t.fault(at, "must not be empty");
      if (std::find(spec.members.begin(), spec.members.end(), name) != spec.members.end())
        return t.fault(at, fmt::format("\"{}\" is there twice", name));
      spec.members.push_back(name);
    });
  }
  constexpr std::string_view kNone = "an aggregate cluster has no hosts of its own; remove this";
  if (from.has_load_assignment()) t.fault(path.field("load_assignment"), std::string(kNone));
  if (from.has_eds_cluster_config()) t.fault(path.field("eds_cluster_config"), std::string(kNone));
}

void hosts(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  if (from.has_cluster_type()) return aggregate(from, spec, path, t);
  const FieldPath assignment = path.field("load_assignment");
  switch (from.type()) {
    case Cluster::EDS:
      spec.discovery = ClusterSpec::Discovery::kEds;
      if (from.has_load_assignment())
        t.fault(assignment, "a cluster of type EDS gets its hosts by EDS; remove this or change type");
      if (!from.eds_cluster_config().has_eds_config())
        t.fault(path.field("eds_cluster_config").field("eds_config"), "is required for type EDS");
      else
        spec.eds_source = config_source_spec(from.eds_cluster_config().eds_config(), true,
                                             path.field("eds_cluster_config").field("eds_config"), t);
      spec.eds_service_name = from.eds_cluster_config().service_name();
      return;
    case Cluster::STRICT_DNS:
      spec.discovery = ClusterSpec::Discovery::kStrictDns;
      break;
    case Cluster::LOGICAL_DNS:
      spec.discovery = ClusterSpec::Discovery::kLogicalDns;
      break;
    case Cluster::ORIGINAL_DST:
      spec.discovery = ClusterSpec::Discovery::kOriginalDst;
      if (from.has_load_assignment())
        t.fault(assignment, "a cluster of type ORIGINAL_DST has no hosts of its own; remove this");
      if (from.has_eds_cluster_config()) t.fault(path.field("eds_cluster_config"), "needs type: EDS");
      return;
    default:
      spec.discovery = ClusterSpec::Discovery::kStatic;
  }
  if (from.has_eds_cluster_config()) t.fault(path.field("eds_cluster_config"), "needs type: EDS");
  const AddressUse use =
      spec.discovery == ClusterSpec::Discovery::kStatic ? AddressUse::kStaticHost : AddressUse::kDnsHost;
  if (from.has_load_assignment())
    spec.endpoints = endpoints_spec(from.load_assignment(), use, assignment, t);
  else if (spec.by_dns())
    t.fault(assignment, fmt::format("is required for type {}: {} to look up", Cluster::DiscoveryType_Name(from.type()),
                                    spec.discovery == ClusterSpec::Discovery::kStrictDns ? "the names" : "the name"));
  const auto& localities = from.load_assignment().endpoints();
  if (spec.discovery == ClusterSpec::Discovery::kLogicalDns && from.has_load_assignment() &&
      (localities.size() != 1 || localities[0].lb_endpoints_size() != 1))
    t.fault(assignment.field("endpoints"), "of type LOGICAL_DNS have one locality with one endpoint");
}

void load_balancer(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  const bool provides = from.has_cluster_type() || spec.discovery == ClusterSpec::Discovery::kOriginalDst;
  if ((from.lb_policy() == Cluster::CLUSTER_PROVIDED) != provides)
    t.fault(path.field("lb_policy"),
            "an aggregate cluster or one of type ORIGINAL_DST needs CLUSTER_PROVIDED, and no other has it");
  spec.lb = from.lb_policy() == Cluster::LEAST_REQUEST ? ClusterSpec::Lb::kLeastRequest : ClusterSpec::Lb::kRoundRobin;
  if (from.has_lb_subset_config()) {
    const FieldPath at = path.field("lb_subset_config");
    if (provides) t.fault(at, "needs hosts of the cluster's own, and CLUSTER_PROVIDED has none");
    spec.subsets = subset_spec(from.lb_subset_config(), at, t);
  }
  if (from.lb_config_case() != Cluster::kLeastRequestLbConfig) return;
  const FieldPath at = path.field("least_request_lb_config");
  if (spec.lb != ClusterSpec::Lb::kLeastRequest) t.fault(at, "needs lb_policy: LEAST_REQUEST");
  if (!from.least_request_lb_config().has_choice_count()) return;
  spec.least_request_choice_count = from.least_request_lb_config().choice_count().value();
  if (spec.least_request_choice_count < 2) t.fault(at.field("choice_count"), "must be at least 2");
}

void circuit_breakers(const cluster::CircuitBreakers& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  bool seen[2] = {};
  each(from.thresholds(), path.field("thresholds"), [&](const auto& limits, const FieldPath& at) {
    const bool high = limits.priority() == core::HIGH;
    if (std::exchange(seen[high], true)) t.fault(at.field("priority"), "has thresholds already");
    if (high) return;  // no request has that priority
    if (limits.has_max_connections()) spec.max_connections = limits.max_connections().value();
    if (limits.has_max_pending_requests()) spec.max_pending_requests = limits.max_pending_requests().value();
    if (limits.has_max_requests()) spec.max_requests = limits.max_requests().value();
    if (limits.has_max_retries()) spec.max_retries = limits.max_retries().value();
  });
}

void common_options(const core::HttpProtocolOptions& options, ClusterSpec& spec, const FieldPath& path,
                    Translation& t) {
  if (options.has_idle_timeout())
    spec.idle_timeout_ms = duration_ms(options.idle_timeout(), path.field("idle_timeout"), t);
  if (options.has_max_connection_duration())
    spec.max_connection_duration_ms =
        duration_ms(options.max_connection_duration(), path.field("max_connection_duration"), t);
  if (options.has_max_headers_count()) {
    spec.max_response_headers_count = options.max_headers_count().value();
    if (spec.max_response_headers_count == 0) t.fault(path.field("max_headers_count"), "must be at least 1");
  }
  if (options.has_max_requests_per_connection())
    spec.max_requests_per_connection = options.max_requests_per_connection().value();
  if (options.has_max_stream_duration())
    t.fault(path.field("max_stream_duration"), "is not supported in clusters; set it in the route or the listener");
}

void speak_http2(const core::Http2ProtocolOptions& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  const uint32_t streams = spec.http2.max_concurrent_streams;
  spec.codec = ClusterSpec::Codec::kHttp2;
  spec.http2 = http2_spec(from, path, t);
  if (!from.has_max_concurrent_streams()) spec.http2.max_concurrent_streams = streams;
}

void upstream_options(const google::protobuf::Any& any, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  UpstreamOptions options;
  if (!unpack_to(any, options, path, t.faults)) return;
  check_field_use(options, path, t.faults);
  common_options(options.common_http_protocol_options(), spec, path.field("common_http_protocol_options"), t);
  const FieldPath at = path.field("explicit_http_config");
  switch (options.upstream_protocol_options_case()) {
    case UpstreamOptions::kExplicitHttpConfig: {
      const UpstreamOptions::ExplicitHttpConfig& config = options.explicit_http_config();
      if (config.protocol_config_case() == UpstreamOptions::ExplicitHttpConfig::PROTOCOL_CONFIG_NOT_SET)
        return t.fault(at, "needs http_protocol_options or http2_protocol_options");
      if (config.has_http2_protocol_options())
        speak_http2(config.http2_protocol_options(), spec, at.field("http2_protocol_options"), t);
      return;
    }
    case UpstreamOptions::kUseDownstreamProtocolConfig:
      speak_http2(options.use_downstream_protocol_config().http2_protocol_options(), spec,
                  path.field("use_downstream_protocol_config").field("http2_protocol_options"), t);
      spec.codec = ClusterSpec::Codec::kAsDownstream;
      return;
    case UpstreamOptions::kAutoConfig:
      speak_http2(options.auto_config().http2_protocol_options(), spec,
                  path.field("auto_config").field("http2_protocol_options"), t);
      spec.codec = ClusterSpec::Codec::kByAlpn;
      return;
    default:
      t.fault(at, "is required, with http_protocol_options or http2_protocol_options");
  }
}

void tcp_options(const google::protobuf::Any& any, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  TcpOptions options;
  if (!unpack_to(any, options, path, t.faults)) return;
  check_field_use(options, path, t.faults);
  if (options.has_idle_timeout())
    spec.tcp_idle_timeout_ms = duration_ms(options.idle_timeout(), path.field("idle_timeout"), t);
}

void protocol(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath typed = path.field("typed_extension_protocol_options");
  for (const auto& [key, any] : from.typed_extension_protocol_options()) {
    if (key == kUpstreamOptionsKey)
      upstream_options(any, spec, typed.key(key), t);
    else if (key == kTcpOptionsKey)
      tcp_options(any, spec, typed.key(key), t);
    else
      t.fault(typed.key(key),
              fmt::format("is not known; the keys are \"{}\" and \"{}\"", kUpstreamOptionsKey, kTcpOptionsKey));
  }
  if (from.typed_extension_protocol_options().contains(std::string(kUpstreamOptionsKey))) {
    constexpr std::string_view kOnlyOne = "is deprecated and excludes typed_extension_protocol_options; move it there";
    if (from.has_common_http_protocol_options())
      t.fault(path.field("common_http_protocol_options"), std::string(kOnlyOne));
    if (from.has_http_protocol_options()) t.fault(path.field("http_protocol_options"), std::string(kOnlyOne));
    if (from.has_http2_protocol_options()) t.fault(path.field("http2_protocol_options"), std::string(kOnlyOne));
    return;
  }
  common_options(from.common_http_protocol_options(), spec, path.field("common_http_protocol_options"), t);
  if (from.has_http_protocol_options() && from.has_http2_protocol_options())
    t.fault(path.field("http2_protocol_options"), "and http_protocol_options exclude each other");
  if (from.has_http2_protocol_options())
    speak_http2(from.http2_protocol_options(), spec, path.field("http2_protocol_options"), t);
}

void dns(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  if (from.has_dns_refresh_rate()) {
    const size_t errors = t.faults.errors();
    spec.dns_refresh_rate_ms = duration_ms(from.dns_refresh_rate(), path.field("dns_refresh_rate"), t);
    if (spec.dns_refresh_rate_ms <= 1 && t.faults.errors() == errors)
      t.fault(path.field("dns_refresh_rate"), "must be above 1 ms");
  }
  spec.respect_dns_ttl = from.respect_dns_ttl();
  spec.dns_family = static_cast<ClusterSpec::DnsFamily>(from.dns_lookup_family());
}

void connections(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  spec.socket_options = upstream_socket_options(from, path, t);
  if (from.upstream_connection_options().has_happy_eyeballs_config()) {
    const auto& order = from.upstream_connection_options().happy_eyeballs_config();
    const FieldPath options = path.field("upstream_connection_options");
    const FieldPath at = options.field("happy_eyeballs_config");
    spec.first_family = static_cast<ClusterSpec::FirstFamily>(order.first_address_family_version());
    if (order.has_first_address_family_count()) spec.first_family_count = order.first_address_family_count().value();
    if (spec.first_family_count == 0) t.fault(at.field("first_address_family_count"), "must be at least 1");
  }
  const auto ratio = [&](bool given, double value, std::string_view field) {
    if (!given) return 1.0F;
    if (!(value >= 1 && value <= 3))
      t.fault(path.field("preconnect_policy").field(field), fmt::format("is {}, must be from 1 to 3", value));
    return static_cast<float>(value);
  };
  const Cluster::PreconnectPolicy& policy = from.preconnect_policy();
  spec.preconnect_ratio = ratio(policy.has_per_upstream_preconnect_ratio(),
                                policy.per_upstream_preconnect_ratio().value(), "per_upstream_preconnect_ratio");
  spec.predictive_preconnect_ratio = ratio(policy.has_predictive_preconnect_ratio(),
                                           policy.predictive_preconnect_ratio().value(), "predictive_preconnect_ratio");
}

// After all that says what the cluster is and speaks.
void health(const Cluster& from, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath checks = path.field("health_checks");
  if (from.health_checks_size() > 1)
    t.fault(checks, fmt::format("has {} entries; one is supported", from.health_checks_size()));
  const bool has_hosts =
      spec.discovery != ClusterSpec::Discovery::kAggregate && spec.discovery != ClusterSpec::Discovery::kOriginalDst;
  if (!from.health_checks().empty()) {
    if (!has_hosts) t.fault(checks, "needs a cluster that has hosts of its own");
    spec.health_check = health_check_spec(from.health_checks(0), spec, checks.index(0), t);
  }
  const auto& lb = from.common_lb_config();
  if (lb.has_healthy_panic_threshold()) {
    const double percent = lb.healthy_panic_threshold().value();
    if (!(percent >= 0 && percent <= 100))
      t.fault(path.field("common_lb_config").field("healthy_panic_threshold").field("value"), "must be from 0 to 100");
    else
      spec.healthy_panic_percent = static_cast<uint8_t>(percent);  // as Envoy: whole percents
  }
  spec.ignore_health_on_host_removal = from.ignore_health_on_host_removal();
  spec.close_connections_on_host_health_failure = from.close_connections_on_host_health_failure();
}

}  // namespace

EndpointsSpec endpoints_spec(const endpoint::ClusterLoadAssignment& from, AddressUse use, const FieldPath& path,
                             Translation& t) {
  EndpointsSpec spec;
  spec.cluster_name = from.cluster_name();
  if (spec.cluster_name.empty()) t.fault(path.field("cluster_name"), "must not be empty");
  uint64_t weights = 0;
  size_t count = 0;
  for (const auto& locality : from.endpoints()) count += static_cast<size_t>(locality.lb_endpoints_size());
  spec.endpoints.reserve(count);
  each(from.endpoints(), path.field("endpoints"), [&](const auto& locality, const FieldPath& at) {
    if (locality.priority() != 0)
      t.fault(at.field("priority"), fmt::format("is {}; only priority 0 is supported", locality.priority()));
    each(locality.lb_endpoints(), at.field("lb_endpoints"), [&](const auto& host, const FieldPath& host_at) {
      spec.endpoints.push_back(endpoint_spec(host, use, host_at, t));
      weights += spec.endpoints.back().weight;
    });
  });
  if (weights > std::numeric_limits<uint32_t>::max())
    t.fault(path.field("endpoints"), fmt::format("the weights sum to {}, must be at most 4294967295", weights));
  drop_duplicates(spec.endpoints);
  return spec;
}

ClusterSpec cluster_spec(const Cluster& from, const FieldPath& path, Translation& t) {
  ClusterSpec spec;
  spec.name = from.name();
  if (spec.name.empty()) t.fault(path.field("name"), "must not be empty");
  spec.alt_stat_name = from.alt_stat_name();
  hosts(from, spec, path, t);
  load_balancer(from, spec, path, t);
  if (from.has_connect_timeout()) {
    const size_t errors = t.faults.errors();
    spec.connect_timeout_ms = duration_ms(from.connect_timeout(), path.field("connect_timeout"), t);
    if (spec.connect_timeout_ms == 0 && t.faults.errors() == errors)
      t.fault(path.field("connect_timeout"), "must be above 0");
  }
  if (from.has_per_connection_buffer_limit_bytes()) {
    spec.per_connection_buffer_limit_bytes = from.per_connection_buffer_limit_bytes().value();
    if (spec.per_connection_buffer_limit_bytes == 0)
      t.fault(path.field("per_connection_buffer_limit_bytes"), "must be at least 1: buffers are always bounded");
  }
  circuit_breakers(from.circuit_breakers(), spec, path.field("circuit_breakers"), t);
  spec.max_requests_per_connection = from.max_requests_per_connection().value();
  protocol(from, spec, path, t);
  dns(from, spec, path, t);
  connections(from, spec, path, t);
  if (from.has_transport_socket()) upstream_transport(from.transport_socket(), spec, path.field("transport_socket"), t);
  if (spec.codec == ClusterSpec::Codec::kByAlpn && !spec.tls)
    t.fault(path.field("transport_socket"), "is required with auto_config: ALPN, which decides, is part of TLS");
  health(from, spec, path, t);
  spec.metadata = metadata(from.metadata(), path.field("metadata"), t);
  return spec;
}

}  // namespace outrigger::config
