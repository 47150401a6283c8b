#include "route/route_table.h"

#include <algorithm>

#include "base/grpc.h"
#include "base/hash.h"
#include "route/folded_text.h"
#include "route/route_table_impl.h"

namespace outrigger::route {

std::string_view without_port(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const size_t bracket = authority.rfind(']');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) return authority;
  return authority.substr(0, colon);
}

std::string_view without_query_and_fragment(std::string_view path) {
  path = path.substr(0, path.find('?'));
  return path.substr(0, path.find('#'));
}

namespace {

// The virtual host of the longest domain that `host` properly starts with ("foo.*" does not match "foo.").
template <class Map>
uint32_t longest_proper(const Map& domains, std::string_view host) {
  uint32_t at = domains.longest(host);
  if (at != domains.kNone && domains.size(at) == host.size()) at = domains.parent(at);
  return at == domains.kNone ? domains.kNone : domains.payload(at);
}

const WeightedEntry* choose(const ForwardAction& action, uint64_t random) {
  uint64_t left = random % action.total_weight;
  for (const WeightedEntry& entry : action.weighted) {
    if (left < entry.weight) return &entry;
    left -= entry.weight;
  }
  return nullptr;
}

}  // namespace

bool Route::Conditions::hold(const HeaderMap& request, std::string_view path_with_query, uint64_t random) const {
  if (fraction && random % fraction->denominator >= fraction->numerator) return false;
  if (grpc && !is_grpc(request.get(HeaderId::kContentType))) return false;
  for (const config::HeaderMatcher& matcher : headers)
    if (!matcher.match(request)) return false;
  for (const config::QueryMatcher& matcher : query_parameters)
    if (!matcher.match(path_with_query)) return false;
  return true;
}

VirtualHost::VirtualHost() = default;
VirtualHost::~VirtualHost() = default;
VirtualHost::VirtualHost(VirtualHost&&) noexcept = default;

