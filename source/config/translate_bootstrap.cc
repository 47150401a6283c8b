// The bootstrap: static resources, where the dynamic ones come from, the node, the admin port.
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <unordered_map>
#include <unordered_set>

#include "config/proto_dump.h"
#include "config/translation.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"

namespace outrigger::config {
namespace pb = envoy::config::bootstrap::v3;

namespace {

constexpr std::string_view kUserAgent = "outrigger";

NodeSpec node_spec(const envoy::config::core::v3::Node& from) {
  NodeSpec spec;
  spec.id = from.id();
  spec.cluster = from.cluster();
  spec.region = from.locality().region();
  spec.zone = from.locality().zone();
  spec.sub_zone = from.locality().sub_zone();
  if (from.has_metadata()) {
    std::string json;
    if (google::protobuf::util::MessageToJsonString(from.metadata(), &json).ok()) spec.metadata_json = std::move(json);
  }
  envoy::config::core::v3::Node node = from;
  node.set_user_agent_name(std::string(kUserAgent));
  node.clear_user_agent_version_type();
  spec.serialized = deterministic_bytes(node);
  return spec;
}

// Names and bound addresses are there once.
void check_unique(const BootstrapSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath listeners = path.field("listeners");
  std::unordered_map<std::string_view, size_t> names;
  for (size_t i = 0; i < spec.listeners.size(); ++i) {
    const FieldPath at = listeners.index(i);
    const auto [it, added] = names.emplace(spec.listeners[i].name, i);
    if (!added && !spec.listeners[i].name.empty())
      t.fault(at.field("name"), fmt::format("\"{}\" is also the name of listeners[{}]", it->first, it->second));
    for (size_t j = 0; j < i; ++j) {
      for (const AddressSpec& mine : spec.listeners[i].addresses) {
        const auto& others = spec.listeners[j].addresses;
        const bool bound = mine.port != 0 || (mine.kind == AddressSpec::Kind::kPipe && !mine.host.empty());
        if (bound && std::find(others.begin(), others.end(), mine) != others.end())
          t.fault(at.field("address"), fmt::format("{}{} is also an address of listeners[{}]", mine.host,
                                                   mine.port == 0 ? "" : fmt::format(":{}", mine.port), j));
      }
    }
  }
  const FieldPath clusters = path.field("clusters");
  names.clear();
  for (size_t i = 0; i < spec.clusters.size(); ++i) {
    const auto [it, added] = names.emplace(spec.clusters[i].name, i);
    if (!added && !spec.clusters[i].name.empty())
      t.fault(clusters.index(i).field("name"),
              fmt::format("\"{}\" is also the name of clusters[{}]", it->first, it->second));
  }
}

// A source that static resources or the dynamic ones name must exist.
void check_source(const ConfigSourceSpec& source, bool has_ads, const FieldPath& path, Translation& t) {
  if (source.kind == ConfigSourceSpec::Kind::kAds && !has_ads)
    t.fault(path.field("ads"), "needs dynamic_resources.ads_config");
  if (source.kind == ConfigSourceSpec::Kind::kSelf)
    t.fault(path.field("self"), "has no meaning in a bootstrap; use ads, or path_config_source");
}

void check_static_sources(const BootstrapSpec& spec, const FieldPath& path, Translation& t) {
  const bool has_ads = spec.ads.has_value();
  const auto chain = [&](const FilterChainSpec& c, const FieldPath& at) {
    if (c.hcm.rds_name.empty()) return;
    check_source(c.hcm.rds_source, has_ads,
                 at.field("filters").index(0).field("typed_config").field("rds").field("config_source"), t);
  };
  const FieldPath listeners = path.field("listeners");
  for (size_t i = 0; i < spec.listeners.size(); ++i) {
    const FieldPath at = listeners.index(i);
    const ListenerSpec& listener = spec.listeners[i];
    for (size_t j = 0; j < listener.filter_chains.size(); ++j)
      chain(listener.filter_chains[j], at.field("filter_chains").index(j));
    if (listener.default_filter_chain) chain(*listener.default_filter_chain, at.field("default_filter_chain"));
  }
  const FieldPath clusters = path.field("clusters");
  for (size_t i = 0; i < spec.clusters.size(); ++i) {
    if (spec.clusters[i].discovery == ClusterSpec::Discovery::kEds)
      check_source(spec.clusters[i].eds_source, has_ads,
                   clusters.index(i).field("eds_cluster_config").field("eds_config"), t);
  }
}

// Without CDS, all clusters that there will ever be are in the file.
class ClusterNames {
 public:
  ClusterNames(const BootstrapSpec& spec, Translation& t) : t_(t) {
    for (const ClusterSpec& cluster : spec.clusters) names_.insert(cluster.name);
  }

