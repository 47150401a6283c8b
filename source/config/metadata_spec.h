// MetadataMatch: what a route, a weighted cluster or tcp_proxy asks of its hosts' metadata. SubsetSpec: how a cluster
// divides its hosts for that (Cluster.lb_subset_config). Both look at the namespace "envoy.lb" only.
//
// Thread rule: values; see spec.h.
// Use:  auto match = MetadataMatch::of(fields);   const Subset* s = subsets.find(match.hash);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/metadata.h"

namespace outrigger::config {

inline constexpr std::string_view kLbNamespace = "envoy.lb";

// Hashes are sums over the criteria, so that those of some of them follow without hashing.
struct MetadataMatch {
  struct Criterion {
    std::string key;
    MetadataValue value;
    uint64_t key_hash = 0;
    uint64_t hash = 0;  // of key and value
    bool operator==(const Criterion& other) const { return key == other.key && value == other.value; }
  };
  std::vector<Criterion> criteria;  // sorted by key, none twice
  uint64_t keys_hash = 0;
  uint64_t hash = 0;

  static MetadataMatch of(const MetadataValue::Struct& fields);
  // With those of `over`, which win, as a weighted cluster's over its route's.
  MetadataMatch merged(const MetadataMatch& over) const;
  bool operator==(const MetadataMatch& other) const { return criteria == other.criteria; }
};

uint64_t key_hash(std::string_view key);
uint64_t criterion_hash(std::string_view key, const MetadataValue& value);

struct SubsetSpec {
  static constexpr size_t kMaxKeys = 32;  // of a selector
  enum class Fallback : uint8_t { kNone, kAny, kDefault };
  struct Selector {
    enum class Fallback : uint8_t { kOfCluster, kNone, kAny, kDefault, kKeys };
    std::vector<std::string> keys;  // sorted, none twice; at least one
    Fallback fallback = Fallback::kOfCluster;
    std::vector<std::string> fallback_keys;  // kKeys: some of `keys`, not all; sorted
    bool single_host = false;
    bool operator==(const Selector&) const = default;
  };
  Fallback fallback = Fallback::kNone;
  MetadataValue::Struct default_subset;  // empty: all hosts
  std::vector<Selector> selectors;       // at least one; no two have the same keys
  bool panic_mode_any = false;
  bool list_as_any = false;
  bool operator==(const SubsetSpec&) const = default;
};

}  // namespace outrigger::config
