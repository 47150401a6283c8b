// The ways to control planes: TLS of static clusters, addresses of their own, credentials.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "config/proto_dump.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "support/certificates.h"
#include "support/temp_dir.h"
#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

using test::Certificate;
using test::CertificateAuthority;
using test::TempDir;
using test::write_file;

const std::string kAt = "dynamic_resources.ads_config.grpc_services[0]";
const std::string kTls = "static_resources.clusters[0].transport_socket.typed_config";
const std::string kContext =
    "\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

class Channel : public ::testing::Test {
 protected:
  Channel() {
    write_file(dir_ / "ca.pem", ca_.pem());
    write_file(dir_ / "me.pem", me_.pem);
    write_file(dir_ / "key.pem", me_.private_key);
    write_file(dir_ / "other.key", other_.private_key);
  }
  static std::string ads(const std::string& service) {
    return "node: {id: me}\ndynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [" + service + "]}}\n";
  }
  // A bootstrap whose ADS goes by a cluster with this TLS.
  static std::string by_cluster(const std::string& context) {
    return ads("{envoy_grpc: {cluster_name: xds}}") +
           "static_resources:\n  clusters:\n  - name: xds\n    type: STATIC\n    load_assignment: {cluster_name: xds, "
           "endpoints: {lb_endpoints: {endpoint: {address: {pipe: {path: /a}}}}}}\n    transport_socket: {name: tls, "
           "typed_config: {" +
           kContext + ", " + context + "}}\n";
  }
  std::string file(const char* name) const { return "{filename: " + (dir_ / name) + "}"; }
  std::string trust() const { return "validation_context: {trusted_ca: " + file("ca.pem") + "}"; }
  std::string identity(const char* key) const {
    return "tls_certificates: [{certificate_chain: " + file("me.pem") + ", private_key: " + file(key) + "}]";
  }
  BootstrapSpec good(const std::string& yaml) {
    TranslatedBootstrap out = loader_.translator.bootstrap(yaml, "b.yaml");
    EXPECT_EQ(out.faults.str(), "");
    return out.spec ? std::move(*out.spec) : BootstrapSpec{};
  }
  GrpcServiceSpec good_service(const std::string& service) {
    const BootstrapSpec spec = good(ads(service));
    return spec.ads && !spec.ads->services.empty() ? spec.ads->services[0] : GrpcServiceSpec{};
  }
  void bad(const std::string& yaml, std::vector<Expected> expected) {
    expect_faults(loader_.translator.bootstrap(yaml, "b.yaml").faults, std::move(expected), yaml);
  }

  TempDir dir_;
  CertificateAuthority ca_;
  Certificate me_ = ca_.issue("me"), other_ = ca_.issue("other");
  Loader loader_;
};

TEST_F(Channel, TlsOfAStaticCluster) {
  const BootstrapSpec spec = good(by_cluster(
      "sni: control.example, common_tls_context: {alpn_protocols: [h2], " + identity("key.pem") +
      ", validation_context: {trusted_ca: " + file("ca.pem") +
      ", match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: \"spiffe://a/\"}}, {san_type: DNS, matcher: "
      "{exact: b, ignore_case: true}}]}}"));
  using San = SanMatch;
  const ChannelTlsSpec expected{
      .trusted_ca = {dir_ / "ca.pem", ca_.pem()},
      .certificate_chain = {dir_ / "me.pem", me_.pem},
      .private_key = {dir_ / "key.pem", me_.private_key},
      .server_name = "control.example",
      .san_matches = {{.type = San::Type::kUri, .kind = San::Kind::kPrefix, .value = "spiffe://a/"},
                      {.type = San::Type::kDns, .value = "b", .ignore_case = true}}};
  ASSERT_TRUE(spec.channel_tls.contains("xds"));
  EXPECT_EQ(spec.channel_tls.at("xds"), expected);
}

