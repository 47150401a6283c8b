// Setting and asking for SocketOptions (base/socket_option.h).
//
// Thread rule: pure functions of a descriptor.
// Use:  if (concerns(option, address)) if (const int rc = set_socket_option(fd, option); rc < 0) ...
#pragma once

#include "base/socket_option.h"
#include "net/address.h"

namespace outrigger::net {

// Whether a socket of this address has the option: not Unix sockets, nor those of the other IP version.
bool concerns(const SocketOption& option, const Address& address);
// 0 or -errno.
int set_socket_option(int fd, const SocketOption& option);
// Its value now, or -errno.
int socket_option_value(int fd, const SocketOption& option, int& value);

}  // namespace outrigger::net
