// envoy.filters.network.connection_limit: exact, before HTTP and TCP, across changes of the configuration.
#include "proxy/connection_limit.h"

#include <atomic>
#include <thread>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/socket.h"

namespace outrigger::proxy {
namespace {

using config::ListenerSpec;
using test::ListenSocket;
using test::Socket;
using test::wait_until;

constexpr std::string_view kLimited = "connection_limit.few.limited_connections";
constexpr std::string_view kActive = "connection_limit.few.active_connections";

TEST(ConnectionLimit, NeverMoreAndNeverFewerThanItSays) {
  constexpr uint64_t kMost = 3;
  ConnectionLimit limit;
  std::atomic<uint64_t> inside = 0, most_seen = 0, refused_with_room = 0;
  std::vector<std::thread> threads;
  // As many threads as there may be inside: whoever is refused was refused for somebody who was not there.
  for (uint64_t i = 0; i < kMost; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 50'000; ++round) {
        if (!limit.take(kMost)) {
          ++refused_with_room;
          continue;
        }
        const uint64_t now = ++inside;
        uint64_t seen = most_seen;
        while (now > seen && !most_seen.compare_exchange_weak(seen, now)) {
        }
        --inside;
        limit.give();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused_with_room, 0u);
  EXPECT_LE(most_seen, kMost);
  for (uint64_t i = 0; i < kMost; ++i) EXPECT_TRUE(limit.take(kMost));
  EXPECT_FALSE(limit.take(kMost));
  EXPECT_TRUE(limit.take(kMost + 1));
  limit.give();
  limit.give();
  EXPECT_TRUE(limit.take(kMost));
}

class Limits : public ::testing::Test {
 protected:
  ListenerSpec tcp(uint64_t most, uint64_t delay_ms = 0) {
    ListenerSpec spec = listener("main", "");
    config::FilterChainSpec& chain = spec.filter_chains[0];
    chain.connection_limit = {.stat_prefix = "few", .max_connections = most, .delay_ms = delay_ms};
    chain.tcp.emplace();
    chain.tcp->stat_prefix = "t";
    chain.tcp->targets = {{"up", 1}};
    return spec;
  }
  void serve(ListenerSpec front) {
    plane.accept(static_cluster("up", upstream.port()));
    plane.update(std::move(front));
  }
  // A client that has been let through to the host.
  std::pair<Socket, Socket> through() {
    Socket client = Socket::connect(plane.port());
    client.send("x");
    Socket host = upstream.accept();
    EXPECT_TRUE(host.valid());
    EXPECT_EQ(host.recv_exactly(1), "x");
    return {std::move(client), std::move(host)};
  }
  bool counted(std::string_view name, uint64_t value) {
    return wait_until([&] { return plane.stat(name) == value; });
  }

  ListenSocket upstream;
  DataPlane plane;
};

TEST_F(Limits, OneTooManyIsClosedAndRoomIsGivenBack) {
  serve(tcp(2));
  auto first = through(), second = through();
  EXPECT_EQ(plane.stat(kActive), 2u);
  Socket third = Socket::connect(plane.port());
  EXPECT_EQ(third.recv_to_eof(), "");
  EXPECT_TRUE(counted(kLimited, 1));
  EXPECT_EQ(plane.stat("tcp.t.downstream_cx_total"), 2u);  // the filter behind has not heard of it
  first.first.close();
  first.second.close();
  EXPECT_TRUE(counted(kActive, 1));
  auto fourth = through();
  EXPECT_EQ(plane.stat(kActive), 2u);
  EXPECT_EQ(plane.stat(kLimited), 1u);
}

TEST_F(Limits, ConnectionsOfOldVersionsCountAndAreCutByNobody) {
  serve(tcp(2));
  auto first = through(), second = through();
  ListenerSpec changed = tcp(1);
  changed.filter_chains[0].tcp->idle_timeout_ms = 1'234'000;
  plane.update(changed);
  first.first.send("on");
  EXPECT_EQ(first.second.recv_exactly(2), "on");
  first.first.close();
  first.second.close();
  EXPECT_TRUE(counted(kActive, 1));
  EXPECT_EQ(Socket::connect(plane.port()).recv_to_eof(), "");  // one is there still, and one may be
  EXPECT_TRUE(counted(kLimited, 1));
  plane.update(tcp(2));
  auto third = through();
  EXPECT_EQ(plane.stat(kActive), 2u);
}

TEST_F(Limits, ARefusedConnectionIsKeptForItsDelayAndNotRead) {
  serve(tcp(1, 2'000));
  auto first = through();
  Socket refused = Socket::connect(plane.port());
  refused.send("hello");
  EXPECT_TRUE(counted(kLimited, 1));
  EXPECT_TRUE(refused.quiet_for(100));
  refused.recv_to_eof();
  EXPECT_NE(refused.end(), Socket::End::kTimeout);  // FIN, or RST since nobody has read it
  EXPECT_EQ(plane.stat(kActive), 1u);
  // The worker's end does not wait for it.
  plane.update(tcp(1, 3'600'000));
  Socket last = Socket::connect(plane.port());
  EXPECT_TRUE(counted(kLimited, 2));
}

TEST_F(Limits, ComesBeforeHttpToo) {
  test::FakeUpstream http_upstream([](test::Exchange& exchange) { exchange.respond(200, "ok"); });
  plane.accept(static_cluster("web", http_upstream.port()));
  plane.accept(table("t", {"web"}));
  ListenerSpec front = listener("main", "t");
  front.filter_chains[0].connection_limit = {.stat_prefix = "few", .max_connections = 1};
  serve(front);
  {
    test::HttpClient client(plane.port());
    EXPECT_EQ(client.get("/web").status(), 200);
    EXPECT_EQ(Socket::connect(plane.port()).recv_to_eof(), "");
    EXPECT_EQ(client.get("/web").status(), 200);
  }
  EXPECT_TRUE(counted(kActive, 0));
  EXPECT_EQ(plane.stat(kLimited), 1u);
  EXPECT_EQ(plane.stat("http.main.downstream_cx_total"), 1u);
}

}  // namespace
}  // namespace outrigger::proxy
