#include "server/control.h"

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <thread>

#include "event/loop.h"
#include "event/run_out.h"
#include "server/dns_refresher.h"
#include "server/file_sources.h"

namespace outrigger::server {
namespace {

constexpr size_t kTargetsAtOnce = 64;

}  // namespace

struct Control::Impl {
  Impl(stats::Registry& r, Builder& b, OnHostFailed failed) : stats(r), builder(b), on_host_failed(std::move(failed)) {}

  void run() {
    ::pthread_setname_np(::pthread_self(), "control");
    FileSources made_files(loop, [this](const FileSource& source, std::string text, std::string error) {
      builder.update_file(source, std::move(text), std::move(error));
    });
    DnsRefresher made_dns(loop, stats, [this](const std::string& cluster, std::vector<config::EndpointSpec> endpoints) {
      builder.set_resolved(cluster, std::move(endpoints));
    });
    upstream::HealthChecker made_health(
        loop, stats, [this](const std::string& cluster, const std::shared_ptr<upstream::Host>& host) {
          if (host->failed_check() && on_host_failed) on_host_failed(cluster, host);
          builder.health_changed(cluster);
        });
    health = &made_health;
    files = &made_files;
    dns = &made_dns;
    loop.run();
    health = nullptr;
    targets.clear();
    {
      event::Turn turn(loop);
      made_health.shutdown();
    }
    event::run_out(loop, [&made_health] { return !made_health.idle(); });
  }

  // Some of them; the rest when what is due meanwhile has been done.
  void take_targets() {
    for (size_t i = 0; i < kTargetsAtOnce && !targets.empty(); ++i) {
      health->want(std::move(targets.front()));
      targets.pop_front();
    }
    if (!targets.empty()) loop.post([this] { take_targets(); });
  }

  stats::Registry& stats;
  Builder& builder;
  OnHostFailed on_host_failed;
  event::Loop loop;
  std::thread thread;
  // The thread's:
  FileSources* files = nullptr;
  DnsRefresher* dns = nullptr;
  upstream::HealthChecker* health = nullptr;
  std::deque<upstream::HealthTarget> targets;  // not taken yet
};

Control::Control(stats::Registry& stats, Builder& builder, OnHostFailed on_host_failed)
    : impl_(std::make_unique<Impl>(stats, builder, std::move(on_host_failed))) {}
Control::~Control() { stop(); }

void Control::start() {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

void Control::want(const Wanted& wanted) {
  impl_->loop.post([impl = impl_.get(), files = wanted.files, dns = wanted.dns] {
    impl->files->want(files);
    impl->dns->want(dns);
  });
}

void Control::check(std::vector<upstream::HealthTarget> targets) {
  impl_->loop.post([impl = impl_.get(), targets = std::move(targets)]() mutable {
    if (impl->health == nullptr) return;  // it ends
    const bool under_way = !impl->targets.empty();
    std::move(targets.begin(), targets.end(), std::back_inserter(impl->targets));
    if (!under_way) impl->take_targets();
  });
}

int64_t Control::take_longest_turn_ns() { return impl_->loop.take_longest_turn_ns(); }
int64_t Control::take_longest_task_cpu_ns() { return impl_->loop.take_longest_task_cpu_ns(); }

void Control::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->loop.stop();
  impl_->thread.join();
}

}  // namespace outrigger::server
