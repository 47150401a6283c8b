// Scripted conversations with the incremental machine: every move of the table in xds/delta.h.
#include "xds/delta.h"

#include <gtest/gtest.h>

#include "xds/machine_fixture.h"

namespace outrigger::xds {
namespace {

using Held = std::vector<std::pair<std::string, std::string>>;

struct Named {
  std::string name, version, bytes = "x";
  uint64_t ttl_ms = 0;
};

Response response(Type type, std::string nonce, const std::vector<Named>& resources, Names removed = {}) {
  Response r;
  r.version = "system-" + nonce;
  r.type_url = std::string(type_url(type));
  r.nonce = std::move(nonce);
  for (const Named& n : resources) {
    r.resources.push_back(
        {.name = n.name, .version = n.version, .type_url = r.type_url, .bytes = n.bytes, .ttl_ms = n.ttl_ms});
  }
  r.removed = std::move(removed);
  return r;
}

Response heartbeat(Type type, std::string nonce, std::string name, uint64_t ttl_ms) {
  Response r = response(type, std::move(nonce), {});
  r.resources.push_back({.name = std::move(name), .ttl_ms = ttl_ms, .heartbeat = true});
  return r;
}

class DeltaTest : public MachineTest<Delta> {
 protected:
  void accept(Response r) {
    EXPECT_EQ(machine.verdict(receive(std::move(r)), {}, now).judged, Machine::Judged::kAccepted);
    EXPECT_NE(request().nonce, "");
  }
  Request reopened() {
    machine.stream_closed();
    machine.stream_opened();
    return request();
  }
};

TEST_F(DeltaTest, FirstRequestOfAWildcardNamesNothing) {
  machine.subscribe(Type::kCluster, {.wildcard = true});
  EXPECT_TRUE(silent()) << "no stream yet";
  machine.stream_opened();
  EXPECT_EQ(state(), Machine::State::kUnasked);
  const Request r = request();
  EXPECT_EQ(r.type, Type::kCluster);
  EXPECT_EQ(r.subscribe, Names{}) << "the legacy form";
  EXPECT_EQ(r.held, Held{});
  EXPECT_EQ(r.nonce, "");
  EXPECT_TRUE(r.with_node);
  EXPECT_EQ(state(), Machine::State::kWaiting);
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, WildcardBesideNamesIsSpelledOut) {
  open(Type::kListener, {.wildcard = true, .names = {"b"}});
  machine.stream_opened();
  EXPECT_EQ(request().subscribe, (Names{"*", "b"}));
  machine.subscribe(Type::kListener, {.names = {"b"}});
  EXPECT_EQ(request().unsubscribe, Names{"*"});
  machine.subscribe(Type::kListener, {.wildcard = true, .names = {"b"}});
  EXPECT_EQ(request().subscribe, Names{"*"});
}

TEST_F(DeltaTest, NothingIsAskedOfATypeWithoutNames) {
  machine.subscribe(Type::kEndpoints, {});
  machine.stream_opened();
  EXPECT_TRUE(silent());
  machine.subscribe(Type::kEndpoints, {.names = {"a"}});
  EXPECT_EQ(request().subscribe, Names{"a"});
  machine.subscribe(Type::kEndpoints, {});
  EXPECT_EQ(request().unsubscribe, Names{"a"});
}

TEST_F(DeltaTest, RequestsComeInMakeBeforeBreakOrder) {
  machine.subscribe(Type::kRouteTable, {.names = {"r"}});
  machine.subscribe(Type::kListener, {.wildcard = true});
  machine.subscribe(Type::kEndpoints, {.names = {"e"}});
  machine.subscribe(Type::kCluster, {.wildcard = true});
  machine.stream_opened();
  for (Type type : {Type::kCluster, Type::kEndpoints, Type::kListener, Type::kRouteTable})
    EXPECT_EQ(request().type, type);
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, SubscriptionsTravelAsDifferencesAndWaitForNoVerdict) {
  open(Type::kEndpoints, {.names = {"b", "a", "b"}});
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  EXPECT_TRUE(silent()) << "nothing changed";
  const uint64_t id = receive(response(Type::kEndpoints, "n1", {{"a", "1"}}));
  machine.subscribe(Type::kEndpoints, {.names = {"b", "c"}});
  const Request r = request();
  EXPECT_EQ(r.subscribe, Names{"c"});
  EXPECT_EQ(r.unsubscribe, Names{"a"});
  EXPECT_EQ(r.nonce, "") << "no answer yet";
  machine.verdict(id, {}, now);
  EXPECT_EQ(request().nonce, "n1");
  EXPECT_TRUE(machine.held(Type::kEndpoints).empty()) << "a is no longer wanted";
}

TEST_F(DeltaTest, ANameDroppedAndWantedAgainIsAskedForAgain) {
  open(Type::kEndpoints, {.names = {"a", "b"}});
  accept(response(Type::kEndpoints, "n1", {{"a", "1"}, {"b", "1"}}));
  machine.subscribe(Type::kEndpoints, {.names = {"b"}});
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  const Request r = request();
  EXPECT_EQ(r.subscribe, Names{"a"}) << "whoever dropped it no longer has it";
  EXPECT_EQ(r.unsubscribe, Names{});
  EXPECT_EQ(reopened().held, (Held{{"b", "1"}}));
}

TEST_F(DeltaTest, EachResponseIsAnsweredInOrder) {
  open_clusters();
  const uint64_t first = receive(response(Type::kCluster, "n1", {{"a", "1"}}));
  const uint64_t second = receive(response(Type::kCluster, "n2", {{"b", "1", "bad"}}));
  EXPECT_EQ(state(), Machine::State::kJudging);
  EXPECT_EQ(machine.unjudged(), 2u);
  EXPECT_TRUE(silent());
  EXPECT_EQ(machine.verdict(first, {}, now).judged, Machine::Judged::kAccepted);
  EXPECT_EQ(state(), Machine::State::kJudging) << "the second one";
  EXPECT_EQ(machine.verdict(second, {"why", {"b"}}, now).judged, Machine::Judged::kRefused);
  EXPECT_EQ(state(), Machine::State::kWaiting);
  EXPECT_EQ(machine.unjudged(), 2u) << "the answers wait to be sent";
  const Request ack = request();
  EXPECT_EQ(ack.nonce, "n1");
  EXPECT_EQ(ack.error_detail, "");
  const Request nack = request();
  EXPECT_EQ(nack.nonce, "n2");
  EXPECT_EQ(nack.error_detail, "why");
  EXPECT_EQ(machine.unjudged(), 0u);
  EXPECT_TRUE(silent());
  EXPECT_EQ(machine.type(Type::kCluster).accepted_version, "system-n1");
}

TEST_F(DeltaTest, ANewStreamNamesWhatIsHeld) {
  open_clusters();
  accept(response(Type::kCluster, "n1", {{"a", "1"}, {"b", "1"}, {"c", "1"}}));
  accept(response(Type::kCluster, "n2", {{"b", "2"}}, {"c"}));
  const Request r = reopened();
  EXPECT_EQ(r.held, (Held{{"a", "1"}, {"b", "2"}}));
  EXPECT_EQ(r.subscribe, Names{});
  EXPECT_EQ(r.nonce, "");
  EXPECT_TRUE(r.with_node);
}

TEST_F(DeltaTest, WhatIsClaimedIsHeldInNoKnownVersionUntilTheServerSaysMore) {
  machine.claim(Type::kCluster, {"a", "b"});
  machine.subscribe(Type::kCluster, {.wildcard = true});
  machine.stream_opened();
  EXPECT_EQ(request().held, (Held{{"a", ""}, {"b", ""}}));
  accept(response(Type::kCluster, "n1", {{"a", "1"}}, {"b"}));
  EXPECT_EQ(reopened().held, (Held{{"a", "1"}}));
}

TEST_F(DeltaTest, OfARefusedUpdateTheGoodOnesAreHeldInTheirNewVersion) {
  open_clusters();
  accept(response(Type::kCluster, "n1", {{"a", "1"}, {"b", "1"}}));
  machine.verdict(receive(response(Type::kCluster, "n2", {{"a", "2"}, {"b", "2"}, {"c", "2"}})),
                  {"b and c", {"b", "c"}}, now);
  EXPECT_EQ(request().error_detail, "b and c");
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "b and c");
  EXPECT_EQ(machine.type(Type::kCluster).refused_version, "system-n2");
  accept(response(Type::kCluster, "n3", {{"a", "3"}}));
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "b and c") << "nothing has healed them";
  EXPECT_EQ(reopened().held, (Held{{"a", "3"}, {"b", "1"}}));
  accept(response(Type::kCluster, "n1", {{"b", "3"}}));
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "b and c");
  accept(response(Type::kCluster, "n2", {}, {"c"}));
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "");
}

