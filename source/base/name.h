// Name: a resource name with its hash, computed once at compile time, so that a request finds a cluster or a route
// table with one probe. NameMap: an open-addressed table from Name to V.
//
// Thread rule: Name is a value. NameMap: const use from any thread, changes by its owner.
// Use:  NameMap<Cluster> map;  map.insert(Name("a"), ...);  Cluster* c = map.find(route.cluster);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/hash.h"

namespace outrigger {

struct Name {
  std::string text;
  uint64_t hash = content_hash({});
  Name() = default;
  explicit Name(std::string t) : text(std::move(t)), hash(content_hash(text)) {}
  bool operator==(const Name& other) const { return text == other.text; }
  bool empty() const { return text.empty(); }
};

template <class V>
class NameMap {
  struct Slot {
    uint64_t hash = 0;
    bool used = false;
    std::string name;
    V value{};
  };

 public:
  V* find(std::string_view name, uint64_t hash) {
    return const_cast<V*>(static_cast<const NameMap*>(this)->find(name, hash));
  }
  const V* find(std::string_view name, uint64_t hash) const {
    if (slots_.empty()) return nullptr;
    for (size_t i = hash & mask_; slots_[i].used; i = (i + 1) & mask_)
      if (slots_[i].hash == hash && slots_[i].name == name) return &slots_[i].value;
    return nullptr;
  }
  V* find(const Name& name) { return find(name.text, name.hash); }
  const V* find(const Name& name) const { return find(name.text, name.hash); }
  V* find(std::string_view name) { return find(name, content_hash(name)); }
  const V* find(std::string_view name) const { return find(name, content_hash(name)); }

  // Adds or replaces.
  V& insert(std::string_view name, V value) {
    if ((size_ + 1) * 4 > slots_.size() * 3) rehash(slots_.empty() ? 8 : slots_.size() * 2);
    const uint64_t hash = content_hash(name);
    size_t i = hash & mask_;
    for (; slots_[i].used; i = (i + 1) & mask_) {
      if (slots_[i].hash == hash && slots_[i].name == name) {
        slots_[i].value = std::move(value);
        return slots_[i].value;
      }
    }
    slots_[i].hash = hash;
    slots_[i].used = true;
    slots_[i].name = std::string(name);
    slots_[i].value = std::move(value);
    ++size_;
    return slots_[i].value;
  }

  bool erase(std::string_view name) {
    if (slots_.empty()) return false;
    const uint64_t hash = content_hash(name);
    size_t i = hash & mask_;
    while (slots_[i].used && !(slots_[i].hash == hash && slots_[i].name == name)) i = (i + 1) & mask_;
    if (!slots_[i].used) return false;
    // Backward shift: no tombstones.
    size_t hole = i;
    for (size_t j = (i + 1) & mask_; slots_[j].used; j = (j + 1) & mask_) {
      const size_t home = slots_[j].hash & mask_;
      if (((j - home) & mask_) < ((j - hole) & mask_)) continue;
      slots_[hole] = std::move(slots_[j]);
      hole = j;
    }
    slots_[hole] = Slot{};
    --size_;
    return true;
  }

  void reserve(size_t count) {
    size_t want = 8;
    while (want * 3 < count * 4 + 4) want *= 2;
    if (want > slots_.size()) rehash(want);
  }
  size_t size() const { return size_; }
  template <class F>
  void for_each(F&& f) const {
    for (const Slot& slot : slots_)
      if (slot.used) f(slot.name, slot.value);
  }
  template <class F>
  void for_each(F&& f) {
    for (Slot& slot : slots_)
      if (slot.used) f(static_cast<const std::string&>(slot.name), slot.value);
  }

 private:
  void rehash(size_t capacity) {
    std::vector<Slot> old(capacity);
    old.swap(slots_);
    mask_ = capacity - 1;
    for (Slot& slot : old) {
      if (!slot.used) continue;
      size_t i = slot.hash & mask_;
      while (slots_[i].used) i = (i + 1) & mask_;
      slots_[i] = std::move(slot);
    }
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t size_ = 0;
};

}  // namespace outrigger
