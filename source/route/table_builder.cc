// A RouteTableSpec into a RouteTable, with whatever it keeps of the table before it.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <unordered_set>

#include "base/check.h"
#include "base/hash.h"
#include "config/route_pieces.h"
#include "route/folded_text.h"
#include "route/route_table_impl.h"

namespace outrigger::route {

using config::ForwardSpec;
using config::RouteSpec;
using config::RouteTableSpec;
using config::VirtualHostSpec;

class TableBuilder {
 public:
  explicit TableBuilder(const RouteTableSpec& spec)
      : spec_(spec), impl_(std::make_unique<RouteTable::Impl>()), t_(*impl_), p_(&t_.own) {}

  std::shared_ptr<const RouteTable> build() {
    reserve_own();
    t_.name = spec_.name;
    t_.ignore_port = spec_.ignore_port_in_host_matching;
    t_.most_specific_wins = spec_.most_specific_header_mutations_wins;
    t_.validate_clusters = spec_.validate_clusters;
    t_.internal_only_headers = spec_.internal_only_headers;
    t_.request_mutations = mutations(spec_.request_headers);
    t_.response_mutations = mutations(spec_.response_headers);
    t_.filters = *filters(FilterConfigs{}, spec_.per_filter, nullptr);

    std::shared_ptr<RouteTable> table(new RouteTable(std::move(impl_)));
    size_t routes = 0;
    for (size_t i = 0; i < spec_.virtual_hosts.size(); ++i) routes += route_count(i);
    t_.routes = t_.own.pool.array<Route>(routes);
    for (const VirtualHostSpec& host : spec_.virtual_hosts) add_virtual_host(*table, host);
    add_pieces();
    for (VirtualHost& host : t_.virtual_hosts) index(host);
    list_clusters();
    t_.exact_domains.shrink();
    t_.suffix_domains.finish();
    t_.prefix_domains.finish();
    return table;
  }

 private:
  // Where in the table a route is made, and which of its host's specs is the next.
  struct Place {
    size_t host = 0;
    uint32_t index = 0;  // in the host
    size_t spec = 0;
  };
  // What the routes of one piece share.
  struct Draft {
    PrefixMap<uint32_t> regexes;   // to the index in the piece's regexes
    PrefixMap<uint64_t> clusters;  // to the hash
    const ForwardAction* last_forward = nullptr;
  };

  size_t route_count(size_t host) const {
    return spec_.kept != nullptr ? spec_.kept->host_routes[host] : spec_.virtual_hosts[host].routes.size();
  }

  // Pointers into a piece's vectors are taken while they fill, so their final sizes are counted first.
  void reserve_own() {
    size_t rate_limits = 0;
    size_t mutation_sets = count(spec_.request_headers) + count(spec_.response_headers);
    for (const VirtualHostSpec& host : spec_.virtual_hosts) {
      mutation_sets += count(host.request_headers) + count(host.response_headers);
      rate_limits += host.rate_limits.size();
    }
    t_.own.rate_limits.reserve(rate_limits);
    t_.own.mutations.reserve(mutation_sets);
    t_.virtual_hosts.reserve(spec_.virtual_hosts.size());
  }
  static size_t count(const config::HeaderMutationSpec& spec) { return spec.empty() ? 0 : 1; }

  std::shared_ptr<RoutePiece> make_piece(const std::vector<const RouteSpec*>& routes) {
    size_t header_matchers = 0, query_matchers = 0, rate_limits = 0, retries = 0, mutation_sets = 0, regexes = 0;
    size_t pool = sizeof(ForwardAction);
    for (const RouteSpec* route : routes) {
      header_matchers += route->match.headers.size();
      query_matchers += route->match.query_parameters.size();
      mutation_sets += count(route->request_headers) + count(route->response_headers);
      regexes += is_regex(*route) ? 1 : 0;
      pool += route->name.size() + route->match.path.value.size();
      const auto* forward = std::get_if<ForwardSpec>(&route->action);
      if (forward == nullptr) continue;
      pool += forward->cluster.size();
      rate_limits += forward->rate_limits.size();
      retries += forward->retry.has_value() ? 1 : 0;
      for (const config::ClusterWeightSpec& entry : forward->weighted)
        mutation_sets += count(entry.request_headers) + count(entry.response_headers);
    }
    auto piece = std::make_shared<RoutePiece>(pool + alignof(ForwardAction));
    piece->header_matchers.reserve(header_matchers);
    piece->query_matchers.reserve(query_matchers);
    piece->rate_limits.reserve(rate_limits);
    piece->retries.reserve(retries);
    piece->mutations.reserve(mutation_sets);
    if (regexes > 0) piece->path_regexes.reserve(routes.size());
    return piece;
  }
  static bool is_regex(const RouteSpec& route) { return route.match.path.kind == config::PathMatchSpec::Kind::kRegex; }

