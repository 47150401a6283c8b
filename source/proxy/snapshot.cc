#include "proxy/snapshot.h"

#include <algorithm>

namespace outrigger::proxy {

HttpStats::HttpStats(stats::Registry& registry, const std::string& stat_prefix)
    : group(registry, {{"http", stat_prefix}}) {
  const auto counter = [&](const char* tail) { return group.counter(std::string("http.{http}.") + tail); };
  const auto gauge = [&](const char* tail) { return group.gauge(std::string("http.{http}.") + tail); };
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
    rq_class[c] = group.counter("http.{http}.downstream_rq_{response_code_class}xx",
                                {{"response_code_class", std::to_string(c)}});
  }
  rq_rx_reset = counter("downstream_rq_rx_reset");
  rq_tx_reset = counter("downstream_rq_tx_reset");
  rq_timeout = counter("downstream_rq_timeout");
  rq_idle_timeout = counter("downstream_rq_idle_timeout");
  rq_ws_on_non_ws_route = counter("downstream_rq_ws_on_non_ws_route");
  cx_max_duration_reached = counter("downstream_cx_max_duration_reached");
  cx_upgrades_total = counter("downstream_cx_upgrades_total");
  cx_upgrades_active = group.gauge("http.{http}.downstream_cx_upgrades_active");
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
  rq_time = group.histogram("http.{http}.downstream_rq_time");
  http2 = http::H2Stats(group, "http.{http}.http2.");
}

void HttpChain::references(References& to) const {
  if (!rds_name.empty()) to.route_table(rds_name.text);
  if (inline_routes != nullptr) inline_routes->references(to);
  for (const FilterEntry& filter : filters) {
    if (filter.config != nullptr) filter.config->references(to);
  }
}

void ListenerPart::references(References& to) const {
  for (const auto& chain : chains) chain->references(to);
}

namespace {

using config::FilterChainMatchSpec;
using Candidates = std::vector<size_t>;  // indices of filter chains

// Length of the longest of `ranges` that `address` is in; 0: there are no ranges, all match; -1: it is in none.
int longest(const std::vector<config::CidrSpec>& ranges, const net::Address& address) {
  if (ranges.empty()) return 0;
  int best = -1;
  for (const config::CidrSpec& range : ranges) {
    const auto prefix = net::Address::parse(range.prefix, 0);
    if (prefix && address.in_prefix(*prefix, range.length)) best = std::max(best, static_cast<int>(range.length));
  }
  return best;
}

// Keeps the candidates whose rank is the highest; negative ranks do not match at all.
template <class Rank>
void keep_best(Candidates& candidates, const std::vector<config::FilterChainSpec>& chains, Rank&& rank) {
  int best = 0;
  for (const size_t i : candidates) best = std::max(best, rank(chains[i].match));
  std::erase_if(candidates, [&](size_t i) { return rank(chains[i].match) != best; });
}

}  // namespace

// As Envoy, each step keeps the most specific chains of those that the step before left, and none looks back: a chain
// for this destination port hides all chains for any port, even if a later criterion then fails.
int ListenerPart::match(const net::Address& local, const net::Address& remote) const {
  const auto& chains = spec.filter_chains;
  const int otherwise = spec.default_filter_chain.has_value() ? static_cast<int>(chains.size()) : -1;
  if (chains.size() == 1 && chains[0].match == FilterChainMatchSpec()) return 0;

  const bool near = remote.is_unix() || remote.is_loopback() || remote.with_port(0) == local.with_port(0);
  using SourceType = FilterChainMatchSpec::SourceType;
  const auto exact_or_any = [](bool any, bool exact) { return exact ? 1 : any ? 0 : -1; };
  Candidates left(chains.size());
  for (size_t i = 0; i < left.size(); ++i) left[i] = i;
  keep_best(left, chains, [&](const FilterChainMatchSpec& m) {
    return exact_or_any(m.destination_port == 0, m.destination_port != 0 && m.destination_port == local.port());
  });
  keep_best(left, chains, [&](const FilterChainMatchSpec& m) { return longest(m.prefix_ranges, local); });
  keep_best(left, chains,
            [&](const FilterChainMatchSpec& m) { return longest(m.direct_source_prefix_ranges, remote); });
  keep_best(left, chains, [&](const FilterChainMatchSpec& m) {
    return exact_or_any(m.source_type == SourceType::kAny,
                        m.source_type == (near ? SourceType::kSameIpOrLoopback : SourceType::kExternal));
  });
  keep_best(left, chains, [&](const FilterChainMatchSpec& m) { return longest(m.source_prefix_ranges, remote); });
  keep_best(left, chains, [&](const FilterChainMatchSpec& m) {
    return exact_or_any(m.source_ports.empty(),
                        std::find(m.source_ports.begin(), m.source_ports.end(), remote.port()) != m.source_ports.end());
  });
  return left.empty() ? otherwise : static_cast<int>(left.front());
}

}  // namespace outrigger::proxy
