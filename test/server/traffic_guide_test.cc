// The example of source/docs/guide/traffic.md, run as it stands, its ports aside.
#include "running_server.h"
#include "support/fake_upstream.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

TEST(TrafficGuide, ItsExampleDoesWhatItSays) {
  const auto named = [](const char* name) {
    return [name](test::Exchange& e) { e.respond(200, std::string(name) + ": " + e.request.target()); };
  };
  test::FakeUpstream primary(named("primary")), backup(named("backup")), canary(named("canary"));
  std::string yaml =
      test::read_file(std::string(OUTRIGGER_SOURCE_DIR) + "/source/docs/guide/examples/traffic/bootstrap.yaml");
  yaml.erase(0, yaml.find("static_resources"));  // the comment names ports
  replace(yaml, "port_value: 10000", "port_value: 0");
  replace(yaml, "port_value: 9901", "port_value: 0");
  replace(yaml, "port_value: 8081", "port_value: " + std::to_string(primary.port()));
  replace(yaml, "port_value: 8082", "port_value: " + std::to_string(backup.port()));
  replace(yaml, "port_value: 8083", "port_value: " + std::to_string(canary.port()));
  {
    RunningServer proxy(yaml);
    ASSERT_TRUE(proxy.live());
    EXPECT_EQ(test::http_get(proxy.port("ingress"), "/hello", {{"host", "a"}}).body, "primary: /hello");
    ASSERT_TRUE(canary.wait_for_requests(1));
    EXPECT_EQ(canary.requests()[0].header("host"), "a-shadow");
  }
  replace(yaml, "health_status: HEALTHY", "health_status: UNHEALTHY");
  RunningServer proxy(yaml);
  ASSERT_TRUE(proxy.live());
  EXPECT_EQ(test::http_get(proxy.port("ingress"), "/hello").body, "backup: /hello");
  EXPECT_EQ(primary.request_count(), 1u);
}

TEST(TrafficGuide, ItsSubsetsAreWhatItSays) {
  const auto named = [](const char* name) { return [name](test::Exchange& e) { e.respond(200, name); }; };
  test::FakeUpstream stable(named("stable")), canary(named("canary"));
  std::string yaml =
      test::read_file(std::string(OUTRIGGER_SOURCE_DIR) + "/source/docs/guide/examples/traffic/subsets.yaml");
  yaml.erase(0, yaml.find("static_resources"));  // the comment names ports
  replace(yaml, "port_value: 10000", "port_value: 0");
  replace(yaml, "port_value: 9901", "port_value: 0");
  replace(yaml, "port_value: 8081", "port_value: " + std::to_string(stable.port()));
  replace(yaml, "port_value: 8082", "port_value: " + std::to_string(canary.port()));
  RunningServer proxy(yaml);
  ASSERT_TRUE(proxy.live());
  const auto get = [&](const char* path) { return test::http_get(proxy->admin_port(), path).body; };
  for (const bool asks : {false, true}) {
    const test::HttpMessage::Fields headers =
        asks ? test::HttpMessage::Fields{{"host", "a"}, {"x-canary", "1"}} : test::HttpMessage::Fields{{"host", "a"}};
    const test::HttpMessage answer = test::http_get(proxy.port("ingress"), "/hello", headers);
    EXPECT_EQ(answer.body, asks ? "canary" : "stable");
    EXPECT_EQ(answer.header("x-version"), asks ? "2.0" : "1.0");
  }
  const std::string told = get("/explain?path=/&header=x-canary:1"), otherwise = get("/explain?path=/");
  const std::string canary_at = "127.0.0.1:" + std::to_string(canary.port());
  EXPECT_NE(told.find("\"by\": \"selected\""), std::string::npos) << told;
  EXPECT_NE(told.find(canary_at), std::string::npos) << told;
  EXPECT_EQ(otherwise.find(canary_at), std::string::npos) << otherwise;
  EXPECT_NE(otherwise.find("\"by\": \"fallback of the cluster\""), std::string::npos) << otherwise;
  const std::string clusters = get("/clusters"), as_json = get("/clusters?format=json");
  EXPECT_NE(clusters.find("service::subset::{\"version\":\"2.0\"}::hosts_total::1\n"), std::string::npos) << clusters;
  EXPECT_NE(clusters.find("service::" + canary_at + "::metadata::{\"envoy.lb\":{\"version\":\"2.0\"}}\n"),
            std::string::npos)
      << clusters;
  EXPECT_NE(as_json.find("\"subsets_active\": 2"), std::string::npos) << as_json;
  EXPECT_NE(as_json.find("{\"envoy.lb\":{\"version\":\"2.0\"}}"), std::string::npos) << as_json;
}

}  // namespace
}  // namespace outrigger::server
