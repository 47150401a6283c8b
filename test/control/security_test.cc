// Who may talk to the control plane: TLS, certificates of clients, bearer tokens, on every service of the port.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "control/control_plane.h"
#include "control/raw_client.h"
#include "control/server_credentials.h"
#include "control/token_file.h"
#include "envoy/service/status/v3/csds.grpc.pb.h"
#include "event/loop.h"
#include "outrigger/control/v1/status.grpc.pb.h"
#include "support/certificates.h"
#include "support/resources.h"
#include "support/temp_dir.h"
#include "support/wait.h"

namespace outrigger::control {
namespace {

using test::wait_until;
namespace fs = std::filesystem;

const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const std::string kToken = "a-token-of-some-length", kOther = "another-token-of-length";

class SecurityTest : public ::testing::Test {
 protected:
  void start(AdsServerOptions options) {
    options.on_refused = [this](const std::string&, const std::string& reason) {
      std::lock_guard lock(mutex);
      refused = reason;
    };
    options.on_connect = [this](const ClientInfo& client) {
      std::lock_guard lock(mutex);
      identities = client.tls_identities;
    };
    cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "one")}));
    server = std::make_unique<AdsServer>(cache, std::move(options));
    const auto started = server->start("127.0.0.1:0");
    ASSERT_TRUE(started) << started.error().detail;
    port = *started;
  }
  // How a client fares that asks for clusters.
  grpc::StatusCode outcome(RawOptions options) {
    RawClient client(port, std::move(options));
    client.ask(kCds);
    envoy::service::discovery::v3::DiscoveryResponse response;
    if (client.try_read(response)) return grpc::StatusCode::OK;
    return client.end().error_code();
  }
  grpc::StatusCode status(const std::string& token, std::shared_ptr<grpc::ChannelCredentials> credentials) {
    const auto stub = v1::ProxyStatusService::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(port), std::move(credentials)));
    grpc::ClientContext context;
    if (!token.empty()) context.AddMetadata("authorization", "bearer " + token);
    v1::StatusResponse response;
    return stub->GetStatus(&context, {}, &response).error_code();
  }
  std::shared_ptr<grpc::ChannelCredentials> tls(const std::string& client = {}) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = test::read_file(dir / "ca.pem");
    if (!client.empty()) {
      options.pem_cert_chain = test::read_file(dir / (client + ".pem"));
      options.pem_private_key = test::read_file(dir / (client + ".key"));
    }
    return grpc::SslCredentials(options);
  }

  test::TempDir dir;
  std::mutex mutex;
  std::string refused;
  std::vector<std::string> identities;
  ResourceCache cache;
  std::unique_ptr<AdsServer> server;
  uint16_t port = 0;
};

TEST_F(SecurityTest, WithoutAGoodTokenNoServiceAnswers) {
  ASSERT_NO_FATAL_FAILURE(start({.token_ok = [](std::string_view token) { return token == kToken; }}));
  EXPECT_EQ(outcome({.token = kToken}), grpc::StatusCode::OK);
  for (const std::string& token : {std::string(), kOther, kToken + "x"}) {
    EXPECT_EQ(outcome({.token = token}), grpc::StatusCode::UNAUTHENTICATED) << token;
    EXPECT_EQ(status(token, grpc::InsecureChannelCredentials()), grpc::StatusCode::UNAUTHENTICATED) << token;
  }
  EXPECT_EQ(status(kToken, grpc::InsecureChannelCredentials()), grpc::StatusCode::OK) << "the scheme has no case";

  namespace csds = envoy::service::status::v3;
  const auto stub = csds::ClientStatusDiscoveryService::NewStub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext unary, streaming;
  csds::ClientStatusResponse response;
  EXPECT_EQ(stub->FetchClientStatus(&unary, {}, &response).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  auto stream = stub->StreamClientStatus(&streaming);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(server->stats().refused_unauthenticated, 8u);
  EXPECT_EQ(server->stats().streams_opened, 1u);
  std::lock_guard lock(mutex);
  EXPECT_EQ(refused, "no bearer token");
}

TEST_F(SecurityTest, TlsAndTheClientsCertificate) {
  test::Certificates ca(dir.path());
  ca.issue("server", {"IP:127.0.0.1"});
  ca.issue("edge", {"URI:spiffe://test/edge", "DNS:edge.test"});
  test::Certificates other(dir.path(), "other");
  other.issue("stranger", {"URI:spiffe://test/edge"});
  ASSERT_NO_FATAL_FAILURE(start(
      {.tls = {
           .certificate_file = dir / "server.pem", .key_file = dir / "server.key", .client_ca_file = dir / "ca.pem"}}));
  EXPECT_EQ(outcome({.credentials = tls("edge")}), grpc::StatusCode::OK);
  {
    std::lock_guard lock(mutex);
    EXPECT_EQ(identities, (std::vector<std::string>{"spiffe://test/edge", "edge.test"}));
  }
  EXPECT_EQ(outcome({.credentials = tls("stranger")}), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(outcome({.credentials = tls()}), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(outcome({}), grpc::StatusCode::UNAVAILABLE) << "plain text";
  EXPECT_EQ(status("", tls()), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status("", tls("edge")), grpc::StatusCode::OK);
}

TEST_F(SecurityTest, CertificatesAreReadAgainWhenTheyChange) {
  test::Certificates ca(dir.path());
  ca.issue("server", {"IP:127.0.0.1"});
  ASSERT_NO_FATAL_FAILURE(
      start({.tls = {.certificate_file = dir / "server.pem", .key_file = dir / "server.key", .refresh_s = 1}}));
  EXPECT_EQ(outcome({.credentials = tls()}), grpc::StatusCode::OK);
  RawClient kept(port, RawOptions{.credentials = tls()});
  kept.ask(kCds);
  kept.ack(kept.read());
  // An authority that the client does not know yet, then one that it does.
  test::TempDir fresh;
  test::Certificates next(fresh.path());
  next.issue("server", {"IP:127.0.0.1"});
  for (const char* file : {"server.key", "server.pem"}) test::write_file(dir / file, test::read_file(fresh / file));
  EXPECT_TRUE(wait_until([&] { return outcome({.credentials = tls()}) == grpc::StatusCode::UNAVAILABLE; }));
  test::write_file(dir / "ca.pem", test::read_file(fresh / "ca.pem"));
  EXPECT_EQ(outcome({.credentials = tls()}), grpc::StatusCode::OK);
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "two")}));
  EXPECT_EQ(kept.read().resources(0).value(), "two") << "connections stay";
}

