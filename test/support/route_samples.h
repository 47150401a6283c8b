// RouteSamples: route tables and requests made of a stream of choices, over small alphabets, so that patterns and
// requests collide all the time. The choices come from a random generator (differential test) or from bytes (fuzzing).
//
// Use:  RouteSamples samples([&](uint32_t n) { return random() % n; });
//       config::RouteTableSpec table = samples.table(40);  OracleRequest request = samples.request();
#pragma once

#include <re2/re2.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "config/spec.h"
#include "support/route_oracle.h"

namespace outrigger::test {

class RouteSamples {
 public:
  using Choose = std::function<uint32_t(uint32_t below)>;  // a number in [0, below)
  explicit RouteSamples(Choose choose) : choose_(std::move(choose)) {}

  config::RouteTableSpec table(uint32_t max_routes) {
    config::RouteTableSpec table;
    table.name = "t";
    table.ignore_port_in_host_matching = one_in(2);
    std::vector<std::string> domains = {"*",      "a.com", "b.com", "a.com:80", "*.com", "*.a.com",  "*-x.a.com",
                                        "*a.com", "a.*",   "a.c*",  "b.*",      "[::1]", "[::1]:80", "*m"};
    const uint32_t hosts = 1 + choose_(5);
    for (uint32_t v = 0; v < hosts; ++v) {
      config::VirtualHostSpec host;
      host.name = "v" + std::to_string(v);
      for (uint32_t d = 1 + choose_(3); d > 0 && !domains.empty(); --d) {
        const uint32_t at =
            v == 0 && host.domains.empty() && !one_in(4) ? 0 : choose_(static_cast<uint32_t>(domains.size()));
        host.domains.push_back(domains[at]);
        domains.erase(domains.begin() + at);
      }
      if (host.domains.empty()) break;
      host.require_tls = one_in(12)
                             ? pick({config::VirtualHostSpec::Tls::kAll, config::VirtualHostSpec::Tls::kExternalOnly})
                             : config::VirtualHostSpec::Tls::kNone;
      style_ = choose_(4);
      const uint32_t routes = choose_(max_routes + 1);
      for (uint32_t r = 0; r < routes; ++r) host.routes.push_back(route());
      table.virtual_hosts.push_back(std::move(host));
    }
    return table;
  }

  OracleRequest request() {
    OracleRequest request;
    request.random = choose_(1000);
    request.tls = one_in(2);
    if (!one_in(20))
      request.headers.emplace_back(":authority", text({"a.com", "A.com", "b.com", "x.a.com", "y-x.a.com", ".a.com",
                                                       "-x.a.com", "a.com:80", "b.com:443", "a.org", "a.", "a.c",
                                                       "b.net:1", "[::1]", "[::1]:80", "c", "", "xa.com", "m"}));
    std::string path = this->path();
    if (one_in(3)) path += query();
    if (!one_in(30)) request.headers.emplace_back(":path", path);
    for (uint32_t n = choose_(4); n > 0; --n)
      request.headers.emplace_back(header_name(), text({"1", "2", "a", "A", "ab", "", "-5", "+7", "10", "a,1"}));
    if (one_in(3))
      request.headers.emplace_back("content-type",
                                   text({"application/grpc", "application/grpc+x", "application/grpc-web"}));
    if (one_in(6)) request.headers.emplace_back("x-envoy-internal", text({"true", "false"}));
    return request;
  }

  std::string regex() {
    for (;;) {
      std::string out = one_in(5) ? "(?i)/" : one_in(8) ? "" : "/";
      for (uint32_t n = choose_(6); n > 0; --n) {
        out += text({"a",        "b",     "k",           "ab",    "B",         "/",       "/a",          "/ab/",
                     "/s1",      ".*",    "[^/]+",       "[^/]*", "(a|b)",     "(ab|aB)", "(?:a|/)",     "a?",
                     "b*",       "(ab)+", "(?:a/){1,2}", "a{2}",  "[ab]",      "[^]a]",   "\\.",         "\\d",
                     "\\w+",     "^",     "$",           ".",     "(?P<n>ab)", "(a|)",    "[[:alpha:]]", "b+?",
                     "\\Qa.\\E", "\\x61", "|",           "\\b",   "\u017f"});
      }
      if (RE2(out, RE2::Quiet).ok()) return out;
    }
  }

