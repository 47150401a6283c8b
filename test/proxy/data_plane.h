// DataPlane: the data plane of one worker in this process, on a thread of its own: a Store and a WorkerProxy, no
// protobuf and no server around them. Listeners are on 127.0.0.1, port by the kernel.
//
// Use:  DataPlane plane(cluster_spec, table_spec);  HttpClient client(plane.port());
//       plane.accept(new_table);  plane.publish();    // returns when the worker has it
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>

#include "proxy/store.h"
#include "proxy/worker_proxy.h"
#include "support/wait.h"

namespace outrigger::proxy {

class DataPlane {
 public:
  // `logs`: access logs are written; flush_logs() waits for that.
  explicit DataPlane(bool logs = false)
      : sinks_(logs ? std::make_unique<AccessLogSinks>(1, registry) : nullptr),
        store_({.stats = &registry, .access_log = sinks_.get(), .workers = 1, .now_ms = [] { return int64_t{0}; }}),
        loop_(std::make_unique<event::Loop>()) {
    worker_ = std::make_unique<WorkerProxy>(
        *loop_, WorkerOptions{.index = 0, .stats = &registry, .release = [this](auto parts) {
                                const std::lock_guard lock(mutex_);
                                for (auto& part : parts) released_.push_back(std::move(part));
                              }});
    thread_ = std::thread([this] { loop_->run(); });
  }

  ~DataPlane() {
    loop_->post([this] { worker_->shutdown(); });
    run([] {});
    test::wait_until([this] {
      bool idle = false;
      run([&] { idle = worker_->downstream_connections() == 0 && worker_->active_requests() == 0; });
      return idle;
    });
    loop_->post([this] { loop_->stop(); });
    thread_.join();
    while (uv_run(loop_->uv(), UV_RUN_NOWAIT) != 0 && --spins_ > 0) {
    }
    worker_.reset();
    loop_.reset();
    released_.clear();
  }

  // Stages a resource, which must be good.
  void accept(config::Spec spec) {
    const auto verdict = store_.accept(std::move(spec), {}, Source::kXds);
    if (!verdict.has_value()) ADD_FAILURE() << verdict.error().detail;
  }
  void remove(config::ResourceType type, std::string_view name) { store_.remove(type, name, Source::kXds); }

  // Assembles and hands the snapshot to the worker, as the builder does.
  void publish() {
    auto snapshot = store_.assemble();
    if (snapshot == nullptr) return;
    run([&] { worker_->adopt(snapshot); });
    const std::lock_guard lock(mutex_);
    released_.clear();
  }

  void update(config::Spec spec) {
    accept(std::move(spec));
    publish();
  }

  uint16_t port(std::string_view listener = "main") {
    const LinkedListener* linked = store_.live()->listeners.find(listener);
    return linked == nullptr ? 0 : linked->part->sockets[0]->address().port();
  }

  // Runs f on the worker's thread and waits for it.
  void run(const std::function<void()>& f) {
    std::promise<void> done;
    loop_->post([&] {
      f();
      done.set_value();
    });
    done.get_future().wait();
  }

  size_t released() {
    const std::lock_guard lock(mutex_);
    return released_.size();
  }

  Store& store() { return store_; }
  WorkerProxy& worker() { return *worker_; }
  void flush_logs() { sinks_->flush(); }
  event::Loop& loop() { return *loop_; }  // in run() only
  uint64_t stat(std::string_view name) const { return registry.value(name); }

  stats::Registry registry{1};

 private:
  std::unique_ptr<AccessLogSinks> sinks_;
  Store store_;
  std::unique_ptr<event::Loop> loop_;
  std::unique_ptr<WorkerProxy> worker_;
  std::thread thread_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<const void>> released_;
  int spins_ = 10'000;
};

}  // namespace outrigger::proxy
