#include "stats/stats.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "stats/names.h"

namespace outrigger::stats {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string prometheus(const Registry& registry) {
  std::string out;
  PrometheusText text(registry);
  while (text.write(out, 1)) {
  }
  return out;
}

std::string text_name(const Sample& sample) {
  std::string out;
  append_text_name(out, sample.family, sample.labels);
  return out;
}

TEST(Stats, CountersAddUpOverShards) {
  Registry registry(2);
  Group group(registry, {{"cluster", "backend"}});
  const Counter total = group.counter("cluster.{cluster}.upstream_rq_total");
  registry.worker_shard(0).add(total);
  registry.worker_shard(1).add(total, 4);
  registry.add(total, 10);
  EXPECT_EQ(registry.value("cluster.backend.upstream_rq_total"), 15u);
  EXPECT_EQ(registry.value("cluster.backend.nothing"), 0u);
  EXPECT_EQ(registry.workers(), 2u);
}

TEST(Stats, GaugesGoUpAndDownAcrossShards) {
  Registry registry(2);
  Group group(registry, {});
  const Gauge active = group.gauge("server.connections");
  registry.worker_shard(0).inc(active);
  registry.worker_shard(0).inc(active);
  registry.worker_shard(1).dec(active);  // it moved
  EXPECT_EQ(registry.value("server.connections"), 1u);
  registry.worker_shard(0).dec(active);
  registry.worker_shard(0).dec(active);
  EXPECT_EQ(static_cast<int64_t>(registry.value("server.connections")), -1);
  const Gauge state = group.gauge("server.state");
  registry.set(state, 7);
  registry.set(state, 3);
  registry.add(state, -5);
  EXPECT_EQ(static_cast<int64_t>(registry.value("server.state")), -2);
  EXPECT_NE(prometheus(registry).find("envoy_server_state -2\n"), std::string::npos);
}

TEST(Stats, ADefaultHandleCountsNowhere) {
  Registry registry(1);
  Group group(registry, {});
  const Counter c = group.counter("a");
  registry.worker_shard(0).add(Counter{}, 5);
  registry.worker_shard(0).inc(Gauge{});
  registry.worker_shard(0).record(Histogram{}, 5);
  EXPECT_EQ(registry.value("a"), 0u);
  EXPECT_NE(c.cell, 0u);
  EXPECT_EQ(registry.size(), 1u);
}

TEST(Stats, HistogramsCountIntoTheirBuckets) {
  Registry registry(1);
  Group group(registry, {});
  const Histogram h = group.histogram("http.downstream_rq_time");
  Shard& shard = registry.worker_shard(0);
  for (const double ms : {0.0, 0.5, 0.6, 1.0, 1.5, 3'600'000.0, 3'600'001.0, -4.0, std::nan("")}) shard.record(h, ms);
  int seen = 0;
  registry.for_each([&](const Sample& s) {
    ++seen;
    EXPECT_EQ(s.kind, Kind::kHistogram);
    ASSERT_EQ(s.buckets.size(), kBuckets);
    EXPECT_EQ(s.buckets[0], 4u);  // 0, 0.5, the negative one and NaN
    EXPECT_EQ(s.buckets[1], 2u);
    EXPECT_EQ(s.buckets[2], 1u);
    EXPECT_EQ(s.buckets[kBuckets - 2], 1u);
    EXPECT_EQ(s.buckets[kBuckets - 1], 1u);
    EXPECT_EQ(s.count, 9u);
    EXPECT_DOUBLE_EQ(s.sum_ms, 7'200'004.6);
    EXPECT_TRUE(s.used());
  });
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(registry.value("http.downstream_rq_time"), 9u);
  registry.record(h, 1);
  shard.record(h, HUGE_VAL);  // does not break the sum
  EXPECT_EQ(registry.value("http.downstream_rq_time"), 11u);
}

TEST(Stats, EqualMetricsOfTwoGroupsAreOneAndGoOnCounting) {
  Registry registry(1);
  auto old_group = std::make_unique<Group>(registry, Labels{{"cluster", "a"}});
  const Counter first = old_group->counter("cluster.{cluster}.x");
  registry.worker_shard(0).add(first, 3);
  auto new_group = std::make_unique<Group>(registry, Labels{{"cluster", "a"}});
  const Counter second = new_group->counter("cluster.{cluster}.x");
  EXPECT_EQ(first.cell, second.cell);
  old_group.reset();
  registry.worker_shard(0).add(second);
  EXPECT_EQ(registry.value("cluster.a.x"), 4u);
  EXPECT_EQ(registry.size(), 1u);
  new_group.reset();
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_EQ(prometheus(registry), "");
}

TEST(Stats, CellsAreUsedAgainFromZero) {
  Registry registry(2);
  uint32_t counter_cell = 0, histogram_cell = 0;
  {
    Group group(registry, {});
    const Counter c = group.counter("old");
    const Histogram h = group.histogram("old_time");
    counter_cell = c.cell;
    histogram_cell = h.cell;
    registry.worker_shard(1).add(c, 9);
    registry.worker_shard(1).record(h, 9);
    registry.add(c, 9);
  }
  Group group(registry, {});
  const Histogram h = group.histogram("new_time");
  const Counter c = group.counter("new");
  EXPECT_EQ(c.cell, counter_cell);
  EXPECT_EQ(h.cell, histogram_cell);
  EXPECT_EQ(registry.value("new"), 0u);
  EXPECT_EQ(registry.value("new_time"), 0u);
}

TEST(Stats, TheSameMetricTwiceInAGroup) {
  Registry registry(1);
  Group group(registry, {{"cluster", "a"}});
  EXPECT_EQ(group.counter("c.{cluster}.x").cell, group.counter("c.{cluster}.x").cell);
  EXPECT_NE(group.counter("c.{cluster}.x").cell, group.counter("c.{cluster}.x", {{"cluster", "b"}}).cell);
  EXPECT_EQ(registry.size(), 2u);
}

TEST(Stats, ManyMetricsSpreadOverChunks) {
  Registry registry(1);
  Group group(registry, {});
  std::vector<Counter> counters;
  std::vector<Histogram> histograms;
  for (int i = 0; i < 600; ++i) {
    counters.push_back(group.counter("c.{n}", {{"n", std::to_string(i)}}));
    histograms.push_back(group.histogram("h.{n}", {{"n", std::to_string(i)}}));
  }
  for (int i = 0; i < 600; ++i) {
    registry.worker_shard(0).add(counters[i], i);
    registry.worker_shard(0).record(histograms[i], i);
  }
  registry.for_each([&](const Sample& s) {
    const uint64_t i = std::stoul(std::string(s.labels.block.substr(2)));  // "n", its end, the value
    if (s.kind == Kind::kCounter) {
      EXPECT_EQ(s.value, i);
    } else {
      EXPECT_EQ(s.count, 1u);
      EXPECT_DOUBLE_EQ(s.sum_ms, static_cast<double>(i));
    }
  });
}

TEST(Stats, SamplesComeSorted) {
  Registry registry(1);
  Group b(registry, {{"cluster", "b"}});
  Group a(registry, {{"cluster", "a"}});
  b.counter("z.{cluster}");
  b.counter("m.{cluster}");
  a.counter("z.{cluster}");
  a.counter("m.{cluster}");
  std::vector<std::string> names;
  registry.for_each([&](const Sample& s) { names.push_back(text_name(s)); });
  EXPECT_EQ(names, (std::vector<std::string>{"m.a", "m.b", "z.a", "z.b"}));
}

struct ThingHandles {
  explicit ThingHandles(Layout& layout) {
    often = layout.counter("thing.{thing}.often");
    time = layout.histogram("thing.{thing}.time");
    for (int c = 1; c < 3; ++c)
      classes[c] =
          layout.counter("thing.{thing}.rq_{response_code_class}xx", {{"response_code_class", std::to_string(c)}});
    layout.at(Layout::Place::kSeldom);
    seldom = layout.counter("thing.{thing}.seldom");
    layout.at(Layout::Place::kNoWorker);
    members = layout.gauge("thing.{thing}.members");
  }
  Counter often, classes[3], seldom;
  Histogram time;
  Gauge members;
};
using Thing = Block<ThingHandles>;

TEST(StatsBlocks, CountAsSingleMetricsDo) {
  Registry registry(2);
  const Thing a(registry, {{"thing", "a"}}), b(registry, {{"thing", "b"}});
  EXPECT_EQ(registry.size(), 12u);
  EXPECT_EQ(a.classes[0].cell, 0u);  // never made: the sink
  registry.worker_shard(0).add(a.often);
  registry.worker_shard(1).add(a.often, 2);
  registry.worker_shard(0).add(a.classes[2], 4);
  registry.worker_shard(1).add(b.seldom, 5);
  registry.worker_shard(0).record(b.time, 3);
  registry.set(b.members, 6);
  EXPECT_EQ(registry.value("thing.a.often"), 3u);
  EXPECT_EQ(registry.value("thing.b.often"), 0u);
  EXPECT_EQ(registry.value("thing.a.rq_2xx"), 4u);
  EXPECT_EQ(registry.value("thing.a.rq_1xx"), 0u);
  EXPECT_EQ(registry.value("thing.b.seldom"), 5u);
  EXPECT_EQ(registry.value("thing.b.time"), 1u);
  EXPECT_EQ(registry.value("thing.b.members"), 6u);
  EXPECT_NE(prometheus(registry).find("envoy_thing_rq_xx{envoy_thing=\"a\",envoy_response_code_class=\"2\"} 4\n"),
            std::string::npos);
}

TEST(StatsBlocks, EqualOnesAreOneAndCellsAreUsedAgainFromZero) {
  Registry registry(1);
  auto old_thing = std::make_unique<Thing>(registry, Labels{{"thing", "a"}});
  registry.worker_shard(0).add(old_thing->often, 3);
  registry.worker_shard(0).record(old_thing->time, 3);
  auto new_thing = std::make_unique<Thing>(registry, Labels{{"thing", "a"}});
  const uint32_t cell = new_thing->often.cell;
  EXPECT_EQ(old_thing->often.cell, cell);
  old_thing.reset();
  EXPECT_EQ(registry.value("thing.a.often"), 3u);
  new_thing.reset();
  EXPECT_EQ(registry.size(), 0u);
  const Thing other(registry, {{"thing", "b"}});
  EXPECT_EQ(other.often.cell, cell);
  EXPECT_EQ(registry.value("thing.b.often"), 0u);
  EXPECT_EQ(registry.value("thing.b.time"), 0u);
}

// So one thing in use is one chunk of a worker.
TEST(StatsBlocks, WhatIsWrittenTogetherLiesInOneChunk) {
  Registry registry(1);
  std::vector<std::unique_ptr<Thing>> things;
  for (int i = 0; i < 50; ++i)
    things.push_back(std::make_unique<Thing>(registry, Labels{{"thing", std::to_string(i)}}));
  for (const auto& thing : things) {
    EXPECT_EQ(thing->often.cell / Shard::kChunkCells, thing->classes[2].cell / Shard::kChunkCells);
    EXPECT_NE(thing->often.cell / Shard::kChunkCells, thing->seldom.cell / Shard::kChunkCells);
    EXPECT_NE(thing->often.cell / Shard::kChunkCells, thing->members.cell / Shard::kChunkCells);
    EXPECT_NE(thing->seldom.cell / Shard::kChunkCells, thing->members.cell / Shard::kChunkCells);
  }
}

// A reader that stops everywhere, while the metric that it stopped at goes and others come.
TEST(StatsBlocks, ACursorGoesOnWhereItStopped) {
  Registry registry(1);
  std::vector<std::unique_ptr<Thing>> things;
  for (int i = 0; i < 20; ++i)
    things.push_back(std::make_unique<Thing>(registry, Labels{{"thing", std::to_string(100 + i)}}));
  Group single(registry, {});
  single.counter("alone");
  single.counter("zero");
  const auto names = [&](auto order, size_t count, const std::function<void()>& between) {
    std::vector<std::string> all;
    Registry::Cursor cursor(registry, order);
    while (cursor.next(count, [&](const Sample& s) { all.push_back(text_name(s)); })) between();
    return all;
  };
  for (const auto order : {Registry::Cursor::Order::kFamily, Registry::Cursor::Order::kPrometheus}) {
    const std::vector<std::string> all = names(order, SIZE_MAX, [] {});
    EXPECT_EQ(all.size(), 122u);
    for (const size_t count : {1u, 3u, 7u, 100u}) EXPECT_EQ(names(order, count, [] {}), all);
  }
  std::vector<std::string> seen = names(Registry::Cursor::Order::kFamily, 1, [&] {
    if (things.size() > 10) things.erase(things.begin());
  });
  const std::set<std::string> distinct(seen.begin(), seen.end());
  EXPECT_EQ(distinct.size(), seen.size());
  for (int i = 110; i < 120; ++i)
    for (const char* tail : {"often", "time", "rq_1xx", "rq_2xx", "seldom", "members"})
      EXPECT_TRUE(distinct.contains("thing." + std::to_string(i) + "." + tail)) << i << tail;
  EXPECT_TRUE(distinct.contains("zero"));
}

TEST(StatsDeathTest, OurMistakesAreChecked) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Registry registry(1);
        Group group(registry, {});
        group.counter("a.{cluster}.b");  // no such label
      },
      "names_all_labels");
  EXPECT_DEATH(
      {
        Registry registry(1);
        Group group(registry, {});
        group.counter("a");
        group.gauge("a");
      },
      "kind == kind");
}

