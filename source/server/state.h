// What admin shows: published immutable state and a few numbers. Owned by the main thread; nothing in it waits for
// anybody.
//
// Thread rule: the main thread; what the pointers lead to is immutable.
// Use:  std::string page = pages::clusters(state, json);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/spec.h"
#include "proxy/snapshot.h"
#include "proxy/store.h"
#include "stats/stats.h"
#include "xds/discovery_client.h"

namespace outrigger::server {

enum class Phase : uint8_t { kPreInitializing, kLive, kDraining };
std::string_view phase_name(Phase phase);  // "LIVE", as Envoy writes it

struct ServerState {
  Phase phase = Phase::kPreInitializing;
  std::shared_ptr<const proxy::Snapshot> snapshot;                // the newest one published; never nullptr
  std::shared_ptr<const proxy::StoreStatus> status;               // never nullptr; may be a few ms older
  std::shared_ptr<const std::vector<xds::StreamStatus>> streams;  // of discovery; nullptr: none yet
  std::string bootstrap_bytes;                                    // serialised envoy.config.bootstrap.v3.Bootstrap
  std::string config_path;
  config::NodeSpec node;
  // What is served was remembered from an earlier life and the control plane has not confirmed or replaced it yet: when
  // it was saved, ms since 1970.
  std::optional<int64_t> remembered_unix_ms;
  std::optional<int64_t> remembered_age_s() const;
  int64_t start_unix_ms = 0;
  int64_t start_ns = 0;  // steady
  uint32_t concurrency = 0;
  uint64_t drain_ms = 0;
  std::vector<uint64_t> worker_versions;  // filled before a page is made
};

}  // namespace outrigger::server
