#include "net/socket_options.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <vector>

#include "net/net_fixture.h"
#include "net/proxy_protocol.h"

namespace outrigger::net {
namespace {

using test::Socket;
using Family = SocketOption::Family;

SocketOption option(int level, int name, int value, Family family = Family::kAny) {
  return {.level = level, .name = name, .value = value, .family = family, .field = "an option"};
}

int value_of(int fd, int level, int name) {
  int value = -1;
  EXPECT_EQ(socket_option_value(fd, option(level, name, 0), value), 0);
  return value;
}

// Our end of a connection with this local port.
int descriptor_with_port(uint16_t port) {
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0 || storage.ss_family != AF_INET) continue;
    if (Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), size).port() == port) return fd;
  }
  return -1;
}

class SocketOptionsTest : public NetTest {
 protected:
  // An accepted connection of the set.
  Socket accept_one(const std::shared_ptr<SocketSet>& set) {
    Socket out;
    // The kernel chooses the socket.
    std::vector<std::unique_ptr<Acceptor>> acceptors;
    for (uint32_t i = 0; i < set->size(); ++i)
      acceptors.push_back(
          std::make_unique<Acceptor>(loop, set, i, [&](int fd, const Address&, const Address&) { out = Socket(fd); }));
    Socket client = Socket::connect(set->address().port());
    run_until([&] { return out.valid(); });
    return out;
  }
};

