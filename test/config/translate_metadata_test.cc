// Metadata, metadata_match and lb_subset_config: what comes out, what is shared, what is refused and where.
#include <gtest/gtest.h>

#include <limits>

#include "envoy/config/cluster/v3/cluster.pb.h"
#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

constexpr std::string_view kCluster = R"("@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: c
metadata: {filter_metadata: {a: {text: t, number: 1.5, whole: 7, flag: true, nothing: null, list: [1, x], s: {k: v}}}}
load_assignment:
  cluster_name: c
  endpoints:
  - metadata: {filter_metadata: {envoy.lb: {of: locality}}}
    lb_endpoints:
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}
      metadata: {filter_metadata: {envoy.lb: {v: "1"}}}
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 81}}}
      metadata: {filter_metadata: {envoy.lb: {v: "1"}}}
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 82}}}
lb_subset_config:
  fallback_policy: DEFAULT_SUBSET
  default_subset: {stage: prod}
  panic_mode_any: true
  list_as_any: true
  subset_selectors:
  - {keys: [v, stage, v], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [v]}
  - {keys: [v], single_host_per_subset: true, fallback_policy: ANY_ENDPOINT}
)";

template <class T>
T good(Loader& loader, std::string_view yaml) {
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_EQ(out.faults.str(), "") << yaml;
  EXPECT_TRUE(out.spec);
  return out.spec ? std::get<T>(*out.spec) : T{};
}

void bad(std::string_view yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}
void bad_with(std::string_view from, std::string_view to, std::vector<Expected> expected) {
  bad(with(kCluster, from, to), std::move(expected));
}

TEST(TranslateMetadata, OfClustersAndEndpoints) {
  Loader loader;
  const ClusterSpec spec = good<ClusterSpec>(loader, kCluster);
  ASSERT_TRUE(spec.metadata);
  EXPECT_EQ(to_json(spec.metadata->namespaces),
            R"({"a":{"flag":true,"list":[1,"x"],"nothing":null,"number":1.5,"s":{"k":"v"},"text":"t","whole":7}})");
  const auto& endpoints = spec.endpoints.endpoints;
  ASSERT_TRUE(endpoints[0].metadata);
  EXPECT_EQ(to_json(endpoints[0].metadata->namespaces), R"({"envoy.lb":{"v":"1"}})");
  EXPECT_EQ(endpoints[0].metadata.get(), endpoints[1].metadata.get()) << "equal metadata is shared";
  EXPECT_FALSE(endpoints[2].metadata);
  EXPECT_EQ(endpoints[0].metadata.get(), good<ClusterSpec>(loader, kCluster).endpoints.endpoints[0].metadata.get())
      << "also by the next version";
}

TEST(TranslateMetadata, SubsetConfig) {
  Loader loader;
  using Selector = SubsetSpec::Selector;
  const ClusterSpec spec = good<ClusterSpec>(loader, kCluster);
  ASSERT_TRUE(spec.subsets);
  const SubsetSpec want{
      .fallback = SubsetSpec::Fallback::kDefault,
      .default_subset = {{"stage", {std::string("prod")}}},
      .selectors = {{.keys = {"stage", "v"}, .fallback = Selector::Fallback::kKeys, .fallback_keys = {"v"}},
                    {.keys = {"v"}, .fallback = Selector::Fallback::kAny, .single_host = true}},
      .panic_mode_any = true,
      .list_as_any = true};
  EXPECT_EQ(*spec.subsets, want);
  const std::string none = with(kCluster, std::string(kCluster.substr(kCluster.find("  subset_selectors"))), "");
  EXPECT_FALSE(good<ClusterSpec>(loader, none).subsets) << "no selector, no subsets";
}

