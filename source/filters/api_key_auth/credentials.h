// Credentials: API keys and the clients that they belong to. A look-up costs the same for one key as for a million, and
// its time tells nothing about the keys: the table is probed by a keyed hash whose secret is drawn at start-up, and a
// candidate is compared in constant time.
//
// Thread rule: built on the builder thread, then immutable; find() from any worker.
// Use:  Credentials c;  c.add("secret", "mobile-app");  if (const std::string* client = c.find(key)) ...
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "filters/hash_index.h"

namespace outrigger::filters {

class Credentials {
 public:
  // nullopt: added. Otherwise the index of the credential that has this key already; nothing is added then.
  std::optional<size_t> add(std::string_view key, std::string_view client);

  // The client's name, or nullptr: nobody's key.
  const std::string* find(std::string_view key) const;

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string key, client;
  };
  std::optional<size_t> locate(std::string_view key, const Hash128& hash) const;

  std::vector<Entry> entries_;
  HashIndex index_;
};

}  // namespace outrigger::filters
