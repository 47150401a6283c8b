#include "support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <regex>

#include "base/check.h"
#include "support/http_client.h"

extern char** environ;

namespace outrigger::test {
namespace {

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

int exit_status(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

uint16_t port_of(const std::optional<std::string>& text) {
  return text && !text->empty() ? static_cast<uint16_t>(std::stoul(*text)) : uint16_t{0};
}

}  // namespace

Process::Process(std::vector<std::string> argv, std::vector<std::string> environment) {
  int ends[2];
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  output_fd_ = ends[0];
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  const int error =
      ::posix_spawnp(&pid_, argv[0].c_str(), &actions, nullptr, pointers(argv).data(), pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error != 0) {
    pid_ = -1;
    output_ = "cannot start " + argv[0];
    status_ = 127;
  }
  collector_ = std::thread([this] { collect(); });
}

Process::~Process() {
  const bool expected_end = status_.has_value();
  const bool ran = running();
  if (ran) {
    ::kill(pid_, SIGKILL);
    wait_exit(Milliseconds(60'000));
  }
  collector_.join();
  // Nobody waited for its end: what it said last explains the test's failure.
  if (started() && !ran && !expected_end)
    fprintf(stderr, "process %d ended with %d:\n%s\n", static_cast<int>(pid_), status_.value_or(-1),
            output_.substr(output_.size() - std::min<size_t>(output_.size(), 16'384)).c_str());
  ::close(output_fd_);
}

void Process::collect() {
  char buffer[4096];
  ssize_t size;
  while ((size = ::read(output_fd_, buffer, sizeof buffer)) > 0) {
    std::lock_guard lock(mutex_);
    output_.append(buffer, static_cast<size_t>(size));
  }
  output_ended_ = true;
}

std::string Process::output() const {
  std::lock_guard lock(mutex_);
  return output_;
}

std::optional<std::string> Process::wait_for_output(const std::string& regex, Milliseconds patience) const {
  const std::regex pattern(regex);
  std::optional<std::string> found;
  wait_until(
      [&] {
        const bool ended = output_ended_;  // before the look at the output, so that nothing is missed
        std::smatch match;
        const std::string text = output();
        if (std::regex_search(text, match, pattern)) found = match.size() > 1 ? match[1].str() : match[0].str();
        return found.has_value() || ended;
      },
      patience);
  return found;
}

void Process::signal(int number) {
  if (running()) ::kill(pid_, number);
}

bool Process::running() { return pid_ > 0 && !wait_exit(Milliseconds(0)).has_value(); }

std::optional<int> Process::wait_exit(Milliseconds patience) {
  wait_until(
      [&] {
        int wait_status = 0;
        if (!status_ && ::waitpid(pid_, &wait_status, WNOHANG) == pid_) status_ = exit_status(wait_status);
        return status_.has_value() && output_ended_;
      },
      patience);
  return status_;
}

ProxyProcess::ProxyProcess(std::string_view config, std::vector<std::string> arguments) {
  write_file(config_path(), config);
  std::vector<std::string> argv = {program_path("outrigger"), "-c", config_path(), "--admin-address", "127.0.0.1:0"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  process_ = std::make_unique<Process>(argv);
  admin_port_ = port_of(process_->wait_for_output("admin[^\\n]*127\\.0\\.0\\.1:([1-9][0-9]*)"));
}

std::string ProxyProcess::admin(std::string_view target) const {
  const HttpMessage answer = http_get(admin_port_, target, {{"host", "127.0.0.1"}});
  return answer.ok() ? answer.body : std::string();
}

bool ProxyProcess::wait_ready(Milliseconds patience) const {
  return wait_until([&] { return http_get(admin_port_, "/ready", {{"host", "127.0.0.1"}}).status() == 200; }, patience);
}

uint16_t ProxyProcess::listener_port(std::string_view name, Milliseconds patience) const {
  uint16_t port = 0;
  const std::regex line("(^|\\n)" + std::string(name) + "::127\\.0\\.0\\.1:([1-9][0-9]*)");
  wait_until(
      [&] {
        std::smatch match;
        const std::string listeners = admin("/listeners");
        if (std::regex_search(listeners, match, line)) port = port_of(match[2].str());
        return port != 0;
      },
      patience);
  return port;
}

std::optional<uint64_t> ProxyProcess::stat(const std::string& name) const {
  std::smatch match;
  const std::string stats = admin("/stats");
  std::string escaped;
  for (const char c : name) escaped += c == '.' ? std::string("\\.") : std::string(1, c);
  if (!std::regex_search(stats, match, std::regex("(^|\\n)" + escaped + ": ([0-9]+)"))) return std::nullopt;
  return std::stoull(match[2].str());
}

std::optional<int> ProxyProcess::stop(Milliseconds patience) {
  process_->signal(SIGTERM);
  return process_->wait_exit(patience);
}

ControlProcess::ControlProcess(const std::string& config_dir, uint16_t port, std::vector<std::string> arguments) {
  std::vector<std::string> argv = {program_path("outrigger-control"),   "--config-dir",    config_dir,   "--listen",
                                   "127.0.0.1:" + std::to_string(port), "--admin-address", "127.0.0.1:0"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  process_ = std::make_unique<Process>(std::move(argv));
  port_ = port_of(process_->wait_for_output("listening[^\\n]*127\\.0\\.0\\.1:([1-9][0-9]*)"));
  admin_port_ = port_of(process_->wait_for_output("admin: http://127\\.0\\.0\\.1:([1-9][0-9]*)"));
}

std::optional<double> ControlProcess::metric(const std::string& name_and_labels) const {
  const std::string page = "\n" + http_get(admin_port_, "/metrics").body;
  const size_t at = page.find("\n" + name_and_labels + " ");
  if (at == std::string::npos) return std::nullopt;
  return std::stod(page.substr(at + name_and_labels.size() + 2));
}

LoadProcess::LoadProcess(uint16_t port, std::vector<std::string> arguments) {
  std::vector<std::string> argv = {program_path("bench_client"), "--port", std::to_string(port)};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  process_ = std::make_unique<Process>(argv);
}

LoadProcess::Report LoadProcess::stop() {
  process_->signal(SIGTERM);
  process_->wait_exit();
  const auto count = [&](const char* name) -> std::optional<uint64_t> {
    const auto text = process_->wait_for_output(std::string("\"") + name + "\": ([0-9]+)");
    return text ? std::optional<uint64_t>(std::stoull(*text)) : std::nullopt;
  };
  Report report;
  report.requests = count("requests").value_or(0);
  report.failed = count("failed").value_or(1);  // no report is a failure
  report.text = process_->output();
  return report;
}

std::string control_status(uint16_t control_port) {
  Process process({program_path("outriggerctl"), "status", "--control", "127.0.0.1:" + std::to_string(control_port)});
  process.wait_exit();
  return process.output();
}

std::string program_path(std::string_view name) {
  return std::string(OUTRIGGER_BINARY_DIR "/bin/") + std::string(name);
}

}  // namespace outrigger::test
