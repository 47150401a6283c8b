// AdsSession: what one discovery stream knows and owes, without gRPC, threads or clock. Requests and snapshots go in,
// replies are pulled out one at a time, so a client that does not read is owed state, never a queue.
//
// Each type that the client subscribed to:
//
//                     reply pulled                    answer with its nonce
//       [Current] <----------------  [Behind]  ....  [Answering] --ACK--> base = what was sent
//           |  snapshot or subscription ^                 '------NACK--> version remembered as refused, base stays
//           '---------------------------'
//
//     base      what the client has acknowledged (or claimed by version when it came); replies are the difference to it
//     fresh     names that must be sent even if base has them: subscribed to just now, or of a changed cluster (Envoy
//               waits for endpoints after a cluster changed, even unchanged ones)
//     Answering no further reply of this type until the answer
//     refused   the same version is not sent again; base did not move, so the next one brings all that was refused
//
// Make before break, per stream: replies go out in the order clusters, endpoints, listeners, routes, the rest; changed
// listeners and routes wait for the answers on clusters and endpoints; clusters that vanish are kept in what is sent
// until listeners and routes are acknowledged at their newest.
//
// Thread rule: one thread at a time.
// Use:  AdsSession session(false, 200'000);  session.set_snapshot(cache.get());  session.on_request(request);
//       while (auto reply = session.next_reply()) write(*reply);
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "outrigger/control/ads_server.h"
#include "outrigger/control/resource_cache.h"

namespace outrigger::control {

struct DiscoveryRequest {
  std::string type_url;
  std::string version;  // state of the world
  std::string nonce;
  std::optional<std::string> error;                        // NACK
  std::vector<std::string> subscribe;                      // state of the world: all names
  std::vector<std::string> unsubscribe;                    // incremental
  std::vector<std::pair<std::string, std::string>> known;  // incremental: initial_resource_versions
};

struct DiscoveryReply {
  std::string type_url, version, nonce;
  std::vector<ResourcePtr> resources;
  std::vector<std::string> removed;  // incremental
  // The set whose resources, all of them, are `resources`; nullptr: only some are, or the set is this stream's own.
  std::shared_ptr<const TypeSet> whole = {};
  size_t repeated = 0;  // of `resources`: that the client has in that version
};

class AdsSession {
 public:
  // What a client may make us remember: so many types, and names of all types.
  static constexpr size_t kMaxTypes = 32;

  AdsSession(bool incremental, size_t max_names) : incremental_(incremental), max_names_(max_names) {}

  // nullptr: nothing to serve yet; requests wait.
  void set_snapshot(std::shared_ptr<const ResourceSnapshot> snapshot) { snapshot_ = std::move(snapshot); }

  // The verdict that the request carries, if any.
  struct Verdict {
    bool accepted;
    Answer answer;
  };
  std::optional<Verdict> on_request(const DiscoveryRequest& request);
  std::optional<DiscoveryReply> next_reply();

  bool overflow() const { return overflow_; }  // the client passed a limit: end the stream

  std::vector<ClientTypeStatus> status(bool with_resources = false);
  uint64_t stale() const { return stale_; }      // requests with an old nonce, ignored
  uint64_t resumed() const { return resumed_; }  // types whose first request named what the client has

 private:
  struct InFlight {
    std::string nonce, version;
    std::shared_ptr<const TypeSet> set;
    std::set<std::string> fresh;
  };
  struct TypeState {
    std::string url;
    bool wildcard = false;
    bool was_named = false;
    std::unordered_set<std::string> names;
    std::set<std::string> fresh;
    std::set<std::string> fresh_refused;  // were fresh in a refused reply: go with the next one
    bool owed = true;                     // a first answer, even if it is empty
    std::shared_ptr<const TypeSet> base;
    std::string base_version;
    std::optional<InFlight> in_flight;
    std::string last_nonce;
    std::string sent_version, refused_version, refusal;
    uint64_t acks = 0, nacks = 0;
    // version_of(), remembered.
    std::shared_ptr<const TypeSet> versioned;
    std::string version;

    bool wants(const std::string& name) const { return wildcard || names.count(name) != 0; }
  };

  TypeState& state(const std::string& url, bool& first);
  TypeState* find(std::string_view url);
  void subscribe_sotw(TypeState& t, const DiscoveryRequest& request, bool first);
  void subscribe_delta(TypeState& t, const DiscoveryRequest& request, bool first);
  Verdict judge(TypeState& t, const DiscoveryRequest& request);
  std::shared_ptr<const TypeSet> target(const TypeState& t);
  const std::string& version_of(TypeState& t, const std::shared_ptr<const TypeSet>& set);
  bool behind(TypeState& t);
  bool settled(std::string_view url);
  DiscoveryReply difference(const TypeState& t, const TypeSet& set) const;
  DiscoveryReply build(TypeState& t);
  bool refuses_served(TypeState& t);  // the client's last answer was a NACK of what is served now
  std::vector<ClientResourceStatus> resources_of(TypeState& t);
  void refresh_endpoints_of(const TypeState& clusters, const TypeSet& now);

  const bool incremental_;
  const size_t max_names_;
  std::shared_ptr<const ResourceSnapshot> snapshot_;
  std::vector<std::unique_ptr<TypeState>> types_;  // in sending order
  std::shared_ptr<const TypeSet> union_, union_of_[2];
  uint64_t next_nonce_ = 1;
  uint64_t stale_ = 0;
  uint64_t resumed_ = 0;
  bool overflow_ = false;
};

}  // namespace outrigger::control
