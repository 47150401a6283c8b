// Connections to hosts with several addresses (net/connect_race.h), over real sockets: addresses that answer, that
// refuse, and that say nothing.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "net/connect_race.h"
#include "net/tls_fixture.h"

namespace outrigger::net {
namespace {

using Events = std::vector<std::string>;
using test::ListenSocket;
using test::SilentSocket;

Address v4(uint16_t port) { return *Address::parse("127.0.0.1", port); }
Address v6(uint16_t port) { return *Address::parse("::1", port); }

// ---- the order

std::string ordered(std::vector<int> families, const AttemptOrder& order) {
  std::vector<Address> addresses;
  uint16_t port = 0;
  for (const int family : families) addresses.push_back(family == 6 ? v6(++port) : v4(++port));
  std::string text;
  for (const Address& address : attempt_order(addresses, order))
    text += (text.empty() ? "" : " ") + std::string(address.is_v6() ? "6:" : "4:") + std::to_string(address.port());
  return text;
}

TEST(AttemptOrderTest, FamiliesTakeTurnsBeginningWithThatOfTheFirst) {
  EXPECT_EQ(ordered({6, 6, 6, 4, 4}, {}), "6:1 4:4 6:2 4:5 6:3");
  EXPECT_EQ(ordered({4, 6, 4, 6, 6, 6}, {}), "4:1 6:2 4:3 6:4 6:5 6:6");
  EXPECT_EQ(ordered({4, 4}, {}), "4:1 4:2");
  EXPECT_EQ(ordered({}, {}), "");
}

TEST(AttemptOrderTest, TheFirstFamilyAndItsCountMayBeChosen) {
  using First = AttemptOrder::First;
  EXPECT_EQ(ordered({6, 6, 4}, {.first = First::kV4}), "4:3 6:1 6:2");
  EXPECT_EQ(ordered({4, 6, 6}, {.first = First::kV6}), "6:2 4:1 6:3");
  EXPECT_EQ(ordered({6, 6, 6, 6, 4, 4, 4}, {.first = First::kV6, .first_count = 3}), "6:1 6:2 6:3 4:5 6:4 4:6 4:7");
  EXPECT_EQ(ordered({4, 4}, {.first = First::kV6, .first_count = 2}), "4:1 4:2");
}

TEST(AttemptOrderTest, IsBounded) {
  const std::vector<Address> many(100, v4(1));
  EXPECT_EQ(attempt_order(many, {}).size(), kMaxAttempts);
  EXPECT_EQ(attempt_order(many, {.first_count = 1000}).size(), kMaxAttempts);
}

// ---- the race

class HappyEyeballsTest : public NetTest {
 protected:
  // With its first stream libuv opens a descriptor of its own for each loop, and keeps it.
  void SetUp() override {
    Recorder first;
    Connection::connect(loop, v4(test::refused_port()), first, {});
    run_until([&] { return first.closed(); });
  }
  Connection* connect(std::vector<Address> addresses, uint64_t timeout_ms = 5'000) {
    started_ns_ = loop.now_ns();
    return Connection::connect(loop, addresses, handler, {.connect_timeout_ms = timeout_ms});
  }
  void run_to_the_end() {
    run_until([&] { return handler.has("connected") || handler.closed(); });
  }
  int64_t elapsed_ms() const { return (loop.now_ns() - started_ns_) / 1'000'000; }
  static bool called(ListenSocket& listener) { return listener.accept(0).valid(); }

