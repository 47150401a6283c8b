#include "proxy/worker_proxy.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/check.h"
#include "proxy/connect_upstream.h"
#include "proxy/connection_limit.h"
#include "proxy/downstream_connection.h"
#include "proxy/tcp_proxy.h"
#include "proxy/worker_state.h"

namespace outrigger::proxy {
namespace {

// One worker's listening on the sockets of one listener. The chains stand in the listener's order. What is in intake
// when the listener goes still becomes a connection of its chains.
struct ActiveListener {
  std::shared_ptr<const ListenerPart> part;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors;
  std::vector<ActiveChain*> chains;
  List<Intake, IntakeTag> intakes;
  bool gone = false;
};

// A chain that is no longer in the listener: its connections drain, and are cut at the limit.
struct DepartedChain {
  explicit DepartedChain(std::unique_ptr<ActiveChain> leaving)
      : chain(std::move(leaving)), limit([](void* self) { static_cast<DepartedChain*>(self)->cut(); }, this) {}
  void cut() {
    chain->connections.for_each([](ChainConnection& connection) { connection.close_now(); });
  }
  std::unique_ptr<ActiveChain> chain;
  event::Timeout limit;
};

}  // namespace

struct WorkerProxy::Impl {
  Impl(event::Loop& loop, WorkerOptions o)
      : options(std::move(o)),
        state(loop, options.index, *options.stats, options.release),
        drain_limit([](void* self) { static_cast<Impl*>(self)->cut_all(); }, this) {}

  void adopt(std::shared_ptr<const Snapshot> snapshot);
  void update_listener(const std::string& name, const LinkedListener& linked);
  void remove_listener(ActiveListener& listener);
  void drain_chain(ActiveChain& chain, uint64_t over_ms);
  void accept(ActiveListener& listener, Accepted accepted);
  void on_intake_end(ActiveListener& listener, Intake& intake);
  // `index`: of the chain, by the part's match; -1: there is none.
  void bind(ActiveListener& listener, const ListenerPart& part, int index, Accepted accepted);
  bool take(ActiveChain& chain);
  void give(ActiveChain& chain);
  void refuse(ActiveChain& chain, int fd);
  void leave(std::unique_ptr<ActiveChain> chain, PinnedSnapshot* before);
  void on_gone();
  void sweep_chains();
  void check_drained();
  void cut_all();
  static void cut_intakes(ActiveListener& listener) {
    while (Intake* intake = listener.intakes.front()) intake->abort();
  }
  size_t connections() const;

