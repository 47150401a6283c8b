#include "filters/api_key_auth/key_source.h"

#include <cstring>

namespace outrigger::filters {
namespace {

constexpr std::string_view kBearer = "Bearer ";

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The next decoded byte of `text` at `at`, which moves on.
char next_decoded(std::string_view text, size_t& at) {
  if (text[at] == '%' && at + 2 < text.size() && hex(text[at + 1]) >= 0 && hex(text[at + 2]) >= 0) {
    const char byte = static_cast<char>(hex(text[at + 1]) * 16 + hex(text[at + 2]));
    at += 3;
    return byte;
  }
  return text[at++];
}

bool decoded_equals(std::string_view encoded, std::string_view plain) {
  if (encoded.size() < plain.size()) return false;
  size_t at = 0, compared = 0;
  while (at < encoded.size()) {
    if (compared == plain.size() || next_decoded(encoded, at) != plain[compared]) return false;
    ++compared;
  }
  return compared == plain.size();
}

// `text` percent-decoded, in the arena if that changes anything; empty if the arena is full.
std::string_view decode(std::string_view text, Arena& arena) {
  if (text.find('%') == std::string_view::npos) return text;
  char* out = static_cast<char*>(arena.try_allocate(text.size(), 1));
  if (out == nullptr) return {};
  size_t size = 0;
  for (size_t at = 0; at < text.size();) out[size++] = next_decoded(text, at);
  return {out, size};
}

struct Pair {
  std::string_view whole, name, value;
};

// Splits the query of a request target. `at` starts at 0; false: no more.
class QueryReader {
 public:
  explicit QueryReader(std::string_view path) {
    path = path.substr(0, path.find('#'));
    const size_t mark = path.find('?');
    base_ = path.substr(0, mark);
    more_ = mark != std::string_view::npos;
    if (more_) rest_ = path.substr(mark + 1);
  }
  std::string_view base() const { return base_; }  // before "?"
  bool next(Pair& pair) {
    if (!more_) return false;
    const size_t end = rest_.find('&');
    pair.whole = rest_.substr(0, end);
    more_ = end != std::string_view::npos;
    if (more_) rest_.remove_prefix(end + 1);
    const size_t equal = pair.whole.find('=');
    pair.name = pair.whole.substr(0, equal);
    pair.value = equal == std::string_view::npos ? std::string_view() : pair.whole.substr(equal + 1);
    return true;
  }

 private:
  std::string_view base_, rest_;
  bool more_ = false;
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Splits one Cookie field (RFC 6265 section 4.2.1). A value's double quotes are not part of it.
class CookieReader {
 public:
  explicit CookieReader(std::string_view field) : rest_(field) {}
  bool next(Pair& pair) {
    while (more_) {
      const size_t end = rest_.find(';');
      pair.whole = trim(rest_.substr(0, end));
      more_ = end != std::string_view::npos;
      if (more_) rest_.remove_prefix(end + 1);
      if (pair.whole.empty()) continue;
      const size_t equal = pair.whole.find('=');
      pair.name = pair.whole.substr(0, equal);
      pair.value = equal == std::string_view::npos ? std::string_view() : pair.whole.substr(equal + 1);
      if (pair.value.size() >= 2 && pair.value.front() == '"' && pair.value.back() == '"')
        pair.value = pair.value.substr(1, pair.value.size() - 2);
      return true;
    }
    return false;
  }

 private:
  std::string_view rest_;
  bool more_ = true;
};

// Appends to arena memory whose size is known beforehand.
class Writer {
 public:
  Writer(Arena& arena, size_t capacity) : data_(static_cast<char*>(arena.try_allocate(capacity, 1))) {}
  bool ok() const { return data_ != nullptr; }
  size_t size() const { return size_; }
  void append(std::string_view text) {
    std::memcpy(data_ + size_, text.data(), text.size());
    size_ += text.size();
  }
  std::string_view view() const { return {data_, size_}; }

