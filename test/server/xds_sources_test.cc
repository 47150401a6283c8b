// Where discovery gets its resources: streams of their own for each type and source, failover between servers, what a
// proxy says of itself, how long it waits. A whole proxy in this process, scripted control planes over real gRPC.
#include <gtest/gtest.h>

#include <algorithm>

#include "discovery_resources.h"
#include "envoy/config/core/v3/base.pb.h"
#include "support/fake_upstream.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using test::Asked;
using test::DiscoveryServer;
using test::wait_until;
using xds::Type;

// The parameter: GRPC or DELTA_GRPC.
class XdsSources : public testing::TestWithParam<const char*> {
 protected:
  static bool incremental() { return std::string(GetParam()) == "DELTA_GRPC"; }
  static std::string method(Type type) { return xds::stream_method(type, incremental()); }
  static std::string api(const std::vector<std::string>& clusters, const std::string& more = {}) {
    std::string services;
    for (const std::string& cluster : clusters)
      services += (services.empty() ? "" : ", ") + ("{envoy_grpc: {cluster_name: " + cluster + "}}");
    return "{api_type: " + std::string(GetParam()) + ", transport_api_version: V3, grpc_services: [" + services + "]" +
           more + "}";
  }
  static std::string source(const std::vector<std::string>& clusters, const std::string& more = {}) {
    return "{api_config_source: " + api(clusters) + more + "}";
  }
  static std::string with(const std::string& dynamic, const std::vector<std::string>& clusters) {
    return bootstrap({}, clusters,
                     "node: {id: me, cluster: fleet, locality: {region: r, zone: z, sub_zone: s}, metadata: {role: "
                     "edge, build: {number: 7}}}\ndynamic_resources: " +
                         dynamic + "\n");
  }
  static bool named(const DiscoveryServer& server, Type type, const std::vector<std::string>& names) {
    return wait_until([&] {
      for (const Asked& asked : server.asked(method(type)))
        if (asked.names == names) return true;
      return false;
    });
  }
  static bool answers(RunningServer& proxy, const std::string& body) {
    const uint16_t port = proxy.port("main");
    return wait_until([&] { return test::http_get(port, "/").body == body; });
  }

  test::FakeUpstream blue_{[](test::Exchange& exchange) { exchange.respond(200, "blue"); }};
  test::FakeUpstream green_{[](test::Exchange& exchange) { exchange.respond(200, "green"); }};
  DiscoveryServer a_, b_;
};

INSTANTIATE_TEST_SUITE_P(Form, XdsSources, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(XdsSources, EveryTypeMayHaveAStreamOfItsOwn) {
  a_.set(url(Type::kListener), "1", {{"main", listener("table", source({"xds_b"}))}});
  a_.set(url(Type::kCluster), "1", {{"web", eds_cluster("web", source({"xds_b"}))}});
  b_.set(url(Type::kRouteTable), "1", {{"table", routes("table", "web")}});
  b_.set(url(Type::kEndpoints), "1", {{"web", endpoints("web", blue_.port())}});
  RunningServer proxy(with("{lds_config: " + source({"xds_a"}) + ", cds_config: " + source({"xds_a"}) + "}",
                           {static_cluster("xds_a", a_.port()), static_cluster("xds_b", b_.port())}));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answers(proxy, "blue"));
  EXPECT_EQ(a_.open_streams(method(Type::kListener)), 1u);
  EXPECT_EQ(a_.open_streams(method(Type::kCluster)), 1u);
  EXPECT_EQ(a_.open_streams(), 2u);
  EXPECT_EQ(b_.open_streams(method(Type::kRouteTable)), 1u);
  EXPECT_EQ(b_.open_streams(method(Type::kEndpoints)), 1u);
  EXPECT_EQ(b_.open_streams(), 2u);
  EXPECT_TRUE(named(b_, Type::kRouteTable, {"table"}));
  EXPECT_TRUE(named(b_, Type::kEndpoints, {"web"}));

  b_.set(url(Type::kEndpoints), "2", {{"web", endpoints("web", green_.port())}});
  EXPECT_TRUE(answers(proxy, "green"));
  const std::string page = proxy.admin("/xds").body;
  for (const char* name : {"\"lds\"", "\"cds\"", "\"rds\"", "\"eds\""})
    EXPECT_NE(page.find(name), std::string::npos) << page;
}

