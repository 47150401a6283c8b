// AdminServer alone, over real sockets.
#include "admin/admin_server.h"

#include <atomic>
#include <memory>
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

// The server on a thread of its own.
class Served {
 public:
  explicit Served(AdminServer::Handler handler)
      : server_(std::move(*AdminServer::listen(loop_, *net::Address::parse("127.0.0.1", 0), std::move(handler), {}))),
        thread_([this] { loop_.run(); }) {}
  // f's answer, on the loop's thread.
  template <class F>
  auto ask(F&& f) {
    decltype(f()) answer{};
    std::atomic<bool> done = false;
    loop_.post([&] {
      answer = f();
      done = true;
    });
    EXPECT_TRUE(test::wait_until([&] { return done.load(); }));
    return answer;
  }
  ~Served() {
    loop_.post([&] { server_->close_now(); });
    test::wait_until([&] { return ask([this] { return server_->idle(); }); });
    loop_.stop();
    thread_.join();
  }
  uint16_t port() const { return server_->address().port(); }

 private:
  event::Loop loop_;
  std::unique_ptr<AdminServer> server_;
  std::thread thread_;
};

// A page far larger than what is buffered, read slowly and by many.
TEST(AdminServer, LargePagesAreStreamed) {
  size_t pieces = 0;
  constexpr size_t kPieces = 4000;
  Served served([&](const AdminRequest&) {
    return AdminResponse{.producer = [&pieces, left = kPieces](std::string& out) mutable {
      out.append(4096, 'x');
      ++pieces;
      return --left > 0;
    }};
  });
  HttpClient slow(test::Socket::connect_small(served.port(), 16 * 1024, 0));
  slow.send(test::request_bytes("GET", "/"));
  EXPECT_EQ(test::http_get(served.port(), "/").body.size(), kPieces * 4096);
  // The slow reader's page waits for its reader.
  EXPECT_LT(served.ask([&] { return pieces; }), kPieces + kPieces / 2);
  EXPECT_EQ(slow.read_response().body.size(), kPieces * 4096);
}

// Pages that find nothing to write for ever, as a filter over very many metrics may for a while, hold up no other one.
TEST(AdminServer, APageThatWritesNothingHoldsUpNoOther) {
  size_t asked = 0;
  Served served([&](const AdminRequest& request) {
    if (request.path == "/ready") return AdminResponse{.body = "LIVE\n"};
    return AdminResponse{.producer = [&asked](std::string&) {
      ++asked;
      return true;
    }};
  });
  std::vector<HttpClient> endless;
  for (int i = 0; i < 4; ++i) {
    endless.emplace_back(test::Socket::connect_small(served.port(), 16 * 1024, 0));
    endless.back().send(test::request_bytes("GET", "/"));
  }
  ASSERT_TRUE(test::wait_until([&] { return served.ask([&] { return asked; }) > 1000; }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(test::http_get(served.port(), "/ready").body, "LIVE\n");
}

}  // namespace
}  // namespace outrigger::admin
