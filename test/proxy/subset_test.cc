// Subsets of a cluster's hosts in the data plane: which host a metadata_match leads to, over HTTP/1.1, HTTP/2 and TCP;
// fallbacks, panic, retries, aggregates; metadata that changes under traffic; what access logs and headers say of it.
#include <atomic>
#include <map>
#include <thread>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"
#include "support/socket.h"
#include "support/temp_dir.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;
using config::ClusterSpec;
using config::MetadataMatch;
using config::SubsetSpec;
using test::Exchange;
using test::FakeUpstream;
using test::http_get;
using test::ListenSocket;
using test::Socket;
using test::wait_until;
using Values = std::vector<std::pair<std::string, std::string>>;  // sorted by key
using SelectorFallback = SubsetSpec::Selector::Fallback;

MetadataValue::Struct fields(const Values& values) {
  MetadataValue::Struct out;
  for (const auto& [key, value] : values) out.push_back({key, {value}});
  return out;
}
ByValue<MetadataMatch> asks(const Values& values) { return MetadataMatch::of(fields(values)); }
ByValue<Metadata> says(const std::string& name, const Values& values) { return Metadata{{{name, {fields(values)}}}}; }

FakeUpstream::Handler answers(const std::string& name) {
  return [name](Exchange& e) { e.respond(200, name); };
}

SubsetSpec by_version(SubsetSpec::Fallback fallback = SubsetSpec::Fallback::kNone) {
  return {.fallback = fallback, .selectors = {{.keys = {"v"}}}};
}

// Cluster "c" has hosts one and two of version 1, three of version 2 and four without metadata; "/" leads there.
class SubsetTraffic : public ::testing::Test {
 protected:
  config::EndpointsSpec hosts() const {
    config::EndpointsSpec spec = endpoints("c", {one.port(), two.port(), three.port(), four.port()});
    for (const size_t i : {0, 1}) spec.endpoints[i].metadata = says("envoy.lb", {{"v", "1"}});
    spec.endpoints[2].metadata = says("envoy.lb", {{"v", "2"}});
    return spec;
  }
  static ClusterSpec cluster(ByValue<SubsetSpec> subsets, const std::string& name = "c") {
    ClusterSpec spec = eds_cluster(name, "c");
    spec.subsets = std::move(subsets);
    return spec;
  }
  static config::RouteTableSpec routes(ByValue<MetadataMatch> match, const std::string& to = "c") {
    config::RouteTableSpec spec = all_to(to);
    forward_of(spec).metadata_match = std::move(match);
    return spec;
  }
  static config::ForwardSpec& forward_of(config::RouteTableSpec& spec) {
    return std::get<config::ForwardSpec>(spec.virtual_hosts[0].routes[0].action);
  }
  void serve(ByValue<SubsetSpec> subsets, config::RouteTableSpec to,
             config::ListenerSpec front = listener("main", "t")) {
    plane.accept(cluster(std::move(subsets)));
    plane.accept(hosts());
    plane.accept(std::move(to));
    plane.update(std::move(front));
    ASSERT_NE(plane.port(), 0);
  }
  std::map<std::string, int> answered(int requests) {
    std::map<std::string, int> counts;
    test::HttpClient client(plane.port());
    for (int i = 0; i < requests; ++i) {
      const test::HttpMessage answer = client.get("/");
      ++counts[answer.status() == 200 ? answer.body : std::to_string(answer.status())];
    }
    return counts;
  }
  uint64_t counted(const std::string& name) { return plane.stat("cluster.c.lb_subsets_" + name); }

  using Counts = std::map<std::string, int>;
  FakeUpstream one{answers("one")}, two{answers("two")}, three{answers("three")}, four{answers("four")};
  DataPlane plane{true};
};

