// The example of the guide, compiled, run, and shown there as it is.
#include <gtest/gtest.h>
#include <signal.h>

#include "control/raw_client.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace outrigger::control {
namespace {

const std::string kGuide = OUTRIGGER_SOURCE_DIR "/source/docs/guide/";
const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

TEST(EmbedExample, ServesItsGroupsAndFollowsAChange) {
  test::Process program({test::program_path("embed_control_plane")});
  const auto port = program.wait_for_output("serving on port ([0-9]+)");
  ASSERT_TRUE(port) << program.output();
  const auto number = static_cast<uint16_t>(std::stoi(*port));
  RawClient edge(number, RawOptions{.node_id = "e1", .node_cluster = "edge"}), other(number);
  other.ask(kCds);
  EXPECT_EQ(other.read().resources_size(), 1);
  edge.ask(kCds);
  const auto backend_port = [](const auto& response) {
    envoy::config::cluster::v3::Cluster cluster;
    EXPECT_TRUE(response.resources_size() == 2 && response.resources(0).UnpackTo(&cluster));
    EXPECT_EQ(cluster.name(), "backend");
    return cluster.load_assignment().endpoints(0).lb_endpoints(0).endpoint().address().socket_address().port_value();
  };
  const auto first = edge.read();
  EXPECT_EQ(backend_port(first), 9000u);
  edge.ack(first);
  EXPECT_TRUE(program.wait_for_output("e1 took " + first.version_info())) << program.output();
  program.signal(SIGHUP);
  const auto second = edge.read();
  EXPECT_EQ(backend_port(second), 9001u);
  edge.ask(kCds, {}, first.version_info(), second.nonce(), "not today");
  EXPECT_TRUE(program.wait_for_output("e1 not today")) << program.output();
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait_exit(), 0) << program.output();
}

TEST(EmbedExample, TheGuideShowsItAsItIs) {
  const std::string code = test::read_file(kGuide + "examples/embed_control_plane.cc");
  ASSERT_FALSE(code.empty());
  EXPECT_NE(test::read_file(kGuide + "control_plane.md").find("```cpp\n" + code + "```\n"), std::string::npos);
}

}  // namespace
}  // namespace outrigger::control
