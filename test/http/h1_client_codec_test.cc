#include "base/block.h"
#include "http/h1_fixture.h"

namespace outrigger::http {
namespace {

using test::Socket;
using List = std::initializer_list<std::pair<std::string_view, std::string_view>>;

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const std::string kOkLog = "headers(:status=200 content-length=2) end ";

const std::string kSwitching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";

class H1Client : public H1CodecTest {
 protected:
  void SetUp() override { connect(owner, peer); }
  void again() {
    if (!owner.closed) owner.connection->close(net::Close::kNow);
    run_until([&] { return owner.closed; });
    owner.~TestOwner();
    new (&owner) TestOwner;
    connect(owner, peer);
  }
  // A new stream whose request is sent whole.
  TestSink& get(List fields = {{":method", "GET"}, {":path", "/"}, {":authority", "a"}}) {
    TestSink& sink = owner.open();
    Fields head(fields);
    sink.stream->encode_headers(head.map, true);
    run_ready();
    return sink;
  }
  // What the peer sees of a request.
  std::string written(List fields, const std::vector<std::string>& body) {
    again();
    TestSink& sink = owner.open();
    Fields head(fields);
    sink.stream->encode_headers(head.map, body.empty());
    for (size_t i = 0; i < body.size(); ++i) sink.stream->encode_data(Buffer(body[i]), i + 1 == body.size());
    run_ready();
    owner.connection->close(net::Close::kFlush);
    peer.shutdown_write();
    run_until([&] { return owner.closed; });
    return peer.recv_to_eof();
  }
  // A stream that asks for an upgrade.
  TestSink& upgrade() {
    TestSink& sink = owner.open();
    Fields head{{":method", "GET"}, {":path", "/"}, {":authority", "a"}, {"upgrade", "x"}};
    sink.stream->encode_headers(head.map, false);
    run_ready();
    return sink;
  }
  // A tunnel whose other side has ended.
  void tunnel_end() {
    upgrade();
    send(peer, kSwitching);
    peer.shutdown_write();
    run_ready();
  }
  TestOwner& owner = new_owner();
  Socket peer;
};

// --- requests --------------------------------------------------------------------------------------------------------

TEST_F(H1Client, RequestFraming) {
  struct Row {
    List fields;
    std::vector<std::string> body;
    const char* expect;
  };
  const Row rows[] = {
      {{{":method", "GET"}, {":scheme", "http"}, {":authority", "a:80"}, {":path", "/x?y"}, {"b", "c"}},
       {},
       "GET /x?y HTTP/1.1\r\nhost: a:80\r\nb: c\r\n\r\n"},
      {{{":method", "POST"}, {":authority", "a"}, {":path", "/"}},
       {},
       "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
      {{{":method", "PUT"}, {":authority", "a"}, {":path", "/"}},
       {},
       "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
      {{{":method", "PATCH"}, {":authority", "a"}, {":path", "/"}},
       {},
       "PATCH / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
      {{{":method", "DELETE"}, {":authority", "a"}, {":path", "/"}}, {}, "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n"},
      {{{":method", "GET"}, {":authority", "a"}, {":path", "/"}, {"content-length", "0"}},
       {},
       "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
      {{{":method", "POST"}, {":authority", "a"}, {":path", "/"}, {"content-length", "3"}},
       {"ab", "c"},
       "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"},
      {{{":method", "POST"}, {":authority", "a"}, {":path", "/"}},
       {"ab", "", "c"},
       "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"},
      {{{":method", "GET"}, {":authority", "a"}, {":path", "/"}},
       {""},
       "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
      {{{":method", "OPTIONS"}, {":authority", "a"}, {":path", "*"}}, {}, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"},
      {{{":method", "CONNECT"}, {":authority", "a:443"}}, {}, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"},
      {{{":method", "GET"},
        {":authority", "[::1]:8"},
        {":path", "/"},
        {"host", "evil"},
        {"te", "trailers"},
        {"connection", "x"},
        {"upgrade", "x"},
        {"transfer-encoding", "gzip"},
        {"keep-alive", "x"}},
       {},
       "GET / HTTP/1.1\r\nhost: [::1]:8\r\n\r\n"},
      {{{":method", "GET"}, {":authority", "a"}, {":path", "/"}, {"x", "a\r\nb: c"}, {"bad name", "y"}},
       {},
       "GET / HTTP/1.1\r\nhost: a\r\nx: a  b: c\r\n\r\n"},
  };
  for (const Row& row : rows) EXPECT_EQ(written(row.fields, row.body), row.expect);
}

TEST_F(H1Client, LongPaths) {
  const std::string path = "/" + std::string(30'000, 'p');
  EXPECT_EQ(written({{":method", "GET"}, {":authority", "a"}, {":path", path}}, {}),
            "GET " + path + " HTTP/1.1\r\nhost: a\r\n\r\n");
}

TEST_F(H1Client, Trailers) {
  const auto send_trailers = [&](List head_fields) {
    again();
    TestSink& sink = owner.open();
    Fields head(head_fields);
    Fields trailers{{"a", "b"}, {"transfer-encoding", "x"}};
    sink.stream->encode_headers(head.map, false);
    sink.stream->encode_data(Buffer("x"), false);
    sink.stream->encode_trailers(trailers.map);
    run_ready();
    owner.connection->close(net::Close::kFlush);
    peer.shutdown_write();
    run_until([&] { return owner.closed; });
    return peer.recv_to_eof();
  };
  const List post = {{":method", "POST"}, {":authority", "a"}, {":path", "/"}, {"te", "trailers"}};
  EXPECT_EQ(send_trailers(post), "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
  options.enable_trailers = true;
  EXPECT_EQ(send_trailers(post),
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nte: trailers\r\nconnection: "
            "te\r\n\r\n1\r\nx\r\n0\r\na: b\r\n\r\n");
  EXPECT_EQ(send_trailers({{":method", "POST"}, {":authority", "a"}, {":path", "/"}, {"content-length", "1"}}),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
}

TEST_F(H1Client, HeadsThatCannotBeWritten) {
  const List rows[] = {
      {{":method", "G T"}, {":authority", "a"}, {":path", "/"}},
      {{":authority", "a"}, {":path", "/"}},
      {{":method", "GET"}, {":authority", "a"}},
      {{":method", "GET"}, {":authority", "a"}, {":path", "/ x"}},
      {{":method", "GET"}, {":authority", "a"}, {":path", "/\r\nx"}},
      {{":method", "GET"}, {":authority", "a"}, {":path", "/#x"}},
      {{":method", "GET"}, {":authority", "a b"}, {":path", "/"}},
      {{":method", "GET"}, {":path", "/"}},
      {{":method", "POST"}, {":authority", "a"}, {":path", "/"}, {"content-length", "x"}},
      {{":method", "POST"}, {":authority", "a"}, {":path", "/"}, {"content-length", "3"}},
  };
  for (const List& row : rows) {
    again();
    TestSink& sink = owner.open();
    Fields head(row);
    sink.stream->encode_headers(head.map, true);
    EXPECT_FALSE(sink.over);
    run_until([&] { return owner.closed; });
    EXPECT_EQ(sink.reason, ResetReason::kLocalReset);
    EXPECT_TRUE(owner.ends.empty());
    EXPECT_EQ(peer.recv_to_eof(), "");
  }
}

TEST_F(H1Client, AWrongLengthResetsTheConnection) {
  const auto wrong = [&](const std::function<void(CodecStream&)>& body) {
    again();
    TestSink& sink = owner.open();
    Fields head{{":method", "POST"}, {":authority", "a"}, {":path", "/"}, {"content-length", "3"}};
    sink.stream->encode_headers(head.map, false);
    body(*sink.stream);
    EXPECT_FALSE(sink.over);
    run_until([&] { return owner.closed; });
    EXPECT_EQ(sink.details, "http1.content_length_mismatch");
    peer.recv_to_eof();
    EXPECT_EQ(peer.end(), Socket::End::kReset);
  };
  wrong([](CodecStream& s) { s.encode_data(Buffer("abcd"), false); });
  wrong([](CodecStream& s) {
    s.encode_data(Buffer("ab"), true);
    s.encode_data(Buffer("c"), true);
  });
  wrong([](CodecStream& s) {
    Fields trailers{{"a", "b"}};
    s.encode_trailers(trailers.map);
  });
}

// --- responses -------------------------------------------------------------------------------------------------------

TEST_F(H1Client, ReusesTheConnection) {
  for (int i = 0; i < 3; ++i) {
    TestSink& sink = get();
    EXPECT_EQ(peer.recv_until("\r\n\r\n"), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    send(peer, kOk.substr(0, 12));
    send(peer, kOk.substr(12));
    EXPECT_EQ(sink.log, kOkLog);
    EXPECT_EQ(sink.body, "ok");
    EXPECT_TRUE(owner.codec->idle());
  }
  EXPECT_EQ(owner.ends, (std::vector<bool>{true, true, true}));
}

TEST_F(H1Client, TheNextRequestMayBeginInOnStreamEnd) {
  int left = 50;
  std::vector<std::unique_ptr<Fields>> heads;
  owner.end_hook = [&](bool) {
    if (--left == 0) return;
    TestSink& sink = owner.open();
    Fields head{{":method", "GET"}, {":path", "/"}, {":authority", "a"}};
    sink.stream->encode_headers(head.map, true);
  };
  get();
  for (int i = 0; i < 50; ++i) {
    peer.recv_until("\r\n\r\n");
    send(peer, kOk);
  }
  EXPECT_EQ(owner.ends.size(), 50u);
  for (const auto& sink : owner.sinks) EXPECT_EQ(sink->log, kOkLog);
}

struct ResponseRow {
  const char* method;
  std::string response;
  std::string log, body;
  bool reusable;
};

TEST_F(H1Client, ResponseFraming) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  const ResponseRow rows[] = {
      {"GET", kOk, kOkLog, "ok", true},
      {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "headers(:status=200) end ",
       "abc", true},
      {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n", "headers(:status=200) end ", "", true},
      {"GET", ok + "Content-Length: 0\r\n\r\n", "headers(:status=200 content-length=0) end ", "", true},
      {"GET", ok + "Content-Length: 2\r\nConnection: close\r\n\r\nok", kOkLog, "ok", false},
      {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", kOkLog, "ok", false},
      {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", kOkLog, "ok", true},
      {"HEAD", ok + "Content-Length: 2\r\n\r\n", kOkLog, "", true},
      {"HEAD", ok + "Transfer-Encoding: chunked\r\n\r\n", "headers(:status=200) end ", "", true},
      {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "headers(:status=204) end ", "", true},
      {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "headers(:status=304 content-length=2) end ",
       "", true},
      {"GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + kOk,
       "1xx(:status=100) 1xx(:status=103 link=x) " + kOkLog, "ok", true},
      {"GET", kOk + "x", kOkLog, "ok", false},                          // a byte too many
      {"HEAD", ok + "Content-Length: 2\r\n\r\nok", kOkLog, "", false},  // a body where none may be
      {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", "headers(:status=204) end ", "", false},
      {"GET", kOk + kOk, kOkLog, "ok", false},
      {"CONNECT", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "headers(:status=403 content-length=2) end ",
       "no", true},
  };
  for (const ResponseRow& row : rows) {
    again();
    TestSink& sink = get({{":method", row.method}, {":path", "/"}, {":authority", "a:1"}});
    send(peer, row.response);
    EXPECT_EQ(sink.log, row.log) << row.response;
    EXPECT_EQ(sink.body, row.body) << row.response;
    EXPECT_EQ(owner.ends, std::vector<bool>{row.reusable}) << row.response;
    if (!row.reusable) run_until([&] { return owner.closed; });
    EXPECT_EQ(owner.closed, !row.reusable);
  }
}

TEST_F(H1Client, TrailersAreDeliveredIfWanted) {
  options.enable_trailers = true;
  again();
  TestSink& sink = get();
  send(peer,
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\nx\r\n0\r\nA: b\r\nContent-Length: "
       "9\r\n\r\n");
  EXPECT_EQ(sink.log, "headers(:status=200 trailer=A) trailers(a=b) end ");
  EXPECT_EQ(sink.body, "x");
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
}

TEST_F(H1Client, CloseDelimitedBody) {
  TestSink& sink = get();
  send(peer, "HTTP/1.1 200 OK\r\n\r\nhello");
  EXPECT_EQ(sink.body, "hello");
  send(peer, " world");
  EXPECT_TRUE(owner.ends.empty());
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(sink.log, "headers(:status=200) end ");
  EXPECT_EQ(sink.body, "hello world");
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
}

// A close-delimited body that is cut by a reset is not complete.
TEST_F(H1Client, CloseDelimitedBodyCutByAReset) {
  TestSink& sink = get();
  send(peer, "HTTP/1.1 200 OK\r\n\r\nhello");
  peer.reset();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(sink.reason, ResetReason::kConnectionTermination);
  EXPECT_EQ(sink.log.find("end "), std::string::npos);
}

TEST_F(H1Client, BadResponses) {
  const std::pair<std::string, ResetReason> rows[] = {
      {"garbage\r\n", ResetReason::kProtocolError},
      {"\x15\x03\x01", ResetReason::kProtocolError},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ResetReason::kProtocolError},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", ResetReason::kProtocolError},
      {"HTTP/1.1 200 OK\nContent-Length: 5\n\n", ResetReason::kProtocolError},
      {"HTTP/1.1 101 Switching Protocols\r\n\r\n", ResetReason::kProtocolError},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ResetReason::kProtocolError},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nbad\r\n\r\n", ResetReason::kProtocolError},
      {"HTTP/1.1 200 OK\r\nx: " + std::string(70'000, 'y'), ResetReason::kOverflow},
  };
  for (const auto& [response, reason] : rows) {
    again();
    TestSink& sink = get();
    peer.send(response);
    run_until([&] { return owner.closed; });
    EXPECT_TRUE(sink.over);
    EXPECT_EQ(sink.reason, reason) << response.substr(0, 100);
    EXPECT_NE(sink.details, "");
    EXPECT_TRUE(owner.ends.empty());
  }
}

TEST_F(H1Client, AFloodOfInterimResponsesIsBounded) {
  TestSink& sink = get();
  std::string flood;
  for (int i = 0; i < 2000; ++i) flood += "HTTP/1.1 103 Early Hints\r\nLink: " + std::string(2000, 'x') + "\r\n\r\n";
  std::string_view rest = flood;
  while (!owner.closed && !rest.empty()) {
    rest.remove_prefix(peer.send(rest, 0));
    run_ready(1);
  }
  run_until([&] { return owner.closed; });
  EXPECT_EQ(sink.reason, ResetReason::kOverflow);
  EXPECT_LE(sink.memory.bytes_reserved(), Arena::kDefaultLimit);
}

// --- ends ------------------------------------------------------------------------------------------------------------

TEST_F(H1Client, AnEarlyResponseEndsTheStreamAndTheConnection) {
  TestSink& sink = owner.open();
  Fields head{{":method", "POST"}, {":path", "/"}, {":authority", "a"}};
  sink.stream->encode_headers(head.map, false);
  sink.stream->encode_data(Buffer("x"), false);
  run_ready();
  send(peer, kOk);
  EXPECT_EQ(sink.log, kOkLog);
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  run_until([&] { return owner.closed; });
}

// The response's head may come early, and its end after the request's.
TEST_F(H1Client, BothDirectionsAtOnce) {
  TestSink& sink = owner.open();
  Fields head{{":method", "POST"}, {":path", "/"}, {":authority", "a"}};
  sink.stream->encode_headers(head.map, false);
  run_ready();
  send(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
  EXPECT_EQ(sink.body, "x");
  sink.stream->encode_data(Buffer("y"), true);
  run_ready();
  send(peer, "0\r\n\r\n");
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
}

TEST_F(H1Client, TheServerGoesAway) {
  const std::string responses[] = {"", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
                                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
                                   "HTTP/1.1 100 Continue\r\n\r\n"};
  for (const std::string& response : responses) {
    for (const bool reset : {false, true}) {
      again();
      TestSink& sink = get();
      peer.recv_until("\r\n\r\n");
      if (!response.empty()) send(peer, response);
      if (reset) {
        peer.reset();
      } else {
        peer.shutdown_write();
      }
      run_until([&] { return owner.closed; });
      EXPECT_EQ(sink.reason, ResetReason::kConnectionTermination);
      EXPECT_TRUE(sink.over);
      EXPECT_TRUE(owner.ends.empty());
    }
  }
}

TEST_F(H1Client, AnIdleConnectionIsClosedByWhateverArrives) {
  for (const bool bytes : {false, true}) {
    again();
    get();
    send(peer, kOk);
    ASSERT_TRUE(owner.codec->idle());
    if (bytes) {
      peer.send("HTTP/1.1 408 Request Timeout\r\n\r\n");
    } else {
      peer.shutdown_write();
    }
    run_until([&] { return owner.closed; });
    EXPECT_FALSE(owner.codec->idle());
    EXPECT_EQ(owner.ends, std::vector<bool>{true});
  }
}

TEST_F(H1Client, AResponseBeforeTheRequest) {
  TestSink& sink = owner.open();
  send(peer, kOk);
  EXPECT_EQ(sink.reason, ResetReason::kProtocolError);
  EXPECT_EQ(sink.details, "http1.response_before_request");
  run_until([&] { return owner.closed; });
}

// The connection is closing already when the stream begins: the stream hears of it.
TEST_F(H1Client, AStreamOnAClosingConnection) {
  get();
  send(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  // The owner did not look at `reusable`, as a careless one would.
  again();
  get();
  owner.end_hook = [&](bool reusable) {
    EXPECT_FALSE(reusable);
    TestSink& sink = owner.open();
    Fields head{{":method", "GET"}, {":path", "/"}, {":authority", "a"}};
    sink.stream->encode_headers(head.map, true);
  };
  peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  run_until([&] { return owner.closed; });
  EXPECT_EQ(owner.last().reason, ResetReason::kConnectionTermination);
}

TEST_F(H1Client, DrainingConnectionsAreNotReused) {
  TestSink& sink = get();
  owner.codec->drain();
  send(peer, kOk);
  EXPECT_EQ(sink.log, kOkLog);
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  run_until([&] { return owner.closed; });
}

TEST_F(H1Client, AStreamMayBeResetFromEveryCallback) {
  options.enable_trailers = true;
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto reset = [](TestSink& s) { s.stream->reset(ResetReason::kLocalReset); };
  const std::tuple<std::string, std::function<void(TestSink&)>> rows[] = {
      {"HTTP/1.1 100 Continue\r\n\r\n" + kOk, [&](TestSink& s) { s.interim_hook = reset; }},
      {kOk, [&](TestSink& s) { s.headers_hook = reset; }},
      {"HTTP/1.1 204 No Content\r\n\r\n", [&](TestSink& s) { s.headers_hook = reset; }},
      {kOk, [&](TestSink& s) { s.data_hook = reset; }},
      {chunked + "1\r\nx\r\n", [&](TestSink& s) { s.data_hook = reset; }},
      {chunked + "1\r\nx\r\n0\r\na: b\r\n\r\n", [&](TestSink& s) { s.data_hook = reset; }},
      {chunked + "1\r\nx\r\n0\r\na: b\r\n\r\n", [&](TestSink& s) { s.trailers_hook = reset; }},
  };
  for (const auto& [bytes, arrange] : rows) {
    again();
    TestSink& sink = get();
    arrange(sink);
    peer.send(bytes);
    run_until([&] { return owner.closed; });
    EXPECT_FALSE(sink.over) << bytes;
    EXPECT_TRUE(owner.ends.empty());
  }
  // The end of a close-delimited body.
  again();
  TestSink& sink = get();
  send(peer, "HTTP/1.1 200 OK\r\n\r\n");
  sink.end_hook = reset;
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_TRUE(owner.ends.empty());
}

// --- flow control ----------------------------------------------------------------------------------------------------

TEST_F(H1Client, APausedStreamStopsTheReader) {
  TestSink& sink = get();
  send(peer, "HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
  sink.stream->pause_read(net::Pause::kBackpressure);
  const std::string body(8'000'000, 'x');
  std::string_view rest = body;
  for (int i = 0; i < 20; ++i) {
    rest.remove_prefix(peer.send(rest, 0));
    run_ready();
  }
  EXPECT_LE(sink.body.size(), size_t{Block::kLarge});
  EXPECT_GT(rest.size(), 0u);
  sink.stream->resume_read(net::Pause::kBackpressure);
  while (!rest.empty()) {
    rest.remove_prefix(peer.send(rest, 0));
    run_ready(1);
  }
  run_until([&] { return sink.body.size() == body.size(); });
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
}

TEST_F(H1Client, AStreamTakesItsPausesWithIt) {
  for (int i = 0; i < 3; ++i) {
    TestSink& sink = get();
    sink.headers_hook = [](TestSink& s) { s.stream->pause_read(net::Pause::kBuffer); };
    send(peer, kOk);
    EXPECT_EQ(sink.log, kOkLog);
    EXPECT_FALSE(owner.connection->read_paused());
  }
}

TEST_F(H1Client, TheWriteWatermarkReachesTheStream) {
  net_options.write_high_watermark = 64 * 1024;
  again();
  TestSink& sink = owner.open();
  Fields head{{":method", "POST"}, {":path", "/"}, {":authority", "a"}};
  sink.stream->encode_headers(head.map, false);
  for (int i = 0; i < 1000 && sink.log.empty(); ++i) {
    sink.stream->encode_data(Buffer(std::string(50'000, 'x')), false);
    run_ready(1);
  }
  EXPECT_EQ(sink.log, "above ");
  while (sink.log == "above ") {
    peer.recv_some();
    run_ready(1);
  }
  EXPECT_EQ(sink.log, "above below ");
}

// --- upgrades --------------------------------------------------------------------------------------------------------

TEST_F(H1Client, AnUpgradeThatIsAcceptedIsATunnel) {
  TestSink& sink = upgrade();
  const std::string head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
  EXPECT_EQ(peer.recv_exactly(head.size()), head);
  send(peer, kSwitching + "raw");
  EXPECT_EQ(sink.log, "headers(:status=101 upgrade=x) ");
  EXPECT_EQ(sink.body, "raw");
  sink.stream->encode_data(Buffer("bytes"), false);
  run_ready();
  EXPECT_EQ(peer.recv_exactly(5), "bytes");
  sink.stream->encode_data(Buffer("last"), true);
  run_ready();
  EXPECT_EQ(peer.recv_to_eof(), "last");
  EXPECT_FALSE(sink.over);
  send(peer, " more");
  EXPECT_EQ(sink.body, "raw more");
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(sink.log, "headers(:status=101 upgrade=x) end ");
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
}

TEST_F(H1Client, TheOtherSideOfATunnelMayEndFirst) {
  tunnel_end();
  TestSink& sink = owner.last();
  EXPECT_EQ(sink.log, "headers(:status=101 upgrade=x) end ");
  EXPECT_FALSE(sink.over);
  sink.stream->encode_data(Buffer(std::string(100'000, 'x')), true);
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  std::string all = peer.recv_exactly(1);
  while (!owner.closed || all.size() < 100'000) {
    run_ready(1);
    const std::string more = peer.recv_some(65536, 20);
    if (more.empty() && peer.end() != Socket::End::kTimeout) break;
    all += more;
  }
  EXPECT_TRUE(all.ends_with(std::string(100'000, 'x')));
}

TEST_F(H1Client, AnUpgradeThatIsNotAcceptedLeavesTheConnectionInUse) {
  TestSink& sink = upgrade();
  send(peer, kOk);
  EXPECT_EQ(sink.log, kOkLog);
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
}

// --- the table -------------------------------------------------------------------------------------------------------

TEST_F(H1Client, EveryMoveOfTheTable) {
  using S = H1ClientState;
  const auto reach = [&](S state) {
    again();
    if (state == S::kWaiting) get();
    if (state == S::kBody) {
      get();
      send(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    if (state == S::kTunnelEnd) tunnel_end();
    ASSERT_EQ(client_state(owner), state);
  };
  struct Walk {
    S from, to;
    std::function<void()> step;
  };
  const auto bytes = [&](const std::string& text) { return [&, text] { send(peer, text); }; };
  const auto eof = [&] {
    peer.shutdown_write();
    run_ready();
  };
  const auto close = [&] {
    owner.connection->close(net::Close::kNow);
    run_ready();
  };
  const auto reset = [&] { owner.last().stream->reset(ResetReason::kLocalReset); };
  const Walk walks[] = {
      {S::kBody, S::kTunnelEnd,
       [&] {
         again();
         tunnel_end();
       }},
      {S::kTunnelEnd, S::kClosed, [&] { owner.last().stream->encode_data(Buffer("x"), true); }},
      {S::kTunnelEnd, S::kClosed, reset},
      {S::kTunnelEnd, S::kClosed, close},
      {S::kIdle, S::kWaiting, [&] { owner.open(); }},
      {S::kIdle, S::kClosed, bytes("x")},
      {S::kIdle, S::kClosed, eof},
      {S::kIdle, S::kClosed, close},
      {S::kWaiting, S::kWaiting, bytes("HTTP/1.1 100 Continue\r\n\r\n")},
      {S::kWaiting, S::kBody, bytes("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")},
      {S::kWaiting, S::kIdle, bytes("HTTP/1.1 204 No Content\r\n\r\n")},
      {S::kWaiting, S::kClosed, bytes("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")},
      {S::kWaiting, S::kClosed, bytes("\x01")},
      {S::kWaiting, S::kClosed, reset},
      {S::kWaiting, S::kClosed, eof},
      {S::kWaiting, S::kClosed, close},
      {S::kBody, S::kIdle, bytes("0\r\n\r\n")},
      {S::kBody, S::kClosed, bytes("0\r\n\r\nx")},
      {S::kBody, S::kClosed, bytes("zz")},
      {S::kBody, S::kClosed, reset},
      {S::kBody, S::kClosed, eof},
      {S::kBody, S::kClosed, close},
  };
  for (const Walk& walk : walks) {
    reach(walk.from);
    walk.step();
    EXPECT_EQ(client_state(owner), walk.to) << "from " << static_cast<int>(walk.from);
  }
  for (const H1ClientMove& move : kClientMoves) {
    bool walked = false;
    for (const Walk& walk : walks) walked = walked || (walk.from == move.from && walk.to == move.to);
    EXPECT_TRUE(walked) << move.when;
  }
}

}  // namespace
}  // namespace outrigger::http
