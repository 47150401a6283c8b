// No allocation per read or write in steady state: 10,000 round trips over two Connections, with every operator new of
// this program counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "net/tls_fixture.h"

namespace {
std::atomic<uint64_t> allocations{0};
}

void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size); memory != nullptr) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace outrigger::net {
namespace {

// Sends a request of `size` bytes, waits for as many back, and again.
struct Pinger final : ConnectionHandler {
  size_t size = 0, got = 0;
  uint64_t round_trips = 0;
  bool up = false, down = false;
  void send(Connection& c) {
    for (size_t left = size; left > 0;) {
      const size_t n = left < Buffer::kMaxReserve ? left : Buffer::kMaxReserve;
      c.output().reserve(n);
      c.output().commit(n);
      left -= n;
    }
    c.written();
  }
  void on_connected(Connection& c) override {
    up = true;
    send(c);
  }
  void on_read(Connection& c, Block*, const char*, size_t n) override {
    got += n;
    if (got < size) return;
    got = 0;
    ++round_trips;
    send(c);
  }
  void on_eof(Connection&) override {}
  void on_close(Connection&, const Error*) override { down = true; }
};

struct Echo final : ConnectionHandler {
  Connection* connection = nullptr;
  bool down = false;
  void on_read(Connection& c, Block* block, const char* data, size_t n) override {
    c.output().append_shared(block, data, n);
    c.written();
  }
  void on_eof(Connection&) override {}
  void on_close(Connection&, const Error*) override { down = true; }
};

class AllocationTest : public NetTest {};

// Round trips between two Connections, plain or with TLS; what OpenSSL itself takes is not ours.
class RoundTrips : public AllocationTest, public ::testing::WithParamInterface<bool> {};

TEST_P(RoundTrips, AllocateNothing) {
  const bool tls = GetParam();
  test::CertificateAuthority ca;
  TestContext server(ca.issue("a"), ""), peer({}, ca.pem());
  auto set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
  ASSERT_TRUE(set.has_value());
  for (const size_t size : {size_t{128}, size_t{20'000}}) {  // copied, and shared
    Echo echo;
    Acceptor acceptor(loop, *set, 0, [&](int fd, const Address& local, const Address& remote) {
      echo.connection = Connection::accept(loop, fd, local, remote, echo, {}, tls ? server.server() : TlsSessionPtr());
    });
    Pinger pinger;
    pinger.size = size;
    Connection* client =
        Connection::connect(loop, (*set)->address(), pinger, {}, tls ? peer.client() : TlsSessionPtr());
    run_until([&] { return pinger.round_trips >= 500; });  // warm
    const uint64_t from = pinger.round_trips, before = allocations;
    while (pinger.round_trips < from + 10'000) loop.run_once();
    const uint64_t counted = allocations - before;
    EXPECT_EQ(counted, 0u) << "at " << size << " bytes";
    client->close(Close::kNow);
    echo.connection->close(Close::kNow);
    run_until([&] { return pinger.down && echo.down; });
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, RoundTrips, ::testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Tls" : "Plain"); });

}  // namespace
}  // namespace outrigger::net
