#include "config/strict.h"

#include <envoy/config/cluster/v3/cluster.pb.h>
#include <envoy/config/core/v3/base.pb.h>
#include <envoy/config/listener/v3/listener.pb.h>
#include <envoy/config/route/v3/route_components.pb.h>
#include <envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h>
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include <string>

namespace outrigger::config {
namespace {

using envoy::config::cluster::v3::Cluster;
using envoy::config::listener::v3::Listener;
using envoy::config::route::v3::FilterConfig;
using envoy::config::route::v3::VirtualHost;
using envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

void add_unknown(google::protobuf::Message& message, int number) {
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(number, 1);
}

std::string check(const google::protobuf::Message& message, UnknownFields mode = UnknownFields::kError) {
  Faults faults;
  const size_t unknown = check_strict(message, FieldPath("resources[0]"), faults, mode);
  EXPECT_EQ(unknown > 0 && mode == UnknownFields::kError, !faults.ok());
  return faults.str();
}

TEST(Strict, AcceptsWhatItKnows) {
  Cluster cluster;
  cluster.set_name("a");
  cluster.set_type(Cluster::EDS);
  EXPECT_EQ(check(cluster), "");
}

TEST(Strict, UnknownFieldsAtAnyDepth) {
  Cluster cluster;
  add_unknown(cluster, 999);
  add_unknown(*cluster.mutable_load_assignment()->add_endpoints()->add_lb_endpoints(), 77);
  EXPECT_EQ(check(cluster),
            "resources[0]: envoy.config.cluster.v3.Cluster has no supported field number 999\n"
            "resources[0].load_assignment.endpoints[0].lb_endpoints[0]: envoy.config.endpoint.v3.LbEndpoint has no "
            "supported field number 77\n");
}

TEST(Strict, UnknownEnumNumbers) {
  Cluster cluster;
  cluster.set_type(static_cast<Cluster::DiscoveryType>(7));
  cluster.set_lb_policy(static_cast<Cluster::LbPolicy>(2));
  EXPECT_EQ(check(cluster),
            "resources[0].type: envoy.config.cluster.v3.Cluster.DiscoveryType has no supported value 7\n"
            "resources[0].lb_policy: envoy.config.cluster.v3.Cluster.LbPolicy has no supported value 2\n");
}

TEST(Strict, InsideNestedAnys) {
  HttpConnectionManager manager;
  VirtualHost& host = *manager.mutable_route_config()->add_virtual_hosts();
  Cluster inner;
  add_unknown(inner, 5000);
  FilterConfig config;
  config.mutable_config()->PackFrom(inner);
  (*host.mutable_typed_per_filter_config())["x.y"].PackFrom(config);
  (*host.mutable_typed_per_filter_config())["z"].set_type_url("type.googleapis.com/no.such.Type");
  Listener listener;
  listener.add_filter_chains()->add_filters()->mutable_typed_config()->PackFrom(manager);
  const std::string faults = check(listener);
  const std::string path = "resources[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0]";
  EXPECT_NE(faults.find(path + ".typed_per_filter_config[\"x.y\"].config: envoy.config.cluster.v3.Cluster has no "
                               "supported field number 5000\n"),
            std::string::npos)
      << faults;
  EXPECT_NE(faults.find(path + ".typed_per_filter_config[\"z\"]: type no.such.Type is not supported\n"),
            std::string::npos)
      << faults;
}

TEST(Strict, BytesThatAreNotTheType) {
  Listener listener;
  auto& any = *listener.add_filter_chains()->add_filters()->mutable_typed_config();
  any.set_type_url("type.googleapis.com/envoy.config.cluster.v3.Cluster");
  any.set_value("\xff\xff\xff");
  Faults faults;
  EXPECT_EQ(check_strict(listener, FieldPath("l"), faults, UnknownFields::kWarn), 0U);
  EXPECT_EQ(faults.str(),
            "l.filter_chains[0].filters[0].typed_config: the bytes are not a valid envoy.config.cluster.v3.Cluster\n");
  any.clear_type_url();
  Faults untyped;
  check_strict(listener, FieldPath("l"), untyped, UnknownFields::kWarn);
  EXPECT_EQ(untyped.str(), "l.filter_chains[0].filters[0].typed_config: bytes without a type\n");
}

TEST(Strict, OptionalFiltersMayBeOfUnknownType) {
  HttpConnectionManager manager;
  auto& filter = *manager.add_http_filters();
  filter.mutable_typed_config()->set_type_url("type.googleapis.com/no.such.Type");
  EXPECT_NE(check(manager), "");
  filter.set_is_optional(true);
  EXPECT_EQ(check(manager), "");
}

TEST(Strict, WarnModeCounts) {
  Cluster cluster;
  add_unknown(cluster, 999);
  cluster.set_type(static_cast<Cluster::DiscoveryType>(7));
  Faults faults;
  EXPECT_EQ(check_strict(cluster, FieldPath("c"), faults, UnknownFields::kWarn), 2U);
  EXPECT_TRUE(faults.ok());
  ASSERT_EQ(faults.all().size(), 2U);
  EXPECT_TRUE(faults.all()[0].warning);
}

TEST(Strict, AnysInsideAnysAreBounded) {
  google::protobuf::Any any;
  any.PackFrom(Cluster());
  for (int i = 0; i < 1000; ++i) {
    google::protobuf::Any outer;
    outer.PackFrom(any);
    any = outer;
  }
  Faults faults;
  check_strict(any, FieldPath("a"), faults, UnknownFields::kError);
  EXPECT_EQ(faults.str(), "a: messages nested deeper than 32 levels\n");
}

}  // namespace
}  // namespace outrigger::config
