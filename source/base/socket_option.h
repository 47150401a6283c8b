// SocketOption: one setsockopt(2) that configuration asks for, checked to be one of those that sockets here take
// (config/translate_sockets.cc): it has an int, works on a TCP socket at any time, and accepted sockets inherit it.
//
// Thread rule: value.
// Use:  spec.socket_options.push_back({.level = SOL_SOCKET, .name = SO_KEEPALIVE, .value = 1, .field =
// "tcp_keepalive"});
#pragma once

#include <string>

namespace outrigger {

struct SocketOption {
  int level = 0, name = 0, value = 0;
  enum class Family : unsigned char { kAny, kV4, kV6 } family = Family::kAny;
  std::string field;  // where it was asked for
  bool operator==(const SocketOption&) const = default;
};

}  // namespace outrigger
