#include "http/hpack.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "http/h1_scan.h"
#include "http/h2_memory.h"
#include "http/hpack_huffman.h"

namespace outrigger::http {

struct HpackEntry {
  const char* name_at;  // a well-known name is not stored
  uint32_t name_bytes, value_bytes;
  uint32_t hash, name_hash;     // encoders
  uint32_t next, next_of_name;  // the older one in its bucket, by number + 1
  HeaderId id;
  bool good;  // decoders: HpackField's

  char* text() { return reinterpret_cast<char*>(this + 1); }
  std::string_view name() const { return {name_at, name_bytes}; }
  std::string_view value() const {
    return {reinterpret_cast<const char*>(this + 1) + (id != HeaderId::kNone ? 0 : name_bytes), value_bytes};
  }
  uint32_t bytes() const { return name_bytes + value_bytes + 32; }
};

namespace {

constexpr uint64_t kMaxStringBytes = 64 * 1024;  // of a name or a value, as it is on the wire

// RFC 7541 appendix A.
struct StaticField {
  HeaderId id;
  std::string_view name, value;
};
constexpr StaticField kStatic[] = {{HeaderId::kNone, "", ""},
                                   {HeaderId::kAuthority, ":authority", ""},
                                   {HeaderId::kMethod, ":method", "GET"},
                                   {HeaderId::kMethod, ":method", "POST"},
                                   {HeaderId::kPath, ":path", "/"},
                                   {HeaderId::kPath, ":path", "/index.html"},
                                   {HeaderId::kScheme, ":scheme", "http"},
                                   {HeaderId::kScheme, ":scheme", "https"},
                                   {HeaderId::kStatus, ":status", "200"},
                                   {HeaderId::kStatus, ":status", "204"},
                                   {HeaderId::kStatus, ":status", "206"},
                                   {HeaderId::kStatus, ":status", "304"},
                                   {HeaderId::kStatus, ":status", "400"},
                                   {HeaderId::kStatus, ":status", "404"},
                                   {HeaderId::kStatus, ":status", "500"},
                                   {HeaderId::kNone, "accept-charset", ""},
                                   {HeaderId::kAcceptEncoding, "accept-encoding", "gzip, deflate"},
                                   {HeaderId::kNone, "accept-language", ""},
                                   {HeaderId::kNone, "accept-ranges", ""},
                                   {HeaderId::kAccept, "accept", ""},
                                   {HeaderId::kNone, "access-control-allow-origin", ""},
                                   {HeaderId::kAge, "age", ""},
                                   {HeaderId::kAllow, "allow", ""},
                                   {HeaderId::kAuthorization, "authorization", ""},
                                   {HeaderId::kCacheControl, "cache-control", ""},
                                   {HeaderId::kNone, "content-disposition", ""},
                                   {HeaderId::kContentEncoding, "content-encoding", ""},
                                   {HeaderId::kNone, "content-language", ""},
                                   {HeaderId::kContentLength, "content-length", ""},
                                   {HeaderId::kNone, "content-location", ""},
                                   {HeaderId::kNone, "content-range", ""},
                                   {HeaderId::kContentType, "content-type", ""},
                                   {HeaderId::kCookie, "cookie", ""},
                                   {HeaderId::kDate, "date", ""},
                                   {HeaderId::kEtag, "etag", ""},
                                   {HeaderId::kExpect, "expect", ""},
                                   {HeaderId::kExpires, "expires", ""},
                                   {HeaderId::kNone, "from", ""},
                                   {HeaderId::kHost, "host", ""},
                                   {HeaderId::kNone, "if-match", ""},
                                   {HeaderId::kIfModifiedSince, "if-modified-since", ""},
                                   {HeaderId::kIfNoneMatch, "if-none-match", ""},
                                   {HeaderId::kNone, "if-range", ""},
                                   {HeaderId::kNone, "if-unmodified-since", ""},
                                   {HeaderId::kLastModified, "last-modified", ""},
                                   {HeaderId::kNone, "link", ""},
                                   {HeaderId::kLocation, "location", ""},
                                   {HeaderId::kNone, "max-forwards", ""},
                                   {HeaderId::kProxyAuthenticate, "proxy-authenticate", ""},
                                   {HeaderId::kProxyAuthorization, "proxy-authorization", ""},
                                   {HeaderId::kRange, "range", ""},
                                   {HeaderId::kReferer, "referer", ""},
                                   {HeaderId::kNone, "refresh", ""},
                                   {HeaderId::kRetryAfter, "retry-after", ""},
                                   {HeaderId::kServer, "server", ""},
                                   {HeaderId::kSetCookie, "set-cookie", ""},
                                   {HeaderId::kNone, "strict-transport-security", ""},
                                   {HeaderId::kTransferEncoding, "transfer-encoding", ""},
                                   {HeaderId::kUserAgent, "user-agent", ""},
                                   {HeaderId::kVary, "vary", ""},
                                   {HeaderId::kVia, "via", ""},
                                   {HeaderId::kWwwAuthenticate, "www-authenticate", ""}};
constexpr uint32_t kStaticCount = 61;
static_assert(std::size(kStatic) == kStaticCount + 1);
// The first index of a well-known name, 0: it is not there.
constexpr std::array<uint8_t, kHeaderIdCount> kFirstStatic = [] {
  std::array<uint8_t, kHeaderIdCount> first{};
  for (uint8_t i = kStaticCount; i > 0; --i)
    if (kStatic[i].id != HeaderId::kNone) first[static_cast<size_t>(kStatic[i].id)] = i;
  return first;
}();

// --- decoding --------------------------------------------------------------------------------------------------------

enum class Parsed : uint8_t { kGood, kMore, kError };

// RFC 7541 section 5.1.
Parsed take_integer(const uint8_t*& at, const uint8_t* end, unsigned prefix_bits, uint64_t& value) {
  const auto most = static_cast<uint8_t>((1u << prefix_bits) - 1);
  value = *at++ & most;
  if (value != most) return Parsed::kGood;
  for (unsigned shift = 0; shift <= 28; shift += 7) {
    if (at == end) return Parsed::kMore;
    const uint8_t byte = *at++;
    value += uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) return Parsed::kGood;
  }
  return Parsed::kError;
}

struct Coded {
  std::string_view bytes;
  bool huffman = false;
};
Parsed take_string(const uint8_t*& at, const uint8_t* end, Coded& out) {
  if (at == end) return Parsed::kMore;
  out.huffman = (*at & 0x80) != 0;
  uint64_t size = 0;
  if (const Parsed parsed = take_integer(at, end, 7, size); parsed != Parsed::kGood) return parsed;
  if (size > kMaxStringBytes) return Parsed::kError;
  if (size > static_cast<size_t>(end - at)) return Parsed::kMore;
  out.bytes = {reinterpret_cast<const char*>(at), static_cast<size_t>(size)};
  at += size;
  return Parsed::kGood;
}

// `room` keeps what it has grown to.
bool decode_string(const Coded& coded, HpackOutput& room, std::string_view& out) {
  out = coded.bytes;
  if (!coded.huffman) return true;
  char* const to = room.room(huffman_room(coded.bytes.size()));
  size_t size = 0;
  if (!huffman_decode(coded.bytes, to, size)) return false;
  out = {to, size};
  return true;
}

bool good_name(std::string_view name) {
  bool good = !name.empty();
  for (const char c : name) good &= token_lower(c) == c && c != '\0';
  return good;
}
bool good_value(std::string_view value) {
  if (value.empty()) return true;
  const char* const end = value.data() + value.size();
  return !is_ows(value.front()) && !is_ows(value.back()) && find_control(value.data(), end, value.data()) == end;
}

}  // namespace

