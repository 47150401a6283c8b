// Active health checks by a whole proxy: real hosts, among them a stock gRPC server with its own health service.
#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>

#include "running_server.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/socket.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using test::http_get;
using test::wait_until;

std::string host(uint16_t port, const std::string& more = {}) {
  return "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " + std::to_string(port) + "}}" +
         more + "}}";
}

// Checks every 20 ms, also while there is no traffic.
std::string checked_cluster(const std::vector<std::string>& hosts, const std::string& check,
                            const std::string& more = {}) {
  std::string list;
  for (const std::string& one : hosts) list += (list.empty() ? "" : ", ") + one;
  return "{name: up, type: STATIC" + more +
         ", health_checks: [{timeout: 5s, interval: 0.02s, no_traffic_interval: 0.02s, healthy_threshold: 2, " +
         "unhealthy_threshold: 2, " + check + "}], load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [" +
         list + "]}]}}";
}

std::string to_up() { return inline_routes("{match: {prefix: /}, route: {cluster: up}}"); }

struct Proxy : RunningServer {
  explicit Proxy(const std::string& cluster) : RunningServer(bootstrap({listener_yaml("main", to_up())}, {cluster})) {}
  uint64_t stat(const std::string& name) {
    const std::string body = admin("/stats?filter=cluster.up." + name + "$").body;
    const size_t at = body.find(": ");
    return at == std::string::npos ? 0 : std::stoull(body.substr(at + 2));
  }
  bool comes(const std::string& name, uint64_t value) {
    return wait_until([&] { return stat(name) == value; });
  }
  test::HttpMessage get() { return http_get(port("main"), "/"); }
};

// An HTTP/1 host that answers checks with what it is told to, and requests with its name.
struct Host {
  explicit Host(std::string name)
      : upstream([this, name](test::Exchange& e) {
          if (e.request.target() != "/healthz") return e.respond(200, name);
          ++checks;
          e.respond(status);
        }) {}
  std::atomic<int> status = 200, checks = 0;
  // What the first check called it.
  std::string called() const { return upstream.requests().at(0).header("host").value_or(""); }
  test::FakeUpstream upstream;
};

constexpr const char* kHttp = "http_health_check: {path: /healthz}";

TEST(HealthChecks, AnUnhealthyHostGetsNoRequestsUntilItIsWellAgain) {
  Host a("a"), b("b");
  Proxy proxy(checked_cluster({host(a.upstream.port()), host(b.upstream.port())}, kHttp));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(proxy.comes("membership_healthy", 2));
  EXPECT_TRUE(proxy.comes("health_check.healthy", 2));
  a.status = 503;  // what a host says itself counts at once
  EXPECT_TRUE(proxy.comes("membership_healthy", 1));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(proxy.get().body, "b");
  EXPECT_NE(proxy.admin("/clusters").body.find("health_flags::/failed_active_hc"), std::string::npos);
  a.status = 200;
  EXPECT_TRUE(proxy.comes("membership_healthy", 2));
  EXPECT_TRUE(wait_until([&] { return proxy.get().body == "a"; }));
  EXPECT_GT(proxy.stat("health_check.failure"), 0u);
  EXPECT_EQ(proxy.stat("health_check.network_failure"), 0u);
  EXPECT_GT(a.checks, 3);
  EXPECT_EQ(a.called(), "up");
}

TEST(HealthChecks, PanicUsesAllHostsUnlessItIsTurnedOff) {
  Host a("a");
  a.status = 500;
  {
    Proxy proxy(checked_cluster({host(a.upstream.port())}, kHttp));
    ASSERT_TRUE(proxy.live());
    EXPECT_EQ(proxy.get().body, "a");
    EXPECT_GT(proxy.stat("lb_healthy_panic"), 0u);
  }
  Proxy proxy(
      checked_cluster({host(a.upstream.port())}, kHttp, ", common_lb_config: {healthy_panic_threshold: {value: 0}}"));
  ASSERT_TRUE(proxy.live()) << "the first check ends the wait, however it ends";
  EXPECT_EQ(proxy.get().status(), 503);
  EXPECT_EQ(proxy.stat("lb_healthy_panic"), 0u);
  a.status = 200;
  EXPECT_TRUE(wait_until([&] { return proxy.get().body == "a"; }));
}

