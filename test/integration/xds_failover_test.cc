// Two control planes that serve the same files: the second takes over while the first is away. The programs are real.
#include <signal.h>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"

namespace outrigger::test {
namespace {

class XdsFailover : public testing::TestWithParam<const char*> {
 protected:
  XdsFailover() {
    write_file(config_ / "listener.yaml", resource_file({listener_resource("main", "table")}));
    write_file(config_ / "clusters.yaml", resource_file({eds_cluster_resource("web")}));
    write_file(config_ / "routes.yaml",
               resource_file({routes_resource("table", "- match: {prefix: /}\n  route: {cluster: web}\n")}));
    write_endpoints(blue_.port());
  }
  void write_endpoints(uint16_t port) {
    write_file(config_ / "endpoints.yaml", resource_file({endpoints_resource("web", {port})}));
  }
  static void kill_hard(std::unique_ptr<ControlProcess>& control) {
    control->process().signal(SIGKILL);
    ASSERT_TRUE(control->process().wait_exit().has_value());
  }
  // A bootstrap whose ADS asks `first`, and `second` by an address of its own.
  static std::string two_servers(uint16_t first, uint16_t second) {
    std::string text = ads_bootstrap(first, GetParam());
    const std::string one = "[{envoy_grpc: {cluster_name: xds_cluster}}]";
    text.replace(text.find(one), one.size(),
                 "[{envoy_grpc: {cluster_name: xds_cluster}}, {google_grpc: {target_uri: \"127.0.0.1:" +
                     std::to_string(second) + "\", stat_prefix: second}}]");
    return text;
  }
  // On a connection that must not drop.
  static bool becomes(HttpClient& client, std::string_view body) {
    return wait_until([&] {
      const HttpMessage answer = client.get("/");
      EXPECT_EQ(answer.status(), 200) << answer.error;
      return answer.status() != 200 || answer.body == body;
    });
  }

  TempDir config_;
  FakeUpstream blue_{[](Exchange& exchange) { exchange.respond(200, "blue"); }};
  FakeUpstream green_{[](Exchange& exchange) { exchange.respond(200, "green"); }};
};

INSTANTIATE_TEST_SUITE_P(Form, XdsFailover, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(XdsFailover, TheSecondControlPlaneTakesOverAndTheFirstComesBack) {
  auto first = std::make_unique<ControlProcess>(config_.path());
  auto second = std::make_unique<ControlProcess>(config_.path());
  ASSERT_TRUE(first->started() && second->started());
  const uint16_t first_port = first->port();
  ProxyProcess proxy(two_servers(first_port, second->port()));
  ASSERT_TRUE(proxy.started()) << proxy.output();
  ASSERT_TRUE(proxy.wait_ready());
  HttpClient client(proxy.listener_port("main"));
  EXPECT_TRUE(becomes(client, "blue"));
  EXPECT_EQ(proxy.stat("control_plane.failovers").value_or(0), 0u);

  kill_hard(first);
  write_endpoints(green_.port());
  EXPECT_TRUE(becomes(client, "green"));
  EXPECT_EQ(proxy.stat("control_plane.failovers"), 1u);

  // Killed in mid-flight with nobody to take over: what is held serves on.
  kill_hard(second);
  EXPECT_TRUE(wait_until([&] { return proxy.stat("control_plane.connected_state") == 0u; }));
  EXPECT_TRUE(becomes(client, "green"));
  write_endpoints(blue_.port());
  first = std::make_unique<ControlProcess>(config_.path(), first_port);
  ASSERT_TRUE(first->started()) << first->output();
  EXPECT_TRUE(becomes(client, "blue"));
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/xds").find("\"channel_index\": 0") != std::string::npos; }))
      << proxy.admin("/xds");
}

}  // namespace
}  // namespace outrigger::test
