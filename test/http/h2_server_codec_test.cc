// The HTTP/2 server codec: messages, what RFC 9113 refuses, floods, windows, the end.
#include <algorithm>

#include "http/h2_fixture.h"

namespace outrigger::http {
namespace {

constexpr int kNoError = 0, kProtocolError = 1, kInternalError = 2, kFlowControlError = 3, kCancel = 8,
              kEnhanceYourCalm = 11;

TEST_F(H2CodecTest, AnswersARequest) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::request("GET", "/x?y=1",
                                        {{"cookie", "a=1"}, {"x-test", "1"}, {"cookie", "b=2"}, {"te", "trailers"}})));
  ASSERT_EQ(owner.sinks.size(), 1u);
  EXPECT_EQ(
      owner.last().log,
      "headers(:method=GET :scheme=http :authority=a.test :path=/x?y=1 cookie=a=1; b=2 x-test=1 te=trailers) end ");
  Fields head{{":status", "200"}, {"connection", "close"}, {"transfer-encoding", "chunked"}, {"x-a", "b\r\nc: d"}};
  owner.last().stream->encode_headers(head.map, false);
  owner.last().stream->encode_data(Buffer("hello"), true);
  read();
  EXPECT_EQ(reader.find(h2::kHeaders, 1)->fields, ":status=200 x-a=b  c: d");
  EXPECT_EQ(reader.body(1), "hello");
  EXPECT_TRUE(reader.ended(1));
  EXPECT_EQ(owner.ends.size(), 1u);
  EXPECT_TRUE(owner.codec->idle());
}

TEST_F(H2CodecTest, BytesCutAnywhere) {
  const std::string bytes = h2::preface() + h2::settings() +
                            h2::headers(1, h2::request("POST", "/", {{"content-length", "3"}}), h2::kEndHeaders) +
                            h2::data(1, "abc") + h2::headers(1, {{"x-sum", "1"}});
  for (size_t at = 1; at < bytes.size(); ++at) {
    TestOwner& owner = accept_h2();
    send(peer, bytes.substr(0, at));
    send(peer, bytes.substr(at));
    ASSERT_EQ(owner.sinks.size(), 1u);
    EXPECT_NE(owner.last().log.find("trailers(x-sum=1) end "), std::string::npos) << at;
    EXPECT_EQ(owner.last().body, "abc");
  }
}

TEST_F(H2CodecTest, InterimHeadsTrailersAndHead) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")) + h2::headers(3, h2::request("HEAD", "/")));
  ASSERT_EQ(owner.sinks.size(), 2u);
  Fields interim{{":status", "103"}, {"link", "x"}}, head{{":status", "200"}}, trailers{{"grpc-status", "0"}};
  CodecStream& first = *owner.sinks[0]->stream;
  first.encode_1xx(interim.map);
  first.encode_headers(head.map, false);
  first.encode_data(Buffer("body"), false);
  first.encode_trailers(trailers.map);
  Fields length{{":status", "200"}, {"content-length", "1000"}};
  owner.sinks[1]->stream->encode_headers(length.map, true);
  read();
  std::string fields;
  for (const h2::Frame& f : reader.frames)
    if (f.type == h2::kHeaders) fields += std::to_string(f.stream) + "(" + f.fields + ")" + (f.ended() ? "end " : " ");
  EXPECT_EQ(fields, "1(:status=103 link=x) 1(:status=200) 1(grpc-status=0)end 3(:status=200 content-length=1000)end ");
  EXPECT_EQ(reader.body(1), "body");
}

