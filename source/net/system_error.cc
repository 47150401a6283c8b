#include "net/system_error.h"

#include <uv.h>

namespace outrigger::net {

Error system_error(int status, const std::string& doing) {
  Error error;
  switch (status) {
    case UV_ECONNREFUSED:
    case UV_ENOENT:  // a Unix socket that is not there
    case UV_EAGAIN:  // a Unix socket whose backlog is full
      error.code = Errc::kRefused;
      break;
    case UV_ECONNRESET:
    case UV_EPIPE:
    case UV_ECONNABORTED:
      error.code = Errc::kReset;
      break;
    case UV_ETIMEDOUT:
      error.code = Errc::kTimeout;
      break;
    case UV_EINVAL:
      error.code = Errc::kInvalidArgument;
      break;
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_ENOBUFS:
    case UV_ENOMEM:
      error.code = Errc::kOverflow;
      break;
    default:
      error.code = Errc::kIo;
  }
  error.detail = doing + ": " + uv_strerror(status);
  return error;
}

}  // namespace outrigger::net