  std::string path() {
    if (one_in(40)) return text({"", "*", "?", "#", "/", "//"});
    std::string out;
    for (uint32_t n = 1 + choose_(4); n > 0; --n) out += "/" + segment();
    if (one_in(3)) out += "/";
    return out;
  }

 private:
  bool one_in(uint32_t n) { return choose_(n) == 0; }
  std::string text(std::initializer_list<const char*> from) { return pick(from); }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return from.begin()[choose_(static_cast<uint32_t>(from.size()))];
  }
  std::string segment() {
    return text({"a", "b", "ab", "A", "aB", "aa", "s1", "k", "a.b", "abab", "S1", "", "\u212a", "\u017f1"});
  }
  std::string header_name() { return text({"x", "y", "accept", "cookie", "x-request-id"}); }
  std::string query() {
    std::string out = text({"?", "?", "?", "#", "#?"});
    for (uint32_t n = choose_(4); n > 0; --n)
      out +=
          text({"q=1", "q=a", "q", "r=", "r=ab", "q=", "=", "", "Q=1", "%71=1", "q=1#f", "q=a=b"}) + (n > 1 ? "&" : "");
    return out;
  }

  config::StringMatchSpec string_match() {
    using Kind = config::StringMatchSpec::Kind;
    config::StringMatchSpec spec;
    spec.kind = pick({Kind::kExact, Kind::kPrefix, Kind::kSuffix, Kind::kContains, Kind::kRegex});
    spec.value =
        spec.kind == Kind::kRegex ? text({"a.*", "[0-9]+", "", "a|A"}) : text({"a", "A", "1", "ab", "", "a,1", "1; a"});
    spec.ignore_case = spec.kind != Kind::kRegex && one_in(3);
    return spec;
  }

  config::RouteSpec route() {
    using Kind = config::PathMatchSpec::Kind;
    config::RouteSpec route;
    config::PathMatchSpec& to = route.match.path;
    switch (style_) {  // of the virtual host, so that some tables are all regexes, some all prefixes
      case 0:
        to.kind = Kind::kRegex;
        break;
      case 1:
        to.kind = pick({Kind::kPrefix, Kind::kSeparatedPrefix});
        break;
      default:
        to.kind = pick({Kind::kPrefix, Kind::kExact, Kind::kSeparatedPrefix, Kind::kRegex});
    }
    if (to.kind == Kind::kRegex) {
      to.value = regex();
    } else {
      to.value = path();
      if (to.kind != Kind::kExact && one_in(2))
        to.value = to.value.substr(0, choose_(static_cast<uint32_t>(to.value.size()) + 1));
      to.case_sensitive = !one_in(3);
    }
    if (one_in(2)) add_conditions(route.match);
    if (one_in(4)) add_weights(std::get<config::ForwardSpec>(route.action));
    return route;
  }

  void add_conditions(config::RouteMatchSpec& match) {
    for (uint32_t n = choose_(3); n > 0; --n) {
      using Kind = config::HeaderMatchSpec::Kind;
      config::HeaderMatchSpec header;
      header.name = one_in(8) ? text({"host", ":authority", ":path"}) : header_name();
      header.kind = pick({Kind::kString, Kind::kRange, Kind::kPresent});
      header.string = string_match();
      header.range_start = static_cast<int64_t>(choose_(20)) - 10;
      header.range_end = header.range_start + choose_(20);
      header.present = !one_in(3);
      header.invert = one_in(3);
      header.treat_missing_as_empty = one_in(3);
      match.headers.push_back(header);
    }
    if (one_in(3)) {
      config::QueryMatchSpec parameter;
      parameter.name = text({"q", "r", ""});
      if (one_in(2)) parameter.string = string_match();
      parameter.present = !one_in(3);
      match.query_parameters.push_back(parameter);
    }
    match.grpc = one_in(5);
    if (one_in(5)) match.runtime_fraction = config::FractionSpec{choose_(101), pick<uint32_t>({100, 10'000})};
  }

  void add_weights(config::ForwardSpec& forward) {
    for (uint32_t n = 1 + choose_(3); n > 0; --n) {
      config::ClusterWeightSpec entry;
      entry.name = "c" + std::to_string(n);
      entry.weight = choose_(4);
      forward.weighted.push_back(entry);
    }
    forward.weighted.back().weight += 1;
  }

  Choose choose_;
  uint32_t style_ = 0;
};

}  // namespace outrigger::test
