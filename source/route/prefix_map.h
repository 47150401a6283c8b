// PrefixMap: texts with a payload each, found either exactly (one hash probe) or as the longest one that a given text
// starts with; shorter ones that it also starts with follow by parent().
//
// The longest prefix is found by binary search over the distinct lengths of the texts (Waldvogel et al., SIGCOMM 1997):
// one probe per step, 1 + log2(distinct lengths) at most, whatever the number of texts. Where the search has to be led
// to a longer text, a marker stands on the way: a node that is no text of its own, but knows the longest text it starts
// with.
//
// Texts are not copied: they must outlive the map.
//
// Thread rule: built by one thread, then immutable.
// Use:  uint32_t n = map.add("/api/");  map.payload(n) = 7;  map.finish();
//       for (uint32_t at = map.longest(path); at != map.kNone; at = map.parent(at)) use(map.payload(at));
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace outrigger::route {

template <class Payload>
class PrefixMap {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // The node of `text`, new or old. Before finish() only.
  uint32_t add(std::string_view text) {
    const uint32_t at = node_for(text);
    nodes_[at].is_text = true;
    return at;
  }

  // Gives back spare room. finish() does so too.
  void shrink() {
    text_count_ = static_cast<uint32_t>(nodes_.size());
    nodes_.shrink_to_fit();
  }

  // Prepares longest() and parent(); not needed for exact() alone.
  void finish() {
    text_count_ = static_cast<uint32_t>(nodes_.size());
    link_parents();
    for (const Node& node : nodes_) lengths_.push_back(node.size);
    std::sort(lengths_.begin(), lengths_.end());
    lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
    for (uint32_t at = 0; at < text_count_; ++at) place_markers(at);
    nodes_.shrink_to_fit();
    lengths_.shrink_to_fit();
  }

  bool empty() const { return nodes_.empty(); }
  // Nodes below this number are texts; the rest are markers.
  uint32_t text_count() const { return text_count_; }

  uint32_t exact(std::string_view text) const {
    const uint32_t at = probe(text.data(), static_cast<uint32_t>(text.size()));
    return at == kNone || !nodes_[at].is_text ? kNone : at;
  }

  uint32_t longest(std::string_view text) const {
    uint32_t best = kNone;
    size_t low = 0, high = lengths_.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      const uint32_t length = lengths_[middle];
      const uint32_t at = length <= text.size() ? probe(text.data(), length) : kNone;
      if (at == kNone) {
        high = middle;
        continue;
      }
      const Node& node = nodes_[at];
      best = node.is_text ? at : node.parent;
      if (!node.extended) break;
      low = middle + 1;
    }
    return best;
  }

  // The longest other text that this one starts with.
  uint32_t parent(uint32_t at) const { return nodes_[at].parent; }
  std::string_view text(uint32_t at) const { return {nodes_[at].data, nodes_[at].size}; }
  size_t size(uint32_t at) const { return nodes_[at].size; }
  Payload& payload(uint32_t at) { return nodes_[at].payload; }
  const Payload& payload(uint32_t at) const { return nodes_[at].payload; }
  size_t longest_length() const { return lengths_.empty() ? 0 : lengths_.back(); }

 private:
  struct Node {
    const char* data;
    uint32_t size;
    uint32_t parent = kNone;
    bool is_text = false;
    bool extended = false;  // some longer text starts with this one
    Payload payload{};
  };
  struct Slot {
    uint32_t tag = 0;
    uint32_t node = kNone;
  };

  static uint64_t hash(const char* data, uint32_t size) { return XXH3_64bits(data, size); }

  uint32_t probe(const char* data, uint32_t size) const {
    if (slots_.empty()) return kNone;
    const uint64_t h = hash(data, size);
    const auto tag = static_cast<uint32_t>(h >> 32);
    for (size_t i = h & mask_;; i = (i + 1) & mask_) {
      const Slot slot = slots_[i];
      if (slot.node == kNone) return kNone;
      if (slot.tag != tag) continue;
      const Node& node = nodes_[slot.node];
      if (node.size == size && std::memcmp(node.data, data, size) == 0) return slot.node;
    }
  }

  uint32_t node_for(std::string_view text) {
    const auto size = static_cast<uint32_t>(text.size());
    if (const uint32_t at = probe(text.data(), size); at != kNone) return at;
    if ((nodes_.size() + 1) * 2 > slots_.size()) rehash(std::max<size_t>(4, slots_.size() * 2));
    nodes_.push_back(Node{.data = text.data(), .size = size});
    const auto at = static_cast<uint32_t>(nodes_.size() - 1);
    place(at);
    return at;
  }

  void place(uint32_t at) {
    const uint64_t h = hash(nodes_[at].data, nodes_[at].size);
    size_t i = h & mask_;
    while (slots_[i].node != kNone) i = (i + 1) & mask_;
    slots_[i] = {static_cast<uint32_t>(h >> 32), at};
  }

  void rehash(size_t capacity) {
    slots_.assign(capacity, Slot{});
    mask_ = capacity - 1;
    for (uint32_t at = 0; at < nodes_.size(); ++at) place(at);
  }

  // In sorted order every text comes after its prefixes, and those still open form a stack.
  void link_parents() {
    std::vector<uint32_t> order(nodes_.size());
    for (uint32_t at = 0; at < order.size(); ++at) order[at] = at;
    const auto before = [this](uint32_t a, uint32_t b) { return text(a) < text(b); };
    if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
    std::vector<uint32_t> open;
    for (const uint32_t at : order) {
      while (!open.empty() && !text(at).starts_with(text(open.back()))) open.pop_back();
      if (!open.empty()) {
        nodes_[at].parent = open.back();
        nodes_[open.back()].extended = true;
      }
      open.push_back(at);
    }
  }

  // Leads longest()'s binary search to node `at`: a node at every shorter length that the search visits on its way.
  void place_markers(uint32_t at) {
    const std::string_view whole = text(at);
    size_t low = 0, high = lengths_.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      const uint32_t length = lengths_[middle];
      if (length == whole.size()) return;
      if (length > whole.size()) {
        high = middle;
        continue;
      }
      const uint32_t marker = node_for(whole.substr(0, length));
      if (!nodes_[marker].is_text && !nodes_[marker].extended) {
        uint32_t best = nodes_[at].parent;
        while (best != kNone && nodes_[best].size > length) best = nodes_[best].parent;
        nodes_[marker].parent = best;
      }
      nodes_[marker].extended = true;
      low = middle + 1;
    }
  }

  std::vector<Node> nodes_;
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  std::vector<uint32_t> lengths_;  // distinct, ascending
  uint32_t text_count_ = 0;
};

}  // namespace outrigger::route
