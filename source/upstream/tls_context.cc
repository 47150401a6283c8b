#include "upstream/tls_context.h"

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string_view>

#include "base/check.h"

namespace outrigger::upstream {
namespace {

using config::TlsSpec;
using net::TlsFailure;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

// AEADs with forward secrecy.
constexpr const char* kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kCurves = "X25519:P-256";
constexpr size_t kTicketName = 16, kTicketMac = 32;  // then as much for the cipher

int no_password(char*, int, int, void*) { return -1; }
Bio open(std::string_view pem) { return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free}; }
Certificate next_certificate(BIO* bio) { return {PEM_read_bio_X509(bio, nullptr, no_password, nullptr), X509_free}; }

tl::unexpected<Error> refused(const std::string& what) {
  const unsigned long error = ERR_peek_last_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  ERR_clear_error();
  return fail(Errc::kInvalidArgument, what + ": " + (reason == nullptr ? "OpenSSL refuses it" : reason));
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  std::vector<std::string> seen;  // a curve twice is an error to OpenSSL
  for (const std::string& name : names) {
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    out += (out.empty() ? "" : ":") + name;
  }
  return out;
}

// SHA-256 of fields, each with its length.
class Digest {
 public:
  Digest& add(std::string_view field) {
    add(field.size());
    text_ += field;
    return *this;
  }
  Digest& add(uint64_t number) {
    text_.append(reinterpret_cast<const char*>(&number), sizeof(number));
    return *this;
  }
  Digest& add(const std::vector<std::string>& list) {
    add(list.size());
    for (const std::string& one : list) add(std::string_view(one));
    return *this;
  }
  std::string take() {
    std::string out(SHA256_DIGEST_LENGTH, '\0');
    SHA256(reinterpret_cast<const unsigned char*>(text_.data()), text_.size(),
           reinterpret_cast<unsigned char*>(out.data()));
    OPENSSL_cleanse(text_.data(), text_.size());
    return out;
  }

 private:
  std::string text_;
};

Digest& add(Digest& to, const TlsSpec& spec) {
  to.add(static_cast<uint64_t>(spec.min_version)).add(static_cast<uint64_t>(spec.max_version));
  to.add(spec.cipher_suites)
      .add(spec.ecdh_curves)
      .add(spec.alpn)
      .add(spec.certificates.size())
      .add(spec.validation.has_value());
  if (!spec.validation) return to;
  const config::TlsValidationSpec& asked = *spec.validation;
  to.add(asked.trusted_ca.bytes).add(asked.crl.bytes).add(asked.leaf_crl_only).add(asked.accept_untrusted);
  to.add(asked.hashes).add(asked.spki).add(asked.sans.size());
  for (const SanMatch& san : asked.sans)
    to.add(static_cast<uint64_t>(san.type)).add(static_cast<uint64_t>(san.kind)).add(san.value).add(san.ignore_case);
  return to;
}

Digest bound(const config::DownstreamTlsSpec& spec) {
  Digest digest;
  add(digest.add("server"), spec.common).add(spec.require_client_certificate).add(spec.tickets);
  digest.add(spec.session_timeout_ms);
  return digest;
}

Digest bound(const config::UpstreamTlsSpec& spec) {
  Digest digest;
  add(digest.add("client"), spec.common).add(spec.sni).add(spec.auto_host_sni).add(spec.auto_sni_san_validation);
  digest.add(spec.max_session_keys);
  return digest;
}

void add_certificates(Digest& to, const TlsSpec& spec) {
  for (const config::TlsCertificateSpec& one : spec.certificates) to.add(one.chain.bytes).add(one.private_key.bytes);
}

std::string whole(const config::DownstreamTlsSpec& spec) {
  Digest digest = bound(spec);
  add_certificates(digest, spec.common);
  return digest.add(spec.ticket_keys).take();
}

std::string whole(const config::UpstreamTlsSpec& spec) {
  Digest digest = bound(spec);
  add_certificates(digest, spec.common);
  return digest.take();
}

std::string_view bytes_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<size_t>(ASN1_STRING_length(string))};
}

