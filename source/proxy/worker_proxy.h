// WorkerProxy: the data plane of one worker: its acceptors, connections, streams and upstream pools, all on one loop.
//
// adopt() takes the next snapshot: requests that are under way keep the one they began with; acceptors come and go with
// the listeners; connections stay, unless their filter chain changed identity or is gone: those drain.
//
// Thread rule: its loop's thread, except the constructor (before the loop runs) and the destructor (after).
// Use:  loop.post([&] { worker.adopt(snapshot); });
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "event/loop.h"
#include "proxy/snapshot.h"

namespace outrigger::proxy {

struct WorkerOptions {
  uint32_t index = 0;
  stats::Registry* stats = nullptr;
  // Takes over parts that this worker will not use any more (any thread but a worker destroys them: the builder).
  std::function<void(std::vector<std::shared_ptr<const void>>)> release;
  // How long drained connections may stay busy after their chain went away (Envoy's --drain-time-s).
  uint64_t drain_ms = 600'000;
};

class WorkerProxy {
 public:
  WorkerProxy(event::Loop& loop, WorkerOptions options);
  ~WorkerProxy();  // the loop has been run to its end after shutdown()

  void adopt(std::shared_ptr<const Snapshot> snapshot);
  uint64_t version() const;  // of the adopted snapshot; 0: none

  // Health checks have found a host of that cluster unhealthy.
  void on_host_failed(std::string_view cluster, const upstream::Host& host);

  // Stops accepting; connections close as their requests end, idle ones at once. done() is called (once) when the last
  // connection is gone, or `limit_ms` have passed and the rest was cut.
  void drain(uint64_t limit_ms, std::function<void()> done);
  // Cuts everything now. The loop has to run until it is empty before the destructor.
  void shutdown();

  size_t downstream_connections() const;
  size_t active_requests() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::proxy
