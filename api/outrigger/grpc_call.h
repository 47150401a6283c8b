// GrpcCall: a gRPC call that a filter makes to a service behind a named cluster (an authorisation or rate-limit
// service, say): over the cluster's own pools, so that it has its load balancing, TLS, circuit breakers and metrics.
// Any kind of call: messages go and come until either side ends it.
//
//   begun --send()...--> half-closed --the service's status--> ended: on_end, once and last
//   The deadline, a failure, a message beyond the limit: on_end with that status, and the stream is reset.
//   cancel(), or the end of the filter's stream: nothing is called any more.
//
// Thread rule: the stream's worker. A call must not be touched after on_end or cancel(), nor after the stream's end.
// Use:  call_ = stream_.begin_call("authz", *this, {.path = "/envoy.service.auth.v3.Authorization/Check"});
//       call_->send(std::move(message), true);   return Verdict::kPause;
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "outrigger/buffer.h"

namespace outrigger {

class GrpcCallHandler {
 public:
  // A message of the service's, whole and without its frame; take it by moving. Calls may be made on the GrpcCall.
  virtual void on_message(Buffer& message) = 0;
  // The call is over: a status of gRPC's, and what was said of it, as it came (percent-encoded).
  virtual void on_end(uint32_t status, std::string_view message) = 0;

 protected:
  ~GrpcCallHandler() = default;
};

struct GrpcCallOptions {
  std::string_view path;                       // "/package.Service/Method"
  std::string_view authority = {};             // empty: the cluster's name
  uint64_t timeout_ms = 0;                     // the deadline, told to the service as well; 0: none
  size_t max_message_bytes = 4 * 1024 * 1024;  // of the service's messages
  // More headers, in lower case.
  std::vector<std::pair<std::string_view, std::string_view>> metadata = {};
};

// One concrete class, implemented by proxy::GrpcCall.
class GrpcCall {
 public:
  // A message; with `last` none follows. Empty ones are messages too.
  void send(Buffer&& message, bool last);
  void end();  // none follows
  void cancel();
  // Bytes that wait for the service: who sends many messages stops above a limit of their own.
  size_t write_queue_bytes() const;

 protected:
  GrpcCall() = default;
  ~GrpcCall() = default;
};

}  // namespace outrigger
