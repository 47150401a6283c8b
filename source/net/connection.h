// Connection: one established (or connecting) stream socket on a loop. The seam is completion-shaped: the loop lends
// the memory of a read to on_read for the length of the call; a write owns its buffers until it completes. libuv is the
// transport below (an io_uring one could take its place); TLS stands between as a TlsSession, which a plain connection
// does not have. With TLS all below is about plain bytes: kOpen begins after the handshake, a peer that closes without
// close_notify is an error and no end of file, and a handshake or record that is bad ends the connection after the
// alert.
//
// Writes gather: write() appends, and the turn's end sends everything with one uv_try_write (uv_write only for what the
// socket did not take). Reads stay armed: pausing is by named reason, and costs a system call only when data arrives
// while paused. That data, one read of at most 64 KiB, is held; it is delivered first when no reason is left, at the
// end of the turn (never from inside resume_read()), and then reading goes on. Until then a paused connection notices
// that its peer has gone: on_eof and on_close come while paused, unless data is held.
//
//   kConnecting --connected--> kOpen --close(kFlush)--> kFlushing --sent, FIN, peer's FIN--> kClosing --turn's end-->
//   kClosed (on_close) --libuv--> freed.   Errors, kNow and kReset lead from each of the first three to kClosing.
//   With TLS kHandshaking comes before kOpen; an accepted connection begins there.
//
// Thread rule: its loop's thread. It belongs to itself: whoever made it ends it by close(), and must not use it after
// on_close. Handler callbacks may call anything here, close() included.
// Use:  auto* c = Connection::connect(loop, address, handler, options);  c->write(std::move(buffer));  c->close(...)
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/block.h"
#include "base/socket_option.h"
#include "event/loop.h"
#include "event/timer.h"
#include "net/address.h"
#include "outrigger/buffer.h"
#include "outrigger/result.h"

namespace outrigger::net {

// Why reading is paused; bits.
enum class Pause : uint8_t {
  kPipeline = 1,      // a codec has a request in hand and another waiting
  kBackpressure = 2,  // the other side's write buffer is above its limit
  kBuffer = 4,        // a stream's own buffer is full
  kDrain = 8,
};

enum class Close : uint8_t {
  kFlush,  // send what is written, then FIN, then read and drop until the peer's FIN, so that no RST of ours can
           // destroy the last answer on its way; given up after delayed_close_ms without progress
  kNow,    // drop what is written; FIN if nothing is unread, else the kernel's RST
  kReset,  // SO_LINGER 0: RST
};

class Connection;
class ConnectRace;  // net/connect_race.h
class TlsSession;   // net/tls_session.h
struct DeleteTlsSession {
  void operator()(TlsSession* session) const;
};
using TlsSessionPtr = std::unique_ptr<TlsSession, DeleteTlsSession>;

class ConnectionHandler {
 public:
  // connect() is done, or the handshake of a connection with TLS. A connect or handshake that fails calls on_close
  // only.
  virtual void on_connected(Connection&) {}
  // `size` bytes at `data`, inside `block`; keep them by Buffer::append_shared(block, ...), not by pointer.
  virtual void on_read(Connection&, Block* block, const char* data, size_t size) = 0;
  // The peer sent FIN: nothing more will be read; writing is still possible.
  virtual void on_eof(Connection&) = 0;
  // The write buffer is still above the high mark after a flush (above), or fell to half of it again. Called from the
  // turn's end only, never from inside write().
  virtual void on_write_watermark(Connection&, bool /*above*/) {}
  // Last call: closed, by whoever. `error` says why if it was not us. The connection frees itself after the turn.
  virtual void on_close(Connection&, const Error* error) = 0;

 protected:
  ~ConnectionHandler() = default;
};

struct ConnectionOptions {
  uint32_t write_high_watermark = 1024 * 1024;  // bytes
  uint64_t connect_timeout_ms = 5'000;          // connect() only, with its handshake; 0: the kernel's
  // Close::kFlush gives up after this long without progress, and 10 times that after its FIN whatever the peer sends.
  // 0: closes right after the last byte is sent, and waits for a slow reader without end.
  uint64_t delayed_close_ms = 1'000;
  std::span<const SocketOption> socket_options = {};  // connect() to an IP address only; used in the call
};

class Connection final : public event::Deferred, public event::TurnEnd {
 public:
  // An accepted socket. `fd` is taken over; TCP_NODELAY is inherited from the listening socket. `first`: what has been
  // read from it already; it is delivered from the turn's end.
  static Connection* accept(event::Loop& loop, int fd, const Address& local, const Address& remote,
                            ConnectionHandler& handler, const ConnectionOptions& options, TlsSessionPtr tls = nullptr,
                            Buffer first = {});
  // Starts to connect; on_connected or on_close comes later, never from inside this call. What is written meanwhile is
  // sent once connected.
  static Connection* connect(event::Loop& loop, const Address& remote, ConnectionHandler& handler,
                             const ConnectionOptions& options, TlsSessionPtr tls = nullptr);
  // To a host that has several addresses (at least one; if more, IP): the first that connects is taken, see
  // ConnectRace; the handshake comes after that. connect_timeout_ms is for all of it. Until then remote() is the first.
  static Connection* connect(event::Loop& loop, std::span<const Address> remotes, ConnectionHandler& handler,
                             const ConnectionOptions& options, TlsSessionPtr tls = nullptr);
  // Right after connect(): bytes that go first and as they are, before TLS (a header of the PROXY protocol).
  void precede(Buffer&& bytes) { wire_->append(std::move(bytes)); }

