// Bootstraps; the shapes of well-known example files; resources from files and from the wire.
#include <google/protobuf/any.pb.h>
#include <gtest/gtest.h>

#include "config/any.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

// The shape of a front proxy: several clusters by DNS, prefix routes, admin.
constexpr std::string_view kFrontProxy = R"(
static_resources:
  listeners:
  - address:
      socket_address:
        address: 0.0.0.0
        port_value: 8080
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: AUTO
          stat_prefix: ingress_http
          route_config:
            name: local_route
            virtual_hosts:
            - name: backend
              domains:
              - "*"
              routes:
              - match:
                  prefix: "/service/1"
                route:
                  cluster: service1
              - match:
                  prefix: "/service/2"
                route:
                  cluster: service2
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: service1
    type: STRICT_DNS
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: service1
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: service1
                port_value: 8000
  - name: service2
    type: STRICT_DNS
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: service2
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: service2
                port_value: 8000
admin:
  address:
    socket_address:
      address: 0.0.0.0
      port_value: 8001
)";

// The shape of a proxy that is configured by files.
constexpr std::string_view kDynamicFiles = R"(
node:
  id: test-id
  cluster: test-cluster
dynamic_resources:
  cds_config:
    path_config_source:
      path: /etc/outrigger/cds.yaml
  lds_config:
    resource_api_version: V3
    path_config_source:
      path: /etc/outrigger/lds.yaml
      watched_directory:
        path: /etc/outrigger
)";

// The shape of a proxy that is configured by a control plane.
constexpr std::string_view kXds = R"(
node: {id: n1, cluster: front, locality: {region: r, zone: z, sub_zone: s}, metadata: {role: edge}, user_agent_name: envoy}
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
    - envoy_grpc: {cluster_name: xds_cluster, authority: control.example}
      initial_metadata: [{key: X-Token, value: t}]
  cds_config: {resource_api_version: V3, ads: {}}
  lds_config: {resource_api_version: V3, ads: {}, initial_fetch_timeout: 1s}
static_resources:
  clusters:
  - name: xds_cluster
    type: STRICT_DNS
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            connection_keepalive: {interval: 30s, timeout: 5s}
    load_assignment:
      cluster_name: xds_cluster
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: control-plane, port_value: 18000}}}
)";

BootstrapSpec good(std::string_view yaml) {
  Loader loader;
  TranslatedBootstrap out = loader.translator.bootstrap(yaml, "b.yaml");
  EXPECT_EQ(out.faults.str(), "");
  EXPECT_TRUE(out.spec);
  EXPECT_FALSE(out.bytes.empty());
  return out.spec ? std::move(*out.spec) : BootstrapSpec{};
}
void bad(std::string_view yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedBootstrap out = loader.translator.bootstrap(yaml, "b.yaml");
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}

TEST(Bootstrap, FrontProxyShape) {
  const BootstrapSpec spec = good(kFrontProxy);
  ASSERT_EQ(spec.listeners.size(), 1u);
  EXPECT_EQ(spec.listeners[0].name, "0.0.0.0:8080");  // unnamed static listeners are called by their address
  ASSERT_EQ(spec.clusters.size(), 2u);
  EXPECT_EQ(spec.admin, (AddressSpec{.host = "0.0.0.0", .port = 8001}));
  EXPECT_FALSE(spec.lds || spec.cds || spec.ads);
}

TEST(Bootstrap, DynamicFilesShape) {
  const BootstrapSpec spec = good(kDynamicFiles);
  EXPECT_EQ(spec.cds, (ConfigSourceSpec{.kind = ConfigSourceSpec::Kind::kFile, .path = "/etc/outrigger/cds.yaml"}));
  EXPECT_EQ(spec.lds, (ConfigSourceSpec{.kind = ConfigSourceSpec::Kind::kFile,
                                        .path = "/etc/outrigger/lds.yaml",
                                        .watched_directory = "/etc/outrigger"}));
  EXPECT_EQ(spec.node.id, "test-id");
}