  void check(const ClusterSpec& cluster, const FieldPath& path) const {
    const FieldPath type = path.field("cluster_type");
    const FieldPath config = type.field("typed_config");
    for (size_t i = 0; i < cluster.members.size(); ++i) check(cluster.members[i], config.field("clusters").index(i));
  }

  void check(const FilterChainSpec& chain, const FieldPath& path) const {
    if (chain.hcm.route_table == nullptr || chain.hcm.route_table->validate_clusters == false) return;
    const FieldPath filters = path.field("filters");
    const FieldPath filter = filters.index(0);
    const FieldPath config = filter.field("typed_config");
    const FieldPath table = config.field("route_config");
    const FieldPath hosts = table.field("virtual_hosts");
    for (size_t i = 0; i < chain.hcm.route_table->virtual_hosts.size(); ++i) {
      const FieldPath host = hosts.index(i);
      const auto& routes = chain.hcm.route_table->virtual_hosts[i].routes;
      for (size_t j = 0; j < routes.size(); ++j) {
        if (const auto* forward = std::get_if<ForwardSpec>(&routes[j].action))
          check(*forward, host.field("routes").index(j).field("route"));
      }
    }
  }

 private:
  void check(const ForwardSpec& forward, const FieldPath& path) const {
    check(forward.cluster, path.field("cluster"));
    for (size_t i = 0; i < forward.weighted.size(); ++i)
      check(forward.weighted[i].name, path.field("weighted_clusters").field("clusters").index(i).field("name"));
    for (size_t i = 0; i < forward.mirrors.size(); ++i)
      check(forward.mirrors[i].cluster, path.field("request_mirror_policies").index(i).field("cluster"));
  }
  void check(const std::string& name, const FieldPath& path) const {
    if (!name.empty() && !names_.contains(name))
      t_.fault(path, fmt::format("\"{}\" is not among static_resources.clusters, and there is no cds_config", name));
  }

