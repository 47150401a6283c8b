// Control: the thread that fetches config (discovery streams, resource files, DNS) and checks the health of upstream
// hosts. It hands everything to the Builder and brings verdicts back; it parses nothing.
//
// There is one stream for ADS, and one for each type and source of its own (config::same_source), which asks for all
// that its clusters or listeners name and is closed when nothing does any more; at most 64 in all.
//
// Thread rule: made, started and stopped on the main thread; want(), check() and take_longest_turn_ns() from any
// thread. on_status and on_host_failed run on the control thread.
//
// Use:  Control control(spec, stats, builder, on_status);  control.start();  control.want(wanted);  control.stop();
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/spec.h"
#include "server/builder.h"
#include "xds/discovery_client.h"

namespace outrigger::server {

class Control {
 public:
  // A host has failed its health checks (the Builder has been told of it, as of those that are healthy again).
  using OnHostFailed = std::function<void(const std::string& cluster, const std::shared_ptr<upstream::Host>& host)>;
  using OnStatus = std::function<void(std::shared_ptr<const std::vector<xds::StreamStatus>>)>;
  // `remembered`: listeners and clusters that the builder has from an earlier life.
  using Names = std::map<xds::Type, std::vector<std::string>>;
  Control(const config::BootstrapSpec& spec, stats::Registry& stats, Builder& builder, OnStatus on_status,
          Names remembered = {}, OnHostFailed on_host_failed = {});
  ~Control();  // stop()
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  void start();
  void want(Wanted wanted);
  void check(std::vector<upstream::HealthTarget> targets);
  int64_t take_longest_turn_ns();
  int64_t take_longest_task_cpu_ns();
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The channel to one server of a control plane: by its own address, or by the bootstrap's static cluster that it names.
xds::ChannelSpec channel_spec(const config::GrpcServiceSpec& service, const config::BootstrapSpec& bootstrap);

}  // namespace outrigger::server
