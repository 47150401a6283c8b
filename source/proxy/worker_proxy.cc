#include "proxy/worker_proxy.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>

#include "base/check.h"
#include "proxy/connect_upstream.h"
#include "proxy/connection_limit.h"
#include "proxy/downstream_connection.h"
#include "proxy/tcp_proxy.h"
#include "proxy/worker_state.h"

namespace outrigger::proxy {
namespace {

// One worker's listening on the sockets of one listener. The chains stand in the listener's order. What is in intake
// when the listener goes still becomes a connection of its last part's chains, departed as they are.
struct ActiveListener {
  std::shared_ptr<const ListenerPart> part;
  std::vector<std::unique_ptr<net::Acceptor>> acceptors;
  std::vector<std::unique_ptr<ActiveChain>> chains;
  std::vector<ActiveChain*> departed;  // what were its chains, while anything is in intake
  List<Intake, IntakeTag> intakes;
  bool gone = false;
  ActiveChain& chain(size_t index) { return gone ? *departed[index] : *chains[index]; }
};

// Where each chain of the next version stood in the one before; kNowhere: it is new. Those of one identity are the
// same. Most stand where they stood, counted from the front or from the back; the others are looked for by a hash.
constexpr size_t kNowhere = SIZE_MAX;
std::vector<size_t> places_before(const std::vector<LinkedChain>& before, const std::vector<LinkedChain>& now) {
  const auto same = [](const LinkedChain& b, const LinkedChain& n) {
    return b.chain == n.chain || b.identity() == n.identity();
  };
  const size_t most = std::min(before.size(), now.size());
  size_t front = 0, back = 0;
  while (front < most && same(before[front], now[front])) ++front;
  while (back < most - front && same(before[before.size() - 1 - back], now[now.size() - 1 - back])) ++back;
  std::unordered_multimap<std::string_view, size_t> moved;
  moved.reserve(before.size() - back - front);
  for (size_t b = front; b < before.size() - back; ++b) moved.emplace(before[b].identity(), b);
  std::vector<size_t> places(now.size(), kNowhere);
  for (size_t n = 0; n < now.size(); ++n) {
    if (n < front) {
      places[n] = n;
    } else if (n >= now.size() - back) {
      places[n] = n + before.size() - now.size();
    } else if (const auto at = moved.find(now[n].identity()); at != moved.end()) {
      places[n] = at->second;
      moved.erase(at);
    }
  }
  return places;
}

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
  // `pinned`: the snapshot that the worker had and `before` is of; chains that leave keep it.
  void update_listener(const std::string& name, const LinkedListener& linked, const LinkedListener& before,
                       PinnedSnapshot* pinned);
  void update_chains(ActiveListener& listener, const LinkedListener& now, const LinkedListener& before,
                     PinnedSnapshot* pinned);
  void remove_listener(const std::string& name, PinnedSnapshot* before);
  void stop_listening(ActiveListener& listener);
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
  template <class F>
  void each_chain(F&& f) const {
    for (const auto& [name, listener] : listeners)
      for (const auto& chain : listener->chains) f(*chain);
  }
  size_t connections() const;

