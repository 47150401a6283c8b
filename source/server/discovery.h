// Discovery: the thread of the discovery streams. It has one of its own since a response of 10,000 resources, and a
// request that names as many, take milliseconds, and nothing else shall wait for them (Control has what must be on
// time). It hands everything to the Builder and brings verdicts back; it parses nothing.
//
// There is one stream for ADS, and one for each type and source of its own (config::same_source), which asks for all
// that its clusters or listeners name and is closed when nothing does any more; at most 64 in all.
//
// Thread rule: made, started and stopped on the main thread; want() and take_longest_...() from any thread. on_status
// runs on the discovery thread.
// Use:  Discovery discovery(spec, stats, builder, on_status);  discovery.start();  discovery.want(wanted);
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

class Discovery {
 public:
  using OnStatus = std::function<void(std::shared_ptr<const std::vector<xds::StreamStatus>>)>;
  // `remembered`: listeners and clusters that the builder has from an earlier life.
  using Names = std::map<xds::Type, std::vector<std::string>>;
  Discovery(const config::BootstrapSpec& spec, stats::Registry& stats, Builder& builder, OnStatus on_status,
            Names remembered = {});
  ~Discovery();  // stop()
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

  void start();
  void want(Wanted wanted);  // its names and streams; files and DNS are Control's
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
