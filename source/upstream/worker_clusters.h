// WorkerCluster, WorkerClusters: one worker's run-time view of the clusters: current endpoints, balancer, pools. Made
// on first use by name; refreshed when the worker adopts a snapshot. A cluster that has left the snapshot is kept while
// a stream uses it or an older snapshot is pinned.
//
// Thread rule: the worker's thread.
// Use:  WorkerCluster* c = clusters.find(name, hash);  const HostSet::Entry* e = c->pick();
// c->pool(*e, http2_client).acquire(client);
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/name.h"
#include "event/loop.h"
#include "stats/stats.h"
#include "upstream/cluster.h"
#include "upstream/conn_pool.h"
#include "upstream/load_balancer.h"
#include "upstream/subsets.h"
#include "upstream/tcp_pool.h"

namespace outrigger::upstream {

class WorkerClusters;

struct HostUserTag;
// What holds a connection to a host that is no pool's.
class HostUser : public ListNode<HostUserTag> {
 public:
  // The host has failed its health checks, and its cluster wants its connections closed. May unlink this.
  virtual void on_host_failed(const Host& host) = 0;

 protected:
  ~HostUser() = default;
};

// An endpoint's metadata, and a count of this worker's own of those who look at its set.
class MetadataHold {
 public:
  MetadataHold() = default;
  MetadataHold(MetadataHold&& other) noexcept
      : metadata_(std::exchange(other.metadata_, nullptr)), hosts_(std::exchange(other.hosts_, nullptr)) {}
  MetadataHold& operator=(MetadataHold other) noexcept {
    std::swap(metadata_, other.metadata_);
    std::swap(hosts_, other.hosts_);
    return *this;
  }
  ~MetadataHold() {
    if (hosts_ != nullptr) end();
  }
  const Metadata* get() const { return metadata_; }  // nullptr: there is none

 private:
  friend class WorkerCluster;
  struct Hosts;
  void end();
  const Metadata* metadata_ = nullptr;
  Hosts* hosts_ = nullptr;
};

class WorkerCluster {
 public:
  WorkerCluster(WorkerClusters& owner, std::shared_ptr<const Cluster> cluster, std::shared_ptr<const HostSet> hosts);
  ~WorkerCluster();

  const Cluster& cluster() const { return *cluster_; }
  std::shared_ptr<const Cluster> shared_cluster() const { return cluster_; }
  const ClusterStats& stats() const { return cluster_->stats(); }
  const HostSet& hosts() const { return *hosts_; }
  event::Loop& loop();
  stats::Shard& shard();

  // What is known now of the hosts' health.
  const HostView& view() {
    if (const uint32_t epoch = cluster_->state().health_epoch.load(std::memory_order_acquire);
        epoch != seen_epoch_ || seen_hosts_ != hosts_.get()) [[unlikely]]
      look(epoch);
    return view_;
  }
  // A host for a new attempt, among those that `match` asks for if the cluster divides its hosts; nullptr: none is
  // usable. Under `panic_percent` healthy ones of them, any of them.
  const HostSet::Entry* pick(uint8_t panic_percent, const config::MetadataMatch* match = nullptr);
  const HostSet::Entry* pick(const config::MetadataMatch* match = nullptr) {
    return pick(cluster_->spec().healthy_panic_percent, match);
  }
  // Of an entry that was picked in this turn; the endpoints may change while it is held.
  MetadataHold metadata(const HostSet::Entry& entry) {
    return entry.metadata == 0 ? MetadataHold() : hold_metadata(entry);
  }
  // Of a cluster of type ORIGINAL_DST: the host of that address.
  const HostSet::Entry* pick_original(const net::Address& address);
  bool takes_original() const { return cluster_->spec().discovery == config::ClusterSpec::Discovery::kOriginalDst; }
  // What the requests (of TCP: clients) of this worker need, and what the connections that there are (or come) can
  // take.
  struct Demand {
    uint64_t waiting = 0, streams = 0, room = 0;
  };
  Demand demand;  // kept by the pools

  // Of the version of HTTP that the cluster speaks; `http2_client` decides where it speaks the client's. Of `client`
  // alone, if there is one and the hosts are told of it.
  HostPool& pool(const HostSet::Entry& entry, bool http2_client, ClientPools* client = nullptr);
  bool tells_clients() const { return cluster_->spec().proxy_header != config::ProxyHeaderVersion::kNone; }
  // Of a TCP client's host; nullptr: no connection is made ahead. Clients hold the cluster while they are in a pool.
  TcpPool* tcp_pool(const HostSet::Entry& entry);
  void add_spare(SpareConnection& spare) { spares_.push_back(spare); }
  // Counts one more connection, a client's; a spare one gives way to it. False: there are as many as there may be.
  bool take_connection();
  // Counts that a connection has been made (TLS: its handshake).
  void count_connected(const net::Connection& connection, int64_t started_ns);

  void update(std::shared_ptr<const Cluster> cluster, std::shared_ptr<const HostSet> hosts);
  // It is not in the snapshot any more, or the worker ends: nobody comes for spare connections.
  void end_spares();
  void drain();
  void shutdown();
  // Health checks have found a host unhealthy: what is under way to it is its last.
  void on_host_failed(const Host& host);
  // To hear of that as well; it unlinks itself.
  void add_user(HostUser& user) { host_users_.push_back(user); }
  bool empty() const {
    return users_ == 0 && pools_[0].empty() && pools_[1].empty() && pools_[2].empty() && client_pools_.empty() &&
           tcp_pools_.empty();
  }
  // Streams hold what they use.
  void hold() { ++users_; }
  void drop() { --users_; }
  // A pool of a departed host goes when it is empty.
  void maybe_remove(HostPool& pool);
  void maybe_remove(TcpPool& pool);
  // A part that was held here goes back to its maker.
  void release(std::shared_ptr<const void> part);

