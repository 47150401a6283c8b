#include "upstream/health_checker.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/log.h"

namespace outrigger::upstream {
namespace {

constexpr size_t kMaxPerTurn = 32;  // checks begun or timed out in one turn of the loop

}  // namespace

struct HealthChecker::Checked {
  std::string name;
  std::shared_ptr<const Cluster> part;
  int64_t healthy = 0;
  std::unordered_map<const Host*, std::unique_ptr<Session>> sessions;
  const config::HealthCheckSpec& spec() const { return *part->spec().health_check; }
};

// The checks of one host.
//
//   idle --due--> (too many are running: waiting -->) running --result, or due: timed out--> idle
class HealthChecker::Session final : public ProbeOwner, public ListNode<HealthChecker::WaitTag> {
 public:
  Session(HealthChecker& checker, Checked& cluster, CheckedHost host)
      : checker_(checker),
        cluster_(cluster),
        host_(std::move(host.host)),
        address_(host.address),
        state_(known_state(*host_)) {
    if (state_.healthy()) count_healthy(1);
    const uint64_t jitter = cluster_.spec().initial_jitter_ms;
    arm(jitter == 0 ? 0 : checker_.loop_.random() % jitter);
  }
  ~Session() {
    disarm();
    stop_running();
    if (probe_ != nullptr) probe_->abandon();
    if (state_.healthy()) count_healthy(-1);
  }

  // Of the connections that it makes from now on.
  void move_to(const net::Address& address) { address_ = address; }

  void on_due() {
    if (running_) {
      drop_probe();
      ended({ProbeResult::Kind::kNetwork, "timed out"}, true);
    } else if (checker_.running_ >= kMaxRunning) {
      disarm();
      checker_.waiting_.push_back(*this);
    } else {
      begin();
    }
  }

 private:
  static HealthState known_state(const Host& host) {
    const uint8_t health = host.health.load(std::memory_order_acquire);
    return {(health & kNotChecked) == 0, (health & kFailedCheck) == 0};
  }
  const stats::Block<ClusterHealthHandles>& counts() const { return *cluster_.part->stats().health_check; }

  void begin() {
    running_ = true;
    ++checker_.running_;
    checker_.stats_.add(counts().attempt);
    arm(cluster_.spec().timeout_ms);
    if (probe_ != nullptr && !probe_->ready()) drop_probe();
    if (probe_ != nullptr) return probe_->check();
    probe_ = HealthProbe::connect(checker_.loop_, cluster_.part, host_, address_, checker_.uncounted_, *this);
    checker_.probes_.push_back(*probe_);
  }

  void on_probe_end(HealthProbe&, const ProbeResult& result) override { ended(result, false); }
  void on_probe_gone(HealthProbe&) override { probe_ = nullptr; }

  void drop_probe() {
    if (HealthProbe* const probe = std::exchange(probe_, nullptr); probe != nullptr) probe->abandon();
  }

  void ended(const ProbeResult& result, bool timed_out) {
    using Kind = ProbeResult::Kind;
    stop_running();
    const config::HealthCheckSpec& spec = cluster_.spec();
    const bool success = result.kind == Kind::kHealthy;
    const HealthState::Change change =
        success ? state_.succeeded(spec) : state_.failed(spec, result.kind == Kind::kUnhealthy);
    checker_.stats_.add(success ? counts().success : counts().failure);
    if (result.kind == Kind::kNetwork) checker_.stats_.add(counts().network_failure);
    arm(jittered(wait_ms(spec, success, change, checker_.traffic_seen(*cluster_.part))));
    uint8_t health = state_.healthy() ? 0 : kFailedCheck;
    if (timed_out) health |= kCheckTimedOut;
    tell(change, success, health, result.why);
  }

  // Host first, then the epoch, then who must know.
  void tell(HealthState::Change change, bool success, uint8_t health, std::string_view why) {
    const config::HealthCheckSpec& spec = cluster_.spec();
    const bool changed = change == HealthState::Change::kChanged;
    const bool first = (host_->health.exchange(health, std::memory_order_acq_rel) & kNotChecked) != 0;
    if (changed || first || (success ? spec.log_successes : spec.log_failures))
      OUTRIGGER_LOG(kInfo, "health", "cluster {}: host {} {}{}{}", cluster_.name, host_->text,
                    changed ? (success ? "is healthy" : "is unhealthy") : (success ? "is well" : "has failed a check"),
                    why.empty() ? "" : ": ", why);
    if (changed) count_healthy(state_.healthy() ? 1 : -1);
    if (!changed && !first) return;
    cluster_.part->state().health_epoch.fetch_add(1, std::memory_order_release);
    checker_.on_change_(cluster_.name, host_);
  }

