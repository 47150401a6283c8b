#include "net/resolver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "net/net_fixture.h"
#include "support/dns_server.h"

namespace outrigger::net {
namespace {

using Family = Resolver::Family;
using Names = std::vector<std::string>;

class ResolverTest : public NetTest {
 protected:
  ResolverTest() {
    options.servers = {*Address::parse("127.0.0.1", dns.port())};
    options.timeout_ms = 5'000;
    options.tries = 1;
  }
  Result<Resolved> resolve(Resolver& resolver, const std::string& name, Family family) {
    std::optional<Result<Resolved>> answer;
    resolver.resolve(name, family, [&](Result<Resolved> r) { answer = std::move(r); });
    EXPECT_FALSE(answer.has_value());  // never from inside
    run_until([&] { return answer.has_value(); });
    return answer ? std::move(*answer) : fail(Errc::kTimeout, "no answer");
  }
  Result<Resolved> resolve(const std::string& name, Family family) {
    Resolver resolver(loop, options);
    return resolve(resolver, name, family);
  }
  Names ips(const std::string& name, Family family) {
    Names out;
    auto result = resolve(name, family);
    if (!result) return {"error: " + result.error().detail};
    for (const Address& a : result->addresses) out.push_back(a.ip());
    std::sort(out.begin(), out.end());
    return out;
  }
  test::DnsServer dns;
  ResolverOptions options;
};

TEST_F(ResolverTest, Families) {
  dns.set("both.test", {"10.0.0.1", "10.0.0.2", "fd00::1"});
  dns.set("four.test", {"10.0.0.4"});
  dns.set("six.test", {"fd00::6"});
  EXPECT_EQ(ips("both.test", Family::kV4Only), (Names{"10.0.0.1", "10.0.0.2"}));
  EXPECT_EQ(ips("both.test", Family::kV6Only), (Names{"fd00::1"}));
  EXPECT_EQ(ips("both.test", Family::kAuto), (Names{"fd00::1"}));
  EXPECT_EQ(ips("both.test", Family::kV4Preferred), (Names{"10.0.0.1", "10.0.0.2"}));
  EXPECT_EQ(ips("both.test", Family::kAll), (Names{"10.0.0.1", "10.0.0.2", "fd00::1"}));
  EXPECT_EQ(ips("four.test", Family::kAuto), (Names{"10.0.0.4"}));
  EXPECT_EQ(ips("four.test", Family::kAll), (Names{"10.0.0.4"}));
  EXPECT_EQ(ips("six.test", Family::kV4Preferred), (Names{"fd00::6"}));
  EXPECT_EQ(resolve("six.test", Family::kV4Only).error().code, Errc::kNotFound);
  EXPECT_EQ(resolve("four.test", Family::kV6Only).error().code, Errc::kNotFound);
}

TEST_F(ResolverTest, TheTtlIsTheAnswers) {
  dns.set("backend.test", {"10.0.0.1", "10.0.0.2"}, 7);
  auto result = resolve("backend.test", Family::kV4Only);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->ttl_ms, 7000u);
  EXPECT_EQ(result->addresses[0].port(), 0);
}

TEST_F(ResolverTest, NothingIsCached) {
  Resolver resolver(loop, options);
  dns.set("backend.test", {"10.0.0.1"});
  EXPECT_EQ(resolve(resolver, "backend.test", Family::kV4Only)->addresses[0].ip(), "10.0.0.1");
  dns.set("backend.test", {"10.0.0.2"});
  EXPECT_EQ(resolve(resolver, "backend.test", Family::kV4Only)->addresses[0].ip(), "10.0.0.2");
}

TEST_F(ResolverTest, ErrorsNameTheName) {
  dns.set_silent("silent.test");
  dns.set_rcode("broken.test", 2);
  dns.set("empty.test", {});
  options.timeout_ms = 50;
  const struct {
    std::string name;
    Errc code;
  } cases[] = {
      {"nowhere.test", Errc::kNotFound},
      {"empty.test", Errc::kNotFound},
      {"silent.test", Errc::kTimeout},
      {"broken.test", Errc::kUnavailable},
      {"", Errc::kInvalidArgument},
      {std::string("a\0b", 3), Errc::kInvalidArgument},
      {std::string(300, 'a') + ".test", Errc::kInvalidArgument},
  };
  for (const auto& c : cases) {
    for (const Family family : {Family::kV4Only, Family::kAuto, Family::kAll}) {
      auto result = resolve(c.name, family);
      ASSERT_FALSE(result.has_value()) << c.name;
      EXPECT_EQ(result.error().code, c.code) << c.name << ": " << result.error().detail;
      EXPECT_NE(result.error().detail.find(c.name), std::string::npos);
      EXPECT_EQ(result.error().retryable, c.code == Errc::kTimeout || c.code == Errc::kUnavailable) << c.name;
    }
  }
}

TEST_F(ResolverTest, LiteralsAnswerThemselvesWithoutDns) {
  EXPECT_EQ(ips("192.0.2.7", Family::kAuto), (Names{"192.0.2.7"}));
  EXPECT_EQ(ips("2001:db8::7", Family::kV6Only), (Names{"2001:db8::7"}));
  EXPECT_EQ(ips("2001:db8::7", Family::kV4Preferred), (Names{"2001:db8::7"}));
  EXPECT_EQ(ips("192.0.2.7", Family::kAll), (Names{"192.0.2.7"}));
  EXPECT_EQ(resolve("192.0.2.7", Family::kV6Only).error().code, Errc::kNotFound);
  EXPECT_EQ(dns.queries(), 0u);
}

TEST_F(ResolverTest, LocalhostNeedsNoDns) {
  EXPECT_EQ(ips("localhost", Family::kV4Only), (Names{"127.0.0.1"}));
  EXPECT_EQ(ips("LOCALHOST", Family::kV4Preferred), (Names{"127.0.0.1"}));
  EXPECT_EQ(ips("a.localhost.", Family::kV4Only), (Names{"127.0.0.1"}));
  const Names all = ips("localhost", Family::kAll);
  EXPECT_TRUE(all == Names({"127.0.0.1"}) || all == Names({"127.0.0.1", "::1"}));
  const Names automatic = ips("localhost", Family::kAuto);
  EXPECT_EQ(automatic, Names({all.back()}));  // ::1 where there is IPv6
  EXPECT_EQ(resolve("localhost", Family::kV6Only).has_value(), all.size() == 2);
  EXPECT_EQ(resolve("notlocalhost", Family::kV4Only).has_value(), false);
  EXPECT_GE(dns.queries(), 1u);  // only the last one asked; search domains may make it several
}

TEST_F(ResolverTest, ManyAtOnce) {
  Resolver resolver(loop, options);
  int right = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string name = "h" + std::to_string(i) + ".test";
    const std::string ip = "10.1.0." + std::to_string(i);
    dns.set(name, {ip});
    resolver.resolve(name, Family::kV4Only, [&right, ip](Result<Resolved> r) {
      if (r && r->addresses.size() == 1 && r->addresses[0].ip() == ip) ++right;
    });
  }
  run_until([&] { return right == 200; });
}

