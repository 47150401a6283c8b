// What reading PEM with OpenSSL needs.
//
// Thread rule: pure functions; OpenSSL's queue of errors is the thread's.
// Use:  const Bio bio = open_pem(text);  PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr);
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>

#include <memory>
#include <string>
#include <string_view>

namespace outrigger::config {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

inline Bio open_pem(std::string_view pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free};
}

// OpenSSL's own callback would ask the terminal.
inline int no_password(char*, int, int, void*) { return -1; }

// Of the last error; the queue is empty afterwards.
inline std::string openssl_reason() {
  const unsigned long error = ERR_peek_last_error();
  const char* const text = error == 0 ? nullptr : ERR_reason_error_string(error);
  ERR_clear_error();
  return text == nullptr ? "it cannot be read" : text;
}

}  // namespace outrigger::config
