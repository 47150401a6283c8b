// Listeners, filter chains, connection managers, HTTP filters, access logs.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "config/format.h"
#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

constexpr std::string_view kListener = R"("@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: ingress
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
filter_chains:
- name: main
  filters:
  - name: http
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: in
      rds: {route_config_name: local, config_source: {ads: {}}}
      http_filters:
      - name: limit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: lim
      - name: router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
)";
constexpr std::string_view kHcm = "filter_chains[0].filters[0].typed_config.";
constexpr std::string_view kPrefix = "      stat_prefix: in\n";

std::string at_hcm(std::string_view field) { return std::string(kHcm) + std::string(field); }

// The listener with `lines` (indented by six) added to its connection manager.
std::string with_hcm(std::string_view lines) {
  return with(kListener, kPrefix, std::string(kPrefix) + std::string(lines));
}

ListenerSpec good(Loader& loader, std::string_view yaml) {
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_EQ(out.faults.str(), "");
  EXPECT_TRUE(out.spec);
  return out.spec ? std::get<ListenerSpec>(*out.spec) : ListenerSpec{};
}
ListenerSpec good(std::string_view yaml) {
  Loader loader;
  return good(loader, yaml);
}

void bad(std::string_view yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}

TEST(Listener, Defaults) {
  Loader loader;
  const TranslatedResource out = loader.resource(kListener);
  ASSERT_TRUE(out.spec) << out.faults.str();
  EXPECT_EQ(out.type, ResourceType::kListener);
  EXPECT_EQ(out.name, "ingress");
  EXPECT_FALSE(out.bytes.empty());
  const auto& spec = std::get<ListenerSpec>(*out.spec);
  ASSERT_EQ(spec.addresses.size(), 1u);
  EXPECT_EQ(spec.addresses[0], (AddressSpec{.host = "127.0.0.1", .port = 8080}));
  EXPECT_EQ(spec.per_connection_buffer_limit_bytes, 1024u * 1024);
  ASSERT_EQ(spec.filter_chains.size(), 1u);
  EXPECT_EQ(spec.filter_chains[0].name, "main");
  const HcmSpec& hcm = spec.filter_chains[0].hcm;
  HcmSpec expected;
  expected.stat_prefix = "in";
  expected.rds_name = "local";
  expected.filters = hcm.filters;
  EXPECT_EQ(hcm, expected);
  ASSERT_EQ(hcm.filters.size(), 1u);
  EXPECT_EQ(hcm.filters[0].name, "limit");
  EXPECT_EQ(static_cast<const NotedConfig&>(*hcm.filters[0].config.part).note, "listener/ingress/main/limit lim");
}

