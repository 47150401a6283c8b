// Active health checks by the program: a stock gRPC server with its own health service, and hosts that come and go.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>

#include "support/certificates.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

// A server of Debian's gRPC library that has the health service and no other of use.
class HealthServer {
 public:
  explicit HealthServer(
      const std::shared_ptr<grpc::ServerCredentials>& credentials = grpc::InsecureServerCredentials()) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port_);
    builder.RegisterCallbackGenericService(&others_);
    server_ = builder.BuildAndStart();
  }
  ~HealthServer() { stop(); }
  uint16_t port() const { return static_cast<uint16_t>(port_); }
  void serve(const std::string& service, bool well) {
    server_->GetHealthCheckService()->SetServingStatus(service, well);
  }
  void stop() { server_->Shutdown(std::chrono::system_clock::now()); }

 private:
  int port_ = 0;
  grpc::CallbackGenericService others_;  // a server needs one
  std::unique_ptr<grpc::Server> server_;
};

constexpr const char* kGrpcChecks = R"(http2_protocol_options: {}
health_checks:
- timeout: 5s
  interval: 0.02s
  no_traffic_interval: 0.02s
  unhealthy_threshold: 3
  healthy_threshold: 1
  grpc_health_check: {service_name: demo.Shop}
)";

class HealthChecks : public ::testing::Test {
 protected:
  void start(uint16_t upstream, const std::string& cluster) {
    WireCase config;
    config.config = {{"cluster", cluster}};
    proxy = std::make_unique<ProxyProcess>(config.bootstrap(upstream, dir / "log"));
    ASSERT_TRUE(proxy->started()) << proxy->output();
    ASSERT_TRUE(proxy->wait_ready()) << proxy->output();
  }
  // As a cluster's section: who is trusted, and what is shown.
  static std::string tls(const std::string& trusted, const Certificate* shown) {
    const auto inlined = [](std::string pem) {
      for (size_t at = 0; (at = pem.find('\n', at)) != std::string::npos; at += 2) pem.replace(at, 1, "\\n");
      return "{inline_string: \"" + pem + "\"}";
    };
    std::string common = "validation_context: {trusted_ca: " + inlined(trusted) +
                         ", match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: shop.example}}]}";
    if (shown != nullptr)
      common += ", tls_certificates: [{certificate_chain: " + inlined(shown->pem) +
                ", private_key: " + inlined(shown->private_key) + "}]";
    return "transport_socket:\n  name: tls\n  typed_config:\n    \"@type\": "
           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n"
           "    sni: shop.example\n    common_tls_context: {" +
           common + "}\n";
  }
  bool flags_become(const std::string& flags) {
    return wait_until([&] { return proxy->admin("/clusters").find("::health_flags::" + flags) != std::string::npos; });
  }
  uint64_t stat(const std::string& name) { return proxy->stat("cluster.upstream." + name).value_or(0); }

  TempDir dir;
  std::unique_ptr<ProxyProcess> proxy;
};

TEST_F(HealthChecks, OfAStockGrpcServer) {
  HealthServer server;
  server.serve("demo.Shop", true);
  start(server.port(), kGrpcChecks);
  EXPECT_TRUE(flags_become("healthy\n")) << proxy->admin("/clusters") << proxy->output();
  EXPECT_EQ(stat("health_check.healthy"), 1u);
  EXPECT_EQ(stat("membership_healthy"), 1u);
  EXPECT_TRUE(wait_until([&] { return stat("health_check.success") > 3; }));
  EXPECT_EQ(stat("health_check.failure"), 0u);

  server.serve("demo.Shop", false);
  EXPECT_TRUE(flags_become("/failed_active_hc\n")) << proxy->admin("/clusters");
  EXPECT_TRUE(wait_until([&] { return stat("membership_healthy") == 0; }));
  EXPECT_EQ(stat("health_check.network_failure"), 0u);
  server.serve("demo.Shop", true);
  EXPECT_TRUE(flags_become("healthy\n")) << proxy->admin("/clusters");

  server.stop();
  EXPECT_TRUE(flags_become("/failed_active_hc\n")) << proxy->admin("/clusters");
  EXPECT_GE(stat("health_check.network_failure"), 3u);
}

