// preconnect_policy: connections that are there before a request needs them, and never more than the policy asks for.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using test::FakeUpstream;
using test::HttpClient;
using test::wait_until;

class Preconnect : public ::testing::Test {
 protected:
  void serve(config::ClusterSpec cluster) {
    plane.accept(std::move(cluster));
    plane.accept(all_to("up"));
    plane.update(listener("main", "t"));
  }
  std::unique_ptr<HttpClient> ask() {
    auto client = std::make_unique<HttpClient>(plane.port());
    client->send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    return client;
  }
  uint64_t stat(const std::string& name) { return plane.stat("cluster.up." + name); }

  FakeUpstream a{[](test::Exchange& e) { e.stall(), e.respond(200); }};
  FakeUpstream b{[](test::Exchange& e) { e.stall(), e.respond(200); }};
  DataPlane plane;
};

TEST_F(Preconnect, WithoutAPolicyThereIsNoConnectionWithoutARequest) {
  config::ClusterSpec cluster = static_cluster("up", a.port());
  cluster.endpoints.endpoints.push_back(endpoint(b.port()));
  serve(cluster);
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (size_t i = 1; i <= 4; ++i) {
    clients.push_back(ask());
    ASSERT_TRUE(wait_until([&] { return a.request_count() + b.request_count() == i; }));
    EXPECT_EQ(stat("upstream_cx_total"), i);
  }
  a.release(), b.release();
  for (const auto& client : clients) EXPECT_EQ(client->read_response().status(), 200);
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
  EXPECT_EQ(stat("upstream_cx_total"), 4u);
}

TEST_F(Preconnect, AHostHasAsManyMoreAsTheRatioSays) {
  config::ClusterSpec cluster = static_cluster("up", a.port());
  cluster.preconnect_ratio = 1.5;
  serve(cluster);
  std::vector<std::unique_ptr<HttpClient>> clients;
  const size_t expected[] = {2, 3, 5, 6};  // of 1, 2, 3, 4 requests
  for (const size_t connections : expected) {
    clients.push_back(ask());
    ASSERT_TRUE(a.wait_for_requests(clients.size()));
    EXPECT_TRUE(a.wait_for_open(connections)) << a.open();
    EXPECT_EQ(stat("upstream_cx_total"), connections);
  }
  a.release();
  for (const auto& client : clients) EXPECT_EQ(client->read_response().status(), 200);
  // What is there is used, and is enough.
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
  EXPECT_EQ(stat("upstream_cx_total"), 6u);
}

TEST_F(Preconnect, TheCircuitBreakerBoundsIt) {
  config::ClusterSpec cluster = static_cluster("up", a.port());
  cluster.preconnect_ratio = 3;
  cluster.max_connections = 2;
  serve(cluster);
  const auto client = ask();
  ASSERT_TRUE(a.wait_for_requests(1));
  EXPECT_TRUE(a.wait_for_open(2));
  EXPECT_EQ(stat("upstream_cx_total"), 2u);
  EXPECT_GE(stat("upstream_cx_overflow"), 1u);
  a.release();
  EXPECT_EQ(client->read_response().status(), 200);
}

TEST_F(Preconnect, OneThatFailsIsNotMadeAgainAndTroublesNobody) {
  config::ClusterSpec cluster = static_cluster("up", a.port());
  serve(cluster);
  const auto client = ask();
  ASSERT_TRUE(a.wait_for_requests(1));
  a.stop_listening();
  cluster.preconnect_ratio = 2;
  plane.update(cluster);
  a.release();
  EXPECT_EQ(client->read_response().status(), 200);
  client->send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_EQ(client->read_response().status(), 200);
  EXPECT_TRUE(wait_until([&] { return stat("upstream_cx_connect_fail") == 1; }));
  EXPECT_EQ(stat("upstream_cx_total"), 2u);
  EXPECT_EQ(stat("upstream_cx_active"), 1u);
}

TEST_F(Preconnect, Http2ConnectionsAreMadeWhenTheirStreamsGetScarce) {
  test::ListenSocket host;
  config::ClusterSpec cluster = static_cluster("up", host.port());
  cluster.codec = config::ClusterSpec::Codec::kHttp2;
  cluster.http2.max_concurrent_streams = 2;
  cluster.preconnect_ratio = 1.5;
  serve(cluster);
  const auto first = ask();
  test::H2Peer one(host.accept());
  ASSERT_TRUE(one.socket.valid());
  one.socket.recv_exactly(24);
  one.socket.send(test::h2::settings());
  ASSERT_TRUE(one.read_head(1));
  EXPECT_EQ(stat("upstream_cx_total"), 1u);  // room for 2, 1.5 wanted
  const auto second = ask();
  ASSERT_TRUE(one.read_head(3));
  test::H2Peer two(host.accept());
  EXPECT_TRUE(two.socket.valid());
  EXPECT_EQ(stat("upstream_cx_total"), 2u);  // room for 4, 3 wanted
}

TEST_F(Preconnect, TheHostsThatComeNextAreConnected) {
  config::ClusterSpec cluster = static_cluster("up", a.port());
  cluster.endpoints.endpoints.push_back(endpoint(b.port()));
  cluster.predictive_preconnect_ratio = 2;
  serve(cluster);
  const auto first = ask();
  ASSERT_TRUE(wait_until([&] { return a.request_count() + b.request_count() == 1; }));
  EXPECT_TRUE(a.wait_for_open(1));
  EXPECT_TRUE(b.wait_for_open(1));
  FakeUpstream& next = a.request_count() == 1 ? b : a;
  const size_t connected = next.accepted();
  const auto second = ask();
  // They are in turn as they would be without, and the next one's connection was there.
  EXPECT_TRUE(next.wait_for_requests(1));
  EXPECT_EQ(connected, 1u);
  a.release(), b.release();
  EXPECT_EQ(first->read_response().status(), 200);
  EXPECT_EQ(second->read_response().status(), 200);
}

TEST_F(Preconnect, PredictionsEndWithTheirHosts) {
  config::ClusterSpec cluster = static_cluster("up", a.port());
  cluster.endpoints.endpoints.push_back(endpoint(b.port()));
  cluster.predictive_preconnect_ratio = 3;
  a.release(), b.release();
  serve(cluster);
  for (int round = 0; round < 6; ++round) {
    EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
    if (round % 2 == 0)
      cluster.endpoints.endpoints.pop_back();
    else
      cluster.endpoints.endpoints.push_back(endpoint(b.port()));
    plane.update(cluster);
  }
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
}

}  // namespace
}  // namespace outrigger::proxy
