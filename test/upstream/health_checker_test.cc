// Active health checks against real servers: HTTP/1, TCP, over TLS; intervals, thresholds, connections.
#include "upstream/health_checker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "support/certificates.h"
#include "support/fake_upstream.h"
#include "support/run_until.h"
#include "support/socket.h"
#include "support/tls_tunnel.h"
#include "upstream/tls_context.h"

namespace outrigger::upstream {
namespace {

using config::HealthCheckSpec;
using test::Exchange;
using test::FakeUpstream;
using test::ListenSocket;
using test::Socket;

config::EndpointSpec endpoint(uint16_t port) {
  config::EndpointSpec spec;
  spec.address = {.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = port};
  return spec;
}

HealthCheckSpec http_check() {
  HealthCheckSpec spec;
  spec.kind = HealthCheckSpec::Kind::kHttp;
  spec.path = "/healthz";
  spec.timeout_ms = 5'000;
  spec.interval_ms = spec.unhealthy_interval_ms = spec.unhealthy_edge_interval_ms = spec.healthy_edge_interval_ms = 5;
  spec.no_traffic_interval_ms = spec.no_traffic_healthy_interval_ms = 5;
  return spec;
}
HealthCheckSpec tcp_check(std::string send = {}, std::vector<std::string> receive = {}) {
  HealthCheckSpec spec = http_check();
  spec.kind = HealthCheckSpec::Kind::kTcp;
  spec.send = std::move(send);
  spec.receive = std::move(receive);
  return spec;
}

class Health : public ::testing::Test {
 protected:
  ~Health() override {
    {
      event::Turn turn(loop);
      checker.shutdown();
    }
    for (int i = 0; i < 20; ++i) {
      loop.post([] {});
      loop.run_once();
    }
  }

  // Checks these endpoints; those known stay the same hosts.
  void check(const HealthCheckSpec& spec, const std::vector<config::EndpointSpec>& endpoints,
             std::shared_ptr<const TlsContext> tls = nullptr) {
    config::ClusterSpec cluster;
    cluster.name = "c";
    cluster.health_check = spec;
    cluster.proxy_header = proxy_header;
    part = Cluster::compile(cluster, registry, part == nullptr ? nullptr : part->shared_state(), std::move(tls));
    hosts = HostSet::compile(endpoints, hosts.get(), {.checked = true});
    HealthTarget target{.cluster = "c", .part = part, .hosts = {}};
    for (const auto& entry : hosts->all()) target.hosts.push_back({entry.host, entry.check_address()});
    event::Turn turn(loop);
    checker.want(std::move(target));
  }
  void run_until(const std::function<bool()>& done) {
    ASSERT_TRUE(test::run_until(loop, done)) << "what the test waits for did not happen";
  }
  // So many more checks have ended.
  void run_checks(uint64_t count) {
    const uint64_t until = ended() + count;
    run_until([&] { return ended() >= until; });
  }
  uint64_t stat(const std::string& name) const { return registry.value("cluster.c.health_check." + name); }
  uint64_t ended() const { return stat("success") + stat("failure"); }
  Host& host(size_t at = 0) { return *hosts->all()[at].host; }
  bool healthy(size_t at = 0) { return !host(at).failed_check(); }

