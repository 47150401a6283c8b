// What the tests of this room share: a loop that is run until something holds, and a handler that records.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "event/loop.h"
#include "event/timer.h"
#include "net/connection.h"
#include "net/listener.h"
#include "support/run_until.h"
#include "support/socket.h"

namespace outrigger::net {

struct Recorder final : ConnectionHandler {
  std::string text;       // everything read
  bool keep_text = true;  // else only counted
  size_t bytes = 0;
  size_t reads = 0;
  std::vector<std::string> events;
  std::optional<Error> error;
  std::function<void(Connection&)> connected;
  std::function<void(Connection&, Block*, const char*, size_t)> read;
  std::function<void(Connection&)> eof;
  std::function<void(Connection&, bool)> watermark;
  std::function<void(Connection&)> close;

  void on_connected(Connection& c) override {
    events.push_back("connected");
    if (connected) connected(c);
  }
  void on_read(Connection& c, Block* block, const char* data, size_t size) override {
    if (keep_text) text.append(data, size);
    bytes += size;
    ++reads;
    if (read) read(c, block, data, size);
  }
  void on_eof(Connection& c) override {
    events.push_back("eof");
    if (eof) eof(c);
  }
  void on_write_watermark(Connection& c, bool above) override {
    events.push_back(above ? "above" : "below");
    if (watermark) watermark(c, above);
  }
  void on_close(Connection& c, const Error* e) override {
    events.push_back("close");
    if (e != nullptr) error = *e;
    if (close) close(c);
  }
  bool has(const std::string& event) const {
    for (const auto& e : events)
      if (e == event) return true;
    return false;
  }
  bool closed() const { return has("close"); }
};

class NetTest : public ::testing::Test {
 protected:
  // Runs the loop until `done`, at most kWaitMs.
  void run_until(const std::function<bool()>& done) {
    ASSERT_TRUE(test::run_until(loop, done)) << "what the test waits for did not happen";
  }
  // Lets everything that is ready happen, and no more.
  void run_ready(int rounds = 5) {
    for (int i = 0; i < rounds; ++i) {
      loop.post([] {});
      loop.run_once();
    }
  }
  // A connection of ours to a raw peer.
  Connection* open(Recorder& handler, test::Socket& peer, const ConnectionOptions& options = {}) {
    test::ListenSocket listener;
    Connection* c = Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, options);
    run_until([&] { return handler.has("connected") || handler.closed(); });
    peer = listener.accept();
    EXPECT_TRUE(peer.valid());
    return c;
  }
  // For a connection whose handler is still there.
  void finish(Connection* c, Recorder& handler) {
    if (!handler.closed()) c->close(Close::kNow);
    run_until([&] { return handler.closed(); });
  }

  event::Loop loop;

 private:
};

}  // namespace outrigger::net
