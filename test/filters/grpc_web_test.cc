#include "filters/grpc_web/grpc_web.h"

#include "envoy/extensions/filters/http/grpc_web/v3/grpc_web.pb.h"
#include "filters/grpc_web/base64_stream.h"
#include "harness.h"

namespace outrigger::filters {
namespace {

using test::FakeStream;
using test::Harness;

// One stream through the filter, bodies in pieces of `step` bytes.
struct Exchange {
  explicit Exchange(FakeStream::Fields request) : stream(request) {
    config = harness.compile<envoy::extensions::filters::http::grpc_web::v3::GrpcWeb>(grpc_web_filter_type(), "");
    filter = &stream.make(*config);
    EXPECT_EQ(filter->on_request_headers(stream.request_headers(), false), Verdict::kContinue);
  }
  static std::string in_pieces(std::string_view bytes, size_t step, const std::function<Verdict(Buffer&, bool)>& f) {
    std::string out;
    for (size_t at = 0; at < bytes.size(); at += step) {
      Buffer data(bytes.substr(at, step));
      f(data, at + step >= bytes.size());
      out += data.to_string();
    }
    return out;
  }
  std::string request_body(std::string_view bytes, size_t step) {
    return in_pieces(bytes, step, [&](Buffer& data, bool end) { return filter->on_request_data(data, end); });
  }
  std::string response_body(std::string_view bytes, size_t step) {
    return in_pieces(bytes, step, [&](Buffer& data, bool) { return filter->on_response_data(data, false); });
  }
  Verdict answer(FakeStream::Fields fields, bool end = false) {
    return filter->on_response_headers(stream.set_response(fields), end);
  }
  std::string trailers(FakeStream::Fields fields) {
    HeaderMap map(stream.arena());
    for (const auto& [name, value] : fields) map.add(name, value);
    EXPECT_EQ(filter->on_response_trailers(map), Verdict::kContinue);
    EXPECT_EQ(map.size(), 0u);
    return stream.take_added();
  }