  WorkerOptions options;
  WorkerState state;
  std::map<std::string, std::unique_ptr<ActiveListener>> listeners;
  std::map<std::string, std::unique_ptr<ActiveChain>> chains;  // by listener and identity
  std::vector<std::unique_ptr<DepartedChain>> departed;
  std::vector<std::unique_ptr<ActiveListener>> departed_listeners;  // with something in intake
  size_t intakes = 0;
  std::function<void()> drained;
  event::Timeout drain_limit;
};

WorkerProxy::WorkerProxy(event::Loop& loop, WorkerOptions options)
    : impl_(std::make_unique<Impl>(loop, std::move(options))) {}

WorkerProxy::~WorkerProxy() {
  CHECK(impl_->connections() == 0);
  for (auto& departed : impl_->departed)
    if (departed->chain->kept != nullptr) impl_->state.unpin(departed->chain->kept);
}

void WorkerProxy::adopt(std::shared_ptr<const Snapshot> snapshot) { impl_->adopt(std::move(snapshot)); }

void WorkerProxy::on_host_failed(std::string_view cluster, const upstream::Host& host) {
  impl_->state.clusters().on_host_failed(cluster, host);
}

uint64_t WorkerProxy::version() const {
  PinnedSnapshot* current = impl_->state.current();
  return current == nullptr ? 0 : current->snapshot->version;
}

size_t WorkerProxy::downstream_connections() const { return impl_->connections(); }
size_t WorkerProxy::active_requests() const { return impl_->state.active_requests; }

// --- config
// ------------------------------------------------------------------------------------------------------------

void WorkerProxy::Impl::adopt(std::shared_ptr<const Snapshot> snapshot) {
  // Chains that will leave need the snapshot in which they are: pin it before the new one takes its place.
  PinnedSnapshot* before = state.current();
  if (before != nullptr) ++before->pins;
  state.adopt(std::move(snapshot));
  const Snapshot& now = *state.current()->snapshot;
  if (before != nullptr && before->snapshot->listeners_version == now.listeners_version) return state.unpin(before);

  std::map<std::string, std::unique_ptr<ActiveChain>> old_chains;
  old_chains.swap(chains);
  const auto take_old = [&](const std::string& key) -> std::unique_ptr<ActiveChain> {
    auto at = old_chains.find(key);
    if (at == old_chains.end()) return nullptr;
    std::unique_ptr<ActiveChain> chain = std::move(at->second);
    old_chains.erase(at);
    return chain;
  };
  for (auto at = listeners.begin(); at != listeners.end();) {
    if (now.listeners.find(at->first) == nullptr) {
      remove_listener(*at->second);
      if (!at->second->intakes.empty()) departed_listeners.push_back(std::move(at->second));
      at = listeners.erase(at);
    } else {
      ++at;
    }
  }
  now.listeners.for_each([&](const std::string& name, const LinkedListener& linked) {
    for (const LinkedChain& chain : linked.chains) {
      const std::string key = name + '\0' + chain.identity();
      if (chains.contains(key)) continue;
      std::unique_ptr<ActiveChain> active = take_old(key);
      if (active == nullptr) {
        active = std::make_unique<ActiveChain>();
        active->default_host = chain.chain->spec.hcm.default_host_for_http_10;
      }
      active->linked = chain;
      active->buffer_limit = linked.part->spec.per_connection_buffer_limit_bytes;
      chains.emplace(key, std::move(active));
    }
    update_listener(name, linked);
  });
  for (auto& [key, chain] : old_chains) leave(std::move(chain), before);
  if (before != nullptr) state.unpin(before);
  sweep_chains();
}

void WorkerProxy::Impl::leave(std::unique_ptr<ActiveChain> chain, PinnedSnapshot* before) {
  chain->kept = before;
  ++before->pins;
  chain->departed = true;
  departed.push_back(std::make_unique<DepartedChain>(std::move(chain)));
  DepartedChain& leaving = *departed.back();
  state.loop().timers().arm(leaving.limit, std::max<uint64_t>(1, options.drain_ms));
  drain_chain(*leaving.chain, leaving.chain->linked.chain->spec.hcm.drain_timeout_ms);
}

void WorkerProxy::Impl::update_listener(const std::string& name, const LinkedListener& linked) {
  std::unique_ptr<ActiveListener>& listener = listeners[name];
  const bool fresh = listener == nullptr;
  if (fresh) listener = std::make_unique<ActiveListener>();
  std::shared_ptr<const ListenerPart> before = std::exchange(listener->part, linked.part);
  listener->chains.clear();
  for (const LinkedChain& chain : linked.chains)
    listener->chains.push_back(chains.find(name + '\0' + chain.identity())->second.get());
  if (fresh || before->sockets != linked.part->sockets ||
      before->spec.max_accepts_per_event != linked.part->spec.max_accepts_per_event) {
    listener->acceptors.clear();
    ActiveListener* raw = listener.get();
    if (!state.draining)
      for (const std::shared_ptr<net::SocketSet>& set : linked.part->sockets)
        if (set != nullptr)
          listener->acceptors.push_back(std::make_unique<net::Acceptor>(
              state.loop(), set, options.index,
              [this, raw](int fd, const net::Address& local, const net::Address& remote) {
                accept(*raw, {.fd = fd, .local = local, .remote = remote, .direct_remote = remote, .first = {}});
              },
              linked.part->spec.max_accepts_per_event));
  }
  if (before != nullptr) state.release(std::move(before));
}

void WorkerProxy::Impl::remove_listener(ActiveListener& listener) {
  if (!state.draining)
    for (auto& acceptor : listener.acceptors) acceptor->accept_rest();
  listener.acceptors.clear();
  listener.gone = true;
  if (!listener.intakes.empty())
    for (ActiveChain* chain : listener.chains) ++chain->count;
  state.release(std::move(listener.part));
}

void WorkerProxy::Impl::accept(ActiveListener& listener, Accepted accepted) {
  if (listener.part->spec.listener_filters.empty()) {
    const ConnectionFacts facts{
        .local = accepted.local, .remote = accepted.remote, .direct_remote = accepted.direct_remote};
    const int index = listener.part->match(facts);
    return bind(listener, *listener.part, index, std::move(accepted));
  }
  auto* intake = new Intake(state.loop(), state.shard(), listener.part, std::move(accepted),
                            [this, &listener](Intake& ended) { on_intake_end(listener, ended); });
  listener.intakes.push_back(*intake);
  ++intakes;
  intake->begin();
}

void WorkerProxy::Impl::on_intake_end(ActiveListener& listener, Intake& intake) {
  std::shared_ptr<const ListenerPart> part = intake.take_part();
  --intakes;
  if (intake.taken()) {
    // A listener that has gone had its last part's chains; one that has changed has them anew.
    const ListenerPart& now = listener.gone ? *part : *listener.part;
    const int index = now.match(intake.facts());  // the facts are the intake's, so they come before take()
    bind(listener, now, index, intake.take());
  }
  state.release(std::move(part));
  if (listener.gone && listener.intakes.empty()) {
    for (ActiveChain* chain : listener.chains) --chain->count;
    std::erase_if(departed_listeners, [&](const auto& one) { return one.get() == &listener; });
  }
  on_gone();
}

void WorkerProxy::Impl::bind(ActiveListener& listener, const ListenerPart& part, int index, Accepted accepted) {
  if (index < 0) {
    state.shard().add(part.stats->no_filter_chain_match);
    ::close(accepted.fd);
    return;
  }
  ActiveChain& chain = *listener.chains[static_cast<size_t>(index)];
  if (chain.linked.lacks_secret()) {
    state.shard().add(chain.linked.chain->transport_stats->secrets_not_ready);
    ::close(accepted.fd);
    return;
  }
  std::function<void()> gone = [this] { on_gone(); };
  if (chain.linked.chain->limit != nullptr) {
    if (!take(chain)) return refuse(chain, accepted.fd);
    gone = [this, &chain] {
      give(chain);
      on_gone();
    };
  }
  ChainConnection* connection = nullptr;
  if (chain.linked.chain->spec.tcp.has_value()) {
    connection = new TcpProxy(state, chain, std::move(accepted), std::move(gone));
  } else {
    connection = new DownstreamConnection(state, chain, std::move(accepted), std::move(gone));
  }
  if (chain.draining) connection->drain(0);
}

// Counts a connection of a chain with a limit; false: there are as many as there may be.
bool WorkerProxy::Impl::take(ActiveChain& chain) {
  const HttpChain& compiled = *chain.linked.chain;
  const bool taken = compiled.limit->take(compiled.spec.connection_limit->max_connections);
  if (taken) {
    state.shard().inc(compiled.limit_stats->active);
  } else {
    state.shard().add(compiled.limit_stats->limited);
  }
  return taken;
}

// Every version of a chain has the same limit and the same gauge.
void WorkerProxy::Impl::give(ActiveChain& chain) {
  chain.linked.chain->limit->give();
  state.shard().dec(chain.linked.chain->limit_stats->active);
}

void WorkerProxy::Impl::refuse(ActiveChain& chain, int fd) {
  const uint64_t delay_ms = chain.linked.chain->spec.connection_limit->delay_ms;
  if (delay_ms == 0 || chain.draining || chain.refused >= RefusedConnection::kMost) {
    ::close(fd);
    return;
  }
  new RefusedConnection(state.loop(), chain, fd, delay_ms, [this] { on_gone(); });
}

// Idle connections of a leaving chain end spread over `over_ms`, so that their clients do not all come back at once.
void WorkerProxy::Impl::drain_chain(ActiveChain& chain, uint64_t over_ms) {
  chain.draining = true;
  chain.connections.for_each(
      [&](ChainConnection& connection) { connection.drain(over_ms == 0 ? 0 : state.loop().random() % over_ms); });
}

void WorkerProxy::Impl::on_gone() {
  sweep_chains();
  check_drained();
}

void WorkerProxy::Impl::sweep_chains() {
  std::erase_if(departed, [&](const std::unique_ptr<DepartedChain>& one) {
    if (one->chain->count != 0) return false;
    if (one->chain->kept != nullptr) state.unpin(one->chain->kept);
    return true;
  });
}

size_t WorkerProxy::Impl::connections() const {
  size_t count = intakes;
  for (const auto& [key, chain] : chains) count += chain->count;
  for (const auto& one : departed) count += one->chain->count;
  return count;
}

// --- the end
// -----------------------------------------------------------------------------------------------------------

void WorkerProxy::Impl::check_drained() {
  if (!drained || connections() != 0) return;
  drain_limit.disarm();
  std::exchange(drained, nullptr)();
}

void WorkerProxy::Impl::cut_all() {
  const auto cut = [](ChainConnection& connection) { connection.close_now(); };
  for (auto& [key, chain] : chains) chain->connections.for_each(cut);
  for (auto& one : departed) one->cut();
  for (auto& [name, listener] : listeners) cut_intakes(*listener);
  while (!departed_listeners.empty()) cut_intakes(*departed_listeners.back());
}

void WorkerProxy::drain(uint64_t limit_ms, std::function<void()> done) {
  Impl& impl = *impl_;
  impl.state.draining = true;
  impl.drained = std::move(done);
  for (auto& [name, listener] : impl.listeners) {
    for (auto& acceptor : listener->acceptors) acceptor->accept_rest();
    listener->acceptors.clear();
  }
  for (auto& [key, chain] : impl.chains) impl.drain_chain(*chain, 0);
  for (auto& one : impl.departed) impl.drain_chain(*one->chain, 0);
  if (limit_ms == 0) {
    impl.cut_all();
  } else {
    impl.state.loop().timers().arm(impl.drain_limit, limit_ms);
  }
  impl.check_drained();
}

void WorkerProxy::shutdown() {
  Impl& impl = *impl_;
  impl.state.draining = true;
  impl.cut_all();
  for (auto& [name, listener] : impl.listeners) impl.remove_listener(*listener);
  impl.listeners.clear();
  impl.state.cut_shadows();
  impl.state.cut_calls();
  impl.state.connects.for_each([](ConnectUpstream& one) { one.cut(); });
  impl.state.clusters().shutdown();
}

}  // namespace outrigger::proxy
