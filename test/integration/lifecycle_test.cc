// Starting, draining and stopping; the admin port; memory under back-pressure.
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <regex>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/sanitizers.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

// The admin port answers requests to an IP address or localhost only (against DNS rebinding).
const HttpMessage::Fields kAdminHost = {{"host", "127.0.0.1"}};

// What the proxy may grow by while a slow peer holds up a huge body. AddressSanitizer keeps freed memory for a while;
// ThreadSanitizer has 36 bytes of shadow for each 8 of the program's (GCC 12), and the kernel counts them.
constexpr uint64_t kSlackKb = kAddressSanitizer ? 300 * 1024 : kThreadSanitizer ? 16 * 1024 * (8 + 36) / 8 : 16 * 1024;

// A request may take as long as it takes: instrumented programs need more than a route's 15 s for 256 MiB.
std::string bootstrap_for(uint16_t upstream_port, const std::string& dir) {
  WireCase config;
  config.config = {{"routes", "- match: {prefix: /}\n  route: {cluster: upstream, timeout: 0s}\n"}};
  return config.bootstrap(upstream_port, dir + "/access.log");
}

class Lifecycle : public testing::Test {
 protected:
  void start(const std::string& drain_time_s = "30") {
    proxy_ =
        std::make_unique<ProxyProcess>(bootstrap_for(upstream_.port(), dir_.path()),
                                       std::vector<std::string>{"--concurrency", "2", "--drain-time", drain_time_s});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    port_ = proxy_->listener_port("main");
    ASSERT_NE(port_, 0) << proxy_->output();
    // The listener is there a moment before every worker has said that it runs this version.
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
  }

  // Of the proxy's process, from the kernel.
  uint64_t status(const std::string& name) const {
    std::smatch match;
    const std::string text = read_file("/proc/" + std::to_string(proxy_->process().pid()) + "/status");
    return std::regex_search(text, match, std::regex(name + ":\\s+([0-9]+)")) ? std::stoull(match[1].str()) : 0;
  }
  uint64_t rss_kb() const { return status("VmRSS"); }

  TempDir dir_;
  std::atomic<size_t> sent_ = 0;  // by the upstream's thread, which outlives the test's body
  FakeUpstream upstream_;
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t port_ = 0;
};

