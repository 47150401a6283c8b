// gRPC through a worker's data plane: local replies in its form, deadlines, retries, routes.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;
using config::ForwardSpec;
using test::H2Peer;

constexpr std::string_view kRequest =
    "POST /p.S/M HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n";

h2::Fields grpc_request(h2::Fields more = {}) {
  h2::Fields fields = h2::request("POST", "/p.S/M", {{"content-type", "application/grpc"}, {"te", "trailers"}});
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

class GrpcProxy : public ::testing::Test {
 protected:
  // Everything goes to one HTTP/2 upstream.
  void serve(const std::function<void(ForwardSpec&)>& more = {},
             const std::function<void(config::HcmSpec&)>& hcm = {}) {
    config::ClusterSpec cluster = static_cluster("up", upstream.port());
    cluster.codec = config::ClusterSpec::Codec::kHttp2;
    plane.accept(cluster);
    config::RouteTableSpec routes = all_to("up");
    if (more) more(std::get<ForwardSpec>(routes.virtual_hosts[0].routes[0].action));
    plane.accept(routes);
    config::ListenerSpec front = listener("main", "t");
    front.filter_chains[0].hcm.stat_prefix = "in";
    front.filter_chains[0].hcm.enable_trailers = true;
    if (hcm) hcm(front.filter_chains[0].hcm);
    plane.update(front);
  }
  H2Peer accept() {
    H2Peer peer(upstream.accept());
    EXPECT_EQ(peer.socket.recv_exactly(24), h2::preface());
    peer.socket.send(h2::settings() + h2::frame(h2::kSettings, h2::kAck, 0));
    return peer;
  }
  H2Peer client() {
    H2Peer peer(test::Socket::connect(plane.port()));
    peer.greet();
    return peer;
  }

  test::ListenSocket upstream;
  DataPlane plane;
};

TEST_F(GrpcProxy, LocalRepliesAreTrailersOnly) {
  serve();
  upstream.close();  // nobody listens there
  H2Peer over_h2 = client();
  over_h2.socket.send(h2::headers(1, grpc_request()));
  const std::string head = over_h2.head(1);
  EXPECT_EQ(head.substr(0, 12), ":status=200 ");
  EXPECT_NE(head.find("content-type=application/grpc "), std::string::npos) << head;
  EXPECT_NE(head.find("grpc-status=14 "), std::string::npos) << head;
  EXPECT_NE(head.find("grpc-message=upstream connect error or disconnect/reset before headers"), std::string::npos)
      << head;
  EXPECT_EQ(over_h2.reader.body(1), "");
  EXPECT_TRUE(over_h2.reader.find(h2::kHeaders, 1)->ended());

  test::HttpClient over_h1(plane.port());
  over_h1.send(std::string(kRequest) + "\r\n");
  const test::HttpMessage answer = over_h1.read_response();
  EXPECT_EQ(answer.status(), 200);
  EXPECT_EQ(answer.header("grpc-status"), "14");
  EXPECT_EQ(answer.header("content-type"), "application/grpc");
  EXPECT_EQ(answer.body, "");

  over_h1.send("GET / HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web\r\n\r\n");
  EXPECT_EQ(over_h1.read_response().status(), 503);
}

TEST_F(GrpcProxy, TrailersAndTeReachTheOtherSide) {
  serve();
  H2Peer peer = client();
  peer.socket.send(h2::headers(1, grpc_request(), h2::kEndHeaders) + h2::data(1, std::string("\0\0\0\0\2hi", 7), true));
  H2Peer server = accept();
  ASSERT_TRUE(server.read_until([&] { return server.reader.ended(1); }));
  EXPECT_NE(server.reader.find(h2::kHeaders, 1)->fields.find("te=trailers "), std::string::npos);
  EXPECT_EQ(server.reader.body(1).size(), 7u);
  server.socket.send(h2::headers(1, {{":status", "200"}, {"content-type", "application/grpc"}}, h2::kEndHeaders) +
                     h2::data(1, std::string("\0\0\0\0\2ho", 7)) + h2::headers(1, {{"grpc-status", "0"}}));
  peer.head(1);
  std::string trailers;
  for (const h2::Frame& f : peer.reader.frames)
    if (f.type == h2::kHeaders && f.ended()) trailers = f.fields;
  EXPECT_NE(trailers.find("grpc-status=0"), std::string::npos) << trailers;
}

// The deadline of the client's is the stream's, bounded, less the offset; the upstream is told what is left.
TEST_F(GrpcProxy, TheClientsDeadlineIsKept) {
  serve([](ForwardSpec& forward) {
    forward.grpc_timeout_header_max_ms = 60'000;
    forward.grpc_timeout_header_offset_ms = 20;
  });
  H2Peer peer = client();
  peer.socket.send(h2::headers(1, grpc_request({{"grpc-timeout", "100m"}})));
  H2Peer server = accept();
  ASSERT_TRUE(server.read_head(1));
  EXPECT_NE(server.reader.find(h2::kHeaders, 1)->fields.find("grpc-timeout=80m"), std::string::npos);
  const std::string head = peer.head(1);
  EXPECT_NE(head.find("grpc-status=4 "), std::string::npos) << head;
  EXPECT_NE(head.find("grpc-message=downstream duration timeout"), std::string::npos) << head;
  EXPECT_EQ(plane.stat("http.in.downstream_rq_max_duration_reached"), 1u);
  ASSERT_TRUE(server.read_until([&] { return server.reader.code(1) >= 0; }));  // the upstream's is cancelled

  peer.socket.send(h2::headers(3, grpc_request({{"grpc-timeout", "99H"}})));
  ASSERT_TRUE(server.read_head(3));
  EXPECT_NE(server.reader.find(h2::kHeaders, 3)->fields.find("grpc-timeout=59980m"), std::string::npos);
}

TEST_F(GrpcProxy, ADeadlineThatIsNotAskedForDoesNotCount) {
  serve([](ForwardSpec& forward) { forward.max_stream_duration_ms = 30; });
  H2Peer peer = client();
  peer.socket.send(h2::headers(1, grpc_request({{"grpc-timeout", "10H"}})));
  H2Peer server = accept();
  ASSERT_TRUE(server.read_head(1));
  EXPECT_NE(server.reader.find(h2::kHeaders, 1)->fields.find("grpc-timeout=10H"), std::string::npos);
  EXPECT_NE(peer.head(1).find("grpc-status=4 "), std::string::npos);  // the route's own
}

// The route's max_stream_duration takes the place of the listener's; 0 takes it away. After the head has gone the
// stream is cut.
TEST_F(GrpcProxy, MaxStreamDurationOfRouteAndListener) {
  serve({}, [](config::HcmSpec& hcm) { hcm.max_stream_duration_ms = 30; });
  H2Peer peer = client();
  peer.socket.send(h2::headers(1, h2::request("POST", "/"), h2::kEndHeaders));  // its body never ends
  H2Peer server = accept();
  EXPECT_EQ(peer.status(1), ":status=408");
  peer.socket.send(h2::headers(3, h2::get("/")));
  ASSERT_TRUE(server.read_head(3));
  server.socket.send(h2::headers(3, {{":status", "200"}}, h2::kEndHeaders));
  peer.head(3);
  EXPECT_EQ(peer.reader.code(3), 2);
}

TEST_F(GrpcProxy, ARoutesZeroTakesTheListenersDurationAway) {
  serve([](ForwardSpec& forward) { forward.max_stream_duration_ms = 0, forward.timeout_ms = 60; },
        [](config::HcmSpec& hcm) { hcm.max_stream_duration_ms = 1; });
  H2Peer peer = client();
  peer.socket.send(h2::headers(1, grpc_request()));
  const std::string head = peer.head(1);  // the route's timeout, which is UNAVAILABLE as in Envoy
  EXPECT_NE(head.find("grpc-status=14 "), std::string::npos) << head;
  EXPECT_NE(head.find("grpc-message=upstream request timeout"), std::string::npos) << head;
}

TEST_F(GrpcProxy, TheDeprecatedMaxGrpcTimeoutIsTheRoutesTimeout) {
  serve([](ForwardSpec& forward) {
    forward.timeout_ms = 0;
    forward.max_grpc_timeout_ms = 40;
    forward.grpc_timeout_offset_ms = 10;
  });
  H2Peer peer = client();
  peer.socket.send(h2::headers(1, grpc_request({{"grpc-timeout", "1H"}})) +
                   h2::headers(3, grpc_request({{"grpc-timeout", "35m"}})));
  H2Peer server = accept();
  ASSERT_TRUE(server.read_head(3));
  EXPECT_NE(server.reader.find(h2::kHeaders, 1)->fields.find("grpc-timeout=40m"), std::string::npos);
  EXPECT_NE(server.reader.find(h2::kHeaders, 3)->fields.find("grpc-timeout=25m"), std::string::npos);
  EXPECT_NE(peer.head(1).find("grpc-status=14 "), std::string::npos);
}

TEST_F(GrpcProxy, StatusesOfTrailersOnlyAnswersAreTriedAgain) {
  serve([](ForwardSpec& forward) {
    config::RetryPolicySpec retry;
    retry.retry_on = {"cancelled", "unavailable"};
    retry.num_retries = 1;
    retry.base_interval_ms = retry.max_interval_ms = 1;
    forward.retry = retry;
  });
  H2Peer peer = client();
  const auto answer = [](uint32_t stream, const char* status) {
    return h2::headers(stream, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", status}});
  };
  peer.socket.send(h2::headers(1, grpc_request()));
  H2Peer server = accept();
  ASSERT_TRUE(server.read_head(1));
  server.socket.send(answer(1, "14"));
  ASSERT_TRUE(server.read_head(3));
  server.socket.send(answer(3, "0"));
  EXPECT_NE(peer.head(1).find("grpc-status=0"), std::string::npos);

  peer.socket.send(h2::headers(3, grpc_request()));
  ASSERT_TRUE(server.read_head(5));
  server.socket.send(answer(5, "13"));  // not one of the policy's
  EXPECT_NE(peer.head(3).find("grpc-status=13"), std::string::npos);
  EXPECT_EQ(plane.stat("cluster.up.upstream_rq_retry"), 1u);
}

TEST_F(GrpcProxy, RoutesForGrpcOnly) {
  serve();
  config::RouteTableSpec routes = all_to("up");
  config::RouteSpec& other = routes.virtual_hosts[0].routes[0];
  other.action = config::DirectResponseSpec{.status = 200, .body = "other"};
  config::RouteSpec grpc = other;
  grpc.match.grpc = true;
  grpc.action = config::DirectResponseSpec{.status = 403, .body = "grpc"};
  routes.virtual_hosts[0].routes = {grpc, other};
  plane.update(routes);
  test::HttpClient http(plane.port());
  http.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_EQ(http.read_response().body, "other");
  http.send(std::string(kRequest) + "\r\n");
  const test::HttpMessage answer = http.read_response();
  EXPECT_EQ(answer.header("grpc-status"), "7");
  EXPECT_EQ(answer.header("grpc-message"), "grpc");
}

}  // namespace
}  // namespace outrigger::proxy