TEST_F(SocketOptionsTest, AcceptedSocketsInheritTheListeners) {
  auto set = *SocketSet::create(
      *Address::parse("127.0.0.1", 0), 2, 0, 0, false,
      {option(SOL_SOCKET, SO_KEEPALIVE, 1), option(IPPROTO_TCP, TCP_KEEPCNT, 4), option(IPPROTO_TCP, TCP_KEEPIDLE, 77),
       option(IPPROTO_TCP, TCP_KEEPINTVL, 8), option(IPPROTO_TCP, TCP_USER_TIMEOUT, 9'000),
       option(IPPROTO_IP, IP_TOS, 0xb8, Family::kV4), option(IPPROTO_IPV6, IPV6_TCLASS, 4, Family::kV6)});
  for (const int fd : {set->fd(0), set->fd(1)}) EXPECT_EQ(value_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
  const Socket accepted = accept_one(set);
  EXPECT_EQ(value_of(accepted.fd(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(value_of(accepted.fd(), IPPROTO_TCP, TCP_KEEPCNT), 4);
  EXPECT_EQ(value_of(accepted.fd(), IPPROTO_TCP, TCP_KEEPIDLE), 77);
  EXPECT_EQ(value_of(accepted.fd(), IPPROTO_TCP, TCP_KEEPINTVL), 8);
  EXPECT_EQ(value_of(accepted.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT), 9'000);
  EXPECT_EQ(value_of(accepted.fd(), IPPROTO_IP, IP_TOS), 0xb8);
}

TEST_F(SocketOptionsTest, WhatIsNoLongerAskedForIsAsBefore) {
  auto set = *SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
  const int idle = value_of(set->fd(0), IPPROTO_TCP, TCP_KEEPIDLE);
  ASSERT_TRUE(set->set_options({option(SOL_SOCKET, SO_KEEPALIVE, 1), option(IPPROTO_TCP, TCP_KEEPIDLE, 12)}));
  EXPECT_EQ(value_of(accept_one(set).fd(), IPPROTO_TCP, TCP_KEEPIDLE), 12);
  ASSERT_TRUE(set->set_options({option(SOL_SOCKET, SO_KEEPALIVE, 1), option(IPPROTO_TCP, TCP_KEEPIDLE, 13)}));
  EXPECT_EQ(value_of(set->fd(0), IPPROTO_TCP, TCP_KEEPIDLE), 13);
  ASSERT_TRUE(set->set_options({option(SOL_SOCKET, SO_KEEPALIVE, 1)}));
  EXPECT_EQ(value_of(set->fd(0), IPPROTO_TCP, TCP_KEEPIDLE), idle);
  EXPECT_EQ(value_of(set->fd(0), SOL_SOCKET, SO_KEEPALIVE), 1);
  ASSERT_TRUE(set->set_options({}));
  EXPECT_EQ(value_of(accept_one(set).fd(), SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST_F(SocketOptionsTest, AllOrNone) {
  auto set = *SocketSet::create(*Address::parse("127.0.0.1", 0), 2, 0);
  ASSERT_TRUE(set->set_options({option(IPPROTO_TCP, TCP_KEEPIDLE, 12)}));
  // The system does not take the second.
  const auto failed =
      set->set_options({option(IPPROTO_TCP, TCP_KEEPIDLE, 20), option(IPPROTO_TCP, TCP_KEEPINTVL, 1'000'000)});
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().detail.find("an option: setting it for 127.0.0.1:"), std::string::npos)
      << failed.error().detail;
  for (const int fd : {set->fd(0), set->fd(1)}) EXPECT_EQ(value_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 12);
  EXPECT_FALSE(SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0, 0, false,
                                 {option(IPPROTO_TCP, TCP_KEEPINTVL, 1'000'000)}));
}

TEST_F(SocketOptionsTest, AreTriedOnSocketsOfTheirOwn) {
  EXPECT_TRUE(try_socket_options({}));
  EXPECT_TRUE(try_socket_options({option(SOL_SOCKET, SO_KEEPALIVE, 1), option(IPPROTO_TCP, TCP_FASTOPEN, 16),
                                  option(IPPROTO_TCP, TCP_DEFER_ACCEPT, 2), option(IPPROTO_IP, IP_TOS, 8, Family::kV4),
                                  option(IPPROTO_IPV6, IPV6_TCLASS, 4, Family::kV6)}));
  for (const Family family : {Family::kAny, Family::kV4}) {
    const auto refused = try_socket_options({option(IPPROTO_TCP, TCP_KEEPINTVL, 1'000'000, family)});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().detail, "an option: the system does not take it: invalid argument");
  }
}

TEST_F(SocketOptionsTest, OfConnectionsThatAreMade) {
  auto set = *SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
  const std::vector<SocketOption> options = {option(SOL_SOCKET, SO_KEEPALIVE, 1), option(IPPROTO_TCP, TCP_KEEPCNT, 3),
                                             option(IPPROTO_TCP, TCP_USER_TIMEOUT, 4'321),
                                             option(IPPROTO_IPV6, IPV6_TCLASS, 4, Family::kV6)};
  Recorder recorder;
  Connection* const c = Connection::connect(loop, set->address(), recorder, {.socket_options = options});
  run_until([&] { return recorder.has("connected"); });
  const int fd = descriptor_with_port(c->local().port());
  ASSERT_GE(fd, 0);
  EXPECT_EQ(value_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(value_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(value_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 4'321);
  EXPECT_EQ(value_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  c->close(Close::kNow);
  run_until([&] { return recorder.has("close"); });

  // One that the system does not take fails the connection, and tells why.
  Recorder refused;
  const std::vector<SocketOption> wrong = {option(IPPROTO_TCP, TCP_KEEPCNT, 100'000)};
  Connection::connect(loop, set->address(), refused, {.socket_options = wrong});
  run_until([&] { return refused.has("close"); });
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->detail.rfind("connecting ", 0), 0u) << refused.error->detail;
}

TEST_F(SocketOptionsTest, WhatPrecedesGoesFirst) {
  auto set = *SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
  Recorder server, client;
  Acceptor acceptor(loop, set, 0, [&](int fd, const Address& local, const Address& remote) {
    Connection::accept(loop, fd, local, remote, server, {});
  });
  Connection* const c = Connection::connect(loop, set->address(), client, {});
  c->precede(Buffer("PROXY UNKNOWN\r\n"));
  c->write(Buffer("hello"));
  run_until([&] { return server.text.size() >= 20; });
  EXPECT_EQ(server.text, "PROXY UNKNOWN\r\nhello");
  server.eof = [](Connection& s) { s.close(Close::kFlush); };
  c->close(Close::kFlush);
  run_until([&] { return server.has("close") && client.has("close"); });
}

}  // namespace
}  // namespace outrigger::net
