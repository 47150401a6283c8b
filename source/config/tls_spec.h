// TlsSpec and what is made of it: TLS of listeners and upstreams as plain comparable values, checked: certificates
// parse and are valid now, keys match, names of ciphers and curves are known. Field names follow the messages in
// envoy.extensions.transport_sockets.tls.v3. SecretSpec is a part of it that comes by itself (tls_secrets.h).
//
// Thread rule: values, as in spec.h, which includes this.
// Use:  if (chain.tls) { TRY(part->tls, upstream::TlsContext::server(*chain.tls)); }
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/san_match.h"
#include "config/source_spec.h"

namespace outrigger::config {

class TlsKeyPair;
class TlsAuthorities;

struct TlsCertificateSpec {
  DataSpec chain, private_key;                         // PEM; the leaf is first
  DataSpec ocsp_staple = {};                           // DER; empty: none
  std::shared_ptr<const TlsKeyPair> parsed = nullptr;  // nullptr: not yet
  bool operator==(const TlsCertificateSpec& other) const {
    return chain == other.chain && private_key == other.private_key && ocsp_staple == other.ocsp_staple;
  }
};

struct TlsValidationSpec {  // CertificateValidationContext
  DataSpec trusted_ca;      // empty: chains are not verified
  DataSpec crl;             // empty: none
  bool leaf_crl_only = false;
  std::vector<SanMatch> sans;             // not empty: one of them must match
  std::vector<std::string> hashes, spki;  // SHA-256, 32 bytes; if there are any, one of them must match
  bool accept_untrusted = false;
  std::shared_ptr<const TlsAuthorities> parsed = nullptr;  // trusted_ca and crl; nullptr: not yet, or there are none
  bool operator==(const TlsValidationSpec&) const;         // without `parsed`
  bool verifies() const { return trusted_ca != DataSpec() || !hashes.empty() || !spki.empty(); }
};

// SdsSecretConfig: a secret by its name.
struct SecretRefSpec {
  std::string name;
  std::optional<ConfigSourceSpec> source;  // none: it is among the bootstrap's
  bool operator==(const SecretRefSpec&) const = default;
};

struct TlsSpec {  // CommonTlsContext
  enum class Version : uint8_t { k12, k13 } min_version = Version::k12, max_version = Version::k13;
  std::vector<std::string> cipher_suites;          // empty: ours
  std::vector<std::string> ecdh_curves;            // empty: ours
  std::vector<TlsCertificateSpec> certificates;    // at most one of each kind of key
  std::optional<TlsValidationSpec> validation;     // absent: nothing is asked of the peer
  std::vector<SecretRefSpec> certificate_secrets;  // after `certificates`
  std::optional<SecretRefSpec> validation_secret;  // added to `validation`, if there is one
  std::vector<std::string> alpn;
  bool operator==(const TlsSpec&) const = default;
};

struct DownstreamTlsSpec {
  TlsSpec common;  // at least one certificate
  bool require_client_certificate = false;
  bool tickets = true;
  std::vector<std::string> ticket_keys;  // 80 bytes each; empty: made here
  std::optional<SecretRefSpec> ticket_secret;
  enum class StaplePolicy : uint8_t { kLenient, kStrict, kMust } staple_policy = StaplePolicy::kLenient;
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

struct TicketKeysSpec {  // TlsSessionTicketKeys
  std::vector<DataSpec> keys;
  bool operator==(const TicketKeysSpec&) const = default;
};

struct SecretSpec {
  std::string name;
  std::variant<TlsCertificateSpec, TlsValidationSpec, TicketKeysSpec> content;
  bool operator==(const SecretSpec&) const = default;
};

}  // namespace outrigger::config
