// Connections with TLS, against OpenSSL itself and against each other.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <ctime>
#include <future>

#include "event/clock.h"
#include "net/tls_fixture.h"
#include "support/tls_tunnel.h"

namespace outrigger::net {
namespace {

using Events = std::vector<std::string>;
using test::Socket;
using test::TlsSettings;
using test::TlsTunnel;

std::string pattern(size_t size) {
  std::string s(size, '\0');
  for (size_t i = 0; i < size; ++i) s[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return s;
}

class TlsConnection : public NetTest {
 protected:
  // A server of ours and a client that is OpenSSL's. The client shakes hands in a thread: both sides have to move.
  Connection* serve(Recorder& handler, std::unique_ptr<TlsTunnel>& client, TlsSettings settings,
                    const ConnectionOptions& options = {}) {
    auto set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
    Connection* connection = nullptr;
    Acceptor acceptor(loop, *set, 0, [&](int fd, const Address& local, const Address& remote) {
      connection = Connection::accept(loop, fd, local, remote, handler, options, server_.server());
    });
    settings.trusted = ca_.pem();
    auto made = std::async(std::launch::async, [&, port = (*set)->address().port()] {
      return std::make_unique<TlsTunnel>(Socket::connect(port), settings);
    });
    run_until([&] { return connection != nullptr && (handler.has("connected") || handler.closed()); });
    EXPECT_EQ(made.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    client = made.get();
    return connection;
  }
  // A client of ours and a server that is OpenSSL's.
  Connection* call(Recorder& handler, std::unique_ptr<TlsTunnel>& server, TlsSettings settings, TlsSessionPtr tls,
                   const ConnectionOptions& options = {}) {
    test::ListenSocket listener;
    settings.server = true;
    if (settings.certificate.pem.empty()) settings.certificate = certificate_;
    auto made =
        std::async(std::launch::async, [&] { return std::make_unique<TlsTunnel>(listener.accept(), settings); });
    Connection* c =
        Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, options, std::move(tls));
    run_until([&] { return handler.has("connected") || handler.closed(); });
    EXPECT_EQ(made.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    server = made.get();
    return c;
  }

  test::CertificateAuthority ca_;
  test::Certificate certificate_ = ca_.issue("server", {"DNS:a.example", "URI:spiffe://mesh/a"});
  TestContext server_{certificate_, ""}, client_{{}, ca_.pem()};
};

TEST_F(TlsConnection, BytesOfEverySizeBothWays) {
  for (const size_t size : {size_t{1}, size_t{5'000}, size_t{16'384}, size_t{16'385}, size_t{1'000'000}}) {
    Recorder handler;
    std::unique_ptr<TlsTunnel> client;
    Connection* c = serve(handler, client, {.server_name = "a.example"});
    ASSERT_TRUE(client->open()) << client->error();
    const TlsInfo& info = c->tls()->info();
    EXPECT_EQ(info.version, "TLSv1.3");
    EXPECT_EQ(info.cipher, client->cipher());
    EXPECT_EQ(info.server_name, "a.example");
    EXPECT_EQ(info.peer, nullptr);
    Socket plain = client->plain();
    const std::string sent = pattern(size);
    auto sender = std::async(std::launch::async, [&] { plain.send(sent); });
    run_until([&] { return handler.bytes == size; });
    sender.get();
    EXPECT_EQ(handler.text, sent);
    auto reader = std::async(std::launch::async, [&] { return plain.recv_exactly(size); });
    c->write(Buffer("x"));
    c->output().append(std::string_view(sent).substr(1));  // gathers with what was written
    c->written();
    run_until([&] { return c->write_queue_bytes() == 0; });
    EXPECT_EQ(reader.get().substr(1), sent.substr(1));
    c->close(Close::kFlush);
    EXPECT_TRUE((run_ready(), client->wait_end()));
    plain.close();
    run_until([&] { return handler.closed(); });
    EXPECT_FALSE(handler.error) << handler.error->detail;
    EXPECT_EQ(handler.events.front(), "connected");
  }
}

TEST_F(TlsConnection, AClientOfOursVerifiesAndKnowsThePeer) {
  Recorder handler;
  std::unique_ptr<TlsTunnel> server;
  Connection* c = call(handler, server, {.alpn = {"h2", "http/1.1"}},
                       client_.client({.server_name = "a.example", .alpn = std::string_view("\x8http/1.1", 9)}));
  ASSERT_TRUE(server->open()) << server->error();
  EXPECT_EQ(server->alpn(), "http/1.1");
  const TlsInfo& info = c->tls()->info();
  EXPECT_EQ(info.alpn, "http/1.1");
  ASSERT_NE(info.peer, nullptr);
  EXPECT_TRUE(info.peer_verified);
  EXPECT_EQ(info.peer->subject, "CN=server");
  EXPECT_EQ(info.peer->uri_names, (std::vector<std::string>{"spiffe://mesh/a"}));
  EXPECT_EQ(info.peer->dns_names, (std::vector<std::string>{"a.example"}));
  EXPECT_EQ(info.peer->sha256.size(), 64u);
  EXPECT_EQ(info.peer->pem, certificate_.pem);
  c->write(Buffer("ping"));
  run_ready();
  Socket plain = server->plain();
  EXPECT_EQ(plain.recv_exactly(4), "ping");
  finish(c, handler);
  EXPECT_TRUE(server->wait_end());  // close_notify, although it was closed at once
}

TEST_F(TlsConnection, WhatIsWrittenBeforeTheHandshakeIsSentAfterIt) {
  test::ListenSocket listener;
  Recorder handler;
  Connection* c =
      Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, {}, client_.client());
  c->write(Buffer("early"));
  auto made = std::async(std::launch::async, [&] {
    return std::make_unique<TlsTunnel>(listener.accept(), TlsSettings{.server = true, .certificate = certificate_});
  });
  run_until([&] { return handler.has("connected"); });
  run_ready();
  EXPECT_EQ(made.get()->plain().recv_exactly(5), "early");
  finish(c, handler);
}

TEST_F(TlsConnection, APausedReaderGetsNothingAndLosesNothing) {
  Recorder handler;
  std::unique_ptr<TlsTunnel> client;
  bool paused = false;
  handler.read = [&](Connection& c, Block*, const char*, size_t) {
    EXPECT_FALSE(paused) << "read while paused";
    c.pause_read(Pause::kBackpressure);
    paused = true;
  };
  Connection* c = serve(handler, client, {});
  Socket plain = client->plain();
  const std::string sent = pattern(500'000);
  auto sender = std::async(std::launch::async, [&] {
    plain.send(sent);
    plain.shutdown_write();
  });
  while (handler.bytes < sent.size()) {
    run_until([&] { return paused || handler.bytes == sent.size(); });
    run_ready(2);
    paused = false;
    c->resume_read(Pause::kBackpressure);
    run_ready(1);
  }
  sender.get();
  EXPECT_EQ(handler.text, sent);
  c->resume_read(Pause::kBackpressure);
  run_until([&] { return handler.has("eof"); });
  finish(c, handler);
  EXPECT_FALSE(handler.error);
}

TEST_F(TlsConnection, ASlowReaderIsToldByTheWatermark) {
  Recorder handler;
  std::unique_ptr<TlsTunnel> client;
  Connection* c = serve(handler, client, {}, {.write_high_watermark = 100'000});
  Socket plain = client->plain();
  const std::string chunk = pattern(50'000);
  size_t written = 0;
  while (!handler.has("above")) {
    c->write(Buffer(chunk));
    written += chunk.size();
    run_ready(1);
    ASSERT_LT(written, 100'000'000u);
  }
  EXPECT_TRUE(c->above_watermark());
  auto reader = std::async(std::launch::async, [&] { return plain.recv_exactly(written).size(); });
  run_until([&] { return c->write_queue_bytes() == 0; });
  EXPECT_EQ(reader.get(), written);
  EXPECT_TRUE(handler.has("below"));
  finish(c, handler);
}

TEST_F(TlsConnection, AnEndWithoutCloseNotifyIsATruncation) {
  Recorder handler;
  std::unique_ptr<TlsTunnel> client;
  Connection* c = serve(handler, client, {});
  Socket plain = client->plain();
  plain.send("half");
  run_until([&] { return handler.text == "half"; });
  c->pause_read(Pause::kBuffer);  // noticed while paused, too
  TlsFailure failure = TlsFailure::kNone;
  handler.close = [&](Connection& closed) { failure = closed.tls()->failure(); };
  client->cut();
  run_until([&] { return handler.closed(); });
  ASSERT_TRUE(handler.error);
  EXPECT_EQ(failure, TlsFailure::kTruncated) << handler.error->detail;
  EXPECT_FALSE(handler.has("eof"));
}

TEST_F(TlsConnection, AHalfCloseLeavesTheOtherHalfOpen) {
  Recorder handler;
  std::unique_ptr<TlsTunnel> client;
  Connection* c = serve(handler, client, {});
  Socket plain = client->plain();
  plain.send("question");
  plain.shutdown_write();
  run_until([&] { return handler.has("eof"); });
  EXPECT_EQ(handler.text, "question");
  c->write(Buffer("answer"));
  c->close(Close::kFlush);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(plain.recv_to_eof(), "answer");
  EXPECT_EQ(handler.events, (Events{"connected", "eof", "close"}));
  EXPECT_FALSE(handler.error);
}

TEST_F(TlsConnection, BadPeersGetAnAlertAndAReason) {
  struct Row {
    const char* what;
    TlsSettings settings;
    TlsFailure failure;
    const char* alert;  // in the peer's error
  };
  TestContext strict(certificate_, ca_.pem());
  test::CertificateAuthority other("other");
  const Row rows[] = {
      {"old version",
       {.ciphers = "ALL:@SECLEVEL=0", .min_version = TLS1_VERSION, .max_version = TLS1_1_VERSION},
       TlsFailure::kProtocol,
       "protocol version"},
      {"no certificate", {.max_version = TLS1_2_VERSION}, TlsFailure::kNoCertificate, "handshake failure"},
      {"foreign certificate",
       {.certificate = other.issue("x"), .max_version = TLS1_2_VERSION},
       TlsFailure::kProtocol,
       "unknown ca"},
  };
  SSL_CTX_set_min_proto_version(strict.get(), TLS1_2_VERSION);
  for (const Row& row : rows) {
    Recorder handler;
    TlsFailure failure = TlsFailure::kNone;
    handler.close = [&](Connection& closed) { failure = closed.tls()->failure(); };
    auto set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
    Acceptor acceptor(loop, *set, 0, [&](int fd, const Address& local, const Address& remote) {
      Connection::accept(loop, fd, local, remote, handler, {}, strict.server());
    });
    auto made = std::async(std::launch::async,
                           [&] { return TlsTunnel(Socket::connect((*set)->address().port()), row.settings).error(); });
    run_until([&] { return handler.closed(); });
    EXPECT_NE(made.get().find(row.alert), std::string::npos) << row.what << ": " << made.valid();
    ASSERT_TRUE(handler.error) << row.what;
    EXPECT_EQ(handler.error->code, Errc::kProtocol);
    EXPECT_EQ(failure, row.failure) << row.what << ": " << handler.error->detail;
    EXPECT_EQ(handler.events, (Events{"close"}));
  }
}

TEST_F(TlsConnection, GarbageAndClosersInTheHandshake) {
  for (const bool garbage : {true, false}) {
    Recorder handler;
    auto set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
    Acceptor acceptor(loop, *set, 0, [&](int fd, const Address& local, const Address& remote) {
      Connection::accept(loop, fd, local, remote, handler, {}, server_.server());
    });
    Socket peer = Socket::connect((*set)->address().port());
    if (garbage) {
      peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    } else {
      peer.send("\x16\x03\x01");
    }
    peer.shutdown_write();
    run_until([&] { return handler.closed(); });
    ASSERT_TRUE(handler.error);
    EXPECT_EQ(handler.error->code, garbage ? Errc::kProtocol : Errc::kReset) << handler.error->detail;
  }
}

// Each handshake "takes" more than a round's share.
TEST_F(TlsConnection, ManyHandshakesAtOnceLeaveTimeForOthers) {
  static std::atomic<int64_t> skipped{0};
  static std::atomic<int> begun{0};
  event::set_clock_for_test([] {
    timespec real{};
    clock_gettime(CLOCK_MONOTONIC, &real);
    return real.tv_sec * 1'000'000'000 + real.tv_nsec + skipped;
  });
  SSL_CTX_set_info_callback(server_.get(), [](const SSL*, int where, int) {
    if ((where & SSL_CB_HANDSHAKE_START) == 0) return;
    ++begun;
    skipped += event::Loop::kLongNs;
  });
  constexpr int kMany = 8;
  Recorder plain;
  plain.eof = [](Connection& c) { c.close(Close::kNow); };
  std::vector<std::unique_ptr<Recorder>> handlers;
  std::vector<Connection*> connections;
  {
    auto sealed_set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
    Acceptor sealed(loop, *sealed_set, 0, [&](int fd, const Address& local, const Address& remote) {
      handlers.push_back(std::make_unique<Recorder>());
      connections.push_back(Connection::accept(loop, fd, local, remote, *handlers.back(), {}, server_.server()));
    });
    auto plain_set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
    Acceptor open(loop, *plain_set, 0, [&](int fd, const Address& local, const Address& remote) {
      Connection::accept(loop, fd, local, remote, plain, {});
    });
    std::vector<Socket> peers;
    for (int i = 0; i < kMany; ++i) {
      const TlsSessionPtr client = client_.client();
      client->handshake();
      peers.push_back(Socket::connect((*sealed_set)->address().port()));
      peers.back().send(client->wire().to_string());
    }
    Socket other = Socket::connect((*plain_set)->address().port());
    other.send("hello");
    run_until([&] { return plain.text == "hello"; });
    EXPECT_LE(begun, kMany / 2);
    // One that ends while it waits for its turn does not wait for its end.
    ASSERT_EQ(connections.size(), size_t{kMany});
    connections.back()->close(Close::kNow);
    loop.run_once();
    EXPECT_TRUE(handlers.back()->closed());
    EXPECT_LT(begun, kMany - 1);
    run_until([&] { return begun == kMany - 1; });
    run_ready();
    for (int i = 0; i < kMany - 1; ++i) EXPECT_FALSE(peers[i].recv_some().empty()) << i;
  }
  run_until([&] {
    return plain.closed() && std::all_of(handlers.begin(), handlers.end(), [](const auto& h) { return h->closed(); });
  });
  event::set_clock_for_test(nullptr);
}

TEST_F(TlsConnection, APeerThatAsksForKeysAndReadsNothingIsBounded) {
  Recorder handler;
  auto set = SocketSet::create(*Address::parse("127.0.0.1", 0), 1, 0);
  Acceptor acceptor(loop, *set, 0, [&](int fd, const Address& local, const Address& remote) {
    const int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    Connection::accept(loop, fd, local, remote, handler, {}, server_.server());
  });
  auto flood = std::async(std::launch::async, [&] {
    const Socket peer = Socket::connect_small((*set)->address().port(), 4096, 65536);
    SSL_CTX* context = SSL_CTX_new(TLS_method());
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, peer.fd());
    bool going = SSL_connect(ssl) == 1;
    for (int i = 0; going && i < 1'000'000; ++i)
      going = SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1;
    SSL_free(ssl);
    SSL_CTX_free(context);
    return going;
  });
  run_until([&] { return handler.closed(); });
  EXPECT_FALSE(flood.get());
  ASSERT_TRUE(handler.error);
  EXPECT_EQ(handler.error->code, Errc::kOverflow) << handler.error->detail;
}

TEST_F(TlsConnection, AServerThatOursDoesNotBelieveIsToldSo) {
  test::CertificateAuthority other("other");
  Recorder handler;
  std::unique_ptr<TlsTunnel> server;
  call(handler, server, {.certificate = other.issue("a"), .max_version = TLS1_2_VERSION}, client_.client());
  ASSERT_TRUE(handler.error);
  EXPECT_NE(handler.error->detail.find("certificate verify failed"), std::string::npos) << handler.error->detail;
  EXPECT_TRUE(handler.error->retryable);
  EXPECT_NE(server->error().find("unknown ca"), std::string::npos) << server->error();
}

TEST_F(TlsConnection, AServerThatDoesNotShakeHandsTimesOut) {
  test::ListenSocket listener;
  Recorder handler;
  Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, {.connect_timeout_ms = 50},
                      client_.client());
  Socket peer = listener.accept();
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.error->code, Errc::kTimeout);
  EXPECT_NE(handler.error->detail.find("TLS handshake"), std::string::npos);
}

}  // namespace
}  // namespace outrigger::net
