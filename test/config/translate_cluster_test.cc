// Clusters and endpoints.
#include <gtest/gtest.h>

#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

constexpr std::string_view kCluster = R"("@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: c
load_assignment:
  cluster_name: c
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}
)";
constexpr std::string_view kEndpoint = "load_assignment.endpoints[0].lb_endpoints[0].endpoint";

ClusterSpec good(std::string_view yaml) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_EQ(out.faults.str(), "") << yaml;
  EXPECT_TRUE(out.spec);
  return out.spec ? std::get<ClusterSpec>(*out.spec) : ClusterSpec{};
}
ClusterSpec good_with(std::string_view lines) {
  return good(with(kCluster, "name: c\n", "name: c\n" + std::string(lines)));
}

void bad(std::string_view yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}
void bad_with(std::string_view lines, std::vector<Expected> expected) {
  bad(with(kCluster, "name: c\n", "name: c\n" + std::string(lines)), std::move(expected));
}

TEST(Cluster, Defaults) {
  ClusterSpec want;
  want.name = "c";
  want.endpoints = {.cluster_name = "c", .endpoints = {{.address = {.host = "127.0.0.1", .port = 80}}}};
  EXPECT_EQ(good(kCluster), want);
  EXPECT_EQ(good("\"@type\": envoy.config.cluster.v3.Cluster\nname: empty\n").endpoints, EndpointsSpec());
}

TEST(Cluster, EveryField) {
  const ClusterSpec spec = good(R"("@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: c
alt_stat_name: a
type: STRICT_DNS
connect_timeout: 0.25s
per_connection_buffer_limit_bytes: 9
lb_policy: LEAST_REQUEST
least_request_lb_config: {choice_count: 3}
circuit_breakers:
  thresholds:
  - {max_connections: 1, max_pending_requests: 2, max_requests: 3, max_retries: 4}
  - {priority: HIGH, max_connections: 9}
max_requests_per_connection: 5
common_http_protocol_options: {idle_timeout: 6s, max_connection_duration: 7s, max_headers_count: 8, headers_with_underscores_action: REJECT_REQUEST}
http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}
dns_refresh_rate: 9s
dns_failure_refresh_rate: {base_interval: 1s}
respect_dns_ttl: true
dns_lookup_family: V4_PREFERRED
wait_for_warm_on_init: false
ignore_health_on_host_removal: true
metadata: {}
transport_socket: {name: raw, typed_config: {"@type": envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}
load_assignment:
  cluster_name: names
  endpoints:
    locality: {zone: z}
    load_balancing_weight: 3
    lb_endpoints:
    - {endpoint: {hostname: h, address: {socket_address: {address: backend.example, port_value: 80}}}, load_balancing_weight: 7, metadata: {}}
    - {endpoint: {address: {socket_address: {address: "::1", port_value: 80}}}}
)");
  ClusterSpec want;
  want.name = "c";
  want.alt_stat_name = "a";
  want.discovery = ClusterSpec::Discovery::kStrictDns;
  want.endpoints = {
      .cluster_name = "names",
      .endpoints = {
          {.address = {AddressSpec::Kind::kHostname, "backend.example", 80}, .hostname = std::string("h"), .weight = 7},
          {.address = {.host = "::1", .port = 80}}}};
  want.lb = ClusterSpec::Lb::kLeastRequest;
  want.least_request_choice_count = 3;
  want.connect_timeout_ms = 250;
  want.per_connection_buffer_limit_bytes = 9;
  want.max_connections = 1;
  want.max_pending_requests = 2;
  want.max_requests = 3;
  want.max_retries = 4;
  want.idle_timeout_ms = 6000;
  want.max_connection_duration_ms = 7000;
  want.max_requests_per_connection = 5;
  want.max_response_headers_count = 8;
  want.codec = ClusterSpec::Codec::kHttp2;
  want.http2.keepalive_interval_ms = 30'000;
  want.http2.keepalive_timeout_ms = 5'000;
  want.dns_refresh_rate_ms = 9000;
  want.respect_dns_ttl = true;
  want.dns_family = ClusterSpec::DnsFamily::kV4Preferred;
  want.ignore_health_on_host_removal = true;
  EXPECT_EQ(spec, want);
}

