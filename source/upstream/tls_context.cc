#include "upstream/tls_context.h"

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace outrigger::upstream {
namespace {

using config::TlsSpec;
using net::TlsFailure;

// AEADs with forward secrecy.
constexpr const char* kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kCurves = "X25519:P-256";
constexpr size_t kTickets = 2;                       // of TLS 1.3, each for one connection more
constexpr size_t kTicketName = 16, kTicketMac = 32;  // then as much for the cipher

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
  to.add(spec.cipher_suites).add(spec.ecdh_curves).add(spec.alpn);
  to.add(spec.certificates.size() + spec.certificate_secrets.size());
  to.add(spec.validation_secret ? spec.validation_secret->name : std::string());
  to.add(spec.validation.has_value());
  if (!spec.validation) return to;
  const config::TlsValidationSpec& asked = *spec.validation;
  if (asked.parsed != nullptr) {
    to.add(asked.parsed->digest());
  } else {
    to.add(asked.trusted_ca.bytes.text()).add(asked.crl.bytes.text()).add(asked.leaf_crl_only);
  }
  to.add(asked.accept_untrusted);
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

// Whether there is anything to do when a client asks for a staple.
bool staples(const config::DownstreamTlsSpec& spec, const TlsSpec& common) {
  return spec.staple_policy != config::DownstreamTlsSpec::StaplePolicy::kLenient ||
         std::any_of(common.certificates.begin(), common.certificates.end(),
                     [](const auto& one) { return !one.parsed->staple().empty() || one.parsed->must_staple(); });
}

std::string whole(Digest digest, const TlsSpec& spec, const std::vector<std::string>& ticket_keys = {}) {
  for (const config::TlsCertificateSpec& one : spec.certificates) digest.add(one.parsed->digest());
  return digest.add(ticket_keys).take();
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

TlsContext::TlsContext() : id_(next_id()) {}

TlsContext::~TlsContext() {
  const Made* made = made_.load(std::memory_order_acquire);
  if (made == nullptr) return;
  SSL_CTX_free(made->context);
  delete made;
}

void TlsContext::take_common(TlsSpec spec) {
  common_ = std::move(spec);
  alpn_ = alpn_wire(common_.alpn);
  // Only what was parsed of them is needed from here on.
  for (config::TlsCertificateSpec& one : common_.certificates)
    one = {.chain = {}, .private_key = {}, .ocsp_staple = {}, .parsed = one.parsed};
  if (!common_.validation) return;
  validation_ = *common_.validation;
  asks_ = validation_.verifies();
  verifies_chain_ = validation_.trusted_ca != config::DataSpec();
  validation_.trusted_ca = validation_.crl = {};
}

// Nothing here fails: all of it has been tried when it was loaded.
const TlsContext::Made& TlsContext::made() const {
  if (const Made* known = made_.load(std::memory_order_acquire); known != nullptr) return *known;
  auto fresh = std::make_unique<Made>();
  fresh->context = SSL_CTX_new(TLS_method());
  CHECK(fresh->context != nullptr);
  SSL_CTX_set_app_data(fresh->context, const_cast<TlsContext*>(this));
  set_common(*fresh);
  if (server_)
    set_server(fresh->context);
  else
    set_client(fresh->context);
  Made* expected = nullptr;
  if (made_.compare_exchange_strong(expected, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  SSL_CTX_free(fresh->context);
  return *expected;
}

void TlsContext::set_common(Made& to) const {
  const auto number = [](TlsSpec::Version v) { return v == TlsSpec::Version::k12 ? TLS1_2_VERSION : TLS1_3_VERSION; };
  SSL_CTX* context = to.context;
  SSL_CTX_set_min_proto_version(context, number(common_.min_version));
  SSL_CTX_set_max_proto_version(context, number(common_.max_version));
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // An idle connection keeps none of OpenSSL's 34 KB of buffers.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  const std::string ciphers = common_.cipher_suites.empty() ? kCiphers : joined(common_.cipher_suites);
  CHECK(SSL_CTX_set_cipher_list(context, ciphers.c_str()) == 1);
  const std::string curves = common_.ecdh_curves.empty() ? kCurves : joined(common_.ecdh_curves);
  CHECK(SSL_CTX_set1_groups_list(context, curves.c_str()) == 1);
  for (const config::TlsCertificateSpec& one : common_.certificates) {
    CHECK(one.parsed->use_in(context));
    to.identities.push_back({one.parsed->leaf(), net::certificate_info(one.parsed->leaf())});
  }
  SSL_CTX_set_cert_verify_callback(context, verify, const_cast<TlsContext*>(this));
  if (!common_.validation) return;
  SSL_CTX_set1_cert_store(context, validation_.parsed->store());
  if (server_) validation_.parsed->name_in(context);
}

void TlsContext::set_server(SSL_CTX* context) const {
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_verify(context,
                     !common_.validation                   ? SSL_VERIFY_NONE
                     : server_->require_client_certificate ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                                           : SSL_VERIFY_PEER,
                     nullptr);
  if (staples(*server_, common_)) {
    SSL_CTX_set_tlsext_status_cb(context, staple);
    SSL_CTX_set_tlsext_status_arg(context, const_cast<TlsContext*>(this));
  }
  if (!alpn_.empty()) SSL_CTX_set_alpn_select_cb(context, select_alpn, const_cast<TlsContext*>(this));
  SSL_CTX_set_tlsext_servername_callback(
      context, +[](SSL*, int*, void*) { return SSL_TLSEXT_ERR_OK; });
  // By tickets only: a cache would be a lock between the workers. A ticket counts where the same is asked of clients.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(session_identity_.data()),
                                 static_cast<unsigned>(session_identity_.size()));
  SSL_CTX_set_timeout(context, static_cast<long>(server_->session_timeout_ms / 1000));
  if (!server_->tickets) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  } else if (!server_->ticket_keys.empty()) {
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ticket_key);
  }
}

void TlsContext::set_client(SSL_CTX* context) const {
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);  // the callback knows whether anything is asked
  if (max_session_keys_ == 0) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return;
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(
      context, [](SSL* ssl, SSL_SESSION* session) { return net::TlsSession::of(ssl).keep_session(session) ? 1 : 0; });
}

net::TlsSessionPtr TlsContext::server_session() const {
  const Made& made = this->made();
  return net::TlsSessionPtr(new net::TlsSession(
      made.context,
      {.server = true, .identities = &made.identities, .tickets = server_->tickets ? kTickets : size_t{0}}));
}

net::TlsSessionPtr TlsContext::client_session(const std::string& hostname, std::string_view alpn,
                                              net::TlsSessionCache* cache, bool instead) const {
  if (cache != nullptr) cache->use(id_, max_session_keys_);
  const Made& made = this->made();
  return net::TlsSessionPtr(
      new net::TlsSession(made.context, {.identities = &made.identities,
                                         .context_id = id_,
                                         .server_name = auto_host_sni_ && !hostname.empty() ? hostname : sni_,
                                         .alpn = instead || alpn_.empty() ? alpn : std::string_view(alpn_),
                                         .cache = cache}));
}

// ---- OpenSSL's callbacks

struct TlsContext::Verdict {
  TlsFailure failure = TlsFailure::kNone;
  int error = X509_V_OK;  // decides which alert the peer gets
  std::string reason = {};
};

TlsContext::Verdict TlsContext::judge(X509_STORE_CTX* store, const net::TlsSession& session) const {
  if (lacks_secret_)
    return {TlsFailure::kVerify, X509_V_ERR_APPLICATION_VERIFICATION, "a secret that its TLS names has not come"};
  X509* certificate = X509_STORE_CTX_get0_cert(store);
  if (verifies_chain_ && X509_verify_cert(store) <= 0) {
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

// For clients that ask, once the certificate is chosen.
int TlsContext::staple(SSL* ssl, void* self) {
  using Policy = config::DownstreamTlsSpec::StaplePolicy;
  const auto& me = *static_cast<const TlsContext*>(self);
  const X509* chosen = SSL_get_certificate(ssl);
  const auto is_chosen = [&](const config::TlsCertificateSpec& one) { return one.parsed->leaf() == chosen; };
  const auto& mine = me.common_.certificates;
  const auto at = std::find_if(mine.begin(), mine.end(), is_chosen);
  if (at == mine.end()) return SSL_TLSEXT_ERR_NOACK;
  const config::TlsKeyPair& pair = *at->parsed;
  if (pair.staple().empty() || pair.staple_until() < std::time(nullptr)) {
    const bool must = me.server_->staple_policy == Policy::kMust || pair.must_staple();
    const bool outdated = me.server_->staple_policy == Policy::kStrict && !pair.staple().empty();
    return must || outdated ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK;
  }
  auto* copy = static_cast<unsigned char*>(OPENSSL_memdup(pair.staple().data(), pair.staple().size()));
  if (copy == nullptr) return SSL_TLSEXT_ERR_NOACK;
  SSL_set_tlsext_status_ocsp_resp(ssl, copy, static_cast<long>(pair.staple().size()));  // takes it over
  return SSL_TLSEXT_ERR_OK;
}

// A key of 80 bytes is a name, a key for HMAC-SHA256 and one for AES-256-CBC, as in Envoy.
int TlsContext::ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                           int sealing) {
  const auto& me = *static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  const std::vector<std::string>& keys = me.server_->ticket_keys;
  size_t at = 0;
  if (sealing != 0) {
    std::memcpy(name, keys[0].data(), kTicketName);
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
  } else {
    while (at < keys.size() && std::memcmp(name, keys[at].data(), kTicketName) != 0) ++at;
    if (at == keys.size()) return 0;
  }
  const std::string& key = keys[at];
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
                     [&](const auto& one) {
                       return unread(one.chain) || unread(one.private_key) || unread(one.ocsp_staple);
                     }) ||
         (spec.validation && (unread(spec.validation->trusted_ca) || unread(spec.validation->crl)));
}

}  // namespace

