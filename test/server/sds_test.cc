// Secrets from every kind of source: a whole proxy in this process, scripted control planes over real gRPC, files.
#include <atomic>
#include <filesystem>
#include <thread>

#include "discovery_resources.h"
#include "support/certificates.h"
#include "support/temp_dir.h"
#include "support/tls_tunnel.h"

namespace outrigger::server {
namespace {

using test::Asked;
using test::Certificate;
using test::CertificateAuthority;
using test::DiscoveryServer;
using test::Socket;
using test::TlsTunnel;
using test::wait_until;
using xds::Type;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '\n' ? std::string("\\n") : std::string(1, c);
  return out + "\"";
}

std::string certificate_yaml(const std::string& name, const Certificate& from) {
  return "{name: " + name + ", tls_certificate: {certificate_chain: {inline_string: " + quoted(from.pem) +
         "}, private_key: {inline_string: " + quoted(from.private_key) + "}}}";
}

// The way that the resource goes when it is good; the bytes are not judged here.
std::string secret_bytes(const std::string& name, const Certificate& from) {
  return bytes_of(Type::kSecret, certificate_yaml(name, from));
}

std::string tls_listener_yaml(const std::string& common, const std::string& name = "main") {
  std::string yaml = listener_yaml(name, direct_response("hello"));
  yaml.insert(
      yaml.find("filters:"),
      "transport_socket: {name: tls, typed_config: {\"@type\": "
      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {" +
          common + "}}}, ");
  return yaml;
}

std::string certificates_from(const std::string& secret, const std::string& source) {
  return "tls_certificate_sds_secret_configs: [{name: " + secret + (source.empty() ? "" : ", sds_config: " + source) +
         "}]";
}

bool believes(RunningServer& proxy, const CertificateAuthority& authority, const char* listener = "main") {
  return TlsTunnel(Socket::connect(proxy.port(listener)), {.trusted = authority.pem()}).open();
}

// Handshakes and requests without a pause; each must be whole, by a certificate of one of both authorities.
class Handshakes {
 public:
  Handshakes(uint16_t port, const CertificateAuthority& a, const CertificateAuthority& b)
      : trusted_(a.pem() + b.pem()), thread_([this, port] { run(port); }) {}
  ~Handshakes() { stop(); }
  void stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  bool wait_more(int count) {
    const int until = done_ + count;
    return wait_until([&] { return done_ >= until; });
  }
  int failed() const { return failed_; }

 private:
  void run(uint16_t port) {
    while (!stopping_) {
      TlsTunnel tunnel(Socket::connect(port), {.trusted = trusted_});
      const bool good = tunnel.open() && test::HttpClient(tunnel.plain()).get("/").body == "hello";
      ++(good ? done_ : failed_);
    }
  }
  const std::string trusted_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> done_{0}, failed_{0};
  std::thread thread_;
};

// The parameter: GRPC or DELTA_GRPC.
class Sds : public testing::TestWithParam<const char*> {
 protected:
  static bool incremental() { return std::string(GetParam()) == "DELTA_GRPC"; }
  std::string ads_bootstrap() const {
    return bootstrap(
        {}, {static_cluster("control", control_.port())},
        "node: {id: me, cluster: fleet}\ndynamic_resources: {lds_config: {ads: {}}, cds_config: {ads: {}}, "
        "ads_config: {api_type: " +
            std::string(GetParam()) +
            ", transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: control}}]}}\n");
  }
  void serve_listener(const std::string& common) {
    control_.set(url(Type::kCluster), "1", {});
    control_.set(url(Type::kListener), "1", {{"main", bytes_of(Type::kListener, tls_listener_yaml(common))}});
  }
  void set(const std::string& version, const Certificate& from) {
    control_.set(url(Type::kSecret), version, {{"s", secret_bytes("s", from)}});
  }
  bool refused(const std::string& what) {
    return wait_until([&] {
      for (const Asked& asked : control_.asked())
        if (asked.type_url == url(Type::kSecret) && asked.error.find(what) != std::string::npos) return true;
      return false;
    });
  }

  DiscoveryServer control_;
  CertificateAuthority old_{"old"}, new_{"new"};
};

INSTANTIATE_TEST_SUITE_P(Form, Sds, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Sds, AListenerWarmsUntilItsSecretComesByAds) {
  serve_listener(certificates_from("s", "{ads: {}, initial_fetch_timeout: 0s}"));
  RunningServer proxy(ads_bootstrap());
  EXPECT_TRUE(wait_until([&] {
    return proxy.admin("/config_dump").body.find("secret s: unknown") != std::string::npos;
  })) << proxy.admin("/config_dump").body;
  EXPECT_EQ(proxy->listener_port("main"), 0);
  EXPECT_NE(proxy->phase(), Phase::kLive);
  set("1", old_.issue("a"));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(believes(proxy, old_));
}

TEST_P(Sds, ARotationUnderLoadDropsNothing) {
  serve_listener(certificates_from("s", "{ads: {}}"));
  set("1", old_.issue("a"));
  RunningServer proxy(ads_bootstrap());
  ASSERT_TRUE(proxy.live());
  TlsTunnel tunnel(Socket::connect(proxy.port("main")), {.trusted = old_.pem()});
  ASSERT_TRUE(tunnel.open()) << tunnel.error();
  test::HttpClient client(tunnel.plain());
  EXPECT_EQ(client.get("/").body, "hello");
  Handshakes load(proxy.port("main"), old_, new_);
  ASSERT_TRUE(load.wait_more(5));
  set("2", new_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(proxy, new_); }));
  ASSERT_TRUE(load.wait_more(5));
  set("3", old_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(proxy, old_); }));
  ASSERT_TRUE(load.wait_more(5));
  load.stop();
  EXPECT_EQ(load.failed(), 0);
  const test::HttpMessage answer = client.get("/");
  EXPECT_EQ(answer.body, "hello") << answer.error;
  EXPECT_FALSE(answer.header("connection"));
}

