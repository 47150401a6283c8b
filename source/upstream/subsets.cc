#include "upstream/subsets.h"

#include <algorithm>
#include <bit>
#include <span>
#include <unordered_map>

namespace outrigger::upstream {
namespace {

constexpr size_t kMostOfAHost = 1024;  // subsets that its lists may put it into, by one selector

// Whether a host that has `value` has `wanted`.
bool has(const MetadataValue& value, const MetadataValue& wanted, bool list_as_any) {
  const MetadataValue::List* list = list_as_any ? value.list() : nullptr;
  return list == nullptr ? value == wanted : std::find(list->begin(), list->end(), wanted) != list->end();
}

// What a host has under "envoy.lb"; nullptr: nothing.
const MetadataValue* lb_values(const HostEntry& entry, const std::vector<ByValue<Metadata>>& metadata) {
  return entry.metadata == 0 ? nullptr : metadata[entry.metadata - 1]->find(config::kLbNamespace);
}

bool has_all(const MetadataValue* host, const MetadataValue::Struct& wanted, bool list_as_any) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const MetadataField& field) {
    const MetadataValue* value = host == nullptr ? nullptr : host->find(field.key);
    return value != nullptr && has(*value, field.value, list_as_any);
  });
}

// Calls f(i, criterion) for each criterion that is left, i counting those; false as soon as f is.
template <class F>
bool each_left(const config::MetadataMatch& match, uint32_t left, F&& f) {
  for (size_t i = 0; left != 0; left &= left - 1, ++i)
    if (!f(i, match.criteria[static_cast<size_t>(std::countr_zero(left))])) return false;
  return true;
}

}  // namespace

class Subsets::Builder {
 public:
  explicit Builder(Subsets& to) : to_(to) {}

  void add_host(uint32_t selector, const HostEntry& entry, const MetadataValue& host) {
    const std::vector<std::string>& keys = to_.spec_->selectors[selector].keys;
    std::vector<std::span<const MetadataValue>> options;  // by key
    size_t combinations = 1;
    for (const std::string& key : keys) {
      const MetadataValue* value = host.find(key);
      if (value == nullptr) return;
      const MetadataValue::List* list = to_.spec_->list_as_any ? value->list() : nullptr;
      options.push_back(list == nullptr ? std::span(value, 1) : std::span<const MetadataValue>(*list));
      combinations *= options.back().size();
      if (combinations == 0) return;
      if (combinations > kMostOfAHost) {
        ++to_.crowded_hosts_;
        return;
      }
    }
    for (size_t i = 0; i < combinations; ++i) {
      std::vector<MetadataValue> values;
      size_t rest = i;
      for (const auto& of_key : options) {
        values.push_back(of_key[rest % of_key.size()]);
        rest /= of_key.size();
      }
      add(selector, entry, std::move(values));
    }
  }

  void finish() {
    for (Part& part : to_.parts_) part.hosts.weigh();
    to_.slots_.assign(std::bit_ceil(2 * to_.parts_.size()), kNone);
    for (uint32_t i = 1; i < to_.parts_.size(); ++i) {
      size_t at = to_.parts_[i].hash & (to_.slots_.size() - 1);
      while (to_.slots_[at] != kNone) at = (at + 1) & (to_.slots_.size() - 1);
      to_.slots_[at] = i + 1;
    }
  }

 private:
  void add(uint32_t selector, const HostEntry& entry, std::vector<MetadataValue> values) {
    const std::vector<std::string>& keys = to_.spec_->selectors[selector].keys;
    uint64_t hash = 0;
    for (size_t i = 0; i < keys.size(); ++i) hash += config::criterion_hash(keys[i], values[i]);
    const auto [from, end] = known_.equal_range(hash);
    const auto found = std::find_if(from, end, [&](const auto& one) {
      const Part& part = to_.parts_[one.second];
      return part.selector == selector && part.values == values;
    });
    if (found == end) {
      known_.emplace(hash, to_.parts_.size());
      to_.parts_.push_back({.hosts = {}, .selector = selector, .hash = hash, .values = std::move(values)});
      to_.parts_.back().hosts.entries.push_back(entry);
      return;
    }
    std::vector<HostEntry>& hosts = to_.parts_[found->second].hosts.entries;
    if (hosts.back().host == entry.host) return;  // its list has the value twice
    if (to_.spec_->selectors[selector].single_host) {
      ++to_.unused_hosts_;
    } else {
      hosts.push_back(entry);
    }
  }

  Subsets& to_;
  std::unordered_multimap<uint64_t, size_t> known_;
};