  Translation& t_;
  std::unordered_set<std::string_view> names_;
};

void check_cluster_names(const BootstrapSpec& spec, const FieldPath& path, Translation& t) {
  const ClusterNames names(spec, t);
  const FieldPath listeners = path.field("listeners");
  for (size_t i = 0; i < spec.listeners.size(); ++i) {
    const FieldPath at = listeners.index(i);
    const ListenerSpec& listener = spec.listeners[i];
    for (size_t j = 0; j < listener.filter_chains.size(); ++j)
      names.check(listener.filter_chains[j], at.field("filter_chains").index(j));
    if (listener.default_filter_chain) names.check(*listener.default_filter_chain, at.field("default_filter_chain"));
  }
  const FieldPath clusters = path.field("clusters");
  for (size_t i = 0; i < spec.clusters.size(); ++i) names.check(spec.clusters[i], clusters.index(i));
}

// The cluster of a gRPC source becomes a channel, so its hosts must be in the bootstrap.
void check_grpc_cluster(const ConfigSourceSpec& source, const BootstrapSpec& spec, const FieldPath& api,
                        Translation& t) {
  if (source.kind != ConfigSourceSpec::Kind::kGrpc || source.grpc_cluster.empty()) return;
  const FieldPath services = api.field("grpc_services");
  const FieldPath service = services.index(0);
  const FieldPath grpc = service.field("envoy_grpc");
  const FieldPath at = grpc.field("cluster_name");
  for (const ClusterSpec& cluster : spec.clusters) {
    if (cluster.name != source.grpc_cluster) continue;
    if (cluster.discovery == ClusterSpec::Discovery::kEds)
      t.fault(at, fmt::format("cluster \"{}\" is of type EDS; the way to a control plane needs STATIC or STRICT_DNS",
                              cluster.name));
    else if (cluster.endpoints.endpoints.empty())
      t.fault(at, fmt::format("cluster \"{}\" has no endpoints", cluster.name));
    return;
  }
  t.fault(at, fmt::format("\"{}\" is not among static_resources.clusters", source.grpc_cluster));
}

void dynamic_resources(const pb::Bootstrap::DynamicResources& from, BootstrapSpec& spec, const FieldPath& path,
                       Translation& t) {
  const auto source = [&](const envoy::config::core::v3::ConfigSource& config, const FieldPath& at) {
    ConfigSourceSpec out = config_source_spec(config, {.grpc = true}, at, t);
    if (out.kind == ConfigSourceSpec::Kind::kGrpc) check_grpc_cluster(out, spec, at.field("api_config_source"), t);
    if (config.has_ads() && !from.has_ads_config()) t.fault(at.field("ads"), "needs dynamic_resources.ads_config");
    return out;
  };
  if (from.has_ads_config()) {
    spec.ads = grpc_source_spec(from.ads_config(), path.field("ads_config"), t);
    check_grpc_cluster(*spec.ads, spec, path.field("ads_config"), t);
  }
  if (from.has_lds_config()) spec.lds = source(from.lds_config(), path.field("lds_config"));
  if (from.has_cds_config()) spec.cds = source(from.cds_config(), path.field("cds_config"));
}

bool uses_grpc(const BootstrapSpec& spec) {
  const auto grpc = [](const std::optional<ConfigSourceSpec>& source) {
    return source && source->kind == ConfigSourceSpec::Kind::kGrpc;
  };
  return grpc(spec.ads) || grpc(spec.lds) || grpc(spec.cds);
}

}  // namespace

BootstrapSpec bootstrap_spec(const pb::Bootstrap& from, const FieldPath& path, Translation& t) {
  BootstrapSpec spec;
  spec.node = node_spec(from.node());
  t.state.node_cluster = spec.node.cluster;
  const FieldPath resources = path.field("static_resources");
  each(from.static_resources().clusters(), resources.field("clusters"),
       [&](const auto& cluster, const FieldPath& at) { spec.clusters.push_back(cluster_spec(cluster, at, t)); });
  each(from.static_resources().listeners(), resources.field("listeners"),
       [&](const auto& listener, const FieldPath& at) {
         spec.listeners.push_back(listener_spec(listener, false, at, t));
       });
  check_unique(spec, resources, t);
  dynamic_resources(from.dynamic_resources(), spec, path.field("dynamic_resources"), t);
  check_static_sources(spec, resources, t);
  if (!from.dynamic_resources().has_cds_config()) check_cluster_names(spec, resources, t);
  if (uses_grpc(spec) && spec.node.id.empty())
    t.fault(path.field("node").field("id"), "must not be empty: the control plane knows the proxy by it");
  if (from.has_admin()) {
    const FieldPath admin = path.field("admin");
    if (from.admin().has_address())
      spec.admin = address_spec(from.admin().address(), AddressUse::kListen, admin.field("address"), t);
    each(from.admin().access_log(), admin.field("access_log"), [&](const auto& log, const FieldPath& at) {
      if (auto translated = access_log_spec(log, at, t)) spec.admin_access_logs.push_back(std::move(*translated));
    });
  }
  return spec;
}

}  // namespace outrigger::config