  void add_virtual_host(const RouteTable& table, const VirtualHostSpec& spec) {
    const size_t number = t_.virtual_hosts.size();
    for (const std::string& domain : spec.domains) add_domain(domain, static_cast<uint32_t>(number));

    VirtualHost& host = t_.virtual_hosts.emplace_back(VirtualHost());
    host.name = p_->pool.copy(spec.name);
    host.table_ = &table;
    host.require_tls_ = spec.require_tls;
    host.rate_limits = rate_limits(spec.rate_limits);
    host.request_mutations_ = mutations(spec.request_headers);
    host.response_mutations_ = mutations(spec.response_headers);
    host.filters_ = filters(t_.filters, spec.per_filter, &t_.filters);
    host.metadata_ = spec.metadata;
    host.routes_ = t_.routes.subspan(next_route_, route_count(number));
    next_route_ += host.routes_.size();
    if (spec.require_tls != VirtualHostSpec::Tls::kNone) host.tls_redirect_ = tls_redirect(host);
  }

  void add_pieces() {
    std::vector<config::KeptRoutes::Piece> layout;
    if (spec_.kept != nullptr) {
      layout = spec_.kept->pieces;
      base_ = static_cast<const RouteTable*>(spec_.kept->compiled.get());
    } else {
      for (const uint32_t size : config::even_pieces(t_.routes.size())) layout.push_back({.routes = size});
    }
    t_.pieces.reserve(layout.size());
    uint32_t begin = 0;
    Place place;
    for (const config::KeptRoutes::Piece& piece : layout) {
      t_.pieces.push_back({.shared = nullptr, .begin = begin, .size = piece.routes});
      if (piece.from == config::KeptRoutes::kNew)
        compile_piece(t_.pieces.back(), place);
      else
        keep_piece(base_->impl_->pieces[piece.from], t_.pieces.back(), place);
      begin += piece.routes;
    }
    CHECK(begin == t_.routes.size());
    p_ = &t_.own;
  }

  // The host of the next route.
  VirtualHost& host_at(Place& place) {
    while (place.index == t_.virtual_hosts[place.host].routes_.size()) place = {.host = place.host + 1};
    return t_.virtual_hosts[place.host];
  }

  void compile_piece(RouteTable::Impl::Piece& piece, Place& place) {
    std::vector<const RouteSpec*> specs;
    std::vector<VirtualHost*> hosts;
    const Place begin = place;
    for (uint32_t i = 0; i < piece.size; ++i) {
      hosts.push_back(&host_at(place));
      specs.push_back(&spec_.virtual_hosts[place.host].routes[place.spec++]);
      ++place.index;
    }
    const std::shared_ptr<RoutePiece> made = make_piece(specs);
    p_ = made.get();
    draft_ = {};
    place = begin;
    for (uint32_t i = 0; i < piece.size; ++i) {
      host_at(place);
      compile_route(*specs[i], *hosts[i], place.index, t_.routes[piece.begin + i]);
      if (made->path_regexes.capacity() > 0)
        made->path_regexes.push_back(is_regex(*specs[i]) ? regex(specs[i]->match.path.value) : nullptr);
      ++place.index;
      ++place.spec;
    }
    made->regexes.shrink_to_fit();
    made->parts.shrink_to_fit();
    made->metadata.shrink_to_fit();
    made->matches.shrink_to_fit();
    piece.shared = made;
  }

