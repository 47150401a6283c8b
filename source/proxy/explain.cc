#include "proxy/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "proxy/request_headers.h"
#include "proxy/websocket.h"
#include "route/folded_text.h"
#include "route/rewrite.h"

namespace outrigger::proxy {
namespace {

Result<const LinkedListener*> find_listener(const Snapshot& snapshot, const std::string& name, std::string& found) {
  const LinkedListener* chosen = nullptr;
  std::vector<std::string> names;
  snapshot.listeners.for_each([&](const std::string& at, const LinkedListener& listener) {
    names.push_back(at);
    if (!name.empty() && at != name) return;
    chosen = &listener;
    found = at;
  });
  std::sort(names.begin(), names.end());
  const std::string list = names.empty() ? "there is none" : fmt::format("there are: {}", fmt::join(names, ", "));
  if (chosen == nullptr)
    return fail(Errc::kInvalidArgument,
                name.empty() ? "no listener is live" : fmt::format("no listener \"{}\" is live; {}", name, list));
  if (name.empty() && names.size() > 1)
    return fail(Errc::kInvalidArgument, "several listeners are live, name one of them; " + list);
  return chosen;
}

class Teller {
 public:
  Teller(const ExplainQuery& query, event::Loop& loop, Explained& out)
      : query_(query), loop_(loop), out_(out), headers_(arena_) {}

  Result<void> tell() {
    TRY(const LinkedListener* listener, find_listener(*out_.snapshot, query_.listener, out_.listener));
    TRY_VOID(choose_chain(*listener));
    TRY_VOID(make_head());
    static const TlsInfo kTls;
    if (chain_->chain->spec.tls) info_.downstream_tls = &kTls;
    const RequestContext context{remote_, query_.remote_ip, loop_, info_.downstream_tls};
    const auto refused = prepare_request(headers_, hcm(), context, info_);
    out_.method = headers_.get(HeaderId::kMethod);
    out_.host = headers_.get(HeaderId::kAuthority);
    out_.path = headers_.get(HeaderId::kPath);
    if (refused) {
      end(refused->status, refused->details, "the connection manager answers before any route is looked for");
      return {};
    }
    find_route();
    if (ask_filters()) act();
    return {};
  }

 private:
  const config::HcmSpec& hcm() const { return chain_->chain->spec.hcm; }
  const route::Match& match() const { return out_.route.match; }
  bool is_connect() const { return query_.method == "CONNECT"; }  // it has no path

  void end(uint16_t status, std::string_view details, std::string why) {
    out_.status = status;
    out_.details = details;
    out_.outcome = status == 0 ? std::move(why) : fmt::format("{}: {}", status, why);
  }

  Result<void> choose_chain(const LinkedListener& listener) {
    auto remote = net::Address::parse(query_.remote_ip, 1024);
    if (!remote) return fail(Errc::kInvalidArgument, "remote: " + remote.error().detail);
    remote_ = *remote;
    const ListenerPart& part = *listener.part;
    auto local = remote_;
    if (!part.sockets.empty()) {
      local = part.sockets[0]->address();
    } else if (!part.spec.addresses.empty()) {
      if (auto parsed = net::Address::parse(part.spec.addresses[0].host, part.spec.addresses[0].port)) local = *parsed;
    }
    const int at = part.match({.local = local, .remote = remote_, .direct_remote = remote_});
    if (at < 0)
      return fail(Errc::kInvalidArgument, "no filter chain of the listener takes a connection of this client");
    chain_ = &listener.chains[static_cast<size_t>(at)];
    out_.chain = chain_->chain->spec.name.empty() ? fmt::format("filter_chains[{}]", at) : chain_->chain->spec.name;
    if (chain_->chain->spec.tcp.has_value())
      return fail(
          Errc::kInvalidArgument,
          fmt::format("filter chain {} carries bytes to a cluster (tcp_proxy) and knows no requests", out_.chain));
    return {};
  }

