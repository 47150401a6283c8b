// Transport sockets of listeners and clusters.
#include <gtest/gtest.h>

#include "config/proto_dump.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "support/certificates.h"
#include "support/temp_dir.h"
#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

using test::TempDir;
using test::write_file;

const std::string kListenerAt = "filter_chains[0].transport_socket.typed_config";
const std::string kClusterAt = "transport_socket.typed_config";

class Tls : public ::testing::Test {
 protected:
  Tls() {
    issue("ec", {});
    issue("ec2", {});
    issue("rsa", {.rsa = true});
    issue("expired", {.valid_from_s = -7200, .valid_until_s = -60});
    issue("future", {.valid_from_s = 60});
    write_file(dir_ / "ca.pem", ca_.pem());
    write_file(dir_ / "crl.pem", ca_.revoke({}));
    write_file(dir_ / "ticket", std::string(80, 't'));
    write_file(dir_ / "short", std::string(48, 't'));
    write_file(dir_ / "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  }
  void issue(const std::string& name, const test::CertificateOptions& options) {
    const test::Certificate made = ca_.issue(name, {"DNS:" + name}, options);
    write_file(dir_ / (name + ".pem"), made.pem);
    write_file(dir_ / (name + ".key"), made.private_key);
  }
  std::string file(const std::string& name) const { return "{filename: " + (dir_ / name) + "}"; }
  std::string certificate(const std::string& name) const {
    return "{certificate_chain: " + file(name + ".pem") + ", private_key: " + file(name + ".key") + "}";
  }
  static std::string listener(const std::string& context, const std::string& chain = "") {
    return "\"@type\": envoy.config.listener.v3.Listener\nname: l\naddress: {socket_address: {address: 127.0.0.1, "
           "port_value: 0}}\nfilter_chains:\n- filters: [{name: h, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, "
           "stat_prefix: a, route_config: {name: r}, http_filters: [{name: r, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]\n" +
           chain +
           "  transport_socket: {name: tls, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, " +
           context + "}}\n";
  }
  static std::string cluster(const std::string& context, const std::string& more = "") {
    return "\"@type\": envoy.config.cluster.v3.Cluster\nname: c\n" + more +
           "transport_socket: {name: tls, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, " +
           context + "}}\n";
  }
  FilterChainSpec good_chain(const std::string& context, const std::string& chain = "") {
    const TranslatedResource out = loader_.resource(listener(context, chain));
    EXPECT_EQ(out.faults.str(), "");
    return out.spec ? std::get<ListenerSpec>(*out.spec).filter_chains.at(0) : FilterChainSpec();
  }
  ClusterSpec good_cluster(const std::string& context, const std::string& more = "") {
    const TranslatedResource out = loader_.resource(cluster(context, more));
    EXPECT_EQ(out.faults.str(), "");
    return out.spec ? std::get<ClusterSpec>(*out.spec) : ClusterSpec();
  }
  void bad_listener(const std::string& context, std::vector<Expected> expected) {
    expect_faults(loader_.resource(listener(context)).faults, std::move(expected), context);
  }
  void bad_cluster(const std::string& context, std::vector<Expected> expected, const std::string& more = "") {
    expect_faults(loader_.resource(cluster(context, more)).faults, std::move(expected), context);
  }

  TempDir dir_;
  test::CertificateAuthority ca_;
  Loader loader_;
};

// A control plane has its proxies' files nowhere.
TEST_F(Tls, FilesThatAreElsewhereAreNotReadAndWhatIsInlineIs) {
  Loader elsewhere({.files_elsewhere = true});
  const auto faults = [&](const std::string& resource) { return elsewhere.resource(resource).faults.str(); };
  const std::string away =
      "{certificate_chain: {filename: /no/such/chain.pem}, private_key: {filename: /no/such/key.pem}}";
  const std::string trust = ", validation_context: {trusted_ca: {filename: /no/such/ca.pem}}";
  EXPECT_EQ(faults(listener("require_client_certificate: true, common_tls_context: {tls_certificates: [" + away + "]" +
                            trust + "}")),
            "");
  EXPECT_EQ(faults(cluster("common_tls_context: {tls_certificates: [" + away + "]" + trust + "}")), "");
  EXPECT_NE(faults(listener("common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: none}, "
                            "private_key: {filename: /no/such/key.pem}}]}"))
                .find("certificate_chain"),
            std::string::npos);
  EXPECT_NE(faults(listener("common_tls_context: {tls_certificates: [{certificate_chain: {filename: \"\"}}]}"))
                .find("must not be empty"),
            std::string::npos);
}

TEST_F(Tls, EveryFieldOfAListener) {
  const FilterChainSpec chain = good_chain(
      "require_client_certificate: true, session_ticket_keys: {keys: [" + file("ticket") +
          "]}, session_timeout: 60s, common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_2, "
          "tls_maximum_protocol_version: TLSv1_2, cipher_suites: "
          "[\"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]\", ECDHE-RSA-AES256-GCM-SHA384], "
          "ecdh_curves: [P-384, X25519]}, tls_certificates: [" +
          certificate("ec") + ", " + certificate("rsa") +
          "], alpn_protocols: [h2, http/1.1], validation_context: "
          "{trusted_ca: " +
          file("ca.pem") + ", crl: " + file("crl.pem") +
          ", only_verify_leaf_cert_crl: true, trust_chain_verification: ACCEPT_UNTRUSTED, "
          "match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: \"spiffe://a/\"}}], "
          "verify_certificate_hash: [\"" +
          std::string(64, 'A') +
          "\"], verify_certificate_spki: "
          "[\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]}}",
      "  transport_socket_connect_timeout: 3s\n");
  ASSERT_TRUE(chain.tls);
  EXPECT_EQ(chain.handshake_timeout_ms, 3'000u);
  const DownstreamTlsSpec& tls = *chain.tls;
  EXPECT_TRUE(tls.require_client_certificate);
  EXPECT_EQ(tls.ticket_keys, (std::vector<std::string>{std::string(80, 't')}));
  EXPECT_EQ(tls.session_timeout_ms, 60'000u);
  EXPECT_EQ(tls.common.max_version, TlsSpec::Version::k12);
  EXPECT_EQ(tls.common.cipher_suites,
            (std::vector<std::string>{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305",
                                      "ECDHE-RSA-AES256-GCM-SHA384"}));
  EXPECT_EQ(tls.common.ecdh_curves, (std::vector<std::string>{"P-384", "X25519"}));
  EXPECT_EQ(tls.common.alpn, (std::vector<std::string>{"h2", "http/1.1"}));
  ASSERT_EQ(tls.common.certificates.size(), 2u);
  EXPECT_EQ(tls.common.certificates[1].chain.file, dir_ / "rsa.pem");
  ASSERT_TRUE(tls.common.validation);
  const TlsValidationSpec& asked = *tls.common.validation;
  EXPECT_EQ(asked.trusted_ca.bytes.text(), ca_.pem());
  EXPECT_EQ(asked.crl.file, dir_ / "crl.pem");
  EXPECT_TRUE(asked.leaf_crl_only);
  EXPECT_TRUE(asked.accept_untrusted);
  EXPECT_EQ(
      asked.sans,
      (std::vector<SanMatch>{{.type = SanMatch::Type::kUri, .kind = SanMatch::Kind::kPrefix, .value = "spiffe://a/"}}));
  EXPECT_EQ(asked.hashes, (std::vector<std::string>{std::string(32, '\xaa')}));
  EXPECT_EQ(asked.spki, (std::vector<std::string>{std::string(32, '\0')}));
  // A file whose content changes makes another spec of the same text.
  const std::string small = "common_tls_context: {tls_certificates: [" + certificate("ec") + "]}";
  const FilterChainSpec before = good_chain(small);
  EXPECT_EQ(before, good_chain(small));
  EXPECT_FALSE(good_chain("disable_stateless_session_resumption: true, " + small).tls->tickets);
  issue("ec", {});
  EXPECT_NE(before, good_chain(small));
}

TEST_F(Tls, EveryFieldOfACluster) {
  const ClusterSpec spec = good_cluster(
      "sni: a.example, auto_host_sni: true, auto_sni_san_validation: true, max_session_keys: 7, common_tls_context: "
      "{alpn_protocols: [h2], validation_context: {trusted_ca: " +
          file("ca.pem") + "}}",
      "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
      "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, auto_config: "
      "{http2_protocol_options: {max_concurrent_streams: 5}}}}\n");
  EXPECT_EQ(spec.codec, ClusterSpec::Codec::kByAlpn);
  EXPECT_EQ(spec.http2.max_concurrent_streams, 5u);
  ASSERT_TRUE(spec.tls);
  EXPECT_EQ(spec.tls->sni, "a.example");
  EXPECT_TRUE(spec.tls->auto_host_sni);
  EXPECT_TRUE(spec.tls->auto_sni_san_validation);
  EXPECT_EQ(spec.tls->max_session_keys, 7u);
  EXPECT_EQ(spec.tls->common.alpn, (std::vector<std::string>{"h2"}));
  EXPECT_FALSE(good_cluster("common_tls_context: {}").tls->common.validation);
}

TEST_F(Tls, PlainSockets) {
  std::string text = listener("");
  text.erase(text.find("  transport_socket"));
  for (const char* socket : {"  transport_socket: {name: envoy.transport_sockets.raw_buffer}\n",
                             "  transport_socket: {name: x, typed_config: {\"@type\": "
                             "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}\n"}) {
    const TranslatedResource out = loader_.resource(text + socket);
    EXPECT_EQ(out.faults.str(), "");
    EXPECT_FALSE(std::get<ListenerSpec>(*out.spec).filter_chains[0].tls);
  }
  expect_faults(
      loader_
          .resource(text + "  transport_socket: {name: tls, typed_config: {\"@type\": "
                           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                           "UpstreamTlsContext}}\n")
          .faults,
      {{kListenerAt, "is not supported; envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext and"}});
}

TEST_F(Tls, CertificatesThatAreNoGood) {
  const std::string list = kListenerAt + ".common_tls_context.tls_certificates";
  const auto with_certificates = [&](const std::string& all) {
    return "common_tls_context: {tls_certificates: [" + all + "]}";
  };
  bad_listener("common_tls_context: {}", {{list, "needs at least one"}});
  bad_listener(with_certificates(certificate("expired")),
               {{list + "[0].certificate_chain", (dir_ / "expired.pem") + " the certificate has expired"}});
  bad_listener(with_certificates(certificate("future")),
               {{list + "[0].certificate_chain", (dir_ / "future.pem") + " the certificate is not valid yet"}});
  bad_listener(with_certificates("{certificate_chain: " + file("ec.pem") + ", private_key: " + file("rsa.key") + "}"),
               {{list + "[0].private_key", (dir_ / "rsa.key") + " does not match the certificate"}});
  bad_listener(with_certificates("{certificate_chain: " + file("garbage") + ", private_key: " + file("ec.key") + "}"),
               {{list + "[0].certificate_chain", "certificate 1 does not parse"}});
  bad_listener(with_certificates("{certificate_chain: " + file("none") + ", private_key: " + file("ec.key") + "}"),
               {{list + "[0].certificate_chain.filename", "cannot open"}});
  bad_listener(with_certificates(certificate("ec") + ", " + certificate("ec2")),
               {{list + "[1]", "is a second certificate with a key of kind EC"}});
}

TEST_F(Tls, WhatIsAskedOfPeersMustMakeSense) {
  const std::string mine = "tls_certificates: [" + certificate("ec") + "]";
  const std::string at = kListenerAt + ".common_tls_context.";
  bad_listener("require_client_certificate: true, common_tls_context: {" + mine + "}",
               {{kListenerAt + ".require_client_certificate", "needs a validation_context"}});
  bad_listener("common_tls_context: {" + mine +
                   ", validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}], "
                   "verify_certificate_hash: [ab], verify_certificate_spki: [ab], crl: " +
                   file("ca.pem") + "}}",
               {{at + "validation_context.match_typed_subject_alt_names", "needs trusted_ca"},
                {at + "validation_context.verify_certificate_hash[0]", "must be a SHA-256 in hex"},
                {at + "validation_context.verify_certificate_spki[0]", "must be a SHA-256 in base64"},
                {at + "validation_context.crl", "holds no list of revoked certificates"},
                {at + "validation_context.crl", "needs trusted_ca"}});
  bad_listener("common_tls_context: {" + mine +
                   ", alpn_protocols: [spdy], tls_params: {tls_minimum_protocol_version: TLSv1_0, "
                   "tls_maximum_protocol_version: TLSv1_1, cipher_suites: [ADH-AES128-SHA, \"[RC4|x]\", "
                   "TLS_AES_128_GCM_SHA256], ecdh_curves: [secp112r1]}}",
               {{at + "alpn_protocols[0]", "must be h2 or http/1.1"},
                {at + "tls_params.tls_minimum_protocol_version", "is too old"},
                {at + "tls_params.tls_maximum_protocol_version", "is too old"},
                {at + "tls_params.cipher_suites[0]", "\"ADH-AES128-SHA\" is no cipher suite"},
                {at + "tls_params.cipher_suites[1]", "\"RC4\" is no cipher suite"},
                {at + "tls_params.cipher_suites[1]", "\"x\" is no cipher suite"},
                {at + "tls_params.cipher_suites[2]", "\"TLS_AES_128_GCM_SHA256\" is no cipher suite"},
                {at + "tls_params.ecdh_curves[0]", "is not known"}});
  bad_listener("session_ticket_keys: {keys: [" + file("short") + "]}, common_tls_context: {" + mine +
                   ", tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_2}}",
               {{kListenerAt + ".session_ticket_keys.keys[0]", "has 48 bytes, must have 80"},
                {at + "tls_params.tls_maximum_protocol_version", "is below tls_minimum_protocol_version"}});
  bad_cluster("auto_sni_san_validation: true",
              {{kClusterAt + ".auto_sni_san_validation", "needs a validation_context"}});
}

TEST_F(Tls, AutoConfigNeedsTls) {
  std::string text = cluster("",
                             "typed_extension_protocol_options: "
                             "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
                             "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
                             "auto_config: {}}}\n");
  text.erase(text.find("transport_socket:"));
  expect_faults(loader_.resource(text).faults, {{"transport_socket", "is required with auto_config"}});
}

TEST_F(Tls, KeysAreInNoDumpOrFault) {
  const std::string secret(80, 's');
  const TranslatedResource out =
      loader_.resource(listener("session_ticket_keys: {keys: [{inline_string: " + secret +
                                "}]}, common_tls_context: "
                                "{tls_certificates: [{certificate_chain: " +
                                file("ec.pem") + ", private_key: {inline_string: " + secret + "}}]}"));
  EXPECT_FALSE(out.spec);
  EXPECT_EQ(out.faults.str().find("sss"), std::string::npos) << out.faults.str();
  envoy::config::listener::v3::Listener message;
  ASSERT_TRUE(message.ParseFromString(out.bytes));
  EXPECT_NE(out.bytes.find(secret), std::string::npos);
  EXPECT_EQ(to_json(message).find("sss"), std::string::npos);
}

}  // namespace
}  // namespace outrigger::config::testing