std::string ip_text(std::string_view bytes) {
  char text[INET6_ADDRSTRLEN] = {};
  if (bytes.size() == 4) inet_ntop(AF_INET, bytes.data(), text, sizeof(text));
  if (bytes.size() == 16) inet_ntop(AF_INET6, bytes.data(), text, sizeof(text));
  return text;
}

bool name_matches(const GENERAL_NAME* name, const SanMatch& match) {
  using Type = SanMatch::Type;
  const auto text = [&](const ASN1_STRING* string) {
    const std::string_view bytes = bytes_of(string);
    return bytes.find('\0') == std::string_view::npos && match.matches(bytes);
  };
  switch (name->type) {
    case GEN_EMAIL:
      return match.type == Type::kEmail && text(name->d.rfc822Name);
    case GEN_DNS:
      return match.type == Type::kDns && text(name->d.dNSName);
    case GEN_URI:
      return match.type == Type::kUri && text(name->d.uniformResourceIdentifier);
    case GEN_IPADD:
      return match.type == Type::kIp && match.matches(ip_text(bytes_of(name->d.iPAddress)));
    default:
      return false;
  }
}

bool any_name_matches(X509* certificate, const std::vector<SanMatch>& matches) {
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  bool found = false;
  for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; ++i)
    for (const SanMatch& match : matches) found = found || name_matches(sk_GENERAL_NAME_value(names, i), match);
  GENERAL_NAMES_free(names);
  return found;
}

bool contains(const std::vector<std::string>& digests, const unsigned char* digest) {
  return std::any_of(digests.begin(), digests.end(),
                     [&](const std::string& one) { return CRYPTO_memcmp(one.data(), digest, one.size()) == 0; });
}

bool pinned(X509* certificate, const config::TlsValidationSpec& asked) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  if (X509_digest(certificate, EVP_sha256(), digest, nullptr) == 1 && contains(asked.hashes, digest)) return true;
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) return false;
  SHA256(der, static_cast<size_t>(size), digest);
  OPENSSL_free(der);
  return contains(asked.spki, digest);
}

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

// ---- stats

TlsStats::TlsStats(stats::Layout& layout, const std::string& prefix) {
  const auto counter = [&](const char* tail) { return layout.counter(prefix + "ssl." + tail); };
  handshake = counter("handshake");
  session_reused = counter("session_reused");
  no_certificate = counter("no_certificate");
  connection_error = counter("connection_error");
  fail_verify_no_cert = counter("fail_verify_no_cert");
  fail_verify_error = counter("fail_verify_error");
  fail_verify_san = counter("fail_verify_san");
  fail_verify_cert_hash = counter("fail_verify_cert_hash");
  truncated = counter("truncated");
}

void TlsStats::count_handshake(stats::Shard& shard, const net::TlsSession& session) const {
  shard.add(handshake);
  if (session.info().resumed) shard.add(session_reused);
  if (session.info().peer == nullptr) shard.add(no_certificate);
}

void TlsStats::count_end(stats::Shard& shard, const net::TlsSession& session) const {
  switch (session.failure()) {
    case TlsFailure::kNone:
      break;
    case TlsFailure::kNoCertificate:
      return shard.add(fail_verify_no_cert);
    case TlsFailure::kVerify:
      return shard.add(fail_verify_error);
    case TlsFailure::kSan:
      return shard.add(fail_verify_san);
    case TlsFailure::kPin:
      return shard.add(fail_verify_cert_hash);
    case TlsFailure::kProtocol:
      return shard.add(connection_error);
    case TlsFailure::kTruncated:
      return shard.add(session.handshake_done() ? truncated : connection_error);
  }
}

// ---- contexts

std::string tls_identity(const config::DownstreamTlsSpec& spec) { return bound(spec).take(); }
std::string tls_identity(const config::UpstreamTlsSpec& spec) { return bound(spec).take(); }

std::string alpn_wire(const std::vector<std::string>& protocols) {
  std::string out;
  for (const std::string& protocol : protocols) {
    out += static_cast<char>(protocol.size());
    out += protocol;
  }
  return out;
}

