// Clients of other makes speak TLS to the program, which runs the example of source/docs/guide/tls.md as it stands, its
// ports and directories aside: curl, openssl s_client, h2load.
#include "support/certificates.h"
#include "support/fake_upstream.h"
#include "support/process.h"

namespace outrigger::test {
namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  ASSERT_NE(text.find(from), std::string::npos) << from;
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

class Tls : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"ingress", "service", "stranger"})
      certificates_.issue(
          name, {"URI:spiffe://mesh.example/" + std::string(name), "DNS:" + std::string(name) + ".mesh.example"});
    start();
  }
  // "ingress" finds "service" at the port that the kernel gave to it: a second start, on that port.
  void start() {
    std::string yaml = read_file(std::string(OUTRIGGER_SOURCE_DIR) + "/source/docs/guide/examples/tls/bootstrap.yaml");
    yaml.erase(0, yaml.find("static_resources"));
    replace_all(yaml, "/etc/outrigger/tls", dir_.path().string());
    replace_all(yaml, "/tmp/outrigger-tls.log", dir_ / "access.log");
    replace_all(yaml, "port_value: 10443", "port_value: 0");
    replace_all(yaml, "port_value: 8081", "port_value: " + std::to_string(upstream_.port()));
    replace_all(yaml, "127.0.0.1, port_value: 8443", "127.0.0.1, port_value: 0");
    // Unix sockets need no port: "service" listens on one as well.
    const std::string listen =
        "  - name: service\n    address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n";
    replace_all(
        yaml, listen,
        listen + "    additional_addresses: [{address: {pipe: {path: \"" + (dir_ / "service.sock") + "\"}}}]\n");
    replace_all(yaml, "endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}",
                "endpoint: {address: {pipe: {path: \"" + (dir_ / "service.sock") + "\"}}}");
    proxy_ = std::make_unique<ProxyProcess>(yaml);
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
  }
  std::string run(std::vector<std::string> argv, int expected = 0) {
    Process program(argv);
    EXPECT_EQ(program.wait_exit(), expected) << argv[0] << ": " << program.output();
    return program.output();
  }
  std::string curl(const std::string& listener, std::vector<std::string> more, int expected = 0) {
    const std::string name = listener + ".mesh.example", port = std::to_string(proxy_->listener_port(listener));
    std::vector<std::string> argv = {"curl",
                                     "-sS",
                                     "--cacert",
                                     certificates_ / "ca.pem",
                                     "--resolve",
                                     name + ":" + port + ":127.0.0.1",
                                     "-w",
                                     " %{http_version} %{http_code}",
                                     "https://" + name + ":" + port + "/a"};
    argv.insert(argv.end(), more.begin(), more.end());
    return run(argv, expected);
  }
  std::vector<std::string> as(const std::string& name) {
    return {"--cert", certificates_ / (name + ".pem"), "--key", certificates_ / (name + ".key")};
  }

  TempDir dir_;
  Certificates certificates_{dir_.path().string()};
  FakeUpstream upstream_{
      [](Exchange& e) { e.respond(200, e.request.body.empty() ? "hello " + e.request.target() : e.request.body); }};
  std::unique_ptr<ProxyProcess> proxy_;
};

