// Builder: the thread where config becomes snapshots. It translates what the sources bring, stages it in the Store,
// and publishes: one snapshot for all workers, at most every 2 ms, and for admin the Store's status soon after.
//
//   bootstrap, files, xDS, DNS --> translate --> Store::accept/refuse --> (2 ms) assemble --> on_snapshot
//                                        `--> verdict to the source          `--> what to ask for: on_wanted
//
// One bad resource is refused and the rest of its batch is taken. A batch that is the full set of its source removes
// what it lacks, unless one of its resources could not even be named.
//
// Thread rule: constructor, load() and start() on the main thread, in this order; everything else from any thread (it
// posts). Callbacks run on the builder's thread.
// Use:  Builder builder(options);  auto loaded = builder.load(text, file);  builder.start(callbacks);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/faults.h"
#include "config/spec.h"
#include "proxy/store.h"
#include "stats/stats.h"
#include "xds/types.h"

namespace outrigger::server {

struct BuilderOptions {
  stats::Registry* stats = nullptr;             // required
  proxy::AccessLogSinks* access_log = nullptr;  // nullptr: access logs are only checked
  uint32_t workers = 1;
  bool bind = true;
  config::UnknownFields unknown_fields = config::UnknownFields::kError;
};

// A file that holds resources of one type, or data (a certificate) that a resource of that type has read.
struct FileSource {
  config::ResourceType type = config::ResourceType::kListener;
  std::string path;
  std::string watched_directory;  // empty: the file itself is watched
  bool data = false;
  auto operator<=>(const FileSource&) const = default;
};

// A cluster whose endpoints have DNS names.
struct DnsTarget {
  std::string cluster;
  std::vector<config::EndpointSpec> endpoints;
  config::ClusterSpec::DnsFamily family = config::ClusterSpec::DnsFamily::kAuto;
  uint64_t refresh_ms = 5'000;
  bool respect_ttl = false;
  bool logical = false;  // LOGICAL_DNS: all addresses of its name are one host's
  bool operator==(const DnsTarget&) const = default;
};

// What the discovery and control threads have to bring.
struct Wanted {
  std::vector<std::string> endpoints, route_tables, secrets;  // by ADS
  std::vector<proxy::WantedStream> streams;                   // by others
  std::vector<FileSource> files;                              // sorted
  std::vector<DnsTarget> dns;
  bool operator==(const Wanted&) const = default;
};

struct BuilderCallbacks {
  std::function<void(std::shared_ptr<const proxy::Snapshot>)> on_snapshot;
  std::function<void(std::shared_ptr<const proxy::StoreStatus>)> on_status;
  std::function<void(const Wanted&)> on_wanted;
  // Clusters of which other hosts are to be checked than before, or in another way.
  std::function<void(std::vector<upstream::HealthTarget>)> on_health_targets = [](auto) {};
  // Once: the first config is complete, as far as it will come; live with snapshot `version` (0: an empty one).
  std::function<void(uint64_t version)> on_initialized;
  // Once: discovery has answered for every type that it has to say in full, so nothing remembered lives on unasked.
  std::function<void()> on_discovered = [] {};
};

class Builder {
 public:
  explicit Builder(BuilderOptions options);
  ~Builder();  // stop()
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  struct Loaded {
    std::optional<config::BootstrapSpec> spec;  // empty: errors
    std::string bytes;                          // the bootstrap as it was read, for dumps
    config::Faults faults;                      // all of them, warnings too
  };
  // Reads a bootstrap and stages its static resources (with errors: only if nothing is bound).
  Loaded load(std::string_view text, std::string_view file);
  // Between load() and start(): stages what discovery brought in an earlier life. It serves at once, without waiting
  // for discovery, whose full sets replace it. The faults of what is good no longer.
  std::vector<std::string> remember(std::vector<xds::Update> updates);
  void start(BuilderCallbacks callbacks);
  void stop();

  // What discovery brought, a full set or changes. `verdict` is called with all faults (none: accepted).
  void update(xds::Update update, std::function<void(xds::Verdict)> verdict);
  // A file's content; `error` instead of it when it could not be read.
  void update_file(FileSource source, std::string text, std::string error);
  void set_resolved(std::string cluster, std::vector<config::EndpointSpec> endpoints);
  // Health checks have found out something of a host of this cluster.
  void health_changed(std::string cluster);
  int64_t take_longest_turn_ns();
  int64_t take_longest_task_cpu_ns();
  // Takes over parts that a worker is done with.
  void release(std::vector<std::shared_ptr<const void>> parts);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::server
