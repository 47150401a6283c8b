#include "net/connection.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/free_list.h"
#include "event/clock.h"
#include "net/connect_race.h"
#include "net/system_error.h"
#include "net/tls_session.h"

namespace outrigger::net {
namespace {

constexpr unsigned kMaxIovecs = 64;
constexpr size_t kBlockedIovecs = 4;  // libuv allocates for more in a uv_write
constexpr uint32_t kReadRoom = Block::kLarge / 2;
constexpr int kLingerRounds = 10;
// Answers that OpenSSL makes by itself (to requests for new keys, say) and that the peer does not read.
constexpr size_t kMaxUnreadAnswers = 2 * TlsSession::kSealAtOnce;

// The memory that this thread's loop lends to reads: of the socket, and of what TLS makes of them. Reads that nobody
// retains use the same bytes again; those that are retained leave the rest of the block to the next reads while it is
// worth it, so that small reads do not pin a block each.
class ReadMemory {
 public:
  static ReadMemory& local() {
    static thread_local ReadMemory memory;
    return memory;
  }
  static ReadMemory& opened() {
    static thread_local ReadMemory memory;
    return memory;
  }
  ReadMemory() { BlockPool::local(); }  // made first, so destroyed last
  ~ReadMemory() {
    if (block_ != nullptr) block_->release();
  }
  uv_buf_t lend() {
    if (block_ != nullptr && block_->refs == 1) block_->used = 0;
    if (block_ != nullptr && block_->capacity - block_->used < kReadRoom) {
      block_->release();
      block_ = nullptr;
    }
    if (block_ == nullptr) block_ = BlockPool::local().acquire(Block::kLarge);
    return uv_buf_init(block_->data() + block_->used, block_->capacity - block_->used);
  }
  Block* block() { return block_; }
  void taken(size_t size) {
    if (block_->refs > 1) block_->used += static_cast<uint32_t>(size);
  }

 private:
  Block* block_ = nullptr;
};

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

// Only while it connects, the socket is full, or bytes wait that were read while paused. Its memory is used again.
struct Connection::Waiting {
  static constexpr size_t kCompactStep = 64 * 1024;
  union {
    uv_connect_t connect;
    uv_write_t write;
  } request;         // connecting ends before writing begins
  Buffer in_flight;  // owned by a uv_write under way
  Buffer held;       // read while paused
  size_t compact_at = kCompactStep;

  void* operator new(size_t) { return memory().take(); }
  void operator delete(void* at) { memory().give(at); }

 private:
  static FreeList<Waiting, 256>& memory() {
    static thread_local FreeList<Waiting, 256> list;
    return list;
  }
};

void Connection::GiveBack::operator()(Waiting* waiting) const { delete waiting; }

Connection::Waiting& Connection::waiting() {
  if (waiting_ == nullptr) waiting_.reset(new Waiting);
  return *waiting_;
}

void Connection::drop_held() {
  if (waiting_ != nullptr) waiting_->held.clear();
}

void Connection::drop_in_flight() {
  waiting_->in_flight.clear();
  in_flight_bytes_ = 0;
}

struct ConnectionCallbacks {
  static Connection& self(void* handle) { return *static_cast<Connection*>(static_cast<uv_handle_t*>(handle)->data); }

  static void on_alloc(uv_handle_t*, size_t, uv_buf_t* buf) { *buf = ReadMemory::local().lend(); }

  static void on_read(uv_stream_t* stream, ssize_t size, const uv_buf_t* buf) {
    if (size == 0) return;  // nothing there after all
    Connection& c = self(stream);
    event::Turn turn(c.loop_);
    if (size > 0) {
      ReadMemory& memory = ReadMemory::local();
      c.take(memory.block(), buf->base, static_cast<size_t>(size));
      memory.taken(static_cast<size_t>(size));
    } else if (size == UV_EOF) {
      c.on_peer_eof();
    } else {
      c.end(static_cast<int>(size), "reading");
    }
  }

  static void on_connect(uv_connect_t* request, int status) {
    Connection& c = self(request->handle);
    event::Turn turn(c.loop_);
    c.on_connect_result(status);
  }

