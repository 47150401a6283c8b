// Keyed hashing: tables keyed by what a client sends use keyed_hash, whose key is drawn at start-up.
// content_hash is stable across processes (versions, fingerprints).
//
// Thread rule: any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger {

struct Hash128 {
  uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
};

uint64_t keyed_hash(std::string_view bytes);
Hash128 keyed_hash128(std::string_view bytes);
uint64_t content_hash(std::string_view bytes);
std::string content_hash_hex(std::string_view bytes);  // 16 lower-case hex digits

}  // namespace outrigger
