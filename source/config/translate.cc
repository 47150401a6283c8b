#include "config/translate.h"

#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/arena.h>
#include <google/protobuf/stubs/logging.h>

#include <map>
#include <numeric>
#include <set>

#include "base/check.h"
#include "config/any.h"
#include "config/proto_dump.h"
#include "config/proto_reader.h"
#include "config/strict.h"
#include "config/translation.h"
#include "config/yaml_document.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

namespace outrigger::config {
namespace {

using envoy::config::bootstrap::v3::Bootstrap;
using envoy::config::cluster::v3::Cluster;
using envoy::config::endpoint::v3::ClusterLoadAssignment;
using envoy::config::listener::v3::Listener;
using envoy::config::route::v3::RouteConfiguration;
using envoy::extensions::transport_sockets::tls::v3::Secret;
using DiscoveryResource = envoy::service::discovery::v3::Resource;

// Adds the faults of meaning to those of form, leaving out what only follows from them: if a field could not be read,
// that it is missing or wrong is no news. `below`: nor is anything below it (text that could not be read leaves holes;
// what came over the wire was read in full).
void append_unshadowed(const Faults& meaning, bool below, Faults& form) {
  std::set<std::string, std::less<>> broken, warned;
  for (const Fault& fault : form.all()) (fault.warning ? warned : broken).insert(fault.path);
  const auto shadowed = [&](const Fault& fault) {
    if (fault.warning && warned.contains(fault.path)) return true;
    if (broken.contains(fault.path)) return true;
    for (size_t i = 1; below && i < fault.path.size(); ++i) {
      const char c = fault.path[i];
      if ((c == '.' || c == '[') && broken.contains(std::string_view(fault.path).substr(0, i))) return true;
    }
    return false;
  };
  Faults kept;
  for (const Fault& fault : meaning.all()) {
    if (shadowed(fault)) continue;
    if (fault.warning)
      kept.warn(FieldPath(fault.path), fault.message);
    else
      kept.add_at(fault.path, fault.message);
  }
  form.append(kept);
}

void name_resource(Faults& faults, const std::string& file, const std::string& resource) {
  for (Fault& fault : faults.all()) {
    if (fault.file.empty()) fault.file = file;
    if (fault.resource.empty()) fault.resource = resource;
  }
}

// "Cluster/backend"
std::string resource_label(ResourceType type, std::string_view name) {
  const std::string_view full = type_name(type_url(type));
  return fmt::format("{}/{}", full.substr(full.rfind('.') + 1), name);
}

std::string known_resource_types() {
  std::string out;
  for (size_t i = 0; i < kResourceTypeCount; ++i) {
    if (i > 0) out += ", ";
    out += type_name(type_url(static_cast<ResourceType>(i)));
  }
  return out;
}

// The faults of `all` at or below `path`.
Faults faults_below(const Faults& all, const std::string& path) {
  Faults below;
  for (const Fault& fault : all.all()) {
    if (!fault.path.starts_with(path)) continue;
    if (fault.path.size() > path.size() && fault.path[path.size()] != '.') continue;
    Faults one;
    fault.warning ? one.warn(FieldPath(fault.path), fault.message) : one.add_at(fault.path, fault.message);
    one.all().front() = fault;
    below.append(one);
  }
  return below;
}

// The keys of a table that was translated; those of routes that cannot be kept are taken away.
std::shared_ptr<const RouteKeys> keys_of(std::vector<RouteKey> routes, const KeptRoutes* kept,
                                         const RouteTableSpec& spec) {
  auto keys = std::make_shared<RouteKeys>();
  keys->routes = std::move(routes);
  std::vector<size_t> fresh;  // the places of the new routes, which `spec` has
  if (kept == nullptr) {
    keys->pieces = even_pieces(keys->routes.size());
    fresh.resize(keys->routes.size());
    std::iota(fresh.begin(), fresh.end(), 0);
  } else {
    size_t at = 0;
    for (const KeptRoutes::Piece& piece : kept->pieces) {
      keys->pieces.push_back(piece.routes);
      for (uint32_t i = 0; i < piece.routes; ++i, ++at)
        if (piece.from == KeptRoutes::kNew) fresh.push_back(at);
    }
  }
  auto place = fresh.begin();
  for (const VirtualHostSpec& host : spec.virtual_hosts) {
    for (const RouteSpec& route : host.routes) {
      if (!route.of_bytes_alone) keys->routes[*place] = {};
      ++place;
    }
  }
  CHECK(place == fresh.end());
  return keys;
}

}  // namespace

struct Translator::Impl {
  TranslatorState state;

