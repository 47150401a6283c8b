// Hosts with several addresses in the data plane: every kind of connection takes the one that answers, checks take the
// first, and a host stays who it is when its addresses change.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "proxy/tunnel_end.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/temp_dir.h"
#include "support/tls_tunnel.h"

namespace outrigger::proxy {
namespace {

using Codec = config::ClusterSpec::Codec;
using config::AddressSpec;
using test::FakeUpstream;
using test::ListenSocket;
using test::Socket;

AddressSpec at(uint16_t port, std::string ip = "127.0.0.1") {
  return {.kind = AddressSpec::Kind::kIp, .host = std::move(ip), .port = port};
}

config::EndpointSpec host_at(std::vector<AddressSpec> addresses, std::string name = {}) {
  config::EndpointSpec spec;
  spec.address = addresses.front();
  addresses.erase(addresses.begin());
  spec.addresses = config::EndpointAddressesSpec{.more = std::move(addresses), .name = std::move(name)};
  return spec;
}

class ManyAddresses : public ::testing::Test {
 protected:
  // A cluster with one host: an address that refuses, and `port`.
  static config::ClusterSpec cluster_to(uint16_t port, Codec codec = Codec::kHttp1) {
    config::ClusterSpec spec = static_cluster("up");
    spec.codec = codec;
    spec.endpoints.endpoints = {host_at({at(test::refused_port(), "::1"), at(port)})};
    return spec;
  }
  void serve(config::ClusterSpec cluster, config::ListenerSpec front = listener("main", "t")) {
    plane.accept(std::move(cluster));
    serve(all_to("up"), std::move(front));
  }
  void serve(config::RouteTableSpec routes, config::ListenerSpec front = listener("main", "t")) {
    plane.accept(std::move(routes));
    plane.update(std::move(front));
  }
  static config::RouteTableSpec connect_ends_here() {
    config::RouteTableSpec routes = table("t", {"up"});
    routes.virtual_hosts[0].routes[0].match.path = {.kind = config::PathMatchSpec::Kind::kConnect, .value = {}};
    std::get<config::ForwardSpec>(routes.virtual_hosts[0].routes[0].action).upgrades = {
        {.type = "connect", .terminate = true}};
    return routes;
  }
  int status() { return test::http_get(plane.port(), "/").status(); }
  uint64_t stat(const std::string& name) { return plane.stat("cluster.up." + name); }