// The stock server has a certificate, and asks for the proxy's in the second round.
TEST_F(HealthChecks, OfAStockGrpcServerOverTls) {
  CertificateAuthority ca, other("other");
  const Certificate server_certificate = ca.issue("server", {"DNS:shop.example"});
  const Certificate client = ca.issue("checker");
  for (const bool mutual : {false, true}) {
    grpc::SslServerCredentialsOptions options(mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                                     : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    options.pem_root_certs = ca.pem();
    options.pem_key_cert_pairs = {{server_certificate.private_key, server_certificate.pem}};
    HealthServer server(grpc::SslServerCredentials(options));
    server.serve("demo.Shop", true);
    const std::string checks = kGrpcChecks;
    start(server.port(), checks + tls(ca.pem(), mutual ? &client : nullptr));
    EXPECT_TRUE(flags_become("healthy\n")) << proxy->admin("/clusters") << proxy->output();
    EXPECT_TRUE(wait_until([&] { return stat("health_check.success") > 3; }));
    EXPECT_EQ(stat("health_check.failure"), 0u);
    server.serve("demo.Shop", false);
    EXPECT_TRUE(flags_become("/failed_active_hc\n")) << proxy->admin("/clusters");
    EXPECT_EQ(stat("health_check.network_failure"), 0u);
    server.serve("demo.Shop", true);
    EXPECT_TRUE(flags_become("healthy\n")) << proxy->admin("/clusters");
    // Without the certificate that is asked for, or with another authority, nobody is well.
    start(server.port(), checks + tls(mutual ? ca.pem() : other.pem(), nullptr));
    EXPECT_TRUE(flags_become("/failed_active_hc\n")) << proxy->admin("/clusters");
    EXPECT_GE(stat("health_check.network_failure"), 1u);
  }
}

TEST_F(HealthChecks, ByHttpOverTlsInBothVersions) {
  CertificateAuthority ca;
  const Certificate certificate = ca.issue("server", {"DNS:shop.example"});
  std::ofstream(dir / "cert.pem") << certificate.pem;
  std::ofstream(dir / "key.pem") << certificate.private_key;
  const std::string socket = dir / "nginx.sock";
  std::ofstream(dir / "nginx.conf") << "daemon off; master_process off; pid " << (dir / "pid") << ";\n"
                                    << "error_log stderr; events {}\nhttp {\n"
                                    << "log_format checks '$server_protocol $uri $ssl_server_name';\naccess_log "
                                    << (dir / "access") << " checks;\nclient_body_temp_path " << (dir / "body")
                                    << ";\nserver { listen unix:" << socket << " ssl http2; ssl_certificate "
                                    << (dir / "cert.pem") << "; ssl_certificate_key " << (dir / "key.pem")
                                    << "; location /healthz { return 204; } }\n}\n";
  Process nginx({"nginx", "-c", dir / "nginx.conf", "-p", dir.path().string(), "-e", "stderr"});
  ASSERT_TRUE(wait_until([&] { return Socket::connect_unix(socket).valid(); })) << nginx.output();
  for (const bool http2 : {false, true}) {
    const std::string check =
        std::string("health_checks: [{timeout: 5s, interval: 0.02s, no_traffic_interval: 0.02s, ") +
        "unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /healthz, " +
        "expected_statuses: [{start: 204, end: 205}]" + (http2 ? ", codec_client_type: HTTP2}}]\n" : "}}]\n");
    WireCase config;
    config.config = {{"cluster", check + tls(ca.pem(), nullptr)}};
    std::string yaml = config.bootstrap(1, dir / "log");
    const std::string address = "socket_address: {address: 127.0.0.1, port_value: 1}";
    ASSERT_NE(yaml.find(address), std::string::npos) << yaml;
    yaml.replace(yaml.find(address), address.size(), "pipe: {path: " + socket + "}");
    proxy = std::make_unique<ProxyProcess>(yaml);
    ASSERT_TRUE(proxy->started()) << proxy->output();
    EXPECT_TRUE(flags_become("healthy\n")) << proxy->admin("/clusters") << proxy->output();
    EXPECT_TRUE(wait_until([&] { return stat("health_check.success") > 3; }));
    EXPECT_EQ(stat("health_check.failure"), 0u);
    const std::string line = std::string(http2 ? "HTTP/2.0" : "HTTP/1.1") + " /healthz shop.example\n";
    EXPECT_TRUE(wait_until([&] { return read_file(dir / "access").find(line) != std::string::npos; })) << line;
  }
}

TEST_F(HealthChecks, AServiceThatTheServerDoesNotKnowFails) {
  HealthServer server;
  start(server.port(), kGrpcChecks);
  EXPECT_TRUE(flags_become("/failed_active_hc\n")) << proxy->admin("/clusters");
  EXPECT_EQ(stat("health_check.network_failure"), 0u);
}

TEST_F(HealthChecks, AnUnhealthyHostTakesNoRequestsUnlessInPanic) {
  std::atomic<bool> well = true;
  FakeUpstream server([&](Exchange& exchange) {
    exchange.respond(exchange.request.start_line.find("/healthz") != std::string::npos && !well ? 500 : 200);
  });
  const std::string checks =
      "health_checks: [{timeout: 5s, interval: 0.02s, no_traffic_interval: 0.02s, unhealthy_threshold: 1, "
      "healthy_threshold: 1, http_health_check: {path: /healthz}}]\n";
  start(server.port(), checks + "common_lb_config: {healthy_panic_threshold: {value: 0}}\n");
  EXPECT_EQ(http_get(proxy->listener_port("main"), "/").status(), 200) << "a cluster waits for its first checks";
  well = false;
  EXPECT_TRUE(flags_become("/failed_active_hc\n"));
  EXPECT_TRUE(wait_until([&] { return http_get(proxy->listener_port("main"), "/").status() == 503; }));
  EXPECT_TRUE(wait_until([&] {
    return read_file(dir / "log").find("503 UH no_healthy_upstream") != std::string::npos;
  })) << read_file(dir / "log");
  well = true;
  EXPECT_TRUE(wait_until([&] { return http_get(proxy->listener_port("main"), "/").status() == 200; }));

  well = false;
  start(server.port(), checks);
  EXPECT_TRUE(flags_become("/failed_active_hc\n"));
  EXPECT_EQ(http_get(proxy->listener_port("main"), "/").status(), 200) << "by default all hosts are used then";
  EXPECT_GE(stat("lb_healthy_panic"), 1u);
}

}  // namespace
}  // namespace outrigger::test
