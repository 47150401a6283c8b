#include "filters/api_key_auth/credentials.h"

#include <openssl/crypto.h>

namespace outrigger::filters {
namespace {

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::optional<size_t> Credentials::add(std::string_view key, std::string_view client) {
  const Hash128 hash = keyed_hash128(key);
  if (const auto before = locate(key, hash)) return before;
  index_.insert(hash, static_cast<uint32_t>(entries_.size()));
  entries_.push_back({std::string(key), std::string(client)});
  return std::nullopt;
}

const std::string* Credentials::find(std::string_view key) const {
  const auto at = locate(key, keyed_hash128(key));
  return at ? &entries_[*at].client : nullptr;
}

std::optional<size_t> Credentials::locate(std::string_view key, const Hash128& hash) const {
  const uint32_t* at =
      index_.find(hash, [&](uint32_t candidate) { return equal_in_constant_time(entries_[candidate].key, key); });
  return at == nullptr ? std::nullopt : std::optional<size_t>(*at);
}

}  // namespace outrigger::filters
