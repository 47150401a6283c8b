// Scripted conversations with the state-of-the-world machine: every move of the table in xds/sotw.h.
#include "xds/sotw.h"

#include <gtest/gtest.h>

#include "xds/machine_fixture.h"

namespace outrigger::xds {
namespace {

Response response(Type type, std::string version, std::string nonce, std::string bytes = "x") {
  Response r;
  r.version = std::move(version);
  r.type_url = std::string(type_url(type));
  r.nonce = std::move(nonce);
  r.resources.push_back({.type_url = r.type_url, .bytes = std::move(bytes)});
  return r;
}

class SotwTest : public MachineTest<Sotw> {};

TEST_F(SotwTest, FirstRequestHasNodeAndNoVersion) {
  machine.subscribe(Type::kCluster, {.wildcard = true});
  EXPECT_TRUE(silent()) << "no stream yet";
  machine.stream_opened();
  const Request r = request();
  EXPECT_EQ(r.type, Type::kCluster);
  EXPECT_EQ(r.version, "");
  EXPECT_EQ(r.nonce, "");
  EXPECT_TRUE(r.names.empty());
  EXPECT_TRUE(r.with_node);
  EXPECT_EQ(state(), Sotw::State::kWaiting);
  EXPECT_TRUE(silent());
}

TEST_F(SotwTest, RequestsComeInMakeBeforeBreakOrder) {
  machine.subscribe(Type::kRouteTable, {.names = {"r"}});
  machine.subscribe(Type::kListener, {.wildcard = true});
  machine.subscribe(Type::kEndpoints, {.names = {"e"}});
  machine.subscribe(Type::kCluster, {.wildcard = true});
  machine.stream_opened();
  EXPECT_EQ(request().type, Type::kCluster);
  EXPECT_EQ(request().type, Type::kEndpoints);
  EXPECT_EQ(request().type, Type::kListener);
  EXPECT_EQ(request().type, Type::kRouteTable);
  EXPECT_TRUE(silent());
}

TEST_F(SotwTest, AckCarriesVersionAndNonce) {
  open_clusters();
  const uint64_t id = receive(response(Type::kCluster, "v1", "n1"));
  EXPECT_EQ(state(), Sotw::State::kJudging);
  EXPECT_TRUE(silent()) << "no verdict yet";
  EXPECT_EQ(machine.unjudged(), 1u);
  EXPECT_EQ(machine.verdict(id, {}, now).judged, Sotw::Judged::kAccepted);
  const Request ack = request();
  EXPECT_EQ(ack.version, "v1");
  EXPECT_EQ(ack.nonce, "n1");
  EXPECT_EQ(ack.error_detail, "");
  EXPECT_EQ(machine.unjudged(), 0u);
  EXPECT_EQ(state(), Sotw::State::kWaiting);
}

TEST_F(SotwTest, NackKeepsTheAcceptedVersionAndSaysWhyOnce) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1", "good")), {}, now);
  request();
  EXPECT_EQ(machine.verdict(receive(response(Type::kCluster, "v2", "n2", "bad")), {"all faults"}, now).judged,
            Sotw::Judged::kRefused);
  const Request nack = request();
  EXPECT_EQ(nack.version, "v1");
  EXPECT_EQ(nack.nonce, "n2");
  EXPECT_EQ(nack.error_detail, "all faults");
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "all faults");
  EXPECT_EQ(machine.type(Type::kCluster).refused_version, "v2");
  // A later request is no second NACK.
  machine.subscribe(Type::kCluster, {.wildcard = true, .names = {"extra"}});
  const Request again = request();
  EXPECT_EQ(again.error_detail, "");
  EXPECT_EQ(again.nonce, "n2");
  // The next good version clears the refusal.
  machine.verdict(receive(response(Type::kCluster, "v3", "n3", "good again")), {}, now);
  EXPECT_EQ(request().version, "v3");
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "");
}

TEST_F(SotwTest, SubscriptionIsSentSortedUniqueAndOnlyWhenItDiffers) {
  machine.subscribe(Type::kEndpoints, {.names = {"b", "a", "b"}});
  machine.stream_opened();
  EXPECT_EQ(request().names, (Names{"a", "b"}));
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  EXPECT_TRUE(silent());
  machine.subscribe(Type::kEndpoints, {.names = {"c", "b", "a"}});
  EXPECT_EQ(request().names, (Names{"a", "b", "c"}));
}

