// ScriptedAds: a discovery service that says just what a test tells it to, sense or nonsense, in either form of the
// protocol, and notes every request. What a control plane would say is decided above it (world_ads.h) or by the test.
//
// Thread rule: any thread; on_request runs on one of gRPC's, one call at a time for each stream, without a lock held.
// Use:  ScriptedAds ads({.incremental = true});  ProxyProcess proxy(ads_bootstrap(ads.port(), "DELTA_GRPC"));
//       ads.send({.type_url = url, .version = "1", .nonce = "n", .resources = {...}});
//       ASSERT_TRUE(ads.wait([](const auto& requests) { return requests.back().nonce == "n"; }));
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/wait.h"

namespace outrigger::test {

inline constexpr char kClusterUrl[] = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
inline constexpr char kEndpointsUrl[] = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
inline constexpr char kListenerUrl[] = "type.googleapis.com/envoy.config.listener.v3.Listener";
inline constexpr char kRoutesUrl[] = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

// A DiscoveryRequest or DeltaDiscoveryRequest.
struct AdsRequest {
  uint64_t stream = 0;  // from 1
  std::string type_url, version, nonce, error_detail, node_id;
  std::vector<std::string> names;           // incremental: subscribed to
  std::vector<std::string> unsubscribed;    // incremental
  std::map<std::string, std::string> held;  // incremental
  std::chrono::steady_clock::time_point at;
};

struct AdsResource {
  std::string type_url, name, version, bytes;
  bool operator==(const AdsResource&) const = default;
};

// A DiscoveryResponse or DeltaDiscoveryResponse.
struct AdsResponse {
  std::string type_url, version, nonce;
  std::vector<AdsResource> resources;
  std::vector<std::string> removed;  // incremental
};

class ScriptedAds;

struct ScriptedAdsOptions {
  bool incremental = false;
  uint16_t port = 0;
  std::function<void(ScriptedAds&, const AdsRequest&)> on_request = {};
};

class ScriptedAds {
 public:
  explicit ScriptedAds(ScriptedAdsOptions options);
  ~ScriptedAds();  // connections end
  ScriptedAds(const ScriptedAds&) = delete;
  ScriptedAds& operator=(const ScriptedAds&) = delete;

  bool incremental() const;
  uint16_t port() const;
  uint64_t streams() const;  // opened so far
  std::vector<AdsRequest> requests() const;
  // Waits until the condition holds of all requests so far, of all streams.
  bool wait(const std::function<bool(const std::vector<AdsRequest>&)>& condition,
            Milliseconds patience = kPatience) const;

  // On the newest stream; lost if there is none, or if `stream` (0: any) is another.
  void send(const AdsResponse& response, uint64_t stream = 0);
  void send_bytes(const std::string& bytes);
  // A message of so many zeros, which takes no memory here.
  void send_zeros(size_t bytes);
  // Ends the newest stream with a status of gRPC.
  void end_stream(int code, const std::string& message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::test
