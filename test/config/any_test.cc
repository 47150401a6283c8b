#include "config/any.h"

#include <envoy/config/cluster/v3/cluster.pb.h>
#include <envoy/config/core/v3/base.pb.h>
#include <envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.pb.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <string>

#include "config/proto_dump.h"

namespace outrigger::config {
namespace {

using envoy::config::cluster::v3::Cluster;
using envoy::config::core::v3::Node;

TEST(Any, TypeNames) {
  EXPECT_EQ(type_name("type.googleapis.com/a.b.C"), "a.b.C");
  EXPECT_EQ(type_name("a.b.C"), "a.b.C");
  EXPECT_EQ(type_name(""), "");
  EXPECT_EQ(find_type("envoy.config.cluster.v3.Cluster"), Cluster::descriptor());
  EXPECT_EQ(find_type("a.b.C"), nullptr);
  EXPECT_EQ(find_type(""), nullptr);
}

TEST(Any, UnpacksWhatWasPacked) {
  Cluster cluster;
  cluster.set_name("a");
  google::protobuf::Any any;
  pack(cluster, any);
  EXPECT_EQ(any.type_url(), "type.googleapis.com/envoy.config.cluster.v3.Cluster");
  Cluster out;
  Faults faults;
  EXPECT_TRUE(unpack_to(any, out, FieldPath("x"), faults));
  EXPECT_EQ(out.name(), "a");
  const std::unique_ptr<google::protobuf::Message> message = unpack(any, FieldPath("x"), faults);
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->GetDescriptor(), Cluster::descriptor());
  EXPECT_TRUE(faults.ok());
}

TEST(Any, FaultsSayWhatWasExpected) {
  google::protobuf::Any any;
  Cluster cluster;
  Faults faults;
  EXPECT_FALSE(unpack_to(any, cluster, FieldPath("x"), faults));
  EXPECT_EQ(unpack(any, FieldPath("x"), faults), nullptr);
  any.PackFrom(Node());
  EXPECT_FALSE(unpack_to(any, cluster, FieldPath("x"), faults));
  any.set_type_url("a.b.C");
  EXPECT_EQ(unpack(any, FieldPath("x"), faults), nullptr);
  any.set_type_url("envoy.config.cluster.v3.Cluster");
  any.set_value("\xff");
  EXPECT_FALSE(unpack_to(any, cluster, FieldPath("x"), faults));
  EXPECT_EQ(faults.str(),
            "x: a message of type envoy.config.cluster.v3.Cluster is expected, nothing is given\n"
            "x: a typed message is expected, nothing is given\n"
            "x: expected type envoy.config.cluster.v3.Cluster, got envoy.config.core.v3.Node\n"
            "x: type a.b.C is not supported\n"
            "x: the bytes are not a valid envoy.config.cluster.v3.Cluster\n");
}

TEST(ProtoDump, BytesDoNotDependOnMapOrder) {
  envoy::config::core::v3::Metadata a;
  envoy::config::core::v3::Metadata b;
  for (int i = 0; i < 50; ++i) (*a.mutable_filter_metadata())[std::to_string(i)];
  for (int i = 49; i >= 0; --i) (*b.mutable_filter_metadata())[std::to_string(i)];
  EXPECT_EQ(deterministic_bytes(a), deterministic_bytes(b));
  EXPECT_EQ(deterministic_bytes(Node()), "");
}

TEST(ProtoDump, JsonExpandsAnysAndMatchesProtobufsOwn) {
  Node node;
  node.set_id("a \"quoted\" \\ line\nend\x01");
  auto& fields = *node.mutable_metadata()->mutable_fields();
  fields["list"].mutable_list_value()->add_values()->set_number_value(1.5);
  fields["null"].set_null_value(google::protobuf::NULL_VALUE);
  fields["yes"].set_bool_value(true);
  fields["empty"].mutable_struct_value();
  Cluster cluster;
  cluster.set_name("c");
  cluster.set_type(Cluster::EDS);
  cluster.mutable_connect_timeout()->set_nanos(250'000'000);
  cluster.mutable_per_connection_buffer_limit_bytes()->set_value(7);
  (*cluster.mutable_typed_extension_protocol_options())["k"].PackFrom(node);
  google::protobuf::Duration duration;
  duration.set_seconds(3);
  (*cluster.mutable_typed_extension_protocol_options())["d"].PackFrom(duration);
  // Protobuf's own reader understands the text and makes the same message of it.
  Cluster back;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(to_json(cluster), &back).ok()) << to_json(cluster);
  EXPECT_EQ(to_json(back), to_json(cluster));
  EXPECT_EQ(back.connect_timeout().nanos(), 250'000'000);
  Node inner;
  ASSERT_TRUE(back.typed_extension_protocol_options().at("k").UnpackTo(&inner));
  EXPECT_EQ(inner.id(), node.id());
  EXPECT_EQ(inner.metadata().fields_size(), 4);
}

TEST(ProtoDump, JsonLooksAsItShould) {
  Cluster cluster;
  cluster.set_name("c");
  cluster.mutable_load_assignment()->add_endpoints();
  (*cluster.mutable_typed_extension_protocol_options())["u"].set_type_url("x.y/no.such.Type");
  (*cluster.mutable_typed_extension_protocol_options())["u"].set_value("foo!");
  EXPECT_EQ(to_json(cluster),
            "{\n"
            "  \"name\": \"c\",\n"
            "  \"load_assignment\": {\n"
            "    \"endpoints\": [\n"
            "      {}\n"
            "    ]\n"
            "  },\n"
            "  \"typed_extension_protocol_options\": {\n"
            "    \"u\": {\n"
            "      \"@type\": \"x.y/no.such.Type\",\n"
            "      \"value\": \"Zm9vIQ==\"\n"
            "    }\n"
            "  }\n"
            "}");
  EXPECT_EQ(to_json(Cluster()), "{}");
}

TEST(ProtoDump, SecretsAreRedacted) {
  envoy::extensions::filters::http::api_key_auth::v3::ApiKeyAuth auth;
  auth.add_credentials()->set_key("s3cret");
  google::protobuf::Any any;
  any.PackFrom(auth);
  const std::string json = to_json(any);
  EXPECT_EQ(json.find("s3cret"), std::string::npos);
  EXPECT_NE(json.find("[redacted]"), std::string::npos);
}

TEST(ProtoDump, AnysInsideAnysAreBounded) {
  google::protobuf::Any any;
  any.PackFrom(Cluster());
  for (int i = 0; i < 1000; ++i) {
    google::protobuf::Any outer;
    outer.PackFrom(any);
    any = outer;
  }
  EXPECT_FALSE(to_json(any).empty());
}

}  // namespace
}  // namespace outrigger::config
