#include "filters/local_ratelimit/local_ratelimit.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "config/route_view.h"
#include "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.pb.h"
#include "harness.h"

namespace outrigger::filters {
namespace {

namespace proto = envoy::extensions::filters::http::local_ratelimit::v3;
using config::RateLimitActionSpec;
using config::RateLimitSpec;
using test::FakeStream;
using test::Harness;

constexpr int64_t kSecond = 1'000'000'000;
const std::string kOn = R"(stat_prefix: "rl" filter_enabled { default_value { numerator: 100 } }
                           filter_enforced { default_value { numerator: 100 } } )";
std::string bucket(int tokens, int per_fill, int seconds) {
  return "token_bucket { max_tokens: " + std::to_string(tokens) +
         " tokens_per_fill { value: " + std::to_string(per_fill) +
         " } fill_interval { seconds: " + std::to_string(seconds) + " } } ";
}
std::string descriptor(const std::string& entries, const std::string& bucket) {
  return "descriptors { " + entries + " " + bucket + " } ";
}

// The route that a stream matched, with `rate_limits` of its own and of its virtual host.
struct TestRoute {
  std::vector<config::RateLimitPolicy> own, host;
  config::VirtualHostView host_view;
  config::RouteView view;
  TestRoute(const std::vector<RateLimitSpec>& own_specs, const std::vector<RateLimitSpec>& host_specs)
      : own(config::compile(own_specs)), host(config::compile(host_specs)) {
    host_view = {.name = "host", .rate_limits = host};
    view.virtual_host_view = &host_view;
    view.rate_limits = own;
  }
};
RateLimitSpec by_header(const std::string& header, const std::string& key) {
  return {.actions = {{.kind = RateLimitActionSpec::Kind::kRequestHeaders, .descriptor_key = key, .name = header}}};
}
RateLimitSpec generic(const std::string& key, const std::string& value, uint32_t stage = 0) {
  return {
      .stage = stage,
      .actions = {{.kind = RateLimitActionSpec::Kind::kGenericKey, .descriptor_key = key, .descriptor_value = value}}};
}

class LocalRateLimitTest : public ::testing::Test {
 protected:
  void configure(const std::string& text) {
    auto next = h.compile<proto::LocalRateLimit>(local_ratelimit_filter_type(), text);
    ASSERT_TRUE(h.faults.ok()) << h.faults.str();
    config = next;  // the old one lives until here, as in the Store
  }
  std::string faults_of(const std::string& text) {
    EXPECT_EQ(h.compile<proto::LocalRateLimit>(local_ratelimit_filter_type(), text), nullptr);
    return h.take_faults();
  }
  // How many of `tries` requests get through.
  int admitted(FakeStream& stream, int tries, FakeStream::Fields request = {{":path", "/"}}) {
    int passed = 0;
    for (int i = 0; i < tries; ++i) {
      stream.next(request);
      passed += stream.run(*config) == Verdict::kContinue ? 1 : 0;
    }
    return passed;
  }
  uint64_t count(const std::string& name) { return h.stats.value("rl.http_local_rate_limit." + name); }

  Harness h;
  std::shared_ptr<const FilterConfig> config;
};

TEST_F(LocalRateLimitTest, AdmitsTheBucketThen429) {
  configure(kOn + bucket(3, 1, 10));
  FakeStream stream;
  EXPECT_EQ(admitted(stream, 5), 3);
  EXPECT_EQ(stream.replied().status, 429);
  EXPECT_EQ(stream.replied().body, "local_rate_limited");
  EXPECT_EQ(stream.replied().details, "local_rate_limited");
  EXPECT_EQ(stream.replied().flags, static_cast<uint32_t>(ResponseFlag::kRateLimited));
  EXPECT_EQ(stream.replied().grpc_status, -1);
  EXPECT_TRUE(stream.stream_info.has(ResponseFlag::kRateLimited));
  EXPECT_EQ(stream.response("retry-after"), "10");
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "<absent>");
  EXPECT_EQ(count("enabled"), 5u);
  EXPECT_EQ(count("ok"), 3u);
  EXPECT_EQ(count("rate_limited"), 2u);
  EXPECT_EQ(count("enforced"), 2u);
  stream.now += 10 * kSecond;
  EXPECT_EQ(admitted(stream, 2), 1);
}

