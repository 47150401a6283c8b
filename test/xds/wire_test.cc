#include "xds/wire.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "envoy/service/discovery/v3/discovery.pb.h"

namespace outrigger::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;

TEST(Wire, RequestHasEveryField) {
  envoy::config::core::v3::Node node;
  node.set_id("n1");
  Request request{.type = Type::kEndpoints, .version = "v", .names = {"a", "b"}, .nonce = "7", .with_node = true};
  discovery::DiscoveryRequest message;
  ASSERT_TRUE(message.ParseFromString(encode_request(request, node.SerializeAsString())));
  EXPECT_EQ(message.type_url(), "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
  EXPECT_EQ(message.version_info(), "v");
  EXPECT_EQ(message.resource_names_size(), 2);
  EXPECT_EQ(message.response_nonce(), "7");
  EXPECT_EQ(message.node().id(), "n1");
  EXPECT_FALSE(message.has_error_detail());

  request.with_node = false;
  request.error_detail = "why";
  ASSERT_TRUE(message.ParseFromString(encode_request(request, node.SerializeAsString())));
  EXPECT_FALSE(message.has_node());
  EXPECT_EQ(message.error_detail().code(), 3);
  EXPECT_EQ(message.error_detail().message(), "why");
}

TEST(Wire, DeltaRequestHasEveryField) {
  envoy::config::core::v3::Node node;
  node.set_id("n1");
  const Request request{.type = Type::kEndpoints,
                        .subscribe = {"a", "b"},
                        .unsubscribe = {"c"},
                        .held = {{"a", "1"}, {"d", "2"}},
                        .nonce = "7",
                        .error_detail = "why",
                        .with_node = true};
  discovery::DeltaDiscoveryRequest message;
  ASSERT_TRUE(message.ParseFromString(encode_delta_request(request, node.SerializeAsString())));
  EXPECT_EQ(message.type_url(), type_url(Type::kEndpoints));
  EXPECT_EQ(message.node().id(), "n1");
  EXPECT_EQ(message.resource_names_subscribe_size(), 2);
  EXPECT_EQ(message.resource_names_unsubscribe(0), "c");
  EXPECT_EQ(message.initial_resource_versions().at("d"), "2");
  EXPECT_EQ(message.response_nonce(), "7");
  EXPECT_EQ(message.error_detail().message(), "why");
}

TEST(Wire, DeltaResponseHasEveryField) {
  discovery::DeltaDiscoveryResponse message;
  message.set_system_version_info("s1");
  message.set_nonce("n1");
  message.set_type_url(std::string(type_url(Type::kCluster)));
  message.add_removed_resources("gone");
  discovery::Resource* full = message.add_resources();
  full->set_name("a");
  full->set_version("1");
  full->mutable_resource()->set_type_url("t/Inner");
  full->mutable_resource()->set_value("bytes");
  discovery::Resource* beat = message.add_resources();
  beat->set_name("b");
  beat->mutable_ttl()->set_seconds(INT64_MAX);
  discovery::Resource* past = message.add_resources();
  past->mutable_ttl()->set_seconds(-5);

  const auto response = decode_delta_response(message.SerializeAsString());
  ASSERT_TRUE(response);
  EXPECT_EQ(response->version, "s1");
  EXPECT_EQ(response->nonce, "n1");
  EXPECT_EQ(response->removed, std::vector<std::string>{"gone"});
  ASSERT_EQ(response->resources.size(), 3u);
  EXPECT_EQ(response->resources[0].name, "a");
  EXPECT_EQ(response->resources[0].version, "1");
  EXPECT_EQ(response->resources[0].type_url, "t/Inner");
  EXPECT_EQ(response->resources[0].bytes, "bytes");
  EXPECT_FALSE(response->resources[0].heartbeat);
  EXPECT_TRUE(response->resources[1].heartbeat);
  EXPECT_GT(response->resources[1].ttl_ms, 1'000'000'000u) << "cut to a length that does not overflow";
  EXPECT_LT(response->resources[1].ttl_ms, 1'000'000'000'000u);
  EXPECT_EQ(response->resources[2].ttl_ms, 0u);
  EXPECT_FALSE(decode_delta_response("\x0A\xFFgarbage"));
}

TEST(Wire, ErrorDetailIsCleanUtf8AndBounded) {
  Request request{.error_detail = "ok \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 | \xFF \xC3 \xED\xA0\x80 \xC0\x80"};
  discovery::DiscoveryRequest message;
  ASSERT_TRUE(message.ParseFromString(encode_request(request, "")));
  EXPECT_EQ(message.error_detail().message(), "ok \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 | ? ? ??? ??");

  request.error_detail.assign(5 << 20, 'x');
  ASSERT_TRUE(message.ParseFromString(encode_request(request, "")));
  EXPECT_LT(message.error_detail().message().size(), kMaxErrorDetailBytes + 100);
  EXPECT_NE(message.error_detail().message().find("more bytes cut"), std::string::npos);
}

TEST(Wire, ResponseUnwrapsResources) {
  discovery::DiscoveryResponse message;
  message.set_version_info("v1");
  message.set_nonce("n1");
  message.set_type_url(std::string(type_url(Type::kCluster)));
  message.mutable_control_plane()->set_identifier("cp");
  google::protobuf::Any* plain = message.add_resources();
  plain->set_type_url("t/Plain");
  plain->set_value("plain bytes");
  discovery::Resource wrapped;
  wrapped.set_name("name");
  wrapped.set_version("rv");
  wrapped.mutable_ttl()->set_seconds(2);
  wrapped.mutable_resource()->set_type_url("t/Inner");
  wrapped.mutable_resource()->set_value("inner bytes");
  message.add_resources()->PackFrom(wrapped);

  const auto response = decode_response(message.SerializeAsString());
  ASSERT_TRUE(response);
  EXPECT_EQ(response->version, "v1");
  EXPECT_EQ(response->nonce, "n1");
  EXPECT_EQ(response->type_url, type_url(Type::kCluster));
  EXPECT_EQ(response->control_plane, "cp");
  ASSERT_EQ(response->resources.size(), 2u);
  EXPECT_EQ(response->resources[0].type_url, "t/Plain");
  EXPECT_EQ(response->resources[0].bytes, "plain bytes");
  EXPECT_EQ(response->resources[1].name, "name");
  EXPECT_EQ(response->resources[1].version, "rv");
  EXPECT_EQ(response->resources[1].ttl_ms, 2'000u);
  EXPECT_EQ(response->resources[1].type_url, "t/Inner");
  EXPECT_EQ(response->resources[1].bytes, "inner bytes");
}

TEST(Wire, GarbageIsAProtocolError) {
  const auto response = decode_response("\x0A\xFFgarbage");
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code, Errc::kProtocol);
}

TEST(Types, UrlsRoundTrip) {
  for (size_t i = 0; i < kTypeCount; ++i) {
    EXPECT_EQ(find_type(type_url(static_cast<Type>(i))), static_cast<Type>(i));
  }
  EXPECT_FALSE(find_type("type.googleapis.com/envoy.config.cluster.v2.Cluster"));
}

// By the schemas, which wire_facts_test compares with the API.
TEST(Types, StreamMethodsAreTheServices) {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  for (const bool incremental : {false, true}) {
    std::vector<std::optional<Type>> all = {std::nullopt};
    for (size_t i = 0; i < kTypeCount; ++i) all.emplace_back(static_cast<Type>(i));
    for (const std::optional<Type> only : all) {
      std::string name = stream_method(only, incremental);
      ASSERT_EQ(name[0], '/');
      name.erase(0, 1);
      name[name.find('/')] = '.';
      const auto* method = pool->FindMethodByName(name);
      ASSERT_NE(method, nullptr) << name;
      EXPECT_TRUE(method->client_streaming() && method->server_streaming());
      EXPECT_EQ(method->input_type()->name(), incremental ? "DeltaDiscoveryRequest" : "DiscoveryRequest") << name;
    }
  }
}

}  // namespace
}  // namespace outrigger::xds
