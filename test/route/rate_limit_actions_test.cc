#include "config/rate_limit_actions.h"

#include <gtest/gtest.h>

#include "support/route_harness.h"

namespace outrigger::test {
namespace {

using config::Descriptor;
using config::RateLimitActionSpec;
using config::RateLimitPolicy;
using Kind = RateLimitActionSpec::Kind;

class RateLimitActions : public testing::Test {
 protected:
  // The descriptor as "key=value ..." of the actions; "none" if there is none.
  std::string descriptor(std::vector<RateLimitActionSpec> actions) {
    const RateLimitPolicy policy({.actions = std::move(actions)});
    Descriptor out;
    if (!policy.descriptor(*headers_, info_, "local", arena_, out)) return "none";
    std::string text;
    for (const auto& entry : out.entries)
      text += (text.empty() ? "" : " ") + std::string(entry.key) + "=" + std::string(entry.value);
    return text;
  }

  Headers headers_{
      {{":path", "/p?user=a%20b&n=1"}, {":authority", "h"}, {"x-user", "alice"}, {"x-user", "bob"}, {"env", "prod"}}};
  StreamInfo info_{.cluster = "upstream", .downstream_remote_address = "10.1.2.3:4567"};
  Arena arena_;
};

TEST_F(RateLimitActions, Kinds) {
  EXPECT_EQ(descriptor({{.kind = Kind::kSourceCluster}}), "source_cluster=local");
  EXPECT_EQ(descriptor({{.kind = Kind::kDestinationCluster}}), "destination_cluster=upstream");
  EXPECT_EQ(descriptor({{.kind = Kind::kRequestHeaders, .descriptor_key = "user", .name = "x-user"}}), "user=alice");
  EXPECT_EQ(descriptor({{.kind = Kind::kRequestHeaders, .descriptor_key = "host", .name = "host"}}), "host=h");
  EXPECT_EQ(descriptor({{.kind = Kind::kRemoteAddress}}), "remote_address=10.1.2.3");
  EXPECT_EQ(descriptor({{.kind = Kind::kGenericKey, .descriptor_value = "v"}}), "generic_key=v");
  EXPECT_EQ(descriptor({{.kind = Kind::kGenericKey, .descriptor_key = "k", .descriptor_value = "v"}}), "k=v");
  EXPECT_EQ(descriptor({{.kind = Kind::kQueryParameters, .descriptor_key = "u", .name = "user"}}), "u=a b");
}

TEST_F(RateLimitActions, OneDescriptorOfSeveralActions) {
  EXPECT_EQ(descriptor({{.kind = Kind::kGenericKey, .descriptor_value = "v"}, {.kind = Kind::kRemoteAddress}}),
            "generic_key=v remote_address=10.1.2.3");
}

TEST_F(RateLimitActions, AbsentHeadersAndParameters) {
  const RateLimitActionSpec always{.kind = Kind::kGenericKey, .descriptor_value = "v"};
  EXPECT_EQ(descriptor({always, {.kind = Kind::kRequestHeaders, .descriptor_key = "k", .name = "none"}}), "none");
  EXPECT_EQ(
      descriptor(
          {always, {.kind = Kind::kRequestHeaders, .descriptor_key = "k", .name = "none", .skip_if_absent = true}}),
      "generic_key=v");
  EXPECT_EQ(descriptor({always, {.kind = Kind::kQueryParameters, .descriptor_key = "k", .name = "none"}}), "none");
  EXPECT_EQ(
      descriptor(
          {always, {.kind = Kind::kQueryParameters, .descriptor_key = "k", .name = "none", .skip_if_absent = true}}),
      "generic_key=v");
  EXPECT_EQ(
      descriptor({{.kind = Kind::kRequestHeaders, .descriptor_key = "k", .name = "none", .skip_if_absent = true}}),
      "none");
}

TEST_F(RateLimitActions, ValueMatches) {
  const config::HeaderMatchSpec prod{
      .name = "env", .kind = config::HeaderMatchSpec::Kind::kString, .string = {.value = "prod"}};
  RateLimitActionSpec action{.kind = Kind::kHeaderValueMatch, .descriptor_value = "v", .headers = {prod}};
  EXPECT_EQ(descriptor({action}), "header_match=v");
  action.expect_match = false;
  EXPECT_EQ(descriptor({action}), "none");

  RateLimitActionSpec query{.kind = Kind::kQueryParameterValueMatch, .descriptor_key = "k", .descriptor_value = "v"};
  query.query_parameters = {{.name = "user", .string = config::StringMatchSpec{.value = "a b"}}};
  EXPECT_EQ(descriptor({query}), "k=v");
  query.query_parameters[0].string->value = "c";
  EXPECT_EQ(descriptor({query}), "none");
  query.expect_match = false;
  query.descriptor_key.clear();
  EXPECT_EQ(descriptor({query}), "query_match=v");
}

TEST_F(RateLimitActions, RemoteAddresses) {
  const auto masked = [&](uint32_t v4, uint32_t v6) {
    return descriptor({{.kind = Kind::kMaskedRemoteAddress, .v4_prefix = v4, .v6_prefix = v6}});
  };
  EXPECT_EQ(masked(16, 128), "masked_remote_address=10.1.0.0/16");
  EXPECT_EQ(masked(32, 128), "masked_remote_address=10.1.2.3/32");
  EXPECT_EQ(masked(0, 128), "masked_remote_address=0.0.0.0/0");
  EXPECT_EQ(masked(23, 128), "masked_remote_address=10.1.2.0/23");
  info_.downstream_remote_address = "[2001:db8:1:2:3::4]:80";
  EXPECT_EQ(masked(32, 48), "masked_remote_address=2001:db8:1::/48");
  EXPECT_EQ(descriptor({{.kind = Kind::kRemoteAddress}}), "remote_address=2001:db8:1:2:3::4");
  for (const char* none : {"/tmp/socket", "@abstract", ""}) {
    info_.downstream_remote_address = none;
    EXPECT_EQ(descriptor({{.kind = Kind::kRemoteAddress}}), "none");
    EXPECT_EQ(masked(32, 128), "none");
  }
}

TEST_F(RateLimitActions, AFullArenaMakesNone) {
  Arena tiny(1);
  Descriptor out;
  EXPECT_FALSE(RateLimitPolicy({.actions = {{.descriptor_value = "v"}}}).descriptor(*headers_, info_, "", tiny, out));
}

}  // namespace
}  // namespace outrigger::test
