// Route, VirtualHost, WeightedEntry: what a request matched, compiled. Every view and pointer in them lies in the
// RouteTable that made them and lives as long as it (a stream pins its snapshot, which holds the table).
//
// Thread rule: immutable; any worker.
// Use:  if (const ForwardAction* f = route.forward()) pick(route.cluster_name(), f->timeout_ms);
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "config/regex.h"
#include "config/route_view.h"
#include "config/spec.h"
#include "outrigger/header_map.h"
#include "route/filter_configs.h"
#include "route/header_mutation.h"

namespace outrigger::route {

class PathIndex;
class RouteExplainer;
class RouteTable;
class TableBuilder;
class VirtualHost;

// A cluster's name with its hash, for NameMap::find(text, hash): no hashing per request.
struct ClusterName {
  std::string_view text;
  uint64_t hash = 0;  // content_hash(text)
  bool empty() const { return text.empty(); }
  bool operator==(const ClusterName&) const = default;
  bool operator<(const ClusterName& other) const { return hash != other.hash ? hash < other.hash : text < other.text; }
};

struct RegexRewrite {
  const config::Regex* regex = nullptr;
  std::string_view substitution;  // RE2 rewrite syntax
};

// One entry of a route's weighted_clusters.
struct WeightedEntry {
  ClusterName cluster;              // or, if empty:
  std::string_view cluster_header;  // lower-case name of the header that names the cluster
  uint32_t weight = 0;
  const HeaderMutations* request_mutations = nullptr;  // nullptr: none
  const HeaderMutations* response_mutations = nullptr;
  const config::MetadataMatch* metadata_match = nullptr;  // merged over its route's; nullptr: none
  const FilterConfigs* filters = nullptr;                 // with the levels below it; nullptr: its route's
};

// One entry of a route's request_mirror_policies.
struct Mirror {
  ClusterName cluster;              // or, if empty:
  std::string_view cluster_header;  // lower-case name of the header that names the cluster
  config::FractionSpec fraction;
  bool append_shadow = true;  // "-shadow" goes behind the host

  // Whether a request with this random value is mirrored.
  bool chosen(uint64_t random) const { return random % fraction.denominator < fraction.numerator; }
  // Empty: the header is absent.
  ClusterName cluster_of(const HeaderMap& request) const;
};

// One entry of a route's upgrade_configs.
struct Upgrade {
  std::string_view type;  // lower-case
  bool enabled = true;
  bool terminate = false;                                                       // of CONNECT, as UpgradeSpec's
  config::ProxyHeaderVersion proxy_header = config::ProxyHeaderVersion::kNone;  // likewise
};

// Where to and how. The cluster is not in it but in the Route, so that routes which differ in nothing else share one.
struct ForwardAction {
  std::string_view cluster_header;  // lower-case; this, weighted or the route's cluster is there
  std::span<const WeightedEntry> weighted;
  uint64_t total_weight = 0;
  std::string_view prefix_rewrite;  // empty: none
  const RegexRewrite* regex_rewrite = nullptr;
  std::string_view host_rewrite_literal;
  std::string_view host_rewrite_header;  // lower-case
  uint64_t timeout_ms = 0;               // 0: none
  std::optional<uint64_t> idle_timeout_ms;
  // As ForwardSpec's.
  std::optional<uint64_t> max_stream_duration_ms, grpc_timeout_header_max_ms, max_grpc_timeout_ms;
  uint64_t grpc_timeout_header_offset_ms = 0, grpc_timeout_offset_ms = 0;
  const config::RetryPolicySpec* retry = nullptr;  // nullptr: none
  std::span<const Mirror> mirrors;
  std::span<const Upgrade> upgrades;
  const config::MetadataMatch* metadata_match = nullptr;  // nullptr: none
  uint16_t cluster_not_found_status = 503;
  bool auto_host_rewrite = false;
  bool append_x_forwarded_host = false;
};

struct RedirectAction {
  std::string_view scheme;  // empty: the request's
  std::string_view host;    // empty: the request's
  std::string_view path;    // empty: the request's, perhaps rewritten
  std::string_view prefix_rewrite;
  const RegexRewrite* regex_rewrite = nullptr;
  uint16_t port = 0;  // 0: none given
  uint16_t status = 301;
  bool strip_query = false;
};

struct DirectResponseAction {
  uint16_t status = 200;
  std::string_view body;
};

class Route : public config::RouteView {
 public:
  enum class Kind : uint8_t { kForward, kRedirect, kDirectResponse };

