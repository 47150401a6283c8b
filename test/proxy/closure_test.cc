// Closure: whatever the order in which CDS, EDS, RDS and LDS arrive, every snapshot is whole, and the last one is what
// the control plane has. First the Store alone, in all orders and in random ones; then a worker under traffic.
#include <algorithm>
#include <cstdlib>
#include <random>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/worlds.h"
#include "support/fake_upstream.h"
#include "support/traffic.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;
using config::ListenerSpec;
using config::ResourceType;
using config::RouteTableSpec;

struct Names final : References {
  std::set<std::string> clusters, tables;
  void cluster(std::string_view name) override { clusters.emplace(name); }
  void route_table(std::string_view name) override { tables.emplace(name); }
  void secret(std::string_view) override {}
};

// What aggregates name is reached, too.
void add_members(const Snapshot& snapshot, std::set<std::string>& clusters) {
  std::vector<std::string> todo(clusters.begin(), clusters.end());
  while (!todo.empty()) {
    const LinkedCluster* linked = snapshot.clusters.find(todo.back());
    todo.pop_back();
    if (linked == nullptr) continue;
    for (const std::string& member : linked->cluster->spec().members)
      if (clusters.insert(member).second) todo.push_back(member);
  }
}

// The leaves by name, from the specs that are live.
std::vector<std::string> leaves(const Snapshot& snapshot, const std::string& name) {
  const LinkedCluster* linked = snapshot.clusters.find(name);
  if (linked == nullptr || linked->cluster->spec().members.empty()) return {name};
  std::vector<std::string> all;
  for (const std::string& member : linked->cluster->spec().members)
    for (const std::string& leaf : leaves(snapshot, member))
      if (std::find(all.begin(), all.end(), leaf) == all.end()) all.push_back(leaf);
  return all;
}

std::string broken_cluster(const Snapshot& snapshot, const std::string& name) {
  const LinkedCluster* linked = snapshot.clusters.find(name);
  if (linked == nullptr) return "no cluster " + name;
  if (linked->hosts == nullptr) return "cluster " + name + " without a host set";
  if (linked->cluster->spec().members.empty())
    return linked->hosts->all().empty() ? "cold cluster " + name : std::string();
  std::vector<std::string> linked_to;
  for (const Name& leaf : linked->hosts->members()) linked_to.push_back(leaf.text);
  return linked_to == leaves(snapshot, name) ? std::string()
                                             : "aggregate " + name + " with the members of another time";
}

// Everything that a request can reach: what a listener, its tables, filters and aggregates name is there, and has
// hosts.
std::string broken(const Snapshot& snapshot) {
  std::string faults;
  snapshot.listeners.for_each([&](const std::string& name, const LinkedListener& listener) {
    Names names;
    listener.part->references(names);
    for (size_t i = 0; i < listener.chains.size(); ++i) {
      const LinkedChain& chain = listener.chains[i];
      if (chain.routes == nullptr) {
        faults += "listener " + name + " has no routes; ";
        continue;
      }
      chain.routes->references(names);
      if (chain.chain->rds_name.empty()) continue;
      const auto* table = snapshot.route_tables.find(chain.chain->rds_name.text);
      if (table == nullptr || *table != chain.routes) faults += "listener " + name + " has another version's routes; ";
    }
    add_members(snapshot, names.clusters);
    for (const std::string& cluster : names.clusters)
      if (const std::string fault = broken_cluster(snapshot, cluster); !fault.empty())
        faults += "listener " + name + " reaches " + fault + "; ";
  });
  return faults;
}

template <class Map>
std::set<std::string> keys(const Map& map) {
  std::set<std::string> names;
  for (const auto& [name, value] : map) names.insert(name);
  return names;
}
template <class V, class NameOf>
std::set<std::string> keys(const SharedNameMap<V, NameOf>& map) {
  std::set<std::string> names;
  map.for_each([&](const std::string& name, const V&) { names.insert(name); });
  return names;
}
template <class V>
std::set<std::string> keys(const NameMap<V>& map) {
  std::set<std::string> names;
  map.for_each([&](const std::string& name, const V&) { names.insert(name); });
  return names;
}

// How `snapshot` differs from what the server has; empty: it does not.
std::string differs(const Snapshot& snapshot, const World& world) {
  if (keys(snapshot.clusters) != keys(world.clusters)) return "other clusters";
  if (keys(snapshot.route_tables) != keys(world.tables)) return "other tables";
  if (keys(snapshot.listeners) != keys(world.listeners)) return "other listeners";
  for (const auto& [name, spec] : world.clusters) {
    const LinkedCluster& linked = *snapshot.clusters.find(name);
    if (!(linked.cluster->spec() == spec)) return "another version of cluster " + name;
    if (!spec.members.empty()) continue;
    std::set<std::string> want, have;
    const auto& from = spec.discovery == ClusterSpec::Discovery::kStatic
                           ? spec.endpoints
                           : world.endpoints.at(spec.eds_service_name.empty() ? name : spec.eds_service_name);
    for (const auto& one : from.endpoints) want.insert(one.address.host + ":" + std::to_string(one.address.port));
    for (const auto& one : linked.hosts->all()) have.insert(one.host->text);
    if (want != have) return "other hosts of cluster " + name;
  }
  for (const auto& [name, spec] : world.listeners)
    if (!(snapshot.listeners.find(name)->part->spec == spec)) return "another version of listener " + name;
  for (const auto& [name, spec] : world.tables) {
    Names want, have;
    route::RouteTable::compile(spec)->references(want);
    (*snapshot.route_tables.find(name))->references(have);
    if (want.clusters != have.clusters) return "another version of table " + name;
  }
  return {};
}

