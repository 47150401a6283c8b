// CONNECT through a worker's data plane: on to another proxy over every pair of HTTP versions, and ended here.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "proxy/tunnel_end.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;
using config::ForwardSpec;
using config::ProxyHeaderVersion;
using config::UpgradeSpec;
using test::wait_until;

// What the route's table has besides the test's own.
class ConnectPlane {
 public:
  using More = std::function<void(ForwardSpec&, config::HcmSpec&, ClusterSpec&)>;
  void serve(ClusterSpec::Codec codec, std::vector<UpgradeSpec> upgrades, const More& more = {}) {
    ClusterSpec cluster = static_cluster("up", host.port());
    cluster.codec = codec;
    config::RouteTableSpec routes = table("t", {"up"});
    routes.virtual_hosts[0].routes[0].match.path = {.kind = config::PathMatchSpec::Kind::kConnect, .value = {}};
    auto& forward = std::get<ForwardSpec>(routes.virtual_hosts[0].routes[0].action);
    forward.upgrades = std::move(upgrades);
    config::ListenerSpec front = listener("main", "t");
    front.filter_chains[0].hcm.stat_prefix = "in";
    if (more) more(forward, front.filter_chains[0].hcm, cluster);
    for (const config::Spec& spec : std::initializer_list<config::Spec>{cluster, routes, front}) {
      plane.accept(spec);
    }
    plane.publish();
  }
  End ask(bool h2_client, std::string_view early = {}, const std::string& target = "far.example:443") {
    Socket socket = Socket::connect(plane.port());
    port = socket.local_port();
    if (!h2_client) {
      socket.send("CONNECT " + target + " HTTP/1.1\r\nhost: " + target + "\r\nx-mine: 1\r\n\r\n" + std::string(early));
      return End(std::move(socket));
    }
    H2Peer peer(std::move(socket));
    peer.greet();
    peer.socket.send(
        h2::headers(1, {{":method", "CONNECT"}, {":authority", target}, {"x-mine", "1"}}, h2::kEndHeaders));
    if (!early.empty()) peer.socket.send(h2::data(1, early));
    return End(std::move(peer), 1);
  }
  static std::string status_of(End& client) {
    const std::string head = client.take_head();
    return head.starts_with(":status=") ? head.substr(8, 3) : head.substr(9, 3);
  }
  bool all_gone() {
    return wait_until([&] {
      return plane.stat("http.in.downstream_rq_active") == 0 && plane.stat("cluster.up.upstream_rq_active") == 0 &&
             plane.stat("http.in.downstream_cx_upgrades_active") == 0;
    });
  }
  bool counted(std::string_view name, uint64_t value) {
    return wait_until([&] { return plane.stat(name) == value; });
  }

  uint16_t port = 0;  // of the client that has asked last
  test::ListenSocket host;
  DataPlane plane;
};

struct Pair {
  bool h2_client, h2_upstream;
};
class Forwarded : public ConnectPlane, public ::testing::TestWithParam<Pair> {
 protected:
  void serve(const More& more = {}) {
    ConnectPlane::serve(GetParam().h2_upstream ? ClusterSpec::Codec::kHttp2 : ClusterSpec::Codec::kHttp1,
                        {{.type = "connect"}}, more);
  }
  End ask(std::string_view early = {}) { return ConnectPlane::ask(GetParam().h2_client, early); }
  End asked() {
    Socket socket = host.accept();
    if (!GetParam().h2_upstream) {
      const std::string head = socket.recv_until("\r\n\r\n");
      EXPECT_EQ(head.rfind("CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n", 0), 0u) << head;
      for (const char* not_there : {"transfer-encoding", "content-length", "upgrade", "connection"})
        EXPECT_EQ(head.find(not_there), std::string::npos) << head;
      EXPECT_NE(head.find("x-mine: 1\r\n"), std::string::npos) << head;
      return End(std::move(socket));
    }
    H2Peer peer(std::move(socket));
    EXPECT_EQ(peer.socket.recv_exactly(24), h2::preface());
    peer.socket.send(h2::settings() + h2::frame(h2::kSettings, h2::kAck, 0));
    EXPECT_TRUE(peer.read_head(1));
    const std::string head = peer.reader.find(h2::kHeaders, 1)->fields;
    EXPECT_EQ(head.rfind(":method=CONNECT :authority=far.example:443 x-", 0), 0u) << head;
    for (const char* not_there : {":path", ":scheme", ":protocol"})
      EXPECT_EQ(head.find(not_there), std::string::npos) << head;
    return End(std::move(peer), 1);
  }
  void answer(End& upstream, const std::string& status) {
    if (GetParam().h2_upstream) {
      upstream.say_head(h2::headers(1, {{":status", status}, {"content-length", "5"}}, h2::kEndHeaders));
    } else {
      upstream.say("HTTP/1.1 " + status + " Whatever\r\ncontent-length: 5\r\n\r\n");
    }
  }
};

