// explain: why a request takes the route that it takes: the domains that its host matches, best first, and what each
// route before the chosen one asked for that the request does not have. The answer itself is RouteTable::match's; the
// reasons come from a plain walk over the same compiled table, so they may cost as much as the table is long.
//
// Thread rule: pure functions; any thread but a worker (they allocate).
// Use:  Explanation e = explain(*table, request, {.random = 0}, 100);  e.match.route;  e.misses[0].reason;
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "route/route_table.h"

namespace outrigger::route {

// A domain that the request's host matches.
struct DomainMatch {
  std::string domain;     // as the config has it, in lower case: "*.example.com"
  std::string_view rule;  // "exact", "suffix", "prefix", "default"
  const VirtualHost* virtual_host = nullptr;
};

struct Miss {
  enum class Why : uint8_t { kPath, kFraction, kHeader, kQuery };
  const Route* route = nullptr;
  Why why = Why::kPath;
  std::string reason;  // "wants header x-env to be \"prod\"; it is absent"
};

struct Explanation {
  Match match;
  std::vector<DomainMatch> domains;  // best first: the first one's virtual host was taken
  std::string no_virtual_host;       // why there is none; empty if there is one
  // Routes before the chosen one (all of the virtual host's, if none is) in their order. Those whose path matched are
  // kept first when there are more than was asked for.
  std::vector<Miss> misses;
  size_t misses_total = 0;
};

Explanation explain(const RouteTable& table, const HeaderMap& request, const MatchContext& context, size_t max_misses);

// What the route asks for: "prefix \"/api\", header x-env to be \"prod\"".
std::string describe(const Route& route);

// The friend of the compiled table that explain() and describe() are made of.
class RouteExplainer {
 public:
  static std::vector<DomainMatch> domains(const RouteTable& table, const HeaderMap& request, std::string& why_none);
  // nullopt: the route takes the request.
  static std::optional<Miss> miss(const Route& route, const HeaderMap& request, const Header* path, uint64_t random);
  static std::string describe(const Route& route);
};

}  // namespace outrigger::route
