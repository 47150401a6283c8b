// Transport sockets: TLS of listeners and clusters, and of the ways to control planes.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "config/any.h"
#include "config/pem.h"
#include "config/scalars.h"
#include "config/tls_names.h"
#include "config/translation.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/core/v3/grpc_service.pb.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "envoy/type/matcher/v3/string.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace tls = envoy::extensions::transport_sockets::tls::v3;
using envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;

namespace {

constexpr size_t kMaxPemBytes = 1 << 20;
constexpr size_t kTicketKeyBytes = 80;
constexpr size_t kDigestBytes = 32;  // SHA-256

DataSpec data_spec(const core::DataSource& source, const FieldPath& path, Translation& t) {
  return {.file = source.filename(), .bytes = data_source(source, kMaxPemBytes, path, t)};
}

// Data of a file that is the proxy's: nothing can be said of it here.
bool is_elsewhere(const DataSpec& data, const Translation& t) {
  return t.state.options.files_elsewhere && !data.file.empty();
}

// A fault that names the file, if it is one.
void data_fault(const DataSpec& data, const std::string& problem, const FieldPath& path, Translation& t) {
  if (!problem.empty()) t.fault(path, data.file.empty() ? problem : fmt::format("{} {}", data.file, problem));
}

// Data that `problem_of` has nothing against.
template <class F>
DataSpec checked_data(const core::DataSource& source, F&& problem_of, const FieldPath& path, Translation& t) {
  const size_t errors = t.faults.errors();
  DataSpec spec = data_spec(source, path, t);
  if (t.faults.errors() == errors && !is_elsewhere(spec, t)) data_fault(spec, problem_of(spec.bytes), path, t);
  return spec;
}

DataSpec certificates_spec(const core::DataSource& source, const FieldPath& path, Translation& t) {
  return checked_data(source, certificates_problem, path, t);
}

void identity(const core::DataSource& from_chain, const core::DataSource& from_key, const FieldPath& chain_path,
              const FieldPath& key_path, DataSpec& chain, DataSpec& key, Translation& t) {
  const size_t errors = t.faults.errors();
  chain = certificates_spec(from_chain, chain_path, t);
  if (t.faults.errors() == errors && !is_elsewhere(chain, t))
    data_fault(chain, dates_problem(chain.bytes), chain_path, t);
  key = data_spec(from_key, key_path, t);
  if (t.faults.errors() == errors && !is_elsewhere(chain, t) && !is_elsewhere(key, t))
    data_fault(key, private_key_problem(key.bytes, chain.bytes), key_path, t);
}

SanMatch san_match(const tls::SubjectAltNameMatcher& from, const FieldPath& path, Translation& t) {
  using Type = SanMatch::Type;
  SanMatch match;
  switch (from.san_type()) {
    case tls::SubjectAltNameMatcher::EMAIL:
      match.type = Type::kEmail;
      break;
    case tls::SubjectAltNameMatcher::DNS:
      match.type = Type::kDns;
      break;
    case tls::SubjectAltNameMatcher::URI:
      match.type = Type::kUri;
      break;
    case tls::SubjectAltNameMatcher::IP_ADDRESS:
      match.type = Type::kIp;
      break;
    default:
      t.fault(path.field("san_type"), "must be EMAIL, DNS, URI or IP_ADDRESS");
  }
  const StringMatchSpec string = string_match_spec(from.matcher(), path.field("matcher"), t);
  if (string.kind == StringMatchSpec::Kind::kRegex)
    t.fault(path.field("matcher").field("safe_regex"), "is not supported here; use exact, prefix, suffix or contains");
  else
    match.kind = static_cast<SanMatch::Kind>(string.kind);  // in the same order
  match.value = string.value;
  match.ignore_case = string.ignore_case;
  return match;
}

TlsSpec::Version version(tls::TlsParameters::TlsProtocol from, TlsSpec::Version automatic, const FieldPath& path,
                         Translation& t) {
  switch (from) {
    case tls::TlsParameters::TLS_AUTO:
      return automatic;
    case tls::TlsParameters::TLSv1_2:
      return TlsSpec::Version::k12;
    case tls::TlsParameters::TLSv1_3:
      return TlsSpec::Version::k13;
    default:
      t.fault(path, "is too old: TLS before 1.2 is not supported (RFC 8996)");
      return automatic;
  }
}

// "[A|B]" lets the client choose in Envoy; here it is A, then B.
void add_ciphers(std::string_view entry, std::vector<std::string>& to, const FieldPath& path, Translation& t) {
  if (entry.starts_with('[') && entry.ends_with(']')) entry = entry.substr(1, entry.size() - 2);
  for (;;) {
    const size_t bar = std::min(entry.find('|'), entry.size());
    const std::string name(entry.substr(0, bar));
    if (is_tls12_cipher(name))
      to.push_back(name);
    else
      t.fault(path, fmt::format("\"{}\" is no cipher suite of TLS 1.2 that OpenSSL has and that is secure", name));
    if (bar == entry.size()) return;
    entry.remove_prefix(bar + 1);
  }
}

void parameters(const tls::TlsParameters& from, TlsSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath maximum = path.field("tls_maximum_protocol_version");
  spec.min_version =
      version(from.tls_minimum_protocol_version(), spec.min_version, path.field("tls_minimum_protocol_version"), t);
  spec.max_version = version(from.tls_maximum_protocol_version(), spec.max_version, maximum, t);
  if (spec.min_version > spec.max_version) t.fault(maximum, "is below tls_minimum_protocol_version");
  each(from.cipher_suites(), path.field("cipher_suites"),
       [&](const std::string& entry, const FieldPath& at) { add_ciphers(entry, spec.cipher_suites, at, t); });
  each(from.ecdh_curves(), path.field("ecdh_curves"), [&](const std::string& name, const FieldPath& at) {
    if (!is_curve(name)) t.fault(at, fmt::format("\"{}\" is not known; known are {}", name, kCurveNames));
    spec.ecdh_curves.push_back(name);
  });
}

std::string digest_of_hex(std::string text, const FieldPath& path, Translation& t) {
  std::erase(text, ':');
  std::string out;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  for (size_t i = 0; i + 1 < text.size() && digit(text[i]) >= 0 && digit(text[i + 1]) >= 0; i += 2)
    out += static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1]));
  if (out.size() != kDigestBytes || text.size() != 2 * kDigestBytes)
    t.fault(path, "must be a SHA-256 in hex: 64 digits, with or without colons");
  return out;
}

