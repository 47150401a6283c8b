// Certificates in files that change while the proxy runs.
#include <filesystem>

#include "running_server.h"
#include "support/certificates.h"
#include "support/temp_dir.h"
#include "support/tls_tunnel.h"

namespace outrigger::server {
namespace {

using test::Certificate;
using test::CertificateAuthority;
using test::Socket;
using test::TlsTunnel;

class TlsRotation : public ::testing::Test {
 protected:
  // A listener whose certificates are in `directory`.
  std::string config(const std::string& directory) const {
    std::string listener = listener_yaml("main", direct_response("hello"));
    const std::string tls =
        "transport_socket: {name: tls, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: "
        "{tls_certificates: [{certificate_chain: {filename: \"" +
        directory + "/tls.crt\"}, private_key: {filename: \"" + directory + "/tls.key\"}}]}}}, ";
    listener.insert(listener.find("filters:"), tls);
    return bootstrap({listener});
  }
  static void write(const std::string& directory, const Certificate& certificate) {
    test::write_file(directory + "/tls.crt", certificate.pem);
    test::write_file(directory + "/tls.key", certificate.private_key);
  }
  static bool believes(RunningServer& proxy, const CertificateAuthority& authority) {
    return TlsTunnel(Socket::connect(proxy.port("main")), {.trusted = authority.pem()}).open();
  }

  test::TempDir dir_;
  CertificateAuthority old_{"old"}, new_{"new"};
};

TEST_F(TlsRotation, NewHandshakesGetTheNewCertificateAndNoConnectionEnds) {
  write(dir_.path().string(), old_.issue("a"));
  RunningServer proxy(config(dir_.path().string()));
  ASSERT_TRUE(proxy.live());
  TlsTunnel tunnel(Socket::connect(proxy.port("main")), {.trusted = old_.pem()});
  ASSERT_TRUE(tunnel.open()) << tunnel.error();
  test::HttpClient client(tunnel.plain());
  EXPECT_EQ(client.get("/").body, "hello");
  const Certificate fresh = new_.issue("a");
  test::write_file(dir_ / "tls.crt", fresh.pem);  // without its key: not yet
  EXPECT_TRUE(test::wait_until([&] { return proxy->stats().value("file_source.update_rejected") >= 1; }));
  EXPECT_TRUE(believes(proxy, old_));
  test::write_file(dir_ / "tls.key", fresh.private_key);
  EXPECT_TRUE(test::wait_until([&] { return believes(proxy, new_); }));
  const test::HttpMessage answer = client.get("/");
  EXPECT_EQ(answer.body, "hello");
  EXPECT_FALSE(answer.header("connection"));
}

TEST_F(TlsRotation, AMountIsSwappedAsKubernetesDoes) {
  namespace fs = std::filesystem;
  const fs::path mount = dir_.path() / "mount";
  for (const char* version : {"..1", "..2"}) fs::create_directories(mount / version);
  write((mount / "..1").string(), old_.issue("a"));
  write((mount / "..2").string(), new_.issue("a"));
  fs::create_symlink("..1", mount / "..data");
  for (const char* name : {"tls.crt", "tls.key"}) fs::create_symlink(fs::path("..data") / name, mount / name);
  RunningServer proxy(config(mount.string()));
  ASSERT_TRUE(proxy.live());
  EXPECT_TRUE(believes(proxy, old_));
  fs::create_symlink("..2", mount / "..data_tmp");
  fs::rename(mount / "..data_tmp", mount / "..data");
  EXPECT_TRUE(test::wait_until([&] { return believes(proxy, new_); }));
  EXPECT_EQ(proxy->stats().value("file_source.update_rejected"), 0u);
}

TEST_F(TlsRotation, WhatIsNoGoodKeepsTheLastGoodOne) {
  write(dir_.path().string(), old_.issue("a"));
  RunningServer proxy(config(dir_.path().string()));
  ASSERT_TRUE(proxy.live());
  uint64_t rejected = 0;
  for (const std::string& text : {std::string("garbage"), old_.issue("a", {}, {.valid_until_s = -60}).pem}) {
    test::write_file(dir_ / "tls.crt", text);
    ++rejected;
    EXPECT_TRUE(test::wait_until([&] { return proxy->stats().value("file_source.update_rejected") >= rejected; }));
    EXPECT_TRUE(believes(proxy, old_));
  }
  std::filesystem::remove(dir_.path() / "tls.crt");
  EXPECT_TRUE(test::wait_until([&] { return proxy->stats().value("file_source.update_rejected") >= rejected + 1; }));
  EXPECT_TRUE(believes(proxy, old_));
  write(dir_.path().string(), new_.issue("a"));
  EXPECT_TRUE(test::wait_until([&] { return believes(proxy, new_); }));
}

}  // namespace
}  // namespace outrigger::server