// --- the dynamic table -----------------------------------------------------------------------------------------------

HpackTable::~HpackTable() {
  evict(0);
  h2_free(ring_);
}

void HpackTable::evict(uint32_t until) {
  while (bytes_ > until) {
    HpackEntry* const oldest = ring_[(inserted_ - count_) & (room_ - 1)];
    bytes_ -= oldest->bytes();
    --count_;
    h2_free(oldest);
  }
}

void HpackTable::set_limit(uint32_t bytes) {
  limit_ = std::min(bytes, kHpackTableBytes);
  evict(limit_);
}

void HpackTable::grow() {
  const uint32_t bigger = room_ == 0 ? 8 : 2 * room_;
  auto** const ring = static_cast<HpackEntry**>(h2_allocate(bigger * sizeof(HpackEntry*)));
  for (uint32_t n = inserted_ - count_; n != inserted_; ++n) ring[n & (bigger - 1)] = ring_[n & (room_ - 1)];
  h2_free(ring_);
  ring_ = ring;
  room_ = bigger;
}

HpackEntry* HpackTable::insert(HeaderId id, std::string_view name, std::string_view value) {
  const size_t bytes = name.size() + value.size() + 32;
  if (bytes > limit_) {
    evict(0);
    return nullptr;
  }
  const size_t stored = id != HeaderId::kNone ? 0 : name.size();
  auto* const entry = new (h2_allocate(sizeof(HpackEntry) + stored + value.size())) HpackEntry{};
  entry->name_bytes = static_cast<uint32_t>(name.size());
  entry->value_bytes = static_cast<uint32_t>(value.size());
  entry->id = id;
  if (stored != 0) std::memcpy(entry->text(), name.data(), stored);
  entry->name_at = stored != 0 ? entry->text() : header_name(id).data();
  if (!value.empty()) std::memcpy(entry->text() + stored, value.data(), value.size());
  evict(limit_ - static_cast<uint32_t>(bytes));
  if (count_ == room_) grow();
  ring_[inserted_++ & (room_ - 1)] = entry;
  ++count_;
  bytes_ += static_cast<uint32_t>(bytes);
  return entry;
}

