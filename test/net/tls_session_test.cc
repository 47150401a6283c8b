// TlsSession: both ends in memory, without sockets.
#include "net/tls_session.h"

#include <gtest/gtest.h>

#include "net/tls_fixture.h"
#include "support/heap.h"

namespace outrigger::net {
namespace {

using Step = TlsSession::Step;

std::string take(Buffer& wire) {
  const std::string out = wire.to_string();
  wire.consume(out.size());
  return out;
}

class TlsInMemory : public ::testing::Test {
 protected:
  TlsInMemory() : server_context_(ca_.issue("server"), ""), client_context_({}, ca_.pem()) {
    // The client keeps its sessions.
    SSL_CTX_set_session_cache_mode(client_context_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client_context_.get(), [](SSL* ssl, SSL_SESSION* session) {
      return TlsSession::of(ssl).keep_session(session) ? 1 : 0;
    });
  }
  void start(size_t tickets) {
    cache.use(1, 8);
    server = TlsSessionPtr(new TlsSession(server_context_.get(), {.server = true, .tickets = tickets}));
    client = client_context_.client({.context_id = 1, .cache = &cache});
  }
  // The bytes of a server's turn that the client has not got yet.
  std::string shake_hands() {
    EXPECT_EQ(client->handshake(), Step::kWant);
    give(*server, take(client->wire()));
    EXPECT_EQ(server->handshake(), Step::kWant);
    give(*client, take(server->wire()));
    EXPECT_EQ(client->handshake(), Step::kDone);
    give(*server, take(client->wire()));
    EXPECT_EQ(server->handshake(), Step::kDone);
    return take(server->wire());
  }
  // It stays until the session has read it.
  void give(TlsSession& to, std::string bytes) {
    given_ = std::move(bytes);
    to.feed(given_.data(), given_.size());
  }
  std::string read(TlsSession& from) {
    char out[1024];
    size_t got = 0;
    return from.read(out, sizeof(out), got) == Step::kDone ? std::string(out, got) : "";
  }
  std::string say(const std::string& text) {
    Buffer plain;
    plain.append(text);
    EXPECT_TRUE(server->seal(plain));
    return take(server->wire());
  }

  test::CertificateAuthority ca_;
  TestContext server_context_, client_context_;
  TlsSessionCache cache{8};
  TlsSessionPtr server, client;

 private:
  std::string given_;
};

// They cost nothing where a client goes without an answer, and no system call of their own.
TEST_F(TlsInMemory, TicketsComeWithTheFirstBytes) {
  start(2);
  EXPECT_EQ(shake_hands(), "");
  give(*client, say("hello"));
  EXPECT_EQ(read(*client), "hello");
  EXPECT_EQ(cache.size(), 2u);
  give(*client, say("more"));
  EXPECT_EQ(read(*client), "more");
  EXPECT_EQ(cache.size(), 2u);
  // A session that was resumed gets another one in the place of its own.
  start(2);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(shake_hands(), "");
  EXPECT_TRUE(server->info().resumed);
  give(*client, say("again"));
  EXPECT_EQ(read(*client), "again");
  EXPECT_EQ(cache.size(), 2u);
}

TEST_F(TlsInMemory, TicketsLeaveNoBufferBehind) {
  const auto held_by_server = [&](size_t tickets) {
    start(tickets);
    shake_hands();
    EXPECT_EQ(read(*server), "");
    give(*client, say("hello"));
    EXPECT_EQ(read(*client), "hello");
    const size_t with = test::heap_in_use();
    server = nullptr;
    return with - test::heap_in_use();
  };
  held_by_server(2);  // what OpenSSL keeps for itself
  const size_t without = held_by_server(0), with = held_by_server(2);
  EXPECT_GT(without, 1024u);
  EXPECT_LT(with, without + 4096);
}

TEST_F(TlsInMemory, NoTicketsWhereNoneAreAskedFor) {
  start(0);
  EXPECT_EQ(shake_hands(), "");
  give(*client, say("hello"));
  EXPECT_EQ(read(*client), "hello");
  EXPECT_EQ(cache.size(), 0u);
}

}  // namespace
}  // namespace outrigger::net
