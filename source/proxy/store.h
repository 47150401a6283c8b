// Store: everything that was accepted, from every source, and what of it is live. Sources stage specs; assemble() makes
// the next reference-closed Snapshot: a part whose references are not all there and warm waits, and its previous
// version goes on serving; a cluster or table that a live part still names is not removed.
//
//   accept/remove/replace_all -> staged -> (closed and warm, or its hold expired) -> live -> (unnamed and removed) ->
//   gone
//
// A hold is timed from the first version held; after the resource's initial fetch timeout it is published as Envoy
// would (counted as "store.forced"). Structural sharing: an equal spec keeps its compiled part.
//
// Thread rule: one thread (the builder); the control plane's validation uses one of its own.
// Use:  store.accept(spec, bytes, Source::kXds);  if (auto snapshot = store.assemble()) publish(snapshot);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/boxed.h"
#include "base/shared_sorted.h"
#include "base/shared_text.h"
#include "config/faults.h"
#include "config/route_pieces.h"
#include "config/spec.h"
#include "proxy/snapshot.h"
#include "upstream/health_checker.h"

namespace outrigger::proxy {

enum class Source : uint8_t { kStatic, kFile, kXds };

// Where a resource comes from. Route tables, endpoints and secrets of one name are told apart by `scope`
// (config::scope_of the source that brought them; "": ADS, the bootstrap); listeners and clusters have no scope.
struct Origin {
  Source source = Source::kXds;
  std::string scope;
  // Of the source: how long what it brought is held for what has no source of its own to be waited for.
  uint64_t initial_fetch_timeout_ms = config::ConfigSourceSpec().initial_fetch_timeout_ms;
  Origin(Source s) : source(s) {}  // NOLINT: one without a scope
  Origin(Source s, std::string from) : source(s), scope(std::move(from)) {}
};

// The name by which the Store, and a Snapshot's table of route tables, know a resource: with its scope, if it has one.
std::string scoped_name(std::string_view name, std::string_view scope);
std::string_view plain_name(std::string_view scoped);

// For admin and status: immutable, published beside each snapshot.
struct StoreStatus {
  // What few resources have.
  struct Trouble {
    std::vector<std::string> waits_for;  // "cluster b: endpoints", "route table r: cluster x"; empty: nothing
    std::string refused;                 // faults of the last refused version; empty: none
    std::string refused_version;
  };
  struct Resource {
    std::string name;
    config::ResourceType type;
    Source source;
    SharedText scope;                // Origin::scope
    bool removed_but_named = false;  // its removal waits, something live names it
    SharedText live_version;         // version_info of the live one; empty: none is live
    SharedText staged_version;       // differs from live_version while it waits
    SharedText live_bytes;           // serialised message, for /config_dump; empty: none
    SharedText staged_bytes;         // only while it waits
    int64_t updated_unix_ms = 0;
    Boxed<Trouble> trouble;
    const std::vector<std::string>& waits_for() const { return trouble_or_none().waits_for; }
    const std::string& refused() const { return trouble_or_none().refused; }
    const std::string& refused_version() const { return trouble_or_none().refused_version; }
    const Trouble& trouble_or_none() const {
      static const Trouble kNone;
      return trouble ? *trouble : kNone;
    }
  };
  struct KeyOfResource {
    std::tuple<config::ResourceType, std::string_view, std::string_view> operator()(const Resource& r) const {
      return {r.type, r.name, r.scope.text()};
    }
  };
  uint64_t version = 0;
  // Sorted by type, name and scope; shared with the status before it as far as it is the same.
  using Resources = SharedSorted<Resource, KeyOfResource>;
  Resources resources;
  uint64_t forced = 0;  // holds that expired
  // Of all resources:
  int64_t listeners_warming = 0, clusters_warming = 0, refused = 0;
};

// What one stream of a type's own (ConfigSourceSpec::Kind::kGrpc) is asked for.
struct WantedStream {
  config::ResourceType type = config::ResourceType::kEndpoints;
  config::ConfigSourceSpec source;
  std::vector<std::string> names;  // sorted
  bool operator==(const WantedStream&) const = default;
};

struct StoreOptions {
  stats::Registry* stats = nullptr;      // required
  AccessLogSinks* access_log = nullptr;  // nullptr: access logs are checked but not opened (validation)
  uint32_t workers = 1;
  bool bind = true;  // false: sockets are not made (validation)
  // How many changed clusters one snapshot brings at most, so that no worker is busy with 10,000 at once; what may name
  // them, and what goes, comes with the last of several. 0: all.
  size_t clusters_at_once = 0;
  bool scopes = true;               // false: whatever source is named, what was accepted by that name is meant (files)
  std::function<int64_t()> now_ms;  // steady
};

class Store {
 public:
  explicit Store(StoreOptions options);
  ~Store();

