// Pieces of a route table: runs of some 64 consecutive routes, whatever the virtual host. The next version of a table
// is held against the last one before it is parsed: a piece whose routes came again, byte for byte, is kept as it was
// translated, checked and compiled, and only the others are translated.
//
//   bytes --walk_routes--> a key per route --keep_pieces--> layout: kept and new pieces
//         --without_kept--> a table of the new routes only, translated as any other
//         --with_kept--> the canonical bytes of the whole
//
// A key covers the route's bytes and those around it that a route may be made with, so equal keys mean equal routes.
//
// Thread rule: the builder thread; RouteKeys and KeptRoutes are immutable once made.
// Use:  auto walk = walk_routes(bytes);  if (walk && base.keys) if (auto kept = keep_pieces(walk->keys, *base.keys))
// ...
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/shared_text.h"

namespace outrigger::config {

// The zero hash: the route is made of more than its bytes (a file, a filter's config) and cannot be kept.
using RouteKey = Hash128;

// The routes of one version of a table, all virtual hosts', in order.
struct RouteKeys {
  std::vector<RouteKey> routes;
  std::vector<uint32_t> pieces;  // how many routes each piece has
};

// The version of a table that the next one may keep pieces of.
struct TableBase {
  std::shared_ptr<const RouteKeys> keys;  // nullptr: none
  std::shared_ptr<const void> compiled;   // the route::RouteTable
  SharedText bytes;                       // canonical
};

// How a table is made of pieces of the one before and of new ones.
struct KeptRoutes {
  static constexpr uint32_t kNew = UINT32_MAX;
  struct Piece {
    uint32_t routes = 0;
    uint32_t from = kNew;  // piece of `compiled`
  };
  std::shared_ptr<const void> compiled;  // the route::RouteTable that the kept pieces are of
  std::vector<Piece> pieces;             // of all routes in order
  std::vector<uint32_t> host_routes;     // by virtual host: how many routes it has, kept ones included
};

// A serialised RouteConfiguration, taken apart but not parsed.
struct RouteWalk {
  std::string name;
  std::vector<uint32_t> host_routes;
  std::vector<std::string_view> routes;  // all virtual hosts'; serialised Routes
  std::vector<RouteKey> keys;            // by route
};

// nullopt: not a well-formed message. Keys cost a hash of all bytes; without them `keys` stays empty.
std::optional<RouteWalk> walk_routes(std::string_view table, bool with_keys);
// Even pieces for `routes` routes of which none is kept.
std::vector<uint32_t> even_pieces(size_t routes);
// Which pieces of `base` come again; `compiled` and `host_routes` are left to be filled in. nullptr: none.
std::shared_ptr<KeptRoutes> keep_pieces(const std::vector<RouteKey>& keys, const RouteKeys& base);
// The table with the new routes only.
std::string without_kept(std::string_view table, const KeptRoutes& kept);
// The whole from that, after it has been made canonical, and the base's canonical bytes.
std::string with_kept(std::string_view reduced, const KeptRoutes& kept, const TableBase& base);

}  // namespace outrigger::config