TEST(Bootstrap, XdsShape) {
  const BootstrapSpec spec = good(kXds);
  EXPECT_EQ(spec.ads, (ConfigSourceSpec{.kind = ConfigSourceSpec::Kind::kGrpc,
                                        .services = {{.cluster = "xds_cluster",
                                                      .authority = "control.example",
                                                      .initial_metadata = {{"x-token", "t"}}}},
                                        .set_node_on_first_message_only = true}));
  EXPECT_EQ(spec.lds, (ConfigSourceSpec{.initial_fetch_timeout_ms = 1000}));
  EXPECT_EQ(spec.cds, ConfigSourceSpec());
  EXPECT_EQ(spec.clusters.at(0).codec, ClusterSpec::Codec::kHttp2);
  EXPECT_EQ(spec.node.region, "r");
  EXPECT_EQ(spec.node.zone, "z");
  EXPECT_EQ(spec.node.sub_zone, "s");
  EXPECT_EQ(spec.node.metadata_json, "{\"role\":\"edge\"}");
  envoy::config::core::v3::Node node;
  ASSERT_TRUE(node.ParseFromString(spec.node.serialized));
  EXPECT_EQ(node.id(), "n1");
  EXPECT_EQ(node.user_agent_name(), "outrigger");
}

TEST(Bootstrap, AdminAccessLogAndIgnoredFields) {
  const BootstrapSpec spec = good(R"(
stats_flush_interval: 5s
admin: {access_log: {name: a, typed_config: {"@type": envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null}}}
)");
  EXPECT_FALSE(spec.admin);
  EXPECT_EQ(spec.admin_access_logs, (std::vector<AccessLogSpec>{{.path = "/dev/null"}}));
}

TEST(Bootstrap, ResourcesForDumps) {
  Loader loader;
  const TranslatedBootstrap out =
      loader.translator.bootstrap(with(kFrontProxy, "codec_type: AUTO", "server_name: \"a\\nb\""), "b.yaml");
  EXPECT_FALSE(out.spec);
  ASSERT_EQ(out.resources.size(), 3u);
  EXPECT_EQ(out.resources[0].type, ResourceType::kListener);
  EXPECT_EQ(out.resources[0].name, "0.0.0.0:8080");
  EXPECT_FALSE(out.resources[0].spec);
  EXPECT_EQ(out.resources[0].faults.errors(), 1u);
  EXPECT_EQ(out.resources[1].name, "service1");
  EXPECT_TRUE(out.resources[1].spec);
  EXPECT_FALSE(out.resources[1].bytes.empty());
  // File and line come with the fault.
  ASSERT_EQ(out.faults.all().size(), 1u);
  EXPECT_EQ(out.faults.all()[0].file, "b.yaml");
  EXPECT_EQ(out.faults.all()[0].line, 13);
}

TEST(Bootstrap, AllFaultsAtOnce) {
  bad(R"(
node: {cluster: c}
admin: {address: {socket_address: {address: nowhere, port_value: 70000}}}
no_such_thing: 1
dynamic_resources:
  lds_config: {ads: {}}
  cds_config: {api_config_source: {api_type: GRPC, grpc_services: {envoy_grpc: {cluster_name: missing}}}}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 99999}}
    filter_chains: {filters: {name: a, typed_config: {"@type": type.googleapis.com/envoy.config.core.v3.Node}}}
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    bogus: 2
    filter_chains: {filters: {name: a, typed_config: {"@type": a.b.C}}}
  clusters:
  - {name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}
  - {name: c, connect_timeout: soon}
)",
      {{"node.id", "must not be empty"},
       {"admin.address.socket_address.address", "is not an IPv4"},
       {"admin.address.socket_address.port_value", "at most 65535"},
       {"no_such_thing", "no supported field"},
       {"dynamic_resources.lds_config.ads", "needs dynamic_resources.ads_config"},
       {"dynamic_resources.cds_config.api_config_source.grpc_services[0].envoy_grpc.cluster_name",
        "\"missing\" is not among"},
       {"static_resources.listeners[0].address.socket_address.port_value", "at most 65535"},
       {"static_resources.listeners[0].filter_chains[0].filters[0].typed_config", "is not a network filter"},
       {"static_resources.listeners[1].name", "also the name of listeners[0]"},
       {"static_resources.listeners[1].bogus", "no supported field"},
       {"static_resources.listeners[1].filter_chains[0].filters[0].typed_config", "a.b.C is not supported"},
       {"static_resources.clusters[0].eds_cluster_config.eds_config.ads", "needs dynamic_resources.ads_config"},
       {"static_resources.clusters[1].name", "also the name of clusters[0]"},
       {"static_resources.clusters[1].connect_timeout", ""}});
}

