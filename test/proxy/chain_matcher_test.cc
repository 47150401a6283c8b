#include "proxy/chain_matcher.h"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <string>

namespace outrigger::proxy {
namespace {

using config::FilterChainMatchSpec;
using config::FilterChainSpec;
using SourceType = FilterChainMatchSpec::SourceType;

// A connection to be, as values.
struct Arrival {
  std::string local = "10.0.0.1", remote = "8.8.8.8", direct = "8.8.8.8";
  uint16_t local_port = 80, remote_port = 1234;
  std::string server_name, transport = "raw_buffer";
  std::vector<std::string> protocols;
};

int match(const ChainMatcher& matcher, const Arrival& a) {
  const auto local = *net::Address::parse(a.local, a.local_port),
             remote = *net::Address::parse(a.remote, a.remote_port), direct = *net::Address::parse(a.direct, 1);
  const std::vector<std::string_view> protocols(a.protocols.begin(), a.protocols.end());
  return matcher.match({.local = local,
                        .remote = remote,
                        .direct_remote = direct,
                        .server_name = a.server_name,
                        .transport_protocol = a.transport,
                        .application_protocols = protocols});
}

// The oracle: the rule of Envoy's documentation, word by word, over a list.
class Oracle {
 public:
  Oracle(const std::vector<FilterChainSpec>& chains, const Arrival& arrival) : chains_(chains), a_(arrival) {
    for (size_t i = 0; i < chains.size(); ++i) left_.push_back(i);
  }
  int chosen() {
    keep([&](const auto& m) { return m.destination_port == 0 ? 0 : m.destination_port == a_.local_port ? 1 : -1; });
    keep([&](const auto& m) { return network(m.prefix_ranges, a_.local); });
    keep([&](const auto& m) { return name(m.server_names); });
    keep([&](const auto& m) {
      return m.transport_protocol.empty() ? 0 : m.transport_protocol == a_.transport ? 1 : -1;
    });
    keep([&](const auto& m) { return protocol(m.application_protocols); });
    keep([&](const auto& m) { return network(m.direct_source_prefix_ranges, a_.direct); });
    const bool near = a_.remote.starts_with("127.") || a_.remote == "::1" || a_.remote == a_.local;
    keep([&](const auto& m) {
      return m.source_type == SourceType::kAny ? 0 : (m.source_type == SourceType::kSameIpOrLoopback) == near ? 1 : -1;
    });
    keep([&](const auto& m) { return network(m.source_prefix_ranges, a_.remote); });
    keep([&](const auto& m) {
      return m.source_ports.empty()                                                                   ? 0
             : std::count(m.source_ports.begin(), m.source_ports.end(), uint32_t{a_.remote_port}) > 0 ? 1
                                                                                                      : -1;
    });
    return left_.empty() ? -1 : static_cast<int>(left_[0]);
  }

