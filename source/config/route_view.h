// RouteView: what a filter may know of the route that its request matched, without knowing the route room. It is the
// first base of route::Route, and what StreamHandle::route() points to.
//
// Thread rule: immutable; as long as the stream.
// Use:  const auto* route = static_cast<const config::RouteView*>(stream.route());
//       if (route != nullptr) for (const RateLimitPolicy& p : route->rate_limits) ...
#pragma once

#include <span>
#include <string_view>

#include "config/rate_limit_actions.h"

namespace outrigger::config {

struct VirtualHostView {
  std::string_view name;
  std::span<const RateLimitPolicy> rate_limits;
};

struct RouteView {
  std::string_view name;     // may be empty
  std::string_view cluster;  // empty: weighted, named by a header, or not forwarded at all; see StreamInfo::cluster
  const VirtualHostView* virtual_host_view = nullptr;  // never nullptr in a matched route
  std::span<const RateLimitPolicy> rate_limits;
  bool include_virtual_host_rate_limits = false;
};

}  // namespace outrigger::config