TEST(Bootstrap, ApiTypes) {
  EXPECT_FALSE(good(kXds).ads->delta);
  EXPECT_FALSE(good(with(kXds, "api_type: GRPC", "api_type: AGGREGATED_GRPC")).ads->delta);
  EXPECT_TRUE(good(with(kXds, "api_type: GRPC", "api_type: DELTA_GRPC")).ads->delta);
  EXPECT_TRUE(good(with(kXds, "api_type: GRPC", "api_type: AGGREGATED_DELTA_GRPC")).ads->delta);
}

TEST(Bootstrap, SourcesAndGrpcClusters) {
  const std::string at = "dynamic_resources.ads_config";
  bad(with(kXds, "api_type: GRPC", "api_type: DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE"),
      {{at + ".api_type", "must be GRPC, DELTA_GRPC"}});
  bad(with(kXds, "    api_type: GRPC\n", ""), {{at + ".api_type", "must be GRPC"}});
  bad(with(kXds, "cluster_name: xds_cluster, authority", "authority"),
      {{at + ".grpc_services[0].envoy_grpc.cluster_name", "must not be empty"}});
  bad(with(kXds, "cluster_name: xds_cluster, authority", "cluster_name: other, authority"),
      {{at + ".grpc_services[0].envoy_grpc.cluster_name", "\"other\" is not among static_resources.clusters"}});
  bad(with(kXds, "- envoy_grpc: {cluster_name: xds_cluster, authority: control.example}\n      initial", "- initial"),
      {{at + ".grpc_services[0]", "needs envoy_grpc or google_grpc"}});
  bad(with(kXds, "X-Token", "a b"), {{at + ".grpc_services[0].initial_metadata[0].key", "is not a header name"}});
  bad(with(kXds, "id: n1, ", ""), {{"node.id", "must not be empty"}});
  bad(with(kXds, "cds_config: {resource_api_version: V3, ads: {}}", "cds_config: {self: {}}"),
      {{"dynamic_resources.cds_config.self", "no source delivered this"}});
  bad(with(kXds,
           "      - lb_endpoints:\n        - endpoint: {address: {socket_address: {address: control-plane, port_value: "
           "18000}}}\n",
           "        []\n"),
      {{at + ".grpc_services[0].envoy_grpc.cluster_name", "has no endpoints"}});
  bad(R"(
node: {id: a}
dynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: c}}, {envoy_grpc: {cluster_name: c}}]}}
static_resources: {clusters: {name: c, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}}
)",
      {{at + ".grpc_services[0].envoy_grpc.cluster_name", "is of type EDS"},
       {at + ".grpc_services[1].envoy_grpc.cluster_name", "is of type EDS"}});
  bad(with(kXds, "X-Token, value: t", "X-Token, value: \"h\\u00fcsh\""),
      {{at + ".grpc_services[0].initial_metadata[0].value", "must be printable ASCII"}});
  bad(with(kXds, "X-Token", "grpc-timeout"),
      {{at + ".grpc_services[0].initial_metadata[0].key", "cannot be sent with a gRPC call"}});
  bad(with(kXds, "X-Token", "x!"),
      {{at + ".grpc_services[0].initial_metadata[0].key", "cannot be sent with a gRPC call"}});
}

TEST(Bootstrap, SourcesOfTheirOwn) {
  const std::string source =
      "{api_config_source: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: a}}, {envoy_grpc: "
      "{cluster_name: b}}]}, initial_fetch_timeout: 2s}";
  const auto host = [](const char* name) {
    return "  - {name: " + std::string(name) +
           ", type: STATIC, load_assignment: {cluster_name: x, endpoints: {lb_endpoints: {endpoint: {address: {pipe: "
           "{path: /a}}}}}}}\n";
  };
  const std::string text = "node: {id: me}\ndynamic_resources: {lds_config: " + source + ", cds_config: " + source +
                           "}\nstatic_resources:\n  clusters:\n" + host("a") + host("b") +
                           "  - {name: c, type: EDS, eds_cluster_config: {eds_config: " + source + "}}\n";
  const BootstrapSpec spec = good(text);
  const ConfigSourceSpec expected{.kind = ConfigSourceSpec::Kind::kGrpc,
                                  .services = {{.cluster = "a"}, {.cluster = "b"}},
                                  .delta = true,
                                  .initial_fetch_timeout_ms = 2000};
  EXPECT_EQ(spec.lds, expected);
  EXPECT_EQ(spec.cds, expected);
  EXPECT_EQ(spec.clusters.at(2).eds_source, expected);
  ConfigSourceSpec other = expected;
  other.initial_fetch_timeout_ms = 0;
  EXPECT_TRUE(same_source(other, expected));
  other.services.pop_back();
  EXPECT_FALSE(same_source(other, expected));

  bad(with(with(text, "api_type: DELTA_GRPC", "api_type: AGGREGATED_GRPC"), "node: {id: me}", "node: {cluster: c}"),
      {{"dynamic_resources.lds_config.api_config_source.api_type", "is for dynamic_resources.ads_config"},
       {"node.id", "must not be empty"}});
  bad(with(text, "api_type: DELTA_GRPC", "api_type: AGGREGATED_DELTA_GRPC"),
      {{"dynamic_resources.lds_config.api_config_source.api_type", "is for dynamic_resources.ads_config"}});
  bad(with(text, "api_type: DELTA_GRPC, ", ""),
      {{"dynamic_resources.lds_config.api_config_source.api_type", "must be GRPC or DELTA_GRPC"}});
}

