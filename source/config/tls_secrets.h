// Secrets in the place of what names them: TLS of a listener or cluster as it is when the secrets that it names are
// known. What can only be wrong of the whole (two certificates with one kind of key) is said here.
//
// Thread rule: pure functions.
// Use:  auto whole = with_secrets(*chain.tls, find);  if (whole && !problem_of(*whole).empty()) refuse
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "config/tls_spec.h"

namespace outrigger::config {

// What a secret is, or is used as.
enum class SecretKind : uint8_t { kCertificate, kValidation, kTicketKeys };  // in the order of SecretSpec::content
std::string_view secret_kind_name(SecretKind kind);                          // "tls_certificate", ...
inline SecretKind kind_of(const SecretSpec& secret) { return static_cast<SecretKind>(secret.content.index()); }

// Calls f(reference, what it is used as) for each secret that is named.
template <class Spec, class F>
void each_secret(Spec& tls, F&& f) {
  for (auto& one : tls.certificate_secrets) f(one, SecretKind::kCertificate);
  if (tls.validation_secret) f(*tls.validation_secret, SecretKind::kValidation);
}
template <class F>
void each_secret(const DownstreamTlsSpec& tls, F&& f) {
  each_secret(tls.common, f);
  if (tls.ticket_secret) f(*tls.ticket_secret, SecretKind::kTicketKeys);
}
template <class F>
void each_secret(DownstreamTlsSpec& tls, F&& f) {
  each_secret(tls.common, f);
  if (tls.ticket_secret) f(*tls.ticket_secret, SecretKind::kTicketKeys);
}
template <class F>
void each_secret(const UpstreamTlsSpec& tls, F&& f) {
  each_secret(tls.common, f);
}
template <class F>
void each_secret(UpstreamTlsSpec& tls, F&& f) {
  each_secret(tls.common, f);
}

// nullptr: it is not known.
using FindSecret = std::function<const SecretSpec*(const SecretRefSpec& reference)>;

// Nothing names a secret any more. nullopt: one of them is not known, or of another kind.
std::optional<DownstreamTlsSpec> with_secrets(const DownstreamTlsSpec& tls, const FindSecret& find);
std::optional<UpstreamTlsSpec> with_secrets(const UpstreamTlsSpec& tls, const FindSecret& find);

// What is wrong with the whole, which names no secrets: "tls_certificates[1]: is a second ..."; "": nothing.
std::string problem_of(const DownstreamTlsSpec& tls);
std::string problem_of(const UpstreamTlsSpec& tls);
// What is wrong with the certificate's staple, or the lack of it; "": nothing.
std::string staple_problem(const TlsCertificateSpec& certificate, DownstreamTlsSpec::StaplePolicy policy);

}  // namespace outrigger::config
