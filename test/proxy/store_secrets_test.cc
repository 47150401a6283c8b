// Secrets in the Store: what waits for them, what a change of one changes, what is refused.
#include <functional>
#include <set>

#include "config/source_scope.h"
#include "config/tls_material.h"
#include "config/tls_secrets.h"
#include "proxy/specs.h"
#include "proxy/store.h"
#include "proxy/tls_specs.h"

namespace outrigger::proxy {
namespace {

using config::ConfigSourceSpec;
using config::DownstreamTlsSpec;
using config::ListenerSpec;
using config::ResourceType;
using config::SecretRefSpec;
using config::SecretSpec;
using test::Certificate;
using test::CertificateAuthority;

SecretRefSpec by_ads(const std::string& name, uint64_t timeout_ms = 15'000) {
  return {.name = name, .source = ConfigSourceSpec{.initial_fetch_timeout_ms = timeout_ms}};
}

class StoreSecrets : public testing::Test {
 protected:
  SecretSpec certificate(const std::string& name, const Certificate& from) {
    config::TlsMaterials::Problem problem;
    auto pair = materials_.key_pair(from.pem, from.private_key, {}, problem);
    EXPECT_NE(pair, nullptr) << problem.text;
    return {name, config::TlsCertificateSpec{
                      .chain = {"", from.pem}, .private_key = {"", from.private_key}, .parsed = std::move(pair)}};
  }
  static SecretSpec trust(const std::string& name, const std::string& ca) {
    config::TlsValidationSpec asked;
    asked.trusted_ca.bytes = ca;
    return {name, asked};
  }
  // A listener whose one chain has these secrets as certificates.
  static ListenerSpec tls_listener(const std::string& name, const std::vector<SecretRefSpec>& certificates) {
    ListenerSpec spec = listener(name, "");
    spec.filter_chains[0].hcm.route_table = std::make_shared<config::RouteTableSpec>(table("t", {}));
    spec.filter_chains[0].tls.emplace().common.certificate_secrets = certificates;
    return spec;
  }
  static config::ClusterSpec tls_cluster(const std::string& name, const SecretRefSpec& trusted) {
    config::ClusterSpec spec = static_cluster(name);
    spec.tls.make().common.validation_secret = trusted;
    return spec;
  }
  void accept(config::Spec spec, Source source = Source::kXds) {
    const auto verdict = store_.accept(std::move(spec), {}, source, "1");
    ASSERT_TRUE(verdict.has_value()) << verdict.error().detail;
  }
  std::string refusal(config::Spec spec) {
    const auto verdict = store_.accept(std::move(spec), {}, Source::kXds, "2");
    return verdict ? "" : verdict.error().detail;
  }
  std::shared_ptr<const Snapshot> live() {
    store_.assemble();
    return store_.live();
  }
  const LinkedChain* chain(const char* listener) {
    const LinkedListener* found = live()->listeners.find(listener);
    return found == nullptr ? nullptr : &found->chains[0];
  }
  std::shared_ptr<const upstream::TlsContext> cluster_tls(const char* name) {
    const LinkedCluster* found = live()->clusters.find(name);
    return found == nullptr ? nullptr : found->cluster->tls();
  }
  std::vector<std::string> waits(ResourceType type, const std::string& name) {
    for (const auto& r : store_.status()->resources)
      if (r.type == type && r.name == name) return r.waits_for();
    return {};
  }
  bool knows_secret(const std::string& name) {
    const auto status = store_.status();
    return std::any_of(status->resources.begin(), status->resources.end(), [&](const auto& r) {
      return r.type == ResourceType::kSecret && r.name == name && !r.live_version.empty();
    });
  }
  using Names = std::vector<std::string>;

