#include "support/certificates.h"

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "support/process.h"

namespace outrigger::test {
namespace {

void make(const std::string& stem, std::vector<std::string> more) {
  std::vector<std::string> argv = {
      "openssl", "req",   "-x509", "-newkey", "ec",          "-pkeyopt", "ec_paramgen_curve:P-256",
      "-nodes",  "-days", "1",     "-keyout", stem + ".key", "-out",     stem + ".pem"};
  argv.insert(argv.end(), more.begin(), more.end());
  Process openssl(argv);
  if (openssl.wait_exit() == 0) return;
  fprintf(stderr, "openssl: %s\n", openssl.output().c_str());
  abort();
}

}  // namespace

Certificates::Certificates(std::string directory, std::string name)
    : directory_(std::move(directory)), name_(std::move(name)) {
  make(*this / name_, {"-subj", "/CN=" + name_});
}

void Certificates::issue(const std::string& name, const std::string& alternative_names) const {
  make(*this / name, {"-subj", "/CN=" + name, "-CA", *this / (name_ + ".pem"), "-CAkey", *this / (name_ + ".key"),
                      "-addext", "subjectAltName=" + alternative_names, "-addext", "basicConstraints=CA:FALSE"});
}

}  // namespace outrigger::test