  static void on_write(uv_write_t* request, int status) {
    Connection& c = self(request->handle);
    event::Turn turn(c.loop_);
    c.write_active_ = false;
    if (status == 0) c.bytes_written_ += c.in_flight_bytes_;
    c.drop_in_flight();
    if (c.state_ >= Connection::State::kClosing) return;
    if (status < 0) {
      c.on_write_error(status);
    } else {
      c.loop_.at_turn_end(c);
    }
  }

  static void on_closed(uv_handle_t* handle) {
    Connection& c = self(handle);
    event::Turn turn(c.loop_);
    c.loop_.defer_delete(std::unique_ptr<event::Deferred>(&c));
  }
};

Connection::Connection(event::Loop& loop, ConnectionHandler& handler, const ConnectionOptions& options, Origin origin,
                       TlsSessionPtr tls)
    : loop_(loop),
      handler_(&handler),
      options_(options),
      timer_([](void* self) { static_cast<Connection*>(self)->on_timer(); }, this),
      tls_(std::move(tls)),
      id_(next_id()),
      state_(State::kOpen),
      origin_(origin) {
  CHECK(uv_tcp_init(loop.uv(), &tcp_) == 0);
  tcp_.data = this;
  if (tls_ != nullptr) wire_ = &tls_->wire();
}

void DeleteTlsSession::operator()(TlsSession* session) const { delete session; }

Connection::~Connection() { CHECK(state_ == State::kClosed); }

Connection* Connection::accept(event::Loop& loop, int fd, const Address& local, const Address& remote,
                               ConnectionHandler& handler, const ConnectionOptions& options, TlsSessionPtr tls,
                               Buffer first) {
  auto* c = new Connection(loop, handler, options, Origin::kDownstream, std::move(tls));
  if (c->tls_ != nullptr) c->state_ = State::kHandshaking;
  c->local_ = local;
  c->remote_ = remote;
  if (const int status = uv_tcp_open(&c->tcp_, fd); status < 0) {
    ::close(fd);
    c->end(status, "opening");
    return c;
  }
  if (first.empty()) {
    c->start_read();
  } else {
    c->bytes_read_ = first.size();
    c->waiting().held = std::move(first);
    if (!c->wait_for_leisure()) loop.at_turn_end(*c);
  }
  return c;
}

Connection* Connection::begin(event::Loop& loop, const Address& remote, ConnectionHandler& handler,
                              const ConnectionOptions& options, TlsSessionPtr tls) {
  auto* c = new Connection(loop, handler, options, Origin::kUpstream, std::move(tls));
  c->state_ = State::kConnecting;
  c->remote_ = remote;
  if (options.connect_timeout_ms != 0) loop.timers().arm(c->timer_, options.connect_timeout_ms);
  return c;
}

Connection* Connection::connect(event::Loop& loop, const Address& remote, ConnectionHandler& handler,
                                const ConnectionOptions& options, TlsSessionPtr tls) {
  Connection* c = begin(loop, remote, handler, options, std::move(tls));
  c->started(c->start_connect());
  return c;
}

Connection* Connection::connect(event::Loop& loop, std::span<const Address> remotes, ConnectionHandler& handler,
                                const ConnectionOptions& options, TlsSessionPtr tls) {
  CHECK(!remotes.empty());
  Connection* c = begin(loop, remotes.front(), handler, options, std::move(tls));
  c->started(remotes.size() == 1 ? c->start_connect() : c->start_race(remotes));
  return c;
}

// kPending: the end of the attempt will come from libuv.
void Connection::started(int status) {
  options_.socket_options = {};
  if (status == kPending) return;
  connect_status_ = status;
  loop_.at_turn_end(*this);
}

int Connection::start_connect() {
  if (!remote_.valid()) return UV_EINVAL;
  if (remote_.is_unix()) return connect_unix();
  if (!options_.socket_options.empty()) {
    if (const int rc = open_with_options(); rc < 0) return rc;
  }
  uv_connect_t* const request = &waiting().request.connect;
  if (const int rc = uv_tcp_connect(request, &tcp_, remote_.get(), ConnectionCallbacks::on_connect); rc < 0) return rc;
  uv_tcp_nodelay(&tcp_, 1);
  return kPending;
}

// They are there before the first packet.
int Connection::open_with_options() {
  const int fd = open_socket(remote_, options_.socket_options);
  if (fd < 0) return fd;
  const int rc = uv_tcp_open(&tcp_, fd);
  if (rc < 0) ::close(fd);
  return rc;
}

int Connection::start_race(std::span<const Address> remotes) {
  race_ = std::make_unique<ConnectRace>(
      loop_, remotes, options_.socket_options,
      [](void* self, int status) { static_cast<Connection*>(self)->on_connect_result(status); }, this);
  return race_->start();
}

// The winner's socket becomes this connection's.
int Connection::end_race(int status) {
  remote_ = race_->address();
  if (status == 0) {
    const int fd = race_->take();
    status = uv_tcp_open(&tcp_, fd);
    if (status < 0) ::close(fd);
  }
  race_ = nullptr;
  return status;
}

// A Unix socket connects at once or not at all. (libuv 1.44 knows no abstract names.)
int Connection::connect_unix() {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int rc = ::connect(fd, remote_.get(), remote_.size()) == 0 ? 0 : -errno;
  if (rc == 0) rc = uv_tcp_open(&tcp_, fd);
  if (rc < 0) ::close(fd);
  return rc;
}

void Connection::on_connect_result(int status) {
  if (state_ != State::kConnecting) return;
  if (race_ != nullptr) status = end_race(status);
  if (status < 0) {
    end(status, "connecting");
    return;
  }
  state_ = State::kHandshaking;
  sockaddr_storage storage;
  int size = sizeof(storage);
  if (uv_tcp_getsockname(&tcp_, reinterpret_cast<sockaddr*>(&storage), &size) == 0)
    local_ = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), static_cast<socklen_t>(size));
  start_read();
  if (state_ == State::kHandshaking) shake_hands();
}

