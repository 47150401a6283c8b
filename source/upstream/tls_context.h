// TlsContext: the TLS of a filter chain or a cluster, compiled: an SSL_CTX and what its callbacks need. All workers
// share it; a connection's own state is a net::TlsSession.
//
// TlsContexts makes them: equal specs share one as long as anybody holds it, and with it the keys of its tickets.
// Certificates, keys and authorities are parsed and tried there; the SSL_CTX, 40 KB, is made of them by the first
// connection (0.2 ms on its worker; of two workers that do it at once one has done it in vain, and nobody waits).
//
// Thread rule: TlsContexts on the builder thread; a TlsContext is immutable, any thread.
// Use:  TRY(auto context, contexts.server(*chain.tls));   net::Connection::accept(..., context->server_session());
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/tls_material.h"
#include "config/tls_spec.h"
#include "net/connection.h"
#include "net/tls_session.h"
#include "outrigger/result.h"
#include "stats/stats.h"

namespace outrigger::upstream {

// Envoy's names, below "listener.<name>.ssl." and "cluster.<name>.ssl.".
struct TlsStats {
  TlsStats(stats::Layout& layout, const std::string& prefix);
  stats::Counter handshake, session_reused, no_certificate, connection_error, fail_verify_no_cert, fail_verify_error,
      fail_verify_san, fail_verify_cert_hash, truncated;
  // Once a connection: after its handshake, at its end.
  void count_handshake(stats::Shard& shard, const net::TlsSession& session) const;
  void count_end(stats::Shard& shard, const net::TlsSession& session) const;
};

class TlsContext {
 public:
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  net::TlsSessionPtr server_session() const;
  // `hostname`: the endpoint's. `alpn`: in wire format, for specs without a list of their own, or `instead` of it. The
  // session and its cache must not outlive this context.
  net::TlsSessionPtr client_session(const std::string& hostname, std::string_view alpn, net::TlsSessionCache* cache,
                                    bool instead = false) const;

 private:
  friend class TlsContexts;
  struct Made {
    SSL_CTX* context = nullptr;
    std::vector<net::TlsIdentity> identities;
  };
  TlsContext();
  void take_common(config::TlsSpec spec);
  const Made& made() const;
  void set_common(Made& to) const;
  void set_server(SSL_CTX* context) const;
  void set_client(SSL_CTX* context) const;
  struct Verdict;
  Verdict judge(X509_STORE_CTX* store, const net::TlsSession& session) const;
  static int verify(X509_STORE_CTX* store, void* self);
  static int select_alpn(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
                         unsigned int in_size, void* self);
  static int staple(SSL* ssl, void* self);
  static int ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                        int sealing);

  mutable std::atomic<Made*> made_{nullptr};
  const uint64_t id_;
  std::string session_identity_;  // servers: a session of another one is not resumed
  config::TlsSpec common_;        // all of its certificates and authorities parsed
  config::TlsValidationSpec validation_;
  bool asks_ = false;  // something is asked of the peer's certificate
  bool verifies_chain_ = false;
  bool lacks_secret_ = false;                        // nobody is believed
  std::string alpn_;                                 // in wire format
  std::optional<config::DownstreamTlsSpec> server_;  // without `common`; nullopt: it is a client's
  // Clients.
  std::string sni_;
  bool auto_host_sni_ = false;
  bool verify_sni_ = false;
  uint32_t max_session_keys_ = 0;
};

class TlsContexts {
 public:
  // Of specs that name no secrets (config::with_secrets).
  // nullptr: files that the spec names have not been read (TranslateOptions::files_elsewhere); it is only validated.
  Result<std::shared_ptr<const TlsContext>> server(const config::DownstreamTlsSpec& spec);
  Result<std::shared_ptr<const TlsContext>> client(const config::UpstreamTlsSpec& spec);
  // Of a cluster that is live without a secret that it names: its connections fail, and none is in clear.
  std::shared_ptr<const TlsContext> without_secret();

 private:
  Result<void> parse(config::TlsSpec& spec);
  template <class F>
  std::shared_ptr<const TlsContext> find_or_make(std::string digest, F&& make);
  config::TlsMaterials materials_;
  std::unordered_map<std::string, std::weak_ptr<const TlsContext>> known_;  // by digest of the whole spec
  size_t sweep_at_ = 64;
};

// What connections are bound to, of TLS as a listener or cluster has it: all that it says but our own certificates and
// ticket keys, which rotate (not how many). Of secrets only the names: what they bring rotates too. SHA-256.
std::string tls_identity(const config::DownstreamTlsSpec& spec);
std::string tls_identity(const config::UpstreamTlsSpec& spec);

// "\x02h2\x08http/1.1" of {"h2", "http/1.1"} (RFC 7301 section 3.1).
std::string alpn_wire(const std::vector<std::string>& protocols);

}  // namespace outrigger::upstream
