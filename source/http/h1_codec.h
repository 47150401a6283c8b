// The HTTP/1.1 codecs. See codec.h for the seam, h1_server_codec.h and h1_client_codec.h for their states, h1_parser.h
// for the parser below. The connection must outlive the codec; on_close() comes before it goes.
//
// Thread rule: the connection's loop thread.
#pragma once

#include <memory>

#include "http/codec.h"

namespace outrigger::http {

std::unique_ptr<Codec> make_h1_server_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H1Options& options);
std::unique_ptr<Codec> make_h1_client_codec(net::Connection& connection, CodecCallbacks& owner,
                                            const H1Options& options);

}  // namespace outrigger::http
