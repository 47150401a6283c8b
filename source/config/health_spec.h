// HealthCheckSpec: how a cluster asks its hosts whether they are well (envoy.config.core.v3.HealthCheck), as a plain
// comparable value.
//
// Thread rule: values; see spec.h.
// Use:  if (spec.health_check) arm(spec.health_check->interval_ms);
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace outrigger::config {

struct HealthCheckSpec {
  enum class Kind : uint8_t { kHttp, kTcp, kGrpc };
  struct Statuses {  // begin <= status < end
    uint16_t begin = 200, end = 201;
    bool operator==(const Statuses&) const = default;
  };
  Kind kind = Kind::kHttp;
  uint64_t timeout_ms = 1'000;
  uint64_t interval_ms = 1'000;
  uint64_t initial_jitter_ms = 0, interval_jitter_ms = 0;
  uint32_t interval_jitter_percent = 0;
  uint32_t unhealthy_threshold = 1, healthy_threshold = 1;
  uint64_t no_traffic_interval_ms = 60'000, no_traffic_healthy_interval_ms = 60'000;
  uint64_t unhealthy_interval_ms = 1'000, unhealthy_edge_interval_ms = 1'000, healthy_edge_interval_ms = 1'000;
  bool reuse_connection = true;
  bool log_failures = false, log_successes = false;  // all of them, not only what changes something
  std::vector<std::string> alpn_protocols;           // empty: what is spoken
  // kHttp, kGrpc:
  std::string host;                                          // empty: the cluster's name
  std::vector<std::pair<std::string, std::string>> headers;  // to add; names in lower case
  // kHttp:
  bool http2 = false;
  std::string method = "GET";
  std::string path;
  std::vector<Statuses> expected{Statuses{}};
  std::vector<Statuses> retriable;
  // kGrpc:
  std::string service;
  // kTcp:
  std::string send;
  std::vector<std::string> receive;
  bool operator==(const HealthCheckSpec&) const = default;
  bool speaks_http2() const { return kind == Kind::kGrpc || (kind == Kind::kHttp && http2); }
};

}  // namespace outrigger::config
