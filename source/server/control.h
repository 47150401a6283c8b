// Control: the thread of what must be on time: it reads resource files, resolves DNS names and checks the health of
// upstream hosts. It hands everything to the Builder; it parses nothing. Discovery has a thread of its own.
//
// Thread rule: made, started and stopped on the main thread; want(), check() and take_longest_...() from any thread.
// on_host_failed runs on the control thread.
//
// Use:  Control control(stats, builder);  control.start();  control.want(wanted);  control.stop();
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/builder.h"
#include "stats/stats.h"

namespace outrigger::server {

class Control {
 public:
  // A host has failed its health checks (the Builder has been told of it, as of those that are healthy again).
  using OnHostFailed = std::function<void(const std::string& cluster, const std::shared_ptr<upstream::Host>& host)>;
  explicit Control(stats::Registry& stats, Builder& builder, OnHostFailed on_host_failed = {});
  ~Control();  // stop()
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  void start();
  void want(const Wanted& wanted);  // its files and DNS names
  void check(std::vector<upstream::HealthTarget> targets);
  int64_t take_longest_turn_ns();
  int64_t take_longest_task_cpu_ns();
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::server
