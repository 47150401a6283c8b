#include "xds/discovery_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "event/loop.h"
#include "event/timer.h"
#include "stats/stats.h"
#include "xds/delta.h"
#include "xds/grpc_stream.h"
#include "xds/sotw.h"
#include "xds/wire.h"

namespace outrigger::xds {
namespace {

// What the families of Envoy's metrics begin with. For RDS and EDS Envoy counts per table and cluster; these are sums.
constexpr std::array<std::string_view, kTypeCount> kStatPrefixes = {"listener_manager.lds", "rds",
                                                                    "cluster_manager.cds", "eds", "sds"};

constexpr size_t kMaxLoggedFaults = 20;

std::string join_faults(const std::vector<std::string>& faults) {
  std::string text;
  for (const std::string& fault : faults) {
    if (!text.empty()) text += '\n';
    text += fault;
    if (text.size() > kMaxErrorDetailBytes) break;  // the encoder says how much it cuts
  }
  return text;
}

std::string_view first_lines(std::string_view text, size_t lines) {
  size_t end = 0;
  while (lines > 0 && end < text.size()) {
    if (text[end++] == '\n') --lines;
  }
  return text.substr(0, end);
}

std::unique_ptr<Machine> make_machine(const DiscoveryOptions& options) {
  const MachineOptions machine{options.node_on_first_message_only, options.refused_again_initial_ms,
                               options.refused_again_max_ms};
  if (options.incremental) return std::make_unique<Delta>(machine);
  return std::make_unique<Sotw>(machine);
}

bool is_power_of_two(uint64_t n) { return (n & (n - 1)) == 0; }

}  // namespace

struct DiscoveryClient::Impl {
  Impl(event::Loop& loop, std::vector<ChannelSpec> channels, std::string node, stats::Registry* stats,
       Callbacks callbacks, DiscoveryOptions options)
      : loop(loop),
        channels(std::move(channels)),
        node(std::move(node)),
        callbacks(std::move(callbacks)),
        options(options),
        machine(make_machine(options)),
        registry(stats) {
    CHECK(!this->channels.empty());
    for (const ChannelSpec& channel : this->channels) CHECK(!channel.addresses.empty());
    places.resize(this->channels.size());
    if (registry == nullptr) return;
    group = std::make_unique<stats::Group>(*registry, stats::Labels{});
    const std::string own = options.only ? std::string(prefix(*options.only)) + "." : "";
    connected_state = group->gauge(own + "control_plane.connected_state");
    failover_count = group->counter(own + "control_plane.failovers");
    for (size_t i = 0; i < kTypeCount; ++i) {
      const Type type = static_cast<Type>(i);
      if (options.only.value_or(type) != type) continue;
      attempts[i] = group->counter(std::string(prefix(type)) + ".update_attempt");
      successes[i] = group->counter(std::string(prefix(type)) + ".update_success");
      rejections[i] = group->counter(std::string(prefix(type)) + ".update_rejected");
    }
  }

  static std::string_view prefix(Type type) { return kStatPrefixes[static_cast<size_t>(type)]; }
  // Of the channel in use or tried last, for messages.
  std::string who() const {
    const std::string& name = channels[current].name;
    return options.only ? fmt::format("{} ({})", name, short_name(*options.only)) : name;
  }
  void open();
  void pump();
  void on_alarm();
  void on_writable();
  void on_message(Result<Response> message);
  void on_closed(const std::string& reason);
  // Where the next attempt goes; true if a round begins.
  bool move_on();
  void note_connected(bool now);
  void read_more();
  void log_verdict(const Machine::TypeState& t, Type type, Machine::Judged judged) const;
  int64_t now_ms() const { return loop.now_ns() / 1'000'000; }
  void count(stats::Counter counter) {
    if (registry != nullptr) registry->add(counter);
  }

  event::Loop& loop;
  const std::vector<ChannelSpec> channels;
  const std::string node;
  const Callbacks callbacks;
  const DiscoveryOptions options;
  const std::unique_ptr<Machine> machine;

  std::unique_ptr<GrpcStream> stream;
  bool started = false;
  bool connected = false;
  bool writing = false;    // a write has not left yet
  bool read_owed = false;  // the last message is dealt with, the next read waits for verdicts
  bool answered = false;   // this stream brought a response: the back-off starts again
  struct Place {
    size_t next_address = 0;
    std::string last_error;
  };
  std::vector<Place> places;  // of the channels
  size_t current = 0;         // channel in use or tried last
  size_t next_channel = 0;
  size_t tried = 0;  // of its addresses, in this round
  uint64_t failovers = 0;
  uint64_t backoff_ms = 0;
  int64_t reconnect_at_ms = 0;
  uint64_t streams = 0;
  std::string address, control_plane, last_error;
  event::Timeout reconnect{[](void* self) { static_cast<Impl*>(self)->open(); }, this};
  event::Timeout alarm{[](void* self) { static_cast<Impl*>(self)->on_alarm(); }, this};

