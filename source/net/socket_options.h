// Setting and asking for SocketOptions (base/socket_option.h).
//
// Thread rule: any thread.
// Use:  if (concerns(option, address)) if (const int rc = set_socket_option(fd, option); rc < 0) ...
#pragma once

#include <vector>

#include "base/socket_option.h"
#include "net/address.h"
#include "outrigger/result.h"

namespace outrigger::net {

// Whether a socket of this address has the option: not Unix sockets, nor those of the other IP version.
bool concerns(const SocketOption& option, const Address& address);
// 0 or -errno.
int set_socket_option(int fd, const SocketOption& option);
// Its value now, or -errno.
int socket_option_value(int fd, const SocketOption& option, int& value);
// Whether the system takes them all, found out on sockets that nobody uses; an error names the field of the first that
// it does not. Those of an IP version that the system lacks are not tried.
Result<void> try_socket_options(const std::vector<SocketOption>& options);

}  // namespace outrigger::net
