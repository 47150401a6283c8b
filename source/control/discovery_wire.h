// Discovery messages of the server's side as bytes.
//
// Thread rule: pure functions.
// Use:  auto request = decode_request(bytes, incremental);   std::string out = encode_reply(reply, identifier,
// incremental);
#pragma once

#include <string>
#include <string_view>

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
// A DiscoveryResponse or DeltaDiscoveryResponse.
std::string encode_reply(const DiscoveryReply& reply, const std::string& identifier, bool incremental);

}  // namespace outrigger::control
