#include "config/pem.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "config/pem_reader.h"

namespace outrigger::config {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Certificate next_certificate(BIO* bio) { return {PEM_read_bio_X509(bio, nullptr, no_password, nullptr), X509_free}; }

}  // namespace

std::string certificates_problem(std::string_view pem) {
  const Bio bio = open_pem(pem);
  int found = 0;
  ERR_clear_error();
  while (next_certificate(bio.get()) != nullptr) ++found;
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = openssl_reason();
  if (!at_end) return fmt::format("certificate {} does not parse: {}", found + 1, reason);
  return found == 0 ? "holds no certificate in PEM" : "";
}

std::string revocations_problem(std::string_view pem) {
  const Bio bio = open_pem(pem);
  int found = 0;
  ERR_clear_error();
  while (X509_CRL* list = PEM_read_bio_X509_CRL(bio.get(), nullptr, no_password, nullptr)) {
    X509_CRL_free(list);
    ++found;
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = openssl_reason();
  if (!at_end) return fmt::format("list {} does not parse: {}", found + 1, reason);
  return found == 0 ? "holds no list of revoked certificates in PEM" : "";
}

std::string private_key_problem(std::string_view pem, std::string_view chain_pem) {
  ERR_clear_error();
  const Bio bio = open_pem(pem);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr), EVP_PKEY_free);
  if (key == nullptr) {
    ERR_clear_error();
    return pem.find("ENCRYPTED") != std::string_view::npos ? "is an encrypted private key, which is not supported"
                                                           : "is no private key in PEM";
  }
  const Bio chain = open_pem(chain_pem);
  const Certificate certificate = next_certificate(chain.get());
  const bool matches = certificate != nullptr && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  return matches ? "" : "does not match the certificate";
}

std::string dates_problem(std::string_view chain_pem) {
  const Bio chain = open_pem(chain_pem);
  const Certificate first = next_certificate(chain.get());
  ERR_clear_error();
  return first == nullptr ? "holds no certificate in PEM" : dates_problem(first.get());
}

std::string dates_problem(const X509* certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) return "the certificate has expired";
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) return "the certificate is not valid yet";
  return "";
}

}  // namespace outrigger::config
