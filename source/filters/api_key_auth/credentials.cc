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
  if (const Slot* slot = probe(key, hash); slot != nullptr) return slot->entry - 1;
  if ((entries_.size() + 1) * 2 > slots_.size()) grow();
  entries_.push_back({std::string(key), std::string(client)});
  place({hash, static_cast<uint32_t>(entries_.size())});
  return std::nullopt;
}

const std::string* Credentials::find(std::string_view key) const {
  const Slot* slot = probe(key, keyed_hash128(key));
  return slot == nullptr ? nullptr : &entries_[slot->entry - 1].client;
}

const Credentials::Slot* Credentials::probe(std::string_view key, const Hash128& hash) const {
  if (slots_.empty()) return nullptr;
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash.low & mask; slots_[at].entry != 0; at = (at + 1) & mask)
    if (slots_[at].hash == hash && equal_in_constant_time(entries_[slots_[at].entry - 1].key, key)) return &slots_[at];
  return nullptr;
}

void Credentials::place(const Slot& slot) {
  const size_t mask = slots_.size() - 1;
  size_t at = slot.hash.low & mask;
  while (slots_[at].entry != 0) at = (at + 1) & mask;
  slots_[at] = slot;
}

void Credentials::grow() {
  std::vector<Slot> old(slots_.empty() ? 8 : slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.entry != 0) place(slot);
}

}  // namespace outrigger::filters
