#include "support/resources.h"

#include <algorithm>

namespace outrigger::test {
namespace {

std::string typed(std::string_view type) { return "\"@type\": type.googleapis.com/" + std::string(type) + "\n"; }

constexpr std::string_view kAds = "{ads: {}, resource_api_version: V3}";

std::string address(uint16_t port) {
  return "{socket_address: {address: 127.0.0.1, port_value: " + std::to_string(port) + "}}";
}

std::string endpoints(std::string_view cluster, std::string_view head, const std::vector<uint16_t>& ports) {
  std::string yaml = typed("envoy.config.endpoint.v3.ClusterLoadAssignment") + "cluster_name: " + std::string(cluster) +
                     "\nendpoints:\n- " + std::string(head) + (ports.empty() ? " []\n" : "\n");
  for (const uint16_t port : ports) yaml += "  - {endpoint: {address: " + address(port) + "}}\n";
  return yaml;
}

}  // namespace

std::string indented(std::string_view text, size_t columns) {
  std::string result;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    result += std::string(columns, ' ') + std::string(text.substr(0, end)) + "\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::string resource_file(const std::vector<std::string>& resources) {
  std::string file = resources.empty() ? "resources: []\n" : "resources:\n";
  for (const std::string& resource : resources) {
    std::string item = indented(resource, 2);
    item[0] = '-';
    file += item;
  }
  return file;
}

std::string listener_resource(std::string_view name, std::string_view route_table, std::string_view more,
                              std::string_view filters) {
  return typed("envoy.config.listener.v3.Listener") + "name: " + std::string(name) + "\naddress: " + address(0) +
         "\nfilter_chains:\n- filters:\n  - name: envoy.filters.network.http_connection_manager\n    typed_config:\n   "
         "   " +
         typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager") +
         "      stat_prefix: " + std::string(name) + "\n      rds: {route_config_name: " + std::string(route_table) +
         ", config_source: " + std::string(kAds) + "}\n" + indented(more, 6) + "      http_filters:\n" +
         indented(filters, 6) + "      - name: envoy.filters.http.router\n        typed_config:\n          " +
         typed("envoy.extensions.filters.http.router.v3.Router");
}

std::string routes_resource(std::string_view name, std::string_view routes, std::string_view more) {
  return typed("envoy.config.route.v3.RouteConfiguration") + "name: " + std::string(name) + "\n" + std::string(more) +
         "virtual_hosts:\n- name: all\n  domains: [\"*\"]\n  routes:\n" + indented(routes, 2);
}

std::string eds_cluster_resource(std::string_view name, std::string_view more) {
  return typed("envoy.config.cluster.v3.Cluster") + "name: " + std::string(name) +
         "\ntype: EDS\nconnect_timeout: 5s\neds_cluster_config: {eds_config: " + std::string(kAds) + "}\n" +
         std::string(more);
}

std::string endpoints_resource(std::string_view cluster, const std::vector<uint16_t>& ports) {
  return endpoints(cluster, "lb_endpoints:", ports);
}

std::string api_listener_resource(std::string_view name, std::string_view route_table) {
  return typed("envoy.config.listener.v3.Listener") + "name: " + std::string(name) +
         "\napi_listener:\n  api_listener:\n    " +
         typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager") +
         "    stat_prefix: " + std::string(name) + "\n    rds: {route_config_name: " + std::string(route_table) +
         ", config_source: " + std::string(kAds) +
         "}\n    http_filters:\n    - name: envoy.filters.http.router\n      typed_config:\n        " +
         typed("envoy.extensions.filters.http.router.v3.Router");
}

std::string weighted_endpoints_resource(std::string_view cluster, const std::vector<uint16_t>& ports) {
  return endpoints(cluster, "locality: {region: here, zone: a}\n  load_balancing_weight: 1\n  lb_endpoints:", ports);
}

std::string ads_bootstrap(uint16_t control_port, std::string_view api_type) {
  const std::string ads(kAds);
  return "node: {id: test-proxy, cluster: test}\n"
         "dynamic_resources:\n"
         "  ads_config:\n"
         "    api_type: " +
         std::string(api_type) +
         "\n"
         "    transport_api_version: V3\n"
         "    grpc_services: [{envoy_grpc: {cluster_name: xds_cluster}}]\n"
         "  lds_config: " +
         ads + "\n  cds_config: " + ads +
         "\n"
         "static_resources:\n"
         "  clusters:\n"
         "  - name: xds_cluster\n"
         "    type: STATIC\n"
         "    connect_timeout: 1s\n"
         "    typed_extension_protocol_options:\n"
         "      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
         "        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n"
         "        explicit_http_config: {http2_protocol_options: {}}\n"
         "    load_assignment:\n"
         "      cluster_name: xds_cluster\n"
         "      endpoints:\n"
         "      - lb_endpoints:\n"
         "        - {endpoint: {address: " +
         address(control_port) + "}}\n";
}

}  // namespace outrigger::test
