// TlsTunnel: TLS for clients and servers of tests that know plain sockets only. It shakes hands on a socket with
// OpenSSL itself and carries bytes between that and plain(), in a thread of its own.
//
// Thread rule: the thread that made it.
// Use:  TlsTunnel tls(Socket::connect(port), {.trusted = ca.pem(), .alpn = {"h2"}});
//       ASSERT_TRUE(tls.open()) << tls.error();  H2Peer client(tls.plain());
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/certificates.h"
#include "support/socket.h"

namespace outrigger::test {

struct TlsSettings {
  bool server = false;
  std::string trusted;      // PEM; empty: the peer is not verified. Servers: clients must show a certificate
  Certificate certificate;  // empty: none
  std::vector<std::string> alpn;
  std::string server_name;               // clients
  std::string ciphers;                   // up to TLS 1.2
  std::string groups;                    // OpenSSL's names
  int min_version = 0, max_version = 0;  // TLS1_2_VERSION...
  SSL_SESSION* session = nullptr;        // clients: to be resumed
};

class TlsTunnel {
 public:
  TlsTunnel(Socket peer, const TlsSettings& settings);
  ~TlsTunnel();
  TlsTunnel(const TlsTunnel&) = delete;
  TlsTunnel& operator=(const TlsTunnel&) = delete;

  // The handshake is done, as far as this side sees.
  bool open() const { return open_; }
  // OpenSSL's reason; with "alert" in it if the peer said so. After wait_end() also of the time since.
  std::string error() const { return error_; }
  // The other end of the tunnel. A FIN there becomes close_notify and FIN here.
  Socket plain() { return std::move(plain_); }
  // Ends without close_notify.
  void cut();
  // Waits until the peer has ended; true: by close_notify.
  bool wait_end();

  std::string alpn() const { return alpn_; }
  std::string version() const;
  std::string cipher() const;
  std::string group() const;  // of the key exchange: "X25519", "prime256v1", "secp384r1"
  bool resumed() const;
  // Of the certificate that the peer has shown: "rsaEncryption", "id-ecPublicKey"; empty: none.
  std::string peer_key_type() const;
  SSL_SESSION* session() const { return SSL_get1_session(ssl_); }  // the caller's

 private:
  bool step(int result);
  void shake_hands();
  void pump();
  void note_error(int ssl_error);

  Socket peer_, plain_, inner_;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  bool open_ = false;
  bool clean_ = false;
  std::string error_, alpn_;
  std::atomic<bool> cut_ = false;
  std::promise<void> ended_;  // what comes from the peer
  std::thread thread_;
};

}  // namespace outrigger::test
