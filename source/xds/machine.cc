#include "xds/machine.h"

#include <algorithm>
#include <unordered_set>

#include "base/hash.h"

namespace outrigger::xds {

uint64_t fingerprint(const Response& response) {
  if (response.hash != 0) return response.hash;
  uint64_t hash = 1;
  const auto add = [&](std::string_view a, std::string_view b) {
    const uint64_t parts[] = {hash, content_hash(a), content_hash(b)};
    hash = content_hash(std::string_view(reinterpret_cast<const char*>(parts), sizeof(parts)));
  };
  for (const Resource& resource : response.resources) add(resource.type_url, resource.bytes);
  for (const std::string& name : response.removed) add("", name);
  return hash == 0 ? 1 : hash;
}

void normalise(Subscription& subscription) {
  std::vector<std::string>& names = subscription.names;
  if (!std::is_sorted(names.begin(), names.end())) std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

void Machine::stream_opened() {
  open_ = true;
  node_sent_ = false;
  ++stream_;
  for (Type type : kRequestOrder) {
    at(type).state = State::kUnasked;
    at(type).nonce.clear();
    on_stream_opened(type);
  }
}

std::optional<Type> Machine::type_of(const Response& response) {
  const std::optional<Type> type = find_type(response.type_url);
  if (type && at(*type).state != State::kUnasked) return type;
  ++ignored_;
  return std::nullopt;
}

Update Machine::hand_up(Type type, uint64_t hash, Response response) {
  TypeState& t = at(type);
  t.state = State::kJudging;
  ++t.received;
  Update update;
  update.id = next_id_++;
  update.type = type;
  update.version = response.version;
  update.nonce = response.nonce;
  update.removed = response.removed;
  Unjudged& noted = unjudged_[update.id];
  noted = {type, std::move(response.version), hash, stream_, std::move(response.nonce), {}, {}, {}};
  noted.removed = std::move(response.removed);
  for (Resource& resource : response.resources) {
    if (!resource.name.empty()) noted.ttls.push_back({resource.name, resource.ttl_ms, resource.heartbeat});
    if (resource.heartbeat) {
      if (!resource.name.empty()) update.kept.push_back(std::move(resource.name));
    } else {
      if (!resource.name.empty()) noted.versions.emplace_back(resource.name, resource.version);
      update.resources.push_back(std::move(resource));
    }
  }
  return update;
}

std::optional<Machine::Unjudged> Machine::take_unjudged(uint64_t update_id) {
  auto found = unjudged_.extract(update_id);
  if (found.empty()) return std::nullopt;
  return std::move(found.mapped());
}

Machine::Judged Machine::refuse(TypeState& t, const Unjudged& update, std::string text, int64_t now_ms) {
  const bool again = t.refused_hash == update.hash;
  ++t.refused_in_a_row;
  if (again || t.refused_in_a_row > kFreeRefusals) {
    t.delay_ms = std::min(std::max(t.delay_ms * 2, options_.refused_again_initial_ms), options_.refused_again_max_ms);
  } else {
    t.delay_ms = 0;
  }
  t.not_before_ms = now_ms + static_cast<int64_t>(t.delay_ms);
  t.refused_hash = update.hash;
  t.refused_version = update.version;
  t.refusal = std::move(text);
  return again ? Judged::kRefusedAgain : Judged::kRefused;
}

void Machine::absolve(TypeState& t) {
  t.refusal.clear();
  t.refused_version.clear();
  t.refused_hash = 0;
  t.refused_in_a_row = 0;
  t.delay_ms = 0;
}

void Machine::keep_time(const Unjudged& update, const std::vector<std::string>& refused, int64_t now_ms) {
  for (const std::string& name : update.removed) ttls_.clear(update.type, name);
  const std::unordered_set<std::string_view> not_taken(refused.begin(), refused.end());
  for (const NamedTtl& one : update.ttls) {
    // A heartbeat, and a version that was refused, prolong the life of the version that we have.
    const bool of_old = one.heartbeat || not_taken.contains(one.name);
    if (of_old && !ttls_.has(update.type, one.name)) continue;
    if (one.ttl_ms > 0) {
      ttls_.set(update.type, one.name, now_ms + static_cast<int64_t>(one.ttl_ms));
    } else {
      ttls_.clear(update.type, one.name);
    }
  }
}

bool Machine::wants(const TypeState& t, const std::string& name) {
  const std::vector<std::string>& names = t.subscription.names;
  return t.subscription.wildcard || std::binary_search(names.begin(), names.end(), name);
}

std::vector<Update> Machine::expire(int64_t now_ms) {
  std::vector<Update> updates;
  for (const auto& [type, name] : ttls_.expire(now_ms)) {
    if (!wants(at(type), name)) continue;
    const auto same = std::find_if(updates.begin(), updates.end(), [t = type](const Update& u) { return u.type == t; });
    Update& update = same != updates.end() ? *same : updates.emplace_back();
    update.type = type;
    update.version = at(type).accepted_version;
    update.removed.push_back(name);
    on_expired(type, name);
  }
  return updates;
}

std::optional<int64_t> Machine::wake_at_ms(bool can_send) const {
  std::optional<int64_t> at = ttls_.next_ms();
  for (const TypeState& t : types_) {
    if (!open_ || !can_send || t.state != State::kDelaying) continue;
    if (!at || t.not_before_ms < *at) at = t.not_before_ms;
  }
  return at;
}

bool Machine::with_node() {
  const bool with = !node_sent_ || !options_.node_on_first_message_only;
  node_sent_ = true;
  return with;
}

}  // namespace outrigger::xds
