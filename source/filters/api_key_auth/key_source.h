// KeySource: where a request may carry its API key: a header, a query parameter or a cookie.
//
// Parsing is bounded by the request's head and allocates nothing but arena bytes for percent-decoding. Query names and
// values are percent-decoded ("+" stays); an escape that is none stays as it is, and so matches no key. The first
// parameter or cookie of the name counts. A header that comes twice is ambiguous: what stands behind us might read the
// other one, so the request is refused.
//
// Thread rule: immutable; any worker.
// Use:  KeySource source(KeySource::Kind::kHeader, "x-api-key");  KeySource::Found f = source.find(headers, arena);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "outrigger/arena.h"
#include "outrigger/header_map.h"

namespace outrigger::filters {

class KeySource {
 public:
  enum class Kind : uint8_t { kHeader, kQuery, kCookie };

  // `name`: lower-case for kHeader, as it is for the others.
  KeySource(Kind kind, std::string name);

  struct Found {
    std::string_view key;    // empty: none here
    bool ambiguous = false;  // several headers of that name
  };
  // A leading "Bearer " of a header is not part of the key.
  Found find(const HeaderMap& headers, Arena& arena) const;

  // Takes every key of this source out of the request; the rest of the path or the cookies stays as it was (several
  // cookie headers become one). If the arena is full, the whole query or all cookies go.
  void remove(HeaderMap& headers) const;

 private:
  Found find_header(const HeaderMap& headers) const;
  std::string_view find_query(std::string_view path, Arena& arena) const;
  std::string_view find_cookie(const HeaderMap& headers) const;
  void remove_query(HeaderMap& headers) const;
  void remove_cookie(HeaderMap& headers) const;

  Kind kind_;
  HeaderId id_;
  std::string name_;
};

}  // namespace outrigger::filters