std::unique_ptr<const Subsets> Subsets::compile(const ByValue<config::SubsetSpec>& spec, const HostChoices& all,
                                                const std::vector<ByValue<Metadata>>& metadata) {
  std::unique_ptr<Subsets> subsets(new Subsets(spec, all));
  Part& by_default = subsets->parts_.emplace_back();
  for (const HostEntry& entry : all.entries)
    if (has_all(lb_values(entry, metadata), spec->default_subset, spec->list_as_any))
      by_default.hosts.entries.push_back(entry);
  Builder builder(*subsets);
  for (uint32_t s = 0; s < spec->selectors.size(); ++s) {
    const Selector& selector = spec->selectors[s];
    Keys& keys = subsets->keys_.emplace_back();
    for (size_t i = 0; i < selector.keys.size(); ++i) {
      keys.hash += config::key_hash(selector.keys[i]);
      if (!std::binary_search(selector.fallback_keys.begin(), selector.fallback_keys.end(), selector.keys[i]))
        keys.dropped |= 1u << i;
    }
    for (const HostEntry& entry : all.entries)
      if (const MetadataValue* host = lb_values(entry, metadata); host != nullptr) builder.add_host(s, entry, *host);
  }
  builder.finish();
  return subsets;
}

uint32_t Subsets::find(const Query& query) const {
  for (size_t at = query.hash & (slots_.size() - 1); slots_[at] != kNone; at = (at + 1) & (slots_.size() - 1)) {
    const Part& part = parts_[slots_[at] - 1];
    if (part.hash != query.hash) continue;
    const std::vector<std::string>& keys = spec_->selectors[part.selector].keys;
    if (keys.size() == static_cast<size_t>(std::popcount(query.left)) &&
        each_left(query.match, query.left,
                  [&](size_t i, const auto& one) { return one.key == keys[i] && one.value == part.values[i]; }))
      return slots_[at];
  }
  return kNone;
}

// The one with just the keys that are left; nullptr: there is none.
const config::SubsetSpec::Selector* Subsets::selector_of(const Query& query) const {
  for (size_t s = 0; s < keys_.size(); ++s) {
    const Selector& selector = spec_->selectors[s];
    if (keys_[s].hash == query.keys_hash && selector.keys.size() == static_cast<size_t>(std::popcount(query.left)) &&
        each_left(query.match, query.left, [&](size_t i, const auto& one) { return one.key == selector.keys[i]; }))
      return &selector;
  }
  return nullptr;
}

Subsets::Choice Subsets::choose(const config::MetadataMatch* match) const {
  using SelectorFallback = Selector::Fallback;
  if (match != nullptr && !match->criteria.empty() && match->criteria.size() <= config::SubsetSpec::kMaxKeys) {
    const size_t count = match->criteria.size();
    Query query{*match, UINT32_MAX >> (config::SubsetSpec::kMaxKeys - count), match->hash, match->keys_hash};
    for (;;) {
      if (const uint32_t found = find(query); found != kNone) return {found, Way::kSelected};
      const Selector* selector = selector_of(query);
      if (selector == nullptr || selector->fallback == SelectorFallback::kOfCluster) break;
      if (selector->fallback == SelectorFallback::kNone) return {kNone, Way::kSelectorFallback};
      if (selector->fallback == SelectorFallback::kAny) return {kAny, Way::kSelectorFallback};
      if (selector->fallback == SelectorFallback::kDefault) return {kDefault, Way::kSelectorFallback};
      const uint32_t dropped = keys_[static_cast<size_t>(selector - spec_->selectors.data())].dropped;
      uint32_t left = query.left;
      for (size_t i = 0; left != 0; left &= left - 1, ++i) {
        if ((dropped >> i & 1) == 0) continue;
        const auto& criterion = match->criteria[static_cast<size_t>(std::countr_zero(left))];
        query.left &= ~(left & -left);
        query.hash -= criterion.hash;
        query.keys_hash -= criterion.key_hash;
      }
    }
  }
  switch (spec_->fallback) {
    case config::SubsetSpec::Fallback::kAny:
      return {kAny, Way::kFallback};
    case config::SubsetSpec::Fallback::kDefault:
      return {kDefault, Way::kFallback};
    case config::SubsetSpec::Fallback::kNone:
      break;
  }
  return {kNone, Way::kFallback};
}

uint32_t Subsets::missing_in(const Subsets* other) const {
  if (other == nullptr) return active();
  const auto in_other = [&](const Part& part) {
    const std::vector<std::string>& keys = spec_->selectors[part.selector].keys;
    const std::vector<uint32_t>& slots = other->slots_;
    for (size_t at = part.hash & (slots.size() - 1); slots[at] != kNone; at = (at + 1) & (slots.size() - 1)) {
      const Part& theirs = other->parts_[slots[at] - 1];
      if (theirs.values == part.values && other->spec_->selectors[theirs.selector].keys == keys) return true;
    }
    return false;
  };
  return active() - static_cast<uint32_t>(std::count_if(parts_.begin() + 1, parts_.end(), in_other));
}

MetadataValue::Struct Subsets::values(uint32_t subset) const {
  if (subset == kAny) return {};
  if (subset == kDefault) return spec_->default_subset;
  const Part& part = parts_[subset - 1];
  MetadataValue::Struct fields;
  for (size_t i = 0; i < part.values.size(); ++i)
    fields.push_back({spec_->selectors[part.selector].keys[i], part.values[i]});
  return fields;
}

}  // namespace outrigger::upstream
