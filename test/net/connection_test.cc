#include "net/connection.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "net/net_fixture.h"

namespace outrigger::net {
namespace {

using Events = std::vector<std::string>;
using test::Socket;

std::string pattern(size_t size) {
  std::string s(size, '\0');
  for (size_t i = 0; i < size; ++i) s[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return s;
}

class ConnectionTest : public NetTest {};

// ---- connecting

TEST_F(ConnectionTest, ConnectsReadsAndWrites) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  EXPECT_TRUE(c->connected());
  EXPECT_EQ(c->local(), *Address::parse("127.0.0.1", c->local().port()));
  EXPECT_NE(c->local().port(), 0);
  peer.send("hello");
  run_until([&] { return handler.text == "hello"; });
  c->write(Buffer("world"));
  EXPECT_EQ(c->write_queue_bytes(), 5u);
  run_ready();
  EXPECT_EQ(peer.recv_exactly(5), "world");
  EXPECT_EQ(c->write_queue_bytes(), 0u);
  EXPECT_EQ(c->bytes_read(), 5u);
  EXPECT_EQ(c->bytes_written(), 5u);
  finish(c, handler);
  EXPECT_EQ(handler.events, (Events{"connected", "close"}));
  EXPECT_FALSE(handler.error);
  EXPECT_EQ(peer.recv_to_eof(), "");
  EXPECT_EQ(peer.end(), Socket::End::kEof);
}

TEST_F(ConnectionTest, ConnectNeverCallsBackFromInside) {
  for (const char* ip : {"127.0.0.1", "255.255.255.255"}) {  // refused, and an immediate error
    Recorder handler;
    Connection::connect(loop, *Address::parse(ip, test::refused_port()), handler, {});
    EXPECT_TRUE(handler.events.empty());
    run_until([&] { return handler.closed(); });
    EXPECT_EQ(handler.events, (Events{"close"}));
    ASSERT_TRUE(handler.error);
    EXPECT_EQ(handler.error->origin, Origin::kUpstream);
    EXPECT_TRUE(handler.error->retryable);
  }
}

TEST_F(ConnectionTest, RefusedIsSaidSo) {
  Recorder handler;
  Connection::connect(loop, *Address::parse("127.0.0.1", test::refused_port()), handler, {});
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.error->code, Errc::kRefused);
  EXPECT_NE(handler.error->detail.find("127.0.0.1:"), std::string::npos);
}

TEST_F(ConnectionTest, AConnectThatGetsNoAnswerTimesOut) {
  // A full accept queue drops SYNs.
  test::ListenSocket listener(0);
  std::vector<Recorder> fillers(8);
  std::vector<Connection*> connections;
  for (auto& f : fillers)
    connections.push_back(Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), f, {}));
  run_until([&] { return fillers[0].has("connected"); });
  Recorder handler;
  ConnectionOptions options;
  options.connect_timeout_ms = 50;
  Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, options);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.events, (Events{"close"}));
  EXPECT_EQ(handler.error->code, Errc::kTimeout);
  EXPECT_TRUE(handler.error->retryable);
  for (size_t i = 0; i < fillers.size(); ++i) finish(connections[i], fillers[i]);
}

TEST_F(ConnectionTest, WhatIsWrittenWhileConnectingIsSentOnceConnected) {
  test::ListenSocket listener;
  Recorder handler;
  Connection* c = Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, {});
  EXPECT_FALSE(c->connected());
  c->write(Buffer("early"));
  run_until([&] { return handler.has("connected"); });
  run_ready();
  EXPECT_EQ(listener.accept().recv_exactly(5), "early");
  finish(c, handler);
}

TEST_F(ConnectionTest, CloseWhileConnectingClosesWithoutError) {
  for (Close how : {Close::kFlush, Close::kNow, Close::kReset}) {
    test::ListenSocket listener;
    Recorder handler;
    Connection* c = Connection::connect(loop, *Address::parse("127.0.0.1", listener.port()), handler, {});
    c->close(how);
    EXPECT_TRUE(handler.events.empty());
    run_until([&] { return handler.closed(); });
    EXPECT_EQ(handler.events, (Events{"close"}));
    EXPECT_FALSE(handler.error);
  }
}

