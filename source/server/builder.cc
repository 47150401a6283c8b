#include "server/builder.h"

#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <thread>

#include "base/hash.h"
#include "base/log.h"
#include "config/names.h"
#include "config/tls_secrets.h"
#include "config/translate.h"
#include "event/clock.h"
#include "event/loop.h"
#include "event/timer.h"
#include "filters/all_filters.h"
#include "proxy/aggregate.h"

namespace outrigger::server {
namespace {

using config::ConfigSourceSpec;
using config::Faults;
using config::ResourceType;
using config::TranslatedResource;
using proxy::Source;

constexpr uint64_t kPublishMs = 2;         // between two snapshots
constexpr size_t kClustersAtOnce = 2'000;  // in one snapshot
constexpr uint64_t kStatusMs = 20;         // from a change to its status
constexpr uint64_t kTrimMs = 2'000;        // from the last large batch until its memory is given back
constexpr size_t kLargeBatchBytes = 256 * 1024;
constexpr size_t kMaxLoggedFaults = 20;

int64_t now_ms() { return event::steady_ns() / 1'000'000; }

std::string_view short_type(ResourceType type) { return config::short_type(config::type_url(type)); }

// Calls f(type of what it brings, source, path of the field) for each source that a resource names.
template <class Spec, class F>
void each_source(Spec& spec, F&& f) {
  const auto secret = [&](auto& reference, config::SecretKind) {
    if (reference.source) f(ResourceType::kSecret, *reference.source, "sds_config");
  };
  if (auto* listener = std::get_if<config::ListenerSpec>(&spec)) {
    const auto chain = [&](auto& c) {
      if (!c.hcm.rds_name.empty()) f(ResourceType::kRouteTable, c.hcm.rds_source, "rds.config_source");
      if (c.tls) config::each_secret(*c.tls, secret);
    };
    for (auto& c : listener->filter_chains) chain(c);
    if (listener->default_filter_chain) chain(*listener->default_filter_chain);
  } else if (auto* cluster = std::get_if<config::ClusterSpec>(&spec)) {
    if (cluster->discovery == config::ClusterSpec::Discovery::kEds)
      f(ResourceType::kEndpoints, cluster->eds_source, "eds_cluster_config.eds_config");
    if (cluster->tls) config::each_secret(*cluster->tls, secret);
  }
}

// Calls f(data) for each file that was read into a resource and may rotate.
template <class F>
void each_data_file(const config::Spec& spec, F&& f) {
  const auto file = [&](const config::DataSpec& data) {
    if (!data.file.empty()) f(data);
  };
  const auto certificate = [&](const config::TlsCertificateSpec& one) {
    file(one.chain);
    file(one.private_key);
    file(one.ocsp_staple);
  };
  const auto validation = [&](const config::TlsValidationSpec& asked) {
    file(asked.trusted_ca);
    file(asked.crl);
  };
  const auto tls = [&](const config::TlsSpec& from) {
    std::for_each(from.certificates.begin(), from.certificates.end(), certificate);
    if (from.validation) validation(*from.validation);
  };
  if (const auto* listener = std::get_if<config::ListenerSpec>(&spec)) {
    for (const config::FilterChainSpec& chain : listener->filter_chains)
      if (chain.tls) tls(chain.tls->common);
    const auto& otherwise = listener->default_filter_chain;
    if (otherwise && otherwise->tls) tls(otherwise->tls->common);
  } else if (const auto* cluster = std::get_if<config::ClusterSpec>(&spec); cluster != nullptr && cluster->tls) {
    tls(cluster->tls->common);
  } else if (const auto* secret = std::get_if<config::SecretSpec>(&spec)) {
    if (const auto* mine = std::get_if<config::TlsCertificateSpec>(&secret->content)) certificate(*mine);
    if (const auto* asked = std::get_if<config::TlsValidationSpec>(&secret->content)) validation(*asked);
    if (const auto* tickets = std::get_if<config::TicketKeysSpec>(&secret->content))
      std::for_each(tickets->keys.begin(), tickets->keys.end(), file);
  }
}

// The files of one resource: those that its own sources are, and those that were read into it.
struct ResourceFiles {
  std::vector<FileSource> wanted;
  std::map<std::string, std::string> read;  // hash of the content by path
  // With data: to translate it again.
  proxy::Origin origin = Source::kXds;
  std::string version, bytes;
};

ResourceFiles files_of(const TranslatedResource& resource, const proxy::Origin& from, const std::string& version) {
  ResourceFiles files;
  each_source(*resource.spec, [&](ResourceType type, const ConfigSourceSpec& source, const char*) {
    if (source.kind == ConfigSourceSpec::Kind::kFile)
      files.wanted.push_back({.type = type, .path = source.path, .watched_directory = source.watched_directory});
  });
  each_data_file(*resource.spec, [&](const config::DataSpec& data) {
    if (!files.read.emplace(data.file, content_hash_hex(data.bytes.text())).second) return;
    files.wanted.push_back({.type = resource.type, .path = data.file, .watched_directory = {}, .data = true});
  });
  if (files.read.empty()) return files;
  files.origin = from;
  files.version = version;
  files.bytes = resource.bytes;
  return files;
}

DnsTarget dns_target(const config::ClusterSpec& spec) {
  return {.cluster = spec.name,
          .endpoints = spec.endpoints.endpoints,
          .family = spec.dns_family,
          .refresh_ms = spec.dns_refresh_rate_ms,
          .respect_ttl = spec.respect_dns_ttl,
          .logical = spec.discovery == config::ClusterSpec::Discovery::kLogicalDns};
}

// Gives back what large batches have left behind. malloc_trim() looks at the free chunks of every arena, but of this
// thread's it leaves the free end, which may be a third of it: that goes when something large is freed while the
// threshold is low. Between batches it stays high, for to fault pages in again is half the cost of a batch.
void give_back_memory() {
  constexpr int kLow = 128 * 1024, kHigh = 64 * 1024 * 1024;
  ::malloc_trim(0);
  ::mallopt(M_TRIM_THRESHOLD, kLow);
  void* volatile large = ::malloc(kLow / 2 + 1);  // volatile: the pair is not optimised away
  ::free(large);
  ::mallopt(M_TRIM_THRESHOLD, kHigh);
  ::mallopt(M_MMAP_THRESHOLD, kHigh / 2);
}

void log_faults(std::string_view what, const std::vector<std::string>& faults) {
  OUTRIGGER_LOG(kWarning, "config", "{}: {} fault{}", what, faults.size(), faults.size() == 1 ? "" : "s");
  for (size_t i = 0; i < std::min(faults.size(), kMaxLoggedFaults); ++i)
    OUTRIGGER_LOG(kWarning, "config", "  {}", faults[i]);
  if (faults.size() > kMaxLoggedFaults)
    OUTRIGGER_LOG(kWarning, "config", "  ... and {} more", faults.size() - kMaxLoggedFaults);
}

struct BuilderStats {
  explicit BuilderStats(stats::Registry& registry)
      : group(registry, {}),
        listener_added(group.counter("listener_manager.listener_added")),
        listener_modified(group.counter("listener_manager.listener_modified")),
        listener_removed(group.counter("listener_manager.listener_removed")),
        listeners_active(group.gauge("listener_manager.total_listeners_active")),
        listeners_warming(group.gauge("listener_manager.total_listeners_warming")),
        clusters_active(group.gauge("cluster_manager.active_clusters")),
        clusters_warming(group.gauge("cluster_manager.warming_clusters")),
        static_unknown(group.counter("server.static_unknown_fields")),
        dynamic_unknown(group.counter("server.dynamic_unknown_fields")),
        published(group.counter("store.published")),
        version(group.gauge("store.version")),
        refused(group.gauge("store.refused_resources")),
        file_success(group.counter("file_source.update_success")),
        file_rejected(group.counter("file_source.update_rejected")) {}
  stats::Group group;
  stats::Counter listener_added, listener_modified, listener_removed;
  stats::Gauge listeners_active, listeners_warming, clusters_active, clusters_warming;
  stats::Counter static_unknown, dynamic_unknown, published;
  stats::Gauge version, refused;
  stats::Counter file_success, file_rejected;
};

}  // namespace

struct Builder::Impl {
  explicit Impl(BuilderOptions o)
      : options(o),
        counts(*o.stats),
        translator(filters::all_filters(), states, *o.stats,
                   {.unknown_fields = o.unknown_fields,
                    .table_base = [this](std::string_view name) { return store.table_base(name, translating); }}),
        store({.stats = o.stats,
               .access_log = o.access_log,
               .workers = o.workers,
               .bind = o.bind,
               .clusters_at_once = kClustersAtOnce,
               .now_ms = now_ms}) {}

