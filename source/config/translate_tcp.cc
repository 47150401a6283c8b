// envoy.filters.network.tcp_proxy.
#include <fmt/format.h>

#include <unordered_set>

#include "config/translation.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"

namespace outrigger::config {
namespace tcp_proxy = envoy::extensions::filters::network::tcp_proxy::v3;

namespace {

void targets(const tcp_proxy::TcpProxy& from, TcpProxySpec& spec, const FieldPath& path, Translation& t) {
  const ByValue<MetadataMatch> match = metadata_match(from.metadata_match(), {}, path.field("metadata_match"), t);
  if (from.cluster_specifier_case() == tcp_proxy::TcpProxy::kCluster) {
    if (from.cluster().empty()) t.fault(path.field("cluster"), "must not be empty");
    spec.targets.push_back({from.cluster(), 1, match});
    return;
  }
  if (from.cluster_specifier_case() != tcp_proxy::TcpProxy::kWeightedClusters)
    return t.fault(path.field("cluster"), "is required (or weighted_clusters)");
  const FieldPath weighted = path.field("weighted_clusters");
  const FieldPath all = weighted.field("clusters");
  if (from.weighted_clusters().clusters().empty()) t.fault(all, "needs at least one cluster");
  uint64_t total = 0;
  std::unordered_set<std::string> names;
  each(from.weighted_clusters().clusters(), all, [&](const auto& one, const FieldPath& at) {
    if (one.name().empty()) t.fault(at.field("name"), "must not be empty");
    if (!names.insert(one.name()).second) t.fault(at.field("name"), fmt::format("\"{}\" is named twice", one.name()));
    if (one.weight() == 0) t.fault(at.field("weight"), "must be at least 1");
    total += one.weight();
    spec.targets.push_back(
        {one.name(), one.weight(), metadata_match(one.metadata_match(), match, at.field("metadata_match"), t)});
  });
  if (total > UINT32_MAX) t.fault(all, "the sum of the weights must be below 2^32");
}

}  // namespace

TcpProxySpec tcp_proxy_spec(const tcp_proxy::TcpProxy& from, const FieldPath& path, Translation& t) {
  TcpProxySpec spec;
  spec.stat_prefix = from.stat_prefix();
  if (spec.stat_prefix.empty()) t.fault(path.field("stat_prefix"), "must not be empty");
  targets(from, spec, path, t);
  if (from.has_idle_timeout()) spec.idle_timeout_ms = duration_ms(from.idle_timeout(), path.field("idle_timeout"), t);
  if (from.has_max_downstream_connection_duration()) {
    const FieldPath at = path.field("max_downstream_connection_duration");
    spec.max_connection_duration_ms = duration_ms(from.max_downstream_connection_duration(), at, t);
    if (spec.max_connection_duration_ms == 0) t.fault(at, "must be at least 1 ms");
  }
  if (from.has_max_connect_attempts()) {
    spec.max_connect_attempts = from.max_connect_attempts().value();
    if (spec.max_connect_attempts == 0) t.fault(path.field("max_connect_attempts"), "must be at least 1");
  }
  each(from.access_log(), path.field("access_log"), [&](const auto& log, const FieldPath& at) {
    if (auto translated = access_log_spec(log, at, t)) spec.access_logs.push_back(std::move(*translated));
  });
  return spec;
}

}  // namespace outrigger::config
