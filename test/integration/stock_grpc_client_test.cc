// A program that nobody here wrote: Debian's gRPC C++ library as xDS client (`xds:///name`) of the control plane. It
// finds a real service by it, follows its endpoints, and keeps what it has when an update is refused.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <future>
#include <set>

#include "support/grpc_bytes.h"
#include "support/grpc_reactor.h"
#include "support/process.h"
#include "support/resources.h"

namespace outrigger::test {
namespace {

// A gRPC service that answers every unary call with its name.
class NamedService : public grpc::CallbackGenericService {
 public:
  explicit NamedService(std::string name) : name_(std::move(name)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~NamedService() override { server_->Shutdown(std::chrono::system_clock::now()); }
  uint16_t port() const { return static_cast<uint16_t>(port_); }

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    class Reactor : public ReactorInTurn {
     public:
      explicit Reactor(const std::string& name) : answer_(bytes_of(name)) {
        begin([this] { StartRead(&request_); });
      }

     private:
      void on_read(bool ok) override {
        if (ok) {
          StartWriteAndFinish(&answer_, {}, grpc::Status::OK);
        } else {
          Finish({grpc::StatusCode::INVALID_ARGUMENT, "no request"});
        }
      }
      grpc::ByteBuffer request_, answer_;
    };
    return new Reactor(name_);
  }

 private:
  const std::string name_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class StockGrpcClient : public ::testing::Test {
 protected:
  void SetUp() override {
    write_file(dir_ / "listener.yaml", resource_file({api_listener_resource("greeter", "greeter_routes")}));
    write_file(
        dir_ / "routes.yaml",
        resource_file({routes_resource("greeter_routes", "- match: {prefix: /}\n  route: {cluster: greeters}\n")}));
    write_file(dir_ / "clusters.yaml", resource_file({eds_cluster_resource("greeters")}));
    write_endpoints({one_.port(), two_.port()});
    control_ = std::make_unique<ControlProcess>(dir_.path());
    ASSERT_TRUE(control_->started()) << control_->output();
    const std::string bootstrap =
        "{\"xds_servers\": [{\"server_uri\": \"127.0.0.1:" + std::to_string(control_->port()) +
        "\", \"channel_creds\": [{\"type\": \"insecure\"}], \"server_features\": "
        "[\"xds_v3\"]}], \"node\": {\"id\": \"stock-client\"}}";
    // As GRPC_XDS_BOOTSTRAP, but for this channel alone: the variable is read once in a process's life.
    ::setenv("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.c_str(), 1);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel_ = grpc::CreateCustomChannel("xds:///greeter", grpc::InsecureChannelCredentials(), arguments);
  }
  void write_endpoints(const std::vector<uint16_t>& ports) {
    write_file(dir_ / "endpoints.yaml", resource_file({weighted_endpoints_resource("greeters", ports)}));
  }

  // What a service answered; "code: text" if the call failed.
  std::string call() {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const grpc::ByteBuffer request = bytes_of("hello");
    grpc::ByteBuffer answer;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, "/demo.Greeter/Greet", {}, &request, &answer,
                   [&](grpc::Status status) { done.set_value(std::move(status)); });
    const grpc::Status status = done.get_future().get();
    return status.ok() ? text_of(answer) : std::to_string(status.error_code()) + ": " + status.error_message();
  }
  // The names that answer in a few calls.
  std::set<std::string> callers() {
    std::set<std::string> names;
    for (int i = 0; i < 8; ++i) names.insert(call());
    return names;
  }

  TempDir dir_;
  NamedService one_{"one"}, two_{"two"};
  std::unique_ptr<ControlProcess> control_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(StockGrpcClient, FindsAServiceAndFollowsItsEndpoints) {
  using Names = std::set<std::string>;
  EXPECT_TRUE(wait_until([&] { return callers() == Names{"one", "two"}; }));
  write_endpoints({two_.port()});
  EXPECT_TRUE(wait_until([&] { return callers() == Names{"two"}; })) << "the withdrawal was not followed";
  write_endpoints({one_.port()});
  EXPECT_TRUE(wait_until([&] { return callers() == Names{"one"}; }));
}

TEST_F(StockGrpcClient, KeepsWhatItHasWhenAFileIsRefused) {
  EXPECT_FALSE(callers().empty());
  write_file(dir_ / "endpoints.yaml", "resources: [{\"@type\": nonsense");
  ASSERT_TRUE(control_->process().wait_for_output("endpoints\\.yaml")) << control_->output();
  for (const std::string& name : callers()) EXPECT_TRUE(name == "one" || name == "two") << name;
  write_endpoints({one_.port()});
  EXPECT_TRUE(wait_until([&] { return callers() == std::set<std::string>{"one"}; }));
}

// What is right for a proxy need not be so for this client: it does not know this policy, says so, and calls on.
TEST_F(StockGrpcClient, WhatItRefusesIsNamedAndItCallsOn) {
  EXPECT_FALSE(callers().empty());
  write_file(dir_ / "clusters.yaml", resource_file({eds_cluster_resource("greeters", "lb_policy: LEAST_REQUEST\n")}));
  ASSERT_TRUE(control_->process().wait_for_output("NACK of Cluster .*stock-client")) << control_->output();
  const auto status = [&] { return control_status(control_->port()); };
  EXPECT_TRUE(wait_until([&] { return status().find("refused Cluster") != std::string::npos; })) << status();
  EXPECT_NE(status().find("stock-client"), std::string::npos) << status();
  for (const std::string& name : callers()) EXPECT_TRUE(name == "one" || name == "two") << name;
  write_file(dir_ / "clusters.yaml", resource_file({eds_cluster_resource("greeters", "lb_policy: ROUND_ROBIN\n")}));
  write_endpoints({two_.port()});
  EXPECT_TRUE(wait_until([&] { return callers() == std::set<std::string>{"two"}; })) << control_->output();
}

}  // namespace
}  // namespace outrigger::test