// The ports on which something listens.
std::set<uint16_t> ports(const Snapshot& snapshot) {
  std::set<uint16_t> found;
  snapshot.listeners.for_each([&](const std::string&, const LinkedListener& listener) {
    for (const auto& address : listener.part->spec.addresses) found.insert(address.port);
  });
  return found;
}

// ---- all orders of scripted changes ----

struct ClusterFilter final : FilterConfig {
  explicit ClusterFilter(std::string n) : name(std::move(n)) {}
  Filter* create(StreamHandle&) const override { return nullptr; }
  void references(References& to) const override { to.cluster(name); }
  std::string name;
};

ListenerSpec with_filter(ListenerSpec spec, const std::string& cluster) {
  spec.filter_chains[0].hcm.filters = {{.name = "test.calls_out",
                                        .config = {"test", cluster, std::make_shared<ClusterFilter>(cluster)},
                                        .disabled = false}};
  return spec;
}

ListenerSpec with_inline(ListenerSpec spec, RouteTableSpec routes) {
  spec.filter_chains[0].hcm.rds_name.clear();
  spec.filter_chains[0].hcm.route_table = std::make_shared<RouteTableSpec>(std::move(routes));
  return spec;
}

RouteTableSpec weighted(const std::string& name, const std::vector<std::string>& clusters) {
  RouteTableSpec spec = table(name, {clusters[0]});
  auto& forward = std::get<config::ForwardSpec>(spec.virtual_hosts[0].routes[0].action);
  forward.cluster.clear();
  for (const std::string& cluster : clusters) forward.weighted.push_back({.name = cluster, .weight = 1});
  return spec;
}

RouteTableSpec by_header(const std::string& name) {
  RouteTableSpec spec = table(name, {"x"});
  auto& forward = std::get<config::ForwardSpec>(spec.virtual_hosts[0].routes[0].action);
  forward.cluster.clear();
  forward.cluster_header = "x-cluster";
  return spec;
}

// Aggregate "g" of "a" and "shared" behind table "t".
World grouped() {
  return World()
      .with(eds_cluster("a"))
      .with(eds_cluster("shared"))
      .with(endpoints("a", {1001}))
      .with(endpoints("shared", {1002}))
      .with(aggregate_cluster("g", {"a", "shared"}))
      .with(table("t", {"g"}))
      .with(listener("l", "t", 81));
}

World base() {
  return World()
      .with(eds_cluster("a"))
      .with(eds_cluster("shared", "svc"))
      .with(endpoints("a", {1001}))
      .with(endpoints("svc", {1002, 1003}))
      .with(table("t", {"a", "shared"}))
      .with(table("u", {"shared"}))
      .with(listener("l", "t", 81))
      .with(listener("m", "u", 82));
}

struct Change {
  const char* name;
  World from, to;
};

World edit(World world, const std::function<void(World&)>& change) {
  change(world);
  return world;
}

