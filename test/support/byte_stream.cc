#include "support/byte_stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace outrigger::test {
namespace {

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A socket bound to a loopback port of the kernel's choice.
int bound_socket(uint16_t& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  CHECK(fd >= 0 && ::bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0);
  CHECK(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port = ntohs(address.sin_port);
  return fd;
}

// False on time-out.
bool wait_for(int fd, short events, Milliseconds patience) {
  const Deadline deadline(patience);
  for (;;) {
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(deadline.left().count()));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

void prepare(int fd, int receive_buffer_bytes) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (receive_buffer_bytes > 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
}

}  // namespace

ByteStream::ByteStream(ByteStream&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}

ByteStream& ByteStream::operator=(ByteStream&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    buffer_ = std::move(other.buffer_);
  }
  return *this;
}

ByteStream ByteStream::connect(uint16_t port, Milliseconds patience, int receive_buffer_bytes) {
  ByteStream stream(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  prepare(stream.fd_, receive_buffer_bytes);
  const sockaddr_in address = loopback(port);
  int error = 0;
  if (::connect(stream.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    error = errno;
    if (error == EINPROGRESS && wait_for(stream.fd_, POLLOUT, patience)) {
      socklen_t size = sizeof error;
      ::getsockopt(stream.fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    }
  }
  if (error != 0) stream.close();
  return stream;
}

bool ByteStream::send(std::string_view bytes, Milliseconds patience) {
  const Deadline deadline(patience);
  while (!bytes.empty()) {
    const ssize_t size = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) {
      bytes.remove_prefix(static_cast<size_t>(size));
    } else if (errno == EAGAIN) {
      if (!wait_for(fd_, POLLOUT, deadline.left())) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

size_t ByteStream::send_some(std::string_view bytes) {
  const ssize_t size = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return size > 0 ? static_cast<size_t>(size) : 0;
}

ByteStream::Read ByteStream::read_more(Milliseconds patience, size_t max_bytes) {
  if (fd_ < 0) return Read::kEof;
  const Deadline deadline(patience);
  for (;;) {
    const size_t before = buffer_.size();
    buffer_.resize(before + max_bytes);
    const ssize_t size = ::recv(fd_, buffer_.data() + before, max_bytes, MSG_DONTWAIT);
    const int error = errno;
    buffer_.resize(before + static_cast<size_t>(std::max<ssize_t>(size, 0)));
    if (size > 0) return Read::kData;
    if (size == 0) return Read::kEof;
    if (error == EINTR) continue;
    if (error != EAGAIN) return Read::kReset;
    if (!wait_for(fd_, POLLIN, deadline.left())) return Read::kTimeout;
  }
}

std::string ByteStream::read_exactly(size_t size, Milliseconds patience) {
  const Deadline deadline(patience);
  while (buffer_.size() < size && read_more(deadline.left()) == Read::kData) {
  }
  const size_t taken = std::min(size, buffer_.size());
  std::string bytes = buffer_.substr(0, taken);
  buffer_.erase(0, taken);
  return bytes;
}

std::string ByteStream::read_to_end(Milliseconds patience) {
  const Deadline deadline(patience);
  while (read_more(deadline.left()) == Read::kData) {
  }
  return std::exchange(buffer_, {});
}

bool ByteStream::wait_closed(Milliseconds patience) {
  if (!buffer_.empty()) return false;
  const Read read = read_more(patience);
  return read == Read::kEof || read == Read::kReset;
}

void ByteStream::shutdown_write() { ::shutdown(fd_, SHUT_WR); }

void ByteStream::shutdown_both() { ::shutdown(fd_, SHUT_RDWR); }

void ByteStream::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void ByteStream::reset() {
  const linger now{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

ListenSocket::ListenSocket(int backlog, int receive_buffer_bytes) : fd_(bound_socket(port_)) {
  prepare(fd_, receive_buffer_bytes);
  CHECK(::listen(fd_, backlog) == 0);
}

ListenSocket::~ListenSocket() { ::close(fd_); }

ByteStream ListenSocket::accept(Milliseconds patience) {
  if (!wait_for(fd_, POLLIN, patience)) return ByteStream();
  const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  return ByteStream(fd);
}

void ListenSocket::stop() {
  stopped_ = true;
  ::shutdown(fd_, SHUT_RDWR);
}

DeadPort::DeadPort() : fd_(bound_socket(port_)) {}

DeadPort::~DeadPort() { ::close(fd_); }

}  // namespace outrigger::test