TEST_F(ResolverTest, PendingCallbacksAreDroppedWithTheResolver) {
  dns.set_silent("silent.test");
  auto resolver = std::make_unique<Resolver>(loop, options);
  auto token = std::make_shared<int>();
  bool called = false;
  for (const char* name : {"silent.test", "127.0.0.1", "localhost"})
    resolver->resolve(name, Family::kAuto, [&called, token](Result<Resolved>) { called = true; });
  resolver.reset();
  run_ready();
  EXPECT_FALSE(called);
  EXPECT_EQ(token.use_count(), 1);
}

TEST_F(ResolverTest, ACallbackMayDestroyTheResolverOrAskAgain) {
  dns.set("backend.test", {"10.0.0.1"});
  auto resolver = std::make_unique<Resolver>(loop, options);
  resolver->resolve("backend.test", Family::kV4Only, [&](Result<Resolved>) {
    resolver->resolve("nowhere.test", Family::kAuto, [&](Result<Resolved>) { resolver.reset(); });
  });
  run_until([&] { return resolver == nullptr; });
}

TEST_F(ResolverTest, AServerThatIsNotThereIsUnavailable) {
  options.servers = {*Address::parse("127.0.0.1", test::refused_port())};
  options.timeout_ms = 200;
  auto result = resolve("backend.test", Family::kV4Only);
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().code == Errc::kUnavailable || result.error().code == Errc::kTimeout)
      << result.error().detail;
  EXPECT_TRUE(result.error().retryable);
}

TEST_F(ResolverTest, TheSecondServerIsAskedWhenTheFirstIsGone) {
  dns.set("backend.test", {"10.0.0.1"});
  options.servers.insert(options.servers.begin(), *Address::parse("127.0.0.1", test::refused_port()));
  options.timeout_ms = 100;
  EXPECT_EQ(ips("backend.test", Family::kV4Only), (Names{"10.0.0.1"}));
}

}  // namespace
}  // namespace outrigger::net
