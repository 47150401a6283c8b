#include "server/dns_refresher.h"

#include <algorithm>

#include "base/log.h"
#include "event/timer.h"
#include "net/connect_race.h"

namespace outrigger::server {
namespace {

using config::AddressSpec;
using config::EndpointSpec;

net::Resolver::Family family(config::ClusterSpec::DnsFamily from) {
  using From = config::ClusterSpec::DnsFamily;
  using To = net::Resolver::Family;
  switch (from) {
    case From::kAuto:
      return To::kAuto;
    case From::kV4Only:
      return To::kV4Only;
    case From::kV6Only:
      return To::kV6Only;
    case From::kV4Preferred:
      return To::kV4Preferred;
    case From::kAll:
      return To::kAll;
  }
  return To::kAuto;
}

AddressSpec literal(const net::Address& address, uint16_t port) {
  return {.kind = AddressSpec::Kind::kIp, .host = address.ip(), .port = port};
}

// One host with all the addresses of its name, in the order of the answer.
EndpointSpec logical_host(const EndpointSpec& from, const std::vector<net::Address>& addresses) {
  EndpointSpec to = from;
  to.address = literal(addresses.front(), from.address.port);
  config::EndpointAddressesSpec all{.more = {}, .name = from.address.host + ':' + std::to_string(from.address.port)};
  const size_t count = std::min(addresses.size(), net::kMaxAttempts);
  for (size_t i = 1; i < count; ++i) all.more.push_back(literal(addresses[i], from.address.port));
  to.addresses = std::move(all);
  return to;
}

}  // namespace

struct DnsRefresher::Target : std::enable_shared_from_this<Target> {
  Target(DnsRefresher& o, DnsTarget s) : owner(o), spec(std::move(s)), addresses(spec.endpoints.size()) {}

  DnsRefresher& owner;
  const DnsTarget spec;
  std::vector<std::vector<net::Address>> addresses;  // by endpoint; of the last answer
  std::vector<EndpointSpec> told;
  bool told_once = false;
  bool failing = false;
  size_t pending = 0;
  uint64_t ttl_ms = 0;  // the smallest of this round; 0: unknown
  event::Timeout timer{[](void* self) {
                         auto* target = static_cast<Target*>(self);
                         target->owner.resolve(target->shared_from_this());
                       },
                       this};
};

DnsRefresher::DnsRefresher(event::Loop& loop, stats::Registry& stats, OnResolved on_resolved,
                           const net::ResolverOptions& options)
    : loop_(loop),
      stats_(stats),
      group_(stats, {}),
      total_(group_.counter("dns.resolve_total")),
      failed_(group_.counter("dns.resolve_failure")),
      on_resolved_(std::move(on_resolved)),
      resolver_(loop, options) {}

DnsRefresher::~DnsRefresher() = default;

void DnsRefresher::want(const std::vector<DnsTarget>& targets) {
  std::map<std::string, std::shared_ptr<Target>> before = std::move(targets_);
  targets_.clear();
  std::vector<std::shared_ptr<Target>> fresh;
  for (const DnsTarget& target : targets) {
    auto known = before.find(target.cluster);
    if (known != before.end() && known->second->spec == target) {
      targets_.insert(*known);
      continue;
    }
    fresh.push_back(targets_.emplace(target.cluster, std::make_shared<Target>(*this, target)).first->second);
  }
  for (const auto& target : fresh) resolve(target);
}

void DnsRefresher::resolve(const std::shared_ptr<Target>& target) {
  target->ttl_ms = 0;
  const std::weak_ptr<Target> weak = target;
  for (size_t i = 0; i < target->spec.endpoints.size(); ++i) {
    const AddressSpec& address = target->spec.endpoints[i].address;
    if (address.kind != AddressSpec::Kind::kHostname) continue;
    ++target->pending;
    stats_.add(total_);
    resolver_.resolve(address.host, family(target->spec.family), [this, weak, i](Result<net::Resolved> answer) {
      if (auto held = weak.lock()) answered(*held, i, std::move(answer));
    });
  }
  if (target->pending == 0) tell(*target);
}

void DnsRefresher::answered(Target& target, size_t endpoint, Result<net::Resolved> answer) {
  if (answer) {
    target.addresses[endpoint] = std::move(answer->addresses);
    if (answer->ttl_ms != 0)
      target.ttl_ms = target.ttl_ms == 0 ? answer->ttl_ms : std::min(target.ttl_ms, answer->ttl_ms);
    target.failing = false;
  } else {
    stats_.add(failed_);
    if (!std::exchange(target.failing, true))
      OUTRIGGER_LOG(kWarning, "dns", "cluster {}: {}", target.spec.cluster, answer.error().detail);
  }
  if (--target.pending == 0) tell(target);
}

void DnsRefresher::tell(Target& target) {
  std::vector<EndpointSpec> endpoints;
  for (size_t i = 0; i < target.spec.endpoints.size(); ++i) {
    const EndpointSpec& from = target.spec.endpoints[i];
    if (from.address.kind != AddressSpec::Kind::kHostname) {
      endpoints.push_back(from);
      continue;
    }
    const size_t first = endpoints.size();
    if (target.spec.logical) {
      if (!target.addresses[i].empty()) endpoints.push_back(logical_host(from, target.addresses[i]));
    } else {
      for (const net::Address& address : target.addresses[i])
        endpoints.emplace_back(from).address = literal(address, from.address.port);
    }
    for (size_t at = first; at < endpoints.size(); ++at)
      if (endpoints[at].hostname.empty()) endpoints[at].hostname = from.address.host;
  }
  const bool use_ttl = target.spec.respect_ttl && target.ttl_ms != 0;
  loop_.timers().arm(target.timer, std::max<uint64_t>(1, use_ttl ? target.ttl_ms : target.spec.refresh_ms));
  // Servers rotate their answers: the same set in another order is no news.
  const auto by_address = [](const EndpointSpec& a, const EndpointSpec& b) {
    return std::tie(a.address.host, a.address.port) < std::tie(b.address.host, b.address.port);
  };
  std::sort(endpoints.begin(), endpoints.end(), by_address);
  if (std::exchange(target.told_once, true) && endpoints == target.told) return;
  target.told = endpoints;
  on_resolved_(target.spec.cluster, std::move(endpoints));
}

}  // namespace outrigger::server
