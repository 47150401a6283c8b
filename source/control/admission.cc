#include "control/admission.h"

#include <grpcpp/grpcpp.h>
#include <strings.h>

namespace outrigger::control {

std::string_view Admission::bearer_token(const grpc::ServerContextBase& context) {
  constexpr std::string_view kScheme = "bearer ";
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  if (begin == end || std::next(begin) != end) return {};
  std::string_view value(begin->second.data(), begin->second.size());
  if (value.size() < kScheme.size() || strncasecmp(value.data(), kScheme.data(), kScheme.size()) != 0) return {};
  value.remove_prefix(kScheme.size());
  return value;
}

bool Admission::admit(const grpc::ServerContextBase& context) {
  const std::string_view token = bearer_token(context);
  if (is_good(token)) return true;
  ++unauthenticated_;
  tell(context.peer(), token.empty() ? "no bearer token" : "an unknown bearer token");
  return false;
}

bool Admission::admit_again(std::string_view token, const std::string& peer) {
  if (is_good(token)) return true;
  ++unauthenticated_;
  tell(peer, "its bearer token is no longer good");
  return false;
}

void Admission::refuse_stream(const std::string& peer) {
  ++over_limit_;
  tell(peer, "too many streams");
}

void Admission::tell(const std::string& peer, std::string_view reason) {
  if (options_.on_refused) options_.on_refused(peer, std::string(reason));
}

}  // namespace outrigger::control
