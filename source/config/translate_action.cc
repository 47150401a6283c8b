// What is done with a matched request: forwarding, and the retry policy that goes with it.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace route = envoy::config::route::v3;

namespace {

constexpr std::string_view kRetryConditions[] = {
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
};

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

void retry_conditions(std::string_view list, RetryPolicySpec& spec, const FieldPath& path, Translation& t) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view condition = trim(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (condition.empty()) continue;
    if (std::find(std::begin(kRetryConditions), std::end(kRetryConditions), condition) == std::end(kRetryConditions))
      t.fault(path, fmt::format("\"{}\" is not supported; known are {}", condition, fmt::join(kRetryConditions, ", ")));
    spec.retry_on.emplace_back(condition);
  }
}

ClusterWeightSpec cluster_weight(const route::WeightedCluster::ClusterWeight& weight, const std::string& scope,
                                 const ByValue<MetadataMatch>& of_route, const FieldPath& path, Translation& t) {
  ClusterWeightSpec spec;
  spec.name = weight.name();
  if (weight.name().empty() == weight.cluster_header().empty())
    t.fault(path,
            weight.name().empty() ? "needs name or cluster_header" : "name and cluster_header exclude each other");
  if (!weight.cluster_header().empty())
    spec.cluster_header = header_name_of(weight.cluster_header(), true, path.field("cluster_header"), t);
  spec.weight = weight.weight().value();
  spec.metadata_match = metadata_match(weight.metadata_match(), of_route, path.field("metadata_match"), t);
  spec.request_headers =
      header_mutation_spec(weight.request_headers_to_add(), weight.request_headers_to_remove(), "request", path, t);
  spec.response_headers =
      header_mutation_spec(weight.response_headers_to_add(), weight.response_headers_to_remove(), "response", path, t);
  spec.per_filter = per_filter_configs(weight.typed_per_filter_config(), scope, path, t);
  return spec;
}

void weighted_clusters(const route::WeightedCluster& weighted, const std::string& scope, ForwardSpec& spec,
                       const FieldPath& path, Translation& t) {
  uint64_t total = 0;
  each(weighted.clusters(), path.field("clusters"), [&](const auto& weight, const FieldPath& at) {
    const std::string name = weight.name().empty() ? "%" + weight.cluster_header() : weight.name();
    spec.weighted.push_back(cluster_weight(weight, scope + "/" + name, spec.metadata_match, at, t));
    total += spec.weighted.back().weight;
  });
  if (weighted.clusters().empty())
    t.fault(path.field("clusters"), "needs at least one cluster");
  else if (total == 0)
    t.fault(path.field("clusters"), "the weights are all 0; at least one must be above");
  if (total > std::numeric_limits<uint32_t>::max())
    t.fault(path.field("clusters"), fmt::format("the weights sum to {}, must be at most 4294967295", total));
  if (weighted.has_total_weight() && weighted.total_weight().value() != total)
    t.fault(path.field("total_weight"), fmt::format("is {}, but the weights sum to {}; remove it, it is deprecated",
                                                    weighted.total_weight().value(), total));
}

void cluster_specifier(const route::RouteAction& action, const std::string& scope, ForwardSpec& spec,
                       const FieldPath& path, Translation& t) {
  switch (action.cluster_specifier_case()) {
    case route::RouteAction::kCluster:
      spec.cluster = action.cluster();
      if (spec.cluster.empty()) t.fault(path.field("cluster"), "must not be empty");
      break;
    case route::RouteAction::kClusterHeader:
      spec.cluster_header = header_name_of(action.cluster_header(), true, path.field("cluster_header"), t);
      break;
    case route::RouteAction::kWeightedClusters:
      weighted_clusters(action.weighted_clusters(), scope, spec, path.field("weighted_clusters"), t);
      break;
    case route::RouteAction::CLUSTER_SPECIFIER_NOT_SET:
      t.fault(path, "needs one of cluster, cluster_header, weighted_clusters");
  }
  switch (action.cluster_not_found_response_code()) {
    case route::RouteAction::NOT_FOUND:
      spec.cluster_not_found_status = 404;
      break;
    case route::RouteAction::INTERNAL_SERVER_ERROR:
      spec.cluster_not_found_status = 500;
      break;
    default:
      spec.cluster_not_found_status = 503;
  }
}

