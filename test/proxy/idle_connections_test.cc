// What a client's connection holds while nothing is under way on it, to the byte: design.md, budgets.
#include <atomic>
#include <deque>

#include "base/block.h"
#include "event/clock.h"
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/count_allocations.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;

std::atomic<int64_t> now_ns{1'000'000'000};

// The clock stands; loops follow it.
struct FrozenClock {
  FrozenClock() {
    event::set_clock_for_test([] { return now_ns.load(); });
  }
  ~FrozenClock() { event::set_clock_for_test(nullptr); }
};

class IdleConnections : public ::testing::Test {
 protected:
  static constexpr int kCount = 100;

  IdleConnections() {
    plane.accept(static_cluster("up", upstream.port()));
    plane.accept(all_to("up"));
    config::ListenerSpec front = listener("main", "t");
    front.filter_chains[0].hcm.stat_prefix = "in";
    plane.update(front);
  }

  // One request on a connection of its own, which stays.
  void ask(bool http2) {
    peers.emplace_back(test::Socket::connect(plane.port()));
    test::H2Peer& peer = peers.back();
    if (!http2) {
      test::HttpClient client(std::move(peer.socket));
      EXPECT_EQ(client.get("/").status(), 200);
      peer.socket = std::move(client.socket());
      return;
    }
    // GET http://a.test/, the authority as a compressor that is new to it sends it (RFC 7541 section 6.2.1).
    peer.greet();
    ask_on(peer, 1,
           "\x82\x86\x84\x41\x06"
           "a.test");
  }
  static void ask_on(test::H2Peer& peer, uint32_t stream, std::string_view head) {
    peer.socket.send(h2::frame(h2::kHeaders, h2::kEndStream | h2::kEndHeaders, stream, head));
    EXPECT_EQ(peer.status(stream), ":status=200");
  }

  struct Held {
    ptrdiff_t heap;
    size_t blocks;
  };
  // By the worker's thread, once its timers have had their time.
  Held held() {
    now_ns += 60'000'000'000;
    Held out{};
    plane.run([&] { plane.loop().timers().fire_due(); });
    plane.run([&] {
      test::counting = true;
      out = {test::held_bytes, BlockPool::local().blocks_in_use()};
    });
    return out;
  }
  // Bytes for each of kCount connections.
  double each(bool http2) {
    ask(http2);  // what the thread keeps for itself
    const Held before = held();
    for (int i = 0; i < kCount; ++i) ask(http2);
    EXPECT_TRUE(test::wait_until([&] { return plane.stat("http.in.downstream_rq_active") == 0; }));
    const Held after = held();
    EXPECT_EQ(plane.stat("http.in.downstream_cx_active"), kCount + 1u);
    EXPECT_EQ(after.blocks, before.blocks);
    return static_cast<double>(after.heap - before.heap) / kCount;
  }

  FrozenClock clock;
  test::FakeUpstream upstream{[](test::Exchange& e) { e.respond(200, "hello"); }};
  DataPlane plane;
  std::deque<test::H2Peer> peers;
};

TEST_F(IdleConnections, Http1TakesLessThan2KiB) {
  const double bytes = each(false);
  RecordProperty("bytes", std::to_string(bytes));
  EXPECT_LT(bytes, 2048);
}

TEST_F(IdleConnections, Http2TakesLessThan4KiB) {
  const double bytes = each(true);
  RecordProperty("bytes", std::to_string(bytes));
  EXPECT_LT(bytes, 4096);
  for (test::H2Peer& peer : peers) ask_on(peer, 3, "\x82\x86\x84\xbe");  // they are good for more
}

}  // namespace
}  // namespace outrigger::proxy
