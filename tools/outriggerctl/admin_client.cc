#include "admin_client.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace outrigger::ctl {
namespace {

constexpr timeval kPatience{.tv_sec = 10, .tv_usec = 0};
constexpr size_t kMaxPageBytes = size_t{1} << 30;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

bool connect_in_time(int fd, const sockaddr* address, socklen_t size) {
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof(kPatience));
  return ::connect(fd, address, size) == 0;
}

Result<Socket> dial(std::string_view address) {
  const auto failed = [&] { return fail(Errc::kIo, fmt::format("cannot reach {}: {}", address, strerror(errno))); };
  if (address.starts_with("unix:")) {
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    const std::string_view path = address.substr(5);
    if (path.size() >= sizeof(local.sun_path)) return fail(Errc::kInvalidArgument, "the path is too long");
    std::memcpy(local.sun_path, path.data(), path.size());
    Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!connect_in_time(socket.fd(), reinterpret_cast<sockaddr*>(&local), sizeof(local))) return failed();
    return socket;
  }
  if (address.starts_with("http://")) address.remove_prefix(7);
  while (address.ends_with('/')) address.remove_suffix(1);
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::kInvalidArgument, fmt::format("{}: needs HOST:PORT", address));
  std::string host(address.substr(0, colon));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int e = getaddrinfo(host.c_str(), std::string(address.substr(colon + 1)).c_str(), &hints, &found); e != 0)
    return fail(Errc::kIo, fmt::format("cannot reach {}: {}", address, gai_strerror(e)));
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    Socket socket(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!connect_in_time(socket.fd(), at->ai_addr, at->ai_addrlen)) continue;
    freeaddrinfo(found);
    return socket;
  }
  freeaddrinfo(found);
  return failed();
}

Result<std::string> unchunked(std::string_view body) {
  std::string out;
  for (;;) {
    const size_t end = body.find("\r\n");
    size_t size = 0;
    if (end == std::string_view::npos || std::from_chars(body.data(), body.data() + end, size, 16).ec != std::errc() ||
        body.size() < end + 2 + size)
      return fail(Errc::kProtocol, "the answer is cut off");
    if (size == 0) return out;
    out += body.substr(end + 2, size);
    body.remove_prefix(std::min(body.size(), end + 2 + size + 2));
  }
}

Result<Page> parse(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  Page page;
  if (end == std::string::npos || !answer.starts_with("HTTP/1.") || answer.size() < 12 ||
      std::from_chars(answer.data() + 9, answer.data() + 12, page.status).ec != std::errc())
    return fail(Errc::kProtocol, "that is no admin port of a proxy: the answer is not HTTP/1");
  const std::string_view head(answer.data(), end);
  if (head.find("transfer-encoding: chunked") == std::string_view::npos) {
    page.body = answer.substr(end + 4);
    return page;
  }
  TRY(page.body, unchunked(std::string_view(answer).substr(end + 4)));
  return page;
}

}  // namespace

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.' || c == '/';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Result<Page> admin_get(std::string_view address, const std::string& target) {
  TRY(const Socket socket, dial(address));
  // Admin answers to no other name.
  const std::string request = fmt::format("GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", target);
  std::string_view left = request;
  while (!left.empty()) {
    const ssize_t n = ::send(socket.fd(), left.data(), left.size(), MSG_NOSIGNAL);
    if (n <= 0) return fail(Errc::kIo, fmt::format("{}: {}", address, strerror(errno)));
    left.remove_prefix(static_cast<size_t>(n));
  }
  std::string answer;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t n = ::recv(socket.fd(), buffer, sizeof(buffer), 0);
    if (n == 0) return parse(answer);
    if (n < 0) return fail(Errc::kIo, fmt::format("{}: {}", address, strerror(errno)));
    answer.append(buffer, static_cast<size_t>(n));
    if (answer.size() > kMaxPageBytes) return fail(Errc::kProtocol, "the answer is too large");
  }
}

}  // namespace outrigger::ctl