TEST(StatsNames, TextAndPrometheus) {
  const struct {
    const char* family;
    Labels labels;
    const char* text;
    const char* prometheus;
  } cases[] = {
      {"cluster.{cluster}.upstream_rq_total",
       {{"cluster", "backend"}},
       "cluster.backend.upstream_rq_total",
       "envoy_cluster_upstream_rq_total"},
      {"cluster.{cluster}.upstream_rq_{response_code}",
       {{"cluster", "b"}, {"response_code", "503"}},
       "cluster.b.upstream_rq_503",
       "envoy_cluster_upstream_rq"},
      {"cluster.{cluster}.upstream_rq_{response_code_class}xx",
       {{"cluster", "b"}, {"response_code_class", "5"}},
       "cluster.b.upstream_rq_5xx",
       "envoy_cluster_upstream_rq_xx"},
      {"http.{http}.downstream_cx_active",
       {{"http", "ingress"}},
       "http.ingress.downstream_cx_active",
       "envoy_http_downstream_cx_active"},
      {"listener.{listener}.downstream_cx_total",
       {{"listener", "127.0.0.1_80"}},
       "listener.127.0.0.1_80.downstream_cx_total",
       "envoy_listener_downstream_cx_total"},
      {"{prefix}.http_local_rate_limit.enabled",
       {{"prefix", "rl"}},
       "rl.http_local_rate_limit.enabled",
       "envoy_http_local_rate_limit_enabled"},
      {"server.state", {}, "server.state", "envoy_server_state"},
      {"a-b.c d", {}, "a-b.c d", "envoy_a_b_c_d"},
      {"server.x", {{"zone", "eu"}}, "server.x.zone.eu", "envoy_server_x"},
  };
  for (const auto& c : cases) {
    std::string text;
    append_text_name(text, c.family, {label_text(c.labels), {}});
    EXPECT_EQ(text, c.text);
    EXPECT_EQ(prometheus_name(c.family), c.prometheus);
  }
  EXPECT_EQ(prometheus_label("cluster"), "envoy_cluster_name");
  EXPECT_EQ(prometheus_label("http"), "envoy_http_conn_manager_prefix");
  EXPECT_EQ(prometheus_label("listener"), "envoy_listener_address");
  EXPECT_EQ(prometheus_label("response_code"), "envoy_response_code");
  EXPECT_EQ(prometheus_label("response_code_class"), "envoy_response_code_class");
  EXPECT_EQ(prometheus_label("worker"), "envoy_worker_id");
  EXPECT_EQ(prometheus_label("rate-limit"), "envoy_rate_limit");
}

