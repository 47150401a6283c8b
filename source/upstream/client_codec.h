// make_client_codec: the codec of a connection to a host, with what the cluster asks of it.
//
// Thread rule: the connection's loop thread.
// Use:  codec_ = make_client_codec(http2, *connection_, *this, cluster.spec(), {stats.http2.get(), &shard});
#pragma once

#include <memory>

#include "config/spec.h"
#include "http/h2_codec.h"

namespace outrigger::upstream {

// `counting` is HTTP/2's.
std::unique_ptr<http::Codec> make_client_codec(bool http2, net::Connection& connection, http::CodecCallbacks& owner,
                                               const config::ClusterSpec& spec, http::H2Counting counting);

}  // namespace outrigger::upstream