  DataPlane plane{true};
};

TEST_F(ManyAddresses, Http1) {
  FakeUpstream host;
  serve(cluster_to(host.port()));
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(host.accepted(), 1u);
  EXPECT_EQ(stat("upstream_cx_total"), 1u) << "one connection, however many attempts";
  EXPECT_EQ(stat("upstream_cx_connect_fail"), 0u);
  EXPECT_EQ(stat("membership_total"), 1u);
}

TEST_F(ManyAddresses, Http2) {
  ListenSocket host;
  serve(cluster_to(host.port(), Codec::kHttp2));
  test::HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  test::H2Peer peer(host.accept());
  EXPECT_EQ(peer.socket.recv_exactly(24), test::h2::preface());
  peer.socket.send(test::h2::settings() + test::h2::headers(1, {{":status", "204"}}));
  EXPECT_EQ(client.read_response().status(), 204);
}

TEST_F(ManyAddresses, Tls) {
  test::CertificateAuthority ca;
  ListenSocket host;
  config::ClusterSpec cluster = cluster_to(host.port());
  cluster.tls = client_tls(ca.pem());
  serve(cluster);
  test::HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  test::TlsTunnel tunnel(host.accept(), {.server = true, .certificate = ca.issue("server"), .alpn = {}});
  Socket plain = tunnel.plain();
  EXPECT_EQ(plain.recv_until("\r\n\r\n").substr(0, 6), "GET / ");
  plain.send(test::response_bytes(200));
  EXPECT_EQ(client.read_response().status(), 200);
}

TEST_F(ManyAddresses, TcpProxy) {
  ListenSocket host;
  plane.accept(cluster_to(host.port()));
  config::ListenerSpec front = listener("main", "");
  front.filter_chains[0].tcp.emplace();
  front.filter_chains[0].tcp->stat_prefix = "t";
  front.filter_chains[0].tcp->targets = {{"up", 1}};
  plane.update(front);
  Socket client = Socket::connect(plane.port());
  client.send("hello");
  EXPECT_EQ(host.accept().recv_exactly(5), "hello");
  EXPECT_EQ(stat("upstream_cx_total"), 1u);
}

TEST_F(ManyAddresses, ConnectThatEndsHere) {
  ListenSocket host;
  plane.accept(cluster_to(host.port()));
  serve(connect_ends_here());
  Socket client = Socket::connect(plane.port());
  client.send("CONNECT far:1 HTTP/1.1\r\nhost: far:1\r\n\r\nhello");
  EXPECT_EQ(client.recv_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
  EXPECT_EQ(host.accept().recv_exactly(5), "hello");
}

TEST_F(ManyAddresses, AccessLogsTellBothEndsOfTheConnectionThatWasTaken) {
  test::TempDir dir;
  config::ListenerSpec front = listener("main", "t");
  front.filter_chains[0].hcm.access_logs = {
      {.path = dir / "log", .format = "%UPSTREAM_LOCAL_ADDRESS% to %UPSTREAM_REMOTE_ADDRESS%\n"}};
  ListenSocket host;
  std::string expected;
  const auto logged_when_closed = [&](Socket& taken) {
    expected +=
        "127.0.0.1:" + std::to_string(taken.peer_port()) + " to 127.0.0.1:" + std::to_string(host.port()) + "\n";
    taken.close();
    return test::wait_until([&] {
      plane.flush_logs();
      return test::read_file(dir / "log") == expected;
    });
  };
  serve(cluster_to(host.port()), front);
  test::HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  {
    Socket taken = host.accept();
    taken.recv_until("\r\n\r\n");
    taken.send(test::response_bytes(200));
    EXPECT_EQ(client.read_response().status(), 200);
    EXPECT_TRUE(logged_when_closed(taken)) << test::read_file(dir / "log");
  }
  serve(connect_ends_here(), front);
  Socket tunnel = Socket::connect(plane.port());
  tunnel.send("CONNECT far:1 HTTP/1.1\r\nhost: far:1\r\n\r\n");
  EXPECT_EQ(tunnel.recv_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
  Socket taken = host.accept();
  tunnel.close();
  EXPECT_TRUE(logged_when_closed(taken)) << test::read_file(dir / "log");
}

TEST_F(ManyAddresses, NoneAnswers) {
  config::ClusterSpec cluster = cluster_to(test::refused_port());
  serve(cluster);
  EXPECT_EQ(status(), 503);
  EXPECT_EQ(stat("upstream_cx_total"), 1u);
  EXPECT_EQ(stat("upstream_cx_connect_fail"), 1u);
  test::SilentSocket silent;
  cluster.endpoints.endpoints = {host_at({at(silent.port()), at(test::refused_port(), "::1")})};
  cluster.connect_timeout_ms = 50;
  plane.update(cluster);
  EXPECT_EQ(status(), 503);
  EXPECT_EQ(stat("upstream_cx_connect_timeout"), 1u);
}

TEST_F(ManyAddresses, AClientThatGivesUpInTheMiddleLeavesNothing) {
  test::SilentSocket one, two("::1");
  config::ClusterSpec cluster = cluster_to(one.port());
  cluster.endpoints.endpoints = {host_at({at(one.port()), at(two.port(), "::1")})};
  cluster.connect_timeout_ms = 1'500;
  serve(cluster);
  { Socket first = Socket::connect(plane.port()); }  // libuv keeps a descriptor for each loop that has had a stream
  ASSERT_TRUE(test::wait_until([&] { return plane.stat("http.main.downstream_cx_destroy") == 1; }));
  const size_t before = test::open_descriptors();
  {
    test::HttpClient client(plane.port());
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    // Both ends of the client's connection, and the two attempts.
    EXPECT_TRUE(test::wait_until([&] { return test::open_descriptors() == before + 4; }));
  }
  // The connection goes on without its request, as any that is under way, until its time is over.
  EXPECT_TRUE(test::wait_until([&] { return test::open_descriptors() == before; }));
  EXPECT_EQ(stat("upstream_cx_connect_timeout"), 1u);
  EXPECT_EQ(stat("upstream_rq_active"), 0u);
  EXPECT_EQ(stat("upstream_rq_pending_active"), 0u);
}

TEST_F(ManyAddresses, ChecksGoToTheFirst) {
  config::ClusterSpec cluster = cluster_to(7777);
  cluster.health_check = config::HealthCheckSpec{};
  cluster.endpoints.endpoints.front().check = config::EndpointCheckSpec{};
  serve(cluster);
  const auto targets = plane.store().take_health_targets();
  ASSERT_EQ(targets.size(), 1u);
  ASSERT_EQ(targets[0].hosts.size(), 1u);
  EXPECT_EQ(targets[0].hosts[0].address.str(), "[::1]:" + std::to_string(test::refused_port()));
  cluster.endpoints.endpoints.front().check = config::EndpointCheckSpec{.port = 99};
  plane.update(cluster);
  EXPECT_EQ(plane.store().take_health_targets().at(0).hosts.at(0).address.str(), "[::1]:99");
}

// LOGICAL_DNS: who the host is is its name.
TEST_F(ManyAddresses, ALogicalHostMovesWithoutLosingAConnection) {
  FakeUpstream before([](test::Exchange& e) { e.respond(200, "before"); });
  FakeUpstream after([](test::Exchange& e) { e.respond(200, "after"); });
  config::ClusterSpec cluster = dns_cluster("up", "one.test");
  cluster.discovery = config::ClusterSpec::Discovery::kLogicalDns;
  serve(cluster);
  ASSERT_EQ(plane.store().dns_clusters().size(), 1u);
  plane.store().set_resolved("up", {host_at({at(before.port())}, "one.test:80")});
  plane.publish();
  ASSERT_NE(plane.port(), 0) << "it is warm";
  EXPECT_EQ(test::http_get(plane.port(), "/").body, "before");
  const auto host = [&] { return plane.store().live()->clusters.find("up")->hosts->all().at(0); };
  const auto first = host();
  EXPECT_EQ(first.text(), "127.0.0.1:" + std::to_string(before.port()));
  plane.store().set_resolved("up", {host_at({at(test::refused_port(), "::1"), at(after.port())}, "one.test:80")});
  plane.publish();
  EXPECT_EQ(host().host, first.host);
  EXPECT_NE(host().addresses, first.addresses);
  // The connection that there is serves on; the next one goes to the new address.
  EXPECT_EQ(test::http_get(plane.port(), "/").body, "before");
  EXPECT_EQ(before.accepted(), 1u);
  before.close_connections();
  ASSERT_TRUE(before.wait_for_open(0));
  EXPECT_TRUE(test::wait_until([&] { return stat("upstream_cx_active") == 0; }));
  EXPECT_EQ(test::http_get(plane.port(), "/").body, "after");
  plane.store().set_resolved("up", {host_at({at(test::refused_port(), "::1"), at(after.port())}, "one.test:80")});
  const auto same = host().addresses;
  plane.publish();
  EXPECT_EQ(host().addresses, same);
}

TEST_F(ManyAddresses, TheOrderIsTheClusters) {
  FakeUpstream first, other;
  config::ClusterSpec cluster = cluster_to(first.port());
  const AddressSpec six = at(test::refused_port(), "::1");
  cluster.endpoints.endpoints = {host_at({six, at(first.port()), at(other.port())})};
  cluster.first_family = config::ClusterSpec::FirstFamily::kV4;
  cluster.first_family_count = 2;
  serve(cluster);
  const auto& entry = plane.store().live()->clusters.find("up")->hosts->all().at(0);
  ASSERT_EQ(entry.addresses->attempts.size(), 3u);
  EXPECT_EQ(entry.addresses->attempts[0].port(), first.port());
  EXPECT_EQ(entry.addresses->attempts[1].port(), other.port());
  EXPECT_TRUE(entry.address().is_v6()) << "it is called as it was given";
  cluster.first_family_count = 1;
  plane.update(cluster);
  const auto& again = plane.store().live()->clusters.find("up")->hosts->all().at(0);
  EXPECT_TRUE(again.addresses->attempts[1].is_v6());
  EXPECT_EQ(status(), 200);
}

}  // namespace
}  // namespace outrigger::proxy