TEST_F(ConnectionTest, SetsNoDelay) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  int found = 0;
  for (int fd = 3; fd < 256; ++fd) {
    sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) continue;
    if (!(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), size) == c->local())) continue;
    int on = 0;
    size = sizeof(on);
    ASSERT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    EXPECT_NE(on, 0);
    ++found;
  }
  EXPECT_EQ(found, 1);
  finish(c, handler);
}

TEST_F(ConnectionTest, UnixSocketsConnectByPathAndByAbstractName) {
  const std::string path = "/tmp/outrigger-net-" + std::to_string(getpid());
  for (const std::string& name : {path, "@" + path}) {
    test::ListenSocket listener(name.c_str());
    Recorder handler;
    Connection* c = Connection::connect(loop, *Address::unix_path(name), handler, {});
    EXPECT_TRUE(handler.events.empty());
    run_until([&] { return handler.has("connected"); });
    Socket peer = listener.accept();
    peer.send("ping");
    run_until([&] { return handler.text == "ping"; });
    c->write(Buffer("pong"));
    run_ready();
    EXPECT_EQ(peer.recv_exactly(4), "pong");
    c->close(Close::kReset);
    run_until([&] { return handler.closed(); });
  }
  unlink(path.c_str());
  Recorder handler;
  Connection::connect(loop, *Address::unix_path(path), handler, {});
  EXPECT_TRUE(handler.events.empty());
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.error->code, Errc::kRefused);
}

// ---- writing

TEST_F(ConnectionTest, AllWritesOfATurnLeaveInOneSegment) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  handler.read = [&](Connection& conn, Block*, const char*, size_t) {
    conn.write(Buffer("head "));
    conn.output().append("body ");
    conn.written();
    conn.write(Buffer(std::string(2000, 'x')));
  };
  peer.send("go");
  run_until([&] { return handler.text == "go"; });
  EXPECT_EQ(peer.recv_some(), "head body " + std::string(2000, 'x'));
  finish(c, handler);
}

TEST_F(ConnectionTest, ABigWriteToASlowReaderArrivesWhole) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  const std::string data = pattern(20'000'000);
  c->write(Buffer(data));
  run_ready();
  EXPECT_GT(c->write_queue_bytes(), 0u);
  EXPECT_TRUE(c->above_watermark());
  EXPECT_EQ(handler.events, (Events{"connected", "above"}));
  std::string got;
  while (got.size() < data.size()) {
    got += peer.recv_some(1 << 20, 0);
    run_ready(1);
  }
  EXPECT_TRUE(got == data);
  run_until([&] { return handler.has("below"); });
  EXPECT_EQ(handler.events, (Events{"connected", "above", "below"}));
  EXPECT_FALSE(c->above_watermark());
  finish(c, handler);
}

TEST_F(ConnectionTest, WritesWhileBlockedKeepTheirOrder) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  std::string expected;
  std::string got;
  for (int i = 0; i < 400; ++i) {
    const std::string chunk = pattern(1 + static_cast<size_t>(i) * 331 % 60000) + std::to_string(i);
    expected += chunk;
    c->write(Buffer(chunk));
    run_ready(1);
    if (i % 3 == 0) got += peer.recv_some(30000, 0);
  }
  while (got.size() < expected.size()) {
    got += peer.recv_some(1 << 20, 0);
    run_ready(1);
  }
  EXPECT_TRUE(got == expected);
  EXPECT_EQ(c->bytes_written(), expected.size());
  finish(c, handler);
}

TEST_F(ConnectionTest, WhatWaitsForASlowReaderPinsAboutItsOwnSize) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->write(Buffer(std::string(8'000'000, 'x')));  // fills the socket
  run_ready();
  BlockPool& pool = BlockPool::local();
  const size_t before = pool.blocks_in_use();
  std::string expected(8'000'000, 'x');
  for (int i = 0; i < 600;
       ++i) {  // 900 kB, each piece alone in a block of 64 KiB, as a proxy's small reads may leave them
    const std::string piece = pattern(1500) + std::to_string(i);
    Block* block = pool.acquire(Block::kLarge);
    piece.copy(block->data(), piece.size());
    Buffer b;
    b.append_shared(block, block->data(), piece.size());
    block->release();
    expected += piece;
    c->write(std::move(b));
    run_ready(1);
  }
  EXPECT_LE(pool.blocks_in_use() - before, 150u);
  std::string got;
  while (got.size() < expected.size()) {
    got += peer.recv_some(1 << 20, 0);
    run_ready(1);
  }
  EXPECT_TRUE(got == expected);
  finish(c, handler);
}