TEST_F(Tls, CurlThroughBothHops) {
  EXPECT_EQ(curl("ingress", {"--http2"}), "hello /a 2 200");
  EXPECT_EQ(curl("ingress", {"--http1.1"}), "hello /a 1.1 200");
  EXPECT_EQ(curl("ingress", {"--tls-max", "1.2"}), "hello /a 2 200");
  const std::string body(300'000, 'b');
  write_file(dir_ / "body", body);
  EXPECT_EQ(curl("ingress", {"--http2", "--data-binary", "@" + (dir_ / "body")}), body + " 2 200");
  EXPECT_EQ(curl("ingress", {"--http1.1", "--data-binary", "@" + (dir_ / "body")}), body + " 1.1 200");
  const auto requests = upstream_.requests();
  const std::string shown = requests.at(0).header("x-forwarded-client-cert").value_or("");
  EXPECT_TRUE(shown.starts_with("By=spiffe://mesh.example/service;Hash=")) << shown;
  EXPECT_TRUE(shown.ends_with(";URI=spiffe://mesh.example/ingress")) << shown;
  EXPECT_EQ(requests.at(0).header("x-forwarded-proto"), "https");
  EXPECT_EQ(proxy_->stop(), 0);
  const std::string log = read_file(dir_ / "access.log");
  EXPECT_NE(log.find("HTTP/2 200 - TLSv1.3 ingress.mesh.example -\n"), std::string::npos) << log;
  EXPECT_NE(log.find("HTTP/2 200 - TLSv1.2 ingress.mesh.example -\n"), std::string::npos) << log;
}

TEST_F(Tls, CurlWithClientCertificates) {
  EXPECT_EQ(curl("service", as("ingress")), "hello /a 2 200");
  std::vector<std::string> stranger = as("stranger");
  stranger.push_back("--http2");
  EXPECT_NE(curl("service", stranger, 56).find("alert"), std::string::npos);
  EXPECT_NE(curl("service", {}, 56).find("certificate required"), std::string::npos);
  std::vector<std::string> old = as("ingress");
  old.insert(old.end(), {"--tls-max", "1.2"});
  EXPECT_NE(curl("service", old, 35).find("alert protocol version"), std::string::npos);
  EXPECT_EQ(proxy_->stat("listener.service.ssl.fail_verify_san").value_or(0), 1u);
  EXPECT_EQ(proxy_->stat("listener.service.ssl.fail_verify_no_cert").value_or(0), 1u);
  EXPECT_EQ(proxy_->stat("listener.service.ssl.connection_error").value_or(0), 1u);
}

TEST_F(Tls, OpensslSeesTheChainAlpnAndResumption) {
  const std::string to = "127.0.0.1:" + std::to_string(proxy_->listener_port("ingress"));
  const std::vector<std::string> client = {"openssl",
                                           "s_client",
                                           "-connect",
                                           to,
                                           "-CAfile",
                                           certificates_ / "ca.pem",
                                           "-servername",
                                           "ingress.mesh.example",
                                           "-verify_hostname",
                                           "ingress.mesh.example",
                                           "-verify_return_error"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> argv = {"sh", "-c",
                                     "printf 'GET / HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n' | "
                                     "\"$@\" -ign_eof 2>&1",
                                     "sh"};
    argv.insert(argv.end(), client.begin(), client.end());
    argv.insert(argv.end(), more.begin(), more.end());
    return run(argv);
  };
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    const std::string first = with({version, "-alpn", "http/1.1", "-sess_out", dir_ / "session"});
    EXPECT_NE(first.find("Verify return code: 0 (ok)"), std::string::npos) << first;
    EXPECT_NE(first.find("ALPN protocol: http/1.1"), std::string::npos) << first;
    EXPECT_NE(first.find("HTTP/1.1 200 OK"), std::string::npos) << first;
    EXPECT_EQ(first.find("unexpected eof"), std::string::npos) << first;  // close_notify came
    const std::string second = with({version, "-sess_in", dir_ / "session"});
    EXPECT_NE(second.find("Reused, TLSv1."), std::string::npos) << second;
  }
}

TEST_F(Tls, H2loadLosesNoRequest) {
  const std::string url = "https://127.0.0.1:" + std::to_string(proxy_->listener_port("ingress")) + "/x";
  const std::string said = run({"h2load", "-n", "5000", "-c", "4", "-m", "20", url});
  EXPECT_NE(said.find("5000 succeeded, 0 failed, 0 errored, 0 timeout"), std::string::npos) << said;
  EXPECT_NE(said.find("TLS Protocol: TLSv1.3"), std::string::npos) << said;
  EXPECT_NE(said.find("Application protocol: h2"), std::string::npos) << said;
}

TEST_F(Tls, AnUpstreamThatIsNotBelievedIsNamedInTheLog) {
  proxy_.reset();
  certificates_.issue("service", {"URI:spiffe://mesh.example/other"});
  start();
  EXPECT_NE(curl("ingress", {}).find(" 2 503"), std::string::npos);
  EXPECT_EQ(proxy_->stop(), 0);
  const std::string log = read_file(dir_ / "access.log");
  EXPECT_NE(log.find("503 UF TLSv1.3 ingress.mesh.example certificate verify failed: none of its names is among "
                     "match_typed_subject_alt_names\n"),
            std::string::npos)
      << log;
}

TEST_F(Tls, NoKeyIsInADump) {
  const std::string dump = proxy_->admin("/config_dump");
  EXPECT_NE(dump.find("ingress.pem"), std::string::npos);
  EXPECT_EQ(dump.find("PRIVATE KEY"), std::string::npos);
  EXPECT_EQ(proxy_->output().find("PRIVATE KEY"), std::string::npos);
}

}  // namespace
}  // namespace outrigger::test