// --- HpackDecoder ----------------------------------------------------------------------------------------------------

// False: there is none.
bool HpackDecoder::find(uint64_t index, HpackField& field) const {
  if (index == 0 || index > kStaticCount + table_.count()) return false;
  if (index <= kStaticCount) {
    field = {kStatic[index].name, kStatic[index].value, kStatic[index].id, true};
  } else {
    const HpackEntry& entry = table_.at(table_.inserted() - static_cast<uint32_t>(index - kStaticCount));
    field = {entry.name(), entry.value(), entry.id, entry.good};
  }
  return true;
}

HpackDecoder::Got HpackDecoder::next(const uint8_t*& at, const uint8_t* end, HpackField& field) {
  static thread_local HpackOutput name_room, value_room;
  const auto got = [](Parsed parsed) { return parsed == Parsed::kMore ? Got::kMore : Got::kError; };
  for (;;) {
    if (at == end) return Got::kEnd;
    const uint8_t* here = at;
    const uint8_t first = *at;
    uint64_t index = 0;
    if ((first & 0x80) != 0) {
      size_may_change_ = false;
      if (const Parsed parsed = take_integer(here, end, 7, index); parsed != Parsed::kGood) return got(parsed);
      at = here;
      return find(index, field) ? Got::kField : Got::kError;
    }
    if ((first & 0xe0) == 0x20) {  // section 6.3
      if (const Parsed parsed = take_integer(here, end, 5, index); parsed != Parsed::kGood) return got(parsed);
      if (!size_may_change_ || index > kHpackTableBytes) return Got::kError;
      table_.set_limit(static_cast<uint32_t>(index));
      at = here;
      continue;
    }
    const bool indexed = (first & 0x40) != 0;
    const bool never_indexed = (first & 0xf0) == 0x10;
    size_may_change_ = false;
    if (const Parsed parsed = take_integer(here, end, indexed ? 6 : 4, index); parsed != Parsed::kGood)
      return got(parsed);
    Coded name, value;
    if (index == 0) {
      if (const Parsed parsed = take_string(here, end, name); parsed != Parsed::kGood) return got(parsed);
    } else if (!find(index, field)) {
      return Got::kError;
    }
    if (const Parsed parsed = take_string(here, end, value); parsed != Parsed::kGood) return got(parsed);
    if (index == 0) {
      name_room.clear();
      if (!decode_string(name, name_room, field.name)) return Got::kError;
      field.id = find_header_id(field.name);
      field.good = false;
      if (field.id != HeaderId::kNone) field.name = header_name(field.id);
    }
    value_room.clear();
    if (!decode_string(value, value_room, field.value)) return Got::kError;
    const bool named_well = field.good || field.id != HeaderId::kNone || good_name(field.name);
    field.good = named_well && good_value(field.value);
    field.never_indexed = never_indexed;
    at = here;
    if (!indexed) return Got::kField;
    if (index > kStaticCount && field.id == HeaderId::kNone) {  // the entry that it lies in may have to go
      name_room.clear();
      char* const copy = name_room.room(field.name.size());
      std::memcpy(copy, field.name.data(), field.name.size());
      field.name = {copy, field.name.size()};
    }
    if (HpackEntry* const entry = table_.insert(field.id, field.name, field.value); entry != nullptr)
      entry->good = field.good;
    return Got::kField;
  }
}

