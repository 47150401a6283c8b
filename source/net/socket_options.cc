#include "net/socket_options.h"

#include <sys/socket.h>

#include <cerrno>

namespace outrigger::net {

bool concerns(const SocketOption& option, const Address& address) {
  if (!address.is_ip()) return false;
  return option.family == SocketOption::Family::kAny || (option.family == SocketOption::Family::kV6) == address.is_v6();
}

int set_socket_option(int fd, const SocketOption& option) {
  return setsockopt(fd, option.level, option.name, &option.value, sizeof(option.value)) == 0 ? 0 : -errno;
}

int socket_option_value(int fd, const SocketOption& option, int& value) {
  socklen_t size = sizeof(value);
  return getsockopt(fd, option.level, option.name, &value, &size) == 0 ? 0 : -errno;
}

}  // namespace outrigger::net
