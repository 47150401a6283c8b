#include "outrigger/header_map.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"

namespace outrigger {
namespace {

using detail::kHeaderNames;

// A static open-addressed table: names hash by length, first, middle and last byte; collisions probe linearly.
constexpr size_t kSlots = 256;

constexpr size_t hash_name(std::string_view name) {
  const auto c = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(name[i])); };
  return (name.size() * 37 + c(0) * 7 + c(name.size() - 1) * 131 + c(name.size() / 2) * 19) % kSlots;
}

constexpr std::array<uint8_t, kSlots> make_table() {
  std::array<uint8_t, kSlots> table{};
  for (size_t id = 1; id < kHeaderIdCount; ++id) {
    size_t slot = hash_name(kHeaderNames[id]);
    while (table[slot] != 0) slot = (slot + 1) % kSlots;
    table[slot] = static_cast<uint8_t>(id);
  }
  return table;
}
constexpr std::array<uint8_t, kSlots> kTable = make_table();
static_assert(kHeaderIdCount < kSlots / 2);

bool is_lower(std::string_view name) {
  return std::none_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

HeaderId find_header_id(std::string_view name) {
  if (name.empty()) return HeaderId::kNone;
  for (size_t slot = hash_name(name); kTable[slot] != 0; slot = (slot + 1) % kSlots)
    if (kHeaderNames[kTable[slot]] == name) return static_cast<HeaderId>(kTable[slot]);
  return HeaderId::kNone;
}

std::string_view HeaderMap::arena_copy(std::string_view text) {
  if (text.empty()) return {"", 0};
  std::string_view copied = arena_->copy(text);
  if (copied.data() == nullptr) overflowed_ = true;
  return copied;
}

void HeaderMap::add(std::string_view name, std::string_view value) {
  std::string_view own_name = arena_copy(name);
  if (own_name.data() == nullptr) return;
  if (!is_lower(own_name)) {
    char* at = const_cast<char*>(own_name.data());  // the arena's own bytes
    for (size_t i = 0; i < own_name.size(); ++i)
      if (at[i] >= 'A' && at[i] <= 'Z') at[i] = static_cast<char>(at[i] + 32);
  }
  add_view(own_name, arena_copy(value), find_header_id(own_name));
}

void HeaderMap::add_copy(const Header& field) {
  const std::string_view name = field.id != HeaderId::kNone ? header_name(field.id) : arena_copy(field.name);
  if (name.data() != nullptr) add_view(name, arena_copy(field.value), field.id, field.never_indexed);
}

bool HeaderMap::grow() {
  const uint32_t bigger = capacity_ == 0 ? 24 : capacity_ * 2;
  if (bigger > UINT16_MAX) return false;
  auto* memory = static_cast<Header*>(arena_->try_allocate(bigger * sizeof(Header), alignof(Header)));
  if (memory == nullptr) return false;
  if (count_ > 0) std::memcpy(static_cast<void*>(memory), fields_, count_ * sizeof(Header));
  fields_ = memory;
  capacity_ = bigger;
  return true;
}

void HeaderMap::set(std::string_view name, std::string_view value) {
  const Header* existing = find(name);
  if (existing == nullptr) {
    add(name, value);
    return;
  }
  const uint32_t at = static_cast<uint32_t>(existing - fields_);
  std::string_view own = arena_copy(value);
  if (own.data() == nullptr) return;
  const std::string_view own_name = fields_[at].name;
  for (uint32_t i = at + 1; i < count_; ++i)
    if (!fields_[i].removed && fields_[i].name == own_name) remove_at(i);
  bytes_ = bytes_ - static_cast<uint32_t>(fields_[at].value.size()) + static_cast<uint32_t>(own.size());
  fields_[at].value = own;
}

void HeaderMap::set(HeaderId id, std::string_view value) {
  std::string_view own = arena_copy(value);
  if (own.data() != nullptr) set_view(id, own);
}

void HeaderMap::set_view(HeaderId id, std::string_view value) {
  const uint16_t at = first_[static_cast<size_t>(id)];
  if (at == 0) {
    add_view(header_name(id), value, id);
    return;
  }
  for (uint32_t i = at; i < count_; ++i)
    if (!fields_[i].removed && fields_[i].id == id) remove_at(i);
  Header& field = fields_[at - 1];
  bytes_ = bytes_ - static_cast<uint32_t>(field.value.size()) + static_cast<uint32_t>(value.size());
  field.value = value;
}

const Header* HeaderMap::find(std::string_view name) const {
  if (const HeaderId id = find_header_id(name); id != HeaderId::kNone) return find(id);
  for (uint32_t i = 0; i < count_; ++i)
    if (!fields_[i].removed && fields_[i].name == name) return &fields_[i];
  return nullptr;
}

std::string_view HeaderMap::get_all(std::string_view name) {
  const Header* first = find(name);
  if (first == nullptr) return {};
  size_t total = first->value.size();
  bool several = false;
  for (const Header* h = first + 1; h < fields_ + count_; ++h) {
    if (h->removed || h->name != name) continue;
    several = true;
    total += 1 + h->value.size();
  }
  if (!several) return first->value;
  char* out = static_cast<char*>(arena_->try_allocate(total, 1));
  if (out == nullptr) {
    overflowed_ = true;
    return first->value;
  }
  char* at = out;
  for (const Header* h = first; h < fields_ + count_; ++h) {
    if (h->removed || h->name != name) continue;
    if (at != out) *at++ = ',';
    at = std::copy(h->value.begin(), h->value.end(), at);
  }
  return {out, total};
}

size_t HeaderMap::remove(HeaderId id) {
  const size_t before = removed_;
  if (const uint16_t at = first_[static_cast<size_t>(id)]; at != 0)
    for (uint32_t i = at - 1; i < count_; ++i)
      if (!fields_[i].removed && fields_[i].id == id) remove_at(i);
  return removed_ - before;
}

size_t HeaderMap::remove(std::string_view name) {
  if (const HeaderId id = find_header_id(name); id != HeaderId::kNone) return remove(id);
  const size_t before = removed_;
  for (uint32_t i = 0; i < count_; ++i)
    if (!fields_[i].removed && fields_[i].name == name) remove_at(i);
  return removed_ - before;
}

void HeaderMap::remove_at(uint32_t index) {
  Header& field = fields_[index];
  field.removed = true;
  ++removed_;
  bytes_ -= static_cast<uint32_t>(field.name.size() + field.value.size());
  if (field.id == HeaderId::kNone) return;
  uint16_t& first = first_[static_cast<size_t>(field.id)];
  if (first != index + 1) return;
  first = 0;
  for (uint32_t i = index + 1; i < count_; ++i) {
    if (!fields_[i].removed && fields_[i].id == field.id) {
      first = static_cast<uint16_t>(i + 1);
      break;
    }
  }
}

void HeaderMap::clear() {
  count_ = removed_ = bytes_ = 0;
  overflowed_ = false;
  std::memset(first_, 0, sizeof(first_));
}

}  // namespace outrigger
