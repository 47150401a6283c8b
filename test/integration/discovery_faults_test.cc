// A control plane that makes every mistake there is, while the proxy serves: nothing that it says breaks a request, and
// when it says something right again that is followed.
#include <algorithm>
#include <atomic>

#include "support/ads/world_ads.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"
#include "support/traffic.h"

namespace outrigger::test {
namespace {

using Requests = std::vector<AdsRequest>;

std::string route_to(std::string_view cluster) {
  return "- match: {prefix: /}\n  route: {cluster: " + std::string(cluster) + "}\n";
}

// A table that is refused; `number` makes it another one.
std::string bad_table(int number) {
  return routes_resource(
      "table", "- match: {safe_regex: {regex: '(" + std::to_string(number) + "'}}\n  route: {cluster: one}\n");
}

size_t count_of(std::string_view text, std::string_view what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

class DiscoveryFaults : public testing::TestWithParam<const char*> {
 protected:
  bool incremental() const { return std::string_view(GetParam()) == "DELTA_GRPC"; }

  void SetUp() override {
    world_.with(listener_resource("main", "table")).with(routes_resource("table", route_to("one")));
    world_.with(eds_cluster_resource("one")).with(endpoints_resource("one", {one_.port()}));
    world_.with(eds_cluster_resource("two")).with(endpoints_resource("two", {two_.port()}));
    ads_ = std::make_unique<WorldAds>(incremental(), world_);
    proxy_ = std::make_unique<ProxyProcess>(ads_bootstrap(ads_->port(), GetParam()),
                                            std::vector<std::string>{"--concurrency", "2"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    port_ = proxy_->listener_port("main");
    ASSERT_NE(port_, 0) << proxy_->output();
    ASSERT_TRUE(ads_->wait_answered());
    traffic_ = std::make_unique<Traffic>(port_, [](const HttpMessage& answer) {
      return answer.body == "one" || answer.body == "two" ? std::string() : "says " + answer.body;
    });
    ASSERT_TRUE(traffic_->wait_more(1));
  }

  // Every mistake ends with this: no request has noticed, and the control plane is followed on.
  void expect_all_well() {
    ads_->release(kRoutesUrl, AdsWorld(world_).with(routes_resource("table", route_to("two"))));
    EXPECT_TRUE(becomes("/", "two")) << proxy_->output();
    EXPECT_TRUE(traffic_->wait_more(10));
    traffic_->stop();
    EXPECT_EQ(traffic_->faults(), "") << proxy_->output();
  }
  bool becomes(std::string_view target, std::string_view body) {
    return wait_until([&] { return http_get(port_, target).body == body; });
  }
  // The clusters as they are, once more.
  AdsResponse clusters(const std::string& nonce) {
    AdsResponse response{.type_url = kClusterUrl, .version = "again", .nonce = nonce};
    for (const auto& [name, resource] : world_.types[kClusterUrl]) response.resources.push_back(resource);
    return response;
  }
  bool wait_answer(const std::string& nonce) {
    return ads_->wire().wait([&](const Requests& requests) {
      return std::any_of(requests.begin(), requests.end(), [&](const AdsRequest& r) { return r.nonce == nonce; });
    });
  }
  std::vector<std::string> nacks() {
    std::vector<std::string> texts;
    for (const AdsRequest& request : ads_->wire().requests()) {
      if (!request.error_detail.empty()) texts.push_back(request.error_detail);
    }
    return texts;
  }

  FakeUpstream one_{[](Exchange& exchange) { exchange.respond(200, "one"); }};
  FakeUpstream two_{[](Exchange& exchange) { exchange.respond(200, "two"); }};
  AdsWorld world_;
  std::unique_ptr<WorldAds> ads_;
  std::unique_ptr<ProxyProcess> proxy_;
  std::unique_ptr<Traffic> traffic_;
  uint16_t port_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Form, DiscoveryFaults, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

// The transport is the same in both forms, and the message takes its time.
class DiscoveryLimits : public DiscoveryFaults {};
INSTANTIATE_TEST_SUITE_P(Form, DiscoveryLimits, testing::Values("GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(DiscoveryFaults, WrongNoncesAndDuplicatesAreAnsweredWithWhatCame) {
  const std::vector<std::string> nonces = {"same", "same", "same", "", "n1", "last"};
  const size_t before = ads_->wire().requests().size();
  for (const std::string& nonce : nonces) ads_->wire().send(clusters(nonce));
  ASSERT_TRUE(wait_answer("last"));
  std::vector<std::string> answers;
  const Requests requests = ads_->wire().requests();
  for (size_t i = before; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].error_detail, "");
    if (requests[i].type_url == kClusterUrl) answers.push_back(requests[i].nonce);
  }
  // Incremental: one by one. State of the world: the newest, at least.
  if (incremental()) {
    EXPECT_EQ(answers, nonces);
  } else {
    EXPECT_LE(answers.size(), nonces.size());
    EXPECT_EQ(answers.back(), "last");
  }
  expect_all_well();
  EXPECT_EQ(ads_->wire().streams(), 1u);
}

TEST_P(DiscoveryFaults, TypesThatNobodyAskedForAreIgnored) {
  for (const char* type : {"", "no slash", "type.googleapis.com/no.such.Type",
                           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"}) {
    ads_->wire().send({.type_url = type, .version = "1", .nonce = "strange", .resources = {{type, "x", "1", "bytes"}}});
  }
  expect_all_well();
  for (const AdsRequest& request : ads_->wire().requests()) EXPECT_NE(request.nonce, "strange") << request.type_url;
  EXPECT_TRUE(nacks().empty());
  EXPECT_TRUE(wait_until([&] { return count_of(proxy_->admin("/xds"), "\"ignored\": 4") == 1; }));
  EXPECT_EQ(ads_->wire().streams(), 1u);
}

TEST_P(DiscoveryFaults, AMessageThatDoesNotParseEndsTheStreamAndNothingElse) {
  ads_->wire().send_bytes("\xff\xff\xff not a response");
  EXPECT_TRUE(wait_until([&] { return ads_->wire().streams() == 2; })) << proxy_->output();
  EXPECT_NE(proxy_->output().find("does not parse"), std::string::npos);
  expect_all_well();
}

TEST_P(DiscoveryFaults, AResourceNamedTwiceIsRefusedAndWhatIsBesideItTaken) {
  AdsResponse response = clusters("twice");
  const size_t first = response.resources.size();
  for (const char* timeout : {"", "per_connection_buffer_limit_bytes: 1\n"})
    response.resources.push_back(ads_resource(eds_cluster_resource("double", timeout)));
  response.resources.push_back(ads_resource(eds_cluster_resource("beside")));
  EXPECT_EQ(response.resources.size(), first + 3);
  ads_->wire().send(response);
  ASSERT_TRUE(wait_answer("twice"));
  ASSERT_EQ(nacks().size(), 1u);
  EXPECT_NE(nacks()[0].find("Cluster/double is there twice"), std::string::npos) << nacks()[0];
  EXPECT_TRUE(ads_->wire().wait([](const Requests& requests) {
    return std::any_of(requests.begin(), requests.end(), [](const AdsRequest& r) {
      return r.type_url == kEndpointsUrl && std::count(r.names.begin(), r.names.end(), "beside") == 1;
    });
  }));
  expect_all_well();
}

TEST_P(DiscoveryFaults, ADanglingReferenceHoldsBackOnlyWhatNamesIt) {
  AdsWorld next = world_;
  next.with(routes_resource("table", "- match: {prefix: /late}\n  route: {cluster: late}\n" + route_to("two")));
  ads_->release(kRoutesUrl, next);
  ASSERT_TRUE(ads_->wait_answered());
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/config_dump").find("waits_for") != std::string::npos; }));
  EXPECT_EQ(http_get(port_, "/late").body, "one");
  // What does not name it goes on changing.
  ads_->release(kEndpointsUrl, AdsWorld(next).with(endpoints_resource("one", {two_.port()})));
  EXPECT_TRUE(becomes("/", "two")) << proxy_->output();
  ads_->release(kEndpointsUrl, next);
  EXPECT_TRUE(becomes("/", "one")) << proxy_->output();
  // And when it comes at last, that is that.
  next.with(eds_cluster_resource("late")).with(endpoints_resource("late", {two_.port()}));
  ads_->release(kClusterUrl, next);
  ads_->release(kEndpointsUrl, next);
  EXPECT_TRUE(becomes("/late", "two")) << proxy_->output();
  EXPECT_TRUE(nacks().empty());
  expect_all_well();
}

TEST_P(DiscoveryFaults, AStallInTheMiddleOfAPushServesTheOldConfiguration) {
  AdsWorld next = world_;
  next.without(kClusterUrl, "one").without(kEndpointsUrl, "one").without(kRoutesUrl, "table");
  next.with(listener_resource("main", "other")).with(routes_resource("other", route_to("three")));
  next.with(eds_cluster_resource("three")).with(endpoints_resource("three", {two_.port()}));
  ads_->release(kClusterUrl, next);
  ads_->release(kListenerUrl, next);
  ASSERT_TRUE(ads_->wait_answered());
  ASSERT_TRUE(traffic_->wait_more(100));
  EXPECT_EQ(http_get(port_, "/").body, "one");
  // What is waited for can be seen.
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/config_dump").find("waits_for") != std::string::npos; }));
  ads_->wire().end_stream(14, "the control plane goes away in mid-push");
  ASSERT_TRUE(wait_until([&] { return ads_->wire().streams() == 2; })) << proxy_->output();
  EXPECT_EQ(http_get(port_, "/").body, "one");
  ads_->release(kEndpointsUrl, next);
  ads_->release(kRoutesUrl, next);
  EXPECT_TRUE(becomes("/", "two")) << proxy_->output();
  EXPECT_TRUE(nacks().empty());
  traffic_->stop();
  EXPECT_EQ(traffic_->faults(), "");
}

TEST_P(DiscoveryLimits, AMessageBeyondTheLimitEndsTheStreamAndIsNotAskedForInHaste) {
  const uint16_t port = ads_->port();
  ads_.reset();
  {
    std::atomic<bool> sent = false;
    ScriptedAds huge({.incremental = incremental(), .port = port, .on_request = [&](ScriptedAds& self, const auto&) {
                        if (!sent.exchange(true)) self.send_zeros((256 << 20) + 1);
                      }});
    ASSERT_TRUE(huge.wait([](const Requests& requests) { return !requests.empty() && requests.back().stream == 2; },
                          Milliseconds(60'000)));
    const Requests requests = huge.requests();
    const auto of = [&](uint64_t stream) {
      return std::find_if(requests.begin(), requests.end(), [&](const auto& r) { return r.stream == stream; })->at;
    };
    // The second back-off, not the first one again.
    EXPECT_GE(of(2) - of(1), Milliseconds(750));
    EXPECT_TRUE(proxy_->process().wait_for_output("RESOURCE_EXHAUSTED").has_value()) << proxy_->output();
    EXPECT_EQ(count_of(proxy_->output(), "RESOURCE_EXHAUSTED"), 1u);
  }
  ads_ = std::make_unique<WorldAds>(incremental(), world_, port);
  expect_all_well();
}

TEST_P(DiscoveryFaults, ARefusedVersionThatIsSentAgainAtOnceIsRefusedEverMoreRarely) {
  ads_->resend_refused();
  ads_->release(kRoutesUrl, AdsWorld(world_).with(bad_table(0)));
  const auto refused_at = [&](size_t number) {
    Requests refusals;
    EXPECT_TRUE(ads_->wire().wait([&](const Requests& requests) {
      refusals.clear();
      std::copy_if(requests.begin(), requests.end(), std::back_inserter(refusals),
                   [](const AdsRequest& r) { return !r.error_detail.empty(); });
      return refusals.size() >= number;
    }));
    return refusals.size() >= number ? refusals[number - 1].at : std::chrono::steady_clock::time_point();
  };
  EXPECT_GE(refused_at(2) - refused_at(1), Milliseconds(900));
  EXPECT_NE(nacks()[0].find("RouteConfiguration/table"), std::string::npos) << nacks()[0];
  EXPECT_NE(nacks()[0].find("safe_regex"), std::string::npos) << nacks()[0];
  EXPECT_LE(nacks().size(), 3u);
  EXPECT_LE(count_of(proxy_->output(), "refused"), 3u) << proxy_->output();
  expect_all_well();
}

TEST_P(DiscoveryFaults, AFloodOfMistakesMakesFewAnswersAndFewLines) {
  constexpr int kFlood = 500;
  for (const bool same : {true, false}) {
    for (int i = 0; i < kFlood; ++i) {
      const std::string tag = (same ? "same" : "other") + std::to_string(i);
      ads_->wire().send(
          {.type_url = kRoutesUrl, .version = tag, .nonce = tag, .resources = {ads_resource(bad_table(same ? 0 : i))}});
    }
    const std::string good = same ? "good" : "good too";
    ads_->wire().send({.type_url = kRoutesUrl,
                       .version = good,
                       .nonce = good,
                       .resources = {ads_resource(routes_resource("table", route_to(same ? "two" : "one")))}});
    ASSERT_TRUE(wait_answer(good)) << proxy_->output();
    EXPECT_TRUE(becomes("/", same ? "two" : "one")) << proxy_->output();
  }
  EXPECT_LE(nacks().size(), 20u);
  EXPECT_LE(count_of(proxy_->output(), "refused"), 40u) << proxy_->output();
  expect_all_well();
}

}  // namespace
}  // namespace outrigger::test
