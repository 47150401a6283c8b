// HTTP/2 clients of a worker's data plane: codec_type, whole exchanges with an HTTP/1.1 upstream, draining.
#include <thread>

#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;
using Codec = config::HcmSpec::Codec;
using test::Exchange;

struct H2Client : test::H2Peer {
  explicit H2Client(uint16_t port) : H2Peer(test::Socket::connect(port)) {}
};

class H2Downstream : public ::testing::Test {
 protected:
  void serve(Codec codec = Codec::kAuto, const std::function<void(config::HcmSpec&)>& more = {}) {
    plane.accept(static_cluster("up", upstream.port()));
    plane.accept(all_to("up"));
    config::ListenerSpec front = listener("main", "t");
    config::HcmSpec& hcm = front.filter_chains[0].hcm;
    hcm.stat_prefix = "in";
    hcm.codec = codec;
    if (more) more(hcm);
    plane.update(front);
  }

  test::FakeUpstream upstream{
      [](Exchange& e) { e.respond(200, e.request.body.empty() ? "hello " + e.request.target() : e.request.body); }};
  DataPlane plane;
};

// Wide windows and an end that does not read: the socket is full, and whoever else is on the worker does not notice.
TEST_F(H2Downstream, AClientThatDoesNotReadStopsNobodyElse) {
  constexpr size_t kBody = 24 * 1024 * 1024;
  test::FakeUpstream large([](Exchange& e) { e.respond(200, std::string(kBody, 'x')); });
  serve();
  config::RouteTableSpec routes = all_to("up");
  config::RouteSpec to_large = routes.virtual_hosts[0].routes[0];
  to_large.match.path.value = "/large";
  std::get<config::ForwardSpec>(to_large.action).cluster = "large";
  routes.virtual_hosts[0].routes.insert(routes.virtual_hosts[0].routes.begin(), to_large);
  plane.accept(static_cluster("large", large.port()));
  plane.update(routes);
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::window(0, 2 * kBody) + h2::headers(1, h2::get("/large")) + h2::window(1, 2 * kBody));
  ASSERT_TRUE(large.wait_for_requests(1));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(client.status(1), ":status=200");
  EXPECT_EQ(client.reader.body(1).size(), kBody);
}

TEST_F(H2Downstream, TheFirstBytesChooseTheCodec) {
  serve();
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::headers(1, h2::get("/a")) + h2::headers(3, h2::get("/b")));
  EXPECT_EQ(client.status(1), ":status=200");
  EXPECT_EQ(client.status(3), ":status=200");
  EXPECT_EQ(client.reader.body(1), "hello /a");
  EXPECT_EQ(client.reader.body(3), "hello /b");
  EXPECT_EQ(test::http_get(plane.port(), "/c").body, "hello /c");
  // Requests that begin as the preface does.
  test::HttpClient put(plane.port());
  for (const char* piece : {"P", "RI", "VATE / HTTP/1.1\r\nhost: a\r\n\r\n"}) put.send(piece);
  EXPECT_EQ(put.read_response().status(), 200);
  EXPECT_EQ(upstream.requests().back().method(), "PRIVATE");
}

TEST_F(H2Downstream, CodecTypeExcludesTheOther) {
  serve(Codec::kHttp1);
  H2Client client(plane.port());
  client.socket.send(h2::preface());
  EXPECT_EQ(client.socket.recv_until("\r\n"), "HTTP/1.1 505 HTTP Version Not Supported\r\n");
  EXPECT_EQ(test::http_get(plane.port(), "/").status(), 200);
}

TEST_F(H2Downstream, Http2Only) {
  serve(Codec::kHttp2);
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::headers(1, h2::get("/")));
  EXPECT_EQ(client.status(1), ":status=200");
  test::Socket http1 = test::Socket::connect(plane.port());
  http1.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  EXPECT_EQ(http1.recv_to_eof().find("HTTP/1.1"), std::string::npos);
  EXPECT_EQ(upstream.requests().size(), 1u);
}

// The headers of an h2c upgrade end here; HTTP/1.1 is served.
TEST_F(H2Downstream, UpgradesToH2cAreNotTaken) {
  serve();
  test::HttpClient client(plane.port());
  client.send(
      "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: "
      "AAMAAABk\r\n\r\n");
  EXPECT_EQ(client.read_response().status(), 200);
  const test::HttpMessage seen = upstream.requests()[0];
  for (const char* name : {"upgrade", "http2-settings", "connection"})
    EXPECT_FALSE(seen.header(name).has_value()) << name;
}

