// Routing cost with 10 and with 10,000 routes, the last one hit; compile time; heap bytes per route.
//
// Use:  route_bench [--benchmark_filter=...]   Each benchmark is named kind/routes; ns/op is the time of one match().
// "ratio" is that time over the same kind's with 10 routes (the budget is 1.1), "bytes/route" what the table keeps on
// the heap (the budget is 500, regex programs aside).
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "route/rewrite.h"

namespace {

using namespace outrigger;
using Kind = config::PathMatchSpec::Kind;

config::RouteSpec route_to(Kind kind, std::string path, size_t cluster) {
  config::RouteSpec route;
  route.name = "route-" + std::to_string(cluster);
  route.match.path = {kind, std::move(path), true};
  config::ForwardSpec forward;
  forward.cluster = "cluster-" + std::to_string(cluster);
  route.action = std::move(forward);
  return route;
}

struct Case {
  config::RouteTableSpec spec;
  std::string authority = "service.example.com";
  std::string path;  // hits the last route
};

std::string five_digits(size_t n) {
  char text[8];
  std::snprintf(text, sizeof(text), "%05zu", n);
  return text;
}

// One virtual host with `count` routes whose paths are made by `pattern` and hit by `path`.
Case one_host(Kind kind, size_t count, std::string (*pattern)(size_t), std::string (*path)(size_t)) {
  Case c;
  c.spec.virtual_hosts.push_back({.name = "v", .domains = {"*.example.com", "other.org"}});
  for (size_t i = 0; i < count; ++i) c.spec.virtual_hosts[0].routes.push_back(route_to(kind, pattern(i), i));
  c.path = path(count - 1);
  return c;
}

Case make_exact(size_t count) {
  const auto path = [](size_t i) { return "/api/v1/service-" + five_digits(i) + "/items"; };
  return one_host(Kind::kExact, count, path, path);
}
Case make_prefix(size_t count) {
  return one_host(
      Kind::kPrefix, count, [](size_t i) { return "/api/v1/service-" + five_digits(i) + "/"; },
      [](size_t i) { return "/api/v1/service-" + five_digits(i) + "/items/12345?page=2"; });
}
// Patterns of different lengths, a catch-all in front of none of them.
Case make_prefix_unpadded(size_t count) {
  return one_host(
      Kind::kPrefix, count, [](size_t i) { return "/api/v1/service-" + std::to_string(i) + "/"; },
      [](size_t i) { return "/api/v1/service-" + std::to_string(i) + "/items/12345?page=2"; });
}
Case make_regex(size_t count) {
  return one_host(
      Kind::kRegex, count, [](size_t i) { return "/api/v1/service-" + five_digits(i) + "/[0-9]+/.*"; },
      [](size_t i) { return "/api/v1/service-" + five_digits(i) + "/12345/details"; });
}
// All under one literal prefix; found by a required literal.
Case make_regex_literal(size_t count) {
  return one_host(
      Kind::kRegex, count, [](size_t i) { return "/api/[^/]+/service-" + five_digits(i) + "/[0-9]+/.*"; },
      [](size_t i) { return "/api/v1/service-" + five_digits(i) + "/12345/details"; });
}
Case make_mixed(size_t count) {
  Case c;
  c.spec.virtual_hosts.push_back({.name = "v", .domains = {"*"}});
  for (size_t i = 0; i < count; ++i) {
    const std::string n = five_digits(i);
    const Kind kind = i + 1 == count ? Kind::kPrefix : static_cast<Kind>(i % 4);
    const std::string path = kind == Kind::kRegex ? "/service-" + n + "/[0-9]+" : "/service-" + n;
    c.spec.virtual_hosts[0].routes.push_back(route_to(kind, path, i));
  }
  c.path = "/service-" + five_digits(count - 1) + "/x";
  return c;
}
Case make_hosts(size_t count) {
  Case c;
  for (size_t i = 0; i < count; ++i) {
    c.spec.virtual_hosts.push_back(
        {.name = "v" + std::to_string(i), .domains = {"service-" + five_digits(i) + ".example.com"}});
    c.spec.virtual_hosts.back().routes.push_back(route_to(Kind::kPrefix, "/", i));
  }
  c.authority = "service-" + five_digits(count - 1) + ".example.com";
  c.path = "/api/v1/items/12345";
  return c;
}
Case make_wildcard_hosts(size_t count) {
  Case c = make_hosts(count);
  for (auto& host : c.spec.virtual_hosts) host.domains[0] = "*." + host.domains[0];
  c.authority = "pod-7." + c.authority;
  return c;
}

using Make = Case (*)(size_t);
const std::pair<const char*, Make> kKinds[] = {
    {"exact", make_exact},
    {"prefix", make_prefix},
    {"prefix_unpadded", make_prefix_unpadded},
    {"regex", make_regex},
    {"regex_literal", make_regex_literal},
    {"mixed", make_mixed},
    {"hosts", make_hosts},
    {"wildcard_hosts", make_wildcard_hosts},
};
std::map<std::string, double> baseline_ns;  // by kind, with 10 routes

void run_match(benchmark::State& state, const char* kind, Make make) {
  const Case c = make(static_cast<size_t>(state.range(0)));
  const auto table = route::RouteTable::compile(c.spec);
  Arena arena;
  HeaderMap headers(arena);
  headers.add(":method", "GET");
  headers.add(":path", c.path);
  headers.add(":authority", c.authority);
  headers.add("user-agent", "bench");
  if (table->match(headers, {}).route != &table->virtual_hosts().back().routes().back())
    return state.SkipWithError("the last route is not hit");
  // The fastest of many short runs: on a shared machine it is the only steady figure.
  double best_ns = 1e9;
  for (auto _ : state) {
    constexpr int kRun = 2000;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRun; ++i) benchmark::DoNotOptimize(table->match(headers, {.random = 7}));
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    best_ns = std::min(best_ns, took.count() / kRun);
  }
  double& baseline = baseline_ns[kind];
  if (state.range(0) == 10) baseline = best_ns;
  state.counters["ns/op"] = best_ns;
  if (baseline > 0) state.counters["ratio"] = best_ns / baseline;
}