TEST_P(XdsSources, EqualSourcesShareAStreamThatIsClosedWhenNothingNamesIt) {
  const std::string b = source({"xds_b"}), b_impatient = source({"xds_b"}, ", initial_fetch_timeout: 9s");
  b_.set(url(Type::kEndpoints), "1",
         {{"one", endpoints("one", 1)}, {"two", endpoints("two", 2)}, {"three", endpoints("three", 3)}});
  a_.set(url(Type::kCluster), "1", {{"one", eds_cluster("one", b)}, {"two", eds_cluster("two", b_impatient)}});
  RunningServer proxy(with("{cds_config: " + source({"xds_a"}) + "}",
                           {static_cluster("xds_a", a_.port()), static_cluster("xds_b", b_.port())}));
  ASSERT_TRUE(proxy.live());
  EXPECT_EQ(b_.open_streams(), 1u);
  EXPECT_TRUE(named(b_, Type::kEndpoints, {"one", "two"}));

  // Another cluster of that source: the same stream, all names (incremental: the new one).
  a_.set(url(Type::kCluster), "2",
         {{"one", eds_cluster("one", b)}, {"two", eds_cluster("two", b)}, {"three", eds_cluster("three", b)}});
  EXPECT_TRUE(
      named(b_, Type::kEndpoints,
            incremental() ? std::vector<std::string>{"three"} : std::vector<std::string>{"one", "three", "two"}));
  EXPECT_EQ(b_.open_streams(), 1u);

  // The set is whole: what it lacks goes, and with the last cluster the stream.
  a_.set(url(Type::kCluster), "3", {});
  EXPECT_TRUE(wait_until([&] { return b_.open_streams() == 0; }));
  EXPECT_EQ(a_.open_streams(), 1u);
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/clusters").body.find("three") == std::string::npos; }));
  for (const Asked& asked : b_.asked()) EXPECT_EQ(asked.stream, 1u);
}