  // Reads `bytes` as a Message, checks and translates it with `translate`.
  template <class Message, class Translate>
  void read(std::string_view bytes, bool strict, const FieldPath& path, TranslatedResource& out,
            Translate&& translate) {
    // A table of 10,000 routes is 50,000 small objects: made and freed as a whole.
    google::protobuf::Arena arena;
    Message& message = *google::protobuf::Arena::CreateMessage<Message>(&arena);
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      out.faults.add(path, fmt::format("is not a serialised {}", message.GetTypeName()));
      return;
    }
    out.bytes = deterministic_bytes(message);
    if (strict) check_strict(message, path, out.faults, state.options.unknown_fields);
    Faults meaning;
    Translation t{state, meaning};
    check_field_use(message, path, meaning);
    out.spec = translate(message, t);
    out.name = resource_name(*out.spec);
    append_unshadowed(meaning, !strict, out.faults);
  }

  void read_table(std::string_view bytes, bool strict, const FieldPath& path, TranslatedResource& out) {
    read<RouteConfiguration>(bytes, strict, path, out, [&](const RouteConfiguration& m, Translation& t) {
      return route_table_spec(m, true, "route_table/" + m.name(), path, t);
    });
  }

  // A table over the wire: by the pieces that its last version does not have, if they are without any fault; else as a
  // whole, for the faults' places are those in the whole.
  void read_next_table(std::string_view bytes, const FieldPath& path, TranslatedResource& out) {
    std::optional<RouteWalk> walk = walk_routes(bytes, true);
    const TableBase base = walk ? state.options.table_base(walk->name) : TableBase();
    std::shared_ptr<KeptRoutes> kept = base.keys == nullptr ? nullptr : keep_pieces(walk->keys, *base.keys);
    if (kept != nullptr) {
      kept->compiled = base.compiled;
      kept->host_routes = walk->host_routes;
      TranslatedResource reduced{.type = out.type};
      read_table(without_kept(bytes, *kept), true, path, reduced);
      if (reduced.spec && reduced.faults.all().empty()) {
        reduced.bytes = with_kept(reduced.bytes, *kept, base);
        out = std::move(reduced);
      } else {
        kept.reset();
      }
    }
    if (kept == nullptr) read_table(bytes, true, path, out);
    if (!walk || !out.spec || !out.faults.all().empty()) return;  // a warning is said again each time
    auto& spec = std::get<RouteTableSpec>(*out.spec);
    spec.keys = keys_of(std::move(walk->keys), kept.get(), spec);
    spec.kept = std::move(kept);
  }

  // `out.faults` may hold faults of form already. `strict`: the bytes came over the wire.
  void translate(std::string_view type, std::string_view bytes, bool strict, const FieldPath& path,
                 TranslatedResource& out) {
    if (type_name(type) == DiscoveryResource::descriptor()->full_name()) {
      unwrap(bytes, strict, path, out);
      return;
    }
    const auto found = find_resource_type(fmt::format("type.googleapis.com/{}", type_name(type)));
    if (!found) {
      if (out.faults.ok())
        out.faults.add(
            path, fmt::format("type {} is not a resource; resources are {}", type_name(type), known_resource_types()));
      return;
    }
    out.type = *found;
    switch (*found) {
      case ResourceType::kListener:
        read<Listener>(bytes, strict, path, out,
                       [&](const Listener& m, Translation& t) { return listener_spec(m, true, path, t); });
        break;
      case ResourceType::kRouteTable:
        if (!strict || !state.options.table_base)
          read_table(bytes, strict, path, out);
        else
          read_next_table(bytes, path, out);
        break;
      case ResourceType::kCluster:
        read<Cluster>(bytes, strict, path, out,
                      [&](const Cluster& m, Translation& t) { return cluster_spec(m, path, t); });
        break;
      case ResourceType::kEndpoints:
        read<ClusterLoadAssignment>(bytes, strict, path, out, [&](const ClusterLoadAssignment& m, Translation& t) {
          return endpoints_spec(m, AddressUse::kStaticHost, path, t);
        });
        break;
      case ResourceType::kSecret:
        read<Secret>(bytes, strict, path, out,
                     [&](const Secret& m, Translation& t) { return secret_spec(m, path, t); });
        break;
    }
    if (!out.faults.ok()) out.spec.reset();
    name_resource(out.faults, "", resource_label(out.type, out.name));
  }

