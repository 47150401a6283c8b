#include "server/discovery.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "config/source_scope.h"
#include "event/loop.h"
#include "event/timer.h"

namespace outrigger::server {
namespace {

using config::AddressSpec;
using config::ConfigSourceSpec;

constexpr uint64_t kStatusMs = 50;  // from a change of the stream's state to its status
constexpr size_t kMaxStreams = 64;  // each is a connection of its own

// gRPC's address syntax.
std::string grpc_address(const AddressSpec& address) {
  if (address.kind == AddressSpec::Kind::kPipe)
    return address.host.starts_with('@') ? "unix-abstract:" + address.host.substr(1) : "unix:" + address.host;
  const bool v6 = address.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", address.host, v6 ? "]" : "", address.port);
}

xds::TlsSpec tls_spec(const config::ChannelTlsSpec& from) {
  const auto pem = [](const config::DataSpec& data) { return xds::Pem{.file = data.file, .bytes = data.bytes.text()}; };
  xds::TlsSpec spec{.trusted_ca = pem(from.trusted_ca),
                    .certificate_chain = pem(from.certificate_chain),
                    .private_key = pem(from.private_key),
                    .server_name = from.server_name,
                    .sans = from.san_matches};
  return spec;
}

}  // namespace

xds::ChannelSpec channel_spec(const config::GrpcServiceSpec& service, const config::BootstrapSpec& bootstrap) {
  xds::ChannelSpec channel;
  channel.authority = service.authority;
  channel.initial_metadata = service.initial_metadata;
  if (!service.target_uri.empty()) {
    channel.name = service.target_uri;
    channel.addresses = {service.target_uri};
    if (service.tls) channel.tls = tls_spec(*service.tls);
    return channel;
  }
  const auto cluster = std::find_if(bootstrap.clusters.begin(), bootstrap.clusters.end(),
                                    [&](const config::ClusterSpec& c) { return c.name == service.cluster; });
  CHECK(cluster != bootstrap.clusters.end());  // translation has seen to it
  channel.name = cluster->name;
  for (const config::EndpointSpec& endpoint : cluster->endpoints.endpoints)
    channel.addresses.push_back(grpc_address(endpoint.address));
  channel.connect_timeout_ms = cluster->connect_timeout_ms;
  const auto tls = bootstrap.channel_tls.find(cluster->name);
  if (tls != bootstrap.channel_tls.end()) channel.tls = tls_spec(tls->second);
  return channel;
}

struct Discovery::Impl {
  using Only = std::optional<xds::Type>;
  struct Stream {
    uint64_t id = 0;
    Only only;  // none: ADS
    ConfigSourceSpec source;
    std::string scope;  // of the names that it brings
    std::unique_ptr<xds::DiscoveryClient> client;
  };

  Impl(const config::BootstrapSpec& s, stats::Registry& r, Builder& b, OnStatus callback, Names names)
      : spec(s), stats(r), builder(b), on_status(std::move(callback)), remembered(std::move(names)) {}

  void run() {
    ::pthread_setname_np(::pthread_self(), "discovery");
    loop.post([this] { start_discovery(); });
    loop.run();
    streams.clear();
    status_timer.disarm();
  }

  void start_discovery() {
    if (spec.ads) make_stream({}, *spec.ads);
    subscribe_all(xds::Type::kCluster, spec.cds);
    subscribe_all(xds::Type::kListener, spec.lds);
    started = true;
    for (Stream& stream : streams) stream.client->start();
    want_streams();
  }

  // All that the source of listeners or clusters has.
  void subscribe_all(xds::Type type, const std::optional<ConfigSourceSpec>& source) {
    if (!source || source->kind == ConfigSourceSpec::Kind::kFile) return;
    Stream& stream = source->kind == ConfigSourceSpec::Kind::kAds ? streams.front() : make_stream(type, *source);
    if (const auto names = remembered.find(type); names != remembered.end()) stream.client->claim(type, names->second);
    stream.client->subscribe(type, {.wildcard = true});
  }

  Stream& make_stream(Only only, const ConfigSourceSpec& source) {
    std::vector<xds::ChannelSpec> channels;
    for (const config::GrpcServiceSpec& service : source.services) channels.push_back(channel_spec(service, spec));
    const uint64_t id = next_id++;
    auto client = std::make_unique<xds::DiscoveryClient>(
        loop, std::move(channels), spec.node.serialized, &stats,
        xds::DiscoveryClient::Callbacks{.on_update = [this, id](xds::Update u) { on_update(id, std::move(u)); },
                                        .on_connection = [this](bool) { status_soon(0); }},
        xds::DiscoveryOptions{.only = only,
                              .incremental = source.delta,
                              .node_on_first_message_only = source.set_node_on_first_message_only});
    status_soon(0);
    const bool scoped = only && !xds::is_full_set(*only);
    return streams.emplace_back(Stream{.id = id,
                                       .only = only,
                                       .source = source,
                                       .scope = scoped ? config::scope_of(source) : std::string(),
                                       .client = std::move(client)});
  }

