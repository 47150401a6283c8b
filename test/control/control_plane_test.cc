// ControlPlane as a whole, in process: files in, discovery responses out.
#include "control/control_plane.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "control/listener_at.h"
#include "control/raw_client.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "event/loop.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"
#include "support/temp_dir.h"
#include "support/wait.h"

namespace outrigger::control {
namespace {

using test::eds_cluster_resource;
using test::resource_file;
using test::write_file;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

const std::string kLds = "type.googleapis.com/envoy.config.listener.v3.Listener";

// A cluster's name, a listener's name and port.
std::string described(const google::protobuf::Any& any) {
  envoy::config::cluster::v3::Cluster cluster;
  if (any.UnpackTo(&cluster)) return cluster.name();
  envoy::config::listener::v3::Listener listener;
  EXPECT_TRUE(any.UnpackTo(&listener));
  return listener.name() + ":" + std::to_string(listener.address().socket_address().port_value());
}

class ControlPlaneTest : public ::testing::Test {
 protected:
  ~ControlPlaneTest() override {
    if (!thread.joinable()) return;
    loop->post([this] {
      control->stop();
      loop->stop();
    });
    thread.join();
    control.reset();
  }
  void start(const std::string& config_dir) {
    loop = std::make_unique<event::Loop>();
    control = std::make_unique<ControlPlane>(
        ControlOptions{.config_dir = config_dir, .listen = "127.0.0.1:0", .admin_address = "127.0.0.1:0"});
    auto started = control->start(*loop);
    ASSERT_TRUE(started) << started.error().detail;
    port = *started;
    thread = std::thread([this] { loop->run(); });
  }
  // Reads and acknowledges until the response has these resources.
  bool gets(RawClient& client, const Names& names) {
    for (int i = 0; i < 100; ++i) {
      const auto response = client.read();
      if (response.nonce().empty()) return false;
      client.ack(response);
      Names have;
      for (const auto& any : response.resources()) have.push_back(described(any));
      if (have == names) return true;
    }
    return false;
  }

  // The value of a line of /metrics, as it stands there.
  std::string metric(const std::string& name) {
    const std::string page = test::http_get(control->admin_port(), "/metrics").body;
    const std::string line = "\noutrigger_control_" + name + " ";
    const size_t at = page.find(line);
    if (at == std::string::npos) return {};
    return page.substr(at + line.size(), page.find('\n', at + 1) - at - line.size());
  }

  test::TempDir dir;
  std::unique_ptr<event::Loop> loop;
  std::unique_ptr<ControlPlane> control;
  std::thread thread;
  uint16_t port = 0;
};

TEST_F(ControlPlaneTest, EditsReachTheClient) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient client(port);
  client.ask(kCds);
  EXPECT_TRUE(gets(client, {"a"}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  EXPECT_TRUE(gets(client, {"a", "b"}));
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a", "colour: red\n")}));
  write_file(dir / "c.yaml", resource_file({eds_cluster_resource("c")}));
  EXPECT_TRUE(gets(client, {"a", "b", "c"})) << "a bad file stays as it was";
  fs::remove(dir / "b.yaml");
  EXPECT_TRUE(gets(client, {"a", "c"}));
}

TEST_F(ControlPlaneTest, WhoConnectsAcknowledgesAndRefusesIsLogged) {
  testing::internal::CaptureStderr();
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  {
    RawClient client(port, "proxy\n7");
    client.ask(kCds);
    EXPECT_TRUE(gets(client, {"a"}));
    write_file(dir / "a.yaml", resource_file({eds_cluster_resource("b")}));
    const auto refused = client.read();
    client.ask(kCds, {}, "", refused.nonce(), "b: no good\nand worse" + std::string(10'000, '!'));
    // Nothing comes again before the next change.
    write_file(dir / "a.yaml", resource_file({eds_cluster_resource("c")}));
    EXPECT_TRUE(gets(client, {"c"}));
  }
  const std::string log = testing::internal::GetCapturedStderr();
  const auto has = [&](const std::string& text) { return log.find(text) != std::string::npos; };
  EXPECT_TRUE(has("listening on 127.0.0.1:" + std::to_string(port) + "\n")) << log;
  EXPECT_TRUE(has("node \"proxy 7\" (cluster \"test-cluster\", ipv4:127.0.0.1:")) << log;
  EXPECT_TRUE(has("connected")) << log;
  EXPECT_TRUE(has("ACK of Cluster version ")) << log;
  EXPECT_TRUE(has("NACK of Cluster version ")) << log;
  EXPECT_TRUE(has(": b: no good and worse!!!")) << log;
  EXPECT_LT(log.size(), 8'000u) << "cut";
}

TEST_F(ControlPlaneTest, AFileRenamedIntoPlace) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient client(port);
  client.ask(kCds);
  EXPECT_TRUE(gets(client, {"a"}));
  write_file(dir / ".a.yaml.new", resource_file({eds_cluster_resource("a2")}));
  fs::rename(dir / ".a.yaml.new", dir / "a.yaml");
  EXPECT_TRUE(gets(client, {"a2"}));
}

TEST_F(ControlPlaneTest, AnAddressThatIsLeftIsTakenAStepLater) {
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8080)}));
  write_file(dir / "b.yaml", resource_file({listener_at("b", 8081)}));
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient client(port);
  client.ask(kLds);
  EXPECT_TRUE(gets(client, {"a:8080", "b:8081"}));
  write_file(dir / "b.yaml", resource_file({listener_at("b", 8080)}));
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8082)}));
  EXPECT_TRUE(gets(client, {"a:8082", "b:8080"}));
}

