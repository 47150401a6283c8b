// TLS specs for tests of the data plane, from certificates made on the spot.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config/spec.h"
#include "support/certificates.h"

namespace outrigger::proxy {

inline config::DownstreamTlsSpec server_tls(const std::vector<test::Certificate>& certificates,
                                            std::vector<std::string> alpn = {"h2", "http/1.1"}) {
  config::DownstreamTlsSpec spec;
  for (const test::Certificate& one : certificates)
    spec.common.certificates.push_back({.chain = {"", one.pem}, .private_key = {"", one.private_key}});
  spec.common.alpn = std::move(alpn);
  return spec;
}

inline config::UpstreamTlsSpec client_tls(const std::string& trusted, std::string sni = "") {
  config::UpstreamTlsSpec spec;
  spec.sni = std::move(sni);
  if (!trusted.empty()) spec.common.validation.emplace().trusted_ca.bytes = trusted;
  return spec;
}

inline config::SecretSpec trusted_secret(std::string name, const std::string& trusted) {
  config::TlsValidationSpec asked;
  asked.trusted_ca.bytes = trusted;
  return {.name = std::move(name), .content = std::move(asked)};
}
inline config::SecretRefSpec secret_of_ads(std::string name) {
  return {.name = std::move(name), .source = config::ConfigSourceSpec{}};
}

}  // namespace outrigger::proxy