TEST(StatsNames, LabelsMergeAndAreMadeFit) {
  EXPECT_EQ(merge_labels({{"b", "1"}, {"a", "2"}}, {{"b", "3"}}), (Labels{{"a", "2"}, {"b", "3"}}));
  EXPECT_EQ(merge_labels({{"a", "127.0.0.1:80\n\x7f\t"}}, {}), (Labels{{"a", "127.0.0.1_80___"}}));
  EXPECT_EQ(merge_labels({{"a", "käse\u20ac\U0001F600"}}, {}), (Labels{{"a", "käse\u20ac\U0001F600"}}));
  // Overlong, surrogate, beyond the last code point, truncated, stray.
  for (const char* bad : {"\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\x80", "\xFF"})
    EXPECT_EQ(merge_labels({{"a", bad}}, {}), (Labels{{"a", std::string(std::string(bad).size(), '_')}}));
}

TEST(StatsNames, PrometheusText) {
  Registry registry(1);
  Group group(registry, {{"cluster", "quo\"te\\"}});
  registry.add(group.counter("cluster.{cluster}.upstream_rq_total"), 5);
  registry.add(group.counter("cluster.{cluster}.upstream_rq_{response_code}", {{"response_code", "200"}}), 4);
  registry.add(group.counter("cluster.{cluster}.upstream_rq_{response_code}", {{"response_code", "503"}}), 1);
  registry.set(group.gauge("cluster.{cluster}.membership_total"), 2);
  const Histogram h = group.histogram("cluster.{cluster}.upstream_rq_time");
  registry.record(h, 0.7);
  registry.record(h, 20);
  const std::string c = "envoy_cluster_name=\"quo\\\"te\\\\\"";
  const std::vector<std::string> lines = lines_of(prometheus(registry));
  const std::vector<std::string> expected_start = {
      "# TYPE envoy_cluster_membership_total gauge",
      "envoy_cluster_membership_total{" + c + "} 2",
      "# TYPE envoy_cluster_upstream_rq counter",
      "envoy_cluster_upstream_rq{" + c + ",envoy_response_code=\"200\"} 4",
      "envoy_cluster_upstream_rq{" + c + ",envoy_response_code=\"503\"} 1",
      "# TYPE envoy_cluster_upstream_rq_time histogram",
      "envoy_cluster_upstream_rq_time_bucket{" + c + ",le=\"0.5\"} 0",
      "envoy_cluster_upstream_rq_time_bucket{" + c + ",le=\"1\"} 1",
  };
  ASSERT_GE(lines.size(), expected_start.size());
  EXPECT_EQ(std::vector<std::string>(lines.begin(), lines.begin() + expected_start.size()), expected_start);
  const std::vector<std::string> expected_end = {
      "envoy_cluster_upstream_rq_time_bucket{" + c + ",le=\"3600000\"} 2",
      "envoy_cluster_upstream_rq_time_bucket{" + c + ",le=\"+Inf\"} 2",
      "envoy_cluster_upstream_rq_time_sum{" + c + "} 20.7",
      "envoy_cluster_upstream_rq_time_count{" + c + "} 2",
      "# TYPE envoy_cluster_upstream_rq_total counter",
      "envoy_cluster_upstream_rq_total{" + c + "} 5",
  };
  EXPECT_EQ(std::vector<std::string>(lines.end() - expected_end.size(), lines.end()), expected_end);
}