// The kernel makes the table of descriptors larger when it is full, and holds a worker that is not alone for an RCU
// grace period (10 ms and more) meanwhile.
TEST_F(Lifecycle, DescriptorsHaveRoomFromTheBeginning) {
  ASSERT_NO_FATAL_FAILURE(start());
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_GE(status("FDSize"), std::min<uint64_t>(16'384, limit.rlim_max));
}

TEST_F(Lifecycle, SigtermWaitsForTheLastRequestAndExits0) {
  upstream_.set_handler([](Exchange& exchange) {
    exchange.stall();
    exchange.respond(200, "late");
  });
  ASSERT_NO_FATAL_FAILURE(start());
  HttpClient busy(port_), idle(port_);
  ASSERT_TRUE(idle.connected());
  busy.send(request_bytes("GET", "/"));
  ASSERT_TRUE(upstream_.wait_for_requests(1));
  proxy_->process().signal(SIGTERM);
  EXPECT_TRUE(wait_until([&] { return !HttpClient(port_).connected(); })) << "still listening";
  EXPECT_TRUE(idle.wait_closed());
  EXPECT_TRUE(proxy_->process().running());
  upstream_.release();
  const HttpMessage answer = busy.read_response();
  EXPECT_EQ(answer.body, "late");
  EXPECT_EQ(answer.header("connection"), "close");
  EXPECT_TRUE(busy.wait_closed());
  EXPECT_EQ(proxy_->process().wait_exit(), 0) << proxy_->output();
}

TEST_F(Lifecycle, TheDrainEndsWhenItsTimeIsOver) {
  upstream_.set_handler([](Exchange& exchange) { exchange.stall(); });
  ASSERT_NO_FATAL_FAILURE(start("1"));
  HttpClient busy(port_);
  busy.send(request_bytes("GET", "/"));
  ASSERT_TRUE(upstream_.wait_for_requests(1));
  EXPECT_EQ(proxy_->stop(), 0) << proxy_->output();
}

TEST_F(Lifecycle, ASecondSignalEndsTheDrainAtOnce) {
  upstream_.set_handler([](Exchange& exchange) { exchange.stall(); });
  ASSERT_NO_FATAL_FAILURE(start("600"));
  HttpClient busy(port_);
  busy.send(request_bytes("GET", "/"));
  ASSERT_TRUE(upstream_.wait_for_requests(1));
  proxy_->process().signal(SIGINT);
  ASSERT_TRUE(proxy_->process().wait_for_output("draining for at most 600 s")) << proxy_->output();
  proxy_->process().signal(SIGINT);
  EXPECT_EQ(proxy_->process().wait_exit(), 128 + SIGINT) << proxy_->output();
}

TEST_F(Lifecycle, QuitQuitQuitStops) {
  ASSERT_NO_FATAL_FAILURE(start("1"));
  EXPECT_EQ(HttpClient(proxy_->admin_port()).request("POST", "/quitquitquit", kAdminHost).status(), 200);
  EXPECT_EQ(proxy_->process().wait_exit(), 0) << proxy_->output();
}

TEST_F(Lifecycle, AdminPages) {
  ASSERT_NO_FATAL_FAILURE(start());
  EXPECT_EQ(http_get(port_, "/").status(), 200);
  EXPECT_EQ(http_get(proxy_->admin_port(), "/ready", kAdminHost).status(), 200);
  EXPECT_NE(proxy_->admin("/clusters").find("upstream::127.0.0.1:" + std::to_string(upstream_.port())),
            std::string::npos)
      << proxy_->admin("/clusters");
  EXPECT_TRUE(wait_until([&] { return proxy_->stat("cluster.upstream.upstream_rq_total") == 1; }))
      << proxy_->admin("/stats?filter=upstream_rq");
  EXPECT_TRUE(wait_until([&] { return proxy_->stat("http.main.downstream_rq_2xx") == 1; }));
  for (const char* page : {"/stats?format=json", "/config_dump", "/server_info"}) {
    const std::string file = dir_ / "page.json";
    write_file(file, proxy_->admin(page));
    Process jq({"jq", "-e", ".", file});
    EXPECT_EQ(jq.wait_exit(), 0) << page << " is not JSON\n" << read_file(file);
  }
  EXPECT_EQ(HttpClient(proxy_->admin_port()).request("POST", "/logging?level=debug", kAdminHost).status(), 200);
  EXPECT_EQ(http_get(proxy_->admin_port(), "/no_such_page", kAdminHost).status(), 404);
}

TEST_F(Lifecycle, MetricsAreWellFormedPrometheusText) {
  ASSERT_NO_FATAL_FAILURE(start());
  EXPECT_EQ(http_get(port_, "/").status(), 200);
  write_file(dir_ / "metrics", proxy_->admin("/metrics"));
  Process promtool({"sh", "-c", "promtool check metrics < " + (dir_ / "metrics")});
  // 3: the tool's opinions on names and help texts, which Envoy's metrics do not follow; any other: cannot be read.
  const auto verdict = promtool.wait_exit();
  EXPECT_TRUE(verdict == 0 || verdict == 3) << promtool.output();
  EXPECT_NE(read_file(dir_ / "metrics").find("envoy_cluster_upstream_rq_total{"), std::string::npos);
}

TEST_F(Lifecycle, ASlowReaderOfAHugeAnswerCostsBoundedMemory) {
  constexpr size_t kTotal = 256u << 20;
  upstream_.set_handler([this](Exchange& exchange) {
    exchange.send("HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(kTotal) + "\r\n\r\n");
    const std::string part(1 << 20, 'x');
    while (sent_ < kTotal && exchange.send(part)) sent_ += part.size();
  });
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_EQ(http_get(proxy_->admin_port(), "/ready", kAdminHost).status(), 200);
  const uint64_t before_kb = rss_kb();
  HttpClient client(Socket::connect_small(port_, 16 * 1024, 0));
  client.send(request_bytes("GET", "/"));
  const HttpMessage head = read_head(client.socket());
  ASSERT_EQ(head.error, "");
  // Nobody reads: the upstream must come to a standstill with almost all of it unsent.
  size_t seen = 0;
  EXPECT_TRUE(wait_until([&] {
    const size_t now = sent_;
    const bool still = now == seen && now > 0;
    seen = now;
    std::this_thread::sleep_for(Milliseconds(100));
    return still;
  }));
  EXPECT_LT(seen, 32u << 20);
  EXPECT_LT(rss_kb(), before_kb + kSlackKb);
  // And then all of it comes.
  size_t received = 0;
  while (received < kTotal) {
    const size_t part = client.socket().recv_some(1 << 20).size();
    if (part == 0) break;
    received += part;
  }
  EXPECT_EQ(received, kTotal);
  EXPECT_LT(rss_kb(), before_kb + kSlackKb);
}

TEST_F(Lifecycle, ASlowUpstreamAndAHugeRequestCostBoundedMemory) {
  constexpr size_t kTotal = 64u << 20;
  std::atomic<size_t> received = 0;
  std::atomic<bool> go = false;
  FakeUpstream slow(
      [&](Exchange& exchange) {
        wait_until([&] { return go.load(); });
        while (received < kTotal) {
          const size_t part = exchange.socket().recv_some(1 << 20).size();
          if (part == 0) return;
          received += part;
        }
        exchange.respond(200, "got it");
      },
      {.read_body = false, .receive_buffer = 16 * 1024});
  proxy_ = std::make_unique<ProxyProcess>(bootstrap_for(slow.port(), dir_.path()));
  ASSERT_TRUE(proxy_->started()) << proxy_->output();
  port_ = proxy_->listener_port("main");
  const uint64_t before_kb = rss_kb();
  HttpClient client(port_);
  client.send("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: " + std::to_string(kTotal) + "\r\n\r\n");
  ASSERT_TRUE(slow.wait_for_requests(1));
  // Send until nothing more is taken for a while.
  const std::string part(1 << 20, 'x');
  size_t sent = 0;
  for (size_t taken = part.size(); taken > 0; sent += taken) taken = client.socket().send(part, 500);
  EXPECT_LT(sent, 32u << 20);
  EXPECT_LT(rss_kb(), before_kb + kSlackKb);
  go = true;
  while (sent < kTotal)
    sent += client.socket().send(std::string_view(part).substr(0, std::min(part.size(), kTotal - sent)));
  EXPECT_EQ(client.read_response().body, "got it");
}

}  // namespace
}  // namespace outrigger::test
