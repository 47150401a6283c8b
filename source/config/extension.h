// FilterType, FilterRef: how one HTTP filter plugs into config. source/server/filters.cc lists every FilterType by
// hand; translation finds a filter by the type of its typed_config, lets it check and compile its message, and keeps
// compiled configs while they are equal (FilterRef compares by type and canonical bytes, and the interner gives equal
// ones the same pointer).
//
// Thread rule: builder thread; compiled parts are immutable and shared with the workers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/faults.h"
#include "outrigger/filter.h"

namespace google::protobuf {
class Message;
}

namespace outrigger::stats {
class Registry;
}

namespace outrigger::config {

// Mutable state that outlives a config (limiter tables and the like), found again by key by the next version of the
// same filter; it dies with its last user.
class StateRegistry {
 public:
  // The state under `key`, made by make() (a std::shared_ptr<T>) if nobody holds it any more. Keys carry their type's
  // name.
  template <class T, class Make>
  std::shared_ptr<T> find_or_make(const std::string& key, Make&& make) {
    std::weak_ptr<void>& slot = states_[key];
    if (auto held = std::static_pointer_cast<T>(slot.lock())) return held;
    std::shared_ptr<T> made = make();
    slot = made;
    return made;
  }
  void sweep();  // forgets expired keys; called after every publish

 private:
  std::unordered_map<std::string, std::weak_ptr<void>> states_;
};

// What a filter may use while it compiles its config.
struct CompileContext {
  Faults& faults;
  StateRegistry& states;
  stats::Registry& stats;
  std::string scope;         // where the config stands, stable across updates: "listener/chain/filter" or
                             // "route_table/vhost/route/filter"
  uint16_t filter_id = 0;    // filter_name_id of the filter's configured name, for StreamHandle::route_config
  std::string node_cluster;  // the node's cluster, for rate limit actions; empty: unknown
  std::string http_prefix;   // the connection manager's stat_prefix (stats label "http"); empty for per-route configs
};

// Compiles `message` (of type config_type or route_type); nullptr with at least one fault, or the part.
using CompileFilter = std::shared_ptr<const FilterConfig> (*)(const google::protobuf::Message& message,
                                                              const FieldPath& path, CompileContext& context);
using CompileRouteFilter = std::shared_ptr<const FilterPart> (*)(const google::protobuf::Message& message,
                                                                 const FieldPath& path, CompileContext& context);

struct FilterType {
  std::string_view name;         // "envoy.filters.http.local_ratelimit": canonical
  std::string_view config_type;  // full name of its message
  std::string_view route_type;   // full name of its per-route message; empty: none
  CompileFilter compile = nullptr;
  CompileRouteFilter compile_route = nullptr;
};

// Process-wide id of a filter's configured name (HttpFilter.name, the key of typed_per_filter_config); ids are small
// and never reused. kNoFilterId: 65,535 names were seen already. Any thread.
inline constexpr uint16_t kNoFilterId = UINT16_MAX;
uint16_t filter_name_id(std::string_view name);

// A compiled config and what it was compiled from.
template <class Part>
struct CompiledRef {
  std::string type;   // message full name
  std::string bytes;  // deterministic serialisation
  std::shared_ptr<const Part> part;
  bool operator==(const CompiledRef& other) const {
    return part == other.part || (type == other.type && bytes == other.bytes);
  }
};
using FilterRef = CompiledRef<FilterConfig>;

struct PerFilterConfig {
  uint16_t filter_id = 0;
  std::string filter_name;
  CompiledRef<FilterPart> config;
  bool disabled = false;  // envoy.config.route.v3.FilterConfig.disabled
  bool operator==(const PerFilterConfig& other) const {
    return filter_id == other.filter_id && config == other.config && disabled == other.disabled;
  }
};
using PerFilterConfigs = std::vector<PerFilterConfig>;  // sorted by filter_id

}  // namespace outrigger::config
