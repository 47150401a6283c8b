// Active health checks by the program: a stock gRPC server with its own health service, and hosts that come and go.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

// A server of Debian's gRPC library that has the health service and no other of use.
class HealthServer {
 public:
  HealthServer() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
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
