// Request mirroring: the copy is whole, its answer goes nowhere, and whatever becomes of it the request does not feel
// it.
#include <atomic>
#include <thread>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using config::ForwardSpec;
using config::ListenerSpec;
using config::RouteTableSpec;
using test::Exchange;
using test::FakeUpstream;
using test::FakeUpstreamOptions;
using test::HttpClient;
using test::HttpMessage;
using test::wait_until;

class Mirror : public ::testing::Test {
 protected:
  explicit Mirror(FakeUpstreamOptions options = {})
      : shadow([](Exchange& e) { e.respond(200, "from the mirror"); }, options) {}

  ForwardSpec& forward() { return std::get<ForwardSpec>(routes.virtual_hosts[0].routes[0].action); }
  // Everything goes to cluster "up", mirrored to "m" unless the test has said otherwise.
  void serve() {
    routes.virtual_hosts[0].routes[0].match.path.value = "/";
    if (forward().mirrors.empty()) forward().mirrors = {{.cluster = "m", .cluster_header = {}}};
    plane.accept(static_cluster("up", upstream.port()));
    mirror_cluster.endpoints.endpoints = {endpoint(shadow.port())};
    plane.accept(mirror_cluster);
    plane.accept(routes);
    plane.update(front);
    ASSERT_NE(plane.port(), 0);
  }
  uint64_t stat(const std::string& name) const { return plane.stat("cluster.m.upstream_" + name); }
  bool settles() {
    return wait_until([this] { return stat("rq_active") == 0; });
  }
  static std::string post(const std::string& body) { return test::request_bytes("POST", "/", {{"host", "h"}}, body); }

  FakeUpstream upstream{[](Exchange& e) { e.respond(200, "got " + std::to_string(e.request.body.size())); }};
  FakeUpstream shadow;
  config::ClusterSpec mirror_cluster = static_cluster("m");
  RouteTableSpec routes = table("t", {"up"});
  ListenerSpec front = listener("main", "t");
  DataPlane plane;
};

