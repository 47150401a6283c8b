#include "server/control.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "event/loop.h"
#include "event/timer.h"
#include "server/dns_refresher.h"
#include "server/file_sources.h"

namespace outrigger::server {
namespace {

using config::AddressSpec;
using config::ConfigSourceSpec;

constexpr uint64_t kStatusMs = 50;  // from a change of the stream's state to its status

// gRPC's address syntax.
std::string grpc_address(const AddressSpec& address) {
  if (address.kind == AddressSpec::Kind::kPipe)
    return address.host.starts_with('@') ? "unix-abstract:" + address.host.substr(1) : "unix:" + address.host;
  const bool v6 = address.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", address.host, v6 ? "]" : "", address.port);
}

bool uses_ads(const std::optional<ConfigSourceSpec>& source) {
  return source && source->kind == ConfigSourceSpec::Kind::kAds;
}

}  // namespace

xds::ChannelSpec channel_spec(const ConfigSourceSpec& source, const std::vector<config::ClusterSpec>& clusters) {
  const auto cluster = std::find_if(clusters.begin(), clusters.end(),
                                    [&](const config::ClusterSpec& c) { return c.name == source.grpc_cluster; });
  CHECK(cluster != clusters.end());  // translation has seen to it
  xds::ChannelSpec channel;
  channel.name = cluster->name;
  for (const config::EndpointSpec& endpoint : cluster->endpoints.endpoints)
    channel.addresses.push_back(grpc_address(endpoint.address));
  channel.authority = source.authority;
  channel.initial_metadata = source.initial_metadata;
  channel.connect_timeout_ms = cluster->connect_timeout_ms;
  return channel;
}

struct Control::Impl {
  Impl(const config::BootstrapSpec& s, stats::Registry& r, Builder& b, OnStatus callback, Names names)
      : spec(s), stats(r), builder(b), on_status(std::move(callback)), remembered(std::move(names)) {}

  void run() {
    ::pthread_setname_np(::pthread_self(), "control");
    FileSources made_files(loop, [this](const FileSource& source, std::string text, std::string error) {
      builder.update_file(source, std::move(text), std::move(error));
    });
    DnsRefresher made_dns(loop, stats, [this](const std::string& cluster, std::vector<config::EndpointSpec> endpoints) {
      builder.set_resolved(cluster, std::move(endpoints));
    });
    files = &made_files;
    dns = &made_dns;
    loop.post([this] { start_ads(); });
    loop.run();
    ads.reset();
    status_timer.disarm();
  }

  void start_ads() {
    if (!spec.ads) return;
    ads = std::make_unique<xds::AdsClient>(
        loop, channel_spec(*spec.ads, spec.clusters), spec.node.serialized, &stats,
        xds::AdsClient::Callbacks{.on_update = [this](xds::Update update) { on_update(std::move(update)); },
                                  .on_connection = [this](bool) { status_soon(0); }},
        xds::AdsOptions{.incremental = spec.ads->delta,
                        .node_on_first_message_only = spec.ads->set_node_on_first_message_only});
    for (const auto& [type, names] : remembered) ads->claim(type, names);
    if (uses_ads(spec.cds)) ads->subscribe(xds::Type::kCluster, {.wildcard = true});
    if (uses_ads(spec.lds)) ads->subscribe(xds::Type::kListener, {.wildcard = true});
    subscribe(xds::Type::kEndpoints, endpoints);
    subscribe(xds::Type::kRouteTable, route_tables);
    ads->start();
    status_soon(0);
  }

  void subscribe(xds::Type type, const std::vector<std::string>& names) {
    bool& asked = type == xds::Type::kEndpoints ? asked_endpoints : asked_route_tables;
    if (names.empty() && !asked) return;
    asked = true;
    ads->subscribe(type, {.names = names});
  }

  void on_update(xds::Update update) {
    const uint64_t id = update.id;
    builder.update(std::move(update), [this, id](xds::Verdict verdict) {
      loop.post([this, id, verdict = std::move(verdict)] {
        if (ads != nullptr) ads->verdict(id, verdict);
        status_soon(kStatusMs);
      });
    });
    status_soon(kStatusMs);
  }

  void want(Wanted wanted) {
    endpoints = std::move(wanted.endpoints);
    route_tables = std::move(wanted.route_tables);
    if (ads != nullptr) {
      subscribe(xds::Type::kEndpoints, endpoints);
      subscribe(xds::Type::kRouteTable, route_tables);
    }
    files->want(wanted.files);
    dns->want(wanted.dns);
  }

  void status_soon(uint64_t ms) {
    if (ads != nullptr && (ms == 0 || !status_timer.armed())) loop.timers().arm(status_timer, ms);
  }

  const config::BootstrapSpec spec;
  stats::Registry& stats;
  Builder& builder;
  OnStatus on_status;
  const Names remembered;
  event::Loop loop;
  std::thread thread;
  // The thread's:
  std::unique_ptr<xds::AdsClient> ads;  // nullptr: none is configured
  FileSources* files = nullptr;
  DnsRefresher* dns = nullptr;
  std::vector<std::string> endpoints, route_tables;
  bool asked_endpoints = false, asked_route_tables = false;
  event::Timeout status_timer{[](void* self) {
                                auto* impl = static_cast<Impl*>(self);
                                impl->on_status(std::make_shared<const xds::AdsStatus>(impl->ads->status()));
                              },
                              this};
};

Control::Control(const config::BootstrapSpec& spec, stats::Registry& stats, Builder& builder, OnStatus on_status,
                 Names remembered)
    : impl_(std::make_unique<Impl>(spec, stats, builder, std::move(on_status), std::move(remembered))) {}
Control::~Control() { stop(); }

void Control::start() {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

void Control::want(Wanted wanted) {
  impl_->loop.post([impl = impl_.get(), wanted = std::move(wanted)] { impl->want(wanted); });
}

int64_t Control::take_longest_turn_ns() { return impl_->loop.take_longest_turn_ns(); }

void Control::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->loop.stop();
  impl_->thread.join();
}

}  // namespace outrigger::server
