#include "server/server.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "base/log.h"
#include "event/clock.h"
#include "event/loop.h"
#include "event/run_out.h"
#include "event/timer.h"
#include "server/admin_pages.h"
#include "server/builder.h"
#include "server/control.h"
#include "server/cpu_count.h"
#include "server/discovery.h"
#include "server/read_file.h"
#include "server/signals.h"
#include "server/state_dir.h"
#include "server/worker.h"

namespace outrigger::server {

using admin::AdminOptions;
using admin::AdminServer;

namespace {

constexpr size_t kMaxBootstrapBytes = 256u << 20;
constexpr uint64_t kAdminLingerMs = 300;  // for the last answers of admin

Result<net::Address> to_address(const config::AddressSpec& spec) {
  if (spec.kind == config::AddressSpec::Kind::kPipe) return net::Address::unix_path(spec.host);
  return net::Address::parse(spec.host, spec.port);
}

// Makes the kernel refuse new connections while descriptors of the set are still held.
void stop_listening(const proxy::Snapshot& snapshot) {
  snapshot.listeners.for_each([](const std::string&, const proxy::LinkedListener& listener) {
    for (const auto& set : listener.part->sockets)
      for (uint32_t i = 0; set != nullptr && i < set->size(); ++i) ::shutdown(set->fd(i), SHUT_RDWR);
  });
}

// The longest turn of each loop, by the name of its thread, and the most CPU time of a task. What the main loop asks
// for is kept for two windows, so that several readers see the same: of the last 10 to 20 s, or since the last page
// before that.
class LongestTurns {
 public:
  explicit LongestTurns(stats::Registry& registry) : registry_(registry) {}
  // What runs a loop by the name of `thread`; it outlives this.
  template <class Runner>
  void watch(const std::string& thread, Runner& runner) {
    add(thread, "longest_turn_us", [&runner] { return runner.take_longest_turn_ns(); });
    add(thread, "longest_task_cpu_us", [&runner] { return runner.take_longest_task_cpu_ns(); });
  }
  void refresh(int64_t now_ns) {
    const bool next_window = now_ns - window_from_ns_ >= kWindowNs;
    if (next_window) window_from_ns_ = now_ns;
    for (Watched& watched : watched_) {
      watched.window_ns = std::max(watched.window_ns, watched.take());
      registry_.set(watched.gauge, std::max(watched.window_ns, watched.last_window_ns) / 1'000);
      if (next_window) watched.last_window_ns = std::exchange(watched.window_ns, 0);
    }
  }

 private:
  static constexpr int64_t kWindowNs = 10'000'000'000;
  // `take` is called by refresh(): the longest since the last call, ns.
  void add(const std::string& thread, std::string_view name, std::function<int64_t()> take) {
    Watched& watched = watched_.emplace_back();
    watched.take = std::move(take);
    watched.group = std::make_unique<stats::Group>(registry_, stats::Labels{{"thread", thread}});
    watched.gauge = watched.group->gauge("loop.{thread}." + std::string(name));
  }
  struct Watched {
    std::function<int64_t()> take;
    std::unique_ptr<stats::Group> group;
    stats::Gauge gauge;
    int64_t window_ns = 0, last_window_ns = 0;
  };
  stats::Registry& registry_;
  std::vector<Watched> watched_;
  int64_t window_from_ns_ = 0;
};

struct ServerStats {
  explicit ServerStats(stats::Registry& registry)
      : group(registry, {}),
        live(group.gauge("server.live")),
        state(group.gauge("server.state")),
        uptime(group.gauge("server.uptime")),
        concurrency(group.gauge("server.concurrency")),
        oldest_version(group.gauge("server.oldest_worker_version")),
        stale(group.gauge("state_dir.stale")),
        stale_age(group.gauge("state_dir.stale_age_seconds")),
        time_to_live(group.histogram("server.time_to_live_ms")) {}
  stats::Group group;
  stats::Gauge live, state, uptime, concurrency, oldest_version, stale, stale_age;
  stats::Histogram time_to_live;
};

// One update a type, version and scope.
std::vector<xds::Update> to_updates(std::vector<RememberedResource> resources) {
  std::map<std::tuple<config::ResourceType, std::string, std::string>, xds::Update> updates;
  for (RememberedResource& resource : resources) {
    xds::Update& update = updates[{resource.type, resource.version, resource.scope}];
    update.type = static_cast<xds::Type>(resource.type);
    update.version = resource.version;
    update.scope = resource.scope;
    update.resources.push_back({.name = std::move(resource.name),
                                .version = {},
                                .type_url = std::string(config::type_url(resource.type)),
                                .bytes = std::move(resource.bytes)});
  }
  std::vector<xds::Update> all;
  for (auto& [key, update] : updates) all.push_back(std::move(update));
  return all;
}

bool by_discovery(const std::optional<config::ConfigSourceSpec>& source) {
  return source && source->kind != config::ConfigSourceSpec::Kind::kFile;
}

int64_t state_number(Phase phase) {  // Envoy's numbers
  return phase == Phase::kLive ? 0 : phase == Phase::kDraining ? 1 : 2;
}

}  // namespace

struct Server::Impl {
  explicit Impl(ServerOptions o) : options(std::move(o)) {
    if (options.concurrency == 0) options.concurrency = cpu_count();
    registry = std::make_unique<stats::Registry>(options.concurrency);
    counts = std::make_unique<ServerStats>(*registry);
    longest_turns = std::make_unique<LongestTurns>(*registry);
    state.snapshot = std::make_shared<const proxy::Snapshot>();
    state.status = std::make_shared<const proxy::StoreStatus>();
    state.config_path = options.config_path;
    state.start_unix_ms = event::wall_clock_ms();
    state.start_ns = event::steady_ns();
    state.concurrency = options.concurrency;
    state.drain_ms = options.drain_ms;
  }
  ~Impl() { shut_down(); }

