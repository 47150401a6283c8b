// Programs that nobody here wrote, in another language: a discovery service on @grpc/grpc-js drives the proxy, and
// @grpc/grpc-js-xds is driven by the control plane. npm installs them into the build tree once.
#include <filesystem>
#include <set>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"
#include "support/traffic.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

namespace fs = std::filesystem;

const fs::path kScripts = OUTRIGGER_SOURCE_DIR "/test/integration/node";
const fs::path kInstalled = OUTRIGGER_BINARY_DIR "/node";

// What is installed is what the lock file says.
void install_modules() {
  const std::string lock = read_file(kScripts / "package-lock.json");
  if (read_file(kInstalled / "installed") == lock) return;
  fs::create_directories(kInstalled);
  for (const char* file : {"package.json", "package-lock.json"})
    fs::copy_file(kScripts / file, kInstalled / file, fs::copy_options::overwrite_existing);
  Process npm({"npm", "--prefix", kInstalled, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"});
  ASSERT_EQ(npm.wait_exit(Milliseconds(240'000)), 0) << npm.output();
  write_file(kInstalled / "installed", lock);
}

// A script that tells its ports when it is ready.
class NodeProcess : public Process {
 public:
  NodeProcess(const std::string& script, std::vector<std::string> arguments = {},
              std::vector<std::string> environment = {})
      : Process(argv(script, std::move(arguments)), with_modules(std::move(environment))) {}

  // 0: it did not come.
  uint16_t port(const std::string& what) const {
    const auto text = wait_for_output(what + " on ([0-9]+)", Milliseconds(60'000));
    return text ? static_cast<uint16_t>(std::stoi(*text)) : 0;
  }

 private:
  static std::vector<std::string> argv(const std::string& script, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"node", kScripts / script});
    return arguments;
  }
  static std::vector<std::string> with_modules(std::vector<std::string> environment) {
    environment.push_back("NODE_PATH=" + (kInstalled / "node_modules").string());
    return environment;
  }
};

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

// ---- a discovery service in node drives the proxy ----

class NodeAds : public testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() { install_modules(); }

  void SetUp() override {
    ads_ = std::make_unique<NodeProcess>("ads_server.js");
    const uint16_t port = ads_->port("discovery");
    ASSERT_NE(port, 0) << ads_->output();
    control_ = ads_->port("control");
    say("clusters", R"(["a", "b"])");
    say("endpoints", endpoints("a", one_) + ", " + endpoints("b", two_));
    say("listeners", R"({"main": "table"})");
    say("routes", R"({"table": "a"})");
    proxy_ =
        std::make_unique<ProxyProcess>(ads_bootstrap(port, GetParam()), std::vector<std::string>{"--concurrency", "2"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    port_ = proxy_->listener_port("main");
    ASSERT_NE(port_, 0) << proxy_->output() << ads_->output();
    EXPECT_EQ(http_get(port_, "/").body, "one");
  }

  static std::string endpoints(const std::string& cluster, const FakeUpstream& upstream) {
    return quoted(cluster) + ": [" + std::to_string(upstream.port()) + "]";
  }
  void say(const std::string& type, std::string resources) {
    if (resources[0] == '"') resources = "{" + resources + "}";
    post("/say", "{" + quoted(type) + ": " + resources + "}");
  }
  void post(const std::string& path, const std::string& body) {
    EXPECT_EQ(HttpClient(control_).request("POST", path, {}, body).body, "done\n");
  }
  bool becomes(std::string_view body) {
    return wait_until([&] { return http_get(port_, "/").body == body; });
  }

  FakeUpstream one_{[](Exchange& exchange) { exchange.respond(200, "one"); }};
  FakeUpstream two_{[](Exchange& exchange) { exchange.respond(200, "two"); }};
  std::unique_ptr<NodeProcess> ads_;
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t control_ = 0, port_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Form, NodeAds, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(NodeAds, DrivesTheProxyThroughDisorderRefusalsRemovalsAndReconnects) {
  Traffic traffic(port_, [](const HttpMessage& answer) {
    return answer.body == "one" || answer.body == "two" ? std::string() : "says " + answer.body;
  });
  // What is named comes last.
  say("routes", R"({"table": "c"})");
  say("endpoints", endpoints("a", one_) + ", " + endpoints("c", two_));
  say("clusters", R"(["a", "c"])");
  EXPECT_TRUE(becomes("two")) << proxy_->output() << ads_->output();
  // b is gone.
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/clusters").find("b::") == std::string::npos; }));
  EXPECT_NE(proxy_->admin("/clusters").find("a::"), std::string::npos);

  say("routes", R"({"table": "("})");
  EXPECT_TRUE(ads_->wait_for_output("RouteConfiguration by test-proxy, [^\n]*NACK: [^\n]*RouteConfiguration/table[^\n]*"
                                    "safe_regex")
                  .has_value())
      << ads_->output();
  EXPECT_EQ(http_get(port_, "/").body, "two");
  say("routes", R"({"table": "a"})");
  EXPECT_TRUE(becomes("one")) << proxy_->output();

  // Changes while nobody listens.
  post("/end", "");
  say("endpoints", endpoints("a", two_) + ", " + endpoints("c", two_));
  say("clusters", R"(["a"])");
  EXPECT_TRUE(becomes("two")) << proxy_->output() << ads_->output();
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/clusters").find("c::") == std::string::npos; }));
  if (std::string_view(GetParam()) == "DELTA_GRPC") {
    EXPECT_NE(ads_->output().find("Cluster by test-proxy, held: a,c;"), std::string::npos) << ads_->output();
  }
  EXPECT_TRUE(traffic.wait_more(10));
  traffic.stop();
  EXPECT_EQ(traffic.faults(), "") << proxy_->output();
}

// ---- a client in node is driven by the control plane ----

class GrpcJsClient : public testing::Test {
 protected:
  using Names = std::set<std::string>;
  static void SetUpTestSuite() { install_modules(); }

  void SetUp() override {
    one_ = std::make_unique<NodeProcess>("greeter.js", std::vector<std::string>{"one"});
    two_ = std::make_unique<NodeProcess>("greeter.js", std::vector<std::string>{"two"});
    write_file(dir_ / "listener.yaml", resource_file({api_listener_resource("greeter", "greeter_routes")}));
    write_file(
        dir_ / "routes.yaml",
        resource_file({routes_resource("greeter_routes", "- match: {prefix: /}\n  route: {cluster: greeters}\n")}));
    write_file(dir_ / "clusters.yaml", resource_file({eds_cluster_resource("greeters")}));
    write_endpoints({one_->port("greeting"), two_->port("greeting")});
    control_ = std::make_unique<ControlProcess>(dir_.path());
    ASSERT_TRUE(control_->started()) << control_->output();
    client_ = std::make_unique<NodeProcess>(
        "xds_client.js", std::vector<std::string>{},
        std::vector<std::string>{"GRPC_XDS_BOOTSTRAP_CONFIG={\"xds_servers\": [{\"server_uri\": \"127.0.0.1:" +
                                 std::to_string(control_->port()) +
                                 "\", \"channel_creds\": [{\"type\": \"insecure\"}], \"server_features\": "
                                 "[\"xds_v3\"]}], \"node\": {\"id\": \"js-client\", \"locality\": {}}}"});
    calls_ = client_->port("control");
    ASSERT_NE(calls_, 0) << client_->output();
  }
  void write_endpoints(const std::vector<uint16_t>& ports) {
    write_file(dir_ / "endpoints.yaml", resource_file({weighted_endpoints_resource("greeters", ports)}));
  }
  // Who answers a few calls.
  Names callers() {
    Names names;
    for (int i = 0; i < 4; ++i) names.insert(http_get(calls_, "/call").body);
    return names;
  }

  TempDir dir_;
  std::unique_ptr<NodeProcess> one_, two_, client_;
  std::unique_ptr<ControlProcess> control_;
  uint16_t calls_ = 0;
};

TEST_F(GrpcJsClient, FollowsEndpointsAndItsRefusalIsSeenInStatus) {
  EXPECT_TRUE(wait_until([&] { return callers() == Names{"one", "two"}; })) << client_->output() << control_->output();
  write_endpoints({two_->port("greeting")});
  EXPECT_TRUE(wait_until([&] { return callers() == Names{"two"}; })) << "the withdrawal was not followed";

  // It does not know this policy.
  write_file(dir_ / "clusters.yaml", resource_file({eds_cluster_resource("greeters", "lb_policy: LEAST_REQUEST\n")}));
  const auto status = [&] { return control_status(control_->port()); };
  EXPECT_TRUE(wait_until([&] { return status().find("refused Cluster") != std::string::npos; })) << status();
  EXPECT_NE(status().find("js-client"), std::string::npos) << status();
  EXPECT_EQ(callers(), Names{"two"});
  write_file(dir_ / "clusters.yaml", resource_file({eds_cluster_resource("greeters")}));
  write_endpoints({one_->port("greeting")});
  EXPECT_TRUE(wait_until([&] { return callers() == Names{"one"}; })) << control_->output();
}

// ---- WebSocket ----

class NodeWebSocket : public testing::Test {
 protected:
  static void SetUpTestSuite() { install_modules(); }
};

TEST_F(NodeWebSocket, ClientsAndAServerTalkThroughTheProxy) {
  NodeProcess server("websocket.js", {"server"});
  const uint16_t upstream = server.port("websocket");
  ASSERT_NE(upstream, 0) << server.output();
  TempDir dir;
  WireCase config;
  config.config = {
      {"hcm", "upgrade_configs: [{upgrade_type: websocket}]\nhttp2_protocol_options: {allow_connect: true}\n"}};
  ProxyProcess proxy(config.bootstrap(upstream, dir / "log"));
  ASSERT_TRUE(proxy.started() && proxy.wait_ready()) << proxy.output();
  const std::string port = std::to_string(proxy.listener_port("main"));
  for (const char* role : {"client", "client2"}) {
    NodeProcess client("websocket.js", {role, port});
    EXPECT_EQ(client.wait_exit(), 0) << role << "\n" << client.output() << server.output() << proxy.output();
    EXPECT_TRUE(client.wait_for_output("all echoed")) << client.output();
  }
  EXPECT_EQ(proxy.stat("http.main.downstream_cx_upgrades_total"), 2u);
  EXPECT_TRUE(wait_until([&] { return proxy.stat("http.main.downstream_cx_upgrades_active") == 0u; }));
}

}  // namespace
}  // namespace outrigger::test
