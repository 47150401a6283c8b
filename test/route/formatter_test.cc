#include "route/formatter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "support/route_harness.h"

namespace outrigger::test {
namespace {

using route::FormatContext;
using route::Formatter;
using route::TextOut;

class FormatterTest : public testing::Test {
 protected:
  FormatterTest() {
    info_.snapshot_version = 12;
    info_.response_flags =
        static_cast<uint32_t>(ResponseFlag::kNoRouteFound) | static_cast<uint32_t>(ResponseFlag::kRateLimited);
    info_.response_code = 404;
    info_.start_time_unix_us = 1'700'000'000'123'456;  // 2023-11-14T22:13:20.123456Z
    info_.start_ns = 1'000'000;
    info_.request_end_ns = 3'999'999;
    info_.upstream_first_byte_ns = 11'000'000;
    info_.end_ns = 21'500'000;
    info_.request_bytes = 5;
    info_.response_bytes = 6;
    info_.connection_id = 7;
    info_.upstream_attempts = 2;
    info_.request_id = "rid";
    info_.route_name = "r";
    info_.cluster = "c";
    info_.upstream_host = "10.0.0.1:80";
    info_.upstream_remote_address = "[2001:db8::7]:81";
    info_.upstream_local_address = "10.0.0.2:5000";
    info_.downstream_remote_address = "[2001:db8::1]:99";
    info_.downstream_direct_remote_address = "10.0.0.3:1";
    info_.downstream_local_address = "/run/socket";
    info_.response_code_details = "route_not_found";
    info_.client_name = "alice";
  }

  std::string format(std::string_view text, Formatter::Missing missing = Formatter::Missing::kDash) {
    char buffer[1024];
    TextOut out(buffer, sizeof(buffer));
    Formatter::compile(text).format(context_, missing, out);
    EXPECT_FALSE(out.truncated());
    return std::string(out.view());
  }