TEST(TranslateMetadata, BadSubsetConfigIsRefusedWithItsPath) {
  const auto in_config = [](std::string_view path) { return "lb_subset_config." + std::string(path); };
  bad_with("keys: [v], single", "single", {{in_config("subset_selectors[1].keys"), "at least one key"}});
  bad_with("keys: [v], single", "keys: [stage, v], single",
           {{in_config("subset_selectors[1].keys"), "are those of subset_selectors[0]"}});
  bad_with("keys: [v], single", "keys: [\"\"], single",
           {{in_config("subset_selectors[1].keys[0]"), "must not be empty"}});
  bad_with("fallback_keys_subset: [v]", "fallback_keys_subset: []",
           {{in_config("subset_selectors[0].fallback_keys_subset"), "at least one key"}});
  bad_with("fallback_keys_subset: [v]", "fallback_keys_subset: [x]",
           {{in_config("subset_selectors[0].fallback_keys_subset"), "some of the selector's"}});
  bad_with("fallback_keys_subset: [v]", "fallback_keys_subset: [v, stage]",
           {{in_config("subset_selectors[0].fallback_keys_subset"), "not be all"}});
  bad_with("fallback_policy: ANY_ENDPOINT", "fallback_keys_subset: [v]",
           {{in_config("subset_selectors[1].fallback_keys_subset"), "needs fallback_policy: KEYS_SUBSET"}});
  bad_with("  list_as_any: true", "  locality_weight_aware: true",
           {{in_config("locality_weight_aware"), "is not supported"}});
  bad_with("  list_as_any: true", "  scale_locality_weight: true",
           {{in_config("scale_locality_weight"), "is not supported"}});
  bad_with("  list_as_any: true", "  metadata_fallback_policy: FALLBACK_LIST",
           {{in_config("metadata_fallback_policy"), "only METADATA_NO_FALLBACK"}});
  std::string many = "keys: [";
  for (int i = 0; i < 33; ++i) many += "k" + std::to_string(i) + ", ";
  bad_with("keys: [v], single", many + "z], single",
           {{in_config("subset_selectors[1].keys"), "has 34 keys; at most 32"}});
  bad(R"("@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: c
type: ORIGINAL_DST
lb_policy: CLUSTER_PROVIDED
lb_subset_config: {subset_selectors: [{keys: [v]}]}
)",
      {{"lb_subset_config", "CLUSTER_PROVIDED has none"}});
}

// Too deep by a little.
std::string deep() {
  std::string text = "1";
  for (int i = 0; i < 24; ++i) text = "{k: " + text + "}";
  return text;
}

TEST(TranslateMetadata, WhatOnlyBytesCanSayIsRefusedToo) {
  envoy::config::cluster::v3::Cluster cluster;
  cluster.set_name("c");
  auto& fields = *(*cluster.mutable_metadata()->mutable_filter_metadata())["m"].mutable_fields();
  fields["infinite"].set_number_value(std::numeric_limits<double>::infinity());
  fields["nan"].mutable_list_value()->add_values()->set_number_value(std::numeric_limits<double>::quiet_NaN());
  fields["none"].Clear();
  Loader loader;
  const TranslatedResource out = loader.translator.resource("type.googleapis.com/envoy.config.cluster.v3.Cluster",
                                                            cluster.SerializeAsString(), FieldPath());
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, {{R"(metadata.filter_metadata["m"]["infinite"])", "finite"},
                             {R"(metadata.filter_metadata["m"]["nan"][0])", "finite"},
                             {R"(metadata.filter_metadata["m"]["none"])", "has no value"}});
}

TEST(TranslateMetadata, BadMetadataIsRefusedWithItsPath) {
  const std::string at = R"(load_assignment.endpoints[0].lb_endpoints[0].metadata.filter_metadata["envoy.lb"])";
  std::string path = at + "[\"v\"]";
  for (int i = 0; i < 23; ++i) path += "[\"k\"]";
  bad_with("envoy.lb: {v: \"1\"}", "envoy.lb: {v: " + deep() + "}", {{path, "nested deeper than 24"}});
  bad_with("envoy.lb: {v: \"1\"}", "envoy.lb: 5", {{at, ""}});
  bad_with("{filter_metadata: {envoy.lb: {v: \"1\"}}}", "{typed_filter_metadata: {}}",
           {{"load_assignment.endpoints[0].lb_endpoints[0].metadata.typed_filter_metadata", ""}});
}

