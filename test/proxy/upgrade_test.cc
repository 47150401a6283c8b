// Upgrades through a worker's data plane, over every pair of HTTP versions: who may, the handshake, bytes both ways,
// half-closes, resets, limits.
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tunnel_end.h"
#include "support/http_client.h"

namespace outrigger::proxy {
namespace {

using config::ForwardSpec;
using config::UpgradeSpec;

constexpr std::string_view kKey = "dGhlIHNhbXBsZSBub25jZQ==";  // RFC 6455 section 1.3
constexpr std::string_view kAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Pair {
  bool h2_client, h2_upstream;
};

class Upgrades : public ::testing::TestWithParam<Pair> {
 protected:
  void serve(std::vector<UpgradeSpec> hcm_upgrades = {{.type = "websocket"}},
             const std::function<void(ForwardSpec&, config::HcmSpec&)>& more = {}) {
    config::ClusterSpec cluster = static_cluster("up", listener_.port());
    cluster.codec = GetParam().h2_upstream ? config::ClusterSpec::Codec::kHttp2 : config::ClusterSpec::Codec::kHttp1;
    plane_.accept(cluster);
    config::RouteTableSpec routes = all_to("up");
    config::ListenerSpec front = listener("main", "t");
    config::HcmSpec& hcm = front.filter_chains[0].hcm;
    hcm.stat_prefix = "in";
    hcm.http2.allow_connect = true;
    hcm.upgrades = std::move(hcm_upgrades);
    if (more) more(std::get<ForwardSpec>(routes.virtual_hosts[0].routes[0].action), hcm);
    plane_.accept(routes);
    plane_.update(front);
  }

