// The admin pages, asked over HTTP of a proxy in this process.
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "running_server.h"
#include "support/fake_upstream.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using test::HttpClient;
using test::HttpMessage;
using test::Process;

class Admin : public testing::Test {
 protected:
  static bool contains(const HttpMessage& answer, std::string_view text) {
    return answer.body.find(text) != std::string::npos;
  }
  // Checked by an implementation that is not ours; `expression` must not be null or false.
  void expect_json(const std::string& text, const std::string& expression) {
    test::write_file(dir_ / "page.json", text);
    Process jq({"jq", "-e", expression, dir_ / "page.json"});
    EXPECT_EQ(jq.wait_exit(), 0) << expression << "\n" << text.substr(0, 2000) << jq.output();
  }

  test::TempDir dir_;
  test::FakeUpstream upstream_;
  RunningServer proxy_{
      bootstrap({listener_yaml("main", inline_routes("{match: {prefix: /}, route: {cluster: \"back:end\"}}")),
                 listener_yaml("direct", direct_response("hello"))},
                {static_cluster("\"back:end\"", upstream_.port())}, "node: {id: me, cluster: us}\n")};
};

TEST_F(Admin, ReadySaysWhetherItServes) {
  ASSERT_TRUE(proxy_.live());
  const HttpMessage ready = proxy_.admin("/ready");
  EXPECT_EQ(ready.status(), 200);
  EXPECT_EQ(ready.body, "LIVE\n");
}

TEST_F(Admin, StatsInAllFormats) {
  EXPECT_EQ(test::http_get(proxy_.port("main"), "/").status(), 200);
  EXPECT_TRUE(test::wait_until([&] { return contains(proxy_.admin("/stats"), "http.main.downstream_rq_2xx: 1\n"); }));
  const HttpMessage all = proxy_.admin("/stats");
  EXPECT_TRUE(contains(all, "cluster.back_end.upstream_rq_total: 1\n")) << all.body;
  EXPECT_TRUE(contains(all, "http.main.downstream_rq_time: P0(nan,")) << all.body;
  EXPECT_TRUE(contains(all, "http.direct.downstream_rq_time: No recorded values\n")) << all.body;
  EXPECT_TRUE(contains(all, "server.live: 1\n") && contains(all, "server.concurrency: 2\n")) << all.body;
  const HttpMessage some = proxy_.admin("/stats?filter=%5Ehttp%5C.main.*2xx$&usedonly");
  EXPECT_EQ(some.body, "http.main.downstream_rq_2xx: 1\n");
  EXPECT_FALSE(contains(proxy_.admin("/stats?usedonly"), ": 0\n"));
  EXPECT_EQ(proxy_.admin("/stats?filter=(").status(), 400);
  EXPECT_EQ(proxy_.admin("/stats?format=xml").status(), 400);
  expect_json(proxy_.admin("/stats?format=json").body,
              ".stats | (map(select(.name == \"http.main.downstream_rq_2xx\"))[0].value == 1) and "
              "(map(.histograms // empty)[0] | length > 0)");
}

TEST_F(Admin, MetricsAreWellFormed) {
  EXPECT_EQ(test::http_get(proxy_.port("main"), "/").status(), 200);
  for (const char* page : {"/metrics", "/stats/prometheus", "/stats?format=prometheus"}) {
    const HttpMessage metrics = proxy_.admin(page);
    EXPECT_TRUE(contains(metrics, "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"back_end\"}")) << metrics.body;
    test::write_file(dir_ / "metrics", metrics.body);
    Process promtool({"sh", "-c", "promtool check metrics < " + (dir_ / "metrics")});
    // 3: it parses, and the names, which are Envoy's, are not to the linter's taste.
    const int status = promtool.wait_exit().value_or(-1);
    EXPECT_TRUE(status == 0 || status == 3) << promtool.output();
  }
}

TEST_F(Admin, AMonitorAsksForTheMetricsThatItWants) {
  EXPECT_EQ(test::http_get(proxy_.port("main"), "/").status(), 200);
  const HttpMessage some = proxy_.admin("/metrics?filter=%5Ecluster%5C.back_end%5C.upstream_rq_(total%7Ctimeout)$");
  EXPECT_EQ(some.header("transfer-encoding"), "chunked");  // written as it is read, whatever its size
  EXPECT_EQ(some.body,
            "# TYPE envoy_cluster_upstream_rq_timeout counter\n"
            "envoy_cluster_upstream_rq_timeout{envoy_cluster_name=\"back_end\"} 0\n"
            "# TYPE envoy_cluster_upstream_rq_total counter\n"
            "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"back_end\"} 1\n");
  const HttpMessage used = proxy_.admin("/metrics?usedonly&filter=upstream_rq_t");
  EXPECT_TRUE(contains(used, "envoy_cluster_upstream_rq_total{"));
  EXPECT_FALSE(contains(used, "envoy_cluster_upstream_rq_timeout{"));
  EXPECT_EQ(proxy_.admin("/metrics?filter=(").status(), 400);
  EXPECT_EQ(proxy_.admin("/stats").header("transfer-encoding"), "chunked");
  EXPECT_EQ(proxy_.admin("/metrics?filter=nothing_has_this_name").body, "");
}

