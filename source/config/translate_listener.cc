// Listeners and filter chains.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "config/any.h"
#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb.h"
#include "envoy/extensions/filters/network/connection_limit/v3/connection_limit.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"

namespace outrigger::config {
namespace listener = envoy::config::listener::v3;

namespace {

using envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit;
using envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
using envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;

void port_in_match(uint32_t port, const FieldPath& path, Translation& t) {
  if (port == 0 || port > 65'535) t.fault(path, fmt::format("is {}, must be from 1 to 65535", port));
}

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 'a' - 'A');
  return text;
}

// A host name, or "*." and one.
bool valid_server_name(std::string_view name) {
  if (name.starts_with("*.")) name.remove_prefix(2);
  return !name.empty() && name.size() <= 253 && name.front() != '.' && name.find('*') == std::string_view::npos;
}

FilterChainMatchSpec chain_match(const listener::FilterChainMatch& match, const FieldPath& path, Translation& t) {
  FilterChainMatchSpec spec;
  if (match.has_destination_port()) {
    spec.destination_port = match.destination_port().value();
    port_in_match(spec.destination_port, path.field("destination_port"), t);
  }
  const auto ranges = [&](const auto& from, std::string_view field, std::vector<CidrSpec>& to) {
    each(from, path.field(field),
         [&](const auto& range, const FieldPath& at) { to.push_back(cidr_spec(range, at, t)); });
  };
  ranges(match.prefix_ranges(), "prefix_ranges", spec.prefix_ranges);
  ranges(match.source_prefix_ranges(), "source_prefix_ranges", spec.source_prefix_ranges);
  ranges(match.direct_source_prefix_ranges(), "direct_source_prefix_ranges", spec.direct_source_prefix_ranges);
  switch (match.source_type()) {
    case listener::FilterChainMatch::SAME_IP_OR_LOOPBACK:
      spec.source_type = FilterChainMatchSpec::SourceType::kSameIpOrLoopback;
      break;
    case listener::FilterChainMatch::EXTERNAL:
      spec.source_type = FilterChainMatchSpec::SourceType::kExternal;
      break;
    default:
      spec.source_type = FilterChainMatchSpec::SourceType::kAny;
  }
  each(match.source_ports(), path.field("source_ports"), [&](uint32_t port, const FieldPath& at) {
    port_in_match(port, at, t);
    spec.source_ports.push_back(port);
  });
  each(match.server_names(), path.field("server_names"), [&](const std::string& name, const FieldPath& at) {
    spec.server_names.push_back(lower_case(name));
    if (!valid_server_name(name)) t.fault(at, fmt::format("\"{}\" is neither a host name nor \"*.\" and one", name));
  });
  each(match.application_protocols(), path.field("application_protocols"),
       [&](const std::string& protocol, const FieldPath& at) {
         if (protocol.empty() || protocol.size() > 255) t.fault(at, "must have from 1 to 255 bytes");
         spec.application_protocols.push_back(protocol);
       });
  spec.transport_protocol = match.transport_protocol();
  if (!spec.transport_protocol.empty() && spec.transport_protocol != "raw_buffer" && spec.transport_protocol != "tls")
    t.fault(path.field("transport_protocol"),
            fmt::format("\"{}\" is not supported; \"raw_buffer\" and \"tls\" are", spec.transport_protocol));
  return spec;
}

bool asks_the_client_hello(const FilterChainSpec& chain) {
  const FilterChainMatchSpec& match = chain.match;
  return match.transport_protocol == "tls" || !match.server_names.empty() || !match.application_protocols.empty();
}

ListenerFilterSpec proxy_protocol_spec(
    const envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol& from, const FieldPath& path,
    Translation& t) {
  ListenerFilterSpec spec{.kind = ListenerFilterSpec::Kind::kProxyProtocol};
  spec.header_required = !from.allow_requests_without_proxy_protocol();
  for (const int version : from.disallowed_versions())
    (version == envoy::config::core::v3::ProxyProtocolConfig::V1 ? spec.takes_v1 : spec.takes_v2) = false;
  if (!spec.takes_v1 && !spec.takes_v2)
    t.fault(path.field("disallowed_versions"), "forbids both versions, which leaves none");
  return spec;
}

// Nothing of the filter's is there if it had a fault.
std::optional<ListenerFilterSpec> listener_filter(const listener::ListenerFilter& filter, const FieldPath& path,
                                                  Translation& t) {
  namespace filters = envoy::extensions::filters::listener;
  if (filter.name().empty()) t.fault(path.field("name"), "must not be empty");
  const FieldPath at = path.field("typed_config");
  if (filter.config_type_case() != listener::ListenerFilter::kTypedConfig) {
    t.fault(at, "is required");
    return {};
  }
  const auto is = [&](const auto& message) { return type_name(filter.typed_config()) == message.GetTypeName(); };
  const auto open = [&](auto& message) {
    if (!unpack_to(filter.typed_config(), message, at, t.faults)) return false;
    check_field_use(message, at, t.faults);
    return true;
  };
  filters::tls_inspector::v3::TlsInspector inspector;
  filters::proxy_protocol::v3::ProxyProtocol proxy_protocol;
  filters::original_dst::v3::OriginalDst original_dst;
  if (is(inspector)) {
    if (!open(inspector)) return {};
    return ListenerFilterSpec{.kind = ListenerFilterSpec::Kind::kTlsInspector,
                              .close_on_bad_hello = inspector.close_connection_on_client_hello_parsing_errors()};
  }
  if (is(proxy_protocol)) {
    if (!open(proxy_protocol)) return {};
    return proxy_protocol_spec(proxy_protocol, at, t);
  }
  if (is(original_dst)) {
    if (!open(original_dst)) return {};
    return ListenerFilterSpec{.kind = ListenerFilterSpec::Kind::kOriginalDst};
  }
  t.fault(at, fmt::format("type {} is not a listener filter that this program has; it has {}, {}, {}",
                          type_name(filter.typed_config()), inspector.GetTypeName(), proxy_protocol.GetTypeName(),
                          original_dst.GetTypeName()));
  return {};
}

void listener_filters(const listener::Listener& from, ListenerSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath all = path.field("listener_filters");
  const auto has = [&](ListenerFilterSpec::Kind kind) {
    return std::any_of(spec.listener_filters.begin(), spec.listener_filters.end(),
                       [&](const ListenerFilterSpec& filter) { return filter.kind == kind; });
  };
  each(from.listener_filters(), all, [&](const listener::ListenerFilter& filter, const FieldPath& at) {
    const auto made = listener_filter(filter, at, t);
    if (!made) return;
    if (has(made->kind)) t.fault(at, "is there twice");
    if (made->kind == ListenerFilterSpec::Kind::kProxyProtocol && has(ListenerFilterSpec::Kind::kTlsInspector))
      t.fault(at, "must come before the TLS inspector, since its header comes before the ClientHello");
    spec.listener_filters.push_back(*made);
  });
  // As Envoy: whoever chooses by what only the inspector sees gets one.
  if (std::any_of(spec.filter_chains.begin(), spec.filter_chains.end(), asks_the_client_hello) &&
      !has(ListenerFilterSpec::Kind::kTlsInspector))
    spec.listener_filters.push_back({.kind = ListenerFilterSpec::Kind::kTlsInspector});
  if (from.has_listener_filters_timeout())
    spec.listener_filters_timeout_ms =
        duration_ms(from.listener_filters_timeout(), path.field("listener_filters_timeout"), t);
  spec.transparent = from.transparent().value();
  spec.continue_on_listener_filters_timeout = from.continue_on_listener_filters_timeout();
}

// A network filter; `last`: it is the chain's last.
void network_filter(const listener::Filter& filter, bool last, const std::string& scope, FilterChainSpec& spec,
                    const FieldPath& path, Translation& t) {
  if (filter.name().empty()) t.fault(path.field("name"), "must not be empty");
  const FieldPath at = path.field("typed_config");
  if (filter.config_type_case() != listener::Filter::kTypedConfig) return t.fault(at, "is required");
  const std::string_view type = type_name(filter.typed_config());
  const auto is = [&](const auto& message) { return type == message.GetTypeName(); };
  const auto open = [&](auto& message) {
    if (!unpack_to(filter.typed_config(), message, at, t.faults)) return false;
    check_field_use(message, at, t.faults);
    return true;
  };
  ConnectionLimit limit;
  TcpProxy proxy;
  HttpConnectionManager manager;
  if (is(limit)) {
    if (last) t.fault(path, "must come before another filter, which serves the connections that it lets in");
    if (spec.connection_limit) return t.fault(path, "is there twice");
    if (open(limit)) spec.connection_limit = connection_limit_spec(limit, at, t);
    return;
  }
  if (!last) t.fault(path, "must be the last network filter: nothing after it would ever run");
  if (is(proxy)) {
    if (open(proxy)) spec.tcp = tcp_proxy_spec(proxy, at, t);
  } else if (is(manager)) {
    if (open(manager)) spec.hcm = hcm_spec(manager, scope, at, t);
  } else {
    t.fault(at, fmt::format("type {} is not a network filter that this program has; it has {}, {} and {}", type,
                            limit.GetTypeName(), manager.GetTypeName(), proxy.GetTypeName()));
  }
}

FilterChainSpec chain_spec(const listener::FilterChain& chain, const std::string& scope, const FieldPath& path,
                           Translation& t) {
  FilterChainSpec spec;
  spec.name = chain.name();
  spec.match = chain_match(chain.filter_chain_match(), path.field("filter_chain_match"), t);
  if (chain.has_transport_socket())
    spec.tls = downstream_tls_spec(chain.transport_socket(), path.field("transport_socket"), t);
  if (chain.has_transport_socket_connect_timeout())
    spec.handshake_timeout_ms =
        duration_ms(chain.transport_socket_connect_timeout(), path.field("transport_socket_connect_timeout"), t);
  const FieldPath filters = path.field("filters");
  if (chain.filters().empty()) {
    t.fault(filters,
            fmt::format("needs a last filter of type {} or {}", HttpConnectionManager::descriptor()->full_name(),
                        TcpProxy::descriptor()->full_name()));
    return spec;
  }
  each(chain.filters(), filters, [&](const listener::Filter& filter, const FieldPath& at) {
    network_filter(filter, &filter == &chain.filters(chain.filters_size() - 1), scope, spec, at, t);
  });
  return spec;
}

// No chain's name and no chain's match twice.
void check_unique(const std::vector<FilterChainSpec>& chains, const FieldPath& path, Translation& t) {
  for (size_t i = 0; i < chains.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const FieldPath at = path.index(i);
      if (!chains[i].name.empty() && chains[i].name == chains[j].name)
        t.fault(at.field("name"), fmt::format("\"{}\" is also the name of filter_chains[{}]", chains[i].name, j));
      if (chains[i].match == chains[j].match) {
        t.fault(at.field("filter_chain_match"), fmt::format("is the same as that of filter_chains[{}]", j));
        break;
      }
    }
  }
}

