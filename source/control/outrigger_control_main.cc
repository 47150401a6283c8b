// outrigger-control: the control plane's command line.
#include <signal.h>
#include <uv.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "base/descriptors.h"
#include "base/log.h"
#include "control/control_plane.h"
#include "control/grpc_log.h"
#include "event/loop.h"

namespace {

constexpr const char* kFooter = R"(Examples:
  outrigger-control --config-dir conf.d --listen 0.0.0.0:18000
  outrigger-control --config-dir conf.d --listen 0.0.0.0:18000 --tls-cert tls.crt --tls-key tls.key --token-file tokens
  outrigger-control --config-dir conf.d --validate-only    # exit code 1 and all faults if a file is bad

The directory holds xDS resources in Envoy's format, any number to a file:
  resources:
  - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
    name: backend
    ...
Changed files are picked up within 100 ms and pushed to every proxy. A bad file is refused with file, line and field
path, and its last good state is served. A file groups.yaml in it says which nodes get which files and subdirectories.
SIGTERM and SIGINT end the program.)";

// Ends the loop when the signal comes. Must outlive the loop, which closes its handle.
class StopOn {
 public:
  void start(outrigger::event::Loop& loop, int signal) {
    uv_signal_init(loop.uv(), &handle_);
    handle_.data = &loop;
    uv_signal_start(
        &handle_, [](uv_signal_t* handle, int) { static_cast<outrigger::event::Loop*>(handle->data)->stop(); }, signal);
  }
  void close() { uv_close(reinterpret_cast<uv_handle_t*>(&handle_), nullptr); }

 private:
  uv_signal_t handle_;
};

int run(const outrigger::control::ControlOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  outrigger::raise_descriptor_limit();  // a stream is one
  outrigger::control::take_over_grpc_log();
  StopOn term, interrupt;
  outrigger::event::Loop loop;
  term.start(loop, SIGTERM);
  interrupt.start(loop, SIGINT);
  outrigger::control::ControlPlane control(options);
  const auto port = control.start(loop);
  if (port) {
    loop.run();
  } else {
    OUTRIGGER_LOG(kCritical, "control", "{}", port.error().detail);
  }
  control.stop();
  term.close();
  interrupt.close();
  return port ? 0 : 1;
}

struct CommandLine {
  outrigger::control::ControlOptions options{.admin_address = "127.0.0.1:18001"};
  bool validate_only = false;
  std::string log_level = "info";
  uint32_t keepalive_s = 60, max_connection_age_s = 0, stop_spread_s = 0;
};

void add_places(CLI::App& app, CommandLine& line) {
  app.add_option("--config-dir", line.options.config_dir, "Directory of *.yaml, *.yml and *.json resource files");
  app.add_option("--listen", line.options.listen, "Address of the discovery service; port 0: any, printed on stderr")
      ->capture_default_str();
  app.add_option("--admin-address", line.options.admin_address,
                 "Address of /ready and /metrics; port 0: any, printed on stderr; \"\": none")
      ->capture_default_str();
  app.add_flag("--validate-only", line.validate_only, "Check the files, print all faults, and exit: 0 good, 1 not");
  app.add_option("--log-level", line.log_level, "trace, debug, info, warning, error, critical or off")
      ->capture_default_str();
}

void add_security(CLI::App& app, CommandLine& line) {
  outrigger::control::ServerTls& tls = line.options.server.tls;
  app.add_option("--tls-cert", tls.certificate_file, "Certificate chain in PEM, leaf first; read again on change");
  app.add_option("--tls-key", tls.key_file, "Its private key");
  app.add_option("--tls-client-ca", tls.client_ca_file, "Clients must show a certificate that one of these signed");
  app.add_option("--token-file", line.options.token_file,
                 "Calls must have one of these bearer tokens, one a line; read again on change");
}

void add_limits(CLI::App& app, CommandLine& line) {
  outrigger::control::AdsServerOptions& server = line.options.server;
  const auto up_to_a_day = CLI::Range(0, 86'400);
  app.add_option("--max-streams", server.max_streams, "More streams than that are refused")->capture_default_str();
  app.add_option("--max-names", server.max_names, "Names that one stream may subscribe to")->capture_default_str();
  app.add_option("--max-message-bytes", server.max_receive_bytes, "Largest request that is read")
      ->check(CLI::Range(1024, 1 << 30))
      ->capture_default_str();
  app.add_option("--keepalive", line.keepalive_s, "Seconds between pings to a silent client; 0: none")
      ->check(up_to_a_day)
      ->capture_default_str();
  app.add_option("--max-connection-age", line.max_connection_age_s,
                 "Seconds, a tenth more or less, after which a client has to connect again; 0: never")
      ->check(up_to_a_day)
      ->capture_default_str();
  app.add_option("--stop-spread", line.stop_spread_s,
                 "Seconds over which streams are ended on SIGTERM, in random order")
      ->check(CLI::Range(0, 600))
      ->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The control plane of Outrigger: serves a directory of xDS resources to proxies and gRPC clients."};
  CommandLine line;
  add_places(app, line);
  add_security(app, line);
  add_limits(app, line);
  app.set_version_flag("--version", std::string("outrigger-control ") + OUTRIGGER_VERSION);
  app.footer(kFooter);
  CLI11_PARSE(app, argc, argv);

  // Not CLI11's required(), which would hide a mistyped option behind "--config-dir is required".
  if (line.options.config_dir.empty()) {
    fprintf(stderr, "outrigger-control: no directory of resources: --config-dir DIR (--help tells more)\n");
    return 2;
  }
  const auto level = outrigger::log::parse_level(line.log_level);
  if (!level) {
    fprintf(stderr, "--log-level: %s is none of trace, debug, info, warning, error, critical, off\n",
            line.log_level.c_str());
    return 2;
  }
  outrigger::log::set_level(*level);
  line.options.server.keepalive_time_ms = uint64_t{line.keepalive_s} * 1000;
  line.options.server.max_connection_age_ms = uint64_t{line.max_connection_age_s} * 1000;
  line.options.server.stop_spread_ms = uint64_t{line.stop_spread_s} * 1000;
  if (!line.validate_only) return run(line.options);
  return outrigger::control::ControlPlane(line.options).validate() ? 0 : 1;
}
