// Why a request takes its route: against the table itself on random tables, and the words.
#include "route/explain.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "support/route_harness.h"
#include "support/route_samples.h"

namespace outrigger::test {
namespace {

using route::Explanation;
using route::Miss;

// Every earlier route has a reason, the chosen one has none, and the first domain's virtual host is the table's choice.
void expect_agreement(const route::RouteTable& table, const OracleRequest& request, const std::string& where) {
  Headers headers(request.headers);
  const route::MatchContext context{.random = request.random, .tls = request.tls};
  const route::Match match = table.match(*headers, context);
  const Explanation told = route::explain(table, *headers, context, SIZE_MAX);
  ASSERT_EQ(told.match.route, match.route) << where;
  ASSERT_EQ(told.match.weighted, match.weighted) << where;
  ASSERT_EQ(told.domains.empty() ? nullptr : told.domains[0].virtual_host, match.virtual_host) << where;
  ASSERT_EQ(told.no_virtual_host.empty(), match.virtual_host != nullptr) << where;
  if (match.virtual_host == nullptr || (match.route != nullptr && match.route->tls_redirect())) {
    ASSERT_TRUE(told.misses.empty()) << where;
    return;
  }
  const Header* path = headers->find(HeaderId::kPath);
  if (path == nullptr) return;
  const size_t before = match.route != nullptr ? match.route->index() : match.virtual_host->routes().size();
  ASSERT_EQ(told.misses_total, before) << where;
  ASSERT_EQ(told.misses.size(), before) << where;  // a route without a reason would be missing here
  for (size_t i = 0; i < before; ++i) {
    ASSERT_EQ(told.misses[i].route->index(), i) << where;
    ASSERT_FALSE(told.misses[i].reason.empty()) << where;
  }
  if (match.route == nullptr) return;
  ASSERT_FALSE(route::RouteExplainer::miss(*match.route, *headers, path, request.random).has_value())
      << where << " " << route::describe(*match.route);
}

TEST(ExplainRoute, AgreesWithTheTableOnRandomTables) {
  const char* given = std::getenv("OUTRIGGER_TEST_SEED");
  uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("OUTRIGGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  for (int n = 0; n < 600; ++n, ++seed) {
    std::mt19937_64 random(seed);
    RouteSamples samples([&](uint32_t below) { return static_cast<uint32_t>(random() % below); });
    const config::RouteTableSpec spec = samples.table(n % 20 == 0 ? 200 : 12);
    const auto table = route::RouteTable::compile(spec);
    for (int r = 0; r < 30; ++r) {
      const OracleRequest request = samples.request();
      expect_agreement(*table, request, "seed " + std::to_string(seed) + " " + describe(request));
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

config::RouteSpec to(const std::string& cluster, config::PathMatchSpec path) {
  config::RouteSpec route;
  route.name = cluster;
  route.match.path = std::move(path);
  config::ForwardSpec forward;
  forward.cluster = cluster;
  route.action = forward;
  return route;
}

TEST(ExplainRoute, SaysWhatEachEarlierRouteAskedFor) {
  using Path = config::PathMatchSpec;
  config::RouteTableSpec spec;
  spec.name = "t";
  config::VirtualHostSpec host;
  host.name = "shop";
  host.domains = {"*.shop.example", "*"};
  host.routes.push_back(to("other", {.kind = Path::Kind::kExact, .value = "/other"}));
  host.routes.push_back(to("folded", {.kind = Path::Kind::kSeparatedPrefix, .value = "/AB", .case_sensitive = false}));
  host.routes.push_back(to("regex", {.kind = Path::Kind::kRegex, .value = "/[0-9]+"}));
  auto canary = to("canary", {.value = "/api"});
  canary.match.headers.push_back(
      {.name = "x-env", .kind = config::HeaderMatchSpec::Kind::kString, .string = {.value = "prod"}});
  host.routes.push_back(canary);
  auto versioned = to("versioned", {.value = "/api"});
  versioned.match.query_parameters.push_back(
      {.name = "v", .string = config::StringMatchSpec{.kind = config::StringMatchSpec::Kind::kPrefix, .value = "2"}});
  host.routes.push_back(versioned);
  auto few = to("few", {.value = "/api"});
  few.match.runtime_fraction = config::FractionSpec{.numerator = 5, .denominator = 100};
  host.routes.push_back(few);
  host.routes.push_back(to("all", {.value = "/"}));
  spec.virtual_hosts.push_back(host);
  config::VirtualHostSpec rest;
  rest.name = "rest";
  rest.domains = {"www.*"};
  spec.virtual_hosts.push_back(rest);
  const auto table = route::RouteTable::compile(spec);

  Headers request({{":authority", "www.Shop.example"}, {":path", "/api/x?v=1"}, {"x-env", "dev"}});
  const Explanation told = route::explain(*table, *request, {.random = 99}, 100);
  ASSERT_NE(told.match.route, nullptr);
  EXPECT_EQ(told.match.route->name, "all");
  ASSERT_EQ(told.domains.size(), 3u);
  EXPECT_EQ(told.domains[0].domain, "*.shop.example");
  EXPECT_EQ(told.domains[0].rule, "suffix");
  EXPECT_EQ(told.domains[1].domain, "www.*");
  EXPECT_EQ(told.domains[1].virtual_host->name, "rest");
  EXPECT_EQ(told.domains[2].rule, "default");
  ASSERT_EQ(told.misses.size(), 6u);
  EXPECT_EQ(told.misses[0].reason, "wants path \"/other\"");
  EXPECT_EQ(told.misses[1].reason, "wants path separated prefix \"/AB\" in any case");
  EXPECT_EQ(told.misses[2].reason, "wants regex \"/[0-9]+\"");
  EXPECT_EQ(told.misses[3].reason, "wants header x-env to be \"prod\"; it is another");
  EXPECT_EQ(told.misses[4].reason, "wants query parameter v to start with \"2\"; it is another");
  EXPECT_EQ(told.misses[5].reason, "takes 5 of 100 requests, and this one is not among them (random number 99)");
  EXPECT_EQ(route::describe(*told.misses[3].route), "prefix \"/api\", header x-env to be \"prod\"");

  // What came close is kept when there is no room for all.
  const Explanation short_one = route::explain(*table, *request, {.random = 99}, 4);
  EXPECT_EQ(short_one.misses_total, 6u);
  ASSERT_EQ(short_one.misses.size(), 4u);
  EXPECT_EQ(short_one.misses[0].route->index(), 0u);
  EXPECT_EQ(short_one.misses[1].route->index(), 3u);
}

TEST(ExplainRoute, NamesTheDomainsThatThereAre) {
  config::RouteTableSpec spec;
  spec.name = "t";
  config::VirtualHostSpec host;
  host.name = "v";
  host.domains = {"a.example", "*.b.example", "c.*"};
  spec.virtual_hosts.push_back(host);
  const auto table = route::RouteTable::compile(spec);
  Headers request({{":authority", "x"}, {":path", "/"}});
  EXPECT_EQ(route::explain(*table, *request, {}, 9).no_virtual_host,
            "no domain matches host \"x\"; there are: a.example *.b.example c.*");
  Headers none(Fields{{":path", "/"}});
  EXPECT_EQ(route::explain(*table, *none, {}, 9).no_virtual_host, "the request has no host");
}

}  // namespace
}  // namespace outrigger::test
