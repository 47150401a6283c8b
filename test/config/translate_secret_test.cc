// Secrets, and what names them.
#include <gtest/gtest.h>

#include "config/proto_dump.h"
#include "config/sensitive.h"
#include "config/tls_material.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "support/certificates.h"
#include "support/temp_dir.h"
#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

using test::TempDir;
using test::write_file;

class Secrets : public ::testing::Test {
 protected:
  Secrets() {
    const test::Certificate good = ca_.issue("a"), other = ca_.issue("b");
    const test::Certificate expired = ca_.issue("c", {}, {.valid_from_s = -7200, .valid_until_s = -60});
    write_file(dir_ / "a.pem", good.pem);
    write_file(dir_ / "a.key", good.private_key);
    write_file(dir_ / "b.key", other.private_key);
    write_file(dir_ / "c.pem", expired.pem);
    write_file(dir_ / "c.key", expired.private_key);
    write_file(dir_ / "ca.pem", ca_.pem());
    write_file(dir_ / "ticket", std::string(80, 't'));
    write_file(dir_ / "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  }
  std::string file(const std::string& name) const { return "{filename: " + (dir_ / name) + "}"; }
  std::string certificate(const std::string& chain, const std::string& key) const {
    return "tls_certificate: {certificate_chain: " + file(chain) + ", private_key: " + file(key) + "}";
  }
  static std::string secret(const std::string& fields) {
    return "{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: s, " + fields + "}";
  }
  SecretSpec good(const std::string& fields) {
    const TranslatedResource out = loader_.resource(secret(fields));
    EXPECT_EQ(out.faults.str(), "");
    EXPECT_EQ(out.type, ResourceType::kSecret);
    EXPECT_EQ(out.name, "s");
    return out.spec ? std::get<SecretSpec>(*out.spec) : SecretSpec();
  }
  void expect(const std::string& fields, std::vector<Expected> expected) {
    expect_faults(loader_.resource(secret(fields)).faults, std::move(expected), fields);
  }
  static std::string cluster(const std::string& common) {
    return "\"@type\": envoy.config.cluster.v3.Cluster\nname: c\ntransport_socket: {name: tls, typed_config: "
           "{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "
           "common_tls_context: {" +
           common + "}}}\n";
  }

  TempDir dir_;
  test::CertificateAuthority ca_;
  Loader loader_;
};

TEST_F(Secrets, AreCertificatesValidationContextsAndTicketKeys) {
  const SecretSpec pair = good(certificate("a.pem", "a.key"));
  const auto& mine = std::get<TlsCertificateSpec>(pair.content);
  EXPECT_EQ(mine.chain.file, dir_ / "a.pem");
  ASSERT_NE(mine.parsed, nullptr);
  EXPECT_EQ(mine.parsed->kind(), "EC");
  // Equal ones are parsed once.
  EXPECT_EQ(std::get<TlsCertificateSpec>(good(certificate("a.pem", "a.key")).content).parsed, mine.parsed);
  const SecretSpec asked = good("validation_context: {trusted_ca: " + file("ca.pem") + "}");
  EXPECT_EQ(std::get<TlsValidationSpec>(asked.content).trusted_ca.bytes.text(), ca_.pem());
  // It may be added to a default that has an authority.
  good("validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}");
  const SecretSpec tickets = good("session_ticket_keys: {keys: [" + file("ticket") + "]}");
  EXPECT_EQ(std::get<TicketKeysSpec>(tickets.content).keys.at(0).bytes.text(), std::string(80, 't'));
}

TEST_F(Secrets, WhatIsNoGoodIsNamedByPathAndFile) {
  expect(certificate("garbage", "a.key"),
         {{"tls_certificate.certificate_chain", (dir_ / "garbage") + " certificate 1 does not parse"}});
  expect(certificate("a.pem", "b.key"),
         {{"tls_certificate.private_key", (dir_ / "b.key") + " does not match the certificate"}});
  expect(certificate("c.pem", "c.key"),
         {{"tls_certificate.certificate_chain", (dir_ / "c.pem") + " the certificate has expired"}});
  expect("validation_context: {trusted_ca: " + file("garbage") + "}",
         {{"validation_context.trusted_ca", "does not parse"}});
  expect("session_ticket_keys: {keys: [{inline_string: short}]}", {{"session_ticket_keys.keys[0]", "has 5 bytes"}});
  expect("session_ticket_keys: {}", {{"session_ticket_keys.keys", "needs at least one"}});
  expect("generic_secret: {secret: {inline_string: x}}",
         {{"generic_secret", "no supported field"}, {"", "needs one of"}});
  expect_faults(
      loader_.resource("{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret}").faults,
      {{"name", "must not be empty"}, {"", "needs one of tls_certificate"}});
}

TEST_F(Secrets, AreNamedWithASourceOrAmongTheBootstraps) {
  const TranslatedResource out = loader_.resource(cluster(
      "tls_certificate_sds_secret_configs: [{name: mine, sds_config: {ads: {}, initial_fetch_timeout: 3s}}], "
      "combined_validation_context: {default_validation_context: {match_typed_subject_alt_names: [{san_type: DNS, "
      "matcher: {exact: a}}]}, validation_context_sds_secret_config: {name: ca, sds_config: {path_config_source: "
      "{path: /f.yaml, watched_directory: {path: /d}}}}}"));
  EXPECT_EQ(out.faults.str(), "");
  const TlsSpec tls = std::get<ClusterSpec>(*out.spec).tls->common;
  ASSERT_EQ(tls.certificate_secrets.size(), 1u);
  EXPECT_EQ(tls.certificate_secrets[0].name, "mine");
  EXPECT_EQ(tls.certificate_secrets[0].source->initial_fetch_timeout_ms, 3'000u);
  EXPECT_EQ(tls.validation->sans.size(), 1u);
  EXPECT_EQ(tls.validation_secret->source->watched_directory, "/d");
  expect_faults(loader_.resource(cluster("validation_context_sds_secret_config: {}")).faults,
                {{"transport_socket.typed_config.common_tls_context.validation_context_sds_secret_config.name",
                  "must not be empty"}});
  // Of a bootstrap.
  const auto bootstrap = [&](const std::string& secrets) {
    return loader_.translator.bootstrap(
        "static_resources:\n  clusters:\n  - {name: c, load_assignment: {cluster_name: c}, "
        "transport_socket: {name: tls, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "
        "common_tls_context: {validation_context_sds_secret_config: {name: ca}}}}}\n  secrets: [" +
            secrets + "]\n",
        "b.yaml");
  };
  const std::string ca = "{name: ca, validation_context: {trusted_ca: " + file("ca.pem") + "}}";
  const TranslatedBootstrap found = bootstrap(ca);
  EXPECT_EQ(found.faults.str(), "");
  ASSERT_EQ(found.resources.size(), 2u);
  EXPECT_EQ(found.resources[0].type, ResourceType::kSecret);
  EXPECT_NE(bootstrap("").faults.str().find("\"ca\" is not among static_resources.secrets"), std::string::npos);
  EXPECT_NE(bootstrap(ca + ", " + ca).faults.str().find("is also the name of secrets[0]"), std::string::npos);
}

TEST_F(Secrets, StaplesAreJudgedByTheirPolicy) {
  const test::Certificate mine = ca_.issue("m"), other = ca_.issue("o");
  const test::Certificate asking = ca_.issue("n", {}, {.must_staple = true});
  write_file(dir_ / "m.pem", mine.pem);
  write_file(dir_ / "m.key", mine.private_key);
  write_file(dir_ / "n.pem", asking.pem);
  write_file(dir_ / "n.key", asking.private_key);
  write_file(dir_ / "good", ca_.staple(mine));
  write_file(dir_ / "other", ca_.staple(other));
  write_file(dir_ / "old", ca_.staple(mine, -60));
  write_file(dir_ / "revoked", ca_.staple(mine, 3600, true));
  const auto chain = [&](const std::string& name, const std::string& staple, const std::string& policy) {
    return "\"@type\": envoy.config.listener.v3.Listener\nname: l\naddress: {socket_address: {address: 127.0.0.1, "
           "port_value: 0}}\nfilter_chains:\n- filters: [{name: h, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, "
           "stat_prefix: a, route_config: {name: r}, http_filters: [{name: r, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]\n"
           "  transport_socket: {name: tls, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, ocsp_staple_policy: " +
           policy + ", common_tls_context: {tls_certificates: [{certificate_chain: " + file(name + ".pem") +
           ", private_key: " + file(name + ".key") + (staple.empty() ? "" : ", ocsp_staple: " + file(staple)) +
           "}]}}}\n";
  };
  const auto expect = [&](const std::string& name, const std::string& staple, const std::string& policy,
                          const std::string& fault) {
    const TranslatedResource out = loader_.resource(chain(name, staple, policy));
    const std::string at =
        "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates[0].ocsp_staple";
    expect_faults(out.faults, fault.empty() ? std::vector<Expected>() : std::vector<Expected>{{at, fault}},
                  name + " " + staple + " " + policy);
  };
  for (const char* policy : {"LENIENT_STAPLING", "STRICT_STAPLING", "MUST_STAPLE"}) {
    expect("m", "good", policy, "");
    expect("m", "other", policy, (dir_ / "other") + " is of another certificate");
    expect("m", "revoked", policy, "says that the certificate is revoked");
    expect("m", "garbage", policy, "is no OCSP response in DER");
    expect("n", "", policy,
           policy == std::string("MUST_STAPLE") ? "ocsp_staple_policy" : "required by the certificate");
  }
  expect("m", "old", "LENIENT_STAPLING", "");
  expect("m", "old", "STRICT_STAPLING", "is out of date");
  expect("m", "", "LENIENT_STAPLING", "");
  expect("m", "", "STRICT_STAPLING", "");
  expect("m", "", "MUST_STAPLE", "is required by ocsp_staple_policy");
}

TEST_F(Secrets, ShowNoKeys) {
  using Secret = envoy::extensions::transport_sockets::tls::v3::Secret;
  const std::string fields[] = {
      "tls_certificate: {certificate_chain: {inline_string: chain}, private_key: {inline_string: sss}}",
      "session_ticket_keys: {keys: [{inline_string: sss}, {inline_bytes: c3Nz}]}"};
  for (const std::string& one : fields) {
    const TranslatedResource out = loader_.resource(secret(one));
    EXPECT_EQ(out.faults.str().find("sss"), std::string::npos);
    Secret message;
    ASSERT_TRUE(message.ParseFromString(out.bytes));
    const std::string json = to_json(message);
    EXPECT_EQ(json.find("sss"), std::string::npos) << json;
    EXPECT_EQ(json.find("c3Nz"), std::string::npos) << json;
    EXPECT_NE(json.find("[redacted]"), std::string::npos) << json;
    EXPECT_TRUE(may_hold_secrets(type_url(ResourceType::kSecret), out.bytes)) << "a state directory keeps none";
  }
}

}  // namespace
}  // namespace outrigger::config::testing