 private:
  template <class Rank>
  void keep(Rank rank) {
    std::map<int, std::vector<size_t>> by_rank;
    for (const size_t i : left_) by_rank[rank(chains_[i].match)].push_back(i);
    by_rank.erase(-1);
    left_ = by_rank.empty() ? std::vector<size_t>() : by_rank.rbegin()->second;
  }
  static int network(const std::vector<config::CidrSpec>& ranges, const std::string& ip) {
    int best = ranges.empty() ? 0 : -1;
    for (const auto& range : ranges)
      if (net::Address::parse(ip, 0)->in_prefix(*net::Address::parse(range.prefix, 0), range.length))
        best = std::max(best, 1 + range.length);
    return best;
  }
  int name(const std::vector<std::string>& names) const {
    int best = names.empty() ? 0 : -1;
    for (const std::string& one : names) {
      if (one == a_.server_name) best = 10'000;
      if (one[0] == '*' && a_.server_name.ends_with(one.substr(1))) best = std::max(best, static_cast<int>(one.size()));
    }
    return best;
  }
  int protocol(const std::vector<std::string>& ours) const {
    if (ours.empty()) return 0;
    for (size_t i = 0; i < a_.protocols.size(); ++i)
      if (std::count(ours.begin(), ours.end(), a_.protocols[i]) > 0) return 100 - static_cast<int>(i);
    return -1;
  }
  const std::vector<FilterChainSpec>& chains_;
  const Arrival& a_;
  std::vector<size_t> left_;
};

FilterChainSpec with(const std::function<void(FilterChainMatchSpec&)>& set) {
  FilterChainSpec chain;
  set(chain.match);
  return chain;
}

TEST(ChainMatcher, DestinationPortComesFirstAndDoesNotLookBack) {
  const ChainMatcher matcher({with([](auto& m) {
                                m.prefix_ranges = {{"10.0.0.0", 8}};
                              }),
                              with([](auto& m) {
                                m.destination_port = 80;
                                m.source_prefix_ranges = {{"192.168.0.0", 16}};
                              })});
  EXPECT_EQ(match(matcher, {.remote = "192.168.1.1"}), 1);
  EXPECT_EQ(match(matcher, {.remote = "172.16.0.1"}), -1);
  EXPECT_EQ(match(matcher, {.remote = "172.16.0.1", .local_port = 81}), 0);
}

TEST(ChainMatcher, LongestDestinationPrefix) {
  const ChainMatcher matcher({with([](auto&) {}), with([](auto& m) {
                                m.prefix_ranges = {{"10.0.0.0", 8}};
                              }),
                              with([](auto& m) {
                                m.prefix_ranges = {{"10.1.0.0", 16}, {"fd00::", 8}};
                              })});
  for (const auto& [local, index] :
       std::map<std::string, int>{{"10.1.2.3", 2}, {"10.2.2.3", 1}, {"11.2.2.3", 0}, {"fd00::1", 2}})
    EXPECT_EQ(match(matcher, {.local = local}), index) << local;
}

TEST(ChainMatcher, SourceTypeThenPrefixThenPort) {
  const ChainMatcher matcher({with([](auto&) {}), with([](auto& m) { m.source_type = SourceType::kSameIpOrLoopback; }),
                              with([](auto& m) {
                                m.source_type = SourceType::kExternal;
                                m.source_prefix_ranges = {{"8.0.0.0", 8}};
                              }),
                              with([](auto& m) {
                                m.source_type = SourceType::kExternal;
                                m.source_prefix_ranges = {{"8.0.0.0", 8}};
                                m.source_ports = {7, 8};
                              })});
  EXPECT_EQ(match(matcher, {.remote = "127.0.0.1"}), 1);
  EXPECT_EQ(match(matcher, {.remote = "10.0.0.1"}), 1);
  EXPECT_EQ(match(matcher, {.remote = "8.8.8.8"}), 2);
  EXPECT_EQ(match(matcher, {.remote = "8.8.8.8", .remote_port = 8}), 3);
  EXPECT_EQ(match(matcher, {.remote = "9.9.9.9"}), -1) << "a chain for external sources hides the one for any";
}

TEST(ChainMatcher, DirectSourcePrefixComesBeforeSourceType) {
  const ChainMatcher matcher({with([](auto& m) { m.source_type = SourceType::kExternal; }), with([](auto& m) {
                                m.direct_source_prefix_ranges = {{"8.0.0.0", 8}};
                              })});
  EXPECT_EQ(match(matcher, {}), 1);
  EXPECT_EQ(match(matcher, {.remote = "9.9.9.9", .direct = "9.9.9.9"}), 0);
}

TEST(ChainMatcher, UnixSocketsMatchWhatAsksForNoAddress) {
  const auto path = *net::Address::unix_path("@x");
  const ConnectionFacts facts{.local = path, .remote = path, .direct_remote = path};
  EXPECT_EQ(ChainMatcher({with([](auto& m) { m.prefix_ranges = {{"0.0.0.0", 0}}; })}).match(facts), -1);
  EXPECT_EQ(ChainMatcher({with([](auto&) {})}).match(facts), 0);
}

TEST(ChainMatcher, ServerNamesExactThenTheLongestWildcardThenNone) {
  const ChainMatcher matcher({with([](auto& m) { m.server_names = {"*.example.com"}; }), with([](auto& m) {
                                m.server_names = {"a.b.example.com", "other.org"};
                              }),
                              with([](auto& m) { m.server_names = {"*.b.example.com"}; }), with([](auto&) {}),
                              with([](auto& m) { m.server_names = {"example.com"}; }),
                              with([](auto& m) { m.server_names = {"nothing.net"}; })});
  for (const auto& [name, index] : std::map<std::string, int>{{"x.example.com", 0},
                                                              {"x.y.example.com", 0},
                                                              {"a.b.example.com", 1},
                                                              {"other.org", 1},
                                                              {"b.b.example.com", 2},
                                                              {"example.com", 4},
                                                              {"badexample.com", 3},
                                                              {"", 3}})
    EXPECT_EQ(match(matcher, {.server_name = name}), index) << name;
}

TEST(ChainMatcher, TransportThenTheClientsFirstProtocolThatAChainHas) {
  const ChainMatcher matcher({with([](auto& m) { m.transport_protocol = "tls"; }), with([](auto& m) {
                                m.transport_protocol = "tls";
                                m.application_protocols = {"http/1.1"};
                              }),
                              with([](auto& m) {
                                m.transport_protocol = "tls";
                                m.application_protocols = {"h2", "h3"};
                              }),
                              with([](auto& m) { m.transport_protocol = "raw_buffer"; }),
                              with([](auto& m) { m.application_protocols = {"h2c"}; })});
  EXPECT_EQ(match(matcher, {.transport = "tls", .protocols = {"x", "h2", "http/1.1"}}), 2);
  EXPECT_EQ(match(matcher, {.transport = "tls", .protocols = {"http/1.1", "h2"}}), 1);
  EXPECT_EQ(match(matcher, {.transport = "tls", .protocols = {"h2c"}}), 0) << "the transport comes first";
  EXPECT_EQ(match(matcher, {.protocols = {"h2c"}}), 3);
}

TEST(ChainMatcher, WhatTheSocketsPeerIsAndWhatAHeaderTold) {
  const ChainMatcher matcher({with([](auto& m) {
                                m.direct_source_prefix_ranges = {{"192.168.0.0", 16}};
                              }),
                              with([](auto& m) {
                                m.source_prefix_ranges = {{"9.0.0.0", 8}};
                              })});
  EXPECT_EQ(match(matcher, {.remote = "9.1.1.1", .direct = "192.168.3.4"}), 0);
  EXPECT_EQ(match(matcher, {.remote = "9.1.1.1", .direct = "9.1.1.1"}), 1);
  EXPECT_EQ(match(matcher, {.remote = "1.1.1.1", .direct = "9.1.1.1"}), -1);
}

TEST(ChainMatcher, NoChainMatchesNothing) { EXPECT_EQ(match(ChainMatcher({}), {}), -1); }

TEST(ChainMatcher, AgreesWithTheOracle) {
  std::mt19937 random(7);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  const auto some = [&](const std::vector<std::string>& from) {
    std::vector<std::string> out;
    for (const std::string& one : from)
      if (below(4) == 0) out.push_back(one);
    return out;
  };
  const std::vector<std::string> names = {"a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com"},
                                 protocols = {"h2", "http/1.1", "x"},
                                 ips = {"10.0.0.1", "10.1.0.1", "127.0.0.1", "8.8.8.8", "fd00::1", "::1"};
  const std::vector<config::CidrSpec> networks = {{"10.0.0.0", 8}, {"10.0.0.0", 16}, {"10.1.0.0", 16},
                                                  {"0.0.0.0", 0},  {"127.0.0.0", 8}, {"fd00::", 8},
                                                  {"::", 0},       {"10.0.0.1", 32}};
  const auto ranges = [&] {
    std::vector<config::CidrSpec> out;
    while (below(3) == 0) out.push_back(networks[below(networks.size())]);
    return out;
  };
  int matched = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<FilterChainSpec> chains(below(40));
    for (FilterChainSpec& chain : chains) {
      FilterChainMatchSpec& m = chain.match;
      m.destination_port = below(2) * 80;
      m.prefix_ranges = ranges();
      if (below(2) == 0) m.server_names = some(names);
      if (below(3) == 0) m.transport_protocol = below(2) == 0 ? "tls" : "raw_buffer";
      if (below(3) == 0) m.application_protocols = some(protocols);
      m.direct_source_prefix_ranges = ranges();
      m.source_type = static_cast<SourceType>(below(3));
      m.source_prefix_ranges = ranges();
      if (below(4) == 0) m.source_ports = {below(2), 1};
    }
    const ChainMatcher matcher(chains);
    for (int n = 0; n < 60; ++n) {
      const Arrival arrival{
          .local = ips[below(6)],
          .remote = ips[below(6)],
          .direct = ips[below(6)],
          .local_port = static_cast<uint16_t>(80 + below(2)),
          .remote_port = static_cast<uint16_t>(below(3)),
          .server_name = std::vector<std::string>{"", "a.com", "b.a.com", "c.b.a.com", "z.org"}[below(5)],
          .transport = below(2) == 0 ? "tls" : "raw_buffer",
          .protocols = some(protocols)};
      const int expected = Oracle(chains, arrival).chosen();
      ASSERT_EQ(match(matcher, arrival), expected) << "round " << round << ", connection " << n;
      matched += expected >= 0 ? 1 : 0;
    }
  }
  EXPECT_GT(matched, 3'000);
}

int64_t cpu_ns() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

TEST(ChainMatcher, TheCostDoesNotGrowWithTheNumberOfChains) {
  const auto cost = [](uint32_t count) {
    std::vector<FilterChainSpec> chains(count);
    for (uint32_t i = 0; i < count; ++i) {
      chains[i].match.server_names = {"host" + std::to_string(i) + ".example.com"};
      chains[i].match.prefix_ranges = {{"10." + std::to_string(i % 7) + ".0.0", 16}};
      chains[i].match.transport_protocol = "tls";
    }
    const ChainMatcher matcher(chains);
    int64_t best = INT64_MAX;
    for (int round = 0; round < 5; ++round) {
      const int64_t before = cpu_ns();
      for (uint32_t n = 0; n < 2'000; ++n) {
        const uint32_t i = n * 7 % count;
        const Arrival arrival{.local = "10." + std::to_string(i % 7) + ".0.1",
                              .server_name = "host" + std::to_string(i) + ".example.com",
                              .transport = "tls"};
        EXPECT_EQ(match(matcher, arrival), static_cast<int>(i));
      }
      best = std::min(best, cpu_ns() - before);
    }
    return best;
  };
  EXPECT_LT(cost(10'000), 5 * cost(10));
}

}  // namespace
}  // namespace outrigger::proxy
