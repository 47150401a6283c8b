// Debian's gRPC C++ library as client and server, with the program between them: all kinds of calls, statuses and
// deadlines, also through two hops of either version, in the clear and over mutual TLS; gRPC-Web by hand to the same
// server.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <tuple>

#include "support/certificates.h"
#include "support/grpc_peer.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

constexpr const char* kHttp2Cluster = R"(typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http2_protocol_options: {}}
)";
constexpr const char* kFilters = R"(- name: envoy.filters.http.grpc_web
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb}
- name: envoy.filters.http.grpc_stats
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig
    stats_for_all_methods: true
)";
constexpr const char* kRoutes = R"(- match: {path: /demo.Bytes/Denied}
  direct_response: {status: 403, body: {inline_string: "not you"}}
- match: {path: /demo.Bytes/FailsFirst}
  route: {cluster: upstream, retry_policy: {retry_on: unavailable}}
- match: {path: /demo.Bytes/Hangs, grpc: {}}
  route: {cluster: upstream, timeout: 0s, max_stream_duration: {grpc_timeout_header_max: 0s, grpc_timeout_header_offset: 0s}}
- match: {path: /demo.Bytes/Late}
  route: {cluster: upstream, max_stream_duration: {max_stream_duration: 0.05s}}
- match: {prefix: /demo.Bytes/}
  route: {cluster: upstream, timeout: 0s}
- match: {prefix: /empty/}
  route: {cluster: empty}
)";

class GrpcThroughTheProxy : public ::testing::Test {
 protected:
  void SetUp() override {
    WireCase config;
    config.config = {{"cluster", kHttp2Cluster},
                     {"clusters", "- name: empty\n  type: STATIC\n"},
                     {"filters", kFilters},
                     {"routes", kRoutes},
                     {"hcm", "http_protocol_options: {enable_trailers: true}\n"}};
    std::string yaml = config.bootstrap(service_.port(), dir_ / "log");
    const std::string code = "%RESPONSE_CODE% ";
    yaml.replace(yaml.find(code), code.size(), "%GRPC_STATUS% " + code);
    proxy_ = std::make_unique<ProxyProcess>(yaml);
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
    port_ = proxy_->listener_port("main");
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel("ipv4:127.0.0.1:" + std::to_string(port_), grpc::InsecureChannelCredentials(),
                                         arguments);
  }
  // A gRPC message on the wire.
  static std::string framed(const std::string& text, char flags = 0) {
    const auto size = static_cast<uint32_t>(text.size());
    std::string out(1, flags);
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(size >> shift);
    return out + text;
  }

  TempDir dir_;
  BytesService service_;
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t port_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
};