// A turn that a page has shown is still shown by the next page: several readers see the same.
TEST_F(Admin, TheLongestTurnOfEachLoopIsToldToEveryReader) {
  ASSERT_TRUE(proxy_.live());
  const auto longest_us = [&](const std::string& thread) {
    const std::string name = "loop." + thread + ".longest_turn_us: ";
    const std::string page = proxy_.admin("/stats?filter=%5Eloop").body;
    const size_t at = page.find(name);
    return at == std::string::npos ? -1 : std::stoll(page.substr(at + name.size()));
  };
  for (const char* thread : {"main", "control", "discovery", "builder", "worker_0", "worker_1"})
    EXPECT_GE(longest_us(thread), 0);
  const long long built_us = longest_us("builder");  // two listeners were linked
  EXPECT_GT(built_us, 0);
  EXPECT_GE(longest_us("builder"), built_us);
  EXPECT_TRUE(contains(proxy_.admin("/metrics"), "envoy_loop_longest_turn_us{envoy_thread=\"worker_1\"} "));
  EXPECT_TRUE(contains(proxy_.admin("/metrics"), "envoy_loop_longest_task_cpu_us{envoy_thread=\"builder\"} "));
}

TEST_F(Admin, ClustersAndListeners) {
  proxy_.port("main");
  const std::string host = "back:end::127.0.0.1:" + std::to_string(upstream_.port());
  EXPECT_TRUE(contains(proxy_.admin("/clusters"), host + "::health_flags::healthy\n"))
      << proxy_.admin("/clusters").body;
  expect_json(
      proxy_.admin("/clusters?format=json").body,
      ".cluster_statuses[0] | .name == \"back:end\" and .host_statuses[0].address.socket_address.port_value == " +
          std::to_string(upstream_.port()));
  EXPECT_EQ(proxy_.admin("/listeners").body, "direct::127.0.0.1:" + std::to_string(proxy_.port("direct")) +
                                                 "\nmain::127.0.0.1:" + std::to_string(proxy_.port("main")) + "\n");
  expect_json(proxy_.admin("/listeners?format=json").body,
              ".listener_statuses[1] | .name == \"main\" and .local_address.socket_address.port_value == " +
                  std::to_string(proxy_.port("main")));
}

TEST_F(Admin, ServerInfo) {
  ASSERT_TRUE(proxy_.live());
  expect_json(
      proxy_.admin("/server_info").body,
      ".state == \"LIVE\" and .node.id == \"me\" and .command_line_options.concurrency == 2 and "
      ".config.version == 1 and .config.oldest_worker_version == 1 and (.config.worker_versions | length == 2)");
  expect_json(proxy_.admin("/xds").body, ".configured == false");
}

TEST_F(Admin, ConfigDumpShowsWhatIsLive) {
  proxy_.port("main");
  EXPECT_TRUE(test::wait_until([&] { return contains(proxy_.admin("/config_dump"), "\"version_info\""); }));
  const std::string dump = proxy_.admin("/config_dump").body;
  expect_json(dump, ".configs[0].bootstrap.node.id == \"me\"");
  expect_json(dump,
              ".configs | map(select(.[\"@type\"] | endswith(\"ClustersConfigDump\")))[0].static_clusters[0] | "
              ".cluster.name == \"back:end\" and (.last_updated | length > 0)");
  expect_json(dump,
              ".configs | map(select(.[\"@type\"] | endswith(\"ListenersConfigDump\")))[0].static_listeners | "
              "map(.listener.name) == [\"direct\", \"main\"]");
  expect_json(proxy_.admin("/config_dump?name_regex=^dir").body,
              "[.configs[] | .static_listeners // [] | .[].name] == [\"direct\"]");
  EXPECT_EQ(proxy_.admin("/config_dump?name_regex=(").status(), 400);
}

