// Aggregate clusters in the data plane: which member takes a request, and whose stats, breakers and hosts count.
#include <set>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using config::EndpointsSpec;
using config::RouteTableSpec;
using test::Exchange;
using test::FakeUpstream;
using test::http_get;
using test::HttpMessage;
using test::wait_until;

FakeUpstream::Handler answers(const std::string& name) {
  return [name](Exchange& e) { e.respond(200, name); };
}

config::RetryPolicySpec retries(uint32_t count) {
  return {.retry_on = {"5xx", "connect-failure"}, .num_retries = count, .base_interval_ms = 1, .max_interval_ms = 1};
}

// Cluster "p" is preferred to "s"; they are behind "g", and that is behind "/".
class Aggregate : public ::testing::Test {
 protected:
  void serve(config::ClusterSpec p = eds_cluster("p")) {
    RouteTableSpec routes = all_to("g");
    std::get<config::ForwardSpec>(routes.virtual_hosts[0].routes[0].action).retry = retries(1);
    plane.accept(std::move(p));
    plane.accept(endpoints("p", {primary.port()}));
    plane.accept(static_cluster("s", secondary.port()));
    plane.accept(aggregate_cluster("g", {"p", "s"}));
    plane.accept(std::move(routes));
    plane.update(listener("main", "t"));
    ASSERT_NE(plane.port(), 0);
  }

  FakeUpstream primary{answers("primary")}, secondary{answers("secondary")};
  DataPlane plane;
};

TEST_F(Aggregate, TheFirstMemberWithHostsTakesTheRequests) {
  serve();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(http_get(plane.port(), "/").body, "primary");
  plane.update(endpoints("p", {}));
  EXPECT_EQ(http_get(plane.port(), "/").body, "secondary");
  plane.update(endpoints("p", {primary.port()}));
  EXPECT_EQ(http_get(plane.port(), "/").body, "primary");
  // Stats are the members'.
  EXPECT_EQ(plane.stat("cluster.p.upstream_rq_total"), 6u);
  EXPECT_EQ(plane.stat("cluster.p.upstream_rq_2xx"), 6u);
  EXPECT_EQ(plane.stat("cluster.s.upstream_rq_total"), 1u);
  EXPECT_EQ(plane.stat("cluster.g.upstream_rq_total"), 0u);
  plane.update(endpoints("p", {}));
  config::ClusterSpec empty = static_cluster("s");
  empty.endpoints.endpoints.clear();
  plane.update(empty);
  EXPECT_EQ(http_get(plane.port(), "/").status(), 503);
  EXPECT_EQ(plane.stat("cluster.g.upstream_cx_none_healthy"), 1u);
}

TEST_F(Aggregate, WhatTheHealthyHostsCannotBearGoesOnAndNothingToTheUnhealthy) {
  serve();
  FakeUpstream sick(answers("sick"));
  EndpointsSpec half = endpoints("p", {primary.port(), sick.port()});
  half.endpoints[1].healthy = false;
  plane.update(half);
  std::map<std::string, int> counts;
  test::HttpClient client(plane.port());
  for (int i = 0; i < 400; ++i) ++counts[client.get("/").body];
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts["primary"], 280, 60);  // 70 %
  EXPECT_NEAR(counts["secondary"], 120, 60);
  // All of the first are unhealthy: the second takes everything, and no panic sends any to the first.
  half.endpoints[0].healthy = false;
  plane.update(half);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.get("/").body, "secondary");
}

TEST_F(Aggregate, NestedAggregatesAndAMemberThatBecomesOne) {
  serve();
  plane.update(aggregate_cluster("outer", {"g"}));
  RouteTableSpec routes = all_to("outer");
  plane.update(routes);
  EXPECT_EQ(http_get(plane.port(), "/").body, "primary");
  plane.update(endpoints("p", {}));
  EXPECT_EQ(http_get(plane.port(), "/").body, "secondary");
  FakeUpstream third(answers("third"));
  plane.accept(static_cluster("third", third.port()));
  plane.update(aggregate_cluster("p", {"third"}));
  EXPECT_EQ(http_get(plane.port(), "/").body, "third");
  plane.update(aggregate_cluster("g", {"s", "p"}));
  EXPECT_EQ(http_get(plane.port(), "/").body, "secondary");
}