// RFC 9113 section 8: each is a stream error, is never seen above, and leaves the connection as it was.
TEST_F(H2CodecTest, MalformedRequestsAreStreamErrors) {
  const std::vector<std::pair<const char*, h2::Fields>> rows = {
      {"connection", h2::request("GET", "/", {{"connection", "close"}})},
      {"keep-alive", h2::request("GET", "/", {{"keep-alive", "1"}})},
      {"proxy-connection", h2::request("GET", "/", {{"proxy-connection", "close"}})},
      {"transfer-encoding", h2::request("GET", "/", {{"transfer-encoding", "chunked"}})},
      {"upgrade", h2::request("GET", "/", {{"upgrade", "h2c"}})},
      {"te", h2::request("GET", "/", {{"te", "gzip"}})},
      {"upper case", h2::request("GET", "/", {{"X-Upper", "1"}})},
      {"bad name", h2::request("GET", "/", {{"x y", "1"}})},
      {"line feed", h2::request("GET", "/", {{"x", "a\nb"}})},
      {"carriage return", h2::request("GET", "/", {{"x", "a\rb"}})},
      {"zero", h2::request("GET", "/", {{"x", std::string("a\0b", 3)}})},
      {"space before", h2::request("GET", "/", {{"x", " a"}})},
      {"space after", h2::request("GET", "/", {{"x", "a "}})},
      {"pseudo behind", {{":method", "GET"}, {":scheme", "http"}, {"x", "1"}, {":path", "/"}, {":authority", "a"}}},
      {"pseudo twice",
       {{":method", "GET"}, {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}},
      {"unknown pseudo", h2::request("GET", "/", {{":x", "1"}})},
      {"status", {{":status", "200"}, {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}},
      {"protocol",
       {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}},
      {"no method", {{":scheme", "http"}, {":path", "/"}, {":authority", "a"}}},
      {"no scheme", {{":method", "GET"}, {":path", "/"}, {":authority", "a"}}},
      {"no path", {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}}},
      {"empty path", {{":method", "GET"}, {":scheme", "http"}, {":path", ""}, {":authority", "a"}}},
      {"path without slash", {{":method", "GET"}, {":scheme", "http"}, {":path", "x"}, {":authority", "a"}}},
      {"an asterisk that is not for OPTIONS", h2::request("GET", "*")},
      {"no scheme at all", {{":method", "GET"}, {":scheme", "1http"}, {":path", "/"}, {":authority", "a"}}},
      {"a method of two words", {{":method", "GET x"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}},
      {"CONNECT with a path", {{":method", "CONNECT"}, {":path", "/"}, {":authority", "a:1"}}},
      {"CONNECT to nowhere", {{":method", "CONNECT"}}},
      {"empty authority", {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", ""}}},
      {"empty host", {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"host", ""}}},
      {"a colon in a name", h2::request("GET", "/", {{"a:b", "1"}})},
      {"no name", h2::request("GET", "/", {{"", "1"}})},
      {"te with more", h2::request("GET", "/", {{"te", "trailers, gzip"}})},
      {"other host", h2::request("GET", "/", {{"host", "b.test"}})},
      {"two hosts", {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"host", "a"}, {"host", "b"}}},
      {"length in words", h2::request("GET", "/", {{"content-length", "x"}})},
      {"two lengths", h2::request("GET", "/", {{"content-length", "0"}, {"content-length", "0"}})},
      {"length without body", h2::request("POST", "/", {{"content-length", "5"}})},
  };
  TestOwner& owner = serve_h2();
  uint32_t id = 1;
  for (const auto& [name, fields] : rows) {
    send(peer, h2::headers(id, fields));
    read();
    EXPECT_EQ(reader.code(id), kProtocolError) << name;
    EXPECT_TRUE(owner.sinks.empty()) << name;
    owner.sinks.clear();
    id += 2;
  }
  EXPECT_GE(count("rx_messaging_error"), rows.size());
  send(peer, h2::headers(id, h2::get("/fine")));
  EXPECT_EQ(owner.sinks.size(), 1u);
}

TEST_F(H2CodecTest, BodiesThatBreakTheirLengthAndBadTrailers) {
  TestOwner& owner = serve_h2();
  const h2::Fields post = h2::request("POST", "/", {{"content-length", "3"}});
  send(peer, h2::headers(1, post, h2::kEndHeaders) + h2::data(1, "abcd"));
  send(peer, h2::headers(3, post, h2::kEndHeaders));
  send(peer, h2::data(3, "ab", true));
  send(peer, h2::headers(5, h2::request("POST", "/"), h2::kEndHeaders));
  send(peer, h2::headers(5, {{":path", "/"}}));
  send(peer, h2::headers(7, h2::request("POST", "/"), h2::kEndHeaders));
  send(peer, h2::headers(7, {{"x-sum", "1"}}, h2::kEndHeaders));  // trailers that do not end the stream
  send(peer, h2::headers(9, h2::request("POST", "/"), h2::kEndHeaders));
  send(peer, h2::headers(9, {{"connection", "close"}}));
  read();
  for (const uint32_t id : {1, 3, 5, 7, 9}) EXPECT_EQ(reader.code(id), kProtocolError) << id;
  for (auto& sink : owner.sinks) {
    EXPECT_EQ(sink->reason, ResetReason::kProtocolError);
    EXPECT_EQ(sink->log.find("end "), std::string::npos);
  }
}

// RFC 9113 sections 4 to 6: the connection is at fault.
TEST_F(H2CodecTest, ConnectionErrors) {
  const std::string get = h2::headers(1, h2::get("/"));
  const std::vector<std::pair<std::string, int>> rows = {
      {h2::data(0, "x"), 1},
      {h2::data(1, "x"), 1},
      {h2::headers(2, h2::get("/")), 1},
      {h2::frame(h2::kSettings, 0, 1), 1},
      {h2::frame(h2::kSettings, 0, 0, "12345"), 6},
      {h2::settings({{4, 0x80000000u}}), 3},
      {h2::settings({{5, 1}}), 1},
      {h2::frame(h2::kPing, 0, 0, "1234567"), 6},
      {h2::frame(h2::kRstStream, 0, 0, h2::number(8)), 1},
      {h2::reset(1, 8), 1},
      {h2::window(0, 0), 1},
      {h2::window(0, 0x7fffffff), 3},
      {h2::frame(h2::kContinuation, h2::kEndHeaders, 1, "x"), 1},
      {h2::headers(1, h2::get("/"), h2::kEndStream) + h2::data(1, "x"), 1},
      {h2::frame(h2::kHeaders, h2::kEndStream | h2::kEndHeaders, 1, "\xff\xff\xff\xff\xff"), 9},
      {h2::frame(5, h2::kEndHeaders, 1, h2::number(2)), 1},
      {h2::frame(h2::kData, 0, 1, std::string(16385, 'x')), 6},
      {h2::frame(h2::kSettings, h2::kAck, 0, "123456"), 6},
      {h2::frame(h2::kSettings, h2::kAck, 0), 1},  // the second
      {h2::settings({{2, 2}}), 1},
      {h2::settings({{5, 1 << 24}}), 1},
      {h2::settings({{8, 2}}), 1},
      {h2::settings({{8, 1}, {8, 0}}), 1},
      {h2::settings({{9, 2}}), 1},
      {h2::frame(h2::kPing, 0, 1, "12345678"), 1},
      {h2::frame(h2::kGoaway, 0, 0, "1234567"), 6},
      {h2::frame(h2::kGoaway, 0, 1, "12345678"), 1},
      {h2::frame(h2::kGoaway, 0, 0, h2::number(1) + h2::number(0)) +
           h2::frame(h2::kGoaway, 0, 0, h2::number(3) + h2::number(0)),
       1},
      {h2::frame(h2::kPriority, 0, 0, "12345"), 1},
      {h2::frame(h2::kPriority, 0, 1, "1234"), 6},
      {h2::frame(h2::kWindowUpdate, 0, 0, "123"), 6},
      {h2::window(1, 1), 1},
      {get + h2::window(2, 1), 1},
      {get + h2::frame(h2::kRstStream, 0, 1, "123"), 6},
      {get + h2::data(1, "x"), 5},
      {get + get, 5},
      {h2::headers(3, h2::get("/"), h2::kEndHeaders) + h2::headers(1, h2::get("/")) + h2::headers(2, h2::get("/")), 1},
      {h2::headers(0, h2::get("/")), 1},
      {h2::headers(1, h2::get("/"), h2::kEndStream) + h2::frame(h2::kContinuation, h2::kEndHeaders, 3), 1},
      {h2::headers(1, h2::get("/"), h2::kEndStream) + h2::frame(h2::kPing, 0, 0, "12345678"), 1},
      {h2::headers(1, h2::get("/"), h2::kEndStream) + h2::frame(77, 0, 0, "unknown"), 1},
      {h2::frame(h2::kHeaders, h2::kEndHeaders | h2::kPadded, 1), 6},
      {h2::frame(h2::kHeaders, h2::kEndHeaders | h2::kPadded, 1, "\x02x"), 1},
      {h2::frame(h2::kHeaders, h2::kEndHeaders | h2::kWithPriority, 1, "1234"), 6},
      {h2::frame(h2::kHeaders, h2::kEndHeaders | h2::kWithPriority, 1, h2::number(1) + "w" + h2::block(h2::get("/"))),
       1},
      {h2::headers(1, h2::get("/"), h2::kEndHeaders) + h2::frame(h2::kData, h2::kPadded, 1), 6},
      {h2::headers(1, h2::get("/"), h2::kEndHeaders) + h2::frame(h2::kData, h2::kPadded, 1, "\x03xy"), 1},
      {h2::headers(1, h2::get("/"), h2::kEndHeaders) + h2::window(1, 0x70000000) + h2::settings({{4, 0x7fffffff}}), 3},
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    TestOwner& owner = serve_h2();
    h2::Reader fresh;
    send(peer, rows[i].first);
    run_until([&] {
      run_ready(1);
      fresh.feed(peer.recv_some(65536, 0));
      return fresh.code(0) >= 0;
    });
    EXPECT_EQ(fresh.code(0), rows[i].second) << i;
    peer.close();
    run_until([&] { return owner.closed; });
  }
  accept_h2();
  send(peer, h2::preface() + h2::frame(h2::kPing, 0, 0, "12345678"));  // SETTINGS come first
  h2::Reader first;
  run_until([&] {
    run_ready(1);
    first.feed(peer.recv_some(65536, 0));
    return first.code(0) >= 0;
  });
  EXPECT_EQ(first.code(0), kProtocolError);
  TestOwner& owner = accept_h2();
  send(peer, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
  EXPECT_TRUE(owner.sinks.empty());
}

TEST_F(H2CodecTest, OptionsOfTheServerPass) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::request("OPTIONS", "*")));
  ASSERT_EQ(owner.sinks.size(), 1u);
  EXPECT_EQ(owner.last().log, "headers(:method=OPTIONS :scheme=http :authority=a.test :path=*) end ");
}