TlsContext::TlsContext() : context_(SSL_CTX_new(TLS_method())), id_(next_id()) {
  CHECK(context_ != nullptr);
  SSL_CTX_set_app_data(context_, this);
}

TlsContext::~TlsContext() {
  for (net::TlsIdentity& identity : identities_) X509_free(identity.certificate);
  SSL_CTX_free(context_);
}

Result<void> TlsContext::set_common(const TlsSpec& spec, bool server) {
  const auto number = [](TlsSpec::Version v) { return v == TlsSpec::Version::k12 ? TLS1_2_VERSION : TLS1_3_VERSION; };
  SSL_CTX_set_min_proto_version(context_, number(spec.min_version));
  SSL_CTX_set_max_proto_version(context_, number(spec.max_version));
  SSL_CTX_set_options(context_, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // An idle connection keeps none of OpenSSL's 34 KB of buffers.
  SSL_CTX_set_mode(context_, SSL_MODE_RELEASE_BUFFERS);
  const std::string ciphers = spec.cipher_suites.empty() ? kCiphers : joined(spec.cipher_suites);
  if (SSL_CTX_set_cipher_list(context_, ciphers.c_str()) != 1) return refused("tls_params.cipher_suites");
  const std::string curves = spec.ecdh_curves.empty() ? kCurves : joined(spec.ecdh_curves);
  if (SSL_CTX_set1_groups_list(context_, curves.c_str()) != 1) return refused("tls_params.ecdh_curves");
  for (size_t i = 0; i < spec.certificates.size(); ++i) {
    if (auto used = use_certificate(spec.certificates[i]); !used)
      return fail(used.error().code, "tls_certificates[" + std::to_string(i) + "]: " + used.error().detail);
  }
  alpn_ = alpn_wire(spec.alpn);
  SSL_CTX_set_cert_verify_callback(context_, verify, this);
  if (spec.validation) return use_validation(*spec.validation, server);
  return {};
}

Result<void> TlsContext::use_certificate(const config::TlsCertificateSpec& spec) {
  const std::string& file = spec.chain.file;
  const std::string name = file.empty() ? "the certificate" : file;
  const Bio pem = open(spec.chain.bytes);
  Certificate leaf = next_certificate(pem.get());
  const Bio key_pem = open(spec.private_key.bytes);
  const Key key(PEM_read_bio_PrivateKey(key_pem.get(), nullptr, no_password, nullptr), EVP_PKEY_free);
  if (leaf == nullptr || key == nullptr) return refused(name);
  STACK_OF(X509)* chain = sk_X509_new_null();
  while (Certificate more = next_certificate(pem.get())) sk_X509_push(chain, more.release());
  ERR_clear_error();
  const bool used = SSL_CTX_use_cert_and_key(context_, leaf.get(), key.get(), chain, 1) == 1;
  sk_X509_pop_free(chain, X509_free);
  if (!used) return refused(name);
  net::TlsIdentity& identity = identities_.emplace_back();
  identity.info = net::certificate_info(leaf.get());
  identity.certificate = leaf.release();
  return {};
}

Result<void> TlsContext::use_validation(const config::TlsValidationSpec& spec, bool server) {
  validation_ = spec;
  asks_ = spec.trusted_ca != config::DataSpec() || !spec.hashes.empty() || !spec.spki.empty();
  X509_STORE* store = SSL_CTX_get_cert_store(context_);
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);  // as Envoy: an intermediate authority may be the trusted one
  const Bio authorities = open(spec.trusted_ca.bytes);
  while (const Certificate authority = next_certificate(authorities.get())) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) return refused("validation_context.trusted_ca");
    if (server) SSL_CTX_add_client_CA(context_, authority.get());
  }
  const Bio lists = open(spec.crl.bytes);
  while (X509_CRL* list = PEM_read_bio_X509_CRL(lists.get(), nullptr, no_password, nullptr)) {
    const bool added = X509_STORE_add_crl(store, list) == 1;
    X509_CRL_free(list);
    if (!added) return refused("validation_context.crl");
  }
  ERR_clear_error();
  if (spec.crl != config::DataSpec())
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | (spec.leaf_crl_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL));
  return {};
}

