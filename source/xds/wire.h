// Discovery messages as bytes: the only place of this room that touches protobuf.
//
// Thread rule: pure functions.
// Use:  std::string bytes = encode_request(request, node_bytes);   Result<Response> r = decode_response(message_bytes);
#pragma once

#include <string>
#include <string_view>

#include "outrigger/result.h"
#include "xds/types.h"

namespace outrigger::xds {

// What a NACK says at most, so that it stays below a stock server's receive limit of 4 MB; the rest is cut, and said
// so.
inline constexpr size_t kMaxErrorDetailBytes = 256 << 10;

// A DiscoveryRequest; `node`: serialised envoy.config.core.v3.Node, put in if request.with_node. A NACK has code
// INVALID_ARGUMENT. Bytes that are not UTF-8 in error_detail become '?'.
std::string encode_request(const Request& request, std::string_view node);

// A DeltaDiscoveryRequest, likewise.
std::string encode_delta_request(const Request& request, std::string_view node);

// A DiscoveryResponse, resources that are wrapped (envoy.service.discovery.v3.Resource) unwrapped. kProtocol:
// malformed.
Result<Response> decode_response(std::string_view bytes);
// A DeltaDiscoveryResponse.
Result<Response> decode_delta_response(std::string_view bytes);

}  // namespace outrigger::xds