TEST_F(Aggregate, ARetryGoesWhereTheHostsAreThenAndCountsWithTheAggregate) {
  serve();
  primary.set_handler([](Exchange& e) {
    e.stall();
    e.respond(503, "broken");
  });
  test::HttpClient client(plane.port());
  client.send(test::request_bytes("GET", "/", {{"host", "h"}}));
  ASSERT_TRUE(primary.wait_for_requests(1));
  plane.update(endpoints("p", {}));
  primary.release();
  EXPECT_EQ(client.read_response().body, "secondary");
  EXPECT_EQ(plane.stat("cluster.g.upstream_rq_retry"), 1u);
  EXPECT_EQ(plane.stat("cluster.g.upstream_rq_retry_success"), 1u);
  EXPECT_EQ(plane.stat("cluster.p.upstream_rq_5xx"), 1u);
  EXPECT_EQ(plane.stat("cluster.s.upstream_rq_2xx"), 1u);
  for (const char* cluster : {"p", "s"})
    EXPECT_EQ(plane.stat(std::string("cluster.") + cluster + ".upstream_rq_active"), 0u) << cluster;
}

TEST_F(Aggregate, ARetryIntoAFullMemberIsToldSoAndTheBudgetsAreGivenBack) {
  serve();
  config::ClusterSpec full = static_cluster("s", secondary.port());
  full.max_requests = 0;
  plane.update(full);
  std::atomic<bool> broken{true};
  primary.set_handler([&](Exchange& e) {
    if (broken) e.stall();
    e.respond(broken ? 503 : 200, "primary");
  });
  test::HttpClient client(plane.port());
  client.send(test::request_bytes("GET", "/", {{"host", "h"}}));
  ASSERT_TRUE(primary.wait_for_requests(1));
  plane.update(endpoints("p", {}));
  primary.release();
  const HttpMessage answer = client.read_response();
  EXPECT_EQ(answer.status(), 503);
  EXPECT_EQ(answer.header("x-envoy-overloaded"), "true");
  EXPECT_EQ(plane.stat("cluster.s.upstream_rq_pending_overflow"), 1u);
  broken = false;
  plane.update(endpoints("p", {primary.port()}));
  EXPECT_EQ(client.get("/").body, "primary");
}

TEST_F(Aggregate, BreakersAreTheMembersAndRetriesTheAggregates) {
  config::ClusterSpec one = eds_cluster("p");
  one.max_requests = 1;
  serve(one);
  primary.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200, "primary");
  });
  test::HttpClient waiting(plane.port());
  waiting.send(test::request_bytes("GET", "/", {{"host", "h"}}));
  ASSERT_TRUE(primary.wait_for_requests(1));
  EXPECT_EQ(http_get(plane.port(), "/").status(), 503);
  EXPECT_EQ(plane.stat("cluster.p.upstream_rq_pending_overflow"), 1u);
  primary.release();
  EXPECT_EQ(waiting.read_response().body, "primary");

  config::ClusterSpec group = aggregate_cluster("g", {"p", "s"});
  group.max_retries = 0;
  plane.update(group);
  primary.set_handler([](Exchange& e) { e.respond(503); });
  EXPECT_EQ(http_get(plane.port(), "/").status(), 503);
  EXPECT_EQ(plane.stat("cluster.g.upstream_rq_retry_overflow"), 1u);
}

TEST_F(Aggregate, ARequestUnderWayOutlivesTheAggregateAndItsMembers) {
  serve();
  primary.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200, "late");
  });
  test::HttpClient client(plane.port());
  client.send(test::request_bytes("GET", "/", {{"host", "h"}}));
  ASSERT_TRUE(primary.wait_for_requests(1));
  plane.accept(table("t", {}));
  for (const char* name : {"g", "p", "s"}) plane.remove(config::ResourceType::kCluster, name);
  plane.publish();
  primary.release();
  EXPECT_EQ(client.read_response().body, "late");
  EXPECT_TRUE(primary.wait_for_open(0));
}

}  // namespace
}  // namespace outrigger::proxy