  stats::Registry* registry;
  std::unique_ptr<stats::Group> group;
  stats::Gauge connected_state;
  stats::Counter failover_count;
  std::array<stats::Counter, kTypeCount> attempts, successes, rejections;
};

void DiscoveryClient::Impl::open() {
  reconnect_at_ms = 0;
  current = next_channel;
  const ChannelSpec& channel = channels[current];
  size_t& next = places[current].next_address;
  address = channel.addresses[next];
  next = (next + 1) % channel.addresses.size();
  ++tried;
  writing = read_owed = answered = false;
  ++streams;
  machine->stream_opened();
  stream = std::make_unique<GrpcStream>(
      loop, channel, address, stream_method(options.only, options.incremental),
      options.incremental ? decode_delta_response : decode_response,
      GrpcStream::Callbacks{[this] { on_writable(); }, [this](Result<Response> m) { on_message(std::move(m)); },
                            [this](std::string reason) { on_closed(reason); }});
  pump();
}

// Writes the next request that is due, and sees to it that what waits for a time is not forgotten.
void DiscoveryClient::Impl::pump() {
  if (stream != nullptr && !writing) {
    if (auto request = machine->next_request(now_ms())) {
      writing = true;
      count(attempts[static_cast<size_t>(request->type)]);
      stream->write(options.incremental ? encode_delta_request(*request, node) : encode_request(*request, node));
    }
  }
  if (auto at = machine->wake_at_ms(!writing)) {
    loop.timers().arm(alarm, static_cast<uint64_t>(std::max<int64_t>(*at - now_ms(), 1)));
  } else {
    alarm.disarm();
  }
}

void DiscoveryClient::Impl::on_alarm() {
  std::vector<Update> expired = machine->expire(now_ms());
  pump();
  for (Update& update : expired) {
    OUTRIGGER_LOG(kWarning, "xds", "{}: {} of {} ended by their time to live", who(), update.removed.size(),
                  short_name(update.type));
    callbacks.on_update(std::move(update));
  }
}

void DiscoveryClient::Impl::on_writable() {
  writing = false;
  if (!connected) {
    note_connected(true);
    OUTRIGGER_LOG(kInfo, "xds", "connected to {} at {}", who(), address);
    if (callbacks.on_connection) callbacks.on_connection(true);
  }
  pump();
  read_more();
}

void DiscoveryClient::Impl::on_message(Result<Response> message) {
  if (!message) {
    OUTRIGGER_LOG(kWarning, "xds", "{}: {}; the stream is opened again", who(), message.error().detail);
    stream->close();
    return on_closed(message.error().detail);
  }
  if (!answered) {
    answered = true;
    backoff_ms = 0;
  }
  control_plane = message->control_plane;
  std::optional<Update> update = machine->receive(std::move(*message));
  // Before the callback, which may stop us.
  read_owed = true;
  read_more();
  pump();
  if (update) callbacks.on_update(std::move(*update));
}

void DiscoveryClient::Impl::read_more() {
  if (!read_owed || stream == nullptr || machine->unjudged() >= kMaxUnjudged) return;
  read_owed = false;
  stream->read_next();
}

bool DiscoveryClient::Impl::move_on() {
  if (!answered && tried < channels[current].addresses.size()) return false;
  tried = 0;
  next_channel = answered ? 0 : (current + 1) % channels.size();
  if (next_channel > current) {
    ++failovers;
    count(failover_count);
  }
  return next_channel == 0;
}

void DiscoveryClient::Impl::on_closed(const std::string& reason) {
  const bool was_connected = connected;
  std::string& last_of_channel = places[current].last_error;
  stream.reset();
  machine->stream_closed();
  writing = false;
  pump();
  // Within a round the next address is tried at once.
  uint64_t delay_ms = 1;
  if (move_on()) {
    backoff_ms = backoff_ms == 0 ? options.backoff_initial_ms : std::min(backoff_ms * 2, options.backoff_max_ms);
    const uint64_t jitter = std::max<uint64_t>(backoff_ms / 5, 1);
    delay_ms = backoff_ms - jitter + loop.random() % (2 * jitter + 1);
  }
  if (reason != last_of_channel || was_connected) {
    OUTRIGGER_LOG(kWarning, "xds", "{} at {}: {} ({}); trying {} in {} ms", who(), address,
                  was_connected ? "stream ended" : "cannot connect", reason,
                  next_channel == current ? "again" : channels[next_channel].name, delay_ms);
  }
  last_error = last_of_channel = reason;
  reconnect_at_ms = now_ms() + static_cast<int64_t>(delay_ms);
  loop.timers().arm(reconnect, delay_ms);
  note_connected(false);
  if (callbacks.on_connection) callbacks.on_connection(false);
}

void DiscoveryClient::Impl::note_connected(bool now) {
  if (registry != nullptr && connected != now) registry->add(connected_state, now ? 1 : -1);
  connected = now;
}

// A mistake that comes again and again, be it in other bytes, is told ever more rarely.
void DiscoveryClient::Impl::log_verdict(const Machine::TypeState& t, Type type, Machine::Judged judged) const {
  if (judged == Machine::Judged::kAccepted) {
    OUTRIGGER_LOG(kDebug, "xds", "{} version \"{}\" from {} accepted", short_name(type), t.accepted_version, who());
    return;
  }
  if (t.refused_in_a_row > Machine::kFreeRefusals && !is_power_of_two(t.refused_in_a_row)) return;
  if (judged == Machine::Judged::kRefused) {
    OUTRIGGER_LOG(kWarning, "xds", "{} version \"{}\" from {} refused:\n{}", short_name(type), t.refused_version, who(),
                  first_lines(t.refusal, kMaxLoggedFaults));
  } else {
    OUTRIGGER_LOG(kWarning, "xds", "{} version \"{}\" from {} refused for the {}th time, for the same reasons",
                  short_name(type), t.refused_version, who(), t.refused_in_a_row);
  }
}

DiscoveryClient::DiscoveryClient(event::Loop& loop, std::vector<ChannelSpec> channels, std::string serialized_node,
                                 stats::Registry* stats, Callbacks callbacks, DiscoveryOptions options)
    : impl_(std::make_unique<Impl>(loop, std::move(channels), std::move(serialized_node), stats, std::move(callbacks),
                                   options)) {}

DiscoveryClient::~DiscoveryClient() { stop(); }

void DiscoveryClient::claim(Type type, const std::vector<std::string>& names) {
  CHECK(!impl_->started);
  impl_->machine->claim(type, names);
}

void DiscoveryClient::start() {
  CHECK(!impl_->started);
  impl_->started = true;
  impl_->open();
}

void DiscoveryClient::stop() {
  impl_->reconnect.disarm();
  impl_->alarm.disarm();
  impl_->reconnect_at_ms = 0;
  if (impl_->stream != nullptr) impl_->stream->close();
  impl_->stream.reset();
  impl_->machine->stream_closed();
  impl_->note_connected(false);
}

void DiscoveryClient::subscribe(Type type, Subscription subscription) {
  impl_->machine->subscribe(type, std::move(subscription));
  impl_->pump();
}

void DiscoveryClient::verdict(uint64_t update_id, const Verdict& verdict) {
  std::string text = join_faults(verdict.faults);
  if (!verdict.faults.empty() && text.empty()) text = "refused";
  const auto [type, judged] = impl_->machine->verdict(update_id, {std::move(text), verdict.refused}, impl_->now_ms());
  if (judged == Machine::Judged::kUnknown) return;
  const size_t index = static_cast<size_t>(type);
  impl_->count(judged == Machine::Judged::kAccepted ? impl_->successes[index] : impl_->rejections[index]);
  impl_->log_verdict(impl_->machine->type(type), type, judged);
  impl_->read_more();
  impl_->pump();
}

StreamStatus DiscoveryClient::status() const {
  const Impl& i = *impl_;
  StreamStatus status{.only = i.options.only,
                      .incremental = i.options.incremental,
                      .connected = i.connected,
                      .channel = i.channels[i.current].name,
                      .address = i.address,
                      .channel_index = i.current,
                      .failovers = i.failovers,
                      .control_plane = i.control_plane,
                      .last_error = i.last_error,
                      .streams = i.streams,
                      .ignored = i.machine->ignored()};
  if (i.reconnect_at_ms > 0) {
    status.reconnect_in_ms = static_cast<uint64_t>(std::max<int64_t>(i.reconnect_at_ms - i.now_ms(), 1));
  }
  for (size_t n = 0; n < kTypeCount; ++n) {
    const Machine::TypeState& t = i.machine->type(static_cast<Type>(n));
    if (!t.subscribed) continue;
    status.types.push_back({.type = static_cast<Type>(n),
                            .subscription = t.subscription,
                            .accepted_version = t.accepted_version,
                            .received_version = t.received_version,
                            .received = t.received,
                            .accepted = t.accepted,
                            .rejected = t.rejected,
                            .repeated = t.repeated,
                            .judging = t.state == Machine::State::kJudging,
                            .last_refusal = t.refusal,
                            .refused_version = t.refused_version});
  }
  return status;
}

}  // namespace outrigger::xds