TEST(HealthChecks, RefusedConnectionsCountAgainstTheThreshold) {
  Host a("a");
  Proxy proxy(checked_cluster({host(a.upstream.port()), host(test::refused_port())}, kHttp));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(proxy.comes("membership_healthy", 1));
  EXPECT_GT(proxy.stat("health_check.network_failure"), 0u);
  EXPECT_EQ(proxy.get().body, "a");
}

TEST(HealthChecks, TheEndpointSaysWhereAndAsWhatItIsChecked) {
  Host a("a"), checks("checks");
  Proxy proxy(checked_cluster(
      {host(a.upstream.port(),
            ", health_check_config: {hostname: me, port_value: " + std::to_string(checks.upstream.port()) + "}"),
       host(test::refused_port(), ", health_check_config: {disable_active_health_check: true}")},
      kHttp));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(proxy.comes("membership_healthy", 2));
  EXPECT_GT(checks.checks, 0);
  EXPECT_EQ(a.checks, 0);
  EXPECT_EQ(checks.called(), "me");
}

TEST(HealthChecks, Tcp) {
  test::ListenSocket listening;
  Proxy proxy(checked_cluster({host(listening.port())}, "tcp_health_check: {}"));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(proxy.comes("membership_healthy", 1));
  Host a("a");
  Proxy asking(checked_cluster({host(a.upstream.port())},
                               "tcp_health_check: {send: {text: "
                               "474554202f6865616c74687a20485454502f312e310d0a686f73743a20780d0a0d0a}, "
                               "receive: [{binary: SFRUUC8xLjE=}, {text: \"323030\"}]}"));
  ASSERT_TRUE(asking.live());
  EXPECT_TRUE(asking.comes("membership_healthy", 1)) << "GET /healthz finds HTTP/1.1, then 200";
}

struct GrpcHost {
  GrpcHost() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterCallbackGenericService(&others);
    server = builder.BuildAndStart();
  }
  ~GrpcHost() { server->Shutdown(std::chrono::system_clock::now()); }
  void serving(const std::string& service, bool yes) {
    server->GetHealthCheckService()->SetServingStatus(service, yes);
  }
  int port = 0;
  grpc::CallbackGenericService others;  // UNIMPLEMENTED
  std::unique_ptr<grpc::Server> server;
};

TEST(HealthChecks, AStockGrpcServerTellsItsHealth) {
  GrpcHost a;
  a.serving("shop.Cart", true);
  Proxy proxy(checked_cluster({host(static_cast<uint16_t>(a.port))}, "grpc_health_check: {service_name: shop.Cart}",
                              ", http2_protocol_options: {}"));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(proxy.comes("membership_healthy", 1));
  const uint64_t checks = proxy.stat("health_check.success");
  EXPECT_TRUE(wait_until([&] { return proxy.stat("health_check.success") > checks + 5; }));
  a.serving("shop.Cart", false);
  EXPECT_TRUE(proxy.comes("membership_healthy", 0));
  a.serving("shop.Cart", true);
  EXPECT_TRUE(proxy.comes("membership_healthy", 1));
  EXPECT_EQ(proxy.stat("health_check.network_failure"), 0u);
}

TEST(HealthChecks, AServiceThatAGrpcServerDoesNotKnowIsUnhealthy) {
  GrpcHost a;
  Proxy proxy(checked_cluster({host(static_cast<uint16_t>(a.port))}, "grpc_health_check: {service_name: nobody}",
                              ", http2_protocol_options: {}"));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(wait_until([&] { return proxy.stat("health_check.failure") > 3; }));
  EXPECT_EQ(proxy.stat("membership_healthy"), 0u);
  EXPECT_EQ(proxy.stat("health_check.network_failure"), 0u);
}

TEST(HealthChecks, ASilentHostTimesOut) {
  test::ListenSocket silent;
  const std::string cluster = checked_cluster({host(silent.port())}, kHttp);
  std::string hasty = cluster;
  hasty.replace(hasty.find("timeout: 5s"), 11, "timeout: 0.05s");
  Proxy proxy(hasty);
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(wait_until([&] { return proxy.stat("health_check.network_failure") > 2; }));
  EXPECT_NE(proxy.admin("/clusters").body.find("/failed_active_hc/active_hc_timeout"), std::string::npos);
}

