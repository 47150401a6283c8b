// Where resources come from.
#include <fmt/format.h>

#include <algorithm>

#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "envoy/config/core/v3/grpc_service.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;

namespace {

using Cluster = envoy::config::cluster::v3::Cluster;

// The cluster becomes a channel, so its hosts must be in the bootstrap.
void check_cluster(const std::string& name, const FieldPath& path, Translation& t) {
  if (name.empty()) {
    t.fault(path, "must not be empty");
  } else if (t.state.targets) {
    const auto found = t.state.targets->clusters.find(name);
    if (found == t.state.targets->clusters.end())
      t.fault(path, fmt::format("\"{}\" is not among static_resources.clusters", name));
    else if (!found->second.empty())
      t.fault(path, fmt::format("cluster \"{}\" {}", name, found->second));
  }
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

// What gRPC does not take as metadata it takes as a mistake of ours.
void metadata(const core::HeaderValue& header, GrpcServiceSpec& spec, const FieldPath& path, Translation& t) {
  const size_t errors = t.faults.errors();
  std::string name = header_name_of(header.key(), false, path.field("key"), t);
  const bool is_name = t.faults.errors() == errors;
  check_header_value(header.value(), path.field("value"), t);
  const auto legal = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  if (is_name && (name.starts_with("grpc-") || !std::all_of(name.begin(), name.end(), legal)))
    t.fault(path.field("key"), fmt::format("\"{}\" cannot be sent with a gRPC call", name));
  if (!name.ends_with("-bin") && !is_ascii(header.value())) t.fault(path.field("value"), "must be printable ASCII");
  spec.initial_metadata.emplace_back(std::move(name), header.value());
}

// gRPC has more schemes; these are those that lead to an address.
bool is_target(std::string_view uri) {
  const size_t scheme = uri.find("://");
  if (scheme != std::string_view::npos) return uri.starts_with("dns:") || uri.starts_with("unix:");
  return !uri.empty() && is_ascii(uri) && uri.find(' ') == std::string_view::npos;
}

bool is_local(std::string_view uri) {
  for (const std::string_view start : {"unix:", "unix-abstract:", "127.", "[::1]", "localhost:"})
    if (uri.starts_with(start)) return true;
  return false;
}

void google_grpc(const core::GrpcService& service, GrpcServiceSpec& spec, const FieldPath& path, Translation& t) {
  using Credentials = core::GrpcService::GoogleGrpc::ChannelCredentials;
  const core::GrpcService::GoogleGrpc& from = service.google_grpc();
  spec.target_uri = from.target_uri();
  if (!is_target(spec.target_uri))
    t.fault(path.field("target_uri"), "must be an address such as control.example:443, or begin with dns: or unix:");
  const FieldPath channel = path.field("channel_credentials");
  const auto kind = from.channel_credentials().credential_specifier_case();
  if (kind == Credentials::kSslCredentials)
    spec.tls = ssl_credentials_spec(service, channel.field("ssl_credentials"), t);
  else if (kind == Credentials::kLocalCredentials && !is_local(spec.target_uri))
    t.fault(channel.field("local_credentials"), "are for addresses of this machine; use ssl_credentials");
  else if (kind == Credentials::CREDENTIAL_SPECIFIER_NOT_SET && from.has_channel_credentials())
    t.fault(channel, "needs ssl_credentials or local_credentials");
  if (from.call_credentials_size() > 1) t.fault(path.field("call_credentials"), "has more than one entry");
  each(from.call_credentials(), path.field("call_credentials"), [&](const auto& call, const FieldPath& at) {
    const std::string& token = call.access_token();
    if (token.empty() || !is_ascii(token)) t.fault(at.field("access_token"), "must be printable ASCII, not empty");
    if (kind == Credentials::CREDENTIAL_SPECIFIER_NOT_SET)
      t.fault(at, "need channel_credentials: a token is not sent in clear to another machine");
    spec.initial_metadata.emplace_back("authorization", "Bearer " + token);
  });
}

GrpcServiceSpec grpc_service_spec(const core::GrpcService& service, const FieldPath& path, Translation& t) {
  GrpcServiceSpec spec;
  const FieldPath at = path.field("envoy_grpc");
  switch (service.target_specifier_case()) {
    case core::GrpcService::kEnvoyGrpc:
      spec.cluster = service.envoy_grpc().cluster_name();
      check_cluster(spec.cluster, at.field("cluster_name"), t);
      spec.authority = service.envoy_grpc().authority();
      check_header_value(spec.authority, at.field("authority"), t);
      break;
    case core::GrpcService::kGoogleGrpc:
      google_grpc(service, spec, path.field("google_grpc"), t);
      break;
    case core::GrpcService::TARGET_SPECIFIER_NOT_SET:
      t.fault(path, "needs envoy_grpc or google_grpc");
  }
  each(service.initial_metadata(), path.field("initial_metadata"),
       [&](const auto& header, const FieldPath& entry) { metadata(header, spec, entry, t); });
  return spec;
}

void file_source(const std::string& file, const FieldPath& path, ConfigSourceSpec& spec, Translation& t) {
  spec.kind = ConfigSourceSpec::Kind::kFile;
  spec.path = file;
  if (file.empty()) t.fault(path, "must not be empty");
}

}  // namespace

SourceTargets source_targets(const envoy::config::bootstrap::v3::Bootstrap& bootstrap) {
  SourceTargets targets;
  targets.ads = bootstrap.dynamic_resources().has_ads_config();
  targets.node_id = !bootstrap.node().id().empty();
  for (const auto& secret : bootstrap.static_resources().secrets()) targets.secrets.insert(secret.name());
  for (const Cluster& cluster : bootstrap.static_resources().clusters()) {
    std::string& problem = targets.clusters[cluster.name()];
    const auto& localities = cluster.load_assignment().endpoints();
    if (cluster.type() == Cluster::EDS)
      problem = "is of type EDS; the way to a control plane needs STATIC, STRICT_DNS or LOGICAL_DNS";
    else if (std::all_of(localities.begin(), localities.end(), [](const auto& l) { return l.lb_endpoints().empty(); }))
      problem = "has no endpoints";
  }
  return targets;
}

ConfigSourceSpec grpc_source_spec(const core::ApiConfigSource& source, bool ads, const FieldPath& path,
                                  Translation& t) {
  ConfigSourceSpec spec;
  spec.kind = ConfigSourceSpec::Kind::kGrpc;
  const bool aggregated = source.api_type() == core::ApiConfigSource::AGGREGATED_GRPC ||
                          source.api_type() == core::ApiConfigSource::AGGREGATED_DELTA_GRPC;
  switch (source.api_type()) {
    case core::ApiConfigSource::AGGREGATED_GRPC:
    case core::ApiConfigSource::GRPC:
      break;
    case core::ApiConfigSource::AGGREGATED_DELTA_GRPC:
    case core::ApiConfigSource::DELTA_GRPC:
      spec.delta = true;
      break;
    default:
      t.fault(path.field("api_type"), ads ? "must be GRPC, DELTA_GRPC, AGGREGATED_GRPC or AGGREGATED_DELTA_GRPC"
                                          : "must be GRPC or DELTA_GRPC");
  }
  if (aggregated && !ads)
    t.fault(path.field("api_type"), "is for dynamic_resources.ads_config; use ads, or GRPC or DELTA_GRPC");
  spec.set_node_on_first_message_only = source.set_node_on_first_message_only();
  if (source.grpc_services().empty()) t.fault(path.field("grpc_services"), "must not be empty");
  each(source.grpc_services(), path.field("grpc_services"),
       [&](const auto& service, const FieldPath& at) { spec.services.push_back(grpc_service_spec(service, at, t)); });
  // In the bootstrap that is said once, of the node.
  if (t.bootstrap == nullptr && t.state.targets && !t.state.targets->node_id)
    t.fault(path, "needs node.id in the bootstrap: the control plane knows the proxy by it");
  return spec;
}

ConfigSourceSpec config_source_spec(const core::ConfigSource& source, bool self, const FieldPath& path,
                                    Translation& t) {
  ConfigSourceSpec spec;
  switch (source.config_source_specifier_case()) {
    case core::ConfigSource::kPath:
      file_source(source.path(), path.field("path"), spec, t);
      break;
    case core::ConfigSource::kPathConfigSource: {
      const FieldPath at = path.field("path_config_source");
      file_source(source.path_config_source().path(), at.field("path"), spec, t);
      spec.watched_directory = source.path_config_source().watched_directory().path();
      if (source.path_config_source().has_watched_directory() && spec.watched_directory.empty())
        t.fault(at.field("watched_directory").field("path"), "must not be empty");
      break;
    }
    case core::ConfigSource::kApiConfigSource:
      spec = grpc_source_spec(source.api_config_source(), false, path.field("api_config_source"), t);
      break;
    case core::ConfigSource::kAds:
      spec.kind = ConfigSourceSpec::Kind::kAds;
      if (t.state.targets && !t.state.targets->ads)
        t.fault(path.field("ads"), "needs dynamic_resources.ads_config in the bootstrap");
      break;
    case core::ConfigSource::kSelf:
      spec.kind = ConfigSourceSpec::Kind::kSelf;
      if (!self || t.bootstrap != nullptr)
        t.fault(path.field("self"),
                "has no meaning here: no source delivered this; use ads, api_config_source or "
                "path_config_source");
      break;
    case core::ConfigSource::CONFIG_SOURCE_SPECIFIER_NOT_SET:
      t.fault(path, self ? "needs one of ads, self, api_config_source, path_config_source"
                         : "needs one of ads, api_config_source, path_config_source");
  }
  if (source.has_initial_fetch_timeout())
    spec.initial_fetch_timeout_ms = duration_ms(source.initial_fetch_timeout(), path.field("initial_fetch_timeout"), t);
  return spec;
}

}  // namespace outrigger::config
