// TLS contexts of the tests of this room, made with OpenSSL itself.
#pragma once

#include <openssl/pem.h>

#include <string>

#include "net/net_fixture.h"
#include "net/tls_session.h"
#include "support/certificates.h"

namespace outrigger::net {

// A context that shows `certificate` (if there is one) and asks for one that `trusted` has signed (if it is not empty).
class TestContext {
 public:
  TestContext(const test::Certificate& certificate, const std::string& trusted) : context_(SSL_CTX_new(TLS_method())) {
    SSL_CTX_set_mode(context_, SSL_MODE_RELEASE_BUFFERS);
    if (!certificate.pem.empty()) {
      BIO* pem = BIO_new_mem_buf(certificate.pem.data(), -1);
      X509* leaf = PEM_read_bio_X509(pem, nullptr, nullptr, nullptr);
      BIO_free(pem);
      pem = BIO_new_mem_buf(certificate.private_key.data(), -1);
      EVP_PKEY* key = PEM_read_bio_PrivateKey(pem, nullptr, nullptr, nullptr);
      BIO_free(pem);
      EXPECT_EQ(SSL_CTX_use_cert_and_key(context_, leaf, key, nullptr, 1), 1);
      X509_free(leaf);
      EVP_PKEY_free(key);
    }
    if (trusted.empty()) return;
    BIO* pem = BIO_new_mem_buf(trusted.data(), -1);
    X509* root = PEM_read_bio_X509(pem, nullptr, nullptr, nullptr);
    BIO_free(pem);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), root);
    X509_free(root);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  ~TestContext() { SSL_CTX_free(context_); }
  TestContext(const TestContext&) = delete;
  TestContext& operator=(const TestContext&) = delete;

  SSL_CTX* get() { return context_; }
  TlsSessionPtr server() { return TlsSessionPtr(new TlsSession(context_, {.server = true})); }
  TlsSessionPtr client(TlsSession::Options options = {}) { return TlsSessionPtr(new TlsSession(context_, options)); }

 private:
  SSL_CTX* context_;
};

}  // namespace outrigger::net
