#include "upstream/host.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/check.h"
#include "upstream/priority_load.h"
#include "upstream/subsets.h"

namespace outrigger::upstream {
namespace {

net::Address to_address(const config::AddressSpec& spec) {
  auto parsed = spec.kind == config::AddressSpec::Kind::kPipe ? net::Address::unix_path(spec.host)
                                                              : net::Address::parse(spec.host, spec.port);
  CHECK(parsed.has_value());  // translation has parsed it once already
  return *parsed;
}

// nullptr: checks find the host where requests do, and call it as the cluster's health check says.
std::unique_ptr<const HostCheck> host_check(const config::EndpointSpec& endpoint, const net::Address& address) {
  if (!endpoint.check) return nullptr;
  HostCheck check{.address = address, .hostname = endpoint.check->hostname};
  if (endpoint.check->address) check.address = to_address(*endpoint.check->address);
  if (endpoint.check->port != 0 && address.is_ip()) check.address = address.with_port(endpoint.check->port);
  if (endpoint.addresses && !endpoint.check->address) {
    if (check.hostname.empty()) return nullptr;
    check.address = {};
  } else if (check.address == address && check.hostname.empty()) {
    return nullptr;
  }
  return std::make_unique<const HostCheck>(std::move(check));
}

// Those that the host had before, if they are the same.
std::shared_ptr<const HostAddresses> host_addresses(const config::EndpointSpec& endpoint, const net::Address& main,
                                                    const net::AttemptOrder& order,
                                                    std::shared_ptr<const HostAddresses> before) {
  if (!endpoint.addresses) return nullptr;
  HostAddresses now{.attempts = {main}, .main = main, .check = main, .text = main.str()};
  for (const config::AddressSpec& more : endpoint.addresses->more) {
    const net::Address address = to_address(more);
    if (std::find(now.attempts.begin(), now.attempts.end(), address) == now.attempts.end())
      now.attempts.push_back(address);
  }
  now.attempts = net::attempt_order(now.attempts, order);
  if (endpoint.check && endpoint.check->port != 0) now.check = main.with_port(endpoint.check->port);
  if (before != nullptr && *before == now) return before;
  return std::make_shared<const HostAddresses>(std::move(now));
}

std::string identity(const std::string& text, const std::string& hostname, const HostCheck* check) {
  std::string key = text + '\0' + hostname;
  if (check != nullptr) key += '\0' + check->address.str() + '\0' + check->hostname;
  return key;
}

static_assert(sizeof(HostEntry) == 24 + sizeof(HostEntry::addresses));  // metadata costs nothing where there is none

// Gives each different value a number.
class MetadataTable {
 public:
  explicit MetadataTable(std::vector<ByValue<Metadata>>& values) : values_(values) {}
  uint32_t number(const ByValue<Metadata>& value) {
    constexpr size_t kMost = (1u << 24) - 1;
    if (!value || values_.size() == kMost) return 0;
    const auto [at, fresh] = numbers_.emplace(value.get(), values_.size() + 1);
    if (fresh) values_.push_back(value);
    return static_cast<uint32_t>(at->second);
  }

