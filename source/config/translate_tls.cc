// TLS of the ways to control planes.
#include <fmt/format.h>

#include "config/any.h"
#include "config/pem.h"
#include "config/translation.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/core/v3/grpc_service.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "envoy/type/matcher/v3/string.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace tls = envoy::extensions::transport_sockets::tls::v3;

namespace {

constexpr size_t kMaxPemBytes = 1 << 20;

DataSpec pem_spec(const core::DataSource& source, const FieldPath& path, Translation& t) {
  return {.file = source.filename(), .bytes = data_source(source, kMaxPemBytes, path, t)};
}

// A fault that names the file, if it is one.
void pem_fault(const DataSpec& data, const std::string& problem, const FieldPath& path, Translation& t) {
  if (!problem.empty()) t.fault(path, data.file.empty() ? problem : fmt::format("{} {}", data.file, problem));
}

DataSpec certificates_spec(const core::DataSource& source, const FieldPath& path, Translation& t) {
  const size_t errors = t.faults.errors();
  DataSpec spec = pem_spec(source, path, t);
  if (t.faults.errors() == errors) pem_fault(spec, certificates_problem(spec.bytes), path, t);
  return spec;
}

void identity(const core::DataSource& chain, const core::DataSource& key, const FieldPath& chain_path,
              const FieldPath& key_path, ChannelTlsSpec& spec, Translation& t) {
  const size_t errors = t.faults.errors();
  spec.certificate_chain = certificates_spec(chain, chain_path, t);
  spec.private_key = pem_spec(key, key_path, t);
  if (t.faults.errors() == errors)
    pem_fault(spec.private_key, private_key_problem(spec.private_key.bytes, spec.certificate_chain.bytes), key_path, t);
}

ChannelTlsSpec::SanMatch san_match(const tls::SubjectAltNameMatcher& from, const FieldPath& path, Translation& t) {
  using Type = ChannelTlsSpec::SanMatch::Type;
  ChannelTlsSpec::SanMatch match;
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
    match.kind = static_cast<ChannelTlsSpec::SanMatch::Kind>(string.kind);  // in the same order
  match.value = string.value;
  match.ignore_case = string.ignore_case;
  return match;
}

}  // namespace

ChannelTlsSpec upstream_tls_spec(const tls::UpstreamTlsContext& from, const FieldPath& path, Translation& t) {
  ChannelTlsSpec spec;
  spec.server_name = from.sni();
  check_header_value(spec.server_name, path.field("sni"), t);
  const tls::CommonTlsContext& common = from.common_tls_context();
  const FieldPath at = path.field("common_tls_context");
  if (common.tls_certificates_size() > 1) t.fault(at.field("tls_certificates"), "has more than one entry");
  if (common.tls_certificates_size() > 0) {
    const FieldPath list = at.field("tls_certificates");
    const FieldPath first = list.index(0);
    const tls::TlsCertificate& certificate = common.tls_certificates(0);
    identity(certificate.certificate_chain(), certificate.private_key(), first.field("certificate_chain"),
             first.field("private_key"), spec, t);
  }
  const FieldPath validation = at.field("validation_context");
  if (!common.validation_context().has_trusted_ca())
    t.fault(validation.field("trusted_ca"), "is required: whoever can pose as the control plane decides everything");
  else
    spec.trusted_ca = certificates_spec(common.validation_context().trusted_ca(), validation.field("trusted_ca"), t);
  each(common.validation_context().match_typed_subject_alt_names(), validation.field("match_typed_subject_alt_names"),
       [&](const auto& one, const FieldPath& entry) { spec.san_matches.push_back(san_match(one, entry, t)); });
  each(common.alpn_protocols(), at.field("alpn_protocols"), [&](const auto& protocol, const FieldPath& entry) {
    if (protocol != "h2") t.fault(entry, "must be h2, which gRPC needs");
  });
  return spec;
}

ChannelTlsSpec ssl_credentials_spec(const core::GrpcService& service, const FieldPath& path, Translation& t) {
  const auto& from = service.google_grpc().channel_credentials().ssl_credentials();
  ChannelTlsSpec spec;
  if (from.has_root_certs()) spec.trusted_ca = certificates_spec(from.root_certs(), path.field("root_certs"), t);
  if (from.has_cert_chain() != from.has_private_key())
    t.fault(path.field(from.has_cert_chain() ? "private_key" : "cert_chain"), "is required: they belong together");
  else if (from.has_cert_chain())
    identity(from.cert_chain(), from.private_key(), path.field("cert_chain"), path.field("private_key"), spec, t);
  return spec;
}

}  // namespace outrigger::config