  // The routes as they were, but for where they are now.
  void keep_piece(const RouteTable::Impl::Piece& from, RouteTable::Impl::Piece& piece, Place& place) {
    CHECK(from.size == piece.size && from.shared->parts.empty());
    piece.shared = from.shared;
    for (uint32_t i = 0; i < piece.size; ++i) {
      VirtualHost& host = host_at(place);
      Route& route = t_.routes[piece.begin + i];
      route = base_->impl_->routes[from.begin + i];
      route.virtual_host_view = &host;
      route.virtual_host_ = &host;
      route.index_ = place.index++;
      route.filters_ = host.filters_;
    }
  }

  void index(VirtualHost& host) {
    host.connects_ = connects(host.routes_);
    host.catch_all_ = !host.routes_.empty() && is_catch_all(host.routes_.front());
    if (host.routes_.size() <= (host.catch_all_ ? 1 : 0)) return;
    host.index_ = std::make_unique<PathIndex>(host.routes_, regexes_of(host), t_.own.pool);
    t_.linear_routes += host.index_->linear_routes();
  }

  // By route of the host: nullptr where the pattern is no regex.
  std::vector<const config::Regex*> regexes_of(const VirtualHost& host) const {
    std::vector<const config::Regex*> regexes(host.routes_.size(), nullptr);
    const auto first = static_cast<uint32_t>(host.routes_.data() - t_.routes.data());
    const auto end = static_cast<uint32_t>(first + host.routes_.size());
    auto piece = std::upper_bound(t_.pieces.begin(), t_.pieces.end(), first,
                                  [](uint32_t at, const auto& p) { return at < p.begin + p.size; });
    for (; piece != t_.pieces.end() && piece->begin < end; ++piece) {
      if (piece->shared->path_regexes.empty()) continue;
      for (uint32_t at = std::max(first, piece->begin); at < std::min(end, piece->begin + piece->size); ++at)
        regexes[at - first] = piece->shared->path_regexes[at - piece->begin];
    }
    return regexes;
  }

  void list_clusters() {
    std::vector<ClusterName>& clusters = t_.clusters;
    const auto add = [&](const ClusterName& name) {
      if (!name.empty()) clusters.push_back(name);
    };
    for (const Route& route : t_.routes) {
      const ForwardAction* forward = route.forward();
      if (forward == nullptr) continue;
      add(route.cluster_name());
      for (const WeightedEntry& entry : forward->weighted) add(entry.cluster);
      for (const Mirror& mirror : forward->mirrors) add(mirror.cluster);
    }
    std::sort(clusters.begin(), clusters.end());
    clusters.erase(std::unique(clusters.begin(), clusters.end()), clusters.end());
    clusters.shrink_to_fit();
  }

  std::span<const uint32_t> connects(std::span<const Route> routes) {
    const auto is_one = [](const Route& r) { return r.path_kind() == config::PathMatchSpec::Kind::kConnect; };
    const std::span<uint32_t> out =
        t_.own.pool.array<uint32_t>(static_cast<size_t>(std::count_if(routes.begin(), routes.end(), is_one)));
    size_t at = 0;
    for (const Route& route : routes)
      if (is_one(route)) out[at++] = route.index();
    return out;
  }

  static bool is_catch_all(const Route& route) {
    return route.path_kind() == config::PathMatchSpec::Kind::kPrefix && route.path_pattern() == "/" &&
           route.unconditional();
  }

  void add_domain(const std::string& domain, uint32_t number) {
    CHECK(!domain.empty());
    const std::string lower = folded(domain);
    if (lower == "*") {
      CHECK(t_.default_virtual_host == RouteTable::Impl::kNone);
      t_.default_virtual_host = number;
    } else if (lower.front() == '*') {
      add_to(t_.suffix_domains, std::string(lower.rbegin(), lower.rend() - 1), number);
    } else if (lower.back() == '*') {
      add_to(t_.prefix_domains, lower.substr(0, lower.size() - 1), number);
    } else {
      add_to(t_.exact_domains, lower, number);
    }
  }
  void add_to(PrefixMap<uint32_t>& domains, std::string_view text, uint32_t number) {
    CHECK(domains.exact(text) == domains.kNone);  // translation refuses a domain that stands twice
    domains.payload(domains.add(p_->pool.copy(text))) = number;
  }