TEST_P(Forwarded, BytesBothWaysAndTheClientEndsFirst) {
  serve();
  End client = ask("early ");
  End upstream = asked();
  answer(upstream, "200");  // its length says nothing (RFC 9110 section 9.3.6)
  const std::string head = client.take_head();
  EXPECT_NE(head.find("200"), std::string::npos);
  EXPECT_EQ(head.find("content-length"), std::string::npos) << head;
  EXPECT_EQ(head.find("transfer-encoding"), std::string::npos) << head;
  EXPECT_EQ(head.find("connection"), std::string::npos) << head;
  bytes_both_ways(client, upstream);
  client_ends_first(client, upstream);
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(plane.stat("http.in.downstream_cx_upgrades_total"), 1u);
}

TEST_P(Forwarded, TheUpstreamEndsFirst) {
  serve();
  End client = ask();
  End upstream = asked();
  answer(upstream, "200");
  EXPECT_EQ(status_of(client), "200");
  upstream_ends_first(client, upstream);
  EXPECT_TRUE(all_gone());
}

TEST_P(Forwarded, ARefusalIsAnAnswer) {
  serve();
  End client = ask("never sent");
  End upstream = asked();
  answer(upstream, "407");
  upstream.say("sorry", GetParam().h2_upstream);
  EXPECT_EQ(status_of(client), "407");
  EXPECT_EQ(client.hear(5), "sorry");
  EXPECT_TRUE(GetParam().h2_client ? client.hears_end() || client.hears_reset() : client.hears_reset());
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(upstream.heard(), "");
  EXPECT_EQ(plane.stat("http.in.downstream_cx_upgrades_total"), 0u);
}

TEST_P(Forwarded, ResetsPass) {
  serve();
  for (const bool by_client : {true, false}) {
    End client = ask();
    End upstream = asked();
    answer(upstream, "200");
    EXPECT_EQ(status_of(client), "200");
    (by_client ? client : upstream).reset();
    EXPECT_TRUE((by_client ? upstream : client).hears_reset());
    EXPECT_TRUE(all_gone());
    if (GetParam().h2_upstream) return;  // its connection is shared and still there
  }
}