// A handshake is long work. Whether it has to wait: it goes on by what is held then.
bool Connection::wait_for_leisure() {
  if (state_ != State::kHandshaking || loop_.has_leisure()) return false;
  loop_.at_leisure(*this);
  return true;
}

// Whether the connection is open now; a plain one has no hands to shake.
bool Connection::shake_hands() {
  loop_.at_turn_end(*this);
  if (tls_ != nullptr) {
    const int64_t begin = event::steady_ns();
    const TlsSession::Step step = tls_->handshake();
    loop_.took_long(event::steady_ns() - begin);
    if (step == TlsSession::Step::kFailed) on_tls_failed();
    if (step != TlsSession::Step::kDone) return false;
  }
  timer_.disarm();
  state_ = State::kOpen;
  handler_->on_connected(*this);
  return state_ == State::kOpen;
}

// ---- reading

void Connection::start_read() {
  if (reading_ || eof_seen_) return;
  if (const int rc = uv_read_start(stream(), ConnectionCallbacks::on_alloc, ConnectionCallbacks::on_read); rc < 0) {
    end(rc, "reading");
    return;
  }
  reading_ = true;
}

void Connection::stop_read() {
  if (!reading_) return;
  uv_read_stop(stream());
  reading_ = false;
}

void Connection::take(Block* block, const char* data, size_t size) {
  bytes_read_ += size;
  if (state_ == State::kFlushing) {  // dropped; see Close::kFlush
    if (fin_sent_ && loop_.now_ns() < linger_until_ns_) loop_.timers().arm(timer_, options_.delayed_close_ms);
    return;
  }
  if (state_ != State::kOpen && state_ != State::kHandshaking) return;
  if (wait_for_leisure()) {
    // It is held until then.
  } else if (tls_ != nullptr && (paused_ == 0 || state_ == State::kHandshaking)) {
    return take_sealed(block, data, size);
  } else if (paused_ == 0) {
    return handler_->on_read(*this, block, data, size);
  }
  if (write_failed_) {
    end(UV_EPIPE, "writing");
    return;
  }
  waiting().held.append_shared(block, data, size);
  stop_read();
}

void Connection::resume_read(Pause why) {
  if (paused_ == 0) return;
  paused_ &= static_cast<uint8_t>(~static_cast<uint8_t>(why));
  if (paused_ == 0 && !reading_) loop_.at_turn_end(*this);
}

void Connection::deliver_held() {
  while (waiting_ != nullptr && !waiting_->held.empty() &&
         (state_ == State::kHandshaking || (paused_ == 0 && state_ == State::kOpen))) {
    Buffer& held = waiting_->held;
    const Buffer::Slice slice = *held.begin();
    slice.block->retain();
    held.consume(slice.size);
    if (tls_ != nullptr) {
      take_sealed(slice.block, slice.data, slice.size);
    } else {
      handler_->on_read(*this, slice.block, slice.data, slice.size);
    }
    slice.block->release();
  }
  if (state_ == State::kHandshaking || (paused_ == 0 && state_ == State::kOpen)) start_read();
}