TEST_F(ControlPlaneTest, KubernetesMountSwapped) {
  fs::create_directory(dir / "..v1");
  fs::create_directory(dir / "..v2");
  write_file(dir / "..v1/a.yaml", resource_file({eds_cluster_resource("one")}));
  write_file(dir / "..v2/a.yaml", resource_file({eds_cluster_resource("two")}));
  fs::create_directory_symlink("..v1", dir / "..data");
  fs::create_symlink("..data/a.yaml", dir / "a.yaml");
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient client(port);
  client.ask(kCds);
  EXPECT_TRUE(gets(client, {"one"}));
  fs::create_directory_symlink("..v2", dir / "..data_tmp");
  fs::rename(dir / "..data_tmp", dir / "..data");
  EXPECT_TRUE(gets(client, {"two"}));
}

TEST_F(ControlPlaneTest, StartsBesideABrokenFileAndServesWhenItIsMended) {
  write_file(dir / "a.yaml", "resources: [");
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient client(port);
  client.ask(kCds);
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  EXPECT_TRUE(gets(client, {"a"}));
}

TEST_F(ControlPlaneTest, ReadyWhenAConfigurationIsServed) {
  write_file(dir / "a.yaml", "resources: [");
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  const auto page = [&](const std::string& target) { return test::http_get(control->admin_port(), target); };
  EXPECT_EQ(page("/ready").status(), 503);
  EXPECT_NE(page("/ready").body.find("1 of 1 files"), std::string::npos) << page("/ready").body;
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  EXPECT_TRUE(test::wait_until([&] { return page("/ready").status() == 200; }));
  write_file(dir / "a.yaml", "resources: [");
  EXPECT_TRUE(test::wait_until([&] { return metric("files_refused") == "1"; }));
  EXPECT_EQ(page("/ready").status(), 200) << "the last good state serves";
  EXPECT_EQ(page("/nothing").status(), 404);
  EXPECT_EQ(test::HttpClient(control->admin_port()).request("POST", "/ready").status(), 405);
}

TEST_F(ControlPlaneTest, MetricsCountStreamsResponsesAnswersAndFiles) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  const std::string cluster = "{type=\"envoy.config.cluster.v3.Cluster\"}";
  std::string version;
  {
    RawClient client(port, "node\"1\\");
    client.ask(kCds);
    const auto first = client.read();
    version = first.version_info();
    client.ack(first);
    write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
    client.ask(kCds, {}, version, client.read().nonce(), "no");
    EXPECT_TRUE(test::wait_until([&] { return metric("nacks_total" + cluster) == "1"; }));
    EXPECT_EQ(metric("streams{kind=\"sotw\"}"), "1");
    EXPECT_EQ(metric("nodes"), "1");
    EXPECT_EQ(metric("responses_total" + cluster), "2");
    EXPECT_EQ(metric("acks_total" + cluster), "1");
    EXPECT_EQ(metric("resources_sent_total" + cluster), "3");
    EXPECT_EQ(metric("resources_resent_total" + cluster), "1") << "a full set repeats what has not changed";
    EXPECT_EQ(metric("snapshot_resources{group=\"\"}"), "2");
    test::write_file(dir / "metrics.txt", test::http_get(control->admin_port(), "/metrics").body);
  }
  EXPECT_TRUE(test::wait_until([&] { return metric("streams{kind=\"sotw\"}") == "0"; }));
  // It comes back with what it has: nothing is sent.
  fs::remove(dir / "b.yaml");
  EXPECT_TRUE(test::wait_until([&] { return metric("snapshot_resources{group=\"\"}") == "1"; }));
  RawClient again(port);
  again.ask(kCds, {}, version);
  EXPECT_TRUE(test::wait_until([&] { return metric("resumed_total" + cluster) == "1"; }));
  EXPECT_EQ(metric("responses_total" + cluster), "2");

  test::Process promtool({"sh", "-c", "promtool check metrics < " + (dir / "metrics.txt")});
  EXPECT_EQ(promtool.wait_exit(), 0) << promtool.output();
}

