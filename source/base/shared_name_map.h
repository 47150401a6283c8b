// SharedNameMap: a NameMap whose copies share what does not change: names are spread over shards by their hash, and a
// change copies one shard of some 32 values. So the next version of a table of 10,000 costs the pointers to its shards.
//
// A value knows its own name: NameOf()(value).
//
// Thread rule: find() and for_each() from any thread; changes and copies by the owner's. What has been copied is not
// changed any more (CHECK).
// Use:  auto next = map;  next.insert(value);  const V* v = next.find(name, hash);
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/name.h"

namespace outrigger {

template <class V, class NameOf>
class SharedNameMap {
 public:
  SharedNameMap() = default;
  SharedNameMap(const SharedNameMap& other) : shards_(other.shards_), own_(shards_.size(), 0), size_(other.size_) {
    other.copied_ = true;
  }
  SharedNameMap& operator=(const SharedNameMap&) = delete;

  const V* find(std::string_view name, uint64_t hash) const {
    if (shards_.empty()) return nullptr;
    const std::vector<Slot>& slots = shards_[shard_of(hash)]->slots;
    const size_t mask = slots.size() - 1;
    for (size_t i = hash & mask; slots[i].used; i = (i + 1) & mask)
      if (slots[i].hash == hash && NameOf()(slots[i].value) == name) return &slots[i].value;
    return nullptr;
  }
  const V* find(const Name& name) const { return find(name.text, name.hash); }
  const V* find(std::string_view name) const { return find(name, content_hash(name)); }

  // Adds or replaces.
  void insert(V value) {
    CHECK(!copied_);
    if (size_ >= shards_.size() * kMeanSize) spread(shards_.empty() ? 1 : shards_.size() * 2);
    const uint64_t hash = content_hash(NameOf()(value));
    const size_t at = shard_of(hash);
    size_ += own(at, 1).put(hash, std::move(value)) ? 1 : 0;
  }

  bool erase(std::string_view name) {
    CHECK(!copied_);
    const uint64_t hash = content_hash(name);
    if (find(name, hash) == nullptr) return false;
    own(shard_of(hash), 0).erase(name, hash);
    --size_;
    return true;
  }

  size_t size() const { return size_; }
  // Calls f(name, value) in no order.
  template <class F>
  void for_each(F&& f) const {
    for (const auto& shard : shards_)
      for (const Slot& slot : shard->slots)
        if (slot.used) f(NameOf()(slot.value), slot.value);
  }
  // Calls f(name, hash, value) for each name whose value here may be another than in `before`, a version of the same
  // table; nullptr: it is here no more. What lies in shards that both have is passed over.
  template <class F>
  void for_each_change(const SharedNameMap& before, F&& f) const {
    const bool same_spread = shards_.size() == before.shards_.size();
    for (size_t i = 0; i < before.shards_.size(); ++i) {
      if (same_spread && shards_[i] == before.shards_[i]) continue;
      for (const Slot& slot : before.shards_[i]->slots)
        if (slot.used && find(NameOf()(slot.value), slot.hash) == nullptr) f(NameOf()(slot.value), slot.hash, nullptr);
    }
    for (size_t i = 0; i < shards_.size(); ++i) {
      if (same_spread && shards_[i] == before.shards_[i]) continue;
      for (const Slot& slot : shards_[i]->slots)
        if (slot.used) f(NameOf()(slot.value), slot.hash, &slot.value);
    }
  }

 private:
  static constexpr size_t kMeanSize = 32;  // above which there are more shards
  struct Slot {
    uint64_t hash = 0;
    bool used = false;
    V value{};
  };
  // Open addressing by the hash's low bits; its high ones chose the shard. At most three quarters are used.
  struct Shard {
    std::vector<Slot> slots = std::vector<Slot>(4);
    size_t size = 0;

    // Whether it is new.
    bool put(uint64_t hash, V value) {
      const size_t mask = slots.size() - 1;
      for (size_t i = hash & mask;; i = (i + 1) & mask) {
        Slot& slot = slots[i];
        if (slot.used && (slot.hash != hash || NameOf()(slot.value) != NameOf()(value))) continue;
        const bool fresh = !slot.used;
        slot.hash = hash;
        slot.used = true;
        slot.value = std::move(value);
        size += fresh ? 1 : 0;
        return fresh;
      }
    }
    void erase(std::string_view name, uint64_t hash) {
      const size_t mask = slots.size() - 1;
      size_t hole = hash & mask;
      while (slots[hole].hash != hash || NameOf()(slots[hole].value) != name) hole = (hole + 1) & mask;
      // Backward shift: no tombstones.
      for (size_t j = (hole + 1) & mask; slots[j].used; j = (j + 1) & mask) {
        if (((j - slots[j].hash) & mask) < ((j - hole) & mask)) continue;
        slots[hole] = std::move(slots[j]);
        hole = j;
      }
      slots[hole] = Slot{};
      --size;
    }
  };

  size_t shard_of(uint64_t hash) const { return (hash >> 40) & (shards_.size() - 1); }

  // The shard as this map's alone, with room for `more`.
  Shard& own(size_t at, size_t more) {
    std::shared_ptr<Shard>& shard = shards_[at];
    const bool roomy = (shard->size + more) * 4 <= shard->slots.size() * 3;
    if (own_[at] != 0 && roomy) return *shard;
    auto made = std::make_shared<Shard>();
    made->slots = std::vector<Slot>(roomy ? shard->slots.size() : shard->slots.size() * 2);
    for (const Slot& slot : shard->slots)
      if (slot.used) made->put(slot.hash, slot.value);
    shard = std::move(made);
    own_[at] = 1;
    return *shard;
  }

  void spread(size_t count) {
    const std::vector<std::shared_ptr<Shard>> old = std::move(shards_);
    shards_.clear();
    for (size_t i = 0; i < count; ++i) shards_.push_back(std::make_shared<Shard>());
    own_.assign(count, 1);
    for (const auto& shard : old)
      for (const Slot& slot : shard->slots)
        if (slot.used) own(shard_of(slot.hash), 1).put(slot.hash, slot.value);
  }

  std::vector<std::shared_ptr<Shard>> shards_;  // a power of two; what is not own is never written
  std::vector<uint8_t> own_;                    // made by this map: nobody else has it
  size_t size_ = 0;
  mutable bool copied_ = false;
};

}  // namespace outrigger
