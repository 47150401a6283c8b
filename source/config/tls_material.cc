#include "config/tls_material.h"

#include <fmt/format.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/check.h"
#include "config/pem.h"
#include "config/pem_reader.h"

namespace outrigger::config {
namespace {

CertificatePtr own(X509* certificate) { return {certificate, X509_free}; }

// One block of PEM.
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { clear(); }
  bool read(BIO* bio) {
    clear();
    return PEM_read_bio(bio, &name_, &header_, &data_, &size_) == 1;
  }
  std::string_view name() const { return name_; }
  bool plain() const { return header_ == nullptr || *header_ == '\0'; }
  const unsigned char* data() const { return data_; }
  long size() const { return size_; }

 private:
  void clear() {
    OPENSSL_free(std::exchange(name_, nullptr));
    OPENSSL_free(std::exchange(header_, nullptr));
    OPENSSL_clear_free(std::exchange(data_, nullptr), static_cast<size_t>(size_));
    size_ = 0;
  }
  char* name_ = nullptr;
  char* header_ = nullptr;
  unsigned char* data_ = nullptr;
  long size_ = 0;
};

std::string_view view(const unsigned char* data, long size) {
  return {reinterpret_cast<const char*>(data), static_cast<size_t>(size)};
}

constexpr long kStatusRequest = 5;  // the TLS feature of stapling (RFC 7633)

bool asks_for_staples(X509* certificate) {
  auto* features = static_cast<TLS_FEATURE*>(X509_get_ext_d2i(certificate, NID_tlsfeature, nullptr, nullptr));
  bool found = false;
  for (int i = 0; i < sk_ASN1_INTEGER_num(features); ++i)
    found = found || ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == kStatusRequest;
  sk_ASN1_INTEGER_pop_free(features, ASN1_INTEGER_free);
  ERR_clear_error();
  return found;
}

// Seconds of Unix; 0: not known.
int64_t seconds_of(const ASN1_GENERALIZEDTIME* time) {
  tm parts{};
  return time != nullptr && ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}

template <class Map>
void drop_expired(Map& map) {
  std::erase_if(map, [](const auto& entry) { return entry.second.expired(); });
}

}  // namespace

std::string digest_of(std::initializer_list<std::string_view> fields) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  for (const std::string_view field : fields) {
    const uint64_t size = field.size();
    EVP_DigestUpdate(context.get(), &size, sizeof(size));
    EVP_DigestUpdate(context.get(), field.data(), field.size());
  }
  std::string out(32, '\0');
  CHECK(EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(out.data()), nullptr) == 1);
  return out;
}

bool TlsKeyPair::use_in(SSL_CTX* context) const {
  STACK_OF(X509)* chain = sk_X509_new_null();
  for (const CertificatePtr& one : chain_) sk_X509_push(chain, one.get());
  const bool used = SSL_CTX_use_cert_and_key(context, leaf_.get(), key_.get(), chain, 1) == 1;  // takes references
  sk_X509_free(chain);
  return used;
}

void TlsAuthorities::name_in(SSL_CTX* context) const {
  const STACK_OF(X509_OBJECT)* objects = X509_STORE_get0_objects(store_.get());
  for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
    X509* authority = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
    if (authority != nullptr) SSL_CTX_add_client_CA(context, authority);
  }
}

TlsMaterials::TlsMaterials() : trial_(SSL_CTX_new(TLS_method())) { CHECK(trial_ != nullptr); }
TlsMaterials::~TlsMaterials() { SSL_CTX_free(trial_); }

// The same few authorities stand behind most certificates.
CertificatePtr TlsMaterials::intermediate(const unsigned char* der, long size) {
  std::weak_ptr<X509>& known = intermediates_[digest_of({view(der, size)})];
  if (CertificatePtr held = known.lock()) return held;
  CertificatePtr made = own(d2i_X509(nullptr, &der, size));
  known = made;
  return made;
}

