// The test harness itself: what it tells of messages, connections and processes must be true.
#include <signal.h>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/wire_case.h"

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

TEST(Harness, CaseFilesAreReadAsTheirReadmeSays) {
  const WireCase wire_case = WireCase::parse(
      "# What it\n# proves.\n=== routes\n- match: {prefix: /}\n=== client sends\nGET / HTTP/1.1\n\n=== upstream "
      "refuses\n");
  EXPECT_EQ(wire_case.error, "");
  EXPECT_EQ(wire_case.title, "What it proves. ");
  ASSERT_EQ(wire_case.steps.size(), 1u);
  EXPECT_EQ(wire_case.steps[0].line, 5);
  EXPECT_EQ(case_bytes(wire_case.steps[0].text), "GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(wire_case.upstream_refuses);
  const std::string yaml = wire_case.bootstrap(81, "/log");
  EXPECT_NE(yaml.find("port_value: 81}"), std::string::npos);
  EXPECT_NE(yaml.find("path: /log"), std::string::npos);
  EXPECT_NE(yaml.find("              - match: {prefix: /}\n"), std::string::npos);
  for (const char* bad : {"=== client sends\nx\n", "# t\n=== client sings\n", "# t\n", "# t\nx\n=== client sends\n"}) {
    EXPECT_NE(WireCase::parse(bad).error, "") << bad;
  }
}

TEST(Harness, CaseBytes) {
  EXPECT_EQ(case_bytes("a\n\nb\\\n"), "a\r\n\r\nb");
  EXPECT_EQ(case_bytes("a\\x0a\\\\\n"), "a\n\\\r\n");
  EXPECT_EQ(case_bytes("a\\r\\n\\tb\\\n"), "a\r\n\tb");
  EXPECT_EQ(case_bytes("<${repeat x: y\\n 2}>\\\n"), "<x: y\nx: y\n>");
}

TEST(Harness, CaseExpectations) {
  HttpMessage message;
  message.start_line = "HTTP/1.1 200 OK";
  message.headers = {{"a", "1"}, {"b", "2"}, {"b", "3"}};
  message.trailers = {{"t", "4"}};
  message.body = "body";
  EXPECT_EQ(mismatch(message, "HTTP/1.1 200 OK\n"), "");
  EXPECT_EQ(mismatch(message, "/HTTP.* 200 .*/\nb: 2\nb: 3\na: /[0-9]/\n!c\ntrailer t: 4\n\nbody\\\n"), "");
  for (const char* wrong : {"HTTP/1.1 200\n", "/HTTP/\n", "HTTP/1.1 200 OK\na: 2\n", "HTTP/1.1 200 OK\nb: 2\n",
                            "HTTP/1.1 200 OK\nb: 3\nb: 2\n", "HTTP/1.1 200 OK\n!a\n", "HTTP/1.1 200 OK\nc: 1\n",
                            "HTTP/1.1 200 OK\ntrailer t: 5\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\n\nbody\n"}) {
    EXPECT_NE(mismatch(message, wrong), "") << wrong;
  }
  message.error = "reset in the body";
  EXPECT_EQ(mismatch(message, "HTTP/1.1 200 OK\n"), "reset in the body");
}

}  // namespace
}  // namespace outrigger::test
