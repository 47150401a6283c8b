// TableBuilder: a RouteTableSpec into a RouteTable.
#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "base/hash.h"
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
      : spec_(spec), impl_(std::make_unique<RouteTable::Impl>()), t_(*impl_) {}

  std::shared_ptr<const RouteTable> build() {
    reserve();
    t_.name = spec_.name;
    t_.ignore_port = spec_.ignore_port_in_host_matching;
    t_.most_specific_wins = spec_.most_specific_header_mutations_wins;
    t_.validate_clusters = spec_.validate_clusters;
    t_.internal_only_headers = spec_.internal_only_headers;
    t_.request_mutations = mutations(spec_.request_headers);
    t_.response_mutations = mutations(spec_.response_headers);
    t_.filters = *filters(FilterConfigs{}, spec_.per_filter, nullptr);

    std::shared_ptr<RouteTable> table(new RouteTable(std::move(impl_)));
    for (const VirtualHostSpec& host : spec_.virtual_hosts) add_virtual_host(*table, host);
    t_.regexes.shrink_to_fit();
    t_.clusters.shrink_to_fit();
    t_.exact_domains.shrink();
    t_.suffix_domains.finish();
    t_.prefix_domains.finish();
    return table;
  }

 private:
  // Pointers into these vectors are taken while they fill, so their final sizes are counted first.
  void reserve() {
    size_t header_matchers = 0, query_matchers = 0, rate_limits = 0, retries = 0;
    size_t mutation_sets = count(spec_.request_headers) + count(spec_.response_headers);
    for (const VirtualHostSpec& host : spec_.virtual_hosts) {
      mutation_sets += count(host.request_headers) + count(host.response_headers);
      rate_limits += host.rate_limits.size();
      for (const RouteSpec& route : host.routes) {
        header_matchers += route.match.headers.size();
        query_matchers += route.match.query_parameters.size();
        mutation_sets += count(route.request_headers) + count(route.response_headers);
        const auto* forward = std::get_if<ForwardSpec>(&route.action);
        if (forward == nullptr) continue;
        rate_limits += forward->rate_limits.size();
        retries += forward->retry.has_value() ? 1 : 0;
        for (const config::ClusterWeightSpec& entry : forward->weighted)
          mutation_sets += count(entry.request_headers) + count(entry.response_headers);
      }
    }
    t_.header_matchers.reserve(header_matchers);
    t_.query_matchers.reserve(query_matchers);
    t_.rate_limits.reserve(rate_limits);
    t_.retries.reserve(retries);
    t_.mutations.reserve(mutation_sets);
    t_.virtual_hosts.reserve(spec_.virtual_hosts.size());
  }
  static size_t count(const config::HeaderMutationSpec& spec) { return spec.empty() ? 0 : 1; }

  void add_virtual_host(const RouteTable& table, const VirtualHostSpec& spec) {
    const auto number = static_cast<uint32_t>(t_.virtual_hosts.size());
    for (const std::string& domain : spec.domains) add_domain(domain, number);

    VirtualHost& host = t_.virtual_hosts.emplace_back(VirtualHost());
    host.name = t_.pool.copy(spec.name);
    host.table_ = &table;
    host.require_tls_ = spec.require_tls;
    host.rate_limits = rate_limits(spec.rate_limits);
    host.request_mutations_ = mutations(spec.request_headers);
    host.response_mutations_ = mutations(spec.response_headers);
    host.filters_ = filters(t_.filters, spec.per_filter, &t_.filters);
    host.routes_ = t_.pool.array<Route>(spec.routes.size());
    if (spec.require_tls != VirtualHostSpec::Tls::kNone) host.tls_redirect_ = tls_redirect(host);

    std::vector<const config::Regex*> regexes(spec.routes.size(), nullptr);
    for (uint32_t i = 0; i < spec.routes.size(); ++i) {
      compile_route(spec.routes[i], host, i, host.routes_[i]);
      if (spec.routes[i].match.path.kind == config::PathMatchSpec::Kind::kRegex)
        regexes[i] = regex(spec.routes[i].match.path.value);
    }
    host.catch_all_ = !host.routes_.empty() && is_catch_all(host.routes_.front());
    t_.route_count += spec.routes.size();
    if (host.routes_.size() <= (host.catch_all_ ? 1 : 0)) return;
    host.index_ = std::make_unique<PathIndex>(host.routes_, regexes, t_.pool);
    t_.linear_routes += host.index_->linear_routes();
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
    domains.payload(domains.add(t_.pool.copy(text))) = number;
  }

  const Route* tls_redirect(const VirtualHost& host) {
    Route* route = t_.pool.make<Route>();
    auto* action = t_.pool.make<RedirectAction>();
    action->scheme = "https";
    route->virtual_host_view = &host;
    route->virtual_host_ = &host;
    route->filters_ = t_.pool.make<FilterConfigs>();
    route->kind_ = Route::Kind::kRedirect;
    route->action_.redirect = action;
    route->tls_redirect_ = true;
    return route;
  }

  void compile_route(const RouteSpec& spec, const VirtualHost& host, uint32_t index, Route& route) {
    route.name = t_.pool.copy(spec.name);
    route.virtual_host_view = &host;
    route.virtual_host_ = &host;
    route.index_ = index;
    route.path_kind_ = spec.match.path.kind;
    route.path_pattern_ = t_.pool.copy(spec.match.path.value);
    route.case_sensitive_ =
        spec.match.path.case_sensitive || spec.match.path.kind == config::PathMatchSpec::Kind::kRegex;
    route.conditions_ = conditions(spec.match);
    route.request_mutations_ = mutations(spec.request_headers);
    route.response_mutations_ = mutations(spec.response_headers);
    route.filters_ = filters(*host.filters_, spec.per_filter, host.filters_);
    if (const auto* forward = std::get_if<ForwardSpec>(&spec.action)) {
      compile_forward(*forward, route);
    } else if (const auto* redirect = std::get_if<config::RedirectSpec>(&spec.action)) {
      compile_redirect(*redirect, route);
    } else {
      const auto& direct = std::get<config::DirectResponseSpec>(spec.action);
      route.kind_ = Route::Kind::kDirectResponse;
      route.action_.direct = t_.pool.make<DirectResponseAction>(direct.status, t_.pool.copy(direct.body));
    }
  }

  const Route::Conditions* conditions(const config::RouteMatchSpec& match) {
    const bool always =
        !match.runtime_fraction || match.runtime_fraction->numerator >= match.runtime_fraction->denominator;
    if (match.headers.empty() && match.query_parameters.empty() && always && !match.grpc) return nullptr;
    auto* out = t_.pool.make<Route::Conditions>();
    out->headers = append(t_.header_matchers, match.headers);
    out->query_parameters = append(t_.query_matchers, match.query_parameters);
    if (!always) out->fraction = match.runtime_fraction;
    out->grpc = match.grpc;
    return out;
  }

  void compile_forward(const ForwardSpec& spec, Route& route) {
    auto* action = t_.pool.make<ForwardAction>();
    route.kind_ = Route::Kind::kForward;
    route.action_.forward = action;
    action->cluster = cluster(spec.cluster);
    route.cluster = action->cluster.text;
    action->cluster_header = t_.pool.copy(spec.cluster_header);
    const std::span<WeightedEntry> weighted = t_.pool.array<WeightedEntry>(spec.weighted.size());
    for (size_t i = 0; i < weighted.size(); ++i) {
      const config::ClusterWeightSpec& from = spec.weighted[i];
      weighted[i].cluster = cluster(from.name);
      weighted[i].cluster_header = t_.pool.copy(from.cluster_header);
      weighted[i].weight = from.weight;
      weighted[i].request_mutations = mutations(from.request_headers);
      weighted[i].response_mutations = mutations(from.response_headers);
      weighted[i].filters = filters(*route.filters_, from.per_filter, route.filters_);
      action->total_weight += from.weight;
    }
    action->weighted = weighted;
    CHECK(weighted.empty() || action->total_weight > 0);
    action->prefix_rewrite = t_.pool.copy(spec.prefix_rewrite);
    action->regex_rewrite = regex_rewrite(spec.regex_rewrite);
    action->host_rewrite_literal = t_.pool.copy(spec.host_rewrite_literal);
    action->host_rewrite_header = t_.pool.copy(spec.host_rewrite_header);
    action->timeout_ms = spec.timeout_ms;
    action->idle_timeout_ms = spec.idle_timeout_ms;
    action->max_stream_duration_ms = spec.max_stream_duration_ms;
    action->grpc_timeout_header_max_ms = spec.grpc_timeout_header_max_ms;
    action->grpc_timeout_header_offset_ms = spec.grpc_timeout_header_offset_ms;
    action->max_grpc_timeout_ms = spec.max_grpc_timeout_ms;
    action->grpc_timeout_offset_ms = spec.grpc_timeout_offset_ms;
    if (spec.retry) action->retry = &t_.retries.emplace_back(*spec.retry);
    action->mirrors = mirrors(spec.mirrors);
    action->upgrades = upgrades(spec.upgrades);
    action->cluster_not_found_status = spec.cluster_not_found_status;
    action->auto_host_rewrite = spec.auto_host_rewrite;
    action->append_x_forwarded_host = spec.append_x_forwarded_host;
    route.rate_limits = rate_limits(spec.rate_limits);
    route.include_virtual_host_rate_limits = spec.include_vh_rate_limits;
  }

  std::span<const Mirror> mirrors(const std::vector<config::MirrorSpec>& specs) {
    const std::span<Mirror> out = t_.pool.array<Mirror>(specs.size());
    for (size_t i = 0; i < specs.size(); ++i)
      out[i] = {.cluster = cluster(specs[i].cluster),
                .cluster_header = t_.pool.copy(specs[i].cluster_header),
                .fraction = specs[i].fraction,
                .append_shadow = specs[i].append_shadow};
    return out;
  }

  std::span<const Upgrade> upgrades(const std::vector<config::UpgradeSpec>& specs) {
    const std::span<Upgrade> out = t_.pool.array<Upgrade>(specs.size());
    for (size_t i = 0; i < specs.size(); ++i) out[i] = {t_.pool.copy(specs[i].type), specs[i].enabled};
    return out;
  }

  void compile_redirect(const config::RedirectSpec& spec, Route& route) {
    auto* action = t_.pool.make<RedirectAction>();
    route.kind_ = Route::Kind::kRedirect;
    route.action_.redirect = action;
    action->scheme = t_.pool.copy(spec.scheme_redirect);
    action->host = t_.pool.copy(spec.host_redirect);
    action->path = t_.pool.copy(spec.path_redirect);
    action->prefix_rewrite = t_.pool.copy(spec.prefix_rewrite);
    action->regex_rewrite = regex_rewrite(spec.regex_rewrite);
    action->port = static_cast<uint16_t>(spec.port_redirect);
    action->status = spec.status;
    action->strip_query = spec.strip_query;
  }

  const RegexRewrite* regex_rewrite(const std::optional<config::RegexRewriteSpec>& spec) {
    if (!spec) return nullptr;
    return t_.pool.make<RegexRewrite>(regex(spec->regex), t_.pool.copy(spec->substitution));
  }

  const config::Regex* regex(const std::string& pattern) {
    if (const uint32_t at = regexes_.exact(pattern); at != regexes_.kNone)
      return t_.regexes[regexes_.payload(at)].get();
    t_.regexes.push_back(config::shared_regex(pattern));
    CHECK(t_.regexes.back() != nullptr);
    regexes_.payload(regexes_.add(t_.regexes.back()->pattern())) = static_cast<uint32_t>(t_.regexes.size() - 1);
    return t_.regexes.back().get();
  }

  ClusterName cluster(std::string_view name) {
    if (name.empty()) return {};
    uint32_t at = clusters_.exact(name);
    if (at == clusters_.kNone) {
      at = clusters_.add(t_.pool.copy(name));
      clusters_.payload(at) = content_hash(name);
      t_.clusters.push_back(clusters_.text(at));
    }
    return {clusters_.text(at), clusters_.payload(at)};
  }

  const HeaderMutations* mutations(const config::HeaderMutationSpec& spec) {
    return spec.empty() ? nullptr : &t_.mutations.emplace_back(spec);
  }
  std::span<const config::RateLimitPolicy> rate_limits(const std::vector<config::RateLimitSpec>& specs) {
    return append(t_.rate_limits, specs);
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
    if (own.empty()) return same != nullptr ? same : t_.pool.make<FilterConfigs>();
    size_t first = below.empty() ? SIZE_MAX : below.first_id();
    size_t end = below.empty() ? 0 : below.first_id() + below.slots().size();
    for (const config::PerFilterConfig& config : own) {
      first = std::min<size_t>(first, config.filter_id);
      end = std::max<size_t>(end, config.filter_id + 1u);
    }
    const std::span<FilterConfigs::Slot> slots = t_.pool.array<FilterConfigs::Slot>(end - first);
    for (size_t i = 0; i < below.slots().size(); ++i) slots[below.first_id() + i - first] = below.slots()[i];
    for (const config::PerFilterConfig& config : own) add_filter(config, slots[config.filter_id - first]);
    return t_.pool.make<FilterConfigs>(static_cast<uint16_t>(first), slots);
  }

  void add_filter(const config::PerFilterConfig& config, FilterConfigs::Slot& slot) {
    slot.state = config.disabled ? FilterConfigs::Slot::State::kDisabled : FilterConfigs::Slot::State::kEnabled;
    if (config.disabled || config.config.part == nullptr) return;
    const FilterPart* part = config.config.part.get();
    if (parts_.insert(part).second) t_.parts.push_back(config.config.part);
    slot.most_specific = part;
    const auto free = std::find(std::begin(slot.levels), std::end(slot.levels), nullptr);
    CHECK(free != std::end(slot.levels));  // one config per level and filter
    *free = part;
  }

  const RouteTableSpec& spec_;
  std::unique_ptr<RouteTable::Impl> impl_;
  RouteTable::Impl& t_;
  PrefixMap<uint32_t> regexes_;   // to the index in t_.regexes
  PrefixMap<uint64_t> clusters_;  // to the hash
  std::unordered_set<const FilterPart*> parts_;
};

std::shared_ptr<const RouteTable> RouteTable::compile(const RouteTableSpec& spec) { return TableBuilder(spec).build(); }

}  // namespace outrigger::route
