// Debian's gRPC C++ library on both sides of the proxy, for test/bench/soak.
//   grpc_soak serve                                  "listening PORT" on stdout; until it is ended
//   grpc_soak call --port PORT --seconds S [--clients N]
//     Calls of all kinds for S seconds by N clients, and a stream each that lives as long. A line of JSON: how many of
//     each kind, bytes, and what failed.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "support/grpc_peer.h"

namespace {

using namespace outrigger::test;  // NOLINT
using Clock = std::chrono::steady_clock;

[[noreturn]] void serve() {
  BytesService service;
  std::cout << "listening " << service.port() << std::endl;
  for (;;) ::pause();
}

class Tally {
 public:
  void count(const std::string& kind, const std::string& fault, size_t bytes) {
    std::lock_guard lock(mutex_);
    ++calls_[kind];
    bytes_ += bytes;
    if (fault.empty()) return;
    ++failed_;
    if (faults_.size() < 10) faults_.push_back(kind + ": " + fault);
  }
  nlohmann::json json() {
    std::lock_guard lock(mutex_);
    return {{"calls", calls_}, {"bytes", bytes_}, {"failed", failed_}, {"faults", faults_}};
  }

 private:
  std::mutex mutex_;
  std::map<std::string, uint64_t> calls_;
  uint64_t bytes_ = 0, failed_ = 0;
  std::vector<std::string> faults_;
};

std::string said(const grpc::Status& status) {
  return status.ok() ? "" : std::to_string(status.error_code()) + " " + status.error_message();
}

std::string unary(const std::shared_ptr<grpc::Channel>& channel, size_t size) {
  const std::string text(size, 'u');
  const std::string answer = BytesCall(channel, "Echoes").unary(text);
  return answer == text ? "" : "answered " + answer.substr(0, 200);
}

std::string client_streams(const std::shared_ptr<grpc::Channel>& channel) {
  BytesCall call(channel, "Gathers");
  for (int i = 0; i < 100; ++i)
    if (!call.write(std::string(1000, 'c'))) return "a message cannot be sent: " + said(call.finish());
  call.writes_done();
  const auto answer = call.read();
  const std::string status = said(call.finish());
  return answer == "100" && status.empty() ? "" : "answered " + answer.value_or("nothing") + ", " + status;
}

std::string server_streams(const std::shared_ptr<grpc::Channel>& channel) {
  BytesCall call(channel, "Scatters");
  call.write(std::string(1000, 's'));
  call.writes_done();
  int messages = 0;
  while (call.read()) ++messages;
  const std::string status = said(call.finish());
  return messages == 100 && status.empty() ? "" : std::to_string(messages) + " messages, " + status;
}

std::string ends_at_its_deadline(const std::shared_ptr<grpc::Channel>& channel) {
  const std::string answer = BytesCall(channel, "Hangs", 50).unary("x");
  return answer.starts_with("4:") ? "" : "answered " + answer;
}

void run(int port, Clock::time_point until, Tally& tally) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection for each client
  arguments.SetMaxReceiveMessageSize(-1);
  const auto channel = grpc::CreateCustomChannel("ipv4:127.0.0.1:" + std::to_string(port),
                                                 grpc::InsecureChannelCredentials(), arguments);
  const auto left_ms = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
  BytesCall lasting(channel, "Echoes", static_cast<int>(left_ms) + 60'000);
  for (uint64_t round = 0; Clock::now() < until; ++round) {
    const std::string text = "round " + std::to_string(round);
    const bool sent = lasting.write(text);
    const auto back = sent ? lasting.read() : std::nullopt;
    tally.count("message of a lasting stream", back == text ? "" : "lost", 2 * text.size());
    if (back != text) return tally.count("lasting stream", said(lasting.finish()), 0);
    for (int i = 0; i < 20; ++i) tally.count("unary", unary(channel, 64), 128);
    tally.count("unary of 1 MiB", unary(channel, 1 << 20), 2 << 20);
    tally.count("client streaming", client_streams(channel), 100'000);
    tally.count("server streaming", server_streams(channel), 100'000);
    if (round % 10 == 0) tally.count("deadline", ends_at_its_deadline(channel), 0);
  }
  lasting.writes_done();
  lasting.read();
  tally.count("lasting stream", said(lasting.finish()), 0);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A gRPC service, and clients of it");
  app.require_subcommand(1);
  CLI::App* const server = app.add_subcommand("serve");
  CLI::App* const caller = app.add_subcommand("call");
  int port = 0, seconds = 10, clients = 4;
  caller->add_option("--port", port)->required();
  caller->add_option("--seconds", seconds)->check(CLI::Range(1, 3600));
  caller->add_option("--clients", clients)->check(CLI::Range(1, 64));
  CLI11_PARSE(app, argc, argv);
  if (server->parsed()) serve();
  Tally tally;
  const Clock::time_point until = Clock::now() + std::chrono::seconds(seconds);
  std::vector<std::thread> threads;
  for (int i = 0; i < clients; ++i) threads.emplace_back([&] { run(port, until, tally); });
  for (std::thread& thread : threads) thread.join();
  std::cout << tally.json().dump() << std::endl;
}
