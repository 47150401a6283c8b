#include "proxy/store.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <random>

#include "config/source_scope.h"
#include "net/socket_options.h"
#include "proxy/specs.h"
#include "support/sanitizers.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;
using config::EndpointSpec;
using config::EndpointsSpec;
using config::ListenerSpec;
using config::ResourceType;
using config::RouteTableSpec;

struct StoreTest : testing::Test {
  StoreTest() { make(false); }
  void make(bool bind) {
    store = std::make_unique<Store>(StoreOptions{
        .stats = &registry, .access_log = nullptr, .workers = 2, .bind = bind, .now_ms = [this] { return now; }});
  }
  void accept(config::Spec spec, Source source = Source::kXds, std::string version = "1") {
    const auto verdict = store->accept(std::move(spec), {}, source, std::move(version));
    ASSERT_TRUE(verdict.has_value()) << verdict.error().detail;
  }
  std::string refusal(config::Spec spec, Source source = Source::kXds, std::string version = "1") {
    const auto verdict = store->accept(std::move(spec), {}, source, std::move(version));
    return verdict ? "" : verdict.error().detail;
  }
  std::shared_ptr<const Snapshot> live() {
    store->assemble();
    return store->live();
  }
  bool has_cluster(const char* name) { return live()->clusters.find(name) != nullptr; }
  bool has_listener(const char* name) { return live()->listeners.find(name) != nullptr; }
  StoreStatus::Resource status(ResourceType type, const std::string& name) {
    for (const auto& r : store->status()->resources) {
      if (r.type == type && r.name == name) return r;
    }
    return {};
  }
  // Every name in the snapshot leads somewhere.
  void expect_closed(const Snapshot& s) {
    struct Check final : References {
      const Snapshot& s;
      explicit Check(const Snapshot& snapshot) : s(snapshot) {}
      void cluster(std::string_view n) override { EXPECT_NE(s.clusters.find(n), nullptr) << n; }
      void route_table(std::string_view n) override { EXPECT_NE(s.route_tables.find(n), nullptr) << n; }
      void secret(std::string_view) override {}
    } check(s);
    s.listeners.for_each([&](const std::string&, const LinkedListener& l) {
      l.part->references(check);
      ASSERT_EQ(l.chains.size(), l.part->chains.size());
      for (const LinkedChain& chain : l.chains) EXPECT_NE(chain.routes, nullptr);
    });
    s.route_tables.for_each([&](const std::string&, const auto& t) { t->references(check); });
    s.clusters.for_each([&](const std::string&, const LinkedCluster& c) { EXPECT_NE(c.hosts, nullptr); });
  }

  stats::Registry registry{2};
  int64_t now = 1'000'000;
  std::unique_ptr<Store> store;
};

TEST_F(StoreTest, EmptyStoreHasAnEmptySnapshot) {
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->live()->version, 0u);
  EXPECT_TRUE(store->settled());
  EXPECT_EQ(store->next_deadline_ms(), -1);
}