TEST_F(H2CodecTest, ARequestWithoutAHostIsAnswered) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}}));
  ASSERT_EQ(owner.sinks.size(), 1u);
  EXPECT_EQ(owner.last().log, "bad(400 missing_host_header) ");
}

// Other schemes may have other paths (RFC 9113 section 8.3.1). The next hop must not take one for a whole target.
TEST_F(H2CodecTest, APathThatIsNoneIsAnsweredWhateverTheScheme) {
  TestOwner& owner = serve_h2();
  uint32_t id = 1;
  for (const auto& [scheme, path] : {std::pair{"HTTP", "http://internal/admin"}, {"urn", "internal:80"}, {"x", "*"}}) {
    send(peer, h2::headers(id, {{":method", "GET"}, {":scheme", scheme}, {":authority", "a"}, {":path", path}}));
    ASSERT_EQ(owner.sinks.size(), (id + 1) / 2) << path;
    EXPECT_EQ(owner.last().log, "bad(400 http2.invalid_path) ") << path;
    id += 2;
  }
  send(peer, h2::headers(id, {{":method", "OPTIONS"}, {":scheme", "x"}, {":authority", "a"}, {":path", "*"}}));
  EXPECT_EQ(owner.last().log, "headers(:method=OPTIONS :scheme=x :authority=a :path=*) end ");
}