  WorkerOptions options;
  WorkerState state;
  std::map<std::string, std::unique_ptr<ActiveListener>> listeners;
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

// Only listeners that may have changed are looked at: the snapshots share the others.
void WorkerProxy::Impl::adopt(std::shared_ptr<const Snapshot> snapshot) {
  // Chains that will leave need the snapshot in which they are: pin it before the new one takes its place.
  PinnedSnapshot* before = state.current();
  if (before != nullptr) ++before->pins;
  state.adopt(std::move(snapshot));
  static const Snapshot kNone;
  const auto& old = (before == nullptr ? kNone : *before->snapshot).listeners;
  const auto& now = state.current()->snapshot->listeners;
  now.for_each_change(old, [&](const std::string& name, uint64_t hash, const LinkedListener* linked) {
    static const LinkedListener kNew;
    if (linked == nullptr) return remove_listener(name, before);
    const LinkedListener* known = old.find(name, hash);
    update_listener(name, *linked, known == nullptr ? kNew : *known, before);
  });
  if (before != nullptr) state.unpin(before);
  sweep_chains();
}

// The listener has the chains of `before`, in its order; they stay the same objects for those that keep their identity.
void WorkerProxy::Impl::update_chains(ActiveListener& listener, const LinkedListener& now, const LinkedListener& before,
                                      PinnedSnapshot* pinned) {
  const std::vector<size_t> places = places_before(before.chains, now.chains);
  const uint32_t limit = now.part->spec.per_connection_buffer_limit_bytes;
  const bool same_limit = before.part != nullptr && before.part->spec.per_connection_buffer_limit_bytes == limit;
  std::vector<std::unique_ptr<ActiveChain>> old = std::exchange(listener.chains, {});
  listener.chains.reserve(places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    const LinkedChain& next = now.chains[i];
    const bool fresh = places[i] == kNowhere;
    std::unique_ptr<ActiveChain> chain = fresh ? std::make_unique<ActiveChain>() : std::move(old[places[i]]);
    if (fresh) chain->default_host = next.chain->spec.hcm.default_host_for_http_10;
    if (fresh || before.chains[places[i]] != next) chain->linked = next;
    if (fresh || !same_limit) chain->buffer_limit = limit;
    listener.chains.push_back(std::move(chain));
  }
  for (std::unique_ptr<ActiveChain>& chain : old)
    if (chain != nullptr) leave(std::move(chain), pinned);
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

void WorkerProxy::Impl::update_listener(const std::string& name, const LinkedListener& linked,
                                        const LinkedListener& before, PinnedSnapshot* pinned) {
  if (before.part != nullptr && before.part == linked.part && before.chains == linked.chains) return;
  std::unique_ptr<ActiveListener>& listener = listeners[name];
  if (listener == nullptr) listener = std::make_unique<ActiveListener>();
  update_chains(*listener, linked, before, pinned);
  std::shared_ptr<const ListenerPart> part = std::exchange(listener->part, linked.part);
  if (part == nullptr || part->sockets != linked.part->sockets ||
      part->spec.max_accepts_per_event != linked.part->spec.max_accepts_per_event) {
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
  if (part != nullptr) state.release(std::move(part));
}

void WorkerProxy::Impl::remove_listener(const std::string& name, PinnedSnapshot* before) {
  const auto at = listeners.find(name);
  ActiveListener& listener = *at->second;
  stop_listening(listener);
  listener.gone = true;
  for (std::unique_ptr<ActiveChain>& chain : listener.chains) {
    if (!listener.intakes.empty()) {
      ++chain->count;
      listener.departed.push_back(chain.get());
    }
    leave(std::move(chain), before);
  }
  if (listener.intakes.empty())
    state.release(std::move(listener.part));
  else
    departed_listeners.push_back(std::move(at->second));
  listeners.erase(at);
}

// What waits in the kernel's queues is accepted first.
void WorkerProxy::Impl::stop_listening(ActiveListener& listener) {
  if (!state.draining)
    for (auto& acceptor : listener.acceptors) acceptor->accept_rest();
  listener.acceptors.clear();
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
    const int index = listener.part->match(intake.facts());  // the facts are the intake's, so they come before take()
    bind(listener, *listener.part, index, intake.take());
  }
  state.release(std::move(part));
  if (listener.gone && listener.intakes.empty()) {
    for (ActiveChain* chain : listener.departed) --chain->count;
    state.release(std::move(listener.part));
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
  ActiveChain& chain = listener.chain(static_cast<size_t>(index));
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
  each_chain([&](const ActiveChain& chain) { count += chain.count; });
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
  each_chain([&](ActiveChain& chain) { chain.connections.for_each(cut); });
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
  impl.each_chain([&](ActiveChain& chain) { impl.drain_chain(chain, 0); });
  for (auto& one : impl.departed) impl.drain_chain(*one->chain, 0);
  impl.state.clusters().end_spares();
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
  for (auto& [name, listener] : impl.listeners) {
    impl.stop_listening(*listener);
    impl.state.release(std::move(listener->part));
  }
  impl.state.cut_shadows();
  impl.state.cut_calls();
  impl.state.connects.for_each([](ConnectUpstream& one) { one.cut(); });
  impl.state.clusters().shutdown();
}

}  // namespace outrigger::proxy
