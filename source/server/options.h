// ServerOptions: what a server is started with; the command line fills it, tests do by hand.
//
// Thread rule: value.
#pragma once

#include <cstdint>
#include <string>

#include "config/faults.h"

namespace outrigger::server {

struct ServerOptions {
  std::string config_path;  // read if config_text is empty; else only a name for messages
  std::string config_text;
  uint32_t concurrency = 0;   // workers; 0: as many as the process may use CPUs
  std::string admin_address;  // "127.0.0.1:9901"; empty: the bootstrap's, if it has one
  uint64_t drain_ms = 600'000;
  std::string state_dir;  // where the last good configuration is remembered; empty: nowhere
  config::UnknownFields unknown_fields = config::UnknownFields::kError;
  bool handle_signals = false;
};

}  // namespace outrigger::server