  Headers request_{{{":method", "GET"}, {":path", "/p"}, {":authority", "h"}, {"x-a", "one"}, {"x-a", "two"}}};
  Headers response_{{{":status", "404"}, {"server", "s"}}};
  Headers trailers_{{{"grpc-status", "0"}}};
  StreamInfo info_;
  FormatContext context_{&*request_, &*response_, &*trailers_, &info_};
};

TEST_F(FormatterTest, Values) {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"plain 100%%", "plain 100%"},
      {"%REQ(:METHOD)% %REQ(:path)%", "GET /p"},
      {"%REQ(host)%", "h"},
      {"%REQ(x-a)%", "one"},
      {"%REQ(X-None?X-A)%", "one"},
      {"%REQ(none)%", "-"},
      {"%REQ(x-a):2%", "on"},
      {"%RESP(server)% %TRAILER(grpc-status)%", "s 0"},
      {"%PROTOCOL%", "HTTP/1.1"},
      {"%RESPONSE_CODE%", "404"},
      {"%RESPONSE_CODE_DETAILS%", "route_not_found"},
      {"%RESPONSE_FLAGS%", "NR,RL"},
      {"%RESPONSE_FLAGS_LONG%", "NoRouteFound,RateLimited"},
      {"%BYTES_RECEIVED% %BYTES_SENT%", "5 6"},
      {"%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION%", "20 2 10"},
      {"%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS%", "10.0.0.1:80 c 10.0.0.2:5000"},
      {"%UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "[2001:db8::7]:81 2001:db8::7"},
      {"%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2"},
      {"%DOWNSTREAM_REMOTE_ADDRESS%", "[2001:db8::1]:99"},
      {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "2001:db8::1"},
      {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.3"},
      {"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "/run/socket"},
      {"%ROUTE_NAME%", "r"},
      {"%REQUESTED_SERVER_NAME%", "-"},
      {"%CONNECTION_ID% %STREAM_ID%", "7 rid"},
      {"%OUTRIGGER_CONFIG_VERSION% %OUTRIGGER_CLIENT_NAME%", "12 alice"},
      {"%START_TIME%", "2023-11-14T22:13:20.123Z"},
      {"%START_TIME(%Y/%m/%d %H:%M:%S)%", "2023/11/14 22:13:20"},
      {"%START_TIME(%s.%3f)%", "1700000000.123"},
      {"%START_TIME(%6f %9f %1f %f)%", "123456 123456000 1 123456000"},
      {"%START_TIME(%E6S)%", "20.123456"},
      {"%START_TIME(%%Y)%", "%Y"},
      {"%START_TIME(100%)%", "100%"},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(format(text), want) << text;
}

TEST_F(FormatterTest, MissingValues) {
  info_ = {};
  EXPECT_EQ(format("%DURATION% %RESPONSE_FLAGS% %UPSTREAM_HOST% %START_TIME% %RESPONSE_CODE%"), "- - - - 0");
  context_ = {};
  EXPECT_EQ(format("<%REQ(a)%%DURATION%%RESP(b)%>"), "<--->");
  EXPECT_EQ(format("<%REQ(a)%%DURATION%%RESP(b)%>", Formatter::Missing::kEmpty), "<>");
}

// Of the trailers, the head or the HTTP status; of gRPC requests only.
TEST_F(FormatterTest, GrpcStatus) {
  EXPECT_EQ(format("%GRPC_STATUS% %GRPC_STATUS_NUMBER%"), "- -");
  request_->add("content-type", "application/grpc+proto");
  EXPECT_EQ(format("%GRPC_STATUS% %GRPC_STATUS_NUMBER%"), "OK 0");
  trailers_->set("grpc-status", "4");
  EXPECT_EQ(format("%GRPC_STATUS% %GRPC_STATUS(CAMEL_STRING)% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%"),
            "DeadlineExceeded DeadlineExceeded DEADLINE_EXCEEDED 4");
  trailers_->set("grpc-status", "99");
  EXPECT_EQ(format("%GRPC_STATUS% %GRPC_STATUS_NUMBER%"), "99 99");
  context_.response_trailers = nullptr;
  EXPECT_EQ(format("%GRPC_STATUS%"), "Unimplemented");  // 404
  response_->add("grpc-status", "5");
  EXPECT_EQ(format("%GRPC_STATUS%"), "NotFound");
}

TEST_F(FormatterTest, HostNameAndUniqueId) {
  char name[256] = {};
  ASSERT_EQ(gethostname(name, sizeof(name) - 1), 0);
  EXPECT_EQ(format("%HOSTNAME%"), name);
  const std::string id = format("%UNIQUE_ID%");
  EXPECT_EQ(id.size(), 36u);
  EXPECT_EQ(id[14], '4');
  EXPECT_NE(id, format("%UNIQUE_ID%"));
}

TEST(TextOut, AFullBufferKeepsWhatFits) {
  char buffer[5];
  TextOut out(buffer, sizeof(buffer));
  out.append("abc");
  out.append_number(12345);
  EXPECT_EQ(out.view(), "abc12");
  EXPECT_TRUE(out.truncated());
}

TEST(TextOut, GrowsInAnArena) {
  Arena arena;
  TextOut out(arena);
  std::string want;
  for (int i = 0; i < 1000; ++i) {
    out.append_number(static_cast<uint64_t>(i));
    want += std::to_string(i);
  }
  EXPECT_EQ(out.view(), want);
  EXPECT_FALSE(out.truncated());
  Arena tiny(1);
  TextOut none(tiny);
  none.append("x");
  EXPECT_TRUE(none.truncated());
}

TEST_F(FormatterTest, Metadata) {
  const MetadataValue text{std::string("v1")}, number{2.5}, whole{3.0}, flag{true}, none{};
  const MetadataValue list{MetadataValue::List{whole, text}};
  const MetadataValue fields{MetadataValue::Struct{{"flag", flag},
                                                   {"in", {MetadataValue::Struct{{"k", text}}}},
                                                   {"list", list},
                                                   {"none", none},
                                                   {"number", number},
                                                   {"q", {std::string("a\"\n")}},
                                                   {"whole", whole}}};
  const auto named = [&](const char* name) {
    return Metadata{{{"ns", {MetadataValue::Struct{{"of", {std::string(name)}}}}}}};
  };
  const Metadata route{{{"ns", fields}}}, cluster = named("cluster"), host = named("virtual host"),
                                          listener = named("listener"), endpoint = named("endpoint"),
                                          dynamic = named("dynamic");
  info_.dynamic_metadata = &dynamic;
  context_.route_metadata = &route;
  context_.cluster_metadata = &cluster;
  context_.virtual_host_metadata = &host;
  context_.listener_metadata = &listener;
  context_.upstream_metadata = &endpoint;
  const std::pair<const char*, const char*> cases[] = {
      {"%METADATA(ROUTE:ns:in:k)%", "v1"},
      {"%METADATA(ROUTE:ns:in)%", R"({"k":"v1"})"},
      {"%METADATA(ROUTE:ns:list)%", R"([3,"v1"])"},
      {"%METADATA(ROUTE:ns:number)% %METADATA(ROUTE:ns:whole)% %METADATA(ROUTE:ns:flag)%", "2.5 3 true"},
      {"%METADATA(ROUTE:ns:none)% %METADATA(ROUTE:ns:in:k:x)% %METADATA(ROUTE:other)%", "- - -"},
      {"%METADATA(ROUTE:ns:in:k):1%", "v"},
      {"%METADATA(ROUTE:ns)%", R"({"flag":true,"in":{"k":"v1"},"list":[3,"v1"],"none":null,"number":2.5,)"
                               R"("q":"a\"\u000a","whole":3})"},
      {"%METADATA(CLUSTER:ns:of)% %CLUSTER_METADATA(ns:of)%", "cluster cluster"},
      {"%METADATA(UPSTREAM_HOST:ns:of)% %UPSTREAM_METADATA(ns:of)%", "endpoint endpoint"},
      {"%METADATA(DYNAMIC:ns:of)% %DYNAMIC_METADATA(ns:of)%", "dynamic dynamic"},
      {"%METADATA(LISTENER:ns:of)%, %METADATA(VIRTUAL_HOST:ns:of)%", "listener, virtual host"},
  };
  for (const auto& [text_in, expected] : cases) EXPECT_EQ(format(text_in), expected) << text_in;
  context_ = {.info = nullptr};
  EXPECT_EQ(format("%METADATA(ROUTE:ns)%%METADATA(DYNAMIC:ns)%%UPSTREAM_METADATA(ns:of)%"), "---");
}

}  // namespace
}  // namespace outrigger::test
