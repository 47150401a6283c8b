// The test harness itself: what it tells of messages, connections and processes must be true.
#include <signal.h>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"

namespace outrigger::test {
namespace {

TEST(Harness, RequestsAreRecordedAndAnswered) {
  FakeUpstream upstream([](Exchange& exchange) { exchange.respond(201, "hello", {{"X-Name", "v"}}); });
  HttpClient client(upstream.port());
  const HttpMessage answer = client.request("POST", "/a?b=c", {{"K", "1"}}, "body");
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.status(), 201);
  EXPECT_EQ(answer.header("x-name"), "v");
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(client.get("/second").status(), 201);
  ASSERT_TRUE(upstream.wait_for_requests(2));
  EXPECT_EQ(upstream.requests()[0].method(), "POST");
  EXPECT_EQ(upstream.requests()[0].target(), "/a?b=c");
  EXPECT_EQ(upstream.requests()[0].body, "body");
  EXPECT_EQ(upstream.accepted(), 1u);
}

TEST(Harness, ChunkedBodiesAndTrailers) {
  FakeUpstream upstream([](Exchange& exchange) {
    exchange.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(exchange.request.body) + chunk("!") +
                  "0\r\nT: 1\r\n\r\n");
  });
  HttpClient client(upstream.port());
  client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunk("ab") + chunk("c") +
              "0\r\n\r\n");
  const HttpMessage answer = client.read_response();
  EXPECT_EQ(answer.error, "");
  EXPECT_EQ(answer.body, "abc!");
  ASSERT_EQ(answer.trailers.size(), 1u);
  EXPECT_EQ(answer.trailers[0].first, "t");
}

TEST(Harness, EndsOfConnectionsAreTold) {
  FakeUpstream upstream([](Exchange& exchange) {
    if (exchange.request.target() == "/reset") {
      exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
      exchange.reset();
    } else {
      exchange.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
      exchange.close();
    }
  });
  EXPECT_EQ(http_get(upstream.port(), "/").body, "until the end");
  const HttpMessage broken = http_get(upstream.port(), "/reset");
  EXPECT_FALSE(broken.ok());
  EXPECT_TRUE(upstream.wait_for_open(0));
  EXPECT_FALSE(HttpClient(refused_port()).connected());
  upstream.stop_listening();
  EXPECT_FALSE(HttpClient(upstream.port()).connected());
}

TEST(Harness, AStallEndsByReleaseOrWhenThePeerGoes) {
  std::atomic<int> released = 0, gone = 0;
  FakeUpstream upstream([&](Exchange& exchange) { ++(exchange.stall() ? released : gone); });
  {
    HttpClient client(upstream.port());
    client.send(request_bytes("GET", "/"));
    ASSERT_TRUE(upstream.wait_for_requests(1));
  }
  EXPECT_TRUE(wait_until([&] { return gone == 1; }));
  HttpClient client(upstream.port());
  client.send(request_bytes("GET", "/"));
  ASSERT_TRUE(upstream.wait_for_requests(2));
  upstream.release();
  EXPECT_TRUE(wait_until([&] { return released == 1; }));
}

TEST(Harness, ProcessesAreSpawnedReadAndEnded) {
  Process echo({"sh", "-c", "echo port 123; echo to stderr >&2; exit 7"});
  EXPECT_EQ(echo.wait_for_output("port ([0-9]+)"), "123");
  EXPECT_EQ(echo.wait_exit(), 7);
  EXPECT_EQ(echo.wait_for_output("never"), std::nullopt);
  Process sleeper({"sleep", "1000"});
  EXPECT_TRUE(sleeper.running());
  sleeper.signal(SIGTERM);
  EXPECT_EQ(sleeper.wait_exit(), 128 + SIGTERM);
  EXPECT_FALSE(Process({"no-such-program-here"}).started());
}

}  // namespace
}  // namespace outrigger::test