TEST(Cluster, Protocol) {
  const auto typed = [](std::string_view options) {
    return "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': "
           "envoy.extensions.upstreams.http.v3.HttpProtocolOptions, " +
           std::string(options) + "}}\n";
  };
  EXPECT_EQ(good_with("http_protocol_options: {enable_trailers: true}\n").codec, ClusterSpec::Codec::kHttp1);
  EXPECT_EQ(good_with(typed("explicit_http_config: {http_protocol_options: {}}")).codec, ClusterSpec::Codec::kHttp1);
  const ClusterSpec spec =
      good_with(typed("explicit_http_config: {http2_protocol_options: {}}, common_http_protocol_options: "
                      "{idle_timeout: 1s, max_requests_per_connection: 4}"));
  EXPECT_EQ(spec.codec, ClusterSpec::Codec::kHttp2);
  EXPECT_EQ(spec.http2.max_concurrent_streams, 1024u);
  const ClusterSpec as_client =
      good_with(typed("use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: "
                      "{max_concurrent_streams: 9}}"));
  EXPECT_EQ(as_client.codec, ClusterSpec::Codec::kAsDownstream);
  EXPECT_EQ(as_client.http2.max_concurrent_streams, 9u);
  EXPECT_EQ(spec.idle_timeout_ms, 1000u);
  EXPECT_EQ(spec.max_requests_per_connection, 4u);
  const std::string at = "typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]";
  bad_with(typed("common_http_protocol_options: {max_stream_duration: 1s, max_headers_count: 0}"),
           {{at + ".explicit_http_config", "is required"},
            {at + ".common_http_protocol_options.max_stream_duration", "not supported in clusters"},
            {at + ".common_http_protocol_options.max_headers_count", "at least 1"}});
  bad_with(typed("explicit_http_config: {}"), {{at + ".explicit_http_config", "needs http_protocol_options or"}});
  bad_with(typed("explicit_http_config: {http_protocol_options: {}}") +
               "http2_protocol_options: {}\nhttp_protocol_options: {}\ncommon_http_protocol_options: {}\n",
           {{"http2_protocol_options", "deprecated"},
            {"http_protocol_options", "deprecated"},
            {"common_http_protocol_options", "deprecated"}});
  bad_with(typed("use_downstream_protocol_config: {http2_protocol_options: {max_concurrent_streams: 0}}"),
           {{at + ".use_downstream_protocol_config.http2_protocol_options.max_concurrent_streams", "from 1 to"}});
  bad_with("http2_protocol_options: {}\nhttp_protocol_options: {}\n",
           {{"http2_protocol_options", "exclude each other"}});
  bad_with("typed_extension_protocol_options: {other: {'@type': envoy.config.core.v3.Node}}\n",
           {{"typed_extension_protocol_options[\"other\"]", "is not known"}});
}

