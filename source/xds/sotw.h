// Sotw: the state-of-the-world discovery protocol as a machine without I/O, threads or clock. It sees only bytes and
// names: responses and verdicts go in, requests are pulled out, so what waits to be sent is state per type and never a
// queue.
//
// Each subscribed type, on one stream:
//
//              request pulled              response
//     [Unasked] ----------->  [Waiting]  ----------->  [Judging] --.  newer response (the older one's verdict
//         ^                    ^     ^                  |  |  ^----'  is then only remembered)
//         | stream opened      |     |  accepted: ACK   |  |
//         | (from any state)   |     '------------------'  | refused: NACK,
//                              |  delay over               v  at once; after a growing delay when the same bytes
//                              '----------------------- [Delaying]  were refused before, or kFreeRefusals in a row
//
//     state     | request due when                     | response             | verdict on the latest update
//     ----------|--------------------------------------|----------------------|---------------------------------
//     Unasked   | subscribed (once)                    | ignored, counted     | -
//     Waiting   | subscription changed, ACK or NACK due | -> Judging           | -
//     Judging   | never: a request would read as an ACK | -> Judging           | -> Waiting or Delaying
//     Delaying  | the delay is over                    | same bytes: counted,  | -
//               |                                      | nonce taken; else     |
//               |                                      | -> Judging            |
//
// A subscription that changes in Judging or Delaying travels with the ACK or NACK. The nonce belongs to the stream; the
// accepted version, the refused one and the unanswered updates survive it: a verdict that comes after a reconnect still
// counts, but sends nothing.
//
// Thread rule: one thread.
// Use:  Sotw machine;  machine.subscribe(Type::kCluster, {.wildcard = true});  machine.stream_opened();
//       while (auto request = machine.next_request(now_ms)) send(*request);
//       if (auto update = machine.receive(response)) judge(*update);   machine.verdict(update->id, {}, now_ms);
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "xds/types.h"

namespace outrigger::xds {

struct SotwOptions {
  bool node_on_first_message_only = false;
  uint64_t refused_again_initial_ms = 1'000;
  uint64_t refused_again_max_ms = 30'000;
};

class Sotw {
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

  explicit Sotw(SotwOptions options = {}) : options_(options) {}

  void subscribe(Type type, Subscription subscription);
  void stream_opened();
  void stream_closed();
  // The response as something to judge; nullopt: nothing to do (ignored, or refused before and held back).
  std::optional<Update> receive(Response response);
  // `fault_text` empty: accepted. The type is the update's.
  struct Verdict {
    Type type;
    Judged judged;
  };
  Verdict verdict(uint64_t update_id, std::string fault_text, int64_t now_ms);
  // The next request that is due, in the order CDS, EDS, LDS, RDS. The caller sends what it has pulled.
  std::optional<Request> next_request(int64_t now_ms);
  // When a held-back NACK is due.
  std::optional<int64_t> wake_at_ms() const;

  size_t unjudged() const { return unjudged_.size(); }
  uint64_t ignored() const { return ignored_; }

  struct TypeState {
    State state = State::kUnasked;
    bool subscribed = false;
    Subscription subscription;
    std::string accepted_version;
    std::string received_version;
    std::string nonce;
    std::string refusal;  // faults of the last NACK, until a later version is accepted
    std::string refused_version;
    uint64_t received = 0, accepted = 0, rejected = 0, repeated = 0;

    // Of the machine alone.
    bool request_due = false;
    std::string error_detail;      // goes with the next request
    bool named_on_stream = false;  // names were sent on this stream: an empty list no longer means all
    uint64_t judging_id = 0;       // the update whose verdict answers `nonce`
    uint64_t last_judged_id = 0;
    uint64_t refused_hash = 0;  // of the bytes refused last; 0: none
    uint32_t refused_in_a_row = 0;
    uint64_t delay_ms = 0;  // of the last NACK
    int64_t not_before_ms = 0;
  };
  const TypeState& type(Type type) const { return types_[static_cast<size_t>(type)]; }

 private:
  struct Unjudged {
    Type type;
    std::string version;
    uint64_t hash;
  };
  TypeState& at(Type type) { return types_[static_cast<size_t>(type)]; }
  Judged refuse(TypeState& t, const Unjudged& update, std::string fault_text, int64_t now_ms);
  Request make_request(Type type);

  SotwOptions options_;
  std::array<TypeState, kTypeCount> types_;
  std::unordered_map<uint64_t, Unjudged> unjudged_;
  uint64_t next_id_ = 1;
  uint64_t ignored_ = 0;
  bool open_ = false;
  bool node_sent_ = false;
};

}  // namespace outrigger::xds
