#include "net/listener.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "base/log.h"
#include "net/net_fixture.h"

namespace outrigger::net {
namespace {

using test::Socket;

class ListenerTest : public NetTest {
 protected:
  std::shared_ptr<SocketSet> make(const Address& address, uint32_t workers = 1) {
    auto set = SocketSet::create(address, workers, 0);
    EXPECT_TRUE(set.has_value()) << (set ? "" : set.error().detail);
    return *set;
  }
  Address any_port(const char* ip = "127.0.0.1") { return *Address::parse(ip, 0); }
  Acceptor::OnAccept keep() {
    return [this](int fd, const Address& local, const Address& remote) {
      accepted.emplace_back(fd);
      locals.push_back(local);
      remotes.push_back(remote);
    };
  }
  std::string socket_path() { return "/tmp/outrigger-listener-" + std::to_string(getpid()) + ".sock"; }
  std::vector<Socket> accepted;
  std::vector<Address> locals, remotes;
};

TEST_F(ListenerTest, WorkersShareOnePort) {
  auto set = make(any_port(), 3);
  ASSERT_EQ(set->size(), 3u);
  EXPECT_NE(set->address().port(), 0);
  std::set<int> fds;
  for (uint32_t i = 0; i < 3; ++i) {
    fds.insert(set->fd(i));
    sockaddr_in name;
    socklen_t size = sizeof(name);
    ASSERT_EQ(getsockname(set->fd(i), reinterpret_cast<sockaddr*>(&name), &size), 0);
    EXPECT_EQ(ntohs(name.sin_port), set->address().port());
    int listening = 0;
    size = sizeof(listening);
    getsockopt(set->fd(i), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    EXPECT_EQ(listening, 1);
  }
  EXPECT_EQ(fds.size(), 3u);
}

TEST_F(ListenerTest, AcceptsFromEverySocketOfTheSet) {
  auto set = make(any_port(), 2);
  Acceptor a(loop, set, 0, keep());
  Acceptor b(loop, set, 1, keep());
  std::vector<Socket> clients;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(Socket::connect(set->address().port()));
    ASSERT_TRUE(clients.back().valid());
  }
  run_until([&] { return accepted.size() == 40; });
  EXPECT_EQ(locals[0], set->address());
  std::set<uint16_t> ports, expected;
  for (auto& r : remotes) ports.insert(r.port());
  for (auto& c : clients) expected.insert(c.local_port());
  EXPECT_EQ(ports, expected);
  int on = 0;
  socklen_t size = sizeof(on);
  getsockopt(accepted[0].fd(), IPPROTO_TCP, TCP_NODELAY, &on, &size);
  EXPECT_NE(on, 0);  // inherited
}

TEST_F(ListenerTest, AcceptsAtMostSoManyATurn) {
  auto set = make(any_port());
  size_t most = 0;
  size_t in_turn = 0;
  struct End final : event::TurnEnd {
    size_t* most;
    size_t* in_turn;
    void on_turn_end() override {
      *most = std::max(*most, *in_turn);
      *in_turn = 0;
    }
  } end;
  end.most = &most;
  end.in_turn = &in_turn;
  Acceptor a(loop, set, 0, [&](int fd, const Address&, const Address&) {
    accepted.emplace_back(fd);
    ++in_turn;
    loop.at_turn_end(end);
  });
  std::vector<Socket> clients;
  for (int i = 0; i < 50; ++i) clients.push_back(Socket::connect(set->address().port()));
  run_until([&] { return accepted.size() == 50; });
  EXPECT_EQ(most, static_cast<size_t>(Acceptor::kAcceptsPerTurn));
}

TEST_F(ListenerTest, AnyAddressAsksForTheLocalOneOfEachConnection) {
  auto set = make(any_port("0.0.0.0"));
  Acceptor a(loop, set, 0, keep());
  Socket one = Socket::connect(set->address().port(), "127.0.0.1");
  Socket two = Socket::connect(set->address().port(), "127.0.0.2");
  run_until([&] { return accepted.size() == 2; });
  EXPECT_EQ(locals[0], *Address::parse("127.0.0.1", set->address().port()));
  EXPECT_EQ(locals[1], *Address::parse("127.0.0.2", set->address().port()));
}

TEST_F(ListenerTest, IPv6TakesOnlyIPv6) {
  auto six = make(any_port("::"));
  auto four = make(*Address::parse("0.0.0.0", six->address().port()));  // the same port, no conflict
  Acceptor a(loop, six, 0, keep());
  Socket c = Socket::connect(six->address().port(), "::1");
  ASSERT_TRUE(c.valid());
  run_until([&] { return accepted.size() == 1; });
  EXPECT_EQ(remotes[0], *Address::parse("::1", c.local_port()));
}

TEST_F(ListenerTest, AnAddressInUseIsRefused) {
  auto set = make(any_port());
  auto again = SocketSet::create(set->address(), 2, 0);  // although SO_REUSEPORT would allow it
  ASSERT_FALSE(again.has_value());
  EXPECT_NE(again.error().detail.find("address already in use"), std::string::npos) << again.error().detail;
  EXPECT_NE(again.error().detail.find(set->address().str()), std::string::npos);
  const Address address = set->address();
  set.reset();
  EXPECT_TRUE(SocketSet::create(address, 2, 0).has_value());
}

TEST_F(ListenerTest, AnAddressThatIsNotOursIsRefused) {
  auto set = SocketSet::create(*Address::parse("192.0.2.1", 0), 1, 0);
  ASSERT_FALSE(set.has_value());
  EXPECT_EQ(set.error().code, Errc::kIo);
  EXPECT_FALSE(SocketSet::create(Address(), 1, 0).has_value());
}

TEST_F(ListenerTest, AnAcceptorsEndLeavesTheQueueToTheNext) {
  auto set = make(any_port());
  auto first = std::make_unique<Acceptor>(loop, set, 0, keep());
  run_ready();
  first.reset();
  Socket waiting = Socket::connect(set->address().port());  // nobody accepts now
  ASSERT_TRUE(waiting.valid());
  run_ready();
  EXPECT_TRUE(accepted.empty());
  Acceptor second(loop, set, 0, keep());
  run_until([&] { return accepted.size() == 1; });
  accepted[0].send("hello");
  EXPECT_EQ(waiting.recv_exactly(5), "hello");
}

TEST_F(ListenerTest, TwoAcceptorsOfOneSocketStandSideBySide) {
  auto set = make(any_port());
  Acceptor old_one(loop, set, 0, keep());
  {
    Acceptor new_one(loop, set, 0, keep());
    run_ready();
  }
  run_ready();
  Socket c = Socket::connect(set->address().port());
  run_until([&] { return accepted.size() == 1; });
}

TEST_F(ListenerTest, TheCallbackMayDestroyTheAcceptor) {
  auto set = make(any_port());
  std::unique_ptr<Acceptor> acceptor;
  acceptor = std::make_unique<Acceptor>(loop, set, 0, [&](int fd, const Address&, const Address&) {
    accepted.emplace_back(fd);
    acceptor.reset();
  });
  Socket a = Socket::connect(set->address().port());
  Socket b = Socket::connect(set->address().port());
  run_until([&] { return acceptor == nullptr; });
  run_ready();
  EXPECT_EQ(accepted.size(), 1u);
}

TEST_F(ListenerTest, OutOfDescriptorsPausesAndCounts) {
  auto set = make(any_port());
  Acceptor acceptor(loop, set, 0, keep());
  Socket client = Socket::connect(set->address().port());
  ASSERT_TRUE(client.valid());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 3;         // below what is open: every new descriptor fails
  event::Loop& bare = loop;  // no virtual calls from here: UBSan needs a descriptor to check one
  OUTRIGGER_LOG(kWarning, "net", "{} of {}", "one line", 1);  // and it has seen those of the log by now
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  while (acceptor.accept_failures() == 0) bare.run_once();
  for (int i = 0; i < 20; ++i) {  // no spinning meanwhile
    bare.post([] {});
    bare.run_once();
  }
  const uint64_t failures = acceptor.accept_failures();
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(failures, 1u);
  EXPECT_TRUE(accepted.empty());
  run_until([&] { return accepted.size() == 1; });
}

TEST_F(ListenerTest, UnixSocketsAreSharedHaveAModeAndLeaveNoFile) {
  const std::string path = socket_path();
  auto set = SocketSet::create(*Address::unix_path(path), 2, 0, 0600);
  ASSERT_TRUE(set.has_value());
  struct stat st;
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  {
    Acceptor second(loop, *set, 1, keep());
    Socket client = Socket::connect_unix(path);
    ASSERT_TRUE(client.valid());
    run_until([&] { return accepted.size() == 1; });
    EXPECT_EQ(locals[0].str(), path);
    EXPECT_TRUE(remotes[0].is_unix());
    EXPECT_FALSE(SocketSet::create(*Address::unix_path(path), 1, 0).has_value());  // somebody listens
  }
  run_ready();  // the acceptor's end holds the set until its handle has closed
  set->reset();
  EXPECT_NE(stat(path.c_str(), &st), 0);
}

TEST_F(ListenerTest, AStaleSocketFileIsReplacedButNothingElse) {
  const std::string path = socket_path();
  { test::ListenSocket dead(path.c_str()); }
  {
    auto set = SocketSet::create(*Address::unix_path(path), 1, 0);
    ASSERT_TRUE(set.has_value()) << set.error().detail;
  }
  std::ofstream(path) << "precious";
  auto set = SocketSet::create(*Address::unix_path(path), 1, 0);
  EXPECT_FALSE(set.has_value());
  struct stat st;
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_TRUE(S_ISREG(st.st_mode));
  unlink(path.c_str());
}

TEST_F(ListenerTest, AFileThatIsNoLongerOursStays) {
  const std::string path = socket_path();
  auto set = SocketSet::create(*Address::unix_path(path), 1, 0);
  ASSERT_TRUE(set.has_value());
  unlink(path.c_str());
  test::ListenSocket successor(path.c_str());
  set->reset();
  EXPECT_TRUE(Socket::connect_unix(path).valid());
  unlink(path.c_str());
}

TEST_F(ListenerTest, AbstractNames) {
  auto set = SocketSet::create(*Address::unix_path("@outrigger-" + std::to_string(getpid())), 1, 0, 0600);
  ASSERT_TRUE(set.has_value()) << set.error().detail;
  Acceptor acceptor(loop, *set, 0, keep());
  Socket client = Socket::connect_unix((*set)->address().str());
  ASSERT_TRUE(client.valid());
  run_until([&] { return accepted.size() == 1; });
}

TEST_F(ListenerTest, AnAcceptedConnectionServes) {
  auto set = make(any_port());
  Recorder handler;
  Connection* c = nullptr;
  Acceptor acceptor(loop, set, 0, [&](int fd, const Address& local, const Address& remote) {
    c = Connection::accept(loop, fd, local, remote, handler, {});
  });
  Socket client = Socket::connect(set->address().port());
  client.send("ping");
  run_until([&] { return handler.text == "ping"; });
  EXPECT_EQ(c->local(), set->address());
  EXPECT_EQ(c->remote().port(), client.local_port());
  c->write(Buffer("pong"));
  run_ready();
  EXPECT_EQ(client.recv_exactly(4), "pong");
  client.reset();
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.error->origin, Origin::kDownstream);
}

}  // namespace
}  // namespace outrigger::net
