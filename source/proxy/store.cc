#include "proxy/store.h"

#include <algorithm>

#include "base/log.h"
#include "config/source_scope.h"
#include "event/clock.h"
#include "net/socket_options.h"
#include "proxy/aggregate.h"
#include "proxy/store_impl.h"

namespace outrigger::proxy {
namespace {

constexpr char kScopeMark = '\n';  // between name and scope; no name has one

class Collector final : public References {
 public:
  void cluster(std::string_view name) override { named_.clusters.emplace_back(name); }
  void route_table(std::string_view name) override { named_.tables.emplace_back(name); }
  void secret(std::string_view) override {}  // note_secrets() knows where they come from, too
  Named take() {
    for (auto* names : {&named_.clusters, &named_.tables}) {
      std::sort(names->begin(), names->end());
      names->erase(std::unique(names->begin(), names->end()), names->end());
    }
    return std::move(named_);
  }

 private:
  Named named_;
};

template <class Part>
Named names_of(const Part& part) {
  Collector collector;
  part.references(collector);
  return collector.take();
}

// The same from those of the version before, if only clusters differ: most of 10,000 names need no look.
Named names_after(const TableVersion& before, const route::RouteTable& part) {
  if (before.part->has_filter_parts() || part.has_filter_parts()) return names_of(part);
  std::vector<std::string> added, gone;
  part.compare_clusters(
      *before.part, [&](std::string_view name) { added.emplace_back(name); },
      [&](std::string_view name) { gone.emplace_back(name); });
  Named named = before.named;
  if (added.empty() && gone.empty()) return named;
  std::sort(added.begin(), added.end());
  std::sort(gone.begin(), gone.end());
  std::erase_if(named.clusters, [&](const auto& name) { return std::binary_search(gone.begin(), gone.end(), name); });
  const auto old = static_cast<ptrdiff_t>(named.clusters.size());
  named.clusters.insert(named.clusters.end(), added.begin(), added.end());
  std::inplace_merge(named.clusters.begin(), named.clusters.begin() + old, named.clusters.end());
  return named;
}

// Which tables `version` names, for how long their sources let them be waited for.
void note_table_holds(ListenerVersion& version) {
  const std::vector<std::string>& tables = version.named.tables;
  std::vector<std::optional<uint64_t>> holds(tables.size());
  for (const auto& chain : version.part->chains) {
    if (chain->rds_name.empty()) continue;
    const auto at = std::lower_bound(tables.begin(), tables.end(), chain->rds_name.text) - tables.begin();
    auto& hold = holds[static_cast<size_t>(at)];
    const uint64_t ms = chain->spec.hcm.rds_source.initial_fetch_timeout_ms;
    hold = hold ? longer_hold(*hold, ms) : ms;
  }
  version.table_hold_ms.clear();
  for (const auto& hold : holds) version.table_hold_ms.push_back(*hold);
}

// Endpoints must be addresses: HostSet::compile takes that for granted.
Result<void> check_address(const config::AddressSpec& address) {
  const auto parsed = address.kind == config::AddressSpec::Kind::kPipe
                          ? net::Address::unix_path(address.host)
                          : net::Address::parse(address.host, address.port);
  if (!parsed) return fail(Errc::kInvalidArgument, "endpoints: \"" + address.host + "\": " + parsed.error().detail);
  return {};
}

Result<void> check_addresses_of(const std::vector<config::EndpointSpec>& endpoints) {
  for (const config::EndpointSpec& endpoint : endpoints) {
    TRY_VOID(check_address(endpoint.address));
    if (!endpoint.addresses) continue;
    for (const config::AddressSpec& more : endpoint.addresses->more) TRY_VOID(check_address(more));
  }
  return {};
}

void note_accepted(EntryBase& entry, Source source) {
  entry.source = source;
  entry.remove = false;
  entry.refused.reset();
  entry.updated_unix_ms = event::wall_clock_ms();
}

// An equal version came again: only its name tags change.
void retag(VersionBase& version, VersionBase base) {
  version.bytes = std::move(base.bytes);
  version.version = std::move(base.version);
}

template <class E, class V>
void stage(Table<E>& table, const std::string& name, E& entry, std::shared_ptr<V> version) {
  table.touched.insert(name);
  entry.staged = std::move(version);
  if (entry.staged == entry.live) {
    table.waiting.erase(name);
    entry.held_since_ms = -1;
  } else {
    table.waiting.insert(name);
  }
  table.leaving.erase(name);
}

// Finds the version of an entry that is equal to what came: the staged one, or the live one (a step back).
template <class E, class Equal>
auto find_equal(E* entry, Equal&& equal) -> decltype(entry->staged) {
  if (entry == nullptr) return nullptr;
  if (entry->staged != nullptr && equal(*entry->staged)) return entry->staged;
  if (entry->live != nullptr && entry->live != entry->staged && equal(*entry->live)) return entry->live;
  return nullptr;
}

}  // namespace

std::string scoped_name(std::string_view name, std::string_view scope) {
  std::string both(name);
  if (!scope.empty()) both.append(1, kScopeMark).append(scope);
  return both;
}

std::string_view plain_name(std::string_view scoped) { return scoped.substr(0, scoped.find(kScopeMark)); }

std::string_view scope_in(std::string_view scoped) {
  const size_t mark = scoped.find(kScopeMark);
  return mark == std::string_view::npos ? std::string_view() : scoped.substr(mark + 1);
}

std::string source_note(std::string_view scoped) {
  const std::string_view scope = scope_in(scoped);
  return scope.empty() ? std::string() : " (" + std::string(scope.substr(0, scope.rfind('#'))) + ")";
}

std::string shown(std::string_view scoped) { return std::string(plain_name(scoped)) + source_note(scoped); }

std::string ScopedNames::of(const std::string& name, const config::ConfigSourceSpec& source) const {
  return scopes ? scoped_name(name, config::scope_of(source)) : name;
}

Store::Impl::Impl(StoreOptions o)
    : options(std::move(o)),
      scoped_names{options.scopes},
      compiler(*options.stats, options.access_log, tls_contexts, options.workers, options.bind, scoped_names),
      group(*options.stats, {}),
      forced_counter(group.counter("store.forced")) {}

Result<void> Store::Impl::check_owner(const EntryBase* entry, Source source, std::string_view name) const {
  if (entry == nullptr || entry->source != Source::kStatic || source == Source::kStatic) return {};
  return fail(Errc::kInvalidArgument,
              "name: \"" + std::string(name) +
                  "\" is a static resource of the bootstrap; no other source may replace or remove it");
}

Result<void> Store::Impl::check_addresses(const ListenerVersion& version, const std::string& name) const {
  for (const auto& [other_name, other] : listeners.entries) {
    if (other_name == name || other.remove) continue;
    for (const auto* theirs : {other.staged.get(), other.live.get()}) {
      if (theirs == nullptr) continue;
      for (size_t i = 0; i < version.addresses.size(); ++i) {
        const net::Address& mine = version.addresses[i];
        if (mine.is_ip() && mine.port() == 0) continue;
        if (std::find(theirs->addresses.begin(), theirs->addresses.end(), mine) == theirs->addresses.end()) continue;
        return fail(Errc::kInvalidArgument,
                    address_path(i) + ": listener \"" + other_name + "\" has the address " + mine.str() + " already");
      }
    }
  }
  return {};
}

Result<void> Store::Impl::accept(const std::string& name, config::ListenerSpec spec, VersionBase base,
                                 const Origin& origin) {
  Entry<ListenerVersion>* known = listeners.find(name);
  TRY_VOID(check_owner(known, origin.source, name));
  auto version = find_equal(known, [&](const ListenerVersion& v) { return v.part->spec == spec; });
  if (version != nullptr) {
    retag(*version, std::move(base));
  } else {
    version = std::make_shared<ListenerVersion>();
    static_cast<VersionBase&>(*version) = std::move(base);
    TRY(version->addresses, ListenerCompiler::addresses(spec));
    if (!spec.api_listener) TRY_VOID(check_addresses(*version, name));
    const ListenerVersion* previous = known == nullptr ? nullptr : (known->staged ? known->staged : known->live).get();
    TRY(version->part, compiler.compile(spec, previous == nullptr ? nullptr : previous->part.get()));
    version->named = names_of(*version->part);
    version->origin_hold_ms = origin.initial_fetch_timeout_ms;
    note_table_holds(*version);
    note_secrets(*version);
    TRY_VOID(check_secrets(*version));
  }
  Entry<ListenerVersion>& entry = listeners.entries[name];
  note_accepted(entry, origin.source);
  secrets_named(entry.staged.get());
  secrets_named(version.get());
  stage(listeners, name, entry, std::move(version));
  listeners_changed = true;
  ++wants;
  return {};
}

Result<void> Store::Impl::accept(const std::string& name, config::RouteTableSpec spec, VersionBase base,
                                 const Origin& origin) {
  Entry<TableVersion>* known = tables.find(name);
  TRY_VOID(check_owner(known, origin.source, name));
  auto version = find_equal(known, [&](const TableVersion& v) {
    return v.spec.has_value() ? *v.spec == spec : !base.bytes.empty() && v.bytes == base.bytes;
  });
  if (version != nullptr) {
    retag(*version, std::move(base));
  } else {
    version = std::make_shared<TableVersion>();
    static_cast<VersionBase&>(*version) = std::move(base);
    version->part = route::RouteTable::compile(spec);
    version->keys = spec.keys;
    const TableVersion* previous = known == nullptr ? nullptr : (known->staged ? known->staged : known->live).get();
    version->named = previous == nullptr ? names_of(*version->part) : names_after(*previous, *version->part);
    if (version->bytes.empty()) version->spec = std::move(spec);
  }
  Entry<TableVersion>& entry = tables.entries[name];
  note_accepted(entry, origin.source);
  stage(tables, name, entry, std::move(version));
  return {};
}

// The newest versions of all clusters must not name each other in a circle.
Result<void> Store::Impl::check_cycle(const config::ClusterSpec& spec) const {
  const auto newest = [&](const std::string& name) -> const std::vector<std::string>* {
    const ClusterEntry* entry = clusters.find(name);
    return entry == nullptr || entry->remove || entry->staged == nullptr ? nullptr : &entry->staged->spec().members;
  };
  for (size_t i = 0; i < spec.members.size(); ++i) {
    const std::vector<std::string> way = way_to(spec.name, spec.members[i], newest);
    if (way.empty()) continue;
    std::string text = spec.name;
    for (const std::string& name : way) text += " -> " + name;
    return fail(Errc::kInvalidArgument,
                "cluster_type.typed_config.clusters[" + std::to_string(i) + "]: closes a circle: " + text);
  }
  return {};
}

Result<void> Store::Impl::accept(const std::string& name, config::ClusterSpec spec, VersionBase base,
                                 const Origin& origin) {
  ClusterEntry* known = clusters.find(name);
  TRY_VOID(check_owner(known, origin.source, name));
  TRY_VOID(check_cycle(spec));
  if (spec.discovery == config::ClusterSpec::Discovery::kStatic) TRY_VOID(check_addresses_of(spec.endpoints.endpoints));
  auto version = find_equal(known, [&](const ClusterVersion& v) { return v.spec() == spec; });
  if (version != nullptr) {
    retag(*version, std::move(base));
  } else {
    TRY_VOID(net::try_socket_options(spec.socket_options));
    version = std::make_shared<ClusterVersion>();
    static_cast<VersionBase&>(*version) = std::move(base);
    if (spec.health_check) checks_changed.insert(name);
    version->origin_hold_ms = origin.initial_fetch_timeout_ms;
    if (spec.discovery == config::ClusterSpec::Discovery::kEds) {
      const std::string& service = spec.eds_service_name.empty() ? spec.name : spec.eds_service_name;
      if (std::string scoped = scoped_names.of(service, spec.eds_source); scoped != service)
        version->scoped_service = std::move(scoped);
    }
    version->named.clusters = spec.members;
    std::sort(version->named.clusters.begin(), version->named.clusters.end());
    const ClusterVersion* previous = known == nullptr ? nullptr : (known->staged ? known->staged : known->live).get();
    std::shared_ptr<const upstream::TlsContext> tls;
    note_secrets(spec, *version);
    TRY_VOID(check_secrets(spec));
    if (spec.tls && version->secrets.empty()) {
      auto made = tls_contexts.client(*spec.tls);
      if (!made) return fail(made.error().code, "transport_socket: " + made.error().detail);
      tls = std::move(*made);
    }
    version->part = upstream::Cluster::compile(
        spec, *options.stats, previous == nullptr ? nullptr : previous->part->shared_state(), std::move(tls));
    // The same names to resolve: what they resolve to holds for the new version too.
    if (previous != nullptr && previous->is_dns() && version->is_dns() &&
        previous->spec().endpoints == spec.endpoints && previous->spec().dns_family == spec.dns_family) {
      version->resolved = previous->resolved;
    }
  }
  ClusterEntry& entry = clusters.entries[name];
  note_accepted(entry, origin.source);
  if (entry.staged == nullptr || !entry.staged->same_service(*version)) services_changed = true;
  secrets_named(entry.staged.get());
  secrets_named(version.get());
  ++wants;
  stage(clusters, name, entry, std::move(version));
  return {};
}

Result<void> Store::Impl::accept(const std::string& name, config::EndpointsSpec spec, VersionBase base,
                                 const Origin& origin) {
  Entry<EndpointsVersion>* known = endpoints.find(name);
  TRY_VOID(check_owner(known, origin.source, name));
  TRY_VOID(check_addresses_of(spec.endpoints));
  auto version = find_equal(known, [&](const EndpointsVersion& v) { return *v.spec == spec; });
  if (version != nullptr) {
    retag(*version, std::move(base));
  } else {
    version = std::make_shared<EndpointsVersion>();
    static_cast<VersionBase&>(*version) = std::move(base);
    version->spec = std::make_shared<const config::EndpointsSpec>(std::move(spec));
  }
  Entry<EndpointsVersion>& entry = endpoints.entries[name];
  note_accepted(entry, origin.source);
  stage(endpoints, name, entry, std::move(version));
  return {};
}

Result<void> Store::Impl::accept(const std::string& name, config::SecretSpec spec, VersionBase base,
                                 const Origin& origin) {
  Entry<SecretVersion>* known = secrets.find(name);
  TRY_VOID(check_owner(known, origin.source, name));
  auto version = find_equal(known, [&](const SecretVersion& v) { return *v.spec == spec; });
  if (version != nullptr) {
    retag(*version, std::move(base));
  } else {
    TRY_VOID(check_users(name, spec));
    version = std::make_shared<SecretVersion>();
    static_cast<VersionBase&>(*version) = std::move(base);
    version->spec = std::make_shared<const config::SecretSpec>(std::move(spec));
  }
  Entry<SecretVersion>& entry = secrets.entries[name];
  note_accepted(entry, origin.source);
  stage(secrets, name, entry, std::move(version));
  return {};
}

EntryBase* Store::Impl::find(ResourceType type, std::string_view name) {
  switch (type) {
    case ResourceType::kListener:
      return listeners.find(name);
    case ResourceType::kRouteTable:
      return tables.find(name);
    case ResourceType::kCluster:
      return clusters.find(name);
    case ResourceType::kEndpoints:
      return endpoints.find(name);
    case ResourceType::kSecret:
      return secrets.find(name);
  }
  return nullptr;
}

void Store::Impl::refuse(ResourceType type, std::string_view name, std::string_view version, std::string text) {
  status_due = true;
  const std::string key(name);
  const auto refused = [&](auto& table) -> EntryBase& {
    table.touched.insert(key);
    return table.entries[key];
  };
  EntryBase& entry = type == ResourceType::kListener     ? refused(listeners)
                     : type == ResourceType::kRouteTable ? refused(tables)
                     : type == ResourceType::kCluster    ? refused(clusters)
                     : type == ResourceType::kEndpoints  ? refused(endpoints)
                                                         : refused(secrets);
  entry.refused = Refused{.faults = std::move(text), .version = std::string(version)};
  entry.updated_unix_ms = event::wall_clock_ms();
}

void Store::Impl::remove(ResourceType type, std::string_view name, Source source) {
  EntryBase* base = find(type, name);
  if (base == nullptr) return;
  if (auto owner = check_owner(base, source, name); !owner) {
    refuse(type, name, {}, owner.error().detail);
    return;
  }
  if (base->source != source) return;  // another source has taken it over since
  status_due = true;
  const auto take = [&](auto& table) {
    const std::string key(name);
    auto& entry = *table.find(name);
    entry.remove = true;
    entry.staged = entry.live;  // a version that waited will not come any more
    entry.held_since_ms = -1;
    table.waiting.erase(key);
    table.leaving.insert(key);
    table.touched.insert(key);
  };
  ++wants;
  switch (type) {
    case ResourceType::kListener:
      secrets_named(listeners.find(name)->staged.get());
      take(listeners);
      listeners_changed = true;
      break;
    case ResourceType::kRouteTable:
      take(tables);
      break;
    case ResourceType::kCluster:
      secrets_named(clusters.find(name)->staged.get());
      take(clusters);
      checks_changed.insert(std::string(name));
      services_changed = true;
      break;
    case ResourceType::kEndpoints:
      take(endpoints);
      break;
    case ResourceType::kSecret:
      take(secrets);
      break;
  }
}

void Store::Impl::set_resolved(std::string_view cluster, std::vector<config::EndpointSpec> found) {
  ClusterEntry* entry = clusters.find(cluster);
  if (entry == nullptr) return;
  std::erase_if(found, [](const config::EndpointSpec& one) { return !check_addresses_of({one}); });
  // The newest version is what dns_clusters() asked for.
  ClusterVersion* version = (entry->staged ? entry->staged : entry->live).get();
  if (version == nullptr || !version->is_dns()) return;
  if (version->resolved != nullptr && *version->resolved == found) return;
  version->resolved = std::make_shared<const std::vector<config::EndpointSpec>>(std::move(found));
  clusters.waiting.insert(std::string(cluster));
}

// ---- Store ----

Store::Store(StoreOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Store::~Store() = default;

// Such a name might be taken for one of another scope.
bool Store::Impl::has_scope_mark(std::string_view name) { return name.find(kScopeMark) != std::string_view::npos; }

Result<void> Store::accept(config::Spec spec, std::string bytes, const Origin& origin, std::string version) {
  impl_->status_due = true;
  const auto type = static_cast<ResourceType>(spec.index());
  if (Impl::has_scope_mark(config::resource_name(spec)))
    return fail(Errc::kInvalidArgument, "name: a line break can be in no name");
  const std::string name = scoped_name(config::resource_name(spec), origin.scope);
  if (impl_->last_version.text() != version) impl_->last_version = version;
  VersionBase base{.bytes = std::move(bytes), .version = impl_->last_version};
  Result<void> verdict =
      std::visit([&](auto&& s) { return impl_->accept(name, std::move(s), std::move(base), origin); }, std::move(spec));
  if (!verdict) impl_->refuse(type, name, version, verdict.error().detail);
  return verdict;
}

void Store::refuse(ResourceType type, std::string_view name, std::string_view version, const config::Faults& faults,
                   std::string_view scope) {
  if (!Impl::has_scope_mark(name)) impl_->refuse(type, scoped_name(name, scope), version, faults.str());
}

void Store::remove(ResourceType type, std::string_view name, const Origin& origin) {
  if (!Impl::has_scope_mark(name)) impl_->remove(type, scoped_name(name, origin.scope), origin.source);
}

void Store::retain_only(ResourceType type, Source source, const std::vector<std::string>& names) {
  const std::unordered_set<std::string_view> keep(names.begin(), names.end());
  std::vector<std::string> gone;
  const auto collect = [&](const auto& table) {
    for (const auto& [name, entry] : table.entries) {
      if (entry.source == source && !entry.remove && !keep.contains(name)) gone.push_back(name);
    }
  };
  switch (type) {
    case ResourceType::kListener:
      collect(impl_->listeners);
      break;
    case ResourceType::kRouteTable:
      collect(impl_->tables);
      break;
    case ResourceType::kCluster:
      collect(impl_->clusters);
      break;
    case ResourceType::kEndpoints:
      collect(impl_->endpoints);
      break;
    case ResourceType::kSecret:
      collect(impl_->secrets);
      break;
  }
  for (const std::string& name : gone) impl_->remove(type, name, source);
}

void Store::set_resolved(std::string_view cluster, std::vector<config::EndpointSpec> endpoints) {
  impl_->status_due = true;
  impl_->set_resolved(cluster, std::move(endpoints));
}

config::TableBase Store::table_base(std::string_view name, std::string_view scope) const {
  const Entry<TableVersion>* entry = impl_->tables.find(scoped_name(name, scope));
  if (entry == nullptr || entry->remove) return {};
  const auto& version = entry->staged != nullptr ? entry->staged : entry->live;
  if (version == nullptr || version->keys == nullptr || version->bytes.empty()) return {};
  return {.keys = version->keys, .compiled = version->part, .bytes = version->bytes};
}

std::vector<upstream::HealthTarget> Store::take_health_targets() { return impl_->take_health_targets(); }
void Store::health_changed(std::string_view cluster) { impl_->health_changed(cluster); }
std::shared_ptr<const Snapshot> Store::assemble(int64_t accepted_ns) { return impl_->assemble(accepted_ns); }
std::shared_ptr<const Snapshot> Store::live() const { return impl_->snapshot; }
std::shared_ptr<const StoreStatus> Store::status() const { return impl_->status(); }
std::shared_ptr<const StoreStatus> Store::status_from_scratch() const { return impl_->status_from_scratch(); }
int64_t Store::next_deadline_ms() const { return impl_->next_deadline_ms(); }

}  // namespace outrigger::proxy