std::vector<Change> changes() {
  const World world = base();
  const World added = edit(world, [](World& w) {
    w.with(eds_cluster("n")).with(endpoints("n", {1009})).with(table("v", {"n", "a"})).with(listener("n", "v", 83));
  });
  const auto without_a = [](World& w) {
    w.clusters.erase("a");
    w.endpoints.erase("a");
  };
  return {
      {"all of it", {}, world},
      {"nothing is left", world, {}},
      {"a whole path is added", world, added},
      {"a whole path is removed", added, world},
      {"a cluster is renamed", world,
       edit(world,
            [&](World& w) {
              without_a(w);
              w.with(eds_cluster("b")).with(endpoints("b", {1001})).with(table("t", {"b", "shared"}));
            })},
      {"a table is renamed", world,
       edit(world,
            [](World& w) {
              w.tables.erase("t");
              w.with(table("t2", {"a", "shared"})).with(listener("l", "t2", 81));
            })},
      {"a listener, its table and its cluster are renamed, the port stays", world,
       edit(world,
            [&](World& w) {
              without_a(w);
              w.listeners.erase("l");
              w.tables.erase("t");
              w.with(eds_cluster("b"))
                  .with(endpoints("b", {1004}))
                  .with(table("t2", {"b"}))
                  .with(listener("l2", "t2", 81));
            })},
      {"two listeners exchange their tables", world,
       edit(world, [](World& w) { w.with(listener("l", "u", 81)).with(listener("m", "t", 82)); })},
      {"two tables exchange their clusters", world,
       edit(world,
            [](World& w) {
              w.with(table("t", {"shared"})).with(table("u", {"a", "shared"}));
            })},
      {"a cluster takes another service", world,
       edit(world,
            [](World& w) {
              w.endpoints.erase("svc");
              w.with(eds_cluster("shared", "svc2")).with(endpoints("svc2", {1005}));
            })},
      {"a cluster becomes static", world,
       edit(world,
            [](World& w) {
              w.endpoints.erase("a");
              w.with(static_cluster("a", 1006));
            })},
      {"a shared cluster is left by both tables", world,
       edit(world,
            [](World& w) {
              w.clusters.erase("shared");
              w.endpoints.erase("svc");
              w.with(eds_cluster("b")).with(endpoints("b", {1007})).with(table("t", {"a"})).with(table("u", {"b"}));
            })},
      {"routes move into the listener", world,
       edit(world,
            [](World& w) {
              w.tables.erase("t");
              w.with(with_inline(listener("l", "", 81), table("inline", {"b"})));
              w.with(eds_cluster("b")).with(endpoints("b", {1008}));
            })},
      {"weights move to a new cluster", world,
       edit(world,
            [](World& w) {
              w.with(eds_cluster("b")).with(endpoints("b", {1004})).with(weighted("t", {"a", "shared", "b"}));
            })},
      {"the request chooses the cluster", world,
       edit(world, [](World& w) { w.with(by_header("t")).with(eds_cluster("b")).with(endpoints("b", {1004})); })},
      {"a filter's cluster is renamed", edit(world, [](World& w) { w.with(with_filter(listener("l", "t", 81), "a")); }),
       edit(world,
            [&](World& w) {
              without_a(w);
              w.with(eds_cluster("b")).with(endpoints("b", {1004})).with(table("t", {"shared"}));
              w.with(with_filter(listener("l", "t", 81), "b"));
            })},
  };
}

std::vector<Change> aggregate_changes() {
  const World world = grouped();
  const World swapped = edit(world, [](World& w) {
    w.with(static_cluster("x", 1009)).with(aggregate_cluster("h", {"x"})).with(table("t", {"g", "h"}));
  });
  const auto add_b = [](World& w) { w.with(eds_cluster("b")).with(endpoints("b", {1004})); };
  const auto without = [](World& w, const char* name) {
    w.clusters.erase(name);
    w.endpoints.erase(name);
  };
  return {
      {"an aggregate comes", base(), world},
      {"an aggregate goes", world, base()},
      {"a member is renamed", world,
       edit(world,
            [&](World& w) {
              without(w, "a");
              add_b(w);
              w.with(aggregate_cluster("g", {"b", "shared"}));
            })},
      {"members change places, one more comes", world,
       edit(world,
            [&](World& w) {
              add_b(w);
              w.with(aggregate_cluster("g", {"b", "shared", "a"}));
            })},
      {"an aggregate is renamed with its members", world,
       edit(world,
            [&](World& w) {
              without(w, "a");
              w.clusters.erase("g");
              add_b(w);
              w.with(aggregate_cluster("g2", {"shared", "b"})).with(table("t", {"g2"}));
            })},
      {"an aggregate becomes a cluster with hosts", world,
       edit(world,
            [&](World& w) {
              without(w, "a");
              w.with(eds_cluster("g")).with(endpoints("g", {1005})).with(table("t", {"g", "shared"}));
            })},
      {"a member becomes an aggregate", world,
       edit(world,
            [&](World& w) {
              w.endpoints.erase("a");
              add_b(w);
              w.with(aggregate_cluster("a", {"b", "shared"}));
            })},
      {"a nested aggregate's members are renamed",
       edit(world, [](World& w) { w.with(aggregate_cluster("f", {"g"})).with(table("t", {"f"})); }),
       edit(world,
            [&](World& w) {
              without(w, "a");
              add_b(w);
              w.with(aggregate_cluster("f", {"g", "b"})).with(table("t", {"f"})).with(aggregate_cluster("g", {"b"}));
              without(w, "shared");
            })},
      {"who contains whom is turned round",
       edit(swapped,
            [](World& w) {
              w.with(aggregate_cluster("g", {"h", "a"}));
            }),
       edit(swapped,
            [](World& w) {
              w.with(aggregate_cluster("g", {"a"})).with(aggregate_cluster("h", {"g", "x"}));
            })},
  };
}