// Bytes of the peer go through TLS. Many records are told in one on_read; what is left when the reader pauses is held
// as it came.
void Connection::take_sealed(Block* block, const char* data, size_t size) {
  using Step = TlsSession::Step;
  tls_->feed(data, size);
  if (state_ == State::kHandshaking && !shake_hands()) return tls_->take_back();
  Step step = Step::kDone;
  while (step == Step::kDone && state_ == State::kOpen && paused_ == 0) {
    ReadMemory& memory = ReadMemory::opened();
    const uv_buf_t room = memory.lend();
    size_t filled = 0;
    do {
      size_t got = 0;
      step = tls_->read(room.base + filled, room.len - filled, got);
      filled += got;
    } while (step == Step::kDone && room.len - filled >= TlsSession::kMaxRecord);
    if (filled == 0) continue;
    handler_->on_read(*this, memory.block(), room.base, filled);
    memory.taken(filled);
  }
  if (state_ == State::kOpen) {
    if (step == Step::kDone) hold_sealed(block, data, size);
    if (step == Step::kEof) on_close_notify();
    if (step == Step::kFailed) on_tls_failed();
    if (wire_->size() > kMaxUnreadAnswers) {
      tls_->fail(TlsFailure::kProtocol, "the peer asks and does not read the answers");
      end(Error{Errc::kOverflow, origin_, false, "TLS with " + remote_.str() + ": " + tls_->reason()});
    }
    if (!wire_->empty()) loop_.at_turn_end(*this);
  }
  if (tls_ != nullptr) tls_->take_back();
}

void Connection::hold_sealed(Block* block, const char* data, size_t size) {
  const size_t left = tls_->unread();
  if (left == 0) return;
  Buffer rest;
  rest.append_shared(block, data + (size - left), left);
  Buffer& held = waiting().held;
  rest.append(std::move(held));
  held = std::move(rest);
  stop_read();
}

void Connection::on_close_notify() {
  if (eof_seen_) return;
  eof_seen_ = true;
  handler_->on_eof(*this);
}

// The alert that OpenSSL has made of it leaves still. A client may have sent more meanwhile, and a RST would take the
// alert away from it.
void Connection::on_tls_failed() {
  const bool connecting = state_ == State::kHandshaking;
  error_ = std::make_unique<Error>(
      Error{Errc::kProtocol, origin_, connecting, "TLS with " + remote_.str() + ": " + tls_->reason()});
  output_.clear();
  drop_held();
  if (origin_ == Origin::kUpstream) {
    send_at_once();
    begin_close();
    return;
  }
  paused_ = 0;
  state_ = State::kFlushing;
  flush_left_ = write_queue_bytes();
  if (options_.delayed_close_ms != 0) loop_.timers().arm(timer_, options_.delayed_close_ms);
  loop_.at_turn_end(*this);
}

void Connection::on_peer_eof() {
  reading_ = false;  // libuv has stopped
  const bool known = std::exchange(eof_seen_, true);
  if (state_ == State::kFlushing) {
    if (fin_sent_) begin_close();
  } else if (write_failed_) {
    end(UV_EPIPE, "writing");
  } else if (tls_ != nullptr && !known && state_ < State::kClosing) {
    const bool connecting = state_ == State::kHandshaking;
    tls_->fail(TlsFailure::kTruncated, connecting ? "closed in the handshake" : "closed without close_notify");
    end(Error{Errc::kReset, origin_, connecting, "TLS with " + remote_.str() + ": " + tls_->reason()});
  } else if (state_ == State::kOpen && !known) {
    handler_->on_eof(*this);
  }
}

// ---- writing

void Connection::write(Buffer&& data) {
  if (state_ >= State::kFlushing || fin_wanted_) {
    data.clear();
    return;
  }
  output_.append(std::move(data));
  written();
}

void Connection::written() {
  if (state_ >= State::kClosing || write_failed_ || fin_sent_) {
    output_.clear();
  } else if (gather_rounds_) {
    loop_.at_round_end(*this);
  } else {
    loop_.at_turn_end(*this);
  }
}

void Connection::shutdown_write() {
  fin_wanted_ = true;
  loop_.at_turn_end(*this);
}

