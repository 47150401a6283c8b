#include "proxy/chain_matcher.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/hash.h"

namespace outrigger::proxy {
namespace {

using config::FilterChainMatchSpec;
using SourceType = FilterChainMatchSpec::SourceType;
using Candidates = std::vector<uint32_t>;

enum Step : uint8_t {
  kDestinationPort,
  kDestination,
  kServerName,
  kTransport,
  kApplication,
  kDirectSource,
  kSourceType,
  kSource,
  kSourcePort,
  kSteps,
};

constexpr size_t kFew = 4;  // are compared one by one

bool is_near(const ConnectionFacts& facts) {
  return facts.remote.is_unix() || facts.remote.is_loopback() || facts.remote.with_port(0) == facts.local.with_port(0);
}

// Calls f(suffix) for "*.b.c", "*.c" of "a.b.c", until it is true.
template <class F>
bool each_wildcard(std::string_view name, F&& f) {
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1))
    if (f(name.substr(dot))) return true;
  return false;
}

// Client-supplied texts are looked up.
struct KeyedHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return keyed_hash(text); }
};

}  // namespace

struct ChainMatcher::Range {
  net::Address prefix;
  uint8_t length = 0;
};

// A chain's match, addresses parsed.
struct ChainMatcher::Criteria {
  FilterChainMatchSpec spec;
  std::vector<Range> destinations, direct_sources, sources;

  // How specific the chain is for this connection in this step; 0: it does not ask; -1: it is not for it.
  int rank(Step step, const ConnectionFacts& facts) const;
  const std::vector<Range>& ranges(Step step) const {
    return step == kDestination ? destinations : step == kSource ? sources : direct_sources;
  }
};

namespace {

template <class Ranges>
int longest(const Ranges& ranges, const net::Address& address) {
  if (ranges.empty()) return 0;
  int best = -1;
  for (const auto& range : ranges)
    if (address.in_prefix(range.prefix, range.length)) best = std::max(best, range.length + 1);
  return best;
}

template <class List, class Value>
int listed(const List& list, const Value& value) {
  if (list.empty()) return 0;
  return std::find(list.begin(), list.end(), value) != list.end() ? 1 : -1;
}

int rank_of_name(const std::vector<std::string>& names, std::string_view name) {
  if (names.empty()) return 0;
  int best = -1;
  for (const std::string& one : names) {
    if (one == name) return 1'000;
    if (one.starts_with("*.") && name.ends_with(std::string_view(one).substr(1)))
      best = std::max(best, static_cast<int>(one.size()));
  }
  return best;
}

// The client's first protocol that a chain has is the best.
int rank_of_protocol(const std::vector<std::string>& ours, std::span<const std::string_view> offered) {
  if (ours.empty()) return 0;
  for (size_t i = 0; i < offered.size(); ++i)
    if (listed(ours, offered[i]) > 0) return static_cast<int>(offered.size() - i);
  return -1;
}

const net::Address& address_of(Step step, const ConnectionFacts& facts) {
  return step == kDestination ? facts.local : step == kSource ? facts.remote : facts.direct_remote;
}

}  // namespace

int ChainMatcher::Criteria::rank(Step step, const ConnectionFacts& facts) const {
  switch (step) {
    case kDestinationPort:
      return spec.destination_port == 0 ? 0 : spec.destination_port == facts.local.port() ? 1 : -1;
    case kServerName:
      return rank_of_name(spec.server_names, facts.server_name);
    case kTransport:
      return spec.transport_protocol.empty() ? 0 : spec.transport_protocol == facts.transport_protocol ? 1 : -1;
    case kApplication:
      return rank_of_protocol(spec.application_protocols, facts.application_protocols);
    case kSourceType:
      if (spec.source_type == SourceType::kAny) return 0;
      return (spec.source_type == SourceType::kSameIpOrLoopback) == is_near(facts) ? 1 : -1;
    case kSourcePort:
      return listed(spec.source_ports, uint32_t{facts.remote.port()});
    default:
      return longest(ranges(step), address_of(step, facts));
  }
}

