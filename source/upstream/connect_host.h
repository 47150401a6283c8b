// connect_host: a connection to a host of a cluster, made as the cluster says. Of a host with several addresses the one
// that answers first is taken.
//
// Thread rule: the loop's thread.
// Use:  connection = connect_host(loop, *host, addresses.get(), spec, handler, tls->client_session(host->hostname,
// ...));
#pragma once

#include "net/connection.h"
#include "upstream/host.h"

namespace outrigger::upstream {

// What a cluster asks of its connections. It must outlive the call that gets it.
inline net::ConnectionOptions connection_options(const config::ClusterSpec& spec) {
  return {.write_high_watermark = spec.per_connection_buffer_limit_bytes,
          .connect_timeout_ms = spec.connect_timeout_ms,
          .socket_options = spec.socket_options};
}

// `addresses`: of the host's entry; nullptr: the host's own.
inline net::Connection* connect_host(event::Loop& loop, const Host& host, const HostAddresses* addresses,
                                     const config::ClusterSpec& spec, net::ConnectionHandler& handler,
                                     net::TlsSessionPtr tls) {
  const net::ConnectionOptions options = connection_options(spec);
  if (addresses == nullptr) return net::Connection::connect(loop, host.address, handler, options, std::move(tls));
  return net::Connection::connect(loop, addresses->attempts, handler, options, std::move(tls));
}

}  // namespace outrigger::upstream
