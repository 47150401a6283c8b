// explain: what would become of a request, told from a snapshot without doing anything: the head as the connection
// manager leaves it, the route and why not an earlier one, each filter's verdict, the cluster and its hosts.
//
// Thread rule: any thread but a worker; the loop is the calling thread's.
// Use:  auto told = explain(snapshot, {.host = "shop.example", .path = "/cart"}, loop);  told->outcome;
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "outrigger/explain.h"
#include "outrigger/result.h"
#include "proxy/aggregate.h"
#include "proxy/snapshot.h"
#include "route/explain.h"
#include "upstream/subsets.h"

namespace outrigger::proxy {

struct ExplainQuery {
  std::string listener;  // empty: the only one
  std::string method = "GET";
  std::string host;
  std::string path = "/";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string remote_ip = "127.0.0.1";  // the client's
  uint64_t random = 0;                  // for fractions and weights
  size_t max_misses = 100;

  // "Name: value"; false: it is not of that form.
  bool add_header(std::string_view line);
};

struct ExplainedFilter {
  enum class State : uint8_t { kAsked, kDisabled, kNotReached };
  std::string name;
  State state = State::kAsked;
  FilterExplanation says;
};

struct ExplainedMirror {
  std::string cluster;  // empty: the header that names it is absent
  bool exists = false;
  bool chosen = false;  // the fraction takes this request
  std::string host;     // of the copy
};

// Which hosts of a cluster with lb_subset_config the request may go to.
struct ExplainedSubset {
  std::string asked;  // metadata_match as JSON; empty: there is none
  upstream::Subsets::Choice choice;
  std::string values;  // what the hosts have in common, as JSON; empty: any host, or none
  uint64_t hosts = 0, healthy = 0;
};

struct Explained {
  std::shared_ptr<const Snapshot> snapshot;  // what the pointers below lead into
  std::string listener;
  std::string chain;               // the filter chain's name, or its place
  std::string route_table;         // empty: it is not known yet
  std::string method, host, path;  // as the connection manager leaves them
  route::Explanation route;
  std::vector<ExplainedFilter> filters;
  std::string cluster;                    // empty: the request is not forwarded
  LinkedCluster linked;                   // linked.cluster nullptr: there is no such cluster
  std::vector<Member> members;            // of an aggregate cluster
  size_t chosen_member = 0;               // ... the one that takes the request; members.size(): none has a host
  std::optional<ExplainedSubset> subset;  // of target(), if that divides its hosts
  std::vector<ExplainedMirror> mirrors;
  std::string upstream_host, upstream_path;  // as forwarded
  // Where the request goes: the cluster itself, or the member; `cluster` nullptr: nowhere.
  LinkedCluster target() const {
    if (members.empty()) return linked;
    return chosen_member < members.size() ? *members[chosen_member].linked : LinkedCluster{};
  }
  // What the client gets: `status` 0 if the upstream decides.
  uint16_t status = 0;
  std::string details;  // %RESPONSE_CODE_DETAILS%
  std::string outcome;  // one sentence
};

// Refused (kInvalidArgument): no such listener, several and none named, something that is no request.
Result<Explained> explain(std::shared_ptr<const Snapshot> snapshot, const ExplainQuery& query, event::Loop& loop);

}  // namespace outrigger::proxy
