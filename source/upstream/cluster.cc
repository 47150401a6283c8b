#include "upstream/cluster.h"

namespace outrigger::upstream {

// What every request and connection counts lies together, so that a worker that uses the cluster pays for one chunk.
ClusterHandles::ClusterHandles(stats::Layout& layout) {
  const auto counter = [&](const char* tail) { return layout.counter(std::string("cluster.{cluster}.") + tail); };
  const auto gauge = [&](const char* tail) { return layout.gauge(std::string("cluster.{cluster}.") + tail); };
  layout.at(stats::Layout::Place::kOften);
  cx_total = counter("upstream_cx_total");
  cx_destroy_local = counter("upstream_cx_destroy_local");
  cx_destroy_remote = counter("upstream_cx_destroy_remote");
  cx_active = gauge("upstream_cx_active");
  rq_total = counter("upstream_rq_total");
  rq_completed = counter("upstream_rq_completed");
  rq_pending_total = counter("upstream_rq_pending_total");
  for (int c = 1; c < 6; ++c)
    rq_class[c] = layout.counter("cluster.{cluster}.upstream_rq_{response_code_class}xx",
                                 {{"response_code_class", std::to_string(c)}});
  rq_active = gauge("upstream_rq_active");
  rq_pending_active = gauge("upstream_rq_pending_active");
  rq_time = layout.histogram("cluster.{cluster}.upstream_rq_time");
  cx_connect_ms = layout.histogram("cluster.{cluster}.upstream_cx_connect_ms");
  layout.at(stats::Layout::Place::kSeldom);
  cx_connect_fail = counter("upstream_cx_connect_fail");
  cx_connect_timeout = counter("upstream_cx_connect_timeout");
  cx_overflow = counter("upstream_cx_overflow");
  cx_idle_timeout = counter("upstream_cx_idle_timeout");
  cx_max_requests = counter("upstream_cx_max_requests");
  cx_max_duration = counter("upstream_cx_max_duration_reached");
  cx_protocol_error = counter("upstream_cx_protocol_error");
  cx_none_healthy = counter("upstream_cx_none_healthy");
  rq_timeout = counter("upstream_rq_timeout");
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
  lb_healthy_panic = counter("lb_healthy_panic");
  layout.at(stats::Layout::Place::kNoWorker);
  membership_total = gauge("membership_total");
  membership_healthy = gauge("membership_healthy");
}

ClusterHealthHandles::ClusterHealthHandles(stats::Layout& layout) {
  layout.at(stats::Layout::Place::kNoWorker);
  attempt = layout.counter("cluster.{cluster}.health_check.attempt");
  success = layout.counter("cluster.{cluster}.health_check.success");
  failure = layout.counter("cluster.{cluster}.health_check.failure");
  network_failure = layout.counter("cluster.{cluster}.health_check.network_failure");
  healthy = layout.gauge("cluster.{cluster}.health_check.healthy");
}

ClusterSubsetHandles::ClusterSubsetHandles(stats::Layout& layout) {
  selected = layout.counter("cluster.{cluster}.lb_subsets_selected");
  fallback = layout.counter("cluster.{cluster}.lb_subsets_fallback");
  fallback_panic = layout.counter("cluster.{cluster}.lb_subsets_fallback_panic");
  layout.at(stats::Layout::Place::kNoWorker);
  created = layout.counter("cluster.{cluster}.lb_subsets_created");
  removed = layout.counter("cluster.{cluster}.lb_subsets_removed");
  active = layout.gauge("cluster.{cluster}.lb_subsets_active");
  single_host_duplicate = layout.gauge("cluster.{cluster}.lb_subsets_single_host_per_subset_duplicate");
}

namespace {

stats::Labels labels_of(const config::ClusterSpec& spec) {
  return {{"cluster", spec.alt_stat_name.empty() ? spec.name : spec.alt_stat_name}};
}

}  // namespace

ClusterStats::ClusterStats(stats::Registry& registry, const config::ClusterSpec& spec)
    : Block(registry, labels_of(spec)) {
  const stats::Labels labels = labels_of(spec);
  const bool checks_by_http2 = spec.health_check && spec.health_check->speaks_http2();
  if (spec.codec != config::ClusterSpec::Codec::kHttp1 || checks_by_http2)
    http2 = std::make_unique<stats::Block<ClusterHttp2Handles>>(registry, labels);
  if (spec.tls) tls = std::make_unique<stats::Block<ClusterTlsHandles>>(registry, labels);
  if (spec.health_check) health_check = std::make_unique<stats::Block<ClusterHealthHandles>>(registry, labels);
  if (spec.subsets) subsets = std::make_unique<stats::Block<ClusterSubsetHandles>>(registry, labels);
}

std::shared_ptr<const Cluster> Cluster::compile(const config::ClusterSpec& spec, stats::Registry& registry,
                                                std::shared_ptr<ClusterState> state,
                                                std::shared_ptr<const TlsContext> tls) {
  auto cluster = std::make_shared<Cluster>();
  cluster->spec_ = spec;
  cluster->state_ = state == nullptr ? std::make_shared<ClusterState>() : std::move(state);
  cluster->stats_ = std::make_unique<ClusterStats>(registry, spec);
  cluster->tls_ = std::move(tls);
  if (spec.tls) cluster->tls_identity_ = upstream::tls_identity(*spec.tls);
  return cluster;
}

}  // namespace outrigger::upstream
