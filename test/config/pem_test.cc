// What is wrong with certificates and keys is told before anybody depends on them.
#include "config/pem.h"

#include <gtest/gtest.h>

#include "support/certificates.h"

namespace outrigger::config {
namespace {

using test::Certificate;
using test::CertificateAuthority;

TEST(Pem, CertificatesParseAllOrTheFirstBadOneIsNamed) {
  CertificateAuthority ca;
  const Certificate one = ca.issue("one"), two = ca.issue("two");
  EXPECT_EQ(certificates_problem(one.pem), "");
  EXPECT_EQ(certificates_problem("a comment\n" + one.pem + "\n" + two.pem + ca.pem()), "");
  EXPECT_EQ(certificates_problem(""), "holds no certificate in PEM");
  EXPECT_EQ(certificates_problem("no PEM"), "holds no certificate in PEM");
  EXPECT_EQ(certificates_problem(one.private_key), "holds no certificate in PEM");
  std::string broken = two.pem;
  broken[broken.size() / 2] = broken[broken.size() / 2] == 'A' ? 'B' : 'A';
  broken.erase(broken.size() / 2 + 1, 4);
  EXPECT_NE(certificates_problem(one.pem + broken).find("certificate 2 does not parse"), std::string::npos)
      << certificates_problem(one.pem + broken);
}

TEST(Pem, AKeyIsReadableAndTheCertificatesOwn) {
  CertificateAuthority ca;
  const Certificate one = ca.issue("one"), two = ca.issue("two");
  EXPECT_EQ(private_key_problem(one.private_key, one.pem + ca.pem()), "");
  EXPECT_EQ(private_key_problem(two.private_key, one.pem), "does not match the certificate");
  EXPECT_EQ(private_key_problem(one.private_key, ca.pem() + one.pem), "does not match the certificate");
  EXPECT_EQ(private_key_problem("", one.pem), "is no private key in PEM");
  EXPECT_EQ(private_key_problem(one.pem, one.pem), "is no private key in PEM");
  EXPECT_EQ(private_key_problem(one.private_key.substr(0, one.private_key.size() / 2), one.pem),
            "is no private key in PEM");
  // Nobody is asked for a password.
  const std::string encrypted =
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAk\n"
      "-----END ENCRYPTED PRIVATE KEY-----\n";
  EXPECT_EQ(private_key_problem(encrypted, one.pem), "is an encrypted private key, which is not supported");
}

}  // namespace
}  // namespace outrigger::config
