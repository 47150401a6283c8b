// Which hosts a metadata_match means: the examples of the rule, an oracle that looks at every host, and what an
// endpoint costs.
#include "upstream/subsets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "support/count_allocations.h"
#include "upstream/cluster.h"

namespace outrigger::upstream {
namespace {

using config::MetadataMatch;
using config::SubsetSpec;
using Fallback = SubsetSpec::Fallback;
using SelectorFallback = SubsetSpec::Selector::Fallback;
using Values = std::map<std::string, MetadataValue>;
using Way = Subsets::Way;

MetadataValue text(const char* value) { return {std::string(value)}; }

MetadataValue::Struct fields(const Values& values) {
  MetadataValue::Struct out;
  for (const auto& [key, value] : values) out.push_back({key, value});
  return out;
}

config::EndpointSpec host(uint16_t port, const Values& values) {
  config::EndpointSpec spec;
  spec.address = {.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = port};
  if (!values.empty()) spec.metadata = Metadata{{{std::string(config::kLbNamespace), {fields(values)}}}};
  return spec;
}

std::shared_ptr<const HostSet> divided(const std::vector<Values>& hosts, const SubsetSpec& spec) {
  std::vector<config::EndpointSpec> endpoints;
  for (const Values& values : hosts) endpoints.push_back(host(static_cast<uint16_t>(endpoints.size() + 1), values));
  return HostSet::compile(endpoints, nullptr, {.subsets = spec});
}

// Which of the hosts, by their place, and how they were found.
struct Answer {
  Way way;
  std::vector<size_t> hosts;
  bool operator==(const Answer&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  out << static_cast<int>(answer.way) << ":";
  for (const size_t at : answer.hosts) out << ' ' << at;
  return out;
}

Answer ask(const HostSet& set, const MetadataMatch* match) {
  const Subsets::Choice choice = set.subsets()->choose(match);
  Answer answer{choice.way, {}};
  if (choice.subset == Subsets::kNone) return answer;
  for (const HostEntry& entry : set.subsets()->at(choice.subset).entries)
    answer.hosts.push_back(entry.host->address.port() - 1u);
  return answer;
}
Answer ask(const HostSet& set, const Values& values) {
  const MetadataMatch match = MetadataMatch::of(fields(values));
  return ask(set, &match);
}

TEST(Subsets, TheExamplesOfTheRule) {
  // As Envoy's documentation of load balancer subsets has them.
  const std::vector<Values> hosts = {{{"v", text("1.0")}, {"stage", text("prod")}},
                                     {{"v", text("1.0")}, {"stage", text("prod")}},
                                     {{"v", text("1.1")}, {"stage", text("canary")}},
                                     {{"v", text("1.2-pre")}, {"stage", text("dev")}}};
  const SubsetSpec spec{
      .fallback = Fallback::kDefault,
      .default_subset = fields({{"stage", text("prod")}}),
      .selectors = {{.keys = {"stage", "v"}}, {.keys = {"stage"}, .fallback = SelectorFallback::kNone}}};
  const auto set = divided(hosts, spec);
  EXPECT_EQ(ask(*set, {{"stage", text("canary")}}), (Answer{Way::kSelected, {2}}));
  EXPECT_EQ(ask(*set, {{"v", text("1.2-pre")}, {"stage", text("dev")}}), (Answer{Way::kSelected, {3}}));
  EXPECT_EQ(ask(*set, {{"v", text("1.0")}}), (Answer{Way::kFallback, {0, 1}}));
  EXPECT_EQ(ask(*set, {{"other", text("x")}}), (Answer{Way::kFallback, {0, 1}}));
  EXPECT_EQ(ask(*set, nullptr), (Answer{Way::kFallback, {0, 1}}));
  EXPECT_EQ(ask(*set, Values{}), (Answer{Way::kFallback, {0, 1}}));
  EXPECT_EQ(ask(*set, {{"stage", text("test")}}), (Answer{Way::kSelectorFallback, {}}));
  EXPECT_EQ(set->subsets()->active(), 6u);
}

TEST(Subsets, ValuesHaveTypes) {
  const std::vector<Values> hosts = {{{"a", {1.0}}}, {{"a", text("1")}}, {{"a", {true}}}, {{"a", {}}}};
  const auto set = divided(hosts, {.selectors = {{.keys = {"a"}}}});
  for (size_t i = 0; i < hosts.size(); ++i) EXPECT_EQ(ask(*set, hosts[i]), (Answer{Way::kSelected, {i}}));
  EXPECT_EQ(ask(*set, {{"a", {2.0}}}), (Answer{Way::kFallback, {}}));
}

TEST(Subsets, AListCountsWithEachOfItsElementsIfItIsToldTo) {
  const MetadataValue both{MetadataValue::List{text("x"), text("y")}};
  const std::vector<Values> hosts = {{{"a", both}, {"b", both}}, {{"a", text("x")}, {"b", text("y")}}};
  SubsetSpec spec{.selectors = {{.keys = {"a", "b"}}}};
  EXPECT_EQ(ask(*divided(hosts, spec), {{"a", text("x")}, {"b", text("y")}}), (Answer{Way::kSelected, {1}}));
  EXPECT_EQ(ask(*divided(hosts, spec), {{"a", both}, {"b", both}}), (Answer{Way::kSelected, {0}}));
  spec.list_as_any = true;
  spec.fallback = Fallback::kDefault;
  spec.default_subset = fields({{"b", text("x")}});
  const auto any = divided(hosts, spec);
  EXPECT_EQ(ask(*any, {{"a", text("x")}, {"b", text("y")}}), (Answer{Way::kSelected, {0, 1}}));
  EXPECT_EQ(ask(*any, {{"a", text("y")}, {"b", text("x")}}), (Answer{Way::kSelected, {0}}));
  EXPECT_EQ(ask(*any, {{"a", both}, {"b", both}}), (Answer{Way::kFallback, {0}}));
  EXPECT_EQ(any->subsets()->active(), 4u);
}

TEST(Subsets, AHostWithTooManyListsIsInNone) {
  MetadataValue::List many;
  for (int i = 0; i < 40; ++i) many.push_back({static_cast<double>(i)});
  const std::vector<Values> hosts = {{{"a", {many}}, {"b", {many}}}, {{"a", {1.0}}, {"b", {1.0}}}};
  const auto set = divided(hosts, {.selectors = {{.keys = {"a", "b"}}}, .list_as_any = true});
  EXPECT_EQ(set->subsets()->crowded_hosts(), 1u);
  EXPECT_EQ(ask(*set, hosts[1]), (Answer{Way::kSelected, {1}}));
}

TEST(Subsets, OneHostForASubsetIfItIsToldTo) {
  const std::vector<Values> hosts = {{{"a", text("x")}}, {{"a", text("x")}}, {{"a", text("y")}}};
  const auto set = divided(hosts, {.selectors = {{.keys = {"a"}, .single_host = true}}});
  EXPECT_EQ(ask(*set, hosts[0]), (Answer{Way::kSelected, {0}}));
  EXPECT_EQ(ask(*set, hosts[2]), (Answer{Way::kSelected, {2}}));
  EXPECT_EQ(set->subsets()->unused_hosts(), 1u);
}

// The rule, host by host.
class Oracle {
 public:
  Oracle(const std::vector<Values>& hosts, const SubsetSpec& spec) : hosts_(hosts), spec_(spec) {}

