#include "server/worker.h"

#include <pthread.h>

#include <string>

#include "event/run_out.h"

namespace outrigger::server {

Worker::Worker(proxy::WorkerOptions options, OnAdopted on_adopted)
    : options_(std::move(options)), on_adopted_(std::move(on_adopted)) {}

Worker::~Worker() { stop(); }

void Worker::start() {
  thread_ = std::thread([this] { run(); });
}

void Worker::run() {
  ::pthread_setname_np(::pthread_self(), ("worker_" + std::to_string(options_.index)).c_str());
  proxy::WorkerProxy proxy(loop_, options_);
  proxy_ = &proxy;
  loop_.run();
  event::run_out(loop_, [&proxy] { return proxy.downstream_connections() > 0; });
  proxy_ = nullptr;
}

void Worker::adopt(std::shared_ptr<const proxy::Snapshot> snapshot) {
  loop_.post([this, snapshot = std::move(snapshot)]() mutable {
    const uint64_t version = snapshot->version;
    const int64_t accepted_ns = snapshot->accepted_ns;
    proxy_->adopt(std::move(snapshot));
    version_.store(version, std::memory_order_release);
    on_adopted_(version, accepted_ns);
  });
}

void Worker::on_host_failed(std::string cluster, std::shared_ptr<const upstream::Host> host) {
  loop_.post([this, cluster = std::move(cluster), host = std::move(host)] { proxy_->on_host_failed(cluster, *host); });
}

void Worker::drain(uint64_t limit_ms, std::function<void()> stopped, std::function<void()> done) {
  loop_.post([this, limit_ms, stopped = std::move(stopped), done = std::move(done)] {
    proxy_->drain(limit_ms, done);
    stopped();
  });
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  loop_.post([this] { proxy_->shutdown(); });
  loop_.stop();
  thread_.join();
}

}  // namespace outrigger::server
