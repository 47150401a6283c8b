#include "support/ads/world_ads.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "config/proto_reader.h"

namespace outrigger::test {
namespace {

// In state of the world a response of these types is the full set.
bool is_full_set(const std::string& type_url) { return type_url == kListenerUrl || type_url == kClusterUrl; }

// The value of a top-level key.
std::string value_of(const std::string& yaml, const std::string& key) {
  const size_t at = ("\n" + yaml).find("\n" + key + ": ");
  if (at == std::string::npos) return {};
  const size_t begin = at + key.size() + 2;
  return yaml.substr(begin, yaml.find('\n', begin) - begin);
}

}  // namespace

AdsResource ads_resource(const std::string& yaml) {
  config::Faults faults;
  std::string version;
  config::YamlDocument document;
  CHECK(document.parse(yaml, "resource.yaml", faults));
  const auto read = config::read_resources(document, version, faults);
  CHECK(faults.ok() && read.size() == 1 && read[0].faults.ok());
  const std::string name = value_of(yaml, read[0].type_url == kEndpointsUrl ? "cluster_name" : "name");
  return {read[0].type_url, name, content_hash_hex(read[0].bytes), read[0].bytes};
}

AdsWorld& AdsWorld::with(const std::string& yaml) {
  AdsResource resource = ads_resource(yaml);
  std::string name = resource.name;
  types[resource.type_url].insert_or_assign(std::move(name), std::move(resource));
  return *this;
}

AdsWorld& AdsWorld::without(const std::string& type_url, const std::string& name) {
  types[type_url].erase(name);
  return *this;
}

WorldAds::WorldAds(bool incremental, AdsWorld world, uint16_t port)
    : incremental_(incremental),
      world_(std::move(world)),
      wire_({.incremental = incremental, .port = port, .on_request = [this](ScriptedAds&, const AdsRequest& request) {
               const std::lock_guard lock(mutex_);
               on_request(request);
             }}) {}

void WorldAds::release(const std::string& type_url, const AdsWorld& world) {
  const std::lock_guard lock(mutex_);
  const auto found = world.types.find(type_url);
  world_.types[type_url] = found == world.types.end() ? std::map<std::string, AdsResource>{} : found->second;
  if (states_[type_url].asked) push(type_url, false);
}

bool WorldAds::wait_answered(Milliseconds patience) const {
  return wait_until(
      [this] {
        const std::lock_guard lock(mutex_);
        return std::all_of(states_.begin(), states_.end(), [](const auto& entry) { return entry.second.answered; });
      },
      patience);
}

std::vector<std::string> WorldAds::refusals() const {
  const std::lock_guard lock(mutex_);
  return refusals_;
}

void WorldAds::on_request(const AdsRequest& request) {
  if (request.stream < stream_) return;
  if (request.stream != stream_) states_.clear();
  stream_ = request.stream;
  State& state = states_[request.type_url];
  const bool first = !std::exchange(state.asked, true);
  const bool newest = request.nonce == state.nonce;
  if (!first && newest && !request.nonce.empty()) {
    state.answered = true;
    if (!request.error_detail.empty()) refusals_.push_back(request.error_detail);
    if (!request.error_detail.empty() && resends_refused_) state.sent.clear();
  }
  // In state of the world a request with an old nonce was overtaken by what is on its way.
  if (!incremental_ && !first && !newest) return;
  subscribe(state, request, first);
  push(request.type_url, first && state.wildcard);
}

void WorldAds::subscribe(State& state, const AdsRequest& request, bool first) {
  std::set<std::string> names(request.names.begin(), request.names.end());
  const bool star = names.erase("*") != 0;
  if (incremental_) {
    if (first) state.sent = request.held;
    state.wildcard = state.wildcard || star || (first && names.empty() && is_full_set(request.type_url));
    for (const std::string& name : names) {
      if (!state.names.insert(name).second) state.sent.erase(name);  // asked for again: sent again
    }
    for (const std::string& name : request.unsubscribed) {
      state.names.erase(name);
      state.sent.erase(name);
    }
    return;
  }
  const bool named = star || !names.empty();
  state.wildcard = star || (!named && !state.named && is_full_set(request.type_url));
  state.named = state.named || named;
  if (!state.wildcard) std::erase_if(state.sent, [&](const auto& entry) { return !names.contains(entry.first); });
  state.names = std::move(names);
}

// Sends what the client should have and has not been told.
void WorldAds::push(const std::string& type_url, bool owed) {
  State& state = states_[type_url];
  const auto wanted = [&](const std::string& name) { return state.wildcard || state.names.contains(name); };
  const bool all = !incremental_ && is_full_set(type_url);
  AdsResponse response{.type_url = type_url};
  bool changed = owed;
  const auto& has = world_.types[type_url];
  for (const auto& [name, resource] : has) {
    if (!wanted(name)) continue;
    const auto sent = state.sent.find(name);
    const bool same = sent != state.sent.end() && sent->second == resource.version;
    changed = changed || !same;
    if (all || !same) response.resources.push_back(resource);
    state.sent[name] = resource.version;
  }
  for (auto at = state.sent.begin(); at != state.sent.end();) {
    if (has.contains(at->first)) {
      ++at;
      continue;
    }
    if (incremental_ || all) changed = true;
    if (incremental_) response.removed.push_back(at->first);
    at = state.sent.erase(at);
  }
  if (!changed) return;
  response.version = "v" + std::to_string(++counter_);
  response.nonce = state.nonce = "n" + std::to_string(counter_);
  state.answered = false;
  wire_.send(response, stream_);
}

}  // namespace outrigger::test
