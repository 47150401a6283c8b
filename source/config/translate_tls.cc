// Transport sockets: TLS of listeners and clusters, and of the ways to control planes.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "config/any.h"
#include "config/pem.h"
#include "config/scalars.h"
#include "config/tls_names.h"
#include "config/tls_secrets.h"
#include "config/translation.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "envoy/config/core/v3/grpc_service.pb.h"
#include "envoy/config/core/v3/proxy_protocol.pb.h"
#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "envoy/type/matcher/v3/string.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace tls = envoy::extensions::transport_sockets::tls::v3;
using envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
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
  if (t.faults.errors() == errors && !is_elsewhere(spec, t)) data_fault(spec, problem_of(spec.bytes.text()), path, t);
  return spec;
}

DataSpec certificates_spec(const core::DataSource& source, const FieldPath& path, Translation& t) {
  return checked_data(source, certificates_problem, path, t);
}

// A certificate and its key, as far as they are here.
void identity(const core::DataSource& from_chain, const core::DataSource& from_key, const core::DataSource* from_staple,
              const FieldPath& chain_path, const FieldPath& key_path, const FieldPath& staple_path,
              TlsCertificateSpec& spec, Translation& t) {
  const size_t errors = t.faults.errors();
  spec.chain = data_spec(from_chain, chain_path, t);
  spec.private_key = data_spec(from_key, key_path, t);
  if (from_staple != nullptr) spec.ocsp_staple = data_spec(*from_staple, staple_path, t);
  if (t.faults.errors() != errors) return;
  const bool chain_elsewhere = is_elsewhere(spec.chain, t), key_elsewhere = is_elsewhere(spec.private_key, t);
  const std::string& chain = spec.chain.bytes.text();
  if (!chain_elsewhere && !key_elsewhere && !is_elsewhere(spec.ocsp_staple, t)) {
    using Where = TlsMaterials::Problem::Where;
    TlsMaterials::Problem problem;
    spec.parsed =
        t.state.tls_materials.key_pair(chain, spec.private_key.bytes.text(), spec.ocsp_staple.bytes.text(), problem);
    if (spec.parsed != nullptr) return;
    if (problem.where == Where::kKey) return data_fault(spec.private_key, problem.text, key_path, t);
    if (problem.where == Where::kStaple) return data_fault(spec.ocsp_staple, problem.text, staple_path, t);
    return data_fault(spec.chain, problem.text, chain_path, t);
  }
  if (chain_elsewhere) return;
  std::string wrong = certificates_problem(chain);
  if (wrong.empty()) wrong = dates_problem(chain);
  data_fault(spec.chain, wrong, chain_path, t);
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

// `alone`: nothing is added to it.
TlsValidationSpec validation(const tls::CertificateValidationContext& from, bool alone, const FieldPath& path,
                             Translation& t) {
  constexpr std::string_view kNeedsAuthority = "needs trusted_ca: what a certificate says of itself proves nothing";
  const size_t errors = t.faults.errors();
  const bool lacks_authority = alone && !from.has_trusted_ca();
  TlsValidationSpec spec;
  if (from.has_trusted_ca()) spec.trusted_ca = certificates_spec(from.trusted_ca(), path.field("trusted_ca"), t);
  if (from.has_crl()) {
    spec.crl = checked_data(from.crl(), revocations_problem, path.field("crl"), t);
    if (lacks_authority) t.fault(path.field("crl"), std::string(kNeedsAuthority));
  }
  spec.leaf_crl_only = from.only_verify_leaf_cert_crl();
  const FieldPath names = path.field("match_typed_subject_alt_names");
  each(from.match_typed_subject_alt_names(), names,
       [&](const auto& one, const FieldPath& at) { spec.sans.push_back(san_match(one, at, t)); });
  if (!spec.sans.empty() && lacks_authority) t.fault(names, std::string(kNeedsAuthority));
  each(from.verify_certificate_hash(), path.field("verify_certificate_hash"),
       [&](const std::string& one, const FieldPath& at) { spec.hashes.push_back(digest_of_hex(one, at, t)); });
  each(from.verify_certificate_spki(), path.field("verify_certificate_spki"),
       [&](const std::string& one, const FieldPath& at) { spec.spki.push_back(digest_of_base64(one, at, t)); });
  spec.accept_untrusted = from.trust_chain_verification() == tls::CertificateValidationContext::ACCEPT_UNTRUSTED;
  if (t.faults.errors() == errors && !is_elsewhere(spec.trusted_ca, t) && !is_elsewhere(spec.crl, t))
    spec.parsed =
        t.state.tls_materials.authorities(spec.trusted_ca.bytes.text(), spec.crl.bytes.text(), spec.leaf_crl_only);
  return spec;
}

TlsCertificateSpec certificate_spec(const tls::TlsCertificate& from, const FieldPath& path, Translation& t) {
  TlsCertificateSpec spec;
  identity(from.certificate_chain(), from.private_key(), from.has_ocsp_staple() ? &from.ocsp_staple() : nullptr,
           path.field("certificate_chain"), path.field("private_key"), path.field("ocsp_staple"), spec, t);
  return spec;
}

void certificates(const tls::CommonTlsContext& from, TlsSpec& spec, const FieldPath& path, Translation& t) {
  std::vector<std::string> kinds;
  each(from.tls_certificates(), path, [&](const tls::TlsCertificate& certificate, const FieldPath& at) {
    const TlsCertificateSpec& one = spec.certificates.emplace_back(certificate_spec(certificate, at, t));
    if (one.parsed == nullptr) return;
    kinds.push_back(one.parsed->kind());
    if (std::count(kinds.begin(), kinds.end(), kinds.back()) > 1)
      t.fault(at, fmt::format("is a second certificate with a key of kind {}; there may be one of each", kinds.back()));
  });
}

SecretRefSpec secret_ref(const tls::SdsSecretConfig& from, const FieldPath& path, Translation& t) {
  SecretRefSpec spec{.name = from.name(), .source = {}};
  if (spec.name.empty()) t.fault(path.field("name"), "must not be empty");
  if (from.has_sds_config()) {
    spec.source = config_source_spec(from.sds_config(), true, path.field("sds_config"), t);
  } else if (t.state.targets && !spec.name.empty() && !t.state.targets->secrets.contains(spec.name)) {
    t.fault(path.field("name"),
            fmt::format("\"{}\" is not among static_resources.secrets, and there is no sds_config", spec.name));
  }
  return spec;
}

void validation_context(const tls::CommonTlsContext& from, TlsSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath secret = path.field("validation_context_sds_secret_config");
  switch (from.validation_context_type_case()) {
    case tls::CommonTlsContext::kValidationContext:
      spec.validation = validation(from.validation_context(), true, path.field("validation_context"), t);
      break;
    case tls::CommonTlsContext::kValidationContextSdsSecretConfig:
      spec.validation_secret = secret_ref(from.validation_context_sds_secret_config(), secret, t);
      break;
    case tls::CommonTlsContext::kCombinedValidationContext: {
      const auto& both = from.combined_validation_context();
      const FieldPath at = path.field("combined_validation_context");
      spec.validation = validation(both.default_validation_context(), false, at.field("default_validation_context"), t);
      spec.validation_secret =
          secret_ref(both.validation_context_sds_secret_config(), at.field("validation_context_sds_secret_config"), t);
      break;
    }
    case tls::CommonTlsContext::VALIDATION_CONTEXT_TYPE_NOT_SET:
      break;
  }
}

TlsSpec common_spec(const tls::CommonTlsContext& from, const FieldPath& path, Translation& t) {
  TlsSpec spec;
  parameters(from.tls_params(), spec, path.field("tls_params"), t);
  certificates(from, spec, path.field("tls_certificates"), t);
  each(from.tls_certificate_sds_secret_configs(), path.field("tls_certificate_sds_secret_configs"),
       [&](const auto& one, const FieldPath& at) { spec.certificate_secrets.push_back(secret_ref(one, at, t)); });
  validation_context(from, spec, path, t);
  each(from.alpn_protocols(), path.field("alpn_protocols"), [&](const std::string& protocol, const FieldPath& at) {
    if (protocol != "h2" && protocol != "http/1.1") t.fault(at, "must be h2 or http/1.1");
    spec.alpn.push_back(protocol);
  });
  return spec;
}

DataSpec ticket_key(const core::DataSource& from, const FieldPath& path, Translation& t) {
  const auto problem = [](const std::string& bytes) {
    return bytes.size() == kTicketKeyBytes ? std::string()
                                           : fmt::format("has {} bytes, must have {}", bytes.size(), kTicketKeyBytes);
  };
  return checked_data(from, problem, path, t);
}

std::vector<DataSpec> ticket_keys(const tls::TlsSessionTicketKeys& from, const FieldPath& path, Translation& t) {
  std::vector<DataSpec> specs;
  const FieldPath keys = path.field("keys");
  if (from.keys().empty()) t.fault(keys, "needs at least one");
  each(from.keys(), keys, [&](const auto& key, const FieldPath& at) { specs.push_back(ticket_key(key, at, t)); });
  return specs;
}

DownstreamTlsSpec downstream_spec(const tls::DownstreamTlsContext& from, const FieldPath& path, Translation& t) {
  DownstreamTlsSpec spec;
  const FieldPath common = path.field("common_tls_context");
  spec.common = common_spec(from.common_tls_context(), common, t);
  if (spec.common.certificates.empty() && spec.common.certificate_secrets.empty())
    t.fault(common.field("tls_certificates"), "needs at least one");
  spec.require_client_certificate = from.require_client_certificate().value();
  const auto& asked = spec.common.validation;
  const bool known = !spec.common.validation_secret;
  if (spec.require_client_certificate && known && (!asked || (!asked->verifies() && !asked->accept_untrusted)))
    t.fault(
        path.field("require_client_certificate"),
        "needs a validation_context that says which: trusted_ca, verify_certificate_hash or verify_certificate_spki "
        "(or trust_chain_verification: ACCEPT_UNTRUSTED for any)");
  spec.tickets = !from.disable_stateless_session_resumption();
  if (from.has_session_ticket_keys()) {
    for (const DataSpec& key : ticket_keys(from.session_ticket_keys(), path.field("session_ticket_keys"), t))
      spec.ticket_keys.push_back(key.bytes.text());
  } else if (from.has_session_ticket_keys_sds_secret_config()) {
    spec.ticket_secret = secret_ref(from.session_ticket_keys_sds_secret_config(),
                                    path.field("session_ticket_keys_sds_secret_config"), t);
  }
  spec.staple_policy = static_cast<DownstreamTlsSpec::StaplePolicy>(from.ocsp_staple_policy());  // in the same order
  for (size_t i = 0; i < spec.common.certificates.size(); ++i)
    if (const std::string wrong = staple_problem(spec.common.certificates[i], spec.staple_policy); !wrong.empty())
      t.fault(common.field("tls_certificates").index(i).field("ocsp_staple"), wrong);
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
  if (spec.common.validation_secret) return spec;  // what is believed comes later
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

ProxyHeaderVersion proxy_header_version(const core::ProxyProtocolConfig& config) {
  return config.version() == core::ProxyProtocolConfig::V2 ? ProxyHeaderVersion::kV2 : ProxyHeaderVersion::kV1;
}

void upstream_transport(const core::TransportSocket& socket, ClusterSpec& spec, const FieldPath& path, Translation& t) {
  if (type_name(socket.typed_config()) == ProxyProtocolUpstreamTransport::descriptor()->full_name()) {
    const FieldPath at = path.field("typed_config");
    ProxyProtocolUpstreamTransport wrapper;
    if (!unpack_to(socket.typed_config(), wrapper, at, t.faults)) return;
    check_field_use(wrapper, at, t.faults);
    const FieldPath inner = at.field("transport_socket");
    if (spec.proxy_header != ProxyHeaderVersion::kNone) return t.fault(at, "is in another of its kind");
    spec.proxy_header = proxy_header_version(wrapper.config());
    if (!wrapper.has_transport_socket()) return t.fault(inner, "is required");
    return upstream_transport(wrapper.transport_socket(), spec, inner, t);
  }
  tls::UpstreamTlsContext context;
  if (open_context(socket, context, path, t)) spec.tls = upstream_spec(context, path.field("typed_config"), t);
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
  refuse(!mine.certificate_secrets.empty(), common.field("tls_certificate_sds_secret_configs"));
  if (mine.validation_secret) {
    refuse(true,
           common.field(mine.validation ? "combined_validation_context" : "validation_context_sds_secret_config"));
    return spec;
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
  else if (from.has_cert_chain()) {
    TlsCertificateSpec mine;
    identity(from.cert_chain(), from.private_key(), nullptr, path.field("cert_chain"), path.field("private_key"), path,
             mine, t);
    spec.certificate_chain = std::move(mine.chain);
    spec.private_key = std::move(mine.private_key);
  }
  return spec;
}

SecretSpec secret_spec(const tls::Secret& from, const FieldPath& path, Translation& t) {
  SecretSpec spec{.name = from.name(), .content = {}};
  if (spec.name.empty()) t.fault(path.field("name"), "must not be empty");
  switch (from.type_case()) {
    case tls::Secret::kTlsCertificate:
      spec.content = certificate_spec(from.tls_certificate(), path.field("tls_certificate"), t);
      break;
    case tls::Secret::kValidationContext:
      spec.content = validation(from.validation_context(), false, path.field("validation_context"), t);
      break;
    case tls::Secret::kSessionTicketKeys:
      spec.content =
          TicketKeysSpec{.keys = ticket_keys(from.session_ticket_keys(), path.field("session_ticket_keys"), t)};
      break;
    case tls::Secret::TYPE_NOT_SET:
      t.fault(path, "needs one of tls_certificate, validation_context, session_ticket_keys");
  }
  return spec;
}

}  // namespace outrigger::config