  Kind kind() const { return kind_; }
  // The action; nullptr if the route is of another kind.
  const ForwardAction* forward() const { return kind_ == Kind::kForward ? action_.forward : nullptr; }
  const RedirectAction* redirect() const { return kind_ == Kind::kRedirect ? action_.redirect : nullptr; }
  const DirectResponseAction* direct_response() const {
    return kind_ == Kind::kDirectResponse ? action_.direct : nullptr;
  }

  // Of a forwarding route; empty: weighted, or named by a header.
  ClusterName cluster_name() const { return {cluster, cluster_hash_}; }
  const VirtualHost& virtual_host() const { return *virtual_host_; }
  uint32_t index() const { return index_; }  // its place in the virtual host's list
  const FilterConfigs& filters() const { return *filters_; }

  // The path pattern, for rewrites and explanations.
  config::PathMatchSpec::Kind path_kind() const { return path_kind_; }
  std::string_view path_pattern() const { return path_pattern_; }
  bool case_sensitive() const { return case_sensitive_; }
  // Whether a matching path is all that the route asks for.
  bool unconditional() const { return conditions_ == nullptr; }

  // The built-in redirect to https of a virtual host with require_tls; as in Envoy, no header mutations apply to it.
  bool tls_redirect() const { return tls_redirect_; }

  // This level's own mutations; nullptr: none. Match::mutate_request applies all levels.
  const HeaderMutations* request_mutations() const { return request_mutations_; }
  const HeaderMutations* response_mutations() const { return response_mutations_; }
  const Metadata* metadata() const { return metadata_; }  // nullptr: none

 private:
  friend class PathIndex;
  friend class RouteExplainer;
  friend class TableBuilder;
  friend class VirtualHost;

  struct Conditions {
    std::span<const config::HeaderMatcher> headers;
    std::span<const config::QueryMatcher> query_parameters;
    std::optional<config::FractionSpec> fraction;
    bool grpc = false;
    bool hold(const HeaderMap& request, std::string_view path_with_query, uint64_t random) const;
  };
  union Action {
    const ForwardAction* forward = nullptr;
    const RedirectAction* redirect;
    const DirectResponseAction* direct;
  };

  const VirtualHost* virtual_host_ = nullptr;
  const Conditions* conditions_ = nullptr;
  const FilterConfigs* filters_ = nullptr;
  const HeaderMutations* request_mutations_ = nullptr;
  const HeaderMutations* response_mutations_ = nullptr;
  const Metadata* metadata_ = nullptr;
  Action action_;
  std::string_view path_pattern_;
  uint64_t cluster_hash_ = 0;
  uint32_t index_ = 0;
  Kind kind_ = Kind::kForward;
  config::PathMatchSpec::Kind path_kind_ = config::PathMatchSpec::Kind::kPrefix;
  bool case_sensitive_ = true;
  bool tls_redirect_ = false;
};

class VirtualHost : public config::VirtualHostView {
 public:
  ~VirtualHost();
  VirtualHost(VirtualHost&&) noexcept;

  const RouteTable& table() const { return *table_; }
  std::span<const Route> routes() const { return routes_; }
  config::VirtualHostSpec::Tls require_tls() const { return require_tls_; }
  const FilterConfigs& filters() const { return *filters_; }
  const HeaderMutations* request_mutations() const { return request_mutations_; }
  const HeaderMutations* response_mutations() const { return response_mutations_; }
  const Metadata* metadata() const { return metadata_.get(); }  // nullptr: none

 private:
  friend class RouteTable;
  friend class TableBuilder;
  VirtualHost();
  // Of a request without a path.
  uint32_t find_connect(const HeaderMap& request, uint64_t random) const;

  const RouteTable* table_ = nullptr;
  std::span<Route> routes_;
  std::unique_ptr<PathIndex> index_;    // nullptr: no route, or the catch-all only
  std::span<const uint32_t> connects_;  // routes for CONNECT, which has no path; in order
  bool catch_all_ = false;              // the first route takes every path that starts with '/'
  const Route* tls_redirect_ = nullptr;
  const FilterConfigs* filters_ = nullptr;
  const HeaderMutations* request_mutations_ = nullptr;
  const HeaderMutations* response_mutations_ = nullptr;
  ByValue<Metadata> metadata_;
  config::VirtualHostSpec::Tls require_tls_ = config::VirtualHostSpec::Tls::kNone;
};

}  // namespace outrigger::route
