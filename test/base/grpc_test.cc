#include "base/grpc.h"

namespace outrigger {
namespace {

struct Head {
  explicit Head(std::string_view name = {}, std::string_view value = {}) {
    if (!name.empty()) map.add(name, value);
  }
  Arena arena;
  HeaderMap map{arena};
};

TEST(Grpc, ContentTypes) {
  for (const char* yes : {"application/grpc", "application/grpc+proto", "application/grpc+"}) EXPECT_TRUE(is_grpc(yes));
  for (const char* no : {"", "application/grp", "application/grpc-web", "application/grpcx", "application/json"})
    EXPECT_FALSE(is_grpc(no)) << no;
}

TEST(Grpc, StatusOfHttp) {
  const std::pair<uint16_t, uint32_t> rows[] = {{400, 13}, {401, 16}, {403, 7}, {404, 12}, {429, 14}, {502, 14},
                                                {503, 14}, {504, 14}, {200, 2}, {408, 2},  {500, 2},  {301, 2}};
  for (const auto& [http, grpc] : rows) EXPECT_EQ(grpc_status_of_http(http), grpc) << http;
}

TEST(Grpc, StatusOfMessages) {
  EXPECT_EQ(grpc_status_of(Head("grpc-status", "7").map), 7u);
  for (const char* bad : {"", "x", "7x", "-1", "99999999999"})
    EXPECT_EQ(grpc_status_of(Head("grpc-status", bad).map), std::nullopt) << bad;
  EXPECT_EQ(grpc_status_of(Head().map), std::nullopt);
  const Head five("grpc-status", "5"), six("grpc-status", "6"), none;
  EXPECT_EQ(grpc_status_of_response(&five.map, &six.map, 200), 6u);
  EXPECT_EQ(grpc_status_of_response(&five.map, &none.map, 200), 5u);
  EXPECT_EQ(grpc_status_of_response(nullptr, nullptr, 503), 14u);
}

TEST(Grpc, Names) {
  EXPECT_EQ(grpc_status_camel(1), "Canceled");
  EXPECT_EQ(grpc_status_snake(1), "CANCELLED");
  EXPECT_EQ(grpc_status_camel(16), "Unauthenticated");
  EXPECT_EQ(grpc_status_camel(17), "");
}

TEST(Grpc, Timeouts) {
  const std::pair<const char*, std::optional<uint64_t>> rows[] = {
      {"1H", 3'600'000},  {"2M", 120'000}, {"3S", 3'000}, {"45m", 45},
      {"1500u", 2},       {"1n", 1},       {"0m", 0},     {"99999999H", 99'999'999ull * 3'600'000},
      {"123456789m", {}}, {"m", {}},       {"", {}},      {"5", {}},
      {"5x", {}},         {"-5m", {}},     {"5 m", {}}};
  for (const auto& [text, ms] : rows) EXPECT_EQ(grpc_timeout_ms(Head("grpc-timeout", text).map), ms) << text;
  EXPECT_EQ(grpc_timeout_ms(Head().map), std::nullopt);
}

TEST(Grpc, TimeoutsAreWrittenInTheFinestUnitThatHoldsThem) {
  const std::pair<uint64_t, const char*> rows[] = {
      {0, "0m"}, {99'999'999, "99999999m"}, {100'000'000, "100000S"}, {100'000'000'000, "1666666M"}};
  for (const auto& [ms, text] : rows) {
    Head head("grpc-timeout", "1H");
    set_grpc_timeout(head.map, ms);
    EXPECT_EQ(head.map.get(HeaderId::kGrpcTimeout), text);
  }
}

TEST(Grpc, MessagesArePercentEncoded) {
  Arena arena;
  EXPECT_EQ(grpc_message("no healthy upstream", arena), "no healthy upstream");
  EXPECT_EQ(grpc_message("50%\r\n\xc3\xa9~\x7f", arena), "50%25%0D%0A%C3%A9~%7F");
  Arena small(16);
  EXPECT_EQ(grpc_message(std::string(100'000, 'x'), small).data(), nullptr);
}

}  // namespace
}  // namespace outrigger