  Result<void> start();
  Result<void> open_state_dir(const config::BootstrapSpec& spec);
  Result<void> start_admin(const config::BootstrapSpec& spec);
  void start_threads(const config::BootstrapSpec& spec);
  void handle_signals();
  void run();
  void shut_down();

  void set_phase(Phase now);
  void on_snapshot(std::shared_ptr<const proxy::Snapshot> snapshot);
  void on_adopted();
  void note_live(uint32_t worker, uint64_t version, int64_t accepted_ns);
  void announce(const proxy::Snapshot& snapshot);
  void drain(uint64_t limit_ms, bool then_exit);
  void on_discovered();
  void on_all_stopped();
  void on_all_drained();
  uint64_t oldest_version() const;
  void refresh();

  ServerOptions options;
  event::Loop loop;
  std::unique_ptr<stats::Registry> registry;
  std::unique_ptr<ServerStats> counts;
  std::unique_ptr<LongestTurns> longest_turns;        // what it asks lives until shut_down()
  std::unique_ptr<proxy::AccessLogSinks> access_log;  // one ring a worker, and one for admin
  std::unique_ptr<StateDir> state_dir;                // nullptr: nothing is remembered
  Discovery::Names claims;                            // what was remembered
  bool discovered = false;  // the builder thread's: what is live is discovery's, and worth remembering
  std::unique_ptr<Builder> builder;
  std::unique_ptr<Control> control;
  std::unique_ptr<Discovery> discovery;
  std::vector<std::unique_ptr<Worker>> workers;
  std::unique_ptr<AdminPages> pages;
  std::unique_ptr<AdminServer> admin;
  std::unique_ptr<Signals> signals;

  // The main thread's.
  ServerState state;
  std::optional<uint64_t> initialized_version;
  std::atomic<uint64_t> timed_version = 0;  // whose time to live was recorded
  std::set<std::string> announced;          // listener and address
  uint64_t drain_round = 0;
  size_t workers_stopped = 0, workers_drained = 0;
  bool exiting = false;
  bool finished = false;
  bool shut = false;
  event::Timeout admin_linger{[](void*) {}, nullptr};