TEST(Listener, EveryFieldOfTheListener) {
  const auto spec = good(with(kListener, "filter_chains:", R"(additional_addresses:
- address: {pipe: {path: "@abstract", mode: 0644}}
- address: {socket_address: {address: "::1", port_value: 0}}
per_connection_buffer_limit_bytes: 4096
tcp_backlog_size: 7
enable_reuse_port: true
stat_prefix: x
traffic_direction: INBOUND
drain_type: MODIFY_ONLY
metadata: {filter_metadata: {a: {b: c}}}
default_filter_chain:
  filters:
  - name: http
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: other
      route_config: {name: inline}
      http_filters: {name: router, typed_config: {"@type": envoy.extensions.filters.http.router.v3.Router}}
filter_chains:)"));
  ASSERT_EQ(spec.addresses.size(), 3u);
  EXPECT_EQ(spec.addresses[1], (AddressSpec{.kind = AddressSpec::Kind::kPipe, .host = "@abstract", .mode = 0644}));
  EXPECT_EQ(spec.addresses[2], (AddressSpec{.host = "::1", .port = 0}));
  EXPECT_EQ(spec.per_connection_buffer_limit_bytes, 4096u);
  EXPECT_EQ(spec.tcp_backlog_size, 7u);
  ASSERT_TRUE(spec.default_filter_chain);
  ASSERT_TRUE(spec.default_filter_chain->hcm.route_table);
  EXPECT_EQ(spec.default_filter_chain->hcm.route_table->name, "inline");
}

TEST(Listener, FilterChainMatch) {
  const auto spec = good(with(kListener, "- name: main\n", R"(- name: main
  filter_chain_match:
    destination_port: 8080
    prefix_ranges: {address_prefix: 10.1.2.3, prefix_len: 8}
    source_prefix_ranges: [{address_prefix: "fe80::1", prefix_len: 10}, {address_prefix: 0.0.0.0}]
    direct_source_prefix_ranges: {address_prefix: 127.0.0.1, prefix_len: 32}
    source_type: EXTERNAL
    source_ports: [1, 65535]
    transport_protocol: raw_buffer
  transport_socket:
    name: envoy.transport_sockets.raw_buffer
    typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}
)"));
  const FilterChainMatchSpec& match = spec.filter_chains[0].match;
  EXPECT_EQ(match.destination_port, 8080u);
  EXPECT_EQ(match.prefix_ranges, (std::vector<CidrSpec>{{"10.0.0.0", 8}}));
  EXPECT_EQ(match.source_prefix_ranges, (std::vector<CidrSpec>{{"fe80::", 10}, {"0.0.0.0", 0}}));
  EXPECT_EQ(match.direct_source_prefix_ranges, (std::vector<CidrSpec>{{"127.0.0.1", 32}}));
  EXPECT_EQ(match.source_type, FilterChainMatchSpec::SourceType::kExternal);
  EXPECT_EQ(match.source_ports, (std::vector<uint32_t>{1, 65535}));
}

TEST(Listener, Mistakes) {
  bad(with(kListener, "name: ingress\n", ""), {{"name", "must not be empty"}});
  bad(with(kListener, "address: {socket_address: {address: 127.0.0.1, port_value: 8080}}\n", ""),
      {{"address", "is required"}});
  bad(with(kListener, "127.0.0.1", "localhost"),
      {{"address.socket_address.address", "is not an IPv4 or IPv6 address"}});
  bad(with(kListener, "8080", "65536"), {{"address.socket_address.port_value", "at most 65535"}});
  bad(with(kListener, ", port_value: 8080", ""), {{"address.socket_address.port_value", "is required"}});
  bad(with(kListener, "{socket_address: {address: 127.0.0.1, port_value: 8080}}", "{}"),
      {{"address", "needs socket_address or pipe"}});
  bad(with(kListener, "{socket_address: {address: 127.0.0.1, port_value: 8080}}", "{pipe: {path: '', mode: 01000}}"),
      {{"address.pipe.path", "must not be empty"}, {"address.pipe.mode", "at most 0o777"}});
  bad(with(kListener, "filter_chains:",
           R"(additional_addresses: [{address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}]
per_connection_buffer_limit_bytes: 0
tcp_backlog_size: 0
enable_reuse_port: false
api_listener: {}
filter_chains:)"),
      {{"api_listener", "gRPC clients"}});
  bad(with(kListener, "filter_chains:",
           R"(additional_addresses: [{address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}]
per_connection_buffer_limit_bytes: 0
tcp_backlog_size: 0
enable_reuse_port: false
filter_chains:)"),
      {{"additional_addresses[0]", "has already"},
       {"per_connection_buffer_limit_bytes", "at least 1"},
       {"tcp_backlog_size", "from 1"},
       {"enable_reuse_port", "cannot be switched off"}});
  bad(R"("@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 8080}})",
      {{"filter_chains", "at least one filter chain"}});
}

// A listener with this filter, instead of the connection manager.
std::string with_network_filter(std::string_view filter, std::string_view more = {}) {
  return "\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\nname: l\n"
         "address: {socket_address: {address: 127.0.0.1, port_value: 8080}}\n" +
         std::string(more) + "filter_chains:\n- filters:\n  - name: tcp\n    typed_config: " + std::string(filter) +
         "\n";
}
constexpr std::string_view kTcp = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
constexpr std::string_view kFilters = "type.googleapis.com/envoy.extensions.filters.listener.";

