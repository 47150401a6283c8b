// Server: the whole proxy in one object: workers, builder, discovery, control, admin, and their life from start to
// drained.
//
//   start()                 run()                                         drain(), SIGTERM
//   config read, bound --> PRE_INITIALIZING --first config live--> LIVE --> DRAINING --last connection gone--> run()
//   ends
//
// The thread that calls run() is the main thread: signals, lifecycle, admin pages. Threads: design section 5.
//
// Thread rule: constructor, start(), run() and destructor on one thread; everything else from any thread.
// Use:  Server server(options);  if (auto started = server.start(); !started) ...;  server.run();
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "config/faults.h"
#include "outrigger/result.h"
#include "server/options.h"
#include "server/state.h"
#include "stats/stats.h"

namespace outrigger::server {

class Server {
 public:
  explicit Server(ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Reads the configuration, binds what it says and starts all threads. The error's detail has every fault, one a line.
  Result<void> start();
  // Until drained or stopped.
  void run();

  // Stops accepting; run() returns when the last request is done or `limit_ms` have passed (the rest is cut).
  void drain(uint64_t limit_ms);
  void stop() { drain(0); }

  uint16_t admin_port() const;  // 0: no admin
  // The port of a listener's first address once all workers serve it; 0: not yet, or no such listener.
  uint16_t listener_port(std::string_view name) const;
  Phase phase() const;
  uint64_t live_version() const;  // that all workers have adopted
  stats::Registry& stats();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What a start with this configuration would complain about, all of it: nothing is bound, opened or contacted.
config::Faults validate(std::string_view config_text, std::string_view file, config::UnknownFields unknown_fields);

}  // namespace outrigger::server