TEST(StatsNames, PromtoolReadsIt) {
  Registry registry(2);
  Group hostile(registry, {{"cluster", "a\"b\\c\nd{e}\xff é"}});
  Group http(registry, {{"http", "ingress"}});
  registry.add(hostile.counter("cluster.{cluster}.upstream_rq_total"), 5);
  registry.add(hostile.counter("cluster.{cluster}.upstream_rq"), 5);
  registry.add(hostile.counter("cluster.{cluster}.upstream_rq_{response_code}", {{"response_code", "200"}}), 5);
  registry.record(hostile.histogram("cluster.{cluster}.upstream_rq_time"), 12.345);
  registry.add(http.counter("http.{http}.downstream_rq_{response_code_class}xx", {{"response_code_class", "2"}}), 1);
  registry.set(http.gauge("http.{http}.downstream_cx_active"), -3);
  const std::string file = testing::TempDir() + "outrigger-metrics-" + std::to_string(getpid());
  std::ofstream(file) << prometheus(registry);
  FILE* tool = popen(("promtool check metrics 2>&1 < " + file).c_str(), "r");
  ASSERT_NE(tool, nullptr);
  std::string output;
  char chunk[4096];
  while (const size_t n = fread(chunk, 1, sizeof(chunk), tool)) output.append(chunk, n);
  const int status = pclose(tool);
  std::remove(file.c_str());
  // 0: fine; 3: its opinions on names and help texts, which Envoy's metrics do not follow; anything else: cannot be
  // read, or the tool is missing (Debian's package prometheus).
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3) << WEXITSTATUS(status) << "\n" << output;
}

