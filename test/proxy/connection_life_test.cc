// How long connections live, on both sides and in both versions of HTTP: max_requests_per_connection,
// max_connection_duration and idle_timeout.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;
using test::FakeUpstream;
using test::HttpClient;
using test::Socket;
using test::wait_until;

class ConnectionLife : public ::testing::Test {
 protected:
  void serve(const std::function<void(config::HcmSpec&, config::ClusterSpec&)>& more) {
    config::ClusterSpec cluster = static_cluster("up", host.port());
    config::RouteTableSpec all = all_to("up");
    config::ListenerSpec front = listener("main", "t");
    more(front.filter_chains[0].hcm, cluster);
    for (const config::Spec& spec : std::initializer_list<config::Spec>{cluster, all, front}) plane.accept(spec);
    plane.publish();
  }
  test::H2Peer h2_client() {
    test::H2Peer client(Socket::connect(plane.port()));
    client.greet();
    return client;
  }
  uint64_t in(const std::string& name) { return plane.stat("http.main.downstream_" + name); }
  uint64_t out(const std::string& name) { return plane.stat("cluster.up.upstream_" + name); }

  FakeUpstream host{[](test::Exchange& e) {
    if (e.request.start_line.find("/slow") != std::string::npos) e.stall();
    e.respond(200, "whole");
  }};
  DataPlane plane;
};

TEST_F(ConnectionLife, SoManyRequestsOverAClientsConnection) {
  serve([](auto& hcm, auto&) { hcm.max_requests_per_connection = 2; });
  HttpClient client(plane.port());
  EXPECT_EQ(client.get("/").header("connection"), std::nullopt);
  EXPECT_EQ(client.get("/").header("connection"), "close");
  EXPECT_EQ(client.socket().recv_to_eof(), "");
  EXPECT_EQ(client.socket().end(), Socket::End::kEof);
  EXPECT_EQ(in("cx_max_requests_reached"), 1u);
  test::H2Peer peer = h2_client();
  for (const uint32_t stream : {1u, 3u}) {
    peer.socket.send(h2::headers(stream, h2::get("/")));
    EXPECT_EQ(peer.status(stream), ":status=200");
  }
  EXPECT_TRUE(peer.read_until([&] { return peer.reader.code(0) == 0; }));
  EXPECT_EQ(in("cx_max_requests_reached"), 2u);
}

TEST_F(ConnectionLife, AClientsConnectionGetsOldAndFinishesItsRequests) {
  serve([](auto& hcm, auto&) { hcm.max_connection_duration_ms = 50; });
  HttpClient idle(plane.port()), slow(plane.port());
  slow.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
  test::H2Peer peer = h2_client();
  peer.socket.send(h2::headers(1, h2::get("/slow")));
  ASSERT_TRUE(host.wait_for_requests(2));
  EXPECT_TRUE(wait_until([&] { return in("cx_max_duration_reached") == 3; }));
  EXPECT_EQ(idle.socket().recv_to_eof(), "");
  EXPECT_TRUE(peer.read_until([&] { return peer.reader.code(0) == 0; })) << "GOAWAY, with the request under way";
  host.release();
  const test::HttpMessage answer = slow.read_response();
  EXPECT_EQ(answer.body, "whole");
  EXPECT_EQ(answer.header("connection"), "close");
  EXPECT_EQ(peer.status(1), ":status=200");
  EXPECT_TRUE(wait_until([&] { return in("cx_active") == 0; }));
}

TEST_F(ConnectionLife, AHostsConnectionEndsByRequestsAgeAndIdleness) {
  serve([](auto&, auto& cluster) { cluster.max_requests_per_connection = 2; });
  for (int i = 0; i < 4; ++i) EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
  EXPECT_EQ(host.accepted(), 2u);
  EXPECT_EQ(out("cx_max_requests"), 2u);
  EXPECT_TRUE(host.wait_for_open(0));

  serve([](auto&, auto& cluster) { cluster.max_connection_duration_ms = 50; });
  HttpClient slow(plane.port());
  slow.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
  ASSERT_TRUE(host.wait_for_requests(5));
  EXPECT_TRUE(wait_until([&] { return out("cx_max_duration_reached") == 1; }));
  EXPECT_EQ(host.open(), 1u) << "its request comes first";
  host.release();
  EXPECT_EQ(slow.read_response().body, "whole");
  EXPECT_TRUE(host.wait_for_open(0));

  serve([](auto&, auto& cluster) { cluster.idle_timeout_ms = 50; });
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
  EXPECT_TRUE(host.wait_for_open(0));
  EXPECT_EQ(out("cx_idle_timeout"), 1u);
}

}  // namespace
}  // namespace outrigger::proxy
