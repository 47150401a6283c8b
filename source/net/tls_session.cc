#include "net/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace outrigger::net {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size <= 0 ? std::string() : std::string(data, static_cast<size_t>(size));
}

std::string hex(const unsigned char* bytes, size_t size) {
  std::string out;
  for (size_t i = 0; i < size; ++i) {
    out += "0123456789abcdef"[bytes[i] >> 4];
    out += "0123456789abcdef"[bytes[i] & 15];
  }
  return out;
}

std::string name_text(const X509_NAME* name) {
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);  // escapes control characters
  return text_of(bio.get());
}

std::string serial_text(X509* certificate) {
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  char* text = number == nullptr ? nullptr : BN_bn2hex(number);
  std::string out = text == nullptr ? "" : text;
  OPENSSL_free(text);
  BN_free(number);
  for (char& c : out) c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

void add_names(X509* certificate, CertificateInfo& info) {
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS && name->type != GEN_URI) continue;
    const ASN1_IA5STRING* text = name->type == GEN_DNS ? name->d.dNSName : name->d.uniformResourceIdentifier;
    const std::string_view view(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                                static_cast<size_t>(ASN1_STRING_length(text)));
    const bool printable = std::all_of(view.begin(), view.end(), [](char c) { return c > ' ' && c < '\x7f'; });
    if (printable) (name->type == GEN_DNS ? info.dns_names : info.uri_names).emplace_back(view);
  }
  GENERAL_NAMES_free(names);
}

// OpenSSL's first complaint, and the queue emptied.
std::string openssl_reason() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  return reason == nullptr ? "it failed" : reason;
}

}  // namespace

CertificateInfo certificate_info(X509* certificate) {
  CertificateInfo info;
  info.subject = name_text(X509_get_subject_name(certificate));
  info.issuer = name_text(X509_get_issuer_name(certificate));
  info.serial = serial_text(certificate);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest, &size) == 1) info.sha256 = hex(digest, size);
  const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
  if (PEM_write_bio_X509(bio.get(), certificate) == 1) info.pem = text_of(bio.get());
  add_names(certificate, info);
  ERR_clear_error();
  return info;
}

// ---- sessions to be resumed

void TlsSessionCache::use(uint64_t context_id, size_t limit) {
  limit_ = limit;
  if (std::exchange(context_id_, context_id) != context_id) clear();
}

void TlsSessionCache::keep(uint64_t context_id, SSL_SESSION* session) {
  if (context_id != context_id_ || limit_ == 0) return SSL_SESSION_free(session);
  if (sessions_.size() >= limit_) {
    SSL_SESSION_free(sessions_.front());
    sessions_.erase(sessions_.begin());
  }
  sessions_.push_back(session);
}

SSL_SESSION* TlsSessionCache::take() {
  while (!sessions_.empty()) {
    SSL_SESSION* session = sessions_.back();
    if (SSL_SESSION_is_resumable(session) == 1 && SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) {
      SSL_SESSION_up_ref(session);
      return session;
    }
    sessions_.pop_back();
    if (SSL_SESSION_is_resumable(session) == 1) return session;
    SSL_SESSION_free(session);
  }
  return nullptr;
}

void TlsSessionCache::clear() {
  for (SSL_SESSION* session : sessions_) SSL_SESSION_free(session);
  sessions_.clear();
}

// ---- the bytes

struct TlsBio {
  static int write(BIO* bio, const char* data, int size) {
    self(bio).wire_.append(std::string_view(data, static_cast<size_t>(size)));
    return size;
  }
  static int read(BIO* bio, char* to, int room) {
    std::string_view& in = self(bio).in_;
    BIO_clear_retry_flags(bio);
    if (in.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t size = std::min(in.size(), static_cast<size_t>(room));
    std::memcpy(to, in.data(), size);
    in.remove_prefix(size);
    return static_cast<int>(size);
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static TlsSession& self(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_data(bio)); }

  static BIO* make(TlsSession& session) {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
      BIO_meth_set_write(m, write);
      BIO_meth_set_read(m, read);
      BIO_meth_set_ctrl(m, control);
      return m;
    }();
    BIO* bio = BIO_new(method);
    CHECK(bio != nullptr);
    BIO_set_data(bio, &session);
    BIO_set_init(bio, 1);
    return bio;
  }
};

TlsSession::TlsSession(SSL_CTX* context, const Options& options) : ssl_(SSL_new(context)), options_(options) {
  CHECK(ssl_ != nullptr);
  BIO* bio = TlsBio::make(*this);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  if (options_.server) {
    SSL_set_accept_state(ssl_);
    SSL_set_num_tickets(ssl_, 0);  // not with the handshake: see seal()
    return;
  }
  SSL_set_connect_state(ssl_);
  if (!options_.server_name.empty()) SSL_set_tlsext_host_name(ssl_, options_.server_name.c_str());
  if (!options_.alpn.empty())
    SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(options_.alpn.data()),
                        static_cast<unsigned>(options_.alpn.size()));
  if (options_.cache == nullptr) return;
  if (SSL_SESSION* session = options_.cache->take(); session != nullptr) {
    SSL_set_session(ssl_, session);
    SSL_SESSION_free(session);
  }
}