std::string digest_of_base64(const std::string& text, const FieldPath& path, Translation& t) {
  const std::optional<std::string> bytes = parse_base64(text);
  if (bytes && bytes->size() == kDigestBytes) return *bytes;
  t.fault(path, "must be a SHA-256 in base64: 44 characters");
  return {};
}

TlsValidationSpec validation(const tls::CertificateValidationContext& from, const FieldPath& path, Translation& t) {
  constexpr std::string_view kNeedsAuthority = "needs trusted_ca: what a certificate says of itself proves nothing";
  TlsValidationSpec spec;
  if (from.has_trusted_ca()) spec.trusted_ca = certificates_spec(from.trusted_ca(), path.field("trusted_ca"), t);
  if (from.has_crl()) {
    spec.crl = checked_data(from.crl(), revocations_problem, path.field("crl"), t);
    if (!from.has_trusted_ca()) t.fault(path.field("crl"), std::string(kNeedsAuthority));
  }
  spec.leaf_crl_only = from.only_verify_leaf_cert_crl();
  const FieldPath names = path.field("match_typed_subject_alt_names");
  each(from.match_typed_subject_alt_names(), names,
       [&](const auto& one, const FieldPath& at) { spec.sans.push_back(san_match(one, at, t)); });
  if (!spec.sans.empty() && !from.has_trusted_ca()) t.fault(names, std::string(kNeedsAuthority));
  each(from.verify_certificate_hash(), path.field("verify_certificate_hash"),
       [&](const std::string& one, const FieldPath& at) { spec.hashes.push_back(digest_of_hex(one, at, t)); });
  each(from.verify_certificate_spki(), path.field("verify_certificate_spki"),
       [&](const std::string& one, const FieldPath& at) { spec.spki.push_back(digest_of_base64(one, at, t)); });
  spec.accept_untrusted = from.trust_chain_verification() == tls::CertificateValidationContext::ACCEPT_UNTRUSTED;
  return spec;
}

