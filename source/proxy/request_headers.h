// What the connection manager does to the heads that pass it, as Envoy does: path normalisation, host clean-up,
// forwarding headers, request ids; and on the way back server, date and via.
//
// Thread rule: pure functions of the stream's worker.
// Use:  if (auto refused = prepare_request(headers, hcm, context); refused) reply(*refused);
#pragma once

#include <optional>

#include "config/spec.h"
#include "event/loop.h"
#include "net/address.h"
#include "outrigger/header_map.h"
#include "outrigger/stream_info.h"

namespace outrigger::proxy {

struct RequestContext {
  const net::Address& remote;  // the connection's peer
  std::string_view remote_ip;  // its text
  event::Loop& loop;
  const TlsInfo* tls = nullptr;  // nullptr: plain
};

struct Refused {
  uint16_t status;
  std::string_view details;
  std::string_view location = {};  // for redirects
};

// Whether the request came over TLS, as far as x-forwarded-proto is trusted; after prepare_request.
inline bool over_tls(const HeaderMap& headers) { return headers.get(HeaderId::kXForwardedProto) == "https"; }

// Edits a request's head and fills info.request_id and info.downstream_remote_address.
std::optional<Refused> prepare_request(HeaderMap& headers, const config::HcmSpec& hcm, const RequestContext& context,
                                       StreamInfo& info);

void prepare_response(HeaderMap& headers, const config::HcmSpec& hcm, std::string_view date, const StreamInfo& info);

// Path with dot segments resolved, backslashes turned and unreserved characters decoded; query kept. `path` itself if
// nothing had to change; data() == nullptr: not a path that can be normalised.
std::string_view normalize_path(std::string_view path, Arena& arena);
std::string_view merge_slashes(std::string_view path, Arena& arena);
// Loopback, RFC 1918, link-local, unique local; or one of `cidrs` when there are any.
bool is_internal(const net::Address& address, const std::vector<config::CidrSpec>& cidrs);

}  // namespace outrigger::proxy