TEST_F(DeltaTest, VerdictAfterReconnectCountsButSendsNothing) {
  open_clusters();
  const uint64_t id = receive(response(Type::kCluster, "n1", {{"a", "1"}}));
  EXPECT_EQ(reopened().held, Held{});
  EXPECT_EQ(machine.verdict(id, {}, now).judged, Machine::Judged::kAccepted);
  EXPECT_TRUE(silent());
  EXPECT_EQ(state(), Machine::State::kWaiting);
  EXPECT_EQ(machine.held(Type::kCluster).at("a"), "1");
}

TEST_F(DeltaTest, PendingAnswersDieWithTheStream) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "n1", {{"a", "1"}})), {"bad", {"a"}}, now);
  machine.subscribe(Type::kCluster, {.wildcard = true, .names = {"x"}});
  const Request r = reopened();
  EXPECT_EQ(r.error_detail, "");
  EXPECT_EQ(r.nonce, "");
  EXPECT_EQ(r.subscribe, (Names{"*", "x"}));
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, UnknownVerdictIsHarmless) {
  open_clusters();
  EXPECT_EQ(machine.verdict(77, {}, now).judged, Machine::Judged::kUnknown);
  const uint64_t id = receive(response(Type::kCluster, "n1", {{"a", "1"}}));
  machine.verdict(id, {}, now);
  EXPECT_EQ(machine.verdict(id, {"twice"}, now).judged, Machine::Judged::kUnknown);
  EXPECT_EQ(request().error_detail, "");
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, TypesThatWereNotAskedForAreCountedAndIgnored) {
  open_clusters();
  EXPECT_FALSE(machine.receive(response(Type::kListener, "n1", {})));
  Response strange;
  strange.type_url = "type.googleapis.com/some.Thing";
  EXPECT_FALSE(machine.receive(std::move(strange)));
  EXPECT_EQ(machine.ignored(), 2u);
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, UnchangedResourcesAreHandedUpAgain) {
  open(Type::kEndpoints, {.names = {"a"}});
  accept(response(Type::kEndpoints, "n1", {{"a", "1"}}));
  const auto update = machine.receive(response(Type::kEndpoints, "n2", {{"a", "1"}}));
  ASSERT_TRUE(update) << "a fresh answer may end a warm-up";
  EXPECT_EQ(update->resources.size(), 1u);
  EXPECT_FALSE(update->full_set);
}