TEST_F(SecurityTest, CertificatesThatAreNoGoodAreRefusedWithFileAndReason) {
  test::Certificates ca(dir.path());
  ca.issue("server", {"IP:127.0.0.1"});
  ca.issue("other", {"IP:127.0.0.1"});
  test::write_file(dir / "garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  test::write_file(dir / "empty.pem", "");
  test::write_file(dir / "torn.pem", test::read_file(dir / "server.pem") + "-----BEGIN CERTIFICATE-----\nAA");
  const std::string cert = dir / "server.pem", key = dir / "server.key";
  const auto why = [&](ServerTls tls) {
    const auto checked = check_server_tls(tls);
    return checked ? std::string() : checked.error().detail;
  };
  EXPECT_EQ(why({}), "");
  EXPECT_EQ(why({cert, key}), "");
  EXPECT_EQ(why({cert, key, dir / "ca.pem"}), "");
  EXPECT_EQ(why({cert, dir / "other.key"}), dir / "other.key: does not match the certificate");
  EXPECT_EQ(why({dir / "none.pem", key}), dir / "none.pem: No such file or directory");
  const std::pair<const char*, const char*> bad[] = {{"garbage.pem", ": certificate 1 does not parse: "},
                                                     {"empty.pem", ": holds no certificate in PEM"},
                                                     {"torn.pem", ": certificate 2 does not parse: "},
                                                     {"server.key", ": holds no certificate in PEM"}};
  for (const auto& [file, problem] : bad) {
    EXPECT_EQ(why({dir / file, key}).find(dir / file + problem), 0u) << why({dir / file, key});
    EXPECT_EQ(why({cert, key, dir / file}).find(dir / file + problem), 0u) << why({cert, key, dir / file});
  }
  EXPECT_EQ(why({cert, cert}), cert + ": is no private key in PEM");
  EXPECT_NE(why({cert, ""}), "");
  EXPECT_NE(why({"", key}), "");
  EXPECT_NE(why({"", "", dir / "ca.pem"}), "");
  AdsServer refuses(cache, {.tls = {cert, dir / "other.key"}});
  EXPECT_FALSE(refuses.start("127.0.0.1:0"));
}

TEST_F(SecurityTest, TokensAreReadAgainAndInNoMessage) {
  testing::internal::CaptureStderr();
  event::Loop loop;
  test::write_file(dir / "tokens", "# ours\n\n  " + kToken + "\r\n" + kOther);
  auto opened = TokenFile::open(loop, dir / "tokens");
  ASSERT_TRUE(opened) << opened.error().detail;
  TokenFile& tokens = **opened;
  for (const std::string& good : {kToken, kOther}) EXPECT_TRUE(tokens.accepts(good));
  for (const std::string& bad : {std::string(), "# ours" + std::string(), kToken + " ", kToken.substr(1)})
    EXPECT_FALSE(tokens.accepts(bad)) << bad;
  const auto turn = [&](const std::function<bool()>& condition) {
    const test::Deadline deadline(test::kPatience);
    while (!condition() && !deadline.over()) loop.run_once();
    return condition();
  };
  test::write_file(dir / "tokens", kOther);
  EXPECT_TRUE(turn([&] { return !tokens.accepts(kToken); }));
  EXPECT_TRUE(tokens.accepts(kOther));
  // What is bad changes nothing; the next good one counts.
  test::write_file(dir / "tokens", "short\n");
  test::write_file(dir / "tokens.new", kToken);
  loop.run_once();
  EXPECT_TRUE(tokens.accepts(kOther));
  fs::rename(dir / "tokens.new", dir / "tokens");
  EXPECT_TRUE(turn([&] { return tokens.accepts(kToken); }));
  opened->reset();

  test::write_file(dir / "short", kToken + "\nshort");
  test::write_file(dir / "none", "# nothing\n");
  const auto why = [&](const std::string& file) { return TokenFile::open(loop, file).error().detail; };
  EXPECT_EQ(why(dir / "short"), dir / "short: line 2: a token must have at least 16 characters");
  EXPECT_EQ(why(dir / "none"), dir / "none: holds no token");
  EXPECT_NE(why(dir / "gone").find(dir / "gone"), std::string::npos);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("1 tokens are good"), std::string::npos) << log;
  for (const std::string& secret : {kToken, kOther}) EXPECT_EQ(log.find(secret), std::string::npos) << log;
}

