// Snapshot: all live config, immutable, reference-closed. Compiled parts linked by name; equal resources keep their
// part from one snapshot to the next. Assembled by the Store on the builder, posted to each worker as one pointer.
//
// Thread rule: immutable; any thread. Workers never drop the last reference to a part: they give it back to the
// builder. Use:  const LinkedCluster* c = snapshot.clusters.find(name, hash);
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/name.h"
#include "base/shared_name_map.h"
#include "config/spec.h"
#include "http/h2_codec.h"
#include "net/listener.h"
#include "proxy/access_log.h"
#include "proxy/chain_matcher.h"
#include "route/route_table.h"
#include "stats/stats.h"
#include "upstream/cluster.h"
#include "upstream/tls_context.h"

namespace outrigger::proxy {

// Envoy's names, below "http.<stat_prefix>.".
struct HttpHandles {
  explicit HttpHandles(stats::Layout& layout);
  stats::Counter cx_total, cx_destroy, cx_idle_timeout, cx_protocol_error, cx_drain_close, cx_delayed_close_timeout;
  stats::Gauge cx_active, cx_upgrades_active;
  stats::Counter rq_total, rq_completed, rq_class[6], rq_rx_reset, rq_tx_reset, rq_timeout, rq_idle_timeout,
      rq_max_duration_reached, rq_ws_on_non_ws_route, cx_upgrades_total, cx_max_duration_reached, rq_header_timeout,
      rq_too_large, rq_non_relative_path, no_route, no_cluster, rq_redirect, rq_direct_response, rs_too_large,
      failed_path_normalization, cx_max_requests_reached;
  stats::Gauge rq_active;
  stats::Histogram rq_time;
  http::H2Stats http2;
};
using HttpStats = stats::Block<HttpHandles>;

// Envoy's names: below "listener.<name>.", "tls_inspector." and "proxy_proto.".
struct ListenerStats {
  ListenerStats(stats::Registry& registry, const std::string& listener);
  stats::Group group, shared;
  stats::Gauge pre_cx_active;
  stats::Counter pre_cx_timeout, no_filter_chain_match, original_dst_restored;
  stats::Counter tls_found, tls_not_found, tls_bad_hello, sni_found, sni_not_found, alpn_found, alpn_not_found;
  stats::Counter proxy_v1_found, proxy_v2_found, proxy_error, proxy_disallowed, proxy_not_found_allowed,
      proxy_not_found_disallowed;
};

// Envoy's names, below "tcp.<stat_prefix>.".
struct TcpStats {
  TcpStats(stats::Registry& registry, const std::string& stat_prefix);
  stats::Group group;
  stats::Counter cx_total, cx_no_route, cx_rx_bytes, cx_tx_bytes, idle_timeout, max_duration, connect_attempts_exceeded;
  stats::Gauge cx_active;
};

// Envoy's names, below "listener.<name>.".
struct TransportHandles {
  explicit TransportHandles(stats::Layout& layout);
  upstream::TlsStats tls;
  stats::Counter connect_timeout, secrets_not_ready;
};
using TransportStats = stats::Block<TransportHandles>;

class ConnectionLimit;
struct ConnectionLimitStats;

// One filter chain, compiled: the HTTP connection manager's config. `identity` names what connections are bound to
// (match, codec, what TLS asks of clients): a connection whose chain keeps its identity lives on through any other
// change.
struct HttpChain {
  config::FilterChainSpec spec;  // spec.hcm is the connection manager
  std::string identity;
  Name rds_name;  // empty: the routes are inline
  std::shared_ptr<const route::RouteTable> inline_routes;
  struct FilterEntry {
    uint16_t id = 0;                       // config::filter_name_id
    const FilterConfig* config = nullptr;  // held by spec.hcm.filters
    bool disabled = false;
  };
  std::vector<FilterEntry> filters;  // first to last, without the router
  std::vector<std::shared_ptr<const AccessLogger>> access_logs;
  std::unique_ptr<HttpStats> stats;
  std::vector<std::string> secrets;                 // that its TLS names, in the order of config::each_secret
  std::shared_ptr<const upstream::TlsContext> tls;  // nullptr: plain, or it depends on secrets
  std::unique_ptr<TransportStats> transport_stats;  // with spec.tls
  // Instead of all that, where spec.tcp is there.
  struct TcpTarget {
    Name cluster;
    uint64_t weights = 0;                                   // its own and those of all before it
    const config::MetadataMatch* metadata_match = nullptr;  // held by spec.tcp; nullptr: none
  };
  std::vector<TcpTarget> tcp_targets;
  std::unique_ptr<TcpStats> tcp_stats;
  std::shared_ptr<ConnectionLimit> limit;  // with spec.connection_limit; of all versions of the chain
  std::shared_ptr<const ConnectionLimitStats> limit_stats;
  void references(References& to) const;
};

// A listener, compiled.
struct ListenerPart {
  config::ListenerSpec spec;
  std::vector<std::shared_ptr<net::SocketSet>> sockets;  // one per address; empty where nothing is bound (validation)
  std::vector<std::shared_ptr<const HttpChain>> chains;  // spec.filter_chains in order, then the default one if any
  std::unique_ptr<const ChainMatcher> matcher;
  std::unique_ptr<const ListenerStats> stats;
  // Index into `chains` for an accepted connection; -1: no chain matches (close it).
  int match(const ConnectionFacts& facts) const;
  void references(References& to) const;
};

struct LinkedChain {
  const HttpChain* chain = nullptr;                 // held by the listener part
  std::shared_ptr<const route::RouteTable> routes;  // nullptr: its RDS table is not known (404 NR)
  // With the secrets that it names. nullptr: the chain is plain, or lacks a secret: then nobody can be served.
  std::shared_ptr<const upstream::TlsContext> tls = nullptr;
  bool lacks_secret() const { return tls == nullptr && chain->spec.tls.has_value(); }
  const std::string& identity() const { return chain->identity; }
  bool operator==(const LinkedChain&) const = default;
};

struct LinkedListener {
  std::shared_ptr<const ListenerPart> part;
  std::vector<LinkedChain> chains;  // as part->chains
};

struct NameOfListener {
  const std::string& operator()(const LinkedListener& linked) const { return linked.part->spec.name; }
};

struct LinkedCluster {
  std::shared_ptr<const upstream::Cluster> cluster;
  std::shared_ptr<const upstream::HostSet> hosts;  // never nullptr; empty while nothing is known
};

struct NameOfCluster {
  const std::string& operator()(const LinkedCluster& linked) const { return linked.cluster->name(); }
};

struct Snapshot {
  uint64_t version = 0;
  int64_t accepted_ns = 0;  // event::steady_ns() when the oldest change that is new in it came
  SharedNameMap<LinkedListener, NameOfListener> listeners;
  SharedNameMap<LinkedCluster, NameOfCluster> clusters;
  NameMap<std::shared_ptr<const route::RouteTable>> route_tables;
};

}  // namespace outrigger::proxy
