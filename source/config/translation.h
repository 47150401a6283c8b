// Translation: what one resource's translation carries along, and the small translators that all resources share.
// Private to source/config. Every function adds a fault for each thing that is wrong and returns the best value it can;
// whether the resource is usable is asked once, at the end (Faults::ok).
//
// Thread rule: the Translator's thread.
// Use:  spec.connect_timeout_ms = duration_ms(cluster.connect_timeout(), path.field("connect_timeout"), t);
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "config/ignored_fields.h"
#include "config/spec.h"
#include "config/tls_material.h"
#include "config/translate.h"

namespace google::protobuf {
class Any;
class Duration;
template <class Element>
class RepeatedPtrField;
}  // namespace google::protobuf

namespace envoy::config::core::v3 {
class Address;
class ApiConfigSource;
class BindConfig;
class CidrRange;
class ConfigSource;
class Http2ProtocolOptions;
class DataSource;
class GrpcService;
class HeaderValueOption;
class HealthCheck;
class Metadata;
class ProxyProtocolConfig;
class RuntimeFractionalPercent;
class TcpKeepalive;
class TransportSocket;
}  // namespace envoy::config::core::v3
namespace envoy::config::accesslog::v3 {
class AccessLog;
}
namespace envoy::config::cluster::v3 {
class Cluster;
class Cluster_LbSubsetConfig;
}  // namespace envoy::config::cluster::v3
namespace envoy::config::endpoint::v3 {
class ClusterLoadAssignment;
class Endpoint_HealthCheckConfig;
}  // namespace envoy::config::endpoint::v3
namespace envoy::config::listener::v3 {
class Listener;
}
namespace envoy::config::route::v3 {
class HeaderMatcher;
class QueryParameterMatcher;
class RateLimit;
class RetryPolicy;
class RouteAction;
class RouteAction_RequestMirrorPolicy;
class RouteConfiguration;
}  // namespace envoy::config::route::v3
namespace envoy::config::bootstrap::v3 {
class Bootstrap;
}
namespace envoy::extensions::filters::network::connection_limit::v3 {
class ConnectionLimit;
}
namespace envoy::extensions::filters::network::http_connection_manager::v3 {
class HttpConnectionManager;
}
namespace envoy::extensions::filters::network::tcp_proxy::v3 {
class TcpProxy;
}
namespace envoy::extensions::transport_sockets::tls::v3 {
class Secret;
}
namespace envoy::type::matcher::v3 {
class RegexMatchAndSubstitute;
class RegexMatcher;
class StringMatcher;
}  // namespace envoy::type::matcher::v3
namespace envoy::type::v3 {
class FractionalPercent;
}

namespace outrigger::config {

// Bounds that are ours.
inline constexpr int kMaxRegexProgramSize = 4096;              // RE2 instructions; source/config/README.md
inline constexpr uint64_t kMaxDurationMs = 3'155'760'000'000;  // 100 years
inline constexpr size_t kMaxFormatFileBytes = 64 * 1024;
inline constexpr uint32_t kDefaultDirectResponseBytes = 4096;

// Equal filter configs of one scope share one compiled part while anybody holds it.
class FilterInterner {
 public:
  std::shared_ptr<const FilterPart> find(const std::string& key);
  void keep(const std::string& key, const std::shared_ptr<const FilterPart>& part);

 private:
  std::unordered_map<std::string, std::weak_ptr<const FilterPart>> parts_;
  size_t sweep_at_ = 64;
};

// Equal values share one while anybody holds it.
template <class T>
class ValueInterner {
 public:
  ByValue<T> shared(uint64_t hash, T value) {
    const auto [from, to] = known_.equal_range(hash);
    for (auto at = from; at != to; ++at)
      if (*at->second == value) return at->second;
    if (known_.size() >= sweep_at_) {
      std::erase_if(known_, [](const auto& entry) { return entry.second.holds() == 1; });
      sweep_at_ = std::max<size_t>(64, 2 * known_.size());
    }
    return known_.emplace(hash, std::move(value))->second;
  }

