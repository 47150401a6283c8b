// The example of source/docs/guide/connections.md, its ports aside, with programs of other makes: nginx, curl, ss.
#include <fstream>

#include "support/http_client.h"
#include "support/process.h"
#include "support/socket.h"
#include "support/temp_dir.h"

namespace outrigger::test {
namespace {

class Connections : public testing::Test {
 protected:
  // nginx, which takes what begins with a PROXY header only, and says what that told.
  void SetUp() override {
    const std::string socket = dir_ / "nginx.sock";
    std::ofstream(dir_ / "nginx.conf") << "daemon off; master_process off; pid " << (dir_ / "pid") << ";\n"
                                       << "error_log stderr; events {}\nhttp {\naccess_log off;\n"
                                       << "client_body_temp_path " << (dir_ / "body") << ";\n"
                                       << "server { listen unix:" << socket << " proxy_protocol; location / {\n"
                                       << "return 200 \"$proxy_protocol_addr:$proxy_protocol_port to "
                                          "$proxy_protocol_server_port, $connection\"; } }\n}\n";
    nginx_ = std::make_unique<Process>(
        std::vector<std::string>{"nginx", "-c", dir_ / "nginx.conf", "-p", dir_.path().string(), "-e", "stderr"});
    ASSERT_TRUE(wait_until([&] { return Socket::connect_unix(socket).valid(); })) << nginx_->output();

    std::string yaml = read_file(OUTRIGGER_SOURCE_DIR "/source/docs/guide/examples/connections/bootstrap.yaml");
    yaml.erase(0, yaml.find("admin:"));
    const auto replace = [&](const std::string& from, const std::string& to) {
      ASSERT_NE(yaml.find(from), std::string::npos) << from;
      yaml.replace(yaml.find(from), from.size(), to);
    };
    for (const char* port : {"9901", "10001", "10002"}) replace("port_value: " + std::string(port), "port_value: 0");
    replace("{socket_address: {address: 127.0.0.1, port_value: 8080}}", "{pipe: {path: " + socket + "}}");
    proxy_ = std::make_unique<ProxyProcess>(yaml, std::vector<std::string>{"--concurrency", "3"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
    web_ = proxy_->listener_port("web");
  }
  std::string run(std::vector<std::string> argv) {
    Process program(std::move(argv));
    EXPECT_EQ(program.wait_exit(), 0) << program.output();
    return program.output();
  }

  TempDir dir_;
  std::unique_ptr<Process> nginx_;
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t web_ = 0;
};

TEST_F(Connections, NginxIsToldWhoTheClientIs) {
  HttpClient one(web_), two(web_);
  const auto told = [&](HttpClient& client) {
    return "127.0.0.1:" + std::to_string(client.socket().local_port()) + " to " + std::to_string(web_) + ", ";
  };
  const std::string first = one.get("/").body, second = two.get("/").body;
  EXPECT_EQ(first.rfind(told(one), 0), 0u) << first;
  EXPECT_EQ(second.rfind(told(two), 0), 0u) << second;
  EXPECT_EQ(one.get("/").body, first);  // over the same connection
  EXPECT_EQ(two.get("/").body, second);
}

TEST_F(Connections, CurlGoesThroughATunnel) {
  const uint16_t port = proxy_->listener_port("tunnels");
  const std::string said = run({"curl", "-sS", "--proxytunnel", "-x", "http://127.0.0.1:" + std::to_string(port),
                                "http://any.example/", "http://any.example/again"});
  const std::string to = " to " + std::to_string(port) + ", ";
  EXPECT_EQ(said.rfind("127.0.0.1:", 0), 0u) << said;
  EXPECT_NE(said.find(to), std::string::npos) << said;
  EXPECT_EQ(proxy_->stat("http.tunnels.downstream_cx_upgrades_total"), 1u);
  // The listener without an entry for it.
  Process refused({"curl", "-sS", "--proxytunnel", "-x", "http://127.0.0.1:" + std::to_string(web_), "http://a/"});
  EXPECT_NE(refused.wait_exit(), 0);
  EXPECT_NE(refused.output().find("403"), std::string::npos) << refused.output();
}

TEST_F(Connections, TheLimitHoldsAcrossWorkers) {
  std::vector<HttpClient> clients;
  for (int i = 0; i < 40; ++i) clients.emplace_back(web_);
  // Those that were let in are answered, the others are kept for a while and closed.
  size_t answered = 0;
  for (HttpClient& client : clients) {
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    if (client.read_response().status() == 200) ++answered;
  }
  EXPECT_EQ(answered, 5u);
  EXPECT_EQ(proxy_->stat("connection_limit.web.active_connections"), 5u);
  EXPECT_EQ(proxy_->stat("connection_limit.web.limited_connections"), 35u);
  clients.clear();
  EXPECT_TRUE(wait_until([&] { return proxy_->stat("connection_limit.web.active_connections") == 0u; }));
  EXPECT_EQ(http_get(web_, "/").status(), 200);
}

TEST_F(Connections, AcceptedOnesAreKeptAlive) {
  HttpClient client(web_);
  EXPECT_EQ(client.get("/").status(), 200);
  const std::string seen = run({"ss", "-tnoH", "state", "established", "sport", "=", ":" + std::to_string(web_)});
  // The 300 s of the example, or what is left of them.
  EXPECT_TRUE(seen.find("timer:(keepalive,5min,") != std::string::npos ||
              seen.find("timer:(keepalive,4min") != std::string::npos)
      << seen;
}

// The other example: a server that listens on one of the two loopback addresses only.
TEST(DualStack, TheAddressThatAnswersIsTakenAndLogged) {
  for (const char* ip : {"127.0.0.1", "::1"}) {
    ListenSocket server(128, ip);
    std::string yaml = read_file(OUTRIGGER_SOURCE_DIR "/source/docs/guide/examples/connections/dual_stack.yaml");
    yaml.erase(0, yaml.find("admin:"));
    for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
             {"9901", "0"}, {"10003", "0"}, {"8080", std::to_string(server.port())}})
      for (size_t at = 0; (at = yaml.find("port_value: " + from, at)) != std::string::npos; at += 12)
        yaml.replace(at + 12, from.size(), to);
    ProxyProcess proxy(yaml);
    ASSERT_TRUE(proxy.started()) << proxy.output();
    ASSERT_TRUE(proxy.wait_ready()) << proxy.output();
    const std::string port = std::to_string(server.port());
    const std::string four = "127.0.0.1:" + port, six = "[::1]:" + port;
    const std::string clusters = proxy.admin("/clusters");
    EXPECT_NE(clusters.find("name::" + six + "::address::" + six + "\nname::" + six + "::address::" + four),
              std::string::npos)
        << clusters;
    EXPECT_NE(clusters.find("pair::" + six + "::address::" + four + "\npair::" + six + "::address::" + six),
              std::string::npos)
        << clusters;
    const std::string winner = std::string(ip) == "::1" ? six : four;
    for (const char* path : {"/name", "/pair"}) {
      HttpClient client(proxy.listener_port("web"));
      client.send(std::string("GET ") + path + " HTTP/1.1\r\nhost: x\r\n\r\n");
      Socket host;
      do {  // of those made ahead, too
        host = server.accept();
        ASSERT_TRUE(host.valid());
      } while (host.recv_until("\r\n\r\n", 500).empty());
      host.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      EXPECT_EQ(client.read_response().status(), 200);
      const std::string line = std::string(path) + " 200 host " + six + " at " + winner + "\n";
      EXPECT_TRUE(wait_until([&] { return proxy.output().find(line) != std::string::npos; })) << line << proxy.output();
    }
  }
}

}  // namespace
}  // namespace outrigger::test
