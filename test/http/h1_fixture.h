// Codecs over real loopback connections: an owner that records what its sinks are told, and a raw socket as the other
// side.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "event/loop.h"
#include "event/timer.h"
#include "http/h1_client_codec.h"
#include "http/h1_codec.h"
#include "http/h1_server_codec.h"
#include "net/connection.h"
#include "support/run_until.h"
#include "support/socket.h"

namespace outrigger::http {

struct TestSink final : StreamSink {
  Arena memory;
  CodecStream* stream = nullptr;
  std::string log;  // events, a word each; heads as "headers(:method=GET ...)"
  std::string body;
  bool over = false;  // complete, reset, or the owner was told
  std::function<void(TestSink&)> headers_hook, interim_hook, data_hook, end_hook, trailers_hook, bad_hook, reset_hook;
  std::function<void(TestSink&, bool)> watermark_hook;
  HeaderMap* headers = nullptr;
  uint16_t bad_status = 0;
  ResetReason reason{};
  std::string details;

  static std::string text(const HeaderMap& map) {
    std::string out;
    map.for_each([&](const Header& h) {
      if (!out.empty()) out += ' ';
      out.append(h.name).append("=").append(h.value);
    });
    return out;
  }
  static void call(const std::function<void(TestSink&)>& hook, TestSink& self) {
    if (hook) hook(self);
  }

  Arena& arena() override { return memory; }
  void on_1xx(HeaderMap& map) override {
    log += "1xx(" + text(map) + ") ";
    call(interim_hook, *this);
  }
  void on_headers(HeaderMap& map, bool end_stream) override {
    headers = &map;
    log += "headers(" + text(map) + ") ";
    if (end_stream) log += "end ";
    call(headers_hook, *this);
    if (end_stream) call(end_hook, *this);
  }
  void on_data(Buffer& data, bool end_stream) override {
    body += data.to_string();
    if (end_stream) log += "end ";
    call(data_hook, *this);
    if (end_stream) call(end_hook, *this);
  }
  void on_trailers(HeaderMap& map) override {
    log += "trailers(" + text(map) + ") end ";
    call(trailers_hook, *this);
    call(end_hook, *this);
  }
  void on_bad_request(uint16_t status, std::string_view why) override {
    bad_status = status;
    details = why;
    log += "bad(" + std::to_string(status) + " " + details + ") ";
    call(bad_hook, *this);
  }
  void on_reset(ResetReason why, std::string_view text) override {
    reason = why;
    details = text;
    over = true;
    log += "reset(" + details + ") ";
    call(reset_hook, *this);
  }
  void on_write_watermark(bool above) override {
    log += above ? "above " : "below ";
    if (watermark_hook) watermark_hook(*this, above);
  }
};

// Headers given as pairs, in memory of their own.
struct Fields {
  Arena arena;
  HeaderMap map{arena};
  Fields(std::initializer_list<std::pair<std::string_view, std::string_view>> list) {
    for (const auto& [name, value] : list) map.add(name, value);
  }
};

// Owner of one connection and its codec, server or client.
struct TestOwner final : net::ConnectionHandler, CodecCallbacks {
  net::Connection* connection = nullptr;
  std::unique_ptr<Codec> codec;
  std::deque<std::unique_ptr<TestSink>> sinks;  // all that there were
  std::function<void(TestSink&)> new_stream_hook;
  std::function<void(bool)> end_hook;
  std::vector<bool> ends;  // on_stream_end's answers
  bool connected = false;
  bool closed = false;

  TestSink& last() { return *sinks.back(); }
  // Client.
  TestSink& open() {
    sinks.push_back(std::make_unique<TestSink>());
    last().stream = &codec->new_stream(last());
    return last();
  }

  void on_connected(net::Connection&) override { connected = true; }
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override {
    codec->on_read(block, data, size);
  }
  void on_eof(net::Connection&) override { codec->on_eof(); }
  void on_write_watermark(net::Connection&, bool above) override { codec->on_write_watermark(above); }
  void on_close(net::Connection&, const Error*) override {
    closed = true;
    codec->on_close();
  }
  StreamSink& on_new_stream(CodecStream& stream) override {
    sinks.push_back(std::make_unique<TestSink>());
    last().stream = &stream;
    if (new_stream_hook) new_stream_hook(last());
    return last();
  }
  void on_stream_end(bool reusable) override {
    ends.push_back(reusable);
    last().over = true;
    if (end_hook) end_hook(reusable);
  }
};

class H1CodecTest : public ::testing::Test {
 protected:
  H1CodecTest() { net_options.delayed_close_ms = 200; }
  ~H1CodecTest() override { end(); }
  // Closes all connections; for fixtures whose codecs use members of theirs.
  void end() {
    for (auto& owner : owners_)
      if (!owner->closed) owner->connection->close(net::Close::kNow);
    run_until([&] {
      for (auto& owner : owners_)
        if (!owner->closed) return false;
      return true;
    });
    run_ready();
  }

  // Owners end with the fixture, when their connections have closed.
  TestOwner& new_owner() { return *owners_.emplace_back(std::make_unique<TestOwner>()); }
  // A server codec whose client is `peer`.
  void serve(TestOwner& owner, test::Socket& peer) {
    test::ListenSocket listener;
    peer = test::Socket::connect(listener.port());
    test::Socket accepted = listener.accept();
    const int fd = dup(accepted.fd());
    accepted.close();
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    owner.connection = net::Connection::accept(loop, fd, {}, {}, owner, net_options);
    owner.codec = make_h1_server_codec(*owner.connection, owner, options);
  }
  // A client codec whose server is `peer`.
  void connect(TestOwner& owner, test::Socket& peer) {
    test::ListenSocket listener;
    owner.connection =
        net::Connection::connect(loop, *net::Address::parse("127.0.0.1", listener.port()), owner, net_options);
    owner.codec = make_h1_client_codec(*owner.connection, owner, options);
    run_until([&] { return owner.connected; });
    peer = listener.accept();
  }
  // Both ends ours.
  void join(TestOwner& client, TestOwner& server) {
    test::ListenSocket listener;
    client.connection =
        net::Connection::connect(loop, *net::Address::parse("127.0.0.1", listener.port()), client, net_options);
    client.codec = make_h1_client_codec(*client.connection, client, options);
    run_until([&] { return client.connected; });
    test::Socket accepted = listener.accept();
    const int fd = dup(accepted.fd());
    accepted.close();
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    server.connection = net::Connection::accept(loop, fd, {}, {}, server, net_options);
    server.codec = make_h1_server_codec(*server.connection, server, options);
  }

  void run_until(const std::function<bool()>& done) {
    EXPECT_TRUE(test::run_until(loop, done)) << "what the test waits for did not happen";
  }
  void run_ready(int rounds = 5) {
    for (int i = 0; i < rounds; ++i) {
      loop.post([] {});
      loop.run_once();
    }
  }
  // Bytes to the codec, and what they cause.
  void send(test::Socket& peer, std::string_view bytes) {
    peer.send(bytes);
    run_ready();
  }
  H1ServerState server_state(const TestOwner& owner) { return static_cast<H1ServerCodec&>(*owner.codec).state(); }
  H1ClientState client_state(const TestOwner& owner) { return static_cast<H1ClientCodec&>(*owner.codec).state(); }

  event::Loop loop;
  H1Options options;
  net::ConnectionOptions net_options;

 private:
  std::deque<std::unique_ptr<TestOwner>> owners_;
};

}  // namespace outrigger::http
