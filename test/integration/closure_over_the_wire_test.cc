// Closure over gRPC: whatever the order in which a control plane says the parts of a change, and wherever it dies in
// the middle, each request is answered by the old or by the new configuration.
#include <algorithm>
#include <array>
#include <set>

#include "support/ads/world_ads.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"
#include "support/traffic.h"

namespace outrigger::test {
namespace {

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos);
  return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

// Answers carry `mark`, by which the table's version can be seen.
std::string table(const std::string& name, const std::string& action, const std::string& mark) {
  return routes_resource(name, "- match: {prefix: /}\n  " + action + "\n",
                         "response_headers_to_add:\n- header: {key: x-table, value: \"" + mark + "\"}\n");
}
std::string to(const std::string& cluster) { return "route: {cluster: " + cluster + "}"; }

// What a client sees of the configuration that answers it: the table's mark and the service.
using Seen = std::pair<std::string, std::string>;

struct Change {
  std::string name;
  AdsWorld to;
  std::set<Seen> allowed;  // between the two
  Seen after;
};

class ClosureOverTheWire : public testing::TestWithParam<const char*> {
 protected:
  static constexpr std::array<const char*, 4> kTypes = {kClusterUrl, kEndpointsUrl, kListenerUrl, kRoutesUrl};
  using Order = std::array<const char*, 4>;

  bool incremental() const { return std::string_view(GetParam()) == "DELTA_GRPC"; }
  std::string listener(const std::string& name, const std::string& table) {
    return replaced(listener_resource(name, table), "port_value: 0", "port_value: " + std::to_string(port_));
  }
  AdsWorld old_world() {
    return AdsWorld()
        .with(listener("main", "t"))
        .with(table("t", to("a"), "1"))
        .with(eds_cluster_resource("a"))
        .with(endpoints_resource("a", {one_.port()}));
  }
  std::vector<Change> changes();

