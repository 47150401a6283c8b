// ByteStream: one end of a TCP connection, blocking, with a deadline on everything: for tests that speak in bytes.
// ListenSocket: a loopback port chosen by the kernel, and the streams that come to it.
//
// Thread rule: one thread at a time, except shutdown_both(), which wakes a reader in another thread.
// Use:  ByteStream client = ByteStream::connect(port);  client.send("GET / HTTP/1.1\r\n\r\n");
//       while (client.read_more() == ByteStream::Read::kData) {}   // everything up to the end is in client.buffer()
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "support/wait.h"

namespace outrigger::test {

class ByteStream {
 public:
  enum class Read { kData, kEof, kReset, kTimeout };

  ByteStream() = default;
  explicit ByteStream(int fd) : fd_(fd) {}
  ~ByteStream() { close(); }
  ByteStream(ByteStream&& other) noexcept;
  ByteStream& operator=(ByteStream&& other) noexcept;

  // To 127.0.0.1; the stream is not valid() if nobody listens there. `receive_buffer_bytes` (0: the system's default)
  // makes a reader that holds little, for tests of back-pressure.
  static ByteStream connect(uint16_t port, Milliseconds patience = kPatience, int receive_buffer_bytes = 0);

  bool valid() const { return fd_ >= 0; }
  int fd() const { return fd_; }

  // All of it; false if the peer is gone or does not read in time.
  bool send(std::string_view bytes, Milliseconds patience = kPatience);
  // What the kernel takes at once, without waiting; how many bytes that was.
  size_t send_some(std::string_view bytes);
  // Appends what has come to buffer(), waiting for it if there is nothing.
  Read read_more(Milliseconds patience = kPatience, size_t max_bytes = 64 * 1024);
  // Bytes read and not yet taken; the reader erases what it takes.
  std::string& buffer() { return buffer_; }
  // Exactly `size` bytes, taken from buffer(); fewer if the stream ends or patience does.
  std::string read_exactly(size_t size, Milliseconds patience = kPatience);
  // Everything until the peer closes.
  std::string read_to_end(Milliseconds patience = kPatience);
  // True once the peer has closed or reset; false on time-out or if further bytes come (they are in buffer()).
  bool wait_closed(Milliseconds patience = kPatience);

  void shutdown_write();
  void shutdown_both();
  void close();
  // Closes with RST.
  void reset();

 private:
  int fd_ = -1;
  std::string buffer_;
};

class ListenSocket {
 public:
  // `receive_buffer_bytes` (0: the system's default) holds for the streams that come.
  explicit ListenSocket(int backlog = 1024, int receive_buffer_bytes = 0);
  ~ListenSocket();
  ListenSocket(const ListenSocket&) = delete;
  ListenSocket& operator=(const ListenSocket&) = delete;

  uint16_t port() const { return port_; }
  // Not valid() if nobody came in time or the socket was stopped.
  ByteStream accept(Milliseconds patience = kPatience);
  // From now on connecting is refused; a waiting accept() returns.
  void stop();
  bool stopped() const { return stopped_; }

 private:
  uint16_t port_ = 0;
  int fd_;
  std::atomic<bool> stopped_ = false;
};

// A port at which connecting is refused for as long as this lives: bound, never listening.
class DeadPort {
 public:
  DeadPort();
  ~DeadPort();
  DeadPort(const DeadPort&) = delete;
  DeadPort& operator=(const DeadPort&) = delete;
  uint16_t port() const { return port_; }

 private:
  uint16_t port_ = 0;
  int fd_;
};

}  // namespace outrigger::test