void rewrites(const route::RouteAction& action, ForwardSpec& spec, const FieldPath& path, Translation& t) {
  spec.prefix_rewrite = action.prefix_rewrite();
  check_header_value(spec.prefix_rewrite, path.field("prefix_rewrite"), t);
  if (action.has_regex_rewrite())
    spec.regex_rewrite = regex_rewrite_spec(action.regex_rewrite(), path.field("regex_rewrite"), t);
  if (!spec.prefix_rewrite.empty() && action.has_regex_rewrite())
    t.fault(path.field("regex_rewrite"), "and prefix_rewrite exclude each other");
  switch (action.host_rewrite_specifier_case()) {
    case route::RouteAction::kHostRewriteLiteral:
      spec.host_rewrite_literal = action.host_rewrite_literal();
      if (spec.host_rewrite_literal.empty()) t.fault(path.field("host_rewrite_literal"), "must not be empty");
      check_header_value(spec.host_rewrite_literal, path.field("host_rewrite_literal"), t);
      break;
    case route::RouteAction::kHostRewriteHeader:
      spec.host_rewrite_header =
          header_name_of(action.host_rewrite_header(), true, path.field("host_rewrite_header"), t);
      break;
    case route::RouteAction::kAutoHostRewrite:
      spec.auto_host_rewrite = action.auto_host_rewrite().value();
      break;
    case route::RouteAction::HOST_REWRITE_SPECIFIER_NOT_SET:
      break;
  }
  spec.append_x_forwarded_host = action.append_x_forwarded_host();
}

void durations(const route::RouteAction& action, ForwardSpec& spec, const FieldPath& path, Translation& t) {
  const route::RouteAction::MaxStreamDuration& most = action.max_stream_duration();
  const FieldPath at = path.field("max_stream_duration");
  if (most.has_max_stream_duration())
    spec.max_stream_duration_ms = duration_ms(most.max_stream_duration(), at.field("max_stream_duration"), t);
  if (most.has_grpc_timeout_header_max())
    spec.grpc_timeout_header_max_ms =
        duration_ms(most.grpc_timeout_header_max(), at.field("grpc_timeout_header_max"), t);
  if (most.has_grpc_timeout_header_offset())
    spec.grpc_timeout_header_offset_ms =
        duration_ms(most.grpc_timeout_header_offset(), at.field("grpc_timeout_header_offset"), t);
  if (action.has_max_grpc_timeout())
    spec.max_grpc_timeout_ms = duration_ms(action.max_grpc_timeout(), path.field("max_grpc_timeout"), t);
  if (action.has_grpc_timeout_offset())
    spec.grpc_timeout_offset_ms = duration_ms(action.grpc_timeout_offset(), path.field("grpc_timeout_offset"), t);
}

}  // namespace

