// AccessLogger: one configured access log, compiled: a format and a sink. AccessLogSinks: the files behind them,
// written by one thread of their own. A worker formats its line into its own ring (single producer, single consumer); a
// full ring drops the line and counts it ("access_log.dropped"). Nothing here ever blocks a worker.
//
// Thread rule: compile and AccessLogSinks on the builder or main thread; log() on workers, each with its own index.
// Use:  auto logger = AccessLogger::compile(spec, sinks);   logger->log(worker_index, context);
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "config/spec.h"
#include "outrigger/result.h"
#include "route/formatter.h"
#include "stats/stats.h"

namespace outrigger::proxy {

class AccessLogSinks {
 public:
  AccessLogSinks(uint32_t workers, stats::Registry& registry);
  ~AccessLogSinks();  // writes what is queued, then stops
  void reopen();      // after a log rotation: files are opened again by name
  void flush();       // returns when everything logged before is written (tests, shutdown)

 private:
  friend class AccessLogger;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class AccessLogger {
 public:
  // Opens the file (append, created 0644). An error names path and cause.
  static Result<std::shared_ptr<const AccessLogger>> compile(const config::AccessLogSpec& spec, AccessLogSinks& sinks);
  ~AccessLogger();
  // No heap allocation in steady state; lines over 16 KiB are cut.
  void log(uint32_t worker, const route::FormatContext& context) const;

 private:
  AccessLogger() = default;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::proxy
