// The command lines of the programs, and the example configurations that we give to people.
#include <filesystem>

#include "support/process.h"

namespace outrigger::test {
namespace {

const std::string kExamples = OUTRIGGER_SOURCE_DIR "/source/docs/guide/examples/";

TEST(Cli, VersionAndHelp) {
  for (const char* program : {"outrigger", "outrigger-control", "outriggerctl"}) {
    Process version({program_path(program), "--version"});
    EXPECT_EQ(version.wait_exit(), 0) << program;
    EXPECT_TRUE(version.wait_for_output("[0-9]+\\.[0-9]+\\.[0-9]+").has_value()) << program << version.output();
    Process help({program_path(program), "--help"});
    EXPECT_EQ(help.wait_exit(), 0) << program;
    EXPECT_TRUE(help.wait_for_output("--[a-z]+").has_value()) << program << help.output();
  }
}

TEST(Cli, MistakesOnTheCommandLineAreToldAndNothingStarts) {
  Process none({program_path("outrigger")});
  EXPECT_NE(none.wait_exit().value_or(0), 0);
  EXPECT_TRUE(none.wait_for_output("--config-path").has_value()) << none.output();
  for (const char* program : {"outrigger", "outrigger-control"}) {
    Process unknown({program_path(program), "--no-such-flag"});
    EXPECT_NE(unknown.wait_exit().value_or(0), 0);
    EXPECT_TRUE(unknown.wait_for_output("--no-such-flag").has_value()) << unknown.output();
  }
  Process missing({program_path("outrigger"), "-c", "/nonexistent/file.yaml"});
  EXPECT_EQ(missing.wait_exit(), 1);
  EXPECT_TRUE(missing.wait_for_output("/nonexistent/file\\.yaml").has_value()) << missing.output();
}

TEST(Cli, ValidateReportsAllFaultsWithTheirPaths) {
  TempDir dir;
  write_file(dir / "bad.yaml", R"(
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 70000}}
    colour: blue
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          no_such_field: 1
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: missing, timeout: never}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
)");
  Process validate({program_path("outrigger"), "-c", dir / "bad.yaml", "--mode", "validate"});
  EXPECT_EQ(validate.wait_exit(), 1);
  EXPECT_TRUE(validate.wait_for_output("listeners\\[0\\][^\\n]*colour").has_value()) << validate.output();
  EXPECT_TRUE(validate.wait_for_output("listeners\\[0\\][^\\n]*port_value").has_value()) << validate.output();
  EXPECT_TRUE(validate.wait_for_output("typed_config[^\\n]*no_such_field").has_value()) << validate.output();
  EXPECT_TRUE(validate.wait_for_output("routes\\[0\\][^\\n]*timeout").has_value()) << validate.output();
}

TEST(Cli, ExamplesAreValid) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kExamples)) {
    if (entry.path().filename() != "bootstrap.yaml") continue;
    if (entry.path().parent_path().filename() == "tls") continue;  // tls_test.cc runs it, with certificates
    Process validate({program_path("outrigger"), "-c", entry.path().string(), "--mode", "validate"});
    EXPECT_EQ(validate.wait_exit(), 0) << entry.path() << validate.output();
    ++count;
  }
  EXPECT_GT(count, 0u);
}

}  // namespace
}  // namespace outrigger::test
