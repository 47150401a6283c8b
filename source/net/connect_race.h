// ConnectRace: a TCP connection to a host that has several addresses ("happy eyeballs", RFC 8305 section 5). They are
// tried in their order: the next one kAttemptDelayMs after the last, or at once when one fails. The first that connects
// wins, and the other attempts are closed. How long all that may take is its owner's business.
//
// Thread rule: its loop's thread. Destroying it closes what is under way; its owner may do so in `done`.
// Use:  ConnectRace race(loop, addresses, options, done, self);   int status = race.start();   ... race.take()
#pragma once

#include <uv.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/socket_option.h"
#include "event/loop.h"
#include "event/timer.h"
#include "net/address.h"

namespace outrigger::net {

// The order in which a host's addresses are tried (RFC 8305 section 4, with Envoy's happy_eyeballs_config):
// `first_count` of the first family, one of the other, and so on; what is left of a family when the other has no more
// comes last.
struct AttemptOrder {
  enum class First : uint8_t { kAsGiven, kV4, kV6 } first = First::kAsGiven;  // kAsGiven: the first address's
  uint32_t first_count = 1;                                                   // at least 1
  bool operator==(const AttemptOrder&) const = default;
};
// At most kMaxAttempts of them.
inline constexpr size_t kMaxAttempts = 32;
std::vector<Address> attempt_order(std::span<const Address> addresses, const AttemptOrder& order);

class ConnectRace {
 public:
  static constexpr uint64_t kAttemptDelayMs = 300;  // as Envoy
  static constexpr int kPending = 1;
  using Done = void (*)(void* self, int status);

  // `addresses`, IP, are copied, the first kMaxAttempts of them; `options` are copied too.
  ConnectRace(event::Loop& loop, std::span<const Address> addresses, std::span<const SocketOption> options, Done done,
              void* self);
  ~ConnectRace();
  ConnectRace(const ConnectRace&) = delete;
  ConnectRace& operator=(const ConnectRace&) = delete;

  // kPending: `done` is called later, in a turn, once. Else 0, or what the last attempt failed with (negative errno),
  // and `done` is not called.
  int start();
  // After 0: the connected socket, which the caller takes over.
  int take();
  // The winner's, or the last one that failed.
  const Address& address() const { return last_; }

 private:
  struct Attempt;
  int advance(int error);
  int connect(const Address& address);
  void on_ready(Attempt& attempt, int status);
  void on_delay();
  void drop(Attempt& attempt);
  void settle();
  void finish(int status);

  event::Loop& loop_;
  std::vector<Address> addresses_;
  std::vector<SocketOption> options_;
  std::vector<Attempt*> attempts_;  // under way
  event::Timeout delay_;
  Address last_;
  const Done done_;
  void* const self_;
  size_t next_ = 0;  // of addresses_
  int fd_ = -1;      // the winner's
};

// A socket for a connection to `address`, non-blocking, with those of `options` that concern it; negative errno.
int open_socket(const Address& address, std::span<const SocketOption> options);

}  // namespace outrigger::net
