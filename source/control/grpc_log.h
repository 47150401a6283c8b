// What gRPC itself has to say (failed handshakes, ports that are taken), as lines of our log; bounded, since a client
// can cause as many as it likes.
//
// Thread rule: once, before gRPC is used.
// Use:  take_over_grpc_log();
#pragma once

namespace outrigger::control {

void take_over_grpc_log();

}  // namespace outrigger::control