 private:
  struct Reaper;
  bool wanted(const HostPool& pool) const;
  bool wanted(const TcpPool& pool) const;
  bool wants_spares() const;
  template <class F>
  void for_each_pool(F&& f);
  void drain_unwanted();
  void look(uint32_t epoch);
  const HostSet::Entry* choose(uint8_t panic_percent);
  const HostSet::Entry* look_ahead();
  template <class PoolOf>
  void connect_ahead(PoolOf&& pool_of);
  HostPool& common_pool(const HostSet::Entry& entry, bool http2_client);
  TcpPool& spare_pool(const HostSet::Entry& entry);
  MetadataHold hold_metadata(const HostSet::Entry& entry);
  const HostSet::Entry* pick_subset(const Subsets& subsets, uint8_t panic_percent, const config::MetadataMatch* match);
  const HostSet::Entry* pick_of(const Subsets& subsets, uint32_t subset, uint8_t panic_percent);
  const HostSet::Entry* pick_from(const HostView& now, LoadBalancer& balancer, uint8_t panic_percent);
  void forget_held_hosts();

  WorkerClusters& owner_;
  std::shared_ptr<const Cluster> cluster_;
  std::shared_ptr<const HostSet> hosts_;
  HostView view_;
  const HostSet* seen_hosts_ = nullptr;  // nullptr: never looked
  uint32_t seen_epoch_ = 0;
  std::unique_ptr<LoadBalancer> balancer_;
  // predictive_preconnect_ratio: the hosts that pick() has chosen already for those who come next, the first one first.
  // Of seen_hosts_ and view_.
  std::vector<const HostSet::Entry*> next_picks_;
  struct SubsetRun {
    std::unique_ptr<LoadBalancer> balancer;  // nullptr: never used
    HostView view;
    bool seen = false;  // the view is of the current hosts and their health
  };
  std::vector<SubsetRun> subset_runs_;         // by subset; empty: never used, or hosts_ is not divided
  MetadataHold::Hosts* held_hosts_ = nullptr;  // hosts_, if somebody has asked for its metadata
  List<HostUser, HostUserTag> host_users_;
  std::unordered_map<const Host*, std::unique_ptr<HostPool>> pools_[3];  // by PoolProtocol
  struct ClientKey {
    uint64_t client;
    const Host* host;
    PoolProtocol protocol;
    bool operator==(const ClientKey&) const = default;
  };
  struct ClientHash {
    size_t operator()(const ClientKey& key) const {
      return key.client * 0x9e3779b97f4a7c15 ^ reinterpret_cast<uintptr_t>(key.host);
    }
  };
  std::unordered_map<ClientKey, std::unique_ptr<HostPool>, ClientHash> client_pools_;
  std::unordered_map<const Host*, std::unique_ptr<TcpPool>> tcp_pools_;
  List<SpareConnection, ClusterSpareTag> spares_;  // of tcp_pools_, the oldest first
  struct AddressHash {
    size_t operator()(const net::Address& address) const { return address.hash(); }
  };
  std::unordered_map<net::Address, std::weak_ptr<Host>, AddressHash> originals_;  // pools and connections hold them
  size_t sweep_originals_at_ = 64;
  HostSet::Entry original_;  // that was picked last
  uint32_t users_ = 0;
  bool draining_ = false;
  bool spares_ended_ = false;
};

class WorkerClusters {
 public:
  // What the adopted snapshot says of a name; false: nothing.
  using Lookup = std::function<bool(std::string_view name, uint64_t hash, std::shared_ptr<const Cluster>&,
                                    std::shared_ptr<const HostSet>&)>;
  WorkerClusters(event::Loop& loop, stats::Shard& shard, std::function<void(std::shared_ptr<const void>)> release);

  // The cluster, made now if the snapshot (of `lookup`) has it; nullptr: unknown.
  WorkerCluster* find(std::string_view name, uint64_t hash, const Lookup& lookup);
  // What the adopted snapshot has of a name that may have changed; nothing happens to what was not made. `cluster`
  // nullptr: it has departed. Departed ones drain; sweep() erases them.
  void update(std::string_view name, uint64_t hash, std::shared_ptr<const Cluster> cluster,
              std::shared_ptr<const HostSet> hosts);
  // See WorkerCluster; of a cluster that this worker does not use, nothing is to be done.
  void on_host_failed(std::string_view cluster, const Host& host);
  // Erases departed clusters that nobody uses.
  void sweep();
  bool any_departed() const { return !departed_.empty(); }
  // The worker takes no new clients.
  void end_spares();
  void shutdown();
  bool empty() const { return map_.size() == 0; }

 private:
  friend class WorkerCluster;
  friend class MetadataHold;
  struct Slot {
    std::unique_ptr<WorkerCluster> cluster;
  };
  event::Loop& loop_;
  stats::Shard& shard_;
  std::function<void(std::shared_ptr<const void>)> release_;
  NameMap<Slot> map_;
  std::vector<std::string> departed_;
  bool spares_ended_ = false;
};

}  // namespace outrigger::upstream
