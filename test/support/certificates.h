// CertificateAuthority: certificates for tests, made on the spot (ECDSA P-256 unless told, valid for an hour).
//
// Use:  CertificateAuthority ca;  Certificate server = ca.issue("server", {"DNS:control.example", "IP:127.0.0.1"});
//       write_file(dir / "server.pem", server.pem);
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace outrigger::test {

struct Certificate {
  std::string pem, private_key;
};

struct CertificateOptions {
  bool rsa = false;
  long valid_from_s = -3600, valid_until_s = 3600;  // from now
  bool must_staple = false;                         // RFC 7633
  std::string key = {};                             // "P-384", "ED25519", "RSA-1024"; empty: P-256, or RSA of 2048 bits
  bool authority = true;                            // of those below another
  bool sha1 = false;                                // how it is signed; else SHA-256
};

class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name = "test authority");
  // One below another: intermediate.
  CertificateAuthority(const std::string& name, CertificateAuthority& above, const CertificateOptions& options = {});
  ~CertificateAuthority();

  const std::string& pem() const { return pem_; }
  // `names`: subject alternative names as OpenSSL writes them.
  Certificate issue(const std::string& common_name, const std::vector<std::string>& names = {},
                    const CertificateOptions& options = {});
  // A list (CRL) that revokes these, in PEM.
  std::string revoke(const std::vector<Certificate>& revoked) const;
  // What it says of the certificate's revocation (OCSP), in DER.
  std::string staple(const Certificate& of, long valid_until_s = 3600, bool revoked = false) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string pem_;
};

// An authority whose certificates are files: NAME.pem and NAME.key in a directory, its own among them.
class Certificates {
 public:
  explicit Certificates(std::string directory, const std::string& name = "ca");
  void issue(const std::string& name, const std::vector<std::string>& names);
  CertificateAuthority& authority() { return authority_; }
  std::string operator/(const std::string& file) const { return directory_ + "/" + file; }

 private:
  const std::string directory_;
  CertificateAuthority authority_;
};

}  // namespace outrigger::test
