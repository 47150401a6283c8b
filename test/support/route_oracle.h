// oracle_match: Envoy's first match as plainly as it can be written: every virtual host and every route, one after the
// other. It shares no code with source/route, so the two can be held against each other.
//
// Use:  OracleAnswer expected = oracle_match(spec, request);
#pragma once

#include <re2/re2.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/spec.h"

namespace outrigger::test {

struct OracleRequest {
  std::vector<std::pair<std::string, std::string>> headers;  // pseudo-header fields included
  uint64_t random = 0;
  bool tls = false;

  std::optional<std::string> joined(std::string name) const {
    if (name == "host") name = ":authority";
    std::optional<std::string> all;
    for (const auto& [key, value] : headers) {
      if (key != name) continue;
      all = all ? *all + (name == "cookie" ? "; " : ",") + value : value;
    }
    return all;
  }
};

struct OracleAnswer {
  int virtual_host = -1;
  int route = -1;
  int weighted = -1;
  bool tls_redirect = false;
  bool operator==(const OracleAnswer&) const = default;
};

inline std::string oracle_lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

inline bool oracle_string(const config::StringMatchSpec& spec, std::string text) {
  using Kind = config::StringMatchSpec::Kind;
  if (spec.kind == Kind::kRegex) return RE2::FullMatch(text, spec.value);
  std::string value = spec.value;
  if (spec.ignore_case) {
    value = oracle_lower(value);
    text = oracle_lower(text);
  }
  switch (spec.kind) {
    case Kind::kExact:
      return text == value;
    case Kind::kPrefix:
      return text.compare(0, value.size(), value) == 0;
    case Kind::kSuffix:
      return text.size() >= value.size() && text.substr(text.size() - value.size()) == value;
    default:
      return text.find(value) != std::string::npos;
  }
}

inline bool oracle_header(const config::HeaderMatchSpec& spec, const OracleRequest& request) {
  using Kind = config::HeaderMatchSpec::Kind;
  std::optional<std::string> value = request.joined(spec.name);
  if (!value && spec.treat_missing_as_empty) value = "";
  if (!value) {
    if (spec.kind != Kind::kPresent) return false;
    return spec.invert ? spec.present : !spec.present;
  }
  bool matches = false;
  if (spec.kind == Kind::kPresent) matches = spec.present;
  if (spec.kind == Kind::kString) matches = oracle_string(spec.string, *value);
  if (spec.kind == Kind::kRange && RE2::FullMatch(*value, "[-+]?[0-9]{1,18}")) {
    const long long number = std::atoll(value->c_str());
    matches = number >= spec.range_start && number < spec.range_end;
  }
  return spec.invert ? !matches : matches;
}

inline bool oracle_query(const config::QueryMatchSpec& spec, const std::string& path) {
  std::optional<std::string> found;
  std::string query = path.find('?') == std::string::npos ? "" : path.substr(path.find('?') + 1);
  while (!query.empty() && !found) {
    std::string parameter = query.substr(0, query.find('&'));
    query = query.size() > parameter.size() ? query.substr(parameter.size() + 1) : "";
    std::string name = parameter.substr(0, parameter.find('='));
    if (name == spec.name) found = name.size() < parameter.size() ? parameter.substr(name.size() + 1) : "";
  }
  if (!spec.string) return found.has_value() == spec.present;
  return found && oracle_string(*spec.string, *found);
}

inline bool oracle_path(const config::PathMatchSpec& spec, std::string path) {
  using Kind = config::PathMatchSpec::Kind;
  path = path.substr(0, path.find_first_of("?#"));
  if (spec.kind == Kind::kRegex) return RE2::FullMatch(path, spec.value);
  std::string value = spec.value;
  if (!spec.case_sensitive) {
    path = oracle_lower(path);
    value = oracle_lower(value);
  }
  const bool starts = path.compare(0, value.size(), value) == 0;
  switch (spec.kind) {
    case Kind::kPrefix:
      return starts;
    case Kind::kExact:
      return path == value;
    default:
      return starts && (path.size() == value.size() || path[value.size()] == '/');
  }
}

inline bool oracle_route(const config::RouteMatchSpec& spec, const OracleRequest& request, const std::string& path) {
  if (spec.path.kind == config::PathMatchSpec::Kind::kConnect) return false;  // of requests without a path
  if (!oracle_path(spec.path, path)) return false;
  if (spec.runtime_fraction && request.random % spec.runtime_fraction->denominator >= spec.runtime_fraction->numerator)
    return false;
  if (spec.grpc && !RE2::FullMatch(request.joined("content-type").value_or(""), "application/grpc([+](?s:.*))?"))
    return false;
  for (const auto& header : spec.headers)
    if (!oracle_header(header, request)) return false;
  for (const auto& parameter : spec.query_parameters)
    if (!oracle_query(parameter, path)) return false;
  return true;
}

// The virtual host whose domains hold the best match of the host; -1: none.
inline int oracle_virtual_host(const config::RouteTableSpec& table, const OracleRequest& request) {
  std::optional<std::string> authority = request.joined(":authority");
  int fallback = -1;
  bool only_fallback = true;
  for (size_t v = 0; v < table.virtual_hosts.size(); ++v) {
    for (const std::string& domain : table.virtual_hosts[v].domains) {
      if (domain == "*") fallback = static_cast<int>(v);
      if (domain != "*") only_fallback = false;
    }
  }
  if (only_fallback) return fallback;
  if (!authority) return -1;
  std::string host = oracle_lower(*authority);
  if (table.ignore_port_in_host_matching) {
    const size_t colon = host.rfind(':'), bracket = host.rfind(']');
    if (colon != std::string::npos && (bracket == std::string::npos || bracket < colon)) host = host.substr(0, colon);
  }
  int best = fallback;
  size_t best_rank = 0;  // exact > suffix > prefix, longer > shorter
  for (size_t v = 0; v < table.virtual_hosts.size(); ++v) {
    for (const std::string& spelled : table.virtual_hosts[v].domains) {
      const std::string domain = oracle_lower(spelled);
      size_t rank = 0;
      if (domain == "*") continue;
      if (domain.front() == '*') {
        const std::string end = domain.substr(1);
        if (host.size() > end.size() && host.substr(host.size() - end.size()) == end) rank = 1'000'000 + end.size();
      } else if (domain.back() == '*') {
        const std::string start = domain.substr(0, domain.size() - 1);
        if (host.size() > start.size() && host.substr(0, start.size()) == start) rank = 1'000 + start.size();
      } else if (domain == host) {
        rank = 1'000'000'000;
      }
      if (rank > best_rank) {
        best_rank = rank;
        best = static_cast<int>(v);
      }
    }
  }
  return best;
}

inline OracleAnswer oracle_match(const config::RouteTableSpec& table, const OracleRequest& request) {
  OracleAnswer answer;
  answer.virtual_host = oracle_virtual_host(table, request);
  if (answer.virtual_host < 0) return answer;
  const config::VirtualHostSpec& host = table.virtual_hosts[static_cast<size_t>(answer.virtual_host)];
  using Tls = config::VirtualHostSpec::Tls;
  if (!request.tls && (host.require_tls == Tls::kAll ||
                       (host.require_tls == Tls::kExternalOnly && request.joined("x-envoy-internal") != "true"))) {
    answer.tls_redirect = true;
    return answer;
  }
  const std::optional<std::string> path = request.joined(":path");
  if (!path) return answer;
  for (size_t r = 0; r < host.routes.size(); ++r) {
    if (!oracle_route(host.routes[r].match, request, *path)) continue;
    answer.route = static_cast<int>(r);
    const auto* forward = std::get_if<config::ForwardSpec>(&host.routes[r].action);
    if (forward == nullptr || forward->weighted.empty()) return answer;
    uint64_t total = 0, end = 0;
    for (const auto& entry : forward->weighted) total += entry.weight;
    for (size_t w = 0; w < forward->weighted.size() && answer.weighted < 0; ++w) {
      end += forward->weighted[w].weight;
      if (request.random % total < end) answer.weighted = static_cast<int>(w);
    }
    return answer;
  }
  return answer;
}

}  // namespace outrigger::test