// Unary, small and large, and streaming each way and both.
void every_kind_of_call(const std::shared_ptr<grpc::Channel>& channel) {
  EXPECT_EQ(BytesCall(channel, "Echoes").unary("hello"), "hello");
  const std::string large(3'000'000, 'L');
  EXPECT_TRUE(BytesCall(channel, "Echoes").unary(large) == large);

  BytesCall up(channel, "Gathers");
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(up.write(std::string(i, 'u')));
  up.writes_done();
  EXPECT_EQ(up.read(), "500");
  EXPECT_TRUE(up.finish().ok());

  BytesCall down(channel, "Scatters");
  down.write(std::string(10'000, 'd'));
  down.writes_done();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(down.read().value_or("").size(), 10'000u);
  EXPECT_EQ(down.read(), std::nullopt);
  EXPECT_TRUE(down.finish().ok());

  BytesCall both(channel, "Echoes");
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(both.write(std::to_string(i)));
    ASSERT_EQ(both.read(), std::to_string(i));
  }
  both.writes_done();
  EXPECT_EQ(both.read(), std::nullopt);
  EXPECT_TRUE(both.finish().ok());
  EXPECT_EQ(both.context.GetServerTrailingMetadata().count("x-call"), 1u);
}

TEST_F(GrpcThroughTheProxy, EveryKindOfCall) {
  every_kind_of_call(channel_);
  EXPECT_EQ(proxy_->stat("cluster.upstream.grpc.demo.Bytes.Echoes.success"), 3u);
  EXPECT_EQ(proxy_->stat("cluster.upstream.grpc.demo.Bytes.Echoes.request_message_count"), 302u);
  EXPECT_EQ(proxy_->stat("cluster.upstream.grpc.demo.Bytes.Scatters.response_message_count"), 100u);
}

// From the client by way of a second listener, to which the hop speaks either version.
class GrpcHops : public ::testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  void SetUp() override {
    const auto [http2, tls] = GetParam();
    for (const char* name : {"main", "hop", "client"})
      certificates_.issue(name, {"DNS:" + std::string(name) + ".example"});
    const std::string socket = "{pipe: {path: " + (dir_ / "hop.sock") + "}}";
    std::string yaml = "static_resources:\n  listeners:\n";
    yaml += listener("main", "{socket_address: {address: 127.0.0.1, port_value: 0}}", "hop", tls);
    yaml += listener("hop", socket, "upstream", tls);
    yaml += "  clusters:\n" +
            cluster("upstream",
                    "{socket_address: {address: 127.0.0.1, port_value: " + std::to_string(service_.port()) + "}}", true,
                    false);
    yaml += cluster("hop", socket, http2, tls);
    proxy_ = std::make_unique<ProxyProcess>(yaml);
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetSslTargetNameOverride("main.example");
    const grpc::SslCredentialsOptions identity{.pem_root_certs = read_file(certificates_ / "ca.pem"),
                                               .pem_private_key = read_file(certificates_ / "client.key"),
                                               .pem_cert_chain = read_file(certificates_ / "client.pem")};
    channel_ =
        grpc::CreateCustomChannel("ipv4:127.0.0.1:" + std::to_string(proxy_->listener_port("main")),
                                  tls ? grpc::SslCredentials(identity) : grpc::InsecureChannelCredentials(), arguments);
  }
  std::string socket_of(const std::string& type, const std::string& name, const std::string& more) const {
    return "transport_socket: {name: tls, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3." +
           type + ", " + more + ", common_tls_context: {tls_certificates: [{certificate_chain: {filename: " +
           (certificates_ / (name + ".pem")) + "}, private_key: {filename: " + (certificates_ / (name + ".key")) +
           "}}], validation_context: {trusted_ca: {filename: " + (certificates_ / "ca.pem") + "}}" +
           (type[0] == 'D' ? ", alpn_protocols: [h2, http/1.1]" : "") + "}}}\n";
  }
  std::string listener(const std::string& name, const std::string& address, const std::string& to, bool tls) const {
    return "  - name: " + name + "\n    address: " + address +
           "\n    filter_chains:\n    - filters:\n      - name: hcm\n        typed_config:\n"
           "          \"@type\": type.googleapis.com/"
           "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n"
           "          stat_prefix: " +
           name +
           "\n          http_protocol_options: {enable_trailers: true}\n"
           "          route_config: {virtual_hosts: [{name: all, domains: [\"*\"], routes: [{match: {prefix: /}, "
           "route: "
           "{cluster: " +
           to +
           ", timeout: 0s}}]}]}\n          http_filters: [{name: router, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]\n" +
           (tls ? "      " + socket_of("DownstreamTlsContext", name, "require_client_certificate: true") : "");
  }
  std::string cluster(const std::string& name, const std::string& address, bool http2, bool tls) const {
    return "  - name: " + name + "\n    load_assignment: {cluster_name: " + name +
           ", endpoints: [{lb_endpoints: [{endpoint: {address: " + address + "}}]}]}\n" +
           (http2 ? "    typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: "
                    "{\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
                    "explicit_http_config: {http2_protocol_options: {}}}}\n"
                  : "") +
           (tls ? "    " + socket_of("UpstreamTlsContext", "client", "sni: hop.example, auto_sni_san_validation: true")
                : "");
  }

  TempDir dir_;
  Certificates certificates_{dir_.path().string()};
  BytesService service_;
  std::unique_ptr<ProxyProcess> proxy_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_P(GrpcHops, EveryKindOfCallAndStatus) {
  every_kind_of_call(channel_);
  EXPECT_EQ(BytesCall(channel_, "Fails").unary("x"), "5: nö such thing");
  // A cancelled call is cancelled at the server.
  const int before = service_.calls;
  BytesCall call(channel_, "Hangs");
  ASSERT_TRUE(call.write("x"));
  ASSERT_TRUE(wait_until([&] { return service_.calls == before + 1; }));
  call.context.TryCancel();
  EXPECT_EQ(call.finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(wait_until([&] { return service_.cancelled >= 1; }));
}

INSTANTIATE_TEST_SUITE_P(Versions, GrpcHops, ::testing::Combine(::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) ? "H2" : "H1") +
                                  (std::get<1>(info.param) ? "OverTls" : "");
                         });

TEST_F(GrpcThroughTheProxy, StatusesOfServersAndOfTheProxyItself) {
  EXPECT_EQ(BytesCall(channel_, "Fails").unary("x"), "5: nö such thing");
  EXPECT_EQ(BytesCall(channel_, "Denied").unary("x"), "7: not you");
  EXPECT_EQ(BytesCall(channel_, "../../empty/x").unary("x"), "14: no healthy upstream");
  EXPECT_EQ(BytesCall(channel_, "../../nowhere").unary("x").substr(0, 3), "12:");
  service_.calls = 0;
  EXPECT_EQ(BytesCall(channel_, "FailsFirst").unary("again"), "again");
  EXPECT_EQ(proxy_->stat("cluster.upstream.upstream_rq_retry"), 1u);
  EXPECT_TRUE(wait_until([&] {
    return read_file(dir_ / "log").rfind("NotFound 200 - via_upstream\nPermissionDenied 200 - direct_response\n", 0) ==
           0;
  })) << read_file(dir_ / "log");
}

TEST_F(GrpcThroughTheProxy, DeadlinesAndCancellation) {
  EXPECT_EQ(BytesCall(channel_, "Late").unary("x"), "4: downstream duration timeout");
  // The client's deadline: whoever is first, the upstream's call is cancelled.
  EXPECT_EQ(BytesCall(channel_, "Hangs", 100).unary("x").substr(0, 2), "4:");
  EXPECT_TRUE(wait_until([&] { return service_.cancelled >= 1; }));
  const int before = service_.cancelled;
  BytesCall call(channel_, "Hangs");
  ASSERT_TRUE(call.write("x"));
  ASSERT_TRUE(wait_until([&] { return service_.calls == 3; }));
  call.context.TryCancel();
  EXPECT_EQ(call.finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(wait_until([&] { return service_.cancelled > before; }));
}

TEST_F(GrpcThroughTheProxy, OverHttp1WhenTheClientCan) {
  HttpClient client(port_);
  const HttpMessage answer =
      client.request("POST", "/demo.Bytes/Echoes",
                     {{"host", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}}, framed("hi"));
  EXPECT_EQ(answer.status(), 200) << answer.error;
  EXPECT_EQ(answer.body, framed("hi"));
  const std::pair<std::string, std::string> status{"grpc-status", "0"};
  EXPECT_EQ(std::count(answer.trailers.begin(), answer.trailers.end(), status), 1);
}

TEST_F(GrpcThroughTheProxy, GrpcWebInBinary) {
  HttpClient client(port_);
  HttpMessage answer = client.request("POST", "/demo.Bytes/Echoes",
                                      {{"host", "x"}, {"content-type", "application/grpc-web+proto"}}, framed("hi"));
  EXPECT_EQ(answer.status(), 200) << answer.error;
  EXPECT_EQ(answer.header("content-type"), "application/grpc-web+proto");
  EXPECT_EQ(answer.body.substr(0, 7), framed("hi"));
  EXPECT_EQ(answer.body[7], '\x80');
  EXPECT_NE(answer.body.find("grpc-status:0\r\n", 12), std::string::npos);
  EXPECT_TRUE(answer.trailers.empty());

  answer = client.request("POST", "/demo.Bytes/Fails", {{"host", "x"}, {"content-type", "application/grpc-web"}});
  EXPECT_EQ(answer.header("grpc-status"), "5") << answer.raw_head;
  answer = client.request("POST", "/demo.Bytes/Denied", {{"host", "x"}, {"content-type", "application/grpc-web"}});
  EXPECT_EQ(answer.header("grpc-status"), "7");
  EXPECT_EQ(answer.header("content-type"), "application/grpc-web+proto");
  EXPECT_EQ(proxy_->stat("cluster.upstream.grpc.demo.Bytes.Echoes.success"), 1u);
}

TEST_F(GrpcThroughTheProxy, GrpcWebInText) {
  HttpClient client(port_);
  client.send(
      "POST /demo.Bytes/Echoes HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web-text\r\n"
      "accept: application/grpc-web-text\r\ntransfer-encoding: chunked\r\n\r\n");
  for (const char* piece : {"AAAAA", "AJ", "oa", "Q=="}) client.send(chunk(piece));  // framed("hi")
  client.send(chunk(""));
  const HttpMessage answer = client.read_response();
  EXPECT_EQ(answer.status(), 200) << answer.error;
  EXPECT_EQ(answer.header("content-type"), "application/grpc-web-text+proto");
  EXPECT_EQ(answer.body.substr(0, 12), "AAAAAAJoaQ==");
  EXPECT_EQ(answer.body.substr(12, 4), "gAAA");
  EXPECT_TRUE(wait_until([&] { return read_file(dir_ / "log").rfind("OK 200", 0) == 0; })) << read_file(dir_ / "log");
}

}  // namespace
}  // namespace outrigger::test
