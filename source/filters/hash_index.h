// HashIndex: from a keyed 128-bit hash to a small number (the place of an entry in somebody's vector). The owner of the
// entries says which candidate is the right one, so that equality stays its business.
//
// Thread rule: built by one thread, then immutable.
// Use:  index.insert(hash, at);   const uint32_t* at = index.find(hash, [&](uint32_t i) { return entries[i].key == key;
// });
#pragma once

#include <cstdint>
#include <vector>

#include "base/hash.h"

namespace outrigger::filters {

class HashIndex {
 public:
  // The number of an entry of that hash for which same(number) is true, or nullptr.
  template <class Same>
  const uint32_t* find(const Hash128& hash, Same&& same) const {
    if (slots_.empty()) return nullptr;
    const size_t mask = slots_.size() - 1;
    for (size_t at = hash.low & mask; slots_[at].used; at = (at + 1) & mask)
      if (slots_[at].hash == hash && same(slots_[at].number)) return &slots_[at].number;
    return nullptr;
  }

  void insert(const Hash128& hash, uint32_t number) {
    if ((++size_) * 2 > slots_.size()) {
      std::vector<Slot> old(slots_.empty() ? 8 : slots_.size() * 2);
      old.swap(slots_);
      for (const Slot& slot : old)
        if (slot.used) place(slot);
    }
    place({hash, number, true});
  }

  size_t size() const { return size_; }

 private:
  struct Slot {
    Hash128 hash;
    uint32_t number = 0;
    bool used = false;
  };
  void place(const Slot& slot) {
    const size_t mask = slots_.size() - 1;
    size_t at = slot.hash.low & mask;
    while (slots_[at].used) at = (at + 1) & mask;
    slots_[at] = slot;
  }

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t size_ = 0;
};

}  // namespace outrigger::filters
