// HTTP filters: finding the FilterType of a config, compiling it, and sharing what is equal.
#include <fmt/format.h>

#include <unordered_set>

#include "config/any.h"
#include "config/proto_dump.h"
#include "config/translation.h"
#include "envoy/config/route/v3/route_components.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"

namespace outrigger::config {
namespace hcm = envoy::extensions::filters::network::http_connection_manager::v3;

namespace {

using google::protobuf::Any;
using RouterConfig = envoy::extensions::filters::http::router::v3::Router;

constexpr std::string_view kRouterType = "envoy.extensions.filters.http.router.v3.Router";
constexpr std::string_view kRouterName = "envoy.filters.http.router";
constexpr std::string_view kFilterConfigType = "envoy.config.route.v3.FilterConfig";

template <class Match>
const FilterType* find_filter(const Translation& t, Match&& match) {
  for (const FilterType& filter : t.state.filters) {
    if (match(filter)) return &filter;
  }
  return nullptr;
}

// Where a filter config stands.
struct FilterPlace {
  std::string_view kind;  // "filter" or "route"
  std::string scope;
  uint16_t filter_id = 0;
  std::string http_prefix = {};
};

// The compiled part of a filter config, an equal one of the same place if there is one.
template <class Part, class Compile>
CompiledRef<Part> compile_shared(Compile compile, const FilterPlace& place, const Any& any, const FieldPath& path,
                                 Translation& t) {
  CompiledRef<Part> ref;
  ref.type = std::string(type_name(any));
  const auto message = unpack(any, path, t.faults);
  if (message == nullptr) return ref;
  ref.bytes = deterministic_bytes(*message);
  std::string key;
  for (const std::string_view piece :
       {place.kind, std::string_view(ref.type), std::string_view(place.scope), std::string_view(place.http_prefix)})
    key += fmt::format("{}:{}", piece.size(), piece);
  key += ref.bytes;
  if (const auto shared = t.state.interner.find(key)) {
    ref.part = std::static_pointer_cast<const Part>(shared);
    return ref;
  }
  const size_t errors = t.faults.errors();
  CompileContext context{.faults = t.faults,
                         .states = t.state.states,
                         .stats = t.state.stats,
                         .scope = place.scope,
                         .filter_id = place.filter_id,
                         .node_cluster = t.state.node_cluster,
                         .http_prefix = place.http_prefix};
  ref.part = compile(*message, path, context);
  if (ref.part == nullptr && t.faults.errors() == errors) t.fault(path, "the filter refused this without saying why");
  if (t.faults.errors() == errors) t.state.interner.keep(key, ref.part);
  return ref;
}

// An id for a filter's name; a fault when there are none left.
uint16_t id_of(const std::string& name, const FieldPath& path, Translation& t) {
  const uint16_t id = filter_name_id(name);
  if (id == kNoFilterId)
    t.fault(path, "is one filter name too many since this process started; use names again or restart");
  return id;
}

// Unknown types are skipped where the config or the operator says that they may be.
void unknown_type(bool optional, std::string message, const FieldPath& path, Translation& t) {
  if (optional || t.state.options.unknown_fields == UnknownFields::kWarn)
    t.faults.warn(path, message + "; skipped");
  else
    t.fault(path, std::move(message));
}

std::string known_types(const Translation& t, std::string_view FilterType::*type) {
  std::string out;
  for (const FilterType& filter : t.state.filters) {
    if ((filter.*type).empty()) continue;
    if (!out.empty()) out += ", ";
    out += filter.*type;
  }
  return out.empty() ? "none" : out;
}

void router(const hcm::HttpFilter& filter, HcmSpec& spec, const FieldPath& path, Translation& t) {
  RouterConfig config;
  const FieldPath at = path.field("typed_config");
  if (!unpack_to(filter.typed_config(), config, at, t.faults)) return;
  check_field_use(config, at, t.faults);
  if (filter.disabled()) t.fault(path.field("disabled"), "the router cannot be disabled");
  spec.router_suppress_envoy_headers = config.suppress_envoy_headers();
  spec.respect_expected_rq_timeout = config.respect_expected_rq_timeout();
}

void http_filter(const hcm::HttpFilter& filter, const std::string& scope, HcmSpec& spec, const FieldPath& path,
                 Translation& t) {
  const FieldPath at = path.field("typed_config");
  const std::string_view type = type_name(filter.typed_config());
  const FilterType* found = find_filter(t, [&](const FilterType& f) { return f.config_type == type; });
  if (found == nullptr) {
    const FilterType* route_only = find_filter(t, [&](const FilterType& f) { return f.route_type == type; });
    if (route_only != nullptr)
      t.fault(at,
              fmt::format("type {} belongs in typed_per_filter_config; here use {}", type, route_only->config_type));
    else
      unknown_type(filter.is_optional(),
                   fmt::format("type {} is not an HTTP filter that this program has; it has {}, {}", type,
                               known_types(t, &FilterType::config_type), kRouterType),
                   at, t);
    return;
  }
  const uint16_t id = id_of(filter.name(), path.field("name"), t);
  HttpFilterSpec& out = spec.filters.emplace_back();
  out.name = filter.name();
  out.disabled = filter.disabled();
  const FilterPlace place{
      .kind = "filter", .scope = scope + "/" + filter.name(), .filter_id = id, .http_prefix = spec.stat_prefix};
  out.config = compile_shared<FilterConfig>(found->compile, place, filter.typed_config(), at, t);
}

}  // namespace

std::optional<PerFilterConfig> per_filter_config(const std::string& name, const Any& any, const std::string& scope,
                                                 const FieldPath& path, Translation& t) {
  PerFilterConfig out{.filter_name = name};
  if (name.empty()) t.fault(path, "the key must be the name of an HTTP filter");
  const bool wrapped = type_name(any) == kFilterConfigType;
  envoy::config::route::v3::FilterConfig wrapper;
  if (wrapped) {
    if (!unpack_to(any, wrapper, path, t.faults)) return std::nullopt;
    check_field_use(wrapper, path, t.faults);
    out.disabled = wrapper.disabled();
    if (!wrapper.has_config()) {
      if (!out.disabled) t.fault(path, "needs config, or disabled: true");
      out.filter_id = id_of(name, path, t);
      return out;
    }
  }
  const Any& inner = wrapped ? wrapper.config() : any;
  const FieldPath at = wrapped ? path.field("config") : path;
  const std::string_view type = type_name(inner);
  const FilterType* found =
      find_filter(t, [&](const FilterType& f) { return !f.route_type.empty() && f.route_type == type; });
  if (found == nullptr) {
    const FilterType* listener_only = find_filter(t, [&](const FilterType& f) { return f.config_type == type; });
    if (listener_only == nullptr)
      unknown_type(wrapper.is_optional(),
                   fmt::format("type {} is not the per-route config of an HTTP filter that this program has; it has {}",
                               type, known_types(t, &FilterType::route_type)),
                   at, t);
    else
      t.fault(at, listener_only->route_type.empty()
                      ? fmt::format("filter {} has no per-route config", listener_only->name)
                      : fmt::format("type {} belongs in http_filters; here use {}", type, listener_only->route_type));
    return std::nullopt;
  }
  const FilterType* named = find_filter(t, [&](const FilterType& f) { return f.name == name; });
  if (name == kRouterName || (named != nullptr && named != found)) {
    t.fault(at, fmt::format("type {} is a config of {}, not of {}", type, found->name, name));
    return std::nullopt;
  }
  out.filter_id = id_of(name, path, t);
  const FilterPlace place{.kind = "route", .scope = scope + "/" + name, .filter_id = out.filter_id};
  out.config = compile_shared<FilterPart>(found->compile_route, place, inner, at, t);
  return out;
}

void http_filters(const hcm::HttpConnectionManager& manager, const std::string& scope, HcmSpec& spec,
                  const FieldPath& path, Translation& t) {
  std::unordered_set<std::string_view> names;
  bool routed = false;
  const int last = manager.http_filters_size() - 1;
  for (int i = 0; i <= last; ++i) {
    const hcm::HttpFilter& filter = manager.http_filters(i);
    const FieldPath list = path.field("http_filters");
    const FieldPath at = list.index(static_cast<size_t>(i));
    if (filter.name().empty())
      t.fault(at.field("name"), "must not be empty");
    else if (!names.insert(filter.name()).second)
      t.fault(at.field("name"), fmt::format("\"{}\" is the name of an earlier filter of this chain", filter.name()));
    if (filter.config_type_case() != hcm::HttpFilter::kTypedConfig) {
      t.fault(at.field("typed_config"), "is required");
    } else if (type_name(filter.typed_config()) == kRouterType) {
      router(filter, spec, at, t);
      if (i != last) t.fault(at, "the router must be the last filter: nothing after it would ever run");
      routed = true;
    } else {
      http_filter(filter, scope, spec, at, t);
    }
  }
  if (!routed)
    t.fault(path.field("http_filters"),
            fmt::format("must end with the router: name {}, typed_config of type {}", kRouterName, kRouterType));
}

}  // namespace outrigger::config
