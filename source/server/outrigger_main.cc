// outrigger: the data plane's program.
#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/descriptors.h"
#include "base/log.h"
#include "server/read_file.h"
#include "server/server.h"
#include "server/version.h"

namespace {

using outrigger::config::UnknownFields;

constexpr size_t kMaxConfigBytes = 256u << 20;

struct CommandLine {
  outrigger::server::ServerOptions server;
  std::string mode = "serve";
  std::string log_level = "info";
  std::string unknown_fields = "error";
  uint64_t drain_time_s = 600;
};

void declare(CLI::App& app, CommandLine& line) {
  app.set_version_flag("--version", fmt::format("outrigger {}", outrigger::server::kVersion));
  app.add_option("-c,--config-path", line.server.config_path, "The bootstrap file, YAML or JSON")->type_name("FILE");
  app.add_option("--mode", line.mode, "serve, or validate: report everything that is wrong with the file and end")
      ->check(CLI::IsMember({"serve", "validate"}))
      ->capture_default_str();
  app.add_option("--concurrency", line.server.concurrency, "Worker threads; default: as many as there are CPUs for us")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  app.add_option("--log-level", line.log_level, "trace, debug, info, warning, error, critical or off")
      ->capture_default_str();
  app.add_option("--admin-address", line.server.admin_address,
                 "Where admin listens, instead of the bootstrap's admin.address; port 0: any")
      ->type_name("HOST:PORT");
  app.add_option("--drain-time", line.drain_time_s, "After SIGTERM: how long requests under way may take, seconds")
      ->check(CLI::Range(0, 365 * 24 * 3600))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option("--state-dir", line.server.state_dir,
                 "Where to remember the last good configuration of the control plane, to start from when it is away")
      ->type_name("DIR");
  app.add_option("--unknown-fields", line.unknown_fields, "Fields that this program does not have: error, or warn")
      ->check(CLI::IsMember({"error", "warn"}))
      ->capture_default_str();
  app.footer(
      "Examples:\n"
      "  outrigger -c bootstrap.yaml\n"
      "  outrigger -c bootstrap.yaml --mode validate\n"
      "  outrigger -c bootstrap.yaml --concurrency 2 --admin-address 127.0.0.1:9901 --log-level debug\n"
      "Signals: SIGTERM and SIGINT drain and end (a second one ends at once), SIGUSR1 opens access logs again.");
}

int validate(const CommandLine& line) {
  const auto text = outrigger::server::read_file(line.server.config_path, kMaxConfigBytes);
  if (!text) {
    fmt::print(stderr, "{}\n", text.error().detail);
    return 1;
  }
  const auto faults = outrigger::server::validate(*text, line.server.config_path, line.server.unknown_fields);
  for (const auto& fault : faults.all()) fmt::print(stderr, "{}{}\n", fault.warning ? "warning: " : "", fault.str());
  if (!faults.ok()) {
    fmt::print(stderr, "{} fault{}\n", faults.errors(), faults.errors() == 1 ? "" : "s");
    return 1;
  }
  fmt::print("configuration OK\n");
  return 0;
}

int serve(const CommandLine& line) {
  outrigger::make_room_for_descriptors();
  outrigger::server::Server server(line.server);
  if (const auto started = server.start(); !started) {
    fmt::print(stderr, "{}\noutrigger: not started\n", started.error().detail);
    return 1;
  }
  server.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Outrigger: a sidecar proxy that is configured by Envoy's xDS API.", "outrigger");
  CommandLine line;
  declare(app, line);
  CLI11_PARSE(app, argc, argv);
  // Not CLI11's required(), which would hide a mistyped option behind "--config-path is required".
  if (line.server.config_path.empty()) {
    fmt::print(stderr, "outrigger: no bootstrap file: -c, --config-path FILE (--help tells more)\n");
    return 2;
  }
  const auto level = outrigger::log::parse_level(line.log_level);
  if (!level) {
    fmt::print(stderr, "--log-level: \"{}\" is none of trace, debug, info, warning, error, critical, off\n",
               line.log_level);
    return 2;
  }
  outrigger::log::set_level(*level);
  line.server.drain_ms = line.drain_time_s * 1000;
  line.server.unknown_fields = line.unknown_fields == "warn" ? UnknownFields::kWarn : UnknownFields::kError;
  line.server.handle_signals = true;
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  outrigger::raise_descriptor_limit();
  return line.mode == "validate" ? validate(line) : serve(line);
}