// --- HpackEncoder ----------------------------------------------------------------------------------------------------

void HpackOutput::grow(size_t most) {
  const size_t bigger = std::max({size_t{1024}, 2 * capacity_, size_ + most});
  auto data = std::make_unique<char[]>(bigger);
  if (size_ != 0) std::memcpy(data.get(), data_.get(), size_);
  data_ = std::move(data);
  capacity_ = bigger;
}

namespace {

enum class Indexing : uint8_t { kTable, kNone, kNever };

Indexing indexing_of(HeaderId id, std::string_view value) {
  switch (id) {
    case HeaderId::kAuthorization:
    case HeaderId::kProxyAuthorization:
      return Indexing::kNever;
    case HeaderId::kCookie:  // a short one could be guessed
      return value.size() < 20 ? Indexing::kNever : Indexing::kTable;
    case HeaderId::kPath:
    case HeaderId::kAge:
    case HeaderId::kContentLength:
    case HeaderId::kEtag:
    case HeaderId::kGrpcTimeout:
    case HeaderId::kIfModifiedSince:
    case HeaderId::kIfNoneMatch:
    case HeaderId::kLocation:
    case HeaderId::kSetCookie:
    case HeaderId::kTraceparent:
    case HeaderId::kXRequestId:
      return Indexing::kNone;
    default:
      return Indexing::kTable;
  }
}

// The index of the static field that is the same, 0: none.
uint32_t static_field(HeaderId id, std::string_view value) {
  switch (id) {
    case HeaderId::kMethod:
      return value == "GET" ? 2 : value == "POST" ? 3 : 0;
    case HeaderId::kPath:
      return value == "/" ? 4 : 0;
    case HeaderId::kScheme:
      return value == "http" ? 6 : value == "https" ? 7 : 0;
    case HeaderId::kStatus:
      for (uint32_t i = 8; i <= 14; ++i)
        if (kStatic[i].value == value) return i;
      return 0;
    default:
      return 0;
  }
}

uint32_t mix(std::string_view text, uint64_t hash) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
  const char* at = text.data();
  size_t left = text.size();
  for (; left >= 8; left -= 8, at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 32;
  }
  uint64_t word = left;
  for (; left > 0; --left) word = word << 8 | static_cast<uint8_t>(*at++);
  hash = (hash ^ word) * kOdd;
  return static_cast<uint32_t>(hash >> 32);
}

// Most values are clean.
std::string_view clean(std::string_view value) {
  const char* const end = value.data() + value.size();
  if (find_control(value.data(), end, value.data()) == end) [[likely]]
    return value;
  static thread_local std::string cleaned;
  cleaned.assign(value);
  std::replace_if(cleaned.begin(), cleaned.end(), is_control, ' ');
  return cleaned;
}

char* put_integer(char* to, uint8_t pattern, unsigned prefix_bits, size_t value) {
  const size_t most = (size_t{1} << prefix_bits) - 1;
  if (value < most) {
    *to++ = static_cast<char>(pattern | value);
    return to;
  }
  *to++ = static_cast<char>(pattern | most);
  for (value -= most; value >= 128; value >>= 7) *to++ = static_cast<char>(value | 0x80);
  *to++ = static_cast<char>(value);
  return to;
}
char* put_raw(char* to, std::string_view text) {
  to = put_integer(to, 0, 7, text.size());
  if (!text.empty()) std::memcpy(to, text.data(), text.size());
  return to + text.size();
}
char* put_coded(char* to, std::string_view text) {
  const size_t coded = huffman_size(text);
  if (coded >= text.size()) return put_raw(to, text);
  return huffman_encode(text, put_integer(to, 0x80, 7, coded));
}

constexpr size_t kMostOfIntegers = 3 * 8;

}  // namespace

struct HpackEncoder::Buckets {
  uint32_t fields[kBuckets] = {};
  uint32_t names[kBuckets] = {};
};
void HpackEncoder::FreeBuckets::operator()(Buckets* buckets) const { h2_free(buckets); }

