// DnsRefresher: keeps the addresses of clusters by DNS current. Each name is looked up at once and again after its
// cluster's dns_refresh_rate (or the answer's TTL, with respect_dns_ttl); a name that fails keeps its last addresses.
// A cluster is told when all its names have been tried; the first time in any case, so that it warms.
//
// Thread rule: its loop's thread; made and destroyed there too.
// Use:  DnsRefresher dns(loop, stats, [&](const std::string& cluster, std::vector<EndpointSpec> e) { ... });
//       dns.want(targets);
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "event/loop.h"
#include "net/resolver.h"
#include "server/builder.h"
#include "stats/stats.h"

namespace outrigger::server {

class DnsRefresher {
 public:
  using OnResolved = std::function<void(const std::string& cluster, std::vector<config::EndpointSpec> endpoints)>;
  DnsRefresher(event::Loop& loop, stats::Registry& stats, OnResolved on_resolved,
               const net::ResolverOptions& options = {});
  ~DnsRefresher();
  DnsRefresher(const DnsRefresher&) = delete;
  DnsRefresher& operator=(const DnsRefresher&) = delete;

  // All that is wanted now; a target that did not change goes on as it was.
  void want(const std::vector<DnsTarget>& targets);

 private:
  struct Target;
  void resolve(const std::shared_ptr<Target>& target);
  void answered(Target& target, size_t endpoint, Result<net::Resolved> answer);
  void tell(Target& target);

  event::Loop& loop_;
  stats::Registry& stats_;
  stats::Group group_;
  const stats::Counter total_, failed_;
  OnResolved on_resolved_;
  net::Resolver resolver_;
  std::map<std::string, std::shared_ptr<Target>> targets_;
};

}  // namespace outrigger::server
