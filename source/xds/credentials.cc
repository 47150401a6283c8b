#include "xds/credentials.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <mutex>
#include <utility>

#include "base/log.h"

namespace outrigger::xds {
namespace {

using grpc::experimental::TlsCustomVerificationCheckRequest;

std::string read(const Pem& pem) {
  if (pem.file.empty()) return pem.bytes;
  std::ifstream in(pem.file, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (in && !bytes.empty()) return bytes;
  OUTRIGGER_LOG(kWarning, "xds", "{} cannot be read; what it held at the start is used", pem.file);
  return pem.bytes;
}

// Runs on gRPC's threads, and one of them destroys it. The lock is for ThreadSanitizer, which does not see gRPC's own
// order.
class SanVerifier final : public grpc::experimental::ExternalCertificateVerifier {
 public:
  explicit SanVerifier(std::vector<SanMatch> sans) : sans_(std::move(sans)) { const std::lock_guard lock(mutex_); }
  ~SanVerifier() override { const std::lock_guard lock(mutex_); }

  bool Verify(TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* status) override {
    const std::lock_guard lock(mutex_);
    const bool ok = std::any_of(sans_.begin(), sans_.end(), [&](const SanMatch& san) {
      const std::vector<grpc::string_ref> names = names_of(*request, san.type);
      return std::any_of(names.begin(), names.end(), [&](const grpc::string_ref& name) {
        return san.matches(std::string_view(name.data(), name.size()));
      });
    });
    if (!ok)
      *status = grpc::Status(grpc::StatusCode::UNAUTHENTICATED,
                             "no name in the server's certificate is among match_typed_subject_alt_names");
    return true;
  }
  void Cancel(TlsCustomVerificationCheckRequest*) override {}

 private:
  static std::vector<grpc::string_ref> names_of(const TlsCustomVerificationCheckRequest& request, SanMatch::Type type) {
    switch (type) {
      case SanMatch::Type::kEmail:
        return request.email_names();
      case SanMatch::Type::kDns:
        return request.dns_names();
      case SanMatch::Type::kUri:
        return request.uri_names();
      case SanMatch::Type::kIp:
        return request.ip_names();
    }
    return {};
  }

  const std::vector<SanMatch> sans_;
  std::mutex mutex_;
};

}  // namespace

std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const std::optional<TlsSpec>& tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  namespace experimental = grpc::experimental;
  std::vector<experimental::IdentityKeyCertPair> identity;
  if (!tls->private_key.empty()) identity.push_back({read(tls->private_key), read(tls->certificate_chain)});
  const std::string roots = tls->trusted_ca.empty() ? "" : read(tls->trusted_ca);
  experimental::TlsChannelCredentialsOptions options;
  if (!roots.empty() || !identity.empty())
    options.set_certificate_provider(std::make_shared<experimental::StaticDataCertificateProvider>(roots, identity));
  if (!roots.empty()) options.watch_root_certs();
  if (!identity.empty()) options.watch_identity_key_cert_pairs();
  if (tls->sans.empty()) {
    options.set_certificate_verifier(std::make_shared<experimental::HostNameCertificateVerifier>());
  } else {
    options.set_certificate_verifier(experimental::ExternalCertificateVerifier::Create<SanVerifier>(tls->sans));
    options.set_check_call_host(false);
  }
  return experimental::TlsCredentials(options);
}

}  // namespace outrigger::xds