TEST_F(DeltaTest, TheSameMistakeIsRefusedWithGrowingDelay) {
  open_clusters();
  const Machine::Refusal why{"why", {"a"}};
  machine.verdict(receive(response(Type::kCluster, "n1", {{"a", "1", "bad"}})), why, now);
  EXPECT_EQ(request().error_detail, "why") << "the first time at once";
  int64_t expected = 1'000;
  for (int i = 2; i <= 8; ++i) {
    const std::string tag = std::to_string(i);
    // Good changes of others in between neither heal it nor wait for it.
    accept(response(Type::kCluster, "g" + tag, {{"b", tag}}));
    EXPECT_EQ(machine.verdict(receive(response(Type::kCluster, "n" + tag, {{"a", tag, "bad"}})), why, now).judged,
              Machine::Judged::kRefusedAgain);
    EXPECT_EQ(state(), Machine::State::kDelaying);
    EXPECT_TRUE(silent());
    ASSERT_TRUE(machine.wake_at_ms());
    EXPECT_EQ(*machine.wake_at_ms(), now + expected);
    EXPECT_FALSE(machine.wake_at_ms(false)) << "no alarm while nothing can be written";
    // A server that does not wait for the NACK causes no work.
    EXPECT_FALSE(machine.receive(response(Type::kCluster, "m" + tag, {{"a", tag, "bad"}})));
    // Subscriptions do not wait.
    machine.subscribe(Type::kCluster, {.wildcard = true, .names = {"s" + tag}});
    EXPECT_EQ(request().nonce, "");
    EXPECT_EQ(state(), Machine::State::kDelaying);
    now += expected;
    const Request nack = request();
    EXPECT_EQ(nack.nonce, "m" + tag);
    EXPECT_EQ(nack.error_detail, "why");
    EXPECT_FALSE(machine.wake_at_ms());
    expected = std::min<int64_t>(expected * 2, 30'000);
  }
  EXPECT_EQ(machine.type(Type::kCluster).repeated, 7u);
  // A correction clears the slate.
  accept(response(Type::kCluster, "c1", {{"a", "9", "good"}}));
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "");
  machine.verdict(receive(response(Type::kCluster, "c2", {{"a", "10", "bad"}})), why, now);
  EXPECT_EQ(request().error_detail, "why");
}

TEST_F(DeltaTest, ACorrectionIsJudgedAtOnceWhileANackIsHeldBack) {
  open_clusters();
  const Machine::Refusal why{"why", {"a"}};
  for (const char* nonce : {"n1", "n2"})
    machine.verdict(receive(response(Type::kCluster, nonce, {{"a", nonce, "bad"}})), why, now);
  EXPECT_EQ(request().nonce, "n1");
  EXPECT_EQ(state(), Machine::State::kDelaying);
  const uint64_t id = receive(response(Type::kCluster, "n3", {{"a", "3", "good"}}));
  EXPECT_EQ(state(), Machine::State::kJudging);
  machine.verdict(id, {}, now);
  EXPECT_EQ(state(), Machine::State::kWaiting);
  EXPECT_EQ(request().nonce, "n2") << "every response is answered";
  EXPECT_EQ(request().nonce, "n3");
  EXPECT_EQ(machine.held(Type::kCluster).at("a"), "3");
}

