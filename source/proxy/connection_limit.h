// ConnectionLimit: envoy.filters.network.connection_limit: how many connections a filter chain has at a time, those of
// all workers together, to the last one. One too many is closed at once, or kept unread for the filter's delay
// (RefusedConnection), so that who makes too many does not make the next at once.
//
// The count is of the chain (its listener and what its connections are bound to), lives as long as any version of it,
// and survives changes of the limit; a limit that falls closes nobody.
//
// Thread rule: ConnectionLimit is shared by all workers; RefusedConnection belongs to its worker's.
// Use:  if (!limit.take(spec.max_connections)) return refuse();  ...  limit.give();
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "event/timer.h"
#include "proxy/chain_connection.h"
#include "stats/stats.h"

namespace outrigger::proxy {

class ConnectionLimit {
 public:
  // False: there are `most` already. Nobody is refused for the sake of a count that another worker is about to take
  // back.
  bool take(uint64_t most);
  void give() { count_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> count_{0};
};

// Envoy's names, below "connection_limit.<stat_prefix>.".
struct ConnectionLimitStats {
  ConnectionLimitStats(stats::Registry& registry, const std::string& stat_prefix);
  stats::Group group;
  stats::Counter limited;
  stats::Gauge active;
};

// A connection too many, until its delay is over. It frees itself.
class RefusedConnection final : public ChainConnection, public event::Deferred {
 public:
  // More of a chain in one worker are closed at once: they hold descriptors.
  static constexpr uint32_t kMost = 1024;
  RefusedConnection(event::Loop& loop, ActiveChain& chain, int fd, uint64_t delay_ms, std::function<void()> on_gone);
  void drain(uint64_t) override { close_now(); }
  void close_now() override;

 private:
  event::Loop& loop_;
  ActiveChain& chain_;
  const int fd_;
  std::function<void()> on_gone_;
  event::Timeout delay_;
};

}  // namespace outrigger::proxy