// Either a few chains to compare from `step` on, or a table of one step. `otherwise` is for connections for which no
// key is: the chains that do not ask.
struct ChainMatcher::Node {
  using Child = std::unique_ptr<Node>;
  Step step = kDestinationPort;
  Candidates few;
  std::unordered_map<std::string, Child, KeyedHash, std::equal_to<>> texts;
  std::unordered_map<uint32_t, Child> numbers;
  std::vector<std::pair<uint8_t, bool>> lengths;  // of prefixes, longest first; whether IPv6
  Child otherwise;

  const Node* next(const ConnectionFacts& facts) const;
  const Node* by_text(std::string_view text) const {
    const auto at = texts.find(text);
    return at == texts.end() ? nullptr : at->second.get();
  }
};

namespace {

constexpr size_t kMaxKey = 18;

// The network of an address as a key: family, length, the bits that count. Empty: no such network can hold it.
std::string_view network_key(const net::Address& address, uint8_t length, bool v6, char (&out)[kMaxKey]) {
  if (!address.is_ip() || address.is_v6() != v6) return {};
  const size_t bytes = v6 ? 16 : 4;
  const void* from = v6 ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr)
                        : &reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr;
  out[0] = v6 ? '6' : '4';
  out[1] = static_cast<char>(length);
  std::memcpy(out + 2, from, bytes);
  for (size_t i = 0; i < bytes; ++i) {
    const int left = std::clamp(static_cast<int>(length) - static_cast<int>(i) * 8, 0, 8);
    out[2 + i] = static_cast<char>(static_cast<uint8_t>(out[2 + i]) & static_cast<uint8_t>(0xff00 >> left));
  }
  return {out, 2 + bytes};
}

}  // namespace

const ChainMatcher::Node* ChainMatcher::Node::next(const ConnectionFacts& facts) const {
  const Node* found = nullptr;
  const auto number = [&](uint32_t key) {
    const auto at = numbers.find(key);
    found = at == numbers.end() ? nullptr : at->second.get();
  };
  switch (step) {
    case kDestinationPort:
      number(facts.local.port());
      break;
    case kSourcePort:
      number(facts.remote.port());
      break;
    case kSourceType:
      number(static_cast<uint32_t>(is_near(facts) ? SourceType::kSameIpOrLoopback : SourceType::kExternal));
      break;
    case kServerName:
      found = by_text(facts.server_name);
      if (found == nullptr)
        each_wildcard(facts.server_name, [&](std::string_view suffix) { return (found = by_text(suffix)) != nullptr; });
      break;
    case kTransport:
      found = by_text(facts.transport_protocol);
      break;
    case kApplication:
      for (const std::string_view protocol : facts.application_protocols)
        if ((found = by_text(protocol)) != nullptr) break;
      break;
    default:
      for (const auto& [length, v6] : lengths) {
        char key[kMaxKey];
        const std::string_view network = network_key(address_of(step, facts), length, v6, key);
        if (!network.empty() && (found = by_text(network)) != nullptr) break;
      }
  }
  return found != nullptr ? found : otherwise.get();
}

struct ChainMatcher::Builder {
  const std::vector<Criteria>& chains;

  std::unique_ptr<Node> build(size_t step, const Candidates& candidates) {
    auto node = std::make_unique<Node>();
    while (candidates.size() > kFew && step < kSteps && asks_nothing(static_cast<Step>(step), candidates)) ++step;
    node->step = static_cast<Step>(step);
    if (candidates.size() <= kFew || step == kSteps) {
      node->few = candidates;
      return node;
    }
    std::map<std::string, Candidates> texts;
    std::map<uint32_t, Candidates> numbers;
    Candidates otherwise;
    for (const uint32_t index : candidates)
      if (!add_keys(node->step, index, *node, texts, numbers)) otherwise.push_back(index);
    for (auto& [key, some] : texts) node->texts.emplace(key, build(step + 1, some));
    for (auto& [key, some] : numbers) node->numbers.emplace(key, build(step + 1, some));
    if (!otherwise.empty()) node->otherwise = build(step + 1, otherwise);
    return node;
  }