void certificates(const tls::CommonTlsContext& from, TlsSpec& spec, const FieldPath& path, Translation& t) {
  std::vector<std::string> kinds;
  each(from.tls_certificates(), path, [&](const tls::TlsCertificate& certificate, const FieldPath& at) {
    const size_t errors = t.faults.errors();
    TlsCertificateSpec& one = spec.certificates.emplace_back();
    identity(certificate.certificate_chain(), certificate.private_key(), at.field("certificate_chain"),
             at.field("private_key"), one.chain, one.private_key, t);
    if (t.faults.errors() != errors || is_elsewhere(one.chain, t)) return;
    kinds.push_back(key_kind(one.chain.bytes));
    if (std::count(kinds.begin(), kinds.end(), kinds.back()) > 1)
      t.fault(at, fmt::format("is a second certificate with a key of kind {}; there may be one of each", kinds.back()));
  });
}

TlsSpec common_spec(const tls::CommonTlsContext& from, const FieldPath& path, Translation& t) {
  TlsSpec spec;
  parameters(from.tls_params(), spec, path.field("tls_params"), t);
  certificates(from, spec, path.field("tls_certificates"), t);
  if (from.has_validation_context())
    spec.validation = validation(from.validation_context(), path.field("validation_context"), t);
  each(from.alpn_protocols(), path.field("alpn_protocols"), [&](const std::string& protocol, const FieldPath& at) {
    if (protocol != "h2" && protocol != "http/1.1") t.fault(at, "must be h2 or http/1.1");
    spec.alpn.push_back(protocol);
  });
  return spec;
}

DownstreamTlsSpec downstream_spec(const tls::DownstreamTlsContext& from, const FieldPath& path, Translation& t) {
  DownstreamTlsSpec spec;
  const FieldPath common = path.field("common_tls_context");
  spec.common = common_spec(from.common_tls_context(), common, t);
  if (spec.common.certificates.empty()) t.fault(common.field("tls_certificates"), "needs at least one");
  spec.require_client_certificate = from.require_client_certificate().value();
  const auto& asked = spec.common.validation;
  if (spec.require_client_certificate && (!asked || (asked->trusted_ca == DataSpec() && asked->hashes.empty() &&
                                                     asked->spki.empty() && !asked->accept_untrusted)))
    t.fault(
        path.field("require_client_certificate"),
        "needs a validation_context that says which: trusted_ca, verify_certificate_hash or verify_certificate_spki "
        "(or trust_chain_verification: ACCEPT_UNTRUSTED for any)");
  spec.tickets = !from.disable_stateless_session_resumption();
  const FieldPath tickets = path.field("session_ticket_keys");
  const FieldPath keys = tickets.field("keys");
  if (from.has_session_ticket_keys() && from.session_ticket_keys().keys().empty()) t.fault(keys, "needs at least one");
  each(from.session_ticket_keys().keys(), keys, [&](const core::DataSource& key, const FieldPath& at) {
    spec.ticket_keys.push_back(checked_data(
                                   key,
                                   [](const std::string& bytes) {
                                     return bytes.size() == kTicketKeyBytes
                                                ? std::string()
                                                : fmt::format("has {} bytes, must have {}", bytes.size(),
                                                              kTicketKeyBytes);
                                   },
                                   at, t)
                                   .bytes);
  });
  if (from.has_session_timeout())
    spec.session_timeout_ms = duration_ms(from.session_timeout(), path.field("session_timeout"), t);
  return spec;
}

UpstreamTlsSpec upstream_spec(const tls::UpstreamTlsContext& from, const FieldPath& path, Translation& t) {
  UpstreamTlsSpec spec;
  spec.common = common_spec(from.common_tls_context(), path.field("common_tls_context"), t);
  spec.sni = from.sni();
  check_header_value(spec.sni, path.field("sni"), t);
  if (spec.sni.size() > 255) t.fault(path.field("sni"), "is longer than 255 bytes");
  if (from.has_max_session_keys()) spec.max_session_keys = from.max_session_keys().value();
  spec.auto_host_sni = from.auto_host_sni();
  spec.auto_sni_san_validation = from.auto_sni_san_validation();
  const bool authority = spec.common.validation && spec.common.validation->trusted_ca != DataSpec();
  if (spec.auto_sni_san_validation && !authority)
    t.fault(path.field("auto_sni_san_validation"), "needs a validation_context with trusted_ca");
  if (!authority &&
      (!spec.common.validation || (spec.common.validation->hashes.empty() && spec.common.validation->spki.empty())))
    OUTRIGGER_LOG(kWarning, "config", "{}: without validation_context.trusted_ca any server is believed", path.str());
  return spec;
}