// Every route hit in turn, so that caches are cold as in a real table.
void run_match_spread(benchmark::State& state, const char*, Make make) {
  const auto count = static_cast<size_t>(state.range(0));
  const auto table = route::RouteTable::compile(make(count).spec);
  Arena arena(64 << 20);
  std::vector<std::unique_ptr<HeaderMap>> requests;
  for (size_t i = 0; i < count; ++i) {
    const Case c = make(i + 1 > 10 ? 1 : i + 1);
    std::string path = c.path, authority = c.authority;
    const auto patch = [&](std::string& text) {
      if (const size_t at = text.find(five_digits(0)); at != std::string::npos)
        text.replace(at, 5, five_digits(i * 7919 % count));
    };
    patch(path);
    patch(authority);
    requests.push_back(std::make_unique<HeaderMap>(arena));
    requests.back()->add(":path", path);
    requests.back()->add(":authority", authority);
  }
  size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table->match(*requests[at], {.random = 7}));
    if (++at == count) at = 0;
  }
}

void run_compile(benchmark::State& state, const char*, Make make) {
  const Case c = make(static_cast<size_t>(state.range(0)));
  const size_t before = mallinfo2().uordblks;
  std::shared_ptr<const route::RouteTable> held = route::RouteTable::compile(c.spec);  // holds the regexes
  const size_t programs_and_table = mallinfo2().uordblks - before;
  const auto second = route::RouteTable::compile(c.spec);  // shares them
  const size_t bytes = mallinfo2().uordblks - before - programs_and_table;
  for (auto _ : state) benchmark::DoNotOptimize(route::RouteTable::compile(c.spec));
  state.counters["bytes/route"] = static_cast<double>(bytes) / static_cast<double>(state.range(0));
}

}  // namespace

int main(int argc, char** argv) {
  for (const auto& [kind, make] : kKinds) {
    const std::string name = kind;
    benchmark::RegisterBenchmark(("match/" + name).c_str(), run_match, kind, make)->Arg(10)->Arg(10'000);
    if (name == "exact" || name == "prefix" || name == "hosts")
      benchmark::RegisterBenchmark(("match_spread/" + name).c_str(), run_match_spread, kind, make)
          ->Arg(10)
          ->Arg(10'000);
    benchmark::RegisterBenchmark(("compile/" + name).c_str(), run_compile, kind, make)
        ->Arg(10)
        ->Arg(10'000)
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