  Result<void> make_head() {
    if (query_.path.empty() || query_.method.empty()) return fail(Errc::kInvalidArgument, "method and path are needed");
    headers_.add(HeaderId::kMethod, query_.method);
    headers_.add(HeaderId::kAuthority, query_.host);
    if (!is_connect()) headers_.add(HeaderId::kPath, query_.path);
    for (const auto& [name, value] : query_.headers) {
      if (name.empty() || name.front() == ':')
        return fail(Errc::kInvalidArgument, fmt::format("\"{}\" is not a header's name", name));
      headers_.add(route::folded(name), value);
    }
    if (headers_.overflowed()) return fail(Errc::kInvalidArgument, "the headers are too large");
    info_.snapshot_version = out_.snapshot->version;
    info_.downstream_remote_address = info_.downstream_direct_remote_address = remote_text_ = remote_.str();
    return {};
  }

  void find_route() {
    if (chain_->routes == nullptr) return;
    out_.route_table = chain_->routes->name();
    out_.route = route::explain(*chain_->routes, headers_, {.random = query_.random, .tls = over_tls(headers_)},
                                query_.max_misses);
    if (match().route != nullptr) info_.route_name = match().route->name;
    if (match().virtual_host != nullptr) info_.virtual_host = match().virtual_host->name;
  }

  // False: one of them answers itself.
  bool ask_filters() {
    bool reached = true;
    for (size_t i = 0; i < chain_->chain->filters.size(); ++i) {
      const HttpChain::FilterEntry& entry = chain_->chain->filters[i];
      ExplainedFilter& filter = out_.filters.emplace_back();
      filter.name = hcm().filters[i].name;
      if (match().filter_disabled(entry.id).value_or(entry.disabled)) {
        filter.state = ExplainedFilter::State::kDisabled;
        continue;
      }
      if (!reached) {
        filter.state = ExplainedFilter::State::kNotReached;
        continue;
      }
      ExplainRequest request{.headers = headers_,
                             .info = info_,
                             .arena = arena_,
                             .route_config = match().filter_config(entry.id),
                             .route = static_cast<const config::RouteView*>(match().route),
                             .now_ns = loop_.now_ns(),
                             .random = query_.random};
      filter.says = entry.config->explain(request);
      if (filter.says.verdict != FilterExplanation::Verdict::kRefuses) continue;
      reached = false;
      end(filter.says.status, filter.says.reason, fmt::format("refused by {}: {}", filter.name, filter.says.reason));
    }
    return reached;
  }

  void act() {
    const route::Route* route = match().route;
    if (is_connect() && !upgrade_listed("connect", match(), hcm()))
      return end(403, "upgrade_failed", "no entry CONNECT in the upgrade_configs of route or listener");
    if (route == nullptr) {
      std::string why = "no route takes the request";
      if (chain_->routes == nullptr)
        why = fmt::format("route table {} is not known yet", hcm().rds_name);
      else if (match().virtual_host == nullptr)
        why = out_.route.no_virtual_host;
      return end(404, "route_not_found", std::move(why));
    }
    if (const auto* action = route->forward()) return forward(*action);
    if (const auto* redirect = route->redirect())
      return end(redirect->status, "direct_response",
                 fmt::format("a redirect to {}", route::redirect_location(match(), headers_, false, arena_)));
    end(route->direct_response()->status, "direct_response", "the route answers itself");
  }

