// Bytes -> the state file's reader: refused with a reason, or a state that is written as the same bytes (of an older
// format: as others that say the same). The checksum is put right first, so that what lies behind it is reached.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/hash.h"
#include "server/state_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace outrigger;
  const std::string given(reinterpret_cast<const char*>(data), size);
  const auto check = [](const std::string& bytes) {
    const auto state = server::decode(bytes);
    if (!state) {
      if (state.error().detail.empty()) std::abort();
      return;
    }
    const std::string again = server::encode(*state);
    if (*server::decode(again) != *state || (bytes[8] == again[8] && again != bytes)) std::abort();
  };
  check(given);
  if (size < 32) return 0;
  std::string right = given;
  const std::string payload = given.substr(32);
  const auto set = [&](size_t at, uint64_t number) {
    for (size_t i = 0; i < 8; ++i) right[at + i] = static_cast<char>(number >> (8 * i) & 0xff);
  };
  set(16, payload.size());
  set(24, content_hash(payload));
  check(right);
  return 0;
}