TEST_F(LocalRateLimitTest, ExplainsWithoutTakingATokenOrCounting) {
  using Says = FilterExplanation::Verdict;
  configure(kOn + bucket(3, 1, 10) + descriptor("entries { key: \"user\" }", bucket(2, 1, 10)));
  const TestRoute matched({by_header("x-user", "user")}, {});
  FakeStream stream;
  stream.matched_route = &matched.view;
  const auto explain = [&] {
    stream.next({{":path", "/"}, {"x-user", "alice"}});
    ExplainRequest request{.headers = stream.request_headers(),
                           .info = stream.stream_info,
                           .arena = stream.arena(),
                           .route = &matched.view,
                           .now_ns = stream.now};
    return config->explain(request);
  };
  for (int i = 0; i < 10; ++i) {
    const FilterExplanation told = explain();
    EXPECT_EQ(told.verdict, Says::kPasses);
    ASSERT_EQ(told.facts.size(), 4u);
    EXPECT_EQ(told.facts[2].first, "bucket user=*");
    EXPECT_EQ(told.facts[2].second, "2 of 2 tokens left");
    EXPECT_EQ(told.facts[3].first, "bucket default");
    EXPECT_EQ(told.facts[3].second, "3 of 3 tokens left");
  }
  EXPECT_EQ(count("enabled"), 0u);
  EXPECT_EQ(admitted(stream, 5, {{":path", "/"}, {"x-user", "alice"}}), 2);
  const FilterExplanation told = explain();
  EXPECT_EQ(told.verdict, Says::kRefuses);
  EXPECT_EQ(told.status, 429);
  EXPECT_EQ(told.facts[2].second, "0 of 2 tokens left, the next in 10001 ms");
  EXPECT_EQ(told.facts[3].second, "1 of 3 tokens left");
  EXPECT_EQ(count("enabled"), 5u);
}

TEST_F(LocalRateLimitTest, OffUnlessEnabledAndEnforced) {
  configure(R"(stat_prefix: "rl" )" + bucket(1, 1, 10));
  FakeStream stream;
  EXPECT_EQ(admitted(stream, 5), 5);
  EXPECT_EQ(count("enabled"), 0u);

  configure(R"(stat_prefix: "rl" filter_enabled { default_value { numerator: 100 } }
               request_headers_to_add_when_not_enforced { header { key: "X-Limited" value: "%REQ(:path)%" } } )" +
            bucket(1, 1, 10));
  EXPECT_EQ(admitted(stream, 1), 1);
  EXPECT_EQ(stream.request("x-limited"), "<absent>");
  EXPECT_EQ(admitted(stream, 1), 1);
  EXPECT_EQ(stream.request("x-limited"), "/");
  EXPECT_EQ(count("rate_limited"), 1u);
  EXPECT_EQ(count("enforced"), 0u);
}

TEST_F(LocalRateLimitTest, FractionsAreIndependent) {
  configure(R"(stat_prefix: "rl" filter_enabled { default_value { numerator: 500000 denominator: MILLION } }
               filter_enforced { default_value { numerator: 50 } } )" +
            bucket(1, 1, 3600));
  FakeStream stream;
  int passed = 0;
  constexpr int kTries = 20'000;
  for (int i = 0; i < kTries; ++i) {
    stream.random_value = static_cast<uint64_t>(i) * 0x2545f4914f6cdd1d;
    passed += admitted(stream, 1);
  }
  EXPECT_NEAR(count("enabled"), kTries / 2, kTries / 50);
  EXPECT_NEAR(passed, kTries * 3 / 4, kTries / 50) << "half of the half";
}

TEST_F(LocalRateLimitTest, StatusHeadersAndRetryAfter) {
  configure(kOn + bucket(1, 1, 10) + R"(status { code: ServiceUnavailable }
      response_headers_to_add { header { key: "X-Why" value: "limited %REQ(:path)%" } }
      rate_limited_as_resource_exhausted: true)");
  FakeStream stream;
  EXPECT_EQ(admitted(stream, 2, {{":path", "/p"}}), 1);
  EXPECT_EQ(stream.replied().status, 503);
  EXPECT_EQ(stream.replied().grpc_status, 8);
  EXPECT_EQ(stream.response("x-why"), "limited /p");
  EXPECT_EQ(stream.response("retry-after"), "10");

  configure(kOn + bucket(1, 1, 10) + R"(status { code: Forbidden })");
  EXPECT_EQ(admitted(stream, 1), 0);
  EXPECT_EQ(stream.replied().status, 403);
  EXPECT_EQ(stream.response("retry-after"), "<absent>");

  configure(kOn + bucket(1, 1, 10) + R"(response_headers_to_add { header { key: "Retry-After" value: "7" } })");
  EXPECT_EQ(admitted(stream, 1), 0);
  EXPECT_EQ(stream.response("retry-after"), "7");
}