// What discovery brings is held against the bootstrap, if there was one.
TEST(Bootstrap, SourcesOfDiscoveredResources) {
  const std::string cluster =
      "\"@type\": envoy.config.cluster.v3.Cluster\nname: c\ntype: EDS\neds_cluster_config: {eds_config: ";
  const std::string ads = cluster + "{ads: {}}}\n";
  const std::string grpc =
      cluster + "{api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: nowhere}}]}}}\n";
  Loader alone;
  EXPECT_TRUE(alone.resource(ads).spec);
  EXPECT_TRUE(alone.resource(grpc).spec);
  Loader proxy;
  proxy.translator.bootstrap("node: {}", "b.yaml");
  expect_faults(proxy.resource(ads).faults,
                {{"eds_cluster_config.eds_config.ads", "needs dynamic_resources.ads_config"}});
  expect_faults(proxy.resource(grpc).faults,
                {{"eds_cluster_config.eds_config.api_config_source", "needs node.id"},
                 {"eds_cluster_config.eds_config.api_config_source.grpc_services[0].envoy_grpc.cluster_name",
                  "\"nowhere\" is not among static_resources.clusters"}});
}

TEST(Bootstrap, StaticReferences) {
  const std::string at = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.";
  bad(with(kFrontProxy, "cluster: service2", "cluster: nowhere"),
      {{at + "route_config.virtual_hosts[0].routes[1].route.cluster",
        "\"nowhere\" is not among static_resources.clusters"}});
  bad(with(kFrontProxy, "cluster: service2",
           "weighted_clusters: {clusters: [{name: service1, weight: 1}, {name: nowhere, weight: 1}]}"),
      {{at + "route_config.virtual_hosts[0].routes[1].route.weighted_clusters.clusters[1].name",
        "\"nowhere\" is not among"}});
  bad(with(kFrontProxy, "cluster: service2",
           "cluster: service2\n                  request_mirror_policies: {cluster: nowhere}"),
      {{at + "route_config.virtual_hosts[0].routes[1].route.request_mirror_policies[0].cluster",
        "\"nowhere\" is not among"}});
  bad("static_resources: {clusters: {name: a, lb_policy: CLUSTER_PROVIDED, cluster_type: {name: "
      "envoy.clusters.aggregate, typed_config: {'@type': envoy.extensions.clusters.aggregate.v3.ClusterConfig, "
      "clusters: nowhere}}}}\n",
      {{"static_resources.clusters[0].cluster_type.typed_config.clusters[0]", "\"nowhere\" is not among"}});
  good(with(with(kFrontProxy, "cluster: service2", "cluster: nowhere"), "name: local_route",
            "name: local_route\n            validate_clusters: false"));
  good(with(kFrontProxy, "cluster: service2", "cluster: later") +
       "dynamic_resources: {cds_config: {path_config_source: {path: /x}}}\n");
  bad(with(kFrontProxy, "          route_config:\n            name: local_route\n            virtual_hosts:\n",
           "          rds: {route_config_name: r, config_source: {ads: {}}}\n          metadata_is_not_a_field:\n"),
      {{at + "metadata_is_not_a_field", "no supported field"},
       {at + "rds.config_source.ads", "needs dynamic_resources.ads_config"}});
}