 private:
  char* data_;
  size_t size_ = 0;
};

}  // namespace

KeySource::KeySource(Kind kind, std::string name)
    : kind_(kind), id_(kind == Kind::kHeader ? find_header_id(name) : HeaderId::kNone), name_(std::move(name)) {}

KeySource::Found KeySource::find(const HeaderMap& headers, Arena& arena) const {
  switch (kind_) {
    case Kind::kHeader:
      return find_header(headers);
    case Kind::kQuery:
      return {.key = find_query(headers.get(HeaderId::kPath), arena)};
    case Kind::kCookie:
      return {.key = find_cookie(headers)};
  }
  return {};
}

void KeySource::remove(HeaderMap& headers) const {
  switch (kind_) {
    case Kind::kHeader:
      if (id_ != HeaderId::kNone)
        headers.remove(id_);
      else
        headers.remove(name_);
      return;
    case Kind::kQuery:
      return remove_query(headers);
    case Kind::kCookie:
      return remove_cookie(headers);
  }
}

KeySource::Found KeySource::find_header(const HeaderMap& headers) const {
  Found found;
  bool seen = false;
  headers.for_each([&](const Header& header) {
    if (id_ != HeaderId::kNone ? header.id != id_ : header.name != name_) return;
    found.ambiguous = seen;
    if (!seen) found.key = header.value;
    seen = true;
  });
  if (found.key.substr(0, kBearer.size()) == kBearer) found.key.remove_prefix(kBearer.size());
  return found;
}

std::string_view KeySource::find_query(std::string_view path, Arena& arena) const {
  QueryReader reader(path);
  for (Pair pair; reader.next(pair);)
    if (decoded_equals(pair.name, name_)) return decode(pair.value, arena);
  return {};
}

std::string_view KeySource::find_cookie(const HeaderMap& headers) const {
  std::string_view value;
  bool seen = false;
  headers.for_each([&](const Header& header) {
    if (seen || header.id != HeaderId::kCookie) return;
    CookieReader reader(header.value);
    for (Pair pair; !seen && reader.next(pair);) {
      if (pair.name != name_) continue;
      value = pair.value;
      seen = true;
    }
  });
  return value;
}

void KeySource::remove_query(HeaderMap& headers) const {
  const std::string_view path = headers.get(HeaderId::kPath);
  Pair pair;
  bool present = false;
  for (QueryReader reader(path); !present && reader.next(pair);) present = decoded_equals(pair.name, name_);
  if (!present) return;
  QueryReader reader(path);
  Writer out(headers.arena(), path.size());
  if (!out.ok()) return headers.set_view(HeaderId::kPath, reader.base());
  out.append(reader.base());
  char separator = '?';
  while (reader.next(pair)) {
    if (decoded_equals(pair.name, name_)) continue;
    out.append({&separator, 1});
    out.append(pair.whole);
    separator = '&';
  }
  headers.set_view(HeaderId::kPath, out.view());
}

void KeySource::remove_cookie(HeaderMap& headers) const {
  size_t capacity = 0;
  bool present = false;
  headers.for_each([&](const Header& header) {
    if (header.id != HeaderId::kCookie) return;
    capacity += header.value.size() * 2 + 2;  // "; " may be longer than what it stands for
    CookieReader reader(header.value);
    for (Pair pair; reader.next(pair);) present = present || pair.name == name_;
  });
  if (!present) return;
  Writer out(headers.arena(), capacity);
  if (out.ok()) {
    headers.for_each([&](const Header& header) {
      if (header.id != HeaderId::kCookie) return;
      CookieReader reader(header.value);
      for (Pair pair; reader.next(pair);) {
        if (pair.name == name_) continue;
        if (out.size() > 0) out.append("; ");
        out.append(pair.whole);
      }
    });
  }
  headers.remove(HeaderId::kCookie);
  if (out.ok() && out.size() > 0) headers.add_view(header_name(HeaderId::kCookie), out.view(), HeaderId::kCookie);
}

}  // namespace outrigger::filters
