#include <algorithm>

#include "base/log.h"
#include "proxy/aggregate.h"
#include "proxy/store_impl.h"
#include "upstream/subsets.h"

namespace outrigger::proxy {
namespace {

using config::ClusterSpec;

upstream::HostSetOptions host_options(const ClusterSpec& spec) {
  const bool discovered =
      spec.discovery == ClusterSpec::Discovery::kEds || spec.discovery == ClusterSpec::Discovery::kStrictDns;
  const bool checked = static_cast<bool>(spec.health_check);
  return {.checked = checked,
          .keep_healthy = checked && discovered && !spec.ignore_health_on_host_removal,
          .order = {.first = static_cast<net::AttemptOrder::First>(spec.first_family),
                    .first_count = spec.first_family_count},
          .subsets = spec.subsets};
}

const std::vector<config::EndpointSpec>& endpoints_in(const std::vector<config::EndpointSpec>* endpoints) {
  static const std::vector<config::EndpointSpec> kNone;
  return endpoints == nullptr ? kNone : *endpoints;
}

// The entries of a set that may change while they are visited.
std::vector<std::string> copy(const std::set<std::string, std::less<>>& names) { return {names.begin(), names.end()}; }

// Of two sorted lists: gone(name) for what only the first has, added(name) for what only the second has.
template <class Gone, class Added>
void each_difference(const std::vector<std::string>& before, const std::vector<std::string>& after, Gone&& gone,
                     Added&& added) {
  auto b = before.begin();
  for (const std::string& name : after) {
    for (; b != before.end() && *b < name; ++b) gone(*b);
    if (b != before.end() && *b == name)
      ++b;
    else
      added(name);
  }
  for (; b != before.end(); ++b) gone(*b);
}

}  // namespace

void NamedCounts::replace(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  each_difference(
      before, after, [this](const std::string& gone) { drop({gone}); },
      [this](const std::string& added) { ++counts_[added]; });
}

template <class V>
void Store::Impl::name_clusters(const Entry<V>& entry) {
  static const std::vector<std::string> kNone;
  live_named_clusters.replace(entry.live == nullptr ? kNone : entry.live->named.clusters, entry.staged->named.clusters);
}

bool Store::Impl::held_long_enough(EntryBase& entry, uint64_t timeout_ms) {
  const int64_t now = options.now_ms();
  if (entry.held_since_ms < 0) {
    entry.held_since_ms = now;
    status_due = true;
  }
  return timeout_ms != 0 && now - entry.held_since_ms >= static_cast<int64_t>(timeout_ms);
}

template <class V>
void Store::Impl::go_live(Entry<V>& entry, bool was_forced) {
  if (was_forced) {
    ++forced;
    options.stats->add(forced_counter);
  }
  entry.live = entry.staged;
  entry.held_since_ms = -1;
}

Store::Impl::HostSource Store::Impl::host_source(const ClusterVersion& version) const {
  switch (version.spec().discovery) {
    case ClusterSpec::Discovery::kStatic:
      return {version.part, &version.spec().endpoints.endpoints};
    case ClusterSpec::Discovery::kStrictDns:
    case ClusterSpec::Discovery::kLogicalDns:
      return {version.resolved, version.resolved.get()};
    case ClusterSpec::Discovery::kEds:
      if (const auto* known = endpoints.find(version.service()); known != nullptr && known->staged != nullptr)
        return {known->staged->spec, &known->staged->spec->endpoints};
      break;
    case ClusterSpec::Discovery::kOriginalDst:
      return {version.part, nullptr};
    case ClusterSpec::Discovery::kAggregate:
      break;  // update_members()
  }
  return {};
}

void Store::Impl::update_hosts(ClusterEntry& entry) {
  const ClusterVersion& version = *entry.live;
  if (version.is_aggregate()) return;
  const HostSource source = host_source(version);
  const upstream::HostSetOptions how = host_options(version.spec());
  const std::shared_ptr<const upstream::HostSet> held = entry.hosts;
  const upstream::HostSet* const before = held.get();
  if (before != nullptr && before->members().empty() && source.from == entry.hosts_from && before->options() == how &&
      !before->any_removed_failed())
    return;
  if (how.checked || (before != nullptr && before->options().checked)) checks_changed.insert(version.spec().name);
  if (entry.next_hosts != nullptr && entry.next_from == source.from && entry.next_hosts->options() == how) {
    entry.hosts = std::exchange(entry.next_hosts, nullptr);
  } else {
    entry.hosts = upstream::HostSet::compile(endpoints_in(source.endpoints), before, how);
  }
  entry.hosts_from = source.from;
  options.stats->set(version.part->stats().membership_total, static_cast<int64_t>(entry.hosts->all().size()));
  options.stats->set(version.part->stats().membership_healthy, static_cast<int64_t>(entry.hosts->healthy_count()));
  count_subsets(version, before, *entry.hosts);
  changed_clusters.insert(version.spec().name);
}

void Store::Impl::count_subsets(const ClusterVersion& version, const upstream::HostSet* before,
                                const upstream::HostSet& now) {
  const upstream::Subsets* const after = now.subsets();
  const auto& block = version.part->stats().subsets;
  if (after == nullptr || block == nullptr) return;
  const upstream::Subsets* const had = before == nullptr ? nullptr : before->subsets();
  options.stats->add(block->created, after->missing_in(had));
  if (had != nullptr) options.stats->add(block->removed, had->missing_in(after));
  options.stats->set(block->active, after->active());
  options.stats->set(block->single_host_duplicate, after->unused_hosts());
  if (after->crowded_hosts() != 0)
    OUTRIGGER_LOG(kWarning, "proxy",
                  "cluster {}: the lists in the metadata of its hosts would put one into more than 1,024 subsets of a "
                  "selector; it is left out ({} times)",
                  version.spec().name, after->crowded_hosts());
}

// Whether every host of the staged version has been checked once, or is not checked at all. The checks begin as soon as
// the hosts are known; what they find is kept by the hosts, for whatever version has them.
bool Store::Impl::first_checks_done(ClusterEntry& entry) {
  ClusterVersion& version = *entry.staged;
  if (!version.spec().health_check || !warm(version)) return true;
  if (!options.bind) return true;  // it only judges: nobody checks
  // Checks need the TLS as well; what the cluster lacks of it holds it by itself.
  const auto known = [&](const std::string& secret) { return secrets.is_live(secret); };
  if (!std::all_of(version.secrets.begin(), version.secrets.end(), known)) return true;
  use_secrets(version);
  const HostSource source = host_source(version);
  const upstream::HostSetOptions how = host_options(version.spec());
  if (entry.next_hosts == nullptr || entry.next_from != source.from || entry.next_hosts->options() != how) {
    const upstream::HostSet* const before = (entry.next_hosts != nullptr ? entry.next_hosts : entry.hosts).get();
    entry.next_hosts = upstream::HostSet::compile(endpoints_in(source.endpoints), before, how);
    entry.next_from = source.from;
    checks_changed.insert(version.spec().name);
    status_due = true;
  }
  return entry.next_hosts->none_unchecked();
}

std::vector<upstream::HealthTarget> Store::Impl::take_health_targets() {
  std::vector<upstream::HealthTarget> targets;
  for (const std::string& name : std::exchange(checks_changed, {})) {
    upstream::HealthTarget& target = targets.emplace_back();
    target.cluster = name;
    const ClusterEntry* entry = clusters.find(name);
    if (entry == nullptr) continue;
    const bool coming = entry->staged != entry->live && entry->next_hosts != nullptr;
    const ClusterVersion* const version = (coming ? entry->staged : entry->live).get();
    if (version == nullptr || !version->spec().health_check) continue;
    target.part = version->part;
    std::unordered_set<const upstream::Host*> seen;
    const auto add = [&](const upstream::HostSet* hosts) {
      if (hosts == nullptr) return;
      for (const auto& one : hosts->all())
        if (one.checked && seen.insert(one.host.get()).second) target.hosts.push_back({one.host, one.check_address()});
    };
    if (coming) add(entry->next_hosts.get());
    add(entry->hosts.get());  // the live version goes on serving until then
  }
  return targets;
}

void Store::Impl::health_changed(std::string_view cluster) {
  ClusterEntry* entry = clusters.find(cluster);
  if (entry == nullptr) return;
  if (entry->staged != entry->live) status_due = true;
  if (entry->live == nullptr || entry->hosts == nullptr) return;
  options.stats->set(entry->live->part->stats().membership_healthy,
                     static_cast<int64_t>(entry->hosts->healthy_count()));
  update_hosts(*entry);
}

void Store::Impl::publish_clusters() {
  std::vector<std::string> waiting_aggregates;
  for (const std::string& name : copy(clusters.waiting)) {
    if (clusters.find(name)->staged->is_aggregate()) {
      waiting_aggregates.push_back(name);
    } else {
      publish_cluster(name);
    }
  }
  // Each may be what another one waits for.
  while (std::erase_if(waiting_aggregates, [&](const std::string& name) { return publish_cluster(name); }) != 0) {
  }
}

bool Store::Impl::publish_cluster(const std::string& name) {
  ClusterEntry& entry = *clusters.find(name);
  if (entry.staged != entry.live) {
    // A cold version in place of a cold one takes nothing from anybody.
    const bool is_warm = warm(*entry.staged) || (entry.live != nullptr && !warm(*entry.live));
    const bool checked = first_checks_done(entry);
    const bool ready = is_warm && closed(*entry.staged, entry.live.get()) && checked;
    if (!ready && !held_long_enough(entry, hold_ms(*entry.staged))) return false;
    if (waits_in_circle(*entry.staged)) return false;
    if (!ready) {
      OUTRIGGER_LOG(kWarning, "proxy", "cluster {}: published without {} in {} ms", name,
                    entry.staged->is_aggregate() ? "all of its members, not all came"
                    : !waits_for_secrets(entry.staged->named.secrets).empty()
                        ? "a secret that it names, it did not come"
                    : is_warm ? "the first health check of every host"
                              : "endpoints, none came",
                    hold_ms(*entry.staged));
    }
    if (entry.live != nullptr && !entry.live->same_service(*entry.staged)) services_changed = true;
    name_clusters(entry);
    const bool was_aggregate = aggregates.erase(name) != 0;
    if (entry.staged->is_aggregate()) aggregates.insert(name);
    aggregates_changed = aggregates_changed || was_aggregate || entry.staged->is_aggregate();
    secrets_named(entry.live.get());
    go_live(entry, !ready);
    use_secrets(*entry.live);
    ++wants;
    changed_clusters.insert(name);
    if (entry.live->spec().health_check) checks_changed.insert(name);
  }
  clusters.waiting.erase(name);
  update_hosts(entry);
  entry.next_hosts = nullptr;
  return true;
}

// Every live aggregate's leaves, as they are now.
void Store::Impl::update_members() {
  if (!std::exchange(aggregates_changed, false)) return;
  const auto live = [&](const std::string& name) -> const std::vector<std::string>* {
    const ClusterEntry* entry = clusters.find(name);
    return entry == nullptr || entry->live == nullptr ? nullptr : &entry->live->spec().members;
  };
  for (const std::string& name : aggregates) {
    ClusterEntry& entry = *clusters.find(name);
    std::vector<Name> leaves = leaves_of(name, live);
    if (entry.hosts != nullptr && entry.hosts->all().empty() && entry.hosts->members() == leaves) continue;
    entry.hosts = upstream::HostSet::of_members(std::move(leaves));
    entry.hosts_from = nullptr;
    options.stats->set(entry.live->part->stats().membership_total, 0);
    options.stats->set(entry.live->part->stats().membership_healthy, 0);
    changed_clusters.insert(name);
  }
}

// Endpoints name nothing: they are live at once, and so are the hosts of all clusters that use them.
void Store::Impl::publish_endpoints() {
  if (endpoints.waiting.empty()) return;
  status_due = true;
  if (services_changed) service_users.refresh();
  for (const std::string& name : endpoints.waiting) {
    auto& entry = *endpoints.find(name);
    entry.live = entry.staged;
    service_users.each(name, [&](const std::string& user) {
      entry.was_wanted = true;
      if (ClusterEntry* cluster = clusters.find(user); cluster != nullptr && cluster->live != nullptr)
        update_hosts(*cluster);
    });
  }
  endpoints.waiting.clear();
}

// Its addresses are those of a listener that still waits: until that one is live, this one goes on accepting.
bool Store::Impl::awaits_successor(const ListenerVersion& leaving) const {
  return std::any_of(listeners.waiting.begin(), listeners.waiting.end(), [&](const std::string& name) {
    const auto& coming = listeners.find(name)->staged->addresses;
    return std::any_of(coming.begin(), coming.end(), [&](const net::Address& address) {
      return !(address.is_ip() && address.port() == 0) &&
             std::find(leaving.addresses.begin(), leaving.addresses.end(), address) != leaving.addresses.end();
    });
  });
}

void Store::Impl::drop_listeners() {
  for (const std::string& name : copy(listeners.leaving)) {
    const std::shared_ptr<ListenerVersion> live = listeners.find(name)->live;
    if (live != nullptr && awaits_successor(*live)) continue;
    if (live != nullptr) {
      live_named_clusters.drop(live->named.clusters);
      live_named_tables.drop(live->named.tables);
      changed_listeners.insert(name);
      secrets_named(live.get());
    }
    listeners.erase(name);
    listeners_changed = true;
    ++wants;
  }
}

void Store::Impl::publish_tables() {
  if (listeners_changed) wanted_tables = named_tables();
  for (const std::string& name : copy(tables.waiting)) {
    Entry<TableVersion>& entry = *tables.find(name);
    const auto wanted = wanted_tables.find(name);
    if (wanted == wanted_tables.end()) continue;
    entry.was_wanted = true;
    const bool ready = closed(*entry.staged, entry.live.get());
    if (ready || held_long_enough(entry, wanted->second)) publish_table(name, entry, !ready);
  }
}

void Store::Impl::publish_table(const std::string& name, Entry<TableVersion>& entry, bool was_forced) {
  if (was_forced)
    OUTRIGGER_LOG(kWarning, "proxy", "route table {}: published though clusters that it names are missing",
                  shown(name));
  name_clusters(entry);
  go_live(entry, was_forced);
  tables.waiting.erase(name);
  changed_tables.insert(name);
}

void Store::Impl::publish_listeners() {
  for (const std::string& name : copy(listeners.waiting)) {
    Entry<ListenerVersion>& entry = *listeners.find(name);
    const bool ready = closed(*entry.staged, entry.live.get());
    if (!ready && !held_long_enough(entry, hold_ms(*entry.staged))) continue;
    if (!ready) {
      OUTRIGGER_LOG(kWarning, "proxy", "listener {}: published though what it names is missing", name);
      // Better a table that lacks a cluster than none at all.
      for (const std::string& table : entry.staged->named.tables) {
        auto* known = tables.find(table);
        if (known != nullptr && known->live == nullptr && known->staged != nullptr) publish_table(table, *known, true);
      }
    }
    name_clusters(entry);
    live_named_tables.add(entry.staged->named.tables);
    if (entry.live != nullptr) live_named_tables.drop(entry.live->named.tables);
    secrets_named(entry.live.get());
    go_live(entry, !ready);
    use_secrets(*entry.live);
    use_socket_options(*entry.live->part);
    listeners.waiting.erase(name);
    changed_listeners.insert(name);
    listeners_changed = true;
    ++wants;
  }
}

// Tables whose removal is wanted and that no live listener names; and those of discovery that no listener, staged or
// live, names any more: state-of-the-world RDS does not say that a table is gone.
void Store::Impl::drop_tables() {
  std::vector<std::string> gone;
  for (const std::string& name : tables.leaving) {
    if (!live_named_tables.has(name)) gone.push_back(name);
  }
  if (listeners_changed) {
    wanted_tables = named_tables();
    for (auto& [name, entry] : tables.entries) {
      if (wanted_tables.contains(name)) {
        entry.was_wanted = true;
      } else if (entry.was_wanted && entry.source == Source::kXds && !entry.remove) {
        gone.push_back(name);
      }
    }
    listeners_changed = false;
  }
  for (const std::string& name : gone) {
    if (const auto& live = tables.find(name)->live; live != nullptr) {
      live_named_clusters.drop(live->named.clusters);
      changed_tables.insert(name);
    }
    tables.erase(name);
  }
}

void Store::Impl::drop_clusters() {
  const auto drop = [&](const std::string& name) {
    if (live_named_clusters.has(name)) return false;
    if (const auto& live = clusters.find(name)->live; live != nullptr) {
      changed_clusters.insert(name);
      live_named_clusters.drop(live->named.clusters);
      secrets_named(live.get());
    }
    checks_changed.insert(name);
    aggregates_changed = aggregates.erase(name) != 0 || aggregates_changed;
    clusters.erase(name);
    services_changed = true;
    ++wants;
    return true;
  };
  // An aggregate that goes may be the last that named its members.
  std::vector<std::string> leaving = copy(clusters.leaving);
  while (std::erase_if(leaving, drop) != 0) {
  }
}

void Store::Impl::drop_endpoints() {
  if (!services_changed && endpoints.leaving.empty()) return;
  if (services_changed) service_users.refresh();
  drop_unnamed(endpoints, [&](const std::string& name) { return service_users.any(name); });
  services_changed = false;
}

LinkedListener Store::Impl::link_listener(const ListenerVersion& version) const {
  LinkedListener linked{.part = version.part, .chains = {}};
  for (size_t i = 0; i < version.part->chains.size(); ++i) {
    const auto& chain = version.part->chains[i];
    LinkedChain one{.chain = chain.get(), .routes = chain->inline_routes, .tls = version.tls[i]};
    if (!chain->rds_name.empty()) {
      const auto* table = tables.find(chain->rds_name.text);
      if (table != nullptr && table->live != nullptr) one.routes = table->live->part;
    }
    linked.chains.push_back(std::move(one));
  }
  return linked;
}

// What names nothing may come before what names it.
std::shared_ptr<const Snapshot> Store::Impl::link_some_clusters() {
  if (options.clusters_at_once == 0 || changed_clusters.size() <= options.clusters_at_once) return nullptr;
  auto next = std::make_shared<Snapshot>(*snapshot);
  size_t linked = 0;
  for (auto at = changed_clusters.begin(); at != changed_clusters.end() && linked < options.clusters_at_once;) {
    const ClusterEntry* entry = clusters.find(*at);
    if (entry == nullptr || entry->live == nullptr || entry->live->is_aggregate()) {
      ++at;
      continue;
    }
    next->clusters.insert(LinkedCluster{.cluster = entry->live->part, .hosts = entry->hosts});
    at = changed_clusters.erase(at);
    ++linked;
  }
  if (linked == 0) return nullptr;
  ++next->version;
  next->accepted_ns = 0;
  more_to_link = true;
  status_due = true;
  snapshot = std::move(next);
  return snapshot;
}

std::shared_ptr<const Snapshot> Store::Impl::link(int64_t accepted_ns) {
  if (!changed_tables.empty()) {
    for (const auto& [name, entry] : listeners.entries) {
      if (entry.live == nullptr) continue;
      const auto& named = entry.live->named.tables;
      if (std::any_of(named.begin(), named.end(), [&](const auto& table) { return changed_tables.contains(table); })) {
        changed_listeners.insert(name);
      }
    }
  }
  if (accepted_ns != 0 && first_accepted_ns == 0) first_accepted_ns = accepted_ns;
  if (auto some = link_some_clusters()) return some;
  more_to_link = false;
  const int64_t accepted_first_ns = std::exchange(first_accepted_ns, 0);
  if (changed_listeners.empty() && changed_tables.empty() && changed_clusters.empty()) return nullptr;
  auto next = std::make_shared<Snapshot>(*snapshot);
  ++next->version;
  next->accepted_ns = accepted_first_ns;
  for (const std::string& name : changed_clusters) {
    const ClusterEntry* entry = clusters.find(name);
    if (entry == nullptr || entry->live == nullptr) {
      next->clusters.erase(name);
    } else {
      next->clusters.insert(LinkedCluster{.cluster = entry->live->part, .hosts = entry->hosts});
    }
  }
  for (const std::string& name : changed_tables) {
    const auto* entry = tables.find(name);
    if (entry == nullptr || entry->live == nullptr) {
      next->route_tables.erase(name);
    } else {
      next->route_tables.insert(name, entry->live->part);
    }
  }
  for (const std::string& name : changed_listeners) {
    const auto* entry = listeners.find(name);
    if (entry == nullptr || entry->live == nullptr) {
      next->listeners.erase(name);
    } else {
      next->listeners.insert(link_listener(*entry->live));
    }
  }
  changed_listeners.clear();
  changed_tables.clear();
  changed_clusters.clear();
  status_due = true;
  snapshot = std::move(next);
  return snapshot;
}

// What is named goes first: secrets, clusters, then tables, then listeners. Nothing is dropped before the parts that
// named it have given way to their next versions.
std::shared_ptr<const Snapshot> Store::Impl::assemble(int64_t accepted_ns) {
  publish_secrets();
  publish_clusters();
  publish_endpoints();
  publish_tables();
  publish_listeners();
  drop_listeners();
  drop_tables();
  drop_clusters();
  drop_endpoints();
  drop_secrets();
  update_members();
  return link(accepted_ns);
}

}  // namespace outrigger::proxy
