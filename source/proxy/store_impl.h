// Store::Impl: the Store's tables, shared by store.cc (staging), store_assemble.cc and store_status.cc.
//
// Every resource is an Entry with two versions of it: `staged` (the newest accepted) and `live` (in the snapshot). They
// are the same object when nothing waits. `waiting` names the entries whose versions differ, `leaving` those whose
// removal is wanted, so that assemble() looks at no others.
//
// Thread rule: the Store's thread.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "proxy/listener_part.h"
#include "proxy/store.h"

namespace outrigger::proxy {

using config::ResourceType;

// Of two waits the longer one; 0: without end.
inline uint64_t longer_hold(uint64_t a, uint64_t b) { return a == 0 || b == 0 ? 0 : std::max(a, b); }

// What a part names, sorted, each once. Tables and secrets by their scoped_name.
struct Named {
  std::vector<std::string> clusters, tables;
  std::vector<std::string> secrets;  // that have a source; those of the bootstrap are always there
};

struct VersionBase {
  SharedText bytes, version;
};
struct NamingVersion : VersionBase {
  Named named;
  uint64_t origin_hold_ms = 0;  // Origin::initial_fetch_timeout_ms
};
struct ListenerVersion : NamingVersion {
  std::shared_ptr<const ListenerPart> part;
  std::vector<net::Address> addresses;
  std::vector<uint64_t> table_hold_ms;  // of each that `named` has: how long its source lets it be waited for
  // Of each chain, once this is live: TLS with the secrets that it names.
  std::vector<std::shared_ptr<const upstream::TlsContext>> tls;
  std::unordered_map<std::string, std::vector<size_t>> chains_of_secret;  // that name it
};
struct TableVersion : NamingVersion {
  std::shared_ptr<const route::RouteTable> part;
  std::optional<config::RouteTableSpec> spec;  // only where there are no bytes to compare by
  std::shared_ptr<const config::RouteKeys> keys;
};
struct ClusterVersion : NamingVersion {
  std::shared_ptr<const upstream::Cluster> part;
  std::shared_ptr<const std::vector<config::EndpointSpec>> resolved;  // by DNS: nullptr until the first answer
  std::vector<std::string> secrets = {};                              // all that it names (scoped_name), sorted
  SharedText scoped_service;                                          // kEds, if its source has a scope
  const config::ClusterSpec& spec() const { return part->spec(); }
  bool is_eds() const { return spec().discovery == config::ClusterSpec::Discovery::kEds; }
  bool is_dns() const { return spec().by_dns(); }
  bool is_aggregate() const { return spec().discovery == config::ClusterSpec::Discovery::kAggregate; }
  bool same_service(const ClusterVersion& other) const {
    return is_eds() == other.is_eds() && (!is_eds() || service() == other.service());
  }
  const std::string& plain_service() const {
    return spec().eds_service_name.empty() ? spec().name : spec().eds_service_name;
  }
  const std::string& service() const { return scoped_service.empty() ? plain_service() : scoped_service.text(); }
};
struct EndpointsVersion : VersionBase {
  std::shared_ptr<const config::EndpointsSpec> spec;
};
struct SecretVersion : VersionBase {
  std::shared_ptr<const config::SecretSpec> spec;
};

std::string_view scope_in(std::string_view scoped);
std::string source_note(std::string_view scoped);  // for people: " (control_b)"; "": it is of ADS or the bootstrap
std::string shown(std::string_view scoped);        // the name with its note

// A version that was refused.
struct Refused {
  std::string faults, version;
};

struct EntryBase {
  Source source = Source::kXds;
  bool remove = false;      // wanted, as soon as nothing live names it
  bool was_wanted = false;  // route tables, endpoints: something has named it
  int64_t held_since_ms = -1;
  Boxed<Refused> refused;
  int64_t updated_unix_ms = 0;
};
template <class V>
struct Entry : EntryBase {
  std::shared_ptr<V> staged, live;
};
struct ClusterEntry : Entry<ClusterVersion> {
  std::shared_ptr<const upstream::HostSet> hosts;  // of the live version
  std::shared_ptr<const void> hosts_from;          // what they were compiled from
  // Of the staged version, while their first health checks are waited for.
  std::shared_ptr<const upstream::HostSet> next_hosts;
  std::shared_ptr<const void> next_from;
};

template <class E>
struct Table {
  std::map<std::string, E, std::less<>> entries;
  std::set<std::string, std::less<>> waiting, leaving;
  // Whose status may be another than the last told; besides, those that wait and those that were told to.
  std::set<std::string, std::less<>> touched;
  std::vector<std::string> told_waiting;
  E* find(std::string_view name) {
    const auto it = entries.find(name);
    return it == entries.end() ? nullptr : &it->second;
  }
  const E* find(std::string_view name) const { return const_cast<Table*>(this)->find(name); }
  bool is_live(std::string_view name) const {
    const E* entry = find(name);
    return entry != nullptr && entry->live != nullptr;
  }
  void erase(std::string_view name) {
    const auto forget = [&](auto& set) {
      if (auto it = set.find(name); it != set.end()) set.erase(it);
    };
    forget(waiting);
    forget(leaving);
    touched.emplace(name);
    if (auto it = entries.find(name); it != entries.end()) entries.erase(it);
  }
};

// Erases what nothing names any more: resources of discovery that something has named before, and what is to go anyway.
// Whether there was any.
template <class E, class Names>
bool drop_unnamed(Table<E>& table, Names&& is_named) {
  std::vector<std::string> gone;
  for (auto& [name, entry] : table.entries) {
    if (is_named(name)) {
      entry.was_wanted = true;
    } else if (entry.remove || (entry.was_wanted && entry.source == Source::kXds)) {
      gone.push_back(name);
    }
  }
  for (const std::string& name : gone) table.erase(name);
  return !gone.empty();
}

// How many live parts name each resource.
class NamedCounts {
 public:
  void add(const std::vector<std::string>& names) {
    for (const std::string& name : names) ++counts_[name];
  }
  void drop(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (auto it = counts_.find(name); it != counts_.end() && --it->second == 0) counts_.erase(it);
    }
  }
  // add(after), drop(before), both sorted; costs little where they are nearly the same.
  void replace(const std::vector<std::string>& before, const std::vector<std::string>& after);
  bool has(const std::string& name) const { return counts_.contains(name); }

