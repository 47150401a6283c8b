// The discovery protocol as plain values: what travels, without protobuf or gRPC. xds::Type has the order of
// config::ResourceType, so a static_cast translates between the two; xds itself knows nothing of what resources mean.
//
// Thread rule: values.
// Use:  std::optional<Type> type = find_type(response.type_url);   std::string_view url = type_url(Type::kCluster);
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace outrigger::xds {

enum class Type : uint8_t { kListener, kRouteTable, kCluster, kEndpoints, kSecret };
inline constexpr size_t kTypeCount = 5;

std::string_view type_url(Type type);    // "type.googleapis.com/envoy.config.listener.v3.Listener", ...
std::string_view short_name(Type type);  // "lds", "rds", "cds", "eds", "sds"
std::optional<Type> find_type(std::string_view type_url);
// The gRPC method of a discovery stream: of the type's own service, or of the aggregated one.
// "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters"
std::string stream_method(std::optional<Type> only, bool incremental);
// In state-of-the-world, LDS and CDS responses are the whole set (what is absent is deleted); the others are not.
inline bool is_full_set(Type type) { return type == Type::kListener || type == Type::kCluster; }

// What we want of one type. Wildcard is for LDS and CDS: whatever the server has for this node, and `names` besides.
struct Subscription {
  bool wildcard = false;
  std::vector<std::string> names;  // sorted and unique once inside the machine
  bool operator==(const Subscription&) const = default;
};

struct Resource {
  std::string name;        // known if the server wrapped the resource (envoy.service.discovery.v3.Resource); else empty
  std::string version;     // likewise
  std::string type_url;    // of `bytes`, after unwrapping
  std::string bytes;       // the serialised message
  uint64_t ttl_ms = 0;     // 0: none
  bool heartbeat = false;  // no message: the resource is there unchanged, and this is its ttl now
};

// A DiscoveryResponse or DeltaDiscoveryResponse.
struct Response {
  std::string version;
  std::string type_url;
  std::string nonce;
  std::vector<Resource> resources;
  std::vector<std::string> removed;  // delta only
  std::string control_plane;         // identifier, for people
  uint64_t hash = 0;                 // fingerprint(), if it was made where the response was decoded; 0: it was not
};

// A DiscoveryRequest or DeltaDiscoveryRequest.
struct Request {
  Type type = Type::kListener;
  std::string version;             // state of the world: the last accepted one
  std::vector<std::string> names;  // state of the world; empty: wildcard (LDS, CDS), or nothing any more
  std::vector<std::string> subscribe, unsubscribe;        // incremental
  std::vector<std::pair<std::string, std::string>> held;  // incremental: names and versions that we have
  std::string nonce;
  std::string error_detail;  // not empty: a NACK
  bool with_node = false;
};

// A response that waits for a verdict.
struct Update {
  uint64_t id = 0;  // what verdict() names; unique for the life of the client, unlike nonces. 0: no verdict is needed
  Type type = Type::kListener;
  std::string version;
  std::string nonce;
  bool full_set = false;  // what `resources` lacks is deleted
  std::vector<Resource> resources;
  std::vector<std::string> kept;  // there and unchanged (heartbeats)
  std::vector<std::string> removed;
  std::string scope;  // for who hands it on: which source's names these are; the client leaves it empty
};

// What became of an update. No faults: accepted. `refused`: the names of the resources that were not taken.
struct Verdict {
  std::vector<std::string> faults, refused;
};

}  // namespace outrigger::xds
