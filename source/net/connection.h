// Connection: one established (or connecting) stream socket on a loop. The seam is completion-shaped: the loop lends the
// memory of a read to on_read for the length of the call; a write owns its buffers until it completes. libuv is the
// transport below; TLS stands between as a Transport (not yet), an io_uring one could take libuv's place.
//
// Writes gather: write() appends, and the turn's end sends everything with one uv_try_write (uv_write only for what the
// socket did not take). Reads stay armed; pausing is by named reason and reading goes on when none is left. A paused
// connection may read one spare block to notice that its peer has gone.
//
// Thread rule: its loop's thread. The owner closes it and hands it to defer_delete by close(); callbacks never destroy it.
// Use:  auto c = Connection::connect(loop, address, handler, options);  c->write(std::move(buffer));  c->close(...)
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/block.h"
#include "event/loop.h"
#include "event/timer.h"
#include "net/address.h"
#include "outrigger/buffer.h"
#include "outrigger/result.h"

namespace outrigger::net {

// Why reading is paused; bits.
enum class Pause : uint8_t {
  kPipeline = 1,   // a codec has a request in hand and another waiting
  kBackpressure = 2,  // the other side's write buffer is above its limit
  kBuffer = 4,        // a stream's own buffer is full
  kDrain = 8,
};

enum class Close : uint8_t {
  kFlush,   // send what is written, then close; at most the delayed-close timeout
  kNow,     // drop what is written; FIN if nothing is unread, else the kernel's RST
  kReset,   // SO_LINGER 0: RST
};

class Connection;

class ConnectionHandler {
 public:
  // connect() is done, or (ok false) failed: the connection is closed already and on_close follows.
  virtual void on_connected(Connection&) {}
  // `size` bytes at `data`, inside `block`; keep them by Buffer::append_shared(block, ...), not by pointer.
  virtual void on_read(Connection&, Block* block, const char* data, size_t size) = 0;
  // The peer sent FIN: nothing more will be read; writing is still possible.
  virtual void on_eof(Connection&) = 0;
  // The write buffer passed the high mark (above), or fell to half of it again.
  virtual void on_write_watermark(Connection&, bool /*above*/) {}
  // Last call: closed, by whoever. `error` says why if it was not us. The connection frees itself after the turn.
  virtual void on_close(Connection&, const Error* error) = 0;

 protected:
  ~ConnectionHandler() = default;
};

struct ConnectionOptions {
  uint32_t write_high_watermark = 1024 * 1024;  // bytes
  uint64_t connect_timeout_ms = 5'000;          // connect() only
  uint64_t delayed_close_ms = 1'000;            // Close::kFlush gives up after this long without progress
};

class Connection final : public event::Deferred, public event::TurnEnd {
 public:
  // An accepted socket. `fd` is taken over.
  static Connection* accept(event::Loop& loop, int fd, const Address& local, const Address& remote,
                            ConnectionHandler& handler, const ConnectionOptions& options);
  // Starts to connect; on_connected or on_close comes later, never from inside this call.
  static Connection* connect(event::Loop& loop, const Address& remote, ConnectionHandler& handler,
                             const ConnectionOptions& options);

  // Takes all of `data`. After close() it is dropped.
  void write(Buffer&& data);
  // The gathered output: codecs serialise straight into it, then call written().
  Buffer& output() { return output_; }
  void written();

  void pause_read(Pause why);
  void resume_read(Pause why);
  bool read_paused() const { return paused_ != 0; }

  // Half-close: FIN after what is written.
  void shutdown_write();
  // Ends the connection; on_close is called once, from the loop or at the turn's end, never from inside close().
  void close(Close how);
  bool closing() const { return state_ >= State::kFlushing; }
  bool connected() const { return state_ == State::kOpen || state_ == State::kFlushing; }

  // Another owner takes over (a pooled connection changes hands).
  void set_handler(ConnectionHandler& handler) { handler_ = &handler; }

  size_t write_queue_bytes() const { return output_.size() + in_flight_.size(); }
  bool above_watermark() const { return above_; }
  const Address& local() const { return local_; }
  const Address& remote() const { return remote_; }
  uint64_t id() const { return id_; }  // unique in the process
  event::Loop& loop() { return loop_; }
  uint64_t bytes_read() const { return bytes_read_; }
  uint64_t bytes_written() const { return bytes_written_; }

 private:
  enum class State : uint8_t { kConnecting, kOpen, kFlushing, kClosing, kClosed };
  Connection(event::Loop& loop, ConnectionHandler& handler, const ConnectionOptions& options);
  ~Connection() override;
  void on_turn_end() override;
  friend struct ConnectionCallbacks;  // libuv's C callbacks, connection.cc

  event::Loop& loop_;
  ConnectionHandler* handler_;
  ConnectionOptions options_;
  union {
    uv_stream_t stream_;
    uv_tcp_t tcp_;
    uv_pipe_t pipe_;
  };
  uv_connect_t connect_request_;
  uv_write_t write_request_;
  uv_shutdown_t shutdown_request_;
  event::Timeout timer_;  // connect, delayed close
  Buffer output_;         // not yet given to the kernel or libuv
  Buffer in_flight_;      // owned by a uv_write under way
  Address local_, remote_;
  uint64_t id_;
  uint64_t bytes_read_ = 0, bytes_written_ = 0;
  State state_ = State::kOpen;
  uint8_t paused_ = 0;
  bool above_ = false;
  bool reading_ = false;
  bool write_active_ = false;
  bool shutdown_wanted_ = false;
  bool eof_seen_ = false;
  Error* close_error_ = nullptr;
};

}  // namespace outrigger::net
