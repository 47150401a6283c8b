#include "upstream/cluster.h"

namespace outrigger::upstream {

ClusterStats::ClusterStats(stats::Registry& registry, const std::string& name, bool with_http2, bool with_tls)
    : group(registry, {{"cluster", name}}) {
  const auto counter = [&](const char* tail) { return group.counter(std::string("cluster.{cluster}.") + tail); };
  const auto gauge = [&](const char* tail) { return group.gauge(std::string("cluster.{cluster}.") + tail); };
  cx_total = counter("upstream_cx_total");
  cx_connect_fail = counter("upstream_cx_connect_fail");
  cx_connect_timeout = counter("upstream_cx_connect_timeout");
  cx_overflow = counter("upstream_cx_overflow");
  cx_destroy_local = counter("upstream_cx_destroy_local");
  cx_destroy_remote = counter("upstream_cx_destroy_remote");
  cx_idle_timeout = counter("upstream_cx_idle_timeout");
  cx_max_requests = counter("upstream_cx_max_requests");
  cx_max_duration = counter("upstream_cx_max_duration_reached");
  cx_protocol_error = counter("upstream_cx_protocol_error");
  cx_none_healthy = counter("upstream_cx_none_healthy");
  cx_active = gauge("upstream_cx_active");
  rq_total = counter("upstream_rq_total");
  rq_completed = counter("upstream_rq_completed");
  rq_timeout = counter("upstream_rq_timeout");
  rq_pending_total = counter("upstream_rq_pending_total");
  rq_pending_overflow = counter("upstream_rq_pending_overflow");
  rq_pending_failure_eject = counter("upstream_rq_pending_failure_eject");
  rq_cancelled = counter("upstream_rq_cancelled");
  rq_rx_reset = counter("upstream_rq_rx_reset");
  rq_tx_reset = counter("upstream_rq_tx_reset");
  rq_retry = counter("upstream_rq_retry");
  rq_retry_success = counter("upstream_rq_retry_success");
  rq_retry_overflow = counter("upstream_rq_retry_overflow");
  rq_retry_limit_exceeded = counter("upstream_rq_retry_limit_exceeded");
  rq_per_try_timeout = counter("upstream_rq_per_try_timeout");
  rq_shadow_overflow = counter("upstream_rq_shadow_overflow");
  for (int c = 1; c < 6; ++c)
    rq_class[c] = group.counter("cluster.{cluster}.upstream_rq_{response_code_class}xx",
                                {{"response_code_class", std::to_string(c)}});
  rq_active = gauge("upstream_rq_active");
  rq_pending_active = gauge("upstream_rq_pending_active");
  membership_total = gauge("membership_total");
  membership_healthy = gauge("membership_healthy");
  rq_time = group.histogram("cluster.{cluster}.upstream_rq_time");
  cx_connect_ms = group.histogram("cluster.{cluster}.upstream_cx_connect_ms");
  if (with_http2) http2 = std::make_unique<http::H2Stats>(group, "cluster.{cluster}.http2.");
  if (with_tls) tls = std::make_unique<TlsStats>(group, "cluster.{cluster}.");
}

std::shared_ptr<const Cluster> Cluster::compile(const config::ClusterSpec& spec, stats::Registry& registry,
                                                std::shared_ptr<ClusterState> state,
                                                std::shared_ptr<const TlsContext> tls) {
  auto cluster = std::make_shared<Cluster>();
  cluster->spec_ = spec;
  cluster->state_ = state == nullptr ? std::make_shared<ClusterState>() : std::move(state);
  cluster->stats_ =
      std::make_unique<ClusterStats>(registry, spec.alt_stat_name.empty() ? spec.name : spec.alt_stat_name,
                                     spec.codec != config::ClusterSpec::Codec::kHttp1, tls != nullptr);
  cluster->tls_ = std::move(tls);
  return cluster;
}

}  // namespace outrigger::upstream
