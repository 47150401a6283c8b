// Where resources come from.
#include <fmt/format.h>

#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/core/v3/config_source.pb.h"
#include "envoy/config/core/v3/grpc_service.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;

namespace {

void grpc_service(const core::GrpcService& service, ConfigSourceSpec& spec, const FieldPath& path, Translation& t) {
  if (service.target_specifier_case() == core::GrpcService::kGoogleGrpc) return;  // a refused field
  const FieldPath at = path.field("envoy_grpc");
  if (service.target_specifier_case() != core::GrpcService::kEnvoyGrpc) {
    t.fault(at, "is required");
    return;
  }
  spec.grpc_cluster = service.envoy_grpc().cluster_name();
  if (spec.grpc_cluster.empty()) t.fault(at.field("cluster_name"), "must not be empty");
  spec.authority = service.envoy_grpc().authority();
  check_header_value(spec.authority, at.field("authority"), t);
  each(service.initial_metadata(), path.field("initial_metadata"), [&](const auto& header, const FieldPath& entry) {
    std::string name = header_name_of(header.key(), false, entry.field("key"), t);
    check_header_value(header.value(), entry.field("value"), t);
    spec.initial_metadata.emplace_back(std::move(name), header.value());
  });
}

void file_source(const std::string& file, const FieldPath& path, ConfigSourceSpec& spec, Translation& t) {
  spec.kind = ConfigSourceSpec::Kind::kFile;
  spec.path = file;
  if (file.empty()) t.fault(path, "must not be empty");
}

}  // namespace

ConfigSourceSpec grpc_source_spec(const core::ApiConfigSource& source, const FieldPath& path, Translation& t) {
  ConfigSourceSpec spec;
  spec.kind = ConfigSourceSpec::Kind::kGrpc;
  switch (source.api_type()) {
    case core::ApiConfigSource::AGGREGATED_GRPC:
    case core::ApiConfigSource::GRPC:
      break;
    case core::ApiConfigSource::AGGREGATED_DELTA_GRPC:
    case core::ApiConfigSource::DELTA_GRPC:
      spec.delta = true;
      break;
    default:
      t.fault(path.field("api_type"), "must be GRPC, DELTA_GRPC, AGGREGATED_GRPC or AGGREGATED_DELTA_GRPC");
  }
  spec.set_node_on_first_message_only = source.set_node_on_first_message_only();
  if (source.grpc_services_size() != 1)
    t.fault(path.field("grpc_services"), fmt::format("has {} entries, needs exactly one", source.grpc_services_size()));
  each(source.grpc_services(), path.field("grpc_services"),
       [&](const auto& service, const FieldPath& at) { grpc_service(service, spec, at, t); });
  return spec;
}

ConfigSourceSpec config_source_spec(const core::ConfigSource& source, SourceKinds kinds, const FieldPath& path,
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
      if (kinds.grpc)
        spec = grpc_source_spec(source.api_config_source(), path.field("api_config_source"), t);
      else
        t.fault(path.field("api_config_source"), "is not supported here; use ads, or path_config_source");
      break;
    case core::ConfigSource::kAds:
      spec.kind = ConfigSourceSpec::Kind::kAds;
      break;
    case core::ConfigSource::kSelf:
      spec.kind = ConfigSourceSpec::Kind::kSelf;
      if (!kinds.self)
        t.fault(path.field("self"), "has no meaning here: no source delivered this; use ads, or path_config_source");
      break;
    case core::ConfigSource::CONFIG_SOURCE_SPECIFIER_NOT_SET:
      t.fault(path, kinds.grpc ? "needs one of ads, path_config_source, api_config_source"
                               : "needs one of ads, self, path_config_source");
  }
  if (source.has_initial_fetch_timeout())
    spec.initial_fetch_timeout_ms = duration_ms(source.initial_fetch_timeout(), path.field("initial_fetch_timeout"), t);
  return spec;
}

}  // namespace outrigger::config
