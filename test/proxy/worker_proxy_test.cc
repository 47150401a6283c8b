#include "proxy/worker_proxy.h"

#include <atomic>

#include "proxy/data_plane.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;
using config::EndpointSpec;
using config::ForwardSpec;
using config::ListenerSpec;
using config::RouteSpec;
using config::RouteTableSpec;
using test::Exchange;
using test::FakeUpstream;
using test::HttpClient;
using test::HttpMessage;
using test::wait_until;

ClusterSpec cluster(const std::string& name, std::vector<uint16_t> ports) {
  ClusterSpec spec;
  spec.name = name;
  for (const uint16_t port : ports) {
    EndpointSpec endpoint;
    endpoint.address = {.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = port};
    spec.endpoints.endpoints.push_back(endpoint);
  }
  return spec;
}

RouteSpec route(const std::string& prefix, const std::string& to) {
  RouteSpec spec;
  spec.match.path = {.kind = config::PathMatchSpec::Kind::kPrefix, .value = prefix};
  ForwardSpec forward;
  forward.cluster = to;
  spec.action = forward;
  return spec;
}

RouteTableSpec table(std::vector<RouteSpec> routes, const std::string& name = "table") {
  RouteTableSpec spec;
  spec.name = name;
  config::VirtualHostSpec host;
  host.name = "all";
  host.domains = {"*"};
  host.routes = std::move(routes);
  spec.virtual_hosts.push_back(std::move(host));
  return spec;
}

ListenerSpec listener(const std::string& rds = "table") {
  ListenerSpec spec;
  spec.name = "main";
  spec.addresses = {{.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = 0}};
  config::FilterChainSpec chain;
  chain.hcm.stat_prefix = "in";
  chain.hcm.rds_name = rds;
  spec.filter_chains.push_back(std::move(chain));
  return spec;
}

class Proxy : public ::testing::Test {
 protected:
  // One listener, one table, one cluster "up".
  void serve(RouteTableSpec routes, ListenerSpec front = listener()) {
    plane.accept(cluster("up", {upstream.port()}));
    plane.accept(std::move(routes));
    plane.update(std::move(front));
    ASSERT_NE(plane.port(), 0);
  }
  void serve() { serve(table({route("/", "up")})); }

  FakeUpstream upstream{[](Exchange& e) { e.respond(200, "hello " + e.request.target()); }};
  DataPlane plane;
};

TEST_F(Proxy, ForwardsAndKeepsBothConnections) {
  serve();
  HttpClient client(plane.port());
  for (int i = 0; i < 5; ++i) {
    const HttpMessage answer = client.get("/a" + std::to_string(i), {{"x-test", "1"}});
    ASSERT_EQ(answer.error, "");
    EXPECT_EQ(answer.status(), 200);
    EXPECT_EQ(answer.body, "hello /a" + std::to_string(i));
    EXPECT_EQ(answer.header("server"), "outrigger");
    EXPECT_TRUE(answer.header("date").has_value());
    EXPECT_TRUE(answer.header("x-envoy-upstream-service-time").has_value());
  }
  EXPECT_EQ(upstream.accepted(), 1u);
  const HttpMessage seen = upstream.requests()[0];
  EXPECT_EQ(seen.header("x-test"), "1");
  EXPECT_EQ(seen.header("x-forwarded-proto"), "http");
  EXPECT_EQ(seen.header("x-request-id")->size(), 36u);
  EXPECT_EQ(seen.header("x-envoy-expected-rq-timeout-ms"), "15000");
  EXPECT_EQ(plane.stat("http.in.downstream_rq_total"), 5u);
  EXPECT_EQ(plane.stat("cluster.up.upstream_rq_total"), 5u);
}

