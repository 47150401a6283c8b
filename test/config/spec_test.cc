#include "config/spec.h"

#include <gtest/gtest.h>

#include "config/names.h"

namespace outrigger::config {
namespace {

TEST(Spec, ResourceTypesAndNames) {
  for (size_t i = 0; i < kResourceTypeCount; ++i) {
    const auto type = static_cast<ResourceType>(i);
    EXPECT_EQ(find_resource_type(type_url(type)), type);
  }
  EXPECT_EQ(find_resource_type("type.googleapis.com/envoy.config.route.v3.Route"), std::nullopt);
  EXPECT_EQ(resource_name(ListenerSpec{.name = "l"}), "l");
  EXPECT_EQ(resource_name(RouteTableSpec{.name = "r"}), "r");
  EXPECT_EQ(resource_name(ClusterSpec{.name = "c"}), "c");
  EXPECT_EQ(resource_name(EndpointsSpec{.cluster_name = "e"}), "e");
  EXPECT_EQ(Spec(EndpointsSpec()).index(), static_cast<size_t>(ResourceType::kEndpoints));
}

TEST(Spec, ConnectionManagersCompareTheirTablesByValue) {
  HcmSpec a, b;
  EXPECT_EQ(a, b);
  a.route_table = std::make_shared<const RouteTableSpec>(RouteTableSpec{.name = "t"});
  EXPECT_NE(a, b);
  b.route_table = std::make_shared<const RouteTableSpec>(RouteTableSpec{.name = "t"});
  EXPECT_EQ(a, b);
  b.route_table = std::make_shared<const RouteTableSpec>(RouteTableSpec{.name = "u"});
  EXPECT_NE(a, b);
}

// HcmSpec compares its members by hand; a member that is added must be added there too. When this fails, extend
// comparable() in spec.cc, then this number.
TEST(Spec, ConnectionManagersCompareEveryMember) {
  EXPECT_EQ(sizeof(HcmSpec), 592u);
  HcmSpec h;
  h.http2.max_concurrent_streams = 1;
  EXPECT_NE(h, HcmSpec());
  HcmSpec u;
  u.upgrades = {{.type = "websocket"}};
  EXPECT_NE(u, HcmSpec());
  HcmSpec a;
  a.merge_slashes = true;
  EXPECT_NE(a, HcmSpec());
  HcmSpec c;
  c.client_cert_details.uri = true;
  EXPECT_NE(c, HcmSpec());
  HcmSpec b;
  b.internal_cidrs.push_back({.prefix = "10.0.0.0", .length = 8});
  EXPECT_NE(b, HcmSpec());
}

TEST(StateRegistry, KeepsStateWhileHeldAndForgetsItAfterwards) {
  StateRegistry states;
  auto first = states.find_or_make<int>("a", [] { return std::make_shared<int>(1); });
  auto second = states.find_or_make<int>("a", [] { return std::make_shared<int>(2); });
  EXPECT_EQ(first, second);
  states.sweep();
  EXPECT_EQ((states.find_or_make<int>("a", [] { return std::make_shared<int>(3); })), first);
  first.reset();
  second.reset();
  states.sweep();
  EXPECT_EQ(*(states.find_or_make<int>("a", [] { return std::make_shared<int>(4); })), 4);
}

TEST(FilterNameId, IsStableAndDistinct) {
  const uint16_t a = filter_name_id("spec_test.a");
  EXPECT_NE(a, filter_name_id("spec_test.b"));
  EXPECT_EQ(a, filter_name_id("spec_test.a"));
  EXPECT_NE(a, kNoFilterId);
}

TEST(Names, Headers) {
  EXPECT_TRUE(is_header_name("x-a_b.c~1"));
  for (const char* bad : {"", "a b", "a:b", ":path", "a\n", "ä"}) EXPECT_FALSE(is_header_name(bad)) << bad;
  EXPECT_TRUE(is_header_or_pseudo_name(":path"));
  EXPECT_FALSE(is_header_or_pseudo_name(":"));
  EXPECT_FALSE(is_header_name(std::string(16'385, 'a')));
  EXPECT_TRUE(is_header_value("a\tb ä"));
  EXPECT_FALSE(is_header_value("a\rb"));
  EXPECT_FALSE(is_header_value(std::string_view("a\0b", 3)));
}

TEST(Names, Addresses) {
  EXPECT_EQ(ip_version("127.0.0.1"), IpVersion::kV4);
  EXPECT_EQ(ip_version("::1"), IpVersion::kV6);
  for (const char* bad : {"", "127.1", "localhost", "[::1]", "1.2.3.4.5", "fe80::1%eth0"})
    EXPECT_EQ(ip_version(bad), IpVersion::kNone) << bad;
  for (const char* good : {"a", "localhost", "my_service.default.svc.cluster.local", "a.b."})
    EXPECT_TRUE(is_dns_name(good)) << good;
  for (const char* bad : {"", ".", "a..b", ".a", "a b", "a:80", "http://a"}) EXPECT_FALSE(is_dns_name(bad)) << bad;
  EXPECT_FALSE(is_dns_name(std::string(64, 'a')));
}

}  // namespace
}  // namespace outrigger::config
