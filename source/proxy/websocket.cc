#include "proxy/websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <cstring>

#include "http/h1_scan.h"

namespace outrigger::proxy {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
constexpr size_t kMaxKeyBytes = 64;  // 24 are usual

std::string_view base64(const unsigned char* bytes, int size, char* out) {
  return {out, static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out), bytes, size))};
}

}  // namespace

bool upgrade_listed(std::string_view wanted, const route::Match& match, const config::HcmSpec& hcm) {
  const route::ForwardAction* const forward = match.route == nullptr ? nullptr : match.route->forward();
  if (forward != nullptr)
    for (const route::Upgrade& upgrade : forward->upgrades)
      if (http::equals_ignoring_case(wanted, upgrade.type)) return upgrade.enabled;
  for (const config::UpgradeSpec& upgrade : hcm.upgrades)
    if (http::equals_ignoring_case(wanted, upgrade.type)) return upgrade.enabled;
  return false;
}

bool is_websocket(std::string_view upgrade) { return http::equals_ignoring_case(upgrade, "websocket"); }

void add_websocket_key(HeaderMap& request, event::Loop& loop) {
  if (request.find("sec-websocket-version") == nullptr) request.add_view("sec-websocket-version", "13");
  if (request.find("sec-websocket-key") != nullptr) return;
  const uint64_t nonce[2] = {loop.random(), loop.random()};
  unsigned char bytes[sizeof(nonce)];
  std::memcpy(bytes, nonce, sizeof(nonce));
  char text[32];
  request.add("sec-websocket-key", base64(bytes, sizeof(bytes), text));
}

void add_websocket_accept(HeaderMap& response, std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes || response.find("sec-websocket-accept") != nullptr) return;
  unsigned char text[kMaxKeyBytes + kGuid.size()];
  std::memcpy(text, key.data(), key.size());
  std::memcpy(text + key.size(), kGuid.data(), kGuid.size());
  unsigned char hash[SHA_DIGEST_LENGTH];
  SHA1(text, key.size() + kGuid.size(), hash);
  char encoded[32];
  response.add("sec-websocket-accept", base64(hash, sizeof(hash), encoded));
}

}  // namespace outrigger::proxy