// Under TSan: workers write their shards while readers add up and the builder makes and drops groups.
TEST(StatsThreads, WritersReadersAndBuildersAtOnce) {
  Registry registry(2);
  auto group = std::make_unique<Group>(registry, Labels{{"cluster", "a"}});
  const Counter c = group->counter("cluster.{cluster}.x");
  const Histogram h = group->histogram("cluster.{cluster}.t");
  constexpr uint64_t kEach = 20'000;
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (uint32_t w = 0; w < 2; ++w)
    threads.emplace_back([&, w] {
      for (uint64_t i = 0; i < kEach; ++i) {
        registry.worker_shard(w).add(c);
        registry.worker_shard(w).record(h, static_cast<double>(i % 100));
      }
    });
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < kEach / 2; ++i) registry.add(c);
    });
  std::thread reader([&] {
    while (!done) prometheus(registry);
  });
  std::thread builder([&] {
    for (int i = 0; !done; ++i) {
      Group other(registry, {{"cluster", "b" + std::to_string(i % 7)}});
      registry.add(other.counter("cluster.{cluster}.x"), 1);
      other.histogram("cluster.{cluster}.t");
      Group same(registry, {{"cluster", "a"}});
      same.counter("cluster.{cluster}.x");
    }
  });
  for (auto& t : threads) t.join();
  done = true;
  reader.join();
  builder.join();
  EXPECT_EQ(registry.value("cluster.a.x"), 3 * kEach);
  EXPECT_EQ(registry.value("cluster.a.t"), 2 * kEach);
}

}  // namespace
}  // namespace outrigger::stats
