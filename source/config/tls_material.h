// What certificates, keys and lists in PEM are to OpenSSL: parsed and tried once, when they are loaded, and shared by
// all that have the same text. A leaf is parsed without what OpenSSL makes of its public key (0.01 ms, not 0.1); that
// comes with its first use, from bytes that are known to be good.
//
// Thread rule: TlsMaterials on one thread; what it makes is immutable, any thread.
// Use:  auto pair = materials.key_pair(chain_pem, key_pem, problem);  SSL_CTX_use_cert_and_key(c, pair->leaf(), ...);
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace outrigger::config {

using CertificatePtr = std::shared_ptr<X509>;

// A certificate, those that lead from it to an authority, and its key.
class TlsKeyPair {
 public:
  TlsKeyPair() = default;
  ~TlsKeyPair();
  TlsKeyPair(const TlsKeyPair&) = delete;
  TlsKeyPair& operator=(const TlsKeyPair&) = delete;

  X509* leaf() const;  // made by the first call (0.1 ms), without a lock
  const std::vector<CertificatePtr>& chain() const { return chain_; }  // without the leaf
  EVP_PKEY* key() const { return key_.get(); }
  const std::string& kind() const { return kind_; }      // of the key: "RSA", "EC", "ED25519", ...
  const std::string& digest() const { return digest_; }  // SHA-256 of all of it
  // What its authority says of its revocation (RFC 6960), DER; empty: nothing. Out of date after `staple_until()`.
  const std::string& staple() const { return staple_; }
  int64_t staple_until() const { return staple_until_s_; }  // seconds of Unix; 0: it has never been up to date
  bool must_staple() const { return must_staple_; }         // it says so itself (RFC 7633)
  bool use_in(SSL_CTX* context) const;

 private:
  friend class TlsMaterials;
  std::string dates_problem() const;  // now; "": none
  mutable std::atomic<X509*> leaf_{nullptr};
  std::string leaf_der_;
  std::vector<CertificatePtr> chain_;
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_{nullptr, EVP_PKEY_free};
  std::string kind_, digest_, staple_;
  int64_t valid_from_s_ = 0, valid_until_s_ = 0, staple_until_s_ = 0;
  bool must_staple_ = false;
};

// Who is believed: trusted authorities and lists of what they have revoked.
class TlsAuthorities {
 public:
  X509_STORE* store() const { return store_.get(); }
  const std::string& digest() const { return digest_; }  // SHA-256 of all of it
  // All of them, for the names that a server sends to its clients.
  void name_in(SSL_CTX* context) const;

 private:
  friend class TlsMaterials;
  std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store_{nullptr, X509_STORE_free};
  std::string digest_;
};

class TlsMaterials {
 public:
  TlsMaterials();
  ~TlsMaterials();
  TlsMaterials(const TlsMaterials&) = delete;
  TlsMaterials& operator=(const TlsMaterials&) = delete;

  struct Problem {
    enum class Where : uint8_t { kChain, kKey, kStaple } where = Where::kChain;
    std::string text;  // without any of the PEM
  };
  // nullptr: see `problem`. The certificates are valid now, each has signed the one before it, the key and the staple
  // (DER; may be empty) are the first one's own, and OpenSSL takes all of it.
  std::shared_ptr<const TlsKeyPair> key_pair(std::string_view chain_pem, std::string_view key_pem,
                                             std::string_view staple, Problem& problem);
  // Of texts that are good (pem.h). `leaf_crl_only`: lists of the authority of the peer's own certificate are enough.
  std::shared_ptr<const TlsAuthorities> authorities(std::string_view trusted_ca_pem, std::string_view crl_pem,
                                                    bool leaf_crl_only);
  // Whether OpenSSL takes such lists, in its own syntax.
  bool takes_ciphers(const std::string& list) const { return SSL_CTX_set_cipher_list(trial_, list.c_str()) == 1; }
  bool takes_curves(const std::string& list) const { return SSL_CTX_set1_groups_list(trial_, list.c_str()) == 1; }

 private:
  using Decoder = std::unique_ptr<OSSL_DECODER_CTX, void (*)(OSSL_DECODER_CTX*)>;
  struct Decoding {
    EVP_PKEY* key = nullptr;  // where the decoder puts it
    Decoder decoder;
  };
  struct Reading {
    CertificatePtr leaf;  // without its public key
    std::string chain;    // digests of the others
  };
  std::string read_chain(std::string_view pem, TlsKeyPair& pair, Reading& reading);
  std::string chain_problem(const TlsKeyPair& pair, const Reading& reading);
  static std::string read_staple(std::string_view der, X509* leaf, TlsKeyPair& pair);
  CertificatePtr bare(const unsigned char* der, long size, bool trusted) const;
  CertificatePtr intermediate(const unsigned char* der, long size, const std::string& digest);
  EVP_PKEY* public_key(const X509* certificate);
  EVP_PKEY* read_key(std::string_view pem, const std::string& kind);
  EVP_PKEY* decode(const unsigned char* der, size_t size, const std::string& kind, const char* structure);
  bool taken(const TlsKeyPair& pair, const EVP_PKEY* key, const Reading& reading);

  SSL_CTX* trial_;       // whether it would be taken
  OSSL_LIB_CTX* plain_;  // without any algorithm
  OSSL_PROVIDER* nothing_;
  std::map<std::string, std::unique_ptr<Decoding>> decoders_;
  std::unordered_set<std::string> taken_, good_chains_;
  // By digest.
  std::unordered_map<std::string, std::weak_ptr<X509>> intermediates_;
  std::unordered_map<std::string, std::weak_ptr<const TlsKeyPair>> pairs_;
  std::unordered_map<std::string, std::weak_ptr<const TlsAuthorities>> authorities_;
  size_t sweep_at_ = 256;
};

// SHA-256 of fields, each with its length.
std::string digest_of(std::initializer_list<std::string_view> fields);

}  // namespace outrigger::config
