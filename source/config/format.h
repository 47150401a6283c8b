// Substitution format strings ("%REQ(:METHOD)% %RESPONSE_CODE%"): the parser that header mutations and access logs
// share. Parsed once, on the builder thread; the evaluators walk the operators per request.
//
// Grammar (Envoy's): literal text; "%%" is one percent sign; a command is %NAME%, %NAME(ARGUMENT)% or either with
// ":LENGTH" before the closing percent sign, which truncates the value to so many bytes. ARGUMENT ends at the first
// ")".
//
// Thread rule: values.
// Use:  TRY(auto operators, parse_format("%REQ(X-A?:PATH):10%\n"));
//       for (const FormatOperator& op : operators) switch (op.kind) { case FormatOperator::Kind::kText: out += op.arg;
//       ... }
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/result.h"

namespace outrigger::config {

// X(kind, command, argument), argument: N none, H "header?alternative" (required), T strftime format (optional),
// G CAMEL_STRING, SNAKE_STRING or NUMBER (optional), M "NAMESPACE:KEY:KEY..." of metadata (required; keys are
// optional), S the same with the source before it: "SOURCE:NAMESPACE:KEY...".
#define OUTRIGGER_FORMAT_COMMANDS(X)                                                              \
  X(StartTime, "START_TIME", T)                                                                   \
  X(Req, "REQ", H)                                                                                \
  X(Resp, "RESP", H)                                                                              \
  X(Trailer, "TRAILER", H)                                                                        \
  X(GrpcStatus, "GRPC_STATUS", G)                                                                 \
  X(GrpcStatusNumber, "GRPC_STATUS_NUMBER", N)                                                    \
  X(Protocol, "PROTOCOL", N)                                                                      \
  X(ResponseCode, "RESPONSE_CODE", N)                                                             \
  X(ResponseCodeDetails, "RESPONSE_CODE_DETAILS", N)                                              \
  X(ResponseFlags, "RESPONSE_FLAGS", N)                                                           \
  X(ResponseFlagsLong, "RESPONSE_FLAGS_LONG", N)                                                  \
  X(BytesReceived, "BYTES_RECEIVED", N)                                                           \
  X(BytesSent, "BYTES_SENT", N)                                                                   \
  X(Duration, "DURATION", N)                                                                      \
  X(RequestDuration, "REQUEST_DURATION", N)                                                       \
  X(ResponseDuration, "RESPONSE_DURATION", N)                                                     \
  X(UpstreamHost, "UPSTREAM_HOST", N)                                                             \
  X(UpstreamCluster, "UPSTREAM_CLUSTER", N)                                                       \
  X(UpstreamRemoteAddress, "UPSTREAM_REMOTE_ADDRESS", N)                                          \
  X(UpstreamRemoteAddressWithoutPort, "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", N)                  \
  X(UpstreamLocalAddress, "UPSTREAM_LOCAL_ADDRESS", N)                                            \
  X(UpstreamRequestAttemptCount, "UPSTREAM_REQUEST_ATTEMPT_COUNT", N)                             \
  X(DownstreamRemoteAddress, "DOWNSTREAM_REMOTE_ADDRESS", N)                                      \
  X(DownstreamRemoteAddressWithoutPort, "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", N)              \
  X(DownstreamDirectRemoteAddress, "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", N)                         \
  X(DownstreamDirectRemoteAddressWithoutPort, "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", N) \
  X(DownstreamLocalAddress, "DOWNSTREAM_LOCAL_ADDRESS", N)                                        \
  X(DownstreamLocalAddressWithoutPort, "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", N)                \
  X(RouteName, "ROUTE_NAME", N)                                                                   \
  X(RequestedServerName, "REQUESTED_SERVER_NAME", N)                                              \
  X(DownstreamTlsVersion, "DOWNSTREAM_TLS_VERSION", N)                                            \
  X(DownstreamTlsCipher, "DOWNSTREAM_TLS_CIPHER", N)                                              \
  X(DownstreamPeerSubject, "DOWNSTREAM_PEER_SUBJECT", N)                                          \
  X(DownstreamPeerIssuer, "DOWNSTREAM_PEER_ISSUER", N)                                            \
  X(DownstreamPeerUriSan, "DOWNSTREAM_PEER_URI_SAN", N)                                           \
  X(DownstreamPeerDnsSan, "DOWNSTREAM_PEER_DNS_SAN", N)                                           \
  X(DownstreamPeerSerial, "DOWNSTREAM_PEER_SERIAL", N)                                            \
  X(DownstreamPeerFingerprint256, "DOWNSTREAM_PEER_FINGERPRINT_256", N)                           \
  X(DownstreamLocalSubject, "DOWNSTREAM_LOCAL_SUBJECT", N)                                        \
  X(DownstreamLocalUriSan, "DOWNSTREAM_LOCAL_URI_SAN", N)                                         \
  X(UpstreamTransportFailureReason, "UPSTREAM_TRANSPORT_FAILURE_REASON", N)                       \
  X(ConnectionId, "CONNECTION_ID", N)                                                             \
  X(Hostname, "HOSTNAME", N)                                                                      \
  X(UniqueId, "UNIQUE_ID", N)                                                                     \
  X(StreamId, "STREAM_ID", N)                                                                     \
  X(Metadata, "METADATA", S)                                                                      \
  X(DynamicMetadata, "DYNAMIC_METADATA", M)                                                       \
  X(ClusterMetadata, "CLUSTER_METADATA", M)                                                       \
  X(UpstreamMetadata, "UPSTREAM_METADATA", M)                                                     \
  X(ConfigVersion, "OUTRIGGER_CONFIG_VERSION", N)                                                 \
  X(ClientName, "OUTRIGGER_CLIENT_NAME", N)

struct FormatOperator {
  enum class Kind : uint8_t {
    kText,
#define OUTRIGGER_FORMAT_KIND(kind, command, argument) k##kind,
    OUTRIGGER_FORMAT_COMMANDS(OUTRIGGER_FORMAT_KIND)
#undef OUTRIGGER_FORMAT_KIND
  };
  static constexpr uint32_t kNoLimit = UINT32_MAX;
  // Whose metadata; the first word of %METADATA%.
  enum class Source : uint8_t { kDynamic, kCluster, kRoute, kUpstreamHost, kListener, kVirtualHost };

  Kind kind = Kind::kText;
  std::string arg;  // kText: the text; kReq, kResp, kTrailer: lower-case header name; kStartTime: format or "";
                    // kGrpcStatus: as written
  std::string alt;  // kReq, kResp, kTrailer: lower-case header to use when the first is absent, or ""
  uint32_t max_len = kNoLimit;         // bytes of the value to keep
  Source source = Source::kDynamic;    // of the metadata commands
  std::vector<std::string> path = {};  // likewise: the namespace, then the keys; empty: it is none of them
  bool operator==(const FormatOperator&) const = default;
};

// The operators in order, neighbouring text merged ("" gives none). The error's detail says where and what is allowed.
Result<std::vector<FormatOperator>> parse_format(std::string_view text);

// Envoy's default access log line, newline included.
extern const std::string_view kDefaultAccessLogFormat;

}  // namespace outrigger::config
