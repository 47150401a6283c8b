#include "server/read_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "net/system_error.h"

namespace outrigger::server {

Result<std::string> read_file(const std::string& path, size_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return tl::unexpected(net::system_error(-errno, path));
  std::string text;
  for (;;) {
    constexpr size_t kPart = 64 * 1024;
    const size_t size = text.size();
    text.resize(size + kPart);
    const ssize_t got = ::read(fd, text.data() + size, kPart);
    const int error = errno;
    text.resize(size + (got > 0 ? static_cast<size_t>(got) : 0));
    if (got < 0 && error == EINTR) continue;
    if (got > 0 && text.size() <= max_bytes) continue;
    ::close(fd);
    if (got < 0) return tl::unexpected(net::system_error(-error, path));
    if (got > 0) return fail(Errc::kOverflow, fmt::format("{}: is larger than {} bytes", path, max_bytes));
    return text;
  }
}

}  // namespace outrigger::server