TEST(AdminSecrets, AreNeverShown) {
  std::string listener = listener_yaml("main", direct_response("hello"));
  const std::string filter =
      "{name: keys, typed_config: {\"@type\": "
      "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth, "
      "credentials: [{key: tell-nobody, client: alice}], key_sources: [{header: x-api-key}]}}, ";
  listener.insert(listener.find("{name: router"), filter);
  RunningServer proxy(bootstrap({listener}));
  proxy.port("main");
  EXPECT_TRUE(test::wait_until(
      [&] { return proxy.admin("/config_dump").body.find("static_listeners\": [\n    {") != std::string::npos; }));
  const std::string dump = proxy.admin("/config_dump").body;
  EXPECT_NE(dump.find("alice"), std::string::npos);
  EXPECT_NE(dump.find("[redacted]"), std::string::npos);
  EXPECT_EQ(dump.find("tell-nobody"), std::string::npos);
}

TEST_F(Admin, LoggingIsReadByGetAndChangedByPost) {
  const log::Level before = log::level();
  EXPECT_EQ(proxy_.admin("/logging").body, "level: " + std::string(log::level_name(before)) + "\n");
  EXPECT_EQ(proxy_.admin("/logging?level=error").body, "level: " + std::string(log::level_name(before)) + "\n");
  EXPECT_EQ(proxy_.admin_post("/logging?level=loud").status(), 400);
  EXPECT_EQ(proxy_.admin_post("/logging?level=error").body, "level: error\n");
  EXPECT_EQ(log::level(), log::Level::kError);
  log::set_level(before);
}

TEST_F(Admin, ChangesNeedAPost) {
  for (const char* page : {"/quitquitquit", "/drain_listeners", "/reopen_logs"}) {
    const HttpMessage answer = proxy_.admin(page);
    EXPECT_EQ(answer.status(), 405) << page;
    EXPECT_EQ(answer.header("allow"), "POST") << page;
  }
  const HttpMessage answer = proxy_.admin_post("/stats");
  EXPECT_EQ(answer.status(), 405);
  EXPECT_EQ(answer.header("allow"), "GET, HEAD");
  EXPECT_EQ(proxy_.admin_post("/reopen_logs").status(), 200);
  EXPECT_TRUE(proxy_.live());
}

TEST_F(Admin, UnknownPagesAndHelpListThemAll) {
  const HttpMessage unknown = proxy_.admin("/no_such_page");
  EXPECT_EQ(unknown.status(), 404);
  for (const HttpMessage& list : {unknown, proxy_.admin("/"), proxy_.admin("/help")}) {
    for (const char* page : {"/ready", "/stats", "/metrics", "/config_dump", "/clusters", "/listeners", "/server_info",
                             "/logging", "/quitquitquit", "/drain_listeners"})
      EXPECT_TRUE(contains(list, page)) << page << "\n" << list.body;
  }
}

TEST_F(Admin, OneConnectionServesManyRequestsAndHeads) {
  ASSERT_TRUE(proxy_.live());
  HttpClient client(proxy_->admin_port());
  EXPECT_EQ(client.get("/ready").status(), 200);
  const HttpMessage head = client.request("HEAD", "/server_info");
  EXPECT_EQ(head.status(), 200);
  EXPECT_TRUE(head.header("content-length").has_value());
  EXPECT_EQ(client.request("HEAD", "/stats").status(), 200);
  EXPECT_EQ(client.request("POST", "/logging?level=info", {}, "hello").status(), 200);
  EXPECT_EQ(client.get("/ready").status(), 200);
}

TEST_F(Admin, ForeignNamesAndPagesAreRefused) {
  const auto asked = [&](const std::string& host, const std::string& more = {}) {
    HttpClient client(proxy_->admin_port());
    client.send("POST /logging?level=info HTTP/1.1\r\nhost: " + host + "\r\n" + more + "content-length: 0\r\n\r\n");
    return client.read_response().status();
  };
  EXPECT_EQ(asked("evil.example"), 403);
  EXPECT_EQ(asked("localhost:9901"), 200);
  EXPECT_EQ(asked("[::1]:9901"), 200);
  EXPECT_EQ(asked("127.0.0.1", "origin: http://evil.example\r\n"), 403);
  EXPECT_EQ(asked("127.0.0.1", "origin: http://127.0.0.1\r\n"), 200);
}

TEST_F(Admin, MalformedRequestsAreAnswered400) {
  HttpClient client(proxy_->admin_port());
  client.send("GET /ready HTTP/1.1\r\nhost : a\r\n\r\n");
  EXPECT_EQ(client.read_response().status(), 400);
  EXPECT_TRUE(client.wait_closed());
}

