// What a row of checks makes of a host, when the next one comes, and what a set of hosts makes of that.
#include "upstream/health_state.h"

#include <gtest/gtest.h>

#include "upstream/host.h"

namespace outrigger::upstream {
namespace {

using Change = HealthState::Change;

config::HealthCheckSpec thresholds(uint32_t unhealthy, uint32_t healthy) {
  config::HealthCheckSpec spec;
  spec.unhealthy_threshold = unhealthy;
  spec.healthy_threshold = healthy;
  return spec;
}

TEST(HealthState, OneCheckDecidesAboutAHostOfWhichNothingIsKnown) {
  const config::HealthCheckSpec spec = thresholds(3, 3);
  HealthState well(false, false);
  EXPECT_EQ(well.succeeded(spec), Change::kChanged);
  EXPECT_TRUE(well.healthy());
  HealthState unwell(false, false);
  EXPECT_EQ(unwell.failed(spec, false), Change::kNone);
  EXPECT_FALSE(unwell.healthy());
  EXPECT_EQ(unwell.succeeded(spec), Change::kPending) << "the second check is not the first";
}

TEST(HealthState, ThresholdsCountChecksInARow) {
  const config::HealthCheckSpec spec = thresholds(3, 2);
  HealthState state(true, true);
  EXPECT_EQ(state.failed(spec, false), Change::kPending);
  EXPECT_EQ(state.failed(spec, false), Change::kPending);
  EXPECT_EQ(state.succeeded(spec), Change::kNone);
  EXPECT_EQ(state.failed(spec, false), Change::kPending);
  EXPECT_EQ(state.failed(spec, false), Change::kPending);
  EXPECT_EQ(state.failed(spec, false), Change::kChanged);
  EXPECT_EQ(state.failed(spec, false), Change::kNone);
  EXPECT_EQ(state.succeeded(spec), Change::kPending);
  EXPECT_EQ(state.failed(spec, false), Change::kNone);
  EXPECT_EQ(state.succeeded(spec), Change::kPending);
  EXPECT_EQ(state.succeeded(spec), Change::kChanged);
  EXPECT_TRUE(state.healthy());
  EXPECT_EQ(state.failed(spec, true), Change::kChanged) << "what the host says itself counts at once";
}

TEST(HealthState, TheNextCheckComesByWhatTheLastOneDid) {
  config::HealthCheckSpec spec;
  spec.interval_ms = 1;
  spec.unhealthy_interval_ms = 2;
  spec.unhealthy_edge_interval_ms = 3;
  spec.healthy_edge_interval_ms = 4;
  spec.no_traffic_interval_ms = 5;
  spec.no_traffic_healthy_interval_ms = 6;
  EXPECT_EQ(wait_ms(spec, true, Change::kNone, true), 1u);
  EXPECT_EQ(wait_ms(spec, true, Change::kChanged, true), 1u);
  EXPECT_EQ(wait_ms(spec, true, Change::kPending, true), 4u);
  EXPECT_EQ(wait_ms(spec, false, Change::kNone, true), 2u);
  EXPECT_EQ(wait_ms(spec, false, Change::kChanged, true), 2u);
  EXPECT_EQ(wait_ms(spec, false, Change::kPending, true), 3u);
  EXPECT_EQ(wait_ms(spec, false, Change::kPending, false), 5u);
  EXPECT_EQ(wait_ms(spec, true, Change::kPending, false), 6u);
}

// ---- sets of hosts

config::EndpointSpec endpoint(uint16_t port) {
  config::EndpointSpec spec;
  spec.address = {.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = port};
  return spec;
}
const HostSetOptions kChecked{.checked = true};
const HostSetOptions kKept{.checked = true, .keep_healthy = true};

void set_health(const HostSet& set, size_t at, uint8_t health) { set.all()[at].host->health = health; }

TEST(HostSet, ACheckedHostBeginsUnhealthy) {
  const auto plain = HostSet::compile({endpoint(1), endpoint(2)}, nullptr);
  EXPECT_EQ(plain->healthy_count(), 2u);
  EXPECT_TRUE(plain->none_unchecked());
  const auto set = HostSet::compile({endpoint(1), endpoint(2)}, nullptr, kChecked);
  EXPECT_EQ(set->healthy_count(), 0u);
  EXPECT_FALSE(set->none_unchecked());
  set_health(*set, 0, 0);
  EXPECT_EQ(set->healthy_count(), 1u);
  EXPECT_FALSE(set->none_unchecked());
  set_health(*set, 1, kFailedCheck);
  EXPECT_TRUE(set->none_unchecked());
  HostView view;
  view.look(*set);
  ASSERT_EQ(view.healthy().entries.size(), 1u);
  EXPECT_EQ(view.healthy().entries[0].host->text, "127.0.0.1:1");
  // What EDS says and what checks say must both be good.
  config::EndpointSpec unwell = endpoint(1);
  unwell.healthy = false;
  EXPECT_EQ(HostSet::compile({unwell, endpoint(2)}, set.get(), kChecked)->healthy_count(), 0u);
}

TEST(HostSet, AnEndpointMayBeLeftOutOfChecks) {
  config::EndpointSpec unasked = endpoint(1);
  unasked.check = config::EndpointCheckSpec{.address = {}, .port = 0, .hostname = "", .disabled = true};
  const auto set = HostSet::compile({unasked}, nullptr, kChecked);
  EXPECT_EQ(set->healthy_count(), 1u);
  EXPECT_TRUE(set->none_unchecked());
}

TEST(HostSet, HealthOutlivesUpdatesUnlessTheHostIsCheckedElsewhere) {
  const auto first = HostSet::compile({endpoint(1)}, nullptr, kChecked);
  set_health(*first, 0, 0);
  const auto second = HostSet::compile({endpoint(2), endpoint(1)}, first.get(), kChecked);
  EXPECT_EQ(second->healthy_count(), 1u);
  EXPECT_EQ(second->all()[1].host, first->all()[0].host);
  config::EndpointSpec elsewhere = endpoint(1);
  elsewhere.check = config::EndpointCheckSpec{.address = {}, .port = 9, .hostname = "", .disabled = false};
  const auto third = HostSet::compile({elsewhere}, second.get(), kChecked);
  EXPECT_NE(third->all()[0].host, first->all()[0].host);
  EXPECT_EQ(third->all()[0].host->check->address.str(), "127.0.0.1:9");
  EXPECT_EQ(third->healthy_count(), 0u);
}

TEST(HostSet, AHealthyHostThatIsNamedNoLongerStaysUntilItFails) {
  const auto first = HostSet::compile({endpoint(1), endpoint(2)}, nullptr, kKept);
  set_health(*first, 0, 0);
  const auto second = HostSet::compile({}, first.get(), kKept);
  ASSERT_EQ(second->all().size(), 1u) << "the unhealthy one goes at once";
  EXPECT_TRUE(second->all()[0].removed);
  EXPECT_FALSE(second->any_removed_failed());
  const auto third = HostSet::compile({}, second.get(), kKept);
  EXPECT_EQ(third->all().size(), 1u);
  // Named again, it is as any other.
  EXPECT_FALSE(HostSet::compile({endpoint(1)}, third.get(), kKept)->all()[0].removed);
  set_health(*third, 0, kFailedCheck);
  EXPECT_TRUE(third->any_removed_failed());
  EXPECT_TRUE(HostSet::compile({}, third.get(), kKept)->all().empty());
  // ignore_health_on_host_removal; a draining endpoint.
  set_health(*first, 0, 0);
  EXPECT_TRUE(HostSet::compile({}, first.get(), kChecked)->all().empty());
  config::EndpointSpec draining = endpoint(1);
  draining.draining = true;
  EXPECT_TRUE(HostSet::compile({draining}, first.get(), kKept)->all().empty());
}

TEST(HostSet, PanicByPercent) {
  EXPECT_FALSE(in_panic(0, 0, 50));
  EXPECT_TRUE(in_panic(0, 4, 50));
  EXPECT_TRUE(in_panic(1, 4, 50));
  EXPECT_FALSE(in_panic(2, 4, 50));
  EXPECT_FALSE(in_panic(0, 4, 0)) << "0 is never";
  EXPECT_TRUE(in_panic(2, 4, 100));
  EXPECT_FALSE(in_panic(3, 4, 100)) << "three of four can bear the load";
}

}  // namespace
}  // namespace outrigger::upstream
