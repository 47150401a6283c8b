#include "config/tls_material.h"

#include <fmt/format.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <optional>
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

constexpr size_t kRemembered = 256;
constexpr const char* kPublic = "SubjectPublicKeyInfo";
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

// Seconds of Unix; nullopt: there is none, or it cannot be read.
std::optional<int64_t> seconds_of(const ASN1_TIME* time) {
  tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return timegm(&parts);
}

// The signature of a certificate that has no algorithms of its own, by the key of another one.
bool is_signed_by(const X509* certificate, std::string_view der, EVP_PKEY* key) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const unsigned char* const end = at + der.size();
  long size = 0;
  int tag = 0, kind = 0;
  if ((ASN1_get_object(&at, &size, &tag, &kind, end - at) & 0x80) != 0) return false;
  const unsigned char* const signed_part = at;  // the first of the three in the sequence
  if ((ASN1_get_object(&at, &size, &tag, &kind, end - at) & 0x80) != 0) return false;
  const ASN1_BIT_STRING* signature = nullptr;
  const X509_ALGOR* algorithm = nullptr;
  X509_get0_signature(&signature, &algorithm, certificate);
  const std::unique_ptr<ASN1_TYPE, decltype(&ASN1_TYPE_free)> text(ASN1_TYPE_new(), ASN1_TYPE_free);
  ASN1_STRING* const bytes = ASN1_STRING_new();
  CHECK(text != nullptr && ASN1_STRING_set(bytes, signed_part, static_cast<int>(at + size - signed_part)) == 1);
  ASN1_TYPE_set(text.get(), V_ASN1_SEQUENCE, bytes);  // takes it over
  return ASN1_item_verify(ASN1_ITEM_rptr(ASN1_ANY), algorithm, signature, text.get(), key) == 1;
}

// OpenSSL's X509_V_...; `der`: of a subject that has no algorithms of its own.
int issuing_problem(X509* issuer, X509* subject, std::string_view der) {
  if (X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(subject)) != 0)
    return X509_V_ERR_SUBJECT_ISSUER_MISMATCH;
  if (X509_check_ca(issuer) == 0) return X509_V_ERR_INVALID_CA;
  if ((X509_get_key_usage(issuer) & KU_KEY_CERT_SIGN) == 0) return X509_V_ERR_KEYUSAGE_NO_CERTSIGN;
  EVP_PKEY* const key = X509_get0_pubkey(issuer);
  if (key == nullptr) return X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY;
  const bool signed_by = der.empty() ? X509_verify(subject, key) == 1 : is_signed_by(subject, der, key);
  return signed_by ? X509_V_OK : X509_V_ERR_CERT_SIGNATURE_FAILURE;
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

TlsKeyPair::~TlsKeyPair() { X509_free(leaf_.load(std::memory_order_acquire)); }

X509* TlsKeyPair::leaf() const {
  if (X509* known = leaf_.load(std::memory_order_acquire); known != nullptr) return known;
  const auto* der = reinterpret_cast<const unsigned char*>(leaf_der_.data());
  X509* made = d2i_X509(nullptr, &der, static_cast<long>(leaf_der_.size()));
  CHECK(made != nullptr);
  X509* expected = nullptr;
  if (leaf_.compare_exchange_strong(expected, made, std::memory_order_acq_rel)) return made;
  X509_free(made);
  return expected;
}

std::string TlsKeyPair::dates_problem() const {
  const int64_t now = std::time(nullptr);
  if (now > valid_until_s_) return "the certificate has expired";
  if (now < valid_from_s_) return "the certificate is not valid yet";
  for (size_t i = 0; i < chain_.size(); ++i)
    if (const std::string wrong = config::dates_problem(chain_[i].get()); !wrong.empty())
      return fmt::format("certificate {}: {}", i + 2, wrong);
  return "";
}

