// preconnect_policy of clusters that tcp_proxy goes to: spare connections, whose they become, and what ends them.
#include <poll.h>

#include <thread>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "support/socket.h"
#include "support/tls_tunnel.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;
using test::ListenSocket;
using test::Socket;
using test::TlsTunnel;
using test::wait_until;

class TcpPreconnect : public ::testing::Test {
 protected:
  static config::ListenerSpec front() {
    config::ListenerSpec spec = listener("main", "");
    config::TcpProxySpec& tcp = spec.filter_chains[0].tcp.emplace();
    tcp.stat_prefix = "t";
    tcp.targets = {{"up", 1}};
    return spec;
  }
  void serve(ClusterSpec cluster) {
    plane.accept(std::move(cluster));
    plane.update(front());
    ASSERT_NE(plane.port(), 0);
  }
  ClusterSpec to_a(float ratio) {
    ClusterSpec cluster = static_cluster("up", a.port());
    cluster.preconnect_ratio = ratio;
    return cluster;
  }
  ClusterSpec to_both() {
    ClusterSpec cluster = static_cluster("up", a.port());
    cluster.endpoints.endpoints.push_back(endpoint(b.port()));
    return cluster;
  }
  Socket ask() { return Socket::connect(plane.port()); }
  // A client, its host's end and a spare connection.
  void begin(ClusterSpec cluster) {
    serve(std::move(cluster));
    client = ask();
    host = a.accept();
    spare = a.accept();
    ASSERT_TRUE(host.valid() && spare.valid());
    settle();
  }
  // The spare connection has been closed, and the client's has not.
  void expect_spare_ends() {
    EXPECT_EQ(spare.recv_to_eof(), "");
    EXPECT_EQ(spare.end(), Socket::End::kEof);
    EXPECT_TRUE(counted("upstream_cx_active", 1));
    expect_carries(client, host);
  }
  static void expect_carries(Socket& one, Socket& other) {
    one.send("there");
    EXPECT_EQ(other.recv_exactly(5), "there");
    other.send("back");
    EXPECT_EQ(one.recv_exactly(4), "back");
  }
  // Whether it is the first of two at which something arrives.
  static bool arrives_at(int one, int other) {
    pollfd two[] = {{.fd = one, .events = POLLIN}, {.fd = other, .events = POLLIN}};
    EXPECT_GT(::poll(two, 2, test::kWaitMs), 0);
    return two[0].revents != 0;
  }
  // The worker has seen what was sent to it.
  void settle() {
    for (int round = 0; round < 3; ++round) plane.run([] {});
  }
  uint64_t stat(const std::string& name) { return plane.stat("cluster.up." + name); }
  bool counted(const std::string& name, uint64_t value) {
    return wait_until([&] { return stat(name) == value; });
  }

  ListenSocket a, b;
  DataPlane plane;
  Socket client, host, spare;
};

TEST_F(TcpPreconnect, AHostHasAsManyMoreAsTheRatioSays) {
  serve(to_a(1.5));
  EXPECT_FALSE(a.accept(50).valid()) << "nobody has come";
  std::vector<Socket> clients, hosts;
  for (const size_t connections : {2, 3, 5}) {  // of 1, 2, 3 clients
    clients.push_back(ask());
    while (hosts.size() < connections) {
      hosts.push_back(a.accept());
      ASSERT_TRUE(hosts.back().valid()) << hosts.size();
    }
    EXPECT_EQ(stat("upstream_cx_total"), connections);
    EXPECT_EQ(stat("upstream_cx_active"), connections);
  }
  for (const size_t i : {0, 1, 2}) expect_carries(clients[i], hosts[i]);  // in turn, and what was there is used
  clients.clear();
  for (const size_t i : {0, 1, 2}) EXPECT_EQ(hosts[i].recv_to_eof(), "");
  hosts.erase(hosts.begin(), hosts.begin() + 3);
  EXPECT_TRUE(counted("upstream_cx_active", 2)) << "they wait for others";
  Socket late = ask();
  late.send("x");
  EXPECT_TRUE(wait_until([&] { return plane.stat("tcp.t.downstream_cx_active") == 1; }));
  EXPECT_FALSE(a.accept(50).valid()) << "two are enough for one";
  EXPECT_EQ(stat("upstream_cx_total"), 5u);
}

