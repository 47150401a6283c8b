#include <algorithm>

#include "config/tls_secrets.h"
#include "proxy/aggregate.h"
#include "proxy/store_impl.h"

namespace outrigger::proxy {

using config::ConfigSourceSpec;

namespace {

bool by_ads(const ConfigSourceSpec& source) {
  return source.kind == ConfigSourceSpec::Kind::kAds || source.kind == ConfigSourceSpec::Kind::kSelf;
}

// The longest timeout of what is missing; 0 if something may be waited for without end.
class LongestHold {
 public:
  void add(uint64_t timeout_ms) { longest_ms_ = longest_ms_ ? longer_hold(*longest_ms_, timeout_ms) : timeout_ms; }
  uint64_t ms(uint64_t if_nothing_is) const { return longest_ms_.value_or(if_nothing_is); }

 private:
  std::optional<uint64_t> longest_ms_;
};

// Those that `tls` takes from a source and that are not there.
template <class Tls, class Secrets>
void add_secrets(LongestHold& hold, const Tls& tls, const ScopedNames& names, const Secrets& secrets) {
  config::each_secret(tls, [&](const config::SecretRefSpec& reference, auto) {
    if (reference.source && !secrets.is_live(names.of(reference))) hold.add(reference.source->initial_fetch_timeout_ms);
  });
}

}  // namespace

bool Store::Impl::warm(const ClusterVersion& version) const {
  if (version.is_dns()) return version.resolved != nullptr;
  if (!version.is_eds()) return true;
  const auto* known = endpoints.find(version.service());
  return known != nullptr && known->staged != nullptr;
}

bool Store::Impl::closed(const NamingVersion& staged, const NamingVersion* live) const {
  static const Named kNothing;
  const Named& served = live == nullptr ? kNothing : live->named;
  // Both lists are sorted, and nearly the same where a table of 10,000 clusters has changed a little.
  const auto all = [](const std::vector<std::string>& names, const auto& table, const std::vector<std::string>& known) {
    auto at = known.begin();
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      while (at != known.end() && *at < name) ++at;
      return (at != known.end() && *at == name) || table.is_live(name);
    });
  };
  return all(staged.named.clusters, clusters, served.clusters) && all(staged.named.tables, tables, served.tables) &&
         all(staged.named.secrets, secrets, served.secrets);
}

bool Store::Impl::waits_in_circle(const ClusterVersion& staged) const {
  const auto live = [&](const std::string& name) -> const std::vector<std::string>* {
    const ClusterEntry* entry = clusters.find(name);
    return entry == nullptr || entry->live == nullptr ? nullptr : &entry->live->spec().members;
  };
  const auto& members = staged.spec().members;
  return std::any_of(members.begin(), members.end(),
                     [&](const std::string& member) { return !way_to(staged.spec().name, member, live).empty(); });
}

uint64_t Store::Impl::hold_ms(const ClusterVersion& version) const {
  LongestHold hold;
  if (version.is_eds() && (version.named.secrets.empty() || !warm(version)))
    hold.add(version.spec().eds_source.initial_fetch_timeout_ms);
  if (!version.named.secrets.empty()) add_secrets(hold, *version.spec().tls, scoped_names, secrets);
  const uint64_t ms = hold.ms(version.origin_hold_ms);
  const auto& check = version.spec().health_check;
  return ms == 0 || !check ? ms : ms + check->initial_jitter_ms + check->timeout_ms;
}

uint64_t Store::Impl::hold_ms(const ListenerVersion& version) const {
  LongestHold hold;
  for (const auto& chain : version.part->chains) {
    if (!chain->rds_name.empty() && !tables.is_live(chain->rds_name.text))
      hold.add(chain->spec.hcm.rds_source.initial_fetch_timeout_ms);
    if (!chain->secrets.empty()) add_secrets(hold, *chain->spec.tls, scoped_names, secrets);
  }
  return hold.ms(version.origin_hold_ms);
}

std::map<std::string, uint64_t, std::less<>> Store::Impl::named_tables() const {
  std::map<std::string, uint64_t, std::less<>> holds;
  for (const auto& [name, entry] : listeners.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr) continue;
      for (size_t i = 0; i < version->named.tables.size(); ++i) {
        const auto [at, added] = holds.emplace(version->named.tables[i], version->table_hold_ms[i]);
        if (!added) at->second = longer_hold(at->second, version->table_hold_ms[i]);
      }
    }
  }
  return holds;
}