TEST_P(Sds, ABadSecretIsRefusedByNameAndTheLastGoodOneStays) {
  serve_listener(certificates_from("s", "{ads: {}}"));
  set("1", old_.issue("a"));
  RunningServer proxy(ads_bootstrap());
  ASSERT_TRUE(proxy.live());
  // Its bytes are made by hand: the helper judges them.
  const std::string good = secret_bytes("s", old_.issue("a"));
  Certificate mixed = new_.issue("a");
  mixed.private_key = old_.issue("a").private_key;
  const auto serve = [&](const std::string& version, const Certificate& bad) {
    stats::Registry registry(1);
    config::StateRegistry states;
    config::Translator translator(filters::all_filters(), states, registry, {});
    config::Faults faults;
    std::string yaml = certificate_yaml("s", bad);
    yaml.insert(1, "\"@type\": " + url(Type::kSecret) + ", ");
    const auto read = translator.resource_file("resources: [" + yaml + "]", "r.yaml", faults);
    control_.set(url(Type::kSecret), version, {{"s", read.at(0).bytes}});
  };
  serve("2", mixed);
  EXPECT_TRUE(refused("Secret/s: resources[0].tls_certificate.private_key: does not match the certificate"));
  EXPECT_TRUE(believes(proxy, old_));
  serve("3", new_.issue("a", {}, {.valid_from_s = -7200, .valid_until_s = -60}));
  EXPECT_TRUE(refused("the certificate has expired"));
  EXPECT_TRUE(believes(proxy, old_));
  EXPECT_TRUE(wait_until([&] { return proxy.admin("/config_dump").body.find("error_state") != std::string::npos; }));
  set("4", new_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(proxy, new_); }));
}

TEST_P(Sds, ASecretThatIsLateIsUsedWhenItComesAndNothingIsServedInClear) {
  serve_listener(certificates_from("s", "{ads: {}, initial_fetch_timeout: 0.1s}"));
  RunningServer proxy(ads_bootstrap());
  ASSERT_TRUE(proxy.live());
  EXPECT_FALSE(believes(proxy, old_));
  EXPECT_NE(test::http_get(proxy.port("main"), "/").error, "");
  EXPECT_GE(proxy->stats().value("listener.main.server_ssl_socket_factory.downstream_context_secrets_not_ready"), 2u);
  set("1", old_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(proxy, old_); }));
}

