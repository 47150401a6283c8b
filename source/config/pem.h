// Certificates and keys in PEM: whether they are usable, before anybody depends on them. What is wrong is said without
// showing any of the text.
//
// Thread rule: pure functions.
// Use:  if (const std::string problem = certificates_problem(pem); !problem.empty()) t.fault(path, problem);
#pragma once

#include <openssl/types.h>

#include <string>
#include <string_view>

namespace outrigger::config {

// At least one certificate, and nothing that does not parse. "": it is good.
std::string certificates_problem(std::string_view pem);
// A private key, not encrypted, that matches the first certificate of `chain_pem` (which is good). "": it is good.
std::string private_key_problem(std::string_view pem, std::string_view chain_pem);

// At least one list of revoked certificates (CRL), and nothing that does not parse. "": it is good.
std::string revocations_problem(std::string_view pem);
// Whether the first certificate of `chain_pem` (which is good) is valid now. "": it is.
std::string dates_problem(std::string_view chain_pem);
std::string dates_problem(const X509* certificate);

}  // namespace outrigger::config
