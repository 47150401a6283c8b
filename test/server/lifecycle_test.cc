// Start, drain and end of a proxy in this process.
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "running_server.h"
#include "support/fake_upstream.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using test::FakeUpstream;
using test::HttpClient;
using test::HttpMessage;

class Lifecycle : public testing::Test {
 protected:
  std::string config() const {
    return bootstrap({listener_yaml("main", inline_routes("{match: {prefix: /}, route: {cluster: up, timeout: 0s}}"))},
                     {static_cluster("up", upstream_.port())});
  }
  FakeUpstream upstream_{[](test::Exchange& exchange) {
    exchange.stall();
    exchange.respond(200, "late");
  }};
};

TEST_F(Lifecycle, ADrainWaitsForTheRequestInHand) {
  RunningServer proxy(config());
  const uint16_t port = proxy.port("main");
  HttpClient busy(port), idle(port);
  busy.send(test::request_bytes("GET", "/"));
  ASSERT_TRUE(upstream_.wait_for_requests(1));
  proxy->drain(60'000);
  EXPECT_TRUE(idle.wait_closed());
  EXPECT_TRUE(test::wait_until([&] { return !HttpClient(port).connected(); })) << "still listening";
  const HttpMessage ready = proxy.admin("/ready");
  EXPECT_EQ(ready.status(), 503);
  EXPECT_EQ(ready.body, "DRAINING\n");
  upstream_.release();
  const HttpMessage answer = busy.read_response();
  EXPECT_EQ(answer.body, "late");
  EXPECT_EQ(answer.header("connection"), "close");
  proxy.wait();
}

TEST_F(Lifecycle, ADrainEndsWhenItsTimeIsOver) {
  RunningServer proxy(config());
  HttpClient busy(proxy.port("main"));
  busy.send(test::request_bytes("GET", "/"));
  ASSERT_TRUE(upstream_.wait_for_requests(1));
  proxy->drain(50);
  proxy.wait();
  EXPECT_NE(busy.read_response().error, "");
}

TEST_F(Lifecycle, ASecondDrainMayBeShorter) {
  RunningServer proxy(config());
  HttpClient busy(proxy.port("main"));
  busy.send(test::request_bytes("GET", "/"));
  ASSERT_TRUE(upstream_.wait_for_requests(1));
  proxy->drain(60'000);
  proxy->drain(0);
  proxy.wait();
}

TEST_F(Lifecycle, QuitQuitQuitAnswersAndEnds) {
  RunningServer proxy(config());
  ASSERT_TRUE(proxy.live());
  EXPECT_EQ(proxy.admin_post("/quitquitquit").body, "OK\n");
  proxy.wait();
}

TEST_F(Lifecycle, DrainListenersStopsServingButNotTheProcess) {
  RunningServer proxy(config());
  const uint16_t port = proxy.port("main");
  EXPECT_EQ(proxy.admin_post("/drain_listeners").status(), 200);
  EXPECT_TRUE(test::wait_until([&] { return !HttpClient(port).connected(); }));
  EXPECT_EQ(proxy.admin("/ready").status(), 503);
}

TEST_F(Lifecycle, ManyWorkersServeAndEnd) {
  upstream_.release();
  RunningServer proxy(config(), {.concurrency = 4});
  const uint16_t port = proxy.port("main");
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([port] {
      HttpClient client(port);
      for (int n = 0; n < 50; ++n) EXPECT_EQ(client.get("/").body, "late");
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_TRUE(test::wait_until([&] { return proxy->stats().value("http.main.downstream_rq_2xx") == 400; }));
}

TEST_F(Lifecycle, StartRefusesWhatItCannotServe) {
  const auto refused = [](ServerOptions options) {
    options.concurrency = 1;
    Server server(options);
    const Result<void> started = server.start();
    return started ? std::string() : started.error().detail;
  };
  EXPECT_NE(refused({.config_path = "/no/such/file.yaml"}).find("/no/such/file.yaml"), std::string::npos);
  EXPECT_NE(
      refused({.config_path = "b.yaml", .config_text = "statik_resources: {}\n"}).find("b.yaml:1: statik_resources"),
      std::string::npos);
  EXPECT_NE(refused({.config_text = "{}", .admin_address = "nowhere"}).find("admin: \"nowhere\" is not HOST:PORT"),
            std::string::npos);
  // An address that somebody has.
  RunningServer other(bootstrap({listener_yaml("main", direct_response("a"))}));
  const std::string port = std::to_string(other.port("main"));
  std::string text = bootstrap({listener_yaml("main", direct_response("a"))});
  text.replace(text.find("port_value: 0"), 13, "port_value: " + port);
  const std::string why = refused({.config_path = "b.yaml", .config_text = text});
  EXPECT_NE(why.find("static_resources.listeners[0]: address: "), std::string::npos) << why;
  EXPECT_NE(why.find("127.0.0.1:" + port), std::string::npos) << why;
}

TEST_F(Lifecycle, SignalsReopenLogsAndDrain) {
  test::TempDir dir;
  upstream_.release();
  RunningServer proxy(
      bootstrap({listener_yaml("main", direct_response("a"),
                               "access_log: [{name: a, typed_config: {\"@type\": "
                               "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: " +
                                   (dir / "log") + ", log_format: {text_format: \"%RESPONSE_CODE%\\n\"}}}]")}),
      {.handle_signals = true});
  HttpClient client(proxy.port("main"));
  EXPECT_EQ(client.get("/").status(), 200);
  EXPECT_TRUE(test::wait_until([&] { return test::read_file(dir / "log") == "200\n"; }));
  std::filesystem::rename(dir / "log", dir / "log.1");
  ::kill(::getpid(), SIGUSR1);
  EXPECT_TRUE(test::wait_until([&] { return std::filesystem::exists(dir / "log"); }));
  EXPECT_EQ(client.get("/").status(), 200);
  EXPECT_TRUE(test::wait_until([&] { return test::read_file(dir / "log") == "200\n"; }));
  ::kill(::getpid(), SIGTERM);
  EXPECT_TRUE(client.wait_closed());
  proxy.wait();
}

TEST_F(Lifecycle, AdminHasAnAccessLogOfItsOwn) {
  test::TempDir dir;
  RunningServer proxy(config() +
                      "admin: {access_log: [{name: a, typed_config: {\"@type\": "
                      "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: " +
                      (dir / "admin.log") + ", log_format: {text_format: \"%REQ(:PATH)% %RESPONSE_CODE%\\n\"}}}]}\n");
  EXPECT_EQ(proxy.admin("/listeners").status(), 200);
  EXPECT_TRUE(test::wait_until([&] { return test::read_file(dir / "admin.log") == "/listeners 200\n"; }));
}

TEST(Validate, TellsAllFaultsAndBindsNothing) {
  RunningServer other(bootstrap({listener_yaml("main", direct_response("a"))}));
  std::string taken = bootstrap({listener_yaml("main", direct_response("a"))});
  taken.replace(taken.find("port_value: 0"), 13, "port_value: " + std::to_string(other.port("main")));
  EXPECT_TRUE(validate(taken, "b.yaml", config::UnknownFields::kError).ok());

  const config::Faults faults = validate(
      "static_resources:\n"
      "  clusters:\n"
      "  - {name: a, type: STATIC, colour: blue}\n"
      "  - name: b\n"
      "    type: STATIC\n"
      "    connect_timeout: soon\n",
      "b.yaml", config::UnknownFields::kError);
  EXPECT_NE(faults.str().find("b.yaml:3: static_resources.clusters[0].colour: "), std::string::npos) << faults.str();
  EXPECT_NE(faults.str().find("b.yaml:6: static_resources.clusters[1].connect_timeout: "), std::string::npos)
      << faults.str();
  EXPECT_EQ(faults.errors(), 2u);
  const config::Faults warned = validate("static_resources: {clusters: [{name: a, type: STATIC, colour: blue}]}\n",
                                         "b.yaml", config::UnknownFields::kWarn);
  EXPECT_TRUE(warned.ok());
  EXPECT_EQ(warned.all().size(), 1u);
}

}  // namespace
}  // namespace outrigger::server
