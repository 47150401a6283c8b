// HTTP/2 codecs over real loopback connections; the other side is frames written by hand (support/h2_frames.h).
#pragma once

#include "http/h1_fixture.h"
#include "http/h2_codec.h"
#include "stats/stats.h"
#include "support/h2_frames.h"

namespace outrigger::http {

namespace h2 = test::h2;

class H2CodecTest : public H1CodecTest {
 protected:
  ~H2CodecTest() override { end(); }
  // A server codec; the client has said its preface.
  TestOwner& serve_h2() {
    TestOwner& owner = accept_h2();
    send(peer, h2::preface() + h2::settings() + h2::frame(h2::kSettings, h2::kAck, 0));
    return owner;
  }
  TestOwner& accept_h2() {
    TestOwner& owner = new_owner();
    serve(owner, peer);
    owner.codec = make_h2_server_codec(*owner.connection, owner, h2_options, {&stats, &registry.worker_shard(0)});
    return owner;
  }
  // A client codec; the server has said its SETTINGS.
  TestOwner& connect_h2(const std::string& settings = h2::settings()) {
    TestOwner& owner = new_owner();
    connect(owner, peer);
    owner.codec = make_h2_client_codec(*owner.connection, owner, h2_options, {&stats, &registry.worker_shard(0)});
    run_ready();
    EXPECT_EQ(peer.recv_exactly(24), h2::preface());
    send(peer, settings);
    return owner;
  }
  // Everything that the codec has written by now.
  h2::Reader& read() {
    for (int quiet = 0; quiet < 3;) {
      run_ready();
      const std::string bytes = peer.recv_some(65536, 0);
      quiet = bytes.empty() ? quiet + 1 : 0;
      reader.feed(bytes);
    }
    return reader;
  }
  // Until the codec has said what is asked for.
  void read_until(const std::function<bool()>& done) {
    run_until([&] {
      run_ready(1);
      reader.feed(peer.recv_some(65536, 0));
      return done();
    });
  }
  uint64_t count(const std::string& name) { return registry.value("http.in.http2." + name); }

  stats::Registry registry{1};
  struct Handles : H2Stats {
    explicit Handles(stats::Layout& layout) : H2Stats(layout, "http.{http}.http2.") {}
  };
  stats::Block<Handles> stats{registry, {{"http", "in"}}};
  H2Options h2_options;
  test::Socket peer;
  h2::Reader reader;
};

}  // namespace outrigger::http