TEST_F(ConnectionTest, WatermarkIsNotReportedForWhatTheSocketTakesAtOnce) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.write_high_watermark = 1000;
  Connection* c = open(handler, peer, options);
  c->write(Buffer(std::string(20'000, 'x')));
  EXPECT_TRUE(c->above_watermark());  // at once, for producers in a loop
  run_ready();
  EXPECT_FALSE(c->above_watermark());
  EXPECT_EQ(handler.events, (Events{"connected"}));
  finish(c, handler);
}

TEST_F(ConnectionTest, ShutdownWriteSendsFinAfterTheDataAndStillReads) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->write(Buffer("last words"));
  c->shutdown_write();
  c->write(Buffer("too late"));
  run_ready();
  EXPECT_EQ(peer.recv_to_eof(), "last words");
  EXPECT_EQ(peer.end(), Socket::End::kEof);
  peer.send("still here");
  run_until([&] { return handler.text == "still here"; });
  EXPECT_FALSE(c->closing());
  finish(c, handler);
}

// ---- reading

TEST_F(ConnectionTest, EofComesOnceAndWritingGoesOn) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  peer.send("request");
  peer.shutdown_write();
  run_until([&] { return handler.has("eof"); });
  EXPECT_EQ(handler.text, "request");
  run_ready();
  c->write(Buffer("response"));
  run_ready();
  EXPECT_EQ(peer.recv_exactly(8), "response");
  EXPECT_EQ(handler.events, (Events{"connected", "eof"}));
  c->close(Close::kFlush);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(peer.recv_to_eof(), "");
  EXPECT_EQ(peer.end(), Socket::End::kEof);
}

TEST_F(ConnectionTest, AResetPeerEndsTheConnection) {
  Recorder handler;
  Socket peer;
  open(handler, peer);
  peer.reset();
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.events, (Events{"connected", "close"}));
  EXPECT_EQ(handler.error->code, Errc::kReset);
  EXPECT_EQ(handler.error->origin, Origin::kUpstream);
}

TEST_F(ConnectionTest, ReadsShareMemoryWithoutCopying) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  Buffer kept;
  handler.read = [&](Connection&, Block* block, const char* data, size_t size) {
    EXPECT_GE(data, block->data());
    EXPECT_LE(data + size, block->data() + block->capacity);
    kept.append_shared(block, data, size);
  };
  const std::string first = pattern(5000), second = pattern(7000);
  peer.send(first);
  run_until([&] { return handler.bytes == 5000; });
  peer.send(second);
  run_until([&] { return handler.bytes == 12000; });
  EXPECT_TRUE(kept.to_string() == first + second);
  ASSERT_EQ(kept.slice_count(), 2u);
  EXPECT_EQ(kept.begin()[0].block, kept.begin()[1].block);  // small reads do not pin a block each
  kept.clear();
  finish(c, handler);
}

TEST_F(ConnectionTest, PausedDataIsHeldAndDeliveredAtTheTurnsEnd) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->pause_read(Pause::kBackpressure);
  EXPECT_TRUE(c->read_paused());
  peer.send("first");
  run_ready();
  peer.send(" second");
  run_ready();
  EXPECT_EQ(handler.text, "");
  EXPECT_EQ(c->bytes_read(), 5u);  // one spare read, no more
  c->resume_read(Pause::kBackpressure);
  EXPECT_EQ(handler.text, "");  // not from inside
  run_until([&] { return handler.text == "first second"; });
  finish(c, handler);
}

TEST_F(ConnectionTest, EveryReasonMustGoBeforeReadingGoesOn) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->pause_read(Pause::kBackpressure);
  c->pause_read(Pause::kBuffer);
  peer.send("data");
  run_ready();
  c->resume_read(Pause::kBackpressure);
  c->resume_read(Pause::kPipeline);  // was never there
  run_ready();
  EXPECT_EQ(handler.text, "");
  EXPECT_TRUE(c->read_paused());
  c->resume_read(Pause::kBuffer);
  run_until([&] { return handler.text == "data"; });
  finish(c, handler);
}

