// H2Peer: one end of an HTTP/2 connection by hand, client or server; the frames that it has received are in `reader`.
//
// Thread rule: one thread.
// Use:  H2Peer client(Socket::connect(port));  client.greet();  client.socket.send(h2::headers(1, h2::get("/")));
//       EXPECT_EQ(client.status(1), ":status=200");
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "support/h2_frames.h"
#include "support/socket.h"

namespace outrigger::test {

struct H2Peer {
  explicit H2Peer(Socket s) : socket(std::move(s)) {}
  // What a client says first.
  void greet() { socket.send(h2::preface() + h2::settings() + h2::frame(h2::kSettings, h2::kAck, 0)); }
  // Reads on until `done`, or the end.
  bool read_until(const std::function<bool()>& done) {
    while (!done()) {
      const std::string bytes = socket.recv_some();
      if (bytes.empty()) return done();
      reader.feed(bytes);
    }
    return true;
  }
  bool read_head(uint32_t stream) {
    return read_until([&] { return reader.find(h2::kHeaders, stream) != nullptr; });
  }
  // The stream's first head, once the stream has ended or was reset.
  std::string head(uint32_t stream) {
    read_until([&] { return reader.ended(stream) || reader.code(stream) >= 0; });
    const h2::Frame* const f = reader.find(h2::kHeaders, stream);
    return f == nullptr ? "" : f->fields;
  }
  std::string status(uint32_t stream) { return head(stream).substr(0, 11); }

  Socket socket;
  h2::Reader reader;
};

}  // namespace outrigger::test
