#include "support/fake_upstream.h"

#include <poll.h>
#include <sys/socket.h>

namespace outrigger::test {

bool Exchange::read_body() {
  test::read_body(*stream_, MessageKind::kRequest, request);
  return request.ok();
}

bool Exchange::stall() {
  std::unique_lock lock(upstream_->mutex_);
  while (!upstream_->released_ && !upstream_->stopping_) {
    pollfd entry{stream_->fd(), POLLRDHUP, 0};
    if (::poll(&entry, 1, 0) > 0) return false;  // the peer has closed
    upstream_->changed_.wait_for(lock, Milliseconds(5));
  }
  return upstream_->released_;
}

FakeUpstream::FakeUpstream(Handler handler, Options options)
    : options_(options), listener_(1024, options.receive_buffer_bytes), handler_(std::move(handler)) {
  if (!handler_) handler_ = [](Exchange& exchange) { exchange.respond(200); };
  accepting_ = std::thread([this] { accept_loop(); });
}

FakeUpstream::~FakeUpstream() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  listener_.stop();
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

void FakeUpstream::close_connections() {
  std::lock_guard lock(mutex_);
  for (Connection& connection : connections_) {
    if (!connection.done) connection.stream.shutdown_both();
  }
}

void FakeUpstream::accept_loop() {
  for (;;) {
    ByteStream stream = listener_.accept(Milliseconds(60'000));
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    if (!stream.valid()) {
      if (listener_.stopped()) return;
      continue;
    }
    Connection& connection = connections_.emplace_back();
    connection.stream = std::move(stream);
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
    exchange.stream_ = &connection.stream;
    exchange.upstream_ = this;
    exchange.connection = connection.number;
    exchange.number = number;
    // A connection may idle between requests for as long as the test lasts.
    exchange.request = read_head(connection.stream, Milliseconds(600'000));
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
      connection.stream.reset();
    } else {
      connection.stream.close();
    }
    --open_;
  }
  changed_.notify_all();
}

}  // namespace outrigger::test
