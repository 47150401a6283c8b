#include "support/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "support/temp_dir.h"

namespace outrigger::test {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using X509Ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

Key make_key(const CertificateOptions& options) {
  const std::string& kind = options.key;
  EVP_PKEY* made = nullptr;
  if (kind == "ED25519")
    made = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  else if (options.rsa || kind.starts_with("RSA-"))
    made = EVP_RSA_gen(static_cast<unsigned>(kind.empty() ? 2048 : std::stoi(kind.substr(4))));
  else
    made = EVP_EC_gen(kind.empty() ? "P-256" : kind.c_str());
  CHECK(made != nullptr);
  return {made, EVP_PKEY_free};
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

std::string pem_of(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  CHECK(PEM_write_bio_X509(bio.get(), certificate) == 1);
  return text_of(bio.get());
}

std::string pem_of(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  CHECK(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return text_of(bio.get());
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  CHECK(extension != nullptr);
  CHECK(X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// Unsigned, without issuer.
X509Ptr make_certificate(EVP_PKEY* key, const std::string& name, long serial, const CertificateOptions& options) {
  X509Ptr certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), options.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), options.valid_until_s);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_pubkey(certificate.get(), key);
  return certificate;
}

}  // namespace

struct CertificateAuthority::Impl {
  Key key = make_key({});
  X509Ptr certificate{nullptr, X509_free};
  long next_serial = 2;
};

CertificateAuthority::CertificateAuthority(const std::string& name) : impl_(std::make_unique<Impl>()) {
  impl_->certificate = make_certificate(impl_->key.get(), name, 1, {});
  X509* mine = impl_->certificate.get();
  X509_set_issuer_name(mine, X509_get_subject_name(mine));
  add_extension(mine, mine, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(mine, mine, NID_subject_key_identifier, "hash");
  CHECK(X509_sign(mine, impl_->key.get(), EVP_sha256()) > 0);
  pem_ = pem_of(mine);
}

CertificateAuthority::CertificateAuthority(const std::string& name, CertificateAuthority& above,
                                           const CertificateOptions& options)
    : impl_(std::make_unique<Impl>()) {
  impl_->certificate = make_certificate(impl_->key.get(), name, above.impl_->next_serial++, options);
  X509* mine = impl_->certificate.get();
  X509_set_issuer_name(mine, X509_get_subject_name(above.impl_->certificate.get()));
  add_extension(mine, above.impl_->certificate.get(), NID_basic_constraints,
                options.authority ? "critical,CA:TRUE" : "CA:FALSE");
  CHECK(X509_sign(mine, above.impl_->key.get(), EVP_sha256()) > 0);
  pem_ = pem_of(mine);
}

CertificateAuthority::~CertificateAuthority() = default;

Certificate CertificateAuthority::issue(const std::string& common_name, const std::vector<std::string>& names,
                                        const CertificateOptions& options) {
  const Key key = make_key(options);
  const X509Ptr certificate = make_certificate(key.get(), common_name, impl_->next_serial++, options);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(impl_->certificate.get()));
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ",") + name;
  if (!all.empty()) add_extension(certificate.get(), impl_->certificate.get(), NID_subject_alt_name, all);
  if (options.must_staple) add_extension(certificate.get(), impl_->certificate.get(), NID_tlsfeature, "status_request");
  CHECK(X509_sign(certificate.get(), impl_->key.get(), options.sha1 ? EVP_sha1() : EVP_sha256()) > 0);
  return {pem_of(certificate.get()), pem_of(key.get())};
}

std::string CertificateAuthority::revoke(const std::vector<Certificate>& revoked) const {
  X509_CRL* list = X509_CRL_new();
  X509_CRL_set_version(list, X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list, X509_get_subject_name(impl_->certificate.get()));
  ASN1_TIME* time = ASN1_TIME_new();
  X509_CRL_set1_lastUpdate(list, X509_gmtime_adj(time, -3600));
  X509_CRL_set1_nextUpdate(list, X509_gmtime_adj(time, 3600));
  for (const Certificate& one : revoked) {
    const Bio pem(BIO_new_mem_buf(one.pem.data(), -1), BIO_free);
    const X509Ptr certificate(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr), X509_free);
    X509_REVOKED* entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.get()));
    X509_REVOKED_set_revocationDate(entry, X509_gmtime_adj(time, -60));
    X509_CRL_add0_revoked(list, entry);
  }
  ASN1_TIME_free(time);
  CHECK(X509_CRL_sign(list, impl_->key.get(), EVP_sha256()) > 0);
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  CHECK(PEM_write_bio_X509_CRL(bio.get(), list) == 1);
  X509_CRL_free(list);
  return text_of(bio.get());
}

std::string CertificateAuthority::staple(const Certificate& of, long valid_until_s, bool revoked) const {
  const Bio pem(BIO_new_mem_buf(of.pem.data(), -1), BIO_free);
  const X509Ptr certificate(PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr), X509_free);
  OCSP_CERTID* id = OCSP_cert_to_id(nullptr, certificate.get(), impl_->certificate.get());
  OCSP_BASICRESP* basic = OCSP_BASICRESP_new();
  ASN1_TIME* from = X509_gmtime_adj(nullptr, -7200);
  ASN1_TIME* until = X509_gmtime_adj(nullptr, valid_until_s);
  CHECK(OCSP_basic_add1_status(basic, id, revoked ? V_OCSP_CERTSTATUS_REVOKED : V_OCSP_CERTSTATUS_GOOD, 0,
                               revoked ? from : nullptr, from, until) != nullptr);
  CHECK(OCSP_basic_sign(basic, impl_->certificate.get(), impl_->key.get(), EVP_sha256(), nullptr, 0) == 1);
  OCSP_RESPONSE* response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
  unsigned char* der = nullptr;
  const int size = i2d_OCSP_RESPONSE(response, &der);
  CHECK(size > 0);
  std::string out(reinterpret_cast<char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  OCSP_RESPONSE_free(response);
  OCSP_BASICRESP_free(basic);
  OCSP_CERTID_free(id);
  ASN1_TIME_free(from);
  ASN1_TIME_free(until);
  return out;
}

Certificates::Certificates(std::string directory, const std::string& name)
    : directory_(std::move(directory)), authority_(name) {
  write_file(*this / (name + ".pem"), authority_.pem());
}

void Certificates::issue(const std::string& name, const std::vector<std::string>& names) {
  const Certificate made = authority_.issue(name, names);
  write_file(*this / (name + ".pem"), made.pem);
  write_file(*this / (name + ".key"), made.private_key);
}

}  // namespace outrigger::test
