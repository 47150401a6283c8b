// Upgrades: who may have one; and what only HTTP/1.1's form of the WebSocket handshake has (RFC 6455 section 4), made
// where one side speaks HTTP/2 (RFC 8441 has no such fields).
//
// Thread rule: pure functions of the stream's worker.
// Use:  add_websocket_key(request, loop);   add_websocket_accept(response, request.get("sec-websocket-key"));
#pragma once

#include <string_view>

#include "config/spec.h"
#include "event/loop.h"
#include "outrigger/header_map.h"
#include "route/route_table.h"

namespace outrigger::proxy {

// Whether upgrade_configs let `wanted` (the upgrade header, or "connect") through: the route's list before the
// listener's, as Envoy.
bool upgrade_listed(std::string_view wanted, const route::Match& match, const config::HcmSpec& hcm);

bool is_websocket(std::string_view upgrade);
// Adds sec-websocket-key and sec-websocket-version where they are missing.
void add_websocket_key(HeaderMap& request, event::Loop& loop);
// Adds sec-websocket-accept for the client's key, if the response has none.
void add_websocket_accept(HeaderMap& response, std::string_view key);

}  // namespace outrigger::proxy
