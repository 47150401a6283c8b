// RouteTable: one compiled RouteConfiguration: which virtual host and route a request belongs to. Exactly Envoy's first
// match, found in time that does not grow with the number of routes (README.md says how).
//
// Thread rule: compile on the builder thread; the table is immutable, match() from any number of workers. match() never
// allocates (beyond buffers that each thread makes once) and never locks (RE2's own reader lock aside).
// Use:  auto table = RouteTable::compile(spec);
//       Match m = table->match(request_headers, {.random = stream.random(), .tls = true});
//       if (m.route == nullptr) reply_404();
//       else if (auto* f = m.route->forward()) forward(m.cluster(request_headers), *f);
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "outrigger/filter.h"
#include "outrigger/header_map.h"
#include "route/route.h"

namespace outrigger::route {

struct MatchContext {
  uint64_t random = 0;  // StreamHandle::random(): one value per stream, for fractions and weights
  bool tls = false;     // the request came over TLS, as far as x-forwarded-proto is trusted (for require_tls)
};

// The answer of match(). Copy it freely; it lives as long as the table.
struct Match {
  const VirtualHost* virtual_host = nullptr;  // nullptr: no domain matches
  const Route* route = nullptr;               // nullptr: nothing matches (404, response flag NR)
  const WeightedEntry* weighted = nullptr;    // the chosen one, if the route is weighted

  explicit operator bool() const { return route != nullptr; }

  // The cluster to forward to: configured, weighted, or named by a request header. Empty: no forwarding route, or the
  // header is absent (answer cluster_not_found_status).
  ClusterName cluster(const HeaderMap& request) const;

  // What hosts are asked for: the weighted cluster's over the route's; nullptr: nothing.
  const config::MetadataMatch* metadata_match() const {
    if (weighted != nullptr) return weighted->metadata_match;
    return route == nullptr || route->forward() == nullptr ? nullptr : route->forward()->metadata_match;
  }

  // Per-filter config, all levels: the most specific one, or nullptr.
  const FilterPart* filter_config(uint16_t filter_id) const {
    return route == nullptr ? nullptr : filters().find(filter_id);
  }
  // Calls f(const FilterPart&) per level, least specific first.
  template <class F>
  void for_each_filter_config(uint16_t filter_id, F&& f) const {
    if (route != nullptr) filters().for_each(filter_id, f);
  }
  // nullopt: the route says nothing; HttpFilterSpec::disabled holds.
  std::optional<bool> filter_disabled(uint16_t filter_id) const {
    return route == nullptr ? std::nullopt : filters().disabled(filter_id);
  }
  const FilterConfigs& filters() const {
    return weighted != nullptr && weighted->filters != nullptr ? *weighted->filters : route->filters();
  }

  // All levels' header mutations in Envoy's order: weighted cluster, route, virtual host, route table; the reverse with
  // most_specific_header_mutations_wins. Nothing if there is no route.
  void mutate_request(HeaderMap& request, const FormatContext& context) const;
  void mutate_response(HeaderMap& response, const FormatContext& context) const;
};

class RouteTable {
 public:
  // `spec` has been translated without a fault: a mistake that is left in it (a regex that does not compile, two equal
  // domains) is a failed CHECK. Keeps nothing of `spec`. What spec.kept names is shared with the table that it is of.
  static std::shared_ptr<const RouteTable> compile(const config::RouteTableSpec& spec);
  ~RouteTable();
  RouteTable(const RouteTable&) = delete;
  RouteTable& operator=(const RouteTable&) = delete;

  Match match(const HeaderMap& request, const MatchContext& context) const;

  const std::string& name() const;
  std::span<const VirtualHost> virtual_hosts() const;
  std::span<const std::string> internal_only_headers() const;  // lower-case names to strip from external requests
  std::optional<bool> validate_clusters() const;
  const FilterConfigs& filters() const;              // the table's own level only
  const HeaderMutations* request_mutations() const;  // nullptr: none
  const HeaderMutations* response_mutations() const;
  bool most_specific_header_mutations_wins() const;

  // Every cluster that a route names, each once, and whatever the per-filter configs refer to.
  void references(References& to) const;
  // Whether per-filter configs may be among what it refers to.
  bool has_filter_parts() const;
  // Calls added(name) and gone(name) for each cluster that only this table names, or only `before`.
  template <class Added, class Gone>
  void compare_clusters(const RouteTable& before, Added&& added, Gone&& gone) const;
  std::span<const ClusterName> clusters() const;  // that a route names, each once, sorted by (hash, text)

  size_t route_count() const;
  // Routes whose regex offers no literal to file it under: each costs a regex match per request (when no better route
  // is found before them).
  size_t linear_routes() const;

 private:
  friend class RouteExplainer;
  friend class TableBuilder;
  struct Impl;
  explicit RouteTable(std::unique_ptr<Impl> impl);

  const VirtualHost* find_virtual_host(const HeaderMap& request) const;

  std::unique_ptr<Impl> impl_;
};

template <class Added, class Gone>
void RouteTable::compare_clusters(const RouteTable& before, Added&& added, Gone&& gone) const {
  const std::span<const ClusterName> now = clusters(), then = before.clusters();
  auto a = now.begin();
  auto b = then.begin();
  while (a != now.end() || b != then.end()) {
    if (b == then.end() || (a != now.end() && *a < *b)) {
      added((a++)->text);
    } else if (a == now.end() || *b < *a) {
      gone((b++)->text);
    } else {
      ++a, ++b;
    }
  }
}

}  // namespace outrigger::route