  Answer answer(const Values* asked) const {
    if (asked != nullptr && !asked->empty()) {
      for (const SubsetSpec::Selector& selector : spec_.selectors) {
        if (!same_keys(selector.keys, *asked)) continue;
        std::vector<size_t> found = that_have(*asked);
        if (selector.single_host && !found.empty()) found.resize(1);
        if (!found.empty()) return {Way::kSelected, found};
        if (selector.fallback == SelectorFallback::kOfCluster) break;
        if (selector.fallback == SelectorFallback::kNone) return {Way::kSelectorFallback, {}};
        if (selector.fallback == SelectorFallback::kAny) return {Way::kSelectorFallback, that_have({})};
        if (selector.fallback == SelectorFallback::kDefault) return {Way::kSelectorFallback, by_default()};
        Values fewer = *asked;
        std::erase_if(fewer, [&](const auto& one) {
          const auto& kept = selector.fallback_keys;
          return std::find(kept.begin(), kept.end(), one.first) == kept.end();
        });
        return answer(&fewer);
      }
    }
    if (spec_.fallback == Fallback::kAny) return {Way::kFallback, that_have({})};
    if (spec_.fallback == Fallback::kDefault) return {Way::kFallback, by_default()};
    return {Way::kFallback, {}};
  }

 private:
  static bool same_keys(const std::vector<std::string>& keys, const Values& values) {
    std::vector<std::string> of_values;
    for (const auto& [key, value] : values) of_values.push_back(key);
    return of_values == keys;
  }
  std::vector<size_t> that_have(const Values& wanted) const {
    std::vector<size_t> found;
    for (size_t i = 0; i < hosts_.size(); ++i) {
      bool all = true;
      for (const auto& [key, value] : wanted) {
        const auto has = hosts_[i].find(key);
        bool one = has != hosts_[i].end();
        if (one) {
          const auto* list = spec_.list_as_any ? has->second.list() : nullptr;
          one = list == nullptr ? has->second == value : std::count(list->begin(), list->end(), value) > 0;
        }
        all = all && one;
      }
      if (all) found.push_back(i);
    }
    return found;
  }
  std::vector<size_t> by_default() const {
    Values wanted;
    for (const MetadataField& field : spec_.default_subset) wanted[field.key] = field.value;
    return that_have(wanted);
  }