  Harness harness;
  FakeStream stream;
  std::shared_ptr<const FilterConfig> config;
  Filter* filter = nullptr;
};

std::string encoded(std::string_view bytes) {
  Buffer out;
  Base64Encoder encoder;
  encoder.encode(bytes, out);
  encoder.finish(out);
  return out.to_string();
}

const std::string kMessage = std::string("\0\0\0\0\5hello", 10);

TEST(Base64Stream, Vectors) {  // RFC 4648 section 10
  const std::pair<const char*, const char*> rows[] = {{"", ""},
                                                      {"f", "Zg=="},
                                                      {"fo", "Zm8="},
                                                      {"foo", "Zm9v"},
                                                      {"foob", "Zm9vYg=="},
                                                      {"fooba", "Zm9vYmE="},
                                                      {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : rows) EXPECT_EQ(encoded(plain), text);
}

TEST(Base64Stream, WhateverIsCutWhereverAndPaddedInBetween) {
  std::string bytes;
  for (int i = 0; i < 9000; ++i) bytes += static_cast<char>(i * 7 + i / 256);
  const std::string text = encoded(bytes.substr(0, 4001)) + encoded(bytes.substr(4001));
  for (const size_t step : {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{4096}, text.size()}) {
    Base64Decoder decoder;
    Buffer out;
    for (size_t at = 0; at < text.size(); at += step)
      ASSERT_TRUE(decoder.decode(std::string_view(text).substr(at, step), out));
    EXPECT_TRUE(decoder.between());
    EXPECT_TRUE(out.to_string() == bytes) << step;
  }
}

TEST(Base64Stream, Mistakes) {
  for (const char* bad : {"Zg=a", "Z===", "=", "Zm9v Zm9v", "Zm9\n", "Zm-v", "Zg==="}) {
    Base64Decoder decoder;
    Buffer out;
    EXPECT_FALSE(decoder.decode(bad, out)) << bad;
  }
  Base64Decoder decoder;
  Buffer out;
  EXPECT_TRUE(decoder.decode("Zm9vZ", out));
  EXPECT_FALSE(decoder.between());
}

TEST(GrpcWeb, OthersPassUntouched) {
  for (const char* type : {"application/grpc", "application/json", "application/grpc-webby", "text/plain"}) {
    Exchange e({{":path", "/s/m"}, {"content-type", type}, {"content-length", "3"}});
    EXPECT_EQ(e.stream.request("content-type"), type);
    EXPECT_EQ(e.stream.request("content-length"), "3");
    EXPECT_EQ(e.request_body("abc", 3), "abc");
    e.answer({{":status", "503"}, {"content-type", "text/html"}});
    EXPECT_EQ(e.stream.response("content-type"), "text/html");
    EXPECT_EQ(e.response_body("x", 1), "x");
  }
}

TEST(GrpcWeb, BinaryBothWays) {
  Exchange e({{":path", "/s/m"}, {"content-type", "application/grpc-web+proto"}, {"content-length", "10"}});
  EXPECT_EQ(e.stream.request("content-type"), "application/grpc+proto");
  EXPECT_EQ(e.stream.request("content-length"), "<absent>");
  EXPECT_EQ(e.stream.request("te"), "trailers");
  EXPECT_EQ(e.request_body(kMessage, 3), kMessage);
  EXPECT_EQ(e.answer({{":status", "200"}, {"content-type", "application/grpc+proto"}}), Verdict::kContinue);
  EXPECT_EQ(e.stream.response("content-type"), "application/grpc-web+proto");
  EXPECT_EQ(e.response_body(kMessage, 4), kMessage);
  EXPECT_EQ(e.trailers({{"grpc-status", "5"}, {"grpc-message", "no"}}),
            std::string("\x80\0\0\0\x20grpc-status:5\r\ngrpc-message:no\r\n", 37));
  EXPECT_EQ(e.stream.response("grpc-status"), "5");  // for the access log
}

TEST(GrpcWeb, TextBothWaysInPiecesOfAnySize) {
  const std::string request = encoded(kMessage.substr(0, 4)) + encoded(kMessage.substr(4));
  const std::string body = kMessage + std::string("\0\0\0\0\0", 5) + kMessage;
  for (size_t step = 1; step <= body.size(); ++step) {
    Exchange e(
        {{":path", "/s/m"}, {"content-type", "application/grpc-web-text"}, {"accept", "application/grpc-web-text"}});
    EXPECT_EQ(e.stream.request("content-type"), "application/grpc");
    EXPECT_EQ(e.request_body(request, step), kMessage);
    e.answer({{":status", "200"}, {"content-type", "application/grpc"}, {"content-length", "3"}});
    EXPECT_EQ(e.stream.response("content-type"), "application/grpc-web-text+proto");
    EXPECT_EQ(e.stream.response("content-length"), "<absent>");
    EXPECT_EQ(e.response_body(body, step),
              encoded(kMessage) + encoded(std::string("\0\0\0\0\0", 5)) + encoded(kMessage));
    EXPECT_EQ(e.trailers({{"grpc-status", "0"}}), encoded(std::string("\x80\0\0\0\x0fgrpc-status:0\r\n", 20)));
  }
}

TEST(GrpcWeb, ABinaryAnswerToATextRequest) {
  Exchange e({{":path", "/s/m"}, {"content-type", "application/grpc-web-text"}});
  e.answer({{":status", "200"}, {"content-type", "application/grpc"}});
  EXPECT_EQ(e.stream.response("content-type"), "application/grpc-web+proto");
  EXPECT_EQ(e.response_body(kMessage, 2), kMessage);
}

TEST(GrpcWeb, BadTextIsRefused) {
  for (const char* bad : {"!!!!", "AAAAA"}) {
    Exchange e({{":path", "/s/m"}, {"content-type", "application/grpc-web-text"}});
    e.request_body(bad, 100);
    EXPECT_EQ(e.stream.replied().status, 400) << bad;
  }
}

TEST(GrpcWeb, TrailersOnly) {
  Exchange e({{":path", "/s/m"}, {"content-type", "application/grpc-web"}});
  EXPECT_EQ(e.answer({{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "12"}}, true),
            Verdict::kContinue);
  EXPECT_EQ(e.stream.response("grpc-status"), "12");
  EXPECT_EQ(e.stream.response("content-type"), "application/grpc-web+proto");
}

// An answer of somebody who does not speak gRPC.
TEST(GrpcWeb, ForeignAnswersBecomeGrpc) {
  Exchange e({{":path", "/s/m"}, {"content-type", "application/grpc-web"}});
  EXPECT_EQ(e.answer({{":status", "503"}, {"content-type", "text/plain"}, {"content-length", "9"}}), Verdict::kBuffer);
  Buffer a("no "), b("way 5%"), end;
  EXPECT_EQ(e.filter->on_response_data(a, false), Verdict::kBuffer);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(e.filter->on_response_data(b, true), Verdict::kContinue);
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(e.stream.response(":status"), "200");
  EXPECT_EQ(e.stream.response("grpc-status"), "14");
  EXPECT_EQ(e.stream.response("grpc-message"), "no way 5%25");
  EXPECT_EQ(e.stream.response("content-length"), "<absent>");

  Exchange large({{":path", "/s/m"}, {"content-type", "application/grpc-web"}});
  EXPECT_EQ(large.answer({{":status", "200"}, {"content-type", "text/html"}}), Verdict::kBuffer);
  for (int i = 0; i < 100; ++i) {
    Buffer data(std::string(1000, 'x'));
    large.filter->on_response_data(data, i == 99);
    EXPECT_TRUE(data.empty());
  }
  EXPECT_EQ(large.stream.response("grpc-status"), "2");
  EXPECT_EQ(large.stream.response("grpc-message"), std::string(1024, 'x'));

  Exchange empty({{":path", "/s/m"}, {"content-type", "application/grpc-web"}});
  EXPECT_EQ(empty.answer({{":status", "404"}}, true), Verdict::kContinue);
  EXPECT_EQ(empty.stream.response("grpc-status"), "12");
}

}  // namespace
}  // namespace outrigger::filters