  Recorder handler;
  int64_t started_ns_ = 0;
};

TEST_F(HappyEyeballsTest, TheFirstThatAnswersIsTakenAndTheNextIsNotAsked) {
  ListenSocket first(128, "::1"), second;
  Connection* c = connect({v6(first.port()), v4(second.port())});
  EXPECT_TRUE(handler.events.empty());
  EXPECT_EQ(c->remote(), v6(first.port()));
  run_to_the_end();
  ASSERT_EQ(handler.events, (Events{"connected"}));
  EXPECT_EQ(c->remote(), v6(first.port()));
  EXPECT_TRUE(c->local().is_v6());
  test::Socket peer = first.accept();
  c->write(Buffer("hello"));
  run_ready();
  EXPECT_EQ(peer.recv_exactly(5), "hello");
  peer.send("world");
  run_until([&] { return handler.text == "world"; });
  EXPECT_FALSE(called(second));
  finish(c, handler);
}

TEST_F(HappyEyeballsTest, TheNextIsTriedAtOnceWhenOneFails) {
  ListenSocket third;
  // In less than the delay of an attempt.
  Connection* c = connect({v6(test::refused_port()), *Address::parse("255.255.255.255", 1), v4(third.port())}, 290);
  run_to_the_end();
  ASSERT_EQ(handler.events, (Events{"connected"}));
  EXPECT_EQ(c->remote(), v4(third.port()));
  finish(c, handler);
}

TEST_F(HappyEyeballsTest, TheNextIsTriedAfterTheDelayWhenOneSaysNothing) {
  SilentSocket silent("::1");
  ListenSocket second, third;
  const size_t before = test::open_descriptors();
  Connection* c = connect({v6(silent.port()), v4(second.port()), v4(third.port())});
  run_to_the_end();
  ASSERT_EQ(handler.events, (Events{"connected"}));
  EXPECT_EQ(c->remote(), v4(second.port()));
  EXPECT_EQ(c->local().ip(), "127.0.0.1");
  EXPECT_GE(elapsed_ms(), static_cast<int64_t>(ConnectRace::kAttemptDelayMs));
  EXPECT_FALSE(called(third));
  EXPECT_EQ(test::open_descriptors(), before + 1);  // the loser is closed
  finish(c, handler);
}

TEST_F(HappyEyeballsTest, AFailureDoesNotWaitForAnAttemptThatSaysNothing) {
  SilentSocket silent;
  ListenSocket last;
  // The second begins after one delay, the third with the second's failure.
  Connection* c = connect({v4(silent.port()), v6(test::refused_port()), v4(last.port())}, 590);
  run_to_the_end();
  ASSERT_EQ(handler.events, (Events{"connected"}));
  EXPECT_EQ(c->remote(), v4(last.port()));
  finish(c, handler);
}

TEST_F(HappyEyeballsTest, TheLastErrorIsTold) {
  connect({v6(test::refused_port()), v4(test::refused_port())});
  EXPECT_TRUE(handler.events.empty());
  run_to_the_end();
  ASSERT_TRUE(handler.error);
  EXPECT_EQ(handler.error->code, Errc::kRefused);
  EXPECT_TRUE(handler.error->retryable);
  EXPECT_NE(handler.error->detail.find("127.0.0.1"), std::string::npos) << handler.error->detail;
}

TEST_F(HappyEyeballsTest, AllFailAtOnceWithoutACallFromInside) {
  connect({*Address::parse("255.255.255.255", 1), *Address::parse("255.255.255.255", 2)});
  EXPECT_TRUE(handler.events.empty());
  run_to_the_end();
  ASSERT_EQ(handler.events, (Events{"close"}));
  ASSERT_TRUE(handler.error);
  EXPECT_NE(handler.error->detail.find(":2"), std::string::npos) << handler.error->detail;
}

TEST_F(HappyEyeballsTest, TheTimeoutIsForAllAttempts) {
  SilentSocket one, two("::1");
  const size_t before = test::open_descriptors();
  connect({v4(one.port()), v6(two.port())}, 400);
  run_to_the_end();
  ASSERT_TRUE(handler.error);
  EXPECT_EQ(handler.error->code, Errc::kTimeout);
  EXPECT_GE(elapsed_ms(), 400);
  run_ready();
  EXPECT_EQ(test::open_descriptors(), before);
}

TEST_F(HappyEyeballsTest, ClosingInTheMiddleLeavesNothing) {
  for (const Close how : {Close::kFlush, Close::kNow, Close::kReset}) {
    SilentSocket one, two("::1");
    const size_t before = test::open_descriptors();
    handler = {};
    Connection* c = connect({v4(one.port()), v6(two.port()), v4(one.port())});
    run_until([&] { return test::open_descriptors() == before + 2; });  // the second is under way
    c->close(how);
    EXPECT_FALSE(handler.closed());
    run_until([&] { return handler.closed(); });
    EXPECT_FALSE(handler.error);
    EXPECT_EQ(handler.events, (Events{"close"}));
    EXPECT_EQ(test::open_descriptors(), before);
  }
}

TEST_F(HappyEyeballsTest, ClosingBeforeTheLoopTurnsLeavesNothing) {
  ListenSocket first;
  const size_t before = test::open_descriptors();
  Connection* c = connect({v4(first.port()), v6(test::refused_port())});
  c->close(Close::kNow);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.events, (Events{"close"}));
  EXPECT_EQ(test::open_descriptors(), before);
}

TEST_F(HappyEyeballsTest, WhatIsWrittenMeanwhileGoesToTheWinner) {
  SilentSocket silent;
  ListenSocket second(128, "::1");
  Connection* c = connect({v4(silent.port()), v6(second.port())});
  c->precede(Buffer("head "));
  c->write(Buffer("early"));
  run_to_the_end();
  run_ready();
  EXPECT_EQ(second.accept().recv_exactly(10), "head early");
  finish(c, handler);
}

TEST_F(HappyEyeballsTest, TheSocketHasItsOptions) {
  ListenSocket second;
  const std::vector<SocketOption> options{{.level = SOL_SOCKET, .name = SO_KEEPALIVE, .value = 1, .field = "a"}};
  const std::vector<Address> addresses{v6(test::refused_port()), v4(second.port())};
  const size_t before = test::open_descriptors();
  Connection* c = Connection::connect(loop, addresses, handler, {.socket_options = options});
  run_to_the_end();
  ASSERT_EQ(handler.events, (Events{"connected"}));
  EXPECT_EQ(test::open_descriptors(), before + 1);
  bool found = false;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_storage name{};
    socklen_t size = sizeof(name);
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) continue;
    if (Address::from_sockaddr(reinterpret_cast<sockaddr*>(&name), size) != c->local()) continue;
    found = true;
    int keepalive = 0, no_delay = 0;
    size = sizeof(int);
    EXPECT_EQ(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &size), 0);
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size), 0);
    EXPECT_NE(keepalive, 0);
    EXPECT_NE(no_delay, 0);
  }
  EXPECT_TRUE(found);
  finish(c, handler);
}

// The race ends with the TCP connection: a winner whose handshake does not end has the rest of the time, and no other
// address is tried for it.
TEST_F(HappyEyeballsTest, TheHandshakeIsTheWinners) {
  TestContext plain({}, "");
  ListenSocket first, second(128, "::1");
  const std::vector<Address> addresses{v4(first.port()), v6(second.port())};
  Connection::connect(loop, addresses, handler, {.connect_timeout_ms = 700}, plain.client());
  run_to_the_end();
  ASSERT_TRUE(handler.error);
  EXPECT_EQ(handler.error->code, Errc::kTimeout);
  EXPECT_NE(handler.error->detail.find("handshake"), std::string::npos) << handler.error->detail;
  EXPECT_FALSE(called(second));
}

}  // namespace
}  // namespace outrigger::net
