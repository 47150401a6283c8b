// Aggregate clusters (envoy.clusters.aggregate): clusters of clusters. A request goes to the first member whose healthy
// hosts can bear it, as Envoy spreads load over priorities (upstream/priority_load.h); hosts, pools, stats and breakers
// are the member's, retries are the aggregate's, since they may lead from one member to another.
//
// Thread rule: pick_host on its worker; the rest are pure functions.
// Use:  const PickedHost picked = pick_host(worker, cluster, pin);   if (picked.host == nullptr) no_healthy_upstream();
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/worker_state.h"
#include "upstream/priority_load.h"

namespace outrigger::proxy {

struct PickedHost {
  upstream::WorkerCluster* cluster = nullptr;  // the cluster itself, or the member
  const upstream::HostSet::Entry* host = nullptr;
};

// A host for a new attempt, by the current endpoints, of those that `match` (nullptr: nothing) asks for where a cluster
// divides its hosts; host nullptr: there is none.
PickedHost pick_member(WorkerState& worker, upstream::WorkerCluster& aggregate, const PinnedSnapshot* pin,
                       const config::MetadataMatch* match);
// `original`: where the client wanted to go, for clusters of type ORIGINAL_DST; nullptr: it is not known.
inline PickedHost pick_host(WorkerState& worker, upstream::WorkerCluster& cluster, const PinnedSnapshot* pin,
                            const net::Address* original, const config::MetadataMatch* match = nullptr) {
  if (!cluster.hosts().members().empty()) [[unlikely]]
    return pick_member(worker, cluster, pin, match);
  if (cluster.takes_original()) [[unlikely]]
    return {&cluster, original == nullptr ? nullptr : cluster.pick_original(*original)};
  return {&cluster, cluster.pick(match)};
}

// The leaves of an aggregate as a snapshot has them, with their share of the requests.
struct Member {
  std::string_view name;                  // in `aggregate`
  const LinkedCluster* linked = nullptr;  // nullptr: there is no such cluster
  upstream::PriorityLoad load;
};
std::vector<Member> members_of(const Snapshot& snapshot, const LinkedCluster& aggregate);

// What a cluster's members are; nullptr: it is not known.
using MembersOf = std::function<const std::vector<std::string>*(const std::string& cluster)>;
// The clusters on the way from `from` to `to`, both included; empty: there is none.
std::vector<std::string> way_to(const std::string& to, const std::string& from, const MembersOf& members);
// The clusters in which `aggregate` ends, nested aggregates resolved, in the order of preference, none twice.
std::vector<Name> leaves_of(const std::string& aggregate, const MembersOf& members);

// The order in which clusters that come together are to be staged: members before what names them, else as they came.
// Then none closes a circle with the previous version of one that comes with it.
std::vector<size_t> staging_order(const std::vector<const config::ClusterSpec*>& clusters);

}  // namespace outrigger::proxy
