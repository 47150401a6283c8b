#include "config/proto_reader.h"

#include <envoy/config/bootstrap/v3/bootstrap.pb.h>
#include <envoy/config/cluster/v3/cluster.pb.h>
#include <envoy/config/core/v3/base.pb.h>
#include <envoy/config/listener/v3/listener.pb.h>
#include <envoy/config/route/v3/route.pb.h>
#include <envoy/config/route/v3/route_components.pb.h>
#include <envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h>
#include <envoy/service/discovery/v3/discovery.pb.h>
#include <envoy/type/v3/range.pb.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <gtest/gtest.h>

#include <string>

namespace outrigger::config {
namespace {

using envoy::config::bootstrap::v3::Bootstrap;
using envoy::config::cluster::v3::Cluster;
using envoy::config::core::v3::DataSource;
using envoy::config::core::v3::Node;
using envoy::config::route::v3::RouteAction;
using envoy::config::route::v3::VirtualHost;
using envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
using envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

// What the text reads as, in protobuf's short form; or the faults.
template <class T>
std::string read(std::string_view text, UnknownFields mode = UnknownFields::kError) {
  T message;
  Faults faults;
  const bool ok = read_yaml(text, "f", message, faults, mode);
  EXPECT_EQ(ok, faults.ok());
  return faults.all().empty() ? message.ShortDebugString() : faults.str();
}

constexpr std::string_view kBootstrap = R"(
node: {id: sidecar-1, cluster: web, metadata: {app: shop, replicas: 3, canary: false, tags: [a, null, 1.5]}}
admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: 9901}
static_resources:
  listeners:
  - name: ingress
    address:
      socket_address: {address: 0.0.0.0, portValue: "10000"}
    filterChains:
      filters:
        name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: HTTP1
          stat_prefix: 8080
          stream_idle_timeout: 0.25s
          requestTimeout: {seconds: 300}
          use_remote_address: yes
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: "*"
              routes:
              - match: {prefix: /}
                route: {cluster: service}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": "envoy.extensions.filters.http.router.v3.Router"}
  clusters:
  - name: service
    type: STRICT_DNS
    connect_timeout: 1s
)";

TEST(ProtoReader, ReadsABootstrap) {
  Bootstrap bootstrap;
  Faults faults;
  ASSERT_TRUE(read_yaml(kBootstrap, "f", bootstrap, faults)) << faults.str();
  const auto& listener = bootstrap.static_resources().listeners(0);
  EXPECT_EQ(listener.address().socket_address().port_value(), 10000U);
  HttpConnectionManager manager;
  ASSERT_TRUE(listener.filter_chains(0).filters(0).typed_config().UnpackTo(&manager));
  EXPECT_EQ(manager.codec_type(), HttpConnectionManager::HTTP1);
  EXPECT_EQ(manager.stat_prefix(), "8080");
  EXPECT_EQ(manager.stream_idle_timeout().nanos(), 250'000'000);
  EXPECT_EQ(manager.request_timeout().seconds(), 300);
  EXPECT_TRUE(manager.use_remote_address().value());
  EXPECT_EQ(manager.route_config().virtual_hosts(0).domains(0), "*");
  EXPECT_EQ(manager.http_filters(0).typed_config().type_url(),
            "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router");
  const auto& metadata = bootstrap.node().metadata().fields();
  EXPECT_EQ(metadata.at("app").string_value(), "shop");
  EXPECT_EQ(metadata.at("replicas").number_value(), 3);
  EXPECT_EQ(metadata.at("canary").kind_case(), google::protobuf::Value::kBoolValue);
  EXPECT_EQ(metadata.at("tags").list_value().values(1).kind_case(), google::protobuf::Value::kNullValue);
}

TEST(ProtoReader, ReadsJson) {
  EXPECT_EQ(read<Node>("{\n\t\"id\": \"a\\/b \\u00e9\",\n\t\"userAgentName\": \"x\"\n}"),
            "id: \"a/b \\303\\251\" user_agent_name: \"x\"");
  EXPECT_EQ(read<Node>(R"({"id":"a","locality":{"zone":"z"},"client_features":["p","q"]})"),
            R"(id: "a" locality { zone: "z" } client_features: "p" client_features: "q")");
}

