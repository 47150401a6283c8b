#include "filters/api_key_auth/api_key_auth.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.pb.h"
#include "filters/api_key_auth/credentials.h"
#include "filters/api_key_auth/key_source.h"
#include "harness.h"

namespace outrigger::filters {
namespace {

namespace proto = envoy::extensions::filters::http::api_key_auth::v3;
using test::FakeStream;
using test::Harness;

// ---- Credentials ----

TEST(Credentials, FindsEachKeyAndNothingElse) {
  Credentials credentials;
  EXPECT_EQ(credentials.find("a"), nullptr);
  for (int i = 0; i < 5000; ++i)
    EXPECT_EQ(credentials.add("key-" + std::to_string(i), "client-" + std::to_string(i)), std::nullopt);
  EXPECT_EQ(credentials.size(), 5000u);
  for (int i = 0; i < 5000; ++i) {
    const std::string* client = credentials.find("key-" + std::to_string(i));
    ASSERT_NE(client, nullptr);
    EXPECT_EQ(*client, "client-" + std::to_string(i));
  }
  for (const char* other : {"", "key-", "key-5000", "key-00", "KEY-1", "key-1 "})
    EXPECT_EQ(credentials.find(other), nullptr);
}

TEST(Credentials, AKeyIsTakenOnce) {
  Credentials credentials;
  EXPECT_EQ(credentials.add("k", "first"), std::nullopt);
  EXPECT_EQ(credentials.add("other", "second"), std::nullopt);
  EXPECT_EQ(credentials.add("k", "third"), std::optional<size_t>(0));
  EXPECT_EQ(*credentials.find("k"), "first");
  EXPECT_EQ(credentials.size(), 2u);
}

// The cost of a look-up does not grow with the number of keys (100 against 100,000; generous, for a busy machine).
TEST(Credentials, LookUpCostDoesNotDependOnTheNumberOfKeys) {
  const auto fill = [](Credentials& credentials, int count) {
    for (int i = 0; i < count; ++i) credentials.add("key-" + std::to_string(i), "c");
  };
  const auto cost = [](const Credentials& credentials) {
    int64_t best = INT64_MAX;
    for (int round = 0; round < 20; ++round) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < 2000; ++i) EXPECT_EQ(credentials.find("no such key"), nullptr);
      best = std::min<int64_t>(best, (std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  Credentials few, many;
  fill(few, 100);
  fill(many, 100'000);
  EXPECT_LT(cost(many), cost(few) * 10);
}

// ---- KeySource ----

std::string find(KeySource::Kind kind, const std::string& name, FakeStream::Fields request) {
  FakeStream stream(request);
  const KeySource::Found found = KeySource(kind, name).find(stream.request_headers(), stream.arena());
  return found.ambiguous ? "<ambiguous>" : std::string(found.key);
}

TEST(KeySource, Header) {
  const auto k = KeySource::Kind::kHeader;
  EXPECT_EQ(find(k, "x-api-key", {}), "");
  EXPECT_EQ(find(k, "x-api-key", {{"x-api-key", ""}}), "");
  EXPECT_EQ(find(k, "x-api-key", {{"X-API-Key", "secret"}}), "secret");
  EXPECT_EQ(find(k, "authorization", {{"authorization", "Bearer secret"}}), "secret");
  EXPECT_EQ(find(k, "x-api-key", {{"x-api-key", "Bearer secret"}}), "secret") << "as Envoy, for any header";
  EXPECT_EQ(find(k, "authorization", {{"authorization", "Basic abc"}}), "Basic abc");
  EXPECT_EQ(find(k, "authorization", {{"authorization", "Bearer"}}), "Bearer");
  EXPECT_EQ(find(k, "x-api-key", {{"x-api-key", "a"}, {"x-api-key", "a"}}), "<ambiguous>");
  EXPECT_EQ(find(k, "authorization", {{"authorization", "a"}, {"authorization", "b"}}), "<ambiguous>");
  EXPECT_EQ(find(k, "x-api-key", {{"x-api-key", ""}, {"x-api-key", "b"}}), "<ambiguous>");
}

TEST(KeySource, Query) {
  const auto k = KeySource::Kind::kQuery;
  const struct {
    std::string_view path, key;
  } cases[] = {
      {"/", ""},
      {"/?", ""},
      {"/?api_key", ""},
      {"/?api_key=", ""},
      {"/?api_key=s", "s"},
      {"/a?x=1&api_key=s&y=2", "s"},
      {"/?api_key=s&api_key=t", "s"},
      {"/?api_key=&api_key=t", ""},
      {"/?xapi_key=s", ""},
      {"/?api_keyx=s", ""},
      {"/?API_KEY=s", ""},
      {"/?&&api_key=s&", "s"},
      {"/?api_key=a=b", "a=b"},
      {"/?api_key=a%20b%2Bc", "a b+c"},
      {"/?api_key=a+b", "a+b"},
      {"/?api%5Fkey=s", "s"},
      {"/?api%5fkey=s", "s"},
      {"/?api_key=%", "%"},
      {"/?api_key=%4", "%4"},
      {"/?api_key=%zz", "%zz"},
      {"/?api_key=%41", "A"},
      {"/?api_key=%2541", "%41"},
      {"/?x=1#?api_key=s", ""},
      {"/?api_key=s#t", "s"},
      {"/api_key=s", ""},
      {"?api_key=s?t", "s?t"},
  };
  for (const auto& c : cases) EXPECT_EQ(find(k, "api_key", {{":path", c.path}}), c.key) << c.path;
}

TEST(KeySource, Cookie) {
  const auto k = KeySource::Kind::kCookie;
  const struct {
    std::string_view cookie, key;
  } cases[] = {
      {"", ""},
      {"key", ""},
      {"key=", ""},
      {"key=s", "s"},
      {"a=1; key=s; b=2", "s"},
      {"a=1;key=s;b=2", "s"},
      {"key=s; key=t", "s"},
      {"xkey=s", ""},
      {"key =s", ""},
      {"key=\"s\"", "s"},
      {"key=\"", "\""},
      {"key=a=b", "a=b"},
      {";;; key=s", "s"},
      {"KEY=s", ""},
  };
  for (const auto& c : cases) EXPECT_EQ(find(k, "key", {{"cookie", c.cookie}}), c.key) << c.cookie;
  EXPECT_EQ(find(k, "key", {{"cookie", "a=1"}, {"cookie", "key=s"}}), "s");
}

std::string removed(KeySource::Kind kind, const std::string& name, FakeStream::Fields request,
                    const std::string& show) {
  FakeStream stream(request);
  const KeySource source(kind, name);
  source.remove(stream.request_headers());
  EXPECT_EQ(source.find(stream.request_headers(), stream.arena()).key, "") << "what is removed cannot be found";
  return stream.request(show);
}

TEST(KeySource, RemovesHeader) {
  EXPECT_EQ(removed(KeySource::Kind::kHeader, "x-api-key", {{"x-api-key", "a"}, {"x-api-key", "b"}}, "x-api-key"),
            "<absent>");
  EXPECT_EQ(removed(KeySource::Kind::kHeader, "authorization", {{"authorization", "a"}}, "authorization"), "<absent>");
}

TEST(KeySource, RemovesQuery) {
  const struct {
    std::string_view before, after;
  } cases[] = {
      {"/", "/"},
      {"/?", "/?"},
      {"/?a=1", "/?a=1"},
      {"/?api_key=s", "/"},
      {"/?api_key", "/"},
      {"/?api_key=s&a=1", "/?a=1"},
      {"/?a=1&api_key=s", "/?a=1"},
      {"/?a=%20&api%5Fkey=s&b=%41+&api_key=t", "/?a=%20&b=%41+"},
      {"/p%20q?x&api_key=s&", "/p%20q?x&"},
  };
  for (const auto& c : cases)
    EXPECT_EQ(removed(KeySource::Kind::kQuery, "api_key", {{":path", c.before}}, ":path"), c.after) << c.before;
}

TEST(KeySource, RemovesCookie) {
  const auto k = KeySource::Kind::kCookie;
  EXPECT_EQ(removed(k, "key", {{"cookie", "key=s"}}, "cookie"), "<absent>");
  EXPECT_EQ(removed(k, "key", {{"cookie", "a=1; key=s; b=2"}}, "cookie"), "a=1; b=2");
  EXPECT_EQ(removed(k, "key", {{"cookie", "a=1;b=\"2\";key=s;c"}}, "cookie"), "a=1; b=\"2\"; c");
  EXPECT_EQ(removed(k, "key", {{"cookie", "a=1"}, {"cookie", "key=s"}, {"cookie", "b=2;key=t"}}, "cookie"), "a=1; b=2");
  EXPECT_EQ(removed(k, "key", {{"cookie", "a=1"}, {"cookie", "b=2"}}, "cookie"), "a=1|b=2") << "untouched";
}

// Whatever the text: what is removed cannot be found any more, and other parameters and cookies stay, in order.
TEST(KeySource, RemovesOnRandomText) {
  std::mt19937_64 random(31);
  const auto text = [&](std::string_view alphabet) {
    std::string out;
    for (size_t length = random() % 24; length > 0; --length) out += alphabet[random() % alphabet.size()];
    return out;
  };
  const auto others = [](KeySource::Kind kind, FakeStream& stream) {
    return KeySource(kind, "b").find(stream.request_headers(), stream.arena()).key;
  };
  for (int i = 0; i < 50'000; ++i) {
    const std::string path = "/" + text("ab=&?%61#"), cookie = text("ab=; \"");
    FakeStream stream({{":path", path}, {"cookie", cookie}});
    for (const auto kind : {KeySource::Kind::kQuery, KeySource::Kind::kCookie}) {
      const KeySource source(kind, "a");
      const bool was_there = !source.find(stream.request_headers(), stream.arena()).key.empty();
      const std::string other(others(kind, stream));
      const std::string before = stream.request(":path") + "|" + stream.request("cookie");
      source.remove(stream.request_headers());
      const std::string after = stream.request(":path") + "|" + stream.request("cookie");
      ASSERT_EQ(source.find(stream.request_headers(), stream.arena()).key, "") << before;
      ASSERT_EQ(others(kind, stream), other) << before;
      ASSERT_LE(after.size(), before.size() + 16) << before;
      if (was_there) ASSERT_NE(after, before);
      source.remove(stream.request_headers());
      ASSERT_EQ(stream.request(":path") + "|" + stream.request("cookie"), after) << "once is enough";
    }
  }
}

// An arena that is full must not let a key through.
TEST(KeySource, RemovesMoreRatherThanLessWithoutMemory) {
  const std::string long_value(3000, 'v');
  const std::string path = "/p?api_key=s&x=" + long_value, cookie = "key=s; a=" + long_value;
  FakeStream stream({{":path", path}, {"cookie", cookie}}, 16 * 1024);
  while (stream.arena().try_allocate(64, 1) != nullptr) {
  }
  while (stream.arena().try_allocate(1, 1) != nullptr) {
  }
  KeySource(KeySource::Kind::kQuery, "api_key").remove(stream.request_headers());
  KeySource(KeySource::Kind::kCookie, "key").remove(stream.request_headers());
  EXPECT_EQ(stream.request(":path"), "/p");
  EXPECT_EQ(stream.request("cookie"), "<absent>");
}

// ---- the filter ----

class ApiKeyAuthTest : public ::testing::Test {
 protected:
  void configure(const std::string& text) {
    config = h.compile<proto::ApiKeyAuth>(api_key_auth_filter_type(), text);
    ASSERT_TRUE(h.faults.ok()) << h.faults.str();
  }
  void route(FakeStream& stream, const std::string& text) {
    route_part = h.compile_route<proto::ApiKeyAuthPerRoute>(api_key_auth_filter_type(), text);
    ASSERT_TRUE(h.faults.ok()) << h.faults.str();
    stream.route_configs[Harness::kFilterId] = {route_part.get()};
  }
  std::string faults_of(const std::string& text) {
    EXPECT_EQ(h.compile<proto::ApiKeyAuth>(api_key_auth_filter_type(), text), nullptr);
    return h.take_faults();
  }

  Harness h;
  std::shared_ptr<const FilterConfig> config;
  std::shared_ptr<const FilterPart> route_part;
  static constexpr const char* kTwoClients = R"(
      credentials { key: "k-one" client: "one" }
      credentials { key: "k-two" client: "two" }
      key_sources { header: "X-Api-Key" }
      key_sources { query: "api_key" }
      key_sources { cookie: "api-key" })";
};

TEST_F(ApiKeyAuthTest, AKeyLetsItsClientThrough) {
  configure(kTwoClients);
  FakeStream stream({{":path", "/"}, {"x-api-key", "k-one"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.stream_info.client_name, "one");
  EXPECT_EQ(stream.request("x-api-key"), "k-one") << "stays, unless it is to be hidden";
  stream.next({{":path", "/?api_key=k-two"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.stream_info.client_name, "two");
  stream.next({{":path", "/"}, {"cookie", "api-key=k-one"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.stream_info.client_name, "one");
  EXPECT_EQ(h.stats.value("http.ingress.api_key_auth.allowed"), 3u);
}

TEST_F(ApiKeyAuthTest, ExplainsWithoutCountingAndWithoutTheKey) {
  using Says = FilterExplanation::Verdict;
  configure(std::string(kTwoClients) + " forwarding { header: \"x-client\" hide_credentials: true }");
  route_part = h.compile_route<proto::ApiKeyAuthPerRoute>(api_key_auth_filter_type(), "allowed_clients: \"one\"");
  ASSERT_TRUE(h.faults.ok()) << h.faults.str();
  const auto explain = [&](FakeStream& stream, const FilterPart* over) {
    ExplainRequest request{
        .headers = stream.request_headers(), .info = stream.stream_info, .arena = stream.arena(), .route_config = over};
    FilterExplanation told = config->explain(request);
    EXPECT_EQ(told.reason.find("k-"), std::string::npos);
    for (const auto& [name, text] : told.facts) EXPECT_EQ(text.find("k-"), std::string::npos) << name;
    return told;
  };
  FakeStream good({{":path", "/"}, {"x-api-key", "k-one"}});
  FilterExplanation told = explain(good, route_part.get());
  EXPECT_EQ(told.verdict, Says::kPasses);
  ASSERT_EQ(told.facts.size(), 1u);
  EXPECT_EQ(told.facts[0].second, "one");
  EXPECT_EQ(good.request("x-api-key"), "<absent>") << "as later filters would see it";
  EXPECT_EQ(good.request("x-client"), "one");
  FakeStream other({{":path", "/?api_key=k-two"}});
  told = explain(other, route_part.get());
  EXPECT_EQ(told.verdict, Says::kRefuses);
  EXPECT_EQ(told.status, 403);
  EXPECT_EQ(told.reason, "client_not_allowed");
  FakeStream unknown({{":path", "/"}, {"x-api-key", "k-three"}});
  told = explain(unknown, nullptr);
  EXPECT_EQ(told.status, 401);
  EXPECT_EQ(told.reason, "unknown_api_key");
  EXPECT_TRUE(told.facts.empty());
  for (const char* counter : {"allowed", "unauthorized", "forbidden"})
    EXPECT_EQ(h.stats.value(std::string("http.ingress.api_key_auth.") + counter), 0u);
}

TEST_F(ApiKeyAuthTest, FirstSourceThatHasAKeyCounts) {
  configure(kTwoClients);
  FakeStream stream({{":path", "/?api_key=k-two"}, {"x-api-key", ""}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.stream_info.client_name, "two");
  stream.next({{":path", "/?api_key=k-two"}, {"x-api-key", "wrong"}});
  stream.run(*config);
  EXPECT_EQ(stream.replied().status, 401) << "a wrong key is not mended by a later source";
}

TEST_F(ApiKeyAuthTest, WithoutAValidKeyItIs401) {
  configure(kTwoClients);
  const struct {
    FakeStream::Fields request;
    const char* details;
  } cases[] = {
      {{{":path", "/"}}, "missing_api_key"},
      {{{":path", "/"}, {"x-api-key", ""}}, "missing_api_key"},
      {{{":path", "/"}, {"x-api-key", "k-three"}}, "unknown_api_key"},
      {{{":path", "/"}, {"x-api-key", "k-onex"}}, "unknown_api_key"},
      {{{":path", "/"}, {"x-api-key", "k-one"}, {"x-api-key", "k-one"}}, "multiple_api_keys"},
  };
  for (const auto& c : cases) {
    FakeStream stream(c.request);
    EXPECT_EQ(stream.run(*config), Verdict::kPause);
    EXPECT_EQ(stream.replied().status, 401);
    EXPECT_EQ(stream.replied().body, "Client authentication failed.");
    EXPECT_EQ(stream.replied().details, c.details);
    EXPECT_EQ(stream.stream_info.client_name, "");
  }
  EXPECT_EQ(h.stats.value("http.ingress.api_key_auth.unauthorized"), std::size(cases));
  EXPECT_EQ(h.stats.value("http.ingress.api_key_auth.allowed"), 0u);
}

TEST_F(ApiKeyAuthTest, WithoutSourcesOrCredentialsNobodyPasses) {
  configure(R"(credentials { key: "k" client: "c" })");
  FakeStream stream({{":path", "/"}, {"x-api-key", "k"}});
  stream.run(*config);
  EXPECT_EQ(stream.replied().details, "missing_key_sources");
  configure(R"(key_sources { header: "x-api-key" })");
  stream.next({{":path", "/"}, {"x-api-key", "k"}});
  stream.run(*config);
  EXPECT_EQ(stream.replied().status, 401);
  EXPECT_EQ(stream.replied().details, "missing_credentials");
}

TEST_F(ApiKeyAuthTest, ARouteAllowsSomeClients) {
  configure(kTwoClients);
  FakeStream stream({{":path", "/"}, {"x-api-key", "k-one"}});
  route(stream, R"(allowed_clients: "two" allowed_clients: "three")");
  EXPECT_EQ(stream.run(*config), Verdict::kPause);
  EXPECT_EQ(stream.replied().status, 403);
  EXPECT_EQ(stream.replied().body, "Client is forbidden.");
  EXPECT_EQ(stream.replied().details, "client_not_allowed");
  EXPECT_EQ(h.stats.value("http.ingress.api_key_auth.forbidden"), 1u);
  stream.next({{":path", "/"}, {"x-api-key", "k-two"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
}

TEST_F(ApiKeyAuthTest, ARouteReplacesWhatItGives) {
  configure(kTwoClients);
  FakeStream stream({{":path", "/"}, {"x-api-key", "k-route"}});
  route(stream, R"(credentials { key: "k-route" client: "r" })");
  EXPECT_EQ(stream.run(*config), Verdict::kContinue) << "own credentials, the filter's sources";
  EXPECT_EQ(stream.stream_info.client_name, "r");
  stream.next({{":path", "/"}, {"x-api-key", "k-one"}});
  stream.run(*config);
  EXPECT_EQ(stream.replied().status, 401) << "the filter's credentials do not hold here";

  route(stream, R"(key_sources { header: "X-Other" } forwarding { header: "x-client" })");
  stream.next({{":path", "/"}, {"x-other", "k-one"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.request("x-client"), "one");
  stream.next({{":path", "/"}, {"x-api-key", "k-one"}});
  stream.run(*config);
  EXPECT_EQ(stream.replied().details, "missing_api_key");
}

TEST_F(ApiKeyAuthTest, ForwardsTheClientsNameAndHidesItsKey) {
  configure(std::string(kTwoClients) + R"(forwarding { header: "X-Client" hide_credentials: true })");
  FakeStream stream({{":path", "/p?a=1&api_key=k-two&b"},
                     {"x-api-key", "k-one"},
                     {"x-client", "admin"},
                     {"x-client", "root"},
                     {"cookie", "s=1; api-key=k-two"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.request("x-client"), "one") << "what the client claims is replaced";
  EXPECT_EQ(stream.request("x-api-key"), "<absent>");
  EXPECT_EQ(stream.request(":path"), "/p?a=1&b") << "every source, not only the one that was used";
  EXPECT_EQ(stream.request("cookie"), "s=1");
}

TEST_F(ApiKeyAuthTest, TheKeysHeaderMayCarryTheName) {
  configure(R"(credentials { key: "k" client: "c" } key_sources { header: "authorization" }
               forwarding { header: "authorization" hide_credentials: true })");
  FakeStream stream({{":path", "/"}, {"authorization", "Bearer k"}});
  EXPECT_EQ(stream.run(*config), Verdict::kContinue);
  EXPECT_EQ(stream.request("authorization"), "c");
}

TEST_F(ApiKeyAuthTest, FaultsNameThePlaceAndNeverTheKey) {
  const std::string faults = faults_of(R"(
      credentials { key: "hush-hush" client: "a" }
      credentials { key: "" client: "b" }
      credentials { key: "hush-hush" client: "" }
      credentials { key: "hush-too" client: "a\nb" }
      key_sources { }
      key_sources { header: "a" query: "b" }
      key_sources { header: "a b" }
      key_sources { cookie: "a=b" }
      forwarding { header: "Content-Length" })");
  for (const char* want : {
           "typed_config.credentials[1].key: must not be empty",
           "typed_config.credentials[2].client: must not be empty",
           "typed_config.credentials[2].key: is the same key as that of credentials[0]",
           "typed_config.credentials[3].client: must not contain",
           "typed_config.key_sources[0]: needs exactly one",
           "typed_config.key_sources[1]: needs exactly one",
           "typed_config.key_sources[2].header: is not a header name",
           "typed_config.key_sources[3].cookie: is not a cookie name",
           "typed_config.forwarding.header: must be",
       })
    EXPECT_NE(faults.find(want), std::string::npos) << want << " in\n" << faults;
  EXPECT_EQ(faults.find("hush"), std::string::npos) << faults;
  EXPECT_EQ(std::count(faults.begin(), faults.end(), '\n'), 9);

  EXPECT_EQ(h.compile_route<proto::ApiKeyAuthPerRoute>(api_key_auth_filter_type(), R"(allowed_clients: "")"), nullptr);
  EXPECT_EQ(h.take_faults(), "per_route.allowed_clients[0]: must not be empty\n");
}

TEST_F(ApiKeyAuthTest, AnAdmittedRequestAllocatesNothing) {
  configure(std::string(kTwoClients) + R"(forwarding { header: "x-client" hide_credentials: true })");
  FakeStream stream;
  route(stream, R"(allowed_clients: "one" allowed_clients: "two")");
  const FakeStream::Fields requests[] = {
      {{":path", "/"}, {"x-api-key", "k-one"}, {"x-client", "x"}},
      {{":path", "/?a=1&api_key=k%2Dtwo&b=2"}},
      {{":path", "/"}, {"cookie", "a=1; api-key=k-two"}},
  };
  for (const FakeStream::Fields& request : requests) {
    stream.next(request);
    stream.run(*config);  // the counters' first use
    stream.next(request);
    const uint64_t before = test::heap_allocations();
    const Verdict verdict = stream.run(*config);
    EXPECT_EQ(test::heap_allocations(), before);
    EXPECT_EQ(verdict, Verdict::kContinue);
  }
}

}  // namespace
}  // namespace outrigger::filters