TEST_P(Forwarded, IdleTunnelsAndOldOnesEnd) {
  for (const bool idle : {true, false}) {
    serve([&](ForwardSpec& forward, config::HcmSpec&, ClusterSpec&) {
      forward.timeout_ms = 1;  // is no tunnel's
      if (idle) forward.idle_timeout_ms = 500;
      if (!idle) forward.max_stream_duration_ms = 500;
    });
    End client = ask();
    End upstream = asked();
    answer(upstream, "200");
    EXPECT_EQ(status_of(client), "200");
    EXPECT_TRUE(client.hears_reset());
    EXPECT_TRUE(upstream.hears_reset());
    EXPECT_EQ(plane.stat(idle ? "http.in.downstream_rq_idle_timeout" : "http.in.downstream_rq_max_duration_reached"),
              1u);
    if (GetParam().h2_upstream) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, Forwarded,
                         ::testing::Values(Pair{false, false}, Pair{false, true}, Pair{true, false}, Pair{true, true}),
                         [](const auto& info) {
                           return std::string(info.param.h2_client ? "h2" : "h1") + "_to_" +
                                  (info.param.h2_upstream ? "h2" : "h1");
                         });

class Ended : public ConnectPlane, public ::testing::TestWithParam<bool> {
 protected:
  void serve(const More& more = {}, ProxyHeaderVersion header = ProxyHeaderVersion::kNone) {
    ConnectPlane::serve(ClusterSpec::Codec::kHttp1, {{.type = "connect", .terminate = true, .proxy_header = header}},
                        more);
  }
  End ask(std::string_view early = {}) { return ConnectPlane::ask(GetParam(), early); }
};

TEST_P(Ended, ThePayloadIsTcpAndTheClientEndsFirst) {
  serve();
  End client = ask("early ");
  EXPECT_EQ(status_of(client), "200");
  End upstream{host.accept()};
  client.say("hello");
  EXPECT_EQ(upstream.hear(11), "early hello");
  upstream.say("answer");
  EXPECT_EQ(client.hear(6), "answer");
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_active"), 1u);
  client.say("bye", true);
  EXPECT_EQ(upstream.hear(14), "early hellobye");
  EXPECT_TRUE(upstream.hears_end());
  upstream.say("so long", true);
  EXPECT_EQ(client.hear(13), "answerso long");
  EXPECT_TRUE(client.hears_end());
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(counted("cluster.up.upstream_cx_active", 0));
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_total"), 1u);
}

TEST_P(Ended, TheHostEndsFirst) {
  serve();
  End client = ask();
  EXPECT_EQ(status_of(client), "200");
  End upstream{host.accept()};
  upstream_ends_first(client, upstream);
  EXPECT_TRUE(all_gone());
  EXPECT_TRUE(counted("cluster.up.upstream_cx_active", 0));
}

TEST_P(Ended, ResetsPass) {
  serve();
  for (const bool by_client : {true, false}) {
    End client = ask();
    EXPECT_EQ(status_of(client), "200");
    End upstream{host.accept()};
    (by_client ? client : upstream).reset();
    EXPECT_TRUE((by_client ? upstream : client).hears_reset());
    EXPECT_TRUE(all_gone());
    EXPECT_TRUE(counted("cluster.up.upstream_cx_active", 0));
  }
}

TEST_P(Ended, AHostThatIsNotThereIsA503AndNoRoomToo) {
  serve([](ForwardSpec&, config::HcmSpec&, ClusterSpec& cluster) { cluster.max_connections = 1; });
  End first = ask();
  EXPECT_EQ(status_of(first), "200");
  Socket held = host.accept();
  End second = ask();
  EXPECT_EQ(status_of(second), "503");
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_overflow"), 1u);
  first.reset();
  EXPECT_TRUE(counted("cluster.up.upstream_cx_active", 0));
  host.close();
  End third = ask();
  EXPECT_EQ(status_of(third), "503");
  EXPECT_EQ(plane.stat("cluster.up.upstream_cx_connect_fail"), 1u);
  EXPECT_TRUE(all_gone());
}

TEST_P(Ended, AHeaderTellsWhoTheClientIs) {
  serve([](ForwardSpec&, config::HcmSpec&, ClusterSpec& cluster) { cluster.proxy_header = ProxyHeaderVersion::kV1; },
        ProxyHeaderVersion::kV1);
  End client = ask("x");
  const std::string line =
      "PROXY TCP4 127.0.0.1 127.0.0.1 " + std::to_string(port) + " " + std::to_string(plane.port()) + "\r\n";
  // The connection's own, then the payload's.
  End upstream{host.accept()};
  EXPECT_EQ(upstream.hear(2 * line.size() + 1), line + line + "x");
}

TEST_P(Ended, ASlowHostStopsTheClientAndNothingIsLost) {
  serve([](ForwardSpec&, config::HcmSpec&, ClusterSpec& cluster) {
    cluster.per_connection_buffer_limit_bytes = 16 * 1024;
  });
  End client = ask();
  EXPECT_EQ(status_of(client), "200");
  Socket upstream = host.accept();
  const std::string much(GetParam() ? 60'000 : 512 * 1024, 'u');  // the window of HTTP/2 is never opened
  upstream.send(much);
  EXPECT_EQ(client.hear(much.size()).size(), much.size());
  if (GetParam()) return;
  const size_t sent = client.try_say(std::string(64 * 1024 * 1024, 'd'));
  EXPECT_LT(sent, size_t{32} * 1024 * 1024);
  EXPECT_EQ(upstream.recv_exactly(sent).size(), sent);
}

TEST_P(Ended, IdleTunnelsEnd) {
  serve([](ForwardSpec& forward, config::HcmSpec&, ClusterSpec&) { forward.idle_timeout_ms = 500; });
  End client = ask();
  EXPECT_EQ(status_of(client), "200");
  End upstream{host.accept()};
  EXPECT_TRUE(client.hears_reset());
  EXPECT_TRUE(upstream.hears_reset());
  EXPECT_EQ(plane.stat("http.in.downstream_rq_idle_timeout"), 1u);
}

// The worker's end does not wait for tunnels that are still closing.
TEST_P(Ended, AShutdownCutsTunnels) {
  serve();
  End client = ask();
  EXPECT_EQ(status_of(client), "200");
  Socket upstream = host.accept();
  plane.run([&] { plane.worker().shutdown(); });
  if (!GetParam()) EXPECT_TRUE(client.hears_reset());  // of HTTP/2 the connection ends
  EXPECT_EQ(upstream.recv_to_eof(), "");
  EXPECT_NE(upstream.end(), Socket::End::kTimeout);
}

TEST_P(Ended, WithoutAnEntryOrARouteItIsRefused) {
  ConnectPlane::serve(ClusterSpec::Codec::kHttp1, {});
  End no_entry = ask();
  EXPECT_EQ(status_of(no_entry), "403");
  ConnectPlane::serve(ClusterSpec::Codec::kHttp1, {{.type = "connect", .enabled = false}},
                      [](ForwardSpec&, config::HcmSpec& hcm, ClusterSpec&) { hcm.upgrades = {{.type = "connect"}}; });
  End switched_off = ask();
  EXPECT_EQ(status_of(switched_off), "403");
  EXPECT_EQ(plane.stat("http.in.downstream_rq_ws_on_non_ws_route"), 2u);
  // The listener takes it, and no route does: those with a path are none.
  config::RouteTableSpec routes = all_to("up");
  plane.update(routes);
  End no_route = ask();
  EXPECT_EQ(status_of(no_route), "404");
}

INSTANTIATE_TEST_SUITE_P(Clients, Ended, ::testing::Values(false, true),
                         [](const auto& info) { return info.param ? "h2" : "h1"; });

class EndedOverTls : public ConnectPlane, public ::testing::Test {};

// The hosts of a cluster with TLS are spoken to over it: the header of the cluster comes before, the route's inside.
TEST_F(EndedOverTls, GoesToAListenerOfOurs) {
  test::CertificateAuthority ca;
  config::ListenerSpec inner = listener("inner", "");
  inner.listener_filters = {{.kind = config::ListenerFilterSpec::Kind::kProxyProtocol}};
  inner.filter_chains[0].tls = server_tls({ca.issue("server", {"IP:127.0.0.1"})}, {});
  inner.filter_chains[0].tcp.emplace();
  inner.filter_chains[0].tcp->stat_prefix = "inner";
  inner.filter_chains[0].tcp->targets = {{"end", 1}};
  test::ListenSocket end;
  plane.accept(static_cluster("end", end.port()));
  plane.update(inner);
  serve(ClusterSpec::Codec::kHttp1, {{.type = "connect", .terminate = true, .proxy_header = ProxyHeaderVersion::kV1}},
        [&](ForwardSpec&, config::HcmSpec&, ClusterSpec& cluster) {
          cluster.endpoints.endpoints = {endpoint(plane.port("inner"))};
          cluster.proxy_header = ProxyHeaderVersion::kV2;
          cluster.tls = client_tls(ca.pem());
        });
  End client = ask(false, "hello");
  EXPECT_EQ(status_of(client), "200");
  Socket peer = end.accept();
  EXPECT_EQ(peer.recv_until("\r\n"),
            "PROXY TCP4 127.0.0.1 127.0.0.1 " + std::to_string(port) + " " + std::to_string(plane.port()) + "\r\n");
  EXPECT_EQ(peer.recv_exactly(5), "hello");
  EXPECT_EQ(plane.stat("cluster.up.ssl.handshake"), 1u);
}

// Has the route chosen again, by a header of its own.
class OtherRoute final : public Filter {
 public:
  explicit OtherRoute(StreamHandle& stream) : stream_(stream) {}
  Verdict on_request_headers(HeaderMap& headers, bool) override {
    headers.add("x-other", "1");
    stream_.clear_route();
    return Verdict::kContinue;
  }

 private:
  StreamHandle& stream_;
};
class OtherRouteConfig final : public FilterConfig {
 public:
  Filter* create(StreamHandle& stream) const override { return stream.arena().make<OtherRoute>(stream); }
};

class Rerouted : public ConnectPlane, public ::testing::Test {};

TEST_F(Rerouted, TheRouteThatIsTakenMustListIt) {
  config::RouteTableSpec routes = table("t", {"up", "up"});
  auto& other = routes.virtual_hosts[0].routes.at(0);
  auto& first = routes.virtual_hosts[0].routes.at(1);
  for (auto* route : {&other, &first}) route->match.path = {.kind = config::PathMatchSpec::Kind::kConnect, .value = {}};
  other.match.headers = {{.name = "x-other"}};
  std::get<ForwardSpec>(other.action).upgrades = {{.type = "connect", .enabled = false, .terminate = true}};
  std::get<ForwardSpec>(first.action).upgrades = {{.type = "connect"}};
  config::ListenerSpec front = listener("main", "t");
  front.filter_chains[0].hcm.stat_prefix = "in";
  config::HttpFilterSpec filter;
  filter.name = "other";
  filter.config.part = std::make_shared<OtherRouteConfig>();
  front.filter_chains[0].hcm.filters.push_back(std::move(filter));
  for (const config::Spec& spec :
       std::initializer_list<config::Spec>{static_cluster("up", host.port()), routes, front}) {
    plane.accept(spec);
  }
  plane.publish();
  End client = ask(false);
  EXPECT_EQ(status_of(client), "403");
  EXPECT_TRUE(counted("http.in.downstream_rq_ws_on_non_ws_route", 1));
}

}  // namespace
}  // namespace outrigger::proxy
