// What the data plane does when a host's health changes or the host goes: whom requests go to, which connections end.
#include <map>
#include <optional>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
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
  void serve_http(config::ClusterSpec cluster, std::vector<uint16_t> ports) {
    plane.accept(std::move(cluster));
    plane.accept(endpoints("up", std::move(ports)));
    plane.accept(all_to("up"));
    plane.update(listener("main", "t"));
  }
  // As the health checker does; the host is known once the checks are asked for.
  void find(uint16_t port, uint8_t health) {
    for (const upstream::HealthTarget& target : plane.store().take_health_targets())
      for (const auto& one : target.hosts) hosts[one.host->address.port()] = {target.part, one.host};
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
  plane.update(endpoints("up", {}));
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
  plane.update(endpoints("up", {}));
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
  plane.update(endpoints("up", {}));
  EXPECT_TRUE(a.wait_for_open(1)) << "the idle one goes at once";
  EXPECT_EQ(status(), 503);
  a.release();
  EXPECT_EQ(slow.read_response().body, "whole");
  EXPECT_TRUE(a.wait_for_open(0));
}

// A host that speaks HTTP/2: one connection of the proxy's, one stream of which is under way.
struct BusyH2Host {
  void take() {
    peer.emplace(listener.accept());
    EXPECT_EQ(peer->socket.recv_exactly(24), test::h2::preface());
    peer->socket.send(test::h2::settings());
    EXPECT_TRUE(peer->read_head(1));
  }
  void answer(uint32_t stream) { peer->socket.send(test::h2::headers(stream, {{":status", "200"}})); }
  // The connection ends, with a goodbye and without having seen another stream than the first.
  void expect_end() {
    peer->read_until([] { return false; });
    EXPECT_EQ(peer->socket.end(), Socket::End::kEof);
    EXPECT_EQ(peer->reader.code(0), 0);
    EXPECT_EQ(peer->reader.find(test::h2::kHeaders, 3), nullptr);
  }
  uint16_t port() const { return listener.port(); }
  ListenSocket listener;
  std::optional<test::H2Peer> peer;
};

config::ClusterSpec h2(config::ClusterSpec cluster) {
  cluster.codec = config::ClusterSpec::Codec::kHttp2;
  return cluster;
}

TEST_F(HealthOfHosts, ARemovedHostsHttp2StreamsFinishAndNoneComes) {
  BusyH2Host a, b;
  serve_http(h2(eds_cluster("up")), {a.port()});
  test::HttpClient slow(plane.port()), next(plane.port());
  slow.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
  a.take();
  plane.update(endpoints("up", {b.port()}));
  next.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  b.take();
  b.answer(1);
  EXPECT_EQ(next.read_response().status(), 200);
  a.answer(1);
  EXPECT_EQ(slow.read_response().status(), 200);
  a.expect_end();
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.up.upstream_cx_active") == 1; }));
  // An idle one goes at once.
  plane.update(endpoints("up", {}));
  b.expect_end();
  EXPECT_EQ(status(), 503);
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.up.upstream_cx_active") == 0; }));
  EXPECT_EQ(plane.stat("cluster.up.upstream_rq_active"), 0u);
}

// With and without close_connections_on_host_health_failure, which is about TCP: streams finish in any case.
TEST_F(HealthOfHosts, AFailedHostsHttp2StreamsFinishAndNoneComes) {
  for (const bool close : {false, true}) {
    BusyH2Host a;
    config::ClusterSpec cluster = h2(checked_cluster());
    cluster.close_connections_on_host_health_failure = close;
    cluster.ignore_health_on_host_removal = true;  // the host of the round before is gone
    serve_http(cluster, {a.port()});
    find(a.port(), 0);
    test::HttpClient slow(plane.port()), next(plane.port());
    slow.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    a.take();
    find(a.port(), upstream::kFailedCheck);
    EXPECT_EQ(status(), 503);
    find(a.port(), 0);
    // It is well again, and the old connection takes nothing more for all that.
    next.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    BusyH2Host again;
    again.peer.emplace(a.listener.accept());
    ASSERT_TRUE(again.peer->socket.valid());
    EXPECT_EQ(again.peer->socket.recv_exactly(24), test::h2::preface());
    again.peer->socket.send(test::h2::settings());
    ASSERT_TRUE(again.peer->read_head(1));
    again.answer(1);
    EXPECT_EQ(next.read_response().status(), 200);
    a.answer(1);
    EXPECT_EQ(slow.read_response().status(), 200);
    a.expect_end();
  }
}

TEST_F(HealthOfHosts, TcpConnectionsToAFailedHostEndIfTheClusterWantsIt) {
  for (const bool wanted : {false, true}) {
    ListenSocket server;
    config::ClusterSpec cluster = checked_cluster();
    cluster.close_connections_on_host_health_failure = wanted;
    plane.accept(cluster);
    plane.accept(endpoints("up", {server.port()}));
    config::ListenerSpec front = listener("main", "");
    front.filter_chains = {config::FilterChainSpec{}};
    front.filter_chains[0].tcp.emplace();
    front.filter_chains[0].tcp->targets = {{"up", 1}};
    plane.update(front);
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
