// Plays test/cases/*.case against the real program: one thread that is now the client, now the upstream, step by step.
// Each case starts a proxy of its own and ends it with SIGTERM; it must then exit 0.
#include <filesystem>
#include <regex>

#include "support/http_client.h"
#include "support/process.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

constexpr int kNothingMs = 30;  // how long "sees nothing" looks

class Player {
 public:
  explicit Player(const WireCase& wire_case) : case_(wire_case) {}

  void play() {
    const uint16_t upstream_port = case_.upstream_refuses ? refused_port() : listener_.port();
    const std::string log_path = dir_ / "access.log";
    proxy_ = std::make_unique<ProxyProcess>(case_.bootstrap(upstream_port, log_path),
                                            std::vector<std::string>{"--concurrency", "1", "--drain-time", "5"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    port_ = proxy_->listener_port("main");
    ASSERT_NE(port_, 0) << proxy_->output();
    for (const WireCase::Step& step : case_.steps) {
      const std::string fault = run(step, log_path);
      if (fault.empty()) continue;
      ADD_FAILURE() << "line " << step.line << ", " << step.what << ": " << fault << "\n" << proxy_->output();
      break;
    }
    if (client_.connected() && !testing::Test::HasFailure()) {
      EXPECT_TRUE(client_.socket().quiet_for(0))
          << "the client got more than the case says, or was closed: [" << client_.socket().recv_some(1000, 0) << "]";
    }
    client_.socket().close();
    upstream_.close();
    EXPECT_EQ(proxy_->stop(), 0) << proxy_->output();
  }

 private:
  // What went wrong; empty: nothing.
  std::string run(const WireCase::Step& step, const std::string& log_path) {
    const std::string& what = step.what;
    if (what.starts_with("client ")) return client_step(what.substr(7), step.text);
    if (what.starts_with("upstream ")) return upstream_step(what.substr(9), step.text);
    if (what == "access log") return access_log(step.text, log_path);
    return stats(step.text);
  }

  std::string client_step(const std::string& what, const std::string& text) {
    if (what == "reconnects" || (!client_.connected() && what == "sends")) {
      client_ = HttpClient(port_);
      if (!client_.connected()) return "cannot connect";
    }
    // A peer may refuse and close in the middle of what we send: that is for the next steps to see.
    if (what == "sends") client_.send(case_bytes(text));
    if (what == "half-closes") client_.socket().shutdown_write();
    if (what == "closes") client_.socket().close();
    if (what == "resets") client_.socket().reset();
    if (what == "sees close") {
      if (!client_.wait_closed()) return "not closed";
      client_.socket().close();
    }
    return receives(client_.socket(), what, text, MessageKind::kResponse);
  }

  std::string upstream_step(const std::string& what, const std::string& text) {
    if (what == "accepts" || (!upstream_.valid() && what.starts_with("receives"))) {
      upstream_ = listener_.accept();
      if (!upstream_.valid()) return "no connection came";
    }
    if (what == "sends" && upstream_.send(case_bytes(text)) != case_bytes(text).size()) return "cannot send";
    if (what == "closes") upstream_.close();
    if (what == "resets") upstream_.reset();
    if (what == "sees close") {
      const std::string more = upstream_.recv_some();
      if (!more.empty()) return "got more: [" + more + "]";
      if (upstream_.end() != Socket::End::kEof && upstream_.end() != Socket::End::kReset) return "not closed";
      upstream_.close();
    }
    if (what == "sees nothing") {
      if (upstream_.valid()) return upstream_.quiet_for(kNothingMs) ? "" : "bytes came, or the connection was closed";
      Socket came = listener_.accept(kNothingMs);
      const std::string bytes = came.valid() ? came.recv_some(4096, kNothingMs) : std::string();
      return bytes.empty() ? "" : "a request came: [" + bytes + "]";
    }
    return receives(upstream_, what, text, MessageKind::kRequest);
  }

  static std::string receives(Socket& socket, const std::string& what, const std::string& text, MessageKind kind) {
    if (what == "receives bytes") {
      const std::string wanted = case_bytes(text);
      const std::string got = socket.recv_exactly(wanted.size());
      return got == wanted ? "" : "expected [" + wanted + "], got [" + got + "]";
    }
    if (what == "receives head") return mismatch(read_head(socket), text);
    if (what == "receives") return mismatch(read_message(socket, kind), text);
    return {};
  }

  // The log has exactly these lines, sooner or later.
  static std::string access_log(const std::string& text, const std::string& path) {
    const bool good =
        wait_until([&] { return std::regex_match(read_file(path), std::regex(text)); }, Milliseconds(10'000));
    return good ? "" : "expected\n" + text + "got\n" + read_file(path);
  }

  std::string stats(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      const std::string line = text.substr(at, end - at);
      at = end + 1;
      const size_t colon = line.rfind(": ");
      const auto wanted = std::stoull(line.substr(colon + 2));
      const std::string name = line.substr(0, colon);
      if (!wait_until([&] { return proxy_->stat(name) == wanted; }, Milliseconds(10'000))) {
        return name + " is " + std::to_string(proxy_->stat(name).value_or(0)) + ", not " + std::to_string(wanted);
      }
    }
    return {};
  }

  const WireCase& case_;
  TempDir dir_;
  ListenSocket listener_;
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t port_ = 0;
  HttpClient client_;
  Socket upstream_;
};

class Cases : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(Cases, Plays) {
  const WireCase wire_case = WireCase::parse(read_file(GetParam().string()));
  ASSERT_EQ(wire_case.error, "") << GetParam();
  SCOPED_TRACE(wire_case.title);
  Player(wire_case).play();
}

std::vector<std::filesystem::path> case_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(OUTRIGGER_SOURCE_DIR "/test/cases")) {
    if (entry.path().extension() == ".case") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string case_name(const testing::TestParamInfo<std::filesystem::path>& info) { return info.param.stem().string(); }

INSTANTIATE_TEST_SUITE_P(Files, Cases, testing::ValuesIn(case_files()), case_name);

}  // namespace
}  // namespace outrigger::test
