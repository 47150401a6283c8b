// FakeUpstream: a scripted HTTP/1 server on a loopback port that the kernel chose. Each connection has a thread; each
// request is recorded and given to the handler, which may answer, answer early, stall, send garbage, close or reset.
//
// Thread rule: handlers run in the connections' threads, several at a time; everything public is safe from any thread.
// Use:  FakeUpstream upstream([](Exchange& exchange) { exchange.respond(200, "hello"); });
//       ... upstream.port() ...;  ASSERT_TRUE(upstream.wait_for_requests(1));  upstream.requests()[0].target();
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/http_message.h"

namespace outrigger::test {

class FakeUpstream;

// One request on one connection.
class Exchange {
 public:
  // The body is in it if the upstream reads bodies before it calls the handler (Options::read_body).
  HttpMessage request;
  size_t connection = 0;  // 0 for the first that was accepted
  size_t number = 0;      // of the request on its connection, from 0

  Socket& socket() { return *socket_; }
  void respond(int status, std::string_view body = {}, const HttpMessage::Fields& headers = {}) {
    send(response_bytes(status, body, headers));
  }
  bool send(std::string_view bytes) { return socket_->send(bytes) == bytes.size(); }
  // The rest of the request, if it was not read before; false if it did not come whole.
  bool read_body();
  // The connection ends when the handler returns: by FIN, or by RST.
  void close() { end_ = End::kClose; }
  void reset() { end_ = End::kReset; }
  // Waits until the upstream is released or destroyed, or the peer closes. True if released.
  bool stall();

 private:
  friend class FakeUpstream;
  enum class End { kKeep, kClose, kReset };
  Socket* socket_ = nullptr;
  FakeUpstream* upstream_ = nullptr;
  End end_ = End::kKeep;
};

struct FakeUpstreamOptions {
  bool read_body = true;   // before the handler is called
  int receive_buffer = 0;  // bytes; a small one makes a slow reader's back-pressure show early
};

class FakeUpstream {
 public:
  using Handler = std::function<void(Exchange&)>;
  using Options = FakeUpstreamOptions;

  // The default handler answers 200 with an empty body.
  explicit FakeUpstream(Handler handler = {}, Options options = {});
  ~FakeUpstream();
  FakeUpstream(const FakeUpstream&) = delete;
  FakeUpstream& operator=(const FakeUpstream&) = delete;

  uint16_t port() const { return listener_.port(); }
  void set_handler(Handler handler);  // for requests to come

  std::vector<HttpMessage> requests() const;
  size_t request_count() const;
  bool wait_for_requests(size_t count, Milliseconds patience = kPatience) const;
  size_t accepted() const;  // connections, ever
  size_t open() const;      // connections, now
  bool wait_for_open(size_t count, Milliseconds patience = kPatience) const;

  // Lets every Exchange::stall() return, those to come as well.
  void release();
  // New connections are refused from now on; those that are there live on.
  void stop_listening();
  void close_connections();

 private:
  friend class Exchange;
  struct Connection {
    Socket socket;
    std::thread thread;
    size_t number = 0;
    bool done = false;
  };

  void accept_loop();
  void serve(Connection& connection);

  const Options options_;
  ListenSocket listener_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Handler handler_;
  std::vector<HttpMessage> requests_;
  std::list<Connection> connections_;
  size_t open_ = 0;
  bool released_ = false;
  bool stopping_ = false;
  bool refusing_ = false;
  std::thread accepting_;
};

}  // namespace outrigger::test
