// Active health checks of clusters and what endpoints say of them.
#include <gtest/gtest.h>

#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

constexpr std::string_view kEndpoint = "load_assignment.endpoints[0].lb_endpoints[0].endpoint";
constexpr std::string_view kTimes = "timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 2, ";

std::string cluster(std::string_view lines, std::string_view endpoint = {}) {
  return "\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\nname: c\n" + std::string(lines) +
         "load_assignment:\n  cluster_name: c\n  endpoints:\n  - lb_endpoints:\n"
         "    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}" +
         std::string(endpoint) + "}\n";
}
std::string checked(std::string_view check) {
  return cluster("health_checks: [{" + std::string(kTimes) + std::string(check) + "}]\n");
}

ClusterSpec good(const std::string& yaml) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_EQ(out.faults.str(), "") << yaml;
  return out.spec ? std::get<ClusterSpec>(*out.spec) : ClusterSpec{};
}
HealthCheckSpec good_check(std::string_view check) {
  const ClusterSpec spec = good(checked(check));
  EXPECT_TRUE(spec.health_check);
  return spec.health_check ? *spec.health_check : HealthCheckSpec{};
}

void bad(const std::string& yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}
void bad_check(std::string_view check, std::vector<Expected> expected) {
  for (Expected& one : expected) one.path = one.path.empty() ? "health_checks[0]" : "health_checks[0]." + one.path;
  bad(checked(check), std::move(expected));
}

TEST(HealthCheck, TimesAndTheirDefaults) {
  HealthCheckSpec want;
  want.kind = HealthCheckSpec::Kind::kTcp;
  want.timeout_ms = 1000;
  want.interval_ms = want.unhealthy_interval_ms = want.unhealthy_edge_interval_ms = want.healthy_edge_interval_ms =
      5000;
  want.unhealthy_threshold = 3;
  want.healthy_threshold = 2;
  EXPECT_EQ(good_check("tcp_health_check: {}"), want);

  want.initial_jitter_ms = 100;
  want.interval_jitter_ms = 200;
  want.interval_jitter_percent = 10;
  want.no_traffic_interval_ms = want.no_traffic_healthy_interval_ms = 20'000;
  want.unhealthy_interval_ms = want.unhealthy_edge_interval_ms = 2000;
  want.reuse_connection = false;
  want.log_failures = want.log_successes = true;
  want.alpn_protocols = {"a", "b"};
  const std::string all =
      "tcp_health_check: {}, initial_jitter: 0.1s, interval_jitter: 0.2s, interval_jitter_percent: 10, "
      "no_traffic_interval: 20s, unhealthy_interval: 2s, reuse_connection: false, "
      "always_log_health_check_failures: true, always_log_health_check_success: true, "
      "tls_options: {alpn_protocols: [a, b]}";
  EXPECT_EQ(good_check(all), want);
  want.no_traffic_healthy_interval_ms = 30'000;
  want.unhealthy_edge_interval_ms = 500;
  want.healthy_edge_interval_ms = 600;
  EXPECT_EQ(good_check(all + ", no_traffic_healthy_interval: 30s, unhealthy_edge_interval: 0.5s, "
                             "healthy_edge_interval: 0.6s"),
            want);
}

TEST(HealthCheck, Http) {
  const HealthCheckSpec plain = good_check("http_health_check: {path: /healthz}");
  EXPECT_EQ(plain.kind, HealthCheckSpec::Kind::kHttp);
  EXPECT_EQ(plain.path, "/healthz");
  EXPECT_EQ(plain.method, "GET");
  EXPECT_EQ(plain.expected, (std::vector<HealthCheckSpec::Statuses>{{200, 201}}));
  EXPECT_FALSE(plain.speaks_http2());

  const HealthCheckSpec full = good_check(
      "http_health_check: {host: h.example, path: '/p?q=1', method: HEAD, codec_client_type: HTTP2, "
      "expected_statuses: [{start: 200, end: 300}, {start: 404, end: 405}], retriable_statuses: [{start: 500, end: "
      "600}], request_headers_to_add: [{header: {key: X-A, value: '1'}}, {header: {key: x-a, value: '2'}}, "
      "{header: {key: user-agent, value: me}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]}");
  EXPECT_EQ(full.host, "h.example");
  EXPECT_EQ(full.method, "HEAD");
  EXPECT_TRUE(full.speaks_http2());
  EXPECT_EQ(full.expected, (std::vector<HealthCheckSpec::Statuses>{{200, 300}, {404, 405}}));
  EXPECT_EQ(full.retriable, (std::vector<HealthCheckSpec::Statuses>{{500, 600}}));
  EXPECT_EQ(full.headers,
            (std::vector<std::pair<std::string, std::string>>{{"x-a", "1"}, {"x-a", "2"}, {"user-agent", "me"}}));

  bad_check("http_health_check: {}", {{"http_health_check.path", "must not be empty"}});
  bad_check("http_health_check: {path: /a b}", {{"http_health_check.path", "blanks"}});
  bad_check("http_health_check: {path: /, method: CONNECT}", {{"http_health_check.method", "CONNECT"}});
  bad_check("http_health_check: {path: /, expected_statuses: [{start: 99, end: 200}, {start: 300, end: 300}]}",
            {{"http_health_check.expected_statuses[0]", "from 99 to 200"},
             {"http_health_check.expected_statuses[1]", "below end"}});
  bad_check("http_health_check: {path: /, request_headers_to_add: [{header: {key: a, value: '%PROTOCOL%'}}]}",
            {{"http_health_check.request_headers_to_add[0].header.value", "literal"}});
}

