#include "control/server_credentials.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "config/pem.h"

namespace outrigger::control {
namespace {

tl::unexpected<Error> refused(const std::string& file, const std::string& why) {
  return fail(Errc::kInvalidArgument, file + ": " + why);
}

Result<std::string> text_of(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return refused(file, strerror(errno));
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

Result<void> no_problem(const std::string& file, const std::string& problem) {
  if (!problem.empty()) return refused(file, problem);
  return {};
}

}  // namespace

Result<void> check_server_tls(const ServerTls& tls) {
  if (tls.certificate_file.empty() && tls.key_file.empty()) {
    if (tls.client_ca_file.empty()) return {};
    return refused(tls.client_ca_file, "clients' certificates need a certificate and a key of the server, too");
  }
  if (tls.key_file.empty()) return refused(tls.certificate_file, "this certificate needs its key");
  if (tls.certificate_file.empty()) return refused(tls.key_file, "this key needs its certificate");
  TRY(const std::string chain, text_of(tls.certificate_file));
  TRY_VOID(no_problem(tls.certificate_file, config::certificates_problem(chain)));
  TRY(const std::string key, text_of(tls.key_file));
  TRY_VOID(no_problem(tls.key_file, config::private_key_problem(key, chain)));
  TRY_VOID(no_problem(tls.certificate_file, config::dates_problem(chain)));
  if (tls.client_ca_file.empty()) return {};
  TRY(const std::string authorities, text_of(tls.client_ca_file));
  return no_problem(tls.client_ca_file, config::certificates_problem(authorities));
}

Result<std::shared_ptr<grpc::ServerCredentials>> server_credentials(const ServerTls& tls) {
  namespace x = grpc::experimental;
  TRY_VOID(check_server_tls(tls));
  if (tls.certificate_file.empty()) return grpc::InsecureServerCredentials();
  const bool asks = !tls.client_ca_file.empty();
  const auto files =
      asks ? std::make_shared<x::FileWatcherCertificateProvider>(tls.key_file, tls.certificate_file, tls.client_ca_file,
                                                                 tls.refresh_s)
           : std::make_shared<x::FileWatcherCertificateProvider>(tls.key_file, tls.certificate_file, tls.refresh_s);
  x::TlsServerCredentialsOptions options(files);
  options.watch_identity_key_cert_pairs();
  if (asks) options.watch_root_certs();
  options.set_cert_request_type(asks ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                     : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  return x::TlsServerCredentials(options);
}

}  // namespace outrigger::control