TEST_F(LocalRateLimitTest, RateLimitHeaders) {
  configure(kOn + bucket(2, 1, 10) + "enable_x_ratelimit_headers: DRAFT_VERSION_03");
  FakeStream stream;
  ASSERT_EQ(admitted(stream, 1), 1);
  stream.respond({{":status", "200"}});
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "2");
  EXPECT_EQ(stream.response("x-ratelimit-remaining"), "1");
  EXPECT_EQ(stream.response("x-ratelimit-reset"), "10");
  ASSERT_EQ(admitted(stream, 2), 1);
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "2");
  EXPECT_EQ(stream.response("x-ratelimit-remaining"), "0");
  EXPECT_EQ(stream.response("x-ratelimit-reset"), "20");
  stream.now += kSecond / 2;
  ASSERT_EQ(admitted(stream, 1), 0);
  EXPECT_EQ(stream.response("x-ratelimit-reset"), "20") << "rounded up";
  EXPECT_EQ(stream.response("retry-after"), "10");
}

TEST_F(LocalRateLimitTest, WithoutABucketNothingIsLimited) {
  configure(kOn + "enable_x_ratelimit_headers: DRAFT_VERSION_03");
  FakeStream stream;
  EXPECT_EQ(admitted(stream, 50), 50);
  stream.respond({{":status", "200"}});
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "<absent>");
  EXPECT_EQ(count("ok"), 50u);
}

TEST_F(LocalRateLimitTest, StaticDescriptors) {
  configure(kOn + bucket(1000, 1, 10) + descriptor(R"(entries { key: "client" value: "a" })", bucket(2, 1, 10)) +
            descriptor(R"(entries { key: "client" value: "b" })", bucket(3, 1, 10)));
  TestRoute route({by_header("x-client", "client")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "a"}}), 2);
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "b"}}), 3);
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "c"}}), 10) << "the default bucket only";
  EXPECT_EQ(admitted(stream, 10), 10) << "no header, no descriptor";
}

TEST_F(LocalRateLimitTest, WildcardDescriptorsHaveABucketForEachValue) {
  configure(kOn + bucket(1000, 1, 10) + descriptor(R"(entries { key: "client" })", bucket(2, 1, 10)) +
            descriptor(R"(entries { key: "client" value: "vip" })", bucket(5, 1, 10)));
  TestRoute route({by_header("x-client", "client")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "a"}}), 2);
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "b"}}), 2);
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "vip"}}), 5) << "the exact one first";
  EXPECT_EQ(admitted(stream, 10, {{":path", "/"}, {"x-client", "a"}}), 0);
}

