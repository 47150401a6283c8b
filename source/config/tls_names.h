// Names that OpenSSL knows: cipher suites and curves.
//
// Thread rule: pure functions.
// Use:  if (!is_tls12_cipher(name)) t.fault(path, ...);
#pragma once

#include <string>
#include <string_view>

namespace outrigger::config {

// "ECDHE-RSA-AES128-GCM-SHA256". False too for those that encrypt or authenticate nothing.
bool is_tls12_cipher(const std::string& name);

inline constexpr std::string_view kCurveNames = "X25519, P-256, P-384, P-521, X448";
bool is_curve(std::string_view name);

}  // namespace outrigger::config