TEST_F(SotwTest, SubscriptionChangedWhileJudgingTravelsWithTheVerdict) {
  machine.subscribe(Type::kEndpoints, {.names = {"a"}});
  machine.stream_opened();
  request();
  const uint64_t id = receive(response(Type::kEndpoints, "v1", "n1"));
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  EXPECT_TRUE(silent()) << "it would read as an ACK";
  machine.verdict(id, {}, now);
  const Request r = request();
  EXPECT_EQ(r.names, (Names{"a", "b"}));
  EXPECT_EQ(r.version, "v1");
  EXPECT_EQ(r.nonce, "n1");
}

// Else the server would see the list that it knows, and send nothing.
TEST_F(SotwTest, ANameDroppedAndWantedAgainIsAskedForAgain) {
  open(Type::kEndpoints, {.names = {"a", "b"}});
  const uint64_t id = receive(response(Type::kEndpoints, "v1", "n1"));
  machine.subscribe(Type::kEndpoints, {.names = {"a"}});
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b", "c"}});
  EXPECT_TRUE(silent());
  machine.verdict(id, {}, now);
  const Request without = request();
  EXPECT_EQ(without.names, (Names{"a", "c"}));
  EXPECT_EQ(without.nonce, "n1");
  EXPECT_EQ(without.version, "v1");
  const Request with = request();
  EXPECT_EQ(with.names, (Names{"a", "b", "c"}));
  EXPECT_EQ(with.nonce, "n1");
  EXPECT_TRUE(silent());
  // Once is enough.
  machine.verdict(receive(response(Type::kEndpoints, "v2", "n2")), {}, now);
  EXPECT_EQ(request().names, (Names{"a", "b", "c"}));
  EXPECT_TRUE(silent());
  // What the server never heard of needs none of it.
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b", "c", "d"}});
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b", "c"}});
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b", "c", "d"}});
  EXPECT_EQ(request().names, (Names{"a", "b", "c", "d"}));
  EXPECT_TRUE(silent());
}

TEST_F(SotwTest, ANameDroppedAndWantedAgainTravelsWithANackToo) {
  open(Type::kEndpoints, {.names = {"a"}});
  const uint64_t id = receive(response(Type::kEndpoints, "v1", "n1"));
  machine.subscribe(Type::kEndpoints, {});
  machine.subscribe(Type::kEndpoints, {.names = {"a"}});
  machine.verdict(id, {"bad"}, now);
  const Request nack = request();
  EXPECT_EQ(nack.error_detail, "bad");
  EXPECT_EQ(nack.names, Names{});
  const Request with = request();
  EXPECT_EQ(with.error_detail, "");
  EXPECT_EQ(with.names, Names{"a"});
  EXPECT_TRUE(silent());
}

// A server ignores requests that carry an old nonce, so both may have been for nothing when a response crosses them.
TEST_F(SotwTest, AResponseThatCrossesAShorterListMakesItBeSentAgainOnce) {
  open(Type::kEndpoints, {.names = {"a", "b"}});
  machine.verdict(receive(response(Type::kEndpoints, "v1", "n1")), {}, now);
  request();
  machine.subscribe(Type::kEndpoints, {.names = {"a"}});
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  EXPECT_EQ(request().names, Names{"a"});
  EXPECT_EQ(request().names, (Names{"a", "b"}));
  for (const bool crossed : {true, false}) {
    machine.verdict(receive(response(Type::kEndpoints, "v2", "n2")), {}, now);
    if (crossed) {
      const Request without = request();
      EXPECT_EQ(without.names, Names{"a"});
      EXPECT_EQ(without.nonce, "n2");
    }
    EXPECT_EQ(request().names, (Names{"a", "b"}));
    EXPECT_TRUE(silent());
  }
}

TEST_F(SotwTest, ADropThatWasPerhapsIgnoredIsRemembered) {
  open(Type::kEndpoints, {.names = {"a", "b"}});
  machine.subscribe(Type::kEndpoints, {.names = {"b"}});
  EXPECT_EQ(request().names, Names{"b"});
  // It crosses the request, so the server may still have both on its list.
  const uint64_t id = receive(response(Type::kEndpoints, "v1", "n1"));
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  machine.verdict(id, {}, now);
  EXPECT_EQ(request().names, Names{"b"});
  EXPECT_EQ(request().names, (Names{"a", "b"}));
  EXPECT_TRUE(silent());
}