  // Stages one resource. A fault (with field path) refuses it: a name that a static resource has, an address that
  // another listener has or that cannot be bound, a socket option that the system does not take, an access log file
  // that cannot be opened. The last good version stays.
  Result<void> accept(config::Spec spec, std::string bytes, const Origin& origin, std::string version = {});
  // Notes a refusal that happened before accept (translation), for status.
  void refuse(config::ResourceType type, std::string_view name, std::string_view version, const config::Faults& faults,
              std::string_view scope = {});
  void remove(config::ResourceType type, std::string_view name, const Origin& origin);
  // SotW for listeners and clusters: everything of that source that is not named is removed. Call it before accept() of
  // the response's resources: then a listener may take over the address (and sockets) of one that goes.
  void retain_only(config::ResourceType type, Source source, const std::vector<std::string>& names);
  // The addresses that the names of a cluster by DNS resolve to now (IP literals); marks it warm.
  void set_resolved(std::string_view cluster, std::vector<config::EndpointSpec> endpoints);

  // What the next version of a route table may keep pieces of: the newest accepted one, if it can be told apart.
  config::TableBase table_base(std::string_view name, std::string_view scope = {}) const;

  // The next snapshot, or nullptr when nothing changed since the last. Cannot fail. `accepted_ns`: when the oldest
  // change since the last call came; 0: not timed.
  std::shared_ptr<const Snapshot> assemble(int64_t accepted_ns = 0);
  std::shared_ptr<const Snapshot> live() const;  // never nullptr; version 0 before the first
  std::shared_ptr<const StoreStatus> status() const;
  std::shared_ptr<const StoreStatus> status_from_scratch() const;  // the same, at the cost of all resources

  // Ask after each assemble(), which may drop what nothing names any more. What discovery should ask for: the EDS
  // service names of all clusters staged or live, the RDS names of all listeners, the secrets of both; by ADS, and by
  // other streams. While wants() is the same number, the answers are the same.
  uint64_t wants() const;
  std::vector<std::string> wanted_endpoints() const;
  std::vector<std::string> wanted_route_tables() const;
  std::vector<std::string> wanted_secrets() const;
  std::vector<WantedStream> wanted_streams() const;
  // After an assemble(): the clusters of which other hosts are to be checked than at the last call, or in another way.
  std::vector<upstream::HealthTarget> take_health_targets();
  // Checks have found out something of a host of this cluster: ask for another snapshot.
  void health_changed(std::string_view cluster);
  // Clusters to resolve: names and specs of all by DNS, staged or live.
  std::vector<std::shared_ptr<const config::ClusterSpec>> dns_clusters() const;
  // When assemble() should run again though nothing new came: the next hold's expiry, or now if the last snapshot was
  // one of several (steady ms); -1: never.
  int64_t next_deadline_ms() const;
  // Nothing that was staged so far is waiting (first readiness), and all that is live is in the snapshot.
  bool settled() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::proxy
