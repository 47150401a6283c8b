#include "config/tls_names.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>

namespace outrigger::config {

bool is_tls12_cipher(const std::string& name) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  const bool known = SSL_CTX_set_cipher_list(context.get(), name.c_str()) == 1;
  ERR_clear_error();
  if (!known) return false;
  const STACK_OF(SSL_CIPHER)* ciphers = SSL_CTX_get_ciphers(context.get());
  for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
    const SSL_CIPHER* cipher = sk_SSL_CIPHER_value(ciphers, i);
    if (SSL_CIPHER_get_name(cipher) == name && std::string_view(SSL_CIPHER_get_version(cipher)) != "TLSv1.3")
      return SSL_CIPHER_get_auth_nid(cipher) != NID_auth_null && SSL_CIPHER_get_cipher_nid(cipher) != NID_undef;
  }
  return false;
}

bool is_curve(std::string_view name) {
  for (const std::string_view known : {"X25519", "P-256", "P-384", "P-521", "X448"})
    if (name == known) return true;
  return false;
}

}  // namespace outrigger::config
