// AdsServer against a stock gRPC client: real sockets, raw discovery messages.
#include "outrigger/control/ads_server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "control/raw_client.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"
#include "envoy/service/status/v3/csds.grpc.pb.h"
#include "outrigger/control/v1/status.grpc.pb.h"
#include "support/sanitizers.h"
#include "support/wait.h"

namespace outrigger::control {
namespace {

using envoy::service::discovery::v3::AggregatedDiscoveryService;
using envoy::service::discovery::v3::DeltaDiscoveryRequest;
using envoy::service::discovery::v3::DeltaDiscoveryResponse;
using envoy::service::discovery::v3::DiscoveryResponse;
using test::wait_until;
using Names = std::vector<std::string>;

const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const std::string kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

class AdsServerTest : public ::testing::Test {
 protected:
  AdsServerTest() {
    AdsServerOptions options;
    options.on_connect = [this](const ClientInfo& c) { note("connect " + c.node_id + " " + c.node_cluster); };
    options.on_disconnect = [this](const ClientInfo& c) { note("disconnect " + c.node_id); };
    options.on_ack = [this](const ClientInfo& c, const Answer& a) { note("ack " + c.node_id + " " + a.version); };
    options.on_nack = [this](const ClientInfo&, const Answer& a) { note("nack " + a.version + " " + a.error); };
    server = std::make_unique<AdsServer>(cache, options);
    auto started = server->start("127.0.0.1:0");
    EXPECT_TRUE(started) << started.error().detail;
    port = started.value_or(0);
    EXPECT_NE(port, 0);
  }

  void serve(std::vector<Resource> resources) {
    auto made = ResourceSnapshot::make(std::move(resources), &cache.pool());
    ASSERT_TRUE(made);
    cache.set(*made);
  }
  std::string version(const std::string& url) { return cache.get()->find(url)->version; }
  void note(std::string what) {
    std::lock_guard lock(mutex);
    notes.push_back(std::move(what));
  }
  bool noted(const std::string& what) {
    return wait_until([&] {
      std::lock_guard lock(mutex);
      return std::find(notes.begin(), notes.end(), what) != notes.end();
    });
  }
  // Whether the one client has acknowledged what is served of that type.
  bool in_sync(const std::string& url) {
    return wait_until([&] {
      for (const ClientStatus& client : server->clients()) {
        for (const ClientTypeStatus& type : client.types) {
          if (type.type_url == url && type.acked_version == version(url)) return true;
        }
      }
      return false;
    });
  }

