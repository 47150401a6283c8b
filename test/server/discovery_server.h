// DiscoveryServer: a control plane for tests: every discovery method over real gRPC, plain or TLS, in both forms of the
// protocol. It serves what the test sets and tells what it was asked.
//
// Thread rule: any thread.
// Use:  DiscoveryServer server;  server.set(url, "1", {{"a", bytes}});
//       wait_until([&] { return
//       !server.asked("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters").empty(); });
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger::test {

// One request.
struct Asked {
  std::string method;
  uint64_t stream = 0;  // counts the server's streams, from 1
  std::string type_url;
  std::vector<std::string> names;           // asked for; incremental: subscribed to
  std::string version;                      // state of the world
  std::map<std::string, std::string> held;  // incremental: initial_resource_versions
  std::string nonce;
  std::string error;                            // of a NACK
  std::string node;                             // serialised envoy.config.core.v3.Node; empty: none was sent
  std::map<std::string, std::string> metadata;  // of the call
  std::string client;                           // name in its certificate, as gRPC tells it; empty: none
};

struct DiscoveryServerOptions {
  uint16_t port = 0;
  bool silent = false;  // never answers
  // PEM. Not empty: TLS; `client_ca`: and a client certificate that it signed is required.
  std::string certificate, private_key, client_ca;
  std::string token;  // what "authorization" must be; else the call ends as UNAUTHENTICATED
};

class DiscoveryServer {
 public:
  using Resources = std::map<std::string, std::string>;  // name to serialised message

  explicit DiscoveryServer(DiscoveryServerOptions options = {});
  ~DiscoveryServer();  // stop()
  DiscoveryServer(const DiscoveryServer&) = delete;
  DiscoveryServer& operator=(const DiscoveryServer&) = delete;

  uint16_t port() const;
  // Replaces all of a type and pushes it to the streams that ask for it.
  void set(std::string_view type_url, const std::string& version, Resources resources);
  // What came by that method (all methods: empty), in order.
  std::vector<Asked> asked(std::string_view method = {}) const;
  size_t open_streams(std::string_view method = {}) const;
  // Cuts every stream and closes the port.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace outrigger::test
