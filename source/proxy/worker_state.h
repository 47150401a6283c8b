// WorkerState: what the streams and connections of one worker share: its loop, stats shard, clusters, the adopted
// snapshot and those older ones that requests still pin.
//
// Thread rule: the worker's thread.
// Use:  PinnedSnapshot* pin = worker.pin();  ...  worker.unpin(pin);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/list.h"
#include "event/loop.h"
#include "proxy/recycled.h"
#include "proxy/snapshot.h"
#include "upstream/priority_load.h"
#include "upstream/worker_clusters.h"

namespace outrigger {
class GrpcCallHandler;
}

namespace outrigger::proxy {

class ConnectUpstream;
class DownstreamConnection;
class Shadow;
class SideCall;
class Stream;
struct ConnectUpstreamTag;
struct ShadowOptions;
struct ShadowTag;
struct SideCallTag;
struct StreamCallTag;

// A snapshot with a count of this worker's own: pinning is no contended atomic.
struct PinnedSnapshot {
  std::shared_ptr<const Snapshot> snapshot;
  uint32_t pins = 0;
};

struct RetiredTag;

class WorkerState final : public event::TurnEnd {
 public:
  WorkerState(event::Loop& loop, uint32_t index, stats::Registry& stats,
              std::function<void(std::vector<std::shared_ptr<const void>>)> release);
  ~WorkerState();

  event::Loop& loop() { return loop_; }
  uint32_t index() const { return index_; }
  stats::Shard& shard() { return shard_; }

  // The adopted snapshot; nullptr before the first.
  PinnedSnapshot* current() { return current_; }
  PinnedSnapshot* pin();
  void unpin(PinnedSnapshot* pinned);
  void adopt(std::shared_ptr<const Snapshot> snapshot);
  // Gives a part back to the builder (with the turn's end).
  void release(std::shared_ptr<const void> part);

  // The run-time cluster of a name: of the adopted snapshot, else of the one that the stream pinned; nullptr: unknown.
  upstream::WorkerCluster* find_cluster(std::string_view name, uint64_t hash, const PinnedSnapshot* pinned);
  upstream::WorkerClusters& clusters() { return clusters_; }

  // Streams, shadows and calls are recycled: a finished one is destroyed at the turn's end.
  void* stream_memory();
  void retire(Stream& stream);
  Shadow* make_shadow(upstream::WorkerCluster& cluster, const ShadowOptions& options);
  void retire(Shadow& shadow);
  SideCall* make_call(GrpcCallHandler& handler, size_t max_message_bytes);
  void retire(SideCall& call);
  void cut_shadows();
  void cut_calls();

  // "Sun, 06 Nov 1994 08:49:37 GMT", made once a second.
  std::string_view http_date();

  uint64_t active_requests = 0;
  bool draining = false;
  List<ConnectUpstream, ConnectUpstreamTag> connects;
  // Scratch of pick_member().
  std::vector<upstream::PriorityLoad> member_loads;
  std::vector<upstream::WorkerCluster*> member_clusters;

 private:
  void on_turn_end() override;

  event::Loop& loop_;
  const uint32_t index_;
  stats::Shard& shard_;
  std::function<void(std::vector<std::shared_ptr<const void>>)> release_;
  std::vector<std::shared_ptr<const void>> released_;
  PinnedSnapshot* current_ = nullptr;
  std::vector<PinnedSnapshot*> older_;  // pinned ones
  upstream::WorkerClusters clusters_;
  Recycled<Stream> streams_;
  Recycled<Shadow> shadows_;
  List<Shadow, ShadowTag> active_shadows_;
  Recycled<SideCall> calls_;
  List<SideCall, SideCallTag> active_calls_;
  int64_t date_second_ = -1;
  char date_[32];
};

}  // namespace outrigger::proxy
