// TCP proxying and listener filters in the data plane: bytes, half-close, limits, which chain, whose address.
#include <thread>

#include "net/proxy_protocol.h"
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/socket.h"

namespace outrigger::proxy {
namespace {

using config::FilterChainSpec;
using config::ListenerFilterSpec;
using config::ListenerSpec;
using config::TcpProxySpec;
using test::ListenSocket;
using test::Socket;
using test::wait_until;

FilterChainSpec tcp_chain(std::vector<TcpProxySpec::Target> targets) {
  FilterChainSpec chain;
  chain.tcp.emplace();
  chain.tcp->stat_prefix = "t";
  chain.tcp->targets = std::move(targets);
  return chain;
}

ListenerSpec tcp_listener(const std::string& cluster = "up") {
  ListenerSpec spec = listener("main", "");
  spec.filter_chains = {tcp_chain({{cluster, 1}})};
  return spec;
}

class Tcp : public ::testing::Test {
 protected:
  void serve(ListenerSpec front = tcp_listener()) {
    plane.accept(static_cluster("up", upstream.port()));
    plane.update(std::move(front));
    ASSERT_NE(plane.port(), 0);
  }
  bool all_gone() {
    return wait_until([&] {
      size_t connections = 1;
      plane.run([&] { connections = plane.worker().downstream_connections(); });
      return connections == 0;
    });
  }
  bool counted(std::string_view name, uint64_t value) {
    return wait_until([&] { return plane.stat(name) == value; });
  }