TEST(Bootstrap, AddressesAreBoundOnce) {
  const std::string hcm =
      R"(filter_chains: {filters: {name: a, typed_config: {"@type": envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: a, route_config: {}, http_filters: {name: r, typed_config: {"@type": envoy.extensions.filters.http.router.v3.Router}}}}})";
  const auto two = [&](std::string_view first, std::string_view second) {
    return "static_resources:\n  listeners:\n  - {name: a, address: " + std::string(first) + ", " + hcm +
           "}\n  - {name: b, address: " + std::string(second) + ", " + hcm + "}\n";
  };
  bad(two("{socket_address: {address: 127.0.0.1, port_value: 80}}",
          "{socket_address: {address: 127.0.0.1, port_value: 80}}"),
      {{"static_resources.listeners[1].address", "127.0.0.1:80 is also an address of listeners[0]"}});
  bad(two("{pipe: {path: /a}}", "{pipe: {path: /a}}"), {{"static_resources.listeners[1].address", "/a is also"}});
  good(two("{socket_address: {address: 127.0.0.1, port_value: 0}}",
           "{socket_address: {address: 127.0.0.1, port_value: 0}}"));
}

TEST(Bootstrap, SyntaxAndEmptiness) {
  Loader loader;
  const auto out = loader.translator.bootstrap("a: [", "b.yaml");
  EXPECT_FALSE(out.spec);
  EXPECT_EQ(out.faults.errors(), 1u);
  EXPECT_EQ(out.faults.all().at(0).file, "b.yaml");
  EXPECT_FALSE(loader.translator.bootstrap("", "b.yaml").spec);
  EXPECT_FALSE(loader.translator.bootstrap("- a\n- b\n", "b.yaml").spec);
  EXPECT_TRUE(loader.translator.bootstrap("{\"node\": {\"id\": \"json\"}}", "b.json").spec);
}

TEST(ResourceFile, EachResourceHasItsOwnFaults) {
  Loader loader;
  Faults file_faults;
  const auto out = loader.translator.resource_file(R"(version_info: "1"
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: good
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: bad
  connect_timeout: 0s
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: good
- "@type": type.googleapis.com/envoy.config.core.v3.Node
- {name: untyped}
- "@type": type.googleapis.com/envoy.service.discovery.v3.Resource
  name: wrapped
  version: "7"
  resource: {"@type": envoy.config.cluster.v3.Cluster, name: wrapped}
- "@type": type.googleapis.com/envoy.service.discovery.v3.Resource
  name: one
  resource: {"@type": envoy.config.cluster.v3.Cluster, name: other}
bogus: 1
)",
                                                   "r.yaml", file_faults);
  EXPECT_EQ(file_faults.str(),
            "r.yaml:19: bogus: envoy.service.discovery.v3.DiscoveryResponse has no supported field of this name\n");
  ASSERT_EQ(out.size(), 7u);
  EXPECT_TRUE(out[0].spec);
  EXPECT_EQ(out[1].faults.str(), "r.yaml:7: Cluster/bad: resources[1].connect_timeout: must be above 0\n");
  EXPECT_EQ(out[2].faults.str(), "r.yaml:8: Cluster/good: resources[2]: is the same resource as resources[0]\n");
  EXPECT_EQ(out[3].faults.errors(), 1u);
  EXPECT_NE(out[3].faults.str().find(
                "type envoy.config.core.v3.Node is not a resource; resources are envoy.config.listener.v3.Listener"),
            std::string::npos)
      << out[3].faults.str();
  EXPECT_EQ(out[4].faults.errors(), 1u) << out[4].faults.str();
  EXPECT_TRUE(out[5].spec) << out[5].faults.str();
  EXPECT_EQ(out[5].name, "wrapped");
  EXPECT_EQ(out[6].faults.str(),
            "r.yaml:17: Cluster/other: resources[6].name: is \"one\", but the resource's own name is \"other\"\n");
  for (size_t i : {1u, 2u, 3u, 4u, 6u}) EXPECT_FALSE(out[i].spec) << i;
}

TEST(ResourceFile, BareListsAndSingleResources) {
  Loader loader;
  Faults file_faults;
  auto out = loader.translator.resource_file(R"(
- {"@type": envoy.config.cluster.v3.Cluster, name: a}
- {"@type": envoy.config.cluster.v3.Cluster, name: b, connect_timeout: 0s}
)",
                                             "r.yaml", file_faults);
  ASSERT_EQ(out.size(), 2u) << file_faults.str();
  EXPECT_TRUE(out[0].spec);
  EXPECT_EQ(out[1].faults.str(), "r.yaml:3: Cluster/b: [1].connect_timeout: must be above 0\n");

  out = loader.translator.resource_file(
      "\n\"@type\": envoy.config.cluster.v3.Cluster\nname: a\nconnect_timeout: 0s\nbogus: 1\n", "r.yaml", file_faults);
  ASSERT_EQ(out.size(), 1u) << file_faults.str();
  EXPECT_EQ(out[0].faults.str(),
            "r.yaml:5: Cluster/a: bogus: envoy.config.cluster.v3.Cluster has no supported field of this name\n"
            "r.yaml:4: Cluster/a: connect_timeout: must be above 0\n");
  EXPECT_EQ(file_faults.str(), "");
  EXPECT_TRUE(loader.translator.resource_file("resources: []", "r.yaml", file_faults).empty());
  EXPECT_EQ(file_faults.str(), "");
}