TEST_F(LocalRateLimitTest, WildcardsMayBePartOfADescriptor) {
  configure(kOn + descriptor(R"(entries { key: "plan" value: "free" } entries { key: "client" })", bucket(1, 1, 10)));
  RateLimitSpec both = by_header("x-plan", "plan");
  both.actions.push_back(by_header("x-client", "client").actions[0]);
  TestRoute route({both}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  EXPECT_EQ(admitted(stream, 3, {{"x-plan", "free"}, {"x-client", "a"}}), 1);
  EXPECT_EQ(admitted(stream, 3, {{"x-plan", "free"}, {"x-client", "b"}}), 1);
  EXPECT_EQ(admitted(stream, 3, {{"x-plan", "paid"}, {"x-client", "a"}}), 3);
  EXPECT_EQ(admitted(stream, 3, {{"x-client", "a"}}), 3);
}

TEST_F(LocalRateLimitTest, TheDefaultBucketIsChargedWithDescriptorsUnlessToldOtherwise) {
  const std::string client = descriptor(R"(entries { key: "client" })", bucket(5, 1, 10));
  TestRoute route({by_header("x-client", "client")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  configure(kOn + bucket(3, 1, 10) + client);
  EXPECT_EQ(admitted(stream, 10, {{"x-client", "a"}}), 3);
  EXPECT_EQ(admitted(stream, 10, {{"x-client", "b"}}), 0);
  EXPECT_EQ(admitted(stream, 10), 0);

  Harness other;
  config = other.compile<proto::LocalRateLimit>(
      local_ratelimit_filter_type(),
      kOn + bucket(3, 1, 10) + client + "always_consume_default_token_bucket { value: false }");
  EXPECT_EQ(admitted(stream, 10, {{"x-client", "a"}}), 5);
  EXPECT_EQ(admitted(stream, 10), 3);
  stream.next({});
  config.reset();  // before its registry
}

// A request that one bucket refuses is charged to none, and waits for the slowest.
TEST_F(LocalRateLimitTest, AllBucketsOrNone) {
  configure(kOn + bucket(100, 1, 10) + descriptor(R"(entries { key: "client" })", bucket(1, 1, 60)) +
            descriptor(R"(entries { key: "kind" value: "x" })", bucket(4, 1, 10)) +
            "enable_x_ratelimit_headers: DRAFT_VERSION_03");
  TestRoute route({by_header("x-client", "client"), generic("kind", "x")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  EXPECT_EQ(admitted(stream, 50, {{"x-client", "a"}}), 1);
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "1") << "the one that refuses";
  EXPECT_EQ(stream.response("retry-after"), "60");
  EXPECT_EQ(admitted(stream, 1, {{"x-client", "b"}}), 1);
  stream.respond({});
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "1") << "the one that has the fewest left";
  EXPECT_EQ(stream.response("x-ratelimit-remaining"), "0");
  EXPECT_EQ(admitted(stream, 10, {{"x-client", "c"}}), 1);
  EXPECT_EQ(admitted(stream, 10, {{"x-client", "d"}}), 1) << "the 49 refused ones cost kind=x nothing";
  EXPECT_EQ(admitted(stream, 10, {{"x-client", "e"}}), 0) << "four were admitted";
}

TEST_F(LocalRateLimitTest, StagesAndDisableKeys) {
  configure(kOn + "stage: 3 " + descriptor(R"(entries { key: "k" value: "v" })", bucket(1, 1, 10)));
  FakeStream stream;
  TestRoute other_stage({generic("k", "v", 0)}, {});
  stream.matched_route = &other_stage.view;
  EXPECT_EQ(admitted(stream, 5), 5);
  RateLimitSpec with_key = generic("k", "v", 3);
  with_key.disable_key = "runtime.key";
  TestRoute disabled({with_key}, {});
  stream.matched_route = &disabled.view;
  EXPECT_EQ(admitted(stream, 5), 5);
  TestRoute same_stage({generic("k", "v", 3)}, {});
  stream.matched_route = &same_stage.view;
  EXPECT_EQ(admitted(stream, 5), 1);
}

TEST_F(LocalRateLimitTest, VirtualHostLimits) {
  const std::string limits = descriptor(R"(entries { key: "r" value: "v" })", bucket(8, 1, 10)) +
                             descriptor(R"(entries { key: "h" value: "v" })", bucket(2, 1, 10));
  const struct {
    const char* option;
    bool route_has, route_includes;
    int expected;
  } cases[] = {
      {"OVERRIDE", true, false, 8}, {"OVERRIDE", false, false, 2}, {"OVERRIDE", true, true, 2},
      {"INCLUDE", true, false, 2},  {"IGNORE", true, false, 8},    {"IGNORE", false, false, 10},
  };
  for (const auto& c : cases) {
    Harness fresh;
    config = fresh.compile<proto::LocalRateLimit>(local_ratelimit_filter_type(),
                                                  kOn + limits + "vh_rate_limits: " + c.option);
    TestRoute route(c.route_has ? std::vector{generic("r", "v")} : std::vector<RateLimitSpec>{}, {generic("h", "v")});
    route.view.include_virtual_host_rate_limits = c.route_includes;
    FakeStream stream;
    stream.matched_route = &route.view;
    EXPECT_EQ(admitted(stream, 10), c.expected) << c.option << c.route_has << c.route_includes;
    stream.next({});
    config.reset();  // before its registry
  }
}

TEST_F(LocalRateLimitTest, OwnRateLimitsReplaceTheRoutes) {
  configure(kOn + descriptor(R"(entries { key: "own" value: "v" })", bucket(2, 1, 10)) +
            descriptor(R"(entries { key: "r" value: "v" })", bucket(1, 1, 10)) +
            descriptor(R"(entries { key: "source_cluster" value: "edge" })", bucket(4, 1, 10)) +
            R"(rate_limits { actions { generic_key { descriptor_key: "own" descriptor_value: "v" } } }
               rate_limits { actions { source_cluster {} } })");
  TestRoute route({generic("r", "v")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  EXPECT_EQ(admitted(stream, 5), 2);
  stream.matched_route = nullptr;
  stream.now += 1000 * kSecond;
  EXPECT_EQ(admitted(stream, 5), 2) << "even without a route";
}

TEST_F(LocalRateLimitTest, ARouteOverridesTheFilter) {
  configure(kOn + bucket(100, 1, 10));
  const auto part = h.compile_route<proto::LocalRateLimit>(
      local_ratelimit_filter_type(),
      R"(stat_prefix: "special" filter_enabled { default_value { numerator: 100 } }
         filter_enforced { default_value { numerator: 100 } } )" +
          bucket(2, 1, 10));
  FakeStream stream;
  stream.route_configs[Harness::kFilterId] = {part.get()};
  EXPECT_EQ(admitted(stream, 5), 2);
  EXPECT_EQ(h.stats.value("special.http_local_rate_limit.rate_limited"), 3u);
  EXPECT_EQ(count("enabled"), 0u);
  stream.route_configs.clear();
  EXPECT_EQ(admitted(stream, 5), 5);
}

TEST_F(LocalRateLimitTest, PerConnection) {
  configure(kOn + "local_rate_limit_per_downstream_connection: true " + bucket(2, 1, 10) +
            descriptor(R"(entries { key: "k" value: "v" })", bucket(1, 1, 10)));
  FakeStream stream;
  for (uint64_t connection : {1, 2, 3}) {
    stream.stream_info.connection_id = connection;
    EXPECT_EQ(admitted(stream, 5), 2);
  }
  TestRoute route({generic("k", "v")}, {});
  stream.matched_route = &route.view;
  for (uint64_t connection : {4, 5}) {
    stream.stream_info.connection_id = connection;
    EXPECT_EQ(admitted(stream, 5), 1);
  }
}

// Buckets outlive configs: what was used stays used, and a lower limit holds at once.
TEST_F(LocalRateLimitTest, StateSurvivesConfigChanges) {
  const auto text = [](int tokens, int seconds, const char* extra) {
    return kOn + bucket(1000, 1, 1) + descriptor(R"(entries { key: "client" })", bucket(tokens, tokens, seconds)) +
           descriptor(R"(entries { key: "client" value: "s" })", bucket(tokens, tokens, seconds)) + extra;
  };
  TestRoute route({by_header("x-client", "client")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  configure(text(10, 3600, ""));
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "a"}}), 10);
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "s"}}), 10);
  configure(text(10, 3600, "enable_x_ratelimit_headers: DRAFT_VERSION_03"));
  h.states.sweep();
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "a"}}), 0) << "a changed config is no refill";
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "s"}}), 0);
  configure(text(10, 10, ""));
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "a"}}), 0);
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "s"}}), 0);
  stream.now += 10 * kSecond;
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "a"}}), 10) << "clamped: not an hour of the old limit";
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "s"}}), 10);
  // Another place in the config has buckets of its own.
  config = h.compile<proto::LocalRateLimit>(local_ratelimit_filter_type(), text(10, 10, ""), "another/scope");
  EXPECT_EQ(admitted(stream, 20, {{"x-client", "a"}}), 10);
}

