// Which clusters have a TcpPool. What it does is tested over sockets, in test/proxy/tcp_preconnect_test.cc.
#include "upstream/tcp_pool.h"

#include <gtest/gtest.h>

#include "upstream/worker_clusters.h"

namespace outrigger::upstream {
namespace {

using config::ClusterSpec;

TEST(TcpPoolTest, OnlyConnectionsThatMayBeAnyClientsAreMadeAhead) {
  const auto has_pool = [](const std::function<void(ClusterSpec&)>& change) {
    event::Loop loop;
    stats::Registry registry{1};
    ClusterSpec spec;
    spec.name = "up";
    spec.endpoints.endpoints.emplace_back().address = {
        .kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = 80};
    change(spec);
    const std::shared_ptr<const Cluster> compiled = Cluster::compile(spec, registry, nullptr);
    const std::shared_ptr<const HostSet> endpoints = HostSet::compile(spec.endpoints.endpoints, nullptr);
    WorkerClusters clusters(loop, registry.worker_shard(0), [](const std::shared_ptr<const void>&) {});
    WorkerCluster* const cluster =
        clusters.find("up", content_hash("up"), [&](std::string_view, uint64_t, auto& part, auto& hosts) {
          part = compiled;
          hosts = endpoints;
          return true;
        });
    const net::Address wanted = *net::Address::parse("127.0.0.1", 81);
    const bool has = cluster->tcp_pool(cluster->takes_original() ? *cluster->pick_original(wanted) : *cluster->pick());
    clusters.end_spares();
    EXPECT_EQ(cluster->tcp_pool(*cluster->pick()), nullptr);
    clusters.shutdown();
    clusters.sweep();
    EXPECT_TRUE(clusters.empty());
    return has;
  };
  EXPECT_FALSE(has_pool([](ClusterSpec&) {}));
  EXPECT_TRUE(has_pool([](ClusterSpec& spec) { spec.preconnect_ratio = 1.1F; }));
  EXPECT_FALSE(has_pool([](ClusterSpec& spec) {
    spec.preconnect_ratio = 3;
    spec.proxy_header = config::ProxyHeaderVersion::kV2;
  }));
  EXPECT_FALSE(has_pool([](ClusterSpec& spec) {
    spec.preconnect_ratio = 3;
    spec.discovery = ClusterSpec::Discovery::kOriginalDst;
  }));
}

}  // namespace
}  // namespace outrigger::upstream
