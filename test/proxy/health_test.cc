// What the data plane does when a host's health changes or the host goes: whom requests go to, which connections end.
#include <map>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/socket.h"

namespace outrigger::proxy {
namespace {

using test::FakeUpstream;
using test::ListenSocket;
using test::Socket;
using test::wait_until;

config::ClusterSpec checked_cluster() {
  config::ClusterSpec spec = eds_cluster("up");
  spec.health_check = config::HealthCheckSpec{};
  spec.healthy_panic_percent = 0;
  return spec;
}

class HealthOfHosts : public ::testing::Test {
 protected:
  void accept(config::Spec spec) {
    const auto verdict = plane.accept(std::move(spec));
    ASSERT_TRUE(verdict.has_value()) << verdict.error().detail;
  }
  void serve_http(config::ClusterSpec cluster, std::vector<uint16_t> ports) {
    accept(std::move(cluster));
    accept(endpoints("up", std::move(ports)));
    config::RouteTableSpec all = table("t", {"up"});
    all.virtual_hosts[0].routes[0].match.path.value = "/";
    accept(all);
    accept(listener("main", "t"));
    plane.publish();
  }
  // As the health checker does; the host is known once the checks are asked for.
  void find(uint16_t port, uint8_t health) {
    for (const upstream::HealthTarget& target : plane.store().take_health_targets())
      for (const auto& host : target.hosts) hosts[host->address.port()] = {target.part, host};
    const auto& [part, host] = hosts.at(port);
    host->health = health;
    part->state().health_epoch.fetch_add(1);
    if (health != 0) plane.run([&] { plane.worker().on_host_failed("up", *host); });
    plane.store().health_changed("up");
    plane.publish();
  }
  int status() { return test::http_get(plane.port(), "/").status(); }

  DataPlane plane;
  std::map<uint16_t, std::pair<std::shared_ptr<const upstream::Cluster>, std::shared_ptr<upstream::Host>>> hosts;
};

TEST_F(HealthOfHosts, AClusterWaitsForTheFirstCheckOfEachHost) {
  FakeUpstream a, b;
  serve_http(checked_cluster(), {a.port(), b.port()});
  EXPECT_EQ(plane.port(), 0) << "the listener waits for the cluster";
  find(a.port(), 0);
  EXPECT_EQ(plane.port(), 0);
  find(b.port(), upstream::kFailedCheck);
  ASSERT_NE(plane.port(), 0);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(status(), 200);
  EXPECT_EQ(a.request_count(), 4u);
  EXPECT_EQ(plane.stat("cluster.up.membership_healthy"), 1u);
  find(a.port(), upstream::kFailedCheck);
  EXPECT_EQ(status(), 503);
  find(b.port(), 0);
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(b.request_count(), 1u);
}

TEST_F(HealthOfHosts, AHealthyHostThatIsRemovedServesUntilItFails) {
  FakeUpstream a;
  serve_http(checked_cluster(), {a.port()});
  find(a.port(), 0);
  EXPECT_EQ(status(), 200);
  accept(endpoints("up", {}));
  plane.publish();
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(plane.stat("cluster.up.membership_total"), 1u);
  find(a.port(), upstream::kFailedCheck);
  EXPECT_EQ(plane.stat("cluster.up.membership_total"), 0u);
  EXPECT_EQ(status(), 503);
  EXPECT_TRUE(a.wait_for_open(0)) << "its connections have ended";
}

TEST_F(HealthOfHosts, UnlessThatIsIgnored) {
  FakeUpstream a;
  config::ClusterSpec cluster = checked_cluster();
  cluster.ignore_health_on_host_removal = true;
  serve_http(cluster, {a.port()});
  find(a.port(), 0);
  EXPECT_EQ(status(), 200);
  accept(endpoints("up", {}));
  plane.publish();
  EXPECT_EQ(status(), 503);
}

TEST_F(HealthOfHosts, ARemovedHostsIdleConnectionsCloseAndBusyOnesFinish) {
  FakeUpstream a([](test::Exchange& exchange) {
    if (exchange.request.start_line.find("/slow") != std::string::npos) exchange.stall();
    exchange.respond(200, "whole");
  });
  serve_http(eds_cluster("up"), {a.port()});
  test::HttpClient slow(plane.port());
  slow.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
  ASSERT_TRUE(a.wait_for_requests(1));
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(a.open(), 2u);
  accept(endpoints("up", {}));
  plane.publish();
  EXPECT_TRUE(a.wait_for_open(1)) << "the idle one goes at once";
  EXPECT_EQ(status(), 503);
  a.release();
  EXPECT_EQ(slow.read_response().body, "whole");
  EXPECT_TRUE(a.wait_for_open(0));
}

TEST_F(HealthOfHosts, TcpConnectionsToAFailedHostEndIfTheClusterWantsIt) {
  for (const bool wanted : {false, true}) {
    ListenSocket server;
    config::ClusterSpec cluster = checked_cluster();
    cluster.close_connections_on_host_health_failure = wanted;
    accept(cluster);
    accept(endpoints("up", {server.port()}));
    config::ListenerSpec front = listener("main", "");
    front.filter_chains = {config::FilterChainSpec{}};
    front.filter_chains[0].tcp.emplace();
    front.filter_chains[0].tcp->targets = {{"up", 1}};
    accept(front);
    plane.publish();
    find(server.port(), 0);
    Socket client = Socket::connect(plane.port());
    client.send("x");
    Socket host = server.accept();
    EXPECT_EQ(host.recv_exactly(1), "x");
    find(server.port(), upstream::kFailedCheck);
    if (wanted) {
      EXPECT_EQ(client.recv_to_eof(), "");
    } else {
      host.send("still");
      EXPECT_EQ(client.recv_exactly(5), "still");
    }
  }
}

}  // namespace
}  // namespace outrigger::proxy
