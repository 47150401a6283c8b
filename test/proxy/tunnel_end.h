// End: one end of a tunnel in either version of HTTP, client or host: what it says and hears, head aside.
//
// Thread rule: one thread.
// Use:  End client(Socket::connect(port));  client.say("hello");  EXPECT_EQ(client.hear(3), "yes");
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "support/h2_peer.h"
#include "support/socket.h"

namespace outrigger::proxy {

namespace h2 = test::h2;
using test::H2Peer;
using test::Socket;

class End {
 public:
  explicit End(Socket socket) : h1_(std::move(socket)) {}
  End(H2Peer peer, uint32_t stream) : h2_(std::move(peer)), stream_(stream) {}

  void say(std::string_view bytes, bool end = false) {
    if (h2_) {
      h2_->socket.send(h2::data(stream_, bytes, end));
      said_ += bytes.size();
    } else {
      if (!bytes.empty()) h1_.send(bytes);
      if (end) h1_.shutdown_write();
    }
  }
  // As much of it as is taken within a while.
  size_t try_say(std::string_view bytes) {
    if (!h2_) return h1_.send(bytes, 300);
    size_t sent = 0;
    while (sent < bytes.size()) {
      const size_t size = std::min({credit(), bytes.size() - sent, size_t{16'384}});
      if (size != 0) {
        say(bytes.substr(sent, size));
        sent += size;
        continue;
      }
      const std::string more = h2_->socket.recv_some(65536, 300);
      if (more.empty()) break;
      h2_->reader.feed(more);
    }
    return sent;
  }
  // Lets the other side say so much more.
  void open(size_t size) {
    const auto increment = static_cast<uint32_t>(size);
    if (h2_) h2_->socket.send(h2::window(0, increment) + h2::window(stream_, increment));
  }
  void say_head(std::string_view frame) { h2_->socket.send(frame); }
  std::string take_head() {
    if (!h2_) return h1_.recv_until("\r\n\r\n");
    h2_->read_head(stream_);
    const h2::Frame* const f = h2_->reader.find(h2::kHeaders, stream_);
    return f == nullptr ? "" : f->fields;
  }
  // Whether a head has come by now (HTTP/2).
  bool has_head() const { return h2_->reader.find(h2::kHeaders, stream_) != nullptr; }
  // All that comes until so much has.
  std::string hear(size_t size) {
    while (heard().size() < size && more()) {
    }
    return heard().substr(0, size);
  }
  bool hears_end() {
    if (h2_)
      return h2_->read_until([&] { return h2_->reader.ended(stream_) || h2_->reader.code(stream_) > 0; }) &&
             h2_->reader.ended(stream_);
    while (more()) {
    }
    return h1_.end() == Socket::End::kEof;
  }
  std::string heard() { return h2_ ? h2_->reader.body(stream_) : h1_heard_; }
  void reset() {
    if (h2_) {
      h2_->socket.send(h2::reset(stream_, 8));
    } else {
      h1_.reset();
    }
  }
  // The other side's reset, or its close.
  bool hears_reset() {
    if (h2_) return h2_->read_until([&] { return h2_->reader.code(stream_) >= 0; });
    while (more()) {
    }
    return h1_.end() == Socket::End::kReset || h1_.end() == Socket::End::kEof;
  }

 private:
  // What the other side's windows have left (RFC 9113 section 6.9).
  size_t credit() const {
    uint64_t stream = 65'535, connection = 65'535;
    for (const h2::Frame& f : h2_->reader.frames) {
      if (f.type == h2::kWindowUpdate) (f.stream == 0 ? connection : stream) += f.code();
      if (f.type != h2::kSettings) continue;
      for (size_t at = 0; at + 6 <= f.payload.size(); at += 6)
        if (f.payload[at + 1] == 4)
          stream += h2::Frame{h2::kRstStream, 0, 0, f.payload.substr(at + 2), ""}.code() - 65'535;
    }
    return std::min(stream, connection) - said_;
  }
  bool more() {
    if (h2_) {
      const size_t before = heard().size();
      return h2_->read_until([&] { return heard().size() > before; });
    }
    const std::string bytes = h1_.recv_some();
    h1_heard_ += bytes;
    return !bytes.empty();
  }

  Socket h1_;
  std::optional<H2Peer> h2_;
  uint32_t stream_ = 0;
  size_t said_ = 0;
  std::string h1_heard_;
};

// What every tunnel passes. The client has said "early " with its request.
inline void bytes_both_ways(End& client, End& upstream) {
  client.say("hello");
  EXPECT_EQ(upstream.hear(11), "early hello");
  upstream.say("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.hear(18), "GET / HTTP/1.1\r\n\r\n");
}
// After that.
inline void client_ends_first(End& client, End& upstream) {
  client.say("bye", true);
  EXPECT_EQ(upstream.hear(14), "early hellobye");
  EXPECT_TRUE(upstream.hears_end());
  upstream.say("so long");
  EXPECT_EQ(client.hear(25).substr(18), "so long");
  upstream.say("", true);
  EXPECT_TRUE(client.hears_end());
}
inline void upstream_ends_first(End& client, End& upstream) {
  upstream.say("bye", true);
  EXPECT_EQ(client.hear(3), "bye");
  EXPECT_TRUE(client.hears_end());
  client.say("one more");
  EXPECT_EQ(upstream.hear(8), "one more");
  client.say("", true);
  EXPECT_TRUE(upstream.hears_end());
}

}  // namespace outrigger::proxy
