// DiscoveryClient: keeps one discovery stream to a control plane alive, the aggregated one (ADS) or that of one type's
// own service. It subscribes, hands every response up as an Update, and turns the verdict, which may come much later
// from another thread's work, into an ACK or a NACK. What is held stays held when the stream ends.
//
// Failover: the channels are servers of one control plane, in order of preference. A stream that fails before its first
// response makes way for the next address at once, and after a channel's last address for the next channel; a stream
// that was answered once begins with the first channel again. Before each such round there is a jittered exponential
// back-off (0.5 s to 30 s).
//
// The protocol is in machine.h (no I/O; state of the world or incremental), the transport in grpc_stream.h (gRPC, on
// its own threads). At most kMaxUnjudged updates are handed up and not judged yet; beyond that the client stops
// reading, so a server that pushes faster than we compile is held by gRPC's flow control.
//
// Thread rule: the loop's thread; all callbacks run there. stop() (also the destructor's) waits for gRPC's threads to
// let go of the stream, and no callback comes after it. It may be called from a callback; destroying may not.
// Use:  DiscoveryClient ads(loop, {channel, fallback}, spec.node.serialized, &registry,
//                           {.on_update = [&](Update u) { builder.post(std::move(u)); }});
//       ads.subscribe(Type::kCluster, {.wildcard = true});
//       ads.start();
//       ads.verdict(update.id, {});                                                // ACK
//       ads.verdict(update.id, {.faults = {"cluster a: ..."}, .refused = {"a"}});  // NACK with every fault
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "xds/credentials.h"
#include "xds/types.h"

namespace outrigger::event {
class Loop;
}
namespace outrigger::stats {
class Registry;
}

namespace outrigger::xds {

// How to reach a control plane; from a grpc_service and the bootstrap's static cluster.
struct ChannelSpec {
  std::string name;                    // the cluster's or the address, for messages
  std::vector<std::string> addresses;  // "127.0.0.1:18000", "[::1]:18000", "control.example:18000", "unix:/path"
  std::string authority;               // empty: the address
  std::optional<TlsSpec> tls;
  std::vector<std::pair<std::string, std::string>> initial_metadata;  // tokens, too: never shown
  uint64_t connect_timeout_ms = 5'000;
  // HTTP/2 pings. Five minutes is the shortest interval that every stock gRPC server tolerates on a quiet stream.
  uint64_t keepalive_time_ms = 300'000;  // 0: off
  uint64_t keepalive_timeout_ms = 20'000;
  uint32_t max_receive_bytes = 256u << 20;
  bool operator==(const ChannelSpec&) const = default;
};

struct DiscoveryOptions {
  std::optional<Type> only = {};            // the stream of this type's own service; none: the aggregated one
  bool incremental = false;                 // DELTA_GRPC
  bool node_on_first_message_only = false;  // ApiConfigSource.set_node_on_first_message_only
  uint64_t backoff_initial_ms = 500;
  uint64_t backoff_max_ms = 30'000;
  // A version that was refused and comes again unchanged is refused again only after this, doubling up to the maximum.
  uint64_t refused_again_initial_ms = 1'000;
  uint64_t refused_again_max_ms = 30'000;
};

// What admin shows of one type.
struct TypeStatus {
  Type type = Type::kListener;
  Subscription subscription;
  std::string accepted_version;  // "" before the first
  std::string received_version;  // of the last response
  uint64_t received = 0;         // responses handed up
  uint64_t accepted = 0, rejected = 0;
  uint64_t repeated = 0;     // a refused response that came again while its NACK was held back
  bool judging = false;      // a verdict is outstanding
  std::string last_refusal;  // faults of the last NACK; "" once a later version was accepted
  std::string refused_version;
};

struct StreamStatus {
  std::optional<Type> only;  // none: the aggregated stream
  bool incremental = false;
  bool connected = false;
  std::string channel;            // name of the one in use or tried last
  std::string address;            // likewise
  size_t channel_index = 0;       // likewise; 0 is the preferred one
  uint64_t failovers = 0;         // how often the next channel was tried
  std::string control_plane;      // identifier that the server gave
  std::string last_error;         // why the last stream ended; "" if there was none
  uint64_t streams = 0;           // opened so far
  uint64_t ignored = 0;           // responses of types that were not asked for
  uint64_t reconnect_in_ms = 0;   // 0: not waiting
  std::vector<TypeStatus> types;  // those that were subscribed to
};

class DiscoveryClient {
 public:
  struct Callbacks {
    std::function<void(Update)> on_update;  // must lead to one verdict(update.id, ...) unless the id is 0 (expiry)
    std::function<void(bool connected)> on_connection = {};  // the stream reached a server / ended, or never did
  };
  static constexpr size_t kMaxUnjudged = 8;

  // `channels`: at least one. `serialized_node`: envoy.config.core.v3.Node. `stats` may be null.
  DiscoveryClient(event::Loop& loop, std::vector<ChannelSpec> channels, std::string serialized_node,
                  stats::Registry* stats, Callbacks callbacks, DiscoveryOptions options = {});
  ~DiscoveryClient();
  DiscoveryClient(const DiscoveryClient&) = delete;
  DiscoveryClient& operator=(const DiscoveryClient&) = delete;

  // Listeners or clusters that are there from an earlier life: the server is made to say whether they still are. Before
  // start().
  void claim(Type type, const std::vector<std::string>& names);
  void start();
  // Replaces what is wanted of a type; always name *all* names. Sent when it differs from what was sent before (and
  // with the verdict, if one is outstanding). Allowed before start().
  void subscribe(Type type, Subscription subscription);
  // No faults: accepted (ACK). Else NACK, with all of them in error_detail. In the order of the updates.
  void verdict(uint64_t update_id, const Verdict& verdict);
  void stop();

  StreamStatus status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::xds
