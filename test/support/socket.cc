#include "support/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>

#include "base/check.h"

namespace outrigger::test {
namespace {

const bool sigpipe_ignored = signal(SIGPIPE, SIG_IGN) != SIG_ERR;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool wait_for(int fd, short events, int64_t until_ms) {
  while (true) {
    const int64_t left = until_ms - now_ms();
    pollfd p{fd, events, 0};
    const int n = ::poll(&p, 1, left > 0 ? static_cast<int>(left) : 0);
    if (n > 0) return true;
    if (n == 0 || errno != EINTR) return false;
  }
}

struct Name {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Name ip_name(const std::string& ip, uint16_t port) {
  Name name;
  auto* four = reinterpret_cast<sockaddr_in*>(&name.storage);
  auto* six = reinterpret_cast<sockaddr_in6*>(&name.storage);
  if (inet_pton(AF_INET, ip.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    name.size = sizeof(*four);
  } else {
    CHECK(inet_pton(AF_INET6, ip.c_str(), &six->sin6_addr) == 1);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    name.size = sizeof(*six);
  }
  return name;
}

Name unix_name(const std::string& path) {
  Name name;
  auto* un = reinterpret_cast<sockaddr_un*>(&name.storage);
  un->sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(un->sun_path));
  std::memcpy(un->sun_path, path.data(), path.size());
  name.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (path[0] == '@') {
    un->sun_path[0] = '\0';
  } else {
    ++name.size;
  }
  return name;
}

Socket connect_to(Name name, int receive_buffer = 0, int send_buffer = 0) {
  const int fd = socket(name.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  if (receive_buffer > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  if (send_buffer > 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer));
  if (::connect(fd, name.get(), name.size) != 0) {
    ::close(fd);
    return Socket();
  }
  const int on = 1;
  if (name.storage.ss_family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return Socket(fd);
}

// `ask`: getsockname or getpeername.
uint16_t port_of(int fd, decltype(getsockname)* ask = getsockname) {
  Name name;
  name.size = sizeof(name.storage);
  if (ask(fd, name.get(), &name.size) != 0) return 0;
  if (name.storage.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&name.storage)->sin_port);
  if (name.storage.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&name.storage)->sin6_port);
  return 0;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    end_ = other.end_;
    rest_ = std::move(other.rest_);
  }
  return *this;
}

Socket Socket::connect(uint16_t port, const std::string& ip) { return connect_to(ip_name(ip, port)); }
Socket Socket::connect_unix(const std::string& path) { return connect_to(unix_name(path)); }
Socket Socket::connect_small(uint16_t port, int receive_buffer, int send_buffer) {
  return connect_to(ip_name("127.0.0.1", port), receive_buffer, send_buffer);
}

uint16_t Socket::local_port() const { return port_of(fd_); }
uint16_t Socket::peer_port() const { return port_of(fd_, getpeername); }

size_t Socket::send(std::string_view bytes, int wait_ms) {
  const int64_t until = now_ms() + wait_ms;
  size_t sent = 0;
  end_ = End::kOk;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      if (!wait_for(fd_, POLLOUT, until)) {
        end_ = End::kTimeout;
        break;
      }
    } else if (errno != EINTR) {
      end_ = errno == EPIPE || errno == ECONNRESET ? End::kReset : End::kError;
      break;
    }
  }
  return sent;
}

// Appends to rest_; false at the end.
bool Socket::fill(size_t most, int wait_ms) {
  const int64_t until = now_ms() + wait_ms;
  const size_t before = rest_.size();
  while (true) {
    rest_.resize(before + most);
    const ssize_t n = ::recv(fd_, rest_.data() + before, most, MSG_DONTWAIT);
    const int error = errno;
    rest_.resize(before + (n > 0 ? static_cast<size_t>(n) : 0));
    if (n > 0) {
      end_ = End::kOk;
      return true;
    }
    if (n == 0) {
      end_ = End::kEof;
      return false;
    }
    if (error == EAGAIN) {
      if (wait_for(fd_, POLLIN, until)) continue;
      end_ = End::kTimeout;
      return false;
    }
    if (error == EINTR) continue;
    end_ = error == ECONNRESET ? End::kReset : End::kError;
    return false;
  }
}