// RFC 9113 sections 5.1, 6.9: the stream is at fault, and its siblings go on.
TEST_F(H2CodecTest, WindowsAreKeptByBothSides) {
  h2_options.initial_stream_window_bytes = 70'000;
  TestOwner& owner = serve_h2();
  const std::string post = h2::headers(1, h2::request("POST", "/"), h2::kEndHeaders);
  send(peer, post + h2::window(1, 0));
  send(peer, h2::headers(3, h2::request("POST", "/"), h2::kEndHeaders) + h2::window(3, 0x7fffffff));
  send(peer, h2::headers(5, h2::request("POST", "/"), h2::kEndHeaders));
  owner.last().stream->pause_read(net::Pause::kBackpressure);
  for (int i = 0; i < 5; ++i) send(peer, h2::data(5, std::string(14'000, 'x')));
  read();
  EXPECT_EQ(reader.code(5), -1);
  send(peer, h2::data(5, "x"));  // one byte more than it was given
  send(peer, h2::headers(7, h2::get("/")));
  read();
  EXPECT_EQ(reader.code(1), kProtocolError);
  EXPECT_EQ(reader.code(3), kFlowControlError);
  EXPECT_EQ(reader.code(5), kFlowControlError);
  EXPECT_EQ(owner.last().log.find("headers("), 0u);
  EXPECT_EQ(reader.code(0), -1);
  // What is lost with a stream is given back to the connection, and padding to both.
  size_t sent = 5 * 14'000 + 1;
  send(peer, h2::headers(9, h2::request("POST", "/"), h2::kEndHeaders));
  for (int i = 0; i < 200; ++i) {
    send(peer, h2::frame(h2::kData, h2::kPadded, 9, "\xff" + std::string(9'000, 'y') + std::string(255, '\0')));
    sent += 9'256;
  }
  read();
  EXPECT_EQ(owner.last().body, std::string(200 * 9'000, 'y'));
  size_t back = 0, back9 = 0;
  for (const h2::Frame& f : reader.frames) {
    if (f.type == h2::kWindowUpdate && f.stream == 0) back += f.code();
    if (f.type == h2::kWindowUpdate && f.stream == 9) back9 += f.code();
  }
  back -= h2_options.initial_connection_window_bytes - 65'535;  // said at the beginning
  EXPECT_LE(back, sent);
  EXPECT_GT(back + h2_options.initial_connection_window_bytes / 2, sent);
  EXPECT_LE(back9, 200u * 9'256);
  EXPECT_GT(back9 + 35'000, 200u * 9'256);
}

TEST_F(H2CodecTest, AConnectionsWindowIsKeptToo) {
  h2_options.initial_stream_window_bytes = 1'000;
  h2_options.initial_connection_window_bytes = 65'535;
  TestOwner& owner = serve_h2();
  const auto post = [](uint32_t i) { return 2 * i + 1; };
  for (uint32_t i = 0; i < 70; ++i) {
    send(peer, h2::headers(post(i), h2::request("POST", "/"), h2::kEndHeaders));
    owner.last().stream->pause_read(net::Pause::kBackpressure);
  }
  for (uint32_t i = 0; i < 65; ++i) send(peer, h2::data(post(i), std::string(1'000, 'x')));
  read();
  EXPECT_EQ(reader.code(0), -1);
  EXPECT_EQ(reader.find(h2::kWindowUpdate, 0), nullptr);  // nobody takes what is there
  send(peer, h2::data(post(65), std::string(1'000, 'x')));
  read();
  EXPECT_EQ(reader.code(0), kFlowControlError);
}

TEST_F(H2CodecTest, SectionsMayBeCutPaddedAndPrioritised) {
  const std::string block = h2::block(h2::request("GET", "/x", {{"x-long", std::string(300, 'l')}}));
  for (size_t at = 0; at <= block.size(); at += 7) {
    for (size_t then = at; then <= block.size(); then += 41) {
      TestOwner& owner = serve_h2();
      send(peer, h2::frame(h2::kHeaders, h2::kEndStream | h2::kPadded | h2::kWithPriority, 1,
                           "\x04" + h2::number(0x80000003) + "w" + block.substr(0, at) + std::string(4, '\0')) +
                     h2::frame(h2::kContinuation, 0, 1, block.substr(at, then - at)) +
                     h2::frame(h2::kContinuation, h2::kEndHeaders, 1, block.substr(then)));
      ASSERT_EQ(owner.sinks.size(), 1u) << at << " " << then;
      EXPECT_EQ(owner.last().log, "headers(:method=GET :scheme=http :authority=a.test :path=/x x-long=" +
                                      std::string(300, 'l') + ") end ");
    }
  }
}

TEST_F(H2CodecTest, HeadsOfManyFramesGoOut) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")));
  Fields head{{":status", "200"}};
  std::string expected = ":status=200";
  for (int i = 0; i < 50; ++i) {
    const std::string name = "x-" + std::to_string(i), value(1'000, static_cast<char>('!' + i));
    head.map.add(name, value);
    expected += " " + name + "=" + value;
  }
  owner.last().stream->encode_headers(head.map, true);
  read();
  EXPECT_EQ(reader.find(h2::kHeaders, 1)->fields, expected);
  EXPECT_TRUE(reader.ended(1));
  EXPECT_GE(std::count_if(reader.frames.begin(), reader.frames.end(),
                          [](const h2::Frame& f) { return f.type == h2::kContinuation; }),
            2);
}

// SETTINGS may come at any time: windows below zero, a table that is taken away.
TEST_F(H2CodecTest, SettingsOfThePeerHoldAtOnce) {
  TestOwner& owner = serve_h2();
  send(peer, h2::window(0, 1 << 20) + h2::headers(1, h2::get("/")) + h2::headers(3, h2::get("/")));
  Fields head{{":status", "200"}, {"x-name", "a value that comes again"}};
  CodecStream& stream = *owner.sinks[0]->stream;
  stream.encode_headers(head.map, false);
  stream.encode_data(Buffer(std::string(50'000, 'a')), false);
  read();
  EXPECT_EQ(reader.body(1).size(), 50'000u);
  send(peer, h2::settings({{4, 10'000}, {1, 0}}));  // 40,000 below zero
  stream.encode_data(Buffer(std::string(20'000, 'b')), true);
  owner.sinks[1]->stream->encode_headers(head.map, true);
  send(peer, h2::window(1, 40'000));
  read();
  EXPECT_EQ(reader.body(1).size(), 50'000u);
  EXPECT_EQ(reader.find(h2::kHeaders, 3)->fields, ":status=200 x-name=a value that comes again");
  send(peer, h2::window(1, 1));
  read();
  EXPECT_EQ(reader.body(1).size(), 50'001u);
  send(peer, h2::settings({{4, 30'000}}));
  read();
  EXPECT_EQ(reader.body(1).size(), 70'000u);
  EXPECT_TRUE(reader.ended(1));
}

TEST_F(H2CodecTest, WhatComesForStreamsThatAreOverIsDropped) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::request("POST", "/"), h2::kEndHeaders));
  owner.last().stream->reset(ResetReason::kLocalReset);
  send(peer, h2::data(1, "x") + h2::window(1, 5) + h2::headers(1, {{"x-sum", "1"}}) + h2::reset(1, kCancel) +
                 h2::data(1, "y", true));
  send(peer, h2::headers(3, h2::get("/")));
  read();
  EXPECT_EQ(reader.code(0), -1);
  EXPECT_EQ(owner.last().log.find("headers("), 0u);
}

TEST_F(H2CodecTest, ManyStreamsAtOnceAreTold) {
  h2_options.max_concurrent_streams = 1000;
  TestOwner& owner = serve_h2();
  std::string bytes;
  for (uint32_t i = 0; i < 1000; ++i) bytes += h2::headers(2 * i + 1, h2::get("/" + std::to_string(i)));
  send(peer, bytes);
  run_until([&] { return owner.sinks.size() == 1000; });
  Fields head{{":status", "200"}};
  for (size_t i = 0; i < 1000; ++i) {  // every third, then every second of the others, then the rest
    const size_t at = (i * 3) % 1000;
    EXPECT_NE(owner.sinks[at]->log.find(":path=/" + std::to_string(at) + ")"), std::string::npos);
    owner.sinks[at]->stream->encode_headers(head.map, true);
  }
  read();
  for (uint32_t i = 0; i < 1000; ++i) EXPECT_TRUE(reader.ended(2 * i + 1)) << i;
  EXPECT_EQ(owner.ends.size(), 1000u);
  send(peer, h2::headers(2001, h2::get("/again")));
  EXPECT_EQ(owner.sinks.size(), 1001u);
}

// Streams take turns, a frame each: no body waits for the end of another.
TEST_F(H2CodecTest, BodiesShareTheConnection) {
  TestOwner& owner = serve_h2();
  send(peer, h2::window(0, 1 << 24) + h2::settings({{4, 1 << 24}}) + h2::headers(1, h2::get("/")) +
                 h2::headers(3, h2::get("/")));
  Fields head{{":status", "200"}};
  send(peer, h2::settings({{4, 0}}));  // until both are there
  for (auto& sink : owner.sinks) {
    sink->stream->encode_headers(head.map, false);
    sink->stream->encode_data(Buffer(std::string(100'000, 'b')), true);
  }
  send(peer, h2::settings({{4, 1 << 24}}));
  read();
  std::string order;
  for (const h2::Frame& f : reader.frames)
    if (f.type == h2::kData) order += std::to_string(f.stream);
  EXPECT_EQ(order, "13131313131313");
}

TEST_F(H2CodecTest, LargeHeadsAreAnsweredAndBombsAreNot) {
  TestOwner& owner = serve_h2();
  h2::Fields large = h2::get("/");
  for (int i = 0; i < 200; ++i) large.push_back({"x-" + std::to_string(i), "1"});
  send(peer, h2::headers(1, large));
  ASSERT_EQ(owner.sinks.size(), 1u);
  EXPECT_EQ(owner.last().log, "bad(431 http2.headers_too_large) ");
  EXPECT_EQ(count("header_overflow"), 1u);
  // One large field in the table, then a byte for each time that it is meant.
  std::string block = h2::block(h2::get("/"));
  block += '\x40' + h2::length(1) + "x" + h2::length(3900) + std::string(3900, 'v');
  block += std::string(8000, '\xbe');
  send(peer, h2::frame(h2::kHeaders, h2::kEndStream | h2::kEndHeaders, 3, block));
  read();
  EXPECT_EQ(reader.code(0), kEnhanceYourCalm);
  EXPECT_EQ(count("header_bomb"), 1u);
  EXPECT_EQ(owner.sinks.size(), 1u);
}

struct Flood {
  friend std::ostream& operator<<(std::ostream& out, const Flood& flood) { return out << flood.name; }
  const char* name;
  const char* counter;
  std::string once;                          // said a number of times
  std::function<std::string(uint32_t)> nth;  // or this, with stream ids
};

class H2Flood : public H2CodecTest, public ::testing::WithParamInterface<Flood> {};

TEST_P(H2Flood, EndsTheConnectionAndIsCounted) {
  const Flood& flood = GetParam();
  TestOwner& owner = serve_h2();
  std::string bytes = flood.nth ? "" : h2::headers(1, h2::request("POST", "/"), h2::kEndHeaders);
  for (uint32_t i = 0; i < 3000; ++i) {
    bytes += flood.nth ? flood.nth(2 * i + 1) : flood.once;
    if (i % 50 != 49) continue;  // fewer streams at a time than may be open
    send(peer, bytes);
    bytes.clear();
  }
  read_until([&] { return reader.code(0) >= 0; });
  EXPECT_EQ(reader.code(0), kEnhanceYourCalm);
  EXPECT_EQ(count(flood.counter), 1u);
  run_ready();
  for (auto& sink : owner.sinks) EXPECT_TRUE(sink->over);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, H2Flood,
    ::testing::Values(
        Flood{"Ping", "outbound_control_flood", h2::frame(h2::kPing, 0, 0, "12345678"), {}},
        Flood{"Settings", "outbound_control_flood", h2::settings(), {}},
        Flood{"EmptyData", "inbound_empty_frames_flood", h2::data(1, ""), {}},
        Flood{"Priority", "inbound_priority_frames_flood", h2::frame(h2::kPriority, 0, 3, h2::number(0) + "x"), {}},
        Flood{"WindowUpdate", "inbound_window_update_frames_flood", h2::window(0, 1), {}},
        Flood{"RapidReset", "premature_reset_flood", "",
              [](uint32_t id) { return h2::headers(id, h2::get("/")) + h2::reset(id, 8); }},
        Flood{"MadeToReset", "premature_reset_flood", "",
              [](uint32_t id) {
                return h2::headers(id, h2::request("GET", "/", {{"te", "gzip"}}));
              }},
        Flood{"Continuation", "continuation_flood", "",
              [](uint32_t id) {
                return id == 1 ? h2::headers(1, h2::get("/"), h2::kEndStream)
                               : h2::frame(h2::kContinuation, 0, 1, h2::block({{"x", "y"}}));
              }}),
    [](const auto& info) { return info.param.name; });

TEST_F(H2CodecTest, AStreamThatIsNotReadHoldsItsWindowAndNothingElse) {
  TestOwner& owner = serve_h2();
  const h2::Fields post = h2::request("POST", "/");
  send(peer, h2::headers(1, post, h2::kEndHeaders) + h2::headers(3, post, h2::kEndHeaders));
  ASSERT_EQ(owner.sinks.size(), 2u);
  owner.sinks[0]->stream->pause_read(net::Pause::kBackpressure);
  std::string window;
  for (int i = 0; i < 16; ++i) window += h2::data(1, std::string(16384, 'a'));
  send(peer, window);
  // Many windows on the other stream, each as credit comes.
  int64_t credit[2] = {65535 - 262144, 262144};  // the first WINDOW_UPDATE is still to be read
  size_t sent = 0, seen = 0;
  while (sent < 4 * 1024 * 1024) {
    while (credit[0] >= 16384 && credit[1] >= 16384) {
      send(peer, h2::data(3, std::string(16384, 'b')));
      sent += 16384;
      credit[0] -= 16384;
      credit[1] -= 16384;
    }
    read_until([&] { return reader.frames.size() > seen; });
    for (; seen < reader.frames.size(); ++seen) {
      const h2::Frame& f = reader.frames[seen];
      if (f.type != h2::kWindowUpdate || f.stream == 1) continue;
      credit[f.stream == 0 ? 0 : 1] += f.code();
    }
  }
  run_until([&] { return owner.sinks[1]->body.size() == sent; });
  EXPECT_EQ(owner.sinks[0]->body, "");
  EXPECT_EQ(reader.find(h2::kWindowUpdate, 1), nullptr);
  owner.sinks[0]->stream->resume_read(net::Pause::kBackpressure);
  read_until([&] { return reader.find(h2::kWindowUpdate, 1) != nullptr; });
  EXPECT_EQ(owner.sinks[0]->body.size(), 262144u);
}

TEST_F(H2CodecTest, AWriterHearsOfAStreamThatThePeerDoesNotTake) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")) + h2::headers(3, h2::get("/")));
  Fields head{{":status", "200"}};
  CodecStream& slow = *owner.sinks[0]->stream;
  slow.encode_headers(head.map, false);
  slow.encode_data(Buffer(std::string(400 * 1024, 'a')), false);
  run_ready();
  EXPECT_NE(owner.sinks[0]->log.find("above "), std::string::npos);
  CodecStream& quick = *owner.sinks[1]->stream;
  quick.encode_headers(head.map, false);
  read();
  EXPECT_EQ(reader.body(1).size(), 65535u);  // the connection's window, all of it
  send(peer, h2::window(0, 1 << 20));
  quick.encode_data(Buffer("quick"), true);
  read();
  EXPECT_EQ(reader.body(3), "quick");
  EXPECT_EQ(reader.body(1).size(), 65535u);
  send(peer, h2::window(1, 1 << 20));
  read();
  EXPECT_EQ(reader.body(1).size(), 400u * 1024);
  EXPECT_NE(owner.sinks[0]->log.find("below "), std::string::npos);
}

// A peer whose windows are wide and who does not read: the socket holds the body back, and the loop rests meanwhile.
TEST_F(H2CodecTest, AFullSocketHoldsDataBackAndTheLoopRests) {
  constexpr size_t kBody = 32 * 1024 * 1024;
  TestOwner& owner = serve_h2();
  send(peer, h2::window(0, 2 * kBody) + h2::headers(1, h2::get("/")) + h2::window(1, 2 * kBody));
  Fields head{{":status", "200"}};
  CodecStream& stream = *owner.sinks.at(0)->stream;
  stream.encode_headers(head.map, false);
  stream.encode_data(Buffer(std::string(kBody, 'a')), true);
  run_ready();
  EXPECT_LT(owner.connection->write_queue_bytes(), 4u << 20);
  bool late = false, woken = false;
  event::Timeout timer([](void* flag) { *static_cast<bool*>(flag) = true; }, &late);
  loop.timers().arm(timer, 100);
  loop.run_once();
  EXPECT_TRUE(late) << "nothing happens while the peer does not read";
  loop.post([&] { woken = true; });
  run_ready();
  EXPECT_TRUE(woken);
  for (int i = 0; !reader.ended(1) && i < 10'000; ++i) {
    run_ready(1);
    reader.feed(peer.recv_some(1 << 20, 0));
  }
  EXPECT_EQ(reader.body(1).size(), kBody);
}

TEST_F(H2CodecTest, ResetsInBothDirections) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")) + h2::headers(3, h2::get("/")) +
                 h2::headers(5, h2::request("POST", "/"), h2::kEndHeaders));
  ASSERT_EQ(owner.sinks.size(), 3u);
  owner.sinks[0]->stream->reset(ResetReason::kLocalReset);
  send(peer, h2::reset(3, kCancel));
  EXPECT_EQ(owner.sinks[1]->reason, ResetReason::kRemoteReset);
  Fields head{{":status", "413"}};
  owner.sinks[2]->stream->encode_headers(head.map, true);
  read();
  EXPECT_EQ(reader.code(1), kInternalError);
  EXPECT_TRUE(reader.ended(5));
  EXPECT_EQ(reader.code(5), kNoError);  // the rest of the request is not wanted
  EXPECT_TRUE(owner.codec->idle());
  EXPECT_EQ(owner.ends.size(), 3u);
}

// The answer is given whole, and waits for its window, between two parts of the request's trailers: nobody wants them.
TEST_F(H2CodecTest, TrailersThatAreHalfThereWhenTheAnswerIsWholeAreDropped) {
  TestOwner& owner = serve_h2();
  const auto part = [](const char* name, int flags, uint8_t type) {
    return h2::frame(type, static_cast<uint8_t>(flags), 1, h2::block({{name, std::string(500, 'x')}}));
  };
  send(peer, h2::headers(1, h2::request("POST", "/"), h2::kEndHeaders) + part("a", h2::kEndStream, h2::kHeaders));
  ASSERT_EQ(owner.sinks.size(), 1u);
  const std::string log = owner.last().log;
  Fields head{{":status", "200"}};
  CodecStream& stream = *owner.last().stream;
  stream.encode_headers(head.map, false);
  stream.encode_data(Buffer(std::string(100'000, 'a')), true);
  EXPECT_EQ(owner.last().log, log);
  owner.last().memory.reset();  // its owner has gone
  send(peer, part("b", h2::kNone, h2::kContinuation) + part("c", h2::kEndHeaders, h2::kContinuation) +
                 h2::window(0, 100'000) + h2::window(1, 100'000));
  read();
  EXPECT_EQ(reader.body(1).size(), 100'000u);
  EXPECT_TRUE(reader.ended(1));
  EXPECT_EQ(reader.find(h2::kRstStream, 1), nullptr) << "the request has ended, too";
  EXPECT_EQ(count("header_overflow"), 0u);
  EXPECT_TRUE(owner.codec->idle());
}

TEST_F(H2CodecTest, WhatIsNotAsAnnouncedIsReset) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")));
  Fields head{{":status", "200"}, {"content-length", "3"}};
  owner.last().stream->encode_headers(head.map, false);
  owner.last().stream->encode_data(Buffer("abcd"), true);
  read();
  EXPECT_EQ(reader.code(1), kInternalError);
  EXPECT_FALSE(reader.ended(1));
  EXPECT_EQ(owner.last().details, "http2.content_length_mismatch");
}

TEST_F(H2CodecTest, TooManyStreamsAreRefused) {
  h2_options.max_concurrent_streams = 2;
  TestOwner& owner = accept_h2();
  const std::string three = h2::headers(1, h2::get("/")) + h2::headers(3, h2::get("/")) + h2::headers(5, h2::get("/"));
  send(peer, h2::preface() + h2::settings() + three);
  read();
  EXPECT_EQ(owner.sinks.size(), 2u);
  EXPECT_EQ(reader.code(5), 7);  // REFUSED_STREAM: the client did not know the limit yet
  send(peer, h2::frame(h2::kSettings, h2::kAck, 0) + h2::headers(7, h2::get("/")));
  read();
  EXPECT_EQ(reader.code(0), kProtocolError);
  EXPECT_EQ(owner.sinks.size(), 2u);
}

TEST_F(H2CodecTest, DrainsInTwoSteps) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")));
  owner.codec->drain();
  read();
  ASSERT_NE(reader.find(h2::kGoaway, 0), nullptr);
  EXPECT_EQ(reader.find(h2::kGoaway, 0)->payload.substr(0, 4), h2::number(0x7fffffff));
  const h2::Frame* const ping = reader.find(h2::kPing, 0);
  ASSERT_NE(ping, nullptr);
  // What was on its way is served.
  send(peer, h2::headers(3, h2::get("/")) + h2::frame(h2::kPing, h2::kAck, 0, ping->payload));
  ASSERT_EQ(owner.sinks.size(), 2u);
  read_until([&] {
    return std::count_if(reader.frames.begin(), reader.frames.end(),
                         [](const h2::Frame& f) { return f.type == h2::kGoaway; }) == 2;
  });
  EXPECT_EQ(reader.frames.back().payload.substr(0, 4), h2::number(3));
  // Too late, and not answered: the client knows.
  send(peer, h2::headers(5, h2::request("POST", "/"), h2::kEndHeaders) + h2::data(5, "x", true));
  EXPECT_EQ(owner.sinks.size(), 2u);
  Fields head{{":status", "200"}};
  owner.sinks[0]->stream->encode_headers(head.map, true);
  owner.sinks[1]->stream->encode_headers(head.map, true);
  read_until([&] { return reader.ended(1) && reader.ended(3); });
  peer.shutdown_write();
  run_until([&] { return owner.closed; });
}

TEST_F(H2CodecTest, APeerThatAnswersNoPingIsGone) {
  h2_options.keepalive_interval_ms = 10;
  h2_options.keepalive_timeout_ms = 10;
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")));
  run_until([&] { return owner.closed; });
  EXPECT_EQ(owner.last().details, "http2.keepalive_timeout");
  EXPECT_EQ(count("keepalive_timeout"), 1u);
}

TEST_F(H2CodecTest, AnIdleConnectionSaysGoodbyeAndASlowPrefaceIsTimedOut) {
  TestOwner& owner = serve_h2();
  EXPECT_FALSE(owner.codec->head_incomplete());
  send(peer, h2::headers(1, h2::get("/"), h2::kEndStream));
  EXPECT_TRUE(owner.codec->head_incomplete());
  send(peer, h2::frame(h2::kContinuation, h2::kEndHeaders, 1));
  EXPECT_FALSE(owner.codec->head_incomplete());
  owner.last().stream->reset(ResetReason::kLocalReset);
  run_ready();
  owner.codec->close_idle();
  read();
  EXPECT_EQ(reader.code(0), kNoError);
  TestOwner& slow = accept_h2();
  send(peer, h2::preface().substr(0, 10));
  EXPECT_TRUE(slow.codec->head_incomplete());
  slow.codec->on_head_timeout();
  peer.shutdown_write();
  run_until([&] { return slow.closed; });
}

TEST_F(H2CodecTest, TheConnectionsEndResetsItsStreams) {
  TestOwner& owner = serve_h2();
  send(peer, h2::headers(1, h2::get("/")));
  peer.close();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(owner.last().reason, ResetReason::kConnectionTermination);
}

}  // namespace
}  // namespace outrigger::http