TlsSession::~TlsSession() {
  // Else OpenSSL takes a session whose peer was not said goodbye to for one that must not be resumed.
  if (failure_ == TlsFailure::kNone) SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(ssl_);
}

TlsSession::Step TlsSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result != 1) return SSL_get_error(ssl_, result) == SSL_ERROR_WANT_READ ? Step::kWant : failed();
  done_ = true;
  fill_info();
  if (options_.server && SSL_version(ssl_) == TLS1_3_VERSION)
    owed_tickets_ = info_.resumed ? std::min<size_t>(options_.tickets, 1) : options_.tickets;
  return Step::kDone;
}

TlsSession::Step TlsSession::read(char* to, size_t room, size_t& got) {
  ERR_clear_error();
  if (SSL_read_ex(ssl_, to, room, &got) == 1) return Step::kDone;
  got = 0;
  switch (SSL_get_error(ssl_, 0)) {
    case SSL_ERROR_WANT_READ:
      return Step::kWant;
    case SSL_ERROR_ZERO_RETURN:
      return Step::kEof;
    default:
      return failed();
  }
}

// Small slices are copied together, so that a head and the beginning of its body share a record.
bool TlsSession::seal(Buffer& plain) {
  static thread_local char scratch[kMaxRecord];
  // With the first bytes of ours tickets need no write of their own, and a client that waits for no answer costs none.
  const bool with_tickets = owed_tickets_ != 0 && !plain.empty();
  for (; with_tickets && owed_tickets_ != 0; --owed_tickets_) SSL_new_session_ticket(ssl_);
  for (size_t sealed = 0; !plain.empty() && sealed < kSealAtOnce;) {
    const Buffer::Slice& first = *plain.begin();
    const char* data = first.data;
    size_t size = std::min<size_t>(first.size, kMaxRecord);
    if (size < kMaxRecord / 2 && plain.slice_count() > 1) {
      size = 0;
      for (const Buffer::Slice& slice : plain) {
        const size_t part = std::min<size_t>(slice.size, kMaxRecord - size);
        std::memcpy(scratch + size, slice.data, part);
        size += part;
        if (size == kMaxRecord) break;
      }
      data = scratch;
    }
    ERR_clear_error();
    size_t written = 0;
    if (SSL_write_ex(ssl_, data, size, &written) != 1 || written != size) {
      failed();
      return false;
    }
    plain.consume(size);
    sealed += size;
  }
  if (with_tickets) drop_read_buffer();
  return true;
}

// OpenSSL makes itself one for the tickets, 17 KB, and lets go of it only when it looks for a record and finds nothing.
void TlsSession::drop_read_buffer() {
  if (!in_.empty() || SSL_has_pending(ssl_) == 1) return;
  char none;
  size_t got = 0;
  SSL_peek_ex(ssl_, &none, 1, &got);
  ERR_clear_error();
}

void TlsSession::close_notify() {
  if (closed_ || !done_ || failure_ != TlsFailure::kNone) return;
  closed_ = true;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

void TlsSession::fail(TlsFailure why, std::string reason) {
  if (failure_ != TlsFailure::kNone) return;
  failure_ = why;
  reason_ = std::move(reason);
}

bool TlsSession::keep_session(SSL_SESSION* session) {
  if (options_.cache == nullptr) return false;
  options_.cache->keep(options_.context_id, session);
  return true;
}

TlsSession::Step TlsSession::failed() {
  const bool no_certificate = ERR_GET_REASON(ERR_peek_error()) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE;
  fail(no_certificate ? TlsFailure::kNoCertificate : TlsFailure::kProtocol, openssl_reason());
  ERR_clear_error();
  return Step::kFailed;
}

void TlsSession::fill_info() {
  info_.version = SSL_get_version(ssl_);
  if (const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_); cipher != nullptr)
    info_.cipher = SSL_CIPHER_get_name(cipher);
  if (const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name); name != nullptr) info_.server_name = name;
  const unsigned char* alpn = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl_, &alpn, &size);
  if (size != 0) info_.alpn.assign(reinterpret_cast<const char*>(alpn), size);
  info_.resumed = SSL_session_reused(ssl_) == 1;
  if (X509* peer = SSL_get0_peer_certificate(ssl_); peer != nullptr) {
    info_.peer = std::make_unique<CertificateInfo>(certificate_info(peer));
    info_.peer_verified = SSL_get_verify_result(ssl_) == X509_V_OK;  // of the first handshake, if this is resumed
  }
  if (options_.identities == nullptr) return;
  const X509* mine = SSL_get_certificate(ssl_);
  for (const TlsIdentity& identity : *options_.identities)
    if (identity.certificate == mine) info_.local = &identity.info;
}

}  // namespace outrigger::net