TEST_F(SubsetTraffic, ARequestGoesWhereItsRouteAsks) {
  serve(by_version(), routes(asks({{"v", "1"}})));
  EXPECT_EQ(answered(20), (Counts{{"one", 10}, {"two", 10}})) << "in turn, as everywhere";
  plane.update(routes(asks({{"v", "2"}})));
  EXPECT_EQ(answered(4), (Counts{{"three", 4}}));
  EXPECT_EQ(counted("selected"), 24u);
  plane.update(routes(asks({{"v", "3"}})));
  EXPECT_EQ(answered(2), (Counts{{"503", 2}}));
  plane.update(routes({}));
  EXPECT_EQ(answered(2), (Counts{{"503", 2}})) << "no metadata_match, no fallback";
  EXPECT_EQ(plane.stat("cluster.c.upstream_cx_none_healthy"), 4u);
  EXPECT_EQ(counted("selected"), 24u);
  EXPECT_EQ(counted("fallback"), 0u);
  EXPECT_EQ(counted("active"), 2u);
  EXPECT_EQ(counted("created"), 2u);
}

TEST_F(SubsetTraffic, WithoutSubsetsAMatchHasNoEffect) {
  serve({}, routes(asks({{"v", "1"}})));
  EXPECT_EQ(answered(8), (Counts{{"one", 2}, {"two", 2}, {"three", 2}, {"four", 2}}));
  plane.update(cluster(by_version()));
  EXPECT_EQ(answered(8), (Counts{{"one", 4}, {"two", 4}}));
  plane.update(cluster({}));
  EXPECT_EQ(answered(8), (Counts{{"one", 2}, {"two", 2}, {"three", 2}, {"four", 2}}));
}

TEST_F(SubsetTraffic, RequestsOfOneSubsetDoNotDisturbTheTurnsOfAnother) {
  config::RouteTableSpec both = routes(asks({{"v", "1"}}));
  both.virtual_hosts[0].routes.push_back(both.virtual_hosts[0].routes[0]);
  both.virtual_hosts[0].routes[0].match.path.value = "/two";
  forward_of(both).metadata_match = asks({{"v", "2"}});
  serve(by_version(), both);
  Counts counts;
  test::HttpClient client(plane.port());
  for (int i = 0; i < 20; ++i) {
    ++counts[client.get("/").body];
    ++counts[client.get("/two").body];
  }
  EXPECT_EQ(counts, (Counts{{"one", 10}, {"two", 10}, {"three", 20}}));
}

TEST_F(SubsetTraffic, FallbacksAndTheirCounters) {
  SubsetSpec spec = by_version(SubsetSpec::Fallback::kAny);
  serve(spec, routes(asks({{"v", "3"}})));
  EXPECT_EQ(answered(8).size(), 4u);
  EXPECT_EQ(counted("fallback"), 8u);
  spec.fallback = SubsetSpec::Fallback::kDefault;
  spec.default_subset = fields({{"v", "2"}});
  plane.update(cluster(spec));
  EXPECT_EQ(answered(2), (Counts{{"three", 2}}));
  EXPECT_EQ(counted("fallback"), 10u);
  spec.default_subset = fields({{"v", "9"}});
  plane.update(cluster(spec));
  EXPECT_EQ(answered(2), (Counts{{"503", 2}}));
  EXPECT_EQ(counted("fallback"), 10u) << "it had no host";
  spec.panic_mode_any = true;
  plane.update(cluster(spec));
  EXPECT_EQ(answered(8).size(), 4u);
  EXPECT_EQ(counted("fallback_panic"), 8u);
  EXPECT_EQ(counted("fallback"), 10u);
  spec.selectors[0].fallback = SelectorFallback::kAny;
  plane.update(cluster(spec));
  EXPECT_EQ(answered(8).size(), 4u);
  EXPECT_EQ(counted("fallback_panic"), 8u) << "what a selector says instead is no fallback of the cluster";
  spec.selectors.push_back({.keys = {"stage", "v"}, .fallback = SelectorFallback::kKeys, .fallback_keys = {"v"}});
  plane.update(cluster(spec));
  plane.update(routes(asks({{"stage", "prod"}, {"v", "2"}})));
  EXPECT_EQ(answered(2), (Counts{{"three", 2}}));
  EXPECT_EQ(counted("selected"), 2u);
}

