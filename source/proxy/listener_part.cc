#include "proxy/listener_part.h"

#include "base/log.h"
#include "config/tls_secrets.h"
#include "net/socket_options.h"
#include "proxy/connection_limit.h"

namespace outrigger::proxy {
namespace {

using config::AddressSpec;
using config::FilterChainMatchSpec;

// Text that two different lists of fields never share: every field with its length.
class Identity {
 public:
  Identity& add(std::string_view field) {
    text_ += std::to_string(field.size());
    text_ += ':';
    text_ += field;
    return *this;
  }
  Identity& add(uint64_t number) { return add(std::to_string(number)); }
  template <class T, class F>
  Identity& list(const std::vector<T>& items, F&& field) {
    add(items.size());
    for (const T& item : items) field(item);
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

// What a connection of the chain is bound to, without its TLS: the chain's name and match, the codec and its limits.
std::string plain_identity(const config::FilterChainSpec& spec, const std::string& listener) {
  Identity id;
  const auto cidr = [&](const config::CidrSpec& range) { id.add(range.prefix).add(range.length); };
  const auto text = [&](const std::string& item) { id.add(item); };
  const auto number = [&](uint32_t item) { id.add(item); };
  const FilterChainMatchSpec& match = spec.match;
  id.add(listener).add(spec.name).add(match.destination_port).add(match.transport_protocol);
  id.add(static_cast<uint64_t>(match.source_type));
  id.list(match.prefix_ranges, cidr)
      .list(match.source_prefix_ranges, cidr)
      .list(match.direct_source_prefix_ranges, cidr);
  id.list(match.server_names, text).list(match.application_protocols, text).list(match.source_ports, number);
  id.add(spec.tls.has_value());
  if (spec.connection_limit) id.add("limit").add(spec.connection_limit->stat_prefix);
  if (spec.tcp.has_value()) return id.add("tcp").add(spec.tcp->stat_prefix).take();
  const config::HcmSpec& hcm = spec.hcm;
  id.add(hcm.stat_prefix);  // gauges go down where they went up
  id.add(static_cast<uint64_t>(hcm.codec)).add(hcm.max_request_headers_kb).add(hcm.max_headers_count);
  id.add(hcm.accept_http_10).add(hcm.default_host_for_http_10).add(hcm.allow_absolute_url).add(hcm.enable_trailers);
  const config::Http2Spec& http2 = hcm.http2;
  for (const uint64_t limit :
       {uint64_t{http2.allow_connect}, uint64_t{http2.max_concurrent_streams},
        uint64_t{http2.initial_stream_window_bytes}, uint64_t{http2.initial_connection_window_bytes},
        uint64_t{http2.max_control_frames}, uint64_t{http2.max_consecutive_empty_frames},
        uint64_t{http2.max_priority_frames_per_stream}, uint64_t{http2.max_window_updates_per_data_frame},
        http2.keepalive_interval_ms, http2.keepalive_timeout_ms})
    id.add(limit);
  return id.take();
}

std::string identity(const config::FilterChainSpec& spec, const std::string& listener) {
  std::string plain = plain_identity(spec, listener);
  return spec.tls ? plain + upstream::tls_identity(*spec.tls) : plain;
}

// Finds the chains of a version in the one before it, if they are equal. Most come in the order in which they were; the
// others are looked for by identity.
class ChainsBefore {
 public:
  explicit ChainsBefore(const ListenerPart* previous) : previous_(previous) {}
  std::shared_ptr<const HttpChain> find_equal(const config::FilterChainSpec& spec, const std::string& listener) {
    if (previous_ == nullptr) return nullptr;
    const auto& chains = previous_->chains;
    const auto take = [&](size_t at) {
      next_ = at + 1;
      return chains[at];
    };
    if (next_ < chains.size() && chains[next_]->spec == spec) return take(next_);
    if (places_.empty())
      for (size_t i = 0; i < chains.size(); ++i) places_.emplace(chains[i]->identity, i);
    const auto [from, to] = places_.equal_range(identity(spec, listener));
    for (auto at = from; at != to; ++at)
      if (chains[at->second]->spec == spec) return take(at->second);
    return nullptr;
  }

 private:
  const ListenerPart* previous_;
  size_t next_ = 0;  // most probably
  std::unordered_multimap<std::string_view, size_t> places_;
};

}  // namespace

std::string address_path(size_t index) {
  return index == 0 ? "address" : "additional_addresses[" + std::to_string(index - 1) + "].address";
}

// They were tried when the listener was accepted; if the system has changed its mind, the listener serves all the same.
void use_socket_options(const ListenerPart& part) {
  for (const auto& set : part.sockets) {
    if (const auto done = set->set_options(part.spec.socket_options); !done)
      OUTRIGGER_LOG(kWarning, "proxy", "listener {}: {}", part.spec.name, done.error().detail);
  }
}

Result<std::vector<net::Address>> ListenerCompiler::addresses(const config::ListenerSpec& spec) {
  std::vector<net::Address> parsed;
  for (size_t i = 0; i < spec.addresses.size(); ++i) {
    const AddressSpec& address = spec.addresses[i];
    auto one = address.kind == AddressSpec::Kind::kPipe ? net::Address::unix_path(address.host)
                                                        : net::Address::parse(address.host, address.port);
    if (!one) return fail(Errc::kInvalidArgument, address_path(i) + ": " + one.error().detail);
    parsed.push_back(*one);
  }
  return parsed;
}

Result<std::shared_ptr<net::SocketSet>> ListenerCompiler::socket(const config::ListenerSpec& spec, size_t index,
                                                                 const net::Address& address) {
  std::string key = address.str();
  if (address.is_ip() && address.port() == 0) {
    size_t same = 0;  // among equal addresses of this listener
    for (size_t i = 0; i < index; ++i) same += spec.addresses[i] == spec.addresses[index] ? 1 : 0;
    key += "#" + std::to_string(same) + "#" + spec.name;
  }
  if (spec.transparent) key += "#transparent";
  if (auto held = sockets_[key].lock()) return held;
  auto made = net::SocketSet::create(address, workers_, spec.tcp_backlog_size, spec.addresses[index].mode,
                                     spec.transparent, spec.socket_options);
  if (!made) {
    sockets_.erase(key);
    return fail(made.error().code, address_path(index) + ": " + made.error().detail);
  }
  sockets_[key] = *made;
  return *made;
}

Result<std::shared_ptr<const HttpChain>> ListenerCompiler::compile_chain(const config::FilterChainSpec& spec,
                                                                         const std::string& listener) {
  auto chain = std::make_shared<HttpChain>();
  chain->spec = spec;
  chain->identity = identity(spec, listener);
  const auto compile_logs = [&](const std::vector<config::AccessLogSpec>& logs) -> Result<void> {
    for (size_t i = 0; access_log_ != nullptr && i < logs.size(); ++i) {
      auto log = AccessLogger::compile(logs[i], *access_log_);
      if (!log) return fail(log.error().code, "access_log[" + std::to_string(i) + "]: " + log.error().detail);
      chain->access_logs.push_back(std::move(*log));
    }
    return {};
  };
  if (spec.connection_limit) {  // the same whatever becomes of its TLS
    std::weak_ptr<ConnectionLimit>& known = limits_[listener + '\0' + plain_identity(spec, listener)];
    chain->limit = known.lock();
    if (chain->limit == nullptr) known = chain->limit = std::make_shared<ConnectionLimit>();
    chain->limit_stats = std::make_shared<const ConnectionLimitStats>(stats_, spec.connection_limit->stat_prefix);
  }
  if (spec.tls) {
    const config::DownstreamTlsSpec& tls = *chain->spec.tls;
    config::each_secret(tls, [&](const auto& reference, auto) { chain->secrets.push_back(names_.of(reference)); });
    if (chain->secrets.empty()) {
      auto made = tls_.server(tls);
      if (!made) return fail(made.error().code, "transport_socket: " + made.error().detail);
      chain->tls = std::move(*made);
    }
    chain->transport_stats = std::make_unique<TransportStats>(stats_, stats::Labels{{"listener", listener}});
  }
  if (const auto& tcp = chain->spec.tcp; tcp.has_value()) {
    uint64_t weights = 0;
    for (const auto& target : tcp->targets)
      chain->tcp_targets.push_back({Name(target.cluster), weights += target.weight, target.metadata_match.get()});
    chain->tcp_stats = std::make_unique<TcpStats>(stats_, tcp->stat_prefix);
    TRY_VOID(compile_logs(tcp->access_logs));
    return chain;
  }
  const config::HcmSpec& hcm = chain->spec.hcm;
  if (hcm.route_table != nullptr) {
    chain->inline_routes = route::RouteTable::compile(*hcm.route_table);
  } else {
    chain->rds_name = Name(names_.of(hcm.rds_name, hcm.rds_source));
  }
  for (const config::HttpFilterSpec& filter : hcm.filters) {
    const uint16_t id = config::filter_name_id(filter.name);
    chain->filters.push_back({.id = id, .config = filter.config.part.get(), .disabled = filter.disabled});
  }
  TRY_VOID(compile_logs(hcm.access_logs));
  chain->stats = std::make_unique<HttpStats>(stats_, stats::Labels{{"http", hcm.stat_prefix}});
  return chain;
}

Result<std::shared_ptr<const ListenerPart>> ListenerCompiler::compile(const config::ListenerSpec& spec,
                                                                      const ListenerPart* previous) {
  TRY(const std::vector<net::Address> parsed, addresses(spec));
  TRY_VOID(net::try_socket_options(spec.socket_options));
  auto part = std::make_shared<ListenerPart>();
  part->spec = spec;
  part->matcher = std::make_unique<ChainMatcher>(spec.filter_chains);
  part->stats = std::make_unique<ListenerStats>(stats_, spec.name);
  ChainsBefore before(previous);
  const auto add_chain = [&](const config::FilterChainSpec& chain, const std::string& path) -> Result<void> {
    if (auto equal = before.find_equal(chain, spec.name)) {
      part->chains.push_back(std::move(equal));
      return {};
    }
    auto made = compile_chain(chain, spec.name);
    if (!made) return fail(made.error().code, path + ": " + made.error().detail);
    part->chains.push_back(std::move(*made));
    return {};
  };
  for (size_t i = 0; i < spec.filter_chains.size(); ++i) {
    TRY_VOID(add_chain(spec.filter_chains[i], "filter_chains[" + std::to_string(i) + "]"));
  }
  if (spec.default_filter_chain.has_value()) TRY_VOID(add_chain(*spec.default_filter_chain, "default_filter_chain"));
  if (bind_ && !spec.api_listener) {
    for (size_t i = 0; i < parsed.size(); ++i) {
      TRY(auto set, socket(spec, i, parsed[i]));
      part->sockets.push_back(std::move(set));
    }
  }
  std::erase_if(sockets_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(limits_, [](const auto& entry) { return entry.second.expired(); });
  return part;
}

}  // namespace outrigger::proxy