// What translation has parsed already costs nothing.
Result<void> TlsContexts::parse(TlsSpec& spec) {
  for (size_t i = 0; i < spec.certificates.size(); ++i) {
    config::TlsCertificateSpec& one = spec.certificates[i];
    if (one.parsed != nullptr) continue;
    config::TlsMaterials::Problem problem;
    one.parsed = materials_.key_pair(one.chain.bytes.text(), one.private_key.bytes.text(), one.ocsp_staple.bytes.text(),
                                     problem);
    if (one.parsed != nullptr) continue;
    const std::string name = one.chain.file.empty() ? "the certificate" : one.chain.file;
    return fail(Errc::kInvalidArgument, "tls_certificates[" + std::to_string(i) + "]: " + name + " " + problem.text);
  }
  if (!spec.cipher_suites.empty() && !materials_.takes_ciphers(joined(spec.cipher_suites)))
    return fail(Errc::kInvalidArgument, "tls_params.cipher_suites: OpenSSL refuses them");
  if (!spec.ecdh_curves.empty() && !materials_.takes_curves(joined(spec.ecdh_curves)))
    return fail(Errc::kInvalidArgument, "tls_params.ecdh_curves: OpenSSL refuses them");
  ERR_clear_error();
  if (auto& asked = spec.validation; asked && asked->parsed == nullptr)
    asked->parsed =
        materials_.authorities(asked->trusted_ca.bytes.text(), asked->crl.bytes.text(), asked->leaf_crl_only);
  return {};
}

