// What only HTTP/1.1's form of the WebSocket handshake has (RFC 6455 section 4), made where one side speaks HTTP/2 (RFC
// 8441 has no such fields).
//
// Thread rule: pure functions of the stream's worker.
// Use:  add_websocket_key(request, loop);   add_websocket_accept(response, request.get("sec-websocket-key"));
#pragma once

#include <string_view>

#include "event/loop.h"
#include "outrigger/header_map.h"

namespace outrigger::proxy {

bool is_websocket(std::string_view upgrade);
// Adds sec-websocket-key and sec-websocket-version where they are missing.
void add_websocket_key(HeaderMap& request, event::Loop& loop);
// Adds sec-websocket-accept for the client's key, if the response has none.
void add_websocket_accept(HeaderMap& response, std::string_view key);

}  // namespace outrigger::proxy
