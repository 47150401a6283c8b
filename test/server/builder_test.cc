// The builder thread: batches of discovery and their verdicts, what it asks for, when it is initialized.
#include "server/builder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "config/translate.h"
#include "filters/all_filters.h"
#include "support/wait.h"

namespace outrigger::server {
namespace {

using config::ResourceType;
using test::wait_until;

const std::string kDynamic =
    "node: {id: me}\n"
    "dynamic_resources:\n"
    "  ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}\n"
    "  lds_config: {ads: {}}\n"
    "  cds_config: {ads: {}}\n"
    "static_resources: {clusters: [{name: xds, type: STATIC, load_assignment: {cluster_name: xds, endpoints: "
    "[{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]}}]}\n";

std::string cluster(const std::string& name, const std::string& more = "type: STATIC") {
  return "{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: " + name + ", " + more + "}";
}
const std::string kEds = "type: EDS, eds_cluster_config: {eds_config: {ads: {}}}";

std::string endpoints(const std::string& name, int port) {
  return "{\"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: " + name +
         ", endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " +
         std::to_string(port) + "}}}}]}]}";
}

class BuilderTest : public testing::Test {
 protected:
  void start(const std::string& bootstrap = kDynamic) {
    const Builder::Loaded loaded = builder_->load(bootstrap, "b.yaml");
    ASSERT_TRUE(loaded.spec.has_value()) << loaded.faults.str();
    builder_->start({.on_snapshot =
                         [this](std::shared_ptr<const proxy::Snapshot> snapshot) {
                           std::lock_guard lock(mutex_);
                           snapshot_ = std::move(snapshot);
                         },
                     .on_status =
                         [this](std::shared_ptr<const proxy::StoreStatus> status) {
                           std::lock_guard lock(mutex_);
                           status_ = std::move(status);
                         },
                     .on_wanted =
                         [this](const Wanted& wanted) {
                           std::lock_guard lock(mutex_);
                           wanted_ = wanted;
                         },
                     .on_initialized = [this](uint64_t) { initialized_ = true; }});
  }

  // What a server sends: serialised from YAML by a translator of the test's own.
  static xds::Resource resource(const std::string& yaml) {
    stats::Registry registry(1);
    config::StateRegistry states;
    config::Translator translator(filters::all_filters(), states, registry,
                                  {.unknown_fields = config::UnknownFields::kWarn});
    config::Faults faults;
    auto read = translator.resource_file("resources: [" + yaml + "]", "r.yaml", faults);
    EXPECT_TRUE(faults.ok()) << faults.str();
    return {
        .name = {}, .version = {}, .type_url = std::string(config::type_url(read.at(0).type)), .bytes = read[0].bytes};
  }
  xds::Verdict judge(xds::Update update) {
    std::optional<xds::Verdict> verdict;
    std::mutex mutex;
    builder_->update(std::move(update), [&](xds::Verdict told) {
      std::lock_guard lock(mutex);
      verdict = std::move(told);
    });
    EXPECT_TRUE(wait_until([&] {
      std::lock_guard lock(mutex);
      return verdict.has_value();
    }));
    return *verdict;
  }
  std::vector<std::string> update(xds::Type type, const std::string& version, std::vector<xds::Resource> resources,
                                  std::vector<std::string> removed = {}, bool full_set = true) {
    return judge({.id = 1,
                  .type = type,
                  .version = version,
                  .nonce = "n",
                  .full_set = full_set && xds::is_full_set(type),
                  .resources = std::move(resources),
                  .removed = std::move(removed)})
        .faults;
  }
  bool has_cluster(const std::string& name) {
    std::lock_guard lock(mutex_);
    return snapshot_ != nullptr && snapshot_->clusters.find(name) != nullptr;
  }
  std::optional<proxy::StoreStatus::Resource> status(ResourceType type, const std::string& name) {
    std::lock_guard lock(mutex_);
    if (status_ == nullptr) return std::nullopt;
    for (const auto& r : status_->resources)
      if (r.type == type && r.name == name) return r;
    return std::nullopt;
  }
  Wanted wanted() {
    std::lock_guard lock(mutex_);
    return wanted_;
  }