void ServiceUsers::refresh() {
  others_.clear();
  for (const auto& [name, entry] : clusters_.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr || !version->is_eds() || version->service() == name) continue;
      auto& of_service = others_[version->service()];
      if (of_service.empty() || of_service.back() != name) of_service.push_back(name);
    }
  }
}

std::vector<std::string> Store::Impl::waits_of_cluster(const ClusterVersion& version) const {
  if (version.is_aggregate()) {
    std::vector<std::string> waits = waits_for_clusters(version.named.clusters);
    if (waits_in_circle(version)) waits.push_back("the next version of a cluster whose live one leads back to it");
    return waits;
  }
  std::vector<std::string> waits = waits_for_secrets(version.named.secrets);
  if (warm(version)) {
    const ClusterEntry* entry = clusters.find(version.spec().name);
    if (entry != nullptr && entry->next_hosts != nullptr) waits.push_back("the first health checks of its hosts");
    return waits;
  }
  waits.push_back(version.is_dns() ? "the addresses of its DNS names" : "endpoints " + shown(version.service()));
  return waits;
}

std::vector<std::string> Store::Impl::waits_for_secrets(const std::vector<std::string>& names) const {
  std::vector<std::string> waits;
  for (const std::string& name : names) {
    if (secrets.is_live(name)) continue;
    const auto* known = secrets.find(name);
    waits.push_back("secret " + std::string(plain_name(name)) +
                    (known == nullptr || !known->refused ? ": unknown" : ": refused") + source_note(name));
  }
  return waits;
}

// What a cluster that is not live lacks, in a word.
std::string_view Store::Impl::lack_of(const ClusterEntry* entry) {
  if (entry == nullptr || entry->staged == nullptr) return ": unknown";
  if (entry->next_hosts != nullptr) return ": the first health checks of its hosts";
  return entry->staged->is_aggregate() ? ": its members" : entry->staged->is_dns() ? ": DNS" : ": endpoints";
}

std::vector<std::string> Store::Impl::waits_for_clusters(const std::vector<std::string>& names) const {
  std::vector<std::string> waits;
  for (const std::string& name : names) {
    if (clusters.is_live(name)) continue;
    waits.push_back(std::string("cluster ").append(name).append(lack_of(clusters.find(name))));
  }
  return waits;
}

std::vector<std::string> Store::Impl::waits_of_table(const std::string& name) const {
  std::vector<std::string> waits = waits_for_clusters(tables.find(name)->staged->named.clusters);
  if (waits.empty() && !named_tables().contains(name)) waits.push_back("a listener that names it");
  return waits;
}

std::vector<std::string> Store::Impl::waits_of_listener(const ListenerVersion& version) const {
  std::vector<std::string> waits;
  for (const std::string& name : version.named.tables) {
    if (tables.is_live(name)) continue;
    const auto* table = tables.find(name);
    if (table == nullptr || table->staged == nullptr) {
      waits.push_back("route table " + std::string(plain_name(name)) + ": unknown" + source_note(name));
      continue;
    }
    for (const std::string& cluster : waits_of_table(name))
      waits.push_back("route table " + std::string(plain_name(name)) + ": " + cluster);
  }
  for (std::string& cluster : waits_for_clusters(version.named.clusters)) waits.push_back(std::move(cluster));
  for (std::string& secret : waits_for_secrets(version.named.secrets)) waits.push_back(std::move(secret));
  return waits;
}

// Calls f(type, table, what a staged version of it waits for) for each type.
template <class Self, class F>
void Store::Impl::each_type(Self& self, F&& f) {
  const auto nothing = [](const std::string&, const VersionBase&) { return std::vector<std::string>(); };
  f(ResourceType::kListener, self.listeners, [&](const auto&, const auto& v) { return self.waits_of_listener(v); });
  f(ResourceType::kRouteTable, self.tables, [&](const auto& name, const auto&) { return self.waits_of_table(name); });
  f(ResourceType::kCluster, self.clusters, [&](const auto&, const auto& v) { return self.waits_of_cluster(v); });
  f(ResourceType::kEndpoints, self.endpoints, nothing);
  f(ResourceType::kSecret, self.secrets, nothing);
}