 private:
  bool asks_nothing(Step step, const Candidates& candidates) const {
    return std::all_of(candidates.begin(), candidates.end(), [&](uint32_t index) {
      const FilterChainMatchSpec& spec = chains[index].spec;
      switch (step) {
        case kDestinationPort:
          return spec.destination_port == 0;
        case kServerName:
          return spec.server_names.empty();
        case kTransport:
          return spec.transport_protocol.empty();
        case kApplication:
          return spec.application_protocols.empty();
        case kSourceType:
          return spec.source_type == SourceType::kAny;
        case kSourcePort:
          return spec.source_ports.empty();
        default:
          return chains[index].ranges(step).empty();
      }
    });
  }

  static void add_network(const Range& range, Node& node, std::map<std::string, Candidates>& texts, uint32_t index) {
    char buffer[kMaxKey];
    const bool v6 = range.prefix.is_v6();
    Candidates& some = texts[std::string(network_key(range.prefix, range.length, v6, buffer))];
    if (some.empty() || some.back() != index) some.push_back(index);
    const std::pair kind(range.length, v6);
    const auto at = std::lower_bound(node.lengths.begin(), node.lengths.end(), kind, std::greater<>());
    if (at == node.lengths.end() || *at != kind) node.lengths.insert(at, kind);
  }

  // False: the chain does not ask.
  bool add_keys(Step step, uint32_t index, Node& node, std::map<std::string, Candidates>& texts,
                std::map<uint32_t, Candidates>& numbers) const {
    const FilterChainMatchSpec& spec = chains[index].spec;
    const auto add = [index](Candidates& to) {
      if (to.empty() || to.back() != index) to.push_back(index);
    };
    const auto all = [&](const std::vector<std::string>& keys) {
      for (const std::string& key : keys) add(texts[key]);
      return !keys.empty();
    };
    switch (step) {
      case kDestinationPort:
        if (spec.destination_port != 0) add(numbers[spec.destination_port]);
        return spec.destination_port != 0;
      case kServerName:
        for (const std::string& name : spec.server_names) add(texts[name.starts_with("*.") ? name.substr(1) : name]);
        return !spec.server_names.empty();
      case kTransport:
        if (!spec.transport_protocol.empty()) add(texts[spec.transport_protocol]);
        return !spec.transport_protocol.empty();
      case kApplication:
        return all(spec.application_protocols);
      case kSourceType:
        if (spec.source_type != SourceType::kAny) add(numbers[static_cast<uint32_t>(spec.source_type)]);
        return spec.source_type != SourceType::kAny;
      case kSourcePort:
        for (const uint32_t port : spec.source_ports) add(numbers[port]);
        return !spec.source_ports.empty();
      default:
        for (const Range& range : chains[index].ranges(step)) add_network(range, node, texts, index);
        return !chains[index].ranges(step).empty();
    }
  }
};

ChainMatcher::ChainMatcher(const std::vector<config::FilterChainSpec>& chains) {
  const auto parsed = [](const std::vector<config::CidrSpec>& from) {
    std::vector<Range> to;
    for (const config::CidrSpec& range : from)
      if (const auto prefix = net::Address::parse(range.prefix, 0)) to.push_back({*prefix, range.length});
    return to;
  };
  Candidates all;
  for (const config::FilterChainSpec& chain : chains) {
    const FilterChainMatchSpec& match = chain.match;
    all.push_back(static_cast<uint32_t>(chains_.size()));
    chains_.push_back({match, parsed(match.prefix_ranges), parsed(match.direct_source_prefix_ranges),
                       parsed(match.source_prefix_ranges)});
  }
  root_ = Builder{chains_}.build(0, all);
}

ChainMatcher::~ChainMatcher() = default;

int ChainMatcher::match(const ConnectionFacts& facts) const {
  const Node* node = root_.get();
  while (node != nullptr && node->few.empty()) node = node->next(facts);
  if (node == nullptr) return -1;
  uint32_t left[kFew];  // more are the same to the last step
  size_t count = std::min(node->few.size(), kFew);
  std::copy_n(node->few.begin(), count, left);
  for (size_t step = node->step; step < kSteps && count != 0; ++step) {
    int ranks[kFew];
    int best = 0;
    for (size_t i = 0; i < count; ++i)
      best = std::max(best, ranks[i] = chains_[left[i]].rank(static_cast<Step>(step), facts));
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i)
      if (ranks[i] == best) left[kept++] = left[i];
    count = kept;
  }
  return count == 0 ? -1 : static_cast<int>(left[0]);
}

}  // namespace outrigger::proxy
