// Secrets from outrigger-control: the programs as they are, certificates that rotate under load, staples that openssl
// sees.
#include <atomic>
#include <thread>

#include "support/certificates.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"
#include "support/tls_tunnel.h"

namespace outrigger::test {
namespace {

const std::string kTls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.";

std::string pem_block(const std::string& pem, size_t columns) { return "|\n" + indented(pem, columns); }

std::string secret_resource(const std::string& name, const Certificate& from) {
  return "\"@type\": " + kTls + "Secret\nname: " + name +
         "\ntls_certificate:\n  certificate_chain:\n    inline_string: " + pem_block(from.pem, 6) +
         "  private_key:\n    inline_string: " + pem_block(from.private_key, 6);
}

// "main", with the secret "identity".
std::string tls_listener_resource(const std::string& secret = "identity", const std::string& timeout = "0s") {
  std::string yaml = listener_resource("main", "table");
  const std::string filters = "- filters:\n";
  yaml.insert(yaml.find(filters) + filters.size() - std::string("filters:\n").size(),
              "transport_socket:\n    name: tls\n    typed_config:\n      \"@type\": " + kTls +
                  "DownstreamTlsContext\n      common_tls_context:\n        tls_certificate_sds_secret_configs:\n"
                  "        - {name: " +
                  secret + ", sds_config: {ads: {}, initial_fetch_timeout: " + timeout + "}}\n  ");
  return yaml;
}

class Sds : public testing::TestWithParam<const char*> {
 protected:
  Sds() {
    write_file(config_ / "listener.yaml", resource_file({tls_listener_resource()}));
    write_file(
        config_ / "routes.yaml",
        resource_file({routes_resource(
            "table", "- match: {prefix: /}\n  direct_response: {status: 200, body: {inline_string: hello}}\n")}));
  }
  void put(const Certificate& from, const std::string& name = "identity") {
    write_file(config_ / "secrets.yaml", resource_file({secret_resource(name, from)}));
  }
  void start() {
    control_ = std::make_unique<ControlProcess>(config_.path());
    ASSERT_TRUE(control_->started()) << control_->output();
    proxy_ = std::make_unique<ProxyProcess>(ads_bootstrap(control_->port(), GetParam()),
                                            std::vector<std::string>{"--concurrency", "2", "--drain-time", "5"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
  }
  uint16_t port() const { return proxy_->listener_port("main"); }
  bool believes(const CertificateAuthority& authority) const {
    return TlsTunnel(Socket::connect(port()), {.trusted = authority.pem()}).open();
  }
  std::string run(std::vector<std::string> argv) {
    argv.front() = program_path(argv.front());
    Process program(argv);
    program.wait_exit();
    return program.output();
  }

  TempDir config_;
  CertificateAuthority old_{"old"}, new_{"new"};
  std::unique_ptr<ControlProcess> control_;
  std::unique_ptr<ProxyProcess> proxy_;
};

INSTANTIATE_TEST_SUITE_P(Form, Sds, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Sds, ACertificateRotatesUnderLoadAndNoRequestFails) {
  put(old_.issue("a"));
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output() << control_->output();
  const uint16_t to = port();
  std::atomic<bool> stop{false};
  std::atomic<int> done{0}, failed{0};
  // One keeps its connection, the other makes one for each request.
  std::thread keeps([&] {
    TlsTunnel tunnel(Socket::connect(to), {.trusted = old_.pem()});
    HttpClient client(tunnel.plain());
    while (!stop) ++(client.get("/").body == "hello" ? done : failed);
  });
  std::thread connects([&] {
    while (!stop) {
      TlsTunnel tunnel(Socket::connect(to), {.trusted = old_.pem() + new_.pem()});
      ++(tunnel.open() && HttpClient(tunnel.plain()).get("/").body == "hello" ? done : failed);
    }
  });
  for (CertificateAuthority* authority : {&new_, &old_, &new_}) {
    put(authority->issue("a"));
    EXPECT_TRUE(wait_until([&] { return believes(*authority); })) << control_->output();
    const int until = done + 20;
    EXPECT_TRUE(wait_until([&] { return done >= until; }));
  }
  stop = true;
  keeps.join();
  connects.join();
  EXPECT_EQ(failed, 0);
}

TEST_P(Sds, AListenerWaitsForALateSecretAndABrokenFileChangesNothing) {
  ASSERT_NO_FATAL_FAILURE(start());
  EXPECT_TRUE(wait_until([&] {
    return proxy_->admin("/config_dump").find("secret identity: unknown") != std::string::npos;
  })) << proxy_->admin("/config_dump");
  put(old_.issue("a"));
  ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
  EXPECT_TRUE(believes(old_));
  Certificate mixed = new_.issue("a");
  mixed.private_key = old_.issue("b").private_key;
  put(mixed);
  EXPECT_TRUE(control_->process()
                  .wait_for_output("secrets\\.yaml[^\\n]*private_key: does not match the certificate")
                  .has_value())
      << control_->output();
  EXPECT_TRUE(believes(old_));
  put(new_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(new_); }));
}

TEST_P(Sds, ASecretThatIsRemovedServesUntilItsListenerNamesAnother) {
  put(old_.issue("a"));
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
  put(new_.issue("a"), "another");
  EXPECT_TRUE(believes(old_));
  write_file(config_ / "listener.yaml", resource_file({tls_listener_resource("another")}));
  EXPECT_TRUE(wait_until([&] { return believes(new_); })) << control_->output();
}

TEST_P(Sds, NoProgramShowsAKey) {
  const Certificate mine = old_.issue("a");
  const std::string secret = mine.private_key.substr(mine.private_key.find('\n') + 1, 40);
  put(mine);
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
  const std::string admin = "127.0.0.1:" + std::to_string(proxy_->admin_port());
  const std::string valid = run({"outriggerctl", "validate", config_.path()});
  EXPECT_EQ(valid.find("identity"), std::string::npos) << valid;
  const std::string same = run({"outriggerctl", "diff", config_.path(), "http://" + admin});
  const std::string dump = run({"outriggerctl", "dump", "--admin", admin});
  EXPECT_NE(dump.find("identity"), std::string::npos) << dump;
  put(old_.issue("a"));
  const std::string other = run({"outriggerctl", "diff", config_.path(), "http://" + admin});
  for (const std::string& text : {valid, same, dump, other, proxy_->output(), control_->output()}) {
    EXPECT_EQ(text.find("PRIVATE KEY"), std::string::npos) << text;
    EXPECT_EQ(text.find(secret), std::string::npos) << text;
  }
}

// ---- stapling ----

class Staples : public testing::Test {
 protected:
  void put(const std::string& staple) { write_file(dir_ / "staple.der", staple); }
  std::string config(const std::string& policy) const {
    return "static_resources:\n  listeners:\n  - name: main\n    address: {socket_address: {address: 127.0.0.1, "
           "port_value: 0}}\n    filter_chains:\n    - filters: [{name: h, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, "
           "stat_prefix: a, route_config: {name: r}, http_filters: [{name: r, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]\n      transport_socket: {name: "
           "t, "
           "typed_config: {\"@type\": " +
           kTls + "DownstreamTlsContext, ocsp_staple_policy: " + policy +
           ", common_tls_context: {tls_certificates: [{certificate_chain: {filename: " + (dir_ / "a.pem") +
           "}, private_key: {filename: " + (dir_ / "a.key") + "}, ocsp_staple: {filename: " + (dir_ / "staple.der") +
           "}}]}}}\n";
  }
  // What openssl says of the listener.
  std::string asked(const ProxyProcess& proxy, const std::string& version) {
    Process client({"sh", "-c",
                    "echo | openssl s_client -status " + version + " -connect 127.0.0.1:" +
                        std::to_string(proxy.listener_port("main")) + " -CAfile " + (dir_ / "ca.pem") + " 2>&1"});
    client.wait_exit();
    return client.output();
  }
  static bool has(const std::string& text, const char* what) { return text.find(what) != std::string::npos; }