TEST_F(Channel, WhatIsWrongWithCertificatesIsToldWithTheFile) {
  const std::string common = kTls + ".common_tls_context.";
  bad(by_cluster("common_tls_context: {" + identity("other.key") + ", " + trust() + "}"),
      {{common + "tls_certificates[0].private_key", (dir_ / "other.key") + " does not match the certificate"}});
  bad(by_cluster("common_tls_context: {" + identity("ca.pem") + ", " + trust() + "}"),
      {{common + "tls_certificates[0].private_key", (dir_ / "ca.pem") + " is no private key in PEM"}});
  bad(by_cluster("common_tls_context: {" + identity("gone.pem") + ", " + trust() + "}"),
      {{common + "tls_certificates[0].private_key.filename", "cannot open " + (dir_ / "gone.pem")}});
  bad(by_cluster("common_tls_context: {validation_context: {trusted_ca: " + file("key.pem") + "}}"),
      {{common + "validation_context.trusted_ca", (dir_ / "key.pem") + " holds no certificate"}});
  bad(by_cluster("common_tls_context: {alpn_protocols: [http/1.1]}"),
      {{common + "validation_context.trusted_ca", "is required"}, {common + "alpn_protocols[0]", "must be h2"}});
  bad(by_cluster(
          "common_tls_context: {validation_context: {trusted_ca: " + file("ca.pem") +
          ", match_typed_subject_alt_names: [{matcher: {exact: a}}, {san_type: DNS, matcher: {safe_regex: {regex: "
          "a}}}]}}"),
      {{common + "validation_context.match_typed_subject_alt_names[0].san_type", "must be EMAIL, DNS"},
       {common + "validation_context.match_typed_subject_alt_names[1].matcher.safe_regex", "is not supported here"}});
}

TEST_F(Channel, WhatGrpcCannotDoIsRefusedInWaysToControlPlanesOnly) {
  const std::string pin(64, 'a');
  const std::string text = by_cluster(
      "auto_host_sni: true, common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_3}, "
      "validation_context: {trusted_ca: " +
      file("ca.pem") + ", verify_certificate_hash: [\"" + pin + "\"]}}");
  const std::string common = kTls + ".common_tls_context.";
  const char* why = "is not supported in a cluster that is the way to a control plane";
  bad(text, {{kTls + ".auto_host_sni", why},
             {common + "tls_params", why},
             {common + "validation_context.verify_certificate_hash", why}});
  const std::string plain =
      "  - {name: plain, type: STATIC, load_assignment: {cluster_name: plain, endpoints: "
      "{lb_endpoints: {endpoint: {address: {pipe: {path: /a}}}}}}}\n";
  const BootstrapSpec spec = good(with(text, "cluster_name: xds}", "cluster_name: plain}") + plain);
  EXPECT_TRUE(spec.channel_tls.empty());
  ASSERT_EQ(spec.clusters.size(), 2u);
  ASSERT_TRUE(spec.clusters[0].tls);
  EXPECT_TRUE(spec.clusters[0].tls->auto_host_sni);
}

TEST_F(Channel, GoogleGrpc) {
  EXPECT_EQ(good_service("{google_grpc: {target_uri: \"control.example:443\", stat_prefix: x}}"),
            (GrpcServiceSpec{.target_uri = "control.example:443"}));
  EXPECT_EQ(
      good_service("{google_grpc: {target_uri: \"unix:/run/control\", channel_credentials: {local_credentials: {}}, "
                   "call_credentials: [{access_token: hush}]}}"),
      (GrpcServiceSpec{.target_uri = "unix:/run/control", .initial_metadata = {{"authorization", "Bearer hush"}}}));
  ::setenv("OUTRIGGER_TEST_KEY", me_.private_key.c_str(), 1);
  const GrpcServiceSpec secured = good_service(
      "{google_grpc: {target_uri: \"control.example:443\", channel_credentials: {ssl_credentials: {root_certs: " +
      file("ca.pem") + ", cert_chain: " + file("me.pem") +
      ", private_key: {environment_variable: OUTRIGGER_TEST_KEY}}}, call_credentials: [{access_token: hush}]}, "
      "initial_metadata: [{key: X-Tenant, value: t}]}");
  EXPECT_EQ(secured.tls, (ChannelTlsSpec{.trusted_ca = {dir_ / "ca.pem", ca_.pem()},
                                         .certificate_chain = {dir_ / "me.pem", me_.pem},
                                         .private_key = {"", me_.private_key}}));
  EXPECT_EQ(secured.initial_metadata,
            (std::vector<std::pair<std::string, std::string>>{{"authorization", "Bearer hush"}, {"x-tenant", "t"}}));
  EXPECT_EQ(good_service("{google_grpc: {target_uri: a, channel_credentials: {ssl_credentials: {}}}}").tls,
            ChannelTlsSpec());
}

