// Host, HostSet, HostView: the endpoints of a cluster. A Host is the run-time identity of one address; it is shared by
// all workers and by every version of its HostSet, so its counts and health survive endpoint updates. A HostSet is an
// immutable part; a HostView is what one thread has seen of its hosts' health. The set of an aggregate cluster has no
// hosts but members: the clusters that have them, nested aggregates resolved.
//
// Thread rule: HostSet::compile on the builder; const use anywhere; Host's atomics anywhere; a HostView has one thread.
// Use:  auto set = HostSet::compile(spec, previous.get(), {});   view.look(*set);   view.healthy().entries[i].host
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/by_value.h"
#include "base/name.h"
#include "base/shared_text.h"
#include "config/spec.h"
#include "net/connect_race.h"

namespace outrigger::upstream {

// What active checks have found out; bits of Host::health. Who changes them moves ClusterState::health_epoch.
enum HostHealth : uint8_t {
  kFailedCheck = 1,    // takes no requests; a host begins so, until its first check succeeds
  kNotChecked = 2,     // no check has ended yet
  kCheckTimedOut = 4,  // the last check had no answer in time
};

// How a host is checked, where that differs from the rest of its cluster. Part of its identity.
struct HostCheck {
  net::Address address;  // where checks go; invalid: HostAddresses has it
  std::string hostname;  // what they call the host; empty: as the cluster's health check says
  bool operator==(const HostCheck&) const = default;
};

// Where a host with several addresses is (Endpoint.additional_addresses, LOGICAL_DNS). They are no part of who it is:
// they may change while it stays.
struct HostAddresses {
  std::vector<net::Address> attempts;  // in the order in which connections try them (net/connect_race.h)
  net::Address main, check;            // the first that it was given; where health checks go
  std::string text;                    // of `main`
  bool operator==(const HostAddresses&) const = default;
};

struct Host {
  net::Address address;                    // where it is, unless its entry has addresses
  std::string text;                        // "1.2.3.4:80"; of LOGICAL_DNS "name:port"
  SharedText hostname;                     // for auto_host_rewrite; may be empty
  std::unique_ptr<const HostCheck> check;  // nullptr: nothing differs
  // Requests under way from all workers, for least request. Relaxed: an estimate is enough.
  std::atomic<uint32_t> active_requests{0};
  std::atomic<uint8_t> health{kFailedCheck | kNotChecked};  // means nothing where the cluster does not check
  bool failed_check() const { return (health.load(std::memory_order_acquire) & kFailedCheck) != 0; }
};

// An endpoint of a set: a host, and what may change without another host.
struct HostEntry {
  std::shared_ptr<Host> host;
  uint32_t weight = 1;
  bool healthy : 1 = true;                                   // says its endpoint
  bool checked : 1 = false;                                  // and active checks have a say
  bool removed : 1 = false;                                  // named no longer, kept until it fails
  uint32_t metadata : 24 = 0;                                // HostSet::metadata() knows; 0: none
  std::shared_ptr<const HostAddresses> addresses = nullptr;  // nullptr: the host's own and no other
  bool operator==(const HostEntry&) const = default;
  const net::Address& address() const { return addresses == nullptr ? host->address : addresses->main; }
  const std::string& text() const { return addresses == nullptr ? host->text : addresses->text; }
  const net::Address& check_address() const;
  bool usable() const { return healthy && !(checked && host->failed_check()); }
};

// What load balancing chooses from.
struct HostChoices {
  std::vector<HostEntry> entries;
  std::vector<uint16_t> strides;  // weights scaled to 16 bits for the stride scheduler
  bool equal_weights = true;
  void weigh();                  // entries -> strides, equal_weights
  size_t healthy_count() const;  // now
};

// What a cluster's config makes of its endpoints.
struct HostSetOptions {
  bool checked = false;       // it has health checks
  bool keep_healthy = false;  // a host that is named no longer stays until it fails its check
  net::AttemptOrder order;    // of the addresses of a host that has several
  ByValue<config::SubsetSpec> subsets = {};
  bool operator==(const HostSetOptions&) const = default;
};

class Subsets;

class HostSet {
 public:
  using Entry = HostEntry;
  using Choices = HostChoices;

  HostSet();
  ~HostSet();

  // Addresses in `endpoints` must be IP literals or Unix paths (names have been resolved). Hosts with the same address,
  // hostname and check are taken over from `previous`. Endpoints named twice count once, the last wins.
  static std::shared_ptr<const HostSet> compile(const std::vector<config::EndpointSpec>& endpoints,
                                                const HostSet* previous, const HostSetOptions& options = {});

  // `members`: the leaves of an aggregate cluster, the preferred ones first, none twice.
  static std::shared_ptr<const HostSet> of_members(std::vector<Name> members);

  // Every endpoint that is not draining.
  const std::vector<Entry>& all() const { return all_.entries; }
  const Choices& choices() const { return all_; }
  bool always_healthy() const { return always_healthy_; }  // nothing that can change says otherwise
  size_t healthy_count() const;                            // now
  bool none_unchecked() const;                             // every host that is checked has had its first check
  bool any_removed_failed() const;                         // a host that was kept has nothing to stay for
  bool contains(const Host* host) const;
  const HostSetOptions& options() const { return options_; }
  const std::vector<Name>& members() const { return members_; }
  const Subsets* subsets() const { return subsets_.get(); }  // nullptr: it is not divided
  // Of an entry of this set, or of a copy; nullptr: none.
  const Metadata* metadata(const Entry& entry) const {
    return entry.metadata == 0 ? nullptr : metadata_[entry.metadata - 1].get();
  }

 private:
  Choices all_;
  std::vector<ByValue<Metadata>> metadata_;  // each once; by Entry::metadata - 1
  std::unique_ptr<const Subsets> subsets_;
  std::vector<Name> members_;
  HostSetOptions options_;
  bool always_healthy_ = true;
};

// Under `panic_percent` healthy ones of `total` all hosts are used, if the healthy ones cannot bear the load (Envoy's
// rule).
bool in_panic(size_t healthy, size_t total, uint8_t panic_percent);

class HostView {
 public:
  // Looks at every host's health. Allocates unless all are healthy.
  void look(const HostSet& set) { look(set.choices(), set.healthy_count()); }
  void look(const HostChoices& all) { look(all, all.healthy_count()); }
  const HostSet::Choices& all() const { return *all_; }
  const HostSet::Choices& healthy() const { return all_healthy_ ? *all_ : healthy_; }
  size_t healthy_count() const { return healthy().entries.size(); }
  // The healthy ones; all of them in panic.
  bool in_panic(uint8_t panic_percent) const {
    return !all_healthy_ && upstream::in_panic(healthy_.entries.size(), all_->entries.size(), panic_percent);
  }

 private:
  void look(const HostChoices& all, size_t healthy_count);

  const HostChoices* all_ = nullptr;
  HostSet::Choices healthy_;  // empty if all are
  bool all_healthy_ = true;
};

}  // namespace outrigger::upstream