std::vector<Change> mirror_changes() {
  const World world = edit(base(), [](World& w) { w.with(mirrored(table("t", {"shared"}), {"a"})); });
  const auto without_a = [](World& w) {
    w.clusters.erase("a");
    w.endpoints.erase("a");
  };
  const auto add_b = [](World& w) { w.with(eds_cluster("b")).with(endpoints("b", {1004})); };
  return {
      {"a mirror comes", base(), world},
      {"a mirror goes with its cluster", world,
       edit(world,
            [&](World& w) {
              without_a(w);
              w.with(table("t", {"shared"}));
            })},
      {"a mirror's cluster is renamed", world,
       edit(world,
            [&](World& w) {
              without_a(w);
              add_b(w);
              w.with(mirrored(table("t", {"shared"}), {"b"}));
            })},
      {"a mirror and its route exchange their clusters", world,
       edit(world, [](World& w) { w.with(mirrored(table("t", {"a"}), {"shared"})); })},
      {"mirrors to an aggregate, within the listener", world,
       edit(world,
            [&](World& w) {
              add_b(w);
              w.tables.erase("t");
              w.with(aggregate_cluster("g", {"b", "a"}));
              w.with(with_inline(listener("l", "", 81), mirrored(table("inline", {"shared"}), {"g", "b"})));
            })},
      {"the request chooses the mirror", world,
       edit(world,
            [&](World& w) {
              auto routes = table("t", {"shared"});
              std::get<config::ForwardSpec>(routes.virtual_hosts[0].routes[0].action).mirrors = {
                  {.cluster = {}, .cluster_header = "x-mirror"}};
              without_a(w);
              w.with(routes);
            })},
  };
}

// What a server says to one that has `had`: one message a resource where the protocol has them singly, one for all
// where it has the full set.
std::vector<std::function<void(Store&)>> messages(const World& world, const World& had = {}) {
  std::vector<std::function<void(Store&)>> all;
  all.push_back([&world](Store& store) { deliver_set(store, ResourceType::kCluster, world.clusters); });
  all.push_back([&world](Store& store) { deliver_set(store, ResourceType::kListener, world.listeners); });
  const auto singly = [&](const auto& now, const auto& before) {
    for (const auto& [name, spec] : now) {
      const auto known = before.find(name);
      if (known != before.end() && known->second == spec) continue;
      all.push_back([&spec = spec](Store& store) { accept_or_fail(store, spec); });
    }
  };
  singly(world.endpoints, had.endpoints);
  singly(world.tables, had.tables);
  return all;
}

// The seed that is asked for in the environment.
uint32_t first_seed(uint32_t otherwise) {
  const char* given = std::getenv("OUTRIGGER_TEST_SEED");
  return given == nullptr ? otherwise : static_cast<uint32_t>(std::strtoul(given, nullptr, 10));
}

StoreStatus::Resource cluster_status(const Store& store, const std::string& name) {
  for (const auto& resource : store.status()->resources)
    if (resource.type == ResourceType::kCluster && resource.name == name) return resource;
  ADD_FAILURE() << "no cluster " << name;
  return {};
}

struct ClosureTest : testing::Test {
  std::unique_ptr<Store> make(size_t clusters_at_once = 0) {
    return std::make_unique<Store>(StoreOptions{
        .stats = &registry, .workers = 1, .bind = false, .clusters_at_once = clusters_at_once, .now_ms = [this] {
          return now;
        }});
  }
  void every_order(const std::vector<Change>& all, size_t at_least);
  stats::Registry registry{1};
  int64_t now = 1'000'000;
};