TEST(Listener, TcpProxy) {
  const ListenerSpec one = good(with_network_filter(
      R"({"@type": envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c, idle_timeout: 0s,
          max_connect_attempts: 3, max_downstream_connection_duration: 60s,
          access_log: [{name: log, typed_config: {"@type": envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}]})"));
  ASSERT_TRUE(one.filter_chains.at(0).tcp);
  const TcpProxySpec& tcp = *one.filter_chains[0].tcp;
  EXPECT_EQ(tcp.targets, (std::vector<TcpProxySpec::Target>{{"c", 1}}));
  EXPECT_EQ(tcp.idle_timeout_ms, 0u);
  EXPECT_EQ(tcp.max_connect_attempts, 3u);
  EXPECT_EQ(tcp.max_connection_duration_ms, 60'000u);
  EXPECT_EQ(tcp.access_logs.size(), 1u);
  EXPECT_TRUE(one.listener_filters.empty());
  const ListenerSpec weighted = good(with_network_filter(
      R"({"@type": envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t,
          weighted_clusters: {clusters: [{name: a, weight: 2}, {name: b, weight: 3}]}})"));
  EXPECT_EQ(weighted.filter_chains.at(0).tcp->targets, (std::vector<TcpProxySpec::Target>{{"a", 2}, {"b", 3}}));
  EXPECT_EQ(weighted.filter_chains[0].tcp->idle_timeout_ms, 3'600'000u);

  const std::string at = "filter_chains[0].filters[0].typed_config.";
  bad(with_network_filter("{\"@type\": " + std::string(kTcp) + ", idle_timeout: 1s, max_connect_attempts: 0}"),
      {{at + "stat_prefix", "must not be empty"},
       {at + "cluster", "is required (or weighted_clusters)"},
       {at + "max_connect_attempts", "at least 1"}});
  bad(with_network_filter("{\"@type\": " + std::string(kTcp) +
                          ", stat_prefix: t, weighted_clusters: {clusters: [{weight: 1}, {name: b}, {name: b, weight: "
                          "1}]}}"),
      {{at + "weighted_clusters.clusters[0].name", "must not be empty"},
       {at + "weighted_clusters.clusters[1].weight", "at least 1"},
       {at + "weighted_clusters.clusters[2].name", "named twice"}});
}

TEST(Listener, ListenerFilters) {
  const std::string tcp = "{\"@type\": " + std::string(kTcp) + ", stat_prefix: t, cluster: c}";
  const auto filter = [](std::string_view type, std::string_view more = {}) {
    return "{name: f, typed_config: {\"@type\": " + std::string(kFilters) + std::string(type) + std::string(more) +
           "}}";
  };
  const std::string inspector = filter("tls_inspector.v3.TlsInspector"),
                    proxy = filter("proxy_protocol.v3.ProxyProtocol"), original = filter("original_dst.v3.OriginalDst");
  using Kind = ListenerFilterSpec::Kind;
  const ListenerSpec all = good(with_network_filter(
      tcp, "listener_filters: [" + original + ", " +
               filter("proxy_protocol.v3.ProxyProtocol",
                      ", allow_requests_without_proxy_protocol: true, disallowed_versions: [V1]") +
               ", " +
               filter("tls_inspector.v3.TlsInspector", ", close_connection_on_client_hello_parsing_errors: true") +
               "]\nlistener_filters_timeout: 2s\ncontinue_on_listener_filters_timeout: true\n"));
  EXPECT_EQ(all.listener_filters, (std::vector<ListenerFilterSpec>{
                                      {.kind = Kind::kOriginalDst},
                                      {.kind = Kind::kProxyProtocol, .header_required = false, .takes_v1 = false},
                                      {.kind = Kind::kTlsInspector, .close_on_bad_hello = true}}));
  EXPECT_EQ(all.listener_filters_timeout_ms, 2'000u);
  EXPECT_TRUE(all.continue_on_listener_filters_timeout);

  // Who chooses by what only the inspector sees gets one.
  const ListenerSpec implied = good(
      with(with_network_filter(tcp), "- filters:", "- filter_chain_match: {server_names: [Shop.Example]}\n  filters:"));
  EXPECT_EQ(implied.listener_filters, (std::vector<ListenerFilterSpec>{{.kind = Kind::kTlsInspector}}));
  EXPECT_EQ(implied.filter_chains[0].match.server_names, (std::vector<std::string>{"shop.example"}));

  bad(with_network_filter(tcp, "listener_filters: [" + inspector + ", " + proxy + ", " + proxy + "]\n"),
      {{"listener_filters[1]", "must come before the TLS inspector"},
       {"listener_filters[2]", "is there twice"},
       {"listener_filters[2]", "must come before the TLS inspector"}});
  bad(with_network_filter(tcp,
                          "listener_filters: [{name: f}, {typed_config: {\"@type\": envoy.config.core.v3.Node}}, " +
                              filter("proxy_protocol.v3.ProxyProtocol", ", disallowed_versions: [V1, V2]") + "]\n"),
      {{"listener_filters[0].typed_config", "is required"},
       {"listener_filters[1].name", "must not be empty"},
       {"listener_filters[1].typed_config", "is not a listener filter that this program has"},
       {"listener_filters[2].typed_config.disallowed_versions", "leaves none"}});
}

TEST(Listener, FilterChainMistakes) {
  bad(with(kListener, "- name: main\n", R"(- name: main
  filter_chain_match:
    destination_port: 0
    prefix_ranges: [{address_prefix: nowhere}, {address_prefix: 10.0.0.0, prefix_len: 33}]
    source_ports: [0, 65536]
    server_names: [a.example, "*", "a.*"]
    application_protocols: [h2, ""]
    transport_protocol: quic
  transport_socket:
    name: tls
    typed_config: {"@type": type.googleapis.com/envoy.config.core.v3.Node}
)"),
      {{"filter_chains[0].filter_chain_match.destination_port", "from 1 to 65535"},
       {"filter_chains[0].filter_chain_match.prefix_ranges[0].address_prefix", "is not an IPv4"},
       {"filter_chains[0].filter_chain_match.prefix_ranges[1].prefix_len", "at most 32"},
       {"filter_chains[0].filter_chain_match.source_ports[0]", "from 1 to 65535"},
       {"filter_chains[0].filter_chain_match.source_ports[1]", "from 1 to 65535"},
       {"filter_chains[0].filter_chain_match.server_names[1]", "neither a host name"},
       {"filter_chains[0].filter_chain_match.server_names[2]", "neither a host name"},
       {"filter_chains[0].filter_chain_match.application_protocols[1]", "from 1 to 255 bytes"},
       {"filter_chains[0].filter_chain_match.transport_protocol", "\"quic\" is not supported"},
       {"filter_chains[0].transport_socket.typed_config", "type envoy.config.core.v3.Node is not supported"}});
  bad(with(kListener, "- name: main\n", R"(- name: main
  transport_socket:
    name: tls
    typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext}
)"),
      {{"filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates", "needs at least one"}});

  const std::string hcm =
      R"(typed_config: {"@type": envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: a, route_config: {}, http_filters: {name: r, typed_config: {"@type": envoy.extensions.filters.http.router.v3.Router}}})";
  const std::string chain = "- name: main\n  filters: {name: http, " + hcm + "}\n";
  bad(std::string(kListener) + chain,
      {{"filter_chains[1].name", "also the name of filter_chains[0]"},
       {"filter_chains[1].filter_chain_match", "is the same as that of filter_chains[0]"}});
  bad(with(
          kListener, "filter_chains:\n",
          "default_filter_chain:\n  name: main\n  filter_chain_match: {destination_port: 1}\n  filters: {name: http, " +
              hcm + "}\nfilter_chains:\n"),
      {{"default_filter_chain.filter_chain_match", "must be empty"}, {"default_filter_chain.name", "also the name"}});
  const std::string head = R"("@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
filter_chains:
)";
  bad(head + "- {}\n", {{"filter_chains[0].filters", "needs a last filter"}});
  bad(head + "- filters: [{name: a}]\n", {{"filter_chains[0].filters[0].typed_config", "is required"}});
  bad(head + "- filters: [{name: '', " + hcm + "}, {name: b, " + hcm + "}]\n",
      {{"filter_chains[0].filters[0].name", "must not be empty"},
       {"filter_chains[0].filters[0]", "must be the last network filter"}});
  bad(head + "- filters: [{name: b, typed_config: {'@type': envoy.config.core.v3.Node}}]\n",
      {{"filter_chains[0].filters[0].typed_config", "is not a network filter that this program has"}});
  bad(head + "- filters: [{name: b, typed_config: {'@type': envoy.extensions.filters.network.echo.v3.Echo}}]\n",
      {{"filter_chains[0].filters[0].typed_config", "Echo is not supported"}});
}

TEST(Hcm, EveryField) {
  const auto spec = good(with_hcm(R"(      codec_type: HTTP1
      server_name: me
      server_header_transformation: APPEND_IF_ABSENT
      common_http_protocol_options:
        idle_timeout: 1s
        max_connection_duration: 2s
        max_stream_duration: 3s
        max_headers_count: 9
        max_requests_per_connection: 8
        headers_with_underscores_action: REJECT_REQUEST
      http_protocol_options: {allow_absolute_url: false, accept_http_10: true, default_host_for_http_10: h, enable_trailers: true}
      http2_protocol_options:
        max_concurrent_streams: 2
        initial_stream_window_size: 65535
        initial_connection_window_size: 65536
        max_outbound_control_frames: 3
        max_consecutive_inbound_frames_with_empty_payload: 4
        max_inbound_priority_frames_per_stream: 5
        max_inbound_window_update_frames_per_data_frame_sent: 6
        connection_keepalive: {interval: 7s, timeout: 8s}
        allow_connect: true
      max_request_headers_kb: 11
      stream_idle_timeout: 4s
      request_timeout: {seconds: 5}
      request_headers_timeout: 0.0005s
      drain_timeout: 6s
      delayed_close_timeout: 7s
      use_remote_address: true
      xff_num_trusted_hops: 2
      skip_xff_append: true
      via: v
      generate_request_id: false
      preserve_external_request_id: true
      always_set_request_id_in_response: true
      forward_client_cert_details: SANITIZE_SET
      normalize_path: false
      merge_slashes: true
      path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT
      strip_any_host_port: true
      strip_trailing_host_dot: true
      internal_address_config: {cidr_ranges: {address_prefix: 192.168.1.1, prefix_len: 16}}
      stream_error_on_invalid_http_message: true
      upgrade_configs: {upgrade_type: WebSocket, enabled: false}
)"));
  HcmSpec want;
  want.codec = HcmSpec::Codec::kHttp1;
  want.stat_prefix = "in";
  want.rds_name = "local";
  want.filters = spec.filter_chains[0].hcm.filters;
  want.server_name = "me";
  want.server_header = HcmSpec::ServerHeader::kAppendIfAbsent;
  want.idle_timeout_ms = 1000;
  want.max_connection_duration_ms = 2000;
  want.max_stream_duration_ms = 3000;
  want.max_headers_count = 9;
  want.max_requests_per_connection = 8;
  want.underscores = HcmSpec::Underscores::kReject;
  want.allow_absolute_url = false;
  want.accept_http_10 = true;
  want.default_host_for_http_10 = "h";
  want.enable_trailers = true;
  want.http2 = {.max_concurrent_streams = 2,
                .initial_stream_window_bytes = 65535,
                .initial_connection_window_bytes = 65536,
                .max_control_frames = 3,
                .max_consecutive_empty_frames = 4,
                .max_priority_frames_per_stream = 5,
                .max_window_updates_per_data_frame = 6,
                .keepalive_interval_ms = 7000,
                .keepalive_timeout_ms = 8000,
                .allow_connect = true};
  want.upgrades = {{.type = "websocket", .enabled = false}};
  want.max_request_headers_kb = 11;
  want.stream_idle_timeout_ms = 4000;
  want.request_timeout_ms = 5000;
  want.request_headers_timeout_ms = 1;  // rounded up: 0 would mean "none"
  want.drain_timeout_ms = 6000;
  want.delayed_close_timeout_ms = 7000;
  want.use_remote_address = true;
  want.xff_num_trusted_hops = 2;
  want.skip_xff_append = true;
  want.via = "v";
  want.generate_request_id = false;
  want.preserve_external_request_id = true;
  want.always_set_request_id_in_response = true;
  want.forward_client_cert = HcmSpec::ForwardClientCert::kSanitizeSet;
  want.normalize_path = false;
  want.merge_slashes = true;
  want.escaped_slashes = HcmSpec::EscapedSlashes::kUnescapeAndRedirect;
  want.strip_any_host_port = true;
  want.strip_trailing_host_dot = true;
  want.internal_cidrs = {{"192.168.0.0", 16}};
  EXPECT_EQ(spec.filter_chains[0].hcm, want);
}

TEST(Hcm, Http2Mistakes) {
  EXPECT_EQ(good(with_hcm("      codec_type: HTTP2\n")).filter_chains[0].hcm.codec, HcmSpec::Codec::kHttp2);
  const std::string at = "filter_chains[0].filters[0].typed_config.http2_protocol_options.";
  bad(with_hcm("      http2_protocol_options: {max_concurrent_streams: 0, initial_stream_window_size: 65534, "
               "connection_keepalive: {interval: 1s}}\n"),
      {{at + "max_concurrent_streams", "must be from 1"},
       {at + "initial_stream_window_size", "must be from 65535"},
       {at + "connection_keepalive.timeout", "is required"}});
}

TEST(Hcm, EnumsAreTheSpecsOwn) {
  using Server = HcmSpec::ServerHeader;
  using Cert = HcmSpec::ForwardClientCert;
  using Slashes = HcmSpec::EscapedSlashes;
  for (const auto& [name, value] : {std::pair("OVERWRITE", Server::kOverwrite), {"PASS_THROUGH", Server::kPassThrough}})
    EXPECT_EQ(good(with_hcm(std::string("      server_header_transformation: ") + name + "\n"))
                  .filter_chains[0]
                  .hcm.server_header,
              value);
  for (const auto& [name, value] : {std::pair("SANITIZE", Cert::kSanitize),
                                    {"FORWARD_ONLY", Cert::kForwardOnly},
                                    {"APPEND_FORWARD", Cert::kAppendForward},
                                    {"ALWAYS_FORWARD_ONLY", Cert::kAlwaysForwardOnly}})
    EXPECT_EQ(good(with_hcm(std::string("      forward_client_cert_details: ") + name + "\n"))
                  .filter_chains[0]
                  .hcm.forward_client_cert,
              value);
  for (const auto& [name, value] : {std::pair("IMPLEMENTATION_SPECIFIC_DEFAULT", Slashes::kKeep),
                                    {"KEEP_UNCHANGED", Slashes::kKeep},
                                    {"REJECT_REQUEST", Slashes::kReject},
                                    {"UNESCAPE_AND_FORWARD", Slashes::kUnescapeAndForward}})
    EXPECT_EQ(good(with_hcm(std::string("      path_with_escaped_slashes_action: ") + name + "\n"))
                  .filter_chains[0]
                  .hcm.escaped_slashes,
              value);
}

TEST(Hcm, Mistakes) {
  bad(with(kListener, kPrefix, ""), {{at_hcm("stat_prefix"), "must not be empty"}});
  bad(with(kListener, "      rds: {route_config_name: local, config_source: {ads: {}}}\n", ""),
      {{"filter_chains[0].filters[0].typed_config", "needs rds or route_config"}});
  bad(with(kListener, "{route_config_name: local, config_source: {ads: {}}}", "{}"),
      {{at_hcm("rds.route_config_name"), "must not be empty"}, {at_hcm("rds.config_source"), "is required"}});
  bad(with(kListener, "{ads: {}}", "{}"), {{at_hcm("rds.config_source"), "needs one of ads, self"}});
  bad(with(kListener, "{ads: {}}", "{api_config_source: {api_type: GRPC}, initial_fetch_timeout: -1s}"),
      {{at_hcm("rds.config_source.api_config_source.grpc_services"), "must not be empty"},
       {at_hcm("rds.config_source.initial_fetch_timeout"), "must not be negative"}});
  bad(with_hcm(R"(      common_http_protocol_options: {idle_timeout: -1s, max_headers_count: 0}
      http_protocol_options: {default_host_for_http_10: "a\nb"}
      max_request_headers_kb: 64
      request_timeout: 3155760000s
      drain_timeout: -0.5s
      server_name: "a\r\nb"
      via: "a\nb"
      strip_any_host_port: true
      strip_matching_host_port: true
      internal_address_config: {unix_sockets: true, cidr_ranges: {address_prefix: x}}
      upgrade_configs: [{upgrade_type: "C ONNECT"}, {upgrade_type: CONNECT, connect_config: {}}]
      route_config: {}
)"),
      {{at_hcm("rds"), "route_specifier"},
       {at_hcm("common_http_protocol_options.idle_timeout"), "negative"},
       {at_hcm("common_http_protocol_options.max_headers_count"), "at least 1"},
       {at_hcm("http_protocol_options.default_host_for_http_10"), "line breaks"},
       {at_hcm("max_request_headers_kb"), "from 1 to 63"},
       {at_hcm("request_timeout"), "100 years"},
       {at_hcm("drain_timeout"), "negative"},
       {at_hcm("server_name"), "line breaks"},
       {at_hcm("via"), "line breaks"},
       {at_hcm("strip_any_host_port"), "exclude each other"},
       {at_hcm("internal_address_config.unix_sockets"), "not supported"},
       {at_hcm("internal_address_config.cidr_ranges[0].address_prefix"), "is not an IPv4"},
       {at_hcm("upgrade_configs[0].upgrade_type"), "is not a token"},
       {at_hcm("upgrade_configs[1].connect_config"), ""}});
}

TEST(Hcm, UnknownThingsAtAnyDepth) {
  bad(with_hcm("      no_such_field: 1\n      codec_type: HTTP3\n"),
      {{at_hcm("no_such_field"), "no supported field"}, {at_hcm("codec_type"), "HTTP3"}});
  bad(with(kListener, "          stat_prefix: lim\n", "          stat_prefix: lim\n          no_such: 1\n"),
      {{at_hcm("http_filters[0].typed_config.no_such"), ""}});
}

constexpr std::string_view kRouter = R"(      - name: router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
)";

TEST(HttpFilters, Router) {
  const auto spec = good(with(
      kListener, "http.router.v3.Router}",
      "http.router.v3.Router, suppress_envoy_headers: true, respect_expected_rq_timeout: true, dynamic_stats: false}"));
  EXPECT_TRUE(spec.filter_chains[0].hcm.router_suppress_envoy_headers);
  EXPECT_TRUE(spec.filter_chains[0].hcm.respect_expected_rq_timeout);
  bad(with(kListener, kRouter, ""), {{at_hcm("http_filters"), "must end with the router"}});
  bad(std::string(kListener) + std::string(kRouter),
      {{at_hcm("http_filters[1]"), "must be the last filter"}, {at_hcm("http_filters[2].name"), "earlier filter"}});
  bad(std::string(kListener) + "        disabled: true\n",
      {{at_hcm("http_filters[1].disabled"), "cannot be disabled"}});
}

TEST(HttpFilters, Mistakes) {
  bad(with(kListener, "      - name: limit\n", "      - name: ''\n"),
      {{at_hcm("http_filters[0].name"), "must not be empty"}});
  bad(with(kListener, kRouter, "      - name: x\n" + std::string(kRouter)),
      {{at_hcm("http_filters[1].typed_config"), "is required"}});
  bad(with(kListener, "          stat_prefix: lim\n", ""),
      {{at_hcm("http_filters[0].typed_config.stat_prefix"), "must not be empty"}});
  const auto filter = [](std::string_view type, std::string_view more = "") {
    return with(kListener, kRouter,
                "      - {name: x, typed_config: {'@type': " + std::string(type) + "}" + std::string(more) + "}\n" +
                    std::string(kRouter));
  };
  bad(filter("envoy.extensions.filters.http.cors.v3.Cors"),
      {{at_hcm("http_filters[1].typed_config"), "Cors is not supported"}});
  bad(filter("envoy.config.core.v3.Node"),
      {{at_hcm("http_filters[1].typed_config"),
        "is not an HTTP filter that this program has; it has envoy.extensions.filters.http.local_ratelimit"}});
  bad(filter("envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"),
      {{at_hcm("http_filters[1].typed_config"), "belongs in typed_per_filter_config"}});

  // Optional filters of unknown type are left out, as Envoy does.
  Loader loader;
  const auto out = loader.resource(filter("envoy.extensions.filters.http.cors.v3.Cors", ", is_optional: true"));
  ASSERT_TRUE(out.spec) << out.faults.str();
  EXPECT_EQ(std::get<ListenerSpec>(*out.spec).filter_chains[0].hcm.filters.size(), 1u);
  expect_faults(out.faults, {{at_hcm("http_filters[1].typed_config"), "skipped (warning)"}});
}

TEST(HttpFilters, EqualConfigsShareOneCompiledPart) {
  Loader loader;
  const ListenerSpec first = good(loader, kListener);
  const int before = compiled;
  const ListenerSpec again = good(loader, kListener);
  EXPECT_EQ(compiled, before);
  EXPECT_EQ(first.filter_chains[0].hcm.filters[0].config.part, again.filter_chains[0].hcm.filters[0].config.part);
  EXPECT_EQ(first, again);
  // Another scope, another config: parts of their own.
  const ListenerSpec renamed = good(loader, with(kListener, "name: ingress", "name: other"));
  EXPECT_NE(first.filter_chains[0].hcm.filters[0].config.part, renamed.filter_chains[0].hcm.filters[0].config.part);
  const ListenerSpec changed = good(loader, with(kListener, "stat_prefix: lim", "stat_prefix: lam"));
  EXPECT_NE(first, changed);
}

TEST(HttpFilters, PartsAreForgottenWithTheirLastUser) {
  Loader loader;
  good(loader, kListener);  // the spec is gone after this line
  const int before = compiled;
  good(loader, kListener);
  EXPECT_EQ(compiled, before + 1);
}

AccessLogSpec access_log(std::string_view yaml) {
  const auto spec = good(with_hcm("      access_log: {name: log, typed_config: " + std::string(yaml) + "}\n"));
  EXPECT_EQ(spec.filter_chains[0].hcm.access_logs.size(), 1u);
  return spec.filter_chains[0].hcm.access_logs.at(0);
}

TEST(AccessLog, SinksAndFormats) {
  const std::string file = "{'@type': envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /tmp/a.log";
  EXPECT_EQ(access_log(file + "}"), (AccessLogSpec{.path = "/tmp/a.log"}));
  EXPECT_EQ(access_log(file + ", format: '%DURATION%'}"),
            (AccessLogSpec{.path = "/tmp/a.log", .format = "%DURATION%"}));
  EXPECT_EQ(access_log(file + ", log_format: {text_format: 'x %REQ(:PATH)%', omit_empty_values: true}}"),
            (AccessLogSpec{.path = "/tmp/a.log", .format = "x %REQ(:PATH)%", .omit_empty_values = true}));
  EXPECT_EQ(access_log(file + ", log_format: {text_format_source: {inline_string: y}}}"),
            (AccessLogSpec{.path = "/tmp/a.log", .format = "y"}));
  EXPECT_EQ(access_log("{'@type': envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stdout}").sink,
            AccessLogSpec::Sink::kStdout);
  EXPECT_EQ(access_log("{'@type': envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stderr}").sink,
            AccessLogSpec::Sink::kStderr);
  EXPECT_EQ(access_log("{'@type': envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}"),
            (AccessLogSpec{.sink = AccessLogSpec::Sink::kStdout}));
  const auto json = access_log(
      "{'@type': envoy.extensions.access_loggers.stream.v3.StderrAccessLog, log_format: {json_format: {b: "
      "'%DURATION%', a: x}}}");
  EXPECT_EQ(json.sink, AccessLogSpec::Sink::kStderr);
  EXPECT_EQ(json.json_format, (std::vector<std::pair<std::string, std::string>>{{"a", "x"}, {"b", "%DURATION%"}}));
}

TEST(AccessLog, FormatFromAFile) {
  const std::string name = ::testing::TempDir() + "outrigger_format_test.txt";
  std::ofstream(name) << "from file %DURATION%\n";
  const std::string log =
      "{'@type': envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: {text_format_source: "
      "{filename: ";
  EXPECT_EQ(access_log(log + name + "}}}").format, "from file %DURATION%\n");
  std::filesystem::remove(name);
  bad(with_hcm("      access_log: {name: log, typed_config: " + log + name + "}}}}\n"),
      {{at_hcm("access_log[0].typed_config.log_format.text_format_source.filename"), "cannot open"}});
}

TEST(AccessLog, Mistakes) {
  const auto log = [](std::string_view yaml) { return with_hcm("      access_log: [" + std::string(yaml) + "]\n"); };
  const std::string at = at_hcm("access_log[0].typed_config");
  const std::string file = "{name: a, typed_config: {'@type': envoy.extensions.access_loggers.file.v3.FileAccessLog, ";
  bad(log("{name: a}"), {{at, "is required"}});
  bad(log("{name: a, typed_config: {'@type': envoy.config.core.v3.Node}}"), {{at, "is not an access logger"}});
  bad(log(file + "path: ''}}"), {{at + ".path", "must not be empty"}});
  bad(log(file + "path: /x, log_format: {text_format: ''}}}"), {{at + ".log_format.text_format", "must not be empty"}});
  bad(log(file + "path: /x, log_format: {text_format: '%NOPE%'}}}"),
      {{at + ".log_format.text_format", "unknown command %NOPE%"}});
  bad(log(file + "path: /x, log_format: {}}}"), {{at + ".log_format", "needs one of"}});
  bad(log(file + "path: /x, log_format: {json_format: {}}}}"), {{at + ".log_format.json_format", "must not be empty"}});
  bad(log(file + "path: /x, log_format: {json_format: {a: 1, b: '%X%', c: {d: e}}}}}"),
      {{at + ".log_format.json_format[\"a\"]", "must be a string"},
       {at + ".log_format.json_format[\"b\"]", "unknown command"},
       {at + ".log_format.json_format[\"c\"]", "must be a string"}});
  bad(log(file + "path: /x, log_format: {text_format_source: {filename: /dev/zero}}}}"),
      {{at + ".log_format.text_format_source.filename", "is not a regular file"}});
}

TEST(ApiListener, OnlyWhereItIsWanted) {
  constexpr std::string_view yaml = R"("@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: service
api_listener:
  api_listener:
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
    stat_prefix: s
    rds: {route_config_name: r, config_source: {self: {}}}
    http_filters: {name: router, typed_config: {"@type": envoy.extensions.filters.http.router.v3.Router}}
)";
  bad(yaml, {{"api_listener", "a proxy has nothing to do with it"}});
  Loader loader({.api_listeners = true});
  const ListenerSpec spec = good(loader, yaml);
  EXPECT_TRUE(spec.api_listener);
  EXPECT_TRUE(spec.addresses.empty());
  ASSERT_EQ(spec.filter_chains.size(), 1u);
  EXPECT_EQ(spec.filter_chains[0].hcm.rds_name, "r");
  EXPECT_EQ(spec.filter_chains[0].hcm.rds_source.kind, ConfigSourceSpec::Kind::kSelf);
  expect_faults(loader.resource(with(yaml, "api_listener:\n", "address: {pipe: {path: /x}}\napi_listener:\n")).faults,
                {{"api_listener", "excludes address"}});
}

TEST(UnknownFieldsWarn, SkipsWhatItDoesNotKnowButNeverATransportSocket) {
  Loader loader({.unknown_fields = UnknownFields::kWarn});
  const auto out = loader.resource(with(with_hcm("      no_such_field: 1\n"), kRouter,
                                        "      - {name: x, typed_config: {'@type': a.b.C}}\n" + std::string(kRouter)));
  ASSERT_TRUE(out.spec) << out.faults.str();
  EXPECT_EQ(std::get<ListenerSpec>(*out.spec).filter_chains[0].hcm.filters.size(), 1u);
  expect_faults(out.faults,
                {{at_hcm("no_such_field"), "(warning)"}, {at_hcm("http_filters[1].typed_config"), "(warning)"}});

  const auto tls = loader.resource(with(kListener, "- name: main\n", R"(- name: main
  transport_socket: {name: tls, typed_config: {"@type": a.tls.C}}
)"));
  EXPECT_FALSE(tls.spec);
  EXPECT_EQ(tls.faults.errors(), 1u) << tls.faults.str();
}

}  // namespace
}  // namespace outrigger::config::testing
