// Bytes -> whole conversations of both forms of the discovery protocol with a server and a network that the bytes play:
// which message comes next, what is judged when and how, when streams end, what is wanted, how late requests arrive.
// What must hold: requests only on an open stream and only for what came on it; no type is asked while its answer is
// being judged; every refusal is told at most once; in the end the server knows all that is wanted, has been asked
// again for whatever was dropped in between, and the machine holds what it was given.
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/check.h"
#include "xds/delta.h"
#include "xds/sotw.h"
#include "xds/wire.h"

namespace outrigger::xds {
namespace {

constexpr size_t kMaxUnjudged = 8;  // as AdsClient has it
constexpr const char* kNames[] = {"a", "b", "c", "d"};
using Names = std::set<std::string>;

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t next() { return empty() ? 0 : *at_++; }
  Names names() {
    Names names;
    const uint8_t mask = next();
    for (size_t i = 0; i < std::size(kNames); ++i) {
      if ((mask >> i & 1) != 0) names.insert(kNames[i]);
    }
    return names;
  }
  std::string_view rest() {
    const std::string_view all(reinterpret_cast<const char*>(at_), static_cast<size_t>(end_ - at_));
    at_ = end_;
    return all;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

template <class M>
class Conversation {
  static constexpr bool kDelta = std::is_same_v<M, Delta>;

 public:
  Conversation(const uint8_t* data, size_t size) : bytes_(data, size) {}

  void play() {
    polite_ = bytes_.next() % 2 == 0;
    while (!bytes_.empty()) {
      step();
      check_state();
    }
    settle();
  }

 private:
  // What the server knows of a type on its stream.
  struct Served {
    bool asked = false, wildcard = false, named = false;
    Names names;
    std::string nonce;     // of its last response
    bool answered = true;  // that was
  };
  struct Sent {
    Type type;
    std::string nonce;
    uint64_t stream;
  };
  struct Wanted {
    Subscription subscription;
    Names lost;          // dropped in between: we have them no more, and the server has to be told so
    Names not_asked;     // wanted, and no request named them since
    Names not_complete;  // wanted, and nothing was accepted since they were asked for
    std::map<std::string, std::string> held;  // incremental
    std::set<std::string> accepted_versions;  // state of the world
    std::multiset<std::string> open_nonces;   // incremental: on this stream, not answered
    std::map<uint64_t, Names> complete_with;  // by update: what it completes
    uint64_t refusals = 0, nacks = 0;
    std::string nonce;  // of the last response that came on this stream
    uint64_t judging = 0;
  };

  Wanted& wanted(Type type) { return wanted_[static_cast<size_t>(type)]; }
  Served& served(Type type) { return served_[static_cast<size_t>(type)]; }
  Type any_type() { return static_cast<Type>(bytes_.next() % kTypeCount); }
  static bool wants(const Wanted& w, const std::string& name) {
    const auto& names = w.subscription.names;
    return w.subscription.wildcard || std::find(names.begin(), names.end(), name) != names.end();
  }

  void step() {
    switch (bytes_.next() % 13) {
      case 0:
        return open_ ? close() : open();
      case 1:
        return void(pull());
      case 2:
        return pull_all();
      case 3:
        return server_reads();
      case 4:
        return respond(false);
      case 5:
        return respond(true);
      case 6:
        return strange();
      case 7:
        return judge(true);
      case 8:
        return judge(false);
      case 9:
        return subscribe();
      case 10:
        now_ += bytes_.next() * 100;
        return;
      case 11:
        return expire();
      default:
        return raw();
    }
  }

  // ---- the client's side ----

  void open() {
    open_ = true;
    ++stream_;
    machine_.stream_opened();
    on_the_way_.clear();
    for (Served& s : served_) s = {};
    for (Wanted& w : wanted_) {
      w.open_nonces.clear();
      w.nonce.clear();
      w.judging = 0;
    }
  }
  void close() {
    open_ = false;
    machine_.stream_closed();
  }

  void subscribe() {
    const Type type = any_type();
    Subscription next;
    next.wildcard = is_full_set(type) && bytes_.next() % 2 == 0;
    for (const std::string& name : bytes_.names()) next.names.push_back(name);
    Wanted& w = wanted(type);
    const Subscription before = std::exchange(w.subscription, next);
    for (const char* name : kNames) {
      const bool was = before.wildcard || std::count(before.names.begin(), before.names.end(), name) > 0;
      const bool is = wants(w, name);
      if (was && !is) {
        w.lost.insert(name);
        w.held.erase(name);
        w.not_asked.erase(name);
        w.not_complete.erase(name);
      }
      if (!was && is) {
        w.not_asked.insert(name);
        w.not_complete.insert(name);
      }
    }
    machine_.subscribe(type, std::move(next));
  }

  bool pull() {
    std::optional<Request> request = machine_.next_request(now_);
    if (!request) return false;
    CHECK(open_);
    CHECK(encode(*request).size() < 10'000);
    Wanted& w = wanted(request->type);
    const bool first = machine_asked_.insert({stream_, request->type}).second;
    CHECK(request->error_detail.empty() || ++w.nacks <= w.refusals);
    check_request(*request, w, first);
    on_the_way_.push_back(std::move(*request));
    return true;
  }
  static std::string encode(const Request& request) {
    return kDelta ? encode_delta_request(request, "") : encode_request(request, "");
  }

  void check_request(const Request& request, Wanted& w, bool first) {
    if constexpr (kDelta) {
      if (first) {
        CHECK(request.nonce.empty());
        CHECK((std::map<std::string, std::string>(request.held.begin(), request.held.end()) == w.held));
      } else {
        CHECK(request.held.empty());
        CHECK(request.nonce.empty() || !w.open_nonces.extract(request.nonce).empty());
      }
      w.not_asked.clear();
    } else {
      CHECK(request.nonce == w.nonce);
      CHECK(w.judging == 0);
      CHECK(request.version.empty() || w.accepted_versions.contains(request.version));
      const Names names(request.names.begin(), request.names.end());
      CHECK(names.size() == request.names.size());
      for (const std::string& name : names) {
        CHECK(name == "*" ? w.subscription.wildcard : wants(w, name));
        w.not_asked.erase(name);
        // A server may believe that the version says all about each name.
        if (first && !request.version.empty()) CHECK(!w.not_complete.contains(name));
      }
      if (w.subscription.wildcard) w.not_asked.clear();
    }
  }

  void pull_all() {
    size_t pulled = 0;
    while (pull()) CHECK(++pulled <= 4 * kTypeCount + 2 * kMaxUnjudged);
    if (!open_ || !kDelta) return;
    for (size_t i = 0; i < kTypeCount; ++i) {
      if (machine_.type(static_cast<Type>(i)).state != Machine::State::kUnasked) CHECK(wanted_[i].not_asked.empty());
    }
  }

  void judge(bool accept) {
    if (unjudged_.empty()) return;
    const size_t at = bytes_.next() % 4 == 0 ? unjudged_.size() - 1 : 0;
    judge_at(at, accept, accept ? Names() : bytes_.names());
  }
  void judge_at(size_t at, bool accept, const Names& not_taken) {
    const Update update = std::move(unjudged_[at].first);
    const uint64_t stream = unjudged_[at].second;
    unjudged_.erase(unjudged_.begin() + static_cast<std::ptrdiff_t>(at));
    Wanted& w = wanted(update.type);
    if (!accept) ++w.refusals;
    if (accept) w.accepted_versions.insert(update.version);
    take(update, not_taken, w);
    if (kDelta ? stream == stream_ : w.judging == update.id) w.judging = kDelta ? w.judging - 1 : 0;
    const auto completes = w.complete_with.extract(update.id);
    if (accept && !completes.empty()) {
      for (const std::string& name : completes.mapped()) w.not_complete.erase(name);
    }
    Machine::Refusal refusal;
    if (!accept) refusal.text = "why";
    refusal.names.assign(not_taken.begin(), not_taken.end());
    const Machine::Verdict verdict = machine_.verdict(update.id, refusal, now_);
    CHECK(verdict.judged != Machine::Judged::kUnknown && verdict.type == update.type);
    CHECK((verdict.judged == Machine::Judged::kAccepted) == accept);
    CHECK(machine_.verdict(update.id, {}, now_).judged == Machine::Judged::kUnknown);
  }
  static void take(const Update& update, const Names& not_taken, Wanted& w) {
    for (const std::string& name : update.removed) w.held.erase(name);
    for (const Resource& resource : update.resources) {
      if (!not_taken.contains(resource.name) && wants(w, resource.name)) w.held[resource.name] = resource.version;
    }
  }

  void expire() {
    for (const Update& update : machine_.expire(now_)) {
      CHECK(update.id == 0 && !update.removed.empty());
      for (const std::string& name : update.removed) wanted(update.type).held.erase(name);
    }
  }

  // ---- the server's side ----

  // It reads the next request, be it long after it was sent.
  void server_reads() {
    if (on_the_way_.empty()) return;
    const Request request = std::move(on_the_way_.front());
    on_the_way_.pop_front();
    Served& s = served(request.type);
    Wanted& w = wanted(request.type);
    const bool first = !std::exchange(s.asked, true);
    const bool newest = request.nonce == s.nonce;
    if (newest) s.answered = true;
    const auto hears_of = [&](const std::string& name) {
      w.lost.erase(name);  // the server sends it, or does when it has it
      s.names.insert(name);
    };
    if constexpr (kDelta) {
      for (const std::string& name : request.unsubscribe) s.names.erase(name);
      if (first && request.subscribe.empty()) s.wildcard = true;
      for (const std::string& name : request.subscribe) hears_of(name);
      if (s.names.erase("*") > 0 || s.wildcard) w.lost.clear();
      for (const auto& [name, version] : request.held) w.lost.erase(name);
    } else {
      if (!first && !newest) return;
      const Names names(request.names.begin(), request.names.end());
      s.wildcard = names.contains("*") || (names.empty() && !s.named && is_full_set(request.type));
      s.named = s.named || !names.empty();
      std::erase_if(s.names, [&](const std::string& name) { return !names.contains(name); });
      for (const std::string& name : names) {
        if (name != "*" && !s.names.contains(name)) hears_of(name);
      }
      if (s.wildcard) w.lost.clear();
    }
  }

  void respond(bool again) {
    const Type type = any_type();
    Response response = last_;
    if (again && last_.type_url.empty()) return;
    if (!again) response = make_response(type);
    const Type of = *find_type(response.type_url);
    Served& s = served(of);
    // A polite server says nothing before it was asked, and nothing more before it was answered.
    const bool allowed = open_ && (polite_ ? s.asked && s.answered : true);
    if (!allowed || machine_.unjudged() >= kMaxUnjudged) return;
    if (!again || bytes_.next() % 2 == 0 || polite_) response.nonce = "n" + std::to_string(++nonces_);
    last_ = response;
    s.nonce = response.nonce;
    s.answered = false;
    receive(std::move(response));
  }
  Response make_response(Type type) {
    Response response;
    response.type_url = std::string(type_url(type));
    const uint8_t shape = bytes_.next();
    response.version = "v" + std::to_string(shape % 4);
    for (const std::string& name : bytes_.names()) {
      Resource resource{.name = name, .version = response.version, .type_url = response.type_url, .bytes = name};
      resource.bytes += static_cast<char>('0' + shape % 4);
      resource.ttl_ms = (shape & 16) != 0 ? 5'000 : 0;
      resource.heartbeat = (shape & 96) == 96;
      response.resources.push_back(std::move(resource));
    }
    if (kDelta) {
      for (const std::string& name : bytes_.names()) response.removed.push_back(name);
    }
    return response;
  }
  void strange() {
    if (!open_) return;
    const uint64_t before = machine_.ignored();
    CHECK(!machine_.receive({.version = "v", .type_url = "strange", .nonce = "n"}));
    CHECK(machine_.ignored() == before + 1);
  }
  // The rest of the input as a message.
  void raw() {
    const std::string_view bytes = bytes_.rest();
    Result<Response> response = kDelta ? decode_delta_response(bytes) : decode_response(bytes);
    if (!response) {
      CHECK(!response.error().detail.empty());
    } else if (open_ && !find_type(response->type_url)) {
      CHECK(!machine_.receive(std::move(*response)));
    }
  }

  void receive(Response response) {
    const Type type = *find_type(response.type_url);
    Wanted& w = wanted(type);
    const bool asked = machine_.type(type).state != Machine::State::kUnasked;
    const std::string nonce = response.nonce;
    std::optional<Update> update = machine_.receive(std::move(response));
    if (!asked) {
      CHECK(!update);
      return;
    }
    w.nonce = nonce;
    if (kDelta) w.open_nonces.insert(nonce);
    if (!update) return;
    CHECK(update->type == type && update->nonce == nonce && update->id != 0);
    CHECK(update->full_set == (!kDelta && is_full_set(type)));
    w.judging = kDelta ? w.judging + 1 : update->id;
    Names complete = w.not_complete;
    std::erase_if(complete, [&](const std::string& name) { return w.not_asked.contains(name); });
    w.complete_with[update->id] = std::move(complete);
    unjudged_.emplace_back(std::move(*update), stream_);
  }

  // ---- what must hold ----

  void check_state() {
    CHECK(machine_.unjudged() <= kMaxUnjudged + kTypeCount);  // and held-back answers that are free now
    CHECK(machine_.unjudged() >= unjudged_.size());
    for (size_t i = 0; i < kTypeCount; ++i) {
      const Machine::TypeState& t = machine_.type(static_cast<Type>(i));
      CHECK((t.state == Machine::State::kJudging) == (wanted_[i].judging > 0) || !open_);
      CHECK(t.rejected == wanted_[i].refusals);
      if constexpr (kDelta) {
        const auto& held = machine_.held(static_cast<Type>(i));
        CHECK((std::map<std::string, std::string>(held.begin(), held.end()) == wanted_[i].held));
      }
    }
  }

  // All is judged, all delays are over, all requests arrive.
  void settle() {
    if (!open_) open();
    while (!unjudged_.empty()) judge_at(0, true, {});
    for (int i = 0; i < 3; ++i) {
      now_ += 3'600'000;
      pull_all();
      while (!on_the_way_.empty()) server_reads();
    }
    for (size_t i = 0; i < kTypeCount; ++i) {
      const Wanted& w = wanted_[i];
      const Served& s = served_[i];
      if (!s.asked) {
        CHECK(!w.subscription.wildcard && w.subscription.names.empty());
        continue;
      }
      CHECK(w.not_asked.empty());
      CHECK(!kDelta || !polite_ || w.open_nonces.empty());
      if (!polite_ && !kDelta) continue;  // its nonces may be in such disorder that it ignores the last request
      // All, once asked for in the old form, cannot be unasked on its stream but by naming something.
      if (!kDelta && s.wildcard && !s.named && w.subscription.names.empty()) continue;
      Names names = s.names;
      names.erase("*");
      CHECK(s.wildcard == w.subscription.wildcard || kDelta);
      CHECK((names == Names(w.subscription.names.begin(), w.subscription.names.end())));
      if (!polite_) continue;
      for (const std::string& name : w.lost) CHECK(!wants(w, name));
    }
  }

  Bytes bytes_;
  bool polite_ = true;
  M machine_;
  int64_t now_ = 1'000;
  bool open_ = false;
  uint64_t stream_ = 0, nonces_ = 0;
  Wanted wanted_[kTypeCount];
  Served served_[kTypeCount];
  std::deque<Request> on_the_way_;
  std::vector<std::pair<Update, uint64_t>> unjudged_;  // with their streams
  std::set<std::pair<uint64_t, Type>> machine_asked_;
  Response last_;
};

}  // namespace
}  // namespace outrigger::xds

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace outrigger::xds;
  [[maybe_unused]] static auto* const quiet = google::protobuf::SetLogHandler(nullptr);
  Conversation<Sotw>(data, size).play();
  Conversation<Delta>(data, size).play();
  return 0;
}