// True: `context` is what the socket says. False: it is plain, or wrong.
template <class Context>
bool open_context(const core::TransportSocket& socket, Context& context, const FieldPath& path, Translation& t) {
  const FieldPath at = path.field("typed_config");
  if (socket.config_type_case() != core::TransportSocket::kTypedConfig) {
    if (socket.name() != "raw_buffer" && socket.name() != "envoy.transport_sockets.raw_buffer")
      t.fault(at, "is required");
    return false;
  }
  const std::string_view type = type_name(socket.typed_config());
  if (type == RawBuffer::descriptor()->full_name()) {
    RawBuffer raw;
    unpack_to(socket.typed_config(), raw, at, t.faults);
    return false;
  }
  if (type != Context::descriptor()->full_name()) {
    t.fault(at, fmt::format("type {} is not supported; {} and {} are", type, Context::descriptor()->full_name(),
                            RawBuffer::descriptor()->full_name()));
    return false;
  }
  if (!unpack_to(socket.typed_config(), context, at, t.faults)) return false;
  check_field_use(context, at, t.faults);
  return true;
}

}  // namespace

std::optional<DownstreamTlsSpec> downstream_tls_spec(const core::TransportSocket& socket, const FieldPath& path,
                                                     Translation& t) {
  tls::DownstreamTlsContext context;
  if (!open_context(socket, context, path, t)) return std::nullopt;
  return downstream_spec(context, path.field("typed_config"), t);
}

std::optional<UpstreamTlsSpec> upstream_tls_spec(const core::TransportSocket& socket, const FieldPath& path,
                                                 Translation& t) {
  tls::UpstreamTlsContext context;
  if (!open_context(socket, context, path, t)) return std::nullopt;
  return upstream_spec(context, path.field("typed_config"), t);
}

ChannelTlsSpec channel_tls_spec(const UpstreamTlsSpec& from, const FieldPath& path, Translation& t) {
  ChannelTlsSpec spec;
  const FieldPath common = path.field("common_tls_context");
  const auto refuse = [&](bool given, const FieldPath& at) {
    if (given) t.fault(at, "is not supported in a cluster that is the way to a control plane");
  };
  spec.server_name = from.sni;
  refuse(from.auto_host_sni, path.field("auto_host_sni"));
  refuse(from.auto_sni_san_validation, path.field("auto_sni_san_validation"));
  const TlsSpec plain;
  const TlsSpec& mine = from.common;
  refuse(mine.min_version != plain.min_version || mine.max_version != plain.max_version ||
             !mine.cipher_suites.empty() || !mine.ecdh_curves.empty(),
         common.field("tls_params"));
  if (mine.certificates.size() > 1) t.fault(common.field("tls_certificates"), "has more than one entry");
  if (!mine.certificates.empty()) {
    spec.certificate_chain = mine.certificates[0].chain;
    spec.private_key = mine.certificates[0].private_key;
  }
  const FieldPath validation = common.field("validation_context");
  const TlsValidationSpec asked = mine.validation.value_or(TlsValidationSpec());
  if (asked.trusted_ca == DataSpec())
    t.fault(validation.field("trusted_ca"), "is required: whoever can pose as the control plane decides everything");
  spec.trusted_ca = asked.trusted_ca;
  spec.san_matches = asked.sans;
  refuse(asked.crl != DataSpec(), validation.field("crl"));
  refuse(!asked.hashes.empty(), validation.field("verify_certificate_hash"));
  refuse(!asked.spki.empty(), validation.field("verify_certificate_spki"));
  refuse(asked.accept_untrusted, validation.field("trust_chain_verification"));
  for (size_t i = 0; i < mine.alpn.size(); ++i)
    if (mine.alpn[i] != "h2") t.fault(common.field("alpn_protocols").index(i), "must be h2, which gRPC needs");
  return spec;
}

ChannelTlsSpec ssl_credentials_spec(const core::GrpcService& service, const FieldPath& path, Translation& t) {
  const auto& from = service.google_grpc().channel_credentials().ssl_credentials();
  ChannelTlsSpec spec;
  if (from.has_root_certs()) spec.trusted_ca = certificates_spec(from.root_certs(), path.field("root_certs"), t);
  if (from.has_cert_chain() != from.has_private_key())
    t.fault(path.field(from.has_cert_chain() ? "private_key" : "cert_chain"), "is required: they belong together");
  else if (from.has_cert_chain())
    identity(from.cert_chain(), from.private_key(), path.field("cert_chain"), path.field("private_key"),
             spec.certificate_chain, spec.private_key, t);
  return spec;
}

}  // namespace outrigger::config
