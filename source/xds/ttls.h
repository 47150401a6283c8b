// Ttls: when resources end by their time to live.
//
// Thread rule: one thread.
// Use:  ttls.set(Type::kCluster, "a", now_ms + 5'000);   for (auto& [type, name] : ttls.expire(now_ms)) remove(name);
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "xds/types.h"

namespace outrigger::xds {

class Ttls {
 public:
  using Key = std::pair<Type, std::string>;

  void set(Type type, const std::string& name, int64_t at_ms) {
    clear(type, name);
    at_.emplace(Key(type, name), at_ms);
    order_.emplace(at_ms, type, name);
  }
  void clear(Type type, const std::string& name) {
    const auto found = at_.find(Key(type, name));
    if (found == at_.end()) return;
    order_.erase({found->second, type, name});
    at_.erase(found);
  }
  bool has(Type type, const std::string& name) const { return at_.contains(Key(type, name)); }
  std::optional<int64_t> next_ms() const {
    return order_.empty() ? std::nullopt : std::optional(std::get<0>(*order_.begin()));
  }
  // Takes out those whose time is over.
  std::vector<Key> expire(int64_t now_ms) {
    std::vector<Key> gone;
    while (!order_.empty() && std::get<0>(*order_.begin()) <= now_ms) {
      gone.emplace_back(std::get<1>(*order_.begin()), std::get<2>(*order_.begin()));
      at_.erase(gone.back());
      order_.erase(order_.begin());
    }
    return gone;
  }

 private:
  std::map<Key, int64_t> at_;
  std::set<std::tuple<int64_t, Type, std::string>> order_;
};

}  // namespace outrigger::xds
