#include "support/tls_tunnel.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/check.h"

namespace outrigger::test {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

Bio open_pem(const std::string& pem) { return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free}; }

std::string wire_format(const std::vector<std::string>& protocols) {
  std::string out;
  for (const std::string& protocol : protocols) out += static_cast<char>(protocol.size()) + protocol;
  return out;
}

int select_alpn(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in, unsigned int in_size,
                void* mine) {
  const auto* offered = static_cast<const std::string*>(mine);
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, size, reinterpret_cast<const unsigned char*>(offered->data()),
                                          static_cast<unsigned>(offered->size()), in, in_size);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

void wait_for(int fd, short events) {
  pollfd one{fd, events, 0};
  poll(&one, 1, kWaitMs);
}

}  // namespace

TlsTunnel::TlsTunnel(Socket peer, const TlsSettings& settings) : peer_(std::move(peer)) {
  if (!peer_.valid()) {
    error_ = "not connected";
    return;
  }
  context_ = SSL_CTX_new(TLS_method());
  if (settings.min_version != 0) SSL_CTX_set_min_proto_version(context_, settings.min_version);
  if (settings.max_version != 0) SSL_CTX_set_max_proto_version(context_, settings.max_version);
  if (!settings.ciphers.empty()) CHECK(SSL_CTX_set_cipher_list(context_, settings.ciphers.c_str()) == 1);
  if (!settings.groups.empty()) CHECK(SSL_CTX_set1_groups_list(context_, settings.groups.c_str()) == 1);
  if (!settings.certificate.pem.empty()) {
    X509* leaf = PEM_read_bio_X509(open_pem(settings.certificate.pem).get(), nullptr, nullptr, nullptr);
    EVP_PKEY* key =
        PEM_read_bio_PrivateKey(open_pem(settings.certificate.private_key).get(), nullptr, nullptr, nullptr);
    CHECK(SSL_CTX_use_cert_and_key(context_, leaf, key, nullptr, 1) == 1);
    X509_free(leaf);
    EVP_PKEY_free(key);
  }
  if (!settings.trusted.empty()) {
    const auto pem = open_pem(settings.trusted);
    while (X509* root = PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr)) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), root);
      X509_free(root);
    }
    ERR_clear_error();
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  std::string alpn = wire_format(settings.alpn);
  if (settings.server && !alpn.empty()) SSL_CTX_set_alpn_select_cb(context_, select_alpn, &alpn);
  ssl_ = SSL_new(context_);
  if (!settings.server && !alpn.empty())
    SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(alpn.data()), static_cast<unsigned>(alpn.size()));
  if (!settings.server_name.empty()) SSL_set_tlsext_host_name(ssl_, settings.server_name.c_str());
  if (settings.session != nullptr) SSL_set_session(ssl_, settings.session);
  fcntl(peer_.fd(), F_SETFL, fcntl(peer_.fd(), F_GETFL) | O_NONBLOCK);
  SSL_set_fd(ssl_, peer_.fd());
  if (settings.server) {
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
  }
  shake_hands();
  if (!open_) return;
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  plain_ = Socket(pair[0]);
  inner_ = Socket(pair[1]);
  thread_ = std::thread([this] { pump(); });
}

TlsTunnel::~TlsTunnel() {
  plain_.close();
  cut();
  SSL_free(ssl_);
  SSL_CTX_free(context_);
}

void TlsTunnel::cut() {
  cut_ = true;
  if (peer_.valid()) ::shutdown(peer_.fd(), SHUT_RDWR);
  if (inner_.valid()) ::shutdown(inner_.fd(), SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
}

bool TlsTunnel::wait_end() {
  ended_.get_future().wait();
  return clean_;
}

void TlsTunnel::note_error(int ssl_error) {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  error_ = reason != nullptr ? reason : ssl_error == SSL_ERROR_SYSCALL ? "the connection ended" : "failed";
}

// Whether to try again: what was missing has come.
bool TlsTunnel::step(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      wait_for(peer_.fd(), POLLIN);
      return true;
    case SSL_ERROR_WANT_WRITE:
      wait_for(peer_.fd(), POLLOUT);
      return true;
    default:
      return false;
  }
}

void TlsTunnel::shake_hands() {
  for (;;) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_);
    if (result == 1) break;
    const int error = SSL_get_error(ssl_, result);
    if (step(result)) continue;
    note_error(error);
    return;
  }
  open_ = true;
  const unsigned char* alpn = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &alpn, &size);
  alpn_.assign(reinterpret_cast<const char*>(alpn), size);
}

void TlsTunnel::pump() {
  char buffer[16 * 1024];
  bool plain_open = true, peer_open = true;
  while (peer_open || plain_open) {
    ERR_clear_error();
    int got = 0;
    while (peer_open && (got = SSL_read(ssl_, buffer, sizeof(buffer))) > 0)
      if (inner_.send({buffer, static_cast<size_t>(got)}) == 0) break;
    if (peer_open) {
      const int error = SSL_get_error(ssl_, got);
      if (error == SSL_ERROR_ZERO_RETURN) {
        clean_ = true;
        peer_open = false;
        inner_.shutdown_write();
        ended_.set_value();
      } else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        if (!cut_) note_error(error);
        break;
      }
    }
    if (!peer_open && !plain_open) break;
    pollfd both[2] = {{peer_open ? peer_.fd() : -1, POLLIN, 0}, {plain_open ? inner_.fd() : -1, POLLIN, 0}};
    if (poll(both, 2, kWaitMs) == 0) break;
    if ((both[1].revents & (POLLIN | POLLHUP)) == 0) continue;
    const ssize_t size = recv(inner_.fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (size <= 0) {
      plain_open = false;
      if (cut_) break;
      SSL_shutdown(ssl_);
      ::shutdown(peer_.fd(), SHUT_WR);
      continue;
    }
    ERR_clear_error();
    int sent = 0;
    while ((sent = SSL_write(ssl_, buffer, static_cast<int>(size))) <= 0)
      if (!step(sent)) break;
  }
  if (!peer_open) return;
  inner_.shutdown_write();
  ended_.set_value();
}

std::string TlsTunnel::version() const { return SSL_get_version(ssl_); }
std::string TlsTunnel::cipher() const { return SSL_get_cipher_name(ssl_); }
std::string TlsTunnel::group() const { return OBJ_nid2sn(static_cast<int>(SSL_get_negotiated_group(ssl_))); }
bool TlsTunnel::resumed() const { return SSL_session_reused(ssl_) == 1; }

std::string TlsTunnel::peer_key_type() const {
  X509* peer = SSL_get0_peer_certificate(ssl_);
  if (peer == nullptr) return "";
  return OBJ_nid2sn(EVP_PKEY_get_base_id(X509_get0_pubkey(peer)));
}

}  // namespace outrigger::test