// Health checks, DNS and files have a thread that discovery does not keep waiting.
TEST_P(XdsSources, ManyResourcesKeepTheControlThreadFromNothing) {
  DiscoveryServer::Resources clusters, known;
  const std::string cluster = eds_cluster("c00000", "{ads: {}}"), load = endpoints("c00000", 1);
  for (int i = 0; i < 5'000; ++i) {
    const std::string name = "c" + std::to_string(10'000 + i);
    const auto named = [&](std::string bytes) {  // as long as the other name
      for (size_t at = 0; (at = bytes.find("c00000", at)) != std::string::npos;) bytes.replace(at, name.size(), name);
      return bytes;
    };
    clusters[name] = named(cluster);
    known[name] = named(load);
  }
  a_.set(url(Type::kCluster), "1", clusters);
  a_.set(url(Type::kEndpoints), "1", known);
  a_.set(url(Type::kListener), "1", {});
  RunningServer proxy(with("{ads_config: " + api({"xds_a"}) + ", lds_config: {ads: {}}, cds_config: {ads: {}}}",
                           {static_cluster("xds_a", a_.port())}));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(
      wait_until([&] { return proxy.admin("/clusters").body.find("c14999::127.0.0.1:1::") != std::string::npos; }));
  const std::string page = proxy.admin("/stats?filter=longest_task_cpu_us").body;
  const auto longest_us = [&](const std::string& thread) {
    const std::string name = "loop." + thread + ".longest_task_cpu_us: ";
    const size_t at = page.find(name);
    return at == std::string::npos ? -1 : std::stoll(page.substr(at + name.size()));
  };
  EXPECT_GE(longest_us("control"), 0) << page;
  EXPECT_LT(longest_us("control"), 1'000) << page;
  EXPECT_GT(longest_us("discovery"), longest_us("control")) << page;
}

TEST_P(XdsSources, StreamsAreBounded) {
  DiscoveryServer::Resources clusters, known;
  for (int i = 0; i < 70; ++i) {
    const std::string name = "c" + std::to_string(i);
    const std::string own =
        "{api_config_source: {api_type: " + std::string(GetParam()) +
        ", grpc_services: [{envoy_grpc: {cluster_name: xds_b}, initial_metadata: [{key: n, value: " + name + "}]}]}}";
    clusters[name] = eds_cluster(name, own);
    known[name] = endpoints(name, 1);
  }
  b_.set(url(Type::kEndpoints), "1", known);
  a_.set(url(Type::kCluster), "1", clusters);
  RunningServer proxy(with("{cds_config: " + source({"xds_a"}) + "}",
                           {static_cluster("xds_a", a_.port()), static_cluster("xds_b", b_.port())}));
  // All clusters came at once, and so all streams are asked for at once.
  EXPECT_TRUE(wait_until([&] { return b_.open_streams() == 63; })) << b_.open_streams();
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/clusters").body.find("c0::") != std::string::npos; }));
  EXPECT_EQ(b_.open_streams(), 63u);
}

TEST_P(XdsSources, AClusterMovesFromOneSourceToAnother) {
  serve_by_ads(a_, "1", blue_.port());
  b_.set(url(Type::kEndpoints), "1", {{"web", endpoints("web", green_.port())}});
  RunningServer proxy(with("{ads_config: " + api({"xds_a"}) + ", lds_config: {ads: {}}, cds_config: {ads: {}}}",
                           {static_cluster("xds_a", a_.port()), static_cluster("xds_b", b_.port())}));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answers(proxy, "blue"));
  a_.set(url(Type::kCluster), "2", {{"web", eds_cluster("web", source({"xds_b"}))}});
  test::HttpClient client(proxy.port("main"));
  EXPECT_TRUE(wait_until([&] {
    const test::HttpMessage answer = client.request("GET", "/");
    EXPECT_EQ(answer.status(), 200) << answer.error;
    return answer.body == "green";
  }));
  a_.set(url(Type::kCluster), "3", {{"web", eds_cluster("web", "{ads: {}}")}});
  EXPECT_TRUE(answers(proxy, "blue"));
  EXPECT_TRUE(wait_until([&] { return b_.open_streams() == 0; }));
}

TEST_P(XdsSources, ANameIsAnotherResourceInEachSource) {
  const auto two = [&](const std::string& of_a, const std::string& of_b) {
    a_.set(url(Type::kEndpoints), of_a, {{"web", endpoints("web", of_a == "1" ? blue_.port() : green_.port())}});
    b_.set(url(Type::kEndpoints), of_b, {{"web", endpoints("web", of_b == "1" ? green_.port() : blue_.port())}});
  };
  const auto listener_of = [](const std::string& name, const std::string& from) {
    return bytes_of(Type::kListener,
                    listener_yaml(name, "rds: {route_config_name: table, config_source: " + from + "}"));
  };
  const auto cluster_of = [](const std::string& name, const std::string& from) {
    return bytes_of(
        Type::kCluster,
        "{name: " + name + ", type: EDS, eds_cluster_config: {service_name: web, eds_config: " + from + "}}");
  };
  a_.set(url(Type::kListener), "1",
         {{"main", listener_of("main", source({"xds_a"}))}, {"other", listener_of("other", source({"xds_b"}))}});
  a_.set(url(Type::kCluster), "1",
         {{"one", cluster_of("one", source({"xds_a"}))}, {"two", cluster_of("two", source({"xds_b"}))}});
  a_.set(url(Type::kRouteTable), "1", {{"table", routes("table", "one")}});
  b_.set(url(Type::kRouteTable), "1", {{"table", routes("table", "two")}});
  two("1", "1");
  const test::TempDir state;
  const std::string config = with("{lds_config: " + source({"xds_a"}) + ", cds_config: " + source({"xds_a"}) + "}",
                                  {static_cluster("xds_a", a_.port()), static_cluster("xds_b", b_.port())});
  const auto answer = [](RunningServer& proxy, const char* name, const std::string& body) {
    return wait_until([&] { return test::http_get(proxy.port(name), "/").body == body; });
  };
  {
    RunningServer proxy(config, {.state_dir = state.path().string()});
    ASSERT_TRUE(proxy.live());
    EXPECT_TRUE(answer(proxy, "main", "blue"));
    EXPECT_TRUE(answer(proxy, "other", "green"));
    two("2", "1");
    EXPECT_TRUE(answer(proxy, "main", "green"));
    EXPECT_EQ(test::http_get(proxy.port("other"), "/").body, "green");
    two("1", "2");
    EXPECT_TRUE(answer(proxy, "main", "blue"));
    two("1", "1");
    EXPECT_TRUE(answer(proxy, "other", "green"));
    std::string dump;
    const auto told = [&] {  // the status comes apart from the routes
      dump = proxy.admin("/config_dump").body;
      return dump.find("\"config_source\": \"xds_a\"") != std::string::npos &&
             dump.find("\"config_source\": \"xds_b\"") != std::string::npos;
    };
    EXPECT_TRUE(wait_until(told)) << dump;
  }
  // And so they are remembered.
  a_.stop();
  b_.stop();
  RunningServer proxy(config, {.state_dir = state.path().string()});
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answer(proxy, "main", "blue"));
  EXPECT_TRUE(answer(proxy, "other", "green"));
}

