// Machine: one discovery conversation without I/O, threads or clock, whatever its form: state of the world (sotw.h) or
// incremental (delta.h). Responses and verdicts go in, requests are pulled out, so what waits to be sent is state per
// type and never a queue without bound. It sees only bytes and names.
//
// What both forms share: types that were not asked for on this stream are counted and ignored; a mistake that comes
// again is refused again only after a growing delay; resources whose time to live runs out are told as removed.
//
// Thread rule: one thread.
// Use:  machine.subscribe(Type::kCluster, {.wildcard = true});  machine.stream_opened();
//       while (auto request = machine.next_request(now_ms)) send(*request);
//       if (auto update = machine.receive(response)) judge(*update);   machine.verdict(update->id, {}, now_ms);
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "xds/ttls.h"
#include "xds/types.h"

namespace outrigger::xds {

struct MachineOptions {
  bool node_on_first_message_only = false;
  uint64_t refused_again_initial_ms = 1'000;
  uint64_t refused_again_max_ms = 30'000;
};

class Machine {
 public:
  // Servers that stamp versions or shuffle map fields resend the same mistake in other bytes.
  static constexpr uint32_t kFreeRefusals = 5;

  enum class State : uint8_t { kUnasked, kWaiting, kJudging, kDelaying };
  enum class Judged : uint8_t {
    kAccepted,
    kRefused,       // for the first time
    kRefusedAgain,  // the same bytes as before: log little
    kUnknown,       // no such update, or judged already
  };
  // Why an update is refused; an empty text: it is accepted. `names`: the resources of it that were not taken.
  struct Refusal {
    std::string text;
    std::vector<std::string> names;
  };
  struct Verdict {
    Type type;  // the update's
    Judged judged;
  };

  explicit Machine(MachineOptions options) : options_(options) {}
  virtual ~Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Resources of an earlier life that we have in unknown versions. An incremental server is told of them and answers
  // each, be it by a removal; a full set replaces them without that. Before the first stream.
  virtual void claim(Type type, const std::vector<std::string>& names) = 0;
  // Replaces what is wanted of a type.
  virtual void subscribe(Type type, Subscription subscription) = 0;
  void stream_opened();
  void stream_closed() { open_ = false; }
  // The response as something to judge; nullopt: nothing to do (ignored, or refused before and held back).
  virtual std::optional<Update> receive(Response response) = 0;
  // In the order of the updates, or later ones first.
  virtual Verdict verdict(uint64_t update_id, Refusal refusal, int64_t now_ms) = 0;
  // The next request that is due, in the order CDS, EDS, SDS, LDS, RDS. The caller sends what it has pulled.
  virtual std::optional<Request> next_request(int64_t now_ms) = 0;
  // Resources whose time is over, as updates that remove them; they have id 0 and need no verdict. Of those that are no
  // longer subscribed to nothing is told: another source may have them now.
  std::vector<Update> expire(int64_t now_ms);
  // When the next resource expires or, if requests can be sent, a held-back NACK is due.
  std::optional<int64_t> wake_at_ms(bool can_send = true) const;

  // Updates without a verdict, and verdicts that were not sent yet where the form has to send each.
  virtual size_t unjudged() const { return unjudged_.size(); }
  uint64_t ignored() const { return ignored_; }

  struct TypeState {
    State state = State::kUnasked;
    bool subscribed = false;
    Subscription subscription;
    std::string accepted_version;
    std::string received_version;
    std::string nonce;    // of the last response on this stream
    std::string refusal;  // faults of the last NACK, until what it refused is accepted
    std::string refused_version;
    uint64_t received = 0, accepted = 0, rejected = 0, repeated = 0;

    // Of the machines alone.
    uint64_t refused_hash = 0;  // of the bytes refused last; 0: none
    uint32_t refused_in_a_row = 0;
    uint64_t delay_ms = 0;  // of the last NACK
    int64_t not_before_ms = 0;
  };
  const TypeState& type(Type type) const { return types_[static_cast<size_t>(type)]; }

 protected:
  static constexpr std::array<Type, kTypeCount> kRequestOrder = {Type::kCluster, Type::kEndpoints, Type::kSecret,
                                                                 Type::kListener, Type::kRouteTable};
  struct NamedTtl {
    std::string name;
    uint64_t ttl_ms = 0;
    bool heartbeat = false;
  };
  struct Unjudged {
    Type type;
    std::string version;
    uint64_t hash;
    uint64_t stream;  // that it came on
    std::string nonce;
    std::vector<NamedTtl> ttls;                                 // of its named resources
    std::vector<std::pair<std::string, std::string>> versions;  // likewise; incremental
    std::vector<std::string> removed;
  };

  static bool wants(const TypeState& t, const std::string& name);
  TypeState& at(Type type) { return types_[static_cast<size_t>(type)]; }
  size_t index(Type type) const { return static_cast<size_t>(type); }
  // The type of a response that was asked for; else it is counted.
  std::optional<Type> type_of(const Response& response);
  // The update that a verdict is on, once.
  std::optional<Unjudged> take_unjudged(uint64_t update_id);
  // Notes the response as an update without a verdict and makes it. Heartbeats become `kept`.
  Update hand_up(Type type, uint64_t hash, Response response);
  Judged refuse(TypeState& t, const Unjudged& update, std::string text, int64_t now_ms);
  void absolve(TypeState& t);
  // Starts, prolongs and ends times to live by what a judged update says.
  void keep_time(const Unjudged& update, const std::vector<std::string>& refused, int64_t now_ms);
  bool with_node();
  // A new stream knows nothing of this type yet.
  virtual void on_stream_opened(Type type) = 0;
  // A resource of ours is gone without the server having said so.
  virtual void on_expired(Type type, const std::string& name) = 0;

  MachineOptions options_;
  std::array<TypeState, kTypeCount> types_;
  std::unordered_map<uint64_t, Unjudged> unjudged_;
  Ttls ttls_;
  uint64_t next_id_ = 1;
  uint64_t stream_ = 0;  // counts streams
  uint64_t ignored_ = 0;
  bool open_ = false;
  bool node_sent_ = false;
};

// Of what a refusal depends on: not the version, which may be a mere time stamp. Never 0. Over all bytes, if the
// response does not have it already.
uint64_t fingerprint(const Response& response);
// Sorts the names and makes them unique.
void normalise(Subscription& subscription);

}  // namespace outrigger::xds