TEST(HealthCheck, Tcp) {
  const HealthCheckSpec spec =
      good_check("tcp_health_check: {send: {text: '50494E470a'}, receive: [{binary: UE9ORw==}]}");
  EXPECT_EQ(spec.send, "PING\n");
  EXPECT_EQ(spec.receive, (std::vector<std::string>{"PONG"}));
  bad_check("tcp_health_check: {send: {text: '5'}, receive: [{text: zz}, {text: ''}, {}]}",
            {{"tcp_health_check.send.text", "hexadecimal"},
             {"tcp_health_check.receive[0].text", "hexadecimal"},
             {"tcp_health_check.receive[1].text", "must not be empty"},
             {"tcp_health_check.receive[2]", "needs text or binary"}});
}

TEST(HealthCheck, GrpcNeedsHttp2) {
  const std::string check = "{" + std::string(kTimes) +
                            "grpc_health_check: {service_name: s, authority: a.example, initial_metadata: [{header: "
                            "{key: token, value: t}}]}}";
  const ClusterSpec spec = good(cluster("http2_protocol_options: {}\nhealth_checks: [" + check + "]\n"));
  ASSERT_TRUE(spec.health_check);
  EXPECT_EQ(spec.health_check->kind, HealthCheckSpec::Kind::kGrpc);
  EXPECT_EQ(spec.health_check->service, "s");
  EXPECT_EQ(spec.health_check->host, "a.example");
  EXPECT_EQ(spec.health_check->headers, (std::vector<std::pair<std::string, std::string>>{{"token", "t"}}));
  EXPECT_TRUE(spec.health_check->speaks_http2());
  bad_check("grpc_health_check: {}", {{"grpc_health_check", "needs a cluster that speaks HTTP/2"}});
}

TEST(HealthCheck, WhatIsMissingOrTooMuch) {
  bad(cluster("health_checks: [{}]\n"), {{"health_checks[0].timeout", "is required"},
                                         {"health_checks[0].interval", "is required"},
                                         {"health_checks[0].unhealthy_threshold", "is required"},
                                         {"health_checks[0].healthy_threshold", "is required"},
                                         {"health_checks[0]", "needs http_health_check"}});
  bad_check("tcp_health_check: {}, unhealthy_interval: 0s", {{"unhealthy_interval", "above 0"}});
  bad_check("tcp_health_check: {}, alt_port: 9", {{"alt_port", ""}});
  const std::string one = "{" + std::string(kTimes) + "tcp_health_check: {}}";
  bad(cluster("health_checks: [" + one + ", " + one + "]\n"), {{"health_checks", "one is supported"}});
}

TEST(HealthCheck, OfEndpoints) {
  const auto endpoint = [](std::string_view check) {
    return cluster("", ", health_check_config: {" + std::string(check) + "}");
  };
  const ClusterSpec spec = good(endpoint("port_value: 81, hostname: h, disable_active_health_check: true"));
  const EndpointCheckSpec want{.address = {}, .port = 81, .hostname = "h", .disabled = true};
  ASSERT_TRUE(spec.endpoints.endpoints.at(0).check);
  EXPECT_EQ(*spec.endpoints.endpoints[0].check, want);
  const std::string address = "address: {socket_address: {address: 127.0.0.9, port_value: 82}}";
  const ClusterSpec elsewhere = good(endpoint(address));
  ASSERT_TRUE(elsewhere.endpoints.endpoints.at(0).check);
  EXPECT_EQ(elsewhere.endpoints.endpoints[0].check->address,
            (AddressSpec{.kind = AddressSpec::Kind::kIp, .host = "127.0.0.9", .port = 82}));
  const std::string at = std::string(kEndpoint) + ".health_check_config.port_value";
  bad(endpoint("port_value: 65536"), {{at, "at most 65535"}});
  bad(endpoint("port_value: 1, " + address), {{at, "exclude each other"}});
}

TEST(HealthCheck, WhatTheClusterMakesOfIt) {
  const ClusterSpec plain = good(cluster(""));
  EXPECT_EQ(plain.healthy_panic_percent, 50);
  EXPECT_FALSE(plain.ignore_health_on_host_removal || plain.close_connections_on_host_health_failure);
  const ClusterSpec spec =
      good(cluster("common_lb_config: {healthy_panic_threshold: {value: 12.5}}\nignore_health_on_host_removal: true\n"
                   "close_connections_on_host_health_failure: true\n"));
  EXPECT_EQ(spec.healthy_panic_percent, 12);
  EXPECT_TRUE(spec.ignore_health_on_host_removal && spec.close_connections_on_host_health_failure);
  bad(cluster("common_lb_config: {healthy_panic_threshold: {value: 101}}\n"),
      {{"common_lb_config.healthy_panic_threshold.value", "from 0 to 100"}});
}

}  // namespace
}  // namespace outrigger::config::testing
