// AheadPool: a worker's connections to one host, as preconnect_policy sees them: what is needed of them, what there is
// room for, and what is made before anybody needs it. HostPool (HTTP) and TcpPool are such.
//
// Thread rule: the worker's thread.
// Use:  pool.know(entry);   pool.connect_ahead(spec.preconnect_ratio, 0, AheadPool::kMostAtOnce);
#pragma once

#include <cstdint>
#include <memory>

#include "upstream/host.h"

namespace outrigger::upstream {

class WorkerCluster;

// Whether there is room for `ratio` times what is needed.
inline bool enough_ahead(uint64_t needed, float ratio, uint64_t room) {
  return static_cast<double>(needed) * ratio <= static_cast<double>(room);
}

class AheadPool {
 public:
  static constexpr int kMostAtOnce = 3;  // as Envoy

  AheadPool(WorkerCluster& cluster, std::shared_ptr<Host> host);
  AheadPool(const AheadPool&) = delete;
  AheadPool& operator=(const AheadPool&) = delete;

  // What is known now of where the host is, and whether connections may be made ahead of what is needed.
  void know(const HostSet::Entry& entry) {
    if (addresses_ != entry.addresses) [[unlikely]]
      move_to(entry.addresses);
    ahead_ = entry.usable();
  }
  // Makes connections until there are `ratio` times as many as the host's requests and `coming` more would need, at
  // most `most`, within the cluster's limits. Whether it made any.
  bool connect_ahead(float ratio, uint32_t coming, int most);
  void revive() { draining_ = false; }

  Host& host() const { return *host_; }
  WorkerCluster& cluster() { return cluster_; }

 protected:
  ~AheadPool();
  // Requests (of TCP: clients), and how many the connections that there are, or come, can serve.
  struct Streams {
    uint64_t needed, room;
  };
  virtual Streams streams() const = 0;
  virtual void connect() = 0;
  // False: the cluster has as many connections as it may.
  bool connect_more();

  WorkerCluster& cluster_;
  std::shared_ptr<Host> host_;
  std::shared_ptr<const HostAddresses> addresses_;  // nullptr: the host's own
  bool ahead_ = false;
  bool draining_ = false;

 private:
  void move_to(std::shared_ptr<const HostAddresses> addresses);
};

}  // namespace outrigger::upstream