// The server may think that a version says all about every name of the list.
TEST_F(SotwTest, AVersionThatMayLackAWantedNameIsNotClaimedOnTheNextStream) {
  open(Type::kEndpoints, {.names = {"a"}});
  machine.verdict(receive(response(Type::kEndpoints, "v1", "n1")), {}, now);
  request();
  const auto version_of_next_stream = [&] {
    machine.stream_closed();
    machine.stream_opened();
    return request().version;
  };
  EXPECT_EQ(version_of_next_stream(), "v1");
  machine.verdict(receive(response(Type::kEndpoints, "v1", "n1")), {}, now);
  request();
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b"}});
  EXPECT_EQ(version_of_next_stream(), "") << "b was not even asked for";
  machine.verdict(receive(response(Type::kEndpoints, "v1", "n1")), {}, now);
  request();
  EXPECT_EQ(version_of_next_stream(), "v1");
  machine.stream_closed();
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b", "c"}});
  machine.stream_opened();
  EXPECT_EQ(request().version, "");
  // An answer that came before the request did.
  const uint64_t early = receive(response(Type::kEndpoints, "v2", "n1"));
  machine.subscribe(Type::kEndpoints, {.names = {"a", "b", "c", "d"}});
  machine.verdict(early, {}, now);
  request();
  EXPECT_EQ(version_of_next_stream(), "");
  // A verdict that comes between the streams.
  const uint64_t late = receive(response(Type::kEndpoints, "v3", "n1"));
  machine.subscribe(Type::kEndpoints, {.names = {"e"}});
  machine.stream_closed();
  machine.stream_opened();
  machine.verdict(late, {}, now);
  EXPECT_EQ(request().version, "");
}

TEST_F(SotwTest, NothingIsAskedOfATypeWithoutNames) {
  machine.subscribe(Type::kEndpoints, {});
  machine.stream_opened();
  EXPECT_TRUE(silent());
  machine.subscribe(Type::kEndpoints, {.names = {"a"}});
  EXPECT_EQ(request().names, (Names{"a"}));
  machine.subscribe(Type::kEndpoints, {});
  EXPECT_EQ(request().names, Names{}) << "unsubscribed from all";
}

TEST_F(SotwTest, WildcardAfterNamesIsSpelledOut) {
  machine.subscribe(Type::kListener, {.names = {"a"}});
  machine.stream_opened();
  EXPECT_EQ(request().names, (Names{"a"}));
  machine.subscribe(Type::kListener, {.wildcard = true});
  EXPECT_EQ(request().names, (Names{"*"}));
  machine.subscribe(Type::kListener, {.wildcard = true, .names = {"b"}});
  EXPECT_EQ(request().names, (Names{"b", "*"}));
  machine.stream_opened();
  machine.subscribe(Type::kListener, {.wildcard = true});
  EXPECT_EQ(request().names, Names{}) << "on a new stream the legacy form will do";
}

TEST_F(SotwTest, NonceDiesWithTheStreamTheVersionDoesNot) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1")), {}, now);
  request();
  machine.stream_closed();
  EXPECT_TRUE(silent());
  machine.stream_opened();
  const Request r = request();
  EXPECT_EQ(r.version, "v1");
  EXPECT_EQ(r.nonce, "");
  EXPECT_TRUE(r.with_node);
}

TEST_F(SotwTest, VerdictAfterReconnectCountsButSendsNothing) {
  open_clusters();
  const uint64_t id = receive(response(Type::kCluster, "v1", "n1"));
  machine.stream_closed();
  machine.stream_opened();
  EXPECT_EQ(request().version, "");
  EXPECT_EQ(machine.verdict(id, {}, now).judged, Sotw::Judged::kAccepted);
  EXPECT_TRUE(silent());
  EXPECT_EQ(machine.type(Type::kCluster).accepted_version, "v1");
}

