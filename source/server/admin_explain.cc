// /explain: what would become of a request.
#include <fmt/format.h>

#include <charconv>

#include "proxy/explain.h"
#include "server/admin_pages.h"
#include "server/explain_json.h"
#include "server/json.h"

namespace outrigger::server {

void write_member(const proxy::Member& member, JsonWriter& json) {
  json.open('{').key("name").string(member.name).key("exists").boolean(member.linked != nullptr);
  json.key("load_percent").number(member.load.percent).key("hosts_total").number(member.load.total);
  json.key("hosts_healthy").number(member.load.healthy).close('}');
}

namespace {

using proxy::Explained;
using proxy::ExplainedFilter;
using Says = FilterExplanation::Verdict;

constexpr size_t kMaxHostsNamed = 100;

std::string_view verdict_name(const ExplainedFilter& filter) {
  if (filter.state == ExplainedFilter::State::kDisabled) return "disabled";
  if (filter.state == ExplainedFilter::State::kNotReached) return "not reached";
  switch (filter.says.verdict) {
    case Says::kPasses:
      return "passes";
    case Says::kRefuses:
      return "refuses";
    case Says::kDepends:
      return "depends";
    case Says::kUnknown:
      return "unknown";
  }
  return "";
}

void write_virtual_host(const Explained& told, JsonWriter& json) {
  const auto& domains = told.route.domains;
  if (told.route.match.virtual_host == nullptr) {
    json.key("no_virtual_host").string(told.route.no_virtual_host);
    return;
  }
  json.key("virtual_host").open('{').key("name").string(told.route.match.virtual_host->name);
  json.key("domain").string(domains[0].domain).key("rule").string(domains[0].rule);
  json.key("outranked").open('[');
  for (size_t i = 1; i < domains.size(); ++i) {
    json.open('{').key("name").string(domains[i].virtual_host->name).key("domain").string(domains[i].domain);
    json.key("rule").string(domains[i].rule).close('}');
  }
  json.close(']').close('}');
}

void write_route(const Explained& told, JsonWriter& json) {
  static constexpr std::string_view kWhy[] = {"path", "fraction", "header", "query"};
  const route::Match& match = told.route.match;
  if (match.route != nullptr) {
    static constexpr std::string_view kActions[] = {"forward", "redirect", "direct_response"};
    json.key("route").open('{').key("name").string(match.route->name).key("index").number(match.route->index());
    json.key("match").string(route::describe(*match.route));
    json.key("action").string(kActions[static_cast<size_t>(match.route->kind())]);
    if (const auto* forward = match.route->forward(); forward != nullptr && !forward->weighted.empty()) {
      json.key("weighted_clusters").open('[');
      for (const route::WeightedEntry& entry : forward->weighted) {
        json.open('{').key("name").string(entry.cluster.text).key("weight").number(entry.weight);
        json.key("chosen").boolean(&entry == match.weighted).close('}');
      }
      json.close(']');
    }
    json.close('}');
  }
  json.key("misses_total").number(uint64_t{told.route.misses_total}).key("misses").open('[');
  for (const route::Miss& miss : told.route.misses) {
    json.open('{').key("name").string(miss.route->name).key("index").number(miss.route->index());
    json.key("match").string(route::describe(*miss.route)).key("missed_by").string(kWhy[static_cast<size_t>(miss.why)]);
    json.key("reason").string(miss.reason).close('}');
  }
  json.close(']');
}

void write_filters(const Explained& told, JsonWriter& json) {
  json.key("filters").open('[');
  for (const ExplainedFilter& filter : told.filters) {
    json.open('{').key("name").string(filter.name).key("verdict").string(verdict_name(filter));
    if (filter.state == ExplainedFilter::State::kAsked) {
      if (filter.says.status != 0) json.key("status").number(uint32_t{filter.says.status});
      json.key("reason").string(filter.says.reason).key("facts").open('{');
      for (const auto& [name, text] : filter.says.facts) json.key(name).string(text);
      json.close('}');
    }
    json.close('}');
  }
  json.close(']');
}

std::string how_picked(const config::ClusterSpec& spec, const upstream::HostSet& hosts) {
  std::string how;
  switch (spec.lb) {
    case config::ClusterSpec::Lb::kRoundRobin:
      how = "round robin: each host in turn, as often as its weight says";
      break;
    case config::ClusterSpec::Lb::kLeastRequest:
      how = fmt::format("least request: of {} hosts drawn at random the one with the fewest requests per weight",
                        spec.least_request_choice_count);
      break;
    case config::ClusterSpec::Lb::kRandom:
      how = "random, as likely as the host's weight says";
      break;
  }
  if (upstream::in_panic(hosts.healthy_count(), hosts.all().size(), spec.healthy_panic_percent))
    how += fmt::format("; panic: fewer than {} % are healthy, so all are used", spec.healthy_panic_percent);
  return how;
}

void write_members(const Explained& told, JsonWriter& json) {
  if (told.members.empty()) return;
  const bool any = told.chosen_member < told.members.size();
  json.key("member").string(any ? told.members[told.chosen_member].name : "").key("members").open('[');
  for (const proxy::Member& member : told.members) write_member(member, json);
  json.close(']');
}

void write_subset(const Explained& told, JsonWriter& json) {
  using Way = upstream::Subsets::Way;
  if (!told.subset) return;
  const proxy::ExplainedSubset& subset = *told.subset;
  static constexpr std::string_view kWays[] = {"selected", "fallback of the selector", "fallback of the cluster"};
  static_assert(static_cast<size_t>(Way::kFallback) == 2);
  json.key("subset").open('{').key("metadata_match").raw(subset.asked.empty() ? "null" : subset.asked);
  json.key("by").string(kWays[static_cast<size_t>(subset.choice.way)]);
  json.key("metadata").raw(subset.values.empty() ? "null" : subset.values);
  json.key("hosts_total").number(subset.hosts).key("hosts_healthy").number(subset.healthy).close('}');
}

// The hosts that the request may go to.
const std::vector<upstream::HostSet::Entry>& hosts_of(const Explained& told, const upstream::HostSet& all) {
  static const std::vector<upstream::HostSet::Entry> kNone;
  if (!told.subset) return all.all();
  const uint32_t subset = told.subset->choice.subset;
  return subset == upstream::Subsets::kNone ? kNone : all.subsets()->at(subset).entries;
}

void write_hosts(const Explained& told, const proxy::LinkedCluster& linked, JsonWriter& json) {
  const config::ClusterSpec& spec = linked.cluster->spec();
  const upstream::HostSet& hosts = *linked.hosts;
  json.key("picks").string(how_picked(spec, hosts));
  json.key("requests").number(int64_t{linked.cluster->state().requests.load(std::memory_order_relaxed)});
  json.key("max_requests").number(spec.max_requests);
  json.key("hosts_total").number(uint64_t{hosts.all().size()});
  json.key("hosts_healthy").number(uint64_t{hosts.healthy_count()});
  write_subset(told, json);
  json.key("hosts").open('[');
  const std::vector<upstream::HostSet::Entry>& entries = hosts_of(told, hosts);
  for (size_t i = 0; i < std::min(entries.size(), kMaxHostsNamed); ++i) {
    const upstream::HostSet::Entry& entry = entries[i];
    json.open('{').key("address").string(entry.text()).key("hostname").string(entry.host->hostname.text());
    json.key("healthy").boolean(entry.usable()).key("weight").number(entry.weight);
    json.key("active_requests").number(entry.host->active_requests.load(std::memory_order_relaxed));
    if (const Metadata* metadata = hosts.metadata(entry); metadata != nullptr)
      json.key("metadata").raw(to_json(metadata->namespaces));
    json.close('}');
  }
  json.close(']');
}

void write_mirrors(const Explained& told, JsonWriter& json) {
  if (told.mirrors.empty()) return;
  json.key("mirrors").open('[');
  for (const proxy::ExplainedMirror& mirror : told.mirrors) {
    json.open('{').key("cluster").string(mirror.cluster).key("exists").boolean(mirror.exists);
    json.key("chosen").boolean(mirror.chosen).key("host").string(mirror.host).close('}');
  }
  json.close(']');
}

void write_cluster(const Explained& told, JsonWriter& json) {
  if (told.cluster.empty()) return;
  json.key("cluster").open('{').key("name").string(told.cluster).key("exists").boolean(told.linked.cluster != nullptr);
  if (told.linked.cluster != nullptr) {
    write_members(told, json);
    if (const proxy::LinkedCluster target = told.target(); target.cluster != nullptr) write_hosts(told, target, json);
    json.key("request").open('{').key("host").string(told.upstream_host).key("path").string(told.upstream_path);
    json.close('}');
    write_mirrors(told, json);
  }
  json.close('}');
}

bool parse_number(const std::string& text, uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string explain_json(const Explained& told) {
  JsonWriter json;
  json.open('{').key("config_version").number(told.snapshot->version);
  json.key("listener").string(told.listener).key("filter_chain").string(told.chain);
  json.key("route_table").string(told.route_table);
  json.key("request").open('{').key("method").string(told.method).key("host").string(told.host);
  json.key("path").string(told.path).close('}');
  write_virtual_host(told, json);
  write_route(told, json);
  write_filters(told, json);
  write_cluster(told, json);
  json.key("outcome").open('{').key("status").number(uint32_t{told.status}).key("details").string(told.details);
  json.key("text").string(told.outcome).close('}').close('}');
  return json.take();
}

AdminResponse explain_page(const AdminRequest& request, const ServerState& state, event::Loop& loop) {
  proxy::ExplainQuery query;
  const auto bad = [](std::string text) {
    AdminResponse response = text_response(std::move(text) + "\n", 400);
    response.hide_query = true;
    return response;
  };
  for (const auto& [name, value] : request.query) {
    if (name == "listener") {
      query.listener = value;
    } else if (name == "method") {
      query.method = value;
    } else if (name == "host") {
      query.host = value;
    } else if (name == "path") {
      query.path = value;
    } else if (name == "remote") {
      query.remote_ip = value;
    } else if (name == "random") {
      if (!parse_number(value, query.random)) return bad("random: is not a number");
    } else if (name == "misses") {
      uint64_t most = 0;
      if (!parse_number(value, most)) return bad("misses: is not a number");
      query.max_misses = most;
    } else if (name == "header") {
      if (!query.add_header(value)) return bad("header: needs Name:value");
    } else {
      return bad(name + ": there are listener, method, host, path, header, remote, random and misses");
    }
  }
  const auto told = proxy::explain(state.snapshot, query, loop);
  if (!told) return bad(told.error().detail);
  AdminResponse response = json_response(explain_json(*told));
  response.hide_query = true;
  return response;
}

}  // namespace outrigger::server