TEST_F(DeltaTest, EverDifferentMistakesAreSlowedDownTooAndHeldBackOnce) {
  open_clusters();
  for (uint32_t i = 0; i < Machine::kFreeRefusals; ++i) {
    machine.verdict(receive(response(Type::kCluster, "n", {{"a", "1", "bad" + std::to_string(i)}})), {"why", {"a"}},
                    now);
    EXPECT_EQ(request().error_detail, "why");
  }
  for (int i = 0; i < 100; ++i) {
    machine.verdict(receive(response(Type::kCluster, "m" + std::to_string(i), {{"a", "1", std::to_string(i)}})),
                    {"why", {"a"}}, now);
    EXPECT_TRUE(silent());
    EXPECT_EQ(machine.unjudged(), 0u) << "what is held back does not grow";
  }
  now += 60'000;
  EXPECT_EQ(request().nonce, "m99");
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, TheMistakeIsRememberedAcrossReconnects) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "n1", {{"a", "1", "bad"}})), {"why", {"a"}}, now);
  EXPECT_EQ(reopened().held, Held{});
  EXPECT_EQ(machine.verdict(receive(response(Type::kCluster, "n1", {{"a", "1", "bad"}})), {"why", {"a"}}, now).judged,
            Machine::Judged::kRefusedAgain);
  EXPECT_TRUE(silent());
}

TEST_F(DeltaTest, AResourceExpiresWhenNoHeartbeatComes) {
  open_clusters();
  accept(response(Type::kCluster, "n1", {{"a", "1", "x", 5'000}, {"b", "1", "x", 9'000}, {"c", "1"}}));
  EXPECT_EQ(machine.wake_at_ms(), now + 5'000);
  now += 4'000;
  const auto beat = machine.receive(heartbeat(Type::kCluster, "n2", "a", 5'000));
  ASSERT_TRUE(beat);
  EXPECT_TRUE(beat->resources.empty());
  EXPECT_EQ(beat->kept, Names{"a"});
  machine.verdict(beat->id, {}, now);
  EXPECT_EQ(request().nonce, "n2");
  EXPECT_EQ(machine.held(Type::kCluster).at("a"), "1");
  now += 4'999;
  EXPECT_TRUE(machine.expire(now - 2'000).empty());
  auto expired = machine.expire(now + 1);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].id, 0u);
  EXPECT_EQ(expired[0].type, Type::kCluster);
  EXPECT_EQ(expired[0].removed, (Names{"a", "b"}));
  EXPECT_FALSE(machine.wake_at_ms());
  EXPECT_EQ(reopened().held, (Held{{"c", "1"}}));
}

TEST_F(DeltaTest, ARefusedVersionProlongsTheLifeOfTheOneBefore) {
  open_clusters();
  accept(response(Type::kCluster, "n1", {{"a", "1", "x", 5'000}}));
  now += 3'000;
  machine.verdict(receive(response(Type::kCluster, "n2", {{"a", "2", "bad", 5'000}, {"b", "1", "bad", 5'000}})),
                  {"why", {"a", "b"}}, now);
  EXPECT_EQ(machine.wake_at_ms(), now + 5'000);
  EXPECT_EQ(machine.expire(now + 5'000).at(0).removed, Names{"a"}) << "b never was there";
}

TEST_F(DeltaTest, ATtlEndsWithTheNextVersionThatHasNone) {
  open_clusters();
  accept(response(Type::kCluster, "n1", {{"a", "1", "x", 5'000}, {"b", "1", "x", 5'000}}));
  accept(response(Type::kCluster, "n2", {{"a", "2"}}, {"b"}));
  EXPECT_FALSE(machine.wake_at_ms());
}

TEST_F(DeltaTest, WhatIsNoLongerWantedEndsInSilence) {
  open(Type::kEndpoints, {.names = {"a", "b"}});
  accept(response(Type::kEndpoints, "n1", {{"a", "1", "x", 5'000}, {"b", "1", "x", 5'000}}));
  machine.subscribe(Type::kEndpoints, {.names = {"b"}});
  const auto expired = machine.expire(now + 5'000);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].removed, Names{"b"}) << "another source may have a";
}

TEST(DeltaNode, OnFirstMessageOnlyIsHonoured) { expect_node_on_first_message_only_is_honoured<Delta>(); }

}  // namespace
}  // namespace outrigger::xds