TEST_F(SotwTest, PendingNackDiesWithTheStream) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1")), {"bad"}, now);
  machine.stream_closed();
  machine.stream_opened();
  const Request r = request();
  EXPECT_EQ(r.error_detail, "");
  EXPECT_EQ(r.nonce, "");
}

TEST_F(SotwTest, NewerResponseOvertakesAnUnjudgedOne) {
  open_clusters();
  const uint64_t first = receive(response(Type::kCluster, "v1", "n1", "one"));
  const uint64_t second = receive(response(Type::kCluster, "v2", "n2", "two"));
  machine.verdict(first, {}, now);
  EXPECT_TRUE(silent()) << "its nonce is stale";
  machine.verdict(second, {"no"}, now);
  const Request r = request();
  EXPECT_EQ(r.version, "v1");
  EXPECT_EQ(r.nonce, "n2");
  EXPECT_EQ(r.error_detail, "no");
}

TEST_F(SotwTest, VerdictsOutOfOrderDoNotTurnTheVersionBack) {
  open_clusters();
  const uint64_t first = receive(response(Type::kCluster, "v1", "n1", "one"));
  const uint64_t second = receive(response(Type::kCluster, "v2", "n2", "two"));
  machine.verdict(second, {}, now);
  machine.verdict(first, {"late"}, now);
  EXPECT_EQ(machine.type(Type::kCluster).accepted_version, "v2");
  EXPECT_EQ(machine.type(Type::kCluster).refusal, "");
  EXPECT_EQ(request().error_detail, "");
}

TEST_F(SotwTest, UnknownVerdictIsHarmless) {
  open_clusters();
  EXPECT_EQ(machine.verdict(77, {}, now).judged, Sotw::Judged::kUnknown);
  const uint64_t id = receive(response(Type::kCluster, "v1", "n1"));
  machine.verdict(id, {}, now);
  EXPECT_EQ(machine.verdict(id, {"twice"}, now).judged, Sotw::Judged::kUnknown);
  EXPECT_EQ(request().error_detail, "");
}

TEST_F(SotwTest, TypesThatWereNotAskedForAreCountedAndIgnored) {
  open_clusters();
  EXPECT_FALSE(machine.receive(response(Type::kListener, "v1", "n1")));
  Response strange;
  strange.type_url = "type.googleapis.com/some.Thing";
  EXPECT_FALSE(machine.receive(std::move(strange)));
  EXPECT_EQ(machine.ignored(), 2u);
  EXPECT_TRUE(silent());
  // Subscribed but not yet asked on this stream: still not ours.
  machine.subscribe(Type::kListener, {.wildcard = true});
  EXPECT_FALSE(machine.receive(response(Type::kListener, "v1", "n1")));
  EXPECT_EQ(machine.ignored(), 3u);
}

TEST_F(SotwTest, TheSameMistakeIsRefusedWithGrowingDelay) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1", "bad")), {"why"}, now);
  EXPECT_EQ(request().error_detail, "why") << "the first time at once";
  int64_t expected = 1'000;
  for (int i = 2; i <= 8; ++i) {
    // Another version and nonce, the same bytes.
    const std::string tag = std::to_string(i);
    EXPECT_EQ(machine.verdict(receive(response(Type::kCluster, "v" + tag, "n" + tag, "bad")), {"why"}, now).judged,
              Sotw::Judged::kRefusedAgain);
    EXPECT_EQ(state(), Sotw::State::kDelaying);
    EXPECT_TRUE(silent());
    ASSERT_TRUE(machine.wake_at_ms());
    EXPECT_EQ(*machine.wake_at_ms(), now + expected);
    // A server that does not wait for the NACK causes no work.
    EXPECT_FALSE(machine.receive(response(Type::kCluster, "w" + tag, "m" + tag, "bad")));
    now += expected;
    const Request nack = request();
    EXPECT_EQ(nack.nonce, "m" + tag);
    EXPECT_EQ(nack.error_detail, "why");
    EXPECT_FALSE(machine.wake_at_ms());
    expected = std::min<int64_t>(expected * 2, 30'000);
  }
  EXPECT_EQ(machine.type(Type::kCluster).repeated, 7u);
}