TEST(Cluster, TcpOptions) {
  const std::string key = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions";
  const auto idle = [&](const std::string& value) {
    return "typed_extension_protocol_options: {" + key + ": {'@type': " + key + value + "}}\n";
  };
  EXPECT_EQ(good_with("").tcp_idle_timeout_ms, 600'000u);
  EXPECT_EQ(good_with(idle("")).tcp_idle_timeout_ms, 600'000u);
  EXPECT_EQ(good_with(idle(", idle_timeout: 8s")).tcp_idle_timeout_ms, 8'000u);
  EXPECT_EQ(good_with(idle(", idle_timeout: 0s")).tcp_idle_timeout_ms, 0u);
  // It says nothing of HTTP: the deprecated fields beside it stay.
  EXPECT_EQ(good_with(idle("") + "common_http_protocol_options: {idle_timeout: 3s}\n").idle_timeout_ms, 3'000u);
  bad_with(idle(", idle_timeout: -1s"),
           {{"typed_extension_protocol_options[\"" + key + "\"].idle_timeout", "negative"}});
  bad_with("typed_extension_protocol_options: {" + key + ": {'@type': envoy.config.core.v3.Node}}\n",
           {{"typed_extension_protocol_options[\"" + key + "\"]", "TcpProtocolOptions"}});
}

TEST(Cluster, Eds) {
  const std::string eds = "\"@type\": envoy.config.cluster.v3.Cluster\nname: c\ntype: EDS\n";
  const ClusterSpec spec = good(eds +
                                "eds_cluster_config: {service_name: s, eds_config: {ads: {}, resource_api_version: V3, "
                                "initial_fetch_timeout: 0s}}\n");
  EXPECT_EQ(spec.discovery, ClusterSpec::Discovery::kEds);
  EXPECT_EQ(spec.eds_service_name, "s");
  EXPECT_EQ(spec.eds_source, (ConfigSourceSpec{.initial_fetch_timeout_ms = 0}));
  EXPECT_EQ(
      good(eds +
           "eds_cluster_config: {eds_config: {path_config_source: {path: /a/b, watched_directory: {path: /a}}}}\n")
          .eds_source,
      (ConfigSourceSpec{.kind = ConfigSourceSpec::Kind::kFile, .path = "/a/b", .watched_directory = "/a"}));
  EXPECT_EQ(good(eds + "eds_cluster_config: {eds_config: {path: /a/b}}\n").eds_source,
            (ConfigSourceSpec{.kind = ConfigSourceSpec::Kind::kFile, .path = "/a/b"}));
  bad(eds, {{"eds_cluster_config.eds_config", "is required"}});
  bad(eds + "eds_cluster_config: {eds_config: {path_config_source: {watched_directory: {}}}}\n",
      {{"eds_cluster_config.eds_config.path_config_source.path", "must not be empty"},
       {"eds_cluster_config.eds_config.path_config_source.watched_directory.path", "must not be empty"}});
  bad(with(kCluster, "name: c\n", "name: c\ntype: EDS\neds_cluster_config: {eds_config: {ads: {}}}\n"),
      {{"load_assignment", "gets its hosts by EDS"}});
  bad_with("eds_cluster_config: {eds_config: {ads: {}}}\n", {{"eds_cluster_config", "needs type: EDS"}});
}

std::string aggregate_of(std::string_view clusters) {
  return "\"@type\": envoy.config.cluster.v3.Cluster\nname: c\nlb_policy: CLUSTER_PROVIDED\ncluster_type: {name: "
         "envoy.clusters.aggregate, typed_config: {'@type': envoy.extensions.clusters.aggregate.v3.ClusterConfig, "
         "clusters: " +
         std::string(clusters) + "}}\n";
}

TEST(Cluster, Aggregate) {
  const ClusterSpec spec = good(aggregate_of("[a, b]") + "connect_timeout: 0.25s\n");
  EXPECT_EQ(spec.discovery, ClusterSpec::Discovery::kAggregate);
  EXPECT_EQ(spec.members, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(good(aggregate_of("a")).members, (std::vector<std::string>{"a"}));
  const std::string at = "cluster_type.typed_config.clusters";
  bad(aggregate_of("[]"), {{at, "at least one"}});
  bad(aggregate_of("[a, '', b, a]"), {{at + "[1]", "must not be empty"}, {at + "[3]", "\"a\" is there twice"}});
  bad(with(aggregate_of("a"), "CLUSTER_PROVIDED", "ROUND_ROBIN"), {{"lb_policy", "needs CLUSTER_PROVIDED"}});
  bad_with("lb_policy: CLUSTER_PROVIDED\n", {{"lb_policy", "no other has it"}});
  bad(with(aggregate_of("a"), "envoy.clusters.aggregate,", "envoy.clusters.redis,"),
      {{"cluster_type.name", "\"envoy.clusters.redis\" is not supported"}});
  bad(with(aggregate_of("a"), "envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: a",
           "envoy.config.core.v3.Node"),
      {{"cluster_type.typed_config", "expected type envoy.extensions.clusters.aggregate.v3.ClusterConfig"}});
  bad(aggregate_of("a") + "load_assignment: {cluster_name: c}\neds_cluster_config: {}\n",
      {{"load_assignment", "no hosts of its own"}, {"eds_cluster_config", "no hosts of its own"}});
}

TEST(Cluster, Mistakes) {
  bad(with(kCluster, "name: c\n", ""), {{"name", "must not be empty"}});
  bad_with(R"(connect_timeout: 0s
per_connection_buffer_limit_bytes: 0
least_request_lb_config: {choice_count: 1}
circuit_breakers: {thresholds: [{}, {}, {priority: HIGH}]}
common_http_protocol_options: {idle_timeout: -1s}
dns_refresh_rate: 0.001s
transport_socket: {name: tls}
)",
           {{"connect_timeout", "above 0"},
            {"per_connection_buffer_limit_bytes", "at least 1"},
            {"least_request_lb_config", "needs lb_policy"},
            {"least_request_lb_config.choice_count", "at least 2"},
            {"circuit_breakers.thresholds[1].priority", "already"},
            {"common_http_protocol_options.idle_timeout", "negative"},
            {"dns_refresh_rate", "above 1 ms"},
            {"transport_socket.typed_config", "is required"}});
  bad_with("lb_policy: RING_HASH\ntype: NEXT_DOOR\noutlier_detection: {}\n",
           {{"lb_policy", "RING_HASH"}, {"type", "NEXT_DOOR"}, {"outlier_detection", "no supported field"}});
}

TEST(Cluster, HostsFitTheType) {
  const std::string at(kEndpoint);
  bad(with(kCluster, "127.0.0.1", "backend.example"),
      {{at + ".address.socket_address.address", "needs a cluster of type STRICT_DNS or LOGICAL_DNS"}});
  bad(with(kCluster, "port_value: 80", "port_value: 0"),
      {{at + ".address.socket_address.port_value", "from 1 to 65535"}});
  bad(with(kCluster, "{address: {socket_address: {address: 127.0.0.1, port_value: 80}}}", "{}"),
      {{at + ".address", "is required"}});
  bad(with(kCluster, "endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}",
           "load_balancing_weight: 0"),
      {{at, "is required"}, {"load_assignment.endpoints[0].lb_endpoints[0].load_balancing_weight", "at least 1"}});
  const std::string dns = with(kCluster, "name: c\n", "name: c\ntype: STRICT_DNS\n");
  bad(with(dns, "127.0.0.1", "'a b'"),
      {{at + ".address.socket_address.address", "neither an IP address nor a host name"}});
  bad(with(dns, "socket_address: {address: 127.0.0.1, port_value: 80}", "pipe: {path: /a}"),
      {{at + ".address.pipe", "cannot have Unix sockets"}});
  bad("\"@type\": envoy.config.cluster.v3.Cluster\nname: c\ntype: STRICT_DNS\n",
      {{"load_assignment", "is required for type STRICT_DNS"}});
  bad(with(kCluster, "  cluster_name: c\n", ""), {{"load_assignment.cluster_name", "must not be empty"}});
  EXPECT_EQ(good(with(kCluster, "socket_address: {address: 127.0.0.1, port_value: 80}", "pipe: {path: /a}"))
                .endpoints.endpoints.at(0)
                .address,
            (AddressSpec{.kind = AddressSpec::Kind::kPipe, .host = "/a"}));
}

TEST(Cluster, LogicalDnsIsOneName) {
  const std::string dns = with(with(kCluster, "name: c\n", "name: c\ntype: LOGICAL_DNS\ndns_lookup_family: ALL\n"),
                               "127.0.0.1", "one.example");
  const ClusterSpec spec = good(dns);
  EXPECT_EQ(spec.discovery, ClusterSpec::Discovery::kLogicalDns);
  EXPECT_TRUE(spec.by_dns());
  EXPECT_EQ(spec.endpoints.endpoints.at(0).address.host, "one.example");
  const std::string two = dns + "    - endpoint: {address: {socket_address: {address: two.example, port_value: 80}}}\n";
  bad(two, {{"load_assignment.endpoints", "one locality with one endpoint"}});
  bad(dns + "  - {}\n", {{"load_assignment.endpoints", "one locality with one endpoint"}});
  bad("\"@type\": envoy.config.cluster.v3.Cluster\nname: c\ntype: LOGICAL_DNS\n",
      {{"load_assignment", "is required for type LOGICAL_DNS"}});
  bad(with(dns, "port_value: 80}}",
           "port_value: 80}}, additional_addresses: [{address: {socket_address: {address: "
           "::1, port_value: 80}}}]"),
      {{std::string(kEndpoint) + ".additional_addresses", "type STATIC or EDS"}});
}

TEST(Cluster, AHostMayHaveOtherAddresses) {
  const std::string at = std::string(kEndpoint) + ".additional_addresses";
  const auto more = [](const std::string& list) {
    return with(kCluster, "port_value: 80}}", "port_value: 80}}, additional_addresses: [" + list + "]");
  };
  const std::string six = "{address: {socket_address: {address: '::1', port_value: 81}}}";
  const ClusterSpec spec = good(more(six + ", {address: {socket_address: {address: 127.0.0.2, port_value: 82}}}"));
  const EndpointSpec& endpoint = spec.endpoints.endpoints.at(0);
  ASSERT_TRUE(endpoint.addresses);
  EXPECT_EQ(endpoint.addresses->more,
            (std::vector<AddressSpec>{{.host = "::1", .port = 81}, {.host = "127.0.0.2", .port = 82}}));
  EXPECT_EQ(endpoint.addresses->name, "");
  EXPECT_FALSE(good(kCluster).endpoints.endpoints.at(0).addresses);
  bad(more("{}"), {{at + "[0].address", "needs socket_address or pipe"}});
  bad(more("{address: {pipe: {path: /a}}}"), {{at + "[0].address.pipe", "must be an IP address"}});
  bad(more("{address: {socket_address: {address: a.example, port_value: 1}}}"),
      {{at + "[0].address.socket_address.address", "is not an IPv4 or IPv6 address"}});
  std::string many = six;
  for (int i = 0; i < 31; ++i) many += ", " + six;
  bad(more(many), {{at, "has 32 entries, may have 31"}});
  bad(with(more(six), "socket_address: {address: 127.0.0.1, port_value: 80}", "pipe: {path: /a}"),
      {{at, "a host at a Unix socket"}});
}

TEST(Cluster, TheOrderOfAddressesAndPreconnecting) {
  const ClusterSpec spec = good_with(R"(upstream_connection_options:
  happy_eyeballs_config: {first_address_family_version: V6, first_address_family_count: 2}
preconnect_policy: {per_upstream_preconnect_ratio: 1.5, predictive_preconnect_ratio: 3}
)");
  EXPECT_EQ(spec.first_family, ClusterSpec::FirstFamily::kV6);
  EXPECT_EQ(spec.first_family_count, 2u);
  EXPECT_EQ(spec.preconnect_ratio, 1.5F);
  EXPECT_EQ(spec.predictive_preconnect_ratio, 3.0F);
  EXPECT_EQ(good_with("preconnect_policy: {}\nupstream_connection_options: {happy_eyeballs_config: {}}\n"),
            good(kCluster));
  bad_with(R"(upstream_connection_options: {happy_eyeballs_config: {first_address_family_count: 0}}
preconnect_policy: {per_upstream_preconnect_ratio: 0.5, predictive_preconnect_ratio: 3.5}
)",
           {{"upstream_connection_options.happy_eyeballs_config.first_address_family_count", "at least 1"},
            {"preconnect_policy.per_upstream_preconnect_ratio", "is 0.5, must be from 1 to 3"},
            {"preconnect_policy.predictive_preconnect_ratio", "is 3.5, must be from 1 to 3"}});
  bad_with("preconnect_policy: {predictive_preconnect_ratio: .nan}\n",
           {{"preconnect_policy.predictive_preconnect_ratio", "must be from 1 to 3"}});
}

TEST(Endpoints, HealthWeightsAndDuplicates) {
  Loader loader;
  const auto out = loader.resource(R"("@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
cluster_name: c
endpoints:
- lb_endpoints:
  - {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}, health_status: HEALTHY, load_balancing_weight: 2}
  - {endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 1}}}, health_status: DEGRADED}
  - {endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 1}}}, health_status: UNHEALTHY}