TEST_P(Sds, ASecretThatIsRemovedServesWhileItIsNamed) {
  serve_listener(certificates_from("s", "{ads: {}}"));
  set("1", old_.issue("a"));
  RunningServer proxy(ads_bootstrap());
  ASSERT_TRUE(proxy.live());
  control_.set(url(Type::kSecret), "2", {});
  if (incremental()) {
    EXPECT_TRUE(
        wait_until([&] { return proxy.admin("/config_dump").body.find("removed_but_named") != std::string::npos; }));
  }
  EXPECT_TRUE(believes(proxy, old_));
  // Whoever takes over its place is asked for; the old one is forgotten.
  control_.set(url(Type::kSecret), "3", {{"t", secret_bytes("t", new_.issue("a"))}});
  control_.set(url(Type::kListener), "2",
               {{"main", bytes_of(Type::kListener, tls_listener_yaml(certificates_from("t", "{ads: {}}")))}});
  EXPECT_TRUE(wait_until([&] { return believes(proxy, new_); }));
  EXPECT_TRUE(
      wait_until([&] { return proxy.admin("/config_dump").body.find("\"name\": \"s\"") == std::string::npos; }));
}

TEST_P(Sds, AStreamOfItsOwn) {
  DiscoveryServer secrets;
  secrets.set(url(Type::kSecret), "1", {{"s", secret_bytes("s", old_.issue("a"))}});
  const std::string source = "{api_config_source: {api_type: " + std::string(GetParam()) +
                             ", transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds}}]}}";
  RunningServer proxy(bootstrap({tls_listener_yaml(certificates_from("s", source))},
                                {static_cluster("sds", secrets.port())}, "node: {id: me, cluster: fleet}\n"));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(believes(proxy, old_));
  EXPECT_EQ(secrets.open_streams(xds::stream_method(Type::kSecret, incremental())), 1u);
  secrets.set(url(Type::kSecret), "2", {{"s", secret_bytes("s", new_.issue("a"))}});
  EXPECT_TRUE(wait_until([&] { return believes(proxy, new_); }));
}

class SdsFiles : public testing::Test {
 protected:
  static void write(const std::string& directory, const Certificate& from) {
    test::write_file(directory + "/tls.crt", from.pem);
    test::write_file(directory + "/tls.key", from.private_key);
  }
  test::TempDir dir_;
  CertificateAuthority old_{"old"}, new_{"new"};
};

TEST_F(SdsFiles, AFileOfSecretsThatIsReplacedUnderLoad) {
  const auto put = [&](const Certificate& from) {
    test::write_file(dir_ / "sds.yaml.new", "resources: [{\"@type\": " + url(Type::kSecret) + ", " +
                                                certificate_yaml("s", from).substr(1) + "]\n");
    std::filesystem::rename(dir_ / "sds.yaml.new", dir_ / "sds.yaml");
  };
  put(old_.issue("a"));
  RunningServer proxy(bootstrap(
      {tls_listener_yaml(certificates_from("s", "{path_config_source: {path: \"" + (dir_ / "sds.yaml") + "\"}}"))}));
  ASSERT_TRUE(proxy.live());
  Handshakes load(proxy.port("main"), old_, new_);
  ASSERT_TRUE(load.wait_more(5));
  put(new_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(proxy, new_); }));
  test::write_file(dir_ / "sds.yaml", "resources: [\n");
  EXPECT_TRUE(wait_until([&] { return proxy->stats().value("file_source.update_rejected") >= 1; }));
  EXPECT_TRUE(believes(proxy, new_));
  ASSERT_TRUE(load.wait_more(5));
  load.stop();
  EXPECT_EQ(load.failed(), 0);
}

