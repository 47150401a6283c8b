// TlsContext: the TLS of a filter chain or a cluster, compiled: an SSL_CTX and what its callbacks need. All workers
// share it; a connection's own state is a net::TlsSession.
//
// TlsContexts makes them: equal specs share one as long as anybody holds it, and with it the keys of its tickets.
//
// Thread rule: TlsContexts on the builder thread; a TlsContext is immutable, any thread.
// Use:  TRY(auto context, contexts.server(*chain.tls));   net::Connection::accept(..., context->server_session());
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <unordered_map>

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

// What connections are bound to: all but our own certificates and ticket keys, which rotate (not how many). SHA-256.
std::string tls_identity(const config::DownstreamTlsSpec& spec);
std::string tls_identity(const config::UpstreamTlsSpec& spec);

class TlsContext {
 public:
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  net::TlsSessionPtr server_session() const;
  // `hostname`: the endpoint's. `alpn`: in wire format, for specs without a list of their own. The session and its
  // cache must not outlive this context.
  net::TlsSessionPtr client_session(const std::string& hostname, std::string_view alpn,
                                    net::TlsSessionCache* cache) const;
  const std::string& identity() const { return identity_; }

 private:
  friend class TlsContexts;
  TlsContext();
  static Result<std::shared_ptr<const TlsContext>> server(const config::DownstreamTlsSpec& spec);
  static Result<std::shared_ptr<const TlsContext>> client(const config::UpstreamTlsSpec& spec);
  Result<void> set_common(const config::TlsSpec& spec, bool server);
  Result<void> use_certificate(const config::TlsCertificateSpec& spec);
  Result<void> use_validation(const config::TlsValidationSpec& spec, bool server);
  struct Verdict;
  Verdict judge(X509_STORE_CTX* store, const net::TlsSession& session) const;
  static int verify(X509_STORE_CTX* store, void* self);
  static int select_alpn(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
                         unsigned int in_size, void* self);
  static int ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                        int sealing);

  SSL_CTX* context_;
  const uint64_t id_;
  std::string identity_;
  std::vector<net::TlsIdentity> identities_;
  config::TlsValidationSpec validation_;
  bool asks_ = false;  // something is asked of the peer's certificate
  std::string alpn_;   // in wire format
  std::vector<std::string> ticket_keys_;
  // Clients.
  std::string sni_;
  bool auto_host_sni_ = false;
  bool verify_sni_ = false;
  uint32_t max_session_keys_ = 0;
};

class TlsContexts {
 public:
  // nullptr: files that the spec names have not been read (TranslateOptions::files_elsewhere); it is only validated.
  Result<std::shared_ptr<const TlsContext>> server(const config::DownstreamTlsSpec& spec);
  Result<std::shared_ptr<const TlsContext>> client(const config::UpstreamTlsSpec& spec);

 private:
  template <class Spec, class F>
  Result<std::shared_ptr<const TlsContext>> find_or_make(const Spec& spec, F&& make);
  std::unordered_map<std::string, std::weak_ptr<const TlsContext>> known_;  // by digest of the whole spec
  size_t sweep_at_ = 64;
};

// "\x02h2\x08http/1.1" of {"h2", "http/1.1"} (RFC 7301 section 3.1).
std::string alpn_wire(const std::vector<std::string>& protocols);

}  // namespace outrigger::upstream