Result<std::shared_ptr<const TlsContext>> TlsContext::server(const config::DownstreamTlsSpec& spec) {
  std::shared_ptr<TlsContext> made(new TlsContext());
  TRY_VOID(made->set_common(spec.common, true));
  made->identity_ = tls_identity(spec);
  SSL_CTX* context = made->context_;
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_verify(context,
                     !spec.common.validation           ? SSL_VERIFY_NONE
                     : spec.require_client_certificate ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                                       : SSL_VERIFY_PEER,
                     nullptr);
  if (!made->alpn_.empty()) SSL_CTX_set_alpn_select_cb(context, select_alpn, made.get());
  SSL_CTX_set_tlsext_servername_callback(
      context, +[](SSL*, int*, void*) { return SSL_TLSEXT_ERR_OK; });
  // By tickets only: a cache would be a lock between the workers. A ticket counts where the same is asked of clients.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(made->identity_.data()),
                                 static_cast<unsigned>(made->identity_.size()));
  SSL_CTX_set_timeout(context, static_cast<long>(spec.session_timeout_ms / 1000));
  made->ticket_keys_ = spec.ticket_keys;
  if (!spec.tickets) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
  } else if (!spec.ticket_keys.empty()) {
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key);
  }
  return made;
}

Result<std::shared_ptr<const TlsContext>> TlsContext::client(const config::UpstreamTlsSpec& spec) {
  std::shared_ptr<TlsContext> made(new TlsContext());
  TRY_VOID(made->set_common(spec.common, false));
  made->identity_ = tls_identity(spec);
  made->sni_ = spec.sni;
  made->auto_host_sni_ = spec.auto_host_sni;
  made->verify_sni_ = spec.auto_sni_san_validation;
  made->max_session_keys_ = spec.max_session_keys;
  SSL_CTX* context = made->context_;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);  // the callback knows whether anything is asked
  if (spec.max_session_keys == 0) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return made;
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(
      context, [](SSL* ssl, SSL_SESSION* session) { return net::TlsSession::of(ssl).keep_session(session) ? 1 : 0; });
  return made;
}

net::TlsSessionPtr TlsContext::server_session() const {
  return net::TlsSessionPtr(new net::TlsSession(context_, {.server = true, .identities = &identities_}));
}

net::TlsSessionPtr TlsContext::client_session(const std::string& hostname, std::string_view alpn,
                                              net::TlsSessionCache* cache) const {
  if (cache != nullptr) cache->use(id_, max_session_keys_);
  return net::TlsSessionPtr(
      new net::TlsSession(context_, {.identities = &identities_,
                                     .context_id = id_,
                                     .server_name = auto_host_sni_ && !hostname.empty() ? hostname : sni_,
                                     .alpn = alpn_.empty() ? alpn : std::string_view(alpn_),
                                     .cache = cache}));
}

// ---- OpenSSL's callbacks

struct TlsContext::Verdict {
  TlsFailure failure = TlsFailure::kNone;
  int error = X509_V_OK;  // decides which alert the peer gets
  std::string reason = {};
};