TEST_F(SdsFiles, ASecretOfTheBootstrapWhoseFilesRotate) {
  write(dir_.path().string(), old_.issue("a"));
  RunningServer proxy(bootstrap({tls_listener_yaml(certificates_from("s", "")),
                                 tls_listener_yaml(certificates_from("s", ""), "other")}) +
                      "  secrets: [{name: s, tls_certificate: {certificate_chain: {filename: \"" + (dir_ / "tls.crt") +
                      "\"}, private_key: {filename: \"" + (dir_ / "tls.key") + "\"}}}]\n");
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(believes(proxy, old_));
  write(dir_.path().string(), new_.issue("a"));
  EXPECT_TRUE(wait_until([&] { return believes(proxy, new_) && believes(proxy, new_, "other"); }));
}

TEST_F(SdsFiles, NoPageShowsAKey) {
  const Certificate mine = old_.issue("a");
  RunningServer proxy(bootstrap({tls_listener_yaml(certificates_from("s", ""))}) + "  secrets: [" +
                      certificate_yaml("s", mine) + "]\n");
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(
      wait_until([&] { return proxy.admin("/config_dump").body.find("SecretsConfigDump") != std::string::npos; }));
  const std::string dump = proxy.admin("/config_dump").body;
  EXPECT_NE(dump.find("static_secrets"), std::string::npos);
  EXPECT_NE(dump.find("[redacted]"), std::string::npos);
  EXPECT_EQ(dump.find("PRIVATE KEY"), std::string::npos);
  // A line of the key's own text.
  const size_t line = mine.private_key.find('\n') + 1;
  EXPECT_EQ(dump.find(mine.private_key.substr(line, 32)), std::string::npos);
}

TEST_F(SdsFiles, AClusterWhoseSecretsAreFiles) {
  const Certificate server = old_.issue("up", {"DNS:up"}), client = new_.issue("me");
  test::write_file(dir_ / "ca.yaml",
                   "resources: [{\"@type\": " + url(Type::kSecret) +
                       ", name: ca, validation_context: {trusted_ca: {inline_string: " + quoted(old_.pem()) + "}}}]\n");
  // One proxy is the server, the other its client.
  RunningServer upstream(bootstrap({tls_listener_yaml(certificates_from("s", ""))}) + "  secrets: [" +
                         certificate_yaml("s", server) + "]\n");
  ASSERT_TRUE(upstream.live());
  const auto cluster = [&](const std::string& name, const std::string& more) {
    std::string yaml = static_cluster(name, upstream.port("main"));
    yaml.insert(yaml.size() - 1,
                more +
                    ", transport_socket: {name: tls, typed_config: {\"@type\": "
                    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: up, "
                    "auto_sni_san_validation: true, common_tls_context: {validation_context_sds_secret_config: {name: "
                    "ca, sds_config: {path_config_source: {path: \"" +
                    (dir_ / "ca.yaml") + "\"}}}}}}");
    return yaml;
  };
  RunningServer proxy(
      bootstrap({listener_yaml("main", inline_routes("{match: {prefix: /kept}, route: {cluster: kept}}, "
                                                     "{match: {prefix: /}, route: {cluster: fresh}}"))},
                {cluster("kept", ""), cluster("fresh", ", max_requests_per_connection: 1")}),
      {.concurrency = 1});
  ASSERT_TRUE(proxy.live());
  for (const char* path : {"/kept", "/fresh"}) EXPECT_EQ(test::http_get(proxy.port("main"), path).body, "hello");
  // Another authority: no new connection, but those that there are serve on.
  test::write_file(dir_ / "ca.yaml",
                   "resources: [{\"@type\": " + url(Type::kSecret) +
                       ", name: ca, validation_context: {trusted_ca: {inline_string: " + quoted(new_.pem()) + "}}}]\n");
  EXPECT_TRUE(wait_until([&] { return test::http_get(proxy.port("main"), "/fresh").status() == 503; }));
  EXPECT_EQ(test::http_get(proxy.port("main"), "/kept").body, "hello");
}

}  // namespace
}  // namespace outrigger::server
