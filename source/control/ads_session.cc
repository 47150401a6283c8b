#include "control/ads_session.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "envoy/config/cluster/v3/cluster.pb.h"

namespace outrigger::control {
namespace {

constexpr size_t kMaxAbsentTold = 1'000;  // names that are subscribed to and that nothing has

constexpr std::string_view kClusters = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr std::string_view kEndpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
constexpr std::string_view kSecrets = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
constexpr std::string_view kListeners = "type.googleapis.com/envoy.config.listener.v3.Listener";
constexpr std::string_view kRoutes = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

int rank(std::string_view url) {
  if (url == kClusters) return 0;
  if (url == kEndpoints) return 1;
  if (url == kSecrets) return 2;
  if (url == kListeners) return 3;
  if (url == kRoutes) return 4;
  return 5;
}

// In state of the world, what a reply of these types lacks is deleted.
bool is_full_set(std::string_view url) { return url == kListeners || url == kClusters; }

// `a` and whatever `b` has besides.
std::shared_ptr<const TypeSet> united(const TypeSet& a, const TypeSet& b) {
  std::vector<ResourcePtr> all;
  all.reserve(a.resources.size() + b.resources.size());
  std::set_union(a.resources.begin(), a.resources.end(), b.resources.begin(), b.resources.end(),
                 std::back_inserter(all), [](const ResourcePtr& x, const ResourcePtr& y) { return x->name < y->name; });
  return TypeSet::make(a.type_url, std::move(all));
}

// The name under which the cluster asks for its endpoints; empty: it does not.
std::string endpoints_name(const Resource& resource) {
  envoy::config::cluster::v3::Cluster cluster;
  if (!cluster.ParseFromString(resource.bytes) || !cluster.has_eds_cluster_config()) return {};
  const std::string& service = cluster.eds_cluster_config().service_name();
  return service.empty() ? cluster.name() : service;
}

}  // namespace

AdsSession::TypeState* AdsSession::find(std::string_view url) {
  for (auto& t : types_) {
    if (t->url == url) return t.get();
  }
  return nullptr;
}

AdsSession::TypeState& AdsSession::state(const std::string& url, bool& first) {
  if (TypeState* t = find(url); t != nullptr) return *t;
  first = true;
  auto made = std::make_unique<TypeState>();
  made->url = url;
  const auto at = std::find_if(types_.begin(), types_.end(), [&](auto& t) { return rank(t->url) > rank(url); });
  return **types_.insert(at, std::move(made));
}

std::optional<AdsSession::Verdict> AdsSession::on_request(const DiscoveryRequest& request) {
  overflow_ = overflow_ || (types_.size() >= kMaxTypes && find(request.type_url) == nullptr);
  if (overflow_) return std::nullopt;
  bool first = false;
  TypeState& t = state(request.type_url, first);
  std::optional<Verdict> verdict;
  // A nonce of another stream in a first request is no answer to anything.
  if (!first && !request.nonce.empty()) {
    const bool old = request.nonce != t.last_nonce;
    if (old) ++stale_;
    if (old && !incremental_) return std::nullopt;  // the client will repeat its names with the newest nonce
    if (!old && t.in_flight) verdict = judge(t, request);
  }
  if (incremental_) {
    subscribe_delta(t, request, first);
  } else {
    subscribe_sotw(t, request, first);
  }
  size_t names = 0;
  for (const auto& one : types_) names += one->names.size();
  overflow_ = names > max_names_;
  return verdict;
}

AdsSession::Verdict AdsSession::judge(TypeState& t, const DiscoveryRequest& request) {
  InFlight sent = std::move(*t.in_flight);
  t.in_flight.reset();
  Verdict verdict{!request.error, {t.url, sent.version, sent.nonce, request.error.value_or("")}};
  if (verdict.accepted) {
    ++t.acks;
    t.base = std::move(sent.set);
    t.base_version = std::move(sent.version);
    t.refused_version.clear();
    t.refusal.clear();
  } else {
    ++t.nacks;
    t.refused_version = std::move(sent.version);
    t.refusal = *request.error;
    t.fresh_refused.merge(sent.fresh);
  }
  return verdict;
}

void AdsSession::subscribe_sotw(TypeState& t, const DiscoveryRequest& request, bool first) {
  std::unordered_set<std::string> names(request.subscribe.begin(), request.subscribe.end());
  const bool star = names.erase("*") != 0;
  const bool named = !names.empty() || star;
  const bool wildcard = star || (!named && !t.was_named && is_full_set(t.url));
  t.was_named = t.was_named || named;
  if (wildcard != t.wildcard || names != t.names) {
    for (const std::string& name : names) {
      if (t.names.count(name) == 0) t.fresh.insert(name);
    }
    for (const std::string& name : t.names) {
      if (names.count(name) == 0) t.fresh.erase(name);
    }
    t.wildcard = wildcard;
    t.names = std::move(names);
    t.versioned = nullptr;
  }
  if (!first) return;
  t.owed = is_full_set(t.url) && (t.wildcard || !t.names.empty());
  if (request.version.empty() || snapshot_ == nullptr) return;
  // A version is a hash of what was subscribed to and sent: whoever names it has it.
  const std::shared_ptr<const TypeSet> now = snapshot_->find(t.url);
  if (version_of(t, now) != request.version) return;
  ++resumed_;
  t.base = now;
  t.base_version = request.version;
  t.fresh.clear();
  t.owed = false;
}

void AdsSession::subscribe_delta(TypeState& t, const DiscoveryRequest& request, bool first) {
  const bool legacy_wildcard = first && request.subscribe.empty() && is_full_set(t.url);
  if (legacy_wildcard) t.wildcard = true;
  for (const std::string& name : request.subscribe) {
    if (name == "*") {
      t.wildcard = true;
    } else {
      t.names.insert(name);
      t.fresh.insert(name);
    }
  }
  for (const std::string& name : request.unsubscribe) {
    if (name == "*") {
      t.wildcard = false;
    } else {
      t.names.erase(name);
      t.fresh.erase(name);
    }
  }
  if (!request.subscribe.empty() || !request.unsubscribe.empty() || first) t.versioned = nullptr;
  if (!first || request.known.empty()) return;
  ++resumed_;
  std::vector<ResourcePtr> held;
  for (const auto& [name, version] : request.known) {
    held.push_back(std::make_shared<Resource>(Resource{t.url, name, {}, version}));
    t.fresh.erase(name);
  }
  std::sort(held.begin(), held.end(), [](const ResourcePtr& a, const ResourcePtr& b) { return a->name < b->name; });
  t.base = TypeSet::make(t.url, std::move(held));
  t.owed = false;
}

bool AdsSession::settled(std::string_view url) {
  TypeState* t = find(url);
  if (t == nullptr || (!t->wildcard && t->names.empty())) return true;
  return !t->in_flight && !behind(*t) && t->refused_version.empty();
}

// What the client should have. Clusters that vanish stay until nothing that it was told can name them.
std::shared_ptr<const TypeSet> AdsSession::target(const TypeState& t) {
  std::shared_ptr<const TypeSet> now = snapshot_->find(t.url);
  if (t.url != kClusters || t.base == nullptr || (settled(kListeners) && settled(kRoutes))) return now;
  if (union_ == nullptr || union_of_[0] != now || union_of_[1] != t.base) {
    union_ = united(*now, *t.base);
    union_of_[0] = std::move(now);
    union_of_[1] = t.base;
  }
  return union_;
}

const std::string& AdsSession::version_of(TypeState& t, const std::shared_ptr<const TypeSet>& set) {
  if (t.wildcard) return set->version;
  if (t.versioned == set) return t.version;
  std::string all;
  const auto add = [&](const ResourcePtr& resource) {
    all.append(resource->name).push_back('\0');
    all.append(resource->version);
  };
  if (t.names.size() < set->resources.size() / 16) {
    std::vector<const ResourcePtr*> held;
    for (const std::string& name : t.names) {
      if (const ResourcePtr* resource = set->find(name); resource != nullptr) held.push_back(resource);
    }
    std::sort(held.begin(), held.end(), [](auto* a, auto* b) { return (*a)->name < (*b)->name; });
    for (const ResourcePtr* resource : held) add(*resource);
  } else {
    for (const ResourcePtr& resource : set->resources) {
      if (t.names.count(resource->name) != 0) add(resource);
    }
  }
  t.versioned = set;
  t.version = content_hash_hex(all);
  return t.version;
}

// Whether a reply is due. A difference of which nothing can be told (an endpoint set that is gone, in state of the
// world) is taken over silently.
bool AdsSession::behind(TypeState& t) {
  if (t.in_flight || (!t.wildcard && t.names.empty())) return false;
  if (t.owed) return true;
  const std::shared_ptr<const TypeSet> set = target(t);
  const std::string& version = version_of(t, set);
  const bool differs = t.base_version != version && t.refused_version != version;
  if (!differs && t.fresh.empty()) return false;
  if (!incremental_ && is_full_set(t.url)) return true;
  const DiscoveryReply reply = difference(t, *set);
  if (!reply.resources.empty() || !reply.removed.empty()) return true;
  if (differs) {
    t.base = set;
    t.base_version = version;
  }
  return false;
}

// What a reply has to say, besides its name and number.
DiscoveryReply AdsSession::difference(const TypeState& t, const TypeSet& set) const {
  DiscoveryReply reply;
  const bool all = !incremental_ && is_full_set(t.url);
  const auto held = [&](const Resource& resource) {
    const ResourcePtr* old = t.base != nullptr ? t.base->find(resource.name) : nullptr;
    return old != nullptr && (*old)->version == resource.version;
  };
  const auto consider = [&](const ResourcePtr& resource) {
    const bool fresh = t.fresh.count(resource->name) != 0 || t.fresh_refused.count(resource->name) != 0;
    const bool has = held(*resource);
    if (!all && !fresh && has) return;
    reply.resources.push_back(resource);
    if (has) ++reply.repeated;
  };
  if (t.wildcard || t.names.size() >= set.resources.size() / 16) {
    for (const ResourcePtr& resource : set.resources) {
      if (t.wants(resource->name)) consider(resource);
    }
  } else {
    for (const std::string& name : t.names) {
      if (const ResourcePtr* resource = set.find(name); resource != nullptr) consider(*resource);
    }
  }
  if (!incremental_) return reply;
  if (t.base != nullptr) {
    for (const ResourcePtr& old : t.base->resources) {
      if (t.wants(old->name) && set.find(old->name) == nullptr) reply.removed.push_back(old->name);
    }
  }
  for (const std::string& name : t.fresh) {
    const bool said = t.base != nullptr && t.base->find(name) != nullptr;
    if (!said && set.find(name) == nullptr) reply.removed.push_back(name);
  }
  return reply;
}

// Endpoints of clusters that the client is about to be told a change of.
void AdsSession::refresh_endpoints_of(const TypeState& clusters, const TypeSet& now) {
  TypeState* endpoints = find(kEndpoints);
  if (endpoints == nullptr || clusters.base == nullptr) return;
  for (const ResourcePtr& cluster : now.resources) {
    const ResourcePtr* old = clusters.base->find(cluster->name);
    if (old == nullptr || (*old)->version == cluster->version || !clusters.wants(cluster->name)) continue;
    const std::string name = endpoints_name(*cluster);
    if (endpoints->names.count(name) != 0) endpoints->fresh.insert(name);
  }
}

DiscoveryReply AdsSession::build(TypeState& t) {
  const std::shared_ptr<const TypeSet> set = target(t);
  DiscoveryReply reply = difference(t, *set);
  reply.type_url = t.url;
  reply.version = version_of(t, set);
  if (reply.resources.size() == set->resources.size() && set == snapshot_->find(t.url)) reply.whole = set;
  reply.nonce = std::to_string(next_nonce_++);
  InFlight sent{reply.nonce, reply.version, set, std::move(t.fresh_refused)};
  t.fresh_refused.clear();
  // In state of the world, names that do not exist yet stay owed.
  for (auto at = t.fresh.begin(); at != t.fresh.end();) {
    const bool told = incremental_ || is_full_set(t.url) || set->find(*at) != nullptr;
    if (told) sent.fresh.insert(*at);
    at = told ? t.fresh.erase(at) : std::next(at);
  }
  if (t.url == kClusters) refresh_endpoints_of(t, *set);
  t.owed = false;
  t.last_nonce = reply.nonce;
  t.sent_version = reply.version;
  t.in_flight = std::move(sent);
  return reply;
}

std::optional<DiscoveryReply> AdsSession::next_reply() {
  if (snapshot_ == nullptr) return std::nullopt;
  bool answering = false;  // clusters, endpoints or secrets
  for (auto& t : types_) {
    const int place = rank(t->url);
    const bool waits = answering && (place == 3 || place == 4) && !t->base_version.empty();
    if (!waits && behind(*t)) return build(*t);
    if (place < 3 && t->in_flight) answering = true;
  }
  return std::nullopt;
}

std::vector<ClientTypeStatus> AdsSession::status(bool with_resources) {
  std::vector<ClientTypeStatus> all;
  for (const auto& t : types_) {
    ClientTypeStatus& one = all.emplace_back();
    one.type_url = t->url;
    one.wildcard = t->wildcard;
    one.names = t->names.size();
    one.sent_version = t->sent_version;
    one.acked_version = t->base_version;
    one.refused_version = t->refused_version;
    one.refusal = t->refusal;
    one.awaiting_answer = t->in_flight.has_value();
    one.acks = t->acks;
    one.nacks = t->nacks;
    // A served version that goes back to what the client has needs no answer, even after a refusal.
    one.in_sync = snapshot_ != nullptr && !t->in_flight && !behind(*t) && !refuses_served(*t);
    if (with_resources && snapshot_ != nullptr) one.resources = resources_of(*t);
  }
  return all;
}

bool AdsSession::refuses_served(TypeState& t) {
  return !t.refused_version.empty() && t.refused_version == version_of(t, target(t));
}

std::vector<ClientResourceStatus> AdsSession::resources_of(TypeState& t) {
  using State = ClientResourceStatus::State;
  std::vector<ClientResourceStatus> all;
  const std::shared_ptr<const TypeSet> served = snapshot_->find(t.url);
  const bool refused = refuses_served(t);
  for (const ResourcePtr& resource : served->resources) {
    if (!t.wants(resource->name)) continue;
    const ResourcePtr* has = t.base == nullptr ? nullptr : t.base->find(resource->name);
    const bool same = has != nullptr && (*has)->version == resource->version;
    const State state = same             ? State::kSynced
                        : refused        ? State::kRefused
                        : has != nullptr ? State::kStale
                                         : State::kNotSent;
    all.push_back({resource->name, has == nullptr ? "" : (*has)->version, state});
  }
  for (const std::string& name : t.names) {
    if (served->find(name) == nullptr && all.size() < served->resources.size() + kMaxAbsentTold)
      all.push_back({name, "", State::kDoesNotExist});
  }
  std::sort(all.begin(), all.end(), [](const auto& x, const auto& y) { return x.name < y.name; });
  return all;
}

}  // namespace outrigger::control
