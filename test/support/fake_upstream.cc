#include "support/fake_upstream.h"

#include <poll.h>
#include <sys/socket.h>

namespace outrigger::test {

bool Exchange::read_body() {
  test::read_body(*socket_, MessageKind::kRequest, request);
  return request.ok();
}

bool Exchange::stall() {
  std::unique_lock lock(upstream_->mutex_);
  while (!upstream_->released_ && !upstream_->stopping_) {
    pollfd entry{socket_->fd(), POLLRDHUP, 0};
    if (::poll(&entry, 1, 0) > 0) return false;  // the peer has closed
    upstream_->changed_.wait_for(lock, Milliseconds(5));
  }
  return upstream_->released_;
}

FakeUpstream::FakeUpstream(Handler handler, Options options)
    : options_(options), listener_(1024), handler_(std::move(handler)) {
  if (options.receive_buffer > 0) {  // the connections inherit it
    ::setsockopt(listener_.fd(), SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof options.receive_buffer);
  }
  if (!handler_) handler_ = [](Exchange& exchange) { exchange.respond(200); };
  accepting_ = std::thread([this] { accept_loop(); });
}

FakeUpstream::~FakeUpstream() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  stop_listening();
  accepting_.join();
  close_connections();
  for (Connection& connection : connections_) connection.thread.join();
}

void FakeUpstream::set_handler(Handler handler) {
  std::lock_guard lock(mutex_);
  handler_ = std::move(handler);
}

std::vector<HttpMessage> FakeUpstream::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

size_t FakeUpstream::request_count() const {
  std::lock_guard lock(mutex_);
  return requests_.size();
}

bool FakeUpstream::wait_for_requests(size_t count, Milliseconds patience) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return requests_.size() >= count; });
}

size_t FakeUpstream::accepted() const {
  std::lock_guard lock(mutex_);
  return connections_.size();
}

size_t FakeUpstream::open() const {
  std::lock_guard lock(mutex_);
  return open_;
}

bool FakeUpstream::wait_for_open(size_t count, Milliseconds patience) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return open_ == count; });
}

void FakeUpstream::release() {
  {
    std::lock_guard lock(mutex_);
    released_ = true;
  }
  changed_.notify_all();
}

void FakeUpstream::stop_listening() {
  std::lock_guard lock(mutex_);
  refusing_ = true;
  ::shutdown(listener_.fd(), SHUT_RDWR);  // unlike close, it wakes accept_loop()
}

void FakeUpstream::close_connections() {
  std::lock_guard lock(mutex_);
  for (Connection& connection : connections_) {
    if (!connection.done) ::shutdown(connection.socket.fd(), SHUT_RDWR);
  }
}

void FakeUpstream::accept_loop() {
  for (;;) {
    Socket socket = listener_.accept(60'000);
    std::lock_guard lock(mutex_);
    if (stopping_ || refusing_) return;
    if (!socket.valid()) continue;
    Connection& connection = connections_.emplace_back();
    connection.socket = std::move(socket);
    connection.number = connections_.size() - 1;
    ++open_;
    connection.thread = std::thread([this, &connection] { serve(connection); });
    changed_.notify_all();
  }
}

void FakeUpstream::serve(Connection& connection) {
  bool reset = false;
  for (size_t number = 0;; ++number) {
    Exchange exchange;
    exchange.socket_ = &connection.socket;
    exchange.upstream_ = this;
    exchange.connection = connection.number;
    exchange.number = number;
    // A connection may idle between requests for as long as the test lasts.
    exchange.request = read_head(connection.socket, Milliseconds(600'000));
    if (exchange.request.ok() && options_.read_body) exchange.read_body();
    if (!exchange.request.ok() && exchange.request.start_line.empty()) break;
    Handler handler;
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(exchange.request);
      handler = handler_;
    }
    changed_.notify_all();
    handler(exchange);
    reset = exchange.end_ == Exchange::End::kReset;
    if (exchange.end_ != Exchange::End::kKeep || !exchange.request.ok()) break;
  }
  {
    std::lock_guard lock(mutex_);
    connection.done = true;
    if (reset) {
      connection.socket.reset();
    } else {
      connection.socket.close();
    }
    --open_;
  }
  changed_.notify_all();
}

}  // namespace outrigger::test