TEST(ProtoReader, ReportsAllFaultsWithLinesAndPaths) {
  std::string text(kBootstrap);
  auto replace = [&](std::string_view from, std::string_view to) {
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
  };
  replace("\"10000\"", "70000000000");
  replace("codec_type: HTTP1", "codec_type: HTTP3");
  replace("0.25s", "5ms");
  replace("name: envoy.filters.http.router", "nmae: envoy.filters.http.router");
  replace("type: STRICT_DNS", "type: strict_dns");
  EXPECT_EQ(
      [&] {
        Bootstrap bootstrap;
        Faults faults;
        EXPECT_FALSE(read_yaml(text, "b.yaml", bootstrap, faults));
        return faults.str();
      }(),
      "b.yaml:10: static_resources.listeners[0].address.socket_address.port_value: \"70000000000\" is out of range "
      "(0 to 4294967295)\n"
      "b.yaml:16: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.codec_type: "
      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.CodecType has no supported "
      "value \"HTTP3\"; did you mean HTTP1?\n"
      "b.yaml:18: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stream_idle_timeout: \"5ms\" "
      "is not a duration; write seconds, such as 300s or 0.25s\n"
      "b.yaml:30: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].nmae: "
      "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter has no supported field of this name; did "
      "you mean name?\n"
      "b.yaml:34: static_resources.clusters[0].type: envoy.config.cluster.v3.Cluster.DiscoveryType has no supported "
      "value \"strict_dns\"; did you mean STRICT_DNS?\n");
}

TEST(ProtoReader, WrongKinds) {
  EXPECT_EQ(read<Node>("id: {a: 1}"), "f:1: id: expected a string, got a mapping\n");
  EXPECT_EQ(read<Node>("id: [a]"), "f:1: id: expected a string, got a list\n");
  EXPECT_EQ(read<Node>("locality: 5"),
            "f:1: locality: expected a mapping (envoy.config.core.v3.Locality), got a scalar\n");
  EXPECT_EQ(read<Node>("metadata: 5"), "f:1: metadata: expected a mapping, got a scalar\n");
  EXPECT_EQ(read<VirtualHost>("typed_per_filter_config: [1]"),
            "f:1: typed_per_filter_config: expected a mapping, got a list\n");
  EXPECT_EQ(read<Node>("? {a: 1}\n: 2"), "f:1: a field name is expected, got a mapping\n");
  EXPECT_EQ(read<Cluster>("ignore_health_on_host_removal: 1"),
            "f:1: ignore_health_on_host_removal: expected true or false, got \"1\"\n");
  EXPECT_EQ(read<Cluster>("per_connection_buffer_limit_bytes: 1.5"),
            "f:1: per_connection_buffer_limit_bytes: expected an integer, got \"1.5\"\n");
  EXPECT_EQ(read<Cluster>("per_connection_buffer_limit_bytes: {value: 1}"),
            "f:1: per_connection_buffer_limit_bytes: expected an integer, got a mapping\n");
}

TEST(ProtoReader, IntegersAtTheirLimits) {
  using envoy::type::v3::Int64Range;
  EXPECT_EQ(read<Int64Range>("start: '-9223372036854775808'\nend: 9223372036854775807"),
            "start: -9223372036854775808 end: 9223372036854775807");
  EXPECT_EQ(read<Int64Range>("start: -9223372036854775809"),
            "f:1: start: \"-9223372036854775809\" is out of range (-9223372036854775808 to 9223372036854775807)\n");
  EXPECT_EQ(read<Cluster>("per_connection_buffer_limit_bytes: -1"),
            "f:1: per_connection_buffer_limit_bytes: \"-1\" is out of range (0 to 4294967295)\n");
}

TEST(ProtoReader, NullIsAbsent) {
  EXPECT_EQ(read<Node>("id: null\ncluster:\nlocality: ~\nclient_features: null"), "");
  EXPECT_EQ(read<Node>("id: 'null'"), "id: \"null\"");
  EXPECT_EQ(read<RouteAction>("cluster: null\ncluster_header: x-c"), "cluster_header: \"x-c\"");
  EXPECT_EQ(read<Node>("client_features: [a, null]"),
            "f:1: client_features[1]: null is not a value of a list or a map\n");
}

TEST(ProtoReader, DuplicatesAndOneofs) {
  EXPECT_EQ(read<Node>("id: a\nid: b"), "f:2: id: given twice, first on line 1\n");
  EXPECT_EQ(read<Node>("userAgentName: a\n\nuser_agent_name: b"),
            "f:3: user_agent_name: given twice, first on line 1\n");
  EXPECT_EQ(read<RouteAction>("cluster: a\ncluster_header: b"),
            "f:2: cluster_header: cluster is given already (line 1); only one of \"cluster_specifier\" may be\n");
  EXPECT_EQ(read<Node>("metadata: {a: 1, b: 2, a: 3}"), "f:1: metadata[\"a\"]: given twice, first on line 1\n");
  EXPECT_EQ(read<envoy::config::core::v3::Metadata>("filter_metadata:\n  x: {}\n  x: {}"),
            "f:3: filter_metadata[\"x\"]: given twice, first on line 2\n");
}

