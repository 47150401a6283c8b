// Subsets: how a HostSet is divided by its hosts' metadata (Cluster.lb_subset_config), and which part of it a
// MetadataMatch means, whatever the health of the hosts. Part of its HostSet. `choose` costs one probe by a hash that
// the route has brought along, and one more for each KEYS_SUBSET fallback.
//
// Thread rule: compile on the builder; const use anywhere.
// Use:  const Subsets::Choice c = subsets.choose(match);   if (c.subset != Subsets::kNone) use(subsets.at(c.subset));
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "config/metadata_spec.h"
#include "upstream/host.h"

namespace outrigger::upstream {

class Subsets {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kAny = 0;      // all hosts
  static constexpr uint32_t kDefault = 1;  // those of default_subset; those above are the selectors'

  enum class Way : uint8_t {
    kSelected,          // the subset that was asked for
    kSelectorFallback,  // what the selector with the same keys says instead
    kFallback,          // what the cluster says instead
  };
  struct Choice {
    uint32_t subset = kNone;  // kNone: no host
    Way way = Way::kFallback;
    bool operator==(const Choice&) const = default;
  };

  // `metadata` by Entry::metadata - 1. `all` outlives this.
  static std::unique_ptr<const Subsets> compile(const ByValue<config::SubsetSpec>& spec, const HostChoices& all,
                                                const std::vector<ByValue<Metadata>>& metadata);

  // nullptr: nothing was asked for.
  Choice choose(const config::MetadataMatch* match) const;
  const HostChoices& at(uint32_t subset) const { return subset == kAny ? all_ : parts_[subset - 1].hosts; }
  uint32_t size() const { return static_cast<uint32_t>(parts_.size() + 1); }  // kAny and kDefault counted
  bool panic_mode_any() const { return spec_->panic_mode_any; }

  // Of those above kDefault.
  uint32_t active() const { return size() - 2; }
  uint32_t missing_in(const Subsets* other) const;           // how many the other (nullptr: none) does not have
  MetadataValue::Struct values(uint32_t subset) const;       // what its hosts were chosen by
  uint32_t unused_hosts() const { return unused_hosts_; }    // single_host_per_subset: there was one already
  uint32_t crowded_hosts() const { return crowded_hosts_; }  // list_as_any: too many lists, so in no subset

 private:
  using Selector = config::SubsetSpec::Selector;
  struct Part {
    HostChoices hosts;
    uint32_t selector = 0;
    uint64_t hash = 0;
    std::vector<MetadataValue> values;  // of the selector's keys
  };
  struct Keys {  // of a selector
    uint64_t hash = 0;
    uint32_t dropped = 0;  // kKeys: a bit for each key that the fallback drops
  };
  // The criteria that are still asked for, a bit each.
  struct Query {
    const config::MetadataMatch& match;
    uint32_t left;
    uint64_t hash, keys_hash;
  };

  Subsets(ByValue<config::SubsetSpec> spec, const HostChoices& all) : spec_(std::move(spec)), all_(all) {}
  class Builder;
  uint32_t find(const Query& query) const;
  const Selector* selector_of(const Query& query) const;

  const ByValue<config::SubsetSpec> spec_;
  const HostChoices& all_;
  std::vector<Part> parts_;      // kDefault, then the selectors'
  std::vector<Keys> keys_;       // by selector
  std::vector<uint32_t> slots_;  // subset by hash, linear probing, a power of two; kNone: free
  uint32_t unused_hosts_ = 0;
  uint32_t crowded_hosts_ = 0;
};

}  // namespace outrigger::upstream