  static bool serves(const Stream& stream, const proxy::WantedStream& want) {
    return stream.only == static_cast<xds::Type>(want.type) && same_source(stream.source, want.source);
  }

  // What the builder wants of endpoints, secrets and route tables, by ADS and by streams of their own.
  void want_streams() {
    if (!started) return;
    if (spec.ads) {
      // The clients keep them, and they may be many.
      streams.front().client->subscribe(xds::Type::kEndpoints, {.names = std::move(wanted.endpoints)});
      streams.front().client->subscribe(xds::Type::kSecret, {.names = std::move(wanted.secrets)});
      streams.front().client->subscribe(xds::Type::kRouteTable, {.names = std::move(wanted.route_tables)});
    }
    std::erase_if(streams, [&](const Stream& stream) {
      if (!stream.only || xds::is_full_set(*stream.only)) return false;
      return std::none_of(wanted.streams.begin(), wanted.streams.end(),
                          [&](const proxy::WantedStream& want) { return serves(stream, want); });
    });
    for (const proxy::WantedStream& want : wanted.streams) {
      const auto type = static_cast<xds::Type>(want.type);
      const auto known = std::find_if(streams.begin(), streams.end(), [&](const Stream& s) { return serves(s, want); });
      const bool is_new = known == streams.end();
      if (is_new && streams.size() >= kMaxStreams) {
        OUTRIGGER_LOG(kWarning, "xds", "there are {} streams already; {} of {} are not asked for", kMaxStreams,
                      want.names.size(), xds::short_name(type));
        continue;
      }
      xds::DiscoveryClient& client = is_new ? *make_stream(type, want.source).client : *known->client;
      client.subscribe(type, {.names = want.names});
      if (is_new) client.start();
    }
    status_soon(kStatusMs);
  }

  void on_update(uint64_t stream_id, xds::Update update) {
    const uint64_t id = update.id;
    const auto from = std::find_if(streams.begin(), streams.end(), [&](const Stream& s) { return s.id == stream_id; });
    if (from != streams.end()) update.scope = from->scope;
    builder.update(std::move(update), [this, stream_id, id](xds::Verdict verdict) {
      loop.post([this, stream_id, id, verdict = std::move(verdict)] {
        const auto stream =
            std::find_if(streams.begin(), streams.end(), [&](const Stream& s) { return s.id == stream_id; });
        if (stream != streams.end()) stream->client->verdict(id, verdict);
        status_soon(kStatusMs);
      });
    });
    status_soon(kStatusMs);
  }

  void want(Wanted now) {
    wanted = std::move(now);
    want_streams();
  }

  void status_soon(uint64_t ms) {
    if (ms == 0 || !status_timer.armed()) loop.timers().arm(status_timer, ms);
  }

  void tell_status() const {
    auto status = std::make_shared<std::vector<xds::StreamStatus>>();
    for (const Stream& stream : streams) status->push_back(stream.client->status());
    on_status(std::move(status));
  }

  const config::BootstrapSpec spec;
  stats::Registry& stats;
  Builder& builder;
  OnStatus on_status;
  const Names remembered;
  event::Loop loop;
  std::thread thread;
  // The thread's:
  std::vector<Stream> streams;  // ADS, if there is one, is the first
  uint64_t next_id = 1;
  bool started = false;
  Wanted wanted;
  event::Timeout status_timer{[](void* self) { static_cast<Impl*>(self)->tell_status(); }, this};
};

Discovery::Discovery(const config::BootstrapSpec& spec, stats::Registry& stats, Builder& builder, OnStatus on_status,
                     Names remembered)
    : impl_(std::make_unique<Impl>(spec, stats, builder, std::move(on_status), std::move(remembered))) {}
Discovery::~Discovery() { stop(); }

void Discovery::start() {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

void Discovery::want(Wanted wanted) {
  impl_->loop.post([impl = impl_.get(), wanted = std::move(wanted)]() mutable { impl->want(std::move(wanted)); });
}

int64_t Discovery::take_longest_turn_ns() { return impl_->loop.take_longest_turn_ns(); }
int64_t Discovery::take_longest_task_cpu_ns() { return impl_->loop.take_longest_task_cpu_ns(); }

void Discovery::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->loop.stop();
  impl_->thread.join();
}

}  // namespace outrigger::server
