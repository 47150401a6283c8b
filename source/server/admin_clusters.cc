// /clusters: clusters and their hosts.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "proxy/aggregate.h"
#include "server/admin_pages.h"
#include "server/explain_json.h"
#include "server/json.h"
#include "upstream/subsets.h"

namespace outrigger::server {
namespace {

using proxy::LinkedCluster;

struct Row {
  std::string name;
  LinkedCluster linked;
  std::vector<proxy::Member> members;  // of an aggregate
  bool by_api = false;                 // not of the bootstrap
};

// All clusters by name; shared with the producer that may outlive this turn.
std::shared_ptr<const std::vector<Row>> rows(const ServerState& state) {
  std::set<std::string_view> by_api;
  for (const auto& resource : state.status->resources)
    if (resource.type == config::ResourceType::kCluster && resource.source != proxy::Source::kStatic)
      by_api.insert(resource.name);
  auto all = std::make_shared<std::vector<Row>>();
  state.snapshot->clusters.for_each([&](const std::string& name, const LinkedCluster& linked) {
    all->push_back({.name = name,
                    .linked = linked,
                    .members = proxy::members_of(*state.snapshot, linked),
                    .by_api = by_api.contains(name)});
  });
  std::sort(all->begin(), all->end(), [](const Row& a, const Row& b) { return a.name < b.name; });
  return all;
}

// Envoy's names of what is wrong with a host; "healthy" if nothing is.
std::string health_flags(const upstream::HostSet::Entry& entry) {
  std::string flags;
  const uint8_t health = entry.checked ? entry.host->health.load(std::memory_order_acquire) : 0;
  if ((health & upstream::kFailedCheck) != 0) flags += "/failed_active_hc";
  if (!entry.healthy) flags += "/failed_eds_health";
  if (entry.removed) flags += "/pending_dynamic_removal";
  if ((health & upstream::kNotChecked) != 0) flags += "/pending_active_hc";
  if ((health & upstream::kCheckTimedOut) != 0) flags += "/active_hc_timeout";
  return flags.empty() ? "healthy" : flags;
}

void json_health(const upstream::HostSet::Entry& entry, JsonWriter& json) {
  const uint8_t health = entry.checked ? entry.host->health.load(std::memory_order_acquire) : 0;
  json.key("health_status").open('{').key("eds_health_status").string(entry.healthy ? "HEALTHY" : "UNHEALTHY");
  const auto flag = [&](std::string_view name, bool set) {
    if (set) json.key(name).boolean(true);
  };
  flag("failed_active_health_check", (health & upstream::kFailedCheck) != 0);
  flag("pending_dynamic_removal", entry.removed);
  flag("pending_active_hc", (health & upstream::kNotChecked) != 0);
  flag("active_hc_timeout", (health & upstream::kCheckTimedOut) != 0);
  json.close('}');
}

// Calls f(values as JSON, hosts) for the first 100 subsets.
template <class F>
void each_subset(const Row& row, F&& f) {
  using upstream::Subsets;
  constexpr uint32_t kMostNamed = 100;
  const Subsets* subsets = row.linked.hosts->subsets();
  if (subsets == nullptr) return;
  const uint32_t end = std::min(subsets->size(), Subsets::kDefault + 1 + kMostNamed);
  for (uint32_t i = Subsets::kDefault + 1; i < end; ++i) f(to_json(subsets->values(i)), subsets->at(i));
}

void text_row(const Row& row, std::string& out) {
  const config::ClusterSpec& spec = row.linked.cluster->spec();
  const auto line = [&](std::string_view what, const auto& value) {
    fmt::format_to(std::back_inserter(out), "{}::{}::{}\n", row.name, what, value);
  };
  line("observability_name", spec.alt_stat_name.empty() ? row.name : spec.alt_stat_name);
  line("default_priority::max_connections", spec.max_connections);
  line("default_priority::max_pending_requests", spec.max_pending_requests);
  line("default_priority::max_requests", spec.max_requests);
  line("default_priority::max_retries", spec.max_retries);
  line("added_via_api", row.by_api);
  for (const proxy::Member& member : row.members) {
    const auto member_line = [&](std::string_view what, const auto& value) {
      line(fmt::format("member::{}::{}", member.name, what), value);
    };
    member_line("load_percent", member.load.percent);
    member_line("hosts_healthy", member.load.healthy);
    member_line("hosts_total", member.load.total);
  }
  each_subset(row, [&](const std::string& values, const upstream::HostChoices& hosts) {
    line(fmt::format("subset::{}::hosts_healthy", values), hosts.healthy_count());
    line(fmt::format("subset::{}::hosts_total", values), hosts.entries.size());
  });
  for (const upstream::HostSet::Entry& entry : row.linked.hosts->all()) {
    const auto host_line = [&](std::string_view what, const auto& value) {
      fmt::format_to(std::back_inserter(out), "{}::{}::{}::{}\n", row.name, entry.text(), what, value);
    };
    host_line("rq_active", entry.host->active_requests.load(std::memory_order_relaxed));
    host_line("hostname", entry.host->hostname.text());
    host_line("health_flags", health_flags(entry));
    host_line("weight", entry.weight);
    if (entry.addresses != nullptr)
      for (const net::Address& address : entry.addresses->attempts) host_line("address", address.str());
    if (const Metadata* metadata = row.linked.hosts->metadata(entry); metadata != nullptr)
      host_line("metadata", to_json(metadata->namespaces));
  }
}

void json_address(const net::Address& address, JsonWriter& json) {
  json.open('{');
  if (address.is_unix()) {
    json.key("pipe").open('{').key("path").string(address.str()).close('}');
  } else {
    json.key("socket_address").open('{').key("address").string(address.ip());
    json.key("port_value").number(uint32_t{address.port()}).close('}');
  }
  json.close('}');
}

void json_row(const Row& row, JsonWriter& json) {
  const config::ClusterSpec& spec = row.linked.cluster->spec();
  json.open('{').key("name").string(row.name).key("added_via_api").boolean(row.by_api);
  json.key("observability_name").string(spec.alt_stat_name.empty() ? row.name : spec.alt_stat_name);
  json.key("circuit_breakers").open('{').key("thresholds").open('[').open('{');
  json.key("max_connections").number(spec.max_connections);
  json.key("max_pending_requests").number(spec.max_pending_requests);
  json.key("max_requests").number(spec.max_requests);
  json.key("max_retries").number(spec.max_retries);
  json.close('}').close(']').close('}');
  if (!row.members.empty()) {
    json.key("members").open('[');
    for (const proxy::Member& member : row.members) write_member(member, json);
    json.close(']');
  }
  if (const upstream::Subsets* subsets = row.linked.hosts->subsets(); subsets != nullptr) {
    json.key("subsets_active").number(subsets->active()).key("subsets").open('[');
    each_subset(row, [&](const std::string& values, const upstream::HostChoices& hosts) {
      json.open('{').key("metadata").raw(values).key("hosts_healthy").number(uint64_t{hosts.healthy_count()});
      json.key("hosts_total").number(uint64_t{hosts.entries.size()}).close('}');
    });
    json.close(']');
  }
  json.key("host_statuses").open('[');
  for (const upstream::HostSet::Entry& entry : row.linked.hosts->all()) {
    json.open('{').key("address");
    json_address(entry.address(), json);
    if (entry.addresses != nullptr) {
      json.key("addresses").open('[');  // ours: Envoy shows the first only
      for (const net::Address& address : entry.addresses->attempts) json_address(address, json);
      json.close(']');
    }
    json.key("hostname").string(entry.host->hostname.text());
    json.key("stats").open('[').open('{').key("name").string("rq_active").key("type").string("GAUGE").key("value");
    json.string(std::to_string(entry.host->active_requests.load(std::memory_order_relaxed))).close('}').close(']');
    json_health(entry, json);
    json.key("weight").number(entry.weight);
    if (const Metadata* metadata = row.linked.hosts->metadata(entry); metadata != nullptr)
      json.key("metadata").raw(to_json(metadata->namespaces));
    json.close('}');
  }
  json.close(']').close('}');
}

}  // namespace

AdminResponse clusters_page(const AdminRequest& request, const ServerState& state) {
  const auto all = rows(state);
  if (!wants_json(request)) {
    return {.producer = [all, at = size_t{0}](std::string& out) mutable {
      if (at < all->size()) text_row((*all)[at++], out);
      return at < all->size();
    }};
  }
  auto json = std::make_shared<JsonWriter>();
  json->open('{').key("cluster_statuses").open('[');
  return {.content_type = "application/json", .producer = [all, json, at = size_t{0}](std::string& out) mutable {
            if (at < all->size()) json_row((*all)[at++], *json);
            const bool more = at < all->size();
            if (!more) json->close(']').close('}');
            out += json->take_piece();
            if (!more) out += '\n';
            return more;
          }};
}

}  // namespace outrigger::server
