#include "upstream/host.h"

#include <algorithm>
#include <unordered_map>

#include "base/check.h"

namespace outrigger::upstream {
namespace {

net::Address to_address(const config::AddressSpec& spec) {
  auto parsed = spec.kind == config::AddressSpec::Kind::kPipe ? net::Address::unix_path(spec.host)
                                                              : net::Address::parse(spec.host, spec.port);
  CHECK(parsed.has_value());  // translation has parsed it once already
  return *parsed;
}

}  // namespace

std::shared_ptr<const HostSet> HostSet::compile(const std::vector<config::EndpointSpec>& endpoints,
                                                const HostSet* previous) {
  std::unordered_map<std::string, std::shared_ptr<Host>> known;
  if (previous != nullptr)
    for (const Entry& entry : previous->all())
      known.emplace(entry.host->text + '\0' + entry.host->hostname, entry.host);

  auto set = std::make_shared<HostSet>();
  set->all_.entries.reserve(endpoints.size());
  std::unordered_map<std::string, size_t> position;
  for (const config::EndpointSpec& endpoint : endpoints) {
    if (endpoint.draining) continue;
    const net::Address address = to_address(endpoint.address);
    const std::string text = address.str();
    const std::string key = text + '\0' + endpoint.hostname;
    std::shared_ptr<Host>& host = known[key];
    if (host == nullptr) {
      host = std::make_shared<Host>();
      host->address = address;
      host->text = text;
      host->hostname = endpoint.hostname;
    }
    const Entry entry{host, std::max(1u, endpoint.weight), endpoint.healthy};
    std::vector<Entry>& all = set->all_.entries;
    const auto [at, fresh] = position.emplace(text, all.size());
    if (fresh) {
      all.push_back(entry);
    } else {
      all[at->second] = entry;
    }
  }
  const auto healthy = static_cast<size_t>(
      std::count_if(set->all().begin(), set->all().end(), [](const Entry& entry) { return entry.healthy; }));
  set->all_healthy_ = healthy == set->all().size();
  set->panic_ = healthy * 2 < set->all().size();
  if (!set->all_healthy_) {
    set->healthy_.entries.reserve(healthy);
    for (const Entry& entry : set->all())
      if (entry.healthy) set->healthy_.entries.push_back(entry);
    set->healthy_.weigh();
  }
  if (set->panic_ || set->all_healthy_) set->all_.weigh();
  return set;
}

std::shared_ptr<const HostSet> HostSet::of_members(std::vector<Name> members) {
  auto set = std::make_shared<HostSet>();
  set->members_ = std::move(members);
  return set;
}

void HostSet::Choices::weigh() {
  uint32_t largest = 1;
  strides.reserve(entries.size());
  for (const Entry& entry : entries) largest = std::max(largest, entry.weight);
  for (const Entry& entry : entries) {
    equal_weights = equal_weights && entry.weight == entries.front().weight;
    const uint64_t scaled = static_cast<uint64_t>(entry.weight) * UINT16_MAX / largest;
    strides.push_back(static_cast<uint16_t>(std::max<uint64_t>(1, scaled)));
  }
}

bool HostSet::contains(const Host* host) const {
  return std::any_of(all().begin(), all().end(), [&](const Entry& entry) { return entry.host.get() == host; });
}

}  // namespace outrigger::upstream
