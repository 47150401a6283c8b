// Socket options, keepalive, connection limits, the PROXY protocol that is sent.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

constexpr std::string_view kListener = R"("@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: ingress
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
filter_chains:
- filters:
  - name: tcp
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: t
      cluster: c
)";
constexpr std::string_view kLimit = R"(  - name: limit
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit
      stat_prefix: few
      max_connections: 3
      delay: 0.5s
)";
constexpr std::string_view kCluster = R"("@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: c
type: STATIC
)";

template <class Spec>
Spec good(const std::string& yaml) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_EQ(out.faults.str(), "") << yaml;
  return out.spec ? std::get<Spec>(*out.spec) : Spec();
}

void bad(const std::string& yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}

std::string listener(std::string_view lines) { return std::string(kListener) + std::string(lines); }
std::string cluster(std::string_view lines) { return std::string(kCluster) + std::string(lines); }
// The listener with `lines` before its tcp_proxy.
std::string limited(std::string_view lines) {
  return with(kListener, "- filters:\n", "- filters:\n" + std::string(lines));
}

using Family = SocketOption::Family;

TEST(Sockets, OfListeners) {
  const auto spec = good<ListenerSpec>(listener(R"(tcp_keepalive: {keepalive_probes: 5, keepalive_time: 60}
tcp_fast_open_queue_length: 16
max_connections_to_accept_per_socket_event: 3
socket_options:
- {description: why, level: 6, name: 9, int_value: 2, state: STATE_LISTENING}
- {level: 0, name: 1, int_value: 184}
- {level: 6, name: 18, int_value: 30000, ip_version: SOCKET_IP_VERSION_IPV6}
- {level: 1, name: 12, int_value: 6}
)"));
  EXPECT_EQ(spec.max_accepts_per_event, 3u);
  const std::vector<SocketOption> expected = {
      {SOL_SOCKET, SO_KEEPALIVE, 1, Family::kAny, "tcp_keepalive"},
      {IPPROTO_TCP, TCP_KEEPCNT, 5, Family::kAny, "tcp_keepalive.keepalive_probes"},
      {IPPROTO_TCP, TCP_KEEPIDLE, 60, Family::kAny, "tcp_keepalive.keepalive_time"},
      {IPPROTO_TCP, TCP_FASTOPEN, 16, Family::kAny, "tcp_fast_open_queue_length"},
      {IPPROTO_TCP, TCP_DEFER_ACCEPT, 2, Family::kAny, "socket_options[0]"},
      {IPPROTO_IP, IP_TOS, 184, Family::kV4, "socket_options[1]"},
      {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000, Family::kV6, "socket_options[2]"},
      {SOL_SOCKET, SO_PRIORITY, 6, Family::kAny, "socket_options[3]"},
  };
  EXPECT_EQ(spec.socket_options, expected);
  EXPECT_TRUE(good<ListenerSpec>(std::string(kListener)).socket_options.empty());
}

TEST(Sockets, OfClusters) {
  const auto spec = good<ClusterSpec>(cluster(R"(upstream_connection_options: {tcp_keepalive: {keepalive_interval: 7}}
upstream_bind_config: {socket_options: [{level: 6, name: 18, int_value: 5000}]}
)"));
  const std::vector<SocketOption> expected = {
      {SOL_SOCKET, SO_KEEPALIVE, 1, Family::kAny, "upstream_connection_options.tcp_keepalive"},
      {IPPROTO_TCP, TCP_KEEPINTVL, 7, Family::kAny, "upstream_connection_options.tcp_keepalive.keepalive_interval"},
      {IPPROTO_TCP, TCP_USER_TIMEOUT, 5000, Family::kAny, "upstream_bind_config.socket_options[0]"},
  };
  EXPECT_EQ(spec.socket_options, expected);
}

TEST(Sockets, WhatCannotBeSetIsRefusedByItsPath) {
  bad(listener(R"(max_connections_to_accept_per_socket_event: 0
tcp_fast_open_queue_length: 3000000000
tcp_keepalive: {keepalive_probes: 200, keepalive_time: 0}
socket_options:
- {level: 1, name: 15, int_value: 1}
- {level: 6, name: 9}
- {level: 6, name: 9, int_value: 3000000000}
- {level: 6, name: 23, int_value: 1}
- {level: 1, name: 9, int_value: 0, ip_version: SOCKET_IP_VERSION_IPV4}
- {level: 1, name: 12, int_value: 7}
)"),
      {{"max_connections_to_accept_per_socket_event", "at least 1"},
       {"tcp_fast_open_queue_length", "at most 2147483647"},
       {"tcp_keepalive.keepalive_probes", "from 1 to 127"},
       {"tcp_keepalive.keepalive_time", "from 1 to 32767"},
       {"socket_options[0]", "level 1, name 15 is not supported; these are: SO_KEEPALIVE (1, 9)"},
       {"socket_options[1].int_value", "is required"},
       {"socket_options[2].int_value", "32 bits"},
       {"socket_options[3]", "TCP_FASTOPEN, which is set already"},
       {"socket_options[4]", "SO_KEEPALIVE, which is set already"},
       {"socket_options[5].int_value", "is 7, must be from 0 to 6: more needs a privilege"}});
  bad(with(listener("tcp_keepalive: {}\n"), "{socket_address: {address: 127.0.0.1, port_value: 8080}}",
           "{pipe: {path: /a}}"),
      {{"tcp_keepalive", "is of TCP sockets"}});
  bad(cluster("upstream_bind_config: {socket_options: [{level: 1, name: 12, int_value: -1}]}\n"),
      {{"upstream_bind_config.socket_options[0].int_value", "is -1, must be from 0 to 6"}});
  // What only a listening socket can use.
  bad(cluster("upstream_bind_config: {socket_options: [{level: 6, name: 9, int_value: 1}]}\n"),
      {{"upstream_bind_config.socket_options[0]", "not supported"}});
  bad(listener("socket_options: [{level: 6, name: 9, buf_value: AQ==}]\n"),
      {{"socket_options[0].buf_value", ""}, {"socket_options[0].int_value", "is required"}});
}

TEST(Sockets, ConnectionLimits) {
  const auto spec = good<ListenerSpec>(limited(kLimit));
  ASSERT_TRUE(spec.filter_chains.at(0).connection_limit);
  EXPECT_EQ(*spec.filter_chains[0].connection_limit,
            (ConnectionLimitSpec{.stat_prefix = "few", .max_connections = 3, .delay_ms = 500}));
  EXPECT_TRUE(spec.filter_chains[0].tcp);

  const std::string at = "filter_chains[0].filters";
  bad(limited(with(with(kLimit, "stat_prefix: few", "stat_prefix: ''"), "max_connections: 3", "max_connections: 0")),
      {{at + "[0].typed_config.stat_prefix", "must not be empty"},
       {at + "[0].typed_config.max_connections", "at least 1"}});
  bad(limited(with(kLimit, "      max_connections: 3\n", "")),
      {{at + "[0].typed_config.max_connections", "is required"}});
  bad(limited(std::string(kLimit) + std::string(kLimit)), {{at + "[1]", "there twice"}});
  bad(listener(kLimit), {{at + "[0]", "must be the last"}, {at + "[1]", "must come before another"}});
  bad(limited(with(kLimit, "delay: 0.5s", "runtime_enabled: {default_value: true}")),
      {{at + "[0].typed_config.runtime_enabled", ""}});
}

TEST(Sockets, ProxyProtocolToHosts) {
  constexpr std::string_view kSocket = R"(transport_socket:
  name: envoy.transport_sockets.upstream_proxy_protocol
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
    config: {version: V2}
    transport_socket: {name: envoy.transport_sockets.raw_buffer}
)";
  EXPECT_EQ(good<ClusterSpec>(std::string(kCluster)).proxy_header, ProxyHeaderVersion::kNone);
  EXPECT_EQ(good<ClusterSpec>(cluster(kSocket)).proxy_header, ProxyHeaderVersion::kV2);
  EXPECT_FALSE(good<ClusterSpec>(cluster(kSocket)).tls);
  EXPECT_EQ(good<ClusterSpec>(cluster(with(kSocket, "{version: V2}", "{}"))).proxy_header, ProxyHeaderVersion::kV1);
  const std::string tls =
      R"({name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: a.test}})";
  const auto both = good<ClusterSpec>(cluster(with(kSocket, "{name: envoy.transport_sockets.raw_buffer}", tls)));
  EXPECT_EQ(both.proxy_header, ProxyHeaderVersion::kV2);
  ASSERT_TRUE(both.tls);
  EXPECT_EQ(both.tls->sni, "a.test");

  const std::string at = "transport_socket.typed_config";
  bad(cluster(with(kSocket, "    transport_socket: {name: envoy.transport_sockets.raw_buffer}\n", "")),
      {{at + ".transport_socket", "is required"}});
  bad(cluster(with(kSocket, "{name: envoy.transport_sockets.raw_buffer}", "{name: other}")),
      {{at + ".transport_socket.typed_config", "is required"}});
  bad(cluster(with(kSocket, "{version: V2}", "{version: V2, pass_through_tlvs: {}}")),
      {{at + ".config.pass_through_tlvs", ""}});
}

}  // namespace
}  // namespace outrigger::config::testing
