// Clients that come over TLS: certificates, ALPN, what is asked of clients and told of them, sessions, rotation.
#include <openssl/pem.h>
#include <openssl/sha.h>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"
#include "support/tls_tunnel.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;
using test::Certificate;
using test::CertificateAuthority;
using test::HttpClient;
using test::Socket;
using test::TlsSettings;
using test::TlsTunnel;
using Forward = config::HcmSpec::ForwardClientCert;

const std::string kSsl = "listener.main.ssl.";

class TlsDownstream : public ::testing::Test {
 protected:
  void SetUp() override {
    plane.accept(static_cluster("up", upstream.port()));
    config::RouteTableSpec routes = all_to("up");
    routes.request_headers.add = {
        {.name = "x-tls", .value = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %REQUESTED_SERVER_NAME%"},
        {.name = "x-peer", .value = "%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_ISSUER%"}};
    plane.accept(routes);
    serve(server_tls({server}));
  }
  void serve(const config::DownstreamTlsSpec& tls, const std::function<void(config::FilterChainSpec&)>& more = {}) {
    config::ListenerSpec spec = listener("main", "t");
    spec.filter_chains[0].tls = tls;
    spec.filter_chains[0].hcm.drain_timeout_ms = 0;
    if (more) more(spec.filter_chains[0]);
    plane.update(spec);
  }
  std::unique_ptr<TlsTunnel> open(TlsSettings settings = {}) {
    settings.trusted = ca.pem();
    return std::make_unique<TlsTunnel>(Socket::connect(plane.port()), settings);
  }
  // The upstream's view of a request over `tunnel`; empty if there was no answer.
  std::optional<test::HttpMessage> ask(TlsTunnel& tunnel, const test::HttpMessage::Fields& headers = {}) {
    const size_t before = upstream.request_count();
    HttpClient client(tunnel.plain());
    if (!client.get("/", headers).ok()) return std::nullopt;
    return upstream.requests().at(before);
  }
  std::optional<test::HttpMessage> ask(const TlsSettings& settings, const test::HttpMessage::Fields& headers = {}) {
    const std::unique_ptr<TlsTunnel> tunnel = open(settings);
    return ask(*tunnel, headers);
  }
  void expect_counted(const std::string& name, uint64_t value = 1) {
    EXPECT_TRUE(test::wait_until([&] { return plane.stat(kSsl + name) == value; }))
        << name << " is " << plane.stat(kSsl + name);
  }
  config::DownstreamTlsSpec asking(const std::string& trusted) {
    config::DownstreamTlsSpec spec = server_tls({server});
    spec.require_client_certificate = true;
    spec.common.validation.emplace().trusted_ca.bytes = trusted;
    return spec;
  }

  CertificateAuthority ca, clients{"clients"};
  Certificate server = ca.issue("server", {"DNS:a.example", "URI:spiffe://mesh/server"});
  Certificate client = clients.issue("client", {"DNS:c.example", "URI:spiffe://mesh/client"});
  test::FakeUpstream upstream{[](test::Exchange& e) { e.respond(200, "hello"); }};
  DataPlane plane;
};

TEST_F(TlsDownstream, AlpnChoosesTheCodecElseTheFirstBytesDo) {
  for (const std::vector<std::string>& alpn :
       {std::vector<std::string>{"http/1.1", "h2"}, {"http/1.1"}, {"spdy"}, {}}) {
    const std::unique_ptr<TlsTunnel> tunnel = open({.alpn = alpn});
    ASSERT_TRUE(tunnel->open()) << tunnel->error();
    const bool both = alpn.size() == 2;
    EXPECT_EQ(tunnel->alpn(), both ? "h2" : alpn == std::vector<std::string>{"http/1.1"} ? "http/1.1" : "");
    if (both) {
      test::H2Peer peer(tunnel->plain());
      peer.greet();
      peer.socket.send(h2::headers(1, h2::get("/")));
      EXPECT_EQ(peer.status(1), ":status=200");
    } else {
      EXPECT_TRUE(ask(*tunnel));
    }
  }
  const std::unique_ptr<TlsTunnel> tunnel = open();
  test::H2Peer peer(tunnel->plain());
  peer.greet();
  peer.socket.send(h2::headers(1, h2::get("/")));
  EXPECT_EQ(peer.status(1), ":status=200");
  EXPECT_EQ(plane.stat(kSsl + "handshake"), 5u);
  EXPECT_EQ(plane.stat(kSsl + "no_certificate"), 5u);
}

TEST_F(TlsDownstream, WhatTheUpstreamAndTheLogAreTold) {
  const auto seen =
      ask({.server_name = "a.example", .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384", .max_version = TLS1_2_VERSION});
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->header("x-forwarded-proto"), "https");
  EXPECT_EQ(seen->header("x-tls"), "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 a.example");
  EXPECT_FALSE(seen->header("x-forwarded-client-cert"));
}

TEST_F(TlsDownstream, RsaAndEcdsaSideBySide) {
  serve(server_tls({server, ca.issue("rsa", {}, {.rsa = true})}));
  EXPECT_EQ(open()->peer_key_type(), "id-ecPublicKey");
  EXPECT_EQ(open({.ciphers = "ECDHE-RSA-AES128-GCM-SHA256", .max_version = TLS1_2_VERSION})->peer_key_type(),
            "rsaEncryption");
  EXPECT_EQ(open({.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256", .max_version = TLS1_2_VERSION})->peer_key_type(),
            "id-ecPublicKey");
}

TEST_F(TlsDownstream, VersionsAndCiphersAreAsConfigured) {
  config::DownstreamTlsSpec tls = server_tls({server});
  tls.common.min_version = tls.common.max_version = config::TlsSpec::Version::k13;
  serve(tls);
  EXPECT_EQ(open()->version(), "TLSv1.3");
  EXPECT_NE(open({.max_version = TLS1_2_VERSION})->error().find("alert protocol version"), std::string::npos);
  expect_counted("connection_error");
  tls.common.min_version = tls.common.max_version = config::TlsSpec::Version::k12;
  tls.common.cipher_suites = {"ECDHE-ECDSA-CHACHA20-POLY1305"};
  serve(tls);
  EXPECT_EQ(open()->cipher(), "ECDHE-ECDSA-CHACHA20-POLY1305");
  EXPECT_NE(open({.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256", .max_version = TLS1_2_VERSION})->error().find("alert"),
            std::string::npos);
  expect_counted("connection_error", 2);
}

TEST_F(TlsDownstream, CurvesAreAsConfigured) {
  config::DownstreamTlsSpec tls = server_tls({server});
  EXPECT_EQ(open()->group(), "X25519");
  tls.common.ecdh_curves = {"P-384", "P-256"};
  serve(tls);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_EQ(open({.groups = "P-384:P-256", .max_version = version})->group(), "secp384r1");
    EXPECT_EQ(open({.groups = "X25519:P-256", .max_version = version})->group(), "prime256v1");
    EXPECT_NE(open({.groups = "X25519", .max_version = version})->error().find("alert handshake failure"),
              std::string::npos);
  }
  expect_counted("connection_error", 2);
}

TEST_F(TlsDownstream, AClientCertificateIsRequiredAndVerified) {
  serve(asking(clients.pem()));
  const auto seen = ask({.certificate = client});
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->header("x-peer"), "CN=client spiffe://mesh/client CN=clients");
  EXPECT_FALSE(ask(TlsSettings{}));
  expect_counted("fail_verify_no_cert");
  EXPECT_FALSE(ask({.certificate = ca.issue("stranger")}));
  expect_counted("fail_verify_error");
  EXPECT_FALSE(ask({.certificate = clients.issue("old", {}, {.valid_from_s = -7200, .valid_until_s = -60})}));
  expect_counted("fail_verify_error", 2);
  // TLS 1.2 tells in the handshake.
  EXPECT_NE(open({.max_version = TLS1_2_VERSION})->error().find("alert"), std::string::npos);
  EXPECT_EQ(upstream.request_count(), 1u);
}

TEST_F(TlsDownstream, NamesPinsAndRevocations) {
  config::DownstreamTlsSpec tls = asking(clients.pem());
  tls.common.validation->sans = {
      {.type = SanMatch::Type::kUri, .kind = SanMatch::Kind::kPrefix, .value = "spiffe://mesh/"}};
  const Certificate unnamed = clients.issue("unnamed", {"DNS:spiffe.example"});
  serve(tls);
  EXPECT_TRUE(ask({.certificate = client}));
  EXPECT_FALSE(ask({.certificate = unnamed}));
  expect_counted("fail_verify_san");

  X509* certificate = nullptr;
  BIO* pem = BIO_new_mem_buf(client.pem.data(), -1);
  certificate = PEM_read_bio_X509(pem, nullptr, nullptr, nullptr);
  BIO_free(pem);
  unsigned char digest[32];
  X509_digest(certificate, EVP_sha256(), digest, nullptr);
  const std::string hash(reinterpret_cast<char*>(digest), 32);
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  SHA256(der, static_cast<size_t>(size), digest);
  OPENSSL_free(der);
  X509_free(certificate);
  tls = asking(clients.pem());
  tls.common.validation->hashes = {hash};
  serve(tls);
  EXPECT_TRUE(ask({.certificate = client}));
  EXPECT_FALSE(ask({.certificate = unnamed}));
  expect_counted("fail_verify_cert_hash");
  tls.common.validation->hashes = {std::string(32, 'x')};
  tls.common.validation->spki = {std::string(reinterpret_cast<char*>(digest), 32)};
  tls.common.validation->trusted_ca = {};  // a pin is enough
  serve(tls);
  EXPECT_TRUE(ask({.certificate = client}));
  EXPECT_FALSE(ask({.certificate = unnamed}));
  expect_counted("fail_verify_cert_hash", 2);

  tls = asking(clients.pem());
  tls.common.validation->crl.bytes = clients.revoke({unnamed});
  serve(tls);
  EXPECT_TRUE(ask({.certificate = client}));
  EXPECT_FALSE(ask({.certificate = unnamed}));
  expect_counted("fail_verify_error");
}

TEST_F(TlsDownstream, OptionalAndUntrustedCertificates) {
  config::DownstreamTlsSpec tls = asking(clients.pem());
  tls.require_client_certificate = false;
  serve(tls);
  EXPECT_TRUE(ask(TlsSettings{}));
  EXPECT_EQ(ask({.certificate = client})->header("x-peer"), "CN=client spiffe://mesh/client CN=clients");
  EXPECT_FALSE(ask({.certificate = ca.issue("stranger")}));
  tls.common.validation->accept_untrusted = true;
  serve(tls);
  EXPECT_TRUE(ask({.certificate = ca.issue("stranger")}));
}

TEST_F(TlsDownstream, ForwardedClientCertificates) {
  const auto sent = [&](Forward forward, const TlsSettings& settings) {
    config::DownstreamTlsSpec tls = asking(clients.pem());
    tls.require_client_certificate = false;
    serve(tls, [&](config::FilterChainSpec& chain) {
      chain.hcm.forward_client_cert = forward;
      chain.hcm.client_cert_details = {.subject = true, .dns = true, .uri = true};
    });
    return ask(settings, {{"x-forwarded-client-cert", "Hash=forged"}})->header("x-forwarded-client-cert").value_or("");
  };
  const TlsSettings with{.certificate = client}, without;
  const std::string made = sent(Forward::kSanitizeSet, with);
  EXPECT_TRUE(made.starts_with("By=spiffe://mesh/server;Hash=")) << made;
  EXPECT_TRUE(made.ends_with(";Subject=\"CN=client\";URI=spiffe://mesh/client;DNS=c.example")) << made;
  EXPECT_EQ(made.find("forged"), std::string::npos);
  EXPECT_EQ(sent(Forward::kAppendForward, with), "Hash=forged," + made);
  EXPECT_EQ(sent(Forward::kForwardOnly, with), "Hash=forged");
  EXPECT_EQ(sent(Forward::kAlwaysForwardOnly, without), "Hash=forged");
  EXPECT_EQ(sent(Forward::kSanitize, with), "");
  for (const Forward forward : {Forward::kSanitizeSet, Forward::kAppendForward, Forward::kForwardOnly})
    EXPECT_EQ(sent(forward, without), "");
}

TEST_F(TlsDownstream, NamesThatWouldForgeAnElementAreQuoted) {
  config::DownstreamTlsSpec tls = asking(clients.pem());
  serve(tls, [](config::FilterChainSpec& chain) {
    chain.hcm.forward_client_cert = Forward::kSanitizeSet;
    chain.hcm.client_cert_details = {.cert = true, .uri = true};
  });
  const auto seen = ask({.certificate = clients.issue("evil", {"URI:spiffe://a;URI=spiffe://root"})});
  const std::string made = seen->header("x-forwarded-client-cert").value_or("");
  EXPECT_TRUE(made.ends_with(";URI=\"spiffe://a;URI=spiffe://root\"")) << made;
  EXPECT_NE(made.find(";Cert=\"-----BEGIN%20CERTIFICATE-----%0A"), std::string::npos) << made;
}

TEST_F(TlsDownstream, SessionsAreResumedByTicketsAndTheCertificateWithThem) {
  serve(asking(clients.pem()));
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const std::unique_ptr<TlsTunnel> first = open({.certificate = client, .max_version = version});
    ASSERT_TRUE(ask(*first));
    SSL_SESSION* session = first->session();
    const std::unique_ptr<TlsTunnel> second = open({.certificate = client, .max_version = version, .session = session});
    EXPECT_TRUE(second->resumed()) << version;
    EXPECT_EQ(ask(*second)->header("x-peer"), "CN=client spiffe://mesh/client CN=clients");
    SSL_SESSION_free(session);
  }
  expect_counted("session_reused", 2);
  // What another configuration has verified does not count.
  const std::unique_ptr<TlsTunnel> first = open({.certificate = client});
  ASSERT_TRUE(ask(*first));
  SSL_SESSION* session = first->session();
  config::DownstreamTlsSpec tls = asking(clients.pem());
  tls.tickets = false;
  serve(tls);
  const std::unique_ptr<TlsTunnel> second = open({.certificate = client, .session = session});
  ASSERT_TRUE(ask(*second));
  EXPECT_FALSE(second->resumed());
  SSL_SESSION* none = second->session();
  const std::unique_ptr<TlsTunnel> third = open({.certificate = client, .session = none});
  ASSERT_TRUE(ask(*third));
  EXPECT_FALSE(third->resumed());
  SSL_SESSION_free(session);
  SSL_SESSION_free(none);
}

TEST_F(TlsDownstream, TicketKeysRotate) {
  const std::string a(80, 'a'), b(80, 'b');
  config::DownstreamTlsSpec tls = server_tls({server});
  tls.ticket_keys = {a};
  serve(tls);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const std::unique_ptr<TlsTunnel> first = open({.max_version = version});
    ASSERT_TRUE(ask(*first));
    SSL_SESSION* session = first->session();
    const auto resumes = [&](const std::vector<std::string>& keys) {
      tls.ticket_keys = keys;
      serve(tls);
      const std::unique_ptr<TlsTunnel> next = open({.max_version = version, .session = session});
      EXPECT_TRUE(ask(*next));
      return next->resumed();
    };
    EXPECT_TRUE(resumes({b, a}));
    EXPECT_FALSE(resumes({b}));
    EXPECT_TRUE(resumes({a}));
    SSL_SESSION_free(session);
  }
}

TEST_F(TlsDownstream, ANewCertificateIsForNewHandshakesOnly) {
  const std::unique_ptr<TlsTunnel> old = open();
  HttpClient before(old->plain());
  ASSERT_EQ(before.get("/").status(), 200);
  CertificateAuthority next("next");
  serve(server_tls({next.issue("server")}));
  EXPECT_FALSE(open()->open());  // not of `ca`
  TlsTunnel fresh(Socket::connect(plane.port()), {.trusted = next.pem()});
  EXPECT_TRUE(fresh.open()) << fresh.error();
  const test::HttpMessage answer = before.get("/");
  EXPECT_EQ(answer.status(), 200);
  EXPECT_FALSE(answer.header("connection"));
  EXPECT_EQ(before.get("/").status(), 200);
}

TEST_F(TlsDownstream, ANewlyRequiredCertificateIsReallyRequired) {
  const std::unique_ptr<TlsTunnel> old = open();
  HttpClient before(old->plain());
  ASSERT_EQ(before.get("/").status(), 200);
  serve(asking(clients.pem()));
  EXPECT_TRUE(before.wait_closed());
  EXPECT_TRUE(old->wait_end());
  EXPECT_FALSE(ask(TlsSettings{}));
}

TEST_F(TlsDownstream, OtherAuthoritiesOfTheListenerDrainToo) {
  serve(asking(clients.pem()));
  const std::unique_ptr<TlsTunnel> old = open({.certificate = client});
  HttpClient before(old->plain());
  ASSERT_EQ(before.get("/").status(), 200);
  serve(asking(clients.pem() + ca.pem()));
  EXPECT_TRUE(before.wait_closed());
}

TEST_F(TlsDownstream, AuthoritiesOfASecretAreForNewHandshakesOnly) {
  config::DownstreamTlsSpec tls = server_tls({server});
  tls.require_client_certificate = true;
  tls.ticket_keys = {std::string(80, 'a')};
  tls.common.validation_secret = secret_of_ads("clients");
  plane.accept(trusted_secret("clients", clients.pem()));
  serve(tls);
  const std::unique_ptr<TlsTunnel> old = open({.certificate = client});
  HttpClient before(old->plain());
  ASSERT_EQ(before.get("/").status(), 200);
  SSL_SESSION* session = old->session();
  const auto resumed = [&] {
    const std::unique_ptr<TlsTunnel> next =
        open({.certificate = client, .max_version = TLS1_3_VERSION, .session = session});
    EXPECT_TRUE(ask(*next));
    return next->resumed();
  };
  EXPECT_TRUE(resumed());

  // Some are added: who has come stays, but what was verified by the others is verified again.
  plane.update(trusted_secret("clients", clients.pem() + ca.pem()));
  EXPECT_FALSE(resumed());
  EXPECT_TRUE(ask({.certificate = ca.issue("stranger")}));
  EXPECT_EQ(before.get("/").status(), 200);

  // One is gone: nobody of it comes any more.
  plane.update(trusted_secret("clients", ca.pem()));
  EXPECT_FALSE(ask({.certificate = client}));
  EXPECT_FALSE(ask({.certificate = client, .session = session}));
  const test::HttpMessage answer = before.get("/");
  EXPECT_EQ(answer.status(), 200);
  EXPECT_FALSE(answer.header("connection"));
  EXPECT_EQ(plane.stat("http.ingress_http.downstream_cx_drain_close"), 0u);
  SSL_SESSION_free(session);
}

TEST_F(TlsDownstream, ASlowHandshakeTimesOut) {
  serve(server_tls({server}), [](config::FilterChainSpec& chain) { chain.handshake_timeout_ms = 50; });
  Socket silent = Socket::connect(plane.port());
  silent.send("\x16\x03\x01");
  EXPECT_EQ(silent.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("listener.main.downstream_cx_transport_socket_connect_timeout"), 1u);
}

TEST_F(TlsDownstream, PlainBytesAndClosersDoNoHarm) {
  Socket plain = Socket::connect(plane.port());
  plain.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  EXPECT_FALSE(plain.recv_to_eof().starts_with("HTTP"));
  Socket closer = Socket::connect(plane.port());
  closer.send("\x16\x03\x01\x02");
  closer.close();
  expect_counted("connection_error", 2);
  const std::unique_ptr<TlsTunnel> cut = open();
  Socket inner = cut->plain();
  inner.send("GET / HT");
  cut->cut();
  expect_counted("truncated");
  EXPECT_TRUE(ask(TlsSettings{}));
}

}  // namespace
}  // namespace outrigger::proxy