  // A client that has asked for `protocol`; its first bytes come at once.
  End ask(std::string_view early = {}, const std::string& protocol = "websocket") {
    Socket socket = Socket::connect(plane_.port());
    if (!GetParam().h2_client) {
      socket.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: " + protocol +
                  "\r\nsec-websocket-key: " + std::string(kKey) + "\r\nsec-websocket-version: 13\r\n\r\n" +
                  std::string(early));
      return End(std::move(socket));
    }
    H2Peer peer(std::move(socket));
    peer.greet();
    h2::Fields head = {{":method", "CONNECT"}, {":protocol", protocol}, {":scheme", "http"},
                       {":authority", "a"},    {":path", "/chat"},      {"sec-websocket-version", "13"}};
    peer.socket.send(h2::headers(1, head, h2::kEndHeaders));
    if (!early.empty()) peer.socket.send(h2::data(1, early));
    return End(std::move(peer), 1);
  }
  // The upstream's end, when it has been asked; the head is in request_.
  End asked() {
    Socket socket = listener_.accept();
    if (!GetParam().h2_upstream) {
      const test::HttpMessage head = test::read_head(socket);
      request_ = head.raw_head;
      key_ = head.header("sec-websocket-key").value_or("");
      EXPECT_EQ(head.header("upgrade"), "websocket");
      EXPECT_EQ(head.header("connection"), "upgrade");
      EXPECT_FALSE(head.header("transfer-encoding").has_value());
      return End(std::move(socket));
    }
    H2Peer peer(std::move(socket));
    EXPECT_EQ(peer.socket.recv_exactly(24), h2::preface());
    peer.socket.send(h2::settings({{8, 1}}) + h2::frame(h2::kSettings, h2::kAck, 0));
    EXPECT_TRUE(peer.read_head(1));
    request_ = peer.reader.find(h2::kHeaders, 1)->fields;
    EXPECT_EQ(request_.rfind(":method=CONNECT :protocol=websocket :authority=a :scheme=http :path=/chat ", 0), 0u)
        << request_;
    EXPECT_EQ(request_.find("sec-websocket-key"), std::string::npos);
    return End(std::move(peer), 1);
  }
  void accept(End& upstream) {
    if (GetParam().h2_upstream) {
      upstream.say_head(h2::headers(1, {{":status", "200"}, {"sec-websocket-protocol", "p"}}, h2::kEndHeaders));
    } else {
      upstream.say(
          "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
          "sec-websocket-protocol: p\r\n\r\n");
    }
  }
  // The client's head of the answer.
  void accepted(End& client) {
    const std::string head = client.take_head();
    EXPECT_NE(head.find("sec-websocket-protocol"), std::string::npos) << head;
    if (GetParam().h2_client) {
      EXPECT_EQ(head.rfind(":status=200 ", 0), 0u) << head;
      EXPECT_EQ(head.find("upgrade"), std::string::npos) << head;
      return;
    }
    EXPECT_EQ(head.rfind("HTTP/1.1 101 Switching Protocols\r\n", 0), 0u) << head;
    EXPECT_NE(head.find("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), std::string::npos) << head;
    EXPECT_NE(head.find("\r\nsec-websocket-accept: " + std::string(kAccept) + "\r\n"), std::string::npos) << head;
  }
  bool all_gone() {
    return test::wait_until([&] {
      return plane_.stat("http.in.downstream_rq_active") == 0 && plane_.stat("cluster.up.upstream_rq_active") == 0 &&
             plane_.stat("http.in.downstream_cx_upgrades_active") == 0;
    });
  }

  std::string request_, key_;
  test::ListenSocket listener_;
  DataPlane plane_;
};

TEST_P(Upgrades, BytesBothWaysAndTheClientEndsFirst) {
  serve();
  End client = ask("early ");
  End upstream = asked();
  if (!GetParam().h2_upstream) {
    EXPECT_EQ(key_.size(), 24u);  // made here if the client speaks HTTP/2
  }
  accept(upstream);
  accepted(client);
  bytes_both_ways(client, upstream);
  EXPECT_EQ(plane_.stat("http.in.downstream_cx_upgrades_active"), 1u);
  client_ends_first(client, upstream);
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(plane_.stat("http.in.downstream_cx_upgrades_total"), 1u);
}

TEST_P(Upgrades, TheUpstreamEndsFirst) {
  serve();
  End client = ask();
  End upstream = asked();
  accept(upstream);
  accepted(client);
  upstream_ends_first(client, upstream);
  EXPECT_TRUE(all_gone());
}

TEST_P(Upgrades, ResetsPass) {
  serve();
  for (const bool by_client : {true, false}) {
    End client = ask();
    End upstream = asked();
    accept(upstream);
    accepted(client);
    (by_client ? client : upstream).reset();
    EXPECT_TRUE((by_client ? upstream : client).hears_reset());
    EXPECT_TRUE(all_gone());
    if (GetParam().h2_upstream) return;  // its connection is shared and still there
  }
}

TEST_P(Upgrades, WhatTheRouteAndTheListenerDoNotListIsRefused) {
  serve({{.type = "other"}});
  End client = ask();
  EXPECT_NE(client.take_head().find("403"), std::string::npos);
  EXPECT_EQ(plane_.stat("http.in.downstream_rq_ws_on_non_ws_route"), 1u);
  EXPECT_EQ(plane_.stat("cluster.up.upstream_rq_total"), 0u);
}

TEST_P(Upgrades, TheRouteDecidesBeforeTheListener) {
  serve({{.type = "websocket", .enabled = false}, {.type = "other"}}, [](ForwardSpec& forward, config::HcmSpec&) {
    forward.upgrades = {{.type = "websocket"}, {.type = "other", .enabled = false}};
  });
  End client = ask({}, "WebSocket");
  End other = ask({}, "other");
  EXPECT_NE(other.take_head().find("403"), std::string::npos);
  if (!GetParam().h2_upstream) {
    Socket upstream = listener_.accept();
    EXPECT_EQ(test::read_head(upstream).header("upgrade"), "WebSocket");
  }
}

TEST_P(Upgrades, AnotherAnswerIsAnAnswer) {
  serve();
  End client = ask("never sent");
  End upstream = asked();
  if (GetParam().h2_upstream) {
    upstream.say_head(h2::headers(1, {{":status", "401"}}, h2::kEndHeaders | h2::kEndStream));
  } else {
    upstream.say("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
  }
  EXPECT_NE(client.take_head().find("401"), std::string::npos);
  EXPECT_TRUE(all_gone());
  EXPECT_EQ(upstream.heard(), "");
}

TEST_P(Upgrades, ExtendedConnectIsTakenOnlyWhereItIsAllowed) {
  if (!GetParam().h2_client) return;
  serve({{.type = "websocket"}}, [](ForwardSpec&, config::HcmSpec& hcm) { hcm.http2.allow_connect = false; });
  End client = ask();
  EXPECT_TRUE(client.hears_reset());
  EXPECT_FALSE(client.has_head());
  EXPECT_EQ(plane_.stat("cluster.up.upstream_rq_total"), 0u);
}

TEST_P(Upgrades, AnUpstreamThatDoesNotOfferThemIsNotAsked) {
  if (!GetParam().h2_upstream) return;
  serve();
  test::HttpClient other(plane_.port());
  other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  H2Peer peer(listener_.accept());
  ASSERT_EQ(peer.socket.recv_exactly(24), h2::preface());
  ASSERT_TRUE(peer.read_head(1));
  peer.socket.send(h2::settings() + h2::headers(1, {{":status", "200"}}));
  EXPECT_EQ(other.read_response().status(), 200);
  End client = ask();
  EXPECT_NE(client.take_head().find("503"), std::string::npos);
  other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  ASSERT_TRUE(peer.read_head(3));  // the connection is still good, and no stream was begun in between
}

// A reader that does not read holds its writer back, and memory stays bounded.
TEST_P(Upgrades, BackPressureBothWays) {
  serve();
  End client = ask();
  End upstream = asked();
  accept(upstream);
  accepted(client);
  // Of HTTP/1 the kernel's buffers are the most of it.
  const size_t most = GetParam().h2_client && GetParam().h2_upstream ? 4u << 20 : 64u << 20;
  for (End* writer : {&client, &upstream}) {
    size_t written = 0, size = 1;
    for (; size != 0 && written < most; written += size) size = writer->try_say(std::string(256 * 1024, 'x'));
    EXPECT_LT(written, most);
    End& reader = writer == &client ? upstream : client;
    reader.open(written);
    EXPECT_EQ(reader.hear(written).size(), written);
  }
}

TEST_P(Upgrades, AnIdleTunnelEnds) {
  serve({{.type = "websocket"}}, [](ForwardSpec& forward, config::HcmSpec&) { forward.idle_timeout_ms = 200; });
  End client = ask();
  End upstream = asked();
  accept(upstream);
  accepted(client);
  EXPECT_TRUE(client.hears_reset());
  EXPECT_TRUE(upstream.hears_reset());
  EXPECT_EQ(plane_.stat("http.in.downstream_rq_idle_timeout"), 1u);
}

// The route's timeout is not a tunnel's.
TEST_P(Upgrades, TunnelsOutliveTheRoutesTimeout) {
  serve({{.type = "websocket"}}, [](ForwardSpec& forward, config::HcmSpec& hcm) {
    forward.timeout_ms = 1;
    hcm.request_timeout_ms = 1;
    forward.max_stream_duration_ms = 150;
  });
  End client = ask();
  End upstream = asked();
  accept(upstream);
  accepted(client);
  EXPECT_TRUE(client.hears_reset());
  EXPECT_EQ(plane_.stat("http.in.downstream_rq_max_duration_reached"), 1u);
  EXPECT_EQ(plane_.stat("cluster.up.upstream_rq_timeout"), 0u);
}

INSTANTIATE_TEST_SUITE_P(Versions, Upgrades,
                         ::testing::Values(Pair{false, false}, Pair{false, true}, Pair{true, false}, Pair{true, true}),
                         [](const auto& info) {
                           return std::string(info.param.h2_client ? "h2" : "h1") + "_to_" +
                                  (info.param.h2_upstream ? "h2" : "h1");
                         });

}  // namespace
}  // namespace outrigger::proxy
