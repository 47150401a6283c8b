// The PROXY protocol to hosts: what they are told, before TLS and before every version of HTTP, and that no connection
// serves two clients.
#include "net/proxy_protocol.h"
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;
using config::ProxyHeaderVersion;
using test::HttpClient;
using test::ListenSocket;
using test::Socket;
using test::wait_until;

struct Way {
  ProxyHeaderVersion version;
  bool tls, http2;
};

// client -> "main" -> header, TLS -> "hop" -> upstream, both listeners in one worker.
class ToAnotherProxy : public ::testing::TestWithParam<Way> {
 protected:
  void serve() {
    plane.accept(static_cluster("end", upstream.port()));
    config::RouteTableSpec end = all_to("end", "end");
    end.request_headers.add = {{.name = "x-client", .value = "%DOWNSTREAM_REMOTE_ADDRESS%"},
                               {.name = "x-wanted", .value = "%DOWNSTREAM_LOCAL_ADDRESS%"},
                               {.name = "x-peer", .value = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"}};
    plane.accept(end);
    config::ListenerSpec hop = listener("hop", "end");
    hop.listener_filters = {{.kind = config::ListenerFilterSpec::Kind::kProxyProtocol}};
    if (GetParam().tls) hop.filter_chains[0].tls = server_tls({server});
    plane.update(hop);
    ClusterSpec cluster = static_cluster("hop", plane.port("hop"));
    cluster.proxy_header = GetParam().version;
    if (GetParam().tls) cluster.tls = client_tls(ca.pem());
    if (GetParam().http2) cluster.codec = ClusterSpec::Codec::kHttp2;
    plane.accept(cluster);
    plane.accept(all_to("hop", "hop"));
    plane.update(listener("main", "hop"));
  }

  test::CertificateAuthority ca;
  test::Certificate server = ca.issue("server", {"IP:127.0.0.1"});
  test::FakeUpstream upstream{[](test::Exchange& e) { e.respond(200, *e.request.header("x-client")); }};
  DataPlane plane;
};

TEST_P(ToAnotherProxy, TellsWhoTheClientIs) {
  serve();
  HttpClient one(plane.port()), two(plane.port());
  const auto address = [](HttpClient& client) { return "127.0.0.1:" + std::to_string(client.socket().local_port()); };
  for (int round = 0; round < 3; ++round)
    for (HttpClient* client : {&one, &two}) EXPECT_EQ(client->get("/").body, address(*client));
  const auto requests = upstream.requests();
  ASSERT_EQ(requests.size(), 6u);
  EXPECT_EQ(requests[0].header("x-wanted"), "127.0.0.1:" + std::to_string(plane.port()));
  // The socket's own peer is the proxy, which is no client.
  EXPECT_NE(requests[0].header("x-peer"), requests[0].header("x-client"));
  EXPECT_EQ(requests[0].header("x-peer")->rfind("127.0.0.1:", 0), 0u);
  EXPECT_NE(requests[0].header("x-peer"), requests[1].header("x-peer"));  // not shared
  EXPECT_EQ(requests[0].header("x-peer"), requests[2].header("x-peer"));  // used again
  EXPECT_EQ(plane.stat("cluster.hop.upstream_cx_total"), 2u);
  // Whose client has gone serves nobody any more.
  one.socket().close();
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.hop.upstream_cx_active") == 1; }));
  EXPECT_EQ(two.get("/").body, address(two));
  two.socket().close();
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.hop.upstream_cx_active") == 0; }));
}

INSTANTIATE_TEST_SUITE_P(
    Ways, ToAnotherProxy,
    ::testing::Values(Way{ProxyHeaderVersion::kV1, false, false}, Way{ProxyHeaderVersion::kV2, false, false},
                      Way{ProxyHeaderVersion::kV1, true, false}, Way{ProxyHeaderVersion::kV2, true, false},
                      Way{ProxyHeaderVersion::kV2, false, true}, Way{ProxyHeaderVersion::kV2, true, true}),
    [](const auto& info) {
      return std::string(info.param.version == ProxyHeaderVersion::kV1 ? "V1" : "V2") +
             (info.param.tls ? "Tls" : "Plain") + (info.param.http2 ? "Http2" : "Http1");
    });

class ToAHost : public ::testing::Test {
 protected:
  void serve(ProxyHeaderVersion version, const std::function<void(config::RouteTableSpec&)>& more = {}) {
    tell(version);
    config::RouteTableSpec routes = all_to("up", "up");
    if (more) more(routes);
    plane.accept(routes);
    plane.accept(listener("main", "up"));
    config::ListenerSpec tcp = listener("tcp", "");
    tcp.filter_chains[0].tcp.emplace();
    tcp.filter_chains[0].tcp->stat_prefix = "t";
    tcp.filter_chains[0].tcp->targets = {{"up", 1}};
    plane.update(tcp);
  }
  void tell(ProxyHeaderVersion version) {
    ClusterSpec cluster = static_cluster("up", host.port());
    cluster.proxy_header = version;
    plane.update(cluster);
  }
  std::string line(uint16_t from, std::string_view listener) {
    return "PROXY TCP4 127.0.0.1 127.0.0.1 " + std::to_string(from) + " " + std::to_string(plane.port(listener)) +
           "\r\n";
  }

  ListenSocket host;
  DataPlane plane;
};

TEST_F(ToAHost, OfTcpConnections) {
  serve(ProxyHeaderVersion::kV1);
  Socket client = Socket::connect(plane.port("tcp"));
  Socket peer = host.accept();
  EXPECT_EQ(peer.recv_until("\r\n"), line(client.local_port(), "tcp"));
  client.send("hello");
  EXPECT_EQ(peer.recv_exactly(5), "hello");
  peer.send("bye");
  EXPECT_EQ(client.recv_exactly(3), "bye");
}

TEST_F(ToAHost, ChangesInPlace) {
  serve(ProxyHeaderVersion::kNone);
  const std::string answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
  HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  Socket old = host.accept();
  EXPECT_EQ(old.recv_until("\r\n"), "GET / HTTP/1.1\r\n");
  old.recv_until("\r\n\r\n");
  old.send(answer);
  EXPECT_EQ(client.read_response().status(), 200);

  tell(ProxyHeaderVersion::kV1);
  EXPECT_EQ(old.recv_to_eof(), "");  // it has told nothing
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  Socket told = host.accept();
  EXPECT_EQ(told.recv_until("\r\n"), line(client.socket().local_port(), "main"));
  told.recv_until("\r\n\r\n");
  told.send(answer);
  EXPECT_EQ(client.read_response().status(), 200);

  tell(ProxyHeaderVersion::kNone);
  EXPECT_EQ(told.recv_to_eof(), "");
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  Socket again = host.accept();
  EXPECT_EQ(again.recv_until("\r\n"), "GET / HTTP/1.1\r\n");
}

TEST_F(ToAHost, AHostThatGoesTakesThePoolsAlong) {
  serve(ProxyHeaderVersion::kV1);
  HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  Socket peer = host.accept();
  peer.recv_until("\r\n\r\n");
  ListenSocket other;
  ClusterSpec moved = static_cluster("up", other.port());
  moved.proxy_header = ProxyHeaderVersion::kV1;
  plane.update(moved);
  peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(client.read_response().status(), 200);
  EXPECT_EQ(peer.recv_to_eof(), "");
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  EXPECT_EQ(other.accept().recv_until("\r\n"), line(client.socket().local_port(), "main"));
}

// Nobody has asked for a copy.
TEST_F(ToAHost, CopiesTellNobody) {
  ListenSocket copies;
  ClusterSpec cluster = static_cluster("copies", copies.port());
  cluster.proxy_header = ProxyHeaderVersion::kV1;
  plane.accept(cluster);
  serve(ProxyHeaderVersion::kV1, [](config::RouteTableSpec& routes) { routes = mirrored(routes, {"copies"}); });
  HttpClient client(plane.port());
  client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
  EXPECT_EQ(copies.accept().recv_until("\r\n"), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(host.accept().recv_until("\r\n"), line(client.socket().local_port(), "main"));
}

}  // namespace
}  // namespace outrigger::proxy
