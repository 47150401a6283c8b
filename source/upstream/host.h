// Host, HostSet: the endpoints of a cluster. A Host is the run-time identity of one address; it is shared by all
// workers and by every version of its HostSet, so its counts survive endpoint updates. A HostSet is an immutable part.
// The set of an aggregate cluster has no hosts but members: the clusters that have them, nested aggregates resolved.
//
// Thread rule: HostSet::compile on the builder; const use anywhere; Host's atomics anywhere.
// Use:  auto set = HostSet::compile(spec, previous.get());   set->usable().entries[i].host->address
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/name.h"
#include "config/spec.h"
#include "net/address.h"

namespace outrigger::upstream {

struct Host {
  net::Address address;
  std::string text;      // "1.2.3.4:80"
  std::string hostname;  // for auto_host_rewrite; may be empty
  // Requests under way from all workers, for least request. Relaxed: an estimate is enough.
  std::atomic<uint32_t> active_requests{0};
};

class HostSet {
 public:
  struct Entry {
    std::shared_ptr<Host> host;
    uint32_t weight;
    bool healthy;
    bool operator==(const Entry&) const = default;
  };

  // Addresses in `endpoints` must be IP literals or Unix paths (names have been resolved). Hosts with the same address
  // and hostname are taken over from `previous`. Endpoints named twice count once, the last wins.
  static std::shared_ptr<const HostSet> compile(const std::vector<config::EndpointSpec>& endpoints,
                                                const HostSet* previous);

  // `members`: the leaves of an aggregate cluster, the preferred ones first, none twice.
  static std::shared_ptr<const HostSet> of_members(std::vector<Name> members);

  // What load balancing chooses from.
  struct Choices {
    std::vector<Entry> entries;
    std::vector<uint16_t> strides;  // weights scaled to 16 bits for the stride scheduler
    bool equal_weights = true;
    void weigh();  // entries -> strides, equal_weights
  };

  // Every endpoint that is not draining.
  const std::vector<Entry>& all() const { return all_.entries; }
  const Choices& healthy() const { return all_healthy_ ? all_ : healthy_; }
  // The healthy ones; all of them in panic (under half are healthy, as Envoy's default).
  const Choices& usable() const { return panic_ ? all_ : healthy(); }
  bool in_panic() const { return panic_; }
  size_t healthy_count() const { return healthy().entries.size(); }
  bool contains(const Host* host) const;
  const std::vector<Name>& members() const { return members_; }

 private:
  Choices all_, healthy_;  // healthy_ is empty when all are healthy; all_ has strides only if it is chosen from
  std::vector<Name> members_;
  bool panic_ = false;
  bool all_healthy_ = false;
};

}  // namespace outrigger::upstream