void HpackEncoder::set_limit(uint32_t bytes) {
  bytes = std::min(bytes, kHpackTableBytes);
  if (bytes == table_.limit()) return;
  limit_changed_ = true;
  least_limit_ = std::min(least_limit_, bytes);
  table_.set_limit(bytes);
}

// RFC 7541 section 4.2: the smallest limit of those meanwhile, then the one that holds.
void HpackEncoder::begin(HpackOutput& out) {
  if (!limit_changed_) [[likely]]
    return;
  limit_changed_ = false;
  char* to = out.room(kMostOfIntegers);
  if (least_limit_ < table_.limit()) to = put_integer(to, 0x20, 5, least_limit_);
  out.end(put_integer(to, 0x20, 5, table_.limit()));
  least_limit_ = table_.limit();
}

// The index, 0: it is not there.
uint32_t HpackEncoder::find_field(HeaderId id, std::string_view name, std::string_view value, uint32_t hash) const {
  if (buckets_ == nullptr) return 0;
  for (uint32_t number = buckets_->fields[hash % kBuckets]; number != 0 && table_.holds(number - 1);) {
    const HpackEntry& entry = table_.at(number - 1);
    if (entry.hash == hash && entry.id == id && entry.value() == value && entry.name() == name)
      return kStaticCount + table_.inserted() - (number - 1);
    number = entry.next;
  }
  return 0;
}

uint32_t HpackEncoder::find_name(HeaderId id, std::string_view name, uint32_t hash) const {
  if (buckets_ == nullptr) return 0;
  for (uint32_t number = buckets_->names[hash % kBuckets]; number != 0 && table_.holds(number - 1);) {
    const HpackEntry& entry = table_.at(number - 1);
    if (entry.name_hash == hash && entry.id == id && entry.name() == name)
      return kStaticCount + table_.inserted() - (number - 1);
    number = entry.next_of_name;
  }
  return 0;
}

void HpackEncoder::insert(HeaderId id, std::string_view name, std::string_view value, uint32_t hash,
                          uint32_t name_hash) {
  HpackEntry* const entry = table_.insert(id, name, value);
  if (entry == nullptr) return;
  if (buckets_ == nullptr) buckets_.reset(new (h2_allocate(sizeof(Buckets))) Buckets);
  entry->hash = hash;
  entry->name_hash = name_hash;
  entry->next = std::exchange(buckets_->fields[hash % kBuckets], table_.inserted());
  entry->next_of_name = std::exchange(buckets_->names[name_hash % kBuckets], table_.inserted());
}

void HpackEncoder::add(HpackOutput& out, HeaderId id, std::string_view name, std::string_view value,
                       bool never_indexed) {
  char* to = out.room(name.size() + value.size() + kMostOfIntegers);
  Indexing indexing = Indexing::kNever;
  if (!never_indexed) [[likely]] {
    if (const uint32_t index = static_field(id, value); index != 0) return out.end(put_integer(to, 0x80, 7, index));
    indexing = indexing_of(id, value);
  }
  // Large ones would drive out all others.
  if (indexing == Indexing::kTable && name.size() + value.size() + 32 > table_.limit() * 3 / 4)
    indexing = Indexing::kNone;
  const uint32_t name_hash = id != HeaderId::kNone ? static_cast<uint32_t>(id) : mix(name, 0);
  if (indexing == Indexing::kTable) {  // what is in it is clean
    if (const uint32_t index = find_field(id, name, value, mix(value, name_hash)); index != 0)
      return out.end(put_integer(to, 0x80, 7, index));
  }
  value = clean(value);
  uint32_t name_index = kFirstStatic[static_cast<size_t>(id)];
  if (name_index == 0) {
    name_index = find_name(id, name, name_hash);
    // So that the next one need not spell the name out.
    if (name_index == 0 && indexing == Indexing::kNone && name.size() + value.size() + 32 <= table_.limit() / 8)
      indexing = Indexing::kTable;
  }
  const bool table = indexing == Indexing::kTable;
  to = put_integer(to, table ? 0x40 : indexing == Indexing::kNever ? 0x10 : 0, table ? 6 : 4, name_index);
  if (name_index == 0) to = put_coded(to, name);
  to = table ? put_coded(to, value) : put_raw(to, value);
  out.end(to);
  if (table) insert(id, name, value, mix(value, name_hash), name_hash);
}

}  // namespace outrigger::http