TEST_F(Mirror, TheCopyIsWholeAndItsAnswerGoesNowhere) {
  front.filter_chains[0].hcm.enable_trailers = true;
  routes.virtual_hosts[0].routes[0].request_headers.add = {{.name = "x-added", .value = "1"}};
  forward().prefix_rewrite = "/new";
  routes.virtual_hosts[0].routes[0].match.path.value = "/";
  serve();
  HttpClient client(plane.port());
  const std::string big(300'000, 'b');
  client.send("POST /path?q=1 HTTP/1.1\r\nhost: shop.example:80\r\nx-own: 2\r\ntransfer-encoding: chunked\r\n\r\n" +
              test::chunk("small") + test::chunk(big) + "0\r\nx-end: 3\r\n\r\n");
  EXPECT_EQ(client.read_response().body, "got 300005");
  ASSERT_TRUE(shadow.wait_for_requests(1));
  const HttpMessage copy = shadow.requests()[0], original = upstream.requests()[0];
  EXPECT_EQ(copy.start_line, original.start_line);
  EXPECT_EQ(copy.body, "small" + big);
  EXPECT_EQ(copy.header("host"), "shop.example-shadow:80");
  EXPECT_EQ(original.header("host"), "shop.example:80");
  EXPECT_EQ(copy.header("x-added"), "1");
  EXPECT_EQ(copy.header("x-own"), "2");
  EXPECT_EQ(copy.header("x-request-id"), original.header("x-request-id"));
  EXPECT_EQ(copy.trailers, (HttpMessage::Fields{{"x-end", "3"}}));
  ASSERT_TRUE(settles());
  EXPECT_EQ(client.get("/", {{"host", "h"}}).body, "got 0");
  ASSERT_TRUE(shadow.wait_for_requests(2));
  EXPECT_EQ(shadow.requests()[1].header("host"), "h-shadow");
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_total"), 2u);
  EXPECT_EQ(stat("rq_2xx"), 2u);
  EXPECT_EQ(shadow.accepted(), 1u);  // its connection is kept like any other
}

TEST_F(Mirror, PoliciesSayWhereToAndHowMany) {
  forward().mirrors = {{.cluster = "m", .cluster_header = {}, .append_shadow = false},
                       {.cluster = {}, .cluster_header = "x-mirror"},
                       {.cluster = "m", .cluster_header = {}, .fraction = {0, 100}}};
  FakeUpstream other;
  plane.accept(aggregate_cluster("group", {"other"}));
  plane.accept(static_cluster("other", other.port()));
  serve();
  EXPECT_EQ(test::http_get(plane.port(), "/", {{"host", "h"}, {"x-mirror", "group"}}).status(), 200);
  ASSERT_TRUE(shadow.wait_for_requests(1));
  ASSERT_TRUE(other.wait_for_requests(1));
  EXPECT_EQ(shadow.requests()[0].header("host"), "h");
  EXPECT_EQ(other.requests()[0].header("host"), "h-shadow");
  EXPECT_EQ(test::http_get(plane.port(), "/", {{"x-mirror", "nowhere"}}).status(), 200);
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_total"), 2u);
  EXPECT_EQ(plane.stat("cluster.other.upstream_rq_total"), 1u);
}

TEST_F(Mirror, AFractionOfTheRequests) {
  forward().mirrors = {{.cluster = "m", .cluster_header = {}, .fraction = {25, 100}}};
  serve();
  HttpClient client(plane.port());
  for (int i = 0; i < 400; ++i) ASSERT_EQ(client.get("/").status(), 200);
  ASSERT_TRUE(settles());
  EXPECT_NEAR(static_cast<double>(stat("rq_total")), 100, 50);
}

TEST_F(Mirror, ASlowAnswerKeepsNobodyWaitingAndEndsByTheRoutesTimeout) {
  forward().timeout_ms = 300;
  shadow.set_handler([](Exchange& e) { e.stall(); });
  serve();
  HttpClient client(plane.port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.get("/").status(), 200);
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_timeout"), 3u);
  EXPECT_EQ(plane.stat("http.main.downstream_rq_active"), 0u);
  EXPECT_TRUE(shadow.wait_for_open(0));
}

// The mirror ends each copy in its own way; the client, who sends the body in two halves around that, sees nothing.
TEST_F(Mirror, ResetsAtEveryMomentAreNotFelt) {
  front.per_connection_buffer_limit_bytes = 16 * 1024 * 1024;  // the halves wait if they must
  serve();
  HttpClient client(plane.port());
  EXPECT_EQ(client.get("/").status(), 200);
  const std::string half(200'000, 'h');
  const std::vector<FakeUpstream::Handler> ends = {
      [](Exchange& e) { e.reset(); },
      [](Exchange& e) { e.close(); },
      [](Exchange& e) { e.respond(200); },
      [](Exchange& e) { e.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), e.reset(); },
      [](Exchange& e) { e.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n"), e.close(); },
      [](Exchange& e) { e.send("what?\r\n\r\n"), e.close(); },
      [](Exchange& e) { e.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"), e.close(); },
  };
  for (const bool body_first : {true, false}) {
    FakeUpstream other({}, {.read_body = body_first});
    config::ClusterSpec next = static_cluster("m", other.port());
    plane.update(next);
    for (size_t i = 0; i < ends.size(); ++i) {
      const auto ended = std::make_shared<std::atomic<bool>>(false);  // the upstream's thread may be late
      other.set_handler([ended, end = ends[i]](Exchange& e) {
        end(e);
        *ended = true;
      });
      client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 400000\r\n\r\n" + half);
      if (!body_first) {
        ASSERT_TRUE(wait_until([&] { return ended->load(); })) << i;
      }
      client.send(half);
      const HttpMessage answer = client.read_response();
      ASSERT_EQ(answer.error, "") << i;
      EXPECT_EQ(answer.body, "got 400000") << i;
      ASSERT_TRUE(settles()) << i;
    }
  }
  EXPECT_EQ(plane.stat("cluster.up.upstream_rq_total"), 1 + 2 * ends.size());
  EXPECT_EQ(plane.stat("http.main.downstream_cx_total"), 1u);
}

TEST_F(Mirror, AClientThatLeavesTakesTheCopyAlongAndAWholeOneIsLeftToGoOn) {
  upstream.set_handler([](Exchange& e) { e.stall(); });
  // The upstream's threads outlive the test's body, and the part of a request that came is given to them late.
  const auto whole = std::make_shared<std::atomic<bool>>(false);
  shadow.set_handler([whole](Exchange& e) {
    if (e.request.body == "whole") *whole = true;
    e.stall();
    e.respond(200);
  });
  serve();
  {
    HttpClient client(plane.port());
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nonly a part");
    ASSERT_TRUE(wait_until([&] { return stat("rq_active") == 1 && stat("cx_total") == 1; }));
  }
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_total"), 1u);
  {
    HttpClient client(plane.port());
    client.send(post("whole"));
    ASSERT_TRUE(wait_until([&] { return whole->load(); }));
  }
  ASSERT_TRUE(wait_until([&] { return plane.stat("cluster.up.upstream_rq_active") == 0; }));
  EXPECT_EQ(stat("rq_active"), 1u);
  shadow.release();
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_2xx"), 1u);
}

TEST_F(Mirror, AnEarlyAnswerEndsTheCopyOfARequestThatIsNotWhole) {
  FakeUpstream early([](Exchange& e) { e.respond(413, "too much"); }, {.read_body = false});
  serve();
  plane.update(static_cluster("up", early.port()));
  HttpClient client(plane.port());
  client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nonly a part");
  EXPECT_EQ(client.read_response().status(), 413);
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_total"), 1u);
  EXPECT_EQ(stat("rq_completed"), 0u);
}

TEST_F(Mirror, ARetryIsNotMirroredAgain) {
  forward().retry =
      config::RetryPolicySpec{.retry_on = {"5xx"}, .num_retries = 3, .base_interval_ms = 1, .max_interval_ms = 1};
  std::atomic<int> calls{0};
  upstream.set_handler([&](Exchange& e) { e.respond(++calls < 3 ? 500 : 200, e.request.body); });
  serve();
  HttpClient client(plane.port());
  EXPECT_EQ(client.request("POST", "/", {{"host", "h"}}, "again").body, "again");
  ASSERT_TRUE(settles());
  EXPECT_EQ(upstream.request_count(), 3u);
  EXPECT_EQ(shadow.request_count(), 1u);
  EXPECT_EQ(shadow.requests()[0].body, "again");
}

TEST_F(Mirror, ItsBreakersHoldAndARequestWithoutAHostIsNotMirrored) {
  mirror_cluster.max_requests = 1;
  shadow.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200);
  });
  serve();
  HttpClient client(plane.port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.get("/").status(), 200);
  EXPECT_EQ(stat("rq_total"), 1u);
  EXPECT_EQ(stat("rq_pending_overflow"), 2u);
  shadow.release();
  ASSERT_TRUE(settles());
  EXPECT_EQ(client.get("/").status(), 200);
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_total"), 2u);
  config::ClusterSpec nobody = static_cluster("up");
  nobody.endpoints.endpoints.clear();
  plane.update(nobody);
  EXPECT_EQ(client.get("/").status(), 503);
  EXPECT_EQ(stat("rq_total"), 2u);
}