 private:
  std::unordered_multimap<uint64_t, ByValue<T>> known_;
  size_t sweep_at_ = 64;
};

// What sources and references may name: ADS, the static clusters and the static secrets of the bootstrap.
struct SourceTargets {
  bool ads = false;
  bool node_id = false;
  std::unordered_set<std::string> secrets;
  std::unordered_map<std::string, std::string> clusters;  // why it cannot be the way to a control plane; empty: it can
};

// What outlives one resource.
struct TranslatorState {
  std::span<const FilterType> filters;
  StateRegistry& states;
  stats::Registry& stats;
  TranslateOptions options;
  FilterInterner interner;
  std::string node_cluster = {};                 // the bootstrap's node.cluster
  std::optional<SourceTargets> targets = {};     // the bootstrap's; none was read (control plane): nothing is checked
  std::unordered_set<std::string> good_regexes;  // already compiled once; bounded
  TlsMaterials tls_materials = {};
  ValueInterner<Metadata> metadata = {};
  ValueInterner<MetadataMatch> metadata_matches = {};
};

struct Translation {
  TranslatorState& state;
  Faults& faults;
  BootstrapSpec* bootstrap = nullptr;  // that the resource is part of

  void fault(const FieldPath& path, std::string message) { faults.add(path, std::move(message)); }
};

// ---- values ----

uint64_t duration_ms(const google::protobuf::Duration& duration, const FieldPath& path, Translation& t);
FractionSpec fraction_spec(const envoy::type::v3::FractionalPercent& percent);
// Its default_value, which must be there: there is no runtime layer.
FractionSpec runtime_fraction_spec(const envoy::config::core::v3::RuntimeFractionalPercent& fraction,
                                   const FieldPath& path, Translation& t);
bool check_regex(const std::string& regex, const FieldPath& path, Translation& t);
std::string regex_spec(const envoy::type::matcher::v3::RegexMatcher& matcher, const FieldPath& path, Translation& t);
RegexRewriteSpec regex_rewrite_spec(const envoy::type::matcher::v3::RegexMatchAndSubstitute& rewrite,
                                    const FieldPath& path, Translation& t);
StringMatchSpec string_match_spec(const envoy::type::matcher::v3::StringMatcher& matcher, const FieldPath& path,
                                  Translation& t);
// Lower-case name; a fault if it is no header name.
std::string header_name_of(const std::string& name, bool pseudo, const FieldPath& path, Translation& t);
void check_header_value(const std::string& value, const FieldPath& path, Translation& t);
void check_format(const std::string& format, const FieldPath& path, Translation& t);
HeaderAddSpec header_add_spec(const envoy::config::core::v3::HeaderValueOption& option, const FieldPath& path,
                              Translation& t);
void add_upgrade(const std::string& type, bool enabled, std::vector<UpgradeSpec>& specs, const FieldPath& path,
                 Translation& t);
std::string header_remove_name(const std::string& name, const FieldPath& path, Translation& t);

enum class AddressUse : uint8_t { kListen, kStaticHost, kDnsHost };
AddressSpec address_spec(const envoy::config::core::v3::Address& address, AddressUse use, const FieldPath& path,
                         Translation& t);
CidrSpec cidr_spec(const envoy::config::core::v3::CidrRange& range, const FieldPath& path, Translation& t);
// The bytes, at most `max_bytes`; "" after a fault.
std::string data_source(const envoy::config::core::v3::DataSource& source, size_t max_bytes, const FieldPath& path,
                        Translation& t);
// nullopt: plain (or wrong).
std::optional<DownstreamTlsSpec> downstream_tls_spec(const envoy::config::core::v3::TransportSocket& socket,
                                                     const FieldPath& path, Translation& t);
// Sets spec.tls and spec.proxy_header.
void upstream_transport(const envoy::config::core::v3::TransportSocket& socket, ClusterSpec& spec,
                        const FieldPath& path, Translation& t);
ProxyHeaderVersion proxy_header_version(const envoy::config::core::v3::ProxyProtocolConfig& config);
// Of a cluster that is a way to a control plane: what gRPC can do. `path` is that of its UpstreamTlsContext.
ChannelTlsSpec channel_tls_spec(const UpstreamTlsSpec& from, const FieldPath& path, Translation& t);
// Of a service with google_grpc; `path` is that of its ssl_credentials.
ChannelTlsSpec ssl_credentials_spec(const envoy::config::core::v3::GrpcService& service, const FieldPath& path,
                                    Translation& t);

// ---- metadata ----

// Its filter_metadata; empty if there is none.
ByValue<Metadata> metadata(const envoy::config::core::v3::Metadata& from, const FieldPath& path, Translation& t);
// What it says of "envoy.lb" over what `under` does.
ByValue<MetadataMatch> metadata_match(const envoy::config::core::v3::Metadata& from,
                                      const ByValue<MetadataMatch>& under, const FieldPath& path, Translation& t);
ByValue<SubsetSpec> subset_spec(const envoy::config::cluster::v3::Cluster_LbSubsetConfig& from, const FieldPath& path,
                                Translation& t);

// ---- sources ----

// `self`: something delivered the resource, which the source may name.
ConfigSourceSpec config_source_spec(const envoy::config::core::v3::ConfigSource& source, bool self,
                                    const FieldPath& path, Translation& t);
// `ads`: it is the bootstrap's ads_config.
ConfigSourceSpec grpc_source_spec(const envoy::config::core::v3::ApiConfigSource& source, bool ads,
                                  const FieldPath& path, Translation& t);
SourceTargets source_targets(const envoy::config::bootstrap::v3::Bootstrap& bootstrap);

// ---- larger pieces ----

HeaderMatchSpec header_match_spec(const envoy::config::route::v3::HeaderMatcher& matcher, const FieldPath& path,
                                  Translation& t);
QueryMatchSpec query_match_spec(const envoy::config::route::v3::QueryParameterMatcher& matcher, const FieldPath& path,
                                Translation& t);
RateLimitSpec rate_limit_spec(const envoy::config::route::v3::RateLimit& limit, const FieldPath& path, Translation& t);
RetryPolicySpec retry_policy_spec(const envoy::config::route::v3::RetryPolicy& policy, const FieldPath& path,
                                  Translation& t);
using MirrorPolicies = google::protobuf::RepeatedPtrField<envoy::config::route::v3::RouteAction_RequestMirrorPolicy>;
// The field request_mirror_policies of the message at `path`.
std::vector<MirrorSpec> mirror_specs(const MirrorPolicies& policies, const FieldPath& path, Translation& t);
ForwardSpec forward_spec(const envoy::config::route::v3::RouteAction& action, const std::string& scope,
                         const FieldPath& path, Translation& t);
// One typed_per_filter_config entry; `scope` is where it stands. Empty: wrong, or optional and unknown.
std::optional<PerFilterConfig> per_filter_config(const std::string& name, const google::protobuf::Any& any,
                                                 const std::string& scope, const FieldPath& path, Translation& t);
// Empty: wrong, or of an unknown type that may be skipped.
std::optional<AccessLogSpec> access_log_spec(const envoy::config::accesslog::v3::AccessLog& log, const FieldPath& path,
                                             Translation& t);
// The filter chain of a connection manager without its router, which goes into `spec`'s own fields.
void http_filters(const envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager& hcm,
                  const std::string& scope, HcmSpec& spec, const FieldPath& path, Translation& t);
Http2Spec http2_spec(const envoy::config::core::v3::Http2ProtocolOptions& from, const FieldPath& path, Translation& t);
HcmSpec hcm_spec(const envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager& hcm,
                 const std::string& scope, const FieldPath& path, Translation& t);

// ---- sockets

// tcp_fast_open_queue_length, tcp_keepalive and socket_options of a listener; `path` is the listener's.
std::vector<SocketOption> listener_socket_options(const envoy::config::listener::v3::Listener& listener,
                                                  const FieldPath& path, Translation& t);
// upstream_connection_options and upstream_bind_config of a cluster; `path` is the cluster's.
std::vector<SocketOption> upstream_socket_options(const envoy::config::cluster::v3::Cluster& cluster,
                                                  const FieldPath& path, Translation& t);
ConnectionLimitSpec connection_limit_spec(
    const envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit& from, const FieldPath& path,
    Translation& t);

TcpProxySpec tcp_proxy_spec(const envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy& from,
                            const FieldPath& path, Translation& t);

// `cluster`: whose it is, its protocol known already.
HealthCheckSpec health_check_spec(const envoy::config::core::v3::HealthCheck& from, const ClusterSpec& cluster,
                                  const FieldPath& path, Translation& t);
EndpointCheckSpec endpoint_check_spec(const envoy::config::endpoint::v3::Endpoint_HealthCheckConfig& from,
                                      const FieldPath& path, Translation& t);

// ---- resources ----

ListenerSpec listener_spec(const envoy::config::listener::v3::Listener& listener, bool named, const FieldPath& path,
                           Translation& t);
// `named`: it must have a name. `scope`: where its filters' state is kept.
RouteTableSpec route_table_spec(const envoy::config::route::v3::RouteConfiguration& table, bool named,
                                const std::string& scope, const FieldPath& path, Translation& t);
ClusterSpec cluster_spec(const envoy::config::cluster::v3::Cluster& cluster, const FieldPath& path, Translation& t);
EndpointsSpec endpoints_spec(const envoy::config::endpoint::v3::ClusterLoadAssignment& assignment, AddressUse use,
                             const FieldPath& path, Translation& t);
SecretSpec secret_spec(const envoy::extensions::transport_sockets::tls::v3::Secret& secret, const FieldPath& path,
                       Translation& t);
BootstrapSpec bootstrap_spec(const envoy::config::bootstrap::v3::Bootstrap& bootstrap, const FieldPath& path,
                             Translation& t);

// ---- templates ----

template <class Added, class Removed>
HeaderMutationSpec header_mutation_spec(const Added& added, const Removed& removed, std::string_view kind,
                                        const FieldPath& path, Translation& t) {
  HeaderMutationSpec spec;
  const std::string add_field = std::string(kind) + "_headers_to_add";
  const std::string remove_field = std::string(kind) + "_headers_to_remove";
  for (int i = 0; i < added.size(); ++i)
    spec.add.push_back(header_add_spec(added[i], path.field(add_field).index(static_cast<size_t>(i)), t));
  for (int i = 0; i < removed.size(); ++i)
    spec.remove.push_back(header_remove_name(removed[i], path.field(remove_field).index(static_cast<size_t>(i)), t));
  return spec;
}

// A typed_per_filter_config map, sorted by filter id.
template <class Map>
PerFilterConfigs per_filter_configs(const Map& map, const std::string& scope, const FieldPath& path, Translation& t) {
  std::vector<std::string> names;
  for (const auto& entry : map) names.push_back(entry.first);
  std::sort(names.begin(), names.end());
  PerFilterConfigs configs;
  for (const std::string& name : names) {
    if (auto config = per_filter_config(name, map.at(name), scope, path.field("typed_per_filter_config").key(name), t))
      configs.push_back(std::move(*config));
  }
  std::sort(configs.begin(), configs.end(),
            [](const PerFilterConfig& a, const PerFilterConfig& b) { return a.filter_id < b.filter_id; });
  return configs;
}

// Calls f(element, path of the element) for each element of a repeated field.
template <class Repeated, class F>
void each(const Repeated& repeated, const FieldPath& path, F&& f) {
  for (int i = 0; i < repeated.size(); ++i) f(repeated[i], path.index(static_cast<size_t>(i)));
}

// upgrade_configs, of routes and of connection managers.
template <class Configs>
std::vector<UpgradeSpec> upgrade_specs(const Configs& configs, const FieldPath& path, Translation& t) {
  std::vector<UpgradeSpec> specs;
  each(configs, path, [&](const auto& config, const FieldPath& at) {
    add_upgrade(config.upgrade_type(), !config.has_enabled() || config.enabled().value(), specs, at, t);
  });
  return specs;
}

}  // namespace outrigger::config
