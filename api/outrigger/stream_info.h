// StreamInfo: what is known of one request: for filters, access logs and `explain`. Times are steady-clock nanoseconds
// (event::Loop::now_ns); 0 means "has not happened".
//
// Thread rule: the stream's worker.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "outrigger/metadata.h"
#include "outrigger/tls_info.h"

namespace outrigger {

// Envoy's response flags; the letters are %RESPONSE_FLAGS%. X(name, bit, short, long)
#define OUTRIGGER_RESPONSE_FLAGS(X)                                                    \
  X(FailedLocalHealthCheck, 0, "LH", "FailedLocalHealthCheck")                         \
  X(NoHealthyUpstream, 1, "UH", "NoHealthyUpstream")                                   \
  X(UpstreamRequestTimeout, 2, "UT", "UpstreamRequestTimeout")                         \
  X(LocalReset, 3, "LR", "LocalReset")                                                 \
  X(UpstreamRemoteReset, 4, "UR", "UpstreamRemoteReset")                               \
  X(UpstreamConnectionFailure, 5, "UF", "UpstreamConnectionFailure")                   \
  X(UpstreamConnectionTermination, 6, "UC", "UpstreamConnectionTermination")           \
  X(UpstreamOverflow, 7, "UO", "UpstreamOverflow")                                     \
  X(NoRouteFound, 8, "NR", "NoRouteFound")                                             \
  X(DelayInjected, 9, "DI", "DelayInjected")                                           \
  X(FaultInjected, 10, "FI", "FaultInjected")                                          \
  X(RateLimited, 11, "RL", "RateLimited")                                              \
  X(UnauthorizedExternalService, 12, "UAEX", "UnauthorizedExternalService")            \
  X(DownstreamConnectionTermination, 13, "DC", "DownstreamConnectionTermination")      \
  X(UpstreamRetryLimitExceeded, 14, "URX", "UpstreamRetryLimitExceeded")               \
  X(StreamIdleTimeout, 15, "SI", "StreamIdleTimeout")                                  \
  X(DownstreamProtocolError, 16, "DPE", "DownstreamProtocolError")                     \
  X(UpstreamProtocolError, 17, "UPE", "UpstreamProtocolError")                         \
  X(UpstreamMaxStreamDurationReached, 18, "UMSDR", "UpstreamMaxStreamDurationReached") \
  X(NoClusterFound, 19, "NC", "NoClusterFound")                                        \
  X(OverloadManager, 20, "OM", "OverloadManagerTerminated")                            \
  X(DurationTimeout, 21, "DT", "DurationTimeout")

enum class ResponseFlag : uint32_t {
#define OUTRIGGER_FLAG(name, bit, s, l) k##name = 1u << bit,
  OUTRIGGER_RESPONSE_FLAGS(OUTRIGGER_FLAG)
#undef OUTRIGGER_FLAG
};

enum class Protocol : uint8_t { kHttp10, kHttp11, kHttp2, kNone };  // kNone: bytes, not HTTP

struct StreamInfo {
  uint64_t snapshot_version = 0;
  uint32_t response_flags = 0;  // ResponseFlag bits
  uint16_t response_code = 0;
  Protocol protocol = Protocol::kHttp11;

  int64_t start_time_unix_us = 0;  // wall clock at the first byte, for logs
  int64_t start_ns = 0;            // head complete
  int64_t request_end_ns = 0;      // last request byte received
  int64_t upstream_first_byte_ns = 0;
  int64_t upstream_last_byte_ns = 0;
  int64_t response_first_byte_ns = 0;  // first response byte given to the downstream codec
  int64_t end_ns = 0;

  uint64_t request_bytes = 0;   // body bytes received
  uint64_t response_bytes = 0;  // body bytes sent
  uint64_t connection_id = 0;
  uint32_t upstream_attempts = 0;

  // Views: valid as long as the stream.
  std::string_view request_id;
  std::string_view route_name;
  std::string_view virtual_host;
  std::string_view cluster;
  std::string_view upstream_host;            // "ip:port"; of several addresses the host's main one
  std::string_view upstream_remote_address;  // of the connection to it
  std::string_view upstream_local_address;
  std::string_view downstream_remote_address;         // after trusting x-forwarded-for as configured; "ip:port"
  std::string_view downstream_direct_remote_address;  // the peer of the connection
  std::string_view downstream_local_address;
  std::string_view upstream_transport_failure;  // why TLS with an upstream failed
  const TlsInfo* downstream_tls = nullptr;      // nullptr: plain
  std::string_view response_code_details;       // static text, Envoy's %RESPONSE_CODE_DETAILS%
  const Metadata* dynamic_metadata = nullptr;   // what a filter says of the request; part of its config
  std::string_view client_name;                 // who the request was authenticated as by a filter; empty: nobody

  void set(ResponseFlag flag) { response_flags |= static_cast<uint32_t>(flag); }
  bool has(ResponseFlag flag) const { return (response_flags & static_cast<uint32_t>(flag)) != 0; }
};

}  // namespace outrigger