TEST_F(Mirror, AMirrorThatRefusesAndOneWithoutHostsAreNotFelt) {
  serve();
  shadow.stop_listening();
  HttpClient client(plane.port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.request("POST", "/", {{"host", "h"}}, "body").body, "got 4");
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("cx_connect_fail"), 3u);
  mirror_cluster.endpoints.endpoints.clear();
  plane.update(mirror_cluster);
  EXPECT_EQ(client.get("/").status(), 200);
  EXPECT_EQ(stat("cx_none_healthy"), 1u);
}

TEST_F(Mirror, AConfigurationThatChangesMeanwhileHarmsNothing) {
  shadow.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200, "late");
  });
  serve();
  HttpClient client(plane.port());
  EXPECT_EQ(client.request("POST", "/", {{"host", "h"}}, "body").body, "got 4");
  client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 8\r\n\r\nhalf");
  ASSERT_TRUE(wait_until([&] { return stat("rq_total") == 2 && stat("cx_total") == 2; }));
  plane.accept(table("t", {"up"}));
  plane.remove(config::ResourceType::kCluster, "m");
  plane.publish();
  client.send("half");
  EXPECT_EQ(client.read_response().body, "got 8");
  ASSERT_TRUE(shadow.wait_for_requests(2));
  shadow.release();
  EXPECT_TRUE(shadow.wait_for_open(0));  // the departed cluster's connections end when its requests have
  EXPECT_EQ(client.get("/up").status(), 200);
  EXPECT_EQ(shadow.request_count(), 2u);
}

