// The HTTP/2 client codec: exchanges, what a server may refuse or break, windows, the end.
#include "http/h2_fixture.h"

namespace outrigger::http {
namespace {

constexpr int kNoError = 0, kProtocolError = 1, kCancel = 8;

Fields get_fields(std::string_view path = "/") {
  return {{":method", "GET"}, {":scheme", "http"}, {":authority", "a.test"}, {":path", path}};
}
Fields post_fields() { return {{":method", "POST"}, {":scheme", "http"}, {":authority", "a.test"}, {":path", "/"}}; }

class H2ClientCodec : public H2CodecTest {
 protected:
  TestSink& get(TestOwner& owner, std::string_view path = "/") {
    TestSink& sink = owner.open();
    Fields fields = get_fields(path);
    sink.stream->encode_headers(fields.map, true);
    return sink;
  }
};

TEST_F(H2ClientCodec, RequestsAndAnswersInAnyOrder) {
  TestOwner& owner = connect_h2();
  TestSink& first = owner.open();
  Fields head{{":method", "GET"},      {":scheme", "http"}, {":authority", "a.test"}, {":path", "/1"},
              {"connection", "x-hop"}, {"te", "trailers"},  {"x-test", "1"},          {"transfer-encoding", "x"}};
  first.stream->encode_headers(head.map, true);
  TestSink& second = get(owner, "/2");
  read();
  EXPECT_EQ(reader.find(h2::kHeaders, 1)->fields,
            ":method=GET :authority=a.test :scheme=http :path=/1 te=trailers x-test=1");
  EXPECT_TRUE(reader.ended(1));
  send(peer, h2::headers(3, {{":status", "204"}}) +
                 h2::headers(1, {{":status", "103"}, {"link", "x"}}, h2::kEndHeaders) +
                 h2::headers(1, {{":status", "200"}}, h2::kEndHeaders) + h2::data(1, "hel") + h2::data(1, "lo") +
                 h2::headers(1, {{"grpc-status", "0"}}));
  EXPECT_EQ(second.log, "headers(:status=204) end ");
  EXPECT_EQ(first.log, "1xx(:status=103 link=x) headers(:status=200) trailers(grpc-status=0) end ");
  EXPECT_EQ(first.body, "hello");
  EXPECT_EQ(owner.ends, (std::vector<bool>{true, true}));
  EXPECT_TRUE(owner.codec->idle());
}

TEST_F(H2ClientCodec, BodiesAndTrailersGoOut) {
  TestOwner& owner = connect_h2();
  TestSink& sink = owner.open();
  Fields head = post_fields(), trailers{{"x-sum", "7"}};
  sink.stream->encode_headers(head.map, false);
  sink.stream->encode_data(Buffer("body"), false);
  sink.stream->encode_trailers(trailers.map);
  read();
  EXPECT_EQ(reader.body(1), "body");
  EXPECT_EQ(reader.frames.back().fields, "x-sum=7");
  EXPECT_TRUE(reader.frames.back().ended());
}

// An answer that is whole before its request: the rest of the request is not wanted (RFC 9113 section 8.1).
TEST_F(H2ClientCodec, AnEarlyAnswerEndsTheRequest) {
  TestOwner& owner = connect_h2();
  TestSink& sink = owner.open();
  Fields head = post_fields();
  sink.stream->encode_headers(head.map, false);
  send(peer, h2::headers(1, {{":status", "413"}}) + h2::reset(1, kNoError));
  EXPECT_EQ(sink.log, "headers(:status=413) end ");
  read();
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
}

// The same where the rest waits for a window that may never come: the stream's place is free again.
TEST_F(H2ClientCodec, AnEarlyAnswerEndsARequestThatWaitsForItsWindow) {
  TestOwner& owner = connect_h2();
  TestSink& sink = owner.open();
  Fields head = post_fields();
  sink.stream->encode_headers(head.map, false);
  sink.stream->encode_data(Buffer(std::string(100'000, 'b')), true);
  send(peer, h2::headers(1, {{":status", "413"}}));
  EXPECT_EQ(sink.log, "headers(:status=413) end ");
  read();
  EXPECT_EQ(reader.code(1), kNoError);
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
  EXPECT_TRUE(owner.codec->idle());
}

TEST_F(H2ClientCodec, ServersResetAndRefuse) {
  TestOwner& owner = connect_h2();
  TestSink& reset = get(owner);
  TestSink& refused = get(owner);
  TestSink& half = get(owner);
  send(peer, h2::reset(1, kCancel) + h2::reset(3, 7) +
                 h2::headers(5, {{":status", "200"}, {"content-length", "9"}}, h2::kEndHeaders) +
                 h2::data(5, "abc", true));
  EXPECT_EQ(reset.reason, ResetReason::kRemoteReset);
  EXPECT_EQ(refused.reason, ResetReason::kRefused);
  EXPECT_EQ(half.reason, ResetReason::kProtocolError);
  EXPECT_FALSE(owner.closed);
  EXPECT_EQ(owner.ends.size(), 3u);
  EXPECT_EQ(count("rx_reset"), 2u);
}

TEST_F(H2ClientCodec, OurResetIsToldToTheServer) {
  TestOwner& owner = connect_h2();
  TestSink& sink = get(owner);
  sink.stream->reset(ResetReason::kLocalReset);
  EXPECT_EQ((read(), reader.code(1)), kCancel);
  send(peer, h2::headers(1, {{":status", "200"}}));  // was on its way
  EXPECT_EQ(sink.log, "");
  EXPECT_FALSE(owner.closed);
  EXPECT_EQ(owner.ends.size(), 1u);
}

// What a GOAWAY does not cover was not looked at; what it covers is answered still (RFC 9113 section 6.8).
TEST_F(H2ClientCodec, GoawayRefusesWhatIsBehindIt) {
  TestOwner& owner = connect_h2();
  TestSink& first = get(owner);
  TestSink& second = get(owner);
  send(peer, h2::frame(h2::kGoaway, h2::kNone, 0, h2::number(1) + h2::number(kNoError)));
  EXPECT_EQ(owner.codec->capacity(), 0u);
  EXPECT_EQ(second.reason, ResetReason::kRefused);
  EXPECT_EQ(first.log, "");
  send(peer, h2::headers(1, {{":status", "200"}}));
  EXPECT_EQ(first.log, "headers(:status=200) end ");
  EXPECT_EQ(owner.ends, (std::vector<bool>{false, false}));
}

TEST_F(H2ClientCodec, CapacityIsWhatBothAllow) {
  h2_options.max_concurrent_streams = 5;
  TestOwner& owner = connect_h2(h2::settings({{3, 2}}));
  EXPECT_EQ(owner.codec->capacity(), 2u);
  get(owner);
  EXPECT_EQ(owner.codec->capacity(), 1u);
  send(peer, h2::settings({{3, 100}}));
  EXPECT_EQ(owner.codec->capacity(), 4u);
  send(peer, h2::headers(1, {{":status", "200"}}));
  EXPECT_EQ(owner.codec->capacity(), 5u);
}

TEST_F(H2ClientCodec, AStreamThatIsNotReadHoldsItsOwnWindowOnly) {
  h2_options.initial_stream_window_bytes = 65'535;
  TestOwner& owner = connect_h2();
  TestSink& slow = get(owner);
  TestSink& other = get(owner);
  slow.stream->pause_read(net::Pause::kBackpressure);
  send(peer, h2::headers(1, {{":status", "200"}}, h2::kEndHeaders));
  for (int i = 0; i < 4; ++i) send(peer, h2::data(1, std::string(16'000, 's')));
  send(peer, h2::headers(3, {{":status", "200"}}, h2::kEndHeaders) + h2::data(3, "quick", true));
  EXPECT_EQ(other.body, "quick");
  EXPECT_EQ(slow.body, "");
  read();
  EXPECT_EQ(reader.find(h2::kWindowUpdate, 1), nullptr);
  slow.stream->resume_read(net::Pause::kBackpressure);
  run_until([&] { return slow.body.size() == 64'000; });
  EXPECT_NE((read(), reader.find(h2::kWindowUpdate, 1)), nullptr);
}

TEST_F(H2ClientCodec, AWriterHearsOfAWindowThatIsFull) {
  h2_options.stream_buffer_bytes = 1000;
  TestOwner& owner = connect_h2();
  TestSink& sink = owner.open();
  Fields head = post_fields();
  sink.stream->encode_headers(head.map, false);
  sink.stream->encode_data(Buffer(std::string(70'000, 'b')), false);
  run_until([&] { return sink.log == "above "; });
  EXPECT_EQ((read(), reader.body(1).size()), 65'535u);
  send(peer, h2::window(0, 100'000) + h2::window(1, 100'000));
  run_until([&] { return sink.log == "above below "; });
  EXPECT_EQ((read(), reader.body(1).size()), 70'000u);
}

TEST_F(H2ClientCodec, HeadsThatAreTooLargeOrManyEndTheirStream) {
  h2_options.max_head_bytes = 1000;
  TestOwner& owner = connect_h2();
  TestSink& large = get(owner);
  TestSink& interims = get(owner);
  TestSink& good = get(owner);
  send(peer, h2::headers(1, {{":status", "200"}, {"x", std::string(2000, 'x')}}, h2::kEndHeaders));
  EXPECT_EQ(large.reason, ResetReason::kOverflow);
  for (int i = 0; i < 20; ++i) send(peer, h2::headers(3, {{":status", "100"}}, h2::kEndHeaders));
  EXPECT_EQ(interims.reason, ResetReason::kOverflow);
  send(peer, h2::headers(5, {{":status", "200"}}));
  EXPECT_EQ(good.log, "headers(:status=200) end ");
}

// One at a time: each ends the connection or the stream, and no sink ever takes it for an answer.
TEST_F(H2ClientCodec, WhatAServerMayNotSay) {
  const std::vector<std::pair<const char*, std::string>> cases = {
      {"no HTTP/2", "HTTP/1.1 400 Bad Request\r\n\r\n"},
      {"push", h2::frame(5, h2::kEndHeaders, 1, h2::number(2) + h2::block(h2::get("/")))},
      {"a stream of its own", h2::headers(2, {{":status", "200"}})},
      {"no status", h2::headers(1, {{"x", "y"}})},
      {"a status that is none", h2::headers(1, {{":status", "2x0"}})},
      {"101", h2::headers(1, {{":status", "101"}}, h2::kEndHeaders)},
      {"upper case", h2::headers(1, {{":status", "200"}, {"X-A", "1"}})},
      {"connection", h2::headers(1, {{":status", "200"}, {"connection", "close"}})},
      {"a request's pseudo-header", h2::headers(1, {{":status", "200"}, {":path", "/"}})},
      {"DATA first", h2::data(1, "x", true)},
      {"DATA behind an interim head", h2::headers(1, {{":status", "100"}}, h2::kEndHeaders) + h2::data(1, "x", true)},
      {"an interim head that ends", h2::headers(1, {{":status", "100"}})},
      {"a status of four digits", h2::headers(1, {{":status", "2000"}})},
      {"a status below 100", h2::headers(1, {{":status", "099"}})},
      {"two statuses", h2::headers(1, {{":status", "200"}, {":status", "200"}})},
      {"two lengths", h2::headers(1, {{":status", "200"}, {"content-length", "1"}, {"content-length", "1"}})},
      {"push in SETTINGS", h2::settings({{2, 1}})},
      {"DATA for nobody", h2::data(9, "x", true)},
  };
  for (const auto& [what, bytes] : cases) {
    TestOwner& owner = connect_h2();
    TestSink& sink = get(owner);
    send(peer, bytes);
    run_until([&] { return sink.over || owner.closed; });
    EXPECT_EQ(sink.log.find("headers("), std::string::npos) << what;
    EXPECT_NE(sink.log.find("reset("), std::string::npos) << what;
  }
}

TEST_F(H2ClientCodec, AServerThatGoesResetsAllStreams) {
  TestOwner& owner = connect_h2();
  TestSink& a = get(owner);
  TestSink& b = get(owner);
  peer.close();
  run_until([&] { return owner.closed; });
  EXPECT_EQ(a.reason, ResetReason::kConnectionTermination);
  EXPECT_EQ(b.reason, ResetReason::kConnectionTermination);
}

TEST_F(H2ClientCodec, AnIdleConnectionSaysGoodbye) {
  TestOwner& owner = connect_h2();
  owner.codec->close_idle();
  run_until([&] {
    run_ready(1);
    reader.feed(peer.recv_some(65536, 0));
    return reader.code(0) >= 0;
  });
  EXPECT_EQ(reader.code(0), kNoError);
  EXPECT_NE(reader.code(0), kProtocolError);
}

}  // namespace
}  // namespace outrigger::http