TEST_P(XdsSources, SelfIsTheSourceThatBroughtTheResource) {
  a_.set(url(Type::kListener), "1", {{"main", listener("table", "{self: {}}")}});
  b_.set(url(Type::kCluster), "1", {{"web", eds_cluster("web", "{self: {}}")}});
  a_.set(url(Type::kRouteTable), "1", {{"table", routes("table", "web")}});
  b_.set(url(Type::kEndpoints), "1", {{"web", endpoints("web", blue_.port())}});
  RunningServer proxy(with("{lds_config: " + source({"xds_a"}) + ", cds_config: " + source({"xds_b"}) + "}",
                           {static_cluster("xds_a", a_.port()), static_cluster("xds_b", b_.port())}));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answers(proxy, "blue"));
  EXPECT_EQ(a_.open_streams(method(Type::kRouteTable)), 1u);
  EXPECT_EQ(b_.open_streams(method(Type::kEndpoints)), 1u);
}

TEST_P(XdsSources, ASourceThatNamesNoClusterOfTheBootstrapIsRefused) {
  a_.set(url(Type::kCluster), "1",
         {{"good", bytes_of(Type::kCluster, "{name: good}")},
          {"bad", eds_cluster("bad", source({"nowhere"}))},
          {"adless", eds_cluster("adless", "{ads: {}}")}});
  RunningServer proxy(with("{cds_config: " + source({"xds_a"}) + "}", {static_cluster("xds_a", a_.port())}));
  ASSERT_TRUE(proxy.live());
  std::string error;
  EXPECT_TRUE(wait_until([&] {
    for (const Asked& asked : a_.asked()) error += asked.error;
    return !error.empty();
  }));
  EXPECT_NE(error.find("grpc_services[0].envoy_grpc.cluster_name: \"nowhere\" is not among static_resources.clusters"),
            std::string::npos)
      << error;
  EXPECT_NE(error.find("eds_cluster_config.eds_config.ads: needs dynamic_resources.ads_config"), std::string::npos)
      << error;
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/clusters").body.find("good") != std::string::npos; }));
}

TEST_P(XdsSources, AServerThatIsDeadMakesWayForTheNextAndComesBack) {
  const uint16_t first_port = a_.port();
  a_.stop();
  serve_by_ads(b_, "1", blue_.port());
  RunningServer proxy(
      with("{ads_config: " + api({"xds_a", "xds_b"}) + ", lds_config: {ads: {}}, cds_config: {ads: {}}}",
           {static_cluster("xds_a", first_port), static_cluster("xds_b", b_.port())}));
  // The first server is dead from the start.
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answers(proxy, "blue"));
  std::string page = proxy.admin("/xds").body;
  EXPECT_NE(page.find("\"channel_index\": 1"), std::string::npos) << page;
  EXPECT_NE(proxy.admin("/stats").body.find("control_plane.failovers: 1\n"), std::string::npos);
  EXPECT_NE(proxy.admin("/stats").body.find("control_plane.connected_state: 1\n"), std::string::npos);

  // The second dies while both are away: what is held goes on serving.
  b_.stop();
  EXPECT_TRUE(wait_until(
      [&] { return proxy.admin("/stats").body.find("control_plane.connected_state: 0\n") != std::string::npos; }));
  EXPECT_EQ(test::http_get(proxy.port("main"), "/").body, "blue");

  // The first comes back and has moved on. It is told what is held.
  DiscoveryServer back({.port = first_port});
  serve_by_ads(back, "2", green_.port());
  EXPECT_TRUE(answers(proxy, "green"));
  const auto asked = back.asked();
  ASSERT_FALSE(asked.empty());
  EXPECT_EQ(asked[0].type_url, url(Type::kCluster));
  EXPECT_EQ(asked[0].nonce, "");
  if (incremental()) {
    EXPECT_EQ(asked[0].held.count("web"), 1u);
  } else {
    EXPECT_EQ(asked[0].version, "1");
  }
  page = proxy.admin("/xds").body;
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/xds").body.find("\"channel_index\": 0") != std::string::npos; }))
      << page;
}