// What is wrong; "": nothing.
std::string TlsMaterials::read_chain(std::string_view pem, TlsKeyPair& pair) {
  const Bio bio = open_pem(pem);
  ERR_clear_error();
  size_t found = 0;
  for (Block block; block.read(bio.get());) {
    const bool trusted = block.name() == PEM_STRING_X509_TRUSTED;
    if (!trusted && block.name() != PEM_STRING_X509 && block.name() != PEM_STRING_X509_OLD) continue;
    const unsigned char* at = block.data();
    CertificatePtr one = trusted      ? own(d2i_X509_AUX(nullptr, &at, block.size()))
                         : found == 0 ? own(d2i_X509(nullptr, &at, block.size()))
                                      : intermediate(block.data(), block.size());
    if (one == nullptr) return fmt::format("certificate {} does not parse: {}", found + 1, openssl_reason());
    if (found++ == 0)
      pair.leaf_ = std::move(one);
    else
      pair.chain_.push_back(std::move(one));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = openssl_reason();
  if (!at_end) return fmt::format("certificate {} does not parse: {}", found + 1, why);
  return found == 0 ? "holds no certificate in PEM" : "";
}

// What is wrong; "": nothing. Whether it is up to date is for the policy to judge.
std::string TlsMaterials::read_staple(std::string_view der, TlsKeyPair& pair) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const std::unique_ptr<OCSP_RESPONSE, decltype(&OCSP_RESPONSE_free)> response(
      d2i_OCSP_RESPONSE(nullptr, &at, static_cast<long>(der.size())), OCSP_RESPONSE_free);
  if (response == nullptr) return "is no OCSP response in DER";
  if (OCSP_response_status(response.get()) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
    return fmt::format("is an OCSP response that says {}",
                       OCSP_response_status_str(OCSP_response_status(response.get())));
  const std::unique_ptr<OCSP_BASICRESP, decltype(&OCSP_BASICRESP_free)> basic(OCSP_response_get1_basic(response.get()),
                                                                              OCSP_BASICRESP_free);
  if (basic == nullptr) return "is no basic OCSP response";
  if (OCSP_resp_count(basic.get()) != 1)
    return fmt::format("speaks of {} certificates, must be of one", OCSP_resp_count(basic.get()));
  OCSP_SINGLERESP* single = OCSP_resp_get0(basic.get(), 0);
  ASN1_INTEGER* serial = nullptr;
  OCSP_id_get0_info(nullptr, nullptr, nullptr, &serial, const_cast<OCSP_CERTID*>(OCSP_SINGLERESP_get0_id(single)));
  if (serial == nullptr || ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(pair.leaf())) != 0)
    return "is of another certificate";
  ASN1_GENERALIZEDTIME *from = nullptr, *until = nullptr;
  if (OCSP_single_get0_status(single, nullptr, nullptr, &from, &until) == V_OCSP_CERTSTATUS_REVOKED)
    return "says that the certificate is revoked";
  pair.staple_ = der;
  pair.staple_until_s_ = seconds_of(until);
  return "";
}

// A decoder that is made anew for each key costs four times what it does (OpenSSL 3.0).
EVP_PKEY* TlsMaterials::decode(const unsigned char* der, size_t size, const std::string& kind, const char* structure) {
  std::unique_ptr<Decoding>& known = decoders_[kind + '/' + structure];
  if (known == nullptr) {
    auto made = std::make_unique<Decoding>(Decoding{nullptr, {nullptr, OSSL_DECODER_CTX_free}});
    made->decoder.reset(OSSL_DECODER_CTX_new_for_pkey(&made->key, "DER", structure, kind.c_str(),
                                                      OSSL_KEYMGMT_SELECT_KEYPAIR, nullptr, nullptr));
    known = std::move(made);
  }
  if (known->decoder == nullptr || OSSL_DECODER_from_data(known->decoder.get(), &der, &size) != 1)
    EVP_PKEY_free(std::exchange(known->key, nullptr));
  return std::exchange(known->key, nullptr);
}

// nullptr: none that is not encrypted.
EVP_PKEY* TlsMaterials::read_key(std::string_view pem, const std::string& kind) {
  const Bio bio = open_pem(pem);
  for (Block block; block.read(bio.get());) {
    const bool own_form = block.name() == kind + " " + PEM_STRING_PKCS8INF;  // "EC PRIVATE KEY"
    if (!block.plain() || (!own_form && block.name() != PEM_STRING_PKCS8INF)) continue;
    EVP_PKEY* key =
        decode(block.data(), static_cast<size_t>(block.size()), kind, own_form ? "type-specific" : "PrivateKeyInfo");
    if (key != nullptr) return key;
    break;
  }
  const Bio again = open_pem(pem);
  return PEM_read_bio_PrivateKey(again.get(), nullptr, no_password, nullptr);
}