  void start() {
    ads_ = std::make_unique<WorldAds>(incremental(), old_world());
    proxy_ = std::make_unique<ProxyProcess>(ads_bootstrap(ads_->port(), GetParam()),
                                            std::vector<std::string>{"--concurrency", "2", "--drain-time", "2"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
    ASSERT_TRUE(becomes({"1", "one"})) << proxy_->output();
  }
  static Seen seen(const HttpMessage& answer) { return {answer.header("x-table").value_or(""), answer.body}; }
  bool becomes(const Seen& wanted) {
    return wait_until([&] { return seen(http_get(port_, "/")) == wanted; });
  }
  Traffic::Judge one_of(std::set<Seen> allowed) {
    return [allowed = std::move(allowed)](const HttpMessage& answer) {
      const Seen what = seen(answer);
      return allowed.contains(what) ? std::string() : "table " + what.first + ", service " + what.second;
    };
  }
  // Says the types of `world` in that order, each after the answer to the one before or all at once.
  void say(const AdsWorld& world, const Order& order, bool one_by_one) {
    for (const char* type : order) {
      ads_->release(type, world);
      if (!one_by_one) continue;
      ASSERT_TRUE(ads_->wait_answered()) << type;
    }
  }

  const uint16_t port_ = ListenSocket().port();  // free again: a renamed listener must name it
  FakeUpstream one_{[](Exchange& exchange) { exchange.respond(200, "one"); }};
  FakeUpstream two_{[](Exchange& exchange) { exchange.respond(200, "two"); }};
  std::unique_ptr<WorldAds> ads_;
  std::unique_ptr<ProxyProcess> proxy_;
};

INSTANTIATE_TEST_SUITE_P(Form, ClosureOverTheWire, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

std::vector<Change> ClosureOverTheWire::changes() {
  const auto changed = [this](const auto& edit) {
    AdsWorld world = old_world();
    edit(world);
    return world;
  };
  const auto swap_cluster = [this](AdsWorld& w) {
    w.without(kClusterUrl, "a").without(kEndpointsUrl, "a");
    w.with(eds_cluster_resource("b")).with(endpoints_resource("b", {two_.port()}));
  };
  const Seen before{"1", "one"}, after{"2", "two"};
  return {
      {"a cluster is renamed",
       changed([&](AdsWorld& w) {
         swap_cluster(w);
         w.with(table("t", to("b"), "2"));
       }),
       {before, after},
       after},
      {"a table is renamed",
       changed([&](AdsWorld& w) {
         w.without(kRoutesUrl, "t").with(table("t2", to("a"), "2")).with(listener("main", "t2"));
       }),
       {before, {"2", "one"}},
       {"2", "one"}},
      {"listener, table and cluster are renamed, the port stays",
       changed([&](AdsWorld& w) {
         swap_cluster(w);
         w.without(kListenerUrl, "main").without(kRoutesUrl, "t");
         w.with(listener("other", "t2")).with(table("t2", to("b"), "2"));
       }),
       {before, after},
       after},
      {"every part changes in place",
       changed([&](AdsWorld& w) {
         w.with(replaced(eds_cluster_resource("a"), "connect_timeout: 5s", "connect_timeout: 4s"));
         w.with(endpoints_resource("a", {two_.port()})).with(table("t", to("a"), "2"));
         w.with(replaced(listener("main", "t"), "stat_prefix: main", "stat_prefix: changed"));
       }),
       {before, after, {"1", "two"}, {"2", "one"}},
       after},
      {"a cluster takes another service, and a second one joins",
       changed([&](AdsWorld& w) {
         w.without(kEndpointsUrl, "a");
         w.with(replaced(eds_cluster_resource("a"), "{eds_config", "{service_name: s, eds_config"));
         w.with(endpoints_resource("s", {two_.port()}));
         w.with(eds_cluster_resource("c")).with(endpoints_resource("c", {two_.port()}));
         w.with(
             table("t", "route: {weighted_clusters: {clusters: [{name: a, weight: 1}, {name: c, weight: 1}]}}", "2"));
       }),
       {before, after, {"1", "two"}, {"2", "one"}},
       after},
  };
}

TEST_P(ClosureOverTheWire, EveryRequestIsAnsweredByOldOrNewInEveryOrder) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const Change& change : changes()) {
    Traffic traffic(port_, one_of(change.allowed));
    ASSERT_TRUE(traffic.wait_more(3));
    Order order = kTypes;
    std::sort(order.begin(), order.end(), [](const char* a, const char* b) { return std::string(a) < b; });
    bool one_by_one = false;
    do {
      SCOPED_TRACE(change.name + ": " + order[0] + ", " + order[1] + ", " + order[2] + ", " + order[3]);
      ASSERT_NO_FATAL_FAILURE(say(change.to, order, one_by_one));
      ASSERT_TRUE(becomes(change.after)) << proxy_->admin("/listeners") << proxy_->output();
      one_by_one = !one_by_one;
      // And back, in the same order.
      ASSERT_NO_FATAL_FAILURE(say(old_world(), order, one_by_one));
      ASSERT_TRUE(becomes({"1", "one"})) << proxy_->output();
      ASSERT_TRUE(ads_->wait_answered());
      ASSERT_EQ(traffic.faults(), "") << proxy_->output();
    } while (std::next_permutation(order.begin(), order.end(),
                                   [](const char* a, const char* b) { return std::string(a) < b; }));
    traffic.stop();
    EXPECT_EQ(traffic.faults(), "") << change.name;
  }
  EXPECT_TRUE(ads_->refusals().empty()) << ads_->refusals().front();
}

// After `step` parts of a change the control plane is gone; the next one says all of it.
TEST_P(ClosureOverTheWire, TheControlPlaneMayDieAtEveryStepOfAPush) {
  ASSERT_NO_FATAL_FAILURE(start());
  const Change change = changes()[2];
  Traffic traffic(port_, one_of(change.allowed));
  const uint16_t port = ads_->port();
  const Order make_before_break = {kClusterUrl, kEndpointsUrl, kListenerUrl, kRoutesUrl};
  const Order backwards = {kRoutesUrl, kListenerUrl, kEndpointsUrl, kClusterUrl};
  bool forth = true;
  for (const Order& order : {make_before_break, backwards}) {
    for (size_t step = 0; step <= order.size(); ++step) {
      SCOPED_TRACE("after " + std::to_string(step) + (order == backwards ? " parts, backwards" : " parts"));
      const AdsWorld next = forth ? change.to : old_world();
      for (size_t i = 0; i < step; ++i) {
        ads_->release(order[i], next);
        // The last one is on its way, or being judged, or taken.
        if (i + 1 == step && step % 2 == 1) continue;
        ASSERT_TRUE(ads_->wait_answered());
      }
      ads_.reset();
      ASSERT_TRUE(traffic.wait_more(10));
      ads_ = std::make_unique<WorldAds>(incremental(), next, port);
      ASSERT_TRUE(becomes(forth ? change.after : Seen{"1", "one"})) << proxy_->output();
      ASSERT_EQ(traffic.faults(), "") << proxy_->output();
      forth = !forth;
    }
  }
  traffic.stop();
  EXPECT_EQ(traffic.faults(), "");
}

}  // namespace
}  // namespace outrigger::test
