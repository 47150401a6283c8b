// FilterConfigs: the per-filter configs that hold for one route (or weighted cluster) with all of its levels resolved:
// route table < virtual host < route < weighted cluster. An array by filter id, so that a lookup is one load.
//
// Thread rule: immutable; any worker.
// Use:  const FilterPart* part = match.filter_config(id);   match.for_each_filter_config(id, [](const FilterPart& p)
// {...});
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "config/extension.h"

namespace outrigger::route {

class FilterConfigs {
 public:
  static constexpr size_t kLevels = 4;
  struct Slot {
    const FilterPart* most_specific = nullptr;
    const FilterPart* levels[kLevels] = {};  // least specific first, packed; nullptr ends it
    enum class State : uint8_t { kUnset, kEnabled, kDisabled } state = State::kUnset;
  };

  FilterConfigs() = default;
  // `slots[i]` belongs to filter id `first_id + i`. The slots outlive this.
  FilterConfigs(uint16_t first_id, std::span<const Slot> slots) : first_id_(first_id), slots_(slots) {}

  const FilterPart* find(uint16_t filter_id) const {
    const Slot* slot = slot_of(filter_id);
    return slot == nullptr ? nullptr : slot->most_specific;
  }
  // Calls f(const FilterPart&) for each level that has a config, least specific first.
  template <class F>
  void for_each(uint16_t filter_id, F&& f) const {
    const Slot* slot = slot_of(filter_id);
    if (slot == nullptr) return;
    for (const FilterPart* part : slot->levels) {
      if (part == nullptr) return;
      f(*part);
    }
  }
  // Whether the most specific level that speaks of the filter disables it (true) or has a config for it (false).
  // nullopt: no level does, so the listener's own setting holds.
  std::optional<bool> disabled(uint16_t filter_id) const {
    const Slot* slot = slot_of(filter_id);
    if (slot == nullptr || slot->state == Slot::State::kUnset) return std::nullopt;
    return slot->state == Slot::State::kDisabled;
  }
  bool empty() const { return slots_.empty(); }
  uint16_t first_id() const { return first_id_; }
  std::span<const Slot> slots() const { return slots_; }

 private:
  const Slot* slot_of(uint16_t filter_id) const {
    const size_t at = static_cast<size_t>(filter_id) - first_id_;  // wraps below first_id_
    return at < slots_.size() ? &slots_[at] : nullptr;
  }

  uint16_t first_id_ = 0;
  std::span<const Slot> slots_;
};

}  // namespace outrigger::route
