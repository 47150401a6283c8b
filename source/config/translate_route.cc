// Route tables: virtual hosts, routes, redirects, direct responses.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "config/names.h"
#include "config/proto_dump.h"
#include "config/translation.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"

namespace outrigger::config {
namespace route = envoy::config::route::v3;

namespace {

// What the routes of one table need to know of it.
struct Table {
  uint32_t max_direct_response_bytes = kDefaultDirectResponseBytes;
  std::vector<MirrorSpec> mirrors = {};
};

// Matchers see the path without query and fragment, so such a pattern never matches.
void check_path_text(const std::string& value, const FieldPath& path, Translation& t) {
  if (value.find_first_of("?#") != std::string::npos)
    t.fault(path,
            fmt::format("\"{}\" never matches: '?' and '#' are not part of the path; match query_parameters instead",
                        value));
}

PathMatchSpec path_match(const route::RouteMatch& match, const FieldPath& path, Translation& t) {
  using Kind = PathMatchSpec::Kind;
  PathMatchSpec spec;
  spec.case_sensitive = !match.has_case_sensitive() || match.case_sensitive().value();
  switch (match.path_specifier_case()) {
    case route::RouteMatch::kPrefix:
      spec.value = match.prefix();
      check_path_text(spec.value, path.field("prefix"), t);
      break;
    case route::RouteMatch::kPath:
      spec.kind = Kind::kExact;
      spec.value = match.path();
      check_path_text(spec.value, path.field("path"), t);
      break;
    case route::RouteMatch::kSafeRegex:
      spec.kind = Kind::kRegex;
      spec.value = regex_spec(match.safe_regex(), path.field("safe_regex"), t);
      spec.case_sensitive = true;
      break;
    case route::RouteMatch::kPathSeparatedPrefix:
      spec.kind = Kind::kSeparatedPrefix;
      spec.value = match.path_separated_prefix();
      if (spec.value.size() < 2 || spec.value.ends_with('/') || spec.value.find_first_of("?#") != std::string::npos)
        t.fault(path.field("path_separated_prefix"),
                fmt::format("\"{}\" must be longer than \"/\", not end in '/' and have no '?' or '#'", spec.value));
      break;
    case route::RouteMatch::kConnectMatcher:
      spec.kind = Kind::kConnect;
      spec.case_sensitive = true;
      break;
    case route::RouteMatch::PATH_SPECIFIER_NOT_SET:
      t.fault(path, "needs one of prefix, path, path_separated_prefix, safe_regex, connect_matcher");
  }
  return spec;
}

RouteMatchSpec route_match(const route::RouteMatch& match, const FieldPath& path, Translation& t) {
  RouteMatchSpec spec;
  spec.path = path_match(match, path, t);
  each(match.headers(), path.field("headers"),
       [&](const auto& m, const FieldPath& at) { spec.headers.push_back(header_match_spec(m, at, t)); });
  each(match.query_parameters(), path.field("query_parameters"),
       [&](const auto& m, const FieldPath& at) { spec.query_parameters.push_back(query_match_spec(m, at, t)); });
  if (match.has_runtime_fraction())
    spec.runtime_fraction = runtime_fraction_spec(match.runtime_fraction(), path.field("runtime_fraction"), t);
  spec.grpc = match.has_grpc();
  return spec;
}

uint16_t redirect_status(route::RedirectAction::RedirectResponseCode code) {
  switch (code) {
    case route::RedirectAction::FOUND:
      return 302;
    case route::RedirectAction::SEE_OTHER:
      return 303;
    case route::RedirectAction::TEMPORARY_REDIRECT:
      return 307;
    case route::RedirectAction::PERMANENT_REDIRECT:
      return 308;
    default:
      return 301;
  }
}

RedirectSpec redirect_spec(const route::RedirectAction& redirect, const FieldPath& path, Translation& t) {
  using Action = route::RedirectAction;
  RedirectSpec spec;
  if (redirect.scheme_rewrite_specifier_case() == Action::kSchemeRedirect) {
    spec.scheme_redirect = redirect.scheme_redirect();
    check_header_value(spec.scheme_redirect, path.field("scheme_redirect"), t);
  } else if (redirect.https_redirect()) {
    spec.scheme_redirect = "https";
  }
  spec.host_redirect = redirect.host_redirect();
  check_header_value(spec.host_redirect, path.field("host_redirect"), t);
  spec.port_redirect = redirect.port_redirect();
  if (spec.port_redirect > 65'535)
    t.fault(path.field("port_redirect"), fmt::format("is {}, must be at most 65535", spec.port_redirect));
  if (redirect.path_rewrite_specifier_case() == Action::kRegexRewrite)
    spec.regex_rewrite = regex_rewrite_spec(redirect.regex_rewrite(), path.field("regex_rewrite"), t);
  spec.path_redirect = redirect.path_redirect();
  spec.prefix_rewrite = redirect.prefix_rewrite();
  check_header_value(spec.path_redirect, path.field("path_redirect"), t);
  check_header_value(spec.prefix_rewrite, path.field("prefix_rewrite"), t);
  spec.status = redirect_status(redirect.response_code());
  spec.strip_query = redirect.strip_query();
  return spec;
}

DirectResponseSpec direct_response(const route::DirectResponseAction& action, const Table& table, const FieldPath& path,
                                   Translation& t) {
  DirectResponseSpec spec;
  if (action.status() < 200 || action.status() > 599)
    t.fault(path.field("status"), fmt::format("is {}, must be from 200 to 599", action.status()));
  else
    spec.status = static_cast<uint16_t>(action.status());
  if (action.has_body()) spec.body = data_source(action.body(), table.max_direct_response_bytes, path.field("body"), t);
  return spec;
}

bool has_per_filter_config(const route::Route& route) {
  if (!route.typed_per_filter_config().empty()) return true;
  for (const auto& weight : route.route().weighted_clusters().clusters()) {
    if (!weight.typed_per_filter_config().empty()) return true;
  }
  return false;
}

RouteSpec route_spec(const route::Route& route, const Table& table, const std::string& scope, const FieldPath& path,
                     Translation& t) {
  RouteSpec spec;
  spec.name = route.name();
  if (route.has_match())
    spec.match = route_match(route.match(), path.field("match"), t);
  else
    t.fault(path.field("match"), "is required");
  switch (route.action_case()) {
    case route::Route::kRoute:
      spec.action = forward_spec(route.route(), scope, path.field("route"), t);
      break;
    case route::Route::kRedirect:
      spec.action = redirect_spec(route.redirect(), path.field("redirect"), t);
      break;
    case route::Route::kDirectResponse:
      spec.action = direct_response(route.direct_response(), table, path.field("direct_response"), t);
      break;
    case route::Route::ACTION_NOT_SET:
      t.fault(path, "needs one of route, redirect, direct_response");
  }
  spec.request_headers =
      header_mutation_spec(route.request_headers_to_add(), route.request_headers_to_remove(), "request", path, t);
  spec.response_headers =
      header_mutation_spec(route.response_headers_to_add(), route.response_headers_to_remove(), "response", path, t);
  spec.per_filter = per_filter_configs(route.typed_per_filter_config(), scope, path, t);
  spec.metadata = metadata(route.metadata(), path.field("metadata"), t);
  const auto& body = route.direct_response().body();
  const bool elsewhere = route.direct_response().has_body() && !body.has_inline_string() && !body.has_inline_bytes();
  spec.of_bytes_alone = !elsewhere && !has_per_filter_config(route);
  return spec;
}

// A name for the route that stays the same when others come and go: state of its filters is found again by it.
std::string route_scope(const route::Route& route, std::unordered_map<std::string, int>& seen) {
  std::string name = route.name();
  if (name.empty()) {
    const std::string match = deterministic_bytes(route.match());
    name = fmt::format("#{:016x}", XXH3_64bits(match.data(), match.size()));
  }
  const int count = ++seen[name];
  return count == 1 ? name : fmt::format("{}~{}", name, count);
}

std::string domain_of(const std::string& domain, const FieldPath& path, Translation& t) {
  const size_t star = domain.find('*');
  if (domain.empty()) {
    t.fault(path, "must not be empty");
  } else if (star != std::string::npos && domain.size() > 1 &&
             (domain.find('*', star + 1) != std::string::npos || (star != 0 && star != domain.size() - 1))) {
    t.fault(path, fmt::format("\"{}\" may have one '*', at its beginning or its end", domain));
  } else if (!is_header_value(domain) || domain.find_first_of(" \t/") != std::string::npos) {
    t.fault(path, fmt::format("\"{}\" is not a domain", domain));
  }
  return lower_ascii(domain);
}

VirtualHostSpec virtual_host(const route::VirtualHost& host, const Table& table, const std::string& table_scope,
                             const FieldPath& path, Translation& t) {
  VirtualHostSpec spec;
  spec.name = host.name();
  if (spec.name.empty()) t.fault(path.field("name"), "must not be empty");
  if (host.domains().empty()) t.fault(path.field("domains"), "needs at least one domain; \"*\" matches all");
  each(host.domains(), path.field("domains"),
       [&](const auto& domain, const FieldPath& at) { spec.domains.push_back(domain_of(domain, at, t)); });
  switch (host.require_tls()) {
    case route::VirtualHost::EXTERNAL_ONLY:
      spec.require_tls = VirtualHostSpec::Tls::kExternalOnly;
      break;
    case route::VirtualHost::ALL:
      spec.require_tls = VirtualHostSpec::Tls::kAll;
      break;
    default:
      spec.require_tls = VirtualHostSpec::Tls::kNone;
  }
  const std::string scope = table_scope + "/" + host.name();
  std::optional<RetryPolicySpec> retry;
  if (host.has_retry_policy()) retry = retry_policy_spec(host.retry_policy(), path.field("retry_policy"), t);
  std::vector<MirrorSpec> mirrors = mirror_specs(host.request_mirror_policies(), path, t);
  if (mirrors.empty()) mirrors = table.mirrors;

  spec.routes.reserve(static_cast<size_t>(host.routes_size()));
  std::unordered_map<std::string, int> seen;
  each(host.routes(), path.field("routes"), [&](const route::Route& route, const FieldPath& at) {
    // The scope costs a hash of the match; only filter configs need it.
    const std::string route_at = has_per_filter_config(route) ? scope + "/" + route_scope(route, seen) : scope;
    spec.routes.push_back(route_spec(route, table, route_at, at, t));
    auto* forward = std::get_if<ForwardSpec>(&spec.routes.back().action);
    if (forward == nullptr) return;
    if (!forward->retry) forward->retry = retry;
    if (forward->mirrors.empty()) forward->mirrors = mirrors;
  });
  spec.request_headers =
      header_mutation_spec(host.request_headers_to_add(), host.request_headers_to_remove(), "request", path, t);
  spec.response_headers =
      header_mutation_spec(host.response_headers_to_add(), host.response_headers_to_remove(), "response", path, t);
  each(host.rate_limits(), path.field("rate_limits"),
       [&](const auto& limit, const FieldPath& at) { spec.rate_limits.push_back(rate_limit_spec(limit, at, t)); });
  spec.per_filter = per_filter_configs(host.typed_per_filter_config(), scope, path, t);
  spec.metadata = metadata(host.metadata(), path.field("metadata"), t);
  return spec;
}

// No virtual host's name and no domain twice.
void check_unique(const std::vector<VirtualHostSpec>& hosts, const FieldPath& path, Translation& t) {
  std::unordered_map<std::string_view, size_t> names, domains;
  for (size_t i = 0; i < hosts.size(); ++i) {
    const FieldPath at = path.index(i);
    if (!hosts[i].name.empty() && !names.emplace(hosts[i].name, i).second)
      t.fault(at.field("name"),
              fmt::format("\"{}\" is also the name of virtual_hosts[{}]", hosts[i].name, names[hosts[i].name]));
    for (size_t j = 0; j < hosts[i].domains.size(); ++j) {
      const std::string& domain = hosts[i].domains[j];
      const auto [it, added] = domains.emplace(domain, i);
      if (!added && !domain.empty())
        t.fault(
            at.field("domains").index(j),
            fmt::format("\"{}\" is already a domain of virtual_hosts[{}] (case does not count)", domain, it->second));
    }
  }
}

}  // namespace

RouteTableSpec route_table_spec(const route::RouteConfiguration& table, bool named, const std::string& scope,
                                const FieldPath& path, Translation& t) {
  RouteTableSpec spec;
  spec.name = table.name();
  if (named && spec.name.empty()) t.fault(path.field("name"), "must not be empty");
  Table shared;
  if (table.has_max_direct_response_body_size_bytes())
    shared.max_direct_response_bytes = table.max_direct_response_body_size_bytes().value();
  shared.mirrors = mirror_specs(table.request_mirror_policies(), path, t);
  spec.virtual_hosts.reserve(static_cast<size_t>(table.virtual_hosts_size()));
  each(table.virtual_hosts(), path.field("virtual_hosts"), [&](const auto& host, const FieldPath& at) {
    spec.virtual_hosts.push_back(virtual_host(host, shared, scope, at, t));
  });
  check_unique(spec.virtual_hosts, path.field("virtual_hosts"), t);
  spec.request_headers =
      header_mutation_spec(table.request_headers_to_add(), table.request_headers_to_remove(), "request", path, t);
  spec.response_headers =
      header_mutation_spec(table.response_headers_to_add(), table.response_headers_to_remove(), "response", path, t);
  each(table.internal_only_headers(), path.field("internal_only_headers"), [&](const auto& name, const FieldPath& at) {
    spec.internal_only_headers.push_back(header_name_of(name, false, at, t));
  });
  spec.most_specific_header_mutations_wins = table.most_specific_header_mutations_wins();
  spec.ignore_port_in_host_matching = table.ignore_port_in_host_matching();
  if (table.has_validate_clusters()) spec.validate_clusters = table.validate_clusters().value();
  spec.per_filter = per_filter_configs(table.typed_per_filter_config(), scope, path, t);
  return spec;
}

}  // namespace outrigger::config