TEST_F(SubsetTraffic, HealthAndPanicAreOfTheSubset) {
  serve(by_version(), routes(asks({{"v", "1"}})));
  config::EndpointsSpec changed = hosts();
  changed.endpoints[0].healthy = false;
  plane.update(changed);
  EXPECT_EQ(answered(4), (Counts{{"two", 4}}));
  EXPECT_EQ(plane.stat("cluster.c.lb_healthy_panic"), 0u);
  changed.endpoints[1].healthy = false;
  plane.update(changed);
  EXPECT_EQ(answered(4), (Counts{{"one", 2}, {"two", 2}})) << "panic, though half of the cluster is healthy";
  EXPECT_EQ(plane.stat("cluster.c.lb_healthy_panic"), 4u);
  ClusterSpec never = cluster(by_version());
  never.healthy_panic_percent = 0;
  plane.update(never);
  EXPECT_EQ(answered(2), (Counts{{"503", 2}}));
}

TEST_F(SubsetTraffic, EveryLoadBalancer) {
  for (const auto lb : {ClusterSpec::Lb::kRoundRobin, ClusterSpec::Lb::kLeastRequest, ClusterSpec::Lb::kRandom}) {
    ClusterSpec spec = cluster(by_version());
    spec.lb = lb;
    if (plane.port() == 0) {
      serve(by_version(), routes(asks({{"v", "1"}})));
    }
    config::EndpointsSpec weighted = hosts();
    weighted.endpoints[1].weight = 3;
    plane.accept(weighted);
    plane.update(spec);
    const Counts counts = answered(80);
    ASSERT_EQ(counts.size(), 2u);
    if (lb != ClusterSpec::Lb::kLeastRequest) EXPECT_NEAR(counts.at("two"), 60, 15) << static_cast<int>(lb);
  }
}

TEST_F(SubsetTraffic, AWeightedClusterAsksInsteadOfItsRoute) {
  config::RouteTableSpec to = routes(asks({{"v", "1"}}));
  forward_of(to).cluster.clear();
  forward_of(to).weighted = {{.name = "c", .weight = 1, .metadata_match = asks({{"v", "2"}})}};
  serve(by_version(), to);
  EXPECT_EQ(answered(2), (Counts{{"three", 2}}));
}

TEST_F(SubsetTraffic, RetriesStayInTheSubset) {
  config::RouteTableSpec to = routes(asks({{"v", "1"}}));
  forward_of(to).retry = {.retry_on = {"5xx"}, .num_retries = 1, .base_interval_ms = 1, .max_interval_ms = 1};
  serve(by_version(), to);
  one.set_handler([](Exchange& e) { e.respond(500); });
  EXPECT_EQ(answered(10), (Counts{{"two", 10}}));
  EXPECT_EQ(three.request_count() + four.request_count(), 0u);
  EXPECT_GT(plane.stat("cluster.c.upstream_rq_retry"), 0u);
}

TEST_F(SubsetTraffic, MembersOfAnAggregateDivideTheirHosts) {
  plane.accept(aggregate_cluster("g", {"c"}));
  serve(by_version(), routes(asks({{"v", "2"}}), "g"));
  EXPECT_EQ(answered(3), (Counts{{"three", 3}}));
}

TEST_F(SubsetTraffic, Http2Clients) {
  serve(by_version(), routes(asks({{"v", "2"}})));
  test::H2Peer client(Socket::connect(plane.port()));
  client.greet();
  for (const uint32_t stream : {1u, 3u, 5u}) {
    client.socket.send(h2::headers(stream, h2::get("/")));
    EXPECT_EQ(client.status(stream), ":status=200");
  }
  EXPECT_EQ(three.request_count(), 3u);
  EXPECT_EQ(one.request_count() + two.request_count() + four.request_count(), 0u);
}

