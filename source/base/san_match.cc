#include "base/san_match.h"

namespace outrigger {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

}  // namespace

bool SanMatch::matches(std::string_view name) const {
  // DNS names have no case (RFC 4343).
  const bool fold = ignore_case || type == Type::kDns;
  const std::string mine = fold ? lower(value) : value, theirs = fold ? lower(name) : std::string(name);
  switch (kind) {
    case Kind::kExact: {
      const size_t dot = mine.find('.');
      const bool wildcard = type == Type::kDns && theirs.starts_with("*.") && dot != 0 && dot != std::string::npos;
      return mine == theirs || (wildcard && mine.substr(dot) == theirs.substr(1));
    }
    case Kind::kPrefix:
      return theirs.starts_with(mine);
    case Kind::kSuffix:
      return theirs.ends_with(mine);
    case Kind::kContains:
      return theirs.find(mine) != std::string::npos;
  }
  return false;
}

}  // namespace outrigger
