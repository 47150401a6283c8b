#include "proxy/aggregate.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace outrigger::proxy {

using upstream::PriorityLoad;

PickedHost pick_member(WorkerState& worker, upstream::WorkerCluster& aggregate, const PinnedSnapshot* pin,
                       const config::MetadataMatch* match) {
  std::vector<PriorityLoad>& loads = worker.member_loads;
  std::vector<upstream::WorkerCluster*>& members = worker.member_clusters;
  loads.clear();
  members.clear();
  for (const Name& name : aggregate.hosts().members()) {
    upstream::WorkerCluster* member = worker.find_cluster(name.text, name.hash, pin);
    if (member == nullptr || member->hosts().all().empty()) continue;
    members.push_back(member);
    loads.push_back({.healthy = static_cast<uint32_t>(member->view().healthy_count()),
                     .total = static_cast<uint32_t>(member->hosts().all().size())});
  }
  const uint8_t panic_percent = aggregate.cluster().spec().healthy_panic_percent;
  const bool panic_allowed = upstream::spread_load(loads, panic_percent);
  const size_t chosen = upstream::choose_priority(loads, worker.loop().random());
  if (chosen == members.size()) return {&aggregate, nullptr};
  return {members[chosen], members[chosen]->pick(panic_allowed ? panic_percent : uint8_t{0}, match)};
}

std::vector<Member> members_of(const Snapshot& snapshot, const LinkedCluster& aggregate) {
  std::vector<Member> members;
  std::vector<PriorityLoad> loads;
  for (const Name& name : aggregate.hosts->members()) {
    Member& member =
        members.emplace_back(Member{.name = name.text, .linked = snapshot.clusters.find(name), .load = {}});
    PriorityLoad& load = loads.emplace_back();
    if (member.linked == nullptr) continue;
    load.healthy = static_cast<uint32_t>(member.linked->hosts->healthy_count());
    load.total = static_cast<uint32_t>(member.linked->hosts->all().size());
  }
  upstream::spread_load(loads, aggregate.cluster->spec().healthy_panic_percent);
  for (size_t i = 0; i < members.size(); ++i) members[i].load = loads[i];
  return members;
}

std::vector<std::string> way_to(const std::string& to, const std::string& from, const MembersOf& members) {
  std::unordered_map<std::string, std::string> reached_from{{from, {}}};
  std::vector<std::string> todo{from};
  while (!todo.empty()) {
    const std::string at = std::move(todo.back());
    todo.pop_back();
    if (at == to) {
      std::vector<std::string> way{at};
      while (way.back() != from) way.push_back(reached_from[way.back()]);
      std::reverse(way.begin(), way.end());
      return way;
    }
    const std::vector<std::string>* next = members(at);
    if (next == nullptr) continue;
    for (const std::string& name : *next)
      if (reached_from.emplace(name, at).second) todo.push_back(name);
  }
  return {};
}

std::vector<Name> leaves_of(const std::string& aggregate, const MembersOf& members) {
  std::vector<Name> leaves;
  std::unordered_set<std::string> seen;
  std::vector<std::string> todo{aggregate};
  while (!todo.empty()) {
    const std::string at = std::move(todo.back());
    todo.pop_back();
    if (!seen.insert(at).second) continue;
    const std::vector<std::string>* next = members(at);
    if (next == nullptr || next->empty()) {
      leaves.emplace_back(at);
    } else {
      todo.insert(todo.end(), next->rbegin(), next->rend());
    }
  }
  return leaves;
}

std::vector<size_t> staging_order(const std::vector<const config::ClusterSpec*>& clusters) {
  std::unordered_map<std::string_view, size_t> place;
  for (size_t i = 0; i < clusters.size(); ++i)
    if (clusters[i] != nullptr) place.emplace(clusters[i]->name, i);
  std::vector<size_t> order;
  std::vector<uint8_t> begun(clusters.size(), 0), placed(clusters.size(), 0);
  std::vector<size_t> todo;
  for (size_t i = clusters.size(); i-- > 0;) todo.push_back(i);
  while (!todo.empty()) {
    const size_t at = todo.back();
    if (begun[at] == 0 && clusters[at] != nullptr) {
      begun[at] = 1;
      const auto& members = clusters[at]->members;
      for (auto name = members.rbegin(); name != members.rend(); ++name)
        if (const auto found = place.find(*name); found != place.end() && begun[found->second] == 0)
          todo.push_back(found->second);
      continue;
    }
    todo.pop_back();
    if (std::exchange(placed[at], 1) == 0) order.push_back(at);
  }
  return order;
}

}  // namespace outrigger::proxy