  const std::vector<Values>& hosts_;
  const SubsetSpec& spec_;
};

class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}
  size_t below(size_t n) { return bits_() % n; }
  bool often() { return below(4) != 0; }
  MetadataValue value(bool lists = true) {
    switch (below(lists ? 7 : 4)) {
      case 0:
        return {1.0};
      case 1:
        return {true};
      case 2:
      case 3:
        return text(below(2) == 0 ? "x" : "y");
      case 4:
        return {MetadataValue::List{value(false), value(false)}};
      case 5:
        return {MetadataValue::List{}};
      default:
        return {MetadataValue::Struct{{"in", value(false)}}};
    }
  }
  Values values(size_t keys) {
    Values out;
    for (size_t i = 0; i < keys; ++i)
      if (often()) out[kKeys[i]] = value();
    return out;
  }
  std::vector<std::string> some(const std::vector<std::string>& keys) {
    std::vector<std::string> out;
    for (const std::string& key : keys)
      if (below(2) == 0) out.push_back(key);
    return out;
  }
  SubsetSpec spec() {
    SubsetSpec out{.fallback = static_cast<Fallback>(below(3)), .list_as_any = below(2) == 0};
    if (often()) out.default_subset = fields(values(2));
    std::set<std::vector<std::string>> seen;
    for (size_t i = 0; i < 8; ++i) {
      SubsetSpec::Selector selector{.keys = some({kKeys, kKeys + 4}),
                                    .fallback = static_cast<SelectorFallback>(below(5))};
      if (selector.keys.empty() || !seen.insert(selector.keys).second) continue;
      selector.single_host = below(8) == 0;
      if (selector.fallback == SelectorFallback::kKeys) {
        selector.fallback_keys = some(selector.keys);
        if (selector.fallback_keys.empty() || selector.fallback_keys == selector.keys) continue;
      }
      out.selectors.push_back(std::move(selector));
    }
    return out;
  }

  static constexpr const char* kKeys[] = {"a", "b", "c", "d"};