  void count_healthy(int64_t n) {
    cluster_.healthy += n;
    checker_.stats_.set(counts().healthy, cluster_.healthy);
  }

  uint64_t jittered(uint64_t ms) {
    const config::HealthCheckSpec& spec = cluster_.spec();
    uint64_t more = 0;
    if (const uint64_t most = ms * spec.interval_jitter_percent / 100; most != 0)
      more += checker_.loop_.random() % most;
    if (spec.interval_jitter_ms != 0) more += checker_.loop_.random() % spec.interval_jitter_ms;
    return ms + more;
  }

  void arm(uint64_t ms) {
    disarm();
    due_ns_ = checker_.loop_.now_ns() + static_cast<int64_t>(ms) * 1'000'000;
    order_ = ++checker_.armed_;
    checker_.due_.emplace(due_ns_, order_, this);
    checker_.arm();
  }
  void disarm() {
    if (due_ns_ != 0) checker_.due_.erase({std::exchange(due_ns_, 0), order_, this});
  }
  void stop_running() {
    if (!std::exchange(running_, false)) return;
    --checker_.running_;
    if (Session* const next = checker_.waiting_.pop_front(); next != nullptr) next->arm(0);
  }

  HealthChecker& checker_;
  Checked& cluster_;
  const std::shared_ptr<Host> host_;
  net::Address address_;
  HealthState state_;
  HealthProbe* probe_ = nullptr;
  int64_t due_ns_ = 0;  // 0: not armed
  uint64_t order_ = 0;
  bool running_ = false;
};

HealthChecker::HealthChecker(event::Loop& loop, stats::Registry& stats, OnChange on_change)
    : loop_(loop), stats_(stats), on_change_(std::move(on_change)) {}

HealthChecker::~HealthChecker() = default;

void HealthChecker::shutdown() {
  clusters_.clear();
  probes_.for_each([](HealthProbe& probe) { probe.cut(); });
  timer_.disarm();
}

void HealthChecker::want(HealthTarget target) {
  if (target.part == nullptr || !target.part->spec().health_check) {
    clusters_.erase(target.cluster);
    return;
  }
  std::unique_ptr<Checked>& checked = clusters_[target.cluster];
  const auto same = [](const Cluster& a, const Cluster& b) {
    return a.spec().health_check == b.spec().health_check && a.tls() == b.tls() && a.spec().http2 == b.spec().http2 &&
           a.spec().connect_timeout_ms == b.spec().connect_timeout_ms &&
           a.spec().proxy_header == b.spec().proxy_header && a.spec().socket_options == b.spec().socket_options;
  };
  if (checked != nullptr && !same(*checked->part, *target.part)) checked = nullptr;
  if (checked == nullptr) {
    checked = std::make_unique<Checked>();
    checked->name = target.cluster;
  }
  checked->part = std::move(target.part);
  std::unordered_set<const Host*> wanted;
  for (const CheckedHost& one : target.hosts) wanted.insert(one.host.get());
  std::erase_if(checked->sessions, [&](const auto& one) { return !wanted.contains(one.first); });
  for (CheckedHost& one : target.hosts) {
    std::unique_ptr<Session>& session = checked->sessions[one.host.get()];
    if (session == nullptr)
      session = std::make_unique<Session>(*this, *checked, std::move(one));
    else
      session->move_to(one.address);
  }
}

// One timeout serves all sessions: their intervals are jittered, and a wheel has a queue for each duration.
void HealthChecker::arm() {
  const int64_t wait_ns = std::get<0>(*due_.begin()) - loop_.now_ns();
  loop_.timers().arm(timer_, wait_ns <= 0 ? 0 : static_cast<uint64_t>(wait_ns + 999'999) / 1'000'000);
}

void HealthChecker::run_due() {
  for (size_t done = 0; done < kMaxPerTurn && !due_.empty(); ++done) {
    const auto [when, order, session] = *due_.begin();
    if (when > loop_.now_ns()) break;
    session->on_due();
  }
  if (!due_.empty()) arm();
}

bool HealthChecker::traffic_seen(const Cluster& part) const {
  const uint32_t cell = part.stats().cx_total.cell;
  for (uint32_t i = 0; i < stats_.workers(); ++i)
    if (stats_.worker_shard(i).read(cell) != 0) return true;
  return false;
}

}  // namespace outrigger::upstream
