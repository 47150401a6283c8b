// Specs of small resources for tests of the Store and the data plane.
//
// Use:  store.accept(eds_cluster("c"), {}, Source::kXds);  store.accept(table("t", {"c"}), {}, Source::kXds);
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config/spec.h"
#include "proxy/store.h"

namespace outrigger::proxy {

inline config::EndpointSpec endpoint(uint16_t port, std::string host = "127.0.0.1") {
  config::EndpointSpec spec;
  spec.address = {.kind = config::AddressSpec::Kind::kIp, .host = std::move(host), .port = port};
  return spec;
}

inline config::ClusterSpec static_cluster(const std::string& name, uint16_t port = 80) {
  config::ClusterSpec spec;
  spec.name = name;
  spec.endpoints.endpoints = {endpoint(port)};
  return spec;
}

inline config::ClusterSpec eds_cluster(const std::string& name, const std::string& service = {}) {
  config::ClusterSpec spec;
  spec.name = name;
  spec.discovery = config::ClusterSpec::Discovery::kEds;
  spec.eds_service_name = service;
  return spec;
}

inline config::ClusterSpec aggregate_cluster(const std::string& name, std::vector<std::string> members) {
  config::ClusterSpec spec;
  spec.name = name;
  spec.discovery = config::ClusterSpec::Discovery::kAggregate;
  spec.members = std::move(members);
  return spec;
}

inline config::ClusterSpec dns_cluster(const std::string& name, const std::string& host) {
  config::ClusterSpec spec = static_cluster(name);
  spec.discovery = config::ClusterSpec::Discovery::kStrictDns;
  spec.endpoints.endpoints = {endpoint(80, host)};
  spec.endpoints.endpoints[0].address.kind = config::AddressSpec::Kind::kHostname;
  return spec;
}

inline config::EndpointsSpec endpoints(const std::string& service, std::vector<uint16_t> ports) {
  config::EndpointsSpec spec{.cluster_name = service, .endpoints = {}};
  for (uint16_t port : ports) spec.endpoints.push_back(endpoint(port));
  return spec;
}

inline config::RouteTableSpec table(const std::string& name, std::vector<std::string> clusters) {
  config::RouteTableSpec spec;
  spec.name = name;
  config::VirtualHostSpec host;
  host.name = "all";
  host.domains = {"*"};
  for (const std::string& cluster : clusters) {
    config::RouteSpec route;
    route.match.path.value = "/" + cluster;
    config::ForwardSpec forward;
    forward.cluster = cluster;
    route.action = forward;
    host.routes.push_back(route);
  }
  spec.virtual_hosts = {host};
  return spec;
}

// Everything goes to `cluster`.
inline config::RouteTableSpec all_to(const std::string& cluster, const std::string& name = "t") {
  config::RouteTableSpec spec = table(name, {cluster});
  spec.virtual_hosts[0].routes[0].match.path.value = "/";
  return spec;
}

// The table's first route mirrors to these.
inline config::RouteTableSpec mirrored(config::RouteTableSpec spec, const std::vector<std::string>& clusters) {
  auto& forward = std::get<config::ForwardSpec>(spec.virtual_hosts[0].routes[0].action);
  for (const std::string& cluster : clusters) forward.mirrors.push_back({.cluster = cluster, .cluster_header = {}});
  return spec;
}

inline config::ListenerSpec listener(const std::string& name, const std::string& rds, uint16_t port = 0) {
  config::ListenerSpec spec;
  spec.name = name;
  spec.addresses = {{.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = port}};
  config::FilterChainSpec chain;
  chain.hcm.stat_prefix = name;
  chain.hcm.rds_name = rds;
  spec.filter_chains = {chain};
  return spec;
}

// What differs between two statuses; "": nothing.
inline std::string status_difference(const StoreStatus& a, const StoreStatus& b) {
  const auto text = [](const StoreStatus& status) {
    std::string out = "version " + std::to_string(status.version) + " forced " + std::to_string(status.forced) +
                      " warming " + std::to_string(status.listeners_warming) + "," +
                      std::to_string(status.clusters_warming) + " refused " + std::to_string(status.refused);
    for (const StoreStatus::Resource& r : status.resources) {
      out += "\n" + std::to_string(static_cast<int>(r.type)) + " " + r.name + " " + r.scope.text() + " source " +
             std::to_string(static_cast<int>(r.source)) + (r.removed_but_named ? " removed" : "") + " live " +
             r.live_version.text() + " staged " + r.staged_version.text() + " bytes " + r.live_bytes.text() + "/" +
             r.staged_bytes.text() + " refused " + r.refused_version() + r.refused() + " at " +
             std::to_string(r.updated_unix_ms) + " waits";
      for (const std::string& wait : r.waits_for()) out += " (" + wait + ")";
    }
    return out;
  };
  const std::string of_a = text(a), of_b = text(b);
  return of_a == of_b ? std::string() : of_a + "\n----\n" + of_b;
}

}  // namespace outrigger::proxy
