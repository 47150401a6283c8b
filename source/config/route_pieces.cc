#include "config/route_pieces.h"

#include <xxhash.h>

#include <algorithm>

#include "base/check.h"
#include "base/proto_wire.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"

namespace outrigger::config {
namespace {

using envoy::config::route::v3::RouteConfiguration;
using envoy::config::route::v3::VirtualHost;

constexpr uint32_t kPieceRoutes = 64;
constexpr uint32_t kSmallPiece = kPieceRoutes / 2;  // a smaller one takes a neighbour along

bool is_host(const ProtoField& field) {
  return field.number == RouteConfiguration::kVirtualHostsFieldNumber && field.type == ProtoField::kBytes;
}
bool is_route(const ProtoField& field) {
  return field.number == VirtualHost::kRoutesFieldNumber && field.type == ProtoField::kBytes;
}

Hash128 hash_of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

// Of everything in the table but its virtual hosts and its name, then of the host but for its routes, name and
// domains: what a route may inherit.
class Around {
 public:
  void table(const ProtoField& field) {
    if (field.number != RouteConfiguration::kNameFieldNumber) table_ += field.whole;
  }
  void begin_host() { host_.clear(); }
  void host(const ProtoField& field) {
    if (field.number != VirtualHost::kNameFieldNumber && field.number != VirtualHost::kDomainsFieldNumber)
      host_ += field.whole;
  }
  Hash128 hash() const {
    std::string both;
    append_field(both, 1, table_);
    append_field(both, 2, host_);
    return hash_of(both);
  }

 private:
  std::string table_, host_;
};

void append_piece_sizes(size_t routes, std::vector<KeptRoutes::Piece>& pieces) {
  const size_t count = std::max<size_t>(routes == 0 ? 0 : 1, (routes + kSmallPiece) / kPieceRoutes);
  for (size_t i = 0; i < count; ++i)
    pieces.push_back({.routes = static_cast<uint32_t>(routes * (i + 1) / count - routes * i / count)});
}

// Finds the piece of the base that begins at a route.
class PieceFinder {
 public:
  explicit PieceFinder(const RouteKeys& base) : base_(base) {
    uint32_t at = 0;
    for (const uint32_t size : base.pieces) {
      begins_.push_back(at);
      at += size;
    }
    for (uint32_t piece = 0; piece < base.pieces.size(); ++piece)
      by_key_.emplace_back(base.routes[begins_[piece]].low, piece);
    std::sort(by_key_.begin(), by_key_.end());
  }

  uint32_t find(const std::vector<RouteKey>& keys, size_t at) {
    if (next_ < base_.pieces.size() && comes_again(next_, keys, at)) return next_++;
    for (auto it = std::lower_bound(by_key_.begin(), by_key_.end(), std::pair(keys[at].low, uint32_t{0}));
         it != by_key_.end() && it->first == keys[at].low; ++it) {
      if (!comes_again(it->second, keys, at)) continue;
      next_ = it->second + 1;
      return it->second;
    }
    return KeptRoutes::kNew;
  }

 private:
  bool comes_again(uint32_t piece, const std::vector<RouteKey>& keys, size_t at) const {
    const size_t size = base_.pieces[piece];
    if (size > keys.size() - at) return false;
    return std::equal(keys.begin() + static_cast<ptrdiff_t>(at), keys.begin() + static_cast<ptrdiff_t>(at + size),
                      base_.routes.begin() + begins_[piece]);
  }

