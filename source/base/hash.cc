#include "base/hash.h"

#include <fmt/core.h>
#include <sys/random.h>

#include "base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace outrigger {
namespace {

// XXH3 with a secret of random bytes: not a MAC, but its collisions cannot be found without the secret.
struct Secret {
  unsigned char bytes[XXH3_SECRET_DEFAULT_SIZE];
  Secret() { CHECK(getrandom(bytes, sizeof(bytes), 0) == static_cast<ssize_t>(sizeof(bytes))); }
};
const Secret& secret() {
  static const Secret s;
  return s;
}

}  // namespace

uint64_t keyed_hash(std::string_view bytes) {
  const Secret& s = secret();
  return XXH3_64bits_withSecret(bytes.data(), bytes.size(), s.bytes, sizeof(s.bytes));
}

Hash128 keyed_hash128(std::string_view bytes) {
  const Secret& s = secret();
  const XXH128_hash_t h = XXH3_128bits_withSecret(bytes.data(), bytes.size(), s.bytes, sizeof(s.bytes));
  return {h.low64, h.high64};
}

uint64_t content_hash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }
std::string content_hash_hex(std::string_view bytes) { return fmt::format("{:016x}", content_hash(bytes)); }

}  // namespace outrigger