 private:
  std::mt19937_64 bits_;
};

TEST(Subsets, AreWhatALookAtEveryHostFinds) {
  const char* seed_text = std::getenv("OUTRIGGER_TEST_SEED");
  const uint64_t seed = seed_text == nullptr ? std::random_device()() : std::strtoull(seed_text, nullptr, 10);
  SCOPED_TRACE("OUTRIGGER_TEST_SEED=" + std::to_string(seed));
  Random random(seed);
  size_t ways[3] = {};
  for (int round = 0; round < 300; ++round) {
    const SubsetSpec spec = random.spec();
    if (spec.selectors.empty()) continue;
    std::vector<Values> hosts(random.below(20));
    for (Values& values : hosts) values = random.values(4);
    const auto set = divided(hosts, spec);
    const Oracle oracle(hosts, spec);
    ASSERT_EQ(ask(*set, nullptr), oracle.answer(nullptr));
    for (int i = 0; i < 30; ++i) {
      Values asked = random.values(4);
      if (!hosts.empty() && random.often()) {  // what a host has, or a part of it
        asked = hosts[random.below(hosts.size())];
        std::erase_if(asked, [&](const auto&) { return random.below(3) == 0; });
        for (auto& [key, value] : asked)
          if (const auto* list = value.list(); list != nullptr && !list->empty() && random.often())
            value = MetadataValue((*list)[random.below(list->size())]);
      }
      const Answer expected = oracle.answer(&asked);
      ++ways[static_cast<size_t>(expected.way)];
      ASSERT_EQ(ask(*set, asked), expected) << to_json(fields(asked));
    }
  }
  for (const size_t count : ways) EXPECT_GT(count, 100u) << "each way is tried";
}

TEST(Subsets, ChoosingAllocatesNothing) {
  const std::vector<Values> hosts = {{{"a", text("a value that is longer than a small string")}, {"b", text("y")}}};
  const auto set = divided(
      hosts, {.fallback = Fallback::kAny,
              .selectors = {{.keys = {"a", "b", "c"}, .fallback = SelectorFallback::kKeys, .fallback_keys = {"a", "b"}},
                            {.keys = {"a", "b"}}}});
  Values more = hosts[0];
  more["c"] = text("z");
  const MetadataMatch direct = MetadataMatch::of(fields(hosts[0])), by_way = MetadataMatch::of(fields(more));
  test::counting = true;
  const Subsets::Choice one = set->subsets()->choose(&direct), two = set->subsets()->choose(&by_way),
                        three = set->subsets()->choose(nullptr);
  test::counting = false;
  EXPECT_EQ(test::allocations, 0u);
  EXPECT_EQ(one.way, Way::kSelected);
  EXPECT_EQ(two, one);
  EXPECT_EQ(three.subset, Subsets::kAny);
}

TEST(Subsets, TheNextVersionKnowsWhatCameAndWent) {
  const SubsetSpec spec{.selectors = {{.keys = {"a"}}}};
  const auto one = divided({{{"a", text("x")}}, {{"a", text("y")}}}, spec);
  const auto two = divided({{{"a", text("y")}}, {{"a", text("z")}}, {{"a", text("w")}}}, spec);
  EXPECT_EQ(two->subsets()->missing_in(one->subsets()), 2u);
  EXPECT_EQ(one->subsets()->missing_in(two->subsets()), 1u);
  EXPECT_EQ(one->subsets()->missing_in(nullptr), 2u);
}

TEST(Subsets, HostsKeepTheirIdentityWhenTheirMetadataChanges) {
  const HostSetOptions options{.subsets = SubsetSpec{.selectors = {{.keys = {"a"}}}}};
  const auto one = HostSet::compile({host(1, {{"a", text("x")}}), host(2, {})}, nullptr, options);
  const auto two = HostSet::compile({host(1, {{"a", text("y")}}), host(2, {})}, one.get(), options);
  EXPECT_EQ(one->all()[0].host, two->all()[0].host);
  EXPECT_EQ(ask(*two, {{"a", text("y")}}), (Answer{Way::kSelected, {0}}));
  EXPECT_EQ(two->metadata(two->all()[1]), nullptr);
  EXPECT_EQ(to_json(two->metadata(two->all()[0])->namespaces), R"({"envoy.lb":{"a":"y"}})");
  // Kept hosts keep what was said of them.
  HostSetOptions kept = options;
  kept.checked = kept.keep_healthy = true;
  const auto three = HostSet::compile({host(1, {{"a", text("x")}})}, nullptr, kept);
  three->all()[0].host->health.store(0);
  const auto four = HostSet::compile({}, three.get(), kept);
  EXPECT_EQ(ask(*four, {{"a", text("x")}}), (Answer{Way::kSelected, {0}}));
}

TEST(Subsets, MatchesAreMergedByKeyAndTheSecondWins) {
  const auto of = [](const Values& values) { return MetadataMatch::of(fields(values)); };
  const auto merged = [&](const Values& a, const Values& b) { return of(a).merged(of(b)); };
  EXPECT_EQ(merged({{"s", text("c")}}, {{"s", text("p")}}), of({{"s", text("p")}}));
  EXPECT_EQ(merged({{"v", text("1")}}, {{"s", text("p")}}), of({{"s", text("p")}, {"v", text("1")}}));
  EXPECT_EQ(merged({{"a", text("1")}, {"s", text("p")}, {"v", text("1")}}, {{"s", text("c")}, {"z", text("2")}}),
            of({{"a", text("1")}, {"s", text("c")}, {"v", text("1")}, {"z", text("2")}}));
  EXPECT_EQ(merged({{"v", text("1")}}, {}), of({{"v", text("1")}}));
  const MetadataMatch m = merged({{"v", text("1")}}, {{"s", text("p")}});
  EXPECT_EQ(m.hash, of({{"s", text("p")}, {"v", text("1")}}).hash);
  EXPECT_EQ(m.keys_hash, of({{"s", text("p")}, {"v", text("1")}}).keys_hash);
}

TEST(Subsets, AnEndpointWithoutMetadataIsNoLargerThanItWas) {
  EXPECT_EQ(sizeof(HostEntry), 24u + sizeof(HostEntry::addresses));
  EXPECT_EQ(sizeof(config::EndpointSpec), 80u + sizeof(config::EndpointSpec::addresses));
}

}  // namespace
}  // namespace outrigger::upstream