 private:
  std::unordered_map<std::string, uint32_t> counts_;
};

// Who names a secret, staged or live.
struct SecretUsers {
  std::set<std::string> listeners, clusters;
};

// The clusters, staged or live, that name each EDS service. Those that bear its name are not listed again.
class ServiceUsers {
 public:
  explicit ServiceUsers(const Table<ClusterEntry>& clusters) : clusters_(clusters) {}
  void refresh();
  bool any(const std::string& service) const { return others_.contains(service) || namesake(service); }
  // Calls f(cluster) for each.
  template <class F>
  void each(const std::string& service, F&& f) const {
    if (namesake(service)) f(service);
    const auto others = others_.find(service);
    if (others == others_.end()) return;
    for (const std::string& cluster : others->second) f(cluster);
  }

 private:
  static bool uses(const ClusterEntry& entry, const std::string& service) {
    const auto by = [&](const auto& version) {
      return version != nullptr && version->is_eds() && version->service() == service;
    };
    return by(entry.staged) || by(entry.live);
  }
  bool namesake(const std::string& service) const {
    const ClusterEntry* entry = clusters_.find(service);
    return entry != nullptr && uses(*entry, service);
  }
  const Table<ClusterEntry>& clusters_;
  std::unordered_map<std::string, std::vector<std::string>> others_;  // clusters of other names, by service
};

struct Store::Impl {
  explicit Impl(StoreOptions options);

