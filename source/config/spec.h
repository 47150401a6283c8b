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

#include "config/extension.h"
#include "config/source_spec.h"
#include "config/tls_spec.h"

namespace outrigger::config {

// ---- shared pieces ----

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

struct StringMatchSpec {
  enum class Kind : uint8_t { kExact, kPrefix, kSuffix, kContains, kRegex };
  Kind kind = Kind::kExact;
  std::string value;
  bool ignore_case = false;  // not for kRegex
  bool operator==(const StringMatchSpec&) const = default;
};

struct FractionSpec {  // numerator / denominator of requests
  uint32_t numerator = 100;
  uint32_t denominator = 100;  // 100, 10'000 or 1'000'000
  bool operator==(const FractionSpec&) const = default;
};

struct HeaderMatchSpec {
  enum class Kind : uint8_t { kString, kRange, kPresent };
  std::string name;  // lower-case
  Kind kind = Kind::kPresent;
  StringMatchSpec string;
  int64_t range_start = 0, range_end = 0;  // [start, end)
  bool present = true;
  bool invert = false;
  bool treat_missing_as_empty = false;
  bool operator==(const HeaderMatchSpec&) const = default;
};

struct QueryMatchSpec {
  std::string name;
  std::optional<StringMatchSpec> string;  // absent: presence is what counts
  bool present = true;                    // for the presence form
  bool operator==(const QueryMatchSpec&) const = default;
};

struct HeaderAddSpec {
  enum class Action : uint8_t { kAppendIfExistsOrAdd, kAddIfAbsent, kOverwriteIfExistsOrAdd, kOverwriteIfExists };
  std::string name;   // lower-case
  std::string value;  // substitution format string (%REQ(...)% etc.), checked at translation
  Action action = Action::kAppendIfExistsOrAdd;
  bool keep_empty_value = false;
  bool operator==(const HeaderAddSpec&) const = default;
};

struct HeaderMutationSpec {
  std::vector<HeaderAddSpec> add;
  std::vector<std::string> remove;  // lower-case names
  bool empty() const { return add.empty() && remove.empty(); }
  bool operator==(const HeaderMutationSpec&) const = default;
};

// ---- routes ----

struct PathMatchSpec {
  enum class Kind : uint8_t { kPrefix, kExact, kSeparatedPrefix, kRegex };
  Kind kind = Kind::kPrefix;
  std::string value;
  bool case_sensitive = true;  // not for kRegex
  bool operator==(const PathMatchSpec&) const = default;
};

struct RouteMatchSpec {
  PathMatchSpec path;
  std::vector<HeaderMatchSpec> headers;
  std::vector<QueryMatchSpec> query_parameters;
  std::optional<FractionSpec> runtime_fraction;
  bool operator==(const RouteMatchSpec&) const = default;
};

struct RegexRewriteSpec {
  std::string regex;
  std::string substitution;  // RE2 syntax, \0..\9
  bool operator==(const RegexRewriteSpec&) const = default;
};

struct RetryPolicySpec {
  std::vector<std::string> retry_on;
  uint32_t num_retries = 1;
  uint64_t per_try_timeout_ms = 0;
  std::vector<uint32_t> retriable_status_codes;
  uint64_t base_interval_ms = 25;
  uint64_t max_interval_ms = 250;
  bool operator==(const RetryPolicySpec&) const = default;
};

// Actions that make one descriptor each; a descriptor is the list of entries of all actions of one RateLimitSpec.
struct RateLimitActionSpec {
  enum class Kind : uint8_t {
    kSourceCluster,
    kDestinationCluster,
    kRequestHeaders,
    kRemoteAddress,
    kGenericKey,
    kHeaderValueMatch,
    kQueryParameterValueMatch,
    kQueryParameters,
    kMaskedRemoteAddress
  };
  Kind kind = Kind::kGenericKey;
  std::string descriptor_key;
  std::string descriptor_value;
  std::string name;  // header or query parameter
  bool skip_if_absent = false;
  bool expect_match = true;
  std::vector<HeaderMatchSpec> headers;
  std::vector<QueryMatchSpec> query_parameters;
  uint32_t v4_prefix = 32, v6_prefix = 128;
  bool operator==(const RateLimitActionSpec&) const = default;
};

struct RateLimitSpec {
  uint32_t stage = 0;
  std::string disable_key;
  std::vector<RateLimitActionSpec> actions;
  bool operator==(const RateLimitSpec&) const = default;
};

struct ClusterWeightSpec {
  std::string name;            // or
  std::string cluster_header;  // lower-case; the header that names the cluster
  uint32_t weight = 0;
  HeaderMutationSpec request_headers, response_headers;
  PerFilterConfigs per_filter;
  bool operator==(const ClusterWeightSpec&) const = default;
};

struct MirrorSpec {            // RouteAction.RequestMirrorPolicy
  std::string cluster;         // or
  std::string cluster_header;  // lower-case; the header that names the cluster
  FractionSpec fraction;
  bool append_shadow = true;  // "-shadow" goes behind the copy's host
  bool operator==(const MirrorSpec&) const = default;
};

struct ForwardSpec {                        // RouteAction
  std::string cluster;                      // exactly one of these three is set
  std::string cluster_header;               // lower-case
  std::vector<ClusterWeightSpec> weighted;  // total weight >= 1
  uint16_t cluster_not_found_status = 503;
  std::string prefix_rewrite;
  std::optional<RegexRewriteSpec> regex_rewrite;
  std::string host_rewrite_literal;
  std::string host_rewrite_header;  // lower-case
  bool auto_host_rewrite = false;
  bool append_x_forwarded_host = false;
  uint64_t timeout_ms = 15'000;  // 0: none
  std::optional<uint64_t> idle_timeout_ms;
  std::optional<uint64_t> max_stream_duration_ms;  // instead of HcmSpec's; 0: none
  std::optional<RetryPolicySpec> retry;            // the virtual host's if the route has none
  std::vector<MirrorSpec> mirrors;                 // the virtual host's or the table's if the route has none
  std::vector<RateLimitSpec> rate_limits;
  bool include_vh_rate_limits = false;
  bool operator==(const ForwardSpec&) const = default;
};

struct RedirectSpec {
  std::string scheme_redirect;  // "" unless given; https_redirect gives "https"
  std::string host_redirect;
  uint32_t port_redirect = 0;
  std::string path_redirect;
  std::string prefix_rewrite;
  std::optional<RegexRewriteSpec> regex_rewrite;
  uint16_t status = 301;  // 301, 302, 303, 307, 308
  bool strip_query = false;
  bool operator==(const RedirectSpec&) const = default;
};

struct DirectResponseSpec {
  uint16_t status = 200;
  std::string body;
  bool operator==(const DirectResponseSpec&) const = default;
};

struct RouteSpec {
  std::string name;
  RouteMatchSpec match;
  std::variant<ForwardSpec, RedirectSpec, DirectResponseSpec> action;
  HeaderMutationSpec request_headers, response_headers;
  PerFilterConfigs per_filter;
  bool operator==(const RouteSpec&) const = default;
};

struct VirtualHostSpec {
  std::string name;
  std::vector<std::string> domains;  // lower-case
  std::vector<RouteSpec> routes;
  enum class Tls : uint8_t { kNone, kExternalOnly, kAll } require_tls = Tls::kNone;
  HeaderMutationSpec request_headers, response_headers;
  std::vector<RateLimitSpec> rate_limits;
  PerFilterConfigs per_filter;
  bool operator==(const VirtualHostSpec&) const = default;
};

struct RouteTableSpec {  // RouteConfiguration
  std::string name;
  std::vector<VirtualHostSpec> virtual_hosts;
  HeaderMutationSpec request_headers, response_headers;
  std::vector<std::string> internal_only_headers;  // lower-case
  bool most_specific_header_mutations_wins = false;
  bool ignore_port_in_host_matching = false;
  std::optional<bool> validate_clusters;
  PerFilterConfigs per_filter;
  bool operator==(const RouteTableSpec&) const = default;
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

struct FilterChainSpec {
  std::string name;
  FilterChainMatchSpec match;
  HcmSpec hcm;
  std::optional<DownstreamTlsSpec> tls;
  uint64_t handshake_timeout_ms = 15'000;  // transport_socket_connect_timeout; ours: Envoy has none by default; 0: none
  bool operator==(const FilterChainSpec&) const = default;
};

struct ListenerSpec {
  std::string name;
  std::vector<AddressSpec> addresses;  // >= 1
  std::vector<FilterChainSpec> filter_chains;
  std::optional<FilterChainSpec> default_filter_chain;
  uint32_t per_connection_buffer_limit_bytes = 1024 * 1024;
  uint32_t tcp_backlog_size = 0;  // 0: the system's maximum
  bool api_listener = false;      // never bound; kept for gRPC clients (control plane only)
  bool operator==(const ListenerSpec&) const = default;
};

// ---- clusters and endpoints ----

struct EndpointSpec {
  AddressSpec address;
  std::string hostname;
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
  enum class Discovery : uint8_t { kStatic, kStrictDns, kEds, kAggregate };
  enum class Lb : uint8_t { kRoundRobin, kLeastRequest, kRandom };
  std::string name;
  std::string alt_stat_name;
  Discovery discovery = Discovery::kStatic;
  std::string eds_service_name;  // empty: the cluster's name
  ConfigSourceSpec eds_source;
  EndpointsSpec endpoints;           // kStatic, kStrictDns (names to resolve)
  std::vector<std::string> members;  // kAggregate: clusters, the preferred ones first; at least one, none twice
  Lb lb = Lb::kRoundRobin;
  uint32_t least_request_choice_count = 2;
  uint64_t connect_timeout_ms = 5'000;
  uint32_t per_connection_buffer_limit_bytes = 1024 * 1024;
  // Circuit breakers, default priority.
  uint32_t max_connections = 1024, max_pending_requests = 1024, max_requests = 1024, max_retries = 3;
  uint64_t idle_timeout_ms = 3'600'000;  // of an upstream connection; 0: none
  uint64_t max_connection_duration_ms = 0;
  uint32_t max_requests_per_connection = 0;  // 0: unlimited
  uint32_t max_response_headers_count = 100;
  enum class Codec : uint8_t { kHttp1, kHttp2, kAsDownstream, kByAlpn } codec = Codec::kHttp1;  // kByAlpn needs tls
  Http2Spec http2{.max_concurrent_streams = 1024};
  std::optional<UpstreamTlsSpec> tls;
  uint64_t dns_refresh_rate_ms = 5'000;
  bool respect_dns_ttl = false;
  enum class DnsFamily : uint8_t { kAuto, kV4Only, kV6Only, kV4Preferred, kAll } dns_family = DnsFamily::kAuto;
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
  std::optional<ConfigSourceSpec> lds, cds;
  std::optional<ConfigSourceSpec> ads;                // kGrpc
  std::map<std::string, ChannelTlsSpec> channel_tls;  // of clusters that are ways to a control plane only
  std::optional<AddressSpec> admin;
  std::vector<AccessLogSpec> admin_access_logs;
};

// A resource as it came: what discovery names it by.
enum class ResourceType : uint8_t { kListener, kRouteTable, kCluster, kEndpoints };
inline constexpr size_t kResourceTypeCount = 4;
std::string_view type_url(ResourceType type);  // "type.googleapis.com/envoy.config.listener.v3.Listener", ...
std::optional<ResourceType> find_resource_type(std::string_view type_url);

using Spec = std::variant<ListenerSpec, RouteTableSpec, ClusterSpec, EndpointsSpec>;  // in the order of ResourceType
std::string_view resource_name(const Spec& spec);

}  // namespace outrigger::config
