#include "xds/types.h"

#include <array>

namespace outrigger::xds {
namespace {

struct Names {
  std::string_view url, name, service, resources;
};
constexpr std::array<Names, kTypeCount> kNames = {{
    {"type.googleapis.com/envoy.config.listener.v3.Listener", "lds",
     "envoy.service.listener.v3.ListenerDiscoveryService", "Listeners"},
    {"type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "rds",
     "envoy.service.route.v3.RouteDiscoveryService", "Routes"},
    {"type.googleapis.com/envoy.config.cluster.v3.Cluster", "cds", "envoy.service.cluster.v3.ClusterDiscoveryService",
     "Clusters"},
    {"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "eds",
     "envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints"},
    {"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "sds",
     "envoy.service.secret.v3.SecretDiscoveryService", "Secrets"},
}};
constexpr std::string_view kAggregated = "envoy.service.discovery.v3.AggregatedDiscoveryService";

}  // namespace

std::string_view type_url(Type type) { return kNames[static_cast<size_t>(type)].url; }
std::string_view short_name(Type type) { return kNames[static_cast<size_t>(type)].name; }

std::string stream_method(std::optional<Type> only, bool incremental) {
  std::string method = "/";
  method += only ? kNames[static_cast<size_t>(*only)].service : kAggregated;
  method += incremental ? "/Delta" : "/Stream";
  method += only ? kNames[static_cast<size_t>(*only)].resources : "AggregatedResources";
  return method;
}

std::optional<Type> find_type(std::string_view type_url) {
  for (size_t i = 0; i < kTypeCount; ++i) {
    if (kNames[i].url == type_url) return static_cast<Type>(i);
  }
  return std::nullopt;
}

}  // namespace outrigger::xds