  // ---- staging (store.cc) ----
  // `name`: the scoped_name.
  Result<void> accept(const std::string& name, config::ListenerSpec spec, VersionBase base, const Origin& origin);
  Result<void> accept(const std::string& name, config::RouteTableSpec spec, VersionBase base, const Origin& origin);
  Result<void> accept(const std::string& name, config::ClusterSpec spec, VersionBase base, const Origin& origin);
  Result<void> accept(const std::string& name, config::EndpointsSpec spec, VersionBase base, const Origin& origin);
  Result<void> accept(const std::string& name, config::SecretSpec spec, VersionBase base, const Origin& origin);
  Result<void> check_cycle(const config::ClusterSpec& spec) const;
  Result<void> check_owner(const EntryBase* entry, Source source, std::string_view name) const;
  Result<void> check_addresses(const ListenerVersion& version, const std::string& name) const;
  void refuse(ResourceType type, std::string_view name, std::string_view version, std::string text);
  void remove(ResourceType type, std::string_view name, Source source);
  void set_resolved(std::string_view cluster, std::vector<config::EndpointSpec> endpoints);
  EntryBase* find(ResourceType type, std::string_view name);
  static bool has_scope_mark(std::string_view name);

  // ---- secrets (store_secrets.cc) ----
  const config::SecretSpec* newest_secret(std::string_view name) const;
  const config::SecretSpec* live_secret(std::string_view name) const;
  // What is wrong with TLS that names secrets, as far as they are known; `coming` (if not nullptr) is the newest by the
  // scoped name `coming_name`.
  template <class Tls>
  std::string problem_with(const Tls& tls, std::string_view coming_name = {},
                           const config::SecretSpec* coming = nullptr) const;
  Result<void> check_secrets(const ListenerVersion& version) const;
  Result<void> check_secrets(const config::ClusterSpec& spec) const;
  Result<void> check_users(const std::string& name, const config::SecretSpec& coming);
  void note_secrets(ListenerVersion& version) const;
  void note_secrets(const config::ClusterSpec& spec, ClusterVersion& version) const;
  // Called when a version comes or goes: who names what may be another.
  void secrets_named(const ListenerVersion* version) {
    secrets_changed = secrets_changed || (version != nullptr && !version->chains_of_secret.empty());
  }
  void secrets_named(const ClusterVersion* version) {
    secrets_changed = secrets_changed || (version != nullptr && !version->secrets.empty());
  }
  const std::unordered_map<std::string, SecretUsers>& secret_users();
  void publish_secrets();
  void drop_secrets();
  void use_secrets(ListenerVersion& version, size_t chain);
  void use_secrets(ListenerVersion& version);
  bool use_secrets(ClusterVersion& version);  // true: its part is another one

  // ---- closure (store_assemble.cc) ----
  std::shared_ptr<const Snapshot> assemble(int64_t accepted_ns);
  void publish_clusters();
  bool publish_cluster(const std::string& name);  // false: it waits
  void publish_endpoints();
  void drop_listeners();
  bool awaits_successor(const ListenerVersion& leaving) const;
  void publish_tables();
  void publish_table(const std::string& name, Entry<TableVersion>& entry, bool was_forced);
  template <class V>
  void name_clusters(const Entry<V>& entry);  // the staged version's instead of the live one's
  void publish_listeners();
  void drop_tables();
  void drop_clusters();
  void drop_endpoints();
  // What a version's hosts are compiled from; nullptr: of nothing.
  struct HostSource {
    std::shared_ptr<const void> from;
    const std::vector<config::EndpointSpec>* endpoints = nullptr;
  };
  HostSource host_source(const ClusterVersion& version) const;
  bool first_checks_done(ClusterEntry& entry);
  void update_hosts(ClusterEntry& entry);
  void count_subsets(const ClusterVersion& version, const upstream::HostSet* before, const upstream::HostSet& now);
  std::vector<upstream::HealthTarget> take_health_targets();
  void health_changed(std::string_view cluster);
  void update_members();
  template <class V>
  void go_live(Entry<V>& entry, bool forced);
  // True if the hold is over; begins it if need be. `timeout_ms` 0: it never is.
  bool held_long_enough(EntryBase& entry, uint64_t timeout_ms);
  std::shared_ptr<const Snapshot> link(int64_t accepted_ns);
  std::shared_ptr<const Snapshot> link_some_clusters();  // nullptr: they are few enough
  LinkedListener link_listener(const ListenerVersion& version) const;