  const Route* tls_redirect(const VirtualHost& host) {
    Route* route = p_->pool.make<Route>();
    auto* action = p_->pool.make<RedirectAction>();
    action->scheme = "https";
    route->virtual_host_view = &host;
    route->virtual_host_ = &host;
    route->filters_ = p_->pool.make<FilterConfigs>();
    route->kind_ = Route::Kind::kRedirect;
    route->action_.redirect = action;
    route->tls_redirect_ = true;
    return route;
  }

  void compile_route(const RouteSpec& spec, const VirtualHost& host, uint32_t index, Route& route) {
    route.name = p_->pool.copy(spec.name);
    route.virtual_host_view = &host;
    route.virtual_host_ = &host;
    route.index_ = index;
    route.path_kind_ = spec.match.path.kind;
    route.path_pattern_ = p_->pool.copy(spec.match.path.value);
    route.case_sensitive_ =
        spec.match.path.case_sensitive || spec.match.path.kind == config::PathMatchSpec::Kind::kRegex;
    route.conditions_ = conditions(spec.match);
    route.request_mutations_ = mutations(spec.request_headers);
    route.response_mutations_ = mutations(spec.response_headers);
    route.filters_ = filters(*host.filters_, spec.per_filter, host.filters_);
    route.metadata_ = held(p_->metadata, spec.metadata);
    if (const auto* forward = std::get_if<ForwardSpec>(&spec.action)) {
      compile_forward(*forward, route);
    } else if (const auto* redirect = std::get_if<config::RedirectSpec>(&spec.action)) {
      compile_redirect(*redirect, route);
    } else {
      const auto& direct = std::get<config::DirectResponseSpec>(spec.action);
      route.kind_ = Route::Kind::kDirectResponse;
      route.action_.direct = p_->pool.make<DirectResponseAction>(direct.status, p_->pool.copy(direct.body));
    }
  }

  const Route::Conditions* conditions(const config::RouteMatchSpec& match) {
    const bool always =
        !match.runtime_fraction || match.runtime_fraction->numerator >= match.runtime_fraction->denominator;
    if (match.headers.empty() && match.query_parameters.empty() && always && !match.grpc) return nullptr;
    auto* out = p_->pool.make<Route::Conditions>();
    out->headers = append(p_->header_matchers, match.headers);
    out->query_parameters = append(p_->query_matchers, match.query_parameters);
    if (!always) out->fraction = match.runtime_fraction;
    out->grpc = match.grpc;
    return out;
  }