  void forward(const route::ForwardAction& action) {
    const route::ClusterName name = match().cluster(headers_);
    out_.cluster = name.text;
    if (name.empty())
      return end(action.cluster_not_found_status, "cluster_not_found", "the header that names the cluster is absent");
    const LinkedCluster* linked = out_.snapshot->clusters.find(name.text, name.hash);
    if (linked == nullptr)
      return end(action.cluster_not_found_status, "cluster_not_found",
                 fmt::format("there is no cluster {}", name.text));
    out_.linked = *linked;
    info_.cluster = out_.cluster;
    route::finalize_request(match(), headers_, {.request = &headers_, .info = &info_},
                            !hcm().router_suppress_envoy_headers);
    out_.upstream_host = headers_.get(HeaderId::kAuthority);
    out_.upstream_path = headers_.get(HeaderId::kPath);
    find_member();
    find_subset();
    find_mirrors(action);
    const LinkedCluster target = out_.target();
    if (linked->cluster->spec().discovery == config::ClusterSpec::Discovery::kOriginalDst)
      return end(0, "via_upstream", "forwarded to where the client's connection was going, if it was redirected here");
    if (target.cluster == nullptr || target.hosts->all().empty())
      return end(503, "no_healthy_upstream", fmt::format("cluster {} has no host", name.text));
    if (out_.subset && out_.subset->hosts == 0)
      return end(503, "no_healthy_upstream",
                 fmt::format("cluster {} has no host that metadata_match takes, and no fallback that has one",
                             target.cluster->name()));
    const upstream::Cluster& cluster = *target.cluster;
    if (cluster.state().requests.load(std::memory_order_relaxed) >= static_cast<int64_t>(cluster.spec().max_requests))
      return end(503, "upstream_overflow", fmt::format("cluster {} is at its max_requests", cluster.name()));
    end(0, "via_upstream",
        out_.members.empty() ? fmt::format("forwarded to cluster {}", name.text)
                             : fmt::format("forwarded to cluster {}, member of {}", cluster.name(), name.text));
  }

  void find_member() {
    out_.members = members_of(*out_.snapshot, out_.linked);
    std::vector<upstream::PriorityLoad> loads;
    for (const Member& member : out_.members) loads.push_back(member.load);
    out_.chosen_member = upstream::choose_priority(loads, query_.random);
  }

  void find_subset() {
    using upstream::Subsets;
    const LinkedCluster target = out_.target();
    const Subsets* subsets = target.hosts == nullptr ? nullptr : target.hosts->subsets();
    if (subsets == nullptr) return;
    const config::MetadataMatch* match = this->match().metadata_match();
    ExplainedSubset& told = out_.subset.emplace();
    if (match != nullptr) {
      MetadataValue::Struct asked;
      for (const auto& criterion : match->criteria) asked.push_back({criterion.key, criterion.value});
      told.asked = to_json(asked);
    }
    told.choice = subsets->choose(match);
    const bool empty = told.choice.subset != Subsets::kNone && subsets->at(told.choice.subset).entries.empty();
    if (told.choice.way == Subsets::Way::kFallback && empty && subsets->panic_mode_any())
      told.choice.subset = Subsets::kAny;
    if (told.choice.subset == Subsets::kNone) return;
    if (told.choice.subset != Subsets::kAny) told.values = to_json(subsets->values(told.choice.subset));
    told.hosts = subsets->at(told.choice.subset).entries.size();
    told.healthy = subsets->at(told.choice.subset).healthy_count();
  }

  void find_mirrors(const route::ForwardAction& action) {
    for (const route::Mirror& mirror : action.mirrors) {
      const route::ClusterName name = mirror.cluster_of(headers_);
      const std::string_view host =
          mirror.append_shadow ? route::shadow_host(out_.upstream_host, arena_) : std::string_view(out_.upstream_host);
      out_.mirrors.push_back({.cluster = std::string(name.text),
                              .exists = out_.snapshot->clusters.find(name.text) != nullptr,
                              .chosen = mirror.chosen(query_.random),
                              .host = std::string(host)});
    }
  }

  const ExplainQuery& query_;
  event::Loop& loop_;
  Explained& out_;
  Arena arena_;
  HeaderMap headers_;
  StreamInfo info_;
  net::Address remote_;
  std::string remote_text_;
  const LinkedChain* chain_ = nullptr;
};

}  // namespace

bool ExplainQuery::add_header(std::string_view line) {
  const size_t colon = line.find(':', 1);
  if (colon == std::string_view::npos) return false;
  const size_t start = line.find_first_not_of(" \t", colon + 1);
  headers.emplace_back(line.substr(0, colon), start == std::string_view::npos ? "" : line.substr(start));
  return true;
}

Result<Explained> explain(std::shared_ptr<const Snapshot> snapshot, const ExplainQuery& query, event::Loop& loop) {
  Explained out;
  out.snapshot = std::move(snapshot);
  TRY_VOID(Teller(query, loop, out).tell());
  return out;
}

}  // namespace outrigger::proxy
