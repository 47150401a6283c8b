// Socket, ListenSocket: blocking raw sockets for tests, as clients and upstreams that do exactly what they are told.
// Every call has a deadline (kWaitMs unless told), so that a failing test ends. Linking this ignores SIGPIPE.
//
// Thread rule: one thread at a time.
// Use:  Socket c = Socket::connect(port);  c.send("GET / HTTP/1.1\r\n...");  EXPECT_EQ(c.recv_until("\r\n\r\n"), ...);
//       ListenSocket upstream;  Socket peer = upstream.accept();   // upstream.port()
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace outrigger::test {

inline constexpr int kWaitMs = 10'000;

class Socket {
 public:
  // How the last recv or send ended.
  enum class End { kOk, kEof, kTimeout, kReset, kError };

  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), end_(other.end_), rest_(std::move(other.rest_)) {}
  Socket& operator=(Socket&& other) noexcept;

  // Not valid() when nobody listens.
  static Socket connect(uint16_t port, const std::string& ip = "127.0.0.1");
  static Socket connect_unix(const std::string& path);  // "@name": abstract
  // With small kernel buffers (bytes; the kernel doubles them), for tests of back-pressure.
  static Socket connect_small(uint16_t port, int receive_buffer, int send_buffer);

  bool valid() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  uint16_t local_port() const;
  uint16_t peer_port() const;

  // Sends all, or as much as the peer takes within the deadline; the number of bytes sent.
  size_t send(std::string_view bytes, int wait_ms = kWaitMs);

  // At least one byte, at most `most`; empty at the end (see end()).
  std::string recv_some(size_t most = 65536, int wait_ms = kWaitMs);
  // Exactly `size` bytes; fewer only if the end came first.
  std::string recv_exactly(size_t size, int wait_ms = kWaitMs);
  // All bytes up to and including `delimiter`; what follows it is kept for the next call.
  std::string recv_until(std::string_view delimiter, int wait_ms = kWaitMs);
  // Everything until the peer's FIN (end() is then kEof).
  std::string recv_to_eof(int wait_ms = kWaitMs);
  // Reads and counts, without keeping, until the end.
  size_t drain_to_eof(int wait_ms = kWaitMs);
  // Nothing arrives for `ms`, and the peer has not closed.
  bool quiet_for(int ms);
  End end() const { return end_; }

  void shutdown_write();
  void close();  // FIN (RST if something is unread)
  void reset();  // RST

 private:
  bool fill(size_t most, int wait_ms);
  int fd_ = -1;
  End end_ = End::kOk;
  std::string rest_;  // received, not yet asked for
};

class ListenSocket {
 public:
  // Port 0 on loopback.
  explicit ListenSocket(int backlog = 128, const std::string& ip = "127.0.0.1");
  explicit ListenSocket(const char* unix_path);
  ~ListenSocket() { close(); }
  ListenSocket(const ListenSocket&) = delete;
  ListenSocket& operator=(const ListenSocket&) = delete;

  uint16_t port() const { return port_; }
  int fd() const { return fd_; }
  // Not valid() when nobody connects in time.
  Socket accept(int wait_ms = kWaitMs);
  void close();

 private:
  int fd_ = -1;
  uint16_t port_ = 0;
};

// An address on loopback that answers no attempt to connect: the queue of a listening socket is full.
class SilentSocket {
 public:
  explicit SilentSocket(const std::string& ip = "127.0.0.1");
  ~SilentSocket();
  SilentSocket(const SilentSocket&) = delete;
  SilentSocket& operator=(const SilentSocket&) = delete;
  uint16_t port() const { return listener_.port(); }

 private:
  ListenSocket listener_;
  std::vector<int> fillers_;
};

// How many descriptors this process has open.
size_t open_descriptors();

// A port on loopback on which nobody listens: connecting to it is refused.
uint16_t refused_port();

}  // namespace outrigger::test
