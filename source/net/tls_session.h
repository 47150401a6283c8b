// TlsSession: TLS of one connection, without its socket: bytes of the peer in, plain bytes out, and the other way
// round. Connection owns it and moves the bytes; whoever makes the connection makes the session of an SSL_CTX that has
// the whole configuration (upstream/tls_context.h).
//
// What OpenSSL wants to send gathers in wire(), records of at most 16 KiB, so that many leave in one system call. What
// it reads comes from the memory that the loop has lent. Nothing of ours is allocated per record.
//
// Thread rule: the connection's thread. The SSL_CTX may be shared by all.
// Use:  TlsSessionPtr tls(new TlsSession(context, TlsSession::Options{.server = true}));
//       Connection::accept(loop, fd, local, remote, handler, options, std::move(tls));
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/buffer.h"
#include "outrigger/tls_info.h"

namespace outrigger::net {

// Why TLS with a peer ended. Envoy's counters below "ssl." tell most of them apart.
enum class TlsFailure : uint8_t {
  kNone,
  kNoCertificate,  // the peer showed none and had to
  kVerify,         // its chain does not verify
  kSan,            // no name of its certificate is among those that are expected
  kPin,            // neither its certificate nor its key is
  kProtocol,       // everything else: versions, ciphers, garbage, the peer's alerts
  kTruncated,      // the peer closed without close_notify
};

// Sessions of one worker with one peer, to be resumed. Of one configuration only: what another one has verified counts
// for nothing.
class TlsSessionCache {
 public:
  explicit TlsSessionCache(size_t limit) : limit_(limit) {}
  ~TlsSessionCache() { clear(); }
  TlsSessionCache(const TlsSessionCache&) = delete;
  TlsSessionCache& operator=(const TlsSessionCache&) = delete;

  // For sessions of configuration `context_id` from now on.
  void use(uint64_t context_id, size_t limit);
  // Takes the session over.
  void keep(uint64_t context_id, SSL_SESSION* session);
  // nullptr: there is none. The caller owns it. Tickets of TLS 1.3 are used once (RFC 8446 appendix C.4).
  SSL_SESSION* take();
  size_t size() const { return sessions_.size(); }

 private:
  void clear();
  size_t limit_;
  uint64_t context_id_ = 0;
  std::vector<SSL_SESSION*> sessions_;  // the newest last
};

// One of our own certificates.
struct TlsIdentity {
  X509* certificate = nullptr;
  CertificateInfo info;
};
CertificateInfo certificate_info(X509* certificate);

class TlsSession {
 public:
  struct Options {
    bool server = false;
    const std::vector<TlsIdentity>* identities = nullptr;  // outlives the session
    uint64_t context_id = 0;
    // Servers: tickets of TLS 1.3 for a client; one that comes with a ticket gets one.
    size_t tickets = 0;
    // Clients.
    std::string server_name;           // SNI; empty: none
    std::string_view alpn;             // in wire format (RFC 7301); empty: the context's
    TlsSessionCache* cache = nullptr;  // outlives the session
  };
  TlsSession(SSL_CTX* context, const Options& options);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  // For OpenSSL's callbacks.
  static TlsSession& of(const SSL* ssl) { return *static_cast<TlsSession*>(SSL_get_app_data(ssl)); }

  enum class Step : uint8_t {
    kWant,  // more bytes of the peer
    kDone,  // the handshake is over; plain bytes were read
    kEof,   // the peer's close_notify
    kFailed,
  };
  // Bytes of the peer, valid until they are used up (unread() == 0) or taken back.
  void feed(const char* data, size_t size) { in_ = {data, size}; }
  size_t unread() const { return in_.size(); }
  void take_back() { in_ = {}; }
  Step handshake();
  // Whole records while `room` is at least kMaxRecord.
  static constexpr size_t kMaxRecord = 16 * 1024;
  Step read(char* to, size_t room, size_t& got);

  // Moves plain bytes, kSealAtOnce at most, into wire(); the tickets go before the first of them. False: failed.
  static constexpr size_t kSealAtOnce = 8 * kMaxRecord;
  bool seal(Buffer& plain);
  // Puts close_notify into wire(), once, if the handshake was done and nothing has failed.
  void close_notify();
  Buffer& wire() { return wire_; }

  // After the handshake.
  const TlsInfo& info() const { return info_; }
  bool handshake_done() const { return done_; }
  const std::string& server_name() const { return options_.server_name; }

  // Says why verification failed (OpenSSL's callback), or why the connection has ended; the first one counts.
  void fail(TlsFailure why, std::string reason);
  // Whether the cache has taken the session over.
  bool keep_session(SSL_SESSION* session);
  TlsFailure failure() const { return failure_; }
  const std::string& reason() const { return reason_; }

 private:
  friend struct TlsBio;
  Step failed();
  void fill_info();
  void drop_read_buffer();

  SSL* ssl_;
  Options options_;
  std::string_view in_;
  Buffer wire_;
  TlsInfo info_;
  std::string reason_;
  size_t owed_tickets_ = 0;
  TlsFailure failure_ = TlsFailure::kNone;
  bool done_ = false;
  bool closed_ = false;  // close_notify is sent
};

}  // namespace outrigger::net
