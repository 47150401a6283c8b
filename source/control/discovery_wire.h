// Discovery messages of the server's side as bytes.
//
// Thread rule: pure functions.
// A response is two texts, one after the other: what is this stream's, and the resources, which many streams may share.
// Use:  auto request = decode_request(bytes, incremental);
//       std::string out = encode_envelope(reply, id, incremental) + encode_resources(reply.resources, incremental);
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/ads_session.h"
#include "outrigger/result.h"

namespace outrigger::control {

struct DecodedRequest {
  DiscoveryRequest request;
  bool has_node = false;
  std::string node_id, node_cluster, user_agent;
  std::vector<NodeMetadata> metadata;
};

// A DiscoveryRequest or DeltaDiscoveryRequest. kProtocol: malformed, or without a type.
Result<DecodedRequest> decode_request(std::string_view bytes, bool incremental);
// A DiscoveryResponse or DeltaDiscoveryResponse: all but its resources, and these.
std::string encode_envelope(const DiscoveryReply& reply, const std::string& identifier, bool incremental);
std::string encode_resources(const std::vector<ResourcePtr>& resources, bool incremental);

// The resources of whole sets as texts: encoded once, for as long as the set lives. Any thread.
class EncodedSets {
 public:
  std::shared_ptr<const std::string> get(const std::shared_ptr<const TypeSet>& set, bool incremental);

 private:
  struct Text {
    std::weak_ptr<const TypeSet> of;
    std::shared_ptr<const std::string> text;
  };
  std::mutex mutex_;
  std::map<std::pair<const TypeSet*, bool>, Text> texts_;
};

}  // namespace outrigger::control
