// Worker: one data-plane thread: an event loop and the WorkerProxy on it.
//
// Thread rule: made, started and destroyed on the main thread; adopt(), on_host_failed(), drain() and version() from
// any thread (they post).
// Use:  Worker worker(options, on_adopted);  worker.start();  worker.adopt(snapshot);  ...  worker.stop();
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "event/loop.h"
#include "proxy/worker_proxy.h"

namespace outrigger::server {

class Worker {
 public:
  // On the worker's thread, after each adoption; `accepted_ns` is the snapshot's.
  using OnAdopted = std::function<void(uint64_t version, int64_t accepted_ns)>;
  Worker(proxy::WorkerOptions options, OnAdopted on_adopted);
  ~Worker();  // stop()

  void start();
  void adopt(std::shared_ptr<const proxy::Snapshot> snapshot);
  void on_host_failed(std::string cluster, std::shared_ptr<const upstream::Host> host);
  // See WorkerProxy::drain. `stopped` is called when no socket accepts any more, `done` when the last connection is
  // gone; both on the worker's thread.
  void drain(uint64_t limit_ms, std::function<void()> stopped, std::function<void()> done);
  // Cuts what is left and waits for the thread's end.
  void stop();

  int64_t take_longest_turn_ns() { return loop_.take_longest_turn_ns(); }
  int64_t take_longest_task_cpu_ns() { return loop_.take_longest_task_cpu_ns(); }
  uint64_t version() const { return version_.load(std::memory_order_acquire); }  // adopted; 0: none

 private:
  void run();

  event::Loop loop_;
  proxy::WorkerOptions options_;
  OnAdopted on_adopted_;
  proxy::WorkerProxy* proxy_ = nullptr;  // the thread's
  std::atomic<uint64_t> version_{0};
  std::thread thread_;
};

}  // namespace outrigger::server
