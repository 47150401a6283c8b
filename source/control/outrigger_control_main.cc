// outrigger-control: the control plane's command line.
#include <signal.h>
#include <uv.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "base/log.h"
#include "control/control_plane.h"
#include "event/loop.h"

namespace {

constexpr const char* kFooter = R"(Examples:
  outrigger-control --config-dir conf.d --listen 0.0.0.0:18000
  outrigger-control --config-dir conf.d --validate-only    # exit code 1 and all faults if a file is bad

The directory holds xDS resources in Envoy's format, any number to a file:
  resources:
  - "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
    name: backend
    ...
Changed files are picked up within 100 ms and pushed to every proxy. A bad file is refused with file, line and field
path, and its last good state is served. SIGTERM and SIGINT end the program.)";

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

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The control plane of Outrigger: serves a directory of xDS resources to proxies and gRPC clients."};
  outrigger::control::ControlOptions options;
  bool validate_only = false;
  std::string log_level = "info";
  app.add_option("--config-dir", options.config_dir, "Directory of *.yaml, *.yml and *.json resource files");
  app.add_option("--listen", options.listen, "Address of the discovery service; port 0: any, printed on stderr")
      ->capture_default_str();
  options.admin_address = "127.0.0.1:18001";
  app.add_option("--admin-address", options.admin_address,
                 "Address of /ready and /metrics; port 0: any, printed on stderr; '' for none")
      ->capture_default_str();
  app.add_flag("--validate-only", validate_only, "Check the files, print all faults, and exit: 0 good, 1 not");
  app.add_option("--log-level", log_level, "trace, debug, info, warning, error, critical or off")
      ->capture_default_str();
  app.set_version_flag("--version", std::string("outrigger-control ") + OUTRIGGER_VERSION);
  app.footer(kFooter);
  CLI11_PARSE(app, argc, argv);

  // Not CLI11's required(), which would hide a mistyped option behind "--config-dir is required".
  if (options.config_dir.empty()) {
    fprintf(stderr, "outrigger-control: no directory of resources: --config-dir DIR (--help tells more)\n");
    return 2;
  }
  const auto level = outrigger::log::parse_level(log_level);
  if (!level) {
    fprintf(stderr, "--log-level: %s is none of trace, debug, info, warning, error, critical, off\n",
            log_level.c_str());
    return 2;
  }
  outrigger::log::set_level(*level);
  if (!validate_only) return run(options);
  return outrigger::control::ControlPlane(options).validate() ? 0 : 1;
}