bool TlsKeyPair::use_in(SSL_CTX* context) const {
  STACK_OF(X509)* chain = sk_X509_new_null();
  for (const CertificatePtr& one : chain_) sk_X509_push(chain, one.get());
  const bool used = SSL_CTX_use_cert_and_key(context, leaf(), key_.get(), chain, 1) == 1;  // takes references
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

TlsMaterials::TlsMaterials() : trial_(SSL_CTX_new(TLS_method())), plain_(OSSL_LIB_CTX_new()) {
  CHECK(trial_ != nullptr && plain_ != nullptr);
  nothing_ = OSSL_PROVIDER_load(plain_, "null");  // else it would load the default one when it is asked for a key
  CHECK(nothing_ != nullptr);
}

TlsMaterials::~TlsMaterials() {
  OSSL_PROVIDER_unload(nothing_);
  OSSL_LIB_CTX_free(plain_);
  SSL_CTX_free(trial_);
}

// Where there are no algorithms OpenSSL makes no decoder for the public key, which is nine tenths of the cost of a
// certificate (3.0 makes one for each). nullptr: it does not parse.
CertificatePtr TlsMaterials::bare(const unsigned char* der, long size, bool trusted) const {
  X509* made = X509_new_ex(plain_, nullptr);
  CHECK(made != nullptr);
  if (trusted && d2i_X509_AUX(&made, &der, size) == nullptr) return nullptr;
  if (!trusted && d2i_X509(&made, &der, size) == nullptr) return nullptr;
  return own(made);
}

// The same few authorities stand behind most certificates.
CertificatePtr TlsMaterials::intermediate(const unsigned char* der, long size, const std::string& digest) {
  std::weak_ptr<X509>& known = intermediates_[digest];
  if (CertificatePtr held = known.lock()) return held;
  CertificatePtr made = own(d2i_X509(nullptr, &der, size));
  known = made;
  return made;
}

// What is wrong; "": nothing.
std::string TlsMaterials::read_chain(std::string_view pem, TlsKeyPair& pair, Reading& reading) {
  const Bio bio = open_pem(pem);
  ERR_clear_error();
  for (Block block; block.read(bio.get());) {
    const bool trusted = block.name() == PEM_STRING_X509_TRUSTED;
    if (!trusted && block.name() != PEM_STRING_X509 && block.name() != PEM_STRING_X509_OLD) continue;
    const unsigned char* at = block.data();
    CertificatePtr one;
    if (reading.leaf == nullptr) {
      one = reading.leaf = bare(at, block.size(), trusted);
    } else {
      const std::string digest = digest_of({view(at, block.size())});
      reading.chain += digest;
      one = trusted ? own(d2i_X509_AUX(nullptr, &at, block.size())) : intermediate(at, block.size(), digest);
      pair.chain_.push_back(one);
    }
    if (one == nullptr)
      return fmt::format("certificate {} does not parse: {}", 1 + pair.chain_.size(), openssl_reason());
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = openssl_reason();
  const size_t found = reading.leaf == nullptr ? 0 : 1 + pair.chain_.size();
  if (!at_end) return fmt::format("certificate {} does not parse: {}", found + 1, why);
  if (found == 0) return "holds no certificate in PEM";
  unsigned char* der = nullptr;
  const int size = i2d_X509(reading.leaf.get(), &der);  // as it came
  CHECK(size > 0);
  pair.leaf_der_ = view(der, size);
  OPENSSL_free(der);
  const auto from = seconds_of(X509_get0_notBefore(reading.leaf.get()));
  const auto until = seconds_of(X509_get0_notAfter(reading.leaf.get()));
  if (!from || !until) return "certificate 1 does not parse: its dates cannot be read";
  pair.valid_from_s_ = *from;
  pair.valid_until_s_ = *until;
  return "";
}

// Each certificate is signed by the one behind it (RFC 5246 section 7.4.2, which RFC 8446 section 4.4.2 only advises).
std::string TlsMaterials::chain_problem(const TlsKeyPair& pair, const Reading& reading) {
  const bool known = good_chains_.contains(reading.chain);
  for (size_t i = 0; i < pair.chain_.size() && (i == 0 || !known); ++i) {
    X509* const subject = i == 0 ? reading.leaf.get() : pair.chain_[i - 1].get();
    X509* const issuer = pair.chain_[i].get();
    const int verdict =
        issuing_problem(issuer, subject, i == 0 ? std::string_view(pair.leaf_der_) : std::string_view());
    ERR_clear_error();
    if (verdict != X509_V_OK)
      return fmt::format("certificate {} has not issued certificate {}: {}", i + 2, i + 1,
                         X509_verify_cert_error_string(verdict));
  }
  if (good_chains_.size() >= kRemembered) good_chains_.clear();
  good_chains_.insert(reading.chain);
  return "";
}

// What is wrong; "": nothing. Whether it is up to date is for the policy to judge.
std::string TlsMaterials::read_staple(std::string_view der, X509* leaf, TlsKeyPair& pair) {
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
  if (serial == nullptr || ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(leaf)) != 0)
    return "is of another certificate";
  ASN1_GENERALIZEDTIME *from = nullptr, *until = nullptr;
  if (OCSP_single_get0_status(single, nullptr, nullptr, &from, &until) == V_OCSP_CERTSTATUS_REVOKED)
    return "says that the certificate is revoked";
  pair.staple_ = der;
  pair.staple_until_s_ = seconds_of(until).value_or(0);
  return "";
}

// A decoder that is made anew for each key costs four times what it does (OpenSSL 3.0). nullptr: it does not parse.
EVP_PKEY* TlsMaterials::decode(const unsigned char* der, size_t size, const std::string& kind, const char* structure) {
  const std::string name = kind + '/' + structure;
  std::unique_ptr<Decoding>& known = decoders_[name];
  if (known == nullptr) {
    auto made = std::make_unique<Decoding>(Decoding{nullptr, {nullptr, OSSL_DECODER_CTX_free}});
    const int what = structure == std::string_view(kPublic) ? EVP_PKEY_PUBLIC_KEY : OSSL_KEYMGMT_SELECT_KEYPAIR;
    made->decoder.reset(
        OSSL_DECODER_CTX_new_for_pkey(&made->key, "DER", structure, kind.c_str(), what, nullptr, nullptr));
    known = std::move(made);
  }
  if (known->decoder != nullptr && OSSL_DECODER_from_data(known->decoder.get(), &der, &size) == 1)
    return std::exchange(known->key, nullptr);
  EVP_PKEY_free(known->key);
  decoders_.erase(name);
  return nullptr;
}

// nullptr: of a kind that OpenSSL does not know, or it does not parse.
EVP_PKEY* TlsMaterials::public_key(const X509* certificate) {
  X509_PUBKEY* const from = X509_get_X509_PUBKEY(certificate);
  ASN1_OBJECT* algorithm = nullptr;
  X509_PUBKEY_get0_param(&algorithm, nullptr, nullptr, nullptr, from);
  char kind[80] = {};
  OBJ_obj2txt(kind, sizeof(kind), algorithm, 0);
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(from, &der);
  EVP_PKEY* key = size <= 0 ? nullptr : decode(der, static_cast<size_t>(size), kind, kPublic);
  OPENSSL_free(der);
  return key;
}

// Whether an SSL_CTX takes it: what OpenSSL looks at, its level of security, is the same for certificates of one shape.
bool TlsMaterials::taken(const TlsKeyPair& pair, const EVP_PKEY* key, const Reading& reading) {
  int digest = 0, algorithm = 0, bits = 0;
  const uint32_t flags = X509_get_extension_flags(reading.leaf.get());
  const bool plain = X509_get_signature_info(reading.leaf.get(), &digest, &algorithm, &bits, nullptr) == 1 &&
                     (flags & (EXFLAG_SI | EXFLAG_INVALID)) == 0;  // of those issued by themselves it looks at less
  const std::string shape = fmt::format("{} {} {} {} {} {}", pair.kind(), EVP_PKEY_get_security_bits(key), digest,
                                        algorithm, bits, reading.chain);
  if (plain && taken_.contains(shape)) return true;
  ERR_clear_error();
  if (!pair.use_in(trial_)) return false;
  if (taken_.size() >= kRemembered) taken_.clear();
  if (plain) taken_.insert(shape);
  return true;
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
      if (std::string out_of_date = held->dates_problem(); !out_of_date.empty())
        return refuse(Problem::Where::kChain, std::move(out_of_date));
      return held;
    }
  }
  auto made = std::make_shared<TlsKeyPair>();
  Reading reading;
  if (std::string wrong = read_chain(chain_pem, *made, reading); !wrong.empty())
    return refuse(Problem::Where::kChain, std::move(wrong));
  if (std::string wrong = made->dates_problem(); !wrong.empty())
    return refuse(Problem::Where::kChain, std::move(wrong));
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> is(public_key(reading.leaf.get()), EVP_PKEY_free);
  const char* kind = is == nullptr ? nullptr : EVP_PKEY_get0_type_name(is.get());
  made->kind_ = kind == nullptr ? "" : kind;
  made->key_.reset(read_key(key_pem, made->kind_));
  if (is == nullptr || made->key_ == nullptr || EVP_PKEY_eq(is.get(), made->key()) != 1) {
    std::string wrong = private_key_problem(key_pem, chain_pem);
    return refuse(Problem::Where::kKey, wrong.empty() ? "is refused by OpenSSL" : std::move(wrong));
  }
  if (std::string wrong = chain_problem(*made, reading); !wrong.empty())
    return refuse(Problem::Where::kChain, std::move(wrong));
  if (!staple.empty()) {
    if (std::string wrong = read_staple(staple, reading.leaf.get(), *made); !wrong.empty())
      return refuse(Problem::Where::kStaple, std::move(wrong));
  }
  made->must_staple_ = asks_for_staples(reading.leaf.get());
  if (!taken(*made, is.get(), reading))
    return refuse(Problem::Where::kChain, "is refused by OpenSSL: " + openssl_reason());
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
