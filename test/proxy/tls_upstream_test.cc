// Upstreams that are spoken to over TLS: verification, names, ALPN, sessions, changes in place.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using test::Certificate;
using test::CertificateAuthority;
using Codec = config::ClusterSpec::Codec;

// client -> "main" -> TLS -> "hop" -> upstream, both listeners in one worker.
class TlsUpstream : public ::testing::Test {
 protected:
  void SetUp() override {
    plane.accept(static_cluster("end", upstream.port()));
    config::RouteTableSpec end = all_to("end", "end");
    end.request_headers.add = {
        {.name = "x-hop", .value = "%PROTOCOL% %REQUESTED_SERVER_NAME% %DOWNSTREAM_PEER_SUBJECT%"}};
    plane.accept(end);
    hop(server_tls({server}));
    call(client_tls(ca.pem()));
    plane.accept(all_to("hop", "hop"));
    plane.update(listener("main", "hop"));
  }
  void hop(std::optional<config::DownstreamTlsSpec> tls) {
    config::ListenerSpec spec = listener("hop", "end");
    spec.filter_chains[0].tls = std::move(tls);
    plane.update(spec);
  }
  void call(std::optional<config::UpstreamTlsSpec> tls, Codec codec = Codec::kHttp1,
            const std::function<void(config::ClusterSpec&)>& more = {}) {
    config::ClusterSpec spec = static_cluster("hop", plane.port("hop"));
    spec.tls = std::move(tls);
    spec.codec = codec;
    if (more) more(spec);
    plane.update(spec);
  }
  int status() { return test::http_get(plane.port(), "/").status(); }
  std::string seen() {
    const size_t before = upstream.request_count();
    const test::HttpMessage answer = test::http_get(plane.port(), "/");
    if (answer.status() != 200) return "status " + std::to_string(answer.status()) + " " + answer.body;
    return upstream.requests().at(before).header("x-hop").value_or("");
  }
  uint64_t ssl(const std::string& name) { return plane.stat("cluster.hop.ssl." + name); }

  CertificateAuthority ca;
  Certificate server = ca.issue("server", {"DNS:hop.example", "DNS:*.wild.example", "IP:127.0.0.1"});
  test::FakeUpstream upstream{[](test::Exchange& e) { e.respond(200, "hello"); }};
  DataPlane plane;
};

TEST_F(TlsUpstream, AVerifiedServerIsSpokenTo) {
  EXPECT_EQ(seen(), "HTTP/1.1");
  call(client_tls(ca.pem(), "a.example"), Codec::kHttp2);
  EXPECT_EQ(seen(), "HTTP/2 a.example");
  EXPECT_EQ(ssl("handshake"), 2u);
  call(client_tls(""));  // nothing is asked of it
  EXPECT_EQ(seen(), "HTTP/1.1");
}

TEST_F(TlsUpstream, AServerThatIsNotBelievedGetsNoRequest) {
  CertificateAuthority other("other");
  call(client_tls(other.pem()));
  const test::HttpMessage answer = test::http_get(plane.port(), "/");
  EXPECT_EQ(answer.status(), 503);
  EXPECT_EQ(ssl("fail_verify_error"), 1u);
  EXPECT_EQ(plane.stat("cluster.hop.upstream_cx_connect_fail"), 1u);
  config::UpstreamTlsSpec tls = client_tls(ca.pem());
  tls.common.validation->sans = {{.value = "another.example"}};
  call(tls);
  EXPECT_EQ(status(), 503);
  EXPECT_EQ(ssl("fail_verify_san"), 1u);
  tls.common.validation->sans = {{.value = "b.wild.example"}, {.type = SanMatch::Type::kUri, .value = "x"}};
  call(tls);
  EXPECT_EQ(status(), 200);
  tls.common.validation->sans = {{.type = SanMatch::Type::kIp, .value = "127.0.0.1"}};
  call(tls);
  EXPECT_EQ(status(), 200);
  tls = client_tls(ca.pem(), "hop.example");
  tls.auto_sni_san_validation = true;
  call(tls);
  EXPECT_EQ(status(), 200);
  tls.sni = "other.example";
  call(tls);
  EXPECT_EQ(status(), 503);
  EXPECT_EQ(ssl("fail_verify_san"), 2u);
  EXPECT_EQ(upstream.request_count(), 3u);
}

TEST_F(TlsUpstream, AServerThatDoesNotSpeakTls) {
  hop(std::nullopt);
  EXPECT_EQ(status(), 503);
  EXPECT_EQ(ssl("connection_error"), 1u);
}

TEST_F(TlsUpstream, AClientCertificateIsShown) {
  CertificateAuthority clients("clients");
  config::DownstreamTlsSpec asking = server_tls({server});
  asking.require_client_certificate = true;
  asking.common.validation.emplace().trusted_ca.bytes = clients.pem();
  hop(asking);
  const Certificate mine = clients.issue("proxy");
  config::UpstreamTlsSpec tls = client_tls(ca.pem());
  tls.common.certificates = {{.chain = {"", mine.pem}, .private_key = {"", mine.private_key}}};
  call(tls);
  EXPECT_EQ(seen(), "HTTP/1.1  CN=proxy");
  call(client_tls(ca.pem()));
  EXPECT_EQ(status(), 503);
}

