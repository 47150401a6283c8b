// TlsInfo: what the TLS handshake of a connection has found out. For filters, access logs, x-forwarded-client-cert.
//
// Thread rule: made by the connection's worker when the handshake is done; valid as long as the connection, and
// unchanged.
// Use:  if (const TlsInfo* tls = info.downstream_tls; tls != nullptr && tls->peer) tls->peer->subject ...
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger {

struct CertificateInfo {
  std::string subject, issuer;         // RFC 2253
  std::vector<std::string> uri_names;  // subject alternative names; those with unprintable characters are left out
  std::vector<std::string> dns_names;
  std::string serial;  // lower-case hex
  std::string sha256;  // of the certificate's DER, lower-case hex
  std::string pem;     // of the certificate alone
};

struct TlsInfo {
  std::string_view version;  // "TLSv1.3"; static text
  std::string_view cipher;   // OpenSSL's name; static text
  std::string server_name;   // SNI
  std::string alpn;          // what was agreed on; empty: nothing
  bool resumed = false;
  bool peer_verified = false;              // the peer's certificate passed everything that was asked of it
  std::unique_ptr<CertificateInfo> peer;   // nullptr: it showed none
  const CertificateInfo* local = nullptr;  // of our own certificate; nullptr: none shown
};

}  // namespace outrigger