TEST_F(SubsetTraffic, MetadataChangesUnderTrafficWithoutAFailedRequest) {
  serve(by_version(), routes(asks({{"v", "1"}})));
  std::atomic<bool> stop{false};
  std::atomic<int> done{0}, failed{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 2; ++i)
    clients.emplace_back([&] {
      test::HttpClient client(plane.port());
      while (!stop) {
        if (client.get("/").status() != 200) ++failed;
        ++done;
      }
    });
  // Version 1 wanders over the hosts; there is always one that has it.
  for (int round = 0; round < 40; ++round) {
    const int before = done;
    ASSERT_TRUE(wait_until([&] { return done > before + 5; }));
    config::EndpointsSpec next = hosts();
    for (int i = 0; i < 4; ++i)
      next.endpoints[static_cast<size_t>(i)].metadata = says("envoy.lb", {{"v", i == round % 4 ? "1" : "2"}});
    plane.update(next);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(failed, 0);
  for (const FakeUpstream* host : {&one, &two, &three, &four}) {
    EXPECT_GT(host->request_count(), 0u);
    EXPECT_LE(host->accepted(), 3u) << "connections live on: the host is the same";
  }
  EXPECT_EQ(counted("active"), 2u);
  EXPECT_EQ(counted("created"), 2u);
  EXPECT_EQ(counted("removed"), 0u);
}

TEST_F(SubsetTraffic, SubsetsComeAndGoAndAreCounted) {
  serve(by_version(), routes(asks({{"v", "1"}})));
  config::EndpointsSpec next = hosts();
  next.endpoints[2].metadata = says("envoy.lb", {{"v", "3"}});
  next.endpoints[3].metadata = says("envoy.lb", {{"v", "4"}});
  plane.update(next);
  EXPECT_EQ(counted("active"), 3u);
  EXPECT_EQ(counted("created"), 4u);
  EXPECT_EQ(counted("removed"), 1u);
  SubsetSpec single = by_version();
  single.selectors[0].single_host = true;
  plane.update(cluster(single));
  EXPECT_EQ(answered(4), (Counts{{"one", 4}}));
  EXPECT_EQ(counted("single_host_per_subset_duplicate"), 1u);
}

// ---- what is said of it

TEST_F(SubsetTraffic, HeadersTellMetadata) {
  config::RouteTableSpec to = routes(asks({{"v", "2"}}));
  config::RouteSpec& route = to.virtual_hosts[0].routes[0];
  route.metadata = says("m", {{"of", "route"}});
  to.virtual_hosts[0].metadata = says("m", {{"of", "host"}});
  route.request_headers.add = {{.name = "x-to", .value = "%METADATA(ROUTE:m:of)%/%CLUSTER_METADATA(m:of)%"}};
  route.response_headers.add = {
      {.name = "x-from", .value = "%UPSTREAM_METADATA(envoy.lb:v)% %METADATA(VIRTUAL_HOST:m:of)%"},
      {.name = "x-all", .value = "%METADATA(LISTENER:m)%"}};
  config::ListenerSpec front = listener("main", "t");
  front.filter_chains[0].listener_metadata = says("m", {{"of", "listener"}});
  serve(by_version(), to, front);
  ClusterSpec told = cluster(by_version());
  told.metadata = says("m", {{"of", "cluster"}});
  plane.update(told);
  const test::HttpMessage answer = http_get(plane.port(), "/");
  EXPECT_EQ(answer.header("x-from"), "2 host");
  EXPECT_EQ(answer.header("x-all"), R"({"of":"listener"})");
  ASSERT_EQ(three.request_count(), 1u);
  EXPECT_EQ(three.requests()[0].header("x-to"), "route/cluster");
}

// The endpoint's metadata is that of when it was chosen, whatever comes after.
TEST_F(SubsetTraffic, AnAnswerTellsTheMetadataThatItsHostWasChosenBy) {
  config::RouteTableSpec to = routes(asks({{"v", "2"}}));
  to.virtual_hosts[0].routes[0].response_headers.add = {{.name = "x-from", .value = "%UPSTREAM_METADATA(envoy.lb:v)%"}};
  serve(by_version(), to);
  three.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200, "three");
  });
  test::HttpClient client(plane.port());
  client.send(test::request_bytes("GET", "/", {{"host", "h"}}));
  ASSERT_TRUE(three.wait_for_requests(1));
  for (const char* version : {"5", "6"}) {
    config::EndpointsSpec next = hosts();
    next.endpoints[2].metadata = says("envoy.lb", {{"v", version}});
    plane.update(next);
  }
  three.release();
  EXPECT_EQ(client.read_response().header("x-from"), "2");
}