TEST(ProtoReader, Enums) {
  EXPECT_EQ(read<Cluster>("type: 3"), "type: EDS");
  EXPECT_EQ(read<Cluster>("type: EDS"), "type: EDS");
  EXPECT_EQ(read<Cluster>("type: 5"),
            "f:1: type: envoy.config.cluster.v3.Cluster.DiscoveryType has no supported value \"5\"; there are STATIC, "
            "STRICT_DNS, LOGICAL_DNS, EDS, ORIGINAL_DST\n");
  EXPECT_EQ(
      read<Cluster>("type: 99999999999"),
      "f:1: type: envoy.config.cluster.v3.Cluster.DiscoveryType has no supported value \"99999999999\"; there are "
      "STATIC, STRICT_DNS, LOGICAL_DNS, EDS, ORIGINAL_DST\n");
}

TEST(ProtoReader, BytesAreBase64AndNotShownWhenWrong) {
  EXPECT_EQ(read<DataSource>("inline_bytes: Zm9v"), "inline_bytes: \"foo\"");
  EXPECT_EQ(read<DataSource>("inline_bytes: s3cret!"), "f:1: inline_bytes: not valid base64\n");
}

TEST(ProtoReader, AnchorsAndMergeKeys) {
  EXPECT_EQ(
      read<Node>("locality: &l {region: r, zone: z}\nmetadata: {a: *l}"),
      "metadata { fields { key: \"a\" value { struct_value { fields { key: \"region\" value { string_value: \"r\" } } "
      "fields { key: \"zone\" value { string_value: \"z\" } } } } } } locality { region: \"r\" zone: \"z\" }");
  const std::string clusters =
      "static_resources:\n"
      "  clusters:\n"
      "  - &base {name: a, connectTimeout: 1s, type: STATIC}\n"
      "  - <<: *base\n"
      "    name: b\n"
      "    connect_timeout: 2s\n";
  EXPECT_EQ(read<Bootstrap>(clusters),
            "static_resources { clusters { name: \"a\" type: STATIC connect_timeout { seconds: 1 } } clusters { name: "
            "\"b\" type: STATIC connect_timeout { seconds: 2 } } }");
  EXPECT_EQ(read<Node>("<<: 5\nid: a"), "f:1: a merge key takes a mapping or a list of mappings\n");
}

TEST(ProtoReader, AliasBombsStopEarly) {
  std::string text = "metadata:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 20; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "  a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 9; ++j) text += ", " + before;
    text += "]\n";
  }
  const std::string faults = read<Node>(text);
  EXPECT_NE(faults.find("aliases make this file larger than 2000000 nodes"), std::string::npos) << faults;
}

TEST(ProtoReader, DeepAliasesStopAtTheDepthLimit) {
  std::string text = "metadata:\n  a0: &a0 {x: 1}\n";
  for (int i = 1; i < 200; ++i) {
    text += "  a" + std::to_string(i) + ": &a" + std::to_string(i) + " {x: *a" + std::to_string(i - 1) + "}\n";
  }
  EXPECT_NE(read<Node>(text).find("nested deeper than 100 levels"), std::string::npos);
}

TEST(ProtoReader, MergeBombsStopEarly) {
  std::string text = "metadata:\n  a0: &a0 {x: 1}\n";
  for (int i = 1; i < 60; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "  a" + std::to_string(i) + ": &a" + std::to_string(i) + " {<<: [" + before + ", " + before + "]}\n";
  }
  EXPECT_NE(read<Node>(text).find("larger than 2000000 nodes"), std::string::npos);
}

TEST(ProtoReader, ManyFaultsAreCounted) {
  std::string text = "client_features:\n";
  for (size_t i = 0; i < kMaxReadFaults + 500; ++i) text += "- {a: 1}\n";
  Node node;
  Faults faults;
  EXPECT_FALSE(read_yaml(text, "f", node, faults));
  ASSERT_EQ(faults.all().size(), kMaxReadFaults + 1);
  EXPECT_EQ(faults.all().back().str(), "f: 500 more faults");
}