TEST_F(ClosureTest, EveryOrderOfEveryScriptedChange) { every_order(changes(), 1'000); }
TEST_F(ClosureTest, EveryOrderOfChangesOfAggregates) { every_order(aggregate_changes(), 100); }
TEST_F(ClosureTest, EveryOrderOfChangesOfMirrors) { every_order(mirror_changes(), 50); }

void ClosureTest::every_order(const std::vector<Change>& all, size_t at_least) {
  size_t orders = 0;
  for (const Change& change : all) {
    const auto first = messages(change.from), then = messages(change.to, change.from);
    std::vector<size_t> order(then.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::minstd_rand random(1);
    do {
      ++orders;
      auto store = make();
      for (const auto& message : first) message(*store);
      store->assemble();
      ASSERT_EQ(differs(*store->live(), change.from), "") << change.name;
      std::set<uint16_t> kept;  // served before and after: always
      for (const auto& [name, listener] : change.to.listeners) kept.insert(listener.addresses[0].port);
      const std::set<uint16_t> before = ports(*store->live());
      std::erase_if(kept, [&](uint16_t port) { return !before.contains(port); });
      const bool every_step = random() % 2 == 0;
      std::string text;
      for (const size_t step : order) {
        then[step](*store);
        text += " " + std::to_string(step);
        if (!every_step && random() % 2 == 0) continue;
        store->assemble();
        ASSERT_EQ(broken(*store->live()), "") << change.name << ", order" << text;
        const std::set<uint16_t> now_served = ports(*store->live());
        ASSERT_TRUE(std::includes(now_served.begin(), now_served.end(), kept.begin(), kept.end()))
            << change.name << ", order" << text << ": a port is not served";
      }
      store->assemble();
      ASSERT_EQ(differs(*store->live(), change.to), "") << change.name << ", order" << text;
      ASSERT_TRUE(store->settled()) << change.name << ", order" << text;
      ASSERT_EQ(store->status()->forced, 0u);
    } while (std::next_permutation(order.begin(), order.end()));
  }
  EXPECT_GT(orders, at_least);
}

// ---- random worlds, a server that answers what is asked, types arbitrarily late ----

// Worlds of few names, so that they come, go and come again in other shapes; `ports` are those of services.
class RandomWorlds {
 public:
  RandomWorlds(uint32_t seed, std::vector<uint16_t> ports) : random_(seed), ports_(std::move(ports)) {}

  // The main listener has, now and then, a filter that names a cluster.
  void with_filters() { filters_ = true; }

  uint32_t choose(uint32_t n) { return static_cast<uint32_t>(random_() >> 4) % n; }

  // Listener "main" (on `port`, sometimes by another name) serves every path in each of them.
  World next(uint16_t port) {
    World world;
    std::vector<std::string> names;
    for (const char* name : {"a", "b", "c", "d"}) {
      if (!names.empty() && choose(3) == 0) continue;
      names.emplace_back(name);
      world.with(cluster(name, world));
    }
    // Aggregates of them, the second one perhaps of the first; in the next world the other way round.
    std::vector<std::string> groups{"g", "h"};
    if (choose(2) == 0) std::swap(groups[0], groups[1]);
    std::vector<std::string> behind = names;
    for (const std::string& group : groups) {
      if (choose(2) == 0) continue;
      world.with(aggregate_cluster(group, some_of(behind)));
      behind.push_back(group);
    }
    names = behind;
    const std::string main_table = choose(2) == 0 ? "t" : "u";
    for (const char* name : {"t", "u"}) {
      const bool needed = main_table == name;
      if (!needed && choose(2) == 0) continue;
      world.with(routes(name, names));
      if (!needed) world.with(listener("side", name));
    }
    ListenerSpec main = listener(choose(3) == 0 ? "renamed" : "main", main_table, port);
    main.filter_chains[0].hcm.stat_prefix = "in";
    main.filter_chains[0].hcm.stream_idle_timeout_ms = 300'000 + choose(4);
    main.filter_chains[0].hcm.drain_timeout_ms = 50;
    if (filters_ && choose(3) != 0) main = with_filter(main, names[choose(static_cast<uint32_t>(names.size()))]);
    return world.with(main);
  }

 private:
  ClusterSpec cluster(const std::string& name, World& world) {
    const std::vector<uint16_t> chosen{ports_[choose(static_cast<uint32_t>(ports_.size()))]};
    ClusterSpec spec = static_cluster(name, chosen[0]);
    if (choose(4) != 0) {
      spec = eds_cluster(name, choose(2) == 0 ? "" : "svc" + std::to_string(choose(2)));
      const std::string& service = spec.eds_service_name.empty() ? name : spec.eds_service_name;
      world.with(endpoints(service, chosen));
    }
    spec.connect_timeout_ms = 5'000 + choose(3);
    return spec;
  }
  std::vector<std::string> some_of(std::vector<std::string> names) {
    for (size_t i = names.size(); i > 1; --i) std::swap(names[i - 1], names[choose(static_cast<uint32_t>(i))]);
    names.resize(1 + choose(static_cast<uint32_t>(names.size())));
    return names;
  }
  RouteTableSpec routes(const std::string& name, const std::vector<std::string>& clusters) {
    RouteTableSpec spec = table(name, some_of(clusters));
    if (choose(3) == 0) spec = mirrored(std::move(spec), some_of(clusters));
    if (choose(4) == 0) {  // a cluster that only the request knows is waited for by nobody
      spec.virtual_hosts[0].routes.insert(spec.virtual_hosts[0].routes.begin(),
                                          by_header(name).virtual_hosts[0].routes[0]);
    }
    spec.virtual_hosts[0].routes.back().match.path.value = "/";
    return spec;
  }
  std::minstd_rand random_;
  std::vector<uint16_t> ports_;
  bool filters_ = false;
};

// Only what the server's listeners and clusters ask for is live in the end.
World reachable(World world) {
  std::set<std::string> services, tables;
  for (const auto& [name, spec] : world.listeners) tables.insert(spec.filter_chains[0].hcm.rds_name);
  std::erase_if(world.tables, [&](const auto& entry) { return !tables.contains(entry.first); });
  return world;
}

TEST_F(ClosureTest, RandomWorldsInRandomOrders) {
  const uint32_t first = first_seed(1);
  for (uint32_t seed = first; seed < first + 1'500; ++seed) {
    auto store = make(seed % 4);  // all clusters at once, or one by one, ...
    ScriptedServer server(*store);
    RandomWorlds worlds(seed, {1001, 1002, 1003});
    worlds.with_filters();
    World world = worlds.next(81);
    server.become(world);
    bool served = false;
    const auto check = [&] {
      store->assemble();
      server.ask();
      const auto snapshot = store->live();
      ASSERT_EQ(broken(*snapshot), "") << "seed " << seed;
      for (int more = 0; store->next_deadline_ms() == now && worlds.choose(4) != 0; ++more) {
        ASSERT_LT(more, 100) << "seed " << seed;
        if (const auto next = store->assemble()) ASSERT_EQ(broken(*next), "") << "seed " << seed;
      }
      if (worlds.choose(3) == 0)
        ASSERT_EQ(status_difference(*store->status(), *store->status_from_scratch()), "") << "seed " << seed;
      const bool now_served = ports(*snapshot).contains(81);
      ASSERT_TRUE(now_served || !served) << "seed " << seed << ": the port is served no more";
      served = now_served;
    };
    int steps = 6;
    for (auto pending = server.pending(); steps > 0 || !pending.empty(); pending = server.pending()) {
      if (pending.empty() || (steps > 0 && worlds.choose(5) == 0)) {
        --steps;
        server.become(world = worlds.next(81));
        continue;
      }
      server.deliver(pending[worlds.choose(static_cast<uint32_t>(pending.size()))]);
      if (worlds.choose(3) == 0 && !server.pending().empty()) continue;
      ASSERT_NO_FATAL_FAILURE(check());
    }
    while (store->next_deadline_ms() == now) {
      store->assemble();
      ASSERT_EQ(broken(*store->live()), "") << "seed " << seed;
    }
    ASSERT_EQ(differs(*store->live(), reachable(world)), "") << "seed " << seed;
    ASSERT_TRUE(store->settled()) << "seed " << seed;
    ASSERT_EQ(store->status()->forced, 0u) << "seed " << seed;
  }
}

// ---- a worker under traffic ----

TEST(ClosureUnderTraffic, NoRequestFailsWhateverTheOrder) {
  const auto service = [](const char* name) {
    return [name](test::Exchange& e) { e.respond(200, std::string("service ") + name); };
  };
  test::FakeUpstream one(service("1")), two(service("2")), three(service("3"));
  std::shared_ptr<net::SocketSet> probe = *net::SocketSet::create(*net::Address::parse("127.0.0.1", 0), 1, 0);
  const uint16_t port = probe->address().port();
  probe.reset();
  DataPlane plane;
  ScriptedServer server(plane.store());
  RandomWorlds worlds(first_seed(7), {one.port(), two.port(), three.port()});
  World world = worlds.next(port);
  server.become(world);
  const auto deliver_one = [&](const std::vector<ResourceType>& pending) {
    server.deliver(pending[worlds.choose(static_cast<uint32_t>(pending.size()))]);
    if (worlds.choose(3) == 0 && server.pending().size() > 1) return;
    plane.publish();
    server.ask();
  };
  for (auto pending = server.pending(); !pending.empty(); pending = server.pending()) deliver_one(pending);
  ASSERT_EQ(differs(*plane.store().live(), reachable(world)), "");
  // They must never see anything but 200 and one of the services.
  test::Traffic traffic(port,
                        [](const test::HttpMessage& answer) {
                          return answer.body.starts_with("service") ? std::string() : "says " + answer.body;
                        },
                        {"/a", "/other"});
  for (int step = 0; step < 150; ++step) {
    server.become(world = worlds.next(port));
    for (auto pending = server.pending(); !pending.empty(); pending = server.pending()) deliver_one(pending);
    ASSERT_EQ(differs(*plane.store().live(), reachable(world)), "") << "step " << step;
    ASSERT_TRUE(traffic.wait_more(6));
  }
  traffic.stop();
  EXPECT_EQ(traffic.faults(), "");
  EXPECT_GT(traffic.answered(), 900u);
}

// ---- bounds ----

// A cluster that two tables name waits for both, and what one of them leaves the other keeps.
TEST_F(ClosureTest, TwoTablesShareACluster) {
  auto store = make();
  World world = World()
                    .with(eds_cluster("shared"))
                    .with(static_cluster("a"))
                    .with(table("t", {"shared"}))
                    .with(table("u", {"shared", "a"}))
                    .with(listener("l", "t", 81))
                    .with(listener("m", "u", 82));
  for (const auto& message : messages(world)) message(*store);
  store->assemble();
  EXPECT_TRUE(keys(store->live()->listeners).empty()) << "both wait for it";
  accept_or_fail(*store, endpoints("shared", {1001}));
  store->assemble();
  EXPECT_EQ(keys(store->live()->listeners), (std::set<std::string>{"l", "m"}));
  const auto routes_of_m = store->live()->listeners.find("m")->chains[0].routes;

  // One table leaves it, and CDS names it no more: the other one has it still, with its endpoints, changed ones too.
  accept_or_fail(*store, table("t", {"a"}));
  deliver_set(*store, ResourceType::kCluster, World().with(static_cluster("a")).clusters);
  store->assemble();
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_EQ(keys(store->live()->clusters), (std::set<std::string>{"a", "shared"}));
  EXPECT_TRUE(cluster_status(*store, "shared").removed_but_named);
  EXPECT_EQ(store->live()->listeners.find("m")->chains[0].routes, routes_of_m) << "the other table is not touched";
  accept_or_fail(*store, endpoints("shared", {1002, 1003}));
  store->assemble();
  EXPECT_EQ(store->live()->clusters.find("shared")->hosts->all().size(), 2u);
  // A table that names a cluster which is going finds it there.
  accept_or_fail(*store, table("t", {"shared"}));
  store->assemble();
  accept_or_fail(*store, table("u", {"a"}));
  store->assemble();
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_EQ(keys(store->live()->clusters), (std::set<std::string>{"a", "shared"}));
  accept_or_fail(*store, table("t", {"a"}));
  store->assemble();
  EXPECT_EQ(keys(store->live()->clusters), std::set<std::string>{"a"});
}

TEST_F(ClosureTest, ARenamedListenerKeepsItsPortOpenWhileTheNewOneWaits) {
  auto store = make();
  accept_or_fail(*store, table("t", {}));
  deliver_set(*store, ResourceType::kListener, World().with(listener("old", "t", 81)).listeners);
  store->assemble();
  deliver_set(*store, ResourceType::kListener, World().with(listener("new", "u", 81)).listeners);
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(keys(store->live()->listeners), std::set<std::string>{"old"});
  accept_or_fail(*store, table("u", {}));
  store->assemble();
  EXPECT_EQ(keys(store->live()->listeners), std::set<std::string>{"new"});
  EXPECT_EQ(keys(store->live()->route_tables), std::set<std::string>{"u"});
  // Back again while the next one waits, and a successor that is taken back.
  deliver_set(*store, ResourceType::kListener, World().with(listener("third", "v", 81)).listeners);
  EXPECT_EQ(store->assemble(), nullptr);
  deliver_set(*store, ResourceType::kListener, World().listeners);
  store->assemble();
  EXPECT_TRUE(keys(store->live()->listeners).empty());
}

TEST_F(ClosureTest, AListenerWhoseHoldIsOverTakesATableThatStillWaits) {
  auto store = make();
  ListenerSpec spec = listener("l", "t");
  spec.filter_chains[0].hcm.rds_source.initial_fetch_timeout_ms = 200;
  accept_or_fail(*store, spec);
  EXPECT_EQ(store->assemble(), nullptr);
  now += 150;
  accept_or_fail(*store, table("t", {"missing"}));
  EXPECT_EQ(store->assemble(), nullptr);
  now += 50;
  store->assemble();
  ASSERT_NE(store->live()->listeners.find("l"), nullptr);
  EXPECT_NE(store->live()->listeners.find("l")->chains[0].routes, nullptr);
  EXPECT_EQ(store->status()->forced, 2u);
}

TEST_F(ClosureTest, ATableThatNeverClosesIsHeldOnceAndNotAtEachChange) {
  auto store = make();
  accept_or_fail(*store, static_cluster("a"));
  accept_or_fail(*store, static_cluster("b"));
  accept_or_fail(*store, table("t", {"a", "missing"}));
  accept_or_fail(*store, listener("l", "t"));
  store->assemble();
  now += 15'000;
  store->assemble();
  ASSERT_NE(store->live()->listeners.find("l"), nullptr);
  EXPECT_EQ(store->status()->forced, 1u);
  accept_or_fail(*store, table("t", {"b", "missing"}));
  EXPECT_NE(store->assemble(), nullptr);
  EXPECT_EQ(store->status()->forced, 1u);
  EXPECT_TRUE(store->settled());
  // What it names anew is waited for, as ever.
  accept_or_fail(*store, table("t", {"b", "missing", "missing too"}));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(store->next_deadline_ms(), now + 15'000);
}

TEST_F(ClosureTest, AClusterWithoutEndpointsIsHeldOnceAndNotAtEachChange) {
  auto store = make();
  accept_or_fail(*store, eds_cluster("c"));
  store->assemble();
  now += 15'000;
  store->assemble();
  ASSERT_NE(store->live()->clusters.find("c"), nullptr);
  ClusterSpec changed = eds_cluster("c");
  changed.connect_timeout_ms = 1;
  accept_or_fail(*store, changed);
  store->assemble();
  EXPECT_EQ(store->live()->clusters.find("c")->cluster->spec().connect_timeout_ms, 1u);
  EXPECT_EQ(store->status()->forced, 1u);
}

TEST_F(ClosureTest, OneSlowClusterHoldsBackOnlyWhatNamesIt) {
  auto store = make();
  ClusterSpec slow = eds_cluster("slow");
  slow.eds_source.initial_fetch_timeout_ms = 0;
  const World world = World()
                          .with(slow)
                          .with(static_cluster("a"))
                          .with(table("t", {"slow"}))
                          .with(table("u", {"a"}))
                          .with(listener("l", "t", 81))
                          .with(listener("m", "u", 82));
  for (const auto& message : messages(world)) message(*store);
  store->assemble();
  EXPECT_EQ(keys(store->live()->listeners), std::set<std::string>{"m"});
  EXPECT_EQ(keys(store->live()->clusters), std::set<std::string>{"a"});
  now += 14'999;
  EXPECT_EQ(store->assemble(), nullptr);
  // The table's own hold ends; a cluster that may be waited for without end does not hold it for ever.
  now += 1;
  store->assemble();
  EXPECT_EQ(keys(store->live()->listeners), (std::set<std::string>{"l", "m"}));
  EXPECT_EQ(keys(store->live()->clusters), std::set<std::string>{"a"});
}

// ---- circles of aggregates ----

std::string refusal(Store& store, const ClusterSpec& spec) {
  const auto verdict = store.accept(spec, {}, Source::kXds);
  return verdict ? std::string() : verdict.error().detail;
}

TEST_F(ClosureTest, TheClusterThatClosesACircleIsRefusedAndTheWayNamed) {
  auto store = make();
  EXPECT_EQ(refusal(*store, aggregate_cluster("self", {"self"})),
            "cluster_type.typed_config.clusters[0]: closes a circle: self -> self");
  accept_or_fail(*store, static_cluster("a"));
  accept_or_fail(*store, aggregate_cluster("f", {"a", "g"}));
  accept_or_fail(*store, aggregate_cluster("g", {"h"}));
  EXPECT_EQ(refusal(*store, aggregate_cluster("h", {"a", "f"})),
            "cluster_type.typed_config.clusters[1]: closes a circle: h -> f -> g -> h");
  // Across updates: what it was before stays.
  accept_or_fail(*store, static_cluster("h"));
  accept_or_fail(*store, table("t", {"f"}));
  accept_or_fail(*store, listener("l", "t", 81));
  store->assemble();
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_NE(refusal(*store, aggregate_cluster("h", {"g"})), "");
  store->assemble();
  EXPECT_TRUE(store->live()->clusters.find("h")->cluster->spec().members.empty());
  EXPECT_NE(cluster_status(*store, "h").refused().find("h -> g -> h"), std::string::npos);
  // The way is free when another one has left it.
  accept_or_fail(*store, aggregate_cluster("g", {"a"}));
  EXPECT_EQ(refusal(*store, aggregate_cluster("h", {"g"})), "");
  store->assemble();
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_TRUE(store->settled());
}

TEST_F(ClosureTest, ACircleOfOldAndNewVersionsNeverServes) {
  auto store = make();
  const World world = World()
                          .with(static_cluster("b"))
                          .with(aggregate_cluster("a", {"b"}))
                          .with(table("t", {"a"}))
                          .with(listener("l", "t", 81));
  for (const auto& message : messages(world)) message(*store);
  store->assemble();
  // The next version of "a" waits for endpoints; until then "b" must not lead back to the one that serves.
  accept_or_fail(*store, aggregate_cluster("a", {"slow"}));
  accept_or_fail(*store, eds_cluster("slow"));
  accept_or_fail(*store, aggregate_cluster("b", {"a"}));
  EXPECT_EQ(store->assemble(), nullptr);
  EXPECT_EQ(cluster_status(*store, "b").waits_for(),
            (std::vector<std::string>{"the next version of a cluster whose live one leads back to it"}));
  EXPECT_EQ(store->next_deadline_ms(), now + 15'000);
  accept_or_fail(*store, endpoints("slow", {1001}));
  store->assemble();
  EXPECT_TRUE(store->settled());
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_EQ(store->live()->clusters.find("b")->hosts->members(), (std::vector<Name>{Name("slow")}));
  EXPECT_EQ(store->status()->forced, 0u);
}

TEST_F(ClosureTest, AnAggregateWaitsForItsMembersNoLongerThanItsHold) {
  auto store = make();
  accept_or_fail(*store, static_cluster("a"));
  accept_or_fail(*store, aggregate_cluster("g", {"missing", "a"}));
  accept_or_fail(*store, table("t", {"g"}));
  accept_or_fail(*store, listener("l", "t", 81));
  store->assemble();
  EXPECT_TRUE(keys(store->live()->listeners).empty());
  EXPECT_EQ(cluster_status(*store, "g").waits_for(), (std::vector<std::string>{"cluster missing: unknown"}));
  now += 15'000;
  store->assemble();
  EXPECT_EQ(keys(store->live()->listeners), std::set<std::string>{"l"});
  EXPECT_EQ(store->status()->forced, 1u);
  // What came too late is taken up at once.
  accept_or_fail(*store, aggregate_cluster("missing", {"late"}));
  accept_or_fail(*store, static_cluster("late"));
  store->assemble();
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_EQ(store->live()->clusters.find("g")->hosts->members(), (std::vector<Name>{Name("late"), Name("a")}));
}

TEST_F(ClosureTest, AMemberThatIsRemovedWhileItIsNamedServesOn) {
  auto store = make();
  const World world = grouped();
  for (const auto& message : messages(world)) message(*store);
  store->assemble();
  World next = world;
  next.clusters.erase("a");
  deliver_set(*store, ResourceType::kCluster, next.clusters);
  store->assemble();
  EXPECT_EQ(broken(*store->live()), "");
  EXPECT_EQ(store->live()->clusters.find("a")->hosts->all().size(), 1u);
  // With the aggregate goes what only it named.
  deliver_set(*store, ResourceType::kCluster, World().with(eds_cluster("shared")).clusters);
  accept_or_fail(*store, table("t", {"shared"}));
  store->assemble();
  EXPECT_EQ(keys(store->live()->clusters), std::set<std::string>{"shared"});
}

}  // namespace
}  // namespace outrigger::proxy
