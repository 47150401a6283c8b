// What is to be known of gRPC over HTTP (PROTOCOL-HTTP2.md and http-grpc-status-mapping.md of the gRPC project): which
// messages are gRPC's, statuses and their names, deadlines, messages as header values.
//
// Thread rule: pure functions.
// Use:  if (is_grpc(headers.get(HeaderId::kContentType))) grpc_status_of_http(503);   // 14, UNAVAILABLE
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "outrigger/header_map.h"

namespace outrigger {

enum GrpcStatus : uint32_t {
  kGrpcOk = 0,
  kGrpcCancelled = 1,
  kGrpcUnknown = 2,
  kGrpcDeadlineExceeded = 4,
  kGrpcPermissionDenied = 7,
  kGrpcResourceExhausted = 8,
  kGrpcUnimplemented = 12,
  kGrpcInternal = 13,
  kGrpcUnavailable = 14,
  kGrpcUnauthenticated = 16,
};

// "application/grpc", alone or with "+proto" or the like; "application/grpc-web" is something else.
bool is_grpc(std::string_view content_type);
// What a client makes of an answer that is not gRPC's.
uint32_t grpc_status_of_http(uint16_t status);
// The status in a head or trailer section; none if there is no grpc-status or it is no number.
std::optional<uint32_t> grpc_status_of(const HeaderMap& headers);
// As the access log has it: of the trailers, the head, or what the HTTP status stands for.
uint32_t grpc_status_of_response(const HeaderMap* head, const HeaderMap* trailers, uint16_t http_status);

// "DeadlineExceeded", "DEADLINE_EXCEEDED"; empty: no such status.
std::string_view grpc_status_camel(uint32_t status);
std::string_view grpc_status_snake(uint32_t status);

// The client's deadline in milliseconds, rounded up; none if there is no well-formed grpc-timeout.
std::optional<uint64_t> grpc_timeout_ms(const HeaderMap& request);
// Sets grpc-timeout.
void set_grpc_timeout(HeaderMap& request, uint64_t ms);

// `message` as grpc-message takes it: what is not printable ASCII, and '%', becomes %XX. In `arena`; data() == nullptr:
// that is full.
std::string_view grpc_message(std::string_view message, Arena& arena);

}  // namespace outrigger
