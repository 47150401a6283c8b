// YAML of xDS resources for tests that drive the programs by files or by a control plane.
//
// Use:  write_file(dir / "routes.yaml", resource_file({routes_resource("table", "- match: {prefix: /}\n  route:
// ...\n")}));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger::test {

// A file of resources as the control plane and file sources read it.
std::string resource_file(const std::vector<std::string>& resources);

// The resources, each a YAML mapping. `more` holds further fields of the message (of the connection manager for
// listeners), at no indentation.
std::string listener_resource(std::string_view name, std::string_view route_table, std::string_view more = {},
                              std::string_view filters = {});
std::string routes_resource(std::string_view name, std::string_view routes, std::string_view more = {});
std::string eds_cluster_resource(std::string_view name, std::string_view more = {});
std::string endpoints_resource(std::string_view cluster, const std::vector<uint16_t>& ports);
// What gRPC clients (`xds:///name`) want: a listener without a port, and endpoints of a locality with a weight.
std::string api_listener_resource(std::string_view name, std::string_view route_table);
std::string weighted_endpoints_resource(std::string_view cluster, const std::vector<uint16_t>& ports);

// A bootstrap whose listeners and clusters come by ADS from a control plane on a loopback port.
std::string ads_bootstrap(uint16_t control_port, std::string_view api_type = "GRPC");

std::string indented(std::string_view text, size_t columns);

}  // namespace outrigger::test
