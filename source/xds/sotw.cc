#include "xds/sotw.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

namespace outrigger::xds {

void Sotw::subscribe(Type type, Subscription subscription) {
  normalise(subscription);
  TypeState& t = at(type);
  if (t.subscribed && t.subscription == subscription) return;
  Own& own = own_[index(type)];
  const bool nothing_yet = t.state == State::kUnasked && !subscription.wildcard && subscription.names.empty();
  const std::vector<std::string>&before = t.subscription.names, &now = subscription.names;
  const bool more = subscription.wildcard && !t.subscription.wildcard;
  if (more || !std::includes(before.begin(), before.end(), now.begin(), now.end())) {
    own.incomplete = true;
    own.complete_from_id = UINT64_MAX;
  }
  const std::vector<std::string>& said = told(t, own);
  std::set_difference(said.begin(), said.end(), now.begin(), now.end(), std::inserter(own.lapsed, own.lapsed.end()));
  if (std::exchange(own.told_all, false)) own.told = std::move(t.subscription.names);
  t.subscription = std::move(subscription);
  t.subscribed = true;
  // A first request without names would ask for everything (LDS, CDS) or mean nothing (RDS, EDS).
  own.request_due = !nothing_yet;
  own.names_changed = true;
}

void Sotw::on_stream_opened(Type type) {
  TypeState& t = at(type);
  Own& own = own_[index(type)];
  own.error_detail.clear();
  own.named_on_stream = false;
  own.judging_id = 0;
  own.nonce_answered = true;
  own.names_changed = true;
  own.told.clear();
  own.told_all = false;
  own.lapsed.clear();
  own.in_doubt.clear();
  own.request_due = t.subscribed && (t.subscription.wildcard || !t.subscription.names.empty());
}

std::optional<Update> Sotw::receive(Response response) {
  const std::optional<Type> type = type_of(response);
  if (!type) return std::nullopt;
  TypeState& t = at(*type);
  const uint64_t hash = fingerprint(response);
  t.nonce = response.nonce;
  t.received_version = response.version;
  Own& own = own_[index(*type)];
  own.nonce_answered = false;
  own.lapsed.merge(std::exchange(own.in_doubt, {}));
  if (t.state == State::kDelaying && hash == t.refused_hash) {
    ++t.repeated;
    return std::nullopt;
  }
  response.removed.clear();  // has no meaning in this form
  Update update = hand_up(*type, hash, std::move(response));
  update.full_set = is_full_set(*type);
  own.error_detail.clear();
  own.judging_id = update.id;
  return update;
}

Machine::Verdict Sotw::verdict(uint64_t update_id, Refusal refusal, int64_t now_ms) {
  const std::optional<Unjudged> taken = take_unjudged(update_id);
  if (!taken) return {Type::kListener, Judged::kUnknown};
  const Unjudged& update = *taken;
  TypeState& t = at(update.type);
  Own& own = own_[index(update.type)];
  const bool latest = own.judging_id == update_id;
  const bool overtaken = update_id < own.last_judged_id;
  own.last_judged_id = std::max(own.last_judged_id, update_id);

  Judged judged = refusal.text.empty() ? Judged::kAccepted : Judged::kRefused;
  if (judged == Judged::kAccepted) {
    ++t.accepted;
    if (!overtaken) {
      t.accepted_version = update.version;
      if (update_id >= own.complete_from_id) own.incomplete = false;
      absolve(t);
    }
  } else {
    ++t.rejected;
    if (!overtaken) judged = refuse(t, update, std::move(refusal.text), now_ms);
  }
  if (!overtaken) keep_time(update, refusal.names, now_ms);
  if (latest) {
    own.judging_id = 0;
    own.request_due = true;
    t.state = judged == Judged::kAccepted || t.delay_ms == 0 ? State::kWaiting : State::kDelaying;
    if (judged != Judged::kAccepted) own.error_detail = t.refusal;
  }
  return {update.type, judged};
}

std::optional<Request> Sotw::next_request(int64_t now_ms) {
  if (!open_) return std::nullopt;
  for (Type type : kRequestOrder) {
    const TypeState& t = at(type);
    if (!own_[index(type)].request_due || t.state == State::kJudging) continue;
    if (t.state == State::kDelaying && now_ms < t.not_before_ms) continue;
    return make_request(type);
  }
  return std::nullopt;
}

// The names to send now: what lapsed is left out, and named by a further request if it is wanted.
std::vector<std::string> Sotw::names_to_send(const TypeState& t, Own& own) {
  std::vector<std::string> names = t.subscription.names;
  own.request_due = !own.lapsed.empty() &&
                    std::erase_if(names, [&](const std::string& name) { return own.lapsed.contains(name); }) > 0;
  if (!own.names_changed && own.lapsed.empty()) return names;
  own.lapsed.clear();
  // Answered already: the server may be sending the next one and will ignore this request.
  if (own.nonce_answered) {
    const std::vector<std::string>& said = told(t, own);
    std::set_difference(said.begin(), said.end(), names.begin(), names.end(),
                        std::inserter(own.in_doubt, own.in_doubt.end()));
  }
  own.told_all = !own.request_due;
  own.told = own.told_all ? std::vector<std::string>() : names;
  own.names_changed = own.request_due;
  return names;
}

Request Sotw::make_request(Type type) {
  TypeState& t = at(type);
  Own& own = own_[index(type)];
  if (t.state == State::kUnasked && own.incomplete) t.accepted_version.clear();
  Request request;
  request.type = type;
  request.version = t.accepted_version;
  request.nonce = t.nonce;
  request.names = names_to_send(t, own);
  // Once names were sent on this stream, an empty list means none: then all must be said as "*".
  if (t.subscription.wildcard && (!request.names.empty() || own.named_on_stream)) request.names.push_back("*");
  if (!request.names.empty()) own.named_on_stream = true;
  request.error_detail = std::exchange(own.error_detail, {});
  request.with_node = with_node();
  own.nonce_answered = true;
  if (!own.request_due) own.complete_from_id = std::min(own.complete_from_id, next_id_);
  t.state = State::kWaiting;
  return request;
}

}  // namespace outrigger::xds