template <class F>
std::shared_ptr<const TlsContext> TlsContexts::find_or_make(std::string digest, F&& make) {
  std::weak_ptr<const TlsContext>& known = known_[std::move(digest)];
  if (auto held = known.lock()) return held;
  std::shared_ptr<const TlsContext> made = make();
  known = made;
  if (known_.size() >= sweep_at_) {
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(64, 2 * known_.size());
  }
  return made;
}

Result<std::shared_ptr<const TlsContext>> TlsContexts::server(const config::DownstreamTlsSpec& from) {
  if (has_unread(from.common)) return nullptr;
  config::DownstreamTlsSpec spec = from;
  TRY_VOID(parse(spec.common));
  Digest digest = bound(spec);
  digest.add(static_cast<uint64_t>(spec.staple_policy));
  return find_or_make(whole(std::move(digest), spec.common, spec.ticket_keys), [&] {
    std::shared_ptr<TlsContext> made(new TlsContext());
    made->session_identity_ = bound(spec).take();
    made->take_common(std::exchange(spec.common, {}));
    made->server_ = std::move(spec);
    return made;
  });
}

Result<std::shared_ptr<const TlsContext>> TlsContexts::client(const config::UpstreamTlsSpec& from) {
  if (has_unread(from.common)) return nullptr;
  config::UpstreamTlsSpec spec = from;
  TRY_VOID(parse(spec.common));
  return find_or_make(whole(bound(spec), spec.common), [&] {
    std::shared_ptr<TlsContext> made(new TlsContext());
    made->take_common(std::move(spec.common));
    made->sni_ = spec.sni;
    made->auto_host_sni_ = spec.auto_host_sni;
    made->verify_sni_ = spec.auto_sni_san_validation;
    made->max_session_keys_ = spec.max_session_keys;
    return made;
  });
}

std::shared_ptr<const TlsContext> TlsContexts::without_secret() {
  return find_or_make("without a secret", [] {
    std::shared_ptr<TlsContext> made(new TlsContext());
    made->lacks_secret_ = true;
    return made;
  });
}

}  // namespace outrigger::upstream
