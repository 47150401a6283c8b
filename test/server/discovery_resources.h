// Resources as a control plane sends them, written as YAML.
//
// Use:  server.set(url(xds::Type::kCluster), "1", {{"web", eds_cluster("web", "{ads: {}}")}});
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "config/translate.h"
#include "discovery_server.h"
#include "filters/all_filters.h"
#include "running_server.h"
#include "xds/types.h"

namespace outrigger::server {

inline std::string url(xds::Type type) { return std::string(xds::type_url(type)); }

// As bytes of discovery: "{name: a, ...}" of that type.
inline std::string bytes_of(xds::Type type, std::string yaml) {
  stats::Registry registry(1);
  config::StateRegistry states;
  config::Translator translator(filters::all_filters(), states, registry, {});
  config::Faults faults;
  yaml.insert(1, "\"@type\": " + url(type) + ", ");
  const auto read = translator.resource_file("resources: [" + yaml + "]", "r.yaml", faults);
  EXPECT_TRUE(faults.ok() && read.size() == 1 && read[0].faults.ok()) << faults.str() << yaml;
  return read.empty() ? "" : read[0].bytes;
}

inline std::string eds_cluster_yaml(const std::string& name, const std::string& source) {
  return "{name: " + name + ", type: EDS, eds_cluster_config: {eds_config: " + source + "}}";
}
inline std::string eds_cluster(const std::string& name, const std::string& source) {
  return bytes_of(xds::Type::kCluster, eds_cluster_yaml(name, source));
}
inline std::string endpoints(const std::string& name, uint16_t port) {
  return bytes_of(xds::Type::kEndpoints,
                  "{cluster_name: " + name +
                      ", endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "
                      "127.0.0.1, port_value: " +
                      std::to_string(port) + "}}}}]}]}");
}
inline std::string listener(const std::string& table, const std::string& source) {
  return bytes_of(xds::Type::kListener,
                  listener_yaml("main", "rds: {route_config_name: " + table + ", config_source: " + source + "}"));
}
inline std::string routes(const std::string& table, const std::string& cluster) {
  return bytes_of(xds::Type::kRouteTable,
                  "{name: " + table + ", virtual_hosts: [{name: all, domains: [\"*\"], routes: [{match: {prefix: /}, " +
                      "route: {cluster: " + cluster + "}}]}]}");
}

// One listener, table, cluster and its endpoints by ADS.
inline void serve_by_ads(test::DiscoveryServer& server, const std::string& version, uint16_t port) {
  server.set(url(xds::Type::kCluster), version, {{"web", eds_cluster("web", "{ads: {}}")}});
  server.set(url(xds::Type::kEndpoints), version, {{"web", endpoints("web", port)}});
  server.set(url(xds::Type::kListener), version, {{"main", listener("table", "{ads: {}}")}});
  server.set(url(xds::Type::kRouteTable), version, {{"table", routes("table", "web")}});
}

}  // namespace outrigger::server