TEST_F(Channel, GoogleGrpcMistakes) {
  const std::string at = kAt + ".google_grpc";
  bad(ads("{google_grpc: {target_uri: \"xds:///a\"}}"), {{at + ".target_uri", "must be an address"}});
  bad(ads("{google_grpc: {}}"), {{at + ".target_uri", "must be an address"}});
  bad(ads("{google_grpc: {target_uri: \"control.example:443\", channel_credentials: {local_credentials: {}}}}"),
      {{at + ".channel_credentials.local_credentials", "are for addresses of this machine"}});
  bad(ads("{google_grpc: {target_uri: a, channel_credentials: {}}}"),
      {{at + ".channel_credentials", "needs ssl_credentials"}});
  bad(ads("{google_grpc: {target_uri: a, call_credentials: [{access_token: hush}]}}"),
      {{at + ".call_credentials[0]", "need channel_credentials: a token is not sent in clear"}});
  bad(ads("{google_grpc: {target_uri: a, channel_credentials: {ssl_credentials: {}}, call_credentials: [{}, "
          "{access_token: a}]}}"),
      {{at + ".call_credentials", "more than one"}, {at + ".call_credentials[0].access_token", "must be printable"}});
  bad(ads("{google_grpc: {target_uri: a, channel_credentials: {ssl_credentials: {cert_chain: " + file("me.pem") +
          "}}}}"),
      {{at + ".channel_credentials.ssl_credentials.private_key", "is required"}});
  bad(ads("{google_grpc: {target_uri: a, channel_credentials: {ssl_credentials: {cert_chain: " + file("me.pem") +
          ", private_key: " + file("other.key") + "}}}}"),
      {{at + ".channel_credentials.ssl_credentials.private_key", "does not match"}});
  bad(ads("{google_grpc: {target_uri: a, channel_credentials: {google_default: {}}}}"),
      {{at + ".channel_credentials.google_default", "no supported field"},
       {at + ".channel_credentials", "needs ssl_credentials"}});
}

TEST_F(Channel, KeysAndTokensAreInNoDump) {
  const std::string inlined = "{inline_string: \"" + std::string("hush-hush") + "\"}";
  for (const std::string& text :
       {ads("{google_grpc: {target_uri: a, channel_credentials: {ssl_credentials: {private_key: " + inlined +
            "}}, call_credentials: [{access_token: hush-hush}]}}"),
        by_cluster("common_tls_context: {tls_certificates: [{certificate_chain: " + file("me.pem") +
                   ", private_key: " + inlined + "}]}")}) {
    const TranslatedBootstrap out = loader_.translator.bootstrap(text, "b.yaml");
    EXPECT_EQ(out.faults.str().find("hush-hush"), std::string::npos) << out.faults.str();
    envoy::config::bootstrap::v3::Bootstrap message;
    ASSERT_TRUE(message.ParseFromString(out.bytes));
    EXPECT_NE(message.DebugString().find("hush-hush"), std::string::npos);
    EXPECT_EQ(to_json(message).find("hush-hush"), std::string::npos) << to_json(message);
  }
}

}  // namespace
}  // namespace outrigger::config::testing
