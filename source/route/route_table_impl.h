// RouteTable::Impl: what a route table owns. Private to this room.
//
// Thread rule: built on the builder thread, then immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "route/path_index.h"
#include "route/prefix_map.h"
#include "route/route_piece.h"
#include "route/route_table.h"

namespace outrigger::route {

// An authority without its port. A ':' inside an IPv6 literal's brackets begins none.
std::string_view without_port(std::string_view authority);
std::string_view without_query_and_fragment(std::string_view path);

struct RouteTable::Impl {
  static constexpr uint32_t kNone = UINT32_MAX;

  std::string name;
  RoutePiece own{512};      // of the table, its virtual hosts and indexes; the array of the routes
  std::span<Route> routes;  // all virtual hosts', in order
  struct Piece {
    std::shared_ptr<const RoutePiece> shared;
    uint32_t begin = 0;  // in `routes`
    uint32_t size = 0;
  };
  std::vector<Piece> pieces;  // of all routes in order
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

  std::vector<ClusterName> clusters;  // each once, sorted
  size_t linear_routes = 0;
};

}  // namespace outrigger::route