TEST_F(SotwTest, ACorrectionIsJudgedAtOnceWhileANackIsHeldBack) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1", "bad")), {"why"}, now);
  request();
  machine.verdict(receive(response(Type::kCluster, "v1", "n2", "bad")), {"why"}, now);
  EXPECT_EQ(state(), Sotw::State::kDelaying);
  const uint64_t id = receive(response(Type::kCluster, "v2", "n3", "good"));
  EXPECT_FALSE(machine.wake_at_ms());
  machine.verdict(id, {}, now);
  const Request ack = request();
  EXPECT_EQ(ack.version, "v2");
  EXPECT_EQ(ack.nonce, "n3");
  EXPECT_EQ(ack.error_detail, "");
  // And the slate is clean.
  machine.verdict(receive(response(Type::kCluster, "v3", "n4", "bad")), {"why"}, now);
  EXPECT_EQ(request().error_detail, "why");
}

TEST_F(SotwTest, EverDifferentMistakesAreSlowedDownToo) {
  open_clusters();
  for (uint32_t i = 0; i < Sotw::kFreeRefusals; ++i) {
    machine.verdict(receive(response(Type::kCluster, "v", "n", "bad" + std::to_string(i))), {"why"}, now);
    EXPECT_EQ(request().error_detail, "why");
  }
  machine.verdict(receive(response(Type::kCluster, "v", "n", "still bad")), {"why"}, now);
  EXPECT_EQ(state(), Sotw::State::kDelaying);
}

TEST_F(SotwTest, TheMistakeIsRememberedAcrossReconnects) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1", "bad")), {"why"}, now);
  machine.stream_closed();
  machine.stream_opened();
  request();
  EXPECT_EQ(machine.verdict(receive(response(Type::kCluster, "v1", "n1", "bad")), {"why"}, now).judged,
            Sotw::Judged::kRefusedAgain);
  EXPECT_TRUE(silent());
}

TEST_F(SotwTest, UnchangedAcceptedResponseIsHandedUpAgain) {
  open_clusters();
  machine.verdict(receive(response(Type::kCluster, "v1", "n1")), {}, now);
  request();
  EXPECT_NE(receive(response(Type::kCluster, "v1", "n2")), 0u) << "a fresh answer may end a warm-up";
}

TEST_F(SotwTest, FullSetOnlyForListenersAndClusters) {
  for (Type type : {Type::kListener, Type::kRouteTable, Type::kCluster, Type::kEndpoints}) {
    machine.subscribe(type, {.names = {"a"}});
  }
  machine.stream_opened();
  while (!silent()) {
  }
  EXPECT_TRUE(machine.receive(response(Type::kListener, "v", "n"))->full_set);
  EXPECT_TRUE(machine.receive(response(Type::kCluster, "v", "n"))->full_set);
  EXPECT_FALSE(machine.receive(response(Type::kRouteTable, "v", "n"))->full_set);
  EXPECT_FALSE(machine.receive(response(Type::kEndpoints, "v", "n"))->full_set);
}

TEST_F(SotwTest, HeartbeatsKeepAResourceAndWithoutThemItExpires) {
  open_clusters();
  Response first = response(Type::kCluster, "v1", "n1");
  first.resources[0].name = "a";
  first.resources[0].ttl_ms = 5'000;
  machine.verdict(receive(std::move(first)), {}, now);
  request();
  EXPECT_EQ(machine.wake_at_ms(), now + 5'000);
  now += 4'000;
  Response beat = response(Type::kCluster, "v1", "n2");
  beat.resources[0] = {.name = "a", .ttl_ms = 5'000, .heartbeat = true};
  const auto update = machine.receive(std::move(beat));
  ASSERT_TRUE(update);
  EXPECT_TRUE(update->full_set);
  EXPECT_TRUE(update->resources.empty());
  EXPECT_EQ(update->kept, Names{"a"});
  machine.verdict(update->id, {}, now);
  request();
  EXPECT_TRUE(machine.expire(now + 4'999).empty());
  const auto expired = machine.expire(now + 5'000);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].removed, Names{"a"});
  EXPECT_FALSE(expired[0].full_set);
  // The version is no longer what we have, so that a new stream gets all of it.
  machine.stream_opened();
  EXPECT_EQ(request().version, "");
}

TEST(SotwNode, OnFirstMessageOnlyIsHonoured) { expect_node_on_first_message_only_is_honoured<Sotw>(); }

}  // namespace
}  // namespace outrigger::xds