TEST_F(SubsetTraffic, AccessLogsTellMetadata) {
  test::TempDir dir;
  config::RouteTableSpec to = routes(asks({{"v", "2"}}));
  to.virtual_hosts[0].routes[0].metadata = says("m", {{"of", "route"}});
  config::ListenerSpec front = listener("main", "t");
  front.filter_chains[0].hcm.access_logs = {
      {.path = dir / "text",
       .format = "%METADATA(UPSTREAM_HOST:envoy.lb:v)% %METADATA(ROUTE:m:of)% %METADATA(ROUTE:m)%\n"},
      {.path = dir / "json",
       .json_format = {{"all", "%UPSTREAM_METADATA(envoy.lb)%"},
                       {"none", "%DYNAMIC_METADATA(m)%"},
                       {"v", "%UPSTREAM_METADATA(envoy.lb:v)%"}}}};
  serve(by_version(), to, front);
  EXPECT_EQ(http_get(plane.port(), "/").body, "three");
  const auto log = [&](const char* name) {
    std::string text;
    EXPECT_TRUE(wait_until([&] {
      plane.flush_logs();
      text = test::read_file(dir / name);
      return !text.empty();
    }));
    return text;
  };
  EXPECT_EQ(log("text"), "2 route {\"of\":\"route\"}\n");
  EXPECT_EQ(log("json"), "{\"all\":{\"v\":\"2\"},\"none\":null,\"v\":\"2\"}\n");
}

// ---- TCP

class SubsetTcp : public ::testing::Test {
 protected:
  config::EndpointsSpec hosts() const {
    config::EndpointsSpec spec = endpoints("c", {one.port(), two.port()});
    spec.endpoints[0].metadata = says("envoy.lb", {{"v", "1"}});
    spec.endpoints[1].metadata = says("envoy.lb", {{"v", "2"}});
    return spec;
  }
  config::ListenerSpec front(std::vector<config::TcpProxySpec::Target> targets) const {
    config::ListenerSpec spec = listener("main", "");
    config::FilterChainSpec chain;
    chain.tcp.emplace();
    chain.tcp->stat_prefix = "t";
    chain.tcp->targets = std::move(targets);
    chain.tcp->access_logs = {{.path = dir / "log",
                               .format = "%UPSTREAM_METADATA(envoy.lb:v)% %METADATA(CLUSTER:m:of)% "
                                         "%METADATA(LISTENER:m:of)% %METADATA(ROUTE:m:of)%\n"}};
    chain.listener_metadata = says("m", {{"of", "listener"}});
    spec.filter_chains = {chain};
    return spec;
  }
  // A connection through the proxy reaches `host` and carries bytes both ways.
  void reaches(ListenSocket& host) {
    Socket client = Socket::connect(plane.port());
    client.send("hello");
    Socket accepted = host.accept();
    ASSERT_TRUE(accepted.valid());
    EXPECT_EQ(accepted.recv_exactly(5), "hello");
    accepted.send("there");
    EXPECT_EQ(client.recv_exactly(5), "there");
  }

  test::TempDir dir;
  ListenSocket one, two;
  DataPlane plane{true};
};

TEST_F(SubsetTcp, AConnectionGoesWhereTcpProxyAsks) {
  ClusterSpec spec = eds_cluster("c");
  spec.subsets = by_version();
  spec.metadata = says("m", {{"of", "cluster"}});
  plane.accept(spec);
  plane.accept(hosts());
  plane.update(front({{"c", 1, asks({{"v", "2"}})}}));
  for (int i = 0; i < 3; ++i) reaches(two);
  EXPECT_EQ(plane.stat("cluster.c.lb_subsets_selected"), 3u);
  const std::string line = "2 cluster listener -\n";
  EXPECT_TRUE(wait_until([&] {
    plane.flush_logs();
    return test::read_file(dir / "log") == line + line + line;
  })) << test::read_file(dir / "log");
  // The endpoints change places; connections follow.
  config::EndpointsSpec next = hosts();
  std::swap(next.endpoints[0].metadata, next.endpoints[1].metadata);
  plane.update(next);
  for (int i = 0; i < 3; ++i) reaches(one);
  // Each weighted cluster asks for its own.
  plane.update(front({{"c", 1, asks({{"v", "1"}})}}));
  for (int i = 0; i < 3; ++i) reaches(two);
  plane.update(front({{"c", 1, asks({{"v", "3"}})}}));
  Socket refused = Socket::connect(plane.port());
  EXPECT_EQ(refused.recv_to_eof(), "");
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.c.upstream_cx_none_healthy") == 1; }));
}

}  // namespace
}  // namespace outrigger::proxy