TEST_F(ConnectionTest, AHandlerThatPausesAgainKeepsTheRestHeld) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->pause_read(Pause::kPipeline);
  const std::string data = pattern(40'000);
  peer.send(data);
  run_ready();
  handler.read = [&](Connection& conn, Block*, const char*, size_t) { conn.pause_read(Pause::kPipeline); };
  size_t resumes = 0;
  while (handler.bytes < data.size() && resumes < 1000) {
    c->resume_read(Pause::kPipeline);
    ++resumes;
    run_ready(2);
  }
  EXPECT_TRUE(handler.text == data);
  finish(c, handler);
}

TEST_F(ConnectionTest, PauseInsideOnReadStopsWithinOneMoreRead) {
  Recorder handler;
  handler.keep_text = false;
  Socket peer;
  Connection* c = open(handler, peer);
  handler.read = [&](Connection& conn, Block*, const char*, size_t) { conn.pause_read(Pause::kBuffer); };
  const std::string data = pattern(3'000'000);
  size_t sent = 0;
  for (int i = 0; i < 50; ++i) {
    sent += peer.send(std::string_view(data).substr(sent), 0);
    run_ready(1);
  }
  EXPECT_EQ(handler.reads, 1u);
  EXPECT_LE(c->bytes_read(), 2u * Block::kLarge);
  handler.read = nullptr;
  c->resume_read(Pause::kBuffer);
  while (sent < data.size()) {
    sent += peer.send(std::string_view(data).substr(sent), 0);
    run_ready(1);
  }
  run_until([&] { return handler.bytes == data.size(); });
  finish(c, handler);
}

TEST_F(ConnectionTest, APausedConnectionNoticesFinAndReset) {
  for (bool reset : {false, true}) {
    Recorder handler;
    Socket peer;
    Connection* c = open(handler, peer);
    c->pause_read(Pause::kBackpressure);
    if (reset) {
      peer.reset();
      run_until([&] { return handler.closed(); });
      EXPECT_EQ(handler.error->code, Errc::kReset);
    } else {
      peer.close();
      run_until([&] { return handler.has("eof"); });
      finish(c, handler);
    }
  }
}

TEST_F(ConnectionTest, EofWaitsBehindHeldData) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->pause_read(Pause::kBackpressure);
  peer.send("data");
  run_ready();
  peer.close();
  run_ready();
  EXPECT_EQ(handler.events, (Events{"connected"}));
  c->resume_read(Pause::kBackpressure);
  run_until([&] { return handler.has("eof"); });
  EXPECT_EQ(handler.text, "data");
  finish(c, handler);
}

TEST_F(ConnectionTest, AnAnswerBeforeAResetIsStillDelivered) {
  // The peer answers early and goes away while we write: the answer must come before the error.
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  peer.send("413 too large");
  peer.shutdown_write();
  peer.close();  // nothing unread yet; our next bytes draw the RST
  c->write(Buffer("some"));
  run_until([&] { return handler.has("eof") || handler.closed(); });
  EXPECT_EQ(handler.text, "413 too large");
  for (int i = 0; i < 100 && !handler.closed(); ++i) {
    c->write(Buffer("more"));
    run_ready(2);
  }
  EXPECT_TRUE(handler.closed());
  EXPECT_EQ(handler.error->code, Errc::kReset);
}

// ---- closing

TEST_F(ConnectionTest, CloseIsNeverReportedFromInside) {
  for (Close how : {Close::kNow, Close::kReset}) {
    Recorder handler;
    Socket peer;
    open(handler, peer);
    handler.read = [&](Connection& conn, Block*, const char*, size_t) {
      conn.close(how);
      conn.close(Close::kNow);
      EXPECT_FALSE(handler.closed());
      conn.write(Buffer("dropped"));
    };
    peer.send("x");
    run_until([&] { return handler.closed(); });
    EXPECT_EQ(handler.events, (Events{"connected", "close"}));
    EXPECT_FALSE(handler.error);
    EXPECT_EQ(peer.recv_to_eof(), "");
    EXPECT_EQ(peer.end(), how == Close::kReset ? Socket::End::kReset : Socket::End::kEof);
  }
}

