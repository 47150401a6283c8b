// Certificates: a certificate authority of the test's own, by the openssl program.
//
// Use:  Certificates ca(dir.path());  ca.issue("server", "IP:127.0.0.1");   // server.pem, server.key and ca.pem in dir
#pragma once

#include <string>

namespace outrigger::test {

class Certificates {
 public:
  // Makes NAME.pem and NAME.key of the authority in the directory.
  explicit Certificates(std::string directory, std::string name = "ca");

  // Makes NAME.pem and NAME.key with these subject alternative names: "IP:127.0.0.1,URI:spiffe://test/a".
  void issue(const std::string& name, const std::string& alternative_names) const;

  std::string operator/(const std::string& file) const { return directory_ + "/" + file; }

 private:
  const std::string directory_, name_;
};

}  // namespace outrigger::test
