// SharedSorted: a sorted list whose copies share what does not change: values lie in chunks of at most 64, and a change
// copies one of them. So the next version of a list of 20,000 costs the pointers to its chunks.
//
// A value knows its own key: KeyOf()(value), of which no two values have the same.
//
// Thread rule: find() and iteration from any thread; changes and copies by the owner's. What has been copied is not
// changed any more (CHECK).
// Use:  auto next = list;  next.put(value);  for (const V& v : next) show(v);
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"

namespace outrigger {

template <class V, class KeyOf>
class SharedSorted {
  using Chunk = std::vector<V>;

 public:
  SharedSorted() = default;
  SharedSorted(const SharedSorted& other) : chunks_(other.chunks_), own_(chunks_.size(), 0), size_(other.size_) {
    other.copied_ = true;
  }
  SharedSorted& operator=(const SharedSorted&) = delete;

  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = V;
    using difference_type = ptrdiff_t;
    using pointer = const V*;
    using reference = const V&;
    Iterator() = default;
    reference operator*() const { return (*(*chunks_)[chunk_])[at_]; }
    pointer operator->() const { return &**this; }
    Iterator& operator++() {
      if (++at_ == (*chunks_)[chunk_]->size()) {
        ++chunk_;
        at_ = 0;
      }
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator& other) const { return chunk_ == other.chunk_ && at_ == other.at_; }

   private:
    friend class SharedSorted;
    Iterator(const std::vector<std::shared_ptr<Chunk>>* chunks, size_t chunk) : chunks_(chunks), chunk_(chunk) {}
    const std::vector<std::shared_ptr<Chunk>>* chunks_ = nullptr;
    size_t chunk_ = 0, at_ = 0;
  };
  Iterator begin() const { return {&chunks_, 0}; }
  Iterator end() const { return {&chunks_, chunks_.size()}; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  template <class Key>
  const V* find(const Key& key) const {
    if (chunks_.empty()) return nullptr;
    const Chunk& chunk = *chunks_[chunk_of(key)];
    const auto at = place(chunk, key);
    return at != chunk.end() && !(key < KeyOf()(*at)) ? &*at : nullptr;
  }

  // Adds or replaces.
  void put(V value) {
    CHECK(!copied_);
    const auto key = KeyOf()(value);
    size_t at = chunk_of(key);
    if (chunks_.empty()) add_chunk(0);
    if (find(key) != nullptr) {
      Chunk& chunk = own(at);
      *place(chunk, key) = std::move(value);
      return;
    }
    if (chunks_[at]->size() == kMaxSize) at = make_room(at, key);
    Chunk& chunk = own(at);
    const auto where = place(chunk, key);
    chunk.insert(where, std::move(value));
    ++size_;
  }

  template <class Key>
  bool erase(const Key& key) {
    CHECK(!copied_);
    if (find(key) == nullptr) return false;
    const size_t at = chunk_of(key);
    Chunk& chunk = own(at);
    chunk.erase(place(chunk, key));
    --size_;
    if (chunk.empty()) {
      chunks_.erase(chunks_.begin() + static_cast<ptrdiff_t>(at));
      own_.erase(own_.begin() + static_cast<ptrdiff_t>(at));
    }
    return true;
  }

 private:
  static constexpr size_t kMaxSize = 64;

  // The last chunk that does not begin behind the key; 0 if all do.
  template <class Key>
  size_t chunk_of(const Key& key) const {
    const auto behind = std::upper_bound(chunks_.begin(), chunks_.end(), key, [](const Key& k, const auto& chunk) {
      return !chunk->empty() && k < KeyOf()(chunk->front());
    });
    return behind == chunks_.begin() ? 0 : static_cast<size_t>(behind - chunks_.begin()) - 1;
  }
  template <class SomeChunk, class Key>
  static auto place(SomeChunk& chunk, const Key& key) {
    return std::lower_bound(chunk.begin(), chunk.end(), key, [](const V& v, const Key& k) { return KeyOf()(v) < k; });
  }

  void add_chunk(size_t at) {
    chunks_.insert(chunks_.begin() + static_cast<ptrdiff_t>(at), std::make_shared<Chunk>());
    own_.insert(own_.begin() + static_cast<ptrdiff_t>(at), 1);
  }

  // The full chunk is parted; returns the part that the key belongs to. What comes in order fills whole chunks.
  template <class Key>
  size_t make_room(size_t at, const Key& key) {
    add_chunk(at + 1);
    if (at + 2 == chunks_.size() && KeyOf()(chunks_[at]->back()) < key) return at + 1;
    Chunk& low = own(at);
    Chunk& high = *chunks_[at + 1];
    const auto middle = low.begin() + static_cast<ptrdiff_t>(kMaxSize / 2);
    high.assign(std::make_move_iterator(middle), std::make_move_iterator(low.end()));
    low.erase(middle, low.end());
    return key < KeyOf()(high.front()) ? at : at + 1;
  }

  // The chunk as this list's alone.
  Chunk& own(size_t at) {
    if (own_[at] == 0) {
      chunks_[at] = std::make_shared<Chunk>(*chunks_[at]);
      own_[at] = 1;
    }
    return *chunks_[at];
  }

  std::vector<std::shared_ptr<Chunk>> chunks_;  // none is empty; what is not own is never written
  std::vector<uint8_t> own_;                    // made by this list: nobody else has it
  size_t size_ = 0;
  mutable bool copied_ = false;
};

}  // namespace outrigger
