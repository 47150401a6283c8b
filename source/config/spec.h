// Specs: config as plain comparable values. The wire format is translated at the door (translate.h) and seen no
// further: route, upstream and proxy compile Specs. Two equal Specs compile to interchangeable parts, so the Store
// keeps the old part when a resource comes again unchanged.
//
// Durations are milliseconds unless a name says otherwise. Defaults are Envoy's unless a comment says otherwise.
// Field names follow the Envoy fields that they come from (envoy.config.*.v3).
//
// Thread rule: values of the builder thread; shared read-only once inside a published part.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/boxed.h"
#include "base/by_value.h"
#include "base/shared_text.h"
#include "base/socket_option.h"
#include "config/extension.h"
#include "config/health_spec.h"
#include "config/metadata_spec.h"
#include "config/route_spec.h"
#include "config/source_spec.h"
#include "config/tls_spec.h"

namespace outrigger::config {

// ---- addresses ----

struct AddressSpec {
  enum class Kind : uint8_t { kIp, kHostname, kPipe };
  Kind kind = Kind::kIp;
  std::string host;  // IP literal, DNS name, or the path of a Unix socket ("@name": abstract)
  uint16_t port = 0;
  uint32_t mode = 0;  // kPipe only
  bool operator==(const AddressSpec&) const = default;
};

struct CidrSpec {
  std::string prefix;  // IP literal
  uint8_t length = 0;
  bool operator==(const CidrSpec&) const = default;
};

// ---- listeners ----

struct AccessLogSpec {
  enum class Sink : uint8_t { kFile, kStdout, kStderr };
  Sink sink = Sink::kFile;
  std::string path;
  std::string format;                                            // text format string; empty: Envoy's default format
  std::vector<std::pair<std::string, std::string>> json_format;  // non-empty: JSON lines instead; sorted by key
  bool omit_empty_values = false;                                // text: nothing instead of "-"; JSON: no entry
  bool operator==(const AccessLogSpec&) const = default;
};

struct HttpFilterSpec {
  std::string name;
  FilterRef config;  // compiled, shared while equal
  bool disabled = false;
  bool operator==(const HttpFilterSpec&) const = default;
};

struct Http2Spec {  // Http2ProtocolOptions
  uint32_t max_concurrent_streams = 100;
  uint32_t initial_stream_window_bytes = 256 * 1024;
  uint32_t initial_connection_window_bytes = 1024 * 1024;
  uint32_t max_control_frames = 1000;
  uint32_t max_consecutive_empty_frames = 1;
  uint32_t max_priority_frames_per_stream = 100;
  uint32_t max_window_updates_per_data_frame = 10;
  uint64_t keepalive_interval_ms = 0;  // 0: no PING
  uint64_t keepalive_timeout_ms = 0;
  bool allow_connect = false;  // listeners: extended CONNECT (RFC 8441) is offered
  bool operator==(const Http2Spec&) const = default;
};

struct HcmSpec {  // HttpConnectionManager
  enum class Codec : uint8_t { kAuto, kHttp1, kHttp2 } codec = Codec::kAuto;
  std::string stat_prefix;
  std::string rds_name;  // either this (with rds_source), or route_table
  ConfigSourceSpec rds_source;
  std::shared_ptr<const RouteTableSpec> route_table;  // compared by value
  std::vector<HttpFilterSpec> filters;                // the router is last and not in this list
  bool router_suppress_envoy_headers = false;
  bool respect_expected_rq_timeout = false;
  std::vector<AccessLogSpec> access_logs;

  std::string server_name = "outrigger";
  enum class ServerHeader : uint8_t {
    kOverwrite,
    kAppendIfAbsent,
    kPassThrough
  } server_header = ServerHeader::kOverwrite;
  uint32_t max_request_headers_kb = 60;
  uint32_t max_headers_count = 100;
  enum class Underscores : uint8_t { kAllow, kReject, kDrop } underscores = Underscores::kAllow;
  uint64_t idle_timeout_ms = 3'600'000;     // of a connection without requests; 0: none
  uint64_t max_connection_duration_ms = 0;  // 0: none
  uint64_t max_stream_duration_ms = 0;
  uint32_t max_requests_per_connection = 0;
  uint64_t stream_idle_timeout_ms = 300'000;
  uint64_t request_timeout_ms = 0;
  uint64_t request_headers_timeout_ms = 10'000;  // ours: Envoy has none by default; 0 turns it off
  uint64_t drain_timeout_ms = 5'000;
  uint64_t delayed_close_timeout_ms = 1'000;
  bool accept_http_10 = false;
  std::string default_host_for_http_10;
  bool allow_absolute_url = true;
  bool enable_trailers = false;
  Http2Spec http2;
  std::vector<UpgradeSpec> upgrades;

