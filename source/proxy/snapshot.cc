#include "proxy/snapshot.h"

namespace outrigger::proxy {

HttpHandles::HttpHandles(stats::Layout& layout) : http2(layout, "http.{http}.http2.") {
  const auto counter = [&](const char* tail) { return layout.counter(std::string("http.{http}.") + tail); };
  const auto gauge = [&](const char* tail) { return layout.gauge(std::string("http.{http}.") + tail); };
  cx_total = counter("downstream_cx_total");
  cx_destroy = counter("downstream_cx_destroy");
  cx_idle_timeout = counter("downstream_cx_idle_timeout");
  cx_protocol_error = counter("downstream_cx_protocol_error");
  cx_drain_close = counter("downstream_cx_drain_close");
  cx_delayed_close_timeout = counter("downstream_cx_delayed_close_timeout");
  cx_active = gauge("downstream_cx_active");
  rq_total = counter("downstream_rq_total");
  rq_completed = counter("downstream_rq_completed");
  for (int c = 1; c < 6; ++c) {
    rq_class[c] = layout.counter("http.{http}.downstream_rq_{response_code_class}xx",
                                 {{"response_code_class", std::to_string(c)}});
  }
  rq_rx_reset = counter("downstream_rq_rx_reset");
  rq_tx_reset = counter("downstream_rq_tx_reset");
  rq_timeout = counter("downstream_rq_timeout");
  rq_idle_timeout = counter("downstream_rq_idle_timeout");
  rq_ws_on_non_ws_route = counter("downstream_rq_ws_on_non_ws_route");
  cx_max_duration_reached = counter("downstream_cx_max_duration_reached");
  cx_max_requests_reached = counter("downstream_cx_max_requests_reached");
  cx_upgrades_total = counter("downstream_cx_upgrades_total");
  cx_upgrades_active = gauge("downstream_cx_upgrades_active");
  rq_max_duration_reached = counter("downstream_rq_max_duration_reached");
  rq_header_timeout = counter("downstream_rq_header_timeout");
  rq_too_large = counter("downstream_rq_too_large");
  rq_non_relative_path = counter("downstream_rq_non_relative_path");
  no_route = counter("no_route");
  no_cluster = counter("no_cluster");
  rq_redirect = counter("rq_redirect");
  rq_direct_response = counter("rq_direct_response");
  rs_too_large = counter("rs_too_large");
  failed_path_normalization = counter("downstream_rq_failed_path_normalization");
  rq_active = gauge("downstream_rq_active");
  rq_time = layout.histogram("http.{http}.downstream_rq_time");
}

ListenerStats::ListenerStats(stats::Registry& registry, const std::string& listener)
    : group(registry, {{"listener", listener}}), shared(registry, {}) {
  pre_cx_active = group.gauge("listener.{listener}.downstream_pre_cx_active");
  pre_cx_timeout = group.counter("listener.{listener}.downstream_pre_cx_timeout");
  no_filter_chain_match = group.counter("listener.{listener}.no_filter_chain_match");
  original_dst_restored = group.counter("listener.{listener}.original_dst_restored");
  tls_found = shared.counter("tls_inspector.tls_found");
  tls_not_found = shared.counter("tls_inspector.tls_not_found");
  tls_bad_hello = shared.counter("tls_inspector.client_hello_malformed");
  sni_found = shared.counter("tls_inspector.sni_found");
  sni_not_found = shared.counter("tls_inspector.sni_not_found");
  alpn_found = shared.counter("tls_inspector.alpn_found");
  alpn_not_found = shared.counter("tls_inspector.alpn_not_found");
  proxy_v1_found = shared.counter("proxy_proto.versions.v1.found");
  proxy_v2_found = shared.counter("proxy_proto.versions.v2.found");
  proxy_error = shared.counter("proxy_proto.error");
  proxy_disallowed = shared.counter("proxy_proto.disallowed");
  proxy_not_found_allowed = shared.counter("proxy_proto.not_found_allowed");
  proxy_not_found_disallowed = shared.counter("proxy_proto.not_found_disallowed");
}

TcpStats::TcpStats(stats::Registry& registry, const std::string& stat_prefix)
    : group(registry, {{"tcp", stat_prefix}}) {
  const auto counter = [&](const char* tail) { return group.counter(std::string("tcp.{tcp}.") + tail); };
  cx_total = counter("downstream_cx_total");
  cx_no_route = counter("downstream_cx_no_route");
  cx_rx_bytes = counter("downstream_cx_rx_bytes_total");
  cx_tx_bytes = counter("downstream_cx_tx_bytes_total");
  idle_timeout = counter("idle_timeout");
  max_duration = counter("max_downstream_connection_duration");
  connect_attempts_exceeded = counter("upstream_cx_connect_attempts_exceeded");
  cx_active = group.gauge("tcp.{tcp}.downstream_cx_active");
}

TransportHandles::TransportHandles(stats::Layout& layout)
    : tls(layout, "listener.{listener}."),
      connect_timeout(layout.counter("listener.{listener}.downstream_cx_transport_socket_connect_timeout")),
      secrets_not_ready(
          layout.counter("listener.{listener}.server_ssl_socket_factory.downstream_context_secrets_not_ready")) {}

void HttpChain::references(References& to) const {
  for (const TcpTarget& target : tcp_targets) to.cluster(target.cluster.text);
  if (!rds_name.empty()) to.route_table(rds_name.text);
  for (const std::string& name : secrets) to.secret(name);
  if (inline_routes != nullptr) inline_routes->references(to);
  for (const FilterEntry& filter : filters) {
    if (filter.config != nullptr) filter.config->references(to);
  }
}

void ListenerPart::references(References& to) const {
  for (const auto& chain : chains) chain->references(to);
}

int ListenerPart::match(const ConnectionFacts& facts) const {
  const int index = matcher->match(facts);
  if (index >= 0 || !spec.default_filter_chain.has_value()) return index;
  return static_cast<int>(spec.filter_chains.size());
}

}  // namespace outrigger::proxy
