#include "filters/grpc_stats/grpc_stats.h"

#include "envoy/extensions/filters/http/grpc_stats/v3/config.pb.h"
#include "filters/grpc_stats/method_stats.h"
#include "harness.h"

namespace outrigger::filters {
namespace {

using envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
using test::FakeStream;
using test::Harness;

const std::string kMessage = std::string("\0\0\0\0\2hi", 7);

class GrpcStats : public testing::Test {
 protected:
  void compile(const std::string& text, const std::string& scope = "listener/chain/filter") {
    config_ = harness_.compile<FilterConfig>(grpc_stats_filter_type(), text, scope);
  }
  // A request with two messages, an answer with one.
  void call(std::string_view path, std::string_view status, std::string_view type = "application/grpc",
            std::string_view cluster = "backend") {
    FakeStream stream({{":path", path}, {"content-type", type}});
    Filter& filter = stream.make(*config_);
    filter.on_request_headers(stream.request_headers(), false);
    stream.stream_info.cluster = cluster;
    Buffer one(kMessage + kMessage.substr(0, 6)), two(kMessage.substr(6)), answer(kMessage);
    filter.on_request_data(one, false);
    filter.on_request_data(two, true);
    filter.on_response_headers(stream.set_response({{":status", "200"}}), false);
    filter.on_response_data(answer, false);
    if (status.empty()) return;  // it was reset
    HeaderMap trailers(stream.arena());
    trailers.add("grpc-status", status);
    filter.on_response_trailers(trailers);
  }
  uint64_t value(const std::string& name) { return harness_.stats.value("cluster.backend.grpc." + name); }

  Harness harness_;
  std::shared_ptr<const outrigger::FilterConfig> config_;
};

TEST_F(GrpcStats, OfTheClusterByDefault) {
  compile("");
  call("/p.S/M", "0");
  call("/p.S/N", "5");
  call("/p.S/N", "99");
  call("/p.S/N", "");
  call("/p.S/M", "0", "application/json");
  EXPECT_EQ(value("total"), 3u);
  EXPECT_EQ(value("success"), 1u);
  EXPECT_EQ(value("failure"), 2u);
  EXPECT_EQ(value("0"), 1u);
  EXPECT_EQ(value("5"), 1u);
  EXPECT_EQ(value("request_message_count"), 8u);
  EXPECT_EQ(value("response_message_count"), 4u);
}

TEST_F(GrpcStats, OfListedMethods) {
  compile(R"(individual_method_stats_allowlist { services { name: "p.S" method_names: "M" method_names: "L" } })");
  call("/p.S/M", "0");
  call("/p.S/M?q", "7");
  call("/p.S/N", "0");
  call("/p/S/M", "0");
  EXPECT_EQ(value("p.S.M.total"), 2u);
  EXPECT_EQ(value("p.S.M.7"), 1u);
  EXPECT_EQ(value("p.S.M.request_message_count"), 4u);
  EXPECT_EQ(value("total"), 2u);
}

TEST_F(GrpcStats, OfAllMethodsByClusterAndWithoutDots) {
  compile("stats_for_all_methods { value: true } replace_dots_in_grpc_service_name: true");
  call("/p.q.S/M", "0");
  call("/p.q.S/M", "0", "application/grpc", "other");
  call("//M", "0");
  EXPECT_EQ(value("p_q_S.M.success"), 1u);
  EXPECT_EQ(harness_.stats.value("cluster.other.grpc.p_q_S.M.success"), 1u);
  EXPECT_EQ(value("success"), 1u);
}

TEST_F(GrpcStats, TrailersOnlyAnswersAndNoCluster) {
  compile("");
  FakeStream stream({{":path", "/p.S/M"}, {"content-type", "application/grpc"}});
  Filter& filter = stream.make(*config_);
  filter.on_request_headers(stream.request_headers(), true);
  filter.on_response_headers(stream.set_response({{":status", "200"}, {"grpc-status", "14"}}), true);
  EXPECT_EQ(value("14"), 0u);
  stream.stream_info.cluster = "backend";
  filter.on_response_headers(*stream.response_headers(), true);
  EXPECT_EQ(value("14"), 1u);
}

TEST_F(GrpcStats, TheNextVersionCountsOn) {
  compile("stats_for_all_methods { value: true }");
  call("/p.S/M", "0");
  compile(R"(individual_method_stats_allowlist { services { name: "p.S" method_names: "M" } })");
  call("/p.S/M", "0");
  EXPECT_EQ(value("p.S.M.total"), 2u);
}

TEST_F(GrpcStats, NothingIsAllocatedOnceTheCountersAreThere) {
  compile("stats_for_all_methods { value: true }");
  call("/p.S/M", "0");
  FakeStream stream({{":path", "/p.S/M"}, {"content-type", "application/grpc"}});
  stream.stream_info.cluster = "backend";
  Filter& filter = stream.make(*config_);
  Buffer data(kMessage);
  const uint64_t before = test::heap_allocations();
  filter.on_request_headers(stream.request_headers(), false);
  filter.on_request_data(data, true);
  EXPECT_EQ(test::heap_allocations(), before);
}

TEST(MethodStats, ClientsCannotMakeCountersWithoutEnd) {
  stats::Registry registry(2);
  MethodStats stats(registry, false);
  for (size_t i = 0; i < MethodStats::kMaxMethods + 100; ++i) {
    const uint32_t worker = i % 2;
    const MethodCounters& c = stats.find(worker, "c", "S", "m" + std::to_string(i));
    registry.worker_shard(worker).add(c.total);
  }
  EXPECT_EQ(registry.value("cluster.c.grpc.S.m0.total"), 1u);
  EXPECT_EQ(registry.value("cluster.c.grpc.total"), 100u);
  EXPECT_EQ(&stats.find(0, "c", "S", "m1"), &stats.find(1, "c", "S", "m1"));  // known to both, although it is full
  EXPECT_EQ(&stats.find(0, "d", "S", "x"), &stats.find(1, "d", {}, {}));
}

TEST(GrpcStatsConfig, Mistakes) {
  Harness harness;
  EXPECT_EQ(harness.compile<FilterConfig>(
                grpc_stats_filter_type(),
                R"(individual_method_stats_allowlist { services { method_names: "" } services { name: "a" } })"),
            nullptr);
  const std::string faults = harness.take_faults();
  for (const char* at : {"services[0].name", "services[0].method_names[0]", "services[1].method_names"})
    EXPECT_NE(faults.find(std::string("individual_method_stats_allowlist.") + at), std::string::npos) << faults;
}

}  // namespace
}  // namespace outrigger::filters
