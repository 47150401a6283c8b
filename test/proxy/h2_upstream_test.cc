// HTTP/2 to the upstreams of a worker's data plane: pools, limits, refusals, and every pair of versions.
#include "proxy/data_plane.h"
#include "proxy/tls_specs.h"
#include "support/fake_upstream.h"
#include "support/h2_peer.h"
#include "support/http_client.h"
#include "support/tls_tunnel.h"

namespace outrigger::proxy {
namespace {

namespace h2 = test::h2;
using Upstream = config::ClusterSpec::Codec;
using Downstream = config::HcmSpec::Codec;
using test::Exchange;
using test::H2Peer;

config::ClusterSpec cluster_to(std::string name, uint16_t port, Upstream codec) {
  config::ClusterSpec cluster;
  cluster.name = std::move(name);
  cluster.codec = codec;
  config::EndpointSpec endpoint;
  endpoint.address = {.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = port};
  cluster.endpoints.endpoints.push_back(endpoint);
  return cluster;
}

config::RouteTableSpec table_to(std::string cluster, std::optional<config::RetryPolicySpec> retry = {}) {
  config::RouteSpec route;
  route.match.path = {.kind = config::PathMatchSpec::Kind::kPrefix, .value = "/"};
  config::ForwardSpec forward;
  forward.cluster = cluster;
  forward.retry = std::move(retry);
  route.action = forward;
  config::VirtualHostSpec host;
  host.name = "all";
  host.domains = {"*"};
  host.routes = {route};
  config::RouteTableSpec table;
  table.name = std::move(cluster);
  table.virtual_hosts = {host};
  return table;
}

config::ListenerSpec listener_with(std::string name, std::string table) {
  config::ListenerSpec listener;
  listener.name = std::move(name);
  listener.addresses = {{.kind = config::AddressSpec::Kind::kIp, .host = "127.0.0.1", .port = 0}};
  config::FilterChainSpec chain;
  chain.hcm.stat_prefix = listener.name;
  chain.hcm.rds_name = std::move(table);
  chain.hcm.enable_trailers = true;
  listener.filter_chains.push_back(chain);
  return listener;
}

class H2Upstream : public ::testing::Test {
 protected:
  void serve(const std::function<void(config::ClusterSpec&)>& more = {},
             std::optional<config::RetryPolicySpec> retry = {}) {
    config::ClusterSpec cluster = cluster_to("up", listener.port(), Upstream::kHttp2);
    if (more) more(cluster);
    plane.accept(cluster);
    plane.accept(table_to("up", std::move(retry)));
    plane.update(listener_with("main", "up"));
  }
  // The proxy's connection; it has been given SETTINGS.
  H2Peer accept(const std::string& settings = h2::settings()) {
    H2Peer peer(listener.accept());
    EXPECT_EQ(peer.socket.recv_exactly(24), h2::preface());
    peer.socket.send(settings + h2::frame(h2::kSettings, h2::kAck, 0));
    return peer;
  }
  H2Peer h2_client() {
    H2Peer client(test::Socket::connect(plane.port()));
    client.greet();
    return client;
  }