 private:
  std::vector<ByValue<Metadata>>& values_;
  std::unordered_map<const Metadata*, size_t> numbers_;
};

}  // namespace

HostSet::HostSet() = default;
HostSet::~HostSet() = default;

std::shared_ptr<const HostSet> HostSet::compile(const std::vector<config::EndpointSpec>& endpoints,
                                                const HostSet* previous, const HostSetOptions& options) {
  struct Known {
    std::shared_ptr<Host> host;
    std::shared_ptr<const HostAddresses> addresses;
  };
  std::unordered_map<std::string, Known> known;
  if (previous != nullptr)
    for (const Entry& entry : previous->all())
      known.emplace(identity(entry.host->text, entry.host->hostname, entry.host->check.get()),
                    Known{entry.host, entry.addresses});

  auto set = std::make_shared<HostSet>();
  set->options_ = options;
  std::vector<Entry>& all = set->all_.entries;
  all.reserve(endpoints.size());
  MetadataTable metadata(set->metadata_);
  std::unordered_map<std::string, size_t> position;
  std::unordered_set<std::string> draining;
  for (const config::EndpointSpec& endpoint : endpoints) {
    const net::Address address = to_address(endpoint.address);
    const bool named = endpoint.addresses && !endpoint.addresses->name.empty();
    const std::string text = named ? endpoint.addresses->name : address.str();
    if (endpoint.draining) {
      draining.insert(text);
      continue;
    }
    std::unique_ptr<const HostCheck> check = host_check(endpoint, address);
    auto& [host, addresses] = known[identity(text, endpoint.hostname, check.get())];
    addresses = host_addresses(endpoint, address, options.order, std::move(addresses));
    if (host == nullptr) {
      host = std::make_shared<Host>();
      host->address = address;
      host->text = text;
      host->hostname = endpoint.hostname;
      host->check = std::move(check);
    }
    const bool disabled = endpoint.check && endpoint.check->disabled;
    const Entry entry{.host = host,
                      .weight = std::max(1u, endpoint.weight),
                      .healthy = endpoint.healthy,
                      .checked = options.checked && !disabled,
                      .metadata = metadata.number(endpoint.metadata),
                      .addresses = addresses};
    const auto [at, fresh] = position.emplace(text, all.size());
    if (fresh) {
      all.push_back(entry);
    } else {
      all[at->second] = entry;
    }
  }
  if (options.keep_healthy && previous != nullptr) {
    for (const Entry& entry : previous->all()) {
      if (!entry.checked || !entry.usable() || draining.contains(entry.host->text)) continue;
      if (!position.emplace(entry.host->text, all.size()).second) continue;
      all.push_back(entry);
      all.back().removed = true;
      if (entry.metadata != 0) all.back().metadata = metadata.number(previous->metadata_[entry.metadata - 1]);
    }
  }
  set->always_healthy_ =
      std::all_of(all.begin(), all.end(), [](const Entry& entry) { return entry.healthy && !entry.checked; });
  set->all_.weigh();
  if (options.subsets) set->subsets_ = Subsets::compile(options.subsets, set->all_, set->metadata_);
  return set;
}

std::shared_ptr<const HostSet> HostSet::of_members(std::vector<Name> members) {
  auto set = std::make_shared<HostSet>();
  set->members_ = std::move(members);
  return set;
}

const net::Address& HostEntry::check_address() const {
  if (host->check != nullptr && host->check->address.valid()) return host->check->address;
  return addresses == nullptr ? host->address : addresses->check;
}

void HostChoices::weigh() {
  uint32_t largest = 1;
  strides.clear();
  strides.reserve(entries.size());
  equal_weights = true;
  for (const HostEntry& entry : entries) largest = std::max(largest, entry.weight);
  for (const HostEntry& entry : entries) {
    equal_weights = equal_weights && entry.weight == entries.front().weight;
    const uint64_t scaled = static_cast<uint64_t>(entry.weight) * UINT16_MAX / largest;
    strides.push_back(static_cast<uint16_t>(std::max<uint64_t>(1, scaled)));
  }
}

size_t HostChoices::healthy_count() const {
  return static_cast<size_t>(
      std::count_if(entries.begin(), entries.end(), [](const HostEntry& entry) { return entry.usable(); }));
}

size_t HostSet::healthy_count() const { return always_healthy_ ? all().size() : all_.healthy_count(); }

bool HostSet::none_unchecked() const {
  return std::none_of(all().begin(), all().end(), [](const Entry& entry) {
    return entry.checked && (entry.host->health.load(std::memory_order_acquire) & kNotChecked) != 0;
  });
}

bool HostSet::any_removed_failed() const {
  return std::any_of(all().begin(), all().end(),
                     [](const Entry& entry) { return entry.removed && entry.host->failed_check(); });
}

bool HostSet::contains(const Host* host) const {
  return std::any_of(all().begin(), all().end(), [&](const Entry& entry) { return entry.host.get() == host; });
}

bool in_panic(size_t healthy, size_t total, uint8_t panic_percent) {
  return kBearablePercent * healthy < 100 * total && below_panic_threshold(healthy, total, panic_percent);
}

void HostView::look(const HostChoices& all, size_t healthy_count) {
  all_ = &all;
  healthy_ = {};
  all_healthy_ = healthy_count == all.entries.size();
  if (all_healthy_) return;
  for (const HostEntry& entry : all.entries)
    if (entry.usable()) healthy_.entries.push_back(entry);
  // (One that has failed since it was counted is missed: then the epoch has moved, too.)
  healthy_.weigh();
}

}  // namespace outrigger::upstream
