#include "config/tls_secrets.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <tuple>

#include "config/tls_material.h"

namespace outrigger::config {
namespace {

// Envoy merges the messages: what the secret says takes the place of the default's single fields, lists are appended.
TlsValidationSpec merged(const TlsValidationSpec& base, const TlsValidationSpec& secret) {
  TlsValidationSpec out = base;
  out.parsed = nullptr;
  if (secret.trusted_ca != DataSpec()) out.trusted_ca = secret.trusted_ca;
  if (secret.crl != DataSpec()) out.crl = secret.crl;
  out.leaf_crl_only = base.leaf_crl_only || secret.leaf_crl_only;
  out.accept_untrusted = base.accept_untrusted || secret.accept_untrusted;
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(out.sans, secret.sans);
  append(out.hashes, secret.hashes);
  append(out.spki, secret.spki);
  const auto authorities = [](const TlsValidationSpec& v) { return std::tie(v.trusted_ca, v.crl, v.leaf_crl_only); };
  if (authorities(out) == authorities(secret)) out.parsed = secret.parsed;
  if (authorities(out) == authorities(base)) out.parsed = base.parsed;
  return out;
}

template <class Content>
const Content* find_content(const SecretRefSpec& reference, const FindSecret& find) {
  const SecretSpec* secret = find(reference);
  return secret == nullptr ? nullptr : std::get_if<Content>(&secret->content);
}

bool put_common(TlsSpec& tls, const FindSecret& find) {
  for (const SecretRefSpec& reference : std::exchange(tls.certificate_secrets, {})) {
    const auto* certificate = find_content<TlsCertificateSpec>(reference, find);
    if (certificate == nullptr) return false;
    tls.certificates.push_back(*certificate);
  }
  if (!tls.validation_secret) return true;
  const auto* asked = find_content<TlsValidationSpec>(*tls.validation_secret, find);
  if (asked == nullptr) return false;
  tls.validation = tls.validation ? merged(*tls.validation, *asked) : *asked;
  tls.validation_secret.reset();
  return true;
}

std::string problem_of(const TlsSpec& tls) {
  std::vector<std::string_view> kinds;
  for (size_t i = 0; i < tls.certificates.size(); ++i) {
    const auto& parsed = tls.certificates[i].parsed;
    if (parsed == nullptr) continue;
    if (std::find(kinds.begin(), kinds.end(), parsed->kind()) != kinds.end())
      return fmt::format(
          "tls_certificates[{}]: is a second certificate with a key of kind {}; there may be one of each", i,
          parsed->kind());
    kinds.push_back(parsed->kind());
  }
  if (!tls.validation || tls.validation->trusted_ca != DataSpec()) return {};
  constexpr std::string_view kNeeds = "needs trusted_ca: what a certificate says of itself proves nothing";
  if (tls.validation->crl != DataSpec()) return fmt::format("validation_context.crl: {}", kNeeds);
  if (!tls.validation->sans.empty()) return fmt::format("validation_context.match_typed_subject_alt_names: {}", kNeeds);
  return {};
}

}  // namespace

bool TlsValidationSpec::operator==(const TlsValidationSpec& other) const {
  const auto all = [](const TlsValidationSpec& v) {
    return std::tie(v.trusted_ca, v.crl, v.leaf_crl_only, v.sans, v.hashes, v.spki, v.accept_untrusted);
  };
  return all(*this) == all(other);
}

std::string_view secret_kind_name(SecretKind kind) {
  constexpr std::string_view kNames[] = {"tls_certificate", "validation_context", "session_ticket_keys"};
  return kNames[static_cast<size_t>(kind)];
}

std::optional<DownstreamTlsSpec> with_secrets(const DownstreamTlsSpec& tls, const FindSecret& find) {
  DownstreamTlsSpec whole = tls;
  if (!put_common(whole.common, find)) return std::nullopt;
  if (!whole.ticket_secret) return whole;
  const auto* keys = find_content<TicketKeysSpec>(*whole.ticket_secret, find);
  if (keys == nullptr) return std::nullopt;
  for (const DataSpec& key : keys->keys) whole.ticket_keys.push_back(key.bytes.text());
  whole.ticket_secret.reset();
  return whole;
}

std::optional<UpstreamTlsSpec> with_secrets(const UpstreamTlsSpec& tls, const FindSecret& find) {
  UpstreamTlsSpec whole = tls;
  if (!put_common(whole.common, find)) return std::nullopt;
  return whole;
}

std::string problem_of(const DownstreamTlsSpec& tls) {
  if (std::string wrong = problem_of(tls.common); !wrong.empty()) return "common_tls_context." + wrong;
  const auto& asked = tls.common.validation;
  if (tls.require_client_certificate && (!asked || (!asked->verifies() && !asked->accept_untrusted)))
    return "require_client_certificate: needs a validation_context that says which: trusted_ca, "
           "verify_certificate_hash or verify_certificate_spki (or trust_chain_verification: ACCEPT_UNTRUSTED for any)";
  for (size_t i = 0; i < tls.common.certificates.size(); ++i) {
    const std::string wrong = staple_problem(tls.common.certificates[i], tls.staple_policy);
    if (!wrong.empty()) return fmt::format("common_tls_context.tls_certificates[{}].ocsp_staple: {}", i, wrong);
  }
  return {};
}

std::string staple_problem(const TlsCertificateSpec& certificate, DownstreamTlsSpec::StaplePolicy policy) {
  using Policy = DownstreamTlsSpec::StaplePolicy;
  const auto& parsed = certificate.parsed;
  if (parsed == nullptr) return {};
  if (parsed->staple().empty()) {
    if (policy == Policy::kMust) return "is required by ocsp_staple_policy";
    return parsed->must_staple() ? "is required by the certificate (RFC 7633)" : "";
  }
  const bool needed = policy != Policy::kLenient || parsed->must_staple();
  return needed && parsed->staple_until() < std::time(nullptr) ? "is out of date" : "";
}

std::string problem_of(const UpstreamTlsSpec& tls) {
  if (std::string wrong = problem_of(tls.common); !wrong.empty()) return "common_tls_context." + wrong;
  const auto& asked = tls.common.validation;
  if (tls.auto_sni_san_validation && (!asked || asked->trusted_ca == DataSpec()))
    return "auto_sni_san_validation: needs a validation_context with trusted_ca";
  return {};
}

}  // namespace outrigger::config
