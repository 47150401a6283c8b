// Authenticated ways to a control plane: TLS, client certificates, tokens; what is wrong is told and nothing secret
// shown.
#include <gtest/gtest.h>

#include "discovery_resources.h"
#include "support/certificates.h"
#include "support/fake_upstream.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using test::Certificate;
using test::CertificateAuthority;
using test::DiscoveryServer;
using test::wait_until;
using test::write_file;

class XdsChannels : public testing::Test {
 protected:
  XdsChannels() {
    write_file(dir_ / "ca.pem", ca_.pem());
    save(ca_.issue("proxy", {"URI:spiffe://fleet/proxy"}));
  }
  void save(const Certificate& mine) {
    write_file(dir_ / "me.pem", mine.pem);
    write_file(dir_ / "key.pem", mine.private_key);
  }
  std::unique_ptr<DiscoveryServer> secured(const std::vector<std::string>& names, bool ask_client = true,
                                           uint16_t port = 0) {
    const Certificate mine = ca_.issue("control", names);
    auto server =
        std::make_unique<DiscoveryServer>(test::DiscoveryServerOptions{.port = port,
                                                                       .certificate = mine.pem,
                                                                       .private_key = mine.private_key,
                                                                       .client_ca = ask_client ? ca_.pem() : ""});
    serve_by_ads(*server, "1", web_.port());
    return server;
  }
  std::string file(const char* name) const { return "{filename: " + (dir_ / name) + "}"; }
  std::string identity() const {
    return "tls_certificates: [{certificate_chain: " + file("me.pem") + ", private_key: " + file("key.pem") + "}], ";
  }
  // A proxy that goes by ADS to this service; `tls`: of the cluster "xds" at that port.
  static std::string with(const std::string& service, const std::string& cluster) {
    return bootstrap({}, {cluster},
                     "node: {id: me}\ndynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [" + service +
                         "]}, lds_config: {ads: {}, initial_fetch_timeout: 0s}, cds_config: {ads: {}, "
                         "initial_fetch_timeout: 0s}}\n");
  }
  std::string by_cluster(uint16_t port, const std::string& tls) const {
    std::string cluster = static_cluster("xds", port);
    cluster.insert(1,
                   "transport_socket: {name: tls, typed_config: {\"@type\": "
                   "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, " +
                       tls + "}}, ");
    return with("{envoy_grpc: {cluster_name: xds}}", cluster);
  }
  std::string by_address(uint16_t port, const std::string& more) const {
    return with(
        "{google_grpc: {target_uri: \"127.0.0.1:" + std::to_string(port) + "\", stat_prefix: xds, " + more + "}}",
        static_cluster("unused", 1));
  }
  std::string trusting(const std::string& more = {}) const {
    return "validation_context: {trusted_ca: " + file("ca.pem") + more + "}";
  }
  static bool serves(RunningServer& proxy) {
    return proxy.live() && test::http_get(proxy.port("main"), "/").body == "web";
  }
  static bool fails_with(RunningServer& proxy, const std::string& reason) {
    return wait_until([&] { return proxy.admin("/xds").body.find(reason) != std::string::npos; });
  }

  test::TempDir dir_;
  CertificateAuthority ca_;
  test::FakeUpstream web_{[](test::Exchange& exchange) { exchange.respond(200, "web"); }};
};

TEST_F(XdsChannels, AClientCertificateIsShownToAServerWhoseNameIsVerified) {
  const auto server = secured({"DNS:control.example"});
  RunningServer proxy(by_cluster(server->port(), "sni: control.example, common_tls_context: {alpn_protocols: [h2], " +
                                                     identity() + trusting() + "}"));
  EXPECT_TRUE(serves(proxy));
  EXPECT_EQ(server->asked().at(0).client, "spiffe://fleet/proxy");
  // It is a cluster like others, too.
  EXPECT_NE(proxy.admin("/clusters").body.find("xds::"), std::string::npos);
  const std::string dump = proxy.admin("/config_dump").body;
  EXPECT_EQ(dump.find("key.pem"), std::string::npos);
  EXPECT_NE(dump.find("ca.pem"), std::string::npos);
}

TEST_F(XdsChannels, TheAddressIsVerifiedWhereNoNameIsGiven) {
  const auto server = secured({"IP:127.0.0.1"}, false);
  RunningServer proxy(by_cluster(server->port(), "common_tls_context: {" + trusting() + "}"));
  EXPECT_TRUE(serves(proxy));
}

TEST_F(XdsChannels, AServerWithAnotherNameIsNotBelieved) {
  const auto server = secured({"DNS:other.example"});
  RunningServer proxy(
      by_cluster(server->port(), "sni: control.example, common_tls_context: {" + identity() + trusting() + "}"));
  EXPECT_TRUE(fails_with(proxy, "UNAVAILABLE"));
  EXPECT_TRUE(server->asked().empty());
}