// The next records of what is written, or the last of all. False: there is nothing to send (or it has failed).
bool Connection::seal() {
  if (tls_ == nullptr || state_ == State::kHandshaking) return false;
  if (!output_.empty()) {
    if (!tls_->seal(output_)) on_tls_failed();
  } else if (fin_wanted_ || state_ == State::kFlushing) {
    tls_->close_notify();
  }
  return !wire_->empty();
}

void Connection::flush() {
  while (!write_active_ && (!wire_->empty() || seal())) {
    uv_buf_t iovecs[kMaxIovecs];
    unsigned count = 0;
    size_t total = 0;
    for (const Buffer::Slice& slice : *wire_) {
      iovecs[count++] = uv_buf_init(const_cast<char*>(slice.data), slice.size);
      total += slice.size;
      if (count == kMaxIovecs) break;
    }
    const int sent = uv_try_write(stream(), iovecs, count);
    if (sent < 0 && sent != UV_EAGAIN) {
      on_write_error(sent);
      return;
    }
    if (sent > 0) {
      wire_->consume(static_cast<size_t>(sent));
      bytes_written_ += static_cast<uint64_t>(sent);
    }
    if (sent < static_cast<int>(total)) start_blocked_write();
    if (state_ >= State::kClosing) return;
  }
  compact_waiting();
  update_watermark();
  if (!write_active_ && output_.empty()) on_all_written();
}

// Small slices that wait for a slow reader would each pin a whole block. Looked at every so many bytes, since what was
// compacted once is not copied again. When nothing waits any more, what is for that goes.
void Connection::compact_waiting() {
  if (waiting_ == nullptr) return;
  if (!write_active_) {
    waiting_->compact_at = Waiting::kCompactStep;
    if (waiting_->held.empty()) waiting_.reset();
  } else if (output_.size() >= waiting_->compact_at) {
    output_.compact();
    waiting_->compact_at = output_.size() + Waiting::kCompactStep;
  }
}

// The socket is full: libuv waits for room with the first few slices; what is written meanwhile gathers behind them.
void Connection::start_blocked_write() {
  wire_->compact();
  size_t bytes = 0;
  size_t slices = 0;
  for (const Buffer::Slice& slice : *wire_) {
    bytes += slice.size;
    if (++slices == kBlockedIovecs) break;
  }
  Buffer& in_flight = waiting().in_flight;
  wire_->move_front(bytes, in_flight);
  in_flight_bytes_ = bytes;
  uv_buf_t iovecs[kMaxIovecs];
  unsigned count = 0;
  for (const Buffer::Slice& slice : in_flight) {
    CHECK(count < kMaxIovecs);
    iovecs[count++] = uv_buf_init(const_cast<char*>(slice.data), slice.size);
  }
  const int rc = uv_write(&waiting_->request.write, stream(), iovecs, count, ConnectionCallbacks::on_write);
  if (rc < 0) {
    drop_in_flight();
    on_write_error(rc);
    return;
  }
  write_active_ = true;
}

void Connection::update_watermark() {
  if (state_ != State::kOpen) return;
  const size_t queued = write_queue_bytes();
  if (!above_ && queued > options_.write_high_watermark) {
    above_ = true;
    handler_->on_write_watermark(*this, true);
  } else if (above_ && queued <= options_.write_high_watermark / 2) {
    above_ = false;
    handler_->on_write_watermark(*this, false);
  }
}

void Connection::on_all_written() {
  if (state_ == State::kOpen) {
    if (fin_wanted_) send_fin();
  } else if (state_ == State::kFlushing) {
    if (eof_seen_ || options_.delayed_close_ms == 0) {
      begin_close();
    } else if (linger_until_ns_ == 0) {
      send_fin();
      const int64_t round_ns = static_cast<int64_t>(options_.delayed_close_ms) * 1'000'000;
      linger_until_ns_ = loop_.now_ns() + kLingerRounds * round_ns;
      loop_.timers().arm(timer_, options_.delayed_close_ms);
    }
  }
}

void Connection::send_fin() {
  if (fin_sent_) return;
  fin_sent_ = true;
  // Everything is in the kernel: no need for libuv's uv_shutdown, which would wait for a poll first.
  uv_os_fd_t fd;
  if (uv_fileno(reinterpret_cast<uv_handle_t*>(&tcp_), &fd) == 0) ::shutdown(fd, SHUT_WR);
}

