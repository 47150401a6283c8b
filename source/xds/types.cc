#include "xds/types.h"

#include <array>

namespace outrigger::xds {
namespace {

struct Names {
  std::string_view url, name;
};
constexpr std::array<Names, kTypeCount> kNames = {{
    {"type.googleapis.com/envoy.config.listener.v3.Listener", "lds"},
    {"type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "rds"},
    {"type.googleapis.com/envoy.config.cluster.v3.Cluster", "cds"},
    {"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "eds"},
}};

}  // namespace

std::string_view type_url(Type type) { return kNames[static_cast<size_t>(type)].url; }
std::string_view short_name(Type type) { return kNames[static_cast<size_t>(type)].name; }

std::optional<Type> find_type(std::string_view type_url) {
  for (size_t i = 0; i < kTypeCount; ++i) {
    if (kNames[i].url == type_url) return static_cast<Type>(i);
  }
  return std::nullopt;
}

}  // namespace outrigger::xds
