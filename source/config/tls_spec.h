// TlsSpec and what is made of it: TLS of listeners and upstreams as plain comparable values, checked: certificates
// parse and are valid now, keys match, names of ciphers and curves are known. Field names follow the messages in
// envoy.extensions.transport_sockets.tls.v3.
//
// Thread rule: values, as in spec.h, which includes this.
// Use:  if (chain.tls) { TRY(part->tls, upstream::TlsContext::server(*chain.tls)); }
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/san_match.h"
#include "config/source_spec.h"

namespace outrigger::config {

struct TlsCertificateSpec {
  DataSpec chain, private_key;  // PEM; the leaf is first
  bool operator==(const TlsCertificateSpec&) const = default;
};

struct TlsValidationSpec {  // CertificateValidationContext
  DataSpec trusted_ca;      // empty: chains are not verified
  DataSpec crl;             // empty: none
  bool leaf_crl_only = false;
  std::vector<SanMatch> sans;             // not empty: one of them must match
  std::vector<std::string> hashes, spki;  // SHA-256, 32 bytes; if there are any, one of them must match
  bool accept_untrusted = false;
  bool operator==(const TlsValidationSpec&) const = default;
};

struct TlsSpec {  // CommonTlsContext
  enum class Version : uint8_t { k12, k13 } min_version = Version::k12, max_version = Version::k13;
  std::vector<std::string> cipher_suites;        // empty: ours
  std::vector<std::string> ecdh_curves;          // empty: ours
  std::vector<TlsCertificateSpec> certificates;  // at most one of each kind of key
  std::optional<TlsValidationSpec> validation;   // absent: nothing is asked of the peer
  std::vector<std::string> alpn;
  bool operator==(const TlsSpec&) const = default;
};

struct DownstreamTlsSpec {
  TlsSpec common;  // at least one certificate
  bool require_client_certificate = false;
  bool tickets = true;
  std::vector<std::string> ticket_keys;  // 80 bytes each; empty: made here
  uint64_t session_timeout_ms = 7'200'000;
  bool operator==(const DownstreamTlsSpec&) const = default;
};

struct ClientCertDetailsSpec {  // HttpConnectionManager.SetCurrentClientCertDetails
  bool subject = false, cert = false, dns = false, uri = false;
  bool operator==(const ClientCertDetailsSpec&) const = default;
};

struct UpstreamTlsSpec {
  TlsSpec common;
  std::string sni;
  bool auto_host_sni = false;
  bool auto_sni_san_validation = false;
  uint32_t max_session_keys = 1;
  bool operator==(const UpstreamTlsSpec&) const = default;
};

}  // namespace outrigger::config