// A cluster of type EDS whose file names `hosts`.
void name_hosts(const std::string& file, const std::vector<std::string>& hosts) {
  std::string list;
  for (const std::string& one : hosts) list += (list.empty() ? "" : ", ") + one;
  test::write_file(file,
                   "resources: [{\"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, "
                   "cluster_name: up, endpoints: [{lb_endpoints: [" +
                       list + "]}]}]\n");
}
std::string eds_cluster(const std::string& file, const std::string& more) {
  std::string cluster = checked_cluster({}, kHttp, more);
  cluster.erase(cluster.find(", load_assignment"));
  cluster.replace(cluster.find("STATIC"), 6, "EDS");
  return cluster + ", eds_cluster_config: {eds_config: {path_config_source: {path: \"" + file + "\"}}}}";
}

TEST(HealthChecks, AHealthyHostThatIsNamedNoLongerStaysUntilItFails) {
  Host a("a"), b("b");
  test::TempDir dir;
  const std::string file = dir / "eds.yaml";
  name_hosts(file, {host(a.upstream.port()), host(b.upstream.port())});
  Proxy proxy(eds_cluster(file, ""));
  ASSERT_TRUE(proxy.live());
  ASSERT_TRUE(proxy.comes("membership_healthy", 2));
  name_hosts(file, {host(b.upstream.port())});
  EXPECT_TRUE(wait_until([&] {
    return proxy.admin("/clusters").body.find("health_flags::/pending_dynamic_removal") != std::string::npos;
  }));
  EXPECT_EQ(proxy.stat("membership_total"), 2u);
  EXPECT_TRUE(wait_until([&] { return proxy.get().body == "a"; })) << "it still takes requests";
  a.status = 503;
  EXPECT_TRUE(proxy.comes("membership_total", 1));
  EXPECT_TRUE(a.upstream.wait_for_open(0)) << "its checks and pools end";
  for (int i = 0; i < 10; ++i) EXPECT_EQ(proxy.get().body, "b");
}

TEST(HealthChecks, IgnoreHealthOnHostRemovalLetsItGoAtOnce) {
  Host a("a"), b("b");
  test::TempDir dir;
  const std::string file = dir / "eds.yaml";
  name_hosts(file, {host(a.upstream.port()), host(b.upstream.port())});
  Proxy proxy(eds_cluster(file, ", ignore_health_on_host_removal: true"));
  ASSERT_TRUE(proxy.live());
  ASSERT_TRUE(proxy.comes("membership_healthy", 2));
  name_hosts(file, {host(b.upstream.port())});
  EXPECT_TRUE(proxy.comes("membership_total", 1));
  EXPECT_TRUE(a.upstream.wait_for_open(0));
}

std::string tcp_listener() {
  return "{name: main, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: "
         "[{name: tcp, typed_config: {\"@type\": "
         "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: "
         "up}}]}]}";
}

TEST(HealthChecks, TcpConnectionsToAFailedHostAreClosedIfTheClusterSaysSo) {
  for (const bool closes : {true, false}) {
    Host checks("checks");
    test::ListenSocket listening;
    const std::string more = closes ? ", close_connections_on_host_health_failure: true" : "";
    RunningServer proxy(bootstrap(
        {tcp_listener()}, {checked_cluster({host(listening.port(), ", health_check_config: {port_value: " +
                                                                       std::to_string(checks.upstream.port()) + "}")},
                                           kHttp, more)}));
    ASSERT_TRUE(proxy.live());
    test::Socket client = test::Socket::connect(proxy.port("main"));
    test::Socket peer = listening.accept();
    client.send("ping");
    ASSERT_EQ(peer.recv_exactly(4), "ping");
    checks.status = 503;
    ASSERT_TRUE(wait_until(
        [&] { return proxy.admin("/clusters").body.find("health_flags::/failed_active_hc") != std::string::npos; }));
    if (closes) {
      EXPECT_EQ(client.recv_to_eof(), "");
      EXPECT_EQ(peer.recv_to_eof(), "");
    } else {
      EXPECT_TRUE(client.quiet_for(50));
      peer.send("pong");
      EXPECT_EQ(client.recv_exactly(4), "pong");
    }
  }
}

}  // namespace
}  // namespace outrigger::server