void api_listener(const listener::Listener& from, ListenerSpec& spec, const FieldPath& path, Translation& t) {
  const FieldPath at = path.field("api_listener");
  spec.api_listener = true;
  if (!t.state.options.api_listeners) {
    t.fault(at, "is for gRPC clients, which have no sockets; a proxy has nothing to do with it");
    return;
  }
  if (from.has_address() || from.filter_chains_size() > 0 || from.has_default_filter_chain())
    t.fault(at, "excludes address, filter_chains and default_filter_chain");
  HttpConnectionManager manager;
  const FieldPath inner = at.field("api_listener");
  if (!unpack_to(from.api_listener().api_listener(), manager, inner, t.faults)) return;
  check_field_use(manager, inner, t.faults);
  FilterChainSpec& chain = spec.filter_chains.emplace_back();
  chain.hcm = hcm_spec(manager, "listener/" + spec.name + "/api", inner, t);
}

void addresses(const listener::Listener& from, ListenerSpec& spec, const FieldPath& path, Translation& t) {
  if (from.has_address())
    spec.addresses.push_back(address_spec(from.address(), AddressUse::kListen, path.field("address"), t));
  else
    t.fault(path.field("address"), "is required");
  each(from.additional_addresses(), path.field("additional_addresses"), [&](const auto& more, const FieldPath& at) {
    spec.addresses.push_back(address_spec(more.address(), AddressUse::kListen, at.field("address"), t));
    for (size_t i = 0; i + 1 < spec.addresses.size(); ++i) {
      if (spec.addresses[i] == spec.addresses.back() && spec.addresses[i].port != 0)
        t.fault(at, "is an address that this listener has already");
    }
  });
}

