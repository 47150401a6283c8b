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
    for (const Entry& entry : previous->all_) known.emplace(entry.host->text + '\0' + entry.host->hostname, entry.host);

  auto set = std::make_shared<HostSet>();
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
    const auto [at, fresh] = position.emplace(text, set->all_.size());
    if (fresh) {
      set->all_.push_back(entry);
    } else {
      set->all_[at->second] = entry;
    }
  }
  for (const Entry& entry : set->all_)
    if (entry.healthy) set->healthy_.push_back(entry);
  set->panic_ = set->healthy_.size() * 2 < set->all_.size();

  uint32_t largest = 1;
  for (const Entry& entry : set->usable()) largest = std::max(largest, entry.weight);
  for (const Entry& entry : set->usable()) {
    set->equal_weights_ = set->equal_weights_ && entry.weight == set->usable().front().weight;
    const uint64_t scaled = static_cast<uint64_t>(entry.weight) * UINT16_MAX / largest;
    set->strides_.push_back(static_cast<uint16_t>(std::max<uint64_t>(1, scaled)));
  }
  return set;
}

bool HostSet::contains(const Host* host) const {
  return std::any_of(all_.begin(), all_.end(), [&](const Entry& entry) { return entry.host.get() == host; });
}

}  // namespace outrigger::upstream