  void compile_forward(const ForwardSpec& spec, Route& route) {
    // Most routes differ in their cluster only. What begins as the same bytes and ends as the same bytes is equal.
    static_assert(std::is_trivially_copyable_v<ForwardAction>);
    static constexpr ForwardAction kEmpty{};
    alignas(ForwardAction) std::byte bytes[sizeof(ForwardAction)];
    auto* action = static_cast<ForwardAction*>(std::memcpy(bytes, &kEmpty, sizeof(bytes)));
    const ClusterName to = cluster(spec.cluster);
    route.cluster = to.text;
    route.cluster_hash_ = to.hash;
    action->cluster_header = p_->pool.copy(spec.cluster_header);
    const std::span<WeightedEntry> weighted = p_->pool.array<WeightedEntry>(spec.weighted.size());
    for (size_t i = 0; i < weighted.size(); ++i) {
      const config::ClusterWeightSpec& from = spec.weighted[i];
      weighted[i].cluster = cluster(from.name);
      weighted[i].cluster_header = p_->pool.copy(from.cluster_header);
      weighted[i].weight = from.weight;
      weighted[i].request_mutations = mutations(from.request_headers);
      weighted[i].response_mutations = mutations(from.response_headers);
      weighted[i].metadata_match = held(p_->matches, from.metadata_match);
      weighted[i].filters =
          from.per_filter.empty() ? nullptr : filters(*route.filters_, from.per_filter, route.filters_);
      action->total_weight += from.weight;
    }
    action->weighted = weighted;
    CHECK(weighted.empty() || action->total_weight > 0);
    action->prefix_rewrite = p_->pool.copy(spec.prefix_rewrite);
    action->regex_rewrite = regex_rewrite(spec.regex_rewrite);
    action->host_rewrite_literal = p_->pool.copy(spec.host_rewrite_literal);
    action->host_rewrite_header = p_->pool.copy(spec.host_rewrite_header);
    action->timeout_ms = spec.timeout_ms;
    action->idle_timeout_ms = spec.idle_timeout_ms;
    action->max_stream_duration_ms = spec.max_stream_duration_ms;
    action->grpc_timeout_header_max_ms = spec.grpc_timeout_header_max_ms;
    action->grpc_timeout_header_offset_ms = spec.grpc_timeout_header_offset_ms;
    action->max_grpc_timeout_ms = spec.max_grpc_timeout_ms;
    action->grpc_timeout_offset_ms = spec.grpc_timeout_offset_ms;
    if (spec.retry) action->retry = &p_->retries.emplace_back(*spec.retry);
    action->mirrors = mirrors(spec.mirrors);
    action->upgrades = upgrades(spec.upgrades);
    action->metadata_match = held(p_->matches, spec.metadata_match);
    action->cluster_not_found_status = spec.cluster_not_found_status;
    action->auto_host_rewrite = spec.auto_host_rewrite;
    action->append_x_forwarded_host = spec.append_x_forwarded_host;
    if (draft_.last_forward == nullptr || std::memcmp(draft_.last_forward, bytes, sizeof(bytes)) != 0) {
      void* at = p_->pool.allocate(sizeof(bytes), alignof(ForwardAction));
      draft_.last_forward = static_cast<const ForwardAction*>(std::memcpy(at, bytes, sizeof(bytes)));
    }
    route.kind_ = Route::Kind::kForward;
    route.action_.forward = draft_.last_forward;
    route.rate_limits = rate_limits(spec.rate_limits);
    route.include_virtual_host_rate_limits = spec.include_vh_rate_limits;
  }

  std::span<const Mirror> mirrors(const std::vector<config::MirrorSpec>& specs) {
    const std::span<Mirror> out = p_->pool.array<Mirror>(specs.size());
    for (size_t i = 0; i < specs.size(); ++i)
      out[i] = {.cluster = cluster(specs[i].cluster),
                .cluster_header = p_->pool.copy(specs[i].cluster_header),
                .fraction = specs[i].fraction,
                .append_shadow = specs[i].append_shadow};
    return out;
  }

  std::span<const Upgrade> upgrades(const std::vector<config::UpgradeSpec>& specs) {
    const std::span<Upgrade> out = p_->pool.array<Upgrade>(specs.size());
    for (size_t i = 0; i < specs.size(); ++i)
      out[i] = {p_->pool.copy(specs[i].type), specs[i].enabled, specs[i].terminate, specs[i].proxy_header};
    return out;
  }

  void compile_redirect(const config::RedirectSpec& spec, Route& route) {
    auto* action = p_->pool.make<RedirectAction>();
    route.kind_ = Route::Kind::kRedirect;
    route.action_.redirect = action;
    action->scheme = p_->pool.copy(spec.scheme_redirect);
    action->host = p_->pool.copy(spec.host_redirect);
    action->path = p_->pool.copy(spec.path_redirect);
    action->prefix_rewrite = p_->pool.copy(spec.prefix_rewrite);
    action->regex_rewrite = regex_rewrite(spec.regex_rewrite);
    action->port = static_cast<uint16_t>(spec.port_redirect);
    action->status = spec.status;
    action->strip_query = spec.strip_query;
  }

  const RegexRewrite* regex_rewrite(const std::optional<config::RegexRewriteSpec>& spec) {
    if (!spec) return nullptr;
    return p_->pool.make<RegexRewrite>(regex(spec->regex), p_->pool.copy(spec->substitution));
  }