std::string name_of(const AddressSpec& address) {
  if (address.kind == AddressSpec::Kind::kPipe) return address.host;
  return ip_version(address.host) == IpVersion::kV6 ? fmt::format("[{}]:{}", address.host, address.port)
                                                    : fmt::format("{}:{}", address.host, address.port);
}

}  // namespace

ListenerSpec listener_spec(const listener::Listener& from, bool named, const FieldPath& path, Translation& t) {
  ListenerSpec spec;
  spec.name = from.name();
  if (from.has_api_listener()) {
    if (spec.name.empty()) t.fault(path.field("name"), "must not be empty");
    api_listener(from, spec, path, t);
    return spec;
  }
  addresses(from, spec, path, t);
  if (spec.name.empty()) {
    if (named) t.fault(path.field("name"), "must not be empty");
    if (!spec.addresses.empty()) spec.name = name_of(spec.addresses.front());
  }
  if (from.has_per_connection_buffer_limit_bytes()) {
    spec.per_connection_buffer_limit_bytes = from.per_connection_buffer_limit_bytes().value();
    if (spec.per_connection_buffer_limit_bytes == 0)
      t.fault(path.field("per_connection_buffer_limit_bytes"), "must be at least 1: buffers are always bounded");
  }
  if (from.has_tcp_backlog_size()) {
    spec.tcp_backlog_size = from.tcp_backlog_size().value();
    if (spec.tcp_backlog_size == 0 || spec.tcp_backlog_size > INT32_MAX)
      t.fault(path.field("tcp_backlog_size"), "must be from 1 to 2147483647");
  }
  if (from.has_max_connections_to_accept_per_socket_event()) {
    spec.max_accepts_per_event = from.max_connections_to_accept_per_socket_event().value();
    if (spec.max_accepts_per_event == 0)
      t.fault(path.field("max_connections_to_accept_per_socket_event"), "must be at least 1");
  }
  spec.socket_options = listener_socket_options(from, path, t);
  const auto is_pipe = [](const AddressSpec& address) { return address.kind == AddressSpec::Kind::kPipe; };
  if (!spec.socket_options.empty() && std::all_of(spec.addresses.begin(), spec.addresses.end(), is_pipe))
    t.fault(path.field(spec.socket_options[0].field), "is of TCP sockets, and the listener has none");
  if (from.has_enable_reuse_port() && !from.enable_reuse_port().value())
    t.fault(path.field("enable_reuse_port"), "cannot be switched off: every worker has a socket of its own; remove it");

  const std::string scope = "listener/" + spec.name + "/";
  each(from.filter_chains(), path.field("filter_chains"), [&](const listener::FilterChain& chain, const FieldPath& at) {
    const std::string chain_name = chain.name().empty() ? fmt::format("#{}", spec.filter_chains.size()) : chain.name();
    spec.filter_chains.push_back(chain_spec(chain, scope + chain_name, at, t));
  });
  check_unique(spec.filter_chains, path.field("filter_chains"), t);
  listener_filters(from, spec, path, t);
  if (from.has_default_filter_chain()) {
    const FieldPath at = path.field("default_filter_chain");
    spec.default_filter_chain = chain_spec(from.default_filter_chain(), scope + "default", at, t);
    if (spec.default_filter_chain->match != FilterChainMatchSpec())
      t.fault(at.field("filter_chain_match"), "must be empty: the default chain takes what no other chain matches");
    for (const FilterChainSpec& chain : spec.filter_chains) {
      if (!chain.name.empty() && chain.name == spec.default_filter_chain->name)
        t.fault(at.field("name"), fmt::format("\"{}\" is also the name of one of filter_chains", chain.name));
    }
  } else if (from.filter_chains().empty()) {
    t.fault(path.field("filter_chains"), "needs at least one filter chain, or default_filter_chain");
  }
  const ByValue<Metadata> of_listener = metadata(from.metadata(), path.field("metadata"), t);
  for (FilterChainSpec& chain : spec.filter_chains) chain.listener_metadata = of_listener;
  if (spec.default_filter_chain) spec.default_filter_chain->listener_metadata = of_listener;
  return spec;
}

}  // namespace outrigger::config
