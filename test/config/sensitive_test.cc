#include "config/sensitive.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "config/any.h"
#include "config/proto_dump.h"
#include "config/proto_reader.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/core/v3/grpc_service.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/common.pb.h"

namespace outrigger::config {
namespace {

namespace auth = envoy::extensions::filters::http::api_key_auth::v3;

auth::ApiKeyAuth keys() {
  auth::ApiKeyAuth message;
  auto* credential = message.add_credentials();
  credential->set_key("hush-hush");
  credential->set_client("mobile");
  message.add_key_sources()->set_header("x-api-key");
  return message;
}

std::string type_url_of(const google::protobuf::Message& message) {
  return "type.googleapis.com/" + message.GetDescriptor()->full_name();
}

TEST(Sensitive, EveryListedFieldExists) {
  for (const SensitiveField& secret : sensitive_fields()) {
    const auto* type = find_type(secret.message);
    ASSERT_NE(type, nullptr) << secret.message;
    const auto* field = type->FindFieldByName(std::string(secret.field));
    ASSERT_NE(field, nullptr) << secret.field;
    EXPECT_TRUE(is_sensitive(*field));
  }
  EXPECT_FALSE(is_sensitive(*auth::Credential::descriptor()->FindFieldByName("client")));
}

TEST(Sensitive, RedactsAKey) {
  auth::ApiKeyAuth message = keys();
  redact(message);
  EXPECT_EQ(message.credentials(0).key(), kRedacted);
  EXPECT_EQ(message.credentials(0).client(), "mobile");
  EXPECT_EQ(message.key_sources(0).header(), "x-api-key");
  redact(message);
  EXPECT_EQ(message.credentials(0).key(), kRedacted);
}

// As in a listener (an Any in an Any) and in a route's typed_per_filter_config (an Any in a map).
TEST(Sensitive, RedactsInsideNestedAnysAndMaps) {
  envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager manager;
  auto* filter = manager.add_http_filters();
  filter->set_name("keys");
  pack(keys(), *filter->mutable_typed_config());
  envoy::config::route::v3::FilterConfig wrapper;
  pack(keys(), *wrapper.mutable_config());
  auto* host = manager.mutable_route_config()->add_virtual_hosts();
  pack(wrapper, (*host->mutable_typed_per_filter_config())["keys"]);
  envoy::config::listener::v3::Listener listener;
  pack(manager, *listener.add_filter_chains()->add_filters()->mutable_typed_config());
  ASSERT_NE(listener.SerializeAsString().find("hush-hush"), std::string::npos);

  redact(listener);
  EXPECT_EQ(listener.SerializeAsString().find("hush-hush"), std::string::npos);
  Faults faults;
  ASSERT_TRUE(unpack_to(listener.filter_chains(0).filters(0).typed_config(), manager, {}, faults));
  auth::ApiKeyAuth inner;
  ASSERT_TRUE(unpack_to(manager.http_filters(0).typed_config(), inner, {}, faults));
  EXPECT_EQ(inner.credentials(0).key(), kRedacted);
  EXPECT_EQ(inner.credentials(0).client(), "mobile");
  const auto& per_filter = manager.route_config().virtual_hosts(0).typed_per_filter_config();
  ASSERT_TRUE(unpack_to(per_filter.at("keys"), wrapper, {}, faults));
  ASSERT_TRUE(unpack_to(wrapper.config(), inner, {}, faults));
  EXPECT_EQ(inner.credentials(0).key(), kRedacted);
}

TEST(Sensitive, RedactsHeadersSentToAControlPlane) {
  envoy::config::bootstrap::v3::Bootstrap bootstrap;
  auto* service = bootstrap.mutable_dynamic_resources()->mutable_ads_config()->add_grpc_services();
  service->mutable_envoy_grpc()->set_cluster_name("xds");
  auto* header = service->add_initial_metadata();
  header->set_key("authorization");
  header->set_value("Bearer hush-hush");
  EXPECT_EQ(to_json(bootstrap).find("hush-hush"), std::string::npos);
  redact(bootstrap);
  EXPECT_EQ(bootstrap.SerializeAsString().find("hush-hush"), std::string::npos);
  EXPECT_EQ(service->envoy_grpc().cluster_name(), "xds");
}

// Of a key in a file, or in a variable, only the name is told.
TEST(Sensitive, NamesOfWhereAKeyIsAreNoKeys) {
  namespace tls = envoy::extensions::transport_sockets::tls::v3;
  tls::TlsCertificate message;
  message.mutable_private_key()->set_filename("/etc/certs/tls.key");
  EXPECT_FALSE(may_hold_secrets(type_url_of(message), message.SerializeAsString()));
  message.mutable_private_key()->set_environment_variable("TLS_KEY");
  EXPECT_FALSE(may_hold_secrets(type_url_of(message), message.SerializeAsString()));
  for (const bool bytes : {false, true}) {
    if (bytes)
      message.mutable_private_key()->set_inline_bytes("hush-hush");
    else
      message.mutable_private_key()->set_inline_string("hush-hush");
    EXPECT_TRUE(may_hold_secrets(type_url_of(message), message.SerializeAsString()));
    redact(message);
    EXPECT_EQ(message.SerializeAsString().find("hush-hush"), std::string::npos);
  }
  envoy::config::core::v3::GrpcService::GoogleGrpc::SslCredentials client;
  client.mutable_private_key()->set_filename("/etc/certs/client.key");
  redact(client);
  EXPECT_EQ(client.private_key().filename(), "/etc/certs/client.key");
}

TEST(Sensitive, DropsWhatCannotBeJudged) {
  envoy::config::listener::v3::Listener listener;
  auto* filter = listener.add_filter_chains()->add_filters();
  filter->mutable_typed_config()->set_type_url("type.googleapis.com/example.Unknown");
  filter->mutable_typed_config()->set_value("hush-hush");
  auto* broken = listener.mutable_filter_chains(0)->add_filters()->mutable_typed_config();
  broken->set_type_url("type.googleapis.com/envoy.config.listener.v3.Listener");
  broken->set_value("\x0a\xffhush-hush");
  listener.GetReflection()->MutableUnknownFields(&listener)->AddLengthDelimited(1000, "hush-hush");
  // Anys without end.
  google::protobuf::Any deep;
  pack(keys(), deep);
  for (int i = 0; i < 100; ++i) {
    google::protobuf::Any outer;
    pack(deep, outer);
    deep = outer;
  }
  *listener.mutable_filter_chains(0)->add_filters()->mutable_typed_config() = deep;
  ASSERT_NE(listener.SerializeAsString().find("hush-hush"), std::string::npos);

  redact(listener);
  EXPECT_EQ(listener.SerializeAsString().find("hush-hush"), std::string::npos);
  EXPECT_EQ(filter->typed_config().type_url(), "type.googleapis.com/example.Unknown");
  EXPECT_EQ(filter->typed_config().value(), "");
  EXPECT_EQ(broken->value(), "");
}

TEST(Sensitive, DumpsAndFaultsOfTheReaderDoNotShowKeys) {
  EXPECT_EQ(to_json(keys()).find("hush-hush"), std::string::npos);
  EXPECT_NE(to_json(keys()).find("mobile"), std::string::npos);
  // A key of the wrong kind is named by its path, not by its content.
  for (const char* text :
       {"credentials: [{key: [hush-hush, hush-hush], client: c}]", "credentials: [{key: {hush-hush: 1}, client: c}]",
        "credentials: [{key: \"hush-hush\\xff\"}]"}) {
    auth::ApiKeyAuth message;
    Faults faults;
    read_yaml(text, "keys.yaml", message, faults);
    EXPECT_EQ(faults.str().find("hush-hush"), std::string::npos) << faults.str();
  }
}

}  // namespace
}  // namespace outrigger::config
