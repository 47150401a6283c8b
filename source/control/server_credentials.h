// What the discovery port asks of a connection: plain text, or TLS with or without certificates of the clients.
//
// Thread rule: pure functions; the credentials read their files again on a thread of gRPC's.
// Use:  TRY(auto credentials, server_credentials(options.tls));  builder.AddListeningPort(address, credentials, &port);
#pragma once

#include <memory>

#include "outrigger/control/ads_server.h"
#include "outrigger/result.h"

namespace grpc {
class ServerCredentials;
}

namespace outrigger::control {

// Refused with file and reason: what does not parse, a key that is not the certificate's, a certificate that has ended
// or has not begun, one file without the other.
Result<void> check_server_tls(const ServerTls& tls);

Result<std::shared_ptr<grpc::ServerCredentials>> server_credentials(const ServerTls& tls);

}  // namespace outrigger::control