  // Takes all of `data`. After close() or shutdown_write() it is dropped.
  void write(Buffer&& data);
  // From now on what is written leaves at the end of the round, not of the turn (event/loop.h): for who writes to one
  // connection in many turns.
  void gather_rounds() { gather_rounds_ = true; }
  // What is written has still to be offered to the kernel.
  bool flush_pending() const { return linked(); }
  // The gathered output: codecs serialise straight into it, then call written(). Not after close() or shutdown_write().
  Buffer& output() { return output_; }
  void written();

  void pause_read(Pause why) { paused_ |= static_cast<uint8_t>(why); }
  void resume_read(Pause why);
  bool read_paused() const { return paused_ != 0; }

  // Half-close: FIN after what is written.
  void shutdown_write();
  // Ends the connection; on_close is called once, from the loop or at the turn's end, never from inside close(). A
  // stronger close may follow kFlush.
  void close(Close how);
  bool closing() const { return state_ >= State::kFlushing; }
  bool connected() const { return state_ == State::kOpen || state_ == State::kFlushing; }

  // Another owner takes over (a pooled connection changes hands).
  void set_handler(ConnectionHandler& handler) { handler_ = &handler; }

  // nullptr: plain. Until on_close returns.
  const TlsSession* tls() const { return tls_.get(); }

  // Written, but not known to be taken by the kernel.
  size_t write_queue_bytes() const {
    return output_.size() + in_flight_bytes_ + (wire_ == &output_ ? 0 : wire_->size());
  }
  // For producers in a loop: whether they should stop. True at once, before on_write_watermark says so at the turn's
  // end.
  bool above_watermark() const { return above_ || write_queue_bytes() > options_.write_high_watermark; }
  uint32_t high_watermark() const { return options_.write_high_watermark; }
  const Address& local() const { return local_; }    // of connect(): known once connected
  const Address& remote() const { return remote_; }  // of connect(): the one that was taken
  uint64_t id() const { return id_; }                // unique in the process
  event::Loop& loop() { return loop_; }
  uint64_t bytes_read() const { return bytes_read_; }
  uint64_t bytes_written() const { return bytes_written_; }

 private:
  enum class State : uint8_t { kConnecting, kHandshaking, kOpen, kFlushing, kClosing, kClosed };
  friend struct ConnectionCallbacks;  // libuv's C callbacks, connection.cc
  struct Waiting;                     // what an idle connection does without, connection.cc
  struct GiveBack {
    void operator()(Waiting* waiting) const;
  };
  Connection(event::Loop& loop, ConnectionHandler& handler, const ConnectionOptions& options, Origin origin,
             TlsSessionPtr tls);
  ~Connection() override;
  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&tcp_); }

  void on_turn_end() override;
  Waiting& waiting();
  void drop_held();
  void drop_in_flight();
  static Connection* begin(event::Loop& loop, const Address& remote, ConnectionHandler& handler,
                           const ConnectionOptions& options, TlsSessionPtr tls);
  void started(int status);
  int start_connect();
  int start_race(std::span<const Address> remotes);
  int end_race(int status);
  int connect_unix();
  int open_with_options();
  void on_connect_result(int status);
  void start_read();
  void stop_read();
  void take(Block* block, const char* data, size_t size);
  void deliver_held();
  void take_sealed(Block* block, const char* data, size_t size);
  void hold_sealed(Block* block, const char* data, size_t size);
  bool wait_for_leisure();
  bool shake_hands();
  bool seal();
  void on_close_notify();
  void on_tls_failed();
  void say_goodbye();
  void send_at_once();
  void on_peer_eof();
  void flush();
  void start_blocked_write();
  void compact_waiting();
  void update_watermark();
  void on_all_written();
  void send_fin();
  void on_write_error(int status);
  void on_timer();
  void end(int status, const char* doing);
  void end(Error error);
  void begin_close();
  void finish_close();

  event::Loop& loop_;
  ConnectionHandler* handler_;
  ConnectionOptions options_;
  uv_tcp_t tcp_;          // Unix sockets too: libuv only needs a stream descriptor
  event::Timeout timer_;  // connect, delayed close
  TlsSessionPtr tls_;
  std::unique_ptr<ConnectRace> race_;  // kConnecting, to several addresses
  Buffer output_;                      // plain bytes, not yet sealed or given to the kernel or libuv
  Buffer* wire_ = &output_;            // what the kernel gets next: output_ itself, or of tls_
  std::unique_ptr<Waiting, GiveBack> waiting_;
  size_t in_flight_bytes_ = 0;  // of a uv_write under way
  Address local_, remote_;
  uint64_t id_;
  uint64_t bytes_read_ = 0, bytes_written_ = 0;
  size_t flush_left_ = 0;          // kFlushing: bytes unsent when the timer was armed
  int64_t linger_until_ns_ = 0;    // kFlushing: no later, once FIN is sent
  std::unique_ptr<Error> error_;   // for on_close
  int connect_status_ = kPending;  // the result of a connect that ended inside connect()
  static constexpr int kPending = 1;
  State state_;
  const Origin origin_;
  uint8_t paused_ = 0;
  bool above_ = false;
  bool gather_rounds_ = false;
  bool reading_ = false;
  bool write_active_ = false;
  bool write_failed_ = false;  // the socket's write side is broken; what it still has to read comes first
  bool fin_wanted_ = false;
  bool fin_sent_ = false;
  bool eof_seen_ = false;
  bool reset_ = false;
};

}  // namespace outrigger::net