TEST_F(TcpPreconnect, WithoutAPolicyEachConnectionIsAClients) {
  serve(to_a(1));
  for (size_t i = 1; i <= 3; ++i) {
    Socket one = ask(), its = a.accept();
    ASSERT_TRUE(its.valid());
    expect_carries(one, its);
    EXPECT_EQ(stat("upstream_cx_total"), i);
  }
  EXPECT_FALSE(a.accept(50).valid());
}

// As SMTP and MySQL do.
TEST_F(TcpPreconnect, WhatTheHostSaysFirstIsForTheNextClient) {
  begin(to_a(2));
  host.send("220 one\r\n");
  spare.send("220 ");
  settle();
  spare.send("two\r\n");
  settle();
  EXPECT_EQ(client.recv_exactly(9), "220 one\r\n");
  Socket second = ask();
  EXPECT_EQ(second.recv_exactly(9), "220 two\r\n");
  expect_carries(second, spare);
  EXPECT_TRUE(client.quiet_for(50));
}

TEST_F(TcpPreconnect, HoweverMuchItIs) {
  begin(to_a(2));
  std::string much;
  for (int i = 0; much.size() < 32 << 20; ++i) much += std::to_string(i) + " ";
  std::atomic<size_t> sent = SIZE_MAX;
  std::thread talker([&] {
    sent = spare.send(much);
    spare.shutdown_write();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(sent, SIZE_MAX) << "it waits for a reader";
  Socket second = ask();
  EXPECT_TRUE(second.recv_to_eof() == much);
  talker.join();
  EXPECT_EQ(sent, much.size());
}

TEST_F(TcpPreconnect, OneThatTheHostHasClosedIsNotHandedOut) {
  begin(to_a(2));
  for (const bool after_words : {false, true}) {
    if (after_words) spare.send("too slow\r\n");
    settle();
    after_words ? spare.close() : spare.reset();
    EXPECT_TRUE(counted("upstream_cx_active", 1));
    Socket second = ask(), its = a.accept();
    ASSERT_TRUE(its.valid());
    its.send("fresh");
    EXPECT_EQ(second.recv_exactly(5), "fresh");
    second.close();
    EXPECT_EQ(its.recv_to_eof(), "");
    its.close();
    spare = a.accept();
    a.accept().close();
    EXPECT_TRUE(counted("upstream_cx_active", 2));
  }
  expect_carries(client, host);
  EXPECT_EQ(stat("upstream_cx_connect_fail"), 0u);
}

TEST_F(TcpPreconnect, OneThatDoesNotConnectTroublesNobodyAndIsNotMadeAgain) {
  ListenSocket narrow(0);  // its queue has room for one
  ClusterSpec cluster = static_cluster("up", narrow.port());
  cluster.preconnect_ratio = 2;
  cluster.connect_timeout_ms = 100;
  serve(cluster);
  client = ask();
  EXPECT_TRUE(counted("upstream_cx_connect_timeout", 1));
  EXPECT_TRUE(counted("upstream_cx_active", 1));
  host = narrow.accept();
  expect_carries(client, host);
  EXPECT_FALSE(narrow.accept(50).valid());
  EXPECT_EQ(stat("upstream_cx_total"), 2u);
}

TEST_F(TcpPreconnect, AClientMayGetOneThatStillConnects) {
  test::SilentSocket silent;
  ClusterSpec cluster = static_cluster("up", silent.port());
  cluster.preconnect_ratio = 2;
  cluster.connect_timeout_ms = 200;
  serve(cluster);
  client = ask();
  EXPECT_TRUE(counted("upstream_cx_total", 2));
  Socket second = ask();
  EXPECT_TRUE(counted("upstream_cx_total", 4));
  EXPECT_EQ(client.recv_to_eof(), "");
  EXPECT_EQ(second.recv_to_eof(), "");
  EXPECT_TRUE(counted("upstream_cx_connect_timeout", 4));
  EXPECT_TRUE(counted("upstream_cx_active", 0));
}

TEST_F(TcpPreconnect, TheLimitBoundsIt) {
  ClusterSpec cluster = to_a(3);
  cluster.max_connections = 2;
  begin(cluster);
  EXPECT_EQ(stat("upstream_cx_total"), 2u);
  EXPECT_EQ(stat("upstream_cx_overflow"), 1u);
  Socket second = ask();
  expect_carries(second, spare);
  EXPECT_EQ(ask().recv_to_eof(), "") << "both are in use";
  EXPECT_EQ(stat("upstream_cx_total"), 2u);
  second.close();
  EXPECT_EQ(spare.recv_to_eof(), "");
  spare.close();
  EXPECT_TRUE(counted("upstream_cx_active", 1));
  Socket third = ask(), its = a.accept();
  expect_carries(third, its);
}

TEST_F(TcpPreconnect, OneThatEndsMakesRoom) {
  ClusterSpec cluster = to_a(2);
  cluster.max_connections = 2;
  begin(cluster);
  spare.close();
  EXPECT_TRUE(counted("upstream_cx_active", 1));
  Socket second = ask(), its = a.accept();
  ASSERT_TRUE(its.valid());
  expect_carries(second, its);
}

TEST_F(TcpPreconnect, AtTheLimitASpareOneGivesWayToAClient) {
  ClusterSpec cluster = to_both();
  cluster.preconnect_ratio = 2;
  cluster.max_connections = 2;
  serve(cluster);
  client = ask();
  const bool at_a = arrives_at(a.fd(), b.fd());
  ListenSocket& picked = at_a ? a : b;
  ListenSocket& other = at_a ? b : a;
  host = picked.accept();
  spare = picked.accept();
  ASSERT_TRUE(host.valid() && spare.valid());
  Socket second = ask(), its = other.accept();
  ASSERT_TRUE(its.valid());
  expect_carries(second, its);
  EXPECT_EQ(spare.recv_to_eof(), "");
  EXPECT_TRUE(counted("upstream_cx_active", 2));
  EXPECT_EQ(ask().recv_to_eof(), "");
  expect_carries(client, host);
}

TEST_F(TcpPreconnect, TheHostsThatComeNextAreConnected) {
  ClusterSpec cluster = to_both();
  cluster.predictive_preconnect_ratio = 2;
  serve(cluster);
  client = ask();
  Socket of_a = a.accept(), of_b = b.accept();
  ASSERT_TRUE(of_a.valid() && of_b.valid());
  EXPECT_EQ(stat("upstream_cx_total"), 2u);
  client.send("1");
  const bool a_first = arrives_at(of_a.fd(), of_b.fd());
  EXPECT_EQ((a_first ? of_a : of_b).recv_exactly(1), "1");
  Socket second = ask();
  expect_carries(second, a_first ? of_b : of_a);
  expect_carries(client, a_first ? of_a : of_b);
}

TEST_F(TcpPreconnect, AHostThatLeavesTakesItsSparesAlong) {
  begin(to_a(2));
  plane.update(static_cluster("up", b.port()));
  expect_spare_ends();
  EXPECT_FALSE(a.accept(50).valid());
}

TEST_F(TcpPreconnect, APolicyThatEndsTakesItsSparesAlongAndMayComeBack) {
  ClusterSpec cluster = eds_cluster("up");
  cluster.preconnect_ratio = 2;
  plane.accept(endpoints("up", {a.port()}));
  begin(cluster);
  cluster.preconnect_ratio = 1;
  plane.update(cluster);
  expect_spare_ends();
  cluster.preconnect_ratio = 3;
  plane.update(cluster);
  EXPECT_FALSE(a.accept(50).valid()) << "nobody has come";
  Socket second = ask(), its = a.accept();
  expect_carries(second, its);
  EXPECT_TRUE(counted("upstream_cx_active", 5)) << "for two 6, but 3 at a time";
}

TEST_F(TcpPreconnect, AnotherRatioTouchesNone) {
  begin(to_a(2));
  plane.update(to_a(1.5));
  Socket second = ask();
  expect_carries(second, spare);
}

TEST_F(TcpPreconnect, AClusterThatGoesTakesItsSparesAlong) {
  begin(to_a(2));
  plane.remove(config::ResourceType::kListener, "main");
  plane.remove(config::ResourceType::kCluster, "up");
  plane.publish();
  expect_spare_ends();
}

TEST_F(TcpPreconnect, AWorkerThatDrainsHasNoSpares) {
  begin(to_a(2));
  bool drained = false;
  plane.run([&] { plane.worker().drain(60'000, [&] { drained = true; }); });
  expect_spare_ends();
  client.close();
  host.close();
  EXPECT_TRUE(wait_until([&] {
    bool now = false;
    plane.run([&] { now = drained; });
    return now;
  }));
}

TEST_F(TcpPreconnect, AHostThatFailsItsChecksLosesItsSpares) {
  ClusterSpec cluster = to_a(2);
  cluster.health_check = config::HealthCheckSpec{};
  plane.accept(cluster);
  plane.update(front());
  const auto targets = plane.store().take_health_targets();
  ASSERT_EQ(targets.size(), 1u);
  const std::shared_ptr<upstream::Host> checked = targets[0].hosts.at(0).host;
  checked->health = 0;
  plane.store().health_changed("up");
  plane.publish();
  begin(cluster);
  plane.run([&] { plane.worker().on_host_failed("up", *checked); });
  expect_spare_ends();
}

TEST_F(TcpPreconnect, ASpareOneThatNobodyNeedsEnds) {
  ClusterSpec cluster = to_a(2);
  cluster.tcp_idle_timeout_ms = 100;
  begin(cluster);
  expect_spare_ends();
  EXPECT_EQ(stat("upstream_cx_idle_timeout"), 1u);
  EXPECT_EQ(stat("upstream_cx_total"), 2u) << "and is not made again";
}

class TcpPreconnectTls : public TcpPreconnect {
 protected:
  void SetUp() override {
    cluster = to_a(2);
    cluster.tls = client_tls(ca.pem());
  }
  std::unique_ptr<TlsTunnel> accept_tls() {
    return std::make_unique<TlsTunnel>(a.accept(), test::TlsSettings{.server = true, .certificate = certificate});
  }
  test::CertificateAuthority ca;
  test::Certificate certificate = ca.issue("server", {"IP:127.0.0.1"});
  ClusterSpec cluster;
};

TEST_F(TcpPreconnectTls, TheHandshakeIsDoneBeforeTheClientComes) {
  serve(cluster);
  client = ask();
  const auto first = accept_tls(), second = accept_tls();
  ASSERT_TRUE(first->open() && second->open()) << first->error() << second->error();
  EXPECT_TRUE(counted("ssl.handshake", 2));
  host = first->plain();
  spare = second->plain();
  spare.send("hello");
  settle();
  Socket next = ask();
  EXPECT_EQ(next.recv_exactly(5), "hello");
  expect_carries(next, spare);
  expect_carries(client, host);
  EXPECT_EQ(stat("ssl.handshake"), 2u);
  EXPECT_EQ(stat("upstream_cx_total"), 4u);
}

TEST_F(TcpPreconnectTls, AClientMayGetOneInItsHandshake) {
  serve(cluster);
  client = ask();
  EXPECT_TRUE(counted("upstream_cx_total", 2));
  Socket next = ask();
  EXPECT_TRUE(counted("upstream_cx_total", 4));
  const auto first = accept_tls(), second = accept_tls();
  ASSERT_TRUE(first->open() && second->open()) << first->error() << second->error();
  host = first->plain();
  spare = second->plain();
  expect_carries(next, spare);
  expect_carries(client, host);
}

TEST_F(TcpPreconnectTls, WhatWasMadeUnderOtherTlsIsNotHandedOut) {
  serve(cluster);
  client = ask();
  const auto first = accept_tls(), second = accept_tls();
  host = first->plain();
  spare = second->plain();
  EXPECT_TRUE(counted("ssl.handshake", 2));
  cluster.tls->sni = "other.example";
  plane.update(cluster);
  expect_spare_ends();
}

TEST_F(TcpPreconnect, NoneIsMadeWhereHostsAreToldOfTheClient) {
  ClusterSpec cluster = to_a(3);
  cluster.predictive_preconnect_ratio = 3;
  cluster.proxy_header = config::ProxyHeaderVersion::kV1;
  serve(cluster);
  for (size_t i = 1; i <= 2; ++i) {
    Socket one = ask(), its = a.accept();
    EXPECT_EQ(its.recv_until("\r\n").substr(0, 11), "PROXY TCP4 ");
    expect_carries(one, its);
    EXPECT_FALSE(a.accept(50).valid());
    EXPECT_EQ(stat("upstream_cx_total"), i);
  }
}

}  // namespace
}  // namespace outrigger::proxy