  stats::Registry registry_{1};
  std::mutex mutex_;
  std::shared_ptr<const proxy::Snapshot> snapshot_;
  std::shared_ptr<const proxy::StoreStatus> status_;
  Wanted wanted_;
  std::atomic<bool> initialized_ = false;
  std::unique_ptr<Builder> builder_ = std::make_unique<Builder>(BuilderOptions{.stats = &registry_, .bind = false});
};

TEST_F(BuilderTest, OneBadResourceIsRefusedAndTheRestTaken) {
  start();
  EXPECT_EQ(update(xds::Type::kCluster, "1", {resource(cluster("a")), resource(cluster("b"))}),
            std::vector<std::string>());
  EXPECT_TRUE(wait_until([&] { return has_cluster("a") && has_cluster("b"); }));
  const auto faults =
      update(xds::Type::kCluster, "2",
             {resource(cluster("a", "type: STATIC, connect_timeout: -1s")),
              resource(cluster("c")),
              {.name = "broken", .type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster", .bytes = "\xff"}});
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_NE(faults[0].find("Cluster/a: resources[0].connect_timeout: "), std::string::npos) << faults[0];
  EXPECT_NE(faults[1].find("resources[2]"), std::string::npos) << faults[1];
  EXPECT_TRUE(wait_until([&] { return has_cluster("c"); }));
  EXPECT_TRUE(has_cluster("a"));  // its last good version
  EXPECT_TRUE(wait_until([&] {
    const auto a = status(ResourceType::kCluster, "a");
    return a && a->refused_version() == "2" && a->refused().find("connect_timeout") != std::string::npos &&
           a->live_version == "1";
  }));
  EXPECT_TRUE(wait_until([&] { return !has_cluster("b"); }));  // not in version 2
  EXPECT_EQ(registry_.value("store.refused_resources"), 2u);
}

// 300 routes, of which number `other` leads to `cluster`.
std::string many_routes(int other, const std::string& cluster) {
  std::string routes;
  for (int i = 0; i < 300; ++i)
    routes += "{match: {path: /" + std::to_string(i) + "}, route: {cluster: " + (i == other ? cluster : "a") + "}}, ";
  return "{\"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: t, virtual_hosts: "
         "[{name: h, domains: [\"*\"], routes: [" +
         routes + "]}]}";
}

TEST_F(BuilderTest, TheNextVersionOfATableKeepsTheRoutesThatCameAgain) {
  start();
  update(xds::Type::kCluster, "1", {resource(cluster("a"))});
  update(xds::Type::kListener, "1",
         {resource("{\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener, name: l, address: "
                   "{socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: hcm, "
                   "typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network."
                   "http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, rds: {route_config_name: t, "
                   "config_source: {ads: {}}}, http_filters: [{name: r, typed_config: {\"@type\": "
                   "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}")});
  const auto table = [this]() -> std::shared_ptr<const route::RouteTable> {
    std::lock_guard lock(mutex_);
    const auto* found = snapshot_ == nullptr ? nullptr : snapshot_->route_tables.find("t");
    return found == nullptr ? nullptr : *found;
  };
  const auto cluster_of = [](const route::RouteTable& of, size_t i) {
    return of.virtual_hosts()[0].routes()[i].cluster;
  };
  EXPECT_EQ(update(xds::Type::kRouteTable, "1", {resource(many_routes(-1, ""))}), std::vector<std::string>());
  ASSERT_TRUE(wait_until([&] { return table() != nullptr; }));
  const auto first = table();

  // It waits for the cluster that is new in it, as a whole.
  const xds::Resource second_bytes = resource(many_routes(150, "b"));
  EXPECT_EQ(update(xds::Type::kRouteTable, "2", {second_bytes}), std::vector<std::string>());
  ASSERT_TRUE(wait_until([&] {
    const auto t = status(ResourceType::kRouteTable, "t");
    return t && t->waits_for() == std::vector<std::string>{"cluster b: unknown"};
  }));
  EXPECT_EQ(table(), first);
  update(xds::Type::kCluster, "2", {resource(cluster("a")), resource(cluster("b"))});
  ASSERT_TRUE(wait_until([&] { return table() != first; }));
  const auto second = table();
  EXPECT_EQ(cluster_of(*second, 150), "b");
  EXPECT_EQ(cluster_of(*second, 0).data(), cluster_of(*first, 0).data());  // shared, not made again
  EXPECT_NE(cluster_of(*second, 149).data(), cluster_of(*first, 149).data());
  ASSERT_TRUE(wait_until([&] {
    const auto t = status(ResourceType::kRouteTable, "t");
    return t && t->live_version == "2" && t->live_bytes.text() == second_bytes.bytes;
  }));

  const std::vector<std::string> faults =
      update(xds::Type::kRouteTable, "3", {resource(many_routes(299, "a, timeout: -1s"))});
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_NE(faults[0].find("resources[0].virtual_hosts[0].routes[299].route.timeout"), std::string::npos) << faults[0];
  // What no table names any more may go.
  EXPECT_EQ(update(xds::Type::kRouteTable, "4", {resource(many_routes(-1, ""))}), std::vector<std::string>());
  update(xds::Type::kCluster, "3", {resource(cluster("a"))});
  EXPECT_TRUE(wait_until([&] { return !has_cluster("b"); }));
  EXPECT_EQ(cluster_of(*table(), 150), "a");
}

TEST_F(BuilderTest, AResourceWithoutANameDeletesNothing) {
  start();
  update(xds::Type::kCluster, "1", {resource(cluster("a"))});
  const auto faults = update(
      xds::Type::kCluster, "2",
      {resource(cluster("b")), {.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster", .bytes = "\xff"}});
  EXPECT_EQ(faults.size(), 1u);
  EXPECT_TRUE(wait_until([&] { return has_cluster("b"); }));
  EXPECT_TRUE(has_cluster("a"));
}

TEST_F(BuilderTest, WrongTypesTwinsAndStaticNamesAreFaults) {
  start();
  const auto faults = update(xds::Type::kCluster, "1",
                             {resource(endpoints("e", 1)), resource(cluster("a")), resource(cluster("a")),
                              resource(cluster("xds", "type: STATIC, connect_timeout: 1s"))});
  ASSERT_EQ(faults.size(), 3u);
  EXPECT_NE(faults[0].find("is a ClusterLoadAssignment, expected a Cluster"), std::string::npos) << faults[0];
  EXPECT_NE(faults[1].find("Cluster/a is there twice"), std::string::npos) << faults[1];
  EXPECT_NE(faults[2].find("xds"), std::string::npos) << faults[2];
}

TEST_F(BuilderTest, AsksForWhatClustersAndListenersName) {
  start();
  update(xds::Type::kCluster, "1", {resource(cluster("a", kEds)), resource(cluster("b", kEds))});
  EXPECT_TRUE(wait_until([&] { return wanted().endpoints == std::vector<std::string>{"a", "b"}; }));
  EXPECT_FALSE(has_cluster("a"));  // waits
  update(xds::Type::kEndpoints, "1", {resource(endpoints("a", 1))});
  EXPECT_TRUE(wait_until([&] { return has_cluster("a"); }));
  EXPECT_FALSE(has_cluster("b"));
  EXPECT_TRUE(wait_until([&] {
    const auto b = status(ResourceType::kCluster, "b");
    return b && b->waits_for() == std::vector<std::string>{"endpoints b"};
  }));
  update(xds::Type::kCluster, "2", {resource(cluster("a", kEds))});
  EXPECT_TRUE(wait_until([&] { return wanted().endpoints == std::vector<std::string>{"a"}; }));
}

std::string aggregate(const std::string& name, const std::string& members) {
  return cluster(
      name,
      "lb_policy: CLUSTER_PROVIDED, cluster_type: {name: envoy.clusters.aggregate, typed_config: {\"@type\": "
      "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [" +
          members + "]}}");
}

TEST_F(BuilderTest, AggregatesTurnedRoundInOneBatchAreTakenWhateverTheirOrder) {
  start();
  const std::vector<std::string> none;
  const xds::Resource x = resource(cluster("x"));
  EXPECT_EQ(update(xds::Type::kCluster, "1", {x, resource(aggregate("g", "h")), resource(aggregate("h", "x"))}), none);
  EXPECT_EQ(update(xds::Type::kCluster, "2", {resource(aggregate("h", "g")), x, resource(aggregate("g", "x"))}), none);
  EXPECT_EQ(update(xds::Type::kCluster, "3", {resource(aggregate("g", "h")), x, resource(aggregate("h", "x"))}), none);
  // In a circle one of them is at fault, and keeps its last good version.
  const auto faults =
      update(xds::Type::kCluster, "4", {resource(aggregate("g", "h")), x, resource(aggregate("h", "g"))});
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0], "Cluster/h: cluster_type.typed_config.clusters[0]: closes a circle: h -> g -> h");
  EXPECT_TRUE(wait_until([&] {
    const auto h = status(ResourceType::kCluster, "h");
    return h && h->refused_version() == "4" && h->live_version == "3";
  }));
}

TEST_F(BuilderTest, RemovalsByNameAreTaken) {
  start();
  update(xds::Type::kCluster, "1", {resource(cluster("a")), resource(cluster("b"))}, {}, false);
  EXPECT_TRUE(wait_until([&] { return has_cluster("b"); }));
  update(xds::Type::kCluster, "2", {}, {"a"}, false);
  EXPECT_TRUE(wait_until([&] { return !has_cluster("a"); }));
  EXPECT_TRUE(has_cluster("b"));
}

TEST_F(BuilderTest, ADeltaTakesTheGoodNamesTheRefusedAndKeepsTheRest) {
  start();
  const auto named = [](std::string name, std::string version, xds::Resource resource) {
    resource.name = std::move(name);
    resource.version = std::move(version);
    return resource;
  };
  xds::Verdict verdict =
      judge({.id = 1,
             .type = xds::Type::kCluster,
             .version = "s1",
             .resources = {named("a", "1", resource(cluster("a"))), named("b", "1", resource(cluster("b")))}});
  EXPECT_TRUE(verdict.faults.empty());
  EXPECT_TRUE(verdict.refused.empty());
  verdict = judge({.id = 2,
                   .type = xds::Type::kCluster,
                   .version = "s2",
                   .resources = {named("a", "2", resource(cluster("a", "type: STATIC, connect_timeout: -1s"))),
                                 named("c", "2", resource(cluster("c"))), named("other", "2", resource(cluster("d")))},
                   .removed = {"b", "never was"}});
  ASSERT_EQ(verdict.faults.size(), 2u);
  EXPECT_NE(verdict.faults[1].find("is \"other\", but the resource's own name is \"d\""), std::string::npos);
  EXPECT_EQ(verdict.refused, (std::vector<std::string>{"a", "other"})) << "as the server calls them";
  EXPECT_TRUE(wait_until([&] { return has_cluster("c") && !has_cluster("b"); }));
  EXPECT_TRUE(has_cluster("a"));
  EXPECT_TRUE(wait_until([&] {
    const auto a = status(ResourceType::kCluster, "a"), c = status(ResourceType::kCluster, "c");
    return a && a->live_version == "1" && a->refused_version() == "2" && c && c->live_version == "2";
  }));
}

TEST_F(BuilderTest, AHeartbeatInAFullSetKeepsItsResource) {
  start();
  update(xds::Type::kCluster, "1", {resource(cluster("a")), resource(cluster("b"))});
  EXPECT_TRUE(wait_until([&] { return has_cluster("a") && has_cluster("b"); }));
  judge({.id = 2, .type = xds::Type::kCluster, .version = "1", .full_set = true, .kept = {"a"}});
  EXPECT_TRUE(wait_until([&] { return !has_cluster("b"); }));
  EXPECT_TRUE(has_cluster("a"));
}

TEST_F(BuilderTest, IsInitializedWhenBothFirstAnswersAreCompleteOrRefused) {
  start();
  update(xds::Type::kCluster, "1", {resource(cluster("a", kEds))});
  update(xds::Type::kListener, "1", {});
  EXPECT_TRUE(wait_until([&] { return status(ResourceType::kCluster, "a").has_value(); }));
  EXPECT_FALSE(initialized_);  // the endpoints of a are missing
  update(xds::Type::kEndpoints, "1", {resource(endpoints("a", 1))});
  EXPECT_TRUE(wait_until([&] { return initialized_.load(); }));
}

TEST_F(BuilderTest, IsInitializedAfterTheFetchTimeoutOfASilentSource) {
  std::string impatient = kDynamic;
  for (size_t at; (at = impatient.find("{ads: {}}\n")) != std::string::npos;)
    impatient.replace(at, 10, "{ads: {}, initial_fetch_timeout: 0.01s}\n");
  start(impatient);
  EXPECT_TRUE(wait_until([&] { return initialized_.load(); }));
}

TEST_F(BuilderTest, NothingBroughtWhatStandsInAFile) {
  start(kDynamic.substr(0, kDynamic.find("  cds_config")) + "  cds_config: {path_config_source: {path: /c.yaml}}\n" +
        kDynamic.substr(kDynamic.find("static_resources")));
  builder_->update_file({.type = ResourceType::kCluster, .path = "/c.yaml"},
                        "resources: [" + cluster("a", "type: EDS, eds_cluster_config: {eds_config: {self: {}}}") +
                            ", " + cluster("b") + "]",
                        "");
  EXPECT_TRUE(wait_until([&] {
    const auto a = status(ResourceType::kCluster, "a");
    return a && a->refused().find("eds_cluster_config.eds_config.self: has no meaning in a file") != std::string::npos;
  }));
  EXPECT_TRUE(wait_until([&] { return has_cluster("b"); }));
}

TEST_F(BuilderTest, WhatIsNotAskedOfAdsIsAskedOfEachSourceOnce) {
  start();
  const auto own = [](const std::string& service, const std::string& more) {
    return "type: EDS, eds_cluster_config: {service_name: " + service +
           ", eds_config: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]" +
           more + "}}}";
  };
  const std::string first_only = ", set_node_on_first_message_only: true";
  EXPECT_EQ(
      update(xds::Type::kCluster, "1",
             {resource(cluster("a", kEds)), resource(cluster("b", own("s", ""))), resource(cluster("c", own("r", ""))),
              resource(cluster("d", own("s", ""))), resource(cluster("e", own("s", first_only)))}),
      std::vector<std::string>());
  EXPECT_TRUE(wait_until([&] { return wanted().streams.size() == 2; }));
  const Wanted now = wanted();
  EXPECT_EQ(now.endpoints, std::vector<std::string>{"a"});
  ASSERT_EQ(now.streams.size(), 2u);
  EXPECT_EQ(now.streams[0].type, ResourceType::kEndpoints);
  EXPECT_EQ(now.streams[0].names, (std::vector<std::string>{"r", "s"}));
  EXPECT_EQ(now.streams[0].source.services, (std::vector<config::GrpcServiceSpec>{{.cluster = "xds"}}));
  EXPECT_EQ(now.streams[1].names, std::vector<std::string>{"s"});
  EXPECT_TRUE(now.streams[1].source.set_node_on_first_message_only);
}

}  // namespace
}  // namespace outrigger::server