constexpr std::string_view kTable = R"("@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: t
virtual_hosts:
- name: v
  domains: ["*"]
  metadata: {filter_metadata: {m: {of: host}}}
  routes:
  - match: {prefix: /}
    metadata: {filter_metadata: {m: {of: route}}}
    route:
      metadata_match: {filter_metadata: {envoy.lb: {v: "1", stage: prod}, other: {x: y}}}
      weighted_clusters:
        clusters:
        - {name: a, weight: 1, metadata_match: {filter_metadata: {envoy.lb: {stage: canary}}}}
        - {name: b, weight: 1}
)";

MetadataMatch match_of(std::vector<std::pair<std::string, std::string>> values) {
  MetadataValue::Struct fields;
  for (auto& [key, value] : values) fields.push_back({key, {value}});
  return MetadataMatch::of(fields);
}

TEST(TranslateMetadata, OfRoutesAndWhatTheyAskFor) {
  Loader loader;
  const RouteTableSpec table = good<RouteTableSpec>(loader, kTable);
  const VirtualHostSpec& host = table.virtual_hosts[0];
  EXPECT_EQ(to_json(host.metadata->namespaces), R"({"m":{"of":"host"}})");
  EXPECT_EQ(to_json(host.routes[0].metadata->namespaces), R"({"m":{"of":"route"}})");
  const auto& forward = std::get<ForwardSpec>(host.routes[0].action);
  EXPECT_EQ(*forward.metadata_match, match_of({{"stage", "prod"}, {"v", "1"}}));
  EXPECT_EQ(*forward.weighted[0].metadata_match, match_of({{"stage", "canary"}, {"v", "1"}}));
  EXPECT_EQ(*forward.weighted[1].metadata_match, *forward.metadata_match);
  std::string path =
      R"(virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0].metadata_match.filter_metadata["envoy.lb"])"
      R"(["stage"])";
  for (int i = 0; i < 23; ++i) path += "[\"k\"]";
  bad(with(kTable, "stage: canary", "stage: " + deep()), {{path, "nested deeper"}});
}

constexpr std::string_view kListener = R"("@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
metadata: {filter_metadata: {m: {of: listener}}}
filter_chains:
- filters:
  - name: tcp
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: t
      metadata_match: {filter_metadata: {envoy.lb: {v: "1"}}}
      weighted_clusters:
        clusters:
        - {name: a, weight: 1, metadata_match: {filter_metadata: {envoy.lb: {stage: canary}}}}
        - {name: b, weight: 1}
)";

TEST(TranslateMetadata, OfListenersAndWhatTcpProxyAsksFor) {
  Loader loader;
  const ListenerSpec spec = good<ListenerSpec>(loader, kListener);
  const FilterChainSpec& chain = spec.filter_chains[0];
  EXPECT_EQ(to_json(chain.listener_metadata->namespaces), R"({"m":{"of":"listener"}})");
  EXPECT_EQ(*chain.tcp->targets[0].metadata_match, match_of({{"stage", "canary"}, {"v", "1"}}));
  EXPECT_EQ(*chain.tcp->targets[1].metadata_match, match_of({{"v", "1"}}));
  std::string path = R"(filter_chains[0].filters[0].typed_config.metadata_match.filter_metadata["envoy.lb"]["v"])";
  for (int i = 0; i < 23; ++i) path += "[\"k\"]";
  bad(with(kListener, "v: \"1\"", "v: " + deep()), {{path, "nested deeper"}});
}

}  // namespace
}  // namespace outrigger::config::testing
