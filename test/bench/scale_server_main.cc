// A control plane for test/bench/scale: the control-plane library with a set of any size, changed by lines on stdin.
//   scale_server --clusters N --endpoints M --routes R --port UPSTREAM
//   "listening PORT" on stdout, then for each line:
//     endpoint I      one endpoint of cluster I is another          -> "done"
//     route           one route is another                           -> "done"
//     churn RATE S    RATE such endpoints a second for S seconds    -> "done CHANGES"
#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <map>
#include <thread>

#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "outrigger/control/ads_server.h"

namespace {

using namespace outrigger::control;  // NOLINT
using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kBatch(20);
namespace config = envoy::config;

struct Size {
  int clusters = 10'000, endpoints = 5, routes = 10'000, port = 0;
};

template <class M>
ResourcePtr resource(const M& message, const std::string& name) {
  return std::make_shared<const Resource>(
      Resource::make("type.googleapis.com/" + M::descriptor()->full_name(), name, message.SerializeAsString()));
}

std::string cluster_name(int i) { return "cluster_" + std::to_string(i); }

ResourcePtr cluster(int i) {
  config::cluster::v3::Cluster cluster;
  cluster.set_name(cluster_name(i));
  cluster.set_type(config::cluster::v3::Cluster::EDS);
  auto* source = cluster.mutable_eds_cluster_config()->mutable_eds_config();
  source->mutable_ads();
  source->set_resource_api_version(config::core::v3::V3);
  return resource(cluster, cluster.name());
}

// Cluster 0 is the real upstream; the others have addresses that nobody asks. `version` changes the last one.
ResourcePtr endpoints(int i, int version, const Size& size) {
  config::endpoint::v3::ClusterLoadAssignment load;
  load.set_cluster_name(cluster_name(i));
  auto* locality = load.add_endpoints();
  for (int e = 0; e < (i == 0 ? 1 : size.endpoints); ++e) {
    auto* address = locality->add_lb_endpoints()->mutable_endpoint()->mutable_address()->mutable_socket_address();
    const int last = e + 1 == size.endpoints ? version : 0;
    address->set_address(i == 0 ? "127.0.0.1"
                                : "10." + std::to_string(i / 250) + "." + std::to_string(i % 250) + "." +
                                      std::to_string(1 + e));
    address->set_port_value(i == 0 ? size.port : 1024 + last % 60'000);
  }
  return resource(load, load.cluster_name());
}

ResourcePtr routes(int version, const Size& size) {
  config::route::v3::RouteConfiguration table;
  table.set_name("table");
  auto* host = table.add_virtual_hosts();
  host->set_name("all");
  host->add_domains("*");
  for (int i = 0; i < size.routes; ++i) {
    auto* route = host->add_routes();
    route->mutable_match()->set_path("/exact/" + std::to_string(i) + (i == 7 ? "/" + std::to_string(version) : ""));
    route->mutable_route()->set_cluster(cluster_name(i % size.clusters));
  }
  auto* rest = host->add_routes();
  rest->mutable_match()->set_prefix("/");
  rest->mutable_route()->set_cluster(cluster_name(0));
  return resource(table, table.name());
}

ResourcePtr listener() {
  namespace hcm = envoy::extensions::filters::network::http_connection_manager::v3;
  hcm::HttpConnectionManager manager;
  manager.set_stat_prefix("main");
  manager.mutable_rds()->set_route_config_name("table");
  manager.mutable_rds()->mutable_config_source()->mutable_ads();
  manager.mutable_rds()->mutable_config_source()->set_resource_api_version(config::core::v3::V3);
  auto* router = manager.add_http_filters();
  router->set_name("envoy.filters.http.router");
  router->mutable_typed_config()->PackFrom(envoy::extensions::filters::http::router::v3::Router());
  config::listener::v3::Listener listener;
  listener.set_name("main");
  auto* address = listener.mutable_address()->mutable_socket_address();
  address->set_address("127.0.0.1");
  address->set_port_value(0);
  auto* filter = listener.add_filter_chains()->add_filters();
  filter->set_name("envoy.filters.network.http_connection_manager");
  filter->mutable_typed_config()->PackFrom(manager);
  return resource(listener, listener.name());
}

class Plane {
 public:
  explicit Plane(const Size& size) : size_(size), versions_(size.clusters, 0) {
    for (int i = 0; i < size.clusters; ++i) resources_.push_back(cluster(i));
    for (int i = 0; i < size.clusters; ++i) resources_.push_back(endpoints(i, 0, size));
    resources_.push_back(listener());
    resources_.push_back(routes(0, size));
    publish();
  }
  ResourceCache& cache() { return cache_; }
  void endpoint(int i) { resources_[size_.clusters + i] = endpoints(i, ++versions_[i], size_); }
  void route() { resources_.back() = routes(++route_version_, size_); }
  void publish() {
    auto snapshot = ResourceSnapshot::of(resources_);
    if (!snapshot) {
      std::cerr << snapshot.error().detail << "\n";
      std::exit(1);
    }
    cache_.set(*snapshot);
  }
  // Changes come as control planes make them: in batches, 50 a second or as many as can be made. Returns how many
  // changes were made in time.
  int churn(int rate, int seconds) {
    const auto begin = Clock::now(), end = begin + std::chrono::seconds(seconds);
    int made = 0;
    for (auto now = begin; now < end; now = Clock::now()) {
      const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(now - begin) + kBatch;
      for (const auto due = since.count() * rate / 1000; made < due; ++made) endpoint(1 + made % (size_.clusters - 1));
      publish();
      std::this_thread::sleep_until(now + kBatch);
    }
    return made;
  }

 private:
  const Size size_;
  std::vector<int> versions_;
  std::vector<ResourcePtr> resources_;
  ResourceCache cache_;
  int route_version_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  Size size;
  CLI::App app("A control plane for test/bench/scale.");
  app.add_option("--clusters", size.clusters);
  app.add_option("--endpoints", size.endpoints);
  app.add_option("--routes", size.routes);
  app.add_option("--port", size.port)->required();
  CLI11_PARSE(app, argc, argv);
  Plane plane(size);
  AdsServer server(plane.cache());
  const auto port = server.start("127.0.0.1:0");
  if (!port) {
    std::cerr << port.error().detail << "\n";
    return 1;
  }
  std::cout << "listening " << *port << std::endl;
  std::string what;
  for (int a = 0, b = 0; std::cin >> what;) {
    if (what == "endpoint" && std::cin >> a) {
      plane.endpoint(a);
      plane.publish();
      std::cout << "done" << std::endl;
    } else if (what == "route") {
      plane.route();
      plane.publish();
      std::cout << "done" << std::endl;
    } else if (what == "churn" && std::cin >> a >> b) {
      std::cout << "done " << plane.churn(a, b) << std::endl;
    } else {
      return 2;
    }
  }
  server.stop();
  return 0;
}
