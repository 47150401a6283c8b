// Process: a real program under test, spawned (never forked), its output collected, ended by its pid. ProxyProcess and
// ControlProcess: the two programs of this build, which tell their ports when asked for port 0.
//
// Thread rule: one thread; the output is collected in a thread of its own.
// Use:  Process curl({"curl", "-s", url});  EXPECT_EQ(curl.wait_exit(), 0);  curl.output();
//       ProxyProcess proxy(bootstrap_yaml);  HttpClient client(proxy.listener_port("main"));
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_dir.h"
#include "support/wait.h"

namespace outrigger::test {

class Process {
 public:
  // argv[0] is looked up in PATH unless it has a slash. The parent's environment, with `environment` ("K=V") added.
  explicit Process(std::vector<std::string> argv, std::vector<std::string> environment = {});
  ~Process();  // kills it if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool started() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  // Standard output and standard error, as they came.
  std::string output() const;
  // Waits until the output has a match of the regex; its first group (or the whole match). Empty if the program ends or
  // patience does.
  std::optional<std::string> wait_for_output(const std::string& regex, Milliseconds patience = kPatience) const;

  void signal(int number);
  bool running();
  // When it has ended and all of its output has come. The exit status; 128 + n after death by signal n; nothing if it
  // still runs when patience ends.
  std::optional<int> wait_exit(Milliseconds patience = kPatience);

 private:
  void collect();

  pid_t pid_ = -1;
  int output_fd_ = -1;
  mutable std::mutex mutex_;
  std::string output_;
  std::atomic<bool> output_ended_ = false;
  std::optional<int> status_;
  std::thread collector_;
};

// `outrigger -c FILE --admin-address 127.0.0.1:0` with a config text of the test. The constructor returns when the
// admin port answers; if the program ends before that, started() is false and output() says why.
class ProxyProcess {
 public:
  explicit ProxyProcess(std::string_view config, std::vector<std::string> arguments = {"--concurrency", "1"});

  bool started() const { return admin_port_ != 0; }
  Process& process() { return *process_; }
  std::string output() const { return process_->output(); }
  TempDir& dir() { return dir_; }
  std::string config_path() const { return dir_ / "bootstrap.yaml"; }

  uint16_t admin_port() const { return admin_port_; }
  // The body of an admin answer; empty if there was none.
  std::string admin(std::string_view target) const;
  bool wait_ready(Milliseconds patience = kPatience) const;
  // The port on which the listener of that name accepts; waits for it; 0 if it does not come.
  uint16_t listener_port(std::string_view name, Milliseconds patience = kPatience) const;
  // The value of a counter or gauge by its Envoy name; nothing if there is none.
  std::optional<uint64_t> stat(const std::string& name) const;
  // SIGTERM, and the exit status.
  std::optional<int> stop(Milliseconds patience = kPatience);

 private:
  TempDir dir_;
  std::unique_ptr<Process> process_;
  uint16_t admin_port_ = 0;
};

// `outrigger-control --config-dir DIR --listen 127.0.0.1:0` on a directory of the test.
class ControlProcess {
 public:
  explicit ControlProcess(const std::string& config_dir, uint16_t port = 0, std::vector<std::string> arguments = {});

  bool started() const { return port_ != 0; }
  uint16_t port() const { return port_; }
  uint16_t admin_port() const { return admin_port_; }
  // The value of a line of /metrics, named with its labels; nothing if there is none.
  std::optional<double> metric(const std::string& name_and_labels) const;
  Process& process() { return *process_; }
  std::string output() const { return process_->output(); }

 private:
  std::unique_ptr<Process> process_;
  uint16_t port_ = 0, admin_port_ = 0;
};

// Load of the build's bench_client on a port; stop() ends it and tells how it went.
class LoadProcess {
 public:
  explicit LoadProcess(uint16_t port, std::vector<std::string> arguments = {"--connections", "16"});

  struct Report {
    uint64_t requests = 0;
    uint64_t failed = 0;
    std::string text;  // the whole report
  };
  Report stop();

 private:
  std::unique_ptr<Process> process_;
};

// What `outriggerctl status` says of a control plane.
std::string control_status(uint16_t control_port);

// The path of a program of this build.
std::string program_path(std::string_view name);

}  // namespace outrigger::test