TEST_F(Proxy, StreamsBodiesBothWays) {
  upstream.set_handler([](Exchange& e) { e.respond(200, e.request.body); });
  serve();
  const std::string big(3 * 1024 * 1024, 'b');
  HttpClient client(plane.port());
  std::thread sender([&] { client.send(test::request_bytes("POST", "/", {}, big)); });
  const HttpMessage answer = client.read_response();
  sender.join();
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.body, big);

  client.send("POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + test::chunk("abc") +
              test::chunk("defg") + test::chunk(""));
  EXPECT_EQ(client.read_response().body, "abcdefg");
  EXPECT_EQ(client.request("HEAD", "/").body, "");
  EXPECT_EQ(client.get("/").status(), 200);
}

TEST_F(Proxy, AnswersPipelinedRequestsInOrder) {
  serve();
  HttpClient client(plane.port());
  std::string many;
  for (int i = 0; i < 20; ++i) many += test::request_bytes("GET", "/p" + std::to_string(i), {{"host", "h"}});
  client.send(many);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read_response().body, "hello /p" + std::to_string(i));
}

TEST_F(Proxy, FailuresOfTheUpstream) {
  RouteTableSpec routes = table({route("/", "up")});
  std::get<ForwardSpec>(routes.virtual_hosts[0].routes[0].action).timeout_ms = 300;
  serve(routes);
  upstream.set_handler([](Exchange& e) {
    if (e.request.target() == "/garbage") {
      e.send("what?\r\n\r\n");
      e.close();
    } else if (e.request.target() == "/reset") {
      e.reset();
    } else if (e.request.target() == "/half") {
      e.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
      e.close();
    } else if (e.request.target() == "/stall") {
      e.stall();
    } else {
      e.respond(200, "fine");
    }
  });
  EXPECT_EQ(test::http_get(plane.port(), "/garbage").status(), 502);
  EXPECT_EQ(test::http_get(plane.port(), "/reset").status(), 503);
  EXPECT_EQ(test::http_get(plane.port(), "/stall").status(), 504);
  EXPECT_NE(test::http_get(plane.port(), "/half").error, "");
  EXPECT_EQ(test::http_get(plane.port(), "/ok").status(), 200);
  upstream.stop_listening();
  upstream.close_connections();
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.up.upstream_cx_active") == 0; }));
  EXPECT_EQ(test::http_get(plane.port(), "/gone").status(), 503);
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_connect_fail"), 1u);
}

TEST_F(Proxy, RetriesWhatItsPolicyNames) {
  RouteTableSpec routes = table({route("/", "up")});
  std::get<ForwardSpec>(routes.virtual_hosts[0].routes[0].action).retry =
      config::RetryPolicySpec{.retry_on = {"5xx"}, .num_retries = 2, .base_interval_ms = 1, .max_interval_ms = 2};
  serve(routes);
  std::atomic<int> calls{0};
  upstream.set_handler([&](Exchange& e) {
    const int call = ++calls;
    if (call < 3) {
      e.respond(500, "no");
    } else {
      e.respond(200, e.request.body);
    }
  });
  HttpClient client(plane.port());
  const HttpMessage answer = client.request("POST", "/", {}, "again");
  EXPECT_EQ(answer.status(), 200);
  EXPECT_EQ(answer.body, "again");
  EXPECT_EQ(calls.load(), 3);
}

TEST_F(Proxy, NoRouteNoClusterNoHost) {
  RouteSpec by_header = route("/h", "");
  std::get<ForwardSpec>(by_header.action).cluster_header = "x-cluster";
  plane.accept(cluster("empty", {}));
  serve(table({route("/a", "up"), by_header, route("/empty", "empty")}));
  EXPECT_EQ(test::http_get(plane.port(), "/none").status(), 404);
  EXPECT_EQ(test::http_get(plane.port(), "/h", {{"x-cluster", "nowhere"}}).status(), 503);
  EXPECT_EQ(test::http_get(plane.port(), "/h", {{"x-cluster", "up"}}).status(), 200);
  EXPECT_EQ(test::http_get(plane.port(), "/empty").status(), 503);
}