TEST(WireResource, StrictAtAnyDepthAndCanonicalBytes) {
  Loader loader;
  envoy::config::cluster::v3::Cluster cluster;
  cluster.set_name("c");
  google::protobuf::Any any;
  pack(cluster, any);
  const auto good = loader.translator.resource(any, FieldPath("resources[3]"));
  EXPECT_TRUE(good.spec) << good.faults.str();
  EXPECT_EQ(good.bytes, any.value());

  // An unknown field inside the connection manager inside the listener.
  envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager manager;
  manager.set_stat_prefix("a");
  manager.mutable_route_config()->set_name("r");
  manager.GetReflection()->MutableUnknownFields(&manager)->AddVarint(9999, 1);
  envoy::config::listener::v3::Listener listener;
  listener.set_name("l");
  listener.mutable_address()->mutable_socket_address()->set_address("127.0.0.1");
  listener.mutable_address()->mutable_socket_address()->set_port_value(80);
  auto* filter = listener.add_filter_chains()->add_filters();
  filter->set_name("http");
  pack(manager, *filter->mutable_typed_config());
  pack(listener, any);
  const auto bad = loader.translator.resource(any, FieldPath("resources[3]"));
  EXPECT_FALSE(bad.spec);
  EXPECT_EQ(bad.name, "l");
  ASSERT_EQ(bad.faults.all().size(), 2u) << bad.faults.str();
  EXPECT_NE(bad.faults.all()[0].path.find("resources[3].filter_chains[0].filters[0].typed_config"), std::string::npos)
      << bad.faults.str();
  EXPECT_EQ(bad.faults.all()[1].path, "resources[3].filter_chains[0].filters[0].typed_config.http_filters");
  EXPECT_EQ(bad.faults.all()[1].resource, "Listener/l");
}

TEST(WireResource, Mistakes) {
  Loader loader;
  const auto fault = [&](std::string_view type, std::string_view bytes) {
    const auto out = loader.translator.resource(type, bytes, FieldPath("r"));
    EXPECT_FALSE(out.spec);
    return out.faults.str();
  };
  EXPECT_NE(fault("type.googleapis.com/a.b.C", "").find("type a.b.C is not a resource"), std::string::npos);
  EXPECT_EQ(fault(type_url(ResourceType::kCluster), "\xff"),
            "Cluster/: r: is not a serialised envoy.config.cluster.v3.Cluster\n");
  envoy::service::discovery::v3::Resource inner, outer;
  inner.set_name("x");
  pack(inner, *outer.mutable_resource());
  EXPECT_EQ(fault("type.googleapis.com/envoy.service.discovery.v3.Resource", outer.SerializeAsString()),
            "r.resource: is a wrapped resource in another wrapper\n");
}

TEST(WireResource, TextThatIsNotUtf8IsAFaultAndNothingElse) {
  Loader loader;
  ::testing::internal::CaptureStderr();
  const auto out = loader.translator.resource(type_url(ResourceType::kCluster), "\x0a\x02\xc3\x28", FieldPath("r"));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(out.faults.ok());
}

TEST(WireResource, UnknownFieldsMayWarn) {
  Loader loader({.unknown_fields = UnknownFields::kWarn});
  envoy::config::cluster::v3::Cluster cluster;
  cluster.set_name("c");
  cluster.GetReflection()->MutableUnknownFields(&cluster)->AddVarint(9999, 1);
  const auto out =
      loader.translator.resource(type_url(ResourceType::kCluster), cluster.SerializeAsString(), FieldPath("r"));
  EXPECT_TRUE(out.spec);
  ASSERT_EQ(out.faults.all().size(), 1u);
  EXPECT_TRUE(out.faults.all()[0].warning);
}

}  // namespace
}  // namespace outrigger::config::testing