// Puts into `status` what there is to say of the resource now.
template <class Of, class Waits>
void Store::Impl::tell(StoreStatus& status, ResourceType type, const Of& table, const std::string& name,
                       Waits&& waits) const {
  StoreStatus::Resource r;
  r.type = type;
  r.name = plain_name(name);
  if (const std::string_view scope = scope_in(name); !scope.empty()) r.scope = std::string(scope);
  const auto key = StoreStatus::KeyOfResource()(r);
  const auto count = [&](const StoreStatus::Resource& one, int64_t by) {
    if (!one.refused().empty()) status.refused += by;
    if (one.staged_bytes.empty() && one.waits_for().empty()) return;
    if (type == ResourceType::kListener) status.listeners_warming += by;
    if (type == ResourceType::kCluster) status.clusters_warming += by;
  };
  if (const StoreStatus::Resource* told = status.resources.find(key)) count(*told, -1);
  const auto* entry = table.find(name);
  if (entry == nullptr) {
    status.resources.erase(key);
    return;
  }
  r.source = entry->source;
  if (entry->live != nullptr) {
    r.live_version = entry->live->version;
    r.live_bytes = entry->live->bytes;
  }
  if (entry->staged != nullptr) {
    r.staged_version = entry->staged->version;
    if (entry->staged != entry->live) {
      r.staged_bytes = entry->staged->bytes;
      if (auto waits_for = waits(name, *entry->staged); !waits_for.empty())
        r.trouble.make().waits_for = std::move(waits_for);
    }
  }
  r.removed_but_named = entry->remove && entry->live != nullptr;
  if (entry->refused) {
    r.trouble.make().refused = entry->refused->faults;
    r.trouble.make().refused_version = entry->refused->version;
  }
  r.updated_unix_ms = entry->updated_unix_ms;
  count(r, 1);
  status.resources.put(std::move(r));
}

std::shared_ptr<const StoreStatus> Store::Impl::status() {
  if (!std::exchange(status_due, false)) return last_status;
  auto status = std::make_shared<StoreStatus>(*last_status);
  status->version = snapshot->version;
  status->forced = forced;
  each_type(*this, [&](ResourceType type, auto& table, const auto& waits) {
    std::set<std::string, std::less<>> names = std::exchange(table.touched, {});
    names.insert(table.told_waiting.begin(), table.told_waiting.end());
    names.insert(table.waiting.begin(), table.waiting.end());
    table.told_waiting.assign(table.waiting.begin(), table.waiting.end());
    for (const std::string& name : names) tell(*status, type, table, name, waits);
  });
  last_status = status;
  return status;
}

std::shared_ptr<const StoreStatus> Store::Impl::status_from_scratch() const {
  auto status = std::make_shared<StoreStatus>();
  status->version = snapshot->version;
  status->forced = forced;
  each_type(*this, [&](ResourceType type, const auto& table, const auto& waits) {
    for (const auto& [name, entry] : table.entries) tell(*status, type, table, name, waits);
  });
  return status;
}

int64_t Store::Impl::next_deadline_ms() const {
  if (more_to_link) return options.now_ms();
  int64_t next = -1;
  const auto consider = [&](const EntryBase& entry, uint64_t timeout_ms) {
    if (entry.held_since_ms < 0 || timeout_ms == 0) return;
    const int64_t at = entry.held_since_ms + static_cast<int64_t>(timeout_ms);
    next = next < 0 ? at : std::min(next, at);
  };
  for (const std::string& name : clusters.waiting) {
    const ClusterEntry& entry = *clusters.find(name);
    // What waits in a circle goes on when another hold ends.
    if (!waits_in_circle(*entry.staged)) consider(entry, hold_ms(*entry.staged));
  }
  for (const std::string& name : tables.waiting) {
    const auto wanted = wanted_tables.find(name);
    if (wanted != wanted_tables.end()) consider(*tables.find(name), wanted->second);
  }
  for (const std::string& name : listeners.waiting) {
    const auto& entry = *listeners.find(name);
    consider(entry, hold_ms(*entry.staged));
  }
  return next;
}

bool Store::settled() const {
  const auto wanted = impl_->named_tables();
  const auto& waiting = impl_->tables.waiting;
  return !impl_->more_to_link && impl_->clusters.waiting.empty() && impl_->endpoints.waiting.empty() &&
         impl_->listeners.waiting.empty() && impl_->secrets.waiting.empty() &&
         std::none_of(waiting.begin(), waiting.end(), [&](const auto& name) { return wanted.contains(name); });
}