TEST_P(XdsSources, EveryAddressOfAServerIsTriedBeforeTheNextServer) {
  DiscoveryServer gone, gone_too;
  std::string cluster = static_cluster("xds_a", gone.port());
  const std::string end = "}}}}]}]}}";
  ASSERT_TRUE(cluster.ends_with(end));
  cluster.replace(cluster.size() - end.size(), end.size(),
                  "}}}}, {endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " +
                      std::to_string(gone_too.port()) + end);
  gone.stop();
  gone_too.stop();
  serve_by_ads(b_, "1", blue_.port());
  RunningServer proxy(
      with("{ads_config: " + api({"xds_a", "xds_b"}) + ", lds_config: {ads: {}}, cds_config: {ads: {}}}",
           {cluster, static_cluster("xds_b", b_.port())}));
  ASSERT_TRUE(proxy.live());
  const std::string page = proxy.admin("/xds").body;
  EXPECT_NE(page.find("\"streams\": 3"), std::string::npos) << page;
  EXPECT_NE(page.find("\"failovers\": 1"), std::string::npos) << page;
}

TEST_P(XdsSources, WhatWasRememberedServesUntilTheSourcesAnswer) {
  const test::TempDir state;
  const uint16_t port = a_.port();
  a_.set(url(Type::kListener), "1", {{"main", listener("table", "{self: {}}")}});
  a_.set(url(Type::kCluster), "1", {{"web", eds_cluster("web", "{self: {}}")}});
  a_.set(url(Type::kRouteTable), "1", {{"table", routes("table", "web")}});
  a_.set(url(Type::kEndpoints), "1", {{"web", endpoints("web", blue_.port())}});
  const std::string config = with("{lds_config: " + source({"xds_a"}) + ", cds_config: " + source({"xds_a"}) + "}",
                                  {static_cluster("xds_a", port)});
  {
    RunningServer proxy(config, {.state_dir = state.path().string()});
    ASSERT_TRUE(proxy.live());
    EXPECT_TRUE(answers(proxy, "blue"));
  }
  a_.stop();
  RunningServer proxy(config, {.state_dir = state.path().string()});
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answers(proxy, "blue"));
  EXPECT_NE(proxy.admin("/ready").body.find("stale"), std::string::npos);
  DiscoveryServer back({.port = port});
  back.set(url(Type::kListener), "2", {});
  back.set(url(Type::kCluster), "2", {});
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/clusters").body.find("web::") == std::string::npos; }));
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/ready").body.find("stale") == std::string::npos; }));
  if (incremental()) {
    EXPECT_EQ(back.asked(method(Type::kCluster)).at(0).held.count("web"), 1u);
  }
}

TEST_P(XdsSources, AServerThatTurnsStreamsAwayMakesWayToo) {
  DiscoveryServer strict({.token = "Bearer t"});
  serve_by_ads(b_, "1", blue_.port());
  RunningServer proxy(
      with("{ads_config: " + api({"strict", "xds_b"}) + ", lds_config: {ads: {}}, cds_config: {ads: {}}}",
           {static_cluster("strict", strict.port()), static_cluster("xds_b", b_.port())}));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(answers(proxy, "blue"));
  EXPECT_NE(proxy.admin("/xds").body.find("UNAUTHENTICATED: who are you?"), std::string::npos);
}

