#include "xds/sotw.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace outrigger::xds {
namespace {

constexpr std::array<Type, kTypeCount> kRequestOrder = {Type::kCluster, Type::kEndpoints, Type::kListener,
                                                        Type::kRouteTable};

// Of what a refusal depends on: not the version, which may be a mere time stamp. 0 is kept free for "none".
uint64_t fingerprint(const Response& response) {
  uint64_t hash = 1;
  for (const Resource& resource : response.resources) {
    const uint64_t parts[] = {hash, content_hash(resource.type_url), content_hash(resource.bytes)};
    hash = content_hash(std::string_view(reinterpret_cast<const char*>(parts), sizeof(parts)));
  }
  return hash == 0 ? 1 : hash;
}

}  // namespace

void Sotw::subscribe(Type type, Subscription subscription) {
  std::sort(subscription.names.begin(), subscription.names.end());
  subscription.names.erase(std::unique(subscription.names.begin(), subscription.names.end()), subscription.names.end());
  TypeState& t = at(type);
  if (t.subscribed && t.subscription == subscription) return;
  const bool nothing_yet = t.state == State::kUnasked && !subscription.wildcard && subscription.names.empty();
  t.subscription = std::move(subscription);
  t.subscribed = true;
  // A first request without names would ask for everything (LDS, CDS) or mean nothing (RDS, EDS).
  t.request_due = !nothing_yet;
}

void Sotw::stream_opened() {
  open_ = true;
  node_sent_ = false;
  for (TypeState& t : types_) {
    t.state = State::kUnasked;
    t.nonce.clear();
    t.error_detail.clear();
    t.named_on_stream = false;
    t.judging_id = 0;
    t.request_due = t.subscribed && (t.subscription.wildcard || !t.subscription.names.empty());
  }
}

void Sotw::stream_closed() { open_ = false; }

std::optional<Update> Sotw::receive(Response response) {
  const std::optional<Type> type = find_type(response.type_url);
  if (!type || at(*type).state == State::kUnasked) {
    ++ignored_;
    return std::nullopt;
  }
  TypeState& t = at(*type);
  const uint64_t hash = fingerprint(response);
  t.nonce = response.nonce;
  t.received_version = response.version;
  if (t.state == State::kDelaying && hash == t.refused_hash) {
    ++t.repeated;
    return std::nullopt;
  }
  t.state = State::kJudging;
  t.error_detail.clear();
  t.judging_id = next_id_++;
  ++t.received;
  unjudged_[t.judging_id] = {*type, response.version, hash};

  Update update;
  update.id = t.judging_id;
  update.type = *type;
  update.version = std::move(response.version);
  update.nonce = std::move(response.nonce);
  update.full_set = is_full_set(*type);
  update.resources = std::move(response.resources);
  return update;
}

Sotw::Verdict Sotw::verdict(uint64_t update_id, std::string fault_text, int64_t now_ms) {
  auto found = unjudged_.find(update_id);
  if (found == unjudged_.end()) return {Type::kListener, Judged::kUnknown};
  const Unjudged update = std::move(found->second);
  unjudged_.erase(found);
  TypeState& t = at(update.type);
  const bool latest = t.judging_id == update_id;
  const bool overtaken = update_id < t.last_judged_id;
  t.last_judged_id = std::max(t.last_judged_id, update_id);

  Judged judged = fault_text.empty() ? Judged::kAccepted : Judged::kRefused;
  if (judged == Judged::kAccepted) {
    ++t.accepted;
    if (!overtaken) {
      t.accepted_version = update.version;
      t.refusal.clear();
      t.refused_version.clear();
      t.refused_hash = 0;
      t.refused_in_a_row = 0;
      t.delay_ms = 0;
    }
  } else {
    ++t.rejected;
    if (!overtaken) judged = refuse(t, update, std::move(fault_text), now_ms);
  }
  if (latest) {
    t.judging_id = 0;
    t.request_due = true;
    t.state = judged == Judged::kAccepted || t.delay_ms == 0 ? State::kWaiting : State::kDelaying;
    if (judged != Judged::kAccepted) t.error_detail = t.refusal;
  }
  return {update.type, judged};
}

Sotw::Judged Sotw::refuse(TypeState& t, const Unjudged& update, std::string fault_text, int64_t now_ms) {
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
  t.refusal = std::move(fault_text);
  return again ? Judged::kRefusedAgain : Judged::kRefused;
}

std::optional<Request> Sotw::next_request(int64_t now_ms) {
  if (!open_) return std::nullopt;
  for (Type type : kRequestOrder) {
    TypeState& t = at(type);
    if (!t.request_due || t.state == State::kJudging) continue;
    if (t.state == State::kDelaying && now_ms < t.not_before_ms) continue;
    return make_request(type);
  }
  return std::nullopt;
}

Request Sotw::make_request(Type type) {
  TypeState& t = at(type);
  Request request;
  request.type = type;
  request.version = t.accepted_version;
  request.nonce = t.nonce;
  request.names = t.subscription.names;
  // Once names were sent on this stream, an empty list means none: then all must be said as "*".
  if (t.subscription.wildcard && (!request.names.empty() || t.named_on_stream)) request.names.push_back("*");
  if (!request.names.empty()) t.named_on_stream = true;
  request.error_detail = std::move(t.error_detail);
  t.error_detail.clear();
  request.with_node = !node_sent_ || !options_.node_on_first_message_only;
  node_sent_ = true;
  t.request_due = false;
  t.state = State::kWaiting;
  return request;
}

std::optional<int64_t> Sotw::wake_at_ms() const {
  std::optional<int64_t> at;
  for (const TypeState& t : types_) {
    if (!open_ || t.state != State::kDelaying || !t.request_due) continue;
    if (!at || t.not_before_ms < *at) at = t.not_before_ms;
  }
  return at;
}

}  // namespace outrigger::xds