TEST_F(ConnectionTest, FlushSendsEverythingThenWaitsForThePeersFin) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.delayed_close_ms = 60'000;
  Connection* c = open(handler, peer, options);
  const std::string data = pattern(6'000'000);
  c->write(Buffer(data));
  c->close(Close::kFlush);
  EXPECT_TRUE(c->closing());
  c->write(Buffer("dropped"));
  std::string got;
  while (got.size() < data.size()) {
    got += peer.recv_some(1 << 20, 0);
    run_ready(1);
  }
  EXPECT_TRUE(got == data);
  EXPECT_EQ(peer.recv_to_eof(), "");
  EXPECT_EQ(peer.end(), Socket::End::kEof);
  EXPECT_FALSE(handler.closed());
  peer.send("still talking");  // dropped, and draws no RST
  run_ready();
  EXPECT_EQ(handler.text, "");
  peer.close();
  run_until([&] { return handler.closed(); });
  EXPECT_FALSE(handler.error);
}

TEST_F(ConnectionTest, FlushClosesAtOnceWhenThePeerHasFinishedAlready) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.delayed_close_ms = 60'000;
  Connection* c = open(handler, peer, options);
  peer.shutdown_write();
  run_until([&] { return handler.has("eof"); });
  c->write(Buffer("bye"));
  c->close(Close::kFlush);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(peer.recv_to_eof(), "bye");
}

TEST_F(ConnectionTest, FlushGivesUpOnAPeerThatDoesNotClose) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.delayed_close_ms = 20;
  Connection* c = open(handler, peer, options);
  c->write(Buffer("bye"));
  c->close(Close::kFlush);
  run_until([&] { return handler.closed(); });
  EXPECT_FALSE(handler.error);
  EXPECT_EQ(peer.recv_to_eof(), "bye");
}

TEST_F(ConnectionTest, FlushGivesUpOnAPeerThatDoesNotRead) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.delayed_close_ms = 20;
  Connection* c = open(handler, peer, options);
  c->write(Buffer(std::string(20'000'000, 'x')));
  c->close(Close::kFlush);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(handler.error->code, Errc::kTimeout);
}

TEST_F(ConnectionTest, FlushEndsThoughThePeerNeverStopsSending) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.delayed_close_ms = 20;
  Connection* c = open(handler, peer, options);
  c->close(Close::kFlush);
  run_until([&] {
    if (!handler.closed()) peer.send("x", 0);
    return handler.closed();
  });
  EXPECT_FALSE(handler.error);
}

TEST_F(ConnectionTest, AStrongerCloseEndsAFlush) {
  Recorder handler;
  Socket peer;
  Connection* c = open(handler, peer);
  c->write(Buffer(std::string(20'000'000, 'x')));
  c->close(Close::kFlush);
  run_ready();
  EXPECT_FALSE(handler.closed());
  c->close(Close::kReset);
  run_until([&] { return handler.closed(); });
  peer.drain_to_eof();
  EXPECT_EQ(peer.end(), Socket::End::kReset);
}

TEST_F(ConnectionTest, WithoutDelayedCloseAFlushEndsWithTheLastByte) {
  Recorder handler;
  Socket peer;
  ConnectionOptions options;
  options.delayed_close_ms = 0;
  Connection* c = open(handler, peer, options);
  c->write(Buffer("bye"));
  c->close(Close::kFlush);
  run_until([&] { return handler.closed(); });
  EXPECT_EQ(peer.recv_to_eof(), "bye");
}

TEST_F(ConnectionTest, AConnectionChangesHands) {
  Recorder first, second;
  Socket peer;
  Connection* c = open(first, peer);
  c->set_handler(second);
  peer.send("for the second");
  run_until([&] { return second.text == "for the second"; });
  c->close(Close::kNow);
  run_until([&] { return second.closed(); });
  EXPECT_FALSE(first.closed());
}

TEST_F(ConnectionTest, IdsAreUnique) {
  Recorder a, b;
  Socket pa, pb;
  Connection* ca = open(a, pa);
  Connection* cb = open(b, pb);
  EXPECT_NE(ca->id(), cb->id());
  finish(ca, a);
  finish(cb, b);
}

TEST_F(ConnectionTest, ConnectionsMayBeClosedBeforeTheLoopEnds) {
  Recorder handler;
  Socket peer;
  auto own = std::make_unique<event::Loop>();
  test::ListenSocket listener;
  Connection* c = Connection::connect(*own, *Address::parse("127.0.0.1", listener.port()), handler, {});
  while (!handler.has("connected")) own->run_once();
  c->write(Buffer(std::string(20'000'000, 'x')));
  own->run_once();
  c->close(Close::kNow);
  own.reset();  // runs what is left of it
  EXPECT_TRUE(handler.closed());
}

}  // namespace
}  // namespace outrigger::net