- lb_endpoints:
  - {endpoint: {address: {socket_address: {address: 10.0.0.4, port_value: 1}}}, health_status: DRAINING}
  - {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}, load_balancing_weight: 9}
  - {endpoint: {address: {socket_address: {address: 10.0.0.5, port_value: 1}}}, health_status: TIMEOUT}
)");
  ASSERT_TRUE(out.spec) << out.faults.str();
  EXPECT_EQ(out.type, ResourceType::kEndpoints);
  const auto& spec = std::get<EndpointsSpec>(*out.spec);
  const auto host = [](std::string ip) { return AddressSpec{.host = std::move(ip), .port = 1}; };
  EXPECT_EQ(spec.endpoints,
            (std::vector<EndpointSpec>{{.address = host("10.0.0.1"), .weight = 2},
                                       {.address = host("10.0.0.2")},
                                       {.address = host("10.0.0.3"), .healthy = false},
                                       {.address = host("10.0.0.4"), .healthy = false, .draining = true},
                                       {.address = host("10.0.0.5"), .healthy = false}}));
}

TEST(Endpoints, Mistakes) {
  bad(R"("@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
endpoints:
- priority: 1
  lb_endpoints:
  - {endpoint: {address: {socket_address: {address: a.example, port_value: 1}}}, load_balancing_weight: 4294967295}
  - {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}}
)",
      {{"cluster_name", "must not be empty"},
       {"endpoints[0].priority", "only priority 0"},
       {"endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
        "needs a cluster of type STRICT_DNS or LOGICAL_DNS"},
       {"endpoints", "the weights sum to 4294967296"}});
}

}  // namespace
}  // namespace outrigger::config::testing