// A proxy with a key filter, a limit of one request an hour and three routes; its admin requests are logged.
class Explain : public testing::Test {
 protected:
  static std::string listener() {
    std::string yaml =
        listener_yaml("main",
                      "route_config: {name: table, virtual_hosts: [{name: shop, domains: [shop.example], routes: ["
                      "{name: canary, match: {prefix: /, headers: [{name: x-canary, string_match: {exact: \"1\"}}]}, "
                      "direct_response: {status: 204}}, "
                      "{name: cart, match: {prefix: /cart}, route: {cluster: back, prefix_rewrite: /basket}}, "
                      "{name: gone, match: {prefix: /gone}, route: {cluster_header: x-to}}]}]}");
    const std::string filters =
        "{name: keys, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth, "
        "credentials: [{key: tell-nobody, client: alice}], key_sources: [{header: x-api-key}]}}, "
        "{name: limit, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: rl, "
        "token_bucket: {max_tokens: 1, fill_interval: 3600s}, filter_enabled: {default_value: {numerator: 100}}, "
        "filter_enforced: {default_value: {numerator: 100}}}}, ";
    yaml.insert(yaml.find("{name: router"), filters);
    return yaml;
  }
  nlohmann::json explain(const std::string& query, int status = 200) {
    const HttpMessage page = proxy_.admin("/explain?host=shop.example&" + query);
    EXPECT_EQ(page.status(), status) << page.body;
    EXPECT_EQ(page.body.find("tell-nobody"), std::string::npos);
    return nlohmann::json::parse(page.body, nullptr, false);
  }
  int get(const std::string& path, const HttpMessage::Fields& more = {}) {
    HttpMessage::Fields headers = more;
    headers.emplace_back("host", "shop.example");
    return HttpClient(proxy_.port("main")).request("GET", path, headers).status();
  }

  test::TempDir dir_;
  test::FakeUpstream upstream_;
  RunningServer proxy_{bootstrap({listener()}, {static_cluster("back", upstream_.port())},
                                 "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}, access_log: "
                                 "[{name: file, typed_config: {\"@type\": "
                                 "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: " +
                                     (dir_ / "admin.log") + "}}]}\n")};
};

TEST_F(Explain, TellsRouteFiltersClusterAndVersionAndTakesNothing) {
  ASSERT_TRUE(proxy_.live());
  for (int i = 0; i < 3; ++i) {
    const auto told = explain("path=/cart/1&header=X-Api-Key:%20tell-nobody");
    EXPECT_EQ(told["config_version"], nlohmann::json::parse(proxy_.admin("/server_info").body)["config"]["version"]);
    EXPECT_EQ(told["listener"], "main");
    EXPECT_EQ(told["virtual_host"]["name"], "shop");
    EXPECT_EQ(told["virtual_host"]["rule"], "exact");
    EXPECT_EQ(told["route"]["name"], "cart");
    EXPECT_EQ(told["route"]["match"], "prefix \"/cart\"");
    ASSERT_EQ(told["misses"].size(), 1u);
    EXPECT_EQ(told["misses"][0]["reason"], "wants header x-canary to be \"1\"; it is absent");
    ASSERT_EQ(told["filters"].size(), 2u);
    EXPECT_EQ(told["filters"][0]["verdict"], "passes");
    EXPECT_EQ(told["filters"][0]["facts"]["client"], "alice");
    EXPECT_EQ(told["filters"][1]["facts"]["bucket default"], "1 of 1 tokens left");
    EXPECT_EQ(told["cluster"]["name"], "back");
    EXPECT_EQ(told["cluster"]["hosts"][0]["address"], "127.0.0.1:" + std::to_string(upstream_.port()));
    EXPECT_EQ(told["cluster"]["request"]["path"], "/basket/1");
    EXPECT_EQ(told["outcome"]["text"], "forwarded to cluster back");
  }
  // What it said comes true.
  EXPECT_EQ(get("/cart/1", {{"x-api-key", "tell-nobody"}}), 200);
  const auto told = explain("path=/cart/1&header=x-api-key:tell-nobody");
  EXPECT_EQ(told["outcome"]["status"], 429);
  EXPECT_EQ(told["filters"][1]["verdict"], "refuses");
  EXPECT_EQ(get("/cart/1", {{"x-api-key", "tell-nobody"}}), 429);
}

