// AdminServer alone, over real sockets.
#include "admin/admin_server.h"

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/http_client.h"
#include "support/wait.h"

namespace outrigger::admin {
namespace {

using test::HttpClient;

TEST(AdminServer, LiteralHosts) {
  for (const char* host : {"127.0.0.1", "127.0.0.1:1", "localhost", "localhost:80", "[::1]", "[::1]:80"})
    EXPECT_TRUE(is_literal_host(host)) << host;
  for (const char* host : {"", "a.example", "a.example:80", "127.0.0.1.example", "[::1", "localhost.example"})
    EXPECT_FALSE(is_literal_host(host)) << host;
}

TEST(AdminServer, ListenAddresses) {
  for (const auto& [text, address] :
       std::vector<std::pair<std::string, std::string>>{{"127.0.0.1:9901", "127.0.0.1:9901"},
                                                        {"localhost:0", "127.0.0.1:0"},
                                                        {"[::1]:80", "[::1]:80"},
                                                        {"/run/a.sock", "/run/a.sock"},
                                                        {"@name", "@name"},
                                                        {"unix:/run/a.sock", "/run/a.sock"}})
    EXPECT_EQ(parse_listen_address(text).value_or(net::Address()).str(), address);
  for (const char* text : {"", "9901", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "a.example:80", "127.0.0.1:8o"})
    EXPECT_FALSE(parse_listen_address(text)) << text;
}

TEST(AdminServer, Queries) {
  using Query = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(parse_query(""), Query());
  EXPECT_EQ(parse_query("a=1&b&c=%2F+x%zz&&"), (Query{{"a", "1"}, {"b", ""}, {"c", "/ x%zz"}}));
}

// A page far larger than what is buffered, read slowly and by many.
TEST(AdminServer, LargePagesAreStreamed) {
  event::Loop loop;
  size_t pieces = 0;
  constexpr size_t kPieces = 4000;
  auto server =
      AdminServer::listen(loop, *net::Address::parse("127.0.0.1", 0),
                          [&](const AdminRequest&) {
                            return AdminResponse{.producer = [&pieces, left = kPieces](std::string& out) mutable {
                              out.append(4096, 'x');
                              ++pieces;
                              return --left > 0;
                            }};
                          },
                          {});
  ASSERT_TRUE(server.has_value());
  std::thread thread([&] { loop.run(); });
  HttpClient slow(test::Socket::connect_small((*server)->address().port(), 16 * 1024, 0));
  slow.send(test::request_bytes("GET", "/"));
  EXPECT_EQ(test::http_get((*server)->address().port(), "/").body.size(), kPieces * 4096);
  const size_t made = [&] {
    size_t now = 0;
    std::atomic<bool> done = false;
    loop.post([&] {
      now = pieces;
      done = true;
    });
    test::wait_until([&] { return done.load(); });
    return now;
  }();
  EXPECT_LT(made, kPieces + kPieces / 2);  // the slow reader's page waits for its reader
  EXPECT_EQ(slow.read_response().body.size(), kPieces * 4096);
  loop.post([&] { (*server)->close_now(); });
  test::wait_until([&] {
    std::atomic<int> idle = -1;
    loop.post([&] { idle = (*server)->idle() ? 1 : 0; });
    test::wait_until([&] { return idle >= 0; });
    return idle == 1;
  });
  loop.stop();
  thread.join();
  server->reset();
}

}  // namespace
}  // namespace outrigger::admin
