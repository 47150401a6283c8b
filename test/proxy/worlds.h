// World: one consistent configuration as a control plane has it. ScriptedServer: a control plane that goes from world
// to world and answers what is asked for, type by type; what it has said arrives in its order within a type, and
// between the types as the test likes, however late.
//
// Thread rule: one thread.
// Use:  ScriptedServer server(store);  server.become(world);  while (server.pending()) { server.deliver(type);
//       if (auto snapshot = store.assemble()) ...;  server.ask(); }
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "proxy/aggregate.h"
#include "proxy/store.h"

namespace outrigger::proxy {

struct World {
  std::map<std::string, config::ClusterSpec> clusters;
  std::map<std::string, config::EndpointsSpec> endpoints;
  std::map<std::string, config::RouteTableSpec> tables;
  std::map<std::string, config::ListenerSpec> listeners;

  World& with(const config::ClusterSpec& spec) { return put(clusters, spec.name, spec); }
  World& with(const config::EndpointsSpec& spec) { return put(endpoints, spec.cluster_name, spec); }
  World& with(const config::RouteTableSpec& spec) { return put(tables, spec.name, spec); }
  World& with(const config::ListenerSpec& spec) { return put(listeners, spec.name, spec); }

 private:
  template <class Map, class Spec>
  World& put(Map& map, const std::string& name, const Spec& spec) {
    map.insert_or_assign(name, spec);
    return *this;
  }
};

inline void accept_or_fail(Store& store, config::Spec spec) {
  const std::string name(config::resource_name(spec));
  const auto verdict = store.accept(std::move(spec), {}, Source::kXds);
  EXPECT_TRUE(verdict.has_value()) << name << ": " << verdict.error().detail;
}

// LDS and CDS say the whole set, as the builder applies it: first what goes.
template <class Spec>
void deliver_set(Store& store, config::ResourceType type, const std::map<std::string, Spec>& all) {
  std::vector<std::string> names;
  for (const auto& [name, spec] : all) names.push_back(name);
  store.retain_only(type, Source::kXds, names);
  std::vector<const config::ClusterSpec*> clusters;
  for (const auto& [name, spec] : all) {
    if constexpr (std::is_same_v<Spec, config::ClusterSpec>)
      clusters.push_back(&spec);
    else
      clusters.push_back(nullptr);
  }
  for (const size_t at : staging_order(clusters)) accept_or_fail(store, all.at(names[at]));
}

class ScriptedServer {
 public:
  explicit ScriptedServer(Store& store) : store_(store) {}

  void become(World world) {
    const World before = std::exchange(world_, std::move(world));
    push(config::ResourceType::kCluster,
         [clusters = world_.clusters](Store& store) { deliver_set(store, config::ResourceType::kCluster, clusters); });
    push(config::ResourceType::kListener, [listeners = world_.listeners](Store& store) {
      deliver_set(store, config::ResourceType::kListener, listeners);
    });
    const auto changed = [&](const auto& was, const auto& is, const std::set<std::string>& asked) {
      for (const auto& [name, spec] : is) {
        const auto old = was.find(name);
        if (asked.contains(name) && (old == was.end() || !(old->second == spec))) say(spec);
      }
    };
    changed(before.endpoints, world_.endpoints, asked_endpoints_);
    changed(before.tables, world_.tables, asked_tables_);
  }

  // What the store wants now reaches the server; what is asked for anew is answered if it is there.
  void ask() {
    asked_endpoints_ = renew(store_.wanted_endpoints(), asked_endpoints_, world_.endpoints);
    asked_tables_ = renew(store_.wanted_route_tables(), asked_tables_, world_.tables);
  }

  std::vector<config::ResourceType> pending() const {
    std::vector<config::ResourceType> types;
    for (size_t i = 0; i < queues_.size(); ++i)
      if (!queues_[i].empty()) types.push_back(static_cast<config::ResourceType>(i));
    return types;
  }
  void deliver(config::ResourceType type) {
    auto& queue = queues_[static_cast<size_t>(type)];
    const auto message = std::move(queue.front());
    queue.pop_front();
    message(store_);
  }

 private:
  using Message = std::function<void(Store&)>;
  void push(config::ResourceType type, Message message) {
    queues_[static_cast<size_t>(type)].push_back(std::move(message));
  }
  void say(const config::EndpointsSpec& spec) {
    push(config::ResourceType::kEndpoints, [spec](Store& store) { accept_or_fail(store, spec); });
  }
  void say(const config::RouteTableSpec& spec) {
    push(config::ResourceType::kRouteTable, [spec](Store& store) { accept_or_fail(store, spec); });
  }
  template <class Map>
  std::set<std::string> renew(const std::vector<std::string>& wanted, const std::set<std::string>& asked,
                              const Map& have) {
    for (const std::string& name : wanted) {
      if (const auto found = have.find(name); found != have.end() && !asked.contains(name)) say(found->second);
    }
    return {wanted.begin(), wanted.end()};
  }

  Store& store_;
  World world_;
  std::array<std::deque<Message>, config::kResourceTypeCount> queues_;
  std::set<std::string> asked_endpoints_, asked_tables_;
};

}  // namespace outrigger::proxy