// The peer has reset the connection, or closed both directions. What it sent before can still be read, and may be the
// answer that explains it (an early 413, say): that is delivered first, and the end shows on reading.
void Connection::on_write_error(int status) {
  output_.clear();
  wire_->clear();
  if (state_ == State::kOpen && reading_ && paused_ == 0) {
    write_failed_ = true;
    return;
  }
  end(status, "writing");
}

// ---- the end

void Connection::close(Close how) {
  if (state_ >= State::kClosing) return;
  if (how == Close::kFlush && state_ == State::kFlushing) return;
  if (how == Close::kFlush && state_ == State::kOpen && !write_failed_) {
    state_ = State::kFlushing;
    paused_ = 0;
    drop_held();
    start_read();
    if (state_ != State::kFlushing) return;
    flush_left_ = write_queue_bytes();
    if (options_.delayed_close_ms != 0) loop_.timers().arm(timer_, options_.delayed_close_ms);
    loop_.at_turn_end(*this);
    return;
  }
  reset_ = how == Close::kReset;
  begin_close();
}

void Connection::on_timer() {
  if (state_ <= State::kHandshaking) {
    end(Error{Errc::kTimeout, origin_, true,
              "connecting to " + remote_.str() + (race_ == nullptr ? "" : " and its other addresses") + ": " +
                  (state_ == State::kConnecting ? "no answer within " : "no end of the TLS handshake within ") +
                  std::to_string(options_.connect_timeout_ms) + " ms"});
  } else if (state_ == State::kFlushing && linger_until_ns_ == 0) {
    const size_t left = write_queue_bytes() - in_flight_bytes_ + uv_stream_get_write_queue_size(stream());
    if (left < flush_left_) {
      flush_left_ = left;
      loop_.timers().arm(timer_, options_.delayed_close_ms);
      return;
    }
    end(Error{Errc::kTimeout, origin_, false, "closing " + remote_.str() + ": the peer does not read"});
  } else if (state_ == State::kFlushing) {
    begin_close();
  }
}

void Connection::end(int status, const char* doing) {
  Error error = system_error(status, std::string(doing) + " " + remote_.str());
  error.origin = origin_;
  error.retryable = state_ <= State::kHandshaking;
  end(std::move(error));
}

void Connection::end(Error error) {
  if (state_ >= State::kClosing) return;
  error_ = std::make_unique<Error>(std::move(error));
  begin_close();
}

// close_notify, if it can still be said: not in the middle of a record, nor after an error.
void Connection::say_goodbye() {
  if (tls_ == nullptr || reset_ || error_ != nullptr || write_active_ || fin_sent_ || !wire_->empty()) return;
  tls_->close_notify();
  send_at_once();
}

// What the kernel does not take at once is lost: a few bytes before the end.
void Connection::send_at_once() {
  if (write_active_) return;
  for (const Buffer::Slice& slice : *wire_) {
    const uv_buf_t bytes = uv_buf_init(const_cast<char*>(slice.data), slice.size);
    if (uv_try_write(stream(), &bytes, 1) < static_cast<int>(slice.size)) break;
  }
  wire_->clear();
}

void Connection::begin_close() {
  say_goodbye();
  state_ = State::kClosing;
  output_.clear();
  wire_->clear();
  drop_held();
  timer_.disarm();
  race_ = nullptr;
  unlink();  // its end waits for no leisure
  loop_.at_turn_end(*this);
}

void Connection::finish_close() {
  state_ = State::kClosed;
  auto* handle = reinterpret_cast<uv_handle_t*>(&tcp_);
  if (!reset_ || uv_tcp_close_reset(&tcp_, ConnectionCallbacks::on_closed) != 0)
    uv_close(handle, ConnectionCallbacks::on_closed);
  reading_ = false;
  handler_->on_close(*this, error_.get());
  wire_ = &output_;
  tls_.reset();
}

void Connection::on_turn_end() {
  if (state_ == State::kConnecting) {
    if (connect_status_ != kPending) on_connect_result(connect_status_);
  } else if (state_ == State::kClosing) {
    finish_close();
  } else if (state_ != State::kClosed) {
    if (!reading_) deliver_held();
    if (state_ < State::kClosing) flush();
  }
}

}  // namespace outrigger::net
