#include "config/format.h"

#include <gtest/gtest.h>

namespace outrigger::config {
namespace {

using Kind = FormatOperator::Kind;

std::vector<FormatOperator> parsed(std::string_view text) {
  auto result = parse_format(text);
  EXPECT_TRUE(result) << text << ": " << (result ? "" : result.error().detail);
  return result ? *result : std::vector<FormatOperator>();
}

TEST(Format, TextPercentAndCommands) {
  EXPECT_TRUE(parsed("").empty());
  EXPECT_EQ(parsed("plain"), (std::vector<FormatOperator>{{.arg = "plain"}}));
  EXPECT_EQ(parsed("100%% sure"), (std::vector<FormatOperator>{{.arg = "100% sure"}}));
  EXPECT_EQ(
      parsed("a%PROTOCOL%b%DURATION%"),
      (std::vector<FormatOperator>{{.arg = "a"}, {.kind = Kind::kProtocol}, {.arg = "b"}, {.kind = Kind::kDuration}}));
}

TEST(Format, HeaderCommandsFoldNamesAndKnowTheHost) {
  EXPECT_EQ(parsed("%REQ(X-Envoy-Original-Path?:PATH):10%"),
            (std::vector<FormatOperator>{
                {.kind = Kind::kReq, .arg = "x-envoy-original-path", .alt = ":path", .max_len = 10}}));
  EXPECT_EQ(parsed("%RESP(Server)%%TRAILER(grpc-status)%"),
            (std::vector<FormatOperator>{{.kind = Kind::kResp, .arg = "server"},
                                         {.kind = Kind::kTrailer, .arg = "grpc-status"}}));
  EXPECT_EQ(parsed("%REQ(Host)%"), (std::vector<FormatOperator>{{.kind = Kind::kReq, .arg = ":authority"}}));
}

TEST(Format, StartTimeMayHoldPercentSigns) {
  EXPECT_EQ(parsed("%START_TIME%"), (std::vector<FormatOperator>{{.kind = Kind::kStartTime}}));
  EXPECT_EQ(parsed("[%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%]"),
            (std::vector<FormatOperator>{
                {.arg = "["}, {.kind = Kind::kStartTime, .arg = "%Y/%m/%dT%H:%M:%S%z %s"}, {.arg = "]"}}));
}

TEST(Format, LengthOnPlainCommands) {
  EXPECT_EQ(parsed("%ROUTE_NAME:3%"), (std::vector<FormatOperator>{{.kind = Kind::kRouteName, .max_len = 3}}));
  EXPECT_EQ(parsed("%ROUTE_NAME:0%"), (std::vector<FormatOperator>{{.kind = Kind::kRouteName, .max_len = 0}}));
}

TEST(Format, EveryCommandParses){
#define CHECK_COMMAND(id, command, argument)                                                                      \
  {                                                                                                               \
    const std::string_view takes = #argument;                                                                     \
    const std::string suffix = takes == "H" ? "(x-a)" : takes == "M" ? "(ns)" : takes == "S" ? "(ROUTE:ns)" : ""; \
    const auto ops = parsed("%" command + suffix + "%");                                                          \
    ASSERT_EQ(ops.size(), 1u);                                                                                    \
    EXPECT_EQ(ops[0].kind, Kind::k##id) << command;                                                               \
  }
    OUTRIGGER_FORMAT_COMMANDS(CHECK_COMMAND)
#undef CHECK_COMMAND
}

TEST(Format, MetadataCommandsHaveASourceAndAPath) {
  using Source = FormatOperator::Source;
  EXPECT_EQ(
      parsed("%METADATA(UPSTREAM_HOST:envoy.lb:a:b):4%"),
      (std::vector<FormatOperator>{
          {.kind = Kind::kMetadata, .max_len = 4, .source = Source::kUpstreamHost, .path = {"envoy.lb", "a", "b"}}}));
  EXPECT_EQ(parsed("%UPSTREAM_METADATA(n:k)%%CLUSTER_METADATA(n)%"),
            (std::vector<FormatOperator>{
                {.kind = Kind::kUpstreamMetadata, .source = Source::kUpstreamHost, .path = {"n", "k"}},
                {.kind = Kind::kClusterMetadata, .source = Source::kCluster, .path = {"n"}}}));
}

TEST(Format, DefaultAccessLogFormatParses) {
  const auto ops = parsed(kDefaultAccessLogFormat);
  EXPECT_EQ(ops.size(), 31u);
  EXPECT_EQ(ops.back().arg, "\"\n");
}

TEST(Format, Mistakes) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"100% sure", "at character 4: a lone '%'"},
      {"%", "at character 1: a lone '%'"},
      {"%protocol%", "a lone '%'"},
      {"%NO_SUCH%", "unknown command %NO_SUCH%; known are START_TIME, REQ"},
      {"%FILTER_STATE(a:b)%", "unknown command"},
      {"%DYNAMIC_METADATA%", "needs a namespace"},
      {"%DYNAMIC_METADATA()%", "needs a namespace"},
      {"%CLUSTER_METADATA(a::b)%", "none of them empty"},
      {"%METADATA(a:b)%", "needs one of DYNAMIC, CLUSTER, ROUTE, UPSTREAM_HOST, LISTENER, VIRTUAL_HOST"},
      {"%METADATA(ROUTE)%", "needs a namespace"},
      {"%GRPC_STATUS(HEX)%", "%GRPC_STATUS% takes CAMEL_STRING, SNAKE_STRING or NUMBER"},
      {"%REQ%", "%REQ% needs a header name"},
      {"%REQ()%", "%REQ% needs a header name"},
      {"%REQ(a b)%", "%REQ% needs a header name"},
      {"%REQ(a?)%", "%REQ% needs a header name"},
      {"%REQ(a", "has no closing ')'"},
      {"%REQ(a)", "is not closed by a '%'"},
      {"%REQ(a):x%", "must be a number"},
      {"%REQ(a):4294967296%", "must be a number"},
      {"%REQ(a):1", "is not closed by a '%'"},
      {"%PROTOCOL(x)%", "takes no argument"},
      {"%PROTOCOL", "is not closed by a '%'"},
  };
  for (const auto& [text, message] : cases) {
    const auto result = parse_format(text);
    ASSERT_FALSE(result) << text;
    EXPECT_NE(result.error().detail.find(message), std::string::npos) << text << ": " << result.error().detail;
  }
}

}  // namespace
}  // namespace outrigger::config