std::shared_ptr<const TlsKeyPair> TlsMaterials::key_pair(std::string_view chain_pem, std::string_view key_pem,
                                                         std::string_view staple, Problem& problem) {
  const auto refuse = [&](Problem::Where where, std::string text) {
    ERR_clear_error();
    problem = {where, std::move(text)};
    return nullptr;
  };
  const std::string digest = digest_of({chain_pem, key_pem, staple});
  if (const auto known = pairs_.find(digest); known != pairs_.end()) {
    if (auto held = known->second.lock()) {
      if (std::string out_of_date = dates_problem(held->leaf()); !out_of_date.empty())
        return refuse(Problem::Where::kChain, std::move(out_of_date));
      return held;
    }
  }
  auto made = std::make_shared<TlsKeyPair>();
  if (std::string wrong = read_chain(chain_pem, *made); !wrong.empty())
    return refuse(Problem::Where::kChain, std::move(wrong));
  if (std::string wrong = dates_problem(made->leaf()); !wrong.empty())
    return refuse(Problem::Where::kChain, std::move(wrong));
  const EVP_PKEY* is = X509_get0_pubkey(made->leaf());
  const char* kind = is == nullptr ? nullptr : EVP_PKEY_get0_type_name(is);
  made->kind_ = kind == nullptr ? "" : kind;
  made->key_.reset(read_key(key_pem, made->kind_));
  if (made->key_ == nullptr || X509_check_private_key(made->leaf(), made->key()) != 1) {
    std::string wrong = private_key_problem(key_pem, chain_pem);
    return refuse(Problem::Where::kKey, wrong.empty() ? "is refused by OpenSSL" : std::move(wrong));
  }
  if (!staple.empty()) {
    if (std::string wrong = read_staple(staple, *made); !wrong.empty())
      return refuse(Problem::Where::kStaple, std::move(wrong));
  }
  made->must_staple_ = asks_for_staples(made->leaf());
  ERR_clear_error();
  if (!made->use_in(trial_)) return refuse(Problem::Where::kChain, "is refused by OpenSSL: " + openssl_reason());
  ERR_clear_error();
  made->digest_ = digest;
  pairs_[digest] = made;
  if (pairs_.size() + intermediates_.size() + authorities_.size() >= sweep_at_) {
    drop_expired(pairs_);
    drop_expired(intermediates_);
    drop_expired(authorities_);
    sweep_at_ = std::max<size_t>(256, 2 * (pairs_.size() + intermediates_.size() + authorities_.size()));
  }
  return made;
}

std::shared_ptr<const TlsAuthorities> TlsMaterials::authorities(std::string_view trusted_ca_pem,
                                                                std::string_view crl_pem, bool leaf_crl_only) {
  const std::string digest = digest_of({trusted_ca_pem, crl_pem, leaf_crl_only ? "leaf" : "all"});
  std::weak_ptr<const TlsAuthorities>& known = authorities_[digest];
  if (auto held = known.lock()) return held;
  auto made = std::make_shared<TlsAuthorities>();
  made->digest_ = digest;
  made->store_.reset(X509_STORE_new());
  X509_STORE* store = made->store_.get();
  CHECK(store != nullptr);
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);  // as Envoy: an intermediate authority may be the trusted one
  const Bio authorities = open_pem(trusted_ca_pem);
  while (X509* one = PEM_read_bio_X509(authorities.get(), nullptr, no_password, nullptr)) {
    X509_STORE_add_cert(store, one);
    X509_free(one);
  }
  const Bio lists = open_pem(crl_pem);
  while (X509_CRL* list = PEM_read_bio_X509_CRL(lists.get(), nullptr, no_password, nullptr)) {
    X509_STORE_add_crl(store, list);
    X509_CRL_free(list);
  }
  ERR_clear_error();
  if (!crl_pem.empty())
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | (leaf_crl_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL));
  known = made;
  return made;
}

}  // namespace outrigger::config
