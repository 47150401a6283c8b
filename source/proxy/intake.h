// Intake: an accepted connection before its filter chain is chosen: the listener filters read its first bytes, which
// the connection then begins with, and may tell other addresses than the socket's.
//
//   reading --a filter is satisfied--> the next filter --none left--> on_end, once
//   reading --the peer closes, a filter refuses, listener_filters_timeout, abort()--> closed, on_end
//
// Thread rule: the worker's thread. It frees itself; abort() ends it early.
// Use:  intakes.push_back(*new Intake(loop, shard, part, {.fd = fd, ...}, [](Intake& intake) { ... }));
#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/list.h"
#include "event/loop.h"
#include "event/timer.h"
#include "net/client_hello.h"
#include "outrigger/buffer.h"
#include "proxy/snapshot.h"

namespace outrigger::proxy {

// A connection as the listener filters leave it.
struct Accepted {
  int fd = -1;
  net::Address local, remote;
  net::Address direct_remote;  // the socket's peer
  Buffer first;                // read already
  bool redirected = false;     // here by the kernel: `local` is where the client wanted to go, and not here
};

struct IntakeTag;
class Intake final : public event::Deferred, public ListNode<IntakeTag> {
 public:
  // `on_end` comes once, from the loop or from inside begin(), with taken() if the connection goes on.
  Intake(event::Loop& loop, stats::Shard& shard, std::shared_ptr<const ListenerPart> part, Accepted accepted,
         std::function<void(Intake&)> on_end);
  ~Intake() override;
  void begin();
  void abort() { end(false); }

  // For on_end.
  bool taken() const { return accepted_.fd >= 0; }
  Accepted take() { return std::exchange(accepted_, {}); }
  ConnectionFacts facts() const;
  std::shared_ptr<const ListenerPart> take_part() { return std::move(part_); }

 private:
  enum class Step : uint8_t { kNext, kMore, kRefuse };
  void run();
  bool read_some();
  Step step(const config::ListenerFilterSpec& filter);
  Step read_hello(const config::ListenerFilterSpec& filter);
  Step read_proxy_header(const config::ListenerFilterSpec& filter);
  void restore_destination();
  void on_timeout();
  void wait();
  void end(bool taken);

  event::Loop& loop_;
  stats::Shard& shard_;
  std::shared_ptr<const ListenerPart> part_;
  Accepted accepted_;
  std::function<void(Intake&)> on_end_;
  event::Timeout timeout_;
  std::string bytes_;  // not consumed by a filter; at most the filters' limits and one read
  net::ClientHello hello_;
  std::vector<std::string_view> protocols_;  // of hello_
  bool is_tls_ = false;
  size_t filter_ = 0;
  uv_poll_t poll_;
  bool polling_ = false, poll_made_ = false;
};

}  // namespace outrigger::proxy
