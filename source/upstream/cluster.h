// Cluster: the compiled part of one cluster, and what all workers share of it at run time (circuit breaker counts).
//
// Thread rule: Cluster is made on the builder and immutable; ClusterState's counts are atomics for all workers.
// Use:  auto cluster = Cluster::compile(spec, registry, previous_state);
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "config/spec.h"
#include "http/h2_codec.h"
#include "stats/stats.h"
#include "upstream/host.h"
#include "upstream/tls_context.h"

namespace outrigger::upstream {

// Shared by the workers and by all versions of a cluster, as long as anybody uses it.
struct ClusterState {
  std::atomic<int32_t> connections{0};
  std::atomic<int32_t> pending{0};
  std::atomic<int32_t> requests{0};
  std::atomic<int32_t> retries{0};
  // Moves after a host's health has changed: who has looked at the hosts before looks again.
  std::atomic<uint32_t> health_epoch{0};
};

// Takes one from a shared budget; false: `limit` is reached.
inline bool take(std::atomic<int32_t>& count, uint32_t limit) {
  if (count.fetch_add(1, std::memory_order_relaxed) < static_cast<int64_t>(limit)) return true;
  count.fetch_sub(1, std::memory_order_relaxed);
  return false;
}
inline void give(std::atomic<int32_t>& count) { count.fetch_sub(1, std::memory_order_relaxed); }

// Envoy's names, below "cluster.<name>.".
struct ClusterHandles {
  explicit ClusterHandles(stats::Layout& layout);
  stats::Counter cx_total, cx_connect_fail, cx_connect_timeout, cx_overflow, cx_destroy_local, cx_destroy_remote,
      cx_idle_timeout, cx_max_requests, cx_max_duration, cx_protocol_error, cx_none_healthy;
  stats::Gauge cx_active;
  stats::Counter rq_total, rq_completed, rq_timeout, rq_pending_total, rq_pending_overflow, rq_pending_failure_eject,
      rq_cancelled, rq_rx_reset, rq_tx_reset, rq_retry, rq_retry_success, rq_retry_overflow, rq_retry_limit_exceeded,
      rq_per_try_timeout, rq_shadow_overflow;
  stats::Counter rq_class[6];  // by status / 100; [0]: none
  stats::Gauge rq_active, rq_pending_active;
  stats::Counter lb_healthy_panic;
  stats::Gauge membership_total, membership_healthy;
  stats::Histogram rq_time, cx_connect_ms;
};
struct ClusterHttp2Handles : http::H2Stats {
  explicit ClusterHttp2Handles(stats::Layout& layout) : H2Stats(layout, "cluster.{cluster}.http2.") {}
};
struct ClusterTlsHandles : TlsStats {
  explicit ClusterTlsHandles(stats::Layout& layout) : TlsStats(layout, "cluster.{cluster}.") {}
};
struct ClusterHealthHandles {
  explicit ClusterHealthHandles(stats::Layout& layout);
  stats::Counter attempt, success, failure, network_failure;
  stats::Gauge healthy;
};
struct ClusterSubsetHandles {
  explicit ClusterSubsetHandles(stats::Layout& layout);
  stats::Counter selected, fallback, fallback_panic, created, removed;
  stats::Gauge active, single_host_duplicate;
};
struct ClusterStats : stats::Block<ClusterHandles> {
  ClusterStats(stats::Registry& registry, const config::ClusterSpec& spec);
  std::unique_ptr<const stats::Block<ClusterHttp2Handles>> http2;          // of clusters that may speak it
  std::unique_ptr<const stats::Block<ClusterTlsHandles>> tls;              // of clusters that have it
  std::unique_ptr<const stats::Block<ClusterHealthHandles>> health_check;  // of those that check their hosts
  std::unique_ptr<const stats::Block<ClusterSubsetHandles>> subsets;       // of those that divide them
};

class Cluster {
 public:
  static std::shared_ptr<const Cluster> compile(const config::ClusterSpec& spec, stats::Registry& registry,
                                                std::shared_ptr<ClusterState> state,
                                                std::shared_ptr<const TlsContext> tls = nullptr);

  const config::ClusterSpec& spec() const { return spec_; }
  const std::string& name() const { return spec_.name; }
  ClusterState& state() const { return *state_; }
  const std::shared_ptr<ClusterState>& shared_state() const { return state_; }
  const ClusterStats& stats() const { return *stats_; }
  const std::shared_ptr<const TlsContext>& tls() const { return tls_; }  // nullptr: plain
  const std::string& tls_identity() const { return tls_identity_; }      // empty: plain

 private:
  config::ClusterSpec spec_;
  std::shared_ptr<ClusterState> state_;
  std::unique_ptr<ClusterStats> stats_;
  std::shared_ptr<const TlsContext> tls_;
  std::string tls_identity_;
};

}  // namespace outrigger::upstream