// Calls f(source, service name) for every EDS cluster, staged or live.
template <class F>
void Store::Impl::each_service(F&& f) const {
  for (const auto& [name, entry] : clusters.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version != nullptr && version->is_eds()) f(version->spec().eds_source, version->plain_service());
    }
  }
}

// Calls f(source, name) for every route table that a listener, staged or live, takes from a source.
template <class F>
void Store::Impl::each_table(F&& f) const {
  for (const auto& [name, entry] : listeners.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr || entry.remove) continue;
      for (const auto& chain : version->part->chains) {
        if (!chain->rds_name.empty()) f(chain->spec.hcm.rds_source, chain->spec.hcm.rds_name);
      }
    }
  }
}

// Calls f(source, name) for every secret that a listener or a cluster, staged or live, takes from a source.
template <class F>
void Store::Impl::each_secret(F&& f) const {
  const auto reference = [&](const config::SecretRefSpec& one, config::SecretKind) {
    if (one.source) f(*one.source, one.name);
  };
  for (const auto& [name, entry] : listeners.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()}) {
      if (version == nullptr || version->named.secrets.empty()) continue;
      for (const auto& chain : version->part->chains)
        if (!chain->secrets.empty()) config::each_secret(*chain->spec.tls, reference);
    }
  }
  for (const auto& [name, entry] : clusters.entries) {
    for (const auto* version : {entry.staged.get(), entry.live.get()})
      if (version != nullptr && !version->named.secrets.empty()) config::each_secret(*version->spec().tls, reference);
  }
}

uint64_t Store::wants() const { return impl_->wants; }

std::vector<std::string> Store::wanted_endpoints() const {
  std::set<std::string> names;
  impl_->each_service([&](const ConfigSourceSpec& source, const std::string& name) {
    if (by_ads(source)) names.insert(name);
  });
  return {names.begin(), names.end()};
}

std::vector<std::string> Store::wanted_route_tables() const {
  std::set<std::string> names;
  impl_->each_table([&](const ConfigSourceSpec& source, const std::string& name) {
    if (by_ads(source)) names.insert(name);
  });
  return {names.begin(), names.end()};
}

std::vector<std::string> Store::wanted_secrets() const {
  std::set<std::string> names;
  impl_->each_secret([&](const ConfigSourceSpec& source, const std::string& name) {
    if (by_ads(source)) names.insert(name);
  });
  return {names.begin(), names.end()};
}

std::vector<WantedStream> Store::wanted_streams() const {
  std::vector<WantedStream> streams;
  const auto add = [&](ResourceType type, const ConfigSourceSpec& source, const std::string& name) {
    if (source.kind != ConfigSourceSpec::Kind::kGrpc) return;
    auto same = std::find_if(streams.begin(), streams.end(), [&](const WantedStream& stream) {
      return stream.type == type && config::same_source(stream.source, source);
    });
    if (same == streams.end()) {
      same = streams.insert(same, {.type = type, .source = source, .names = {}});
      same->source.initial_fetch_timeout_ms = ConfigSourceSpec().initial_fetch_timeout_ms;  // the Store's own matter
    }
    same->names.push_back(name);
  };
  impl_->each_service([&](const auto& source, const auto& name) { add(ResourceType::kEndpoints, source, name); });
  impl_->each_table([&](const auto& source, const auto& name) { add(ResourceType::kRouteTable, source, name); });
  impl_->each_secret([&](const auto& source, const auto& name) { add(ResourceType::kSecret, source, name); });
  for (WantedStream& stream : streams) {
    std::sort(stream.names.begin(), stream.names.end());
    stream.names.erase(std::unique(stream.names.begin(), stream.names.end()), stream.names.end());
  }
  return streams;
}

std::vector<std::shared_ptr<const config::ClusterSpec>> Store::dns_clusters() const {
  std::vector<std::shared_ptr<const config::ClusterSpec>> specs;
  for (const auto& [name, entry] : impl_->clusters.entries) {
    const auto& version = entry.staged != nullptr ? entry.staged : entry.live;
    if (version != nullptr && version->is_dns()) specs.emplace_back(version->part, &version->spec());
  }
  return specs;
}

}  // namespace outrigger::proxy