TEST_F(H2Downstream, BodiesBothWaysWithinTheirWindows) {
  serve();
  H2Client client(plane.port());
  client.greet();
  const std::string big(200'000, 'b');
  client.socket.send(h2::headers(1, h2::request("POST", "/"), h2::kEndHeaders));
  for (size_t at = 0; at < big.size(); at += 16'000)
    client.socket.send(h2::data(1, std::string_view(big).substr(at, 16'000), at + 16'000 >= big.size()));
  client.read_until([&] { return client.reader.body(1).size() == 65'535; });
  client.socket.send(h2::window(0, 200'000) + h2::window(1, 200'000));
  EXPECT_EQ(client.status(1), ":status=200");
  EXPECT_EQ(client.reader.body(1), big);
}

TEST_F(H2Downstream, ACancelledStreamCancelsItsRequestOnly) {
  serve();
  upstream.set_handler([](Exchange& e) {
    if (e.request.target() == "/stall") e.stall();
    e.respond(200, "done");
  });
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::headers(1, h2::get("/stall")));
  ASSERT_TRUE(upstream.wait_for_requests(1));
  client.socket.send(h2::reset(1, 8) + h2::headers(3, h2::get("/other")));
  EXPECT_EQ(client.status(3), ":status=200");
  EXPECT_TRUE(test::wait_until([&] { return plane.stat("cluster.up.upstream_rq_tx_reset") == 1; }));
  EXPECT_EQ(plane.stat("http.in.http2.rx_reset"), 1u);
}

TEST_F(H2Downstream, LocalRepliesAndBrokenUpstreams) {
  serve();
  upstream.set_handler([](Exchange& e) {
    e.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
    e.close();
  });
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::headers(1, h2::get("/half")));
  client.head(1);
  EXPECT_EQ(client.reader.code(1), 2);  // INTERNAL_ERROR: never whole
  EXPECT_FALSE(client.reader.ended(1));
  upstream.stop_listening();
  upstream.close_connections();
  client.socket.send(h2::headers(3, h2::get("/gone")) + h2::headers(5, h2::request("GET", "/a%00b")));
  EXPECT_EQ(client.status(3), ":status=503");
  EXPECT_EQ(client.status(5), ":status=400");
}

// A connection of age says goodbye; what is under way is finished.
TEST_F(H2Downstream, ConnectionsEndAtTheirAge) {
  serve(Codec::kAuto, [](config::HcmSpec& hcm) { hcm.max_connection_duration_ms = 100; });
  upstream.set_handler([](Exchange& e) {
    e.stall();
    e.respond(200, "late");
  });
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::headers(1, h2::get("/")));
  test::HttpClient http1(plane.port());
  http1.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  EXPECT_TRUE(client.read_until([&] { return client.reader.code(0) >= 0; }));
  EXPECT_EQ(client.reader.code(0), 0);
  EXPECT_TRUE(test::wait_until([&] { return plane.stat("http.in.downstream_cx_max_duration_reached") == 2; }));
  upstream.release();
  EXPECT_EQ(client.status(1), ":status=200");
  const test::HttpMessage answer = http1.read_response();
  EXPECT_EQ(answer.body, "late");
  EXPECT_EQ(answer.header("connection"), "close");
  EXPECT_TRUE(http1.wait_closed());
}

TEST_F(H2Downstream, IdleConnectionsAndSlowPrefacesEnd) {
  serve(Codec::kAuto, [](config::HcmSpec& hcm) {
    hcm.idle_timeout_ms = 30;
    hcm.request_headers_timeout_ms = 30;
  });
  H2Client slow(plane.port());
  slow.socket.send(h2::preface().substr(0, 7));
  slow.socket.recv_to_eof();
  EXPECT_EQ(slow.socket.end(), test::Socket::End::kEof);
  EXPECT_EQ(plane.stat("http.in.downstream_rq_header_timeout"), 1u);
  H2Client idle(plane.port());
  idle.greet();
  idle.socket.send(h2::headers(1, h2::get("/")));
  EXPECT_EQ(idle.status(1), ":status=200");
  EXPECT_TRUE(idle.read_until([&] { return idle.reader.code(0) >= 0; }));
  EXPECT_EQ(idle.reader.code(0), 0);
  EXPECT_EQ(plane.stat("http.in.downstream_cx_idle_timeout"), 1u);
  // A head that does not become whole, beside a request.
  upstream.set_handler([](Exchange& e) { e.stall(); });
  H2Client head(plane.port());
  head.greet();
  head.socket.send(h2::headers(1, h2::get("/")) + h2::headers(3, h2::get("/"), h2::kEndStream));
  EXPECT_TRUE(head.read_until([&] { return head.reader.code(0) >= 0; }));
  EXPECT_EQ(plane.stat("http.in.downstream_rq_header_timeout"), 2u);
}

TEST_F(H2Downstream, DrainFinishesWhatIsUnderWay) {
  serve();
  upstream.set_handler([](Exchange& e) {
    if (e.request.target() == "/slow") e.stall();
    e.respond(200, "done");
  });
  H2Client client(plane.port());
  client.greet();
  client.socket.send(h2::headers(1, h2::get("/slow")));
  ASSERT_TRUE(upstream.wait_for_requests(1));
  std::atomic<bool> drained{false};
  plane.run([&] { plane.worker().drain(60'000, [&] { drained = true; }); });
  ASSERT_TRUE(client.read_until([&] { return client.reader.find(h2::kPing, 0) != nullptr; }));
  client.socket.send(h2::frame(h2::kPing, h2::kAck, 0, client.reader.find(h2::kPing, 0)->payload) +
                     h2::headers(3, h2::get("/late")));
  EXPECT_EQ(client.status(3), ":status=200");
  EXPECT_FALSE(drained.load());
  upstream.release();
  EXPECT_EQ(client.status(1), ":status=200");
  client.socket.recv_to_eof();
  client.socket.close();
  EXPECT_TRUE(test::wait_until([&] { return drained.load(); }));
}

}  // namespace
}  // namespace outrigger::proxy