TEST_F(SecurityTest, ATokenThatIsTakenOutEndsItsStreams) {
  test::write_file(dir / "tokens", kToken + "\n" + kOther);
  fs::create_directory(dir / "conf");
  test::write_file(dir / "conf/a.yaml", test::resource_file({test::eds_cluster_resource("a")}));
  event::Loop loop;
  ControlPlane control({.config_dir = dir / "conf", .listen = "127.0.0.1:0", .token_file = dir / "tokens"});
  const auto started = control.start(loop);
  ASSERT_TRUE(started) << started.error().detail;
  RawClient leaving(*started, RawOptions{.token = kToken}), staying(*started, RawOptions{.token = kOther});
  for (RawClient* client : {&leaving, &staying}) {
    client->ask(kCds);
    const auto response = client->read();
    EXPECT_EQ(response.resources_size(), 1);
    client->ack(response);
  }
  test::write_file(dir / "tokens", "# the first is gone\n" + kOther);
  std::atomic<bool> ended = false;
  std::thread reader([&] {
    EXPECT_EQ(leaving.end().error_code(), grpc::StatusCode::UNAUTHENTICATED);
    ended = true;
    loop.post([] {});
  });
  const test::Deadline deadline(test::kPatience);
  while (!ended && !deadline.over()) loop.run_once();
  reader.join();
  // The other one is still served.
  test::write_file(dir / "conf/b.yaml", test::resource_file({test::eds_cluster_resource("b")}));
  ended = false;
  reader = std::thread([&] {
    EXPECT_EQ(staying.read().resources_size(), 2);
    ended = true;
    loop.post([] {});
  });
  while (!ended && !deadline.over()) loop.run_once();
  reader.join();
  control.stop();
}

// The program's own wiring: files, log, metrics.
TEST_F(SecurityTest, RefusalsAreLoggedBoundedAndWithoutTheToken) {
  testing::internal::CaptureStderr();
  test::write_file(dir / "tokens", kToken);
  fs::create_directory(dir / "conf");
  test::write_file(dir / "conf/a.yaml", test::resource_file({test::eds_cluster_resource("a")}));
  event::Loop loop;
  ControlPlane control({.config_dir = dir / "conf", .listen = "0.0.0.0:0", .token_file = dir / "tokens"});
  const auto started = control.start(loop);
  ASSERT_TRUE(started) << started.error().detail;
  port = *started;
  for (int i = 0; i < 100; ++i) ASSERT_EQ(outcome({.token = kOther}), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(outcome({.token = kToken}), grpc::StatusCode::OK);
  control.stop();
  const std::string log = testing::internal::GetCapturedStderr();
  size_t lines = 0;
  for (size_t at = 0; (at = log.find("an unknown bearer token", at)) != std::string::npos; ++at) ++lines;
  EXPECT_GE(lines, 10u) << log;
  EXPECT_LT(lines, 60u) << log;
  EXPECT_NE(log.find("is plain text and no loopback address: who is on the way can read the tokens"), std::string::npos)
      << log;
  for (const std::string& secret : {kToken, kOther}) EXPECT_EQ(log.find(secret), std::string::npos) << log;

  ControlPlane bad({.config_dir = dir / "conf", .listen = "127.0.0.1:0", .token_file = dir / "nothing"});
  EXPECT_FALSE(bad.start(loop));
  ControlPlane worse({.config_dir = dir / "conf",
                      .listen = "127.0.0.1:0",
                      .server = {.tls = {.certificate_file = dir / "nothing", .key_file = dir / "nothing"}}});
  EXPECT_FALSE(worse.start(loop));
}

}  // namespace
}  // namespace outrigger::control