TEST_F(TlsUpstream, TheHostsOwnNameIsSent) {
  config::UpstreamTlsSpec tls = client_tls(ca.pem(), "fallback.example");
  tls.auto_host_sni = true;
  call(tls, Codec::kHttp1,
       [](config::ClusterSpec& spec) { spec.endpoints.endpoints[0].hostname = std::string("hop.example"); });
  EXPECT_EQ(seen(), "HTTP/1.1 hop.example");
  call(tls);
  EXPECT_EQ(seen(), "HTTP/1.1 fallback.example");
}

TEST_F(TlsUpstream, AlpnChoosesTheVersion) {
  call(client_tls(ca.pem()), Codec::kByAlpn);
  EXPECT_EQ(seen(), "HTTP/2");
  EXPECT_EQ(seen(), "HTTP/2");
  EXPECT_EQ(plane.stat("cluster.hop.upstream_cx_total"), 1u);
  hop(server_tls({server}, {"http/1.1"}));
  EXPECT_TRUE(test::wait_until([&] { return seen() == "HTTP/1.1"; }));
  hop(server_tls({server}, {}));
  EXPECT_TRUE(test::wait_until([&] { return seen() == "HTTP/1.1"; }));
}

TEST_F(TlsUpstream, WaitersThatCountedOnHttp2GetConnectionsOfTheirOwn) {
  hop(server_tls({server}, {"http/1.1"}));
  call(client_tls(ca.pem()), Codec::kByAlpn);
  std::vector<std::thread> clients;
  std::atomic<int> good = 0;
  upstream.set_handler([](test::Exchange& e) {
    if (e.stall()) e.respond(200, "late");
  });
  for (int i = 0; i < 8; ++i) clients.emplace_back([&] { good += test::http_get(plane.port(), "/").status() == 200; });
  EXPECT_TRUE(upstream.wait_for_requests(8));
  upstream.release();
  for (std::thread& one : clients) one.join();
  EXPECT_EQ(good, 8);
}

TEST_F(TlsUpstream, SessionsAreResumed) {
  upstream.set_handler([](test::Exchange& e) { e.respond(200, "x"); });
  const auto closing = [](config::ClusterSpec& spec) { spec.max_requests_per_connection = 1; };
  call(client_tls(ca.pem()), Codec::kHttp1, closing);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(status(), 200);
  EXPECT_EQ(ssl("handshake"), 3u);
  EXPECT_EQ(ssl("session_reused"), 2u);
  config::UpstreamTlsSpec none = client_tls(ca.pem());
  none.max_session_keys = 0;
  call(none, Codec::kHttp1, closing);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(status(), 200);
  EXPECT_EQ(ssl("session_reused"), 2u);
  // A session that another configuration has verified is worth nothing.
  call(client_tls(ca.pem()), Codec::kHttp1, closing);
  EXPECT_EQ(status(), 200);
  CertificateAuthority other("other");
  call(client_tls(other.pem()), Codec::kHttp1, closing);
  EXPECT_EQ(status(), 503);
}

TEST_F(TlsUpstream, WhatIsAskedChangesInPlace) {
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(plane.stat("cluster.hop.upstream_cx_total"), 1u);
  CertificateAuthority other("other");
  call(client_tls(other.pem()));
  EXPECT_EQ(status(), 503);  // not on the connection that is there
  call(client_tls(ca.pem()));
  EXPECT_EQ(status(), 200);
  hop(std::nullopt);
  call(std::nullopt);
  EXPECT_EQ(status(), 200);
  // Our own certificate rotates for new handshakes.
  hop(server_tls({server}));
  const auto showing = [&](const Certificate& mine) {
    config::UpstreamTlsSpec tls = client_tls(ca.pem());
    tls.common.certificates = {{.chain = {"", mine.pem}, .private_key = {"", mine.private_key}}};
    call(tls);
  };
  showing(ca.issue("proxy"));
  EXPECT_EQ(status(), 200);
  const uint64_t connections = plane.stat("cluster.hop.upstream_cx_total");
  showing(ca.issue("proxy"));
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(plane.stat("cluster.hop.upstream_cx_total"), connections);
}

TEST_F(TlsUpstream, AuthoritiesOfASecretAreForNewHandshakesOnly) {
  const auto trust = [&](const std::string& trusted) { plane.update(trusted_secret("ca", trusted)); };
  CertificateAuthority other("other");
  config::UpstreamTlsSpec tls;
  tls.common.validation_secret = secret_of_ads("ca");
  trust(ca.pem());
  call(tls);
  EXPECT_EQ(status(), 200);
  const uint64_t connections = plane.stat("cluster.hop.upstream_cx_total");
  trust(other.pem());
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(plane.stat("cluster.hop.upstream_cx_total"), connections);
}

TEST_F(TlsUpstream, SessionsAreNotResumedUnderOtherAuthoritiesOfASecret) {
  const auto trust = [&](const std::string& trusted) { plane.update(trusted_secret("ca", trusted)); };
  CertificateAuthority other("other");
  config::UpstreamTlsSpec tls;
  tls.common.validation_secret = secret_of_ads("ca");
  trust(ca.pem());
  call(tls, Codec::kHttp1, [](config::ClusterSpec& spec) { spec.max_requests_per_connection = 1; });
  for (int i = 0; i < 2; ++i) EXPECT_EQ(status(), 200);
  EXPECT_EQ(ssl("session_reused"), 1u);
  trust(ca.pem() + other.pem());
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(ssl("session_reused"), 1u);
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(ssl("session_reused"), 2u);
  trust(other.pem());
  EXPECT_EQ(status(), 503);
}

}  // namespace
}  // namespace outrigger::proxy