  const RouteKeys& base_;
  std::vector<uint32_t> begins_;
  std::vector<std::pair<uint64_t, uint32_t>> by_key_;  // first route's key, piece
  uint32_t next_ = 0;                                  // pieces mostly come in their order
};

// New runs that are too short to be pieces take kept neighbours along, so that many changes leave no crumbs.
std::vector<KeptRoutes::Piece> without_crumbs(const std::vector<KeptRoutes::Piece>& runs) {
  std::vector<KeptRoutes::Piece> out;
  const auto is_short = [](const KeptRoutes::Piece& piece) {
    return piece.from == KeptRoutes::kNew && piece.routes < kSmallPiece;
  };
  for (const KeptRoutes::Piece& run : runs) {
    const bool joins =
        !out.empty() && out.back().from == KeptRoutes::kNew && (run.from == KeptRoutes::kNew || is_short(out.back()));
    if (joins) {
      out.back().routes += run.routes;
    } else {
      out.push_back(run);
    }
  }
  while (out.size() > 1 && is_short(out.back())) {
    const uint32_t routes = out.back().routes;
    out.pop_back();
    out.back() = {.routes = out.back().routes + routes};
  }
  return out;
}

}  // namespace

std::optional<RouteWalk> walk_routes(std::string_view table, bool with_keys) {
  RouteWalk walk;
  Around around;
  ProtoWire fields(table);
  std::vector<std::string_view> hosts;
  for (ProtoField field; fields.next(field);) {
    if (is_host(field)) {
      hosts.push_back(field.payload);
    } else {
      if (field.number == RouteConfiguration::kNameFieldNumber) walk.name = field.payload;
      around.table(field);
    }
  }
  if (fields.broken()) return std::nullopt;
  for (const std::string_view host : hosts) {
    ProtoWire of_host(host);
    around.begin_host();
    const size_t first = walk.routes.size();
    for (ProtoField field; of_host.next(field);) {
      if (is_route(field)) {
        walk.routes.push_back(field.payload);
      } else if (with_keys) {
        around.host(field);
      }
    }
    if (of_host.broken()) return std::nullopt;
    walk.host_routes.push_back(static_cast<uint32_t>(walk.routes.size() - first));
    if (!with_keys) continue;
    const Hash128 inherited = around.hash();
    for (size_t i = first; i < walk.routes.size(); ++i) {
      const Hash128 own = hash_of(walk.routes[i]);
      walk.keys.push_back({own.low ^ inherited.low, own.high ^ inherited.high});
    }
  }
  return walk;
}

std::vector<uint32_t> even_pieces(size_t routes) {
  std::vector<KeptRoutes::Piece> pieces;
  append_piece_sizes(routes, pieces);
  std::vector<uint32_t> sizes;
  for (const KeptRoutes::Piece& piece : pieces) sizes.push_back(piece.routes);
  return sizes;
}

std::shared_ptr<KeptRoutes> keep_pieces(const std::vector<RouteKey>& keys, const RouteKeys& base) {
  std::vector<KeptRoutes::Piece> runs;
  PieceFinder finder(base);
  for (size_t at = 0; at < keys.size();) {
    const uint32_t piece = finder.find(keys, at);
    if (piece != KeptRoutes::kNew) {
      runs.push_back({.routes = base.pieces[piece], .from = piece});
    } else if (runs.empty() || runs.back().from != KeptRoutes::kNew) {
      runs.push_back({.routes = 1});
    } else {
      ++runs.back().routes;
    }
    at += piece == KeptRoutes::kNew ? 1 : base.pieces[piece];
  }
  auto kept = std::make_shared<KeptRoutes>();
  bool any = false;
  for (const KeptRoutes::Piece& run : without_crumbs(runs)) {
    if (run.from == KeptRoutes::kNew) {
      append_piece_sizes(run.routes, kept->pieces);
    } else {
      kept->pieces.push_back(run);
      any = true;
    }
  }
  return any ? kept : nullptr;
}

namespace {

// Calls f(kept, index of the route in its table) for the routes of a layout in turn: the base's index for kept ones.
class LayoutCursor {
 public:
  LayoutCursor(const KeptRoutes& kept, const std::vector<uint32_t>& base_pieces) : kept_(kept) {
    uint32_t at = 0;
    for (const uint32_t size : base_pieces) {
      base_begins_.push_back(at);
      at += size;
    }
  }
  // The next route's index in the base; kNew: it is new.
  uint32_t next() {
    while (in_piece_ == kept_.pieces[piece_].routes) {
      ++piece_;
      in_piece_ = 0;
    }
    const KeptRoutes::Piece& piece = kept_.pieces[piece_];
    const uint32_t i = in_piece_++;
    if (piece.from == KeptRoutes::kNew) return KeptRoutes::kNew;
    return base_begins_.empty() ? 0 : base_begins_[piece.from] + i;
  }

 private:
  const KeptRoutes& kept_;
  std::vector<uint32_t> base_begins_;
  size_t piece_ = 0;
  uint32_t in_piece_ = 0;
};

}  // namespace

std::string without_kept(std::string_view table, const KeptRoutes& kept) {
  std::string out;
  LayoutCursor cursor(kept, {});
  ProtoWire fields(table);
  for (ProtoField field; fields.next(field);) {
    if (!is_host(field)) {
      out += field.whole;
      continue;
    }
    std::string host;
    ProtoWire of_host(field.payload);
    for (ProtoField inner; of_host.next(inner);)
      if (!is_route(inner) || cursor.next() == KeptRoutes::kNew) host += inner.whole;
    append_field(out, field.number, host);
  }
  return out;
}

std::string with_kept(std::string_view reduced, const KeptRoutes& kept, const TableBase& base) {
  const std::optional<RouteWalk> old = walk_routes(base.bytes.text(), false);
  CHECK(old && old->routes.size() == base.keys->routes.size());
  std::string out;
  out.reserve(base.bytes.text().size() + reduced.size());
  LayoutCursor cursor(kept, base.keys->pieces);
  ProtoWire fields(reduced);
  size_t host_number = 0;
  for (ProtoField field; fields.next(field);) {
    if (!is_host(field)) {
      out += field.whole;
      continue;
    }
    std::string before, routes, behind;
    std::vector<std::string_view> fresh;
    ProtoWire of_host(field.payload);
    for (ProtoField inner; of_host.next(inner);) {
      if (is_route(inner))
        fresh.push_back(inner.payload);
      else
        (inner.number < VirtualHost::kRoutesFieldNumber ? before : behind) += inner.whole;
    }
    size_t next_fresh = 0;
    for (uint32_t i = 0; i < kept.host_routes[host_number]; ++i) {
      const uint32_t from = cursor.next();
      append_field(routes, VirtualHost::kRoutesFieldNumber,
                   from == KeptRoutes::kNew ? fresh[next_fresh++] : old->routes[from]);
    }
    ++host_number;
    append_varint(out, field.number << 3 | ProtoField::kBytes);
    append_varint(out, before.size() + routes.size() + behind.size());
    out.append(before).append(routes).append(behind);
  }
  return out;
}

}  // namespace outrigger::config
