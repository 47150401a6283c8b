#include "route/route_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "base/hash.h"
#include "support/route_harness.h"

namespace outrigger::test {
namespace {

using config::ForwardSpec;
using config::HeaderMatchSpec;
using config::PathMatchSpec;
using config::RouteSpec;
using config::RouteTableSpec;
using config::VirtualHostSpec;
using Kind = PathMatchSpec::Kind;

RouteSpec forward(Kind kind, std::string path, std::string cluster) {
  RouteSpec route;
  route.name = cluster;
  route.match.path = {kind, std::move(path), true};
  ForwardSpec action;
  action.cluster = std::move(cluster);
  route.action = action;
  return route;
}

VirtualHostSpec host(std::string name, std::vector<std::string> domains, std::vector<RouteSpec> routes) {
  return {.name = std::move(name), .domains = std::move(domains), .routes = std::move(routes)};
}

RouteTableSpec one_host(std::vector<RouteSpec> routes) {
  RouteTableSpec table;
  table.virtual_hosts.push_back(host("all", {"*"}, std::move(routes)));
  return table;
}

route::Match match_request(const route::RouteTable& table, std::string authority, std::string path, Fields more = {},
                           route::MatchContext context = {}) {
  Fields fields = {{":authority", std::move(authority)}, {":path", std::move(path)}};
  fields.insert(fields.end(), more.begin(), more.end());
  Headers headers(fields);
  return table.match(*headers, context);
}

// The name of the route that a path leads to; "" if none.
std::string route_for(const route::RouteTable& table, std::string path, Fields more = {}) {
  const route::Match match = match_request(table, "h", std::move(path), std::move(more));
  return match.route == nullptr ? "" : std::string(match.route->name);
}

TEST(RouteTable, VirtualHosts) {
  RouteTableSpec spec;
  for (const char* domain :
       {"a.com", "a.com:8080", "*.a.com", "*-x.a.com", "*.com", "a.*", "a.b*", "[::1]:80", "UP.org", "*"})
    spec.virtual_hosts.push_back(host(domain, {domain}, {forward(Kind::kPrefix, "/", "c")}));
  const struct {
    const char* authority;
    const char* domain;
  } cases[] = {
      {"a.com", "a.com"},
      {"A.Com", "a.com"},
      {"a.com:8080", "a.com:8080"},
      {"a.com:81", "a.*"},
      {"x.a.com", "*.a.com"},
      {"y-x.a.com", "*-x.a.com"},
      {"-x.a.com", "*.a.com"},
      {".a.com", "*.com"},
      {".com", "*"},
      {"b.com", "*.com"},
      {"a.org", "a.*"},
      {"a.", "*"},
      {"a.bc", "a.b*"},
      {"a.b", "a.*"},
      {"[::1]:80", "[::1]:80"},
      {"[::1]", "*"},
      {"up.ORG", "UP.org"},
      {"zzz", "*"},
      {"", "*"},
      {"x.a.com:80", "*"},
  };
  const auto table = route::RouteTable::compile(spec);
  for (const auto& c : cases)
    EXPECT_EQ(match_request(*table, c.authority, "/").virtual_host->name, c.domain) << c.authority;
  EXPECT_EQ(match_request(*table, std::string(5000, 'a') + ".com", "/").virtual_host->name, "*.com");
  Headers no_host(Fields{{":path", "/"}});
  EXPECT_EQ(table->match(*no_host, {}).virtual_host, nullptr);
}

TEST(RouteTable, IgnoresThePortIfToldTo) {
  RouteTableSpec spec;
  spec.ignore_port_in_host_matching = true;
  for (const char* domain : {"a.com", "*.a.com", "[::1]", "b.*"})
    spec.virtual_hosts.push_back(host(domain, {domain}, {forward(Kind::kPrefix, "/", "c")}));
  const auto table = route::RouteTable::compile(spec);
  for (const auto& [authority, domain] : {std::pair{"a.com:1", "a.com"},
                                          {"x.a.com:99", "*.a.com"},
                                          {"[::1]:80", "[::1]"},
                                          {"[::1]", "[::1]"},
                                          {"b.c:7", "b.*"},
                                          {"a.com:", "a.com"}})
    EXPECT_EQ(match_request(*table, authority, "/").virtual_host->name, domain) << authority;
  EXPECT_EQ(match_request(*table, "c", "/").virtual_host, nullptr);
}

TEST(RouteTable, DoesNotFallThroughToAnotherHost) {
  RouteTableSpec spec;
  spec.virtual_hosts = {host("a", {"a"}, {forward(Kind::kExact, "/only", "c")}),
                        host("all", {"*"}, {forward(Kind::kPrefix, "/", "d")})};
  const auto table = route::RouteTable::compile(spec);
  const route::Match match = match_request(*table, "a", "/other");
  EXPECT_EQ(match.virtual_host->name, "a");
  EXPECT_EQ(match.route, nullptr);
  EXPECT_FALSE(match);
}

// CONNECT has no path: only connect_matcher takes it, in the order of the list, and nothing else.
TEST(RouteTable, Connect) {
  std::vector<RouteSpec> routes = {forward(Kind::kPrefix, "/", "all"), forward(Kind::kConnect, "", "mine"),
                                   forward(Kind::kConnect, "", "any"), forward(Kind::kConnect, "", "never")};
  routes[1].match.headers = {{.name = "x-mine"}};
  const auto table = route::RouteTable::compile(one_host(routes));
  const auto matched = [&](const Fields& fields) {
    Headers headers(fields);
    const route::Match match = table->match(*headers, {});
    return match.route == nullptr ? std::string("none") : std::string(match.route->name);
  };
  EXPECT_EQ(matched({{":method", "CONNECT"}, {":authority", "a:443"}, {"x-mine", "1"}}), "mine");
  EXPECT_EQ(matched({{":method", "CONNECT"}, {":authority", "a:443"}}), "any");
  EXPECT_EQ(matched({{":method", "GET"}, {":authority", "a:443"}}), "none");
  EXPECT_EQ(matched({{":method", "GET"}, {":authority", "a:443"}, {":path", "/"}, {"x-mine", "1"}}), "all");
  EXPECT_EQ(matched({{":method", "GET"}, {":authority", "a:443"}, {":path", "x"}}), "none");
}

TEST(RouteTable, Paths) {
  std::vector<RouteSpec> routes = {
      forward(Kind::kExact, "/exact", "exact"),
      forward(Kind::kPrefix, "/pre/fix", "long prefix"),
      forward(Kind::kPrefix, "/pre", "short prefix"),
      forward(Kind::kSeparatedPrefix, "/sep", "separated"),
      forward(Kind::kRegex, "/r[0-9]+", "regex"),
      forward(Kind::kRegex, ".*\\.html", "suffix regex"),
      forward(Kind::kExact, "/Folded", "folded exact"),
      forward(Kind::kPrefix, "/FoldedPre", "folded prefix"),
      forward(Kind::kSeparatedPrefix, "/FS", "folded separated"),
      forward(Kind::kRegex, "(?i)/Case/.+", "folded regex"),
  };
  for (const size_t i : {6, 7, 8}) routes[i].match.path.case_sensitive = false;
  const auto table = route::RouteTable::compile(one_host(routes));
  const struct {
    const char* path;
    const char* route;
  } cases[] = {
      {"/exact", "exact"},
      {"/exact?q=1", "exact"},
      {"/exact#f", "exact"},
      {"/exact/", ""},
      {"/EXACT", ""},
      {"/pre/fix/x", "long prefix"},
      {"/pre/f", "short prefix"},
      {"/prefix", "short prefix"},
      {"/sep", "separated"},
      {"/sep/", "separated"},
      {"/sep/x", "separated"},
      {"/separate", ""},
      {"/sep?x=/", "separated"},
      {"/r17", "regex"},
      {"/r17x", ""},
      {"/r", ""},
      {"/r1?x", "regex"},
      {"/a/b.html", "suffix regex"},
      {"/a?b.html", ""},
      {"/fOLDED", "folded exact"},
      {"/folded/", ""},
      {"/foldedPREx", "folded prefix"},
      {"/fs/y", "folded separated"},
      {"/fsx", ""},
      {"/cAsE/x", "folded regex"},
      {"", ""},
      {"*", ""},
  };
  for (const auto& c : cases) EXPECT_EQ(route_for(*table, c.path), c.route) << c.path;
  Headers no_path(Fields{{":authority", "h"}});
  EXPECT_EQ(table->match(*no_path, {}).route, nullptr);
}

TEST(RouteTable, TheFirstInOrderWinsWhateverItsKind) {
  const std::vector<RouteSpec> routes = {
      forward(Kind::kRegex, "/a/b.*", "regex"),
      forward(Kind::kPrefix, "/a", "prefix"),
      forward(Kind::kExact, "/a/b", "exact"),
      forward(Kind::kPrefix, "/a/b/c", "longer prefix"),
  };
  const auto table = route::RouteTable::compile(one_host(routes));
  EXPECT_EQ(route_for(*table, "/a/b"), "regex");
  EXPECT_EQ(route_for(*table, "/a/b/c/d"), "regex");
  EXPECT_EQ(route_for(*table, "/a/x"), "prefix");

  std::vector<RouteSpec> reversed(routes.rbegin(), routes.rend());
  const auto other = route::RouteTable::compile(one_host(reversed));
  EXPECT_EQ(route_for(*other, "/a/b"), "exact");
  EXPECT_EQ(route_for(*other, "/a/b/c/d"), "longer prefix");
  EXPECT_EQ(route_for(*other, "/a/bb"), "prefix");
}

TEST(RouteTable, EqualPatternsAreTriedInOrder) {
  std::vector<RouteSpec> routes;
  for (const char* value : {"1", "2", "3"}) {
    routes.push_back(forward(Kind::kPrefix, "/", value));
    routes.back().match.headers.push_back(
        {.name = "x", .kind = HeaderMatchSpec::Kind::kString, .string = {.value = value}});
  }
  routes.push_back(forward(Kind::kPrefix, "/", "rest"));
  routes.push_back(forward(Kind::kPrefix, "/never", "covered"));
  const auto table = route::RouteTable::compile(one_host(routes));
  EXPECT_EQ(route_for(*table, "/", {{"x", "2"}}), "2");
  EXPECT_EQ(route_for(*table, "/", {{"x", "3"}}), "3");
  EXPECT_EQ(route_for(*table, "/never", {{"x", "4"}}), "rest");
}

// More regexes under one literal prefix than are filed there: they go under their rarest required literal.
TEST(RouteTable, RegexesUnderRequiredLiterals) {
  std::vector<RouteSpec> routes;
  for (int i = 0; i < 50; ++i)
    routes.push_back(forward(Kind::kRegex, "/api/[^/]+/service" + std::to_string(i) + "/common/.*", std::to_string(i)));
  // Two literals, one of which starts with the other: "/ab/" and "/ab/cd/".
  for (const char* middle : {"/ab/", "/ab/cd/"})
    for (const char* end : {"x", "y", "z"})
      routes.push_back(
          forward(Kind::kRegex, std::string("/api/[0-9]") + middle + "[a-z]*" + end, middle + std::string(end)));
  routes.push_back(forward(Kind::kRegex, "/api/[^/]+/(?:service7|other)/last", "last"));
  const auto table = route::RouteTable::compile(one_host(routes));
  EXPECT_EQ(table->linear_routes(), 0u);
  EXPECT_EQ(route_for(*table, "/api/v1/service49/common/x"), "49");
  EXPECT_EQ(route_for(*table, "/api/v1/service4/common/service49/common/"), "4");
  EXPECT_EQ(route_for(*table, "/api/1/ab/cd/z"), "/ab/cd/z");
  EXPECT_EQ(route_for(*table, "/api/1/ab/z"), "/ab/z");
  EXPECT_EQ(route_for(*table, "/api/v1/service7/last"), "last");
  EXPECT_EQ(route_for(*table, "/api/v1/other/last"), "last");
  EXPECT_EQ(route_for(*table, "/api/v1/service4"), "");
}

TEST(RouteTable, ReportsRegexesWithoutLiteralsAsLinear) {
  const auto table = route::RouteTable::compile(one_host({
      forward(Kind::kRegex, "/[a-z]+", "linear"),
      forward(Kind::kRegex, "/fixed/[a-z]+", "filed by prefix"),
      forward(Kind::kRegex, "/.*/end", "filed by suffix"),
      forward(Kind::kRegex, "(?s).*", "linear too"),
  }));
  EXPECT_EQ(table->linear_routes(), 2u);
  EXPECT_EQ(table->route_count(), 4u);
  EXPECT_EQ(route_for(*table, "/abc"), "linear");
  EXPECT_EQ(route_for(*table, "/a/end"), "filed by suffix");
  EXPECT_EQ(route_for(*table, "/A"), "linear too");
}

TEST(RouteTable, ALongPathIsSearchedInBoundedTime) {
  std::vector<RouteSpec> routes;
  for (int i = 0; i < 20; ++i)
    routes.push_back(forward(Kind::kRegex, "/x/[^/]*/a/" + std::string(i, '.') + "[0-9]", std::to_string(i)));
  routes.push_back(forward(Kind::kPrefix, "/", "rest"));
  const auto table = route::RouteTable::compile(one_host(routes));
  std::string path = "/x/";
  while (path.size() < 60'000) path += "/a/";
  EXPECT_EQ(route_for(*table, path), "rest");
}

TEST(RouteTable, TenThousandRoutesOfEveryKind) {
  std::vector<RouteSpec> routes;
  for (int i = 0; i < 10'000; ++i) {
    const std::string n = std::to_string(i);
    switch (i % 4) {
      case 0:
        routes.push_back(forward(Kind::kExact, "/exact/" + n, n));
        break;
      case 1:
        routes.push_back(forward(Kind::kPrefix, "/prefix/" + n + "/", n));
        break;
      case 2:
        routes.push_back(forward(Kind::kSeparatedPrefix, "/separated/" + n, n));
        break;
      default:
        routes.push_back(forward(Kind::kRegex, "/regex/" + n + "/[a-z]+", n));
    }
  }
  const auto table = route::RouteTable::compile(one_host(routes));
  for (int i = 0; i < 10'000; i += 97) {
    const std::string n = std::to_string(i);
    const std::string paths[] = {"/exact/" + n, "/prefix/" + n + "/x", "/separated/" + n, "/regex/" + n + "/x"};
    EXPECT_EQ(route_for(*table, paths[i % 4]), n);
  }
}

TEST(RouteTable, WeightedClusters) {
  RouteSpec route = forward(Kind::kPrefix, "/", "");
  auto& action = std::get<ForwardSpec>(route.action);
  action.weighted = {{.name = "none", .weight = 0},
                     {.name = "a", .weight = 1},
                     {.cluster_header = "x-cluster", .weight = 2},
                     {.name = "b", .weight = 7}};
  const auto table = route::RouteTable::compile(one_host({route}));
  Headers request(Fields{{":authority", "h"}, {":path", "/"}, {"x-cluster", "named"}});
  std::string chosen;
  for (uint64_t random = 20; random < 30; ++random) {
    const route::Match match = table->match(*request, {.random = random});
    chosen += match.cluster(*request).text.front();
    EXPECT_EQ(match.cluster(*request).hash, content_hash(match.cluster(*request).text));
  }
  EXPECT_EQ(chosen, "annbbbbbbb");
  Headers without(Fields{{":authority", "h"}, {":path", "/"}});
  EXPECT_TRUE(table->match(*without, {.random = 1}).cluster(*without).empty());
}

TEST(RouteTable, ClusterFromAHeader) {
  RouteSpec route = forward(Kind::kPrefix, "/", "");
  std::get<ForwardSpec>(route.action).cluster_header = "x-cluster";
  const auto table = route::RouteTable::compile(one_host({route}));
  Headers request(Fields{{":authority", "h"}, {":path", "/"}, {"x-cluster", "c1"}});
  EXPECT_EQ(table->match(*request, {}).cluster(*request).text, "c1");
  Headers without(Fields{{":authority", "h"}, {":path", "/"}});
  EXPECT_TRUE(table->match(*without, {}).cluster(*without).empty());
}

TEST(RouteTable, RuntimeFraction) {
  std::vector<RouteSpec> routes = {forward(Kind::kPrefix, "/", "some"), forward(Kind::kPrefix, "/", "rest")};
  routes[0].match.runtime_fraction = config::FractionSpec{25, 100};
  const auto table = route::RouteTable::compile(one_host(routes));
  int some = 0;
  for (uint64_t random = 0; random < 1000; ++random)
    some += match_request(*table, "h", "/", {}, {.random = random}).route->name == "some" ? 1 : 0;
  EXPECT_EQ(some, 250);
}

TEST(RouteTable, RequireTls) {
  RouteTableSpec spec = one_host({forward(Kind::kPrefix, "/", "c")});
  spec.virtual_hosts[0].require_tls = VirtualHostSpec::Tls::kExternalOnly;
  spec.virtual_hosts[0].response_headers.add.push_back({.name = "x", .value = "y"});
  const auto table = route::RouteTable::compile(spec);
  const route::Match plain = match_request(*table, "h", "/p");
  ASSERT_NE(plain.route, nullptr);
  EXPECT_TRUE(plain.route->tls_redirect());
  EXPECT_EQ(plain.route->redirect()->status, 301);
  EXPECT_EQ(&plain.route->virtual_host(), plain.virtual_host);
  Headers response;
  plain.mutate_response(*response, {});
  EXPECT_EQ(response->size(), 0u);
  EXPECT_EQ(match_request(*table, "h", "/p", {}, {.tls = true}).route->name, "c");
  EXPECT_EQ(match_request(*table, "h", "/p", {{"x-envoy-internal", "true"}}).route->name, "c");
  spec.virtual_hosts[0].require_tls = VirtualHostSpec::Tls::kAll;
  const auto all = route::RouteTable::compile(spec);
  EXPECT_TRUE(match_request(*all, "h", "/p", {{"x-envoy-internal", "true"}}).route->tls_redirect());
}

// ---- per-filter configs and references ----

class Part : public FilterPart {
 public:
  explicit Part(std::string cluster) : cluster_(std::move(cluster)) {}
  void references(References& to) const override { to.cluster(cluster_); }

 private:
  std::string cluster_;
};

config::PerFilterConfig filter_config(uint16_t id, std::shared_ptr<const FilterPart> part, bool disabled = false) {
  config::PerFilterConfig config;
  config.filter_id = id;
  config.config.part = std::move(part);
  config.disabled = disabled;
  return config;
}

TEST(RouteTable, FilterConfigsOfEveryLevel) {
  std::vector<std::shared_ptr<const Part>> parts;
  for (const char* name : {"table", "host", "route", "weighted"}) parts.push_back(std::make_shared<Part>(name));
  RouteSpec route = forward(Kind::kPrefix, "/", "");
  route.per_filter = {filter_config(5, parts[2]), filter_config(9, nullptr, true)};
  auto& action = std::get<ForwardSpec>(route.action);
  action.weighted = {{.name = "a", .weight = 1, .per_filter = {filter_config(5, parts[3])}},
                     {.name = "b", .weight = 1}};
  RouteTableSpec spec = one_host({route, forward(Kind::kPrefix, "/", "c")});
  spec.virtual_hosts[0].routes[0].match.path.value = "/r";
  spec.per_filter = {filter_config(3, parts[0]), filter_config(5, parts[0])};
  spec.virtual_hosts[0].per_filter = {filter_config(5, parts[1]), filter_config(9, parts[1])};
  const auto table = route::RouteTable::compile(spec);

  const auto levels = [](const route::Match& match, uint16_t id) {
    std::vector<const FilterPart*> out;
    match.for_each_filter_config(id, [&](const FilterPart& part) { out.push_back(&part); });
    return out;
  };
  using Parts = std::vector<const FilterPart*>;
  const route::Match weighted = match_request(*table, "h", "/r", {}, {.random = 0});
  EXPECT_EQ(weighted.filter_config(5), parts[3].get());
  EXPECT_EQ(levels(weighted, 5), (Parts{parts[0].get(), parts[1].get(), parts[2].get(), parts[3].get()}));
  EXPECT_EQ(weighted.filter_config(3), parts[0].get());
  EXPECT_EQ(weighted.filter_disabled(9), true);
  EXPECT_EQ(weighted.filter_disabled(5), false);
  EXPECT_EQ(weighted.filter_disabled(4), std::nullopt);
  EXPECT_EQ(weighted.filter_config(4), nullptr);
  EXPECT_EQ(weighted.filter_config(2), nullptr);
  EXPECT_EQ(weighted.filter_config(10), nullptr);
  EXPECT_EQ(weighted.filter_config(65535), nullptr);

  const route::Match other = match_request(*table, "h", "/r", {}, {.random = 1});
  EXPECT_EQ(other.filter_config(5), parts[2].get());
  const route::Match plain = match_request(*table, "h", "/");
  EXPECT_EQ(levels(plain, 5), (Parts{parts[0].get(), parts[1].get()}));
  EXPECT_EQ(plain.filter_disabled(9), false);
  EXPECT_EQ(route::Match{}.filter_config(5), nullptr);
}

class Seen : public References {
 public:
  void cluster(std::string_view name) override { clusters.emplace(name); }
  void route_table(std::string_view) override {}
  void secret(std::string_view) override {}
  std::multiset<std::string> clusters;
};

TEST(RouteTable, References) {
  RouteSpec weighted = forward(Kind::kPrefix, "/", "");
  std::get<ForwardSpec>(weighted.action).weighted = {
      {.name = "w1", .weight = 1}, {.cluster_header = "x", .weight = 1}, {.name = "c1", .weight = 0}};
  weighted.per_filter = {filter_config(1, std::make_shared<Part>("from filter"))};
  RouteSpec direct = forward(Kind::kPrefix, "/", "");
  direct.action = config::DirectResponseSpec{};
  RouteSpec mirrored = forward(Kind::kExact, "/b", "c1");
  std::get<ForwardSpec>(mirrored.action).mirrors = {{.cluster = "m1", .cluster_header = {}},
                                                    {.cluster = {}, .cluster_header = "x"}};
  const auto table =
      route::RouteTable::compile(one_host({forward(Kind::kExact, "/a", "c1"), mirrored, weighted, direct}));
  Seen seen;
  table->references(seen);
  EXPECT_EQ(seen.clusters, (std::multiset<std::string>{"c1", "m1", "w1", "from filter"}));
}

TEST(RouteTable, WhatARouteSays) {
  RouteSpec route = forward(Kind::kPrefix, "/p", "c1");
  auto& action = std::get<ForwardSpec>(route.action);
  action.timeout_ms = 7;
  action.idle_timeout_ms = 8;
  action.retry = config::RetryPolicySpec{.retry_on = {"5xx"}, .num_retries = 3};
  action.include_vh_rate_limits = true;
  action.rate_limits.push_back({.stage = 2, .actions = {{.descriptor_value = "r"}}});
  RouteTableSpec spec = one_host({route});
  spec.name = "table";
  spec.internal_only_headers = {"x-secret"};
  spec.virtual_hosts[0].rate_limits.push_back({.actions = {{.descriptor_value = "v"}}});
  std::shared_ptr<const route::RouteTable> table;
  {
    const RouteTableSpec short_lived = spec;
    table = route::RouteTable::compile(short_lived);
  }
  const route::Match match = match_request(*table, "h", "/p");
  ASSERT_TRUE(match);
  EXPECT_EQ(table->name(), "table");
  EXPECT_EQ(table->internal_only_headers()[0], "x-secret");
  EXPECT_EQ(match.route->forward()->timeout_ms, 7u);
  EXPECT_EQ(match.route->forward()->idle_timeout_ms, 8u);
  EXPECT_EQ(match.route->forward()->retry->num_retries, 3u);
  EXPECT_EQ(match.route->redirect(), nullptr);
  EXPECT_EQ(match.route->direct_response(), nullptr);
  const config::RouteView* view = match.route;
  EXPECT_EQ(static_cast<const void*>(view), static_cast<const void*>(match.route));
  EXPECT_EQ(view->cluster, "c1");
  EXPECT_EQ(view->rate_limits[0].stage(), 2u);
  EXPECT_TRUE(view->include_virtual_host_rate_limits);
  EXPECT_EQ(view->virtual_host_view->rate_limits.size(), 1u);
  EXPECT_EQ(view->virtual_host_view->name, "all");
}

TEST(RouteTable, EmptyTable) {
  const auto table = route::RouteTable::compile({});
  EXPECT_EQ(match_request(*table, "h", "/").virtual_host, nullptr);
  const auto empty_host = route::RouteTable::compile(one_host({}));
  EXPECT_NE(match_request(*empty_host, "h", "/").virtual_host, nullptr);
  EXPECT_EQ(match_request(*empty_host, "h", "/").route, nullptr);
}

TEST(RouteTable, ManyThreadsMatchAtOnce) {
  std::vector<RouteSpec> routes;
  for (int i = 0; i < 30; ++i)
    routes.push_back(forward(Kind::kRegex, "/x/[a-z]+/" + std::to_string(i) + "/.*", std::to_string(i)));
  const auto table = route::RouteTable::compile(one_host(routes));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int n = 0; n < 3000; ++n) {
        const std::string want = std::to_string(n % 30);
        if (route_for(*table, "/x/ab/" + want + "/z") != want) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace outrigger::test
