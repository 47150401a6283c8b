// Delta: the incremental form of the discovery protocol (machine.h has what it shares with the other). Each response is
// answered by itself, and subscriptions travel as differences, at any time.
//
// Each subscribed type, on one stream:
//
//              first request             response                 all judged, the last refused "again"
//     [Unasked] ----------->  [Waiting]  ---------->  [Judging] --------------------------------.
//         ^                    ^     ^                 |  |  ^                                  v
//         | stream opened      |     '-----------------'  '--' another response            [Delaying]
//         | (from any state)   |       all judged                                               |
//                              '----------------------------------------------------------------'
//                                    the delay is over: its NACK is pulled
//
//     state     | request due when                           | response            | verdict
//     ----------|--------------------------------------------|---------------------|-----------------------------------
//     Unasked   | subscribed (once; names what we have)      | ignored, counted    | of an earlier stream: counts
//     Waiting   | subscription changed (without a nonce)     | -> Judging          | likewise
//     Judging   | subscription changed; an answer is due     | -> Judging          | its ACK or NACK is due; -> Waiting
//               |                                            |                     | or Delaying after the last
//     Delaying  | subscription changed; the delay is over    | same bytes: counted,| as in Waiting
//               |                                            | nonce taken; else   |
//               |                                            | -> Judging          |
//
// While a NACK is held back a second one replaces it; a correction lets it go at once. For each resource the version
// that was taken last is remembered; a new stream's first request names them (initial_resource_versions), so that only
// what changed comes again. A refused resource keeps the version taken before; one that is removed, expired or no
// longer subscribed to is forgotten. A name that is dropped and wanted again before the server was told is told as
// subscribed to once more, which makes the server send it again.
//
// Thread rule: one thread.
// Use:  Delta machine;  machine.subscribe(Type::kEndpoints, {.names = {"a"}});  machine.stream_opened();
//       while (auto request = machine.next_request(now_ms)) send(*request);
//       if (auto update = machine.receive(response)) judge(*update);   machine.verdict(update->id, {}, now_ms);
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "xds/machine.h"

namespace outrigger::xds {

class Delta final : public Machine {
 public:
  // Names of refused resources that are remembered of a type.
  static constexpr size_t kMaxRefusedNames = 10'000;

  explicit Delta(MachineOptions options = {}) : Machine(options) {}

  void claim(Type type, const std::vector<std::string>& names) override;
  void subscribe(Type type, Subscription subscription) override;
  std::optional<Update> receive(Response response) override;
  Verdict verdict(uint64_t update_id, Refusal refusal, int64_t now_ms) override;
  std::optional<Request> next_request(int64_t now_ms) override;
  size_t unjudged() const override;

  // By name, the version that is held.
  const std::unordered_map<std::string, std::string>& held(Type type) const { return own_[index(type)].held; }

 private:
  struct Answer {
    std::string nonce;
    std::string error_detail;  // empty: ACK
  };
  struct Own {
    std::unordered_map<std::string, std::string> held;
    std::set<std::string> subscribe, unsubscribe;  // not told to the server yet; "*" is all
    std::set<std::string> refused;                 // names whose newest version was refused
    std::deque<Answer> answers;
    std::optional<Answer> held_back;
    size_t judging = 0;  // updates of this stream
  };

  void take(const Unjudged& update, const Refusal& refusal);
  void answer(const Unjudged& update, Judged judged);
  void settle(Type type);
  Request first_request(Type type);
  Request make_request(Type type);
  void on_stream_opened(Type type) override;
  void on_expired(Type type, const std::string& name) override { own_[index(type)].held.erase(name); }

  std::array<Own, kTypeCount> own_;
};

}  // namespace outrigger::xds