  // ---- questions (store_status.cc and all) ----
  bool warm(const ClusterVersion& version) const;
  // Everything that `staged` names is live, or missing in its live version just as well: that it is missing is what is
  // served already, and nobody gains by waiting.
  bool closed(const NamingVersion& staged, const NamingVersion* live) const;
  // An aggregate that would name itself by way of the live versions of its members. That those change is waited for
  // without end, since the newest versions never are a circle.
  bool waits_in_circle(const ClusterVersion& staged) const;
  uint64_t hold_ms(const ClusterVersion& version) const;
  uint64_t hold_ms(const ListenerVersion& version) const;
  std::vector<std::string> waits_for_secrets(const std::vector<std::string>& names) const;
  template <class F>
  void each_secret(F&& f) const;
  // By listeners, staged or live: how long they let each table be waited for.
  std::map<std::string, uint64_t, std::less<>> named_tables() const;
  std::vector<std::string> waits_of_cluster(const ClusterVersion& version) const;
  std::vector<std::string> waits_of_table(const std::string& name) const;
  static std::string_view lack_of(const ClusterEntry* entry);
  std::vector<std::string> waits_for_clusters(const std::vector<std::string>& names) const;
  std::vector<std::string> waits_of_listener(const ListenerVersion& version) const;
  template <class F>
  void each_service(F&& f) const;
  template <class F>
  void each_table(F&& f) const;
  std::shared_ptr<const StoreStatus> status();
  std::shared_ptr<const StoreStatus> status_from_scratch() const;
  template <class Of, class Waits>
  void tell(StoreStatus& status, ResourceType type, const Of& table, const std::string& name, Waits&& waits) const;
  template <class Self, class F>
  static void each_type(Self& self, F&& f);
  int64_t next_deadline_ms() const;

  StoreOptions options;
  const ScopedNames scoped_names;
  upstream::TlsContexts tls_contexts;
  ListenerCompiler compiler;
  stats::Group group;
  stats::Counter forced_counter;
  uint64_t forced = 0;

  Table<Entry<ListenerVersion>> listeners;
  Table<Entry<TableVersion>> tables;
  Table<ClusterEntry> clusters;
  Table<Entry<EndpointsVersion>> endpoints;
  Table<Entry<SecretVersion>> secrets;
  NamedCounts live_named_clusters;  // clusters that live listeners, tables and aggregates name
  NamedCounts live_named_tables;    // tables that live listeners name
  std::map<std::string, uint64_t, std::less<>> wanted_tables;  // named_tables() as of the last change of a listener
  ServiceUsers service_users{clusters};                        // as of the last change of a service name
  std::unordered_map<std::string, SecretUsers> known_secret_users;  // secret_users()
  std::set<std::string> aggregates;                                 // live ones
  bool listeners_changed = false, services_changed = false, aggregates_changed = false, secrets_changed = false;
  uint64_t wants = 1;  // another number: what should be asked for may have changed

  SharedText last_version;  // given to the resources of one response alike

  // What the next snapshot differs in.
  std::set<std::string> checks_changed;  // clusters whose hosts' checks may have to be others
  std::set<std::string> changed_listeners, changed_tables, changed_clusters;
  bool more_to_link = false;      // the snapshot is one of several
  int64_t first_accepted_ns = 0;  // of what they bring; 0: not timed
  std::shared_ptr<const Snapshot> snapshot = std::make_shared<Snapshot>();
  std::shared_ptr<const StoreStatus> last_status = std::make_shared<StoreStatus>();
  bool status_due = false;  // that may be out of date
};

}  // namespace outrigger::proxy
