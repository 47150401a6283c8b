// HPACK (RFC 7541): field sections of HTTP/2, both ways. What is known of a field's name and form is kept with it in
// the tables: a field that the peer means by its index has been looked up and checked when it came first.
//
// Memory comes from h2_memory.h: nothing until the peer's first section, at most about 4 KiB of entries each way and a
// ring of pointers.
//
// Thread rule: one thread; a table's connection stays on its loop.
// Use:  decoder.begin();   while ((got = decoder.next(at, end, field)) == HpackDecoder::Got::kField) take(field);
//       encoder.begin(out);   encoder.add(out, header.id, header.name, header.value);
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "outrigger/header_map.h"

namespace outrigger::http {

inline constexpr uint32_t kHpackTableBytes = 4096;  // RFC 9113 section 6.5.2: the initial value, and our largest

// A field as it was decoded; valid until the next call.
struct HpackField {
  std::string_view name, value;
  HeaderId id = HeaderId::kNone;  // then `name` is header_name(id), which lasts
  bool good = false;  // RFC 9113 section 8.2.1: the name is a lower-case token or a pseudo-header, the value is trimmed
                      // and holds no control byte
  bool never_indexed = false;  // section 7.1.3
};

struct HpackEntry;

// The dynamic table. Entries are counted as they come; the newest has index 1.
class HpackTable {
 public:
  HpackTable() = default;
  ~HpackTable();
  HpackTable(const HpackTable&) = delete;
  HpackTable& operator=(const HpackTable&) = delete;

  void set_limit(uint32_t bytes);  // evicts; at most kHpackTableBytes
  uint32_t limit() const { return limit_; }
  uint32_t count() const { return count_; }
  uint32_t inserted() const { return inserted_; }
  bool holds(uint32_t number) const { return inserted_ - number <= count_ && number != inserted_; }
  HpackEntry& at(uint32_t number) const { return *ring_[number & (room_ - 1)]; }  // of one that it holds
  // Its number is inserted() - 1. nullptr: it is larger than the table, which is empty now (section 4.4). `name` and
  // `value` may lie in an entry.
  HpackEntry* insert(HeaderId id, std::string_view name, std::string_view value);

 private:
  void evict(uint32_t until);
  void grow();

  HpackEntry** ring_ = nullptr;
  uint32_t room_ = 0;  // a power of two
  uint32_t count_ = 0;
  uint32_t inserted_ = 0;
  uint32_t bytes_ = 0;  // as section 4.1 counts
  uint32_t limit_ = kHpackTableBytes;
};

class HpackDecoder {
 public:
  enum class Got : uint8_t { kField, kEnd, kMore, kError };

  // A field section begins.
  void begin() { size_may_change_ = true; }
  // The next field in [at, end). kEnd: at == end. kMore: what is left is the beginning of one. kError: no HPACK; the
  // connection's tables are not the same any more (COMPRESSION_ERROR). `at` moves behind what was decoded.
  Got next(const uint8_t*& at, const uint8_t* end, HpackField& field);

 private:
  bool find(uint64_t index, HpackField& field) const;

  HpackTable table_;
  bool size_may_change_ = false;
};

// Bytes that are written one after another; recycled by their owner.
class HpackOutput {
 public:
  // Room for `most` bytes at the end; end(at) says how far it was used.
  char* room(size_t most) {
    if (capacity_ - size_ < most) [[unlikely]]
      grow(most);
    return data_.get() + size_;
  }
  void end(const char* at) { size_ = static_cast<size_t>(at - data_.get()); }
  void clear() { size_ = 0; }
  char* data() { return data_.get(); }
  size_t size() const { return size_; }

 private:
  void grow(size_t most);
  std::unique_ptr<char[]> data_;
  size_t size_ = 0, capacity_ = 0;
};

// Values that tend to come again go into the table, in the Huffman code; those that do not are written as they are,
// which costs some bytes and saves both sides their time. What its sender wanted in no table, and what we know to be
// secret, is never indexed (section 7.1.3).
class HpackEncoder {
 public:
  // The peer's SETTINGS_HEADER_TABLE_SIZE.
  void set_limit(uint32_t bytes);
  // A field section begins.
  void begin(HpackOutput& out);
  // `id` is the name's, which is in lower case. A control byte of the value becomes a space.
  void add(HpackOutput& out, HeaderId id, std::string_view name, std::string_view value, bool never_indexed = false);

 private:
  static constexpr uint32_t kBuckets = 64;
  struct Buckets;  // the newest entry of each hash, by number + 1
  struct FreeBuckets {
    void operator()(Buckets* buckets) const;
  };

  uint32_t find_field(HeaderId id, std::string_view name, std::string_view value, uint32_t hash) const;
  uint32_t find_name(HeaderId id, std::string_view name, uint32_t hash) const;
  void insert(HeaderId id, std::string_view name, std::string_view value, uint32_t hash, uint32_t name_hash);

  HpackTable table_;
  std::unique_ptr<Buckets, FreeBuckets> buckets_;
  uint32_t least_limit_ = kHpackTableBytes;  // since the last section
  bool limit_changed_ = false;
};

}  // namespace outrigger::http