  mutable std::mutex mutex;  // what follows is read by other threads
  std::shared_ptr<const proxy::Snapshot> live_snapshot;
  Phase phase = Phase::kPreInitializing;
};

// ---- start ----

Result<void> Server::Impl::start() {
  std::string text = options.config_text;
  if (text.empty()) {
    TRY(text, read_file(options.config_path, kMaxBootstrapBytes));
  }
  access_log = std::make_unique<proxy::AccessLogSinks>(options.concurrency + 1, *registry);
  builder = std::make_unique<Builder>(BuilderOptions{.stats = registry.get(),
                                                     .access_log = access_log.get(),
                                                     .workers = options.concurrency,
                                                     .unknown_fields = options.unknown_fields});
  Builder::Loaded loaded = builder->load(text, options.config_path);
  if (!loaded.spec) return fail(Errc::kInvalidArgument, loaded.faults.str());
  for (const config::Fault& fault : loaded.faults.all()) OUTRIGGER_LOG(kWarning, "config", "{}", fault.str());
  state.bootstrap_bytes = std::move(loaded.bytes);
  state.node = loaded.spec->node;
  TRY_VOID(open_state_dir(*loaded.spec));
  TRY_VOID(start_admin(*loaded.spec));
  if (options.handle_signals) handle_signals();
  start_threads(*loaded.spec);
  return {};
}

Result<void> Server::Impl::open_state_dir(const config::BootstrapSpec& spec) {
  if (options.state_dir.empty() || !(by_discovery(spec.lds) || by_discovery(spec.cds))) return {};
  TRY(state_dir, StateDir::open(options.state_dir, spec.node.id + "/" + spec.node.cluster, *registry));
  auto remembered = state_dir->load();
  if (!remembered) {
    OUTRIGGER_LOG(kWarning, "state", "not remembered: {}", remembered.error().detail);
    return {};
  }
  if (!*remembered) return {};
  const size_t count = (*remembered)->resources.size();
  for (const RememberedResource& resource : (*remembered)->resources) {
    const auto type = static_cast<xds::Type>(resource.type);
    if (xds::is_full_set(type)) claims[type].push_back(resource.name);
  }
  const auto faults = builder->remember(to_updates(std::move((*remembered)->resources)));
  for (const std::string& fault : faults) OUTRIGGER_LOG(kWarning, "state", "remembered, but good no longer: {}", fault);
  state.remembered_unix_ms = (*remembered)->saved_unix_ms;
  OUTRIGGER_LOG(kInfo, "state", "{} resources remembered from {} s ago; they serve until the control plane answers",
                count, *state.remembered_age_s());
  return {};
}

void Server::Impl::on_discovered() {
  if (state.remembered_unix_ms)
    OUTRIGGER_LOG(kInfo, "state", "the control plane has answered; what was remembered has given way");
  state.remembered_unix_ms.reset();
}

Result<void> Server::Impl::start_admin(const config::BootstrapSpec& spec) {
  if (options.admin_address.empty() && !spec.admin) return {};
  const auto named = [](Error error) {
    error.detail = "admin: " + error.detail;
    return tl::unexpected(std::move(error));
  };
  const auto address =
      options.admin_address.empty() ? to_address(*spec.admin) : admin::parse_listen_address(options.admin_address);
  if (!address) return named(address.error());
  AdminOptions admin_options;
  admin_options.access_log_ring = options.concurrency;
  for (const config::AccessLogSpec& log : spec.admin_access_logs) {
    auto compiled = proxy::AccessLogger::compile(log, *access_log);
    if (!compiled) return named(compiled.error());
    admin_options.access_logs.push_back(std::move(*compiled));
  }
  pages = std::make_unique<AdminPages>(loop, state, *registry,
                                       AdminActions{.quit = [this] { drain(0, true); },
                                                    .drain_listeners = [this] { drain(options.drain_ms, false); },
                                                    .reopen_logs = [this] { access_log->reopen(); }},
                                       [this] { refresh(); });
  auto listening = AdminServer::listen(
      loop, *address, [this](const AdminRequest& request) { return pages->answer(request); }, std::move(admin_options));
  if (!listening) return named(listening.error());
  admin = std::move(*listening);
  if (!admin->address().is_unix() && !admin->address().is_loopback())
    OUTRIGGER_LOG(kWarning, "server", "admin can be reached from other machines: anybody there may end this process");
  OUTRIGGER_LOG(kInfo, "server", "admin listening on {}", admin->address().str());
  return {};
}

void Server::Impl::start_threads(const config::BootstrapSpec& spec) {
  const auto on_main = [this](auto&& f) { loop.post(std::forward<decltype(f)>(f)); };
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    proxy::WorkerOptions worker{
        .index = i,
        .stats = registry.get(),
        .release = [this](std::vector<std::shared_ptr<const void>> parts) { builder->release(std::move(parts)); },
        .drain_ms = options.drain_ms};
    workers.push_back(
        std::make_unique<Worker>(std::move(worker), [this, on_main, i](uint64_t version, int64_t accepted_ns) {
          note_live(i, version, accepted_ns);
          on_main([this] { on_adopted(); });
        }));
  }
  control = std::make_unique<Control>(*registry, *builder,
                                      [this](const std::string& cluster, const std::shared_ptr<upstream::Host>& host) {
                                        for (auto& worker : workers) worker->on_host_failed(cluster, host);
                                      });
  discovery = std::make_unique<Discovery>(
      spec, *registry, *builder,
      [this, on_main](auto status) { on_main([this, status = std::move(status)] { state.streams = status; }); },
      std::move(claims));
  registry->set(counts->concurrency, options.concurrency);
  set_phase(Phase::kPreInitializing);
  longest_turns->watch("main", loop);
  longest_turns->watch("control", *control);
  longest_turns->watch("discovery", *discovery);
  longest_turns->watch("builder", *builder);
  for (size_t i = 0; i < workers.size(); ++i) longest_turns->watch("worker_" + std::to_string(i), *workers[i]);
  for (auto& worker : workers) worker->start();
  control->start();
  discovery->start();
  builder->start(
      {.on_snapshot =
           [this, on_main](std::shared_ptr<const proxy::Snapshot> snapshot) {
             on_main([this, snapshot] { on_snapshot(snapshot); });
             for (auto& worker : workers) worker->adopt(snapshot);
           },
       .on_status =
           [this, on_main](std::shared_ptr<const proxy::StoreStatus> status) {
             if (state_dir != nullptr && discovered) state_dir->save(status);
             // What it replaces may be 20,000 entries: the builder frees them, as all that is old.
             on_main([this, status = std::move(status)] { builder->release({std::exchange(state.status, status)}); });
           },
       .on_wanted =
           [this](const Wanted& wanted) {
             control->want(wanted);
             discovery->want(wanted);
           },
       .on_health_targets = [this](auto targets) { control->check(std::move(targets)); },
       .on_initialized =
           [this, on_main](uint64_t version) {
             on_main([this, version] {
               initialized_version = version;
               on_adopted();
             });
           },
       .on_discovered =
           [this, on_main] {
             discovered = true;
             on_main([this] { on_discovered(); });
           }});
}

void Server::Impl::handle_signals() {
  signals = std::make_unique<Signals>(loop);
  const auto end = [this](int number) {
    if (exiting) {
      OUTRIGGER_LOG(kWarning, "server", "second signal: exiting at once");
      ::_exit(128 + number);
    }
    OUTRIGGER_LOG(kInfo, "server", "signal {}: draining for at most {} s", number, options.drain_ms / 1000);
    drain(options.drain_ms, true);
  };
  signals->on(SIGTERM, [end] { end(SIGTERM); });
  signals->on(SIGINT, [end] { end(SIGINT); });
  signals->on(SIGUSR1, [this] { access_log->reopen(); });
}

// ---- life ----

void Server::Impl::set_phase(Phase now) {
  state.phase = now;
  registry->set(counts->live, now == Phase::kLive ? 1 : 0);
  registry->set(counts->state, state_number(now));
  std::lock_guard lock(mutex);
  phase = now;
}

uint64_t Server::Impl::oldest_version() const {
  uint64_t oldest = UINT64_MAX;
  for (const auto& worker : workers) oldest = std::min(oldest, worker->version());
  return oldest;
}

void Server::Impl::on_snapshot(std::shared_ptr<const proxy::Snapshot> snapshot) {
  builder->release({std::exchange(state.snapshot, std::move(snapshot))});
  on_adopted();
}

// On the worker's thread. The last one to adopt a version times it, however busy the main loop is.
void Server::Impl::note_live(uint32_t worker, uint64_t version, int64_t accepted_ns) {
  if (accepted_ns == 0 || oldest_version() < version) return;
  uint64_t timed = timed_version.load(std::memory_order_relaxed);
  while (timed < version) {
    if (!timed_version.compare_exchange_weak(timed, version, std::memory_order_relaxed)) continue;
    registry->worker_shard(worker).record(counts->time_to_live,
                                          static_cast<double>(event::steady_ns() - accepted_ns) / 1e6);
    return;
  }
}

void Server::Impl::on_adopted() {
  const uint64_t oldest = oldest_version();
  registry->set(counts->oldest_version, static_cast<int64_t>(oldest));
  if (oldest >= state.snapshot->version) {
    announce(*state.snapshot);
    std::shared_ptr<const proxy::Snapshot> before = state.snapshot;
    {
      std::lock_guard lock(mutex);
      live_snapshot.swap(before);
    }
    builder->release({std::move(before)});
  }
  if (state.phase == Phase::kPreInitializing && initialized_version && oldest >= *initialized_version) {
    set_phase(Phase::kLive);
    OUTRIGGER_LOG(kInfo, "server", "live with config version {} after {} ms", state.snapshot->version,
                  (event::steady_ns() - state.start_ns) / 1'000'000);
  }
}

void Server::Impl::announce(const proxy::Snapshot& snapshot) {
  if (state.phase == Phase::kDraining) {
    if (workers_stopped == workers.size()) stop_listening(snapshot);
    return;
  }
  std::set<std::string> now;
  snapshot.listeners.for_each([&](const std::string& name, const proxy::LinkedListener& listener) {
    for (const auto& set : listener.part->sockets) {
      if (set != nullptr) now.insert(fmt::format("listener {} listening on {}", name, set->address().str()));
    }
  });
  for (const std::string& line : now)
    if (!announced.contains(line)) OUTRIGGER_LOG(kInfo, "server", "{}", line);
  announced = std::move(now);
}

void Server::Impl::refresh() {
  longest_turns->refresh(event::steady_ns());
  registry->set(counts->uptime, (event::steady_ns() - state.start_ns) / 1'000'000'000);
  registry->set(counts->stale, state.remembered_unix_ms ? 1 : 0);
  registry->set(counts->stale_age, state.remembered_age_s().value_or(0));
  state.worker_versions.clear();
  for (const auto& worker : workers) state.worker_versions.push_back(worker->version());
}

void Server::Impl::drain(uint64_t limit_ms, bool then_exit) {
  if (finished) return;
  exiting = exiting || then_exit;
  set_phase(Phase::kDraining);
  const uint64_t round = ++drain_round;
  workers_stopped = workers_drained = 0;
  // Counted on this thread; a later call to drain() makes the counts of earlier ones void.
  const auto count = [this, round](size_t Impl::*counter, void (Impl::*all)()) {
    return [this, round, counter, all] {
      loop.post([this, round, counter, all] {
        if (round == drain_round && ++(this->*counter) == workers.size()) (this->*all)();
      });
    };
  };
  for (auto& worker : workers) {
    worker->drain(limit_ms, count(&Impl::workers_stopped, &Impl::on_all_stopped),
                  count(&Impl::workers_drained, &Impl::on_all_drained));
  }
}

void Server::Impl::on_all_stopped() { stop_listening(*state.snapshot); }

void Server::Impl::on_all_drained() {
  OUTRIGGER_LOG(kInfo, "server", "drained");
  if (!exiting) return;
  finished = true;
  loop.stop();
}

void Server::Impl::run() {
  loop.run();
  shut_down();
}

// ---- the end ----

void Server::Impl::shut_down() {
  if (std::exchange(shut, true)) return;
  for (auto& worker : workers) worker->stop();
  if (discovery != nullptr) discovery->stop();
  if (control != nullptr) control->stop();
  if (builder != nullptr) builder->stop();
  state_dir.reset();
  if (admin != nullptr) {
    admin->drain();
    loop.timers().arm(admin_linger, kAdminLingerMs);
    while (!admin->idle() && admin_linger.armed()) loop.run_once();
    admin_linger.disarm();
    admin->close_now();
  }
  signals.reset();
  event::run_out(loop, [this] { return admin != nullptr && !admin->idle(); });
  loop.close_posts();
  admin.reset();
  // Parts go before what they log to and count in.
  state.snapshot.reset();
  {
    std::lock_guard lock(mutex);
    live_snapshot.reset();
  }
  workers.clear();
  discovery.reset();
  control.reset();
  builder.reset();
  access_log.reset();
}

// ---- Server ----

Server::Server(ServerOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Server::~Server() = default;

Result<void> Server::start() { return impl_->start(); }
void Server::run() { impl_->run(); }

void Server::drain(uint64_t limit_ms) {
  impl_->loop.post([impl = impl_.get(), limit_ms] { impl->drain(limit_ms, true); });
}

uint16_t Server::admin_port() const { return impl_->admin == nullptr ? 0 : impl_->admin->address().port(); }

uint16_t Server::listener_port(std::string_view name) const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->live_snapshot == nullptr) return 0;
  const proxy::LinkedListener* listener = impl_->live_snapshot->listeners.find(name);
  if (listener == nullptr || listener->part->sockets.empty()) return 0;
  return listener->part->sockets[0]->address().port();
}

Phase Server::phase() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->phase;
}

uint64_t Server::live_version() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->live_snapshot == nullptr ? 0 : impl_->live_snapshot->version;
}

stats::Registry& Server::stats() { return *impl_->registry; }

config::Faults validate(std::string_view config_text, std::string_view file, config::UnknownFields unknown_fields) {
  stats::Registry registry(1);
  Builder builder({.stats = &registry, .bind = false, .unknown_fields = unknown_fields});
  return builder.load(config_text, file).faults;
}

}  // namespace outrigger::server