RouteTable::RouteTable(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RouteTable::~RouteTable() = default;

Match RouteTable::match(const HeaderMap& request, const MatchContext& context) const {
  Match match;
  match.virtual_host = find_virtual_host(request);
  if (match.virtual_host == nullptr) return match;
  const VirtualHost& host = *match.virtual_host;
  using Tls = config::VirtualHostSpec::Tls;
  if (host.require_tls_ != Tls::kNone && !context.tls &&
      (host.require_tls_ == Tls::kAll || request.get(HeaderId::kXEnvoyInternal) != "true")) {
    match.route = host.tls_redirect_;
    return match;
  }
  const Header* path = request.find(HeaderId::kPath);
  uint32_t at = PathIndex::kNone;
  if (path == nullptr) {
    at = host.find_connect(request, context.random);
  } else if (host.catch_all_ && path->value.starts_with('/')) {
    at = 0;
  } else if (host.index_ != nullptr) {
    at = host.index_->find({.path = without_query_and_fragment(path->value),
                            .path_with_query = path->value,
                            .headers = request,
                            .random = context.random});
  }
  if (at == PathIndex::kNone) return match;
  match.route = &host.routes_[at];
  if (const ForwardAction* action = match.route->forward(); action != nullptr && !action->weighted.empty())
    match.weighted = choose(*action, context.random);
  return match;
}

uint32_t VirtualHost::find_connect(const HeaderMap& request, uint64_t random) const {
  if (request.get(HeaderId::kMethod) != "CONNECT") return PathIndex::kNone;
  for (const uint32_t at : connects_) {
    const Route::Conditions* const conditions = routes_[at].conditions_;
    if (conditions == nullptr || conditions->hold(request, {}, random)) return at;
  }
  return PathIndex::kNone;
}

const VirtualHost* RouteTable::find_virtual_host(const HeaderMap& request) const {
  const Impl& t = *impl_;
  const auto host_at = [&](uint32_t at) { return at == Impl::kNone ? nullptr : &t.virtual_hosts[at]; };
  if (t.exact_domains.empty() && t.suffix_domains.empty() && t.prefix_domains.empty())
    return host_at(t.default_virtual_host);
  const Header* authority = request.find(HeaderId::kAuthority);
  if (authority == nullptr) return nullptr;
  std::string_view text = authority->value;
  if (t.ignore_port) text = without_port(text);
  {
    const FoldedText host(text);
    if (const uint32_t at = t.exact_domains.exact(host.view()); at != Impl::kNone)
      return host_at(t.exact_domains.payload(at));
  }
  if (!t.suffix_domains.empty()) {
    const FoldedText reversed(text, true);
    if (const uint32_t at = longest_proper(t.suffix_domains, reversed.view()); at != Impl::kNone) return host_at(at);
  }
  if (!t.prefix_domains.empty()) {
    const FoldedText host(text);
    if (const uint32_t at = longest_proper(t.prefix_domains, host.view()); at != Impl::kNone) return host_at(at);
  }
  return host_at(t.default_virtual_host);
}

const std::string& RouteTable::name() const { return impl_->name; }
std::span<const VirtualHost> RouteTable::virtual_hosts() const { return impl_->virtual_hosts; }
std::span<const std::string> RouteTable::internal_only_headers() const { return impl_->internal_only_headers; }
std::optional<bool> RouteTable::validate_clusters() const { return impl_->validate_clusters; }
const FilterConfigs& RouteTable::filters() const { return impl_->filters; }
const HeaderMutations* RouteTable::request_mutations() const { return impl_->request_mutations; }
const HeaderMutations* RouteTable::response_mutations() const { return impl_->response_mutations; }
bool RouteTable::most_specific_header_mutations_wins() const { return impl_->most_specific_wins; }
size_t RouteTable::route_count() const { return impl_->routes.size(); }
std::span<const ClusterName> RouteTable::clusters() const { return impl_->clusters; }
size_t RouteTable::linear_routes() const { return impl_->linear_routes; }

void RouteTable::references(References& to) const {
  for (const ClusterName& cluster : impl_->clusters) to.cluster(cluster.text);
  const auto refer = [&](const RoutePiece& piece) {
    for (const auto& part : piece.parts) part->references(to);
  };
  refer(impl_->own);
  for (const Impl::Piece& piece : impl_->pieces) refer(*piece.shared);
}

bool RouteTable::has_filter_parts() const {
  return !impl_->own.parts.empty() || std::any_of(impl_->pieces.begin(), impl_->pieces.end(),
                                                  [](const auto& piece) { return !piece.shared->parts.empty(); });
}

namespace {

ClusterName cluster_of(const ClusterName& configured, std::string_view header, const HeaderMap& request) {
  if (!configured.empty()) return configured;
  const std::string_view named = header.empty() ? std::string_view() : request.get(header);
  return named.empty() ? ClusterName{} : ClusterName{named, content_hash(named)};
}

}  // namespace

ClusterName Match::cluster(const HeaderMap& request) const {
  const ForwardAction* action = route == nullptr ? nullptr : route->forward();
  if (action == nullptr) return {};
  return weighted != nullptr ? cluster_of(weighted->cluster, weighted->cluster_header, request)
                             : cluster_of(route->cluster_name(), action->cluster_header, request);
}

ClusterName Mirror::cluster_of(const HeaderMap& request) const {
  return route::cluster_of(cluster, cluster_header, request);
}

namespace {

// Applies the levels that there are, in Envoy's order.
template <class Pick>
void mutate(const Match& match, HeaderMap& headers, const FormatContext& context, Pick&& pick) {
  if (match.route == nullptr || match.route->tls_redirect()) return;
  const VirtualHost& host = match.route->virtual_host();
  const HeaderMutations* levels[] = {match.weighted == nullptr ? nullptr : pick(*match.weighted), pick(*match.route),
                                     pick(host), pick(host.table())};
  if (host.table().most_specific_header_mutations_wins()) std::reverse(std::begin(levels), std::end(levels));
  for (const HeaderMutations* level : levels)
    if (level != nullptr) level->apply(headers, context);
}

struct PickRequest {
  const HeaderMutations* operator()(const WeightedEntry& entry) const { return entry.request_mutations; }
  template <class Level>
  const HeaderMutations* operator()(const Level& level) const {
    return level.request_mutations();
  }
};
struct PickResponse {
  const HeaderMutations* operator()(const WeightedEntry& entry) const { return entry.response_mutations; }
  template <class Level>
  const HeaderMutations* operator()(const Level& level) const {
    return level.response_mutations();
  }
};

}  // namespace

void Match::mutate_request(HeaderMap& request, const FormatContext& context) const {
  mutate(*this, request, context, PickRequest{});
}
void Match::mutate_response(HeaderMap& response, const FormatContext& context) const {
  mutate(*this, response, context, PickResponse{});
}

}  // namespace outrigger::route
