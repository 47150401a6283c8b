#include "control/read_text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace outrigger::control {

Result<std::string> read_text(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(errno == ENOENT ? Errc::kNotFound : Errc::kIo, strerror(errno));
  struct stat info;
  std::string text;
  Result<std::string> result = fail(Errc::kNotFound, "not a regular file");
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    char buffer[64 * 1024];
    ssize_t n;
    while ((n = ::read(fd, buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(n));
    result = n == 0 ? Result<std::string>(std::move(text)) : fail(Errc::kIo, strerror(errno));
  }
  close(fd);
  return result;
}

}  // namespace outrigger::control
