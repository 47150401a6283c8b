// The example of source/docs/guide/tcp.md, its ports aside, with programs of other makes: openssl's server, curl, nc.
#include "support/certificates.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/socket.h"

namespace outrigger::test {
namespace {

class TcpGuide : public testing::Test {
 protected:
  void SetUp() override {
    certificates_.issue("shop", {"DNS:shop.example", "DNS:*.shop.example"});
    tls_ = std::make_unique<Process>(std::vector<std::string>{"openssl", "s_server", "-accept", "127.0.0.1:0", "-www",
                                                              "-cert", certificates_ / "shop.pem", "-key",
                                                              certificates_ / "shop.key"});
    const auto port = tls_->wait_for_output("ACCEPT 127\\.0\\.0\\.1:([0-9]+)");
    ASSERT_TRUE(port.has_value()) << tls_->output();
    tls_port_ = static_cast<uint16_t>(std::stoi(*port));
    std::string yaml = read_file(OUTRIGGER_SOURCE_DIR "/source/docs/guide/examples/tcp/bootstrap.yaml");
    yaml.erase(0, yaml.find("admin:"));
    for (const auto& [from, to] : std::vector<std::pair<int, int>>{{9901, 0},
                                                                   {10001, 0},
                                                                   {10002, 0},
                                                                   {8443, tls_port_},
                                                                   {9001, blue_.port()},
                                                                   {9002, green_.port()},
                                                                   {8080, web_.port()}}) {
      const std::string was = "port_value: " + std::to_string(from) + "}";
      ASSERT_NE(yaml.find(was), std::string::npos) << was;
      yaml.replace(yaml.find(was), was.size(), "port_value: " + std::to_string(to) + "}");
    }
    proxy_ = std::make_unique<ProxyProcess>(yaml);
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
    bytes_ = proxy_->listener_port("bytes");
  }
  std::string run(std::vector<std::string> argv, int status = 0) {
    Process program(std::move(argv));
    EXPECT_EQ(program.wait_exit(), status) << program.output();
    return program.output();
  }

  TempDir dir_;
  Certificates certificates_{dir_.path()};
  uint16_t tls_port_ = 0;
  std::unique_ptr<Process> tls_;
  ListenSocket blue_, green_;
  FakeUpstream web_{[](Exchange& e) { e.respond(200, *e.request.header("x-forwarded-for")); }};
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t bytes_ = 0;
};

TEST_F(TcpGuide, TlsGoesByItsServerNameUndecrypted) {
  const std::string port = std::to_string(bytes_);
  for (const std::string name : {"shop.example", "a.shop.example"}) {
    const std::string said = run({"curl", "-sS", "--resolve", name + ":" + port + ":127.0.0.1", "--cacert",
                                  certificates_ / "ca.pem", "https://" + name + ":" + port + "/"});
    EXPECT_NE(said.find("TLSv1.3"), std::string::npos) << said;
  }
  EXPECT_EQ(proxy_->stat("tcp.shop.downstream_cx_total"), 2u);
  EXPECT_EQ(proxy_->stat("tls_inspector.sni_found"), 2u);
}

TEST_F(TcpGuide, TheRestGoesToThePoolAndIsLogged) {
  Socket client = Socket::connect(bytes_);
  client.send("plain bytes");
  client.shutdown_write();
  // Nine of ten go to one of the two.
  ListenSocket* to = nullptr;
  ASSERT_TRUE(wait_until([&] {
    if (proxy_->stat("cluster.blue.upstream_cx_total") == 1u) to = &blue_;
    if (proxy_->stat("cluster.green.upstream_cx_total") == 1u) to = &green_;
    return to != nullptr;
  }));
  Socket host = to->accept();
  EXPECT_EQ(host.recv_to_eof(), "plain bytes");
  host.send("ok");
  host.close();
  EXPECT_EQ(client.recv_to_eof(), "ok");
  EXPECT_TRUE(proxy_->process().wait_for_output(" (blue|green) 11 2 -").has_value()) << proxy_->output();
}

TEST_F(TcpGuide, CurlTellsItsAddressByTheProxyProtocol) {
  const std::string url = "http://127.0.0.1:" + std::to_string(proxy_->listener_port("behind_balancer")) + "/";
  EXPECT_EQ(run({"curl", "-sS", "--haproxy-protocol", url}), "127.0.0.1");
  EXPECT_EQ(proxy_->stat("proxy_proto.versions.v1.found"), 1u);
  EXPECT_NE(Process({"curl", "-sS", url}).wait_exit(), 0);
  EXPECT_EQ(proxy_->stat("proxy_proto.not_found_disallowed"), 1u);
}

}  // namespace
}  // namespace outrigger::test
