#include "net/socket_options.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "net/system_error.h"

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

Result<void> try_socket_options(const std::vector<SocketOption>& options) {
  if (options.empty()) return {};
  for (const char* host : {"127.0.0.1", "::1"}) {
    const Address address = *Address::parse(host, 0);
    const int fd = socket(address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    Result<void> verdict;
    for (const SocketOption& option : options) {
      const int rc = concerns(option, address) ? set_socket_option(fd, option) : 0;
      if (rc == 0) continue;
      verdict = tl::unexpected(system_error(rc, option.field + ": the system does not take it"));
      break;
    }
    ::close(fd);
    TRY_VOID(std::move(verdict));
  }
  return {};
}

}  // namespace outrigger::net
