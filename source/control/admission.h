// Admission: whether a call is taken: its bearer token, and how many streams there are. Of every service on the port.
//
// Thread rule: any thread.
// Use:  if (!admission.admit(*context)) return refusal;
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "outrigger/control/ads_server.h"

namespace grpc {
class ServerContextBase;
}

namespace outrigger::control {

class Admission {
 public:
  // The options must outlive it.
  explicit Admission(const AdsServerOptions& options) : options_(options) {}

  // False: the call has no token that is good. Counted and told.
  bool admit(const grpc::ServerContextBase& context);
  // The same of a call that has been admitted by this token.
  bool admit_again(std::string_view token, const std::string& peer);
  // "" if there is none, or if there are two.
  static std::string_view bearer_token(const grpc::ServerContextBase& context);
  // There are too many streams.
  void refuse_stream(const std::string& peer);

  uint64_t unauthenticated() const { return unauthenticated_; }
  uint64_t over_limit() const { return over_limit_; }

 private:
  bool is_good(std::string_view token) const { return !options_.token_ok || options_.token_ok(token); }
  void tell(const std::string& peer, std::string_view reason);
  const AdsServerOptions& options_;
  std::atomic<uint64_t> unauthenticated_ = 0, over_limit_ = 0;
};

}  // namespace outrigger::control