TEST_F(Explain, TellsRefusals) {
  ASSERT_TRUE(proxy_.live());
  auto told = explain("path=/cart&header=x-api-key:guess");
  EXPECT_EQ(told["outcome"]["status"], 401);
  EXPECT_EQ(told["outcome"]["details"], "unknown_api_key");
  EXPECT_EQ(told["filters"][1]["verdict"], "not reached");
  EXPECT_EQ(get("/cart", {{"x-api-key", "guess"}}), 401);
  told = explain("path=/gone&header=x-to:nowhere&header=x-api-key:tell-nobody");
  EXPECT_EQ(told["outcome"]["status"], 503);
  EXPECT_EQ(told["cluster"]["exists"], false);
  told = explain("path=/none&header=x-api-key:tell-nobody");
  EXPECT_EQ(told["outcome"]["status"], 404);
  EXPECT_EQ(told["misses"].size(), 3u);
  told = explain("path=/x/../cart&header=x-api-key:tell-nobody");
  EXPECT_EQ(told["request"]["path"], "/cart") << "as the connection manager leaves it";
  told = explain("path=/a%2500b");
  EXPECT_EQ(told["outcome"]["status"], 400);
  EXPECT_EQ(nlohmann::json::parse(proxy_.admin("/explain?host=other").body)["no_virtual_host"],
            "no domain matches host \"other\"; there are: shop.example");
  for (const char* bad : {"listener=none", "colour=red", "header=nocolon", "random=x", "remote=nobody", "path="})
    EXPECT_EQ(proxy_.admin(std::string("/explain?") + bad).status(), 400) << bad;
}

// Aggregate "group" of "empty" and "back", mirrored to "back".
TEST(ExplainAggregate, TellsTheMemberAndTheMirrors) {
  test::FakeUpstream upstream;
  RunningServer proxy(bootstrap(
      {listener_yaml("main", inline_routes("{match: {prefix: /}, route: {cluster: group, request_mirror_policies: "
                                           "[{cluster: back}, {cluster_header: x-to}]}}"))},
      {static_cluster("back", upstream.port()), "{name: empty}",
       "{name: group, lb_policy: CLUSTER_PROVIDED, cluster_type: {name: envoy.clusters.aggregate, typed_config: "
       "{\"@type\": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [empty, "
       "back]}}}"}));
  ASSERT_TRUE(proxy.live());
  const auto told = nlohmann::json::parse(proxy.admin("/explain?host=a:80&path=/").body);
  const auto& cluster = told["cluster"];
  EXPECT_EQ(cluster["name"], "group");
  EXPECT_EQ(cluster["member"], "back");
  EXPECT_EQ(cluster["members"][0],
            (nlohmann::json{
                {"name", "empty"}, {"exists", true}, {"load_percent", 0}, {"hosts_total", 0}, {"hosts_healthy", 0}}));
  EXPECT_EQ(cluster["members"][1]["load_percent"], 100);
  EXPECT_EQ(cluster["hosts"][0]["address"], "127.0.0.1:" + std::to_string(upstream.port()));
  EXPECT_EQ(cluster["mirrors"][0],
            (nlohmann::json{{"cluster", "back"}, {"exists", true}, {"chosen", true}, {"host", "a-shadow:80"}}));
  EXPECT_EQ(cluster["mirrors"][1]["exists"], false);
  EXPECT_EQ(told["outcome"]["text"], "forwarded to cluster back, member of group");
  // What it said comes true, and the clusters' page agrees.
  EXPECT_EQ(HttpClient(proxy.port("main")).get("/").status(), 200);
  EXPECT_TRUE(upstream.wait_for_requests(2));
  const std::string page = proxy.admin("/clusters").body;
  EXPECT_NE(page.find("group::member::back::load_percent::100\n"), std::string::npos) << page;
  const auto statuses = nlohmann::json::parse(proxy.admin("/clusters?format=json").body)["cluster_statuses"];
  EXPECT_EQ(statuses[2]["members"], cluster["members"]);
  EXPECT_NE(proxy.admin("/config_dump").body.find("envoy.clusters.aggregate"), std::string::npos);
}

TEST_F(Explain, ItsQueryIsInNoLog) {
  ASSERT_TRUE(proxy_.live());
  explain("path=/cart&header=x-api-key:tell-nobody");
  EXPECT_EQ(proxy_.admin("/explain?header=x-api-key%20tell-nobody").status(), 400);
  EXPECT_EQ(proxy_.admin("/ready?mark").status(), 200);
  std::string log;
  EXPECT_TRUE(test::wait_until([&] {
    log = test::read_file(dir_ / "admin.log");
    return log.find("/ready?mark") != std::string::npos;
  }));
  EXPECT_NE(log.find("/explain"), std::string::npos) << log;
  EXPECT_EQ(log.find("tell-nobody"), std::string::npos) << log;
}

}  // namespace
}  // namespace outrigger::server
