// Protocol Buffers' encoding, for those that look at a few fields of a message, or write one, without its schema.
//
// Thread rule: pure functions; a ProtoWire is its user's.
// Use:  ProtoWire fields(bytes);  for (ProtoField field; fields.next(field);) ...;  if (fields.broken()) ...
// Source: protobuf.dev, "Encoding".
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger {

struct ProtoField {
  static constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;  // types
  uint32_t number = 0;
  uint32_t type = 0;
  uint64_t value = 0;               // of kVarint only
  std::string_view whole, payload;  // payload: of kBytes only
};

// Walks the fields of a serialised message. Groups, which proto3 has not, end the walk as a mistake does.
class ProtoWire {
 public:
  explicit ProtoWire(std::string_view bytes) : rest_(bytes) {}
  bool broken() const { return broken_; }

  bool next(ProtoField& field) {
    if (rest_.empty() || broken_) return false;
    const std::string_view begin = rest_;
    uint64_t tag = 0, length = 0;
    if (!varint(tag) || tag > UINT32_MAX || (tag >> 3) == 0) return fail();
    field = {.number = static_cast<uint32_t>(tag >> 3), .type = static_cast<uint32_t>(tag & 7)};
    switch (field.type) {
      case ProtoField::kVarint:
        if (!varint(field.value)) return fail();
        break;
      case ProtoField::kFixed64:
        if (!skip(8)) return fail();
        break;
      case ProtoField::kBytes:
        if (!varint(length) || length > rest_.size()) return fail();
        field.payload = rest_.substr(0, length);
        skip(length);
        break;
      case ProtoField::kFixed32:
        if (!skip(4)) return fail();
        break;
      default:
        return fail();
    }
    field.whole = begin.substr(0, begin.size() - rest_.size());
    return true;
  }

 private:
  bool fail() {
    broken_ = true;
    return false;
  }
  bool skip(uint64_t size) {
    if (size > rest_.size()) return false;
    rest_.remove_prefix(size);
    return true;
  }
  bool varint(uint64_t& value) {
    value = 0;
    for (size_t i = 0; i < std::min<size_t>(rest_.size(), 10); ++i) {
      const auto byte = static_cast<unsigned char>(rest_[i]);
      value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) return skip(i + 1);
    }
    return false;
  }

  std::string_view rest_;
  bool broken_ = false;
};

inline void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
inline void append_field(std::string& out, uint32_t number, std::string_view payload) {
  append_varint(out, number << 3 | ProtoField::kBytes);
  append_varint(out, payload.size());
  out += payload;
}

}  // namespace outrigger
