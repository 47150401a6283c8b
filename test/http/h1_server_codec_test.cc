#include "base/block.h"
#include "http/h1_fixture.h"

namespace outrigger::http {
namespace {

using test::Socket;

const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const std::string kGetLog = "headers(:method=GET :path=/ :authority=a) end ";

void reply(TestSink& sink, std::string_view status = "200", const std::string& body = "ok") {
  const std::string length = std::to_string(body.size());
  Fields head{{":status", status}, {"content-length", length}};
  CodecStream& stream = *sink.stream;
  if (body.empty()) return stream.encode_headers(head.map, true);
  stream.encode_headers(head.map, false);
  stream.encode_data(Buffer(body), true);
}

const std::string kUpgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

void accept_upgrade(TestSink& sink) {
  Fields head{{":status", "101"}, {"x-a", "b"}};
  sink.stream->encode_headers(head.map, false);
}

class H1Server : public H1CodecTest {
 protected:
  void SetUp() override { serve(owner, peer); }
  // The same test again with a fresh connection.
  void again() {
    if (!owner.closed) owner.connection->close(net::Close::kNow);
    run_until([&] { return owner.closed; });
    owner.~TestOwner();
    new (&owner) TestOwner;
    serve(owner, peer);
  }
  // Answers every complete or bad request at once.
  void answer_all() {
    owner.new_stream_hook = [](TestSink& sink) {
      sink.end_hook = [](TestSink& s) { reply(s); };
      sink.bad_hook = [](TestSink& s) { reply(s, std::to_string(s.bad_status), ""); };
    };
  }
  // Sends a request, lets `answer` answer it, returns what the peer gets until EOF (the connection is closed by us
  // then).
  std::string exchange(const std::string& request, const std::function<void(CodecStream&)>& answer) {
    send(peer, request);
    answer(*owner.last().stream);
    run_ready();
    if (!owner.closed && owner.codec->idle()) owner.connection->close(net::Close::kFlush);
    peer.shutdown_write();
    run_until([&] { return owner.closed; });
    return peer.recv_to_eof();
  }
  TestOwner& owner = new_owner();
  Socket peer;
};

// --- requests --------------------------------------------------------------------------------------------------------

TEST_F(H1Server, OneRequest) {
  answer_all();
  send(peer, kGet);
  EXPECT_EQ(peer.recv_exactly(kOk.size()), kOk);
  EXPECT_EQ(owner.last().log, kGetLog);
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
  EXPECT_TRUE(owner.codec->idle());
  EXPECT_FALSE(owner.codec->head_incomplete());
}

TEST_F(H1Server, KeepAliveOverManyRequestsInPieces) {
  answer_all();
  for (int i = 0; i < 20; ++i) {
    send(peer, kGet.substr(0, 9));
    EXPECT_TRUE(owner.codec->head_incomplete());
    EXPECT_FALSE(owner.codec->idle());
    send(peer, kGet.substr(9));
    ASSERT_EQ(peer.recv_exactly(kOk.size()), kOk);
    EXPECT_TRUE(owner.codec->idle());
  }
  EXPECT_EQ(owner.ends.size(), 20u);
}

TEST_F(H1Server, FixedBody) {
  answer_all();
  send(peer, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
  EXPECT_EQ(owner.last().body, "hello");
  EXPECT_EQ(server_state(owner), H1ServerState::kReceiving);
  send(peer, "world" + kGet);
  EXPECT_EQ(peer.recv_exactly(2 * kOk.size()), kOk + kOk);
  EXPECT_EQ(owner.sinks[0]->body, "helloworld");
  EXPECT_EQ(owner.sinks[0]->log, "headers(:method=POST :path=/p :authority=a content-length=10) end ");
  EXPECT_EQ(owner.sinks[1]->log, kGetLog);
}

TEST_F(H1Server, ChunksOfOneReadAreDeliveredTogether) {
  answer_all();
  int calls = 0;
  auto hook = owner.new_stream_hook;
  owner.new_stream_hook = [&](TestSink& sink) {
    hook(sink);
    sink.data_hook = [&](TestSink&) { ++calls; };
  };
  send(peer, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n");
  EXPECT_EQ(owner.last().body, "abcde");
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(peer.recv_exactly(kOk.size()), kOk);
}

TEST_F(H1Server, TrailersAreDroppedUnlessWanted) {
  const std::string request =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n";
  answer_all();
  send(peer, request);
  EXPECT_EQ(owner.last().log, "headers(:method=POST :path=/ :authority=a) end ");
  options.enable_trailers = true;
  again();
  answer_all();
  send(peer, request + kGet);
  EXPECT_EQ(owner.sinks[0]->log, "headers(:method=POST :path=/ :authority=a) trailers(a=b) end ");
  EXPECT_EQ(owner.sinks[0]->body, "x");
  EXPECT_EQ(owner.sinks[1]->log, kGetLog);
  EXPECT_EQ(peer.recv_exactly(2 * kOk.size()), kOk + kOk);
}

TEST_F(H1Server, PipelinedRequestsAreAnsweredInOrder) {
  answer_all();
  std::string all, expect;
  for (int i = 0; i < 5000; ++i) {
    all += kGet;
    expect += kOk;
  }
  send(peer, all);
  run_until([&] { return owner.ends.size() == 5000; });
  EXPECT_EQ(peer.recv_exactly(expect.size()), expect);
}

TEST_F(H1Server, PipelinedRequestsWaitForTheAnswerBeforeThem) {
  send(peer, kGet + "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
  EXPECT_EQ(owner.sinks.size(), 1u);
  EXPECT_TRUE(owner.connection->read_paused());
  EXPECT_FALSE(owner.codec->idle());
  send(peer, "lo" + kGet);
  EXPECT_EQ(owner.sinks.size(), 1u);
  reply(owner.last());
  EXPECT_EQ(owner.sinks.size(), 1u);  // never from inside the answer's own call
  run_until([&] { return owner.sinks.size() == 2 && owner.last().body == "hello"; });
  EXPECT_TRUE(owner.connection->read_paused());  // the third waits
  reply(owner.last());
  run_until([&] { return owner.sinks.size() == 3; });
  EXPECT_FALSE(owner.connection->read_paused());
  EXPECT_EQ(owner.last().log, kGetLog);
  reply(owner.last());
  run_ready();
  EXPECT_EQ(peer.recv_exactly(3 * kOk.size()), kOk + kOk + kOk);
}

// While one request is in hand a client can make us keep two reads, not more.
TEST_F(H1Server, PipelinedBytesAreBounded) {
  std::string flood;
  while (flood.size() < 4 * 1024 * 1024) flood += kGet;
  send(peer, kGet);
  peer.send(flood, 0);
  run_ready(50);
  EXPECT_LE(owner.connection->bytes_read(), 3u * Block::kLarge);
  EXPECT_EQ(owner.sinks.size(), 1u);
}

TEST_F(H1Server, AnIdleConnectionOwnsNoBlock) {
  answer_all();
  send(peer, kGet);
  peer.recv_exactly(kOk.size());
  const size_t blocks = BlockPool::local().blocks_in_use() - owner.sinks.size();  // each sink's arena has one
  send(peer, kGet.substr(0, 5));
  EXPECT_EQ(BlockPool::local().blocks_in_use() - owner.sinks.size(), blocks + 1);
  send(peer, kGet.substr(5));
  EXPECT_EQ(BlockPool::local().blocks_in_use() - owner.sinks.size(), blocks);
}

// --- persistence -----------------------------------------------------------------------------------------------------

TEST_F(H1Server, ConnectionCloseEndsTheConnection) {
  answer_all();
  const std::string request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  peer.send(request + kGet);
  run_until([&] { return !owner.ends.empty(); });
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  EXPECT_EQ(owner.sinks.size(), 1u);  // what followed was dropped
}

TEST_F(H1Server, Http10) {
  options.accept_http_10 = true;
  again();
  EXPECT_EQ(exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n", [&](CodecStream&) { reply(owner.last()); }),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
  again();
  EXPECT_EQ(exchange("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
                     [&](CodecStream& stream) {
                       EXPECT_EQ(stream.protocol(), Protocol::kHttp10);
                       reply(owner.last());
                     }),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok");
  again();
  // No length: the close ends the body, whatever was asked.
  EXPECT_EQ(exchange("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
                     [](CodecStream& stream) {
                       Fields head{{":status", "200"}};
                       Fields interim{{":status", "100"}};
                       stream.encode_1xx(interim.map);  // not for HTTP/1.0
                       stream.encode_headers(head.map, false);
                       stream.encode_data(Buffer("hello"), false);
                       stream.encode_data(Buffer(" world"), true);
                     }),
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello world");
}

TEST_F(H1Server, ConnectIsTheLastRequest) {
  EXPECT_EQ(exchange("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\nhidden",
                     [&](CodecStream&) { reply(owner.last(), "404"); }),
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
  EXPECT_EQ(owner.sinks.size(), 1u);
}

// Its framing is nobody's business: no length, no coding, no connection field.
TEST_F(H1Server, A2xxToConnectIsATunnel) {
  send(peer, "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nearly");
  EXPECT_EQ(owner.last().log, "headers(:method=CONNECT :authority=b:443) ");  // no end
  Fields head{{":status", "200"}, {"x", "y"}};
  owner.last().stream->encode_headers(head.map, false);
  run_until([&] { return owner.last().body == "early"; });
  owner.last().stream->encode_data(Buffer("hello"), false);
  run_ready();
  EXPECT_EQ(peer.recv_exactly(30), "HTTP/1.1 200 OK\r\nx: y\r\n\r\nhello");
  send(peer, " more");
  EXPECT_EQ(owner.last().body, "early more");
  peer.shutdown_write();
  run_until([&] { return owner.last().log.ends_with("end "); });
  owner.last().stream->encode_data(Buffer("bye"), true);
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), "bye");
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
}

TEST_F(H1Server, DrainingAnnouncesTheEnd) {
  send(peer, kGet);
  owner.codec->drain();
  EXPECT_FALSE(owner.codec->idle());
  reply(owner.last());
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
}

TEST_F(H1Server, ConnectionCloseFromAboveIsObeyed) {
  EXPECT_EQ(exchange(kGet,
                     [](CodecStream& stream) {
                       Fields head{{":status", "503"}, {"connection", "close"}};
                       stream.encode_headers(head.map, true);
                     }),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
}

// --- responses -------------------------------------------------------------------------------------------------------

struct ResponseRow {
  const char* method;
  std::initializer_list<std::pair<std::string_view, std::string_view>> fields;
  std::vector<std::string> body;  // none: the head ends the response
  const char* expect;
};

TEST_F(H1Server, ResponseFraming) {
  const ResponseRow rows[] = {
      {"GET", {{":status", "200"}}, {}, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"},
      {"GET",
       {{":status", "200"}},
       {"a", "", "bc"},
       "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"},
      {"GET",
       {{":status", "200"}},
       {"a", ""},
       "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
      {"GET",
       {{":status", "200"}, {"content-length", "3"}},
       {"ab", "c"},
       "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"},
      {"GET",
       {{":status", "200"}, {"content-length", "003"}},
       {"abc"},
       "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"},
      {"GET",
       {{":status", "200"}, {"content-length", "3"}, {"content-length", "4"}},
       {"abc"},
       "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"},
      {"GET", {{":status", "200"}, {"content-length", "0"}}, {}, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"},
      {"GET", {{":status", "204"}, {"content-length", "3"}}, {}, "HTTP/1.1 204 No Content\r\n\r\n"},
      {"GET", {{":status", "204"}}, {"dropped"}, "HTTP/1.1 204 No Content\r\n\r\n"},
      {"GET",
       {{":status", "304"}, {"content-length", "3"}},
       {},
       "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n"},
      {"GET", {{":status", "304"}}, {"x"}, "HTTP/1.1 304 Not Modified\r\n\r\n"},
      {"HEAD", {{":status", "200"}, {"content-length", "3"}}, {}, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"},
      {"HEAD", {{":status", "200"}, {"content-length", "3"}}, {"abc"}, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"},
      {"HEAD", {{":status", "200"}}, {"abc"}, "HTTP/1.1 200 OK\r\n\r\n"},
      {"GET", {{":status", "299"}}, {}, "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n"},
      {"GET", {{":status", "999"}}, {}, "HTTP/1.1 999 Unknown\r\ncontent-length: 0\r\n\r\n"},
  };
  for (const ResponseRow& row : rows) {
    again();
    const std::string got =
        exchange(std::string(row.method) + " / HTTP/1.1\r\nHost: a\r\n\r\n", [&](CodecStream& stream) {
          Fields head(row.fields);
          stream.encode_headers(head.map, row.body.empty());
          for (size_t i = 0; i < row.body.size(); ++i)
            stream.encode_data(Buffer(row.body[i]), i + 1 == row.body.size());
        });
    EXPECT_EQ(got, row.expect);
    EXPECT_EQ(owner.ends, std::vector<bool>{true}) << row.expect;
  }
}

TEST_F(H1Server, FieldsThatAreOurs) {
  EXPECT_EQ(exchange(kGet,
                     [](CodecStream& stream) {
                       Fields head{{":status", "200"},
                                   {":path", "/"},
                                   {"Server", "x"},
                                   {"connection", "upgrade"},
                                   {"keep-alive", "5"},
                                   {"upgrade", "h2c"},
                                   {"transfer-encoding", "gzip"},
                                   {"proxy-connection", "x"},
                                   {"te", "x"},
                                   {"trailer", "x"},
                                   {"set-cookie", "a"},
                                   {"set-cookie", "b"}};
                       stream.encode_headers(head.map, true);
                     }),
            "HTTP/1.1 200 OK\r\nserver: x\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 0\r\n\r\n");
}

TEST_F(H1Server, NoFieldCanSplitAResponse) {
  EXPECT_EQ(exchange(kGet,
                     [](CodecStream& stream) {
                       Fields head{{":status", "200"},
                                   {"x-short", "a\r\nb"},
                                   {"x-mid", "0123456\n89"},
                                   {"x-long", "0123456789abcdef0123456789\r\nset-cookie: evil"},
                                   {"x-nul", std::string_view("a\0b", 3)},
                                   {"bad name", "x"},
                                   {"bad\r\nname", "x"},
                                   {"", "x"},
                                   {"good", "\ta b"}};
                       stream.encode_headers(head.map, true);
                     }),
            "HTTP/1.1 200 OK\r\nx-short: a  b\r\nx-mid: 0123456 89\r\nx-long: 0123456789abcdef0123456789  set-cookie: "
            "evil\r\n"
            "x-nul: a b\r\ngood: \ta b\r\ncontent-length: 0\r\n\r\n");
}

TEST_F(H1Server, LargeHeads) {
  const std::string large(20'000, 'v'), almost(8 * 1024 - 8, 'w');
  EXPECT_EQ(exchange(kGet,
                     [&](CodecStream& stream) {
                       Fields head{{":status", "200"}, {"a", large}, {"b", almost}, {"c", almost + "1"}, {"d", ""}};
                       stream.encode_headers(head.map, true);
                     }),
            "HTTP/1.1 200 OK\r\na: " + large + "\r\nb: " + almost + "\r\nc: " + almost +
                "1\r\nd: \r\ncontent-length: 0\r\n\r\n");
}

TEST_F(H1Server, InterimResponses) {
  EXPECT_EQ(exchange("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
                     [&](CodecStream& stream) {
                       Fields go_on{{":status", "100"}};
                       Fields hints{{":status", "103"}, {"link", "x"}};
                       stream.encode_1xx(go_on.map);
                       stream.encode_1xx(hints.map);
                       send(peer, "x");
                       reply(owner.last());
                     }),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + kOk);
  EXPECT_EQ(owner.last().log, "headers(:method=POST :path=/ :authority=a expect=100-continue content-length=1) end ");
}

TEST_F(H1Server, ResponseTrailers) {
  const auto answer = [](CodecStream& stream) {
    Fields head{{":status", "200"}};
    Fields trailers{{"a", "b"}, {"connection", "x"}};
    stream.encode_headers(head.map, false);
    stream.encode_data(Buffer("x"), false);
    stream.encode_trailers(trailers.map);
  };
  const std::string head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
  EXPECT_EQ(exchange(kGet, answer), head + "\r\n");
  options.enable_trailers = true;
  again();
  EXPECT_EQ(exchange(kGet, answer), head + "a: b\r\n\r\n");
  again();
  EXPECT_EQ(exchange(kGet,
                     [](CodecStream& stream) {  // a body of fixed length has none
                       Fields head{{":status", "200"}, {"content-length", "1"}};
                       Fields trailers{{"a", "b"}};
                       stream.encode_headers(head.map, false);
                       stream.encode_data(Buffer("x"), false);
                       stream.encode_trailers(trailers.map);
                     }),
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
}

// The sender's length is wrong: the peer must not take what it got for a whole message.
TEST_F(H1Server, AWrongLengthResetsTheConnection) {
  const std::function<void(CodecStream&)> wrong[] = {
      [](CodecStream& stream) {  // too much
        Fields head{{":status", "200"}, {"content-length", "3"}};
        stream.encode_headers(head.map, false);
        stream.encode_data(Buffer("abcd"), false);
        stream.encode_data(Buffer("ignored"), true);
      },
      [](CodecStream& stream) {  // too little
        Fields head{{":status", "200"}, {"content-length", "3"}};
        stream.encode_headers(head.map, false);
        stream.encode_data(Buffer("ab"), true);
      },
      [](CodecStream& stream) {  // none
        Fields head{{":status", "200"}, {"content-length", "3"}};
        stream.encode_headers(head.map, true);
      },
      [](CodecStream& stream) {  // trailers too early
        Fields head{{":status", "200"}, {"content-length", "3"}};
        Fields trailers{{"a", "b"}};
        stream.encode_headers(head.map, false);
        stream.encode_trailers(trailers.map);
      },
      [](CodecStream& stream) {  // no number
        Fields head{{":status", "200"}, {"content-length", "3x"}};
        stream.encode_headers(head.map, false);
        stream.encode_data(Buffer("abc"), true);
      },
      [](CodecStream& stream) {  // no status
        Fields head{{":status", "20"}};
        stream.encode_headers(head.map, true);
      },
      [](CodecStream& stream) {  // not a final status
        Fields head{{":status", "101"}};
        stream.encode_headers(head.map, true);
      },
  };
  for (const auto& answer : wrong) {
    again();
    send(peer, kGet);
    TestSink& sink = owner.last();
    answer(*sink.stream);
    EXPECT_FALSE(sink.over);  // not from inside its own call
    run_until([&] { return owner.closed; });
    EXPECT_TRUE(sink.over);
    EXPECT_EQ(sink.reason, ResetReason::kLocalReset);
    EXPECT_TRUE(owner.ends.empty());
    peer.recv_to_eof();
    EXPECT_EQ(peer.end(), Socket::End::kReset);
  }
}

// --- refusals --------------------------------------------------------------------------------------------------------

TEST_F(H1Server, BadRequestsAreAnsweredAndTheConnectionCloses) {
  const std::pair<const char*, const char*> rows[] = {
      {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
      {"nonsense\r\n", "HTTP/1.1 400 Bad Request\r\n"},
      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n"},
      {"GET / HTTP/3.0\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
      {"GET / HTTP/1.0\r\nHost: a\r\n\r\n", "HTTP/1.1 426 Upgrade Required\r\n"},
      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET /smuggled "
       "HTTP/1.1\r\n",
       "HTTP/1.1 400 Bad Request\r\n"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 Bad Request\r\n"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz", "HTTP/1.1 400 Bad Request\r\n"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
       "HTTP/1.1 400 Bad Request\r\n"},
  };
  for (const auto& [request, line] : rows) {
    again();
    answer_all();
    peer.send(std::string(request) + kGet);
    run_until([&] { return owner.ends.size() == 1; });
    peer.shutdown_write();
    run_until([&] { return owner.closed; });
    EXPECT_EQ(peer.recv_to_eof(), std::string(line) + "content-length: 0\r\nconnection: close\r\n\r\n") << request;
    EXPECT_EQ(owner.sinks.size(), 1u);
    EXPECT_EQ(owner.ends, std::vector<bool>{false});
  }
}

TEST_F(H1Server, AnAnswerToABadRequestMayComeLater) {
  send(peer, "bad\r\n");
  EXPECT_EQ(owner.last().log, "bad(400 http1.invalid_request_line) ");
  EXPECT_EQ(server_state(owner), H1ServerState::kRefusing);
  send(peer, std::string(200'000, 'x'));
  EXPECT_FALSE(owner.connection->read_paused());
  Fields head{{":status", "400"}};
  owner.last().stream->encode_headers(head.map, false);
  run_ready();
  owner.last().stream->encode_data(Buffer("sorry"), true);
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(
      peer.recv_to_eof(),
      "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nsorry\r\n0\r\n\r\n");
}

TEST_F(H1Server, ABadRequestAfterPipelinedGoodOnes) {
  answer_all();
  peer.send(kGet + kGet + "bad\r\n" + kGet);
  run_until([&] { return owner.ends.size() == 3; });
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(),
            kOk + kOk + "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

TEST_F(H1Server, ABadBodyAfterTheResponseBeganResets) {
  send(peer, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
  TestSink& sink = owner.last();
  Fields head{{":status", "200"}};
  sink.stream->encode_headers(head.map, false);
  run_ready();
  send(peer, "zz\r\n");
  EXPECT_EQ(sink.reason, ResetReason::kProtocolError);
  EXPECT_EQ(sink.details, "http1.invalid_chunk");
  run_until([&] { return owner.closed; });
  peer.recv_to_eof();
  EXPECT_EQ(peer.end(), Socket::End::kReset);
  EXPECT_TRUE(owner.ends.empty());
}

TEST_F(H1Server, AnEarlyResponseEndsTheConnection) {
  send(peer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome");
  reply(owner.last(), "413", "");
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  peer.send(std::string(300'000, 'x') + kGet);  // dropped
  run_ready(20);
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(owner.sinks.size(), 1u);
  EXPECT_EQ(owner.last().body, "some");
}

// The head went out before; it was not known then that the request would not be read to its end.
TEST_F(H1Server, AResponseThatEndsBeforeItsRequest) {
  send(peer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nsome");
  Fields head{{":status", "200"}, {"content-length", "2"}};
  owner.last().stream->encode_headers(head.map, false);
  run_ready();
  owner.last().stream->encode_data(Buffer("ok"), true);
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), kOk);
}

// A response may begin, and stream, while its request goes on.
TEST_F(H1Server, BothDirectionsAtOnce) {
  owner.new_stream_hook = [](TestSink& sink) {
    sink.headers_hook = [](TestSink& s) {
      Fields head{{":status", "200"}};
      s.stream->encode_headers(head.map, false);
    };
  };
  send(peer, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(peer.recv_until("\r\n\r\n"), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
  send(peer, "3\r\nabc\r\n");
  owner.last().stream->encode_data(Buffer("ABC"), false);
  run_ready();
  EXPECT_EQ(peer.recv_exactly(8), "3\r\nABC\r\n");
  send(peer, "0\r\n\r\n");
  owner.last().stream->encode_data(Buffer(), true);
  run_ready();
  EXPECT_EQ(peer.recv_exactly(5), "0\r\n\r\n");
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
}

// --- ends ------------------------------------------------------------------------------------------------------------

TEST_F(H1Server, AClientThatGoesAwayCancelsItsRequest) {
  for (const std::string& request :
       {kGet, std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nsome"), std::string("bad\r\n")}) {
    for (const bool reset : {false, true}) {
      again();
      send(peer, request);
      TestSink& sink = owner.last();
      if (reset) {
        peer.reset();
      } else {
        peer.close();
      }
      run_until([&] { return owner.closed; });
      EXPECT_TRUE(sink.over);
      EXPECT_EQ(sink.reason, ResetReason::kConnectionTermination);
      EXPECT_TRUE(owner.ends.empty());
    }
  }
}

TEST_F(H1Server, AClientThatGoesAwayBetweenRequestsOrInAHead) {
  for (const char* bytes : {"", "\r\n", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n"}) {
    again();
    if (*bytes != 0) send(peer, bytes);
    peer.close();
    run_until([&] { return owner.closed; });
    EXPECT_TRUE(owner.sinks.empty());
  }
}

// Whatever callback it happens in.
TEST_F(H1Server, AStreamMayBeResetFromEveryCallback) {
  const auto reset = [](TestSink& s) { s.stream->reset(ResetReason::kLocalReset); };
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  options.enable_trailers = true;
  const std::tuple<std::string, std::function<void(TestSink&)>> rows[] = {
      {kGet + kGet, [&](TestSink& s) { s.headers_hook = reset; }},
      {chunked + "1\r\nx\r\n0\r\n\r\n" + kGet, [&](TestSink& s) { s.headers_hook = reset; }},
      {chunked + "1\r\nx\r\n", [&](TestSink& s) { s.data_hook = reset; }},
      {chunked + "1\r\nx\r\n0\r\n\r\n" + kGet, [&](TestSink& s) { s.data_hook = reset; }},
      {chunked + "1\r\nx\r\n0\r\na: b\r\n\r\n" + kGet, [&](TestSink& s) { s.data_hook = reset; }},
      {chunked + "1\r\nx\r\n0\r\na: b\r\n\r\n" + kGet, [&](TestSink& s) { s.trailers_hook = reset; }},
      {"bad\r\n" + kGet, [&](TestSink& s) { s.bad_hook = reset; }},
      {chunked + "1\r\nx\r\nzz\r\n" + kGet, [&](TestSink& s) { s.bad_hook = reset; }},
      {kGet + kGet,
       [&](TestSink& s) {
         s.end_hook = [&](TestSink& t) {
           Fields head{{":status", "200"}};
           t.stream->encode_headers(head.map, false);
           t.stream->encode_data(Buffer("x"), false);
           t.stream->reset(ResetReason::kLocalReset);
         };
       }},
  };
  for (const auto& [bytes, arrange] : rows) {
    again();
    owner.new_stream_hook = arrange;
    peer.send(bytes);
    run_until([&] { return owner.closed; });
    EXPECT_EQ(owner.sinks.size(), 1u) << bytes;
    EXPECT_FALSE(owner.last().over) << bytes;  // nobody is called
    EXPECT_TRUE(owner.ends.empty());
  }
}

TEST_F(H1Server, AResponseMayComeFromEveryCallback) {
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto answer = [](TestSink& s) { reply(s); };
  // In the head's or the body's callback the request is not complete yet: the connection ends.
  for (const bool in_head : {true, false}) {
    again();
    owner.new_stream_hook = [&](TestSink& s) { (in_head ? s.headers_hook : s.data_hook) = answer; };
    peer.send(chunked + "1\r\nx\r\n");
    run_until([&] { return !owner.ends.empty(); });
    peer.shutdown_write();
    run_until([&] { return owner.closed; });
    EXPECT_EQ(peer.recv_to_eof(), in_head ? "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" : kOk);
    EXPECT_EQ(owner.ends, std::vector<bool>{false});
  }
}

TEST_F(H1Server, TheOwnerMayCloseFromEveryCallback) {
  for (const net::Close how : {net::Close::kNow, net::Close::kReset, net::Close::kFlush}) {
    again();
    owner.new_stream_hook = [&](TestSink& s) {
      s.headers_hook = [&, how](TestSink&) { owner.connection->close(how); };
    };
    peer.send(kGet + kGet);
    run_ready();
    peer.close();
    run_until([&] { return owner.closed; });
    EXPECT_EQ(owner.last().reason, ResetReason::kConnectionTermination);
  }
  again();
  answer_all();
  owner.end_hook = [&](bool) { owner.connection->close(net::Close::kFlush); };
  peer.send(kGet);
  run_until([&] { return !owner.ends.empty(); });
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), kOk);
}

// --- flow control ----------------------------------------------------------------------------------------------------

TEST_F(H1Server, APausedStreamStopsTheReader) {
  send(peer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
  TestSink& sink = owner.last();
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
}

TEST_F(H1Server, AStreamTakesItsPausesWithIt) {
  owner.new_stream_hook = [](TestSink& sink) {
    sink.end_hook = [](TestSink& s) {
      s.stream->pause_read(net::Pause::kBackpressure);
      s.stream->pause_read(net::Pause::kBuffer);
      reply(s);
    };
  };
  for (int i = 0; i < 3; ++i) {
    send(peer, kGet);
    ASSERT_EQ(peer.recv_exactly(kOk.size()), kOk);
    EXPECT_FALSE(owner.connection->read_paused());
  }
}

TEST_F(H1Server, TheWriteWatermarkReachesTheStream) {
  net_options.write_high_watermark = 64 * 1024;
  again();
  send(peer, kGet);
  TestSink& sink = owner.last();
  Fields head{{":status", "200"}};
  sink.stream->encode_headers(head.map, false);
  for (int i = 0; i < 1000 && sink.log.find("above") == std::string::npos; ++i) {
    sink.stream->encode_data(Buffer(std::string(50'000, 'x')), false);
    run_ready(1);
  }
  EXPECT_NE(sink.log.find("above"), std::string::npos);
  EXPECT_GT(sink.stream->write_queue_bytes(), 64u * 1024);
  EXPECT_EQ(sink.stream->write_queue_bytes(), owner.connection->write_queue_bytes());
  while (sink.log.find("below") == std::string::npos) {
    peer.recv_some();
    run_ready(1);
  }
}

// --- upgrades --------------------------------------------------------------------------------------------------------

TEST_F(H1Server, AnUpgradeThatIsAcceptedIsATunnel) {
  send(peer, kUpgrade + "early");
  TestSink& sink = owner.last();
  EXPECT_EQ(sink.log, "headers(:method=GET :path=/ :authority=a upgrade=x) ");
  EXPECT_EQ(sink.body, "");  // not before the answer
  accept_upgrade(sink);
  run_ready();
  const std::string head = "HTTP/1.1 101 Switching Protocols\r\nx-a: b\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
  EXPECT_EQ(peer.recv_exactly(head.size()), head);
  run_until([&] { return sink.body == "early"; });
  send(peer, " GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(sink.body, "early GET / HTTP/1.1\r\n\r\n");
  sink.stream->encode_data(Buffer("raw"), false);
  run_ready();
  EXPECT_EQ(peer.recv_exactly(3), "raw");
  peer.shutdown_write();
  run_until([&] { return sink.log.find("end") != std::string::npos; });
  sink.stream->encode_data(Buffer("er"), false);
  sink.stream->encode_data(Buffer(), true);
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
  run_until([&] { return owner.closed; });
  EXPECT_EQ(peer.recv_to_eof(), "er");
}

TEST_F(H1Server, OurEndOfATunnelIsAHalfClose) {
  send(peer, kUpgrade);
  TestSink& sink = owner.last();
  accept_upgrade(sink);
  sink.stream->encode_data(Buffer("bye"), true);
  run_ready();
  EXPECT_TRUE(peer.recv_to_eof().ends_with("\r\n\r\nbye"));
  EXPECT_FALSE(sink.over);
  send(peer, "still here");
  EXPECT_EQ(sink.body, "still here");
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_TRUE(sink.over);
  EXPECT_EQ(owner.ends, std::vector<bool>{false});
}

TEST_F(H1Server, AnUpgradeThatIsNotAcceptedIsARequestLikeOthers) {
  send(peer, kUpgrade + kGet);
  reply(owner.last());
  run_ready();
  EXPECT_EQ(peer.recv_exactly(kOk.size()), kOk);
  run_until([&] { return owner.sinks.size() == 2; });
  reply(owner.last());
  run_ready();
  EXPECT_EQ(peer.recv_exactly(kOk.size()), kOk);
  EXPECT_EQ(owner.ends, (std::vector<bool>{true, true}));
}

// --- the table -------------------------------------------------------------------------------------------------------

TEST_F(H1Server, EveryMoveOfTheTable) {
  using S = H1ServerState;
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto reach = [&](S state) {
    again();
    if (state == S::kHead) send(peer, "P");
    if (state == S::kReceiving) send(peer, post);
    if (state == S::kAnswering) send(peer, kGet);
    if (state == S::kRefusing) send(peer, "bad\r\n");
    if (state == S::kTunnel) {
      send(peer, kUpgrade);
      accept_upgrade(owner.last());
    }
    ASSERT_EQ(server_state(owner), state);
  };
  struct Walk {
    S from, to;
    std::function<void()> step;
  };
  const auto begin = [&] {
    Fields head{{":status", "200"}};
    owner.last().stream->encode_headers(head.map, false);
  };
  const auto answer = [&] { reply(owner.last()); };
  const auto answer_close = [&] {
    owner.codec->drain();
    reply(owner.last());
  };
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
      {S::kIdle, S::kHead, [&] { send(peer, "G"); }},
      {S::kIdle, S::kClosed, eof},
      {S::kIdle, S::kClosed, close},
      {S::kHead, S::kReceiving, [&] { send(peer, post.substr(1)); }},
      {S::kHead, S::kAnswering, [&] { send(peer, "UT / HTTP/1.1\r\nHost: a\r\n\r\n"); }},
      {S::kHead, S::kRefusing, [&] { send(peer, "\x01"); }},
      {S::kHead, S::kRefusing, [&] { send(peer, "UT / HTTP/1.1\r\n\r\n"); }},
      {S::kHead, S::kRefusing, [&] { send(peer, std::string(61 * 1024, 'x')); }},
      {S::kHead, S::kClosed, eof},
      {S::kHead, S::kClosed, close},
      {S::kReceiving, S::kAnswering, [&] { send(peer, "0\r\n\r\n"); }},
      {S::kReceiving, S::kRefusing, [&] { send(peer, "zz"); }},
      {S::kReceiving, S::kClosed,
       [&] {
         begin();
         send(peer, "zz");
       }},
      {S::kReceiving, S::kClosed, answer},
      {S::kReceiving, S::kClosed, reset},
      {S::kReceiving, S::kClosed, eof},
      {S::kReceiving, S::kClosed, close},
      {S::kAnswering, S::kIdle, answer},
      {S::kAnswering, S::kClosed, answer_close},
      {S::kAnswering, S::kClosed, reset},
      {S::kAnswering, S::kClosed, eof},
      {S::kAnswering, S::kClosed, close},
      {S::kAnswering, S::kTunnel,
       [&] {
         again();
         send(peer, kUpgrade);
         accept_upgrade(owner.last());
       }},
      {S::kTunnel, S::kClosed,
       [&] {
         eof();
         owner.last().stream->encode_data(Buffer(), true);
       }},
      {S::kTunnel, S::kClosed, reset},
      {S::kTunnel, S::kClosed, close},
      {S::kRefusing, S::kClosed, answer},
      {S::kRefusing, S::kClosed, reset},
      {S::kRefusing, S::kClosed, eof},
      {S::kRefusing, S::kClosed, close},
  };
  for (const Walk& walk : walks) {
    reach(walk.from);
    walk.step();
    EXPECT_EQ(server_state(owner), walk.to) << "from " << static_cast<int>(walk.from);
  }
  for (const H1ServerMove& move : kServerMoves) {
    bool walked = false;
    for (const Walk& walk : walks) walked = walked || (walk.from == move.from && walk.to == move.to);
    EXPECT_TRUE(walked) << move.when;
  }
}

}  // namespace
}  // namespace outrigger::http
