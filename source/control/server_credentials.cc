#include "control/server_credentials.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace outrigger::control {
namespace {

template <auto free_it>
struct Free {
  template <class T>
  void operator()(T* object) const {
    free_it(object);
  }
};
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Bytes = std::unique_ptr<BIO, Free<BIO_free>>;

tl::unexpected<Error> refused(const std::string& file, const std::string& why) {
  return fail(Errc::kInvalidArgument, file + ": " + why);
}

Result<Bytes> open_file(const std::string& file) {
  Bytes bytes(BIO_new_file(file.c_str(), "r"));
  const int error = errno;
  ERR_clear_error();
  if (bytes == nullptr) return refused(file, strerror(error));
  return bytes;
}

// OpenSSL's last word.
std::string reason() {
  const char* text = ERR_reason_error_string(ERR_peek_last_error());
  std::string out = text == nullptr ? "no PEM" : text;
  ERR_clear_error();
  return out;
}

// All certificates of the file; at least one.
Result<std::vector<Certificate>> certificates(const std::string& file) {
  TRY(const Bytes bytes, open_file(file));
  std::vector<Certificate> all;
  while (Certificate one{PEM_read_bio_X509(bytes.get(), nullptr, nullptr, nullptr)}) all.push_back(std::move(one));
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (all.empty() || !at_end) return refused(file, "holds no certificate that can be read: " + reason());
  ERR_clear_error();
  return all;
}

// A passphrase would be asked for on the terminal; there is nobody.
int no_passphrase(char*, int, int, void*) { return -1; }

Result<Key> private_key(const std::string& file) {
  TRY(const Bytes bytes, open_file(file));
  Key key(PEM_read_bio_PrivateKey(bytes.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) return refused(file, "holds no private key that can be read: " + reason());
  return key;
}

}  // namespace

Result<void> check_server_tls(const ServerTls& tls) {
  if (tls.certificate_file.empty() && tls.key_file.empty()) {
    if (tls.client_ca_file.empty()) return {};
    return refused(tls.client_ca_file, "clients' certificates need a certificate and a key of the server, too");
  }
  if (tls.key_file.empty()) return refused(tls.certificate_file, "this certificate needs its key");
  if (tls.certificate_file.empty()) return refused(tls.key_file, "this key needs its certificate");
  TRY(const std::vector<Certificate> chain, certificates(tls.certificate_file));
  TRY(const Key key, private_key(tls.key_file));
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    ERR_clear_error();
    return refused(tls.key_file, "is not the key of the certificate in " + tls.certificate_file);
  }
  if (X509_cmp_current_time(X509_get0_notAfter(chain.front().get())) < 0)
    return refused(tls.certificate_file, "the certificate has expired");
  if (X509_cmp_current_time(X509_get0_notBefore(chain.front().get())) > 0)
    return refused(tls.certificate_file, "the certificate is not valid yet");
  if (!tls.client_ca_file.empty()) TRY_VOID(certificates(tls.client_ca_file));
  return {};
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
