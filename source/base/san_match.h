// SanMatch: what a subject alternative name of a peer's certificate must be (Envoy: SubjectAltNameMatcher).
//
// Thread rule: values.
// Use:  if (match.type == SanMatch::Type::kDns && match.matches("a.example")) ...
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger {

struct SanMatch {
  enum class Type : uint8_t { kEmail, kDns, kUri, kIp } type = Type::kDns;
  enum class Kind : uint8_t { kExact, kPrefix, kSuffix, kContains } kind = Kind::kExact;
  std::string value;
  bool ignore_case = false;
  bool operator==(const SanMatch&) const = default;

  // `name`: of a certificate; "*.example" is any one label before ".example" to an exact match of DNS names.
  bool matches(std::string_view name) const;
};

}  // namespace outrigger
