#include "route/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/grpc.h"
#include "route/folded_text.h"
#include "route/route_table_impl.h"

namespace outrigger::route {
namespace {

using PathKind = config::PathMatchSpec::Kind;

// Of an unmatched host, so many domains are named.
constexpr size_t kMaxDomainsNamed = 20;

std::string quoted(std::string_view text) { return fmt::format("\"{}\"", text); }

std::string path_condition(const Route& route) {
  if (route.path_kind() == PathKind::kConnect) return "CONNECT";
  static constexpr std::string_view kWords[] = {"prefix ", "path ", "path separated prefix ", "regex "};
  return fmt::format("{}{}{}", kWords[static_cast<size_t>(route.path_kind())], quoted(route.path_pattern()),
                     route.case_sensitive() ? "" : " in any case");
}

// `path` is nullptr: CONNECT.
bool path_matches(const Route& route, const Header* target) {
  if (target == nullptr || route.path_kind() == PathKind::kConnect)
    return target == nullptr && route.path_kind() == PathKind::kConnect;
  const std::string_view path = without_query_and_fragment(target->value);
  if (route.path_kind() == PathKind::kRegex) return config::shared_regex(route.path_pattern())->full_match(path);
  const std::string text = route.case_sensitive() ? std::string(path) : folded(path);
  const std::string pattern = route.case_sensitive() ? std::string(route.path_pattern()) : folded(route.path_pattern());
  if (route.path_kind() == PathKind::kExact) return text == pattern;
  if (!text.starts_with(pattern)) return false;
  return route.path_kind() == PathKind::kPrefix || text.size() == pattern.size() || text[pattern.size()] == '/';
}

// Every domain of the map that `host` properly starts with, longest first.
template <class Map, class Add>
void each_proper(const Map& domains, std::string_view host, Add&& add) {
  if (domains.empty()) return;
  for (uint32_t at = domains.longest(host); at != Map::kNone; at = domains.parent(at))
    if (domains.size(at) < host.size()) add(std::string(domains.text(at)), domains.payload(at));
}

std::string reversed(std::string text) {
  std::reverse(text.begin(), text.end());
  return text;
}

}  // namespace

std::vector<DomainMatch> RouteExplainer::domains(const RouteTable& table, const HeaderMap& request,
                                                 std::string& why_none) {
  const RouteTable::Impl& t = *table.impl_;
  std::vector<DomainMatch> out;
  const auto add = [&](std::string domain, std::string_view rule, uint32_t host) {
    out.push_back({.domain = std::move(domain), .rule = rule, .virtual_host = &t.virtual_hosts[host]});
  };
  const bool only_default = t.exact_domains.empty() && t.suffix_domains.empty() && t.prefix_domains.empty();
  const Header* authority = request.find(HeaderId::kAuthority);
  if (authority == nullptr && !only_default) {
    why_none = "the request has no host";
    return out;
  }
  std::string host;
  if (authority != nullptr && !only_default) {
    host = folded(t.ignore_port ? without_port(authority->value) : authority->value);
    if (const uint32_t at = t.exact_domains.exact(host); at != t.kNone) add(host, "exact", t.exact_domains.payload(at));
    each_proper(t.suffix_domains, reversed(host),
                [&](std::string text, uint32_t at) { add("*" + reversed(std::move(text)), "suffix", at); });
    each_proper(t.prefix_domains, host, [&](std::string text, uint32_t at) { add(text + "*", "prefix", at); });
  }
  if (t.default_virtual_host != t.kNone) add("*", "default", t.default_virtual_host);
  if (!out.empty()) return out;

  why_none = fmt::format("no domain matches host {}; there are:", quoted(host));
  size_t named = 0;
  const auto name = [&](const auto& domains, auto&& spell) {
    for (uint32_t at = 0; at < domains.text_count() && named < kMaxDomainsNamed; ++at, ++named)
      why_none += " " + spell(std::string(domains.text(at)));
  };
  name(t.exact_domains, [](std::string text) { return text; });
  name(t.suffix_domains, [](std::string text) { return "*" + reversed(std::move(text)); });
  name(t.prefix_domains, [](std::string text) { return text + "*"; });
  if (named == kMaxDomainsNamed) why_none += " ...";
  return out;
}

std::optional<Miss> RouteExplainer::miss(const Route& route, const HeaderMap& request, const Header* path,
                                         uint64_t random) {
  const std::string_view target = path == nullptr ? std::string_view() : path->value;
  if (!path_matches(route, path)) return Miss{&route, Miss::Why::kPath, "wants " + path_condition(route)};
  if (route.conditions_ == nullptr) return std::nullopt;
  const Route::Conditions& conditions = *route.conditions_;
  if (const auto& f = conditions.fraction; f && random % f->denominator >= f->numerator)
    return Miss{&route, Miss::Why::kFraction,
                fmt::format("takes {} of {} requests, and this one is not among them (random number {})", f->numerator,
                            f->denominator, random)};
  if (conditions.grpc && !is_grpc(request.get(HeaderId::kContentType)))
    return Miss{&route, Miss::Why::kHeader, "wants a gRPC request; content-type is another or absent"};
  for (const config::HeaderMatcher& matcher : conditions.headers) {
    if (matcher.match(request)) continue;
    return Miss{&route, Miss::Why::kHeader,
                fmt::format("wants {}; it is {}", matcher.describe(),
                            config::joined_header(request, matcher.name()) ? "another" : "absent")};
  }
  for (const config::QueryMatcher& matcher : conditions.query_parameters) {
    if (matcher.match(target)) continue;
    return Miss{&route, Miss::Why::kQuery,
                fmt::format("wants {}; it is {}", matcher.describe(),
                            config::query_parameter(target, matcher.name()) ? "another" : "absent")};
  }
  return std::nullopt;
}

std::string RouteExplainer::describe(const Route& route) {
  std::string out = path_condition(route);
  if (route.conditions_ == nullptr) return out;
  if (const auto& f = route.conditions_->fraction)
    out += fmt::format(", {} of {} requests", f->numerator, f->denominator);
  if (route.conditions_->grpc) out += ", gRPC";
  for (const config::HeaderMatcher& matcher : route.conditions_->headers) out += ", " + matcher.describe();
  for (const config::QueryMatcher& matcher : route.conditions_->query_parameters) out += ", " + matcher.describe();
  return out;
}

std::string describe(const Route& route) {
  return route.tls_redirect() ? "any request without TLS" : RouteExplainer::describe(route);
}

Explanation explain(const RouteTable& table, const HeaderMap& request, const MatchContext& context, size_t max_misses) {
  Explanation out;
  out.match = table.match(request, context);
  out.domains = RouteExplainer::domains(table, request, out.no_virtual_host);
  if (out.match.virtual_host == nullptr || (out.match.route != nullptr && out.match.route->tls_redirect())) return out;
  const std::span<const Route> routes = out.match.virtual_host->routes();
  const size_t end = out.match.route == nullptr ? routes.size() : out.match.route->index();
  const Header* path = request.find(HeaderId::kPath);
  out.misses_total = end;
  if (path == nullptr && request.get(HeaderId::kMethod) != "CONNECT") return out;
  std::vector<Miss> other_paths;
  for (size_t i = 0; i < end; ++i) {
    auto missed = RouteExplainer::miss(routes[i], request, path, context.random);
    if (!missed) continue;
    std::vector<Miss>& to = missed->why == Miss::Why::kPath ? other_paths : out.misses;
    if (to.size() < max_misses) to.push_back(std::move(*missed));
  }
  const size_t room = std::min(max_misses - out.misses.size(), other_paths.size());
  std::move(other_paths.begin(), other_paths.begin() + static_cast<ptrdiff_t>(room), std::back_inserter(out.misses));
  std::sort(out.misses.begin(), out.misses.end(),
            [](const Miss& a, const Miss& b) { return a.route->index() < b.route->index(); });
  return out;
}

}  // namespace outrigger::route
