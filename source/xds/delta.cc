#include "xds/delta.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>
#include <vector>

namespace outrigger::xds {
namespace {

std::vector<std::string> told_names(const Subscription& subscription) {
  std::vector<std::string> names = subscription.names;
  if (subscription.wildcard) names.push_back("*");
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> missing_in(const std::vector<std::string>& other, const std::vector<std::string>& names) {
  std::vector<std::string> missing;
  std::set_difference(names.begin(), names.end(), other.begin(), other.end(), std::back_inserter(missing));
  return missing;
}

std::vector<std::string> drained(std::set<std::string>& names) {
  std::vector<std::string> out;
  out.reserve(names.size());
  while (!names.empty()) out.push_back(std::move(names.extract(names.begin()).value()));
  return out;
}

}  // namespace

// No server's version is empty, so it sends what it has.
void Delta::claim(Type type, const std::vector<std::string>& names) {
  for (const std::string& name : names) own_[index(type)].held.emplace(name, "");
}

void Delta::subscribe(Type type, Subscription subscription) {
  normalise(subscription);
  TypeState& t = at(type);
  Own& own = own_[index(type)];
  if (t.subscribed && t.subscription == subscription) return;
  const std::vector<std::string> before = told_names(t.subscription), now = told_names(subscription);
  t.subscription = std::move(subscription);
  t.subscribed = true;
  for (const std::string& name : missing_in(before, now)) {
    own.unsubscribe.erase(name);
    own.subscribe.insert(name);
  }
  for (const std::string& name : missing_in(now, before)) {
    own.subscribe.erase(name);
    own.unsubscribe.insert(name);
    if (wants(t, name)) continue;
    own.held.erase(name);
    own.refused.erase(name);
  }
  if (own.unsubscribe.contains("*")) {
    std::erase_if(own.held, [&](const auto& entry) { return !wants(t, entry.first); });
    std::erase_if(own.refused, [&](const std::string& name) { return !wants(t, name); });
  }
}

void Delta::on_stream_opened(Type type) {
  Own& own = own_[index(type)];
  own.answers.clear();
  own.held_back.reset();
  own.judging = 0;
}

std::optional<Update> Delta::receive(Response response) {
  const std::optional<Type> type = type_of(response);
  if (!type) return std::nullopt;
  TypeState& t = at(*type);
  Own& own = own_[index(*type)];
  const uint64_t hash = fingerprint(response);
  t.nonce = response.nonce;
  t.received_version = response.version;
  if (own.held_back && hash == t.refused_hash) {
    ++t.repeated;
    own.held_back->nonce = std::move(response.nonce);
    return std::nullopt;
  }
  ++own.judging;
  return hand_up(*type, hash, std::move(response));
}

// What we hold after the update, and which names are still refused.
void Delta::take(const Unjudged& update, const Refusal& refusal) {
  const TypeState& t = at(update.type);
  Own& own = own_[index(update.type)];
  for (const std::string& name : update.removed) {
    own.held.erase(name);
    own.refused.erase(name);
  }
  const std::unordered_set<std::string_view> not_taken(refusal.names.begin(), refusal.names.end());
  for (const auto& [name, version] : update.versions) {
    if (not_taken.contains(name) || !wants(t, name)) continue;
    own.held[name] = version;
    own.refused.erase(name);
  }
  for (const std::string& name : refusal.names) {
    if (own.refused.size() < kMaxRefusedNames && wants(t, name)) own.refused.insert(name);
  }
}

Machine::Verdict Delta::verdict(uint64_t update_id, Refusal refusal, int64_t now_ms) {
  const std::optional<Unjudged> taken = take_unjudged(update_id);
  if (!taken) return {Type::kListener, Judged::kUnknown};
  const Unjudged& update = *taken;
  TypeState& t = at(update.type);
  take(update, refusal);
  keep_time(update, refusal.names, now_ms);
  Judged judged = Judged::kAccepted;
  if (refusal.text.empty()) {
    ++t.accepted;
    t.accepted_version = update.version;
    Own& own = own_[index(update.type)];
    if (own.refused.empty()) {
      absolve(t);
      // What was held back has no reason to wait any more.
      if (own.held_back) own.answers.push_back(std::move(*own.held_back));
      own.held_back.reset();
    }
  } else {
    ++t.rejected;
    judged = refuse(t, update, std::move(refusal.text), now_ms);
  }
  if (update.stream == stream_) answer(update, judged);
  settle(update.type);
  return {update.type, judged};
}

void Delta::answer(const Unjudged& update, Judged judged) {
  const TypeState& t = at(update.type);
  Own& own = own_[index(update.type)];
  --own.judging;
  if (judged == Judged::kAccepted) {
    own.answers.push_back({update.nonce, {}});
  } else if (t.delay_ms == 0) {
    own.answers.push_back({update.nonce, t.refusal});
  } else {
    own.held_back = Answer{update.nonce, t.refusal};
  }
}

void Delta::settle(Type type) {
  if (at(type).state == State::kUnasked) return;
  const Own& own = own_[index(type)];
  at(type).state = own.judging > 0 ? State::kJudging : own.held_back ? State::kDelaying : State::kWaiting;
}

size_t Delta::unjudged() const {
  size_t count = unjudged_.size();
  for (const Own& own : own_) count += own.answers.size();
  return count;
}

std::optional<Request> Delta::next_request(int64_t now_ms) {
  if (!open_) return std::nullopt;
  for (Type type : kRequestOrder) {
    const TypeState& t = at(type);
    Own& own = own_[index(type)];
    if (t.state == State::kUnasked) {
      if (t.subscribed && (t.subscription.wildcard || !t.subscription.names.empty())) return first_request(type);
      continue;
    }
    if (own.held_back && now_ms >= t.not_before_ms) {
      own.answers.push_back(std::move(*own.held_back));
      own.held_back.reset();
      settle(type);
    }
    if (!own.answers.empty() || !own.subscribe.empty() || !own.unsubscribe.empty()) return make_request(type);
  }
  return std::nullopt;
}

Request Delta::first_request(Type type) {
  TypeState& t = at(type);
  Own& own = own_[index(type)];
  Request request;
  request.type = type;
  request.subscribe = told_names(t.subscription);
  // Nothing but all is said in the form that every server knows.
  if (t.subscription.wildcard && t.subscription.names.empty()) request.subscribe.clear();
  request.held.assign(own.held.begin(), own.held.end());
  std::sort(request.held.begin(), request.held.end());
  request.with_node = with_node();
  own.subscribe.clear();
  own.unsubscribe.clear();
  t.state = State::kWaiting;
  return request;
}

Request Delta::make_request(Type type) {
  Own& own = own_[index(type)];
  Request request;
  request.type = type;
  request.subscribe = drained(own.subscribe);
  request.unsubscribe = drained(own.unsubscribe);
  if (!own.answers.empty()) {
    request.nonce = std::move(own.answers.front().nonce);
    request.error_detail = std::move(own.answers.front().error_detail);
    own.answers.pop_front();
  }
  request.with_node = with_node();
  return request;
}

}  // namespace outrigger::xds