TEST_F(XdsChannels, AServerOfAnotherAuthorityIsNotBelieved) {
  CertificateAuthority other("other authority");
  const Certificate theirs = other.issue("control", {"DNS:control.example"});
  DiscoveryServer server({.certificate = theirs.pem, .private_key = theirs.private_key});
  RunningServer proxy(by_cluster(server.port(), "sni: control.example, common_tls_context: {" + trusting() + "}"));
  EXPECT_TRUE(fails_with(proxy, "UNAVAILABLE"));
  EXPECT_TRUE(server.asked().empty());
}

TEST_F(XdsChannels, SubjectAltNamesTakeThePlaceOfTheName) {
  const auto server = secured({"URI:spiffe://fleet/control"});
  const auto with_sans = [&](const std::string& sans) {
    return by_cluster(server->port(), "common_tls_context: {" + identity() +
                                          trusting(", match_typed_subject_alt_names: [" + sans + "]") + "}");
  };
  {
    RunningServer proxy(
        with_sans("{san_type: DNS, matcher: {exact: a}}, {san_type: URI, matcher: {prefix: "
                  "\"spiffe://fleet/\"}}"));
    EXPECT_TRUE(serves(proxy));
  }
  const size_t asked = server->asked().size();
  RunningServer proxy(with_sans("{san_type: URI, matcher: {exact: \"spiffe://fleet/other\"}}"));
  EXPECT_TRUE(fails_with(proxy, "UNAVAILABLE"));
  EXPECT_EQ(server->asked().size(), asked);
}

TEST_F(XdsChannels, WithoutItsCertificateAClientIsTurnedAway) {
  const auto server = secured({"DNS:control.example"});
  RunningServer proxy(by_cluster(server->port(), "sni: control.example, common_tls_context: {" + trusting() + "}"));
  EXPECT_TRUE(fails_with(proxy, "UNAVAILABLE"));
  EXPECT_TRUE(server->asked().empty());
}

TEST_F(XdsChannels, CertificatesRotateWithTheNextConnection) {
  auto server = secured({"DNS:control.example"});
  const uint16_t port = server->port();
  RunningServer proxy(by_cluster(port, "sni: control.example, common_tls_context: {" + identity() + trusting() + "}"));
  EXPECT_TRUE(serves(proxy));
  save(ca_.issue("proxy", {"URI:spiffe://fleet/rotated"}));
  server->stop();
  server = secured({"DNS:control.example"}, true, port);
  EXPECT_TRUE(wait_until([&] {
    const auto asked = server->asked();
    return !asked.empty() && asked[0].client == "spiffe://fleet/rotated";
  }));
}

TEST_F(XdsChannels, AnAddressOfItsOwnWithTlsAndAToken) {
  const Certificate mine = ca_.issue("control", {"IP:127.0.0.1"});
  DiscoveryServer server({.certificate = mine.pem, .private_key = mine.private_key, .token = "Bearer hush-hush"});
  serve_by_ads(server, "1", web_.port());
  RunningServer proxy(
      by_address(server.port(), "channel_credentials: {ssl_credentials: {root_certs: " + file("ca.pem") +
                                    "}}, call_credentials: [{access_token: hush-hush}]"));
  EXPECT_TRUE(serves(proxy));
  for (const char* page : {"/config_dump", "/xds", "/stats", "/server_info", "/clusters"})
    EXPECT_EQ(proxy.admin(page).body.find("hush-hush"), std::string::npos) << page;
}

TEST_F(XdsChannels, AWrongTokenIsToldByTheServer) {
  DiscoveryServer server({.token = "Bearer right"});
  RunningServer proxy(by_address(
      server.port(), "channel_credentials: {local_credentials: {}}, call_credentials: [{access_token: hush-hush}]"));
  EXPECT_TRUE(fails_with(proxy, "UNAUTHENTICATED: who are you?"));
  EXPECT_EQ(proxy.admin("/xds").body.find("hush-hush"), std::string::npos);
}

TEST_F(XdsChannels, HeadersAreSentWithEveryStream) {
  DiscoveryServer server;
  serve_by_ads(server, "1", web_.port());
  RunningServer proxy(with("{envoy_grpc: {cluster_name: xds}, initial_metadata: [{key: X-Tenant, value: hush-hush}]}",
                           static_cluster("xds", server.port())));
  EXPECT_TRUE(serves(proxy));
  EXPECT_EQ(server.asked().at(0).metadata.at("x-tenant"), "hush-hush");
  EXPECT_EQ(proxy.admin("/config_dump").body.find("hush-hush"), std::string::npos);
}

TEST_F(XdsChannels, AKeyThatDoesNotMatchIsRefusedAtTheStart) {
  write_file(dir_ / "key.pem", ca_.issue("other").private_key);
  Server server({.config_path = "bootstrap.yaml",
                 .config_text = by_cluster(1, "common_tls_context: {" + identity() + trusting() + "}"),
                 .concurrency = 1});
  const Result<void> started = server.start();
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().detail.find((dir_ / "key.pem") + " does not match the certificate"), std::string::npos)
      << started.error().detail;
}

}  // namespace
}  // namespace outrigger::server
