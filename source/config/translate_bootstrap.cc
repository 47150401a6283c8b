// The bootstrap: static resources, where the dynamic ones come from, the node, the admin port.
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <unordered_map>
#include <unordered_set>

#include "config/proto_dump.h"
#include "config/tls_secrets.h"
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
  const auto differ = [&](const auto& resources, const char* field) {
    const FieldPath list = path.field(field);
    names.clear();
    for (size_t i = 0; i < resources.size(); ++i) {
      const auto [it, added] = names.emplace(resources[i].name, i);
      if (!added && !resources[i].name.empty())
        t.fault(list.index(i).field("name"),
                fmt::format("\"{}\" is also the name of {}[{}]", it->first, field, it->second));
    }
  };
  differ(spec.clusters, "clusters");
  differ(spec.secrets, "secrets");
}

// What static routes name must be there: without CDS, all clusters that there will ever be are in the file.
class ClusterNames {
 public:
  ClusterNames(const BootstrapSpec& spec, bool complete, Translation& t) : spec_(spec), complete_(complete), t_(t) {
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
    if (complete_ && !name.empty() && !names_.contains(name))
      t_.fault(path, fmt::format("\"{}\" is not among static_resources.clusters, and there is no cds_config", name));
  }

  const BootstrapSpec& spec_;
  const bool complete_;
  Translation& t_;
  std::unordered_set<std::string_view> names_;
};

void check_cluster_names(const BootstrapSpec& spec, bool complete, const FieldPath& path, Translation& t) {
  const ClusterNames names(spec, complete, t);
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

void dynamic_resources(const pb::Bootstrap::DynamicResources& from, BootstrapSpec& spec, const FieldPath& path,
                       Translation& t) {
  if (from.has_ads_config()) spec.ads = grpc_source_spec(from.ads_config(), true, path.field("ads_config"), t);
  if (from.has_lds_config()) spec.lds = config_source_spec(from.lds_config(), false, path.field("lds_config"), t);
  if (from.has_cds_config()) spec.cds = config_source_spec(from.cds_config(), false, path.field("cds_config"), t);
}

// Calls f(service) for each server that a source of the bootstrap names.
template <class F>
void each_service(const BootstrapSpec& spec, F&& f) {
  const auto source = [&](const ConfigSourceSpec& from) {
    std::for_each(from.services.begin(), from.services.end(), f);
  };
  for (const auto* dynamic : {&spec.ads, &spec.lds, &spec.cds})
    if (*dynamic) source(**dynamic);
  const auto secret = [&](const SecretRefSpec& reference, SecretKind) {
    if (reference.source) source(*reference.source);
  };
  const auto chain = [&](const FilterChainSpec& of) {
    source(of.hcm.rds_source);
    if (of.tls) each_secret(*of.tls, secret);
  };
  for (const ListenerSpec& listener : spec.listeners) {
    std::for_each(listener.filter_chains.begin(), listener.filter_chains.end(), chain);
    if (listener.default_filter_chain) chain(*listener.default_filter_chain);
  }
  for (const ClusterSpec& cluster : spec.clusters) {
    source(cluster.eds_source);
    if (cluster.tls) each_secret(*cluster.tls, secret);
  }
}

void check_servers(BootstrapSpec& spec, const FieldPath& path, const FieldPath& node, Translation& t) {
  bool any = false;
  std::unordered_set<std::string_view> used;
  each_service(spec, [&](const GrpcServiceSpec& service) {
    any = true;
    used.insert(service.cluster);
  });
  if (any && spec.node.id.empty())
    t.fault(node.field("id"), "must not be empty: the control plane knows the proxy by it");
  const FieldPath clusters = path.field("clusters");
  for (size_t i = 0; i < spec.clusters.size(); ++i) {
    const ClusterSpec& cluster = spec.clusters[i];
    if (!used.contains(cluster.name)) continue;
    const FieldPath at = clusters.index(i);
    const FieldPath socket = at.field("transport_socket");
    if (cluster.proxy_header != ProxyHeaderVersion::kNone)
      t.fault(socket.field("typed_config"), "sends a PROXY header, which the way to a control plane cannot");
    if (!cluster.tls) continue;
    spec.channel_tls[cluster.name] = channel_tls_spec(*cluster.tls, socket.field("typed_config"), t);
  }
}

}  // namespace

BootstrapSpec bootstrap_spec(const pb::Bootstrap& from, const FieldPath& path, Translation& t) {
  BootstrapSpec spec;
  t.bootstrap = &spec;
  spec.node = node_spec(from.node());
  t.state.node_cluster = spec.node.cluster;
  t.state.targets = source_targets(from);
  const FieldPath resources = path.field("static_resources");
  each(from.static_resources().clusters(), resources.field("clusters"),
       [&](const auto& cluster, const FieldPath& at) { spec.clusters.push_back(cluster_spec(cluster, at, t)); });
  each(from.static_resources().listeners(), resources.field("listeners"),
       [&](const auto& listener, const FieldPath& at) {
         spec.listeners.push_back(listener_spec(listener, false, at, t));
       });
  each(from.static_resources().secrets(), resources.field("secrets"),
       [&](const auto& secret, const FieldPath& at) { spec.secrets.push_back(secret_spec(secret, at, t)); });
  check_unique(spec, resources, t);
  dynamic_resources(from.dynamic_resources(), spec, path.field("dynamic_resources"), t);
  check_cluster_names(spec, !from.dynamic_resources().has_cds_config(), resources, t);
  check_servers(spec, resources, path.field("node"), t);
  if (from.has_admin()) {
    const FieldPath admin = path.field("admin");
    if (from.admin().has_address())
      spec.admin = address_spec(from.admin().address(), AddressUse::kListen, admin.field("address"), t);
    each(from.admin().access_log(), admin.field("access_log"), [&](const auto& log, const FieldPath& at) {
      if (auto translated = access_log_spec(log, at, t)) spec.admin_access_logs.push_back(std::move(*translated));
    });
  }
  t.bootstrap = nullptr;
  return spec;
}

}  // namespace outrigger::config
