// What the control plane tells of itself in Prometheus' text format, by names that begin with "outrigger_control_".
//
// Thread rule: pure function.
// Use:  return metrics_text({.server = server.stats(), .groups = ..., .files = 3}, event::wall_clock_ms());
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "outrigger/control/ads_server.h"

namespace outrigger::control {

struct ControlMetrics {
  struct Group {
    std::string name;
    std::string version;  // of its snapshot
    size_t resources = 0;
    int64_t since_unix_ms = 0;
  };
  AdsServerStats server;
  std::vector<Group> groups;
  size_t files = 0, refused_files = 0;
  uint64_t file_faults = 0;  // told since the start
};

std::string metrics_text(const ControlMetrics& metrics, int64_t now_unix_ms);

}  // namespace outrigger::control