  test::ListenSocket listener;
  DataPlane plane;
};

TEST_F(H2Upstream, RequestsShareAConnection) {
  serve();
  test::HttpClient a(plane.port()), b(plane.port());
  a.send("GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_head(1));
  b.send("POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody");
  ASSERT_TRUE(peer.read_until([&] { return peer.reader.ended(3); }));
  EXPECT_EQ(peer.reader.find(h2::kHeaders, 1)->fields.rfind(":method=GET :authority=x :scheme=http :path=/a ", 0), 0u);
  EXPECT_EQ(peer.reader.find(h2::kHeaders, 1)->fields.find("connection="), std::string::npos);
  EXPECT_EQ(peer.reader.body(3), "body");
  peer.socket.send(h2::headers(3, {{":status", "201"}}) + h2::headers(1, {{":status", "200"}}, h2::kEndHeaders) +
                   h2::data(1, "hello", true));
  EXPECT_EQ(b.read_response().status(), 201);
  EXPECT_EQ(a.read_response().body, "hello");
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_total"), 1u);
  EXPECT_EQ(plane.stat("cluster.up.upstream_rq_completed"), 2u);
  EXPECT_TRUE(test::wait_until([&] { return plane.stat("cluster.up.http2.streams_active") == 0; }));
}

// RFC 7541 section 7.1.3: what its sender wants in no table is in none on the way on, cookies joined and bodies behind
// included.
TEST_F(H2Upstream, WhatIsNeverIndexedStaysSo) {
  serve();
  plane.update([] {
    config::ListenerSpec listener = listener_with("main", "up");
    listener.filter_chains[0].hcm.codec = Downstream::kHttp2;
    return listener;
  }());
  H2Peer client = h2_client();
  const auto never = [](std::string_view name, std::string_view value) {
    return std::string("\x10") + static_cast<char>(name.size()) + std::string(name) + static_cast<char>(value.size()) +
           std::string(value);
  };
  client.socket.send(h2::frame(h2::kHeaders, h2::kEndHeaders, 1,
                               h2::block(h2::request("POST", "/", {{"x-open", "1"}, {"cookie", "a=1"}})) +
                                   never("x-secret", "s") + never("cookie", "long-enough-to-be-indexed=b")) +
                     h2::data(1, "body") +
                     h2::frame(h2::kHeaders, h2::kEndStream | h2::kEndHeaders, 1, never("x-sum", "7")));
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_until([&] { return peer.reader.ended(1); }));
  EXPECT_EQ(peer.reader.find(h2::kHeaders, 1)->never, "cookie=a=1; long-enough-to-be-indexed=b x-secret=s");
  EXPECT_EQ(peer.reader.end_of(1)->never, "x-sum=7");
  peer.socket.send(h2::frame(h2::kHeaders, h2::kEndStream | h2::kEndHeaders, 1,
                             h2::block({{":status", "200"}, {"x-plain", "2"}}) + never("set-cookie", "c")));
  ASSERT_TRUE(client.read_head(1));
  EXPECT_EQ(client.reader.find(h2::kHeaders, 1)->never, "set-cookie=c");
}

// The second connection comes when the first has no room; requests wait where the cluster may have one only.
TEST_F(H2Upstream, StreamsAreBoundedByThePeerAndByMaxConnections) {
  serve([](config::ClusterSpec& cluster) { cluster.max_connections = 1; });
  test::HttpClient a(plane.port()), b(plane.port());
  a.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
  H2Peer peer = accept(h2::settings({{3, 1}}));
  ASSERT_TRUE(peer.read_until([&] {  // it knows the limit
    for (const h2::Frame& f : peer.reader.frames)
      if (f.type == h2::kSettings && f.flags == h2::kAck) return peer.reader.find(h2::kHeaders, 1) != nullptr;
    return false;
  }));
  b.send("GET /b HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_TRUE(test::wait_until([&] { return plane.stat("cluster.up.upstream_rq_pending_active") == 1; }));
  peer.socket.send(h2::headers(1, {{":status", "200"}}));
  EXPECT_EQ(a.read_response().status(), 200);
  ASSERT_TRUE(peer.read_head(3));
  peer.socket.send(h2::headers(3, {{":status", "201"}}));
  EXPECT_EQ(b.read_response().status(), 201);
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_total"), 1u);
}

TEST_F(H2Upstream, AFullConnectionGetsASecond) {
  serve([](config::ClusterSpec& cluster) { cluster.http2.max_concurrent_streams = 1; });
  test::HttpClient a(plane.port()), b(plane.port());
  a.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
  H2Peer first = accept();
  ASSERT_TRUE(first.read_head(1));
  b.send("GET /b HTTP/1.1\r\nhost: x\r\n\r\n");
  H2Peer second = accept();
  ASSERT_TRUE(second.read_head(1));
  second.socket.send(h2::headers(1, {{":status", "201"}}));
  EXPECT_EQ(b.read_response().status(), 201);
  first.socket.send(h2::headers(1, {{":status", "200"}}));
  EXPECT_EQ(a.read_response().status(), 200);
}

// More wait for a connection than it turns out to take: the others get one of their own.
TEST_F(H2Upstream, APeerThatTakesFewerThanExpected) {
  serve();
  H2Peer client = h2_client();
  client.socket.send(h2::headers(1, h2::get("/1")) + h2::headers(3, h2::get("/3")));
  H2Peer peer(listener.accept());
  peer.socket.send(h2::settings({{3, 0}}));
  ASSERT_EQ(peer.socket.recv_exactly(24), h2::preface());
  ASSERT_TRUE(peer.read_head(3));  // they were sent before the proxy knew
  peer.socket.send(h2::reset(1, 7) + h2::reset(3, 7));
  EXPECT_EQ(client.status(1), ":status=503");
  EXPECT_EQ(client.status(3), ":status=503");
}

TEST_F(H2Upstream, RefusedStreamsAreTriedAgain) {
  config::RetryPolicySpec retry;
  retry.retry_on = {"refused-stream"};
  retry.num_retries = 1;
  serve({}, retry);
  test::HttpClient client(plane.port());
  client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody");
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_until([&] { return peer.reader.ended(1); }));
  peer.socket.send(h2::reset(1, 7));
  ASSERT_TRUE(peer.read_until([&] { return peer.reader.ended(3); }));
  EXPECT_EQ(peer.reader.body(3), "body");
  peer.socket.send(h2::headers(3, {{":status", "200"}}));
  EXPECT_EQ(client.read_response().status(), 200);
}

// One GOAWAY: what it covers is answered on the old connection, what it does not goes to a new one.
TEST_F(H2Upstream, GoawayMovesOnToANewConnection) {
  config::RetryPolicySpec retry;
  retry.retry_on = {"refused-stream"};
  retry.num_retries = 1;
  serve({}, retry);
  H2Peer client = h2_client();
  client.socket.send(h2::headers(1, h2::get("/1")));
  H2Peer first = accept();
  ASSERT_TRUE(first.read_head(1));
  client.socket.send(h2::headers(3, h2::get("/3")));
  ASSERT_TRUE(first.read_head(3));
  first.socket.send(h2::frame(h2::kGoaway, h2::kNone, 0, h2::number(1) + h2::number(0)));
  H2Peer second = accept();
  ASSERT_TRUE(second.read_head(1));
  second.socket.send(h2::headers(1, {{":status", "203"}}));
  EXPECT_EQ(client.status(3), ":status=203");
  first.socket.send(h2::headers(1, {{":status", "201"}}));
  EXPECT_EQ(client.status(1), ":status=201");
  first.socket.recv_to_eof();  // it closes when its last stream has ended
  EXPECT_EQ(first.socket.end(), test::Socket::End::kEof);
  client.socket.send(h2::headers(5, h2::get("/5")));
  ASSERT_TRUE(second.read_head(3));
}

TEST_F(H2Upstream, ResetsAreTheirStreamsOnly) {
  serve();
  H2Peer client = h2_client();
  client.socket.send(h2::headers(1, h2::get("/1")) + h2::headers(3, h2::get("/3")) + h2::headers(5, h2::get("/5")));
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_head(5));
  client.socket.send(h2::reset(3, 8));
  ASSERT_TRUE(peer.read_until([&] { return peer.reader.code(3) == 8; }));
  peer.socket.send(h2::reset(1, 2));
  EXPECT_EQ(client.status(1), ":status=503");
  peer.socket.send(h2::headers(5, {{":status", "200"}}, h2::kEndHeaders) + h2::data(5, "half") + h2::reset(5, 2));
  client.head(5);
  EXPECT_EQ(client.reader.code(5), 2);
  EXPECT_FALSE(client.reader.ended(5));
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_destroy_remote"), 0u);
}

TEST_F(H2Upstream, ASlowClientHoldsItsStreamsWindowOnly) {
  serve();
  H2Peer slow = h2_client(), quick = h2_client();
  slow.socket.send(h2::headers(1, h2::get("/slow")));
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_head(1));
  // What the client's window, the buffers and the stream's window hold, and no more credit comes.
  peer.socket.send(h2::headers(1, {{":status", "200"}}, h2::kEndHeaders));
  size_t credit = 256 * 1024, sent = 0;
  const auto credited = [&] {
    size_t sum = 256 * 1024;
    for (const h2::Frame& f : peer.reader.frames)
      if (f.type == h2::kWindowUpdate && f.stream == 1) sum += f.code();
    return sum;
  };
  while (sent + 16'000 <= credit) {
    peer.socket.send(h2::data(1, std::string(16'000, 's')));
    sent += 16'000;
    peer.reader.feed(peer.socket.recv_some(65536, 20));
    credit = credited();
    ASSERT_LT(sent, 4u * 1024 * 1024) << "nothing stops it";
  }
  quick.socket.send(h2::headers(1, h2::get("/quick")));
  ASSERT_TRUE(peer.read_head(3));
  peer.socket.send(h2::headers(3, {{":status", "200"}}, h2::kEndHeaders) + h2::data(3, "quick", true));
  EXPECT_EQ(quick.status(1), ":status=200");
  // The client reads: all of it comes.
  slow.socket.send(h2::window(0, 8 << 20) + h2::window(1, 8 << 20));
  peer.socket.send(h2::data(1, "", true));
  EXPECT_EQ(slow.status(1), ":status=200");
  EXPECT_EQ(slow.reader.body(1).size(), sent);
}

TEST_F(H2Upstream, ConnectionsEndByAgeAndByRequests) {
  serve([](config::ClusterSpec& cluster) { cluster.max_requests_per_connection = 1; });
  test::HttpClient client(plane.port());
  for (int i = 0; i < 2; ++i) {
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    H2Peer peer = accept();
    ASSERT_TRUE(peer.read_head(1));
    peer.socket.send(h2::headers(1, {{":status", "200"}}));
    EXPECT_EQ(client.read_response().status(), 200);
    EXPECT_TRUE(peer.read_until([&] { return peer.reader.code(0) == 0; }));
  }
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_max_requests"), 2u);
  config::ClusterSpec aging = cluster_to("up", listener.port(), Upstream::kHttp2);
  aging.max_connection_duration_ms = 20;
  plane.update(aging);
  client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_head(1));
  EXPECT_TRUE(test::wait_until([&] { return plane.stat("cluster.up.upstream_cx_max_duration_reached") == 1; }));
  peer.socket.send(h2::headers(1, {{":status", "200"}}));  // its streams end first
  EXPECT_EQ(client.read_response().status(), 200);
  EXPECT_TRUE(peer.read_until([&] { return peer.reader.code(0) == 0; }));
}

TEST_F(H2Upstream, AnHttp1ServerIsNoAnswer) {
  serve();
  test::HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  test::Socket peer = listener.accept();
  peer.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(client.read_response().status(), 502);
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_protocol_error"), 1u);
}

// A cluster that changes its version in place: connections of the old one end after what they carry.
// use_downstream_protocol_config.
TEST_F(H2Upstream, TheClientsVersionIsSpokenToTheHost) {
  serve([](config::ClusterSpec& cluster) { cluster.codec = Upstream::kAsDownstream; });
  H2Peer http2 = h2_client();
  http2.socket.send(h2::headers(1, h2::get("/")));
  H2Peer peer = accept();
  ASSERT_TRUE(peer.read_head(1));
  peer.socket.send(h2::headers(1, {{":status", "204"}}));
  EXPECT_EQ(http2.status(1), ":status=204");
  test::HttpClient http1(plane.port());
  http1.send("GET /one HTTP/1.1\r\nhost: x\r\n\r\n");
  test::Socket other = listener.accept();
  EXPECT_EQ(test::read_head(other).target(), "/one");
  other.send("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(http1.read_response().status(), 204);
  // Each kind of connection is used again by its own.
  http2.socket.send(h2::headers(3, h2::get("/")));
  ASSERT_TRUE(peer.read_head(3));
  http1.send("GET /two HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_EQ(test::read_head(other).target(), "/two");
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_total"), 2u);
}

TEST_F(H2Upstream, TheVersionChangesInPlace) {
  serve();
  H2Peer client = h2_client();
  client.socket.send(h2::headers(1, h2::get("/1")));
  H2Peer old = accept();
  ASSERT_TRUE(old.read_head(1));
  plane.update(cluster_to("up", listener.port(), Upstream::kHttp1));
  client.socket.send(h2::headers(3, h2::get("/3")));
  test::Socket http1 = listener.accept();
  EXPECT_EQ(http1.recv_until("\r\n"), "GET /3 HTTP/1.1\r\n");
  http1.send("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(client.status(3), ":status=201");
  old.socket.send(h2::headers(1, {{":status", "200"}}));
  EXPECT_EQ(client.status(1), ":status=200");
  old.socket.recv_to_eof();
  EXPECT_EQ(old.socket.end(), test::Socket::End::kEof);
}

// Two proxies in a row in one worker: client -> "main" -> "hop" -> an HTTP/1.1 upstream, in the clear or with TLS.
class EveryPair : public ::testing::TestWithParam<std::tuple<bool, bool, bool>> {
 protected:
  bool http2_client() const { return std::get<0>(GetParam()); }
  bool tls() const { return std::get<2>(GetParam()); }
  void SetUp() override {
    plane.accept(cluster_to("end", upstream.port(), Upstream::kHttp1));
    plane.accept(table_to("end"));
    const auto serve = [&](const std::string& name, const std::string& table) {
      config::ListenerSpec listener = listener_with(name, table);
      if (tls()) listener.filter_chains[0].tls = server_tls({ca.issue(name, {"DNS:" + name + ".example"})});
      plane.update(listener);
    };
    serve("hop", "end");
    const bool http2 = std::get<1>(GetParam());
    config::ClusterSpec hop = cluster_to("hop", plane.port("hop"), http2 ? Upstream::kHttp2 : Upstream::kHttp1);
    if (tls()) {
      hop.tls = client_tls(ca.pem(), "hop.example");
      hop.tls->auto_sni_san_validation = true;
    }
    plane.accept(hop);
    plane.accept(table_to("hop"));
    serve("main", "hop");
  }
  test::Socket connect() {
    test::Socket socket = test::Socket::connect(plane.port());
    if (!tls()) return socket;
    tunnels.push_back(std::make_unique<test::TlsTunnel>(
        std::move(socket), test::TlsSettings{.trusted = ca.pem(), .alpn = {http2_client() ? "h2" : "http/1.1"}}));
    EXPECT_TRUE(tunnels.back()->open()) << tunnels.back()->error();
    return tunnels.back()->plain();
  }
  struct Answer {
    std::string status, body, trailer;
  };
  Answer ask(const std::string& method, const std::string& path, const std::string& body) {
    Answer out;
    if (!http2_client()) {
      test::HttpClient client(connect());
      client.send(method + " " + path + " HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: te\r\n" +
                  (body.empty() ? "" : "content-length: " + std::to_string(body.size()) + "\r\n") + "\r\n" + body);
      const test::HttpMessage response = client.read_response(method == "HEAD");
      out = {std::to_string(response.status()), response.body,
             response.trailers.empty() ? "" : response.trailers[0].second};
      return out;
    }
    H2Peer client(connect());
    client.socket.send(h2::preface() + h2::settings({{4, 8 << 20}}) + h2::window(0, 8 << 20) +
                       h2::headers(1, h2::request(method, path, {{"te", "trailers"}}),
                                   body.empty() ? h2::kEndStream | h2::kEndHeaders : h2::kEndHeaders));
    for (size_t at = 0; at < body.size(); at += 16'000) {
      client.socket.send(h2::data(1, std::string_view(body).substr(at, 16'000), at + 16'000 >= body.size()));
      if (at % 48'000 == 0) client.reader.feed(client.socket.recv_some(65536, 1));
    }
    const std::string head = client.head(1);
    out.status = head.size() < 11 ? "reset" : head.substr(8, 3);
    out.body = client.reader.body(1);
    const h2::Frame* const last = client.reader.end_of(1);
    if (last != nullptr && last->fields.rfind("x-sum=", 0) == 0) out.trailer = last->fields.substr(6);
    return out;
  }

  test::CertificateAuthority ca;
  test::FakeUpstream upstream;
  DataPlane plane;
  std::vector<std::unique_ptr<test::TlsTunnel>> tunnels;
};

TEST_P(EveryPair, BodiesTrailersHeadAndEarlyAnswers) {
  upstream.set_handler([](Exchange& e) {
    if (e.request.target() == "/trailers")
      e.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n");
    else if (e.request.method() == "HEAD")
      e.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
    else if (e.request.target() == "/204")
      e.send("HTTP/1.1 204 No Content\r\n\r\n");
    else if (e.request.target() == "/broken") {
      e.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
      e.close();
    } else
      e.respond(200, e.request.body.empty() ? "hello" : e.request.body);
  });
  EXPECT_EQ(ask("GET", "/", "").body, "hello");
  const std::string big(40'000, 'b');
  EXPECT_EQ(ask("POST", "/", big).body, big);
  const Answer trailers = ask("GET", "/trailers", "");
  EXPECT_EQ(trailers.body, "abc");
  EXPECT_EQ(trailers.trailer, "3");
  const Answer head = ask("HEAD", "/", "");
  EXPECT_EQ(head.status, "200");
  EXPECT_EQ(head.body, "");
  EXPECT_EQ(ask("GET", "/204", "").status, "204");
  if (http2_client()) {
    H2Peer client(connect());
    client.socket.send(h2::preface() + h2::settings() + h2::headers(1, h2::get("/broken")));
    client.head(1);
    EXPECT_FALSE(client.reader.ended(1));
    EXPECT_GE(client.reader.code(1), 0);
  } else {
    test::HttpClient client(connect());
    client.send("GET /broken HTTP/1.1\r\nhost: a.test\r\n\r\n");
    EXPECT_FALSE(client.read_response().ok());
  }
}

TEST_P(EveryPair, InterimHeadsPass) {
  upstream.set_handler([](Exchange& e) {
    e.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n");
    e.respond(200, "hello");
  });
  if (http2_client()) {
    H2Peer client(connect());
    client.socket.send(h2::preface() + h2::settings() + h2::headers(1, h2::get("/")));
    client.head(1);
    std::string heads;
    for (const h2::Frame& f : client.reader.frames)
      if (f.type == h2::kHeaders) heads += f.fields.substr(0, 22) + "; ";
    EXPECT_EQ(heads.substr(0, 48), ":status=103 link=</a>; :status=103 link=</b>; :s") << heads;
    EXPECT_EQ(client.reader.body(1), "hello");
    return;
  }
  test::HttpClient client(connect());
  client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
  for (const char* link : {"</a>", "</b>"}) {
    const test::HttpMessage hints = client.read_response();
    EXPECT_EQ(hints.status(), 103);
    EXPECT_EQ(hints.header("link"), link);
  }
  EXPECT_EQ(client.read_response().body, "hello");
}

TEST_P(EveryPair, TrailersOfRequestsPass) {
  if (http2_client()) {
    H2Peer client(connect());
    client.socket.send(h2::preface() + h2::settings() +
                       h2::headers(1, h2::request("POST", "/", {{"te", "trailers"}}), h2::kEndHeaders) +
                       h2::data(1, "abc") + h2::headers(1, {{"x-sum", "3"}}));
    EXPECT_EQ(client.status(1), ":status=200");
  } else {
    test::HttpClient client(connect());
    client.send(
        "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n");
    EXPECT_EQ(client.read_response().status(), 200);
  }
  const auto seen = upstream.requests();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].body, "abc");
  EXPECT_EQ(seen[0].trailers, (test::HttpMessage::Fields{{"x-sum", "3"}}));
}

// A client that goes takes its request along to the last hop, before an answer and within one.
TEST_P(EveryPair, AClientThatGoesCancelsItsRequestEverywhere) {
  upstream.set_handler([](Exchange& e) {
    if (e.request.target() == "/half") e.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
    e.stall();
  });
  for (const char* path : {"/none", "/half"}) {
    const bool half = std::string_view(path) == "/half";
    const size_t before = upstream.request_count();
    if (http2_client()) {
      H2Peer client(connect());
      client.socket.send(h2::preface() + h2::settings() + h2::headers(1, h2::get(path)));
      ASSERT_TRUE(upstream.wait_for_requests(before + 1));
      if (half) ASSERT_TRUE(client.read_until([&] { return client.reader.body(1) == "abc"; }));
      client.socket.send(h2::reset(1, 8));
      EXPECT_TRUE(upstream.wait_for_open(0));
    } else {
      test::HttpClient client(connect());
      client.send(std::string("GET ") + path + " HTTP/1.1\r\nhost: a.test\r\n\r\n");
      ASSERT_TRUE(upstream.wait_for_requests(before + 1));
      if (half) EXPECT_EQ(client.socket().recv_until("abc").substr(0, 15), "HTTP/1.1 200 OK");
      client.socket().close();
      tunnels.clear();
      EXPECT_TRUE(upstream.wait_for_open(0));
    }
  }
  EXPECT_EQ(plane.stat("cluster.end.upstream_rq_tx_reset"), 2u);
}

// An upstream that cannot be reached, and one that breaks off: the same to clients of either version.
TEST_P(EveryPair, BrokenUpstreamsHaveTheRightStatus) {
  upstream.set_handler([](Exchange& e) { e.reset(); });
  EXPECT_EQ(ask("GET", "/", "").status, "503");
  upstream.set_handler([](Exchange& e) {
    e.send("nonsense\r\n\r\n");
    e.close();
  });
  EXPECT_EQ(ask("GET", "/", "").status, "502");
  upstream.stop_listening();
  upstream.close_connections();
  EXPECT_EQ(ask("GET", "/", "").status, "503");
}

INSTANTIATE_TEST_SUITE_P(Versions, EveryPair,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) ? "H2" : "H1") +
                                  (std::get<1>(info.param) ? "ToH2" : "ToH1") +
                                  (std::get<2>(info.param) ? "OverTls" : "");
                         });

}  // namespace
}  // namespace outrigger::proxy
