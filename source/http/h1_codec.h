// The HTTP/1.1 codecs. See codec.h for the seam, h1_parser.h for the parser below, source/docs/request.md for the states.
//
// Thread rule: the connection's loop thread.
#pragma once

#include <memory>

#include "http/codec.h"

namespace outrigger::http {

std::unique_ptr<Codec> make_h1_server_codec(net::Connection& connection, CodecCallbacks& owner, const H1Options& options);
std::unique_ptr<Codec> make_h1_client_codec(net::Connection& connection, CodecCallbacks& owner, const H1Options& options);

// When the first byte of the request being read arrived, and whether a head is incomplete: for the request-headers timeout.
// (server codecs only)
bool h1_head_incomplete(const Codec& codec);

}  // namespace outrigger::http