TlsContext::Verdict TlsContext::judge(X509_STORE_CTX* store, const net::TlsSession& session) const {
  X509* certificate = X509_STORE_CTX_get0_cert(store);
  if (validation_.trusted_ca != config::DataSpec() && X509_verify_cert(store) <= 0) {
    const int error = X509_STORE_CTX_get_error(store);
    return {TlsFailure::kVerify, error,
            std::string("certificate verify failed: ") + X509_verify_cert_error_string(error)};
  }
  if (!validation_.sans.empty() && !any_name_matches(certificate, validation_.sans))
    return {TlsFailure::kSan, X509_V_ERR_HOSTNAME_MISMATCH,
            "certificate verify failed: none of its names is among match_typed_subject_alt_names"};
  if (const std::string& name = session.server_name(); verify_sni_) {
    const bool mine = !name.empty() && (X509_check_host(certificate, name.data(), name.size(),
                                                        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1 ||
                                        X509_check_ip_asc(certificate, name.c_str(), 0) == 1);
    if (!mine)
      return {TlsFailure::kSan, X509_V_ERR_HOSTNAME_MISMATCH,
              "certificate verify failed: none of its names is the server name \"" + name + "\""};
  }
  if ((!validation_.hashes.empty() || !validation_.spki.empty()) && !pinned(certificate, validation_))
    return {TlsFailure::kPin, X509_V_ERR_CERT_REJECTED,
            "certificate verify failed: neither it nor its key is among verify_certificate_hash and _spki"};
  return {};
}

// What it leaves in the store's error is remembered with the session: a resumed one is as good as its first handshake.
int TlsContext::verify(X509_STORE_CTX* store, void* self) {
  const auto& me = *static_cast<const TlsContext*>(self);
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  net::TlsSession& session = net::TlsSession::of(ssl);
  Verdict verdict = me.judge(store, session);
  if (verdict.failure == TlsFailure::kNone) {
    X509_STORE_CTX_set_error(store, me.asks_ ? X509_V_OK : X509_V_ERR_UNSPECIFIED);
    return 1;
  }
  X509_STORE_CTX_set_error(store, verdict.error);
  ERR_clear_error();
  if (me.validation_.accept_untrusted) return 1;
  session.fail(verdict.failure, std::move(verdict.reason));
  return 0;
}

// Ours that is first; nothing is agreed on where there is none in common (as Envoy).
int TlsContext::select_alpn(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
                            unsigned int in_size, void* self) {
  const std::string& mine = static_cast<const TlsContext*>(self)->alpn_;
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, reinterpret_cast<const unsigned char*>(mine.data()),
                            static_cast<unsigned>(mine.size()), in, in_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

// A key of 80 bytes is a name, a key for HMAC-SHA256 and one for AES-256-CBC, as in Envoy.
int TlsContext::ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                           int sealing) {
  const auto& me = *static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  size_t at = 0;
  if (sealing != 0) {
    std::memcpy(name, me.ticket_keys_[0].data(), kTicketName);
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
  } else {
    while (at < me.ticket_keys_.size() && std::memcmp(name, me.ticket_keys_[at].data(), kTicketName) != 0) ++at;
    if (at == me.ticket_keys_.size()) return 0;
  }
  const std::string& key = me.ticket_keys_[at];
  auto* secret = reinterpret_cast<unsigned char*>(const_cast<char*>(key.data()));
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret + kTicketName, kTicketMac),
                             OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>("sha256"), 0),
                             OSSL_PARAM_construct_end()};
  if (EVP_MAC_CTX_set_params(mac, parameters) != 1 ||
      EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, secret + kTicketName + kTicketMac, iv, sealing) != 1)
    return -1;
  return at == 0 ? 1 : 2;  // 2: the client gets a ticket of the first key
}

// ---- sharing

namespace {

bool has_unread(const TlsSpec& spec) {
  const auto unread = [](const config::DataSpec& data) { return !data.file.empty() && data.bytes.empty(); };
  return std::any_of(spec.certificates.begin(), spec.certificates.end(),
                     [&](const auto& one) { return unread(one.chain) || unread(one.private_key); }) ||
         (spec.validation && (unread(spec.validation->trusted_ca) || unread(spec.validation->crl)));
}

}  // namespace

template <class Spec, class F>
Result<std::shared_ptr<const TlsContext>> TlsContexts::find_or_make(const Spec& spec, F&& make) {
  std::weak_ptr<const TlsContext>& known = known_[whole(spec)];
  if (auto held = known.lock()) return held;
  auto made = make(spec);
  if (made) known = *made;
  if (known_.size() >= sweep_at_) {
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(64, 2 * known_.size());
  }
  return made;
}

Result<std::shared_ptr<const TlsContext>> TlsContexts::server(const config::DownstreamTlsSpec& spec) {
  if (has_unread(spec.common)) return nullptr;
  return find_or_make(spec, TlsContext::server);
}

Result<std::shared_ptr<const TlsContext>> TlsContexts::client(const config::UpstreamTlsSpec& spec) {
  if (has_unread(spec.common)) return nullptr;
  return find_or_make(spec, TlsContext::client);
}

}  // namespace outrigger::upstream