  CertificateAuthority ca_;
  config::TlsMaterials materials_;
  stats::Registry registry_{1};
  int64_t now_ = 1'000;
  Store store_{{.stats = &registry_, .bind = false, .now_ms = [this] { return now_; }}};
};

TEST_F(StoreSecrets, AListenerWaitsForItsSecretAndSaysSo) {
  accept(tls_listener("l", {by_ads("s")}));
  EXPECT_EQ(chain("l"), nullptr);
  EXPECT_FALSE(store_.settled());
  EXPECT_EQ(store_.wanted_secrets(), Names{"s"});
  EXPECT_EQ(waits(ResourceType::kListener, "l"), Names{"secret s: unknown"});
  accept(certificate("s", ca_.issue("a")));
  ASSERT_NE(chain("l"), nullptr);
  EXPECT_NE(chain("l")->tls, nullptr);
  EXPECT_FALSE(chain("l")->lacks_secret());
  EXPECT_TRUE(store_.settled());
}

TEST_F(StoreSecrets, AClusterWaitsForItsSecret) {
  accept(tls_cluster("c", by_ads("ca")));
  EXPECT_EQ(cluster_tls("c"), nullptr);
  EXPECT_EQ(waits(ResourceType::kCluster, "c"), Names{"secret ca: unknown"});
  accept(trust("ca", ca_.pem()));
  EXPECT_NE(cluster_tls("c"), nullptr);
}

TEST_F(StoreSecrets, AHoldEndsAndNobodyIsServedInClear) {
  accept(tls_listener("l", {by_ads("s", 500)}));
  accept(tls_listener("endless", {by_ads("t", 0)}));
  accept(tls_cluster("c", by_ads("ca", 700)));
  live();
  EXPECT_EQ(store_.next_deadline_ms(), now_ + 500);
  now_ += 500;
  ASSERT_NE(chain("l"), nullptr);
  EXPECT_TRUE(chain("l")->lacks_secret());
  EXPECT_EQ(store_.status()->forced, 1u);
  now_ += 1'000'000;
  ASSERT_NE(cluster_tls("c"), nullptr);  // one that believes nobody
  const auto lacking = cluster_tls("c");
  EXPECT_EQ(chain("endless"), nullptr);
  // What comes late is used.
  accept(certificate("s", ca_.issue("a")));
  EXPECT_FALSE(chain("l")->lacks_secret());
  accept(trust("ca", ca_.pem()));
  EXPECT_NE(cluster_tls("c"), lacking);
}

TEST_F(StoreSecrets, ARotationChangesTlsAndNothingElse) {
  accept(certificate("s", ca_.issue("a")));
  accept(trust("ca", ca_.pem()));
  accept(tls_listener("l", {by_ads("s")}));
  ListenerSpec mutual = tls_listener("mutual", {by_ads("s")});
  mutual.filter_chains[0].tls->common.validation_secret = by_ads("ca");
  accept(mutual);
  accept(tls_cluster("c", by_ads("ca")));
  const LinkedChain before = *chain("l"), mutual_before = *chain("mutual");
  const auto part = live()->listeners.find("l")->part;
  const auto cluster_before = cluster_tls("c");
  accept(certificate("s", ca_.issue("b")));
  EXPECT_EQ(live()->listeners.find("l")->part, part);
  EXPECT_NE(chain("l")->tls, before.tls);
  EXPECT_EQ(chain("l")->identity(), before.identity()) << "connections stay";
  EXPECT_EQ(cluster_tls("c"), cluster_before);
  // So does what is asked of peers.
  accept(trust("ca", CertificateAuthority("another").pem()));
  EXPECT_NE(chain("mutual")->tls, mutual_before.tls);
  EXPECT_EQ(chain("mutual")->identity(), mutual_before.identity());
  EXPECT_NE(cluster_tls("c"), cluster_before);
  // Nothing changes by what is equal.
  const uint64_t version = live()->version;
  accept(trust("ca", ca_.pem()));
  accept(trust("ca", ca_.pem()));
  EXPECT_EQ(live()->version, version + 1);
}

TEST_F(StoreSecrets, WhatTheResourceSaysOfItsTlsIsWhatConnectionsAreBoundTo) {
  // Of the bootstrap: they stay when nothing names them.
  for (const char* name : {"s", "t"}) accept(certificate(name, ca_.issue("a")), Source::kStatic);
  for (const char* name : {"ca", "cb"}) accept(trust(name, ca_.pem()), Source::kStatic);
  std::set<std::string> identities;
  const auto identity = [&](const std::function<void(DownstreamTlsSpec&)>& change) {
    ListenerSpec spec = tls_listener("l", {by_ads("s")});
    spec.filter_chains[0].tls->common.validation_secret = by_ads("ca");
    change(*spec.filter_chains[0].tls);
    accept(spec);
    return chain("l")->identity();
  };
  const std::string before = identity([](auto&) {});
  identities.insert(before);
  for (const std::function<void(DownstreamTlsSpec&)>& change : std::vector<std::function<void(DownstreamTlsSpec&)>>{
           [](auto& tls) { tls.require_client_certificate = true; },
           [](auto& tls) { tls.common.validation_secret = by_ads("cb"); },
           [](auto& tls) { tls.common.validation.emplace().sans = {{.value = "a.example"}}; },
           [this](auto& tls) { tls.common.validation.emplace().trusted_ca.bytes = ca_.pem(); },
           [this](auto& tls) {
             tls.common.validation_secret.reset();
             tls.common.validation.emplace().trusted_ca.bytes = ca_.pem();
           },
           [](auto& tls) { tls.common.validation_secret.reset(); }})
    EXPECT_TRUE(identities.insert(identity(change)).second) << identities.size();
  // Our own certificates are not.
  EXPECT_EQ(identity([](auto& tls) { tls.common.certificate_secrets = {by_ads("t")}; }), before);
}

TEST_F(StoreSecrets, WhatIsEqualIsOne) {
  const Certificate same = ca_.issue("a");
  accept(certificate("s", same));
  accept(certificate("t", same));
  accept(tls_listener("l", {by_ads("s")}));
  accept(tls_listener("m", {by_ads("s")}));
  accept(tls_listener("n", {by_ads("t")}));
  EXPECT_EQ(chain("l")->tls, chain("m")->tls);
  EXPECT_EQ(chain("l")->tls, chain("n")->tls);
}

TEST_F(StoreSecrets, CombinedContextsAreMerged) {
  ListenerSpec spec = tls_listener("l", {by_ads("s")});
  DownstreamTlsSpec& tls = *spec.filter_chains[0].tls;
  tls.require_client_certificate = true;
  tls.common.validation.emplace().sans = {{.value = "a.example"}};
  tls.common.validation_secret = by_ads("ca");
  accept(spec);
  accept(certificate("s", ca_.issue("a")));
  config::TlsValidationSpec nothing;
  EXPECT_NE(refusal(SecretSpec{"ca", nothing}).find("needs trusted_ca"), std::string::npos);
  live();
  EXPECT_EQ(waits(ResourceType::kListener, "l"), Names{"secret ca: refused"});
  config::TlsValidationSpec asked;
  asked.trusted_ca.bytes = ca_.pem();
  asked.sans = {{.value = "b.example"}};
  accept(SecretSpec{"ca", asked});
  EXPECT_NE(chain("l")->tls, nullptr);
  const auto merged = config::with_secrets(tls, [&](const SecretRefSpec& one) {
    static SecretSpec mine, theirs;
    mine = certificate("s", ca_.issue("a"));
    theirs = {"ca", asked};
    return one.name == "s" ? &mine : &theirs;
  });
  ASSERT_TRUE(merged);
  EXPECT_EQ(merged->common.validation->sans.size(), 2u);
  EXPECT_EQ(merged->common.validation->trusted_ca.bytes.text(), ca_.pem());
  EXPECT_EQ(merged->common.certificates.size(), 1u);
}

TEST_F(StoreSecrets, ANameIsAnotherSecretInEachSource) {
  const ConfigSourceSpec file{.kind = ConfigSourceSpec::Kind::kFile, .path = "/s.yaml"};
  accept(tls_listener("l", {by_ads("s")}));
  accept(tls_listener("m", {{.name = "s", .source = file}}));
  accept(certificate("s", ca_.issue("a")));
  EXPECT_NE(chain("l"), nullptr);
  EXPECT_EQ(chain("m"), nullptr);
  EXPECT_EQ(waits(ResourceType::kListener, "m"), Names{"secret s: unknown (/s.yaml)"});
  const Origin of_file(Source::kFile, config::scope_of(file));
  ASSERT_TRUE(store_.accept(certificate("s", ca_.issue("b")), {}, of_file, "1").has_value());
  ASSERT_NE(chain("m"), nullptr);
  EXPECT_NE(chain("m")->tls, chain("l")->tls);
  const auto before = chain("l")->tls;
  ASSERT_TRUE(store_.accept(certificate("s", ca_.issue("c")), {}, of_file, "2").has_value());
  EXPECT_EQ(chain("l")->tls, before);
  // A secret of the wrong kind is refused for those alone that name it.
  EXPECT_FALSE(store_.accept(trust("s", ca_.pem()), {}, of_file, "3").has_value());
  store_.remove(ResourceType::kListener, "l", Source::kXds);
  live();
  EXPECT_EQ(chain("l"), nullptr);
  EXPECT_NE(chain("m"), nullptr);
  EXPECT_TRUE(knows_secret("s"));
}

TEST_F(StoreSecrets, WhatCannotBeUsedIsRefusedAndTheLastGoodOneStays) {
  accept(certificate("ec", ca_.issue("a")));
  accept(certificate("rsa", ca_.issue("a", {}, {.rsa = true})));
  accept(tls_listener("l", {by_ads("ec"), by_ads("rsa")}));
  const auto before = chain("l")->tls;
  EXPECT_EQ(
      refusal(certificate("rsa", ca_.issue("b"))),
      "listener l: filter_chains[0]: common_tls_context.tls_certificates[1]: is a second certificate with a key of "
      "kind EC; there may be one of each");
  EXPECT_EQ(refusal(trust("ec", ca_.pem())),
            "listener l: filter_chains[0]: secret ec is a validation_context and named as a tls_certificate");
  EXPECT_EQ(chain("l")->tls, before);
  EXPECT_TRUE(knows_secret("ec"));
  EXPECT_EQ(refusal(tls_cluster("c", by_ads("ec"))),
            "transport_socket: secret ec is a tls_certificate and named as a validation_context");
}

TEST_F(StoreSecrets, TicketKeysAreASecret) {
  ListenerSpec spec = tls_listener("l", {by_ads("s")});
  spec.filter_chains[0].tls->ticket_secret = by_ads("tickets");
  accept(spec);
  accept(certificate("s", ca_.issue("a")));
  EXPECT_EQ(chain("l"), nullptr);
  accept(SecretSpec{"tickets", config::TicketKeysSpec{.keys = {{"", std::string(80, 't')}}}});
  const LinkedChain before = *chain("l");
  accept(SecretSpec{"tickets", config::TicketKeysSpec{.keys = {{"", std::string(80, 'u')}}}});
  EXPECT_NE(chain("l")->tls, before.tls);
  EXPECT_EQ(chain("l")->identity(), before.identity());
}

TEST_F(StoreSecrets, ASecretThatIsRemovedServesUntilNothingNamesIt) {
  accept(certificate("s", ca_.issue("a")));
  accept(tls_listener("l", {by_ads("s")}));
  const auto before = chain("l")->tls;
  store_.remove(ResourceType::kSecret, "s", Source::kXds);
  EXPECT_EQ(chain("l")->tls, before);
  EXPECT_TRUE(knows_secret("s"));
  store_.remove(ResourceType::kListener, "l", Source::kXds);
  EXPECT_EQ(chain("l"), nullptr);
  EXPECT_FALSE(knows_secret("s"));
  EXPECT_EQ(store_.wanted_secrets(), Names{});
}

TEST_F(StoreSecrets, WhatNothingNamesAnyMoreIsForgotten) {
  accept(certificate("s", ca_.issue("a")));
  accept(certificate("t", ca_.issue("a")));
  accept(certificate("mine", ca_.issue("a")), Source::kStatic);
  accept(tls_listener("l", {by_ads("s")}));
  live();
  accept(tls_listener("l", {by_ads("t")}));
  live();
  EXPECT_FALSE(knows_secret("s"));
  EXPECT_TRUE(knows_secret("t"));
  EXPECT_TRUE(knows_secret("mine"));
  EXPECT_NE(refusal(certificate("mine", ca_.issue("b"))).find("static resource of the bootstrap"), std::string::npos);
}

TEST_F(StoreSecrets, StreamsOfTheirOwnAreAskedForTheirSecrets) {
  SecretRefSpec reference = by_ads("s");
  reference.source->kind = ConfigSourceSpec::Kind::kGrpc;
  reference.source->services = {{.cluster = "sds"}};
  accept(tls_listener("l", {reference}));
  accept(tls_cluster("c", {.name = "ca", .source = reference.source}));
  EXPECT_EQ(store_.wanted_secrets(), Names{});
  const auto streams = store_.wanted_streams();
  ASSERT_EQ(streams.size(), 1u);
  EXPECT_EQ(streams[0].type, ResourceType::kSecret);
  EXPECT_EQ(streams[0].names, (Names{"ca", "s"}));
}

}  // namespace
}  // namespace outrigger::proxy