  TempDir dir_;
  CertificateAuthority ca_;
  Certificate mine_ = ca_.issue("a");
  void SetUp() override {
    write_file(dir_ / "ca.pem", ca_.pem());
    write_file(dir_ / "a.pem", mine_.pem);
    write_file(dir_ / "a.key", mine_.private_key);
  }
};

TEST_F(Staples, AreSentToClientsThatAskAndFollowTheirFile) {
  put(ca_.staple(mine_));
  ProxyProcess proxy(config("STRICT_STAPLING"));
  ASSERT_TRUE(proxy.started()) << proxy.output();
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    const std::string said = asked(proxy, version);
    EXPECT_TRUE(has(said, "OCSP Response Status: successful") && has(said, "Cert Status: good")) << said;
  }
  // One that is no good is refused, and the last one goes on being sent.
  put(ca_.staple(mine_, -60));
  EXPECT_TRUE(wait_until([&] { return proxy.stat("file_source.update_rejected").value_or(0) >= 1; }));
  EXPECT_TRUE(wait_until([&] {
    return has(proxy.output(), "staple.der is out of date") || has(proxy.output(), "ocsp_staple: is out of date");
  })) << proxy.output();
  EXPECT_TRUE(has(asked(proxy, "-tls1_3"), "OCSP Response Status: successful"));
}

TEST_F(Staples, ThatAreOutOfDateAreLeftOutWherePolicyIsLenient) {
  put(ca_.staple(mine_, -60));
  ProxyProcess proxy(config("LENIENT_STAPLING"));
  ASSERT_TRUE(proxy.started()) << proxy.output();
  EXPECT_TRUE(has(asked(proxy, "-tls1_3"), "OCSP response: no response sent"));
  put(ca_.staple(mine_));
  EXPECT_TRUE(wait_until([&] { return has(asked(proxy, "-tls1_3"), "Cert Status: good"); }));
}

TEST_F(Staples, ThatRunOutOfDateFailTheHandshakeWherePolicyIsStrict) {
  put(ca_.staple(mine_, 4));
  ProxyProcess proxy(config("STRICT_STAPLING"));
  ASSERT_TRUE(proxy.started()) << proxy.output();
  EXPECT_TRUE(wait_until([&] { return has(asked(proxy, "-tls1_3"), "alert"); })) << asked(proxy, "-tls1_3");
  // Who does not ask is served.
  EXPECT_TRUE(TlsTunnel(Socket::connect(proxy.listener_port("main")), {.trusted = ca_.pem()}).open());
}

}  // namespace
}  // namespace outrigger::test