  std::mutex mutex;
  std::vector<std::string> notes;
  ResourceCache cache;
  std::unique_ptr<AdsServer> server;  // last: its hooks use the rest until it is gone
  uint16_t port = 0;
};

TEST_F(AdsServerTest, SubscribeAckChange) {
  serve({Resource::make(kCds, "a", "one")});
  RawClient client(port);
  ASSERT_TRUE(client.ask(kCds));
  const DiscoveryResponse first = client.read();
  EXPECT_EQ(first.type_url(), kCds);
  EXPECT_EQ(first.version_info(), version(kCds));
  EXPECT_EQ(first.control_plane().identifier(), "outrigger-control");
  ASSERT_EQ(first.resources_size(), 1);
  EXPECT_EQ(first.resources(0).type_url(), kCds);
  EXPECT_EQ(first.resources(0).value(), "one");
  client.ack(first);
  EXPECT_TRUE(noted("connect test-node test-cluster"));
  EXPECT_TRUE(noted("ack test-node " + first.version_info()));

  serve({Resource::make(kCds, "a", "two")});
  const DiscoveryResponse second = client.read();
  EXPECT_EQ(second.resources(0).value(), "two");
  client.ack(second);
  EXPECT_TRUE(in_sync(kCds));
}

// Our own service's and Envoy's words for the same client.
TEST_F(AdsServerTest, StatusIsToldOverGrpc) {
  namespace csds = envoy::service::status::v3;
  const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
  const auto own = [&] {
    v1::StatusResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(v1::ProxyStatusService::NewStub(channel)->GetStatus(&context, {}, &response).ok());
    return response;
  };
  const auto envoys = [&] {
    csds::ClientStatusResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(csds::ClientStatusDiscoveryService::NewStub(channel)->FetchClientStatus(&context, {}, &response).ok());
    return response;
  };
  serve({Resource::make(kCds, "a", "one"), Resource::make(kCds, "b", "one")});
  EXPECT_EQ(own().proxies_size(), 0);
  RawClient client(port);
  ASSERT_TRUE(client.ask(kCds, {"a", "b", "none"}));
  const DiscoveryResponse first = client.read();
  {
    const auto told = own();
    ASSERT_EQ(told.proxies_size(), 1);
    EXPECT_EQ(told.control_plane(), "outrigger-control");
    EXPECT_EQ(told.proxies(0).node_id(), "test-node");
    EXPECT_EQ(told.proxies(0).served_version(), cache.get()->version());
    EXPECT_TRUE(told.proxies(0).types(0).awaiting_answer());
    EXPECT_FALSE(told.proxies(0).in_sync());
    EXPECT_EQ(envoys().config(0).generic_xds_configs(0).config_status(), csds::NOT_SENT);
  }
  client.ack(first, {"a", "b", "none"});
  EXPECT_TRUE(wait_until([&] { return own().proxies(0).in_sync(); }));
  EXPECT_GT(own().proxies(0).types(0).answered_unix_ms(), 0);
  {
    const auto told = envoys();
    ASSERT_EQ(told.config_size(), 1);
    ASSERT_EQ(told.config(0).generic_xds_configs_size(), 3);
    EXPECT_EQ(told.config(0).node().id(), "test-node");
    EXPECT_EQ(told.config(0).generic_xds_configs(0).name(), "a");
    EXPECT_EQ(told.config(0).generic_xds_configs(0).config_status(), csds::SYNCED);
    EXPECT_EQ(told.config(0).generic_xds_configs(0).client_status(), envoy::admin::v3::ACKED);
    EXPECT_EQ(told.config(0).generic_xds_configs(2).client_status(), envoy::admin::v3::DOES_NOT_EXIST);
  }
  serve({Resource::make(kCds, "a", "two"), Resource::make(kCds, "b", "one")});
  const DiscoveryResponse second = client.read();
  client.ask(kCds, {"a", "b", "none"}, first.version_info(), second.nonce(), "no good");
  EXPECT_TRUE(wait_until([&] { return own().proxies(0).types(0).nacks() == 1; }));
  {
    const auto told = envoys().config(0);
    EXPECT_EQ(told.generic_xds_configs(0).config_status(), csds::ERROR);
    EXPECT_EQ(told.generic_xds_configs(0).client_status(), envoy::admin::v3::NACKED);
    EXPECT_EQ(told.generic_xds_configs(0).error_state().details(), "no good");
    EXPECT_EQ(told.generic_xds_configs(0).error_state().version_info(), second.version_info());
    EXPECT_EQ(told.generic_xds_configs(1).config_status(), csds::SYNCED) << "b has not changed";
    EXPECT_FALSE(own().proxies(0).in_sync());
  }
  serve({Resource::make(kCds, "a", "three"), Resource::make(kCds, "b", "one")});
  client.ack(client.read(), {"a", "b", "none"});
  EXPECT_TRUE(wait_until([&] { return own().proxies(0).in_sync(); }));
  EXPECT_EQ(own().proxies(0).types(0).last_nack(), "no good") << "remembered";

  // What is not honoured is refused, not ignored; a stream answers each request.
  csds::ClientStatusRequest matching;
  matching.GetReflection()->MutableUnknownFields(&matching)->AddLengthDelimited(1, "");
  csds::ClientStatusResponse response;
  grpc::ClientContext context, streaming;
  const auto stub = csds::ClientStatusDiscoveryService::NewStub(channel);
  EXPECT_EQ(stub->FetchClientStatus(&context, matching, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  auto stream = stub->StreamClientStatus(&streaming);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(stream->Write({}) && stream->Read(&response));
    EXPECT_EQ(response.config_size(), 1);
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(AdsServerTest, NackIsNotedAndNotAnswered) {
  serve({Resource::make(kCds, "a", "one")});
  RawClient client(port);
  client.ask(kCds);
  const DiscoveryResponse first = client.read();
  client.ask(kCds, {}, "", first.nonce(), "no good");
  EXPECT_TRUE(noted("nack " + first.version_info() + " no good"));
  const auto status = server->clients().at(0).types.at(0);
  EXPECT_EQ(status.refusal, "no good");
  EXPECT_EQ(status.nacks, 1u);
  EXPECT_FALSE(status.awaiting_answer) << "nothing was sent again";
  serve({Resource::make(kCds, "a", "two")});
  EXPECT_EQ(client.read().resources(0).value(), "two");
}

TEST_F(AdsServerTest, MoreNames) {
  serve({Resource::make(kEds, "a", "A"), Resource::make(kEds, "b", "B")});
  RawClient client(port);
  client.ask(kEds, {"a"});
  const DiscoveryResponse first = client.read();
  ASSERT_EQ(first.resources_size(), 1);
  client.ack(first, {"a", "b"});
  const DiscoveryResponse second = client.read();
  ASSERT_EQ(second.resources_size(), 1);
  EXPECT_EQ(second.resources(0).value(), "B");
}

TEST_F(AdsServerTest, Incremental) {
  serve({Resource::make(kCds, "a", "A"), Resource::make(kCds, "b", "B")});
  auto stub = AggregatedDiscoveryService::NewStub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  auto stream = stub->DeltaAggregatedResources(&context);
  DeltaDiscoveryRequest request;
  request.mutable_node()->set_id("delta");
  request.set_type_url(kCds);
  request.add_resource_names_subscribe("*");
  ASSERT_TRUE(stream->Write(request));
  DeltaDiscoveryResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.resources_size(), 2);
  EXPECT_EQ(response.resources(0).name(), "a");
  EXPECT_EQ(response.resources(0).resource().value(), "A");
  request.Clear();
  request.set_type_url(kCds);
  request.set_response_nonce(response.nonce());
  ASSERT_TRUE(stream->Write(request));
  serve({Resource::make(kCds, "b", "B2")});
  ASSERT_TRUE(stream->Read(&response));
  ASSERT_EQ(response.resources_size(), 1);
  EXPECT_EQ(response.resources(0).resource().value(), "B2");
  ASSERT_EQ(response.removed_resources_size(), 1);
  EXPECT_EQ(response.removed_resources(0), "a");
  context.TryCancel();
  stream->Finish();
}

TEST_F(AdsServerTest, AClientThatNeverReadsIsOwedOnlyTheLatestState) {
  // A megabyte that does not fit HTTP/2's window, changed a hundred times; an instrumented program is not done with so
  // many before the call's deadline on a busy machine.
  constexpr int kChanges = test::kInstrumented ? 20 : 100;
  serve({Resource::make(kCds, "a", std::string(1 << 20, 'x'))});
  RawClient deaf(port, "deaf");
  deaf.ask(kCds);
  RawClient good(port, "good");
  good.ask(kCds);
  std::string last;
  for (int i = 0; i < kChanges; ++i) {
    const DiscoveryResponse response = good.read();
    last = response.version_info();
    good.ack(response);
    if (i < kChanges - 1) serve({Resource::make(kCds, "a", std::string(1 << 20, 'x') + std::to_string(i))});
  }
  EXPECT_EQ(last, version(kCds)) << "the deaf one held nobody up";
  const DiscoveryResponse first = deaf.read();
  EXPECT_EQ(first.resources(0).value(), std::string(1 << 20, 'x'));
  deaf.ack(first);
  EXPECT_EQ(deaf.read().version_info(), last) << "nothing in between was kept for it";
}

TEST_F(AdsServerTest, FiftyClientsGetEveryChange) {
  serve({Resource::make(kCds, "a", "0")});
  std::vector<std::thread> threads;
  std::atomic<int> at_end = 0;
  for (int i = 0; i < 50; ++i) {
    threads.emplace_back([this, i, &at_end] {
      RawClient client(port, "node-" + std::to_string(i));
      client.ask(kCds);
      while (true) {
        const DiscoveryResponse response = client.read();
        if (response.resources_size() != 1) return;
        client.ack(response);
        if (response.resources(0).value() == "20") break;
      }
      ++at_end;
    });
  }
  for (int i = 1; i <= 20; ++i) serve({Resource::make(kCds, "a", std::to_string(i))});
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(at_end, 50);
  EXPECT_TRUE(wait_until([&] { return server->clients().empty(); })) << "gone clients are forgotten";
  EXPECT_TRUE(noted("disconnect node-49"));
}

TEST_F(AdsServerTest, GarbageEndsTheStream) {
  RawClient client(port);
  client.ask("");
  const grpc::Status status = client.end();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_message().find("type_url"), std::string::npos);
}

TEST_F(AdsServerTest, StopEndsStreamsAndFreesThePort) {
  serve({Resource::make(kCds, "a", "one")});
  RawClient client(port);
  client.ask(kCds);
  client.read();
  server->stop();
  EXPECT_EQ(client.end().error_code(), grpc::StatusCode::UNAVAILABLE);
  AdsServer next(cache);
  auto started = next.start("127.0.0.1:" + std::to_string(port));
  ASSERT_TRUE(started) << started.error().detail;
  EXPECT_EQ(*started, port);
}

TEST_F(AdsServerTest, ATakenPortIsRefused) {
  AdsServer other(cache);
  const auto started = other.start("127.0.0.1:" + std::to_string(port));
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().detail.find(std::to_string(port)), std::string::npos);
}

TEST_F(AdsServerTest, GroupsAreServedApart) {
  AdsServer grouped(cache, {.group_of = [](const ClientInfo& c) { return c.node_id; }});
  auto started = grouped.start("127.0.0.1:0");
  ASSERT_TRUE(started);
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "for x")}), "x");
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "for y")}), "y");
  RawClient x(*started, "x"), y(*started, "y"), z(*started, "z");
  x.ask(kCds);
  y.ask(kCds);
  z.ask(kCds);
  EXPECT_EQ(x.read().resources(0).value(), "for x");
  EXPECT_EQ(y.read().resources(0).value(), "for y");
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "at last")}), "z");
  EXPECT_EQ(z.read().resources(0).value(), "at last");
}

}  // namespace
}  // namespace outrigger::control