TEST_F(Mirror, AShutdownCutsWhatIsUnderWay) {
  shadow.set_handler([](Exchange& e) { e.stall(); });
  serve();
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
  ASSERT_TRUE(shadow.wait_for_requests(1));
  // The data plane's end is the test: it waits for requests, and nobody waits for the mirror.
}

class SlowMirror : public Mirror {
 protected:
  SlowMirror() : Mirror({.read_body = false, .receive_buffer = 4096}) {}
};

TEST_F(SlowMirror, IsCutOffWhenTheBufferIsFullAndTheRequestGoesOn) {
  front.per_connection_buffer_limit_bytes = 64 * 1024;
  mirror_cluster.per_connection_buffer_limit_bytes = 64 * 1024;
  shadow.set_handler([](Exchange& e) {
    if (e.request.method() == "POST") e.stall();
    e.respond(200);
  });
  serve();
  HttpClient client(plane.port());
  EXPECT_EQ(client.get("/").status(), 200);
  ASSERT_TRUE(settles());  // its connection is there
  const std::string big(16 * 1024 * 1024, 'b');
  std::thread sender([&] { client.send(post(big)); });
  const HttpMessage answer = client.read_response();
  sender.join();
  EXPECT_EQ(answer.body, "got " + std::to_string(big.size()));
  ASSERT_TRUE(settles());
  EXPECT_EQ(stat("rq_shadow_overflow"), 1u);
  EXPECT_EQ(stat("rq_tx_reset"), 1u);
  shadow.release();
  EXPECT_TRUE(shadow.wait_for_open(0));
}

TEST_F(SlowMirror, TakesABigBodyAtItsOwnPaceWithinTheLimit) {
  front.per_connection_buffer_limit_bytes = 64 * 1024 * 1024;
  mirror_cluster.per_connection_buffer_limit_bytes = 16 * 1024;
  std::atomic<size_t> taken{0};
  shadow.set_handler([&](Exchange& e) {
    e.stall();
    if (e.read_body()) taken = e.request.body.size();
    e.respond(200);
  });
  serve();
  HttpClient client(plane.port());
  const std::string big(8 * 1024 * 1024, 'b');
  std::thread sender([&] { client.send(post(big)); });
  EXPECT_EQ(client.read_response().body, "got " + std::to_string(big.size()));
  sender.join();
  shadow.release();
  ASSERT_TRUE(settles());
  EXPECT_EQ(taken.load(), big.size());
  EXPECT_EQ(stat("rq_2xx"), 1u);
  EXPECT_EQ(stat("rq_shadow_overflow"), 0u);
}

}  // namespace
}  // namespace outrigger::proxy