TEST_F(Proxy, ClientsThatLeaveCancelTheirRequest) {
  serve();
  upstream.set_handler([](Exchange& e) { e.stall(); });
  {
    HttpClient client(plane.port());
    client.send(test::request_bytes("GET", "/", {{"host", "h"}}));
    ASSERT_TRUE(upstream.wait_for_requests(1));
  }
  EXPECT_TRUE(upstream.wait_for_open(0));
  EXPECT_TRUE(wait_until([&] { return plane.stat("http.in.downstream_rq_active") == 0; }));
}

TEST_F(Proxy, MalformedRequestsGoNowhere) {
  serve();
  for (const char* bytes : {"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                            "GET / HTTP/1.1\nhost: a\n\n", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n"}) {
    HttpClient client(plane.port());
    client.send(bytes);
    EXPECT_EQ(client.read_response().status(), 400) << bytes;
    EXPECT_TRUE(client.wait_closed());
  }
  EXPECT_EQ(upstream.request_count(), 0u);
}

TEST_F(Proxy, ConnectionsOutliveConfig) {
  serve();
  HttpClient client(plane.port());
  EXPECT_EQ(client.get("/1").status(), 200);
  FakeUpstream other([](Exchange& e) { e.respond(200, "other"); });
  plane.accept(cluster("other", {other.port()}));
  plane.accept(table({route("/", "other")}));
  ListenerSpec changed = listener();
  changed.filter_chains[0].hcm.via = "changed";
  plane.accept(changed);
  plane.remove(config::ResourceType::kCluster, "up");
  plane.publish();
  const HttpMessage answer = client.get("/2");
  EXPECT_EQ(answer.body, "other");
  EXPECT_EQ(answer.header("via"), "changed");
  EXPECT_EQ(plane.stat("http.in.downstream_cx_total"), 1u);
  EXPECT_TRUE(upstream.wait_for_open(0));  // a departed cluster's connections close
}

TEST_F(Proxy, ARequestKeepsTheConfigThatItBeganWith) {
  serve();
  upstream.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200, "late");
  });
  HttpClient client(plane.port());
  client.send(test::request_bytes("GET", "/", {{"host", "h"}}));
  ASSERT_TRUE(upstream.wait_for_requests(1));
  plane.accept(table({}));
  plane.remove(config::ResourceType::kCluster, "up");
  plane.publish();
  upstream.release();
  EXPECT_EQ(client.read_response().body, "late");
  EXPECT_EQ(client.get("/").status(), 404);
}

TEST_F(Proxy, AChainThatChangedDrainsItsConnections) {
  ListenerSpec front = listener();
  front.filter_chains[0].hcm.drain_timeout_ms = 10;
  serve(table({route("/", "up")}), front);
  HttpClient client(plane.port());
  EXPECT_EQ(client.get("/").status(), 200);
  front.filter_chains[0].hcm.max_headers_count = 50;
  plane.update(front);
  EXPECT_TRUE(client.wait_closed());
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
}

TEST_F(Proxy, DrainFinishesWhatIsUnderWay) {
  serve();
  upstream.set_handler([](Exchange& e) {
    if (e.request.target() == "/slow") e.stall();
    e.respond(200, "done");
  });
  HttpClient busy(plane.port()), idle(plane.port());
  EXPECT_EQ(idle.get("/").status(), 200);
  busy.send(test::request_bytes("GET", "/slow", {{"host", "h"}}));
  ASSERT_TRUE(upstream.wait_for_requests(2));
  HttpClient fresh(plane.port());  // in the accept queue, or just accepted
  std::atomic<bool> drained{false};
  plane.run([&] { plane.worker().drain(60'000, [&] { drained = true; }); });
  const HttpMessage first_and_last = fresh.get("/");
  EXPECT_EQ(first_and_last.status(), 200);
  EXPECT_EQ(first_and_last.header("connection"), "close");
  EXPECT_TRUE(idle.wait_closed());
  EXPECT_FALSE(drained.load());
  upstream.release();
  const HttpMessage answer = busy.read_response();
  EXPECT_EQ(answer.body, "done");
  EXPECT_EQ(answer.header("connection"), "close");
  EXPECT_TRUE(wait_until([&] { return drained.load(); }));
}

}  // namespace
}  // namespace outrigger::proxy