TEST_P(XdsSources, TheNodeIsSentWhole) {
  for (const bool first_only : {false, true}) {
    DiscoveryServer server;
    serve_by_ads(server, "1", blue_.port());
    RunningServer proxy(
        with("{ads_config: " + api({"xds"}, first_only ? ", set_node_on_first_message_only: true" : "") +
                 ", lds_config: {ads: {}}, cds_config: {ads: {}}}",
             {static_cluster("xds", server.port())}));
    ASSERT_TRUE(proxy.live());
    const auto asked = server.asked();
    ASSERT_GE(asked.size(), 4u);
    envoy::config::core::v3::Node node;
    ASSERT_TRUE(node.ParseFromString(asked[0].node));
    EXPECT_EQ(node.id(), "me");
    EXPECT_EQ(node.cluster(), "fleet");
    EXPECT_EQ(node.locality().region(), "r");
    EXPECT_EQ(node.locality().zone(), "z");
    EXPECT_EQ(node.locality().sub_zone(), "s");
    EXPECT_EQ(node.metadata().fields().at("role").string_value(), "edge");
    EXPECT_EQ(node.metadata().fields().at("build").struct_value().fields().at("number").number_value(), 7);
    EXPECT_EQ(node.user_agent_name(), "outrigger");
    for (size_t i = 1; i < asked.size(); ++i) EXPECT_EQ(asked[i].node.empty(), first_only) << i;
  }
}

TEST_P(XdsSources, EachSourceIsWaitedForAsLongAsItSays) {
  DiscoveryServer silent({.silent = true});
  const std::string impatient = source({"silent"}, ", initial_fetch_timeout: 0.05s");
  a_.set(url(Type::kListener), "1", {{"main", listener("table", impatient)}});
  RunningServer proxy(with("{lds_config: " + source({"xds_a"}) + ", cds_config: " + impatient + "}",
                           {static_cluster("xds_a", a_.port()), static_cluster("silent", silent.port())}));
  // CDS and the route table never come.
  ASSERT_TRUE(proxy.live());
  EXPECT_EQ(test::http_get(proxy.port("main"), "/").status(), 404);
  // The endpoints of a cluster never come.
  silent.stop();
  b_.set(url(Type::kCluster), "1", {{"web", eds_cluster("web", impatient)}});
  RunningServer other(with("{cds_config: " + source({"xds_b"}) + "}",
                           {static_cluster("xds_b", b_.port()), static_cluster("silent", silent.port())}));
  ASSERT_TRUE(other.live());
  EXPECT_NE(other.admin("/clusters").body.find("web"), std::string::npos);
  EXPECT_EQ(other.admin("/stats").body.find("store.forced: 0"), std::string::npos);
}

// The forced cluster shows that a timeout beside it has passed.
TEST_P(XdsSources, ATimeoutOfZeroIsWaitedForWithoutEnd) {
  DiscoveryServer silent({.silent = true});
  const std::string impatient = source({"silent"}, ", initial_fetch_timeout: 0.05s");
  const std::string patient = source({"xds_a"}, ", initial_fetch_timeout: 0s");
  b_.set(url(Type::kCluster), "1", {{"web", eds_cluster("web", impatient)}});
  for (const bool of_listeners : {true, false}) {
    SCOPED_TRACE(of_listeners);
    DiscoveryServer late;
    // LDS is silent; or CDS, and a cluster of the bootstrap is the one that is forced.
    const std::string dynamic = of_listeners ? "{lds_config: " + patient + ", cds_config: " + source({"xds_b"}) + "}"
                                             : "{cds_config: " + patient + "}";
    std::vector<std::string> clusters = {static_cluster("xds_a", late.port()), static_cluster("xds_b", b_.port()),
                                         static_cluster("silent", silent.port())};
    if (!of_listeners) clusters.push_back(eds_cluster_yaml("web", impatient));
    RunningServer proxy(with(dynamic, clusters));
    EXPECT_TRUE(wait_until([&] { return proxy.admin("/stats").body.find("store.forced: 1\n") != std::string::npos; }))
        << proxy.admin("/stats").body;
    EXPECT_EQ(proxy.admin("/ready").status(), 503);
    late.set(url(of_listeners ? Type::kListener : Type::kCluster), "1", {});
    EXPECT_TRUE(proxy.live());
  }
}

}  // namespace
}  // namespace outrigger::server
