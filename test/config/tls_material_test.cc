// Certificates and their keys, parsed and tried when they are loaded: what is taken, what is not, and why.
#include "config/tls_material.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>

#include <thread>
#include <vector>

#include "support/certificates.h"

namespace outrigger::config {
namespace {

using test::Certificate;
using test::CertificateAuthority;
using Problem = TlsMaterials::Problem;

class Materials : public ::testing::Test {
 protected:
  std::shared_ptr<const TlsKeyPair> load(const std::string& chain, const std::string& key) {
    problem_ = {};
    return materials_.key_pair(chain, key, "", problem_);
  }
  std::string refusal(const std::string& chain, const std::string& key, Problem::Where where = Problem::Where::kChain) {
    EXPECT_EQ(load(chain, key), nullptr);
    EXPECT_EQ(problem_.where, where);
    return problem_.text;
  }
  // With another first byte of what the base64 says at its end: the signature.
  static std::string with_another_signature(std::string pem) {
    const size_t end = pem.find("\n-----END");
    char& at = pem[end - 12];
    at = at == 'A' ? 'B' : 'A';
    return pem;
  }

  CertificateAuthority root_{"root"};
  CertificateAuthority middle_{"middle", root_};
  TlsMaterials materials_;
  Problem problem_;
};

TEST_F(Materials, EveryKindOfKeyIsTakenWithItsCertificate) {
  for (const char* kind : {"P-256", "P-384", "RSA-2048", "RSA-3072", "ED25519"}) {
    for (int i = 0; i < 2; ++i) {  // the second is of a shape that is known
      const Certificate one = root_.issue("one", {"DNS:a.example"}, {.key = kind});
      const auto pair = load(one.pem, one.private_key);
      ASSERT_NE(pair, nullptr) << kind << " " << problem_.text;
      EXPECT_EQ(X509_check_private_key(pair->leaf(), pair->key()), 1);
      EXPECT_EQ(load(one.pem, one.private_key), pair);
      SSL_CTX* context = SSL_CTX_new(TLS_method());
      EXPECT_TRUE(pair->use_in(context));
      SSL_CTX_free(context);
      const Certificate other = root_.issue("other", {}, {.key = kind});
      EXPECT_EQ(refusal(one.pem, other.private_key, Problem::Where::kKey), "does not match the certificate");
    }
  }
  const Certificate rsa = root_.issue("rsa", {}, {.rsa = true}), ec = root_.issue("ec");
  EXPECT_EQ(load(rsa.pem, rsa.private_key)->kind(), "RSA");
  EXPECT_EQ(load(ec.pem, ec.private_key)->kind(), "EC");
  EXPECT_EQ(refusal(rsa.pem, ec.private_key, Problem::Where::kKey), "does not match the certificate");
}

// What OpenSSL refuses is refused though one of the same kind has been taken.
TEST_F(Materials, WhatIsTooWeakIsRefused) {
  const Certificate good = root_.issue("good", {}, {.rsa = true}), ec = root_.issue("good");
  ASSERT_NE(load(good.pem, good.private_key), nullptr);
  ASSERT_NE(load(ec.pem, ec.private_key), nullptr);
  for (int i = 0; i < 2; ++i) {
    const Certificate small = root_.issue("small", {}, {.key = "RSA-1024"});
    EXPECT_EQ(refusal(small.pem, small.private_key), "is refused by OpenSSL: ee key too small");
    const Certificate sha1 = root_.issue("sha1", {}, {.sha1 = true});
    EXPECT_EQ(refusal(sha1.pem, sha1.private_key), "is refused by OpenSSL: ca md too weak");
  }
}

TEST_F(Materials, EachCertificateOfAChainHasIssuedTheOneBeforeIt) {
  const Certificate leaf = middle_.issue("leaf");
  for (int i = 0; i < 2; ++i) {
    EXPECT_NE(load(leaf.pem, leaf.private_key), nullptr) << problem_.text;
    EXPECT_NE(load(leaf.pem + middle_.pem(), leaf.private_key), nullptr) << problem_.text;
    const auto whole = load(leaf.pem + middle_.pem() + root_.pem(), leaf.private_key);
    ASSERT_NE(whole, nullptr) << problem_.text;
    EXPECT_EQ(whole->chain().size(), 2u);
    EXPECT_EQ(refusal(leaf.pem + root_.pem() + middle_.pem(), leaf.private_key),
              "certificate 2 has not issued certificate 1: subject issuer mismatch");
    EXPECT_EQ(refusal(leaf.pem + middle_.pem() + CertificateAuthority("other").pem(), leaf.private_key),
              "certificate 3 has not issued certificate 2: subject issuer mismatch");
    // One of the same name with another key, and signatures that are not.
    EXPECT_EQ(refusal(leaf.pem + CertificateAuthority("middle", root_).pem(), leaf.private_key),
              "certificate 2 has not issued certificate 1: certificate signature failure");
    EXPECT_EQ(refusal(with_another_signature(leaf.pem) + middle_.pem(), leaf.private_key),
              "certificate 2 has not issued certificate 1: certificate signature failure");
    EXPECT_EQ(refusal(leaf.pem + with_another_signature(middle_.pem()) + root_.pem(), leaf.private_key),
              "certificate 3 has not issued certificate 2: certificate signature failure");
    EXPECT_EQ(refusal(leaf.pem + leaf.pem, leaf.private_key),
              "certificate 2 has not issued certificate 1: subject issuer mismatch");
    // A certificate that is no authority's.
    CertificateAuthority none("none", root_, {.authority = false});
    const Certificate own = none.issue("own");
    EXPECT_EQ(refusal(own.pem + none.pem(), own.private_key),
              "certificate 2 has not issued certificate 1: invalid CA certificate");
  }
}

TEST_F(Materials, AllOfAChainMustBeValidNow) {
  CertificateAuthority expired("expired", root_, {.valid_from_s = -7200, .valid_until_s = -60});
  CertificateAuthority future("future", root_, {.valid_from_s = 60});
  const Certificate one = expired.issue("one"), two = future.issue("two");
  EXPECT_EQ(refusal(one.pem + expired.pem(), one.private_key), "certificate 2: the certificate has expired");
  EXPECT_EQ(refusal(two.pem + future.pem(), two.private_key), "certificate 2: the certificate is not valid yet");
}

TEST_F(Materials, WhatDoesNotParseIsCountedFromTheFirst) {
  const std::string garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const Certificate leaf = middle_.issue("leaf");
  EXPECT_TRUE(refusal(garbage, leaf.private_key).starts_with("certificate 1 does not parse: ")) << problem_.text;
  EXPECT_TRUE(
      refusal(leaf.pem + middle_.pem() + garbage, leaf.private_key).starts_with("certificate 3 does not parse: "))
      << problem_.text;
  EXPECT_EQ(refusal("", leaf.private_key), "holds no certificate in PEM");
  EXPECT_EQ(refusal(leaf.pem, "", Problem::Where::kKey), "is no private key in PEM");
}

// As workers do with a chain that has not been used.
TEST_F(Materials, ThreadsThatUseOneFirstGetTheSame) {
  for (int round = 0; round < 20; ++round) {
    const Certificate one = root_.issue("one");
    const auto pair = load(one.pem, one.private_key);
    std::vector<X509*> got(4);
    std::vector<std::thread> threads;
    for (X509*& leaf : got) threads.emplace_back([&] { leaf = pair->leaf(); });
    for (std::thread& thread : threads) thread.join();
    for (X509* leaf : got) EXPECT_EQ(leaf, got[0]);
  }
}

}  // namespace
}  // namespace outrigger::config