std::string Socket::recv_some(size_t most, int wait_ms) {
  if (rest_.empty()) fill(most, wait_ms);
  const std::string out = rest_.substr(0, most);
  rest_.erase(0, out.size());
  return out;
}

std::string Socket::recv_exactly(size_t size, int wait_ms) {
  while (rest_.size() < size && fill(size - rest_.size(), wait_ms)) {
  }
  const std::string out = rest_.substr(0, size);
  rest_.erase(0, out.size());
  return out;
}

std::string Socket::recv_until(std::string_view delimiter, int wait_ms) {
  size_t at;
  size_t searched = 0;
  while ((at = rest_.find(delimiter, searched)) == std::string::npos) {
    searched = rest_.size() < delimiter.size() ? 0 : rest_.size() - delimiter.size();
    if (!fill(65536, wait_ms)) return std::exchange(rest_, {});
  }
  const std::string out = rest_.substr(0, at + delimiter.size());
  rest_.erase(0, out.size());
  return out;
}

std::string Socket::recv_to_eof(int wait_ms) {
  while (fill(65536, wait_ms)) {
  }
  return std::exchange(rest_, {});
}

size_t Socket::drain_to_eof(int wait_ms) {
  size_t total = 0;
  do {
    total += rest_.size();
    rest_.clear();
  } while (fill(65536, wait_ms));
  return total;
}

bool Socket::quiet_for(int ms) {
  if (!rest_.empty()) return false;
  fill(1, ms);
  return end_ == End::kTimeout;
}

void Socket::shutdown_write() { ::shutdown(fd_, SHUT_WR); }

void Socket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void Socket::reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close();
}

ListenSocket::ListenSocket(int backlog, const std::string& ip) {
  Name name = ip_name(ip, 0);
  fd_ = socket(name.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd_ >= 0 && bind(fd_, name.get(), name.size) == 0 && listen(fd_, backlog) == 0);
  port_ = port_of(fd_);
}

ListenSocket::ListenSocket(const char* unix_path) {
  Name name = unix_name(unix_path);
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd_ >= 0 && bind(fd_, name.get(), name.size) == 0 && listen(fd_, 128) == 0);
}

Socket ListenSocket::accept(int wait_ms) {
  if (!wait_for(fd_, POLLIN, now_ms() + wait_ms)) return Socket();
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  const int on = 1;
  if (fd >= 0 && port_ != 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return Socket(fd);
}

void ListenSocket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

// A backlog of 0 holds one connection; the others are for kernels that are more generous.
SilentSocket::SilentSocket(const std::string& ip) : listener_(0, ip) {
  Name name = ip_name(ip, listener_.port());
  for (int i = 0; i < 4; ++i) {
    const int fd = socket(name.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (::connect(fd, name.get(), name.size) != 0) CHECK(errno == EINPROGRESS);
    fillers_.push_back(fd);
  }
}

SilentSocket::~SilentSocket() {
  for (const int fd : fillers_) ::close(fd);
}

// (A descriptor to look into /proc/self/fd with would have a number that libuv has just closed by a system call of its
// own, which ThreadSanitizer does not see.)
size_t open_descriptors() {
  constexpr int kMost = 16'384;
  size_t count = 0;
  for (int fd = 0; fd < kMost; ++fd) count += fcntl(fd, F_GETFD) != -1 ? 1 : 0;
  return count;
}

uint16_t refused_port() {
  // Bound but never listening, and kept for good, so that no other test gets the port.
  static const uint16_t port = [] {
    Name name = ip_name("127.0.0.1", 0);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, name.get(), name.size) == 0);
    return port_of(fd);
  }();
  return port;
}

}  // namespace outrigger::test