TEST_F(ControlPlaneTest, EachGroupGetsItsFiles) {
  fs::create_directory(dir / "edge");
  fs::create_directory(dir / "grpc");
  write_file(dir / "all.yaml", resource_file({eds_cluster_resource("shared")}));
  write_file(dir / "edge/a.yaml", resource_file({eds_cluster_resource("edge")}));
  write_file(dir / "grpc/a.yaml", resource_file({eds_cluster_resource("grpc")}));
  write_file(dir / "groups.yaml", R"(
groups:
- {name: canary, match: {metadata: {path: [labels, app/track], value: {exact: canary}}}, files: [edge/a.yaml]}
- {name: edge, match: [{cluster: {exact: edge}}, {id: {prefix: edge-}}], files: [., edge]}
- {name: grpc, match: {user_agent: {prefix: gRPC}}, files: grpc}
)");
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient other(port), edge(port, RawOptions{.node_cluster = "edge"}), by_id(port, "edge-7"),
      grpc(port, RawOptions{.user_agent = "gRPC C-core"}),
      canary(port, RawOptions{.node_cluster = "edge", .labels = {{"app/track", "canary"}}});
  for (RawClient* client : {&other, &edge, &by_id, &grpc, &canary}) client->ask(kCds);
  EXPECT_TRUE(gets(other, {"shared"}));
  EXPECT_TRUE(gets(edge, {"edge", "shared"}));
  EXPECT_TRUE(gets(by_id, {"edge", "shared"}));
  EXPECT_TRUE(gets(grpc, {"grpc"}));
  EXPECT_TRUE(gets(canary, {"edge"}));
  EXPECT_EQ(metric("snapshot_resources{group=\"edge\"}"), "2");

  // A file of one group is a change for that group alone.
  write_file(dir / "edge/b.yaml", resource_file({eds_cluster_resource("more")}));
  EXPECT_TRUE(gets(edge, {"edge", "more", "shared"}));
  // Other rules: clients move while they are connected.
  write_file(dir / "groups.yaml", R"(
groups: [{name: edge, match: {cluster: {exact: edge}}, files: edge}]
default: {files: [grpc]}
)");
  EXPECT_TRUE(gets(canary, {"edge", "more"}));
  EXPECT_TRUE(gets(other, {"grpc"}));
  EXPECT_TRUE(gets(by_id, {"grpc"}));
  EXPECT_TRUE(test::wait_until([&] { return metric("snapshot_resources{group=\"canary\"}").empty(); }));
  // A bad groups.yaml changes nothing.
  write_file(dir / "groups.yaml", "groups: [{name: edge, files: [..]}]\n");
  EXPECT_TRUE(test::wait_until([&] { return metric("files_refused") == "1"; }));
  write_file(dir / "grpc/a.yaml", resource_file({eds_cluster_resource("grpc2")}));
  EXPECT_TRUE(gets(other, {"grpc2"}));
}

// Kubernetes swaps `..data`, and the subdirectories are links that lead through it.
TEST_F(ControlPlaneTest, KubernetesMountWithGroupsSwapped) {
  for (const char* version : {"..v1", "..v2"}) {
    fs::create_directories(dir.path() / version / "edge");
    write_file(dir.path() / version / "groups.yaml",
               "groups: [{name: edge, match: {cluster: {exact: edge}}, files: edge}]\n");
    write_file(dir.path() / version / "edge/a.yaml", resource_file({eds_cluster_resource(version)}));
  }
  fs::create_directory_symlink("..v1", dir / "..data");
  fs::create_symlink("..data/groups.yaml", dir / "groups.yaml");
  fs::create_directory_symlink("..data/edge", dir / "edge");
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  RawClient client(port, RawOptions{.node_cluster = "edge"});
  client.ask(kCds);
  EXPECT_TRUE(gets(client, {"..v1"}));
  fs::create_directory_symlink("..v2", dir / "..data_tmp");
  fs::rename(dir / "..data_tmp", dir / "..data");
  EXPECT_TRUE(gets(client, {"..v2"}));
  // What is watched is the new one.
  write_file(dir.path() / "..v2/edge/a.yaml", resource_file({eds_cluster_resource("edited")}));
  EXPECT_TRUE(gets(client, {"edited"}));
}

TEST_F(ControlPlaneTest, NoSuchDirectoryAndTakenPortAreRefused) {
  event::Loop idle;
  ControlPlane none({.config_dir = dir / "none", .listen = "127.0.0.1:0"});
  EXPECT_FALSE(none.start(idle));
  EXPECT_FALSE(none.validate());
  ASSERT_NO_FATAL_FAILURE(start(dir.path()));
  ControlPlane second({.config_dir = dir.path(), .listen = "127.0.0.1:" + std::to_string(port)});
  EXPECT_FALSE(second.start(idle));
  second.stop();
}

TEST_F(ControlPlaneTest, Validate) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  EXPECT_TRUE(ControlPlane({.config_dir = dir.path()}).validate());
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("a")}));
  EXPECT_FALSE(ControlPlane({.config_dir = dir.path()}).validate());
}

}  // namespace
}  // namespace outrigger::control
