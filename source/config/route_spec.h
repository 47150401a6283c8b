// The specs of route tables, and of what other specs have in common with them (matchers, header additions, rate limit
// actions). See spec.h for what a spec is.
//
// Thread rule: values of the builder thread; shared read-only once inside a published part.
// Use:  #include "config/spec.h"
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/by_value.h"
#include "config/extension.h"
#include "config/metadata_spec.h"

namespace outrigger::config {

struct KeptRoutes;
struct RouteKeys;

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
  enum class Kind : uint8_t { kPrefix, kExact, kSeparatedPrefix, kRegex, kConnect };  // kConnect: CONNECT requests
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
  bool grpc = false;  // gRPC requests only
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
  ByValue<MetadataMatch> metadata_match;  // merged over the route's
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

// Of the PROXY protocol.
enum class ProxyHeaderVersion : uint8_t { kNone, kV1, kV2 };

struct UpgradeSpec {  // upgrade_configs
  std::string type;   // lower-case: "websocket", "connect"
  bool enabled = true;
  bool terminate = false;  // CONNECT ends here: the payload goes to the cluster as TCP
  ProxyHeaderVersion proxy_header = ProxyHeaderVersion::kNone;  // before that payload
  bool operator==(const UpgradeSpec&) const = default;
};

struct ForwardSpec {                        // RouteAction
  std::string cluster;                      // exactly one of these three is set
  std::string cluster_header;               // lower-case
  std::vector<ClusterWeightSpec> weighted;  // total weight >= 1
  ByValue<MetadataMatch> metadata_match;
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
  // Of gRPC requests, max_stream_duration.grpc_timeout_*: the client's grpc-timeout is the duration, at most this much
  // (0: however long), less the offset.
  std::optional<uint64_t> grpc_timeout_header_max_ms;
  uint64_t grpc_timeout_header_offset_ms = 0;
  // Deprecated: the same, instead of timeout_ms.
  std::optional<uint64_t> max_grpc_timeout_ms;
  uint64_t grpc_timeout_offset_ms = 0;
  std::vector<UpgradeSpec> upgrades;     // before HcmSpec's
  std::optional<RetryPolicySpec> retry;  // the virtual host's if the route has none
  std::vector<MirrorSpec> mirrors;       // the virtual host's or the table's if the route has none
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
  ByValue<Metadata> metadata;
  bool of_bytes_alone = true;  // false: made of more than its message, a file or a filter's config (route_pieces.h)
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
  ByValue<Metadata> metadata;
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
  std::shared_ptr<const RouteKeys> keys;   // for the next version; nullptr: it will keep nothing
  std::shared_ptr<const KeptRoutes> kept;  // nullptr: all routes are here; else the hosts have the new ones only
  bool operator==(const RouteTableSpec&) const = default;
};

}  // namespace outrigger::config
