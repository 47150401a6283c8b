// RawClient: a proxy as a stock gRPC stub sees the discovery service; for tests.
//
// Use:  RawClient client(port);  client.ask(cds_url);  auto response = client.read();  client.ack(response);
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace outrigger::control {

struct RawOptions {
  std::string node_id = "test-node", node_cluster = "test-cluster", user_agent = {};
  std::map<std::string, std::string> labels = {};  // the node's metadata has them below "labels"
  std::string token = {};                          // bearer
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
};

// Calls end after a minute, so that a test that waits in vain fails.
class RawClient {
  using Request = envoy::service::discovery::v3::DiscoveryRequest;
  using Response = envoy::service::discovery::v3::DiscoveryResponse;
  using Names = std::vector<std::string>;

 public:
  explicit RawClient(uint16_t port, const std::string& node_id = "test-node")
      : RawClient(port, RawOptions{.node_id = node_id}) {}
  RawClient(uint16_t port, RawOptions options) : options_(std::move(options)) {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), options_.credentials, args);
    stub_ = envoy::service::discovery::v3::AggregatedDiscoveryService::NewStub(channel_);
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    if (!options_.token.empty()) context_.AddMetadata("authorization", "Bearer " + options_.token);
    stream_ = stub_->StreamAggregatedResources(&context_);
  }
  ~RawClient() {
    if (finished_) return;
    context_.TryCancel();
    stream_->Finish();
  }

  bool ask(const std::string& url, const Names& names = {}, const std::string& version = "",
           const std::string& nonce = "", const std::string& error = "") {
    Request request;
    request.mutable_node()->set_id(options_.node_id);
    request.mutable_node()->set_cluster(options_.node_cluster);
    request.mutable_node()->set_user_agent_name(options_.user_agent);
    auto& metadata = *request.mutable_node()->mutable_metadata()->mutable_fields();
    for (const auto& [key, value] : options_.labels)
      (*metadata["labels"].mutable_struct_value()->mutable_fields())[key].set_string_value(value);
    request.set_type_url(url);
    request.set_version_info(version);
    request.set_response_nonce(nonce);
    for (const std::string& name : names) request.add_resource_names(name);
    if (!error.empty()) {
      request.mutable_error_detail()->set_code(3);
      request.mutable_error_detail()->set_message(error);
    }
    return stream_->Write(request);
  }
  Response read() {
    Response response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  // False: the stream has ended.
  bool try_read(Response& response) { return stream_->Read(&response); }
  bool ack(const Response& r, const Names& names = {}) { return ask(r.type_url(), names, r.version_info(), r.nonce()); }
  grpc::Status end() {
    Response rest;
    while (stream_->Read(&rest)) {
    }
    finished_ = true;
    return stream_->Finish();
  }

 private:
  const RawOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<envoy::service::discovery::v3::AggregatedDiscoveryService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream_;
  bool finished_ = false;
};

}  // namespace outrigger::control