  bool use_remote_address = false;
  uint32_t xff_num_trusted_hops = 0;
  bool skip_xff_append = false;
  std::string via;
  bool generate_request_id = true;
  bool preserve_external_request_id = false;
  bool always_set_request_id_in_response = false;
  enum class ForwardClientCert : uint8_t {
    kSanitize,
    kForwardOnly,
    kAppendForward,
    kSanitizeSet,
    kAlwaysForwardOnly
  } forward_client_cert = ForwardClientCert::kSanitize;
  ClientCertDetailsSpec client_cert_details;
  bool normalize_path = true;  // ours: on by default, as at an edge (Envoy: off)
  bool merge_slashes = false;
  enum class EscapedSlashes : uint8_t {
    kKeep,
    kReject,
    kUnescapeAndRedirect,
    kUnescapeAndForward
  } escaped_slashes = EscapedSlashes::kKeep;
  bool strip_matching_host_port = false;
  bool strip_any_host_port = false;
  bool strip_trailing_host_dot = false;
  std::vector<CidrSpec> internal_cidrs;         // empty: RFC 1918, loopback, link-local, unique local
  bool operator==(const HcmSpec& other) const;  // compares *route_table, defined in spec.cc
};

struct FilterChainMatchSpec {
  uint32_t destination_port = 0;
  std::vector<CidrSpec> prefix_ranges, source_prefix_ranges, direct_source_prefix_ranges;
  std::vector<std::string> server_names, application_protocols;
  std::string transport_protocol;
  enum class SourceType : uint8_t { kAny, kSameIpOrLoopback, kExternal } source_type = SourceType::kAny;
  std::vector<uint32_t> source_ports;
  bool operator==(const FilterChainMatchSpec&) const = default;
};

// envoy.filters.network.tcp_proxy.
struct TcpProxySpec {
  struct Target {
    std::string cluster;
    uint32_t weight = 1;
    ByValue<MetadataMatch> metadata_match = {};  // merged over the proxy's
    bool operator==(const Target&) const = default;
  };
  std::string stat_prefix;
  std::vector<Target> targets;              // at least one
  uint64_t idle_timeout_ms = 3'600'000;     // 0: none
  uint64_t max_connection_duration_ms = 0;  // 0: none
  uint32_t max_connect_attempts = 1;
  std::vector<AccessLogSpec> access_logs;
  bool operator==(const TcpProxySpec&) const = default;
};

// envoy.filters.network.connection_limit.
struct ConnectionLimitSpec {
  std::string stat_prefix;
  uint64_t max_connections = 1;
  uint64_t delay_ms = 0;
  bool operator==(const ConnectionLimitSpec&) const = default;
};

struct FilterChainSpec {
  std::string name;
  FilterChainMatchSpec match;
  std::optional<ConnectionLimitSpec> connection_limit;
  HcmSpec hcm;
  std::optional<TcpProxySpec> tcp;  // instead of the connection manager
  std::optional<DownstreamTlsSpec> tls;
  uint64_t handshake_timeout_ms = 15'000;  // transport_socket_connect_timeout; ours: Envoy has none by default; 0: none
  ByValue<Metadata> listener_metadata;     // for access logs
  bool operator==(const FilterChainSpec&) const = default;
};

struct ListenerFilterSpec {
  enum class Kind : uint8_t { kTlsInspector, kProxyProtocol, kOriginalDst } kind = Kind::kTlsInspector;
  bool close_on_bad_hello = false;        // kTlsInspector
  bool header_required = true;            // kProxyProtocol
  bool takes_v1 = true, takes_v2 = true;  // kProxyProtocol
  bool operator==(const ListenerFilterSpec&) const = default;
};

struct ListenerSpec {
  std::string name;
  std::vector<AddressSpec> addresses;  // >= 1
  std::vector<ListenerFilterSpec> listener_filters;
  uint64_t listener_filters_timeout_ms = 15'000;  // 0: none
  bool continue_on_listener_filters_timeout = false;
  bool transparent = false;  // IP_TRANSPARENT: takes connections that TPROXY sends here, on any address
  std::vector<FilterChainSpec> filter_chains;
  std::optional<FilterChainSpec> default_filter_chain;
  uint32_t per_connection_buffer_limit_bytes = 1024 * 1024;
  uint32_t tcp_backlog_size = 0;             // 0: the system's maximum
  uint32_t max_accepts_per_event = 16;       // ours: Envoy has no limit by default
  std::vector<SocketOption> socket_options;  // those of tcp_keepalive and tcp_fast_open_queue_length come first
  bool api_listener = false;                 // never bound; kept for gRPC clients (control plane only)
  bool operator==(const ListenerSpec&) const = default;
};

// ---- clusters and endpoints ----

// How an endpoint is checked, where that differs from the rest of its cluster.
struct EndpointCheckSpec {
  std::optional<AddressSpec> address;  // where checks go; none: where requests go
  uint16_t port = 0;                   // 0: the address's own
  std::string hostname;                // what checks call it; empty: as the cluster's health check says
  bool disabled = false;
  bool operator==(const EndpointCheckSpec&) const = default;
};

// The other addresses of an endpoint that has several.
struct EndpointAddressesSpec {
  std::vector<AddressSpec> more;  // IP
  std::string name;               // kLogicalDns: "name:port", which is who the host is, whatever its addresses are
  bool operator==(const EndpointAddressesSpec&) const = default;
};

struct EndpointSpec {
  AddressSpec address;
  SharedText hostname;
  ByValue<EndpointCheckSpec> check;
  ByValue<EndpointAddressesSpec> addresses;
  ByValue<Metadata> metadata;
  uint32_t weight = 1;
  bool healthy = true;  // health_status UNKNOWN, HEALTHY, DEGRADED
  bool draining = false;
  bool operator==(const EndpointSpec&) const = default;
};

struct EndpointsSpec {  // ClusterLoadAssignment
  std::string cluster_name;
  std::vector<EndpointSpec> endpoints;
  bool operator==(const EndpointsSpec&) const = default;
};

struct ClusterSpec {
  enum class Discovery : uint8_t { kStatic, kStrictDns, kLogicalDns, kEds, kAggregate, kOriginalDst };
  enum class Lb : uint8_t { kRoundRobin, kLeastRequest, kRandom };
  std::string name;
  std::string alt_stat_name;
  Discovery discovery = Discovery::kStatic;
  std::string eds_service_name;  // empty: the cluster's name
  ConfigSourceSpec eds_source;
  EndpointsSpec endpoints;           // kStatic; of those by DNS the names to resolve, of kLogicalDns one
  std::vector<std::string> members;  // kAggregate: clusters, the preferred ones first; at least one, none twice
  Lb lb = Lb::kRoundRobin;
  uint32_t least_request_choice_count = 2;
  uint64_t connect_timeout_ms = 5'000;
  uint32_t per_connection_buffer_limit_bytes = 1024 * 1024;
  // Circuit breakers, default priority.
  uint32_t max_connections = 1024, max_pending_requests = 1024, max_requests = 1024, max_retries = 3;
  uint64_t idle_timeout_ms = 3'600'000;    // of an HTTP connection without requests; 0: none
  uint64_t tcp_idle_timeout_ms = 600'000;  // of a TCP connection made ahead, without a client; 0: none
  uint64_t max_connection_duration_ms = 0;
  uint32_t max_requests_per_connection = 0;  // 0: unlimited
  uint32_t max_response_headers_count = 100;
  enum class Codec : uint8_t { kHttp1, kHttp2, kAsDownstream, kByAlpn } codec = Codec::kHttp1;  // kByAlpn needs tls
  Http2Spec http2{.max_concurrent_streams = 1024};
  Boxed<UpstreamTlsSpec> tls;
  ProxyHeaderVersion proxy_header = ProxyHeaderVersion::kNone;  // sent before all else, TLS too
  std::vector<SocketOption> socket_options;
  // happy_eyeballs_config: in which order the addresses of a host are tried.
  enum class FirstFamily : uint8_t { kAsGiven, kV4, kV6 } first_family = FirstFamily::kAsGiven;
  uint32_t first_family_count = 1;
  // preconnect_policy, 1 to 3: how much of what is needed there is to be, to a host and to those that come next.
  float preconnect_ratio = 1, predictive_preconnect_ratio = 1;
  uint64_t dns_refresh_rate_ms = 5'000;
  bool respect_dns_ttl = false;
  ByValue<HealthCheckSpec> health_check;
  ByValue<Metadata> metadata;
  ByValue<SubsetSpec> subsets;
  uint8_t healthy_panic_percent = 50;  // under it all hosts are used; 0: never
  bool ignore_health_on_host_removal = false;
  bool close_connections_on_host_health_failure = false;
  enum class DnsFamily : uint8_t { kAuto, kV4Only, kV6Only, kV4Preferred, kAll } dns_family = DnsFamily::kAuto;
  bool by_dns() const { return discovery == Discovery::kStrictDns || discovery == Discovery::kLogicalDns; }
  bool operator==(const ClusterSpec&) const = default;
};

// ---- bootstrap ----

struct NodeSpec {
  std::string id, cluster, region, zone, sub_zone;
  std::string metadata_json;  // google.protobuf.Struct
  std::string serialized;     // the whole node as envoy.config.core.v3.Node bytes, user agent filled in
  bool operator==(const NodeSpec&) const = default;
};

struct BootstrapSpec {
  NodeSpec node;
  std::vector<ListenerSpec> listeners;
  std::vector<ClusterSpec> clusters;
  std::vector<SecretSpec> secrets;
  std::optional<ConfigSourceSpec> lds, cds;
  std::optional<ConfigSourceSpec> ads;                // kGrpc
  std::map<std::string, ChannelTlsSpec> channel_tls;  // of clusters that are ways to a control plane only
  std::optional<AddressSpec> admin;
  std::vector<AccessLogSpec> admin_access_logs;
};

// A resource as it came: what discovery names it by.
enum class ResourceType : uint8_t { kListener, kRouteTable, kCluster, kEndpoints, kSecret };
inline constexpr size_t kResourceTypeCount = 5;
std::string_view type_url(ResourceType type);  // "type.googleapis.com/envoy.config.listener.v3.Listener", ...
std::optional<ResourceType> find_resource_type(std::string_view type_url);

// In the order of ResourceType.
using Spec = std::variant<ListenerSpec, RouteTableSpec, ClusterSpec, EndpointsSpec, SecretSpec>;
std::string_view resource_name(const Spec& spec);

}  // namespace outrigger::config
