// RouteTable::Impl: what a route table owns. Private to this room.
//
// Thread rule: built on the builder thread, then immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "route/path_index.h"
#include "route/pool.h"
#include "route/prefix_map.h"
#include "route/route_table.h"

namespace outrigger::route {

// An authority without its port. A ':' inside an IPv6 literal's brackets begins none.
std::string_view without_port(std::string_view authority);
std::string_view without_query_and_fragment(std::string_view path);

struct RouteTable::Impl {
  static constexpr uint32_t kNone = UINT32_MAX;

  std::string name;
  Pool pool;  // texts, routes, actions, filter configs
  std::vector<VirtualHost> virtual_hosts;

  // Domains; payloads are indices into virtual_hosts. Suffixes are stored reversed.
  PrefixMap<uint32_t> exact_domains, suffix_domains, prefix_domains;
  uint32_t default_virtual_host = kNone;
  bool ignore_port = false;

  bool most_specific_wins = false;
  std::optional<bool> validate_clusters;
  std::vector<std::string> internal_only_headers;
  const HeaderMutations* request_mutations = nullptr;
  const HeaderMutations* response_mutations = nullptr;
  FilterConfigs filters;

  // What routes point to and what needs a destructor. Reserved before the first pointer is taken, or never moved.
  std::vector<config::HeaderMatcher> header_matchers;
  std::vector<config::QueryMatcher> query_matchers;
  std::vector<config::RateLimitPolicy> rate_limits;
  std::vector<HeaderMutations> mutations;
  std::vector<config::RetryPolicySpec> retries;
  std::vector<std::shared_ptr<const config::Regex>> regexes;  // each once
  std::vector<std::shared_ptr<const FilterPart>> parts;

  std::vector<std::string_view> clusters;  // each once
  size_t route_count = 0;
  size_t linear_routes = 0;
};

}  // namespace outrigger::route
