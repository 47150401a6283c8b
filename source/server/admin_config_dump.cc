// /config_dump: Envoy's layout (one dump of each kind), with what waits and what was refused beside what is live.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/message.h>
#include <re2/re2.h>

#include <algorithm>
#include <chrono>

#include "config/any.h"
#include "config/proto_dump.h"
#include "server/admin_pages.h"
#include "server/json.h"

namespace outrigger::server {
namespace {

using config::ResourceType;
using proxy::Source;
using Resource = proxy::StoreStatus::Resource;

// The message as JSON with its "@type"; secrets are redacted by to_json.
std::string message_json(std::string_view type_url, std::string_view bytes) {
  google::protobuf::Any any;
  any.set_type_url(std::string(type_url));
  any.set_value(std::string(bytes));
  config::Faults faults;
  const auto message = config::unpack(any, config::FieldPath(), faults);
  if (message == nullptr) return "null";
  std::string json = config::to_json(*message);
  const size_t brace = json.find('{');
  if (brace == std::string::npos) return "null";
  const bool empty = json.find_first_not_of(" \n", brace + 1) == json.rfind('}');
  json.insert(brace + 1, fmt::format("\"@type\": \"{}\"{}", type_url, empty ? "" : ","));
  return json;
}

std::string time_text(int64_t unix_ms) {
  const time_t seconds = unix_ms / 1000;
  tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", utc, unix_ms % 1000);
}

struct Kind {
  ResourceType type;
  std::string_view dump;       // message of envoy.admin.v3
  std::string_view field;      // that holds the resource
  std::string_view of_static;  // lists
  std::string_view of_dynamic;
};
constexpr Kind kKinds[] = {
    {ResourceType::kCluster, "ClustersConfigDump", "cluster", "static_clusters", "dynamic_active_clusters"},
    {ResourceType::kListener, "ListenersConfigDump", "listener", "static_listeners", "dynamic_listeners"},
    {ResourceType::kRouteTable, "RoutesConfigDump", "route_config", "static_route_configs", "dynamic_route_configs"},
    {ResourceType::kEndpoints, "EndpointsConfigDump", "endpoint_config", "static_endpoint_configs",
     "dynamic_endpoint_configs"},
    {ResourceType::kSecret, "SecretsConfigDump", "secret", "static_secrets", "dynamic_active_secrets"},
};

void write_state(const Kind& kind, const Resource& resource, const std::string& version, const std::string& bytes,
                 JsonWriter& json) {
  json.key("version_info").string(version);
  json.key(kind.field).raw(message_json(config::type_url(kind.type), bytes));
  json.key("last_updated").string(time_text(resource.updated_unix_ms));
}

void write_troubles(const Resource& resource, JsonWriter& json) {
  if (resource.removed_but_named) json.key("removed_but_named").boolean(true);
  if (resource.refused().empty()) return;
  json.key("error_state").open('{').key("version_info").string(resource.refused_version());
  json.key("details").string(resource.refused()).close('}');
}

void write_waits(const Resource& resource, JsonWriter& json) {
  if (resource.waits_for().empty()) return;
  json.key("waits_for").open('[');
  for (const std::string& wait : resource.waits_for()) json.string(wait);
  json.close(']');
}

// Listeners come as Envoy has them: by name, with the states below. The others: one entry, the waiting state inside.
void write_resource(const Kind& kind, const Resource& resource, JsonWriter& json) {
  json.open('{').key("name").string(resource.name);
  if (const std::string& scope = resource.scope.text(); !scope.empty())
    json.key("config_source").string(scope.substr(0, scope.rfind('#')));
  const bool nested = kind.type == ResourceType::kListener && resource.source != Source::kStatic;
  if (!resource.live_bytes.empty()) {
    if (nested) json.key("active_state").open('{');
    write_state(kind, resource, resource.live_version, resource.live_bytes.text(), json);
    if (nested) json.close('}');
  }
  if (!resource.staged_bytes.empty() || !resource.waits_for().empty()) {
    json.key("warming_state").open('{');
    if (!resource.staged_bytes.empty())
      write_state(kind, resource, resource.staged_version, resource.staged_bytes.text(), json);
    write_waits(resource, json);
    json.close('}');
  }
  write_troubles(resource, json);
  json.close('}');
}

// Writes the dump one resource at a time.
class Dump {
 public:
  Dump(const ServerState& state, std::shared_ptr<const RE2> filter)
      : status_(state.status),
        snapshot_(state.snapshot),
        bootstrap_(state.bootstrap_bytes),
        filter_(std::move(filter)) {}

  bool next(std::string& out) {
    const bool more = step();
    out += json_.take_piece();
    if (!more) out += '\n';
    return more;
  }

 private:
  bool step() {
    if (!begun_) {
      begun_ = true;
      begin();
      begin_kind();
      return true;
    }
    const Kind& kind = kKinds[kind_];
    const auto wanted = [&](const Resource& r) {
      return r.type == kind.type && (r.source == Source::kStatic) == in_static_ &&
             (filter_ == nullptr || RE2::PartialMatch(r.name, *filter_));
    };
    while (at_ != status_->resources.end() && !wanted(*at_)) ++at_;
    if (at_ != status_->resources.end()) {
      write_resource(kind, *at_++, json_);
      return true;
    }
    at_ = status_->resources.begin();
    json_.close(']');
    if (std::exchange(in_static_, false)) {
      json_.key(kind.of_dynamic).open('[');
      return true;
    }
    json_.close('}');
    if (++kind_ < std::size(kKinds)) {
      begin_kind();
      return true;
    }
    json_.close(']').close('}');
    return false;
  }

  void begin() {
    json_.open('{').key("version").number(snapshot_->version).key("forced").number(status_->forced);
    json_.key("configs").open('[');
    if (filter_ != nullptr) return;
    json_.open('{').key("@type").string("type.googleapis.com/envoy.admin.v3.BootstrapConfigDump");
    json_.key("bootstrap").raw(message_json("type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap", bootstrap_));
    json_.close('}');
  }

  void begin_kind() {
    const Kind& kind = kKinds[kind_];
    in_static_ = true;
    json_.open('{').key("@type").string(fmt::format("type.googleapis.com/envoy.admin.v3.{}", kind.dump));
    json_.key(kind.of_static).open('[');
  }

  std::shared_ptr<const proxy::StoreStatus> status_;
  std::shared_ptr<const proxy::Snapshot> snapshot_;
  const std::string bootstrap_;
  std::shared_ptr<const RE2> filter_;
  JsonWriter json_;
  bool begun_ = false;
  bool in_static_ = true;
  size_t kind_ = 0;
  proxy::StoreStatus::Resources::Iterator at_ = status_->resources.begin();
};

}  // namespace

AdminResponse config_dump_page(const AdminRequest& request, const ServerState& state) {
  std::shared_ptr<const RE2> filter;
  if (const std::string* pattern = request.find("name_regex")) {
    filter = std::make_shared<const RE2>(*pattern, RE2::Quiet);
    if (!filter->ok()) return text_response(fmt::format("name_regex: {}\n", filter->error()), 400);
  }
  auto dump = std::make_shared<Dump>(state, std::move(filter));
  return {.content_type = "application/json", .producer = [dump](std::string& out) { return dump->next(out); }};
}

}  // namespace outrigger::server
