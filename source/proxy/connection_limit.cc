#include "proxy/connection_limit.h"

#include <unistd.h>

#include <utility>

namespace outrigger::proxy {

bool ConnectionLimit::take(uint64_t most) {
  uint64_t count = count_.load(std::memory_order_relaxed);
  while (count < most) {
    if (count_.compare_exchange_weak(count, count + 1, std::memory_order_relaxed)) return true;
  }
  return false;
}

ConnectionLimitStats::ConnectionLimitStats(stats::Registry& registry, const std::string& stat_prefix)
    : group(registry, {{"connection_limit", stat_prefix}}),
      limited(group.counter("connection_limit.{connection_limit}.limited_connections")),
      active(group.gauge("connection_limit.{connection_limit}.active_connections")) {}

RefusedConnection::RefusedConnection(event::Loop& loop, ActiveChain& chain, int fd, uint64_t delay_ms,
                                     std::function<void()> on_gone)
    : loop_(loop),
      chain_(chain),
      fd_(fd),
      on_gone_(std::move(on_gone)),
      delay_([](void* self) { static_cast<RefusedConnection*>(self)->close_now(); }, this) {
  ++chain_.count;
  ++chain_.refused;
  chain_.connections.push_back(*this);
  loop_.timers().arm(delay_, delay_ms);
}

void RefusedConnection::close_now() {
  delay_.disarm();
  ::close(fd_);
  unlink();
  --chain_.count;
  --chain_.refused;
  loop_.defer_delete(std::unique_ptr<event::Deferred>(this));
  std::exchange(on_gone_, nullptr)();
}

}  // namespace outrigger::proxy