  const config::Regex* regex(const std::string& pattern) {
    PrefixMap<uint32_t>& known = draft_.regexes;
    if (const uint32_t at = known.exact(pattern); at != known.kNone) return p_->regexes[known.payload(at)].get();
    p_->regexes.push_back(config::shared_regex(pattern));
    CHECK(p_->regexes.back() != nullptr);
    known.payload(known.add(p_->regexes.back()->pattern())) = static_cast<uint32_t>(p_->regexes.size() - 1);
    return p_->regexes.back().get();
  }

  ClusterName cluster(std::string_view name) {
    if (name.empty()) return {};
    PrefixMap<uint64_t>& known = draft_.clusters;
    uint32_t at = known.exact(name);
    if (at == known.kNone) {
      at = known.add(p_->pool.copy(name));
      known.payload(at) = content_hash(name);
    }
    return {known.text(at), known.payload(at)};
  }

  // Held by the piece; runs of equal ones once.
  template <class T>
  static const T* held(std::vector<ByValue<T>>& by, const ByValue<T>& value) {
    if (value && (by.empty() || by.back().get() != value.get())) by.push_back(value);
    return value.get();
  }

  const HeaderMutations* mutations(const config::HeaderMutationSpec& spec) {
    return spec.empty() ? nullptr : &p_->mutations.emplace_back(spec);
  }
  std::span<const config::RateLimitPolicy> rate_limits(const std::vector<config::RateLimitSpec>& specs) {
    return append(p_->rate_limits, specs);
  }
  template <class Compiled, class Specs>
  static std::span<const Compiled> append(std::vector<Compiled>& to, const Specs& specs) {
    const size_t first = to.size();
    for (const auto& spec : specs) to.emplace_back(spec);
    return std::span<const Compiled>(to).subspan(first);
  }

  // The configs of `below` with a level of its own on top; `same` if the level has none.
  const FilterConfigs* filters(const FilterConfigs& below, const config::PerFilterConfigs& own,
                               const FilterConfigs* same) {
    if (own.empty()) return same != nullptr ? same : p_->pool.make<FilterConfigs>();
    size_t first = below.empty() ? SIZE_MAX : below.first_id();
    size_t end = below.empty() ? 0 : below.first_id() + below.slots().size();
    for (const config::PerFilterConfig& config : own) {
      first = std::min<size_t>(first, config.filter_id);
      end = std::max<size_t>(end, config.filter_id + 1u);
    }
    const std::span<FilterConfigs::Slot> slots = p_->pool.array<FilterConfigs::Slot>(end - first);
    for (size_t i = 0; i < below.slots().size(); ++i) slots[below.first_id() + i - first] = below.slots()[i];
    for (const config::PerFilterConfig& config : own) add_filter(config, slots[config.filter_id - first]);
    return p_->pool.make<FilterConfigs>(static_cast<uint16_t>(first), slots);
  }

  void add_filter(const config::PerFilterConfig& config, FilterConfigs::Slot& slot) {
    slot.state = config.disabled ? FilterConfigs::Slot::State::kDisabled : FilterConfigs::Slot::State::kEnabled;
    if (config.disabled || config.config.part == nullptr) return;
    const FilterPart* part = config.config.part.get();
    if (parts_.insert(part).second) p_->parts.push_back(config.config.part);
    slot.most_specific = part;
    const auto free = std::find(std::begin(slot.levels), std::end(slot.levels), nullptr);
    CHECK(free != std::end(slot.levels));  // one config per level and filter
    *free = part;
  }

  const RouteTableSpec& spec_;
  std::unique_ptr<RouteTable::Impl> impl_;
  RouteTable::Impl& t_;
  RoutePiece* p_;  // what is compiled goes there
  Draft draft_;
  const RouteTable* base_ = nullptr;  // that spec_.kept is of
  size_t next_route_ = 0;
  std::unordered_set<const FilterPart*> parts_;
};

std::shared_ptr<const RouteTable> RouteTable::compile(const RouteTableSpec& spec) { return TableBuilder(spec).build(); }

}  // namespace outrigger::route