TEST_F(StoreTest, EveryOrderOfArrivalEndsInTheSameClosedSnapshot) {
  std::vector<int> order{0, 1, 2, 3};
  do {
    make(false);
    for (int step : order) {
      switch (step) {
        case 0:
          accept(eds_cluster("c", "svc"));
          break;
        case 1:
          accept(endpoints("svc", {80, 81}));
          break;
        case 2:
          accept(table("t", {"c"}));
          break;
        case 3:
          accept(listener("l", "t"));
          break;
      }
      if (auto snapshot = store->assemble()) expect_closed(*snapshot);
    }
    const auto snapshot = store->live();
    ASSERT_NE(snapshot->listeners.find("l"), nullptr);
    EXPECT_EQ(snapshot->listeners.find("l")->chains[0].routes, *snapshot->route_tables.find("t"));
    EXPECT_EQ(snapshot->clusters.find("c")->hosts->all().size(), 2u);
    EXPECT_TRUE(store->settled());
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(StoreTest, EqualResourcesKeepTheirPartsAndMakeNoSnapshot) {
  accept(static_cluster("c"));
  accept(table("t", {"c"}));
  accept(listener("l", "t"));
  const auto before = live();
  accept(static_cluster("c"), Source::kXds, "2");
  accept(table("t", {"c"}), Source::kXds, "2");
  accept(listener("l", "t"), Source::kXds, "2");
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(status(ResourceType::kCluster, "c").live_version, "2");
  accept(static_cluster("d"));
  const auto after = live();
  EXPECT_EQ(after->version, before->version + 1);
  EXPECT_EQ(after->clusters.find("c")->cluster, before->clusters.find("c")->cluster);
  EXPECT_EQ(*after->route_tables.find("t"), *before->route_tables.find("t"));
  EXPECT_EQ(after->listeners.find("l")->part, before->listeners.find("l")->part);
}

TEST_F(StoreTest, EqualBytesKeepATable) {
  accept(listener("l", "t"));
  ASSERT_TRUE(store->accept(table("t", {}), "bytes", Source::kXds, "1"));
  const auto before = *live()->route_tables.find("t");
  ASSERT_TRUE(store->accept(table("t", {}), "bytes", Source::kXds, "2"));
  EXPECT_EQ(store->assemble(), nullptr);
  ASSERT_TRUE(store->accept(table("t", {}), "other", Source::kXds, "3"));
  EXPECT_NE(*live()->route_tables.find("t"), before);
}

TEST_F(StoreTest, EndpointUpdatesReplaceOneClustersHostsAndKeepItsHosts) {
  accept(eds_cluster("a"));
  accept(eds_cluster("b"));
  accept(endpoints("a", {80}));
  accept(endpoints("b", {80}));
  const auto before = live();
  accept(endpoints("a", {80, 81}));
  const auto after = live();
  EXPECT_EQ(after->clusters.find("a")->cluster, before->clusters.find("a")->cluster);
  EXPECT_EQ(after->clusters.find("b")->hosts, before->clusters.find("b")->hosts);
  EXPECT_EQ(after->clusters.find("a")->hosts->all()[0].host, before->clusters.find("a")->hosts->all()[0].host);
  EXPECT_EQ(registry.value("cluster.a.membership_total"), 2u);
}

TEST_F(StoreTest, ChangedClusterKeepsItsStateAndIsWarmAtOnce) {
  accept(eds_cluster("a", "svc"));
  accept(endpoints("svc", {80}));
  const auto before = live();
  ClusterSpec changed = eds_cluster("a", "svc");
  changed.connect_timeout_ms = 7;
  accept(changed);
  const auto after = live();
  EXPECT_NE(after->clusters.find("a")->cluster, before->clusters.find("a")->cluster);
  EXPECT_EQ(after->clusters.find("a")->cluster->shared_state(), before->clusters.find("a")->cluster->shared_state());
  EXPECT_EQ(after->clusters.find("a")->hosts, before->clusters.find("a")->hosts);
}

TEST_F(StoreTest, OldVersionServesWhileTheNewOneWaits) {
  accept(static_cluster("a"));
  accept(table("t", {"a"}));
  accept(listener("l", "t"));
  const auto before = live();
  accept(table("t", {"a", "b"}), Source::kXds, "2");
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_FALSE(store->settled());
  const auto waiting = status(ResourceType::kRouteTable, "t");
  EXPECT_EQ(waiting.live_version, "1");
  EXPECT_EQ(waiting.staged_version, "2");
  EXPECT_EQ(waiting.waits_for(), std::vector<std::string>{"cluster b: unknown"});
  // An unrelated change is not held back.
  accept(static_cluster("x"));
  EXPECT_TRUE(has_cluster("x"));
  EXPECT_EQ(*store->live()->route_tables.find("t"), *before->route_tables.find("t"));
  accept(eds_cluster("b"));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(status(ResourceType::kRouteTable, "t").waits_for(), std::vector<std::string>{"cluster b: endpoints"});
  accept(endpoints("b", {80}));
  const auto after = live();
  EXPECT_NE(*after->route_tables.find("t"), *before->route_tables.find("t"));
  EXPECT_EQ(after->listeners.find("l")->chains[0].routes, *after->route_tables.find("t"));
  expect_closed(*after);
  EXPECT_TRUE(store->settled());
}

TEST_F(StoreTest, StepBackToTheLiveVersionEndsTheWait) {
  accept(listener("l", "t"));
  accept(static_cluster("a"));
  accept(table("t", {"a"}));
  live();
  accept(table("t", {"b"}));
  EXPECT_EQ(store->assemble(), nullptr);
  accept(table("t", {"a"}));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_TRUE(store->settled());
  EXPECT_EQ(store->next_deadline_ms(), -1);
}

TEST_F(StoreTest, RenamedClusterNeverDangles) {
  accept(static_cluster("old"));
  accept(table("t", {"old"}));
  accept(listener("l", "t"));
  expect_closed(*live());
  // Cluster first, as a server without make-before-break sends it.
  store->retain_only(ResourceType::kCluster, Source::kXds, {"new"});
  accept(eds_cluster("new"));
  EXPECT_TRUE(has_cluster("old"));
  EXPECT_TRUE(status(ResourceType::kCluster, "old").removed_but_named);
  accept(table("t", {"new"}));
  EXPECT_TRUE(has_cluster("old"));
  expect_closed(*store->live());
  accept(endpoints("new", {80}));
  const auto snapshot = live();
  expect_closed(*snapshot);
  EXPECT_EQ(snapshot->clusters.find("old"), nullptr);
  EXPECT_NE(snapshot->clusters.find("new"), nullptr);
}

TEST_F(StoreTest, DeletedButNamedClusterKeepsItsEndpointsUntilNothingNamesIt) {
  accept(eds_cluster("c"));
  accept(endpoints("c", {80}));
  accept(table("t", {"c"}));
  accept(listener("l", "t"));
  live();
  store->remove(ResourceType::kCluster, "c", Source::kXds);
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->wanted_endpoints(), std::vector<std::string>{"c"});
  accept(endpoints("c", {80, 81}));
  EXPECT_EQ(live()->clusters.find("c")->hosts->all().size(), 2u);
  store->remove(ResourceType::kListener, "l", Source::kXds);
  const auto snapshot = live();
  EXPECT_EQ(snapshot->listeners.size() + snapshot->route_tables.size() + snapshot->clusters.size(), 0u);
  EXPECT_TRUE(store->wanted_endpoints().empty());
  EXPECT_TRUE(store->status()->resources.empty());
}

TEST_F(StoreTest, WantsIsANewNumberWheneverWhatIsAskedForIs) {
  uint64_t before = store->wants();
  const auto changed = [&] {
    const uint64_t old = std::exchange(before, store->wants());
    return old != before;
  };
  accept(eds_cluster("c"));
  EXPECT_TRUE(changed());
  accept(table("t", {"c"}));
  accept(endpoints("c", {80}));
  EXPECT_FALSE(changed());
  accept(listener("l", "t"));
  live();
  EXPECT_TRUE(changed());
  accept(endpoints("c", {80, 81}));
  live();
  EXPECT_FALSE(changed());
  store->remove(ResourceType::kListener, "l", Source::kXds);
  store->remove(ResourceType::kCluster, "c", Source::kXds);
  EXPECT_TRUE(changed());
  live();  // they were named until now
  EXPECT_TRUE(changed());
  EXPECT_TRUE(store->wanted_endpoints().empty());
}

TEST_F(StoreTest, RemovalIsTakenBackByANewVersion) {
  accept(static_cluster("c"));
  live();
  store->remove(ResourceType::kCluster, "c", Source::kXds);
  accept(static_cluster("c"));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_TRUE(has_cluster("c"));
}

TEST_F(StoreTest, TablesThatArriveLateAreDroppedTooWhenNoListenerNamesThem) {
  accept(listener("l", "t"));
  live();
  EXPECT_EQ(store->wanted_route_tables(), std::vector<std::string>{"t"});
  accept(table("t", {}));
  EXPECT_NE(live()->route_tables.find("t"), nullptr);
  accept(table("u", {}));
  accept(listener("l", "u"));
  const auto snapshot = live();
  EXPECT_EQ(snapshot->route_tables.find("t"), nullptr);
  EXPECT_NE(snapshot->route_tables.find("u"), nullptr);
  EXPECT_EQ(status(ResourceType::kRouteTable, "t").name, "");
}

TEST_F(StoreTest, TableOfAFileWaitsForAListenerAndSurvivesIt) {
  accept(table("t", {}), Source::kFile);
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_TRUE(store->settled());
  accept(listener("l", "t"), Source::kFile);
  EXPECT_TRUE(has_listener("l"));
  store->remove(ResourceType::kRouteTable, "t", Source::kFile);
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_TRUE(status(ResourceType::kRouteTable, "t").removed_but_named);
  accept(table("t", {}), Source::kFile);
  store->remove(ResourceType::kListener, "l", Source::kFile);
  live();
  accept(listener("l", "t"), Source::kFile);
  EXPECT_TRUE(has_listener("l"));
}

TEST_F(StoreTest, HoldsEndAndAreTimedFromTheFirstHeldVersion) {
  accept(eds_cluster("c"));
  accept(table("t", {"c", "never"}));
  accept(listener("l", "t"));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->next_deadline_ms(), now + 15'000);
  now += 14'000;
  ClusterSpec changed = eds_cluster("c");
  changed.connect_timeout_ms = 1;
  accept(changed);
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->next_deadline_ms(), now + 1'000);
  now += 1'000;
  const auto snapshot = live();
  ASSERT_NE(snapshot->clusters.find("c"), nullptr);
  EXPECT_TRUE(snapshot->clusters.find("c")->hosts->all().empty());
  ASSERT_NE(snapshot->listeners.find("l"), nullptr);
  EXPECT_NE(snapshot->listeners.find("l")->chains[0].routes, nullptr);
  EXPECT_EQ(store->status()->forced, 2u);  // the cluster and the table; the listener had what it names
  EXPECT_EQ(registry.value("store.forced"), 2u);
  EXPECT_EQ(store->next_deadline_ms(), -1);
  accept(endpoints("c", {80}));
  EXPECT_EQ(live()->clusters.find("c")->hosts->all().size(), 1u);
}

TEST_F(StoreTest, ListenerWithoutItsTableIsPublishedAfterItsOwnTimeout) {
  ListenerSpec spec = listener("l", "t");
  spec.filter_chains[0].hcm.rds_source.initial_fetch_timeout_ms = 200;
  accept(spec);
  EXPECT_FALSE(has_listener("l"));
  EXPECT_EQ(status(ResourceType::kListener, "l").waits_for(), std::vector<std::string>{"route table t: unknown"});
  now += 200;
  const auto snapshot = live();
  ASSERT_NE(snapshot->listeners.find("l"), nullptr);
  EXPECT_EQ(snapshot->listeners.find("l")->chains[0].routes, nullptr);
  accept(table("t", {}));
  EXPECT_NE(live()->listeners.find("l")->chains[0].routes, nullptr);
}

// A table waits as long as the sources that listeners name for it say; what names no source of its own as long as that
// which brought it.
TEST_F(StoreTest, HoldsFollowTheirSources) {
  const auto from = [](const char* name, uint64_t timeout_ms) {
    ListenerSpec spec = listener(name, "t");
    spec.filter_chains[0].hcm.rds_source.initial_fetch_timeout_ms = timeout_ms;
    return spec;
  };
  accept(from("l", 200));
  accept(table("t", {"never"}));
  EXPECT_FALSE(has_listener("l"));
  EXPECT_EQ(store->next_deadline_ms(), now + 200);
  now += 200;
  EXPECT_TRUE(has_listener("l"));
  // Of several listeners the most patient one.
  accept(from("m", 60'000));
  accept(table("t", {"never", "neither"}));
  live();
  EXPECT_EQ(store->next_deadline_ms(), now + 60'000);
  accept(from("m", 0));
  live();
  now += 1'000'000;
  live();
  EXPECT_EQ(store->next_deadline_ms(), -1);
  EXPECT_EQ(status(ResourceType::kRouteTable, "t").waits_for(),
            (std::vector<std::string>{"cluster neither: unknown", "cluster never: unknown"}));

  make(false);
  Origin patient(Source::kXds);
  patient.initial_fetch_timeout_ms = 40'000;
  ListenerSpec inlined = listener("i", "");
  inlined.filter_chains[0].hcm.route_table = std::make_shared<RouteTableSpec>(table("inline", {"never"}));
  ASSERT_TRUE(store->accept(inlined, {}, patient));
  ASSERT_TRUE(store->accept(aggregate_cluster("agg", {"never"}), {}, patient));
  store->assemble();
  EXPECT_EQ(store->next_deadline_ms(), now + 40'000);
  now += 39'999;
  EXPECT_EQ(store->assemble(), nullptr);
  now += 1;
  EXPECT_TRUE(has_cluster("agg"));
  EXPECT_TRUE(has_listener("i"));
}

TEST_F(StoreTest, ANameIsAnotherResourceInEachSource) {
  config::ConfigSourceSpec other{.kind = config::ConfigSourceSpec::Kind::kGrpc};
  other.services = {{.cluster = "control_b"}};
  config::ConfigSourceSpec tokened = other;
  tokened.services[0].initial_metadata = {{"x", "y"}};
  EXPECT_NE(config::scope_of(other), config::scope_of(tokened));
  other.initial_fetch_timeout_ms = 1;
  const std::string scope = config::scope_of(other);
  ClusterSpec mine = eds_cluster("mine", "svc"), theirs = eds_cluster("theirs", "svc");
  theirs.eds_source = other;
  theirs.eds_source.initial_fetch_timeout_ms = 60'000;
  ListenerSpec theirs_too = listener("m", "t");
  theirs_too.filter_chains[0].hcm.rds_source = other;
  theirs_too.filter_chains[0].hcm.rds_source.initial_fetch_timeout_ms = 60'000;
  accept(mine);
  accept(theirs);
  accept(listener("l", "t"));
  accept(theirs_too);
  accept(endpoints("svc", {81}));
  accept(table("t", {"mine"}));
  EXPECT_TRUE(has_cluster("mine"));
  EXPECT_TRUE(has_listener("l"));
  EXPECT_FALSE(has_cluster("theirs"));
  EXPECT_FALSE(has_listener("m"));
  EXPECT_EQ(status(ResourceType::kCluster, "theirs").waits_for(),
            (std::vector<std::string>{"endpoints svc (control_b)"}));
  EXPECT_EQ(status(ResourceType::kListener, "m").waits_for(),
            (std::vector<std::string>{"route table t: unknown (control_b)"}));
  ASSERT_TRUE(store->accept(endpoints("svc", {91, 92}), {}, {Source::kXds, scope}));
  ASSERT_TRUE(store->accept(table("t", {"theirs"}), {}, {Source::kXds, scope}));
  const auto both = live();
  expect_closed(*both);
  EXPECT_EQ(both->clusters.find("mine")->hosts->all().size(), 1u);
  EXPECT_EQ(both->clusters.find("theirs")->hosts->all().size(), 2u);
  EXPECT_NE(both->listeners.find("l")->chains[0].routes, both->listeners.find("m")->chains[0].routes);
  EXPECT_EQ(store->wanted_endpoints(), std::vector<std::string>{"svc"});
  ASSERT_EQ(store->wanted_streams().size(), 2u);
  for (const WantedStream& stream : store->wanted_streams())
    EXPECT_EQ(stream.names, std::vector<std::string>{stream.type == ResourceType::kEndpoints ? "svc" : "t"});
  // Each source removes and changes its own.
  store->remove(ResourceType::kEndpoints, "svc", Source::kXds);
  accept(endpoints("svc", {81, 82, 83}));
  live();
  EXPECT_EQ(store->live()->clusters.find("mine")->hosts->all().size(), 3u);
  EXPECT_EQ(store->live()->clusters.find("theirs")->hosts->all().size(), 2u);
  // No name of one source is another's.
  EXPECT_NE(refusal(endpoints("svc\n" + scope, {1})), "");
  store->remove(ResourceType::kEndpoints, "svc\n" + scope, Source::kXds);
  EXPECT_FALSE(status(ResourceType::kEndpoints, "svc").removed_but_named);
  // A cluster that moves from one to the other waits for that one's answer.
  mine.eds_source = theirs.eds_source;
  store->remove(ResourceType::kCluster, "theirs", Source::kXds);
  store->remove(ResourceType::kListener, "m", Source::kXds);
  accept(mine);
  EXPECT_EQ(live()->clusters.find("mine")->hosts->all().size(), 2u);
  EXPECT_EQ(store->wanted_endpoints(), std::vector<std::string>{});
}

TEST_F(StoreTest, TimeoutZeroWaitsForEver) {
  ClusterSpec cluster = eds_cluster("c");
  cluster.eds_source.initial_fetch_timeout_ms = 0;
  accept(cluster);
  ListenerSpec spec = listener("l", "t");
  spec.filter_chains[0].hcm.rds_source.initial_fetch_timeout_ms = 0;
  accept(spec);
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->next_deadline_ms(), -1);
  now += 1'000'000'000;
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_FALSE(store->settled());
}

TEST_F(StoreTest, DnsClustersWarmByTheirAddresses) {
  accept(dns_cluster("d", "one.test"));
  EXPECT_FALSE(has_cluster("d"));
  ASSERT_EQ(store->dns_clusters().size(), 1u);
  EXPECT_EQ(store->dns_clusters()[0]->endpoints.endpoints[0].address.host, "one.test");
  store->set_resolved("d", {endpoint(80), endpoint(80, "not an address")});
  const auto first = live();
  EXPECT_EQ(first->clusters.find("d")->hosts->all().size(), 1u);
  store->set_resolved("d", {endpoint(80)});
  EXPECT_EQ(store->assemble(), nullptr);
  store->set_resolved("d", {endpoint(80), endpoint(81)});
  EXPECT_EQ(live()->clusters.find("d")->hosts->all().size(), 2u);
  // The same names: warm at once. Other names: resolved anew.
  ClusterSpec changed = dns_cluster("d", "one.test");
  changed.connect_timeout_ms = 1;
  accept(changed);
  EXPECT_EQ(live()->clusters.find("d")->cluster->spec().connect_timeout_ms, 1u);
  accept(dns_cluster("d", "two.test"));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->dns_clusters()[0]->endpoints.endpoints[0].address.host, "two.test");
  now += 15'000;
  EXPECT_TRUE(live()->clusters.find("d")->hosts->all().empty());
  store->set_resolved("unknown", {});
}

TEST_F(StoreTest, ChangedServiceNameWaitsAndDropsTheOldEndpoints) {
  accept(eds_cluster("c", "one"));
  accept(endpoints("one", {80}));
  live();
  accept(eds_cluster("c", "two"));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->wanted_endpoints(), (std::vector<std::string>{"one", "two"}));
  accept(endpoints("two", {90}));
  EXPECT_EQ(live()->clusters.find("c")->hosts->all()[0].host->text, "127.0.0.1:90");
  EXPECT_EQ(store->wanted_endpoints(), std::vector<std::string>{"two"});
  EXPECT_EQ(status(ResourceType::kEndpoints, "one").name, "");
}

TEST_F(StoreTest, StaticResourcesAreNobodyElses) {
  accept(static_cluster("c"), Source::kStatic);
  live();
  EXPECT_NE(refusal(static_cluster("c", 81)).find("static resource"), std::string::npos);
  store->remove(ResourceType::kCluster, "c", Source::kXds);
  store->retain_only(ResourceType::kCluster, Source::kXds, {});
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_TRUE(has_cluster("c"));
  EXPECT_NE(status(ResourceType::kCluster, "c").refused(), "");
}

TEST_F(StoreTest, RefusedVersionKeepsTheLastGoodOne) {
  accept(static_cluster("c"));
  const auto before = live()->clusters.find("c")->cluster;
  ClusterSpec bad = static_cluster("c");
  bad.endpoints.endpoints[0].address.host = "nonsense";
  EXPECT_NE(refusal(bad, Source::kXds, "2"), "");
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(live()->clusters.find("c")->cluster, before);
  EXPECT_EQ(status(ResourceType::kCluster, "c").refused_version(), "2");
  config::Faults faults;
  faults.add_at("lb_policy", "unknown");
  store->refuse(ResourceType::kCluster, "new", "3", faults);
  EXPECT_EQ(status(ResourceType::kCluster, "new").refused_version(), "3");
  EXPECT_EQ(store->assemble(), nullptr);
  accept(static_cluster("new"));
  EXPECT_EQ(status(ResourceType::kCluster, "new").refused(), "");
}

TEST_F(StoreTest, TwoListenersCannotHaveOneAddress) {
  accept(listener("a", "t", 19'999));
  EXPECT_NE(refusal(listener("b", "t", 19'999)).find("listener \"a\""), std::string::npos);
  EXPECT_EQ(refusal(listener("b", "t", 19'998)), "");
  EXPECT_EQ(refusal(listener("c", "t", 0)), "");
  EXPECT_EQ(refusal(listener("d", "t", 0)), "");
  // One that goes gives its address away.
  store->remove(ResourceType::kListener, "a", Source::kXds);
  EXPECT_EQ(refusal(listener("e", "t", 19'999)), "");
}

TEST_F(StoreTest, SocketsSurviveListenerChangesAndPort0KeepsItsPort) {
  make(true);
  accept(table("t", {}));
  accept(listener("l", "t"));
  const auto before = live()->listeners.find("l")->part;
  ASSERT_EQ(before->sockets.size(), 1u);
  const uint16_t port = before->sockets[0]->address().port();
  EXPECT_NE(port, 0);
  ListenerSpec changed = listener("l", "t");
  changed.filter_chains[0].hcm.idle_timeout_ms = 5;
  accept(changed);
  const auto after = live()->listeners.find("l")->part;
  EXPECT_NE(after, before);
  EXPECT_EQ(after->sockets[0], before->sockets[0]);
  EXPECT_EQ(after->chains[0]->identity, before->chains[0]->identity);
  changed.filter_chains[0].hcm.max_headers_count = 7;
  accept(changed);
  EXPECT_NE(live()->listeners.find("l")->part->chains[0]->identity, before->chains[0]->identity);
}

TEST_F(StoreTest, RenamedListenerTakesOverTheSockets) {
  make(true);
  accept(table("t", {}), Source::kFile);
  std::shared_ptr<net::SocketSet> free = *net::SocketSet::create(*net::Address::parse("127.0.0.1", 0), 1, 0);
  const uint16_t port = free->address().port();
  EXPECT_NE(refusal(listener("a", "t", port)), "");  // somebody has it
  free.reset();
  accept(listener("a", "t", port));
  const auto before = live()->listeners.find("a")->part;
  store->retain_only(ResourceType::kListener, Source::kXds, {"b"});
  accept(listener("b", "t", port));
  const auto snapshot = live();
  EXPECT_EQ(snapshot->listeners.find("a"), nullptr);
  EXPECT_EQ(snapshot->listeners.find("b")->part->sockets, before->sockets);
}

// Listeners whose sockets have TCP_KEEPIDLE set to `idle_s`.
struct SocketOptionsTest : StoreTest {
  SocketOptionsTest() {
    make(true);
    accept(table("t", {}), Source::kFile);
  }
  static SocketOption option(int name, int value) {
    return {.level = IPPROTO_TCP,
            .name = name,
            .value = value,
            .family = SocketOption::Family::kAny,
            .field = "socket_options[0]"};
  }
  static ListenerSpec with_idle(ListenerSpec spec, int idle_s) {
    spec.socket_options = {option(TCP_KEEPIDLE, idle_s)};
    return spec;
  }
  std::vector<int> idles(const std::string& listener) {
    std::vector<int> values;
    const auto& set = live()->listeners.find(listener)->part->sockets.at(0);
    for (uint32_t i = 0; i < set->size(); ++i)
      EXPECT_EQ(net::socket_option_value(set->fd(i), option(TCP_KEEPIDLE, 0), values.emplace_back()), 0);
    return values;
  }
  using Values = std::vector<int>;
};

TEST_F(SocketOptionsTest, TakeEffectWithTheirListener) {
  accept(with_idle(listener("l", "t"), 11));
  EXPECT_EQ(idles("l"), (Values{11, 11}));
  accept(with_idle(listener("l", "late"), 12));
  EXPECT_EQ(idles("l"), (Values{11, 11})) << "the next version waits";
  accept(with_idle(listener("l", "t"), 11));
  EXPECT_EQ(idles("l"), (Values{11, 11})) << "a step back";
  accept(with_idle(listener("l", "late"), 12));
  accept(table("late", {}), Source::kFile);
  EXPECT_EQ(idles("l"), (Values{12, 12}));
}

TEST_F(SocketOptionsTest, OfSocketsTakenOverAreTheirListenersUntilThen) {
  std::shared_ptr<net::SocketSet> free = *net::SocketSet::create(*net::Address::parse("127.0.0.1", 0), 1, 0);
  const uint16_t port = free->address().port();
  free.reset();
  accept(with_idle(listener("a", "t", port), 11));
  EXPECT_EQ(idles("a"), (Values{11, 11}));
  store->retain_only(ResourceType::kListener, Source::kXds, {"b"});
  accept(with_idle(listener("b", "late", port), 12));
  EXPECT_EQ(idles("a"), (Values{11, 11})) << "its successor waits";
  accept(table("late", {}), Source::kFile);
  EXPECT_EQ(idles("b"), (Values{12, 12}));
}

TEST_F(SocketOptionsTest, WhatTheSystemDoesNotTakeIsRefusedWhenItComes) {
  accept(with_idle(listener("l", "t"), 11));
  EXPECT_EQ(idles("l"), (Values{11, 11}));
  ListenerSpec wrong = with_idle(listener("l", "t"), 12);
  wrong.socket_options.push_back(option(TCP_KEEPINTVL, 1'000'000));
  wrong.socket_options.back().field = "socket_options[1]";
  EXPECT_EQ(refusal(wrong), "socket_options[1]: the system does not take it: invalid argument");
  EXPECT_EQ(idles("l"), (Values{11, 11}));
  // A cluster's are set on each connection: none that would fail is accepted. It needs no sockets of ours to be known.
  make(false);
  ClusterSpec cluster = static_cluster("c");
  cluster.socket_options = wrong.socket_options;
  EXPECT_EQ(refusal(cluster), "socket_options[1]: the system does not take it: invalid argument");
  EXPECT_EQ(refusal(wrong), "socket_options[1]: the system does not take it: invalid argument");
}

TEST_F(StoreTest, UnchangedChainsAreShared) {
  accept(table("t", {}));
  accept(listener("l", "t"));
  const auto before = live()->listeners.find("l")->part;
  ListenerSpec changed = listener("l", "t");
  changed.default_filter_chain = changed.filter_chains[0];
  changed.default_filter_chain->name = "other";
  accept(changed);
  const auto after = live()->listeners.find("l")->part;
  EXPECT_EQ(after->chains[0], before->chains[0]);
  EXPECT_EQ(after->chains.size(), 2u);
}

TEST_F(StoreTest, InlineRoutesHoldTheirListenerUntilTheirClustersAreThere) {
  ListenerSpec spec = listener("l", "");
  spec.filter_chains[0].hcm.route_table = std::make_shared<RouteTableSpec>(table("inline", {"c"}));
  accept(spec);
  EXPECT_FALSE(has_listener("l"));
  EXPECT_EQ(status(ResourceType::kListener, "l").waits_for(), std::vector<std::string>{"cluster c: unknown"});
  accept(static_cluster("c"));
  const auto snapshot = live();
  ASSERT_NE(snapshot->listeners.find("l"), nullptr);
  EXPECT_NE(snapshot->listeners.find("l")->chains[0].routes, nullptr);
  EXPECT_TRUE(store->wanted_route_tables().empty());
  store->remove(ResourceType::kCluster, "c", Source::kXds);
  EXPECT_TRUE(has_cluster("c"));
}

// Whatever happens, and however often it is asked for: the status that is kept is what it would be if made anew.
TEST_F(StoreTest, TheStatusFollowsEveryChange) {
  std::mt19937 random(11);
  const auto choose = [&](uint32_t n) { return random() % n; };
  const auto name = [&](const char* of) { return of + std::to_string(choose(4)); };
  for (int step = 0; step < 5'000; ++step) {
    const std::string version = std::to_string(step);
    const Origin from(choose(4) == 0 ? Source::kFile : Source::kXds);
    Origin scoped = from;
    scoped.scope = choose(3) == 0 ? "elsewhere" : "";
    switch (choose(12)) {
      case 0: {
        ClusterSpec spec = choose(3) == 0 ? dns_cluster(name("c"), "a.example") : eds_cluster(name("c"), name("s"));
        if (choose(3) == 0) spec.eds_source = {.kind = config::ConfigSourceSpec::Kind::kFile, .path = "elsewhere"};
        (void)store->accept(spec, version, from, version);
        break;
      }
      case 1:
        (void)store->accept(aggregate_cluster(name("c"), {name("c"), name("c")}), version, from, version);
        break;
      case 2:
      case 3:
        (void)store->accept(endpoints(name("s"), {static_cast<uint16_t>(80 + choose(3))}), version, scoped, version);
        break;
      case 4:
        (void)store->accept(table(name("t"), {name("c"), name("c")}), version, scoped, version);
        break;
      case 5:
      case 6:
        (void)store->accept(listener(name("l"), name("t")), version, from, version);
        break;
      case 7:
        store->set_resolved(name("c"), {endpoint(static_cast<uint16_t>(80 + choose(2)))});
        break;
      case 8: {
        config::Faults faults;
        faults.add_at("x", "bad");
        const bool of_table = choose(2) == 0;
        store->refuse(of_table ? ResourceType::kRouteTable : ResourceType::kCluster, name(of_table ? "t" : "c"),
                      version, faults, of_table ? scoped.scope : std::string());
        break;
      }
      case 9: {
        const std::string names[] = {name("l"), name("t"), name("c"), name("s")};
        const uint32_t type = choose(4);
        store->remove(static_cast<ResourceType>(type), names[type], scoped);
        break;
      }
      case 10:
        store->retain_only(choose(2) == 0 ? ResourceType::kListener : ResourceType::kCluster, Source::kXds,
                           {"l1", "l2", "c0", "c1", "c2"});
        break;
      default:
        now += choose(8) == 0 ? 15'000 : 10;
    }
    if (choose(2) == 0) store->assemble();
    if (choose(3) != 0) continue;
    ASSERT_EQ(status_difference(*store->status(), *store->status_from_scratch()), "") << step;
  }
}

// Very many clusters come in several snapshots, the names that lead to them with the last; it alone is timed.
TEST_F(StoreTest, ManyClustersComeInSeveralSnapshots) {
  store = std::make_unique<Store>(StoreOptions{
      .stats = &registry, .workers = 2, .bind = false, .clusters_at_once = 40, .now_ms = [this] { return now; }});
  std::vector<std::string> names;
  for (int i = 0; i < 100; ++i) {
    names.push_back("c" + std::to_string(i));
    accept(eds_cluster(names.back()));
    accept(endpoints(names.back(), {80}));
  }
  accept(aggregate_cluster("g", {"c1", "c99"}));
  names.push_back("g");
  accept(table("t", names));
  accept(listener("l", "t"));
  std::vector<size_t> sizes;
  int64_t accepted_ns = 5;
  while (const auto snapshot = store->assemble(std::exchange(accepted_ns, 0))) {
    expect_closed(*snapshot);
    sizes.push_back(snapshot->clusters.size());
    const bool last = snapshot->clusters.size() == names.size();
    EXPECT_EQ(snapshot->accepted_ns, last ? 5 : 0);
    EXPECT_EQ(snapshot->listeners.size(), last ? 1u : 0u);
    EXPECT_EQ(store->settled(), last);
    EXPECT_EQ(store->next_deadline_ms(), last ? -1 : now);
  }
  EXPECT_EQ(sizes, (std::vector<size_t>{40, 80, 101}));
  // What goes, goes with the last, too; a cluster that is removed before it was linked never comes.
  store->retain_only(ResourceType::kListener, Source::kXds, {});
  store->retain_only(ResourceType::kCluster, Source::kXds, {});
  for (int i = 0; i < 50; ++i) accept(static_cluster("d" + std::to_string(i)));
  ASSERT_NE(store->assemble(), nullptr);
  EXPECT_EQ(store->live()->clusters.size(), 141u);
  EXPECT_EQ(store->live()->listeners.size(), 1u);
  expect_closed(*store->live());
  store->retain_only(ResourceType::kCluster, Source::kXds, {"d0"});
  while (store->assemble()) {
  }
  EXPECT_EQ(store->live()->clusters.size(), 1u);
  EXPECT_EQ(store->live()->listeners.size(), 0u);
  EXPECT_TRUE(store->settled());
}

TEST_F(StoreTest, AStatusSharesWhatIsTheSame) {
  for (int i = 0; i < 1'000; ++i) accept(static_cluster("c" + std::to_string(1'000 + i)));
  store->assemble();
  const auto before = store->status();
  EXPECT_EQ(store->status(), before);
  accept(static_cluster("c1500", 81));
  store->assemble();
  const auto after = store->status();
  size_t others = 0;
  auto old = before->resources.begin();
  for (const auto& resource : after->resources) others += &resource == &*old++ ? 0 : 1;
  EXPECT_LE(others, 64u);
  EXPECT_GE(others, 1u);
}

TEST_F(StoreTest, OneChangeAmongTenThousandIsCheap) {
  constexpr int kCount = 10'000;
  std::vector<std::string> names;
  for (int i = 0; i < kCount; ++i) {
    names.push_back("outbound|8080||service-" + std::to_string(i) + ".namespace.svc");
    accept(eds_cluster(names.back()));
    accept(endpoints(names.back(), {80}));
  }
  accept(listener("l", "t"));
  accept(table("t", names));
  accept(listener("m", "u"));
  accept(table("u", {names[0]}));
  ASSERT_EQ(live()->clusters.size(), static_cast<size_t>(kCount));
  const auto best_ms = [&](const std::function<void(int)>& change) {
    double best = 1e9;
    for (int round = 1; round <= 7; ++round) {
      const auto start = std::chrono::steady_clock::now();
      change(round);
      EXPECT_NE(store->assemble(), nullptr);
      best =
          std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  const double route = best_ms([&](int round) { accept(table("u", {names[round]})); });
  const double eds = best_ms([&](int round) { accept(endpoints(names[5], {static_cast<uint16_t>(1000 + round)})); });
  const double cluster = best_ms([&](int round) {
    ClusterSpec changed = eds_cluster(names[7]);
    changed.connect_timeout_ms = static_cast<uint64_t>(round);
    accept(changed);
  });
  std::printf("accept and assemble among %d clusters: table %.2f ms, endpoints %.2f ms, cluster %.2f ms\n", kCount,
              route, eds, cluster);
  RecordProperty("table_us", static_cast<int>(route * 1000));
  // Generous: a broken closure (quadratic) takes seconds; the budget is kept by the benchmark.
  constexpr double kMost = test::kInstrumented ? 2'000 : 100;  // ms
  EXPECT_LT(route, kMost);
  EXPECT_LT(eds, kMost);
  EXPECT_LT(cluster, kMost);
}

TEST(HttpStatsTest, HasEnvoysNames) {
  stats::Registry registry(1);
  HttpStats stats(registry, {{"http", "ingress"}});
  registry.add(stats.cx_total);
  registry.add(stats.no_route, 2);
  registry.add(stats.rq_class[2], 3);
  EXPECT_EQ(registry.value("http.ingress.downstream_cx_total"), 1u);
  EXPECT_EQ(registry.value("http.ingress.no_route"), 2u);
  EXPECT_EQ(registry.value("http.ingress.downstream_rq_2xx"), 3u);
}

}  // namespace
}  // namespace outrigger::proxy