TEST(ProtoReader, LongValuesAreCutInMessages) {
  const std::string faults = read<Cluster>("type: " + std::string(10'000, 'x'));
  EXPECT_LT(faults.size(), 300U);
}

TEST(ProtoReader, StructScalars) {
  EXPECT_EQ(read<Node>("metadata: {a: yes, b: 'true', c: True, d: 0x10, e: '5', f: .inf, g: 1_0}"), [] {
    Node node;
    auto& f = *node.mutable_metadata()->mutable_fields();
    f["a"].set_string_value("yes");
    f["b"].set_string_value("true");
    f["c"].set_bool_value(true);
    f["d"].set_number_value(16);
    f["e"].set_string_value("5");
    f["f"].set_string_value(".inf");
    f["g"].set_string_value("1_0");
    return node.ShortDebugString();
  }());
}

TEST(ProtoReader, TimestampsAndDurations) {
  EXPECT_EQ(read<Cluster>("connect_timeout: {seconds: 1, nanos: -5}"),
            "f:1: connect_timeout: not a duration: seconds or nanos are out of range\n");
  EXPECT_EQ(read<Cluster>("connect_timeout: 5"),
            "f:1: connect_timeout: \"5\" is not a duration; write seconds, such as 300s or 0.25s\n");
}

TEST(ProtoReader, TimestampText) {
  HttpFilter filter;
  Faults faults;
  ASSERT_TRUE(read_yaml("typed_config: {\"@type\": google.protobuf.Timestamp, value: 2025-01-31T13:45:00Z}", "f",
                        filter, faults));
  google::protobuf::Timestamp time;
  ASSERT_TRUE(filter.typed_config().UnpackTo(&time));
  EXPECT_EQ(time.seconds(), 1738331100);
  EXPECT_EQ(read<HttpFilter>("typed_config: {\"@type\": google.protobuf.Timestamp, value: today}"),
            "f:1: typed_config.value: \"today\" is not a time; write 2025-01-31T13:45:00Z\n");
}

class AnyReaderTest : public ::testing::Test {
 protected:
  static std::string filter(std::string_view typed_config, std::string_view more = "",
                            UnknownFields mode = UnknownFields::kError) {
    return read<HttpFilter>("name: a\n" + std::string(more) + "typed_config: " + std::string(typed_config), mode);
  }
};

TEST_F(AnyReaderTest, NeedsAKnownType) {
  EXPECT_EQ(filter("{}"), "f:2: typed_config: \"@type\" is missing; it names the message's type\n");
  EXPECT_EQ(filter("5"), "f:2: typed_config: expected a mapping with \"@type\", got a scalar\n");
  EXPECT_EQ(filter("{\"@type\": [a]}"),
            "f:2: typed_config: \"@type\" names a message type, such as "
            "type.googleapis.com/envoy.config.cluster.v3.Cluster\n");
  EXPECT_EQ(filter("{\"@type\": type.googleapis.com/a.b.C, x: 1}"), "f:2: typed_config: type a.b.C is not supported\n");
  EXPECT_EQ(filter("{\"@type\": type.googleapis.com/xds.type.v3.TypedStruct, value: {}}"),
            "f:2: typed_config: type xds.type.v3.TypedStruct is not supported\n");
}

TEST_F(AnyReaderTest, UnknownTypesOfOptionalFiltersAndInWarnMode) {
  const std::string expected = "name: \"a\" typed_config { type_url: \"type.googleapis.com/a.b.C\" }";
  EXPECT_EQ(filter("{\"@type\": a.b.C, x: 1}", "is_optional: true\n"), expected + " is_optional: true");
  EXPECT_EQ(filter("{\"@type\": a.b.C, x: 1}", "", UnknownFields::kWarn),
            "f:2: typed_config: type a.b.C is not supported\n");
  HttpFilter message;
  Faults faults;
  EXPECT_TRUE(
      read_yaml("name: a\nbogus: 1\ntyped_config: {\"@type\": a.b.C}", "f", message, faults, UnknownFields::kWarn));
  EXPECT_EQ(faults.all().size(), 2U);
  EXPECT_TRUE(faults.all()[0].warning);
  EXPECT_EQ(message.ShortDebugString(), expected);
}

TEST_F(AnyReaderTest, WellKnownTypesStandUnderValue) {
  EXPECT_EQ(filter("{\"@type\": google.protobuf.Duration, value: 1.5s}").substr(0, 9), "name: \"a\"");
  EXPECT_EQ(filter("{\"@type\": google.protobuf.Duration, seconds: 1}"),
            "f:2: typed_config.seconds: a google.protobuf.Duration inside an Any stands under \"value\"\n");
  EXPECT_EQ(filter("{\"@type\": google.protobuf.Any, value: {\"@type\": google.protobuf.BoolValue, value: maybe}}"),
            "f:2: typed_config.value.value: expected true or false, got \"maybe\"\n");
}

TEST_F(AnyReaderTest, FaultsInsideHavePlainPaths) {
  EXPECT_EQ(filter("{\"@type\": envoy.config.core.v3.Node, id: a, bogus: 1}"),
            "f:2: typed_config.bogus: envoy.config.core.v3.Node has no supported field of this name\n");
}

TEST(ProtoReader, MapsOfMessages) {
  EXPECT_EQ(read<VirtualHost>("typed_per_filter_config:\n"
                              "  envoy.filters.http.x: {\"@type\": envoy.config.core.v3.Node, bogus: 1}\n"),
            "f:2: typed_per_filter_config[\"envoy.filters.http.x\"].bogus: envoy.config.core.v3.Node has no supported "
            "field of this name\n");
  VirtualHost host;
  Faults faults;
  ASSERT_TRUE(
      read_yaml("typed_per_filter_config:\n"
                "  a: {\"@type\": envoy.config.core.v3.Node, id: x}\n"
                "  b: {\"@type\": envoy.config.core.v3.Node, id: y}\n",
                "f", host, faults))
      << faults.str();
  ASSERT_EQ(host.typed_per_filter_config_size(), 2);
  Node node;
  ASSERT_TRUE(host.typed_per_filter_config().at("b").UnpackTo(&node));
  EXPECT_EQ(node.id(), "y");
}

class ResourceFileTest : public ::testing::Test {
 protected:
  std::vector<ReadResource> read(std::string_view text) {
    EXPECT_TRUE(document_.parse(text, "r.yaml", file_faults_)) << file_faults_.str();
    return read_resources(document_, version_, file_faults_);
  }

  YamlDocument document_;
  std::string version_;
  Faults file_faults_;
};

TEST_F(ResourceFileTest, ABadResourceLeavesTheOthers) {
  const std::vector<ReadResource> all = read(
      "version_info: 7\n"
      "resources:\n"
      "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
      "  name: good\n"
      "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
      "  name: bad\n"
      "  typo: 1\n"
      "- {name: untyped}\n"
      "- \"@type\": no.such.Type\n");
  EXPECT_TRUE(file_faults_.all().empty()) << file_faults_.str();
  EXPECT_EQ(version_, "7");
  ASSERT_EQ(all.size(), 4U);
  EXPECT_TRUE(all[0].faults.ok());
  EXPECT_EQ(all[0].type_url, "type.googleapis.com/envoy.config.cluster.v3.Cluster");
  Cluster cluster;
  ASSERT_TRUE(cluster.ParseFromString(all[1].bytes));
  EXPECT_EQ(cluster.name(), "bad");
  EXPECT_EQ(all[1].path, "resources[1]");
  EXPECT_EQ(all[1].line, 5);
  EXPECT_EQ(all[1].faults.str(),
            "r.yaml:7: resources[1].typo: envoy.config.cluster.v3.Cluster has no supported field of this name; did you "
            "mean type?\n");
  EXPECT_EQ(all[2].faults.str(), "r.yaml:8: resources[2]: \"@type\" is missing; it names the message's type\n");
  EXPECT_EQ(all[2].type_url, "");
  EXPECT_EQ(all[3].faults.str(), "r.yaml:9: resources[3]: type no.such.Type is not supported\n");
}

TEST_F(ResourceFileTest, TopLevelFaultsAreTheFiles) {
  const std::vector<ReadResource> all = read(
      "resource: []\n"
      "resources: {\"@type\": envoy.config.cluster.v3.Cluster, name: only}\n"
      "resources: []\n");
  EXPECT_EQ(file_faults_.str(),
            "r.yaml:1: resource: envoy.service.discovery.v3.DiscoveryResponse has no supported field of this name; did "
            "you mean resources?\n"
            "r.yaml:3: resources: given twice, first on line 2\n");
  ASSERT_EQ(all.size(), 1U);
  EXPECT_TRUE(all[0].faults.ok());
}

TEST_F(ResourceFileTest, NoResources) {
  EXPECT_TRUE(read("resources:\n").empty());
  EXPECT_TRUE(file_faults_.ok());
}

TEST_F(ResourceFileTest, AnAliasBombIsTheFiles) {
  std::string text =
      "resources:\n- {\"@type\": envoy.config.core.v3.Node, metadata: {a: &a0 [1, 1, 1, 1, 1, 1, 1, 1]}}\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "- {\"@type\": envoy.config.core.v3.Node, metadata: {a: &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 7; ++j) text += ", " + before;
    text += "]}}\n";
  }
  EXPECT_TRUE(read(text).empty());
  EXPECT_EQ(file_faults_.str(), "r.yaml:1: resources: aliases make this file larger than 2000000 nodes\n");
}

}  // namespace
}  // namespace outrigger::config
