// Sotw: the state-of-the-world form of the discovery protocol (machine.h has what it shares with the other).
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
// A subscription that changes in Judging or Delaying travels with the ACK or NACK. A name that was dropped and is
// wanted again before the server heard of it (we have its resource no more) is left out of one request and named again
// in the next, or the server would see no change and send nothing. The nonce belongs to the stream; the accepted
// version, the refused one and the unanswered updates survive it: a verdict that comes after a reconnect still counts,
// but sends nothing. A version of which a resource expired, or that may lack one that is wanted since, is not claimed
// on the next stream.
//
// Thread rule: one thread.
// Use:  Sotw machine;  machine.subscribe(Type::kCluster, {.wildcard = true});  machine.stream_opened();
//       while (auto request = machine.next_request(now_ms)) send(*request);
//       if (auto update = machine.receive(response)) judge(*update);   machine.verdict(update->id, {}, now_ms);
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "xds/machine.h"

namespace outrigger::xds {

class Sotw final : public Machine {
 public:
  explicit Sotw(MachineOptions options = {}) : Machine(options) {}

  void claim(Type, const std::vector<std::string>&) override {}
  void subscribe(Type type, Subscription subscription) override;
  std::optional<Update> receive(Response response) override;
  Verdict verdict(uint64_t update_id, Refusal refusal, int64_t now_ms) override;
  std::optional<Request> next_request(int64_t now_ms) override;

 private:
  struct Own {
    bool request_due = false;
    std::string error_detail;      // goes with the next request
    bool named_on_stream = false;  // names were sent on this stream: an empty list no longer means all
    uint64_t judging_id = 0;       // the update whose verdict answers the nonce
    uint64_t last_judged_id = 0;
    bool incomplete = false;        // a resource of the accepted version expired or was wanted only later
    uint64_t complete_from_id = 0;  // updates from this one on came when all that is wanted was named

    bool nonce_answered = true;
    bool names_changed = false;      // since `told`
    std::vector<std::string> told;   // names of the last request on this stream, sorted; or, if they are the same,
    bool told_all = false;           // in the subscription alone
    std::set<std::string> lapsed;    // of them, those not wanted for a while: left out of one request
    std::set<std::string> in_doubt;  // left out of requests that were ignored if their nonce was old by then
  };

  static const std::vector<std::string>& told(const TypeState& t, const Own& own) {
    return own.told_all ? t.subscription.names : own.told;
  }
  static std::vector<std::string> names_to_send(const TypeState& t, Own& own);
  Request make_request(Type type);
  void on_stream_opened(Type type) override;
  void on_expired(Type type, const std::string&) override { own_[index(type)].incomplete = true; }

  std::array<Own, kTypeCount> own_;
};

}  // namespace outrigger::xds
