// Listeners with many filter chains: what a change costs the builder and the worker, and that chains which move keep
// their connections.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/sanitizers.h"

namespace outrigger::proxy {
namespace {

using config::FilterChainSpec;
using config::ListenerSpec;
using test::HttpClient;

double cpu_ms() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

FilterChainSpec chain(const std::string& name, const std::string& source) {
  FilterChainSpec spec;
  spec.name = name;
  spec.match.source_prefix_ranges = {{source, 32}};
  spec.hcm.stat_prefix = "main";
  spec.hcm.rds_name = "t";
  spec.hcm.drain_timeout_ms = 0;
  return spec;
}

struct ManyChains : testing::Test {
  ManyChains() {
    plane.accept(static_cluster("up", upstream.port()));
    routes(1);
  }
  void routes(int version) {
    config::RouteTableSpec spec = all_to("up");
    spec.request_headers.add = {{.name = "x-version", .value = std::to_string(version)}};
    plane.accept(spec);
  }
  void serve(std::vector<FilterChainSpec> chains, bool inspects = false) {
    ListenerSpec spec = listener("main", "t");
    if (inspects) spec.listener_filters = {{.kind = config::ListenerFilterSpec::Kind::kTlsInspector}};
    spec.filter_chains = std::move(chains);
    plane.update(spec);
  }
  test::FakeUpstream upstream{[](test::Exchange& e) { e.respond(200, "hello"); }};
  DataPlane plane;
};

TEST_F(ManyChains, ThoseThatMoveKeepTheirConnections) {
  const FilterChainSpec mine = chain("mine", "127.0.0.1");
  const auto other = [](int i) { return chain("other " + std::to_string(i), "10.0.0." + std::to_string(i)); };
  serve({other(1), mine, other(2)});
  HttpClient client(plane.port());
  const auto version = [&] {
    const size_t before = upstream.request_count();
    EXPECT_EQ(client.get("/").status(), 200);
    return upstream.requests().at(before).header("x-version").value_or("");
  };
  EXPECT_EQ(version(), "1");
  int now = 1;
  FilterChainSpec changed = mine;
  changed.hcm.idle_timeout_ms = 7'000;  // another part, the same identity
  for (const std::vector<FilterChainSpec>& chains :
       std::vector<std::vector<FilterChainSpec>>{{mine},
                                                 {mine, other(1)},
                                                 {other(1), other(2), other(3), mine},
                                                 {other(3), changed, other(2), other(1)},
                                                 {changed, other(3), other(1), other(4), other(2)},
                                                 {other(2), other(4), mine},
                                                 {other(2), other(4), changed, other(5)}}) {
    routes(++now);
    serve(chains);
    EXPECT_EQ(version(), std::to_string(now));
  }
  EXPECT_EQ(plane.stat("http.main.downstream_cx_total"), 1u);
  // One that takes its place is another one.
  serve({other(2), other(4), chain("another", "127.0.0.1"), other(5)});
  EXPECT_TRUE(client.wait_closed());
  EXPECT_EQ(HttpClient(plane.port()).get("/").status(), 200);
}

TEST_F(ManyChains, WhatIsInIntakeWhenTheListenerGoesGetsTheChainsThatItHadLast) {
  const FilterChainSpec mine = chain("mine", "127.0.0.1");
  serve({chain("a", "10.0.0.1"), chain("b", "10.0.0.2"), mine}, true);
  test::Socket client = test::Socket::connect(plane.port());
  const auto in_intake = [&] { return plane.stat("listener.main.downstream_pre_cx_active"); };
  ASSERT_TRUE(test::wait_until([&] { return in_intake() == 1; }));
  serve({mine}, true);
  plane.remove(config::ResourceType::kListener, "main");
  plane.publish();
  EXPECT_EQ(in_intake(), 1u);
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  EXPECT_TRUE(client.recv_to_eof().starts_with("HTTP/1.1 200 "));
}

TEST_F(ManyChains, AChangeOfTenThousandCostsWhatItChanges) {
  constexpr int kCount = 10'000;
  std::vector<FilterChainSpec> chains;
  for (int i = 0; i < kCount; ++i) {
    chains.push_back(chain("chain " + std::to_string(i), "127.0.0.1"));
    chains.back().match.source_prefix_ranges.clear();
    chains.back().match.server_names = {"host" + std::to_string(i) + ".namespace.example.com"};
  }
  plane.accept(listener("small", "t"));
  serve(chains);
  double most_compile = 0, most_adopt = 0;
  const auto measure = [&](const char* what, const std::function<void(int)>& change) {
    double compile = 1e9, adopt = 1e9;
    for (int round = 1; round <= 3; ++round) {
      const double begin = cpu_ms();
      change(round);
      const auto snapshot = plane.store().assemble();
      compile = std::min(compile, cpu_ms() - begin);
      ASSERT_NE(snapshot, nullptr);
      plane.run([&] {
        const double before = cpu_ms();
        plane.worker().adopt(snapshot);
        adopt = std::min(adopt, cpu_ms() - before);
      });
    }
    std::printf("%-24s accept and assemble %7.2f ms, adopt %6.2f ms\n", what, compile, adopt);
    most_compile = std::max(most_compile, compile);
    most_adopt = std::max(most_adopt, adopt);
  };
  const auto accept = [&] {
    ListenerSpec spec = listener("main", "t");
    spec.filter_chains = chains;
    plane.accept(spec);
  };
  measure("another listener", [&](int round) {
    ListenerSpec spec = listener("small", "t");
    spec.filter_chains[0].hcm.idle_timeout_ms = static_cast<uint64_t>(round);
    plane.accept(spec);
  });
  measure("the routes of all", [&](int round) { routes(round + 1); });
  measure("one chain", [&](int round) {
    chains[kCount / 2].hcm.idle_timeout_ms = static_cast<uint64_t>(round);
    accept();
  });
  measure("one more at the front", [&](int round) {
    chains.insert(chains.begin(), chain("new " + std::to_string(round), "10.0.0.1"));
    chains[0].match.source_ports = {static_cast<uint32_t>(round)};
    accept();
  });
  measure("all the other way round", [&](int) {
    std::reverse(chains.begin(), chains.end());
    accept();
  });
  // Generous: the square of ten thousand takes seconds.
  constexpr double kSlower = test::kInstrumented ? 20 : 1;
  EXPECT_LT(most_compile, 500 * kSlower);
  EXPECT_LT(most_adopt, 20 * kSlower);
}

}  // namespace
}  // namespace outrigger::proxy
