#include "proxy/worker_state.h"

#include <algorithm>
#include <ctime>
#include <new>

#include "base/check.h"
#include "proxy/shadow.h"
#include "proxy/side_call.h"
#include "proxy/stream.h"

namespace outrigger::proxy {
namespace {

upstream::WorkerClusters::Lookup lookup_in(const Snapshot* snapshot) {
  return [snapshot](std::string_view name, uint64_t hash, std::shared_ptr<const upstream::Cluster>& cluster,
                    std::shared_ptr<const upstream::HostSet>& hosts) {
    const LinkedCluster* linked = snapshot == nullptr ? nullptr : snapshot->clusters.find(name, hash);
    if (linked == nullptr) return false;
    cluster = linked->cluster;
    hosts = linked->hosts;
    return true;
  };
}

}  // namespace

WorkerState::WorkerState(event::Loop& loop, uint32_t index, stats::Registry& stats,
                         std::function<void(std::vector<std::shared_ptr<const void>>)> release)
    : loop_(loop),
      index_(index),
      shard_(stats.worker_shard(index)),
      release_(std::move(release)),
      clusters_(loop, shard_, [this](std::shared_ptr<const void> part) { this->release(std::move(part)); }) {}

WorkerState::~WorkerState() {
  CHECK(!streams_.any_retired() && !shadows_.any_retired() && active_shadows_.empty() && !calls_.any_retired() &&
        active_calls_.empty());
  CHECK(older_.empty() && active_requests == 0);
  clusters_.shutdown();
  clusters_.sweep();
  if (current_ != nullptr) {
    release(std::move(current_->snapshot));
    delete current_;
  }
  unlink();
  if (!released_.empty()) release_(std::move(released_));
}

PinnedSnapshot* WorkerState::pin() {
  ++current_->pins;
  return current_;
}

void WorkerState::unpin(PinnedSnapshot* pinned) {
  CHECK(pinned->pins > 0);
  if (--pinned->pins > 0 || pinned == current_) return;
  std::erase(older_, pinned);
  release(std::move(pinned->snapshot));
  delete pinned;
  loop_.at_turn_end(*this);
}

void WorkerState::adopt(std::shared_ptr<const Snapshot> snapshot) {
  PinnedSnapshot* before = current_;
  current_ = new PinnedSnapshot{std::move(snapshot), 0};
  if (before != nullptr) {
    current_->snapshot->clusters.for_each_change(
        before->snapshot->clusters, [this](const std::string& name, uint64_t hash, const LinkedCluster* linked) {
          clusters_.update(name, hash, linked == nullptr ? nullptr : linked->cluster,
                           linked == nullptr ? nullptr : linked->hosts);
        });
    if (before->pins > 0) {
      older_.push_back(before);
    } else {
      release(std::move(before->snapshot));
      delete before;
    }
  }
  loop_.at_turn_end(*this);
}

void WorkerState::release(std::shared_ptr<const void> part) {
  released_.push_back(std::move(part));
  loop_.at_turn_end(*this);
}

upstream::WorkerCluster* WorkerState::find_cluster(std::string_view name, uint64_t hash, const PinnedSnapshot* pinned) {
  // The worker's own view is the current one; only a cluster that has left it is looked for in the pinned snapshot.
  if (auto* found = clusters_.find(name, hash, lookup_in(current_->snapshot.get())); found != nullptr) return found;
  if (pinned == current_) return nullptr;
  auto* found = clusters_.find(name, hash, lookup_in(pinned->snapshot.get()));
  if (found != nullptr) clusters_.update(name, hash, nullptr, nullptr);  // made after it had departed
  return found;
}

void* WorkerState::stream_memory() { return streams_.memory(); }

void WorkerState::retire(Stream& stream) {
  streams_.retire(stream);
  loop_.at_turn_end(*this);
}

Shadow* WorkerState::make_shadow(upstream::WorkerCluster& cluster, const ShadowOptions& options) {
  auto* shadow = new (shadows_.memory()) Shadow(*this, cluster, options);
  active_shadows_.push_back(*shadow);
  return shadow;
}

void WorkerState::retire(Shadow& shadow) {
  shadows_.retire(shadow);
  loop_.at_turn_end(*this);
}

SideCall* WorkerState::make_call(GrpcCallHandler& handler, size_t max_message_bytes) {
  auto* call = new (calls_.memory()) SideCall(*this, handler, max_message_bytes);
  active_calls_.push_back(*call);
  return call;
}

void WorkerState::retire(SideCall& call) {
  calls_.retire(call);
  loop_.at_turn_end(*this);
}

void WorkerState::cut_shadows() {
  active_shadows_.for_each([](Shadow& shadow) { shadow.cut(); });
}

void WorkerState::cut_calls() {
  while (SideCall* call = active_calls_.front()) call->cut();
}

void WorkerState::on_turn_end() {
  streams_.sweep();
  shadows_.sweep();
  calls_.sweep();
  // A departed cluster may still be named by an older snapshot that a request pins.
  if (clusters_.any_departed() && older_.empty()) clusters_.sweep();
  if (!released_.empty()) {
    release_(std::move(released_));
    released_.clear();
  }
}

std::string_view WorkerState::http_date() {
  const int64_t second = loop_.wall_us() / 1'000'000;
  if (second != date_second_) {
    date_second_ = second;
    const time_t t = static_cast<time_t>(second);
    tm utc{};
    gmtime_r(&t, &utc);
    strftime(date_, sizeof(date_), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  }
  return {date_, 29};
}

}  // namespace outrigger::proxy
