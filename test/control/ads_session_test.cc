// Scripted conversations with one discovery stream's session: every move of the drawing in control/ads_session.h.
#include "control/ads_session.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "envoy/config/cluster/v3/cluster.pb.h"

namespace outrigger::control {
namespace {

using Names = std::vector<std::string>;
const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const std::string kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const std::string kLds = "type.googleapis.com/envoy.config.listener.v3.Listener";
const std::string kSds = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const std::string kRds = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

Names names_of(const DiscoveryReply& reply) {
  Names names;
  for (const ResourcePtr& resource : reply.resources) names.push_back(resource->name);
  std::sort(names.begin(), names.end());
  return names;
}

class SessionTest : public ::testing::Test {
 protected:
  explicit SessionTest(bool incremental = false) : session(incremental, 1'000) {}

  // Puts resources "type:name=content", replaces the snapshot.
  void serve(std::vector<Resource> resources) {
    auto made = ResourceSnapshot::make(std::move(resources), &pool);
    ASSERT_TRUE(made) << made.error().detail;
    snapshot = *made;
    session.set_snapshot(snapshot);
  }
  static Resource res(const std::string& url, const std::string& name, const std::string& bytes = "1") {
    return Resource::make(url, name, bytes);
  }
  std::optional<AdsSession::Verdict> ask(const std::string& url, Names names = {}, const std::string& version = "",
                                         const std::string& nonce = "") {
    return session.on_request({.type_url = url, .version = version, .nonce = nonce, .subscribe = std::move(names)});
  }
  DiscoveryReply reply() {
    auto r = session.next_reply();
    EXPECT_TRUE(r.has_value());
    return r.value_or(DiscoveryReply{});
  }
  bool silent() {
    auto r = session.next_reply();
    if (r) ADD_FAILURE() << "unexpected reply of type " << r->type_url;
    return !r;
  }
  void ack(const DiscoveryReply& r, Names names = {}) {
    auto verdict = session.on_request(
        {.type_url = r.type_url, .version = r.version, .nonce = r.nonce, .subscribe = std::move(names)});
    ASSERT_TRUE(verdict);
    EXPECT_TRUE(verdict->accepted);
    EXPECT_EQ(verdict->answer.version, r.version);
  }
  void nack(const DiscoveryReply& r, Names names = {}) {
    auto verdict =
        session.on_request({.type_url = r.type_url, .nonce = r.nonce, .error = "why", .subscribe = std::move(names)});
    ASSERT_TRUE(verdict);
    EXPECT_FALSE(verdict->accepted);
    EXPECT_EQ(verdict->answer.error, "why");
  }

  AdsSession session;
  ResourcePool pool;
  std::shared_ptr<const ResourceSnapshot> snapshot;
};

TEST_F(SessionTest, NothingIsSentBeforeThereIsASnapshot) {
  ask(kCds);
  EXPECT_TRUE(silent());
  serve({res(kCds, "a")});
  EXPECT_EQ(names_of(reply()), Names{"a"});
}

TEST_F(SessionTest, WildcardGetsAllOnceAndOnlyChangesAfter) {
  serve({res(kCds, "a"), res(kCds, "b")});
  ask(kCds);
  const DiscoveryReply first = reply();
  EXPECT_EQ(names_of(first), (Names{"a", "b"}));
  EXPECT_EQ(first.version, snapshot->find(kCds)->version);
  EXPECT_TRUE(silent()) << "unanswered";
  ack(first);
  EXPECT_TRUE(silent());
  serve({res(kCds, "a"), res(kCds, "b"), res(kLds, "other type")});
  EXPECT_TRUE(silent());
  serve({res(kCds, "a", "2"), res(kCds, "b")});
  const DiscoveryReply second = reply();
  EXPECT_EQ(names_of(second), (Names{"a", "b"})) << "state of the world";
  EXPECT_NE(second.version, first.version);
  EXPECT_NE(second.nonce, first.nonce);
}

TEST_F(SessionTest, EmptyWorldIsAnswered) {
  serve({});
  ask(kLds);
  EXPECT_EQ(names_of(reply()), Names{});
}

TEST_F(SessionTest, OnlyTheLatestStateWaitsForTheAnswer) {
  serve({res(kCds, "a", "1")});
  ask(kCds);
  const DiscoveryReply first = reply();
  for (int i = 2; i < 100; ++i) {
    serve({res(kCds, "a", std::to_string(i))});
    EXPECT_TRUE(silent());
  }
  ack(first);
  const DiscoveryReply last = reply();
  EXPECT_EQ(last.resources.at(0)->bytes, "99");
  ack(last);
  EXPECT_TRUE(silent());
}

TEST_F(SessionTest, ChangedBackWhileUnansweredSendsNothing) {
  serve({res(kCds, "a", "1")});
  ask(kCds);
  const DiscoveryReply first = reply();
  serve({res(kCds, "a", "2")});
  serve({res(kCds, "a", "1")});
  ack(first);
  EXPECT_TRUE(silent());
}

TEST_F(SessionTest, NamedTypesGetWhatChanged) {
  serve({res(kEds, "a"), res(kEds, "b"), res(kEds, "c")});
  ask(kEds, {"a", "b"});
  const DiscoveryReply first = reply();
  EXPECT_EQ(names_of(first), (Names{"a", "b"}));
  ack(first, {"a", "b"});
  serve({res(kEds, "a", "2"), res(kEds, "b"), res(kEds, "c", "2")});
  const DiscoveryReply second = reply();
  EXPECT_EQ(names_of(second), Names{"a"});
  ack(second, {"a", "b"});
  serve({res(kEds, "a", "2"), res(kEds, "b"), res(kEds, "c", "3")});
  EXPECT_TRUE(silent()) << "c was not asked for";
  serve({res(kEds, "b"), res(kEds, "c", "3")});
  EXPECT_TRUE(silent()) << "state of the world cannot tell that endpoints are gone";
}

TEST_F(SessionTest, MoreNamesGetTheNewOnes) {
  serve({res(kEds, "a"), res(kEds, "b")});
  ask(kEds, {"a"});
  const DiscoveryReply first = reply();
  ack(first, {"a", "b"});
  const DiscoveryReply second = reply();
  EXPECT_EQ(names_of(second), Names{"b"});
  ack(second, {"a", "b"});
  // Fewer, then again: the client has forgotten it.
  ask(kEds, {"a"}, second.version, second.nonce);
  EXPECT_TRUE(silent());
  ask(kEds, {"a", "b"}, second.version, second.nonce);
  EXPECT_EQ(names_of(reply()), Names{"b"});
}

TEST_F(SessionTest, SubscriptionBeforeTheFirstAnswerIsNoAnswer) {
  serve({res(kEds, "a"), res(kEds, "b")});
  ask(kEds, {"a"});
  const DiscoveryReply first = reply();
  EXPECT_FALSE(ask(kEds, {"a", "b"}));
  EXPECT_TRUE(silent());
  ack(first, {"a", "b"});
  EXPECT_EQ(names_of(reply()), Names{"b"});
}

TEST_F(SessionTest, NamesThatDoNotExistYetAreSentWhenTheyDo) {
  serve({});
  ask(kEds, {"later"});
  EXPECT_TRUE(silent());
  serve({res(kEds, "later")});
  EXPECT_EQ(names_of(reply()), Names{"later"});
}

TEST_F(SessionTest, NamedListenerThatIsMissingIsAnsweredEmpty) {
  serve({res(kLds, "a")});
  ask(kLds, {"b"});
  EXPECT_EQ(names_of(reply()), Names{}) << "so the client knows that there is none";
}

TEST_F(SessionTest, ARefusedVersionIsNotSentAgainButAllOfItWithTheNext) {
  serve({res(kEds, "a"), res(kEds, "b")});
  ask(kEds, {"a", "b"});
  ack(reply(), {"a", "b"});
  serve({res(kEds, "a", "bad"), res(kEds, "b")});
  const DiscoveryReply refused = reply();
  nack(refused, {"a", "b"});
  EXPECT_TRUE(silent());
  EXPECT_EQ(session.status().at(0).refusal, "why");
  EXPECT_EQ(session.status().at(0).refused_version, refused.version);
  serve({res(kEds, "a", "bad"), res(kEds, "b", "2")});
  const DiscoveryReply next = reply();
  EXPECT_EQ(names_of(next), (Names{"a", "b"}));
  ack(next, {"a", "b"});
  EXPECT_EQ(session.status().at(0).refusal, "");
}

TEST_F(SessionTest, BackToTheAcknowledgedVersionAfterARefusalSendsNothing) {
  serve({res(kCds, "a", "1")});
  ask(kCds);
  ack(reply());
  serve({res(kCds, "a", "bad")});
  nack(reply());
  serve({res(kCds, "a", "1")});
  EXPECT_TRUE(silent());
}

TEST_F(SessionTest, FreshNamesOfARefusedReplyGoWithTheNext) {
  serve({res(kEds, "a"), res(kEds, "b")});
  ask(kEds, {"a", "b"});
  const DiscoveryReply first = reply();
  ack(first, {"a"});
  ask(kEds, {"a", "b"}, first.version, first.nonce);
  nack(reply(), {"a", "b"});
  EXPECT_TRUE(silent());
  serve({res(kEds, "a", "2"), res(kEds, "b")});
  EXPECT_EQ(names_of(reply()), (Names{"a", "b"})) << "b is in base, but the client forgot and then refused it";
}

TEST_F(SessionTest, StaleNonceIsIgnored) {
  serve({res(kCds, "a", "1")});
  ask(kCds);
  const DiscoveryReply first = reply();
  ack(first);
  serve({res(kCds, "a", "2")});
  const DiscoveryReply second = reply();
  EXPECT_FALSE(ask(kCds, {}, first.version, first.nonce));
  EXPECT_EQ(session.stale(), 1u);
  EXPECT_TRUE(session.status().at(0).awaiting_answer);
  ack(second);
}

TEST_F(SessionTest, ReconnectWithTheCurrentVersionSendsNothing) {
  serve({res(kCds, "a"), res(kEds, "a"), res(kEds, "b")});
  ask(kCds);
  ask(kEds, {"a"});
  const DiscoveryReply clusters = reply();
  ack(clusters);
  const DiscoveryReply endpoints = reply();

  AdsSession again(false, 1'000);
  again.set_snapshot(snapshot);
  again.on_request({.type_url = kCds, .version = clusters.version});
  again.on_request({.type_url = kEds, .version = endpoints.version, .subscribe = {"a"}});
  EXPECT_FALSE(again.next_reply());

  AdsSession more(false, 1'000);
  more.set_snapshot(snapshot);
  more.on_request({.type_url = kEds, .version = endpoints.version, .subscribe = {"a", "b"}});
  auto r = more.next_reply();
  ASSERT_TRUE(r) << "the version does not cover b";
  EXPECT_EQ(names_of(*r), (Names{"a", "b"}));
}

TEST_F(SessionTest, ANonceOfAnEarlierStreamInTheFirstRequestIsNoAnswer) {
  serve({res(kCds, "a")});
  EXPECT_FALSE(ask(kCds, {}, "old", "77"));
  EXPECT_EQ(names_of(reply()), Names{"a"});
}

TEST_F(SessionTest, StarAndNamesAndUnsubscribing) {
  serve({res(kLds, "a"), res(kLds, "b")});
  ask(kLds, {"a"});
  const DiscoveryReply first = reply();
  EXPECT_EQ(names_of(first), Names{"a"});
  ack(first, {"a", "*"});
  const DiscoveryReply second = reply();
  EXPECT_EQ(names_of(second), (Names{"a", "b"}));
  ack(second, {});
  serve({res(kLds, "a", "2")});
  EXPECT_TRUE(silent()) << "after names, no names means none";
}

TEST_F(SessionTest, RepliesComeInMakeBeforeBreakOrder) {
  serve({res(kCds, "c"), res(kEds, "c"), res(kLds, "l"), res(kRds, "r")});
  ask(kRds, {"r"});
  ask(kLds);
  ask(kEds, {"c"});
  ask(kCds);
  const DiscoveryReply first[] = {reply(), reply(), reply(), reply()};
  EXPECT_EQ(first[0].type_url, kCds);
  EXPECT_EQ(first[1].type_url, kEds);
  EXPECT_EQ(first[2].type_url, kLds) << "a first answer waits for nobody";
  EXPECT_EQ(first[3].type_url, kRds);
  ack(first[0]);
  ack(first[1], {"c"});
  ack(first[2]);
  ack(first[3], {"r"});

  serve({res(kCds, "c"), res(kCds, "d"), res(kEds, "c"), res(kLds, "l"), res(kRds, "r", "to d")});
  const DiscoveryReply clusters = reply();
  EXPECT_EQ(names_of(clusters), (Names{"c", "d"}));
  EXPECT_TRUE(silent()) << "routes wait for the answer on clusters";
  ack(clusters);
  EXPECT_EQ(reply().type_url, kRds);
}

TEST_F(SessionTest, ListenersWaitForTheAnswerOnSecrets) {
  serve({res(kSds, "s"), res(kLds, "l")});
  ask(kLds);
  ask(kSds, {"s"});
  const DiscoveryReply first[] = {reply(), reply()};
  EXPECT_EQ(first[0].type_url, kSds);
  EXPECT_EQ(first[1].type_url, kLds);
  ack(first[0], {"s"});
  ack(first[1]);

  serve({res(kSds, "s", "rotated"), res(kLds, "l", "with it")});
  const DiscoveryReply secrets = reply();
  EXPECT_EQ(secrets.type_url, kSds);
  EXPECT_TRUE(silent());
  ack(secrets, {"s"});
  EXPECT_EQ(reply().type_url, kLds);

  // What is gone is not told (state of the world): it serves on while it is named.
  serve({res(kLds, "l", "with it")});
  EXPECT_TRUE(silent());
}

TEST_F(SessionTest, VanishedClustersStayUntilRoutesAreAcknowledged) {
  serve({res(kCds, "old"), res(kRds, "r", "to old")});
  ask(kCds);
  ask(kRds, {"r"});
  ack(reply());
  ack(reply(), {"r"});
  // A rename.
  serve({res(kCds, "new"), res(kRds, "r", "to new")});
  const DiscoveryReply both = reply();
  EXPECT_EQ(names_of(both), (Names{"new", "old"}));
  ack(both);
  const DiscoveryReply routes = reply();
  EXPECT_EQ(routes.type_url, kRds);
  EXPECT_TRUE(silent());
  ack(routes, {"r"});
  const DiscoveryReply after = reply();
  EXPECT_EQ(names_of(after), Names{"new"});
  EXPECT_EQ(after.version, snapshot->find(kCds)->version);
  ack(after);
  EXPECT_TRUE(silent());
}

TEST_F(SessionTest, VanishedClustersStayWhileTheClientRefusesTheRoutes) {
  serve({res(kCds, "old"), res(kRds, "r", "to old")});
  ask(kCds);
  ask(kRds, {"r"});
  ack(reply());
  ack(reply(), {"r"});
  serve({res(kRds, "r", "bad")});
  const DiscoveryReply routes = reply();
  EXPECT_EQ(routes.type_url, kRds) << "with clusters that only vanish, routes go first";
  nack(routes, {"r"});
  EXPECT_TRUE(silent());
  serve({res(kRds, "r", "good")});
  ack(reply(), {"r"});
  const DiscoveryReply clusters = reply();
  EXPECT_EQ(clusters.type_url, kCds);
  EXPECT_EQ(names_of(clusters), Names{});
}

TEST_F(SessionTest, AChangedClusterBringsItsEndpointsAgain) {
  const auto cluster = [](const std::string& name, const std::string& service, int timeout_s) {
    envoy::config::cluster::v3::Cluster message;
    message.set_name(name);
    message.mutable_eds_cluster_config()->set_service_name(service);
    message.mutable_connect_timeout()->set_seconds(timeout_s);
    return message.SerializeAsString();
  };
  serve({res(kCds, "a", cluster("a", "", 1)), res(kCds, "b", cluster("b", "b_eds", 1)),
         res(kCds, "c", cluster("c", "", 1)), res(kEds, "a"), res(kEds, "b_eds"), res(kEds, "c")});
  ask(kCds);
  ack(reply());
  ask(kEds, {"a", "b_eds", "c"});
  ack(reply(), {"a", "b_eds", "c"});
  serve({res(kCds, "a", cluster("a", "", 2)), res(kCds, "b", cluster("b", "b_eds", 2)),
         res(kCds, "c", cluster("c", "", 1)), res(kEds, "a"), res(kEds, "b_eds"), res(kEds, "c")});
  EXPECT_EQ(reply().type_url, kCds);
  const DiscoveryReply endpoints = reply();
  EXPECT_EQ(endpoints.type_url, kEds);
  EXPECT_EQ(names_of(endpoints), (Names{"a", "b_eds"}));
}

TEST_F(SessionTest, UnknownTypesAreServedWhateverIsThere) {
  serve({res("type.googleapis.com/some.Thing", "x")});
  ask("type.googleapis.com/some.Thing", {"x"});
  EXPECT_EQ(names_of(reply()), Names{"x"});
}

TEST_F(SessionTest, TooManyTypesEndTheStream) {
  serve({});
  for (size_t i = 0; i < AdsSession::kMaxTypes; ++i) ask("t" + std::to_string(i), {"x"});
  EXPECT_FALSE(session.overflow());
  ask("one more", {"x"});
  EXPECT_TRUE(session.overflow());
}

TEST_F(SessionTest, ManyNamesOfALargeSet) {
  std::vector<Resource> all;
  for (int i = 0; i < 2'000; ++i) all.push_back(res(kEds, "e" + std::to_string(i)));
  serve(all);
  ask(kEds, {"e7", "e1999", "none"});
  const DiscoveryReply few = reply();
  EXPECT_EQ(names_of(few), (Names{"e1999", "e7"}));
  Names names;
  for (int i = 0; i < 2'000; ++i) names.push_back("e" + std::to_string(i));
  ack(few, names);
  EXPECT_EQ(reply().resources.size(), 1'998u);
}

class DeltaSessionTest : public SessionTest {
 protected:
  DeltaSessionTest() : SessionTest(true) {}
  void ack_delta(const DiscoveryReply& r) {
    auto verdict = session.on_request({.type_url = r.type_url, .nonce = r.nonce});
    ASSERT_TRUE(verdict);
    EXPECT_TRUE(verdict->accepted);
  }
};

TEST_F(DeltaSessionTest, OnlyDifferences) {
  serve({res(kCds, "a"), res(kCds, "b")});
  ask(kCds);
  const DiscoveryReply first = reply();
  EXPECT_EQ(names_of(first), (Names{"a", "b"}));
  EXPECT_TRUE(first.removed.empty());
  ack_delta(first);
  EXPECT_TRUE(silent());
  serve({res(kCds, "b", "2"), res(kCds, "c")});
  const DiscoveryReply second = reply();
  EXPECT_EQ(names_of(second), (Names{"b", "c"}));
  EXPECT_EQ(second.removed, Names{"a"});
  ack_delta(second);
  EXPECT_TRUE(silent());
}

TEST_F(DeltaSessionTest, MissingNamesAreSaidToBeRemoved) {
  serve({res(kEds, "a")});
  ask(kEds, {"a", "none"});
  const DiscoveryReply first = reply();
  EXPECT_EQ(names_of(first), Names{"a"});
  EXPECT_EQ(first.removed, Names{"none"});
  ack_delta(first);
  EXPECT_TRUE(silent());
  serve({res(kEds, "a"), res(kEds, "none")});
  EXPECT_EQ(names_of(reply()), Names{"none"});
}

TEST_F(DeltaSessionTest, InitialVersionsSaveResending) {
  serve({res(kCds, "a"), res(kCds, "b", "2")});
  const auto version = [&](const std::string& name) { return (*snapshot->find(kCds)->find(name))->version; };
  session.on_request(
      {.type_url = kCds, .subscribe = {"*"}, .known = {{"a", version("a")}, {"b", "older"}, {"gone", "x"}}});
  const DiscoveryReply r = reply();
  EXPECT_EQ(names_of(r), Names{"b"});
  EXPECT_EQ(r.removed, Names{"gone"});
  ack_delta(r);

  AdsSession again(true, 1'000);
  again.set_snapshot(snapshot);
  again.on_request({.type_url = kCds, .subscribe = {"*"}, .known = {{"a", version("a")}, {"b", version("b")}}});
  EXPECT_FALSE(again.next_reply());
}

TEST_F(DeltaSessionTest, SubscriptionsCountEvenOnAStaleNonce) {
  serve({res(kEds, "a"), res(kEds, "b"), res(kEds, "c")});
  ask(kEds, {"a"});
  const DiscoveryReply first = reply();
  EXPECT_FALSE(session.on_request({.type_url = kEds, .nonce = "stale", .subscribe = {"b"}}));
  ack_delta(first);
  const DiscoveryReply second = reply();
  EXPECT_EQ(names_of(second), Names{"b"});
  ack_delta(second);
  session.on_request({.type_url = kEds, .unsubscribe = {"a"}});
  serve({res(kEds, "a", "2"), res(kEds, "b"), res(kEds, "c")});
  EXPECT_TRUE(silent());
  session.on_request({.type_url = kEds, .subscribe = {"b"}});
  EXPECT_EQ(names_of(reply()), Names{"b"}) << "subscribed again: sent again";
}

TEST_F(DeltaSessionTest, RefusedChangesComeWithTheNext) {
  serve({res(kCds, "a")});
  ask(kCds);
  ack_delta(reply());
  serve({res(kCds, "a", "bad")});
  nack(reply());
  EXPECT_TRUE(silent());
  serve({res(kCds, "a", "bad"), res(kCds, "b")});
  EXPECT_EQ(names_of(reply()), (Names{"a", "b"}));
}

TEST_F(DeltaSessionTest, VanishedClustersAreRemovedAfterTheRoutes) {
  serve({res(kCds, "old"), res(kRds, "r", "to old")});
  ask(kCds);
  ask(kRds, {"r"});
  ack_delta(reply());
  ack_delta(reply());
  serve({res(kCds, "new"), res(kRds, "r", "to new")});
  const DiscoveryReply added = reply();
  EXPECT_EQ(names_of(added), Names{"new"});
  EXPECT_TRUE(added.removed.empty());
  ack_delta(added);
  const DiscoveryReply routes = reply();
  EXPECT_EQ(routes.type_url, kRds);
  ack_delta(routes);
  EXPECT_EQ(reply().removed, Names{"old"});
}

TEST(ResourceSnapshot, SharesWhatIsEqualAndRefusesDuplicates) {
  ResourcePool pool;
  auto first = ResourceSnapshot::make(
      {Resource::make(kCds, "a", "1"), Resource::make(kCds, "b", "1"), Resource::make(kLds, "a", "1")}, &pool);
  ASSERT_TRUE(first);
  EXPECT_EQ((*first)->size(), 3u);
  auto second = ResourceSnapshot::make(
      {Resource::make(kCds, "b", "2"), Resource::make(kCds, "a", "1"), Resource::make(kLds, "a", "1")}, &pool);
  ASSERT_TRUE(second);
  EXPECT_EQ((*first)->find(kLds), (*second)->find(kLds));
  EXPECT_EQ(*(*first)->find(kCds)->find("a"), *(*second)->find(kCds)->find("a"));
  EXPECT_NE((*first)->find(kCds)->version, (*second)->find(kCds)->version);
  EXPECT_NE((*first)->version(), (*second)->version());

  auto twice = ResourceSnapshot::make({Resource::make(kCds, "a", "1"), Resource::make(kCds, "a", "2")});
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().detail.find("named a"), std::string::npos);
  EXPECT_FALSE(ResourceSnapshot::make({Resource::make(kCds, "", "1")}));
}

TEST(ResourcePool, ForgetsWhatNobodyHolds) {
  ResourcePool pool;
  std::weak_ptr<const Resource> gone;
  for (int i = 0; i < 5000; ++i) gone = pool.share(Resource::make(kCds, "a", std::to_string(i)));
  EXPECT_TRUE(gone.expired());
  const ResourcePtr held = pool.share(Resource::make(kCds, "a", "1"));
  EXPECT_EQ(pool.share(Resource::make(kCds, "a", "1")), held);
  EXPECT_NE(pool.share(Resource::make(kLds, "a", "1")), held);
  EXPECT_NE(pool.share(Resource::make(kCds, "b", "1")), held);
}

TEST(ResourceCache, TellsOfChangesOnly) {
  ResourceCache cache;
  std::vector<std::string> told;
  const uint64_t id = cache.listen([&](const std::string& group) { told.push_back(group); });
  EXPECT_EQ(cache.get(), nullptr);
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "1")}));
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "1")}));
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "2")}), "group");
  EXPECT_EQ(told, (Names{"", "group"}));
  cache.set(nullptr, "group");
  EXPECT_EQ(cache.get("group"), nullptr);
  cache.unlisten(id);
  cache.set(*ResourceSnapshot::make({}));
  EXPECT_EQ(told.size(), 2u);
}

}  // namespace
}  // namespace outrigger::control