  struct Item {
    TranslatedResource resource;
    std::string called;  // by the source; empty: not at all
    std::string version;
  };
  // One batch of one source.
  struct Batch {
    ResourceType type = ResourceType::kListener;
    Source source = Source::kXds;
    std::string scope = {};  // proxy::Origin::scope
    bool full_set = false;
    std::vector<Item> items;
    std::vector<std::string> kept;  // there and unchanged
    std::vector<std::string> removed;
  };

  Loaded load(std::string_view text, std::string_view file);
  void run();
  xds::Verdict apply(Batch batch);
  bool take(const Batch& batch, Item& item, std::vector<std::string>& faults);
  void resolve_self(Source from, TranslatedResource& resource) const;
  Batch translate(xds::Update& update);
  void apply_file(const FileSource& source, const std::string& text, const std::string& error);
  void apply_data(const FileSource& source, const std::string& text, const std::string& error);
  void keep_files(ResourceType type, const std::string& scoped_name, ResourceFiles files);
  proxy::Origin origin_of(const Batch& batch) const;
  void first_answer(ResourceType type);
  void change_arrived() { arrived_ns = arrived_ns != 0 ? arrived_ns : event::steady_ns(); }
  void publish_soon();
  void publish();
  void count_listeners(const proxy::Snapshot& before, const proxy::Snapshot& now);
  void tell_wanted();
  void tell_status();

