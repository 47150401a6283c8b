// Signals: signal handlers on a loop.
//
// Thread rule: the loop's thread; destroyed while the loop can still be turned (its handles close there).
// Use:  Signals signals(loop);  signals.on(SIGTERM, [&] { drain(); });
#pragma once

#include <functional>
#include <vector>

#include "event/loop.h"

namespace outrigger::server {

class Signals {
 public:
  explicit Signals(event::Loop& loop) : loop_(loop) {}
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  void on(int number, std::function<void()> handler);

 private:
  struct Handle;
  event::Loop& loop_;
  std::vector<Handle*> handles_;  // each frees itself in its close callback
};

}  // namespace outrigger::server