  stats::Registry registry{1};
  event::Loop loop;
  std::vector<std::string> changes;  // "address healthy"
  HealthChecker checker{loop, registry, [this](const std::string& cluster, const std::shared_ptr<Host>& changed) {
                          EXPECT_EQ(cluster, "c");
                          changes.push_back(changed->failed_check() ? "unhealthy" : "healthy");
                        }};
  std::shared_ptr<const Cluster> part;
  std::shared_ptr<const HostSet> hosts;
  config::ProxyHeaderVersion proxy_header = config::ProxyHeaderVersion::kNone;  // the cluster's
};

TEST_F(Health, AnHttpCheckAsksAndTheAnswerDecides) {
  FakeUpstream server;
  HealthCheckSpec spec = http_check();
  spec.headers = {{"x-probe", "1"}};
  check(spec, {endpoint(server.port())});
  EXPECT_EQ(host().health, kFailedCheck | kNotChecked);
  const uint32_t epoch = part->state().health_epoch;
  run_until([&] { return healthy(); });
  EXPECT_EQ(host().health, 0);
  EXPECT_NE(part->state().health_epoch, epoch);
  EXPECT_EQ(changes, (std::vector<std::string>{"healthy"}));
  EXPECT_EQ(stat("healthy"), 1u);
  run_checks(3);
  EXPECT_EQ(changes.size(), 1u) << "what is as it was is not told";
  EXPECT_EQ(server.accepted(), 1u) << "one connection serves all checks";
  EXPECT_GE(stat("attempt"), 4u);
  EXPECT_EQ(stat("failure"), 0u);
  const test::HttpMessage request = server.requests().at(0);
  EXPECT_EQ(request.start_line, "GET /healthz HTTP/1.1");
  EXPECT_EQ(request.header("host"), "c");
  EXPECT_EQ(request.header("x-probe"), "1");
  EXPECT_EQ(request.header("user-agent"), "outrigger-health-check");
}

TEST_F(Health, AStatusThatIsNotExpectedCountsAtOnceARetriableOneByTheThreshold) {
  std::atomic<int> status = 204;
  FakeUpstream server([&](Exchange& exchange) { exchange.respond(status); });
  HealthCheckSpec spec = http_check();
  spec.expected = {{204, 205}};
  spec.retriable = {{503, 504}};
  spec.unhealthy_threshold = 3;
  spec.healthy_threshold = 2;
  check(spec, {endpoint(server.port())});
  run_until([&] { return healthy(); });
  status = 500;
  run_until([&] { return !healthy(); });
  EXPECT_EQ(stat("failure"), 1u);
  EXPECT_EQ(stat("network_failure"), 0u);
  EXPECT_EQ(stat("healthy"), 0u);
  const uint64_t successes = stat("success");
  status = 204;
  run_until([&] { return healthy(); });
  EXPECT_EQ(stat("success"), successes + 2);
  const uint64_t failures = stat("failure");
  status = 503;
  run_until([&] { return !healthy(); });
  EXPECT_EQ(stat("failure"), failures + 3);
  EXPECT_EQ(changes, (std::vector<std::string>{"healthy", "unhealthy", "healthy", "unhealthy"}));
}

TEST_F(Health, NoAnswerCountsByTheThreshold) {
  std::atomic<bool> stalls = false;
  FakeUpstream server([&](Exchange& exchange) { stalls ? void(exchange.stall()) : exchange.respond(200); });
  HealthCheckSpec spec = http_check();
  spec.timeout_ms = 100;
  spec.unhealthy_threshold = 2;
  check(spec, {endpoint(server.port())});
  run_until([&] { return healthy(); });
  const uint64_t failures = stat("failure");
  stalls = true;
  run_until([&] { return !healthy(); });
  EXPECT_GE(stat("failure"), failures + 2);
  EXPECT_EQ(stat("network_failure"), stat("failure"));
  EXPECT_EQ(host().health, kFailedCheck | kCheckTimedOut);
  server.release();
  stalls = false;
  run_until([&] { return healthy(); });
  EXPECT_EQ(host().health, 0);
}

TEST_F(Health, AHostThatRefusesOrResetsFails) {
  std::atomic<bool> resets = false;
  FakeUpstream server([&](Exchange& exchange) { resets ? exchange.reset() : exchange.respond(200); });
  check(http_check(), {endpoint(server.port()), endpoint(test::refused_port())});
  run_until([&] { return healthy(0) && (host(1).health & kNotChecked) == 0; });
  EXPECT_EQ(host(1).health, kFailedCheck);
  EXPECT_GE(stat("network_failure"), 1u);
  EXPECT_EQ(stat("healthy"), 1u);
  resets = true;
  run_until([&] { return !healthy(0); });
}

TEST_F(Health, AConnectionThatEndsBetweenChecksIsNoFailure) {
  FakeUpstream server([](Exchange& exchange) {
    exchange.respond(200, "", {{"connection", "close"}});
    exchange.close();
  });
  check(http_check(), {endpoint(server.port())});
  run_until([&] { return stat("success") >= 4; });
  EXPECT_EQ(stat("failure"), 0u);
  EXPECT_GE(server.accepted(), 4u);
}

TEST_F(Health, WithoutReuseEveryCheckHasAConnectionOfItsOwn) {
  FakeUpstream server;
  HealthCheckSpec spec = http_check();
  spec.reuse_connection = false;
  check(spec, {endpoint(server.port())});
  run_until([&] { return stat("success") >= 3; });
  EXPECT_GE(server.accepted(), 3u);
  EXPECT_EQ(stat("failure"), 0u);
}

TEST_F(Health, AKeptConnectionIsNotKeptWhenHostsAreToBeToldOfClients) {
  FakeUpstream server;
  check(http_check(), {endpoint(server.port())});
  run_until([&] { return stat("success") >= 3; });
  EXPECT_EQ(server.accepted(), 1u);
  proxy_header = config::ProxyHeaderVersion::kV1;
  check(http_check(), {endpoint(server.port())});
  run_until([&] { return server.accepted() >= 2; });
}

TEST_F(Health, ATcpConnectionIsEnoughIfNothingIsToBeReceived) {
  ListenSocket server;
  check(tcp_check(), {endpoint(server.port())});
  run_until([&] { return healthy(); });
  Socket peer = server.accept();
  EXPECT_EQ(peer.recv_to_eof(), "");
  server.close();
  run_until([&] { return !healthy(); });
}

TEST_F(Health, TcpPayloadsAreSentAndLookedForInTheirOrder) {
  ListenSocket server;
  check(tcp_check("PING", {"one", "two"}), {endpoint(server.port())});
  run_until([&] { return stat("attempt") == 1; });
  Socket peer = server.accept();
  bool asked = false;
  peer.send("two, noise, on");
  run_until([&] { return asked || (asked = peer.recv_exactly(4, 50) == "PING"); });
  EXPECT_EQ(stat("success"), 0u);
  peer.send("e and then tw");
  peer.send("o");
  run_until([&] { return healthy(); });
  // The next check, on the same connection, begins anew.
  asked = false;
  run_until([&] { return asked || (asked = peer.recv_exactly(4, 50) == "PING"); });
  peer.send("two");
  peer.shutdown_write();
  run_until([&] { return !healthy(); });
  EXPECT_EQ(stat("network_failure"), 1u);
}

TEST_F(Health, AnEndpointMayBeCheckedAtAnotherPortByAnotherName) {
  FakeUpstream server;
  config::EndpointSpec elsewhere = endpoint(test::refused_port());
  elsewhere.check =
      config::EndpointCheckSpec{.address = {}, .port = server.port(), .hostname = "h.example", .disabled = false};
  HealthCheckSpec spec = http_check();
  spec.host = "unused.example";
  check(spec, {elsewhere});
  run_until([&] { return healthy(); });
  EXPECT_EQ(server.requests().at(0).header("host"), "h.example");
}

TEST_F(Health, ChecksGoOnThroughUpdatesAndEndWithTheirHosts) {
  FakeUpstream stays, goes;
  check(http_check(), {endpoint(stays.port()), endpoint(goes.port())});
  run_until([&] { return healthy(0) && healthy(1); });
  EXPECT_EQ(stat("healthy"), 2u);
  check(http_check(), {endpoint(stays.port())});
  run_until([&] { return goes.open() == 0; });
  EXPECT_EQ(stat("healthy"), 1u);
  run_checks(3);
  EXPECT_EQ(stays.accepted(), 1u) << "its checks never stopped";
  // Another way to check ends what was under way, but not what is known.
  HealthCheckSpec other = http_check();
  other.path = "/other";
  check(other, {endpoint(stays.port())});
  EXPECT_TRUE(healthy());
  EXPECT_EQ(stat("healthy"), 1u);
  run_until([&] { return stays.requests().back().start_line == "GET /other HTTP/1.1"; });
  {
    event::Turn turn(loop);
    checker.want({.cluster = "c", .part = nullptr, .hosts = {}});
  }
  run_until([&] { return stays.open() == 0; });
  EXPECT_EQ(stat("healthy"), 0u);
}

TEST_F(Health, WithoutTrafficChecksAreRare) {
  FakeUpstream server;
  HealthCheckSpec spec = http_check();
  spec.no_traffic_interval_ms = spec.no_traffic_healthy_interval_ms = 300;
  check(spec, {endpoint(server.port())});
  const int64_t begun = loop.now_ns();
  run_until([&] { return stat("success") == 2; });
  EXPECT_GE(loop.now_ns() - begun, 250'000'000);
  registry.worker_shard(0).add(part->stats().cx_total);
  run_checks(1);  // the last of the rare ones
  const int64_t busy = loop.now_ns();
  run_checks(10);
  EXPECT_LT(loop.now_ns() - busy, int64_t{10} * 300'000'000);
}

TEST_F(Health, ManyHostsTakeTurns) {
  FakeUpstream server;
  std::vector<config::EndpointSpec> all;
  for (int i = 0; i < 700; ++i) {
    config::EndpointSpec one = endpoint(server.port());
    one.address.host = "127.0.1." + std::to_string(i % 250);
    one.address.port = static_cast<uint16_t>(10'000 + i);
    one.check = config::EndpointCheckSpec{
        .address = endpoint(server.port()).address, .port = 0, .hostname = "", .disabled = false};
    all.push_back(one);
  }
  HealthCheckSpec spec = http_check();
  spec.reuse_connection = false;
  spec.timeout_ms = 60'000;
  spec.no_traffic_interval_ms = spec.no_traffic_healthy_interval_ms = 3'600'000;
  check(spec, all);
  run_until([&] { return stat("healthy") == 700; });
  EXPECT_EQ(stat("attempt"), 700u);
  EXPECT_EQ(stat("failure"), 0u);
}

TEST_F(Health, ChecksSpeakTheClustersTlsAndTheirOwnAlpn) {
  test::CertificateAuthority ca;
  TlsContexts contexts;
  config::UpstreamTlsSpec tls;
  tls.common.validation.emplace().trusted_ca.bytes = ca.pem();
  tls.common.alpn = {"clusters-own"};
  const auto context = contexts.client(tls);
  ASSERT_TRUE(context.has_value()) << context.error().detail;
  ListenSocket server;
  HealthCheckSpec spec = http_check();
  spec.alpn_protocols = {"probe"};
  check(spec, {endpoint(server.port())}, *context);
  std::atomic<bool> answered = false;
  std::string alpn, head;
  std::thread serving([&] {
    test::TlsTunnel tunnel(
        server.accept(),
        {.server = true, .certificate = ca.issue("server"), .alpn = {"clusters-own", "http/1.1", "probe"}});
    alpn = tunnel.alpn();
    Socket plain = tunnel.plain();
    head = plain.recv_until("\r\n\r\n");
    plain.send(test::response_bytes(200));
    answered = true;
    plain.recv_to_eof();
  });
  run_until([&] { return answered && healthy(); });
  {
    event::Turn turn(loop);
    checker.want({.cluster = "c", .part = nullptr, .hosts = {}});
  }
  run_checks(0);
  for (int i = 0; i < 5; ++i) {
    loop.post([] {});
    loop.run_once();
  }
  serving.join();
  EXPECT_EQ(alpn, "probe");
  EXPECT_EQ(head.substr(0, 13), "GET /healthz ");
}

TEST_F(Health, AServerThatIsNotTrustedFails) {
  test::CertificateAuthority ca, other("other");
  TlsContexts contexts;
  config::UpstreamTlsSpec tls;
  tls.common.validation.emplace().trusted_ca.bytes = other.pem();
  const auto context = contexts.client(tls);
  ASSERT_TRUE(context.has_value()) << context.error().detail;
  ListenSocket server;
  HealthCheckSpec spec = tcp_check();
  spec.no_traffic_interval_ms = 3'600'000;
  check(spec, {endpoint(server.port())}, *context);
  std::thread serving([&] {
    test::TlsTunnel tunnel(server.accept(), {.server = true, .certificate = ca.issue("server"), .alpn = {}});
  });
  run_until([&] { return stat("failure") == 1; });
  serving.join();
  EXPECT_FALSE(healthy());
}

}  // namespace
}  // namespace outrigger::upstream