TEST_F(LocalRateLimitTest, AFloodOfClientsStaysWithinItsBuckets) {
  configure(kOn + descriptor(R"(entries { key: "client" })", bucket(2, 1, 3600)) +
            "max_dynamic_descriptors { value: 10 }");
  TestRoute route({by_header("x-client", "client")}, {});
  FakeStream stream;
  stream.matched_route = &route.view;
  EXPECT_EQ(admitted(stream, 5, {{"x-client", "victim"}}), 2);
  int passed = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::string client = "flood-" + std::to_string(i);
    passed += admitted(stream, 1, {{"x-client", client}});
  }
  EXPECT_LE(passed, 16 * 8 * 2) << "16 sets of 8 buckets";
  EXPECT_GT(count("descriptors_evicted"), 0u);
  EXPECT_EQ(admitted(stream, 5, {{"x-client", "victim"}}), 0) << "being pushed out is no refill";
}

// The design's promise: all workers together, one moment, exactly the limit.
TEST_F(LocalRateLimitTest, ExactAcrossWorkers) {
  configure(kOn + bucket(1'000'000, 1, 3600) + descriptor(R"(entries { key: "client" })", bucket(100, 100, 60)));
  std::atomic<int> passed{0};
  std::vector<std::thread> workers;
  for (uint32_t w = 0; w < 4; ++w) {
    workers.emplace_back([&, w] {
      TestRoute route({by_header("x-client", "client")}, {});
      FakeStream stream;
      stream.matched_route = &route.view;
      stream.worker = w;
      passed += admitted(stream, 2500, {{":path", "/"}, {"x-client", "the one"}});
    });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(passed.load(), 100);
  EXPECT_EQ(count("ok"), 100u);
  EXPECT_EQ(count("rate_limited"), 9900u);
}

TEST_F(LocalRateLimitTest, FaultsNameThePlace) {
  const std::string faults = faults_of(R"(
      status { code: 700 }
      token_bucket { max_tokens: 0 tokens_per_fill { value: 0 } fill_interval { nanos: 40000000 } }
      filter_enabled { runtime_key: "x" }
      stage: 11
      response_headers_to_add { header { key: "a b" value: "c" } }
      request_headers_to_add_when_not_enforced { header { key: "a" value: "%NO_SUCH%" } }
      descriptors { entries { key: "" value: "v" } token_bucket { max_tokens: 1 } }
      descriptors { token_bucket { max_tokens: 4000000000 fill_interval { seconds: 10 } } }
      descriptors { entries { key: "a" value: "v" } }
      descriptors { entries { key: "a" value: "v" } token_bucket { max_tokens: 1 fill_interval { seconds: 1 } } }
      rate_limits { stage { value: 1 } disable_key: "k" actions { generic_key { descriptor_value: "v" } } }
      max_dynamic_descriptors { value: 2000000 })");
  for (const char* want : {
           "typed_config.stat_prefix: must not be empty",
           "typed_config.status.code: must be an HTTP status",
           "typed_config.token_bucket.max_tokens: must be at least 1",
           "typed_config.token_bucket.tokens_per_fill: must be at least 1",
           "typed_config.token_bucket.fill_interval: must be at least 50 ms",
           "typed_config.filter_enabled.default_value: is required",
           "typed_config.stage: must be at most 10",
           "typed_config.response_headers_to_add[0].header.key: ",
           "typed_config.request_headers_to_add_when_not_enforced[0].header.value: ",
           "typed_config.descriptors[0].entries[0].key: must not be empty",
           "typed_config.descriptors[0].token_bucket.fill_interval: is required",
           "typed_config.descriptors[1].entries: needs at least one entry",
           "typed_config.descriptors[1].token_bucket: takes more than 146 years to fill",
           "typed_config.descriptors[2].token_bucket: is required",
           "typed_config.descriptors[3].entries: are the same as those of descriptors[2]",
           "typed_config.rate_limits[0].stage: has no meaning here",
           "typed_config.rate_limits[0].disable_key: has no meaning here",
           "typed_config.max_dynamic_descriptors: must be 1 to 1,000,000",
       })
    EXPECT_NE(faults.find(want), std::string::npos) << want << " in\n" << faults;

  EXPECT_EQ(h.compile_route<proto::LocalRateLimit>(local_ratelimit_filter_type(), kOn), nullptr);
  EXPECT_EQ(h.take_faults(), "per_route.token_bucket: is required in a per-route config\n");
}

TEST_F(LocalRateLimitTest, AStatusBelow400Is429WithAWarning) {
  configure(kOn + bucket(1, 1, 10) + "status { code: OK }");
  EXPECT_TRUE(h.faults.ok());
  ASSERT_EQ(h.faults.all().size(), 1u);
  EXPECT_TRUE(h.faults.all()[0].warning);
  FakeStream stream;
  EXPECT_EQ(admitted(stream, 2), 1);
  EXPECT_EQ(stream.replied().status, 429);
}

TEST_F(LocalRateLimitTest, AnAdmittedRequestAllocatesNothing) {
  configure(kOn + bucket(1000, 1, 10) + descriptor(R"(entries { key: "client" })", bucket(100, 1, 10)) +
            descriptor(R"(entries { key: "k" value: "v" })", bucket(100, 1, 10)) +
            "enable_x_ratelimit_headers: DRAFT_VERSION_03");
  TestRoute route({by_header("x-client", "client"), generic("k", "v")}, {generic("h", "v")});
  FakeStream stream;
  stream.matched_route = &route.view;
  const auto once = [&] {
    stream.next({{":path", "/"}, {"x-client", "a client with a name that is long"}});
    const uint64_t before = test::heap_allocations();
    EXPECT_EQ(stream.run(*config), Verdict::kContinue);
    stream.respond({{":status", "200"}});
    return test::heap_allocations() - before;
  };
  once();
  EXPECT_EQ(once(), 0u);
  EXPECT_EQ(stream.response("x-ratelimit-limit"), "100");
}

}  // namespace
}  // namespace outrigger::filters