  ListenSocket upstream;
  DataPlane plane;
};

TEST_F(Tcp, CarriesBytesBothWaysAndHalfClosesBothWays) {
  serve();
  for (const bool client_first : {true, false}) {
    Socket client = Socket::connect(plane.port());
    client.send("early");
    Socket host = upstream.accept();
    ASSERT_TRUE(host.valid());
    EXPECT_EQ(host.recv_exactly(5), "early");
    host.send("answer");
    EXPECT_EQ(client.recv_exactly(6), "answer");
    Socket& first = client_first ? client : host;
    Socket& second = client_first ? host : client;
    first.shutdown_write();
    EXPECT_EQ(second.recv_to_eof(), "");
    EXPECT_EQ(second.end(), Socket::End::kEof);
    second.send("still here");
    second.shutdown_write();
    EXPECT_EQ(first.recv_to_eof(), "still here");
  }
  EXPECT_TRUE(counted("tcp.t.downstream_cx_active", 0));
  EXPECT_EQ(plane.stat("tcp.t.downstream_cx_total"), 2u);
  EXPECT_EQ(plane.stat("tcp.t.downstream_cx_rx_bytes_total"), 5u + 5 + 10);
  EXPECT_EQ(plane.stat("tcp.t.downstream_cx_tx_bytes_total"), 6u + 6 + 10);
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_total"), 2u);
  EXPECT_TRUE(counted("cluster.up.upstream_cx_active", 0));
}

TEST_F(Tcp, AClientThatClosesBeforeTheHostIsThereIsServedAllTheSame) {
  serve();
  Socket client = Socket::connect(plane.port());
  client.send("all of it");
  client.shutdown_write();
  Socket host = upstream.accept();
  EXPECT_EQ(host.recv_to_eof(), "all of it");
  host.send("done");
  host.close();
  EXPECT_EQ(client.recv_to_eof(), "done");
}

TEST_F(Tcp, ASlowReaderStopsTheWriterAndLosesNothing) {
  ListenerSpec front = tcp_listener();
  front.per_connection_buffer_limit_bytes = 64 * 1024;
  serve(std::move(front));
  Socket client = Socket::connect_small(plane.port(), 4096, 4096);
  client.send("x");
  Socket host = upstream.accept();
  const std::string piece(1 << 20, 'p');
  std::atomic<size_t> sent = 0;
  std::thread writer([&] {
    for (int i = 0; i < 32; ++i) sent += host.send(piece);
    host.shutdown_write();
  });
  // The writer stands still long before all is sent.
  size_t before = SIZE_MAX;
  EXPECT_TRUE(wait_until([&] {
    const size_t now = sent;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return std::exchange(before, sent) == now && now == sent;
  }));
  EXPECT_LT(sent, size_t{24} << 20);
  EXPECT_EQ(client.drain_to_eof(), size_t{32} << 20);
  writer.join();
}

TEST_F(Tcp, ResetsAndRefusalsEndTheOtherSide) {
  serve();
  {
    Socket client = Socket::connect(plane.port());
    client.send("x");
    Socket host = upstream.accept();
    host.recv_exactly(1);
    host.reset();
    EXPECT_EQ(client.recv_to_eof(), "");
  }
  {
    Socket client = Socket::connect(plane.port());
    client.send("x");
    Socket host = upstream.accept();
    host.recv_exactly(1);
    client.reset();
    host.recv_to_eof();
  }
  plane.accept(static_cluster("up", test::refused_port()));
  ListenerSpec front = tcp_listener();
  front.filter_chains[0].tcp->max_connect_attempts = 3;
  plane.update(std::move(front));
  Socket client = Socket::connect(plane.port());
  EXPECT_EQ(client.recv_to_eof(), "");
  EXPECT_TRUE(counted("tcp.t.downstream_cx_active", 0));
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_connect_fail"), 3u);
  EXPECT_EQ(plane.stat("tcp.t.upstream_cx_connect_attempts_exceeded"), 1u);
}

TEST_F(Tcp, NoClusterNoHostNoRoom) {
  plane.accept(eds_cluster("empty"));
  plane.accept(endpoints("empty", {}));
  config::ClusterSpec full = static_cluster("full", upstream.port());
  full.max_connections = 1;
  plane.accept(std::move(full));
  plane.accept(static_cluster("up", upstream.port()));
  plane.update(tcp_listener("empty"));
  EXPECT_EQ(Socket::connect(plane.port()).recv_to_eof(), "");
  EXPECT_EQ(plane.stat("cluster.empty.upstream_cx_none_healthy"), 1u);
  plane.update(tcp_listener("full"));
  Socket one = Socket::connect(plane.port());
  Socket host = upstream.accept();
  EXPECT_EQ(Socket::connect(plane.port()).recv_to_eof(), "");
  EXPECT_EQ(plane.stat("cluster.full.upstream_cx_overflow"), 1u);
}

TEST_F(Tcp, WeightsChooseTheClusterAndLimitsEndConnections) {
  ListenSocket other;
  ListenerSpec front = tcp_listener();
  front.filter_chains[0].tcp->targets = {{"up", 1}, {"other", 3}};
  plane.accept(static_cluster("other", other.port()));
  serve(front);
  std::vector<Socket> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(Socket::connect(plane.port()));
  EXPECT_TRUE(wait_until([&] {
    return plane.stat("cluster.up.upstream_cx_total") + plane.stat("cluster.other.upstream_cx_total") == 200;
  }));
  EXPECT_GT(plane.stat("cluster.up.upstream_cx_total"), 20u);
  EXPECT_LT(plane.stat("cluster.up.upstream_cx_total"), 90u);
  for (Socket& client : clients) client.reset();
  EXPECT_TRUE(counted("tcp.t.downstream_cx_active", 0));  // before the limits that come now

  front.filter_chains[0].tcp->idle_timeout_ms = 100;
  plane.update(front);
  Socket idle = Socket::connect(plane.port());
  EXPECT_EQ(idle.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("tcp.t.idle_timeout"), 1u);
  front.filter_chains[0].tcp->idle_timeout_ms = 0;
  front.filter_chains[0].tcp->max_connection_duration_ms = 100;
  plane.update(front);
  EXPECT_EQ(Socket::connect(plane.port()).recv_to_eof(), "");
  EXPECT_EQ(plane.stat("tcp.t.max_downstream_connection_duration"), 1u);
}

TEST_F(Tcp, ConnectionsOutliveChangesAndTheirListener) {
  serve();
  Socket client = Socket::connect(plane.port());
  client.send("1");
  Socket host = upstream.accept();
  EXPECT_EQ(host.recv_exactly(1), "1");
  ListenerSpec front = tcp_listener();
  front.filter_chains[0].tcp->idle_timeout_ms = 77'000;
  plane.update(front);
  client.send("2");
  EXPECT_EQ(host.recv_exactly(1), "2");
  plane.remove(config::ResourceType::kListener, "main");
  plane.remove(config::ResourceType::kCluster, "up");
  plane.publish();
  client.send("3");
  EXPECT_EQ(host.recv_exactly(1), "3");
  client.close();
  EXPECT_EQ(host.recv_to_eof(), "");
  host.close();
  EXPECT_TRUE(all_gone());
}

// ---- listener filters

ListenerSpec with_filter(ListenerFilterSpec filter) {
  ListenerSpec spec = tcp_listener();
  spec.listener_filters = {filter};
  return spec;
}

// A ClientHello with only what is looked at.
std::string hello(const std::string& name) {
  const auto u16 = [](size_t n) { return std::string{static_cast<char>(n >> 8), static_cast<char>(n)}; };
  const std::string entry = std::string(1, '\0') + u16(name.size()) + name, list = u16(entry.size()) + entry;
  const std::string extension = u16(0) + u16(list.size()) + list;
  const std::string body = "\x03\x03" + std::string(32, 'r') + std::string(1, '\0') + u16(2) + "\x13\x01" +
                           std::string("\1\0", 2) + u16(extension.size()) + extension;
  const std::string message = std::string("\1\0", 2) + u16(body.size()) + body;
  return "\x16\x03\x01" + u16(message.size()) + message;
}

TEST_F(Tcp, TheServerNameChoosesTheChainAndNoByteIsLost) {
  ListenSocket named;
  plane.accept(static_cluster("named", named.port()));
  ListenerSpec front = with_filter({.kind = ListenerFilterSpec::Kind::kTlsInspector});
  FilterChainSpec chain = tcp_chain({{"named", 1}});
  chain.match.server_names = {"*.example.com"};
  chain.match.transport_protocol = "tls";
  front.filter_chains.push_back(chain);
  serve(std::move(front));

  for (const bool at_once : {true, false}) {
    Socket client = Socket::connect(plane.port());
    const std::string bytes = hello("a.example.com") + "and more";
    if (at_once) {
      client.send(bytes);
    } else {
      for (const char c : bytes) client.send({&c, 1});
    }
    Socket host = named.accept();
    ASSERT_TRUE(host.valid());
    EXPECT_EQ(host.recv_exactly(bytes.size()), bytes);
  }
  Socket plain = Socket::connect(plane.port());
  plain.send("GET /");
  Socket host = upstream.accept();
  EXPECT_EQ(host.recv_exactly(5), "GET /");
  EXPECT_EQ(plane.stat("tls_inspector.tls_found"), 2u);
  EXPECT_EQ(plane.stat("tls_inspector.sni_found"), 2u);
  EXPECT_EQ(plane.stat("tls_inspector.tls_not_found"), 1u);
}

TEST_F(Tcp, BadHellosAndTimeouts) {
  ListenerSpec front = with_filter({.kind = ListenerFilterSpec::Kind::kTlsInspector, .close_on_bad_hello = true});
  front.listener_filters_timeout_ms = 100;
  serve(front);
  Socket bad = Socket::connect(plane.port());
  bad.send(std::string("\x16\x03\x01\x00\x00", 5));
  EXPECT_EQ(bad.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("tls_inspector.client_hello_malformed"), 1u);
  Socket silent = Socket::connect(plane.port());
  EXPECT_EQ(silent.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("listener.main.downstream_pre_cx_timeout"), 1u);
  EXPECT_EQ(plane.stat("tcp.t.downstream_cx_total"), 0u);
  front.continue_on_listener_filters_timeout = true;
  plane.update(front);
  Socket half = Socket::connect(plane.port());
  half.send("\x16\x03");
  Socket host = upstream.accept();
  EXPECT_EQ(host.recv_exactly(2), "\x16\x03");
  EXPECT_EQ(plane.stat("listener.main.downstream_pre_cx_active"), 0u);
}

TEST_F(Tcp, ThePeerThatGoesDuringIntakeLeavesNothing) {
  serve(with_filter({.kind = ListenerFilterSpec::Kind::kTlsInspector}));
  Socket client = Socket::connect(plane.port());
  client.send("\x16");
  EXPECT_TRUE(counted("listener.main.downstream_pre_cx_active", 1));
  client.close();
  EXPECT_TRUE(counted("listener.main.downstream_pre_cx_active", 0));
}

TEST_F(Tcp, WhatIsInIntakeWhenItsListenerGoesIsServed) {
  serve(with_filter({.kind = ListenerFilterSpec::Kind::kTlsInspector}));
  Socket client = Socket::connect(plane.port());
  client.send("\x16");
  EXPECT_TRUE(counted("listener.main.downstream_pre_cx_active", 1));
  plane.remove(config::ResourceType::kListener, "main");
  plane.publish();
  client.send(hello("x").substr(1));
  Socket host = upstream.accept();
  ASSERT_TRUE(host.valid());
  EXPECT_EQ(host.recv_exactly(5), hello("x").substr(0, 5));
  client.close();
  host.close();
  EXPECT_TRUE(all_gone());
}

TEST_F(Tcp, AProxyHeaderTellsTheClientsAddress) {
  test::FakeUpstream http{[](test::Exchange& e) { e.respond(200, *e.request.header("x-forwarded-for")); }};
  plane.accept(static_cluster("http", http.port()));
  config::RouteTableSpec routes = all_to("http");
  plane.accept(std::move(routes));
  ListenerSpec front = listener("main", "t");
  front.filter_chains[0].hcm.use_remote_address = true;
  front.listener_filters = {{.kind = ListenerFilterSpec::Kind::kProxyProtocol}};
  serve(front);
  const std::string request = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
  for (const uint8_t version : {uint8_t{1}, uint8_t{2}}) {
    Buffer header;
    net::write_proxy_header(version, *net::Address::parse("203.0.113.7", 4), *net::Address::parse("10.0.0.1", 80),
                            header);
    test::HttpClient client(plane.port());
    client.send(header.to_string() + request);
    EXPECT_EQ(client.read_response().body, "203.0.113.7");
    // Only once for a connection.
    client.send(request);
    EXPECT_EQ(client.read_response().body, "203.0.113.7");
  }
  EXPECT_EQ(plane.stat("proxy_proto.versions.v1.found"), 1u);
  EXPECT_EQ(plane.stat("proxy_proto.versions.v2.found"), 1u);

  Socket without = Socket::connect(plane.port());
  without.send(request);
  EXPECT_EQ(without.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("proxy_proto.not_found_disallowed"), 1u);
  Socket bad = Socket::connect(plane.port());
  bad.send("PROXY TCP4 1.2.3.4 oops\r\n" + request);
  EXPECT_EQ(bad.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("proxy_proto.error"), 1u);

  front.listener_filters[0].header_required = false;
  front.listener_filters[0].takes_v1 = false;
  plane.update(front);
  EXPECT_EQ(test::http_get(plane.port(), "/").body, "127.0.0.1");
  Socket disallowed = Socket::connect(plane.port());
  disallowed.send("PROXY UNKNOWN\r\n" + request);
  EXPECT_EQ(disallowed.recv_to_eof(), "");
  EXPECT_EQ(plane.stat("proxy_proto.disallowed"), 1u);
}

// Listener filters tell addresses before a chain is chosen, so those choose it.
TEST_F(Tcp, TheAddressesOfAProxyHeaderChooseTheChain) {
  test::FakeUpstream one{[](test::Exchange& e) { e.respond(200, "one"); }};
  test::FakeUpstream other{[](test::Exchange& e) { e.respond(200, "other"); }};
  plane.accept(static_cluster("one", one.port()));
  plane.accept(static_cluster("other", other.port()));
  ListenerSpec front = listener("main", "t");
  front.listener_filters = {{.kind = ListenerFilterSpec::Kind::kProxyProtocol}};
  FilterChainSpec first = tcp_chain({{.cluster = "one"}});
  first.match.source_prefix_ranges = {{.prefix = "203.0.113.0", .length = 24}};
  FilterChainSpec second = tcp_chain({{.cluster = "other"}});
  second.match.prefix_ranges = {{.prefix = "10.9.0.0", .length = 16}};
  front.filter_chains = {first, second};
  serve(front);
  const auto answer = [&](const char* from, const char* to) {
    Buffer header;
    net::write_proxy_header(2, *net::Address::parse(from, 4), *net::Address::parse(to, 80), header);
    test::HttpClient client(plane.port());
    client.send(header.to_string() + "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    return client.read_response().body;
  };
  EXPECT_EQ(answer("203.0.113.7", "10.0.0.1"), "one");
  EXPECT_EQ(answer("198.51.100.7", "10.9.0.1"), "other");
}

}  // namespace
}  // namespace outrigger::proxy