  const BuilderOptions options;
  event::Loop loop;
  config::StateRegistry states;
  BuilderStats counts;
  config::Translator translator;
  proxy::Store store;
  BuilderCallbacks callbacks;
  std::thread thread;

  std::string translating;  // the scope of what is translated now
  std::map<std::pair<ResourceType, std::string>, ResourceFiles>
      resource_files;                       // by scoped_name, of those that have any
  std::vector<FileSource> bootstrap_files;  // LDS, CDS
  Wanted wanted;
  bool wanted_told = false;
  uint64_t wants_told = 0;
  bool initialized = false;
  bool lds_pending = false, cds_pending = false;     // the first answer has not come
  std::map<ResourceType, ConfigSourceSpec> origins;  // where listeners and clusters come from
  std::set<std::string> health_changed;              // clusters, until the next publish
  std::set<ResourceType> undiscovered;               // discovery has not said its full set of them yet
  uint64_t lds_timeout_ms = 0, cds_timeout_ms = 0;
  int64_t last_publish_ms = 0;
  int64_t arrived_ns = 0;  // the oldest change that no publish has looked at; 0: none
  event::Timeout publish_timer{[](void* self) { static_cast<Impl*>(self)->publish(); }, this};
  event::Timeout deadline_timer{[](void* self) { static_cast<Impl*>(self)->publish_soon(); }, this};
  event::Timeout status_timer{[](void* self) { static_cast<Impl*>(self)->tell_status(); }, this};
  event::Timeout trim_timer{[](void*) { give_back_memory(); }, this};
  event::Timeout lds_timer{[](void* self) { static_cast<Impl*>(self)->first_answer(ResourceType::kListener); }, this};
  event::Timeout cds_timer{[](void* self) { static_cast<Impl*>(self)->first_answer(ResourceType::kCluster); }, this};
};

// ---- the bootstrap ----

Builder::Loaded Builder::Impl::load(std::string_view text, std::string_view file) {
  config::TranslatedBootstrap read = translator.bootstrap(text, file);
  Loaded loaded{.spec = std::move(read.spec), .bytes = std::move(read.bytes), .faults = std::move(read.faults)};
  loaded.faults.set_file(std::string(file));
  for (const config::Fault& fault : loaded.faults.all())
    if (fault.warning) options.stats->add(counts.static_unknown);
  if (loaded.spec) {
    const auto source = [&](const std::optional<ConfigSourceSpec>& from, ResourceType type, bool& pending,
                            uint64_t& timeout_ms) {
      if (!from) return;
      if (from->kind == ConfigSourceSpec::Kind::kFile)
        bootstrap_files.push_back({.type = type, .path = from->path, .watched_directory = from->watched_directory});
      else
        undiscovered.insert(type);
      pending = true;
      origins[type] = *from;
      timeout_ms = from->initial_fetch_timeout_ms;
    };
    source(loaded.spec->lds, ResourceType::kListener, lds_pending, lds_timeout_ms);
    source(loaded.spec->cds, ResourceType::kCluster, cds_pending, cds_timeout_ms);
  }
  if (options.bind && !loaded.faults.ok()) {
    loaded.spec.reset();
    return loaded;
  }
  size_t index[config::kResourceTypeCount] = {};
  for (TranslatedResource& resource : read.resources) {
    const size_t at = index[static_cast<size_t>(resource.type)]++;
    if (!resource.spec) continue;
    ResourceFiles files = files_of(resource, Source::kStatic, {});
    const auto accepted = store.accept(std::move(*resource.spec), std::move(resource.bytes), Source::kStatic);
    if (accepted) {
      keep_files(resource.type, resource.name, std::move(files));
      continue;
    }
    const char* list = resource.type == ResourceType::kListener  ? "listeners"
                       : resource.type == ResourceType::kCluster ? "clusters"
                                                                 : "secrets";
    loaded.faults.add(config::FieldPath("static_resources").field(list).index(at), accepted.error().detail);
  }
  if (!loaded.faults.ok()) loaded.spec.reset();
  return loaded;
}

// ---- batches ----

xds::Verdict Builder::Impl::apply(Batch batch) {
  size_t bytes = 0;
  for (const Item& item : batch.items) bytes += item.resource.bytes.size();
  // The messages that a large batch is read from are gone soon; their memory is of use to others. But to give it back
  // while more large batches come would make each of them pay for fresh pages.
  if (bytes >= kLargeBatchBytes) loop.timers().arm(trim_timer, kTrimMs);
  std::vector<std::string> names = std::move(batch.kept);
  std::set<std::string> seen(names.begin(), names.end());
  bool all_named = true;
  for (Item& item : batch.items) {
    TranslatedResource& resource = item.resource;
    if (resource.name.empty()) {
      all_named = false;
      continue;
    }
    if (seen.insert(resource.name).second) {
      names.push_back(resource.name);
    } else {
      resource.faults.add_at("", fmt::format("{}/{} is there twice", short_type(batch.type), resource.name));
      resource.spec.reset();
    }
  }
  const proxy::Origin origin = origin_of(batch);
  // First what goes, so that a listener may take over the address of one that is no longer wanted.
  const auto forget_files = [&](auto&& gone) {
    std::erase_if(resource_files, [&](const auto& entry) { return entry.first.first == batch.type && gone(entry); });
  };
  if (batch.full_set && all_named) {
    store.retain_only(batch.type, batch.source, names);
    forget_files([&](const auto& entry) { return !seen.contains(entry.first.second); });
  }
  for (const std::string& name : batch.removed) {
    store.remove(batch.type, name, origin);
    resource_files.erase({batch.type, proxy::scoped_name(name, batch.scope)});
  }
  std::vector<const config::ClusterSpec*> clusters;
  for (const Item& item : batch.items)
    clusters.push_back(item.resource.spec ? std::get_if<config::ClusterSpec>(&*item.resource.spec) : nullptr);
  xds::Verdict verdict;
  for (const size_t at : proxy::staging_order(clusters)) {
    Item& item = batch.items[at];
    if (!take(batch, item, verdict.faults))
      verdict.refused.push_back(item.called.empty() ? item.resource.name : item.called);
  }
  publish_soon();
  return verdict;
}

// What names the source that brought it gets that source.
void Builder::Impl::resolve_self(Source from, TranslatedResource& resource) const {
  if (!resource.spec) return;
  each_source(*resource.spec, [&](ResourceType, ConfigSourceSpec& source, const char* field) {
    const auto origin = origins.find(resource.type);
    if (source.kind != ConfigSourceSpec::Kind::kSelf || origin == origins.end()) return;
    if (from == Source::kFile)
      return resource.faults.add_at(fmt::format("{}.self", field),
                                    "has no meaning in a file; use ads, api_config_source "
                                    "or path_config_source");
    const uint64_t timeout_ms = source.initial_fetch_timeout_ms;
    source = origin->second;
    source.initial_fetch_timeout_ms = timeout_ms;
  });
  if (!resource.faults.ok()) resource.spec.reset();
}

// Stages the resource, or says why not.
bool Builder::Impl::take(const Batch& batch, Item& item, std::vector<std::string>& faults) {
  TranslatedResource& resource = item.resource;
  resolve_self(batch.source, resource);
  if (resource.spec && resource.type != batch.type) {
    resource.faults.add_at("",
                           fmt::format("is a {}, expected a {}", short_type(resource.type), short_type(batch.type)));
    resource.spec.reset();
  }
  for (const config::Fault& fault : resource.faults.all()) {
    if (fault.warning) {
      options.stats->add(counts.dynamic_unknown);
      OUTRIGGER_LOG(kDebug, "config", "{}", fault.str());
    } else {
      faults.push_back(fault.str());
    }
  }
  if (!resource.spec) {
    if (!resource.name.empty()) store.refuse(batch.type, resource.name, item.version, resource.faults, batch.scope);
    return false;
  }
  const proxy::Origin origin = origin_of(batch);
  ResourceFiles files = files_of(resource, origin, item.version);
  auto accepted = store.accept(std::move(*resource.spec), std::move(resource.bytes), origin, item.version);
  if (!accepted) {
    faults.push_back(fmt::format("{}/{}: {}", short_type(batch.type), resource.name, accepted.error().detail));
    return false;
  }
  keep_files(batch.type, proxy::scoped_name(resource.name, batch.scope), std::move(files));
  return true;
}

proxy::Origin Builder::Impl::origin_of(const Batch& batch) const {
  proxy::Origin origin(batch.source, batch.scope);
  if (const auto known = origins.find(batch.type); known != origins.end() && batch.source != Source::kStatic)
    origin.initial_fetch_timeout_ms = known->second.initial_fetch_timeout_ms;
  return origin;
}

void Builder::Impl::keep_files(ResourceType type, const std::string& name, ResourceFiles files) {
  if (files.wanted.empty()) {
    resource_files.erase({type, name});
  } else {
    resource_files[{type, name}] = std::move(files);
  }
}

Builder::Impl::Batch Builder::Impl::translate(xds::Update& update) {
  Batch batch{.type = static_cast<ResourceType>(update.type),
              .source = Source::kXds,
              .scope = std::move(update.scope),
              .full_set = update.full_set,
              .items = {},
              .kept = std::move(update.kept),
              .removed = std::move(update.removed)};
  translating = batch.scope;
  const config::FieldPath list("resources");
  for (size_t i = 0; i < update.resources.size(); ++i) {
    const xds::Resource& from = update.resources[i];
    TranslatedResource resource = translator.resource(from.type_url, from.bytes, list.index(i));
    if (resource.name.empty()) resource.name = from.name;
    if (!from.name.empty() && resource.name != from.name) {
      resource.faults.add(list.index(i).field("name"),
                          fmt::format("is \"{}\", but the resource's own name is \"{}\"", from.name, resource.name));
      resource.spec.reset();
    }
    // Incremental: each has its own; state of the world: the response's.
    const std::string& version = from.version.empty() ? update.version : from.version;
    batch.items.push_back({.resource = std::move(resource), .called = from.name, .version = version});
  }
  return batch;
}

// A certificate, key or list has changed: whatever has read it is translated again, and reads all of its files. Of a
// pair the second one to change makes it whole; until then the last good pair serves.
void Builder::Impl::apply_data(const FileSource& source, const std::string& text, const std::string& error) {
  std::vector<std::string> faults;
  if (!error.empty()) faults.push_back(error);
  const std::string hash = content_hash_hex(text);
  std::vector<std::string> readers;
  for (const auto& [resource, files] : resource_files) {
    const auto read = files.read.find(source.path);
    const bool changed = error.empty() && read != files.read.end() && read->second != hash;
    if (resource.first == source.type && changed) readers.push_back(resource.second);
  }
  for (const std::string& name : readers) {
    const ResourceFiles& files = resource_files[{source.type, name}];
    const Batch batch{.type = source.type,
                      .source = files.origin.source,
                      .scope = files.origin.scope,
                      .items = {},
                      .kept = {},
                      .removed = {}};
    translating = batch.scope;
    const std::string called(proxy::plain_name(name));
    Item item{.resource = translator.resource(config::type_url(source.type), files.bytes, config::FieldPath(called)),
              .called = called,
              .version = files.version};
    take(batch, item, faults);
  }
  if (readers.empty() && faults.empty()) return;
  options.stats->add(faults.empty() ? counts.file_success : counts.file_rejected);
  if (faults.empty())
    OUTRIGGER_LOG(kInfo, "config", "{} taken", source.path);
  else
    log_faults(source.path, faults);
  publish_soon();
}

void Builder::Impl::apply_file(const FileSource& source, const std::string& text, const std::string& error) {
  if (source.data) return apply_data(source, text, error);
  std::vector<std::string> faults;
  if (!error.empty()) {
    faults.push_back(error);
  } else {
    Faults file_faults;
    const bool full_set = source.type == ResourceType::kListener || source.type == ResourceType::kCluster;
    Batch batch{.type = source.type,
                .source = Source::kFile,
                .scope = full_set ? std::string() : source.path,
                .full_set = full_set,
                .items = {},
                .kept = {},
                .removed = {}};
    translating = batch.scope;
    const std::string version = content_hash_hex(text);
    for (TranslatedResource& resource : translator.resource_file(text, source.path, file_faults))
      batch.items.push_back({.resource = std::move(resource), .called = {}, .version = version});
    for (const config::Fault& fault : file_faults.all())
      if (!fault.warning) faults.push_back(fault.str());
    // A file that is broken as a whole deletes nothing.
    if (!file_faults.ok()) batch.full_set = false;
    const xds::Verdict verdict = apply(std::move(batch));
    faults.insert(faults.end(), verdict.faults.begin(), verdict.faults.end());
  }
  options.stats->add(faults.empty() ? counts.file_success : counts.file_rejected);
  if (faults.empty())
    OUTRIGGER_LOG(kInfo, "config", "{} taken", source.path);
  else
    log_faults(source.path, faults);
  first_answer(source.type);
}

// ---- publishing ----

void Builder::Impl::first_answer(ResourceType type) {
  if (type == ResourceType::kListener && std::exchange(lds_pending, false)) publish_soon();
  if (type == ResourceType::kCluster && std::exchange(cds_pending, false)) publish_soon();
}

void Builder::Impl::publish_soon() {
  if (publish_timer.armed()) return;
  const int64_t since_ms = now_ms() - last_publish_ms;
  loop.timers().arm(publish_timer, since_ms >= static_cast<int64_t>(kPublishMs) ? 0 : kPublishMs);
}

void Builder::Impl::publish() {
  last_publish_ms = now_ms();
  const std::shared_ptr<const proxy::Snapshot> before = store.live();
  for (const std::string& cluster : std::exchange(health_changed, {})) store.health_changed(cluster);
  if (auto snapshot = store.assemble(std::exchange(arrived_ns, 0))) {
    count_listeners(*before, *snapshot);
    options.stats->add(counts.published);
    options.stats->set(counts.version, static_cast<int64_t>(snapshot->version));
    options.stats->set(counts.listeners_active, static_cast<int64_t>(snapshot->listeners.size()));
    options.stats->set(counts.clusters_active, static_cast<int64_t>(snapshot->clusters.size()));
    OUTRIGGER_LOG(kDebug, "config", "version {} published", snapshot->version);
    callbacks.on_snapshot(std::move(snapshot));
    states.sweep();
  }
  tell_wanted();
  if (auto targets = store.take_health_targets(); !targets.empty()) callbacks.on_health_targets(std::move(targets));
  if (const int64_t deadline = store.next_deadline_ms(); deadline >= 0)
    loop.timers().arm(deadline_timer, static_cast<uint64_t>(std::max<int64_t>(1, deadline - now_ms() + 1)));
  else
    deadline_timer.disarm();
  if (!initialized && !lds_pending && !cds_pending && store.settled()) {
    initialized = true;
    callbacks.on_initialized(store.live()->version);
  }
  if (!status_timer.armed()) loop.timers().arm(status_timer, store.live()->version <= 1 ? 0 : kStatusMs);
}

void Builder::Impl::count_listeners(const proxy::Snapshot& before, const proxy::Snapshot& now) {
  const auto count = [&](const std::string& name, uint64_t hash, const proxy::LinkedListener* listener) {
    if (listener == nullptr) return options.stats->add(counts.listener_removed);
    const proxy::LinkedListener* old = before.listeners.find(name, hash);
    if (old == nullptr)
      options.stats->add(counts.listener_added);
    else if (old->part != listener->part)
      options.stats->add(counts.listener_modified);
  };
  now.listeners.for_each_change(before.listeners, count);
}

// Files are named by listeners and clusters, whose changes wants() counts.
void Builder::Impl::tell_wanted() {
  if (std::exchange(wants_told, store.wants()) == store.wants()) return;
  Wanted now{.endpoints = store.wanted_endpoints(),
             .route_tables = store.wanted_route_tables(),
             .secrets = store.wanted_secrets(),
             .streams = store.wanted_streams(),
             .files = {},
             .dns = {}};
  std::set<FileSource> files(bootstrap_files.begin(), bootstrap_files.end());
  for (const auto& [resource, held] : resource_files) files.insert(held.wanted.begin(), held.wanted.end());
  now.files.assign(files.begin(), files.end());
  for (const auto& spec : store.dns_clusters()) now.dns.push_back(dns_target(*spec));
  if (wanted_told && now == wanted) return;
  wanted_told = true;
  wanted = std::move(now);
  callbacks.on_wanted(wanted);
}

void Builder::Impl::tell_status() {
  const std::shared_ptr<const proxy::StoreStatus> status = store.status();
  options.stats->set(counts.listeners_warming, status->listeners_warming);
  options.stats->set(counts.clusters_warming, status->clusters_warming);
  options.stats->set(counts.refused, status->refused);
  callbacks.on_status(status);
}

void Builder::Impl::run() {
  ::pthread_setname_np(::pthread_self(), "builder");
  loop.post([this] {
    if (lds_pending && lds_timeout_ms > 0) loop.timers().arm(lds_timer, lds_timeout_ms);
    if (cds_pending && cds_timeout_ms > 0) loop.timers().arm(cds_timer, cds_timeout_ms);
    publish();
  });
  loop.run();
  if (status_timer.armed()) tell_status();  // what was published last is remembered, however soon the end came
  for (event::Timeout* timer : {&publish_timer, &deadline_timer, &status_timer, &trim_timer, &lds_timer, &cds_timer})
    timer->disarm();
}

// ---- Builder ----

Builder::Builder(BuilderOptions options) : impl_(std::make_unique<Impl>(options)) {}
Builder::~Builder() { stop(); }

Builder::Loaded Builder::load(std::string_view text, std::string_view file) { return impl_->load(text, file); }

std::vector<std::string> Builder::remember(std::vector<xds::Update> updates) {
  std::vector<std::string> faults;
  for (xds::Update& update : updates) {
    // What no discovery can replace must not come to life.
    const auto type = static_cast<ResourceType>(update.type);
    if (xds::is_full_set(update.type) && !impl_->undiscovered.contains(type)) continue;
    const xds::Verdict verdict = impl_->apply(impl_->translate(update));
    faults.insert(faults.end(), verdict.faults.begin(), verdict.faults.end());
  }
  for (const ResourceType type : impl_->undiscovered)
    (type == ResourceType::kListener ? impl_->lds_pending : impl_->cds_pending) = false;
  return faults;
}

void Builder::start(BuilderCallbacks callbacks) {
  impl_->callbacks = std::move(callbacks);
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

void Builder::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->loop.stop();
  impl_->thread.join();
}

// Discovery logs what is refused, since it knows what came before.
void Builder::update(xds::Update update, std::function<void(xds::Verdict)> verdict) {
  impl_->loop.post([impl = impl_.get(), update = std::move(update), verdict = std::move(verdict)]() mutable {
    impl->change_arrived();
    const auto type = static_cast<ResourceType>(update.type);
    xds::Verdict told = impl->apply(impl->translate(update));
    impl->first_answer(type);
    if (impl->undiscovered.erase(type) != 0 && impl->undiscovered.empty()) impl->callbacks.on_discovered();
    verdict(std::move(told));
  });
}

void Builder::update_file(FileSource source, std::string text, std::string error) {
  impl_->loop.post([impl = impl_.get(), source = std::move(source), text = std::move(text), error = std::move(error)] {
    impl->change_arrived();
    impl->apply_file(source, text, error);
  });
}

void Builder::set_resolved(std::string cluster, std::vector<config::EndpointSpec> endpoints) {
  impl_->loop.post([impl = impl_.get(), cluster = std::move(cluster), endpoints = std::move(endpoints)]() mutable {
    impl->change_arrived();
    impl->store.set_resolved(cluster, std::move(endpoints));
    impl->publish_soon();
  });
}

void Builder::health_changed(std::string cluster) {
  impl_->loop.post([impl = impl_.get(), cluster = std::move(cluster)]() mutable {
    impl->health_changed.insert(std::move(cluster));
    impl->publish_soon();
  });
}

int64_t Builder::take_longest_turn_ns() { return impl_->loop.take_longest_turn_ns(); }
int64_t Builder::take_longest_task_cpu_ns() { return impl_->loop.take_longest_task_cpu_ns(); }

void Builder::release(std::vector<std::shared_ptr<const void>> parts) {
  impl_->loop.post([parts = std::move(parts)] {});
}

}  // namespace outrigger::server