RetryPolicySpec retry_policy_spec(const route::RetryPolicy& policy, const FieldPath& path, Translation& t) {
  RetryPolicySpec spec;
  retry_conditions(policy.retry_on(), spec, path.field("retry_on"), t);
  if (policy.has_num_retries()) spec.num_retries = policy.num_retries().value();
  if (policy.has_per_try_timeout())
    spec.per_try_timeout_ms = duration_ms(policy.per_try_timeout(), path.field("per_try_timeout"), t);
  each(policy.retriable_status_codes(), path.field("retriable_status_codes"), [&](uint32_t code, const FieldPath& at) {
    if (code < 100 || code > 599) t.fault(at, fmt::format("is {}, no HTTP status (100 to 599)", code));
    spec.retriable_status_codes.push_back(code);
  });
  if (policy.has_retry_back_off()) {
    const route::RetryPolicy::RetryBackOff& back_off = policy.retry_back_off();
    const FieldPath at = path.field("retry_back_off");
    const size_t errors = t.faults.errors();
    if (!back_off.has_base_interval())
      t.fault(at.field("base_interval"), "is required");
    else if ((spec.base_interval_ms = duration_ms(back_off.base_interval(), at.field("base_interval"), t)) == 0 &&
             t.faults.errors() == errors)
      t.fault(at.field("base_interval"), "must be above 0");
    spec.max_interval_ms = spec.base_interval_ms * 10;
    if (back_off.has_max_interval()) {
      spec.max_interval_ms = duration_ms(back_off.max_interval(), at.field("max_interval"), t);
      if (t.faults.errors() == errors && spec.max_interval_ms < spec.base_interval_ms)
        t.fault(at.field("max_interval"), "must not be below base_interval");
    }
  }
  return spec;
}

std::vector<MirrorSpec> mirror_specs(const MirrorPolicies& policies, const FieldPath& path, Translation& t) {
  std::vector<MirrorSpec> specs;
  each(policies, path.field("request_mirror_policies"), [&](const auto& policy, const FieldPath& at) {
    MirrorSpec& spec = specs.emplace_back();
    spec.cluster = policy.cluster();
    if (policy.cluster().empty() == policy.cluster_header().empty())
      t.fault(at, policy.cluster().empty() ? "needs cluster or cluster_header"
                                           : "cluster and cluster_header exclude each other");
    if (!policy.cluster_header().empty())
      spec.cluster_header = header_name_of(policy.cluster_header(), true, at.field("cluster_header"), t);
    if (policy.has_runtime_fraction())
      spec.fraction = runtime_fraction_spec(policy.runtime_fraction(), at.field("runtime_fraction"), t);
    spec.append_shadow = !policy.disable_shadow_host_suffix_append();
  });
  return specs;
}

ForwardSpec forward_spec(const route::RouteAction& action, const std::string& scope, const FieldPath& path,
                         Translation& t) {
  ForwardSpec spec;
  spec.metadata_match = metadata_match(action.metadata_match(), {}, path.field("metadata_match"), t);
  cluster_specifier(action, scope, spec, path, t);
  rewrites(action, spec, path, t);
  if (action.has_timeout()) spec.timeout_ms = duration_ms(action.timeout(), path.field("timeout"), t);
  if (action.has_idle_timeout())
    spec.idle_timeout_ms = duration_ms(action.idle_timeout(), path.field("idle_timeout"), t);
  durations(action, spec, path, t);
  if (action.has_retry_policy()) spec.retry = retry_policy_spec(action.retry_policy(), path.field("retry_policy"), t);
  spec.mirrors = mirror_specs(action.request_mirror_policies(), path, t);
  if (action.priority() != core::DEFAULT) t.fault(path.field("priority"), "only DEFAULT is supported");
  each(action.rate_limits(), path.field("rate_limits"),
       [&](const auto& limit, const FieldPath& at) { spec.rate_limits.push_back(rate_limit_spec(limit, at, t)); });
  const FieldPath upgrades = path.field("upgrade_configs");
  spec.upgrades = upgrade_specs(action.upgrade_configs(), upgrades, t);
  size_t index = 0;
  each(action.upgrade_configs(), upgrades, [&](const route::RouteAction::UpgradeConfig& config, const FieldPath& at) {
    UpgradeSpec& upgrade = spec.upgrades[index++];
    if (!config.has_connect_config()) return;
    if (upgrade.type != "connect") t.fault(at.field("connect_config"), "is of upgrade_type CONNECT only");
    upgrade.terminate = true;
    if (config.connect_config().has_proxy_protocol_config())
      upgrade.proxy_header = proxy_header_version(config.connect_config().proxy_protocol_config());
  });
  return spec;
}

}  // namespace outrigger::config