  void unwrap(std::string_view bytes, bool strict, const FieldPath& path, TranslatedResource& out) {
    DiscoveryResource wrapper;
    if (!wrapper.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      out.faults.add(path, fmt::format("is not a serialised {}", wrapper.GetTypeName()));
      return;
    }
    const FieldPath at = path.field("resource");
    if (type_name(wrapper.resource()) == DiscoveryResource::descriptor()->full_name()) {
      out.faults.add(at, "is a wrapped resource in another wrapper");
      return;
    }
    translate(wrapper.resource().type_url(), wrapper.resource().value(), strict, at, out);
    if (!wrapper.name().empty() && !out.name.empty() && wrapper.name() != out.name)
      out.faults.add(path.field("name"),
                     fmt::format("is \"{}\", but the resource's own name is \"{}\"", wrapper.name(), out.name));
    if (!out.faults.ok()) out.spec.reset();
  }
};

Translator::Translator(std::span<const FilterType> filters, StateRegistry& states, stats::Registry& stats,
                       TranslateOptions options)
    : impl_(new Impl{.state = {.filters = filters, .states = states, .stats = stats, .options = options}}) {
  // What protobuf has to say about bytes from outside is a fault of ours; it must not also fill standard error.
  [[maybe_unused]] static const auto silenced = google::protobuf::SetLogHandler(nullptr);
}

Translator::~Translator() = default;

TranslatedBootstrap Translator::bootstrap(std::string_view text, std::string_view file) {
  TranslatedBootstrap out;
  YamlDocument document;
  if (!document.parse(text, file, out.faults)) return out;
  Bootstrap message;
  read_message(document, message, out.faults, impl_->state.options.unknown_fields);
  out.bytes = deterministic_bytes(message);

  Faults meaning;
  Translation t{impl_->state, meaning};
  const FieldPath root;
  check_field_use(message, root, meaning);
  BootstrapSpec spec = bootstrap_spec(message, root, t);
  append_unshadowed(meaning, true, out.faults);
  document.locate(out.faults);
  name_resource(out.faults, std::string(file), "");

  const auto add = [&](ResourceType type, const char* list, size_t i, Spec resource,
                       const google::protobuf::Message& m) {
    TranslatedResource& added = out.resources.emplace_back();
    added.type = type;
    added.name = resource_name(resource);
    added.bytes = deterministic_bytes(m);
    added.faults = faults_below(out.faults, fmt::format("static_resources.{}[{}]", list, i));
    if (added.faults.ok()) added.spec = std::move(resource);
  };
  const auto& statics = message.static_resources();
  for (int i = 0; i < statics.secrets_size(); ++i)
    add(ResourceType::kSecret, "secrets", static_cast<size_t>(i), spec.secrets[static_cast<size_t>(i)],
        statics.secrets(i));
  for (int i = 0; i < statics.listeners_size(); ++i)
    add(ResourceType::kListener, "listeners", static_cast<size_t>(i), spec.listeners[static_cast<size_t>(i)],
        statics.listeners(i));
  for (int i = 0; i < statics.clusters_size(); ++i)
    add(ResourceType::kCluster, "clusters", static_cast<size_t>(i), spec.clusters[static_cast<size_t>(i)],
        statics.clusters(i));
  if (out.faults.ok()) out.spec = std::move(spec);
  return out;
}

TranslatedResource Translator::resource(const google::protobuf::Any& any, const FieldPath& path) {
  return resource(any.type_url(), any.value(), path);
}

TranslatedResource Translator::resource(std::string_view type_url, std::string_view message_bytes,
                                        const FieldPath& path) {
  TranslatedResource out;
  impl_->translate(type_url, message_bytes, true, path, out);
  return out;
}

std::vector<TranslatedResource> Translator::resource_file(std::string_view text, std::string_view file,
                                                          Faults& file_faults) {
  std::vector<TranslatedResource> out;
  YamlDocument document;
  if (!document.parse(text, file, file_faults)) return out;
  std::string version;
  std::map<std::pair<ResourceType, std::string>, std::string> seen;
  for (ReadResource& read : read_resources(document, version, file_faults, impl_->state.options.unknown_fields)) {
    TranslatedResource& added = out.emplace_back();
    added.faults = std::move(read.faults);
    added.path = read.path;
    added.line = read.line;
    const FieldPath path(read.path);
    if (!read.type_url.empty()) impl_->translate(read.type_url, read.bytes, false, path, added);
    if (!added.name.empty()) {
      const auto [it, first] = seen.emplace(std::pair(added.type, added.name), read.path);
      if (!first) {
        added.faults.add(path, fmt::format("is the same resource as {}", it->second));
        added.spec.reset();
      }
    }
    if (!added.faults.ok()) added.spec.reset();
    document.locate(added.faults);
    for (Fault& fault : added.faults.all()) {
      if (fault.line == 0) fault.line = read.line;
    }
    name_resource(added.faults, std::string(file), added.name.empty() ? "" : resource_label(added.type, added.name));
  }
  return out;
}

}  // namespace outrigger::config
