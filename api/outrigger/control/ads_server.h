// AdsServer: serves a ResourceCache to proxies and gRPC clients as the aggregated discovery service, state of the world
// and incremental, on gRPC's threads.
//
// A stream has at most one unanswered response per type: what changes meanwhile is sent, in its latest state, when the
// client has answered, so a client that does not read or never acknowledges costs nothing. Updates go out in
// make-before-break order: clusters, endpoints, listeners, routes; clusters that vanish stay until the listeners and
// routes that may name them have been acknowledged. What a client has is not sent again: versions are content hashes,
// so this holds across reconnects and restarts of the control plane. A refused version is not sent again to that
// client.
//
// Thread rule: any thread, one at a time. Hooks run on gRPC's threads, several at a time, and must not call the server.
// The cache must outlive the server.
// Use:  ResourceCache cache;  AdsServer server(cache, {.on_nack = [](const ClientInfo& c, const Answer& a) { ... }});
//       Result<uint16_t> port = server.start("127.0.0.1:18000");  ...  server.stop();
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/control/resource_cache.h"
#include "outrigger/result.h"

namespace outrigger::control {

// A text, number or bool of a node's metadata.
struct NodeMetadata {
  std::vector<std::string> path;  // of keys; the elements of a list have the list's path
  std::string value;              // numbers as JSON writes them, "true", "false"
};

struct ClientInfo {
  uint64_t stream_id = 0;
  std::string peer;  // "ipv4:10.0.0.7:41234"
  std::string node_id, node_cluster, user_agent;
  std::vector<NodeMetadata> metadata = {};       // at most 512, of at most 64 KiB together
  std::vector<std::string> tls_identities = {};  // URIs and DNS names of its certificate, if it showed one
  bool incremental = false;
};

// A client's verdict on one response.
struct Answer {
  std::string type_url;
  std::string version;  // of the response
  std::string nonce;
  std::string error;  // of a NACK
};

// Files in PEM; read again when they change, within refresh_s.
struct ServerTls {
  std::string certificate_file = {}, key_file = {};  // the chain, leaf first; without them: plain text
  std::string client_ca_file = {};  // clients must show a certificate that one of these signed; empty: they need none
  uint32_t refresh_s = 10;
};

struct AdsServerOptions {
  std::string identifier = "outrigger-control";  // DiscoveryResponse.control_plane
  ServerTls tls = {};
  // Whether a call with this bearer token ("" without one) is taken, on every service; compare in constant time.
  std::function<bool(std::string_view bearer_token)> token_ok = {};
  size_t max_streams = 20'000;  // more are refused with RESOURCE_EXHAUSTED
  size_t max_names = 200'000;   // that one stream may subscribe to, of all types; more end it
  uint32_t max_receive_bytes = 16u << 20;
  uint64_t keepalive_time_ms = 60'000;  // pings to the client; 0: none
  // Connections are asked to go (GOAWAY) at this age, more or less by a tenth, and cut a little later, so that clients
  // spread over the servers behind one name; 0: never.
  uint64_t max_connection_age_ms = 0;
  // stop() ends streams one by one in random order over so long, so that their clients do not all come back at once.
  uint64_t stop_spread_ms = 0;
  uint64_t stop_grace_ms = 1'000;
  // Which group's snapshot a client gets (groups.h); default: the one group "".
  std::function<std::string(const ClientInfo&)> group_of = {};
  std::function<void(const ClientInfo&)> on_connect = {};     // its first request has come
  std::function<void(const ClientInfo&)> on_disconnect = {};  // only after on_connect
  std::function<void(const ClientInfo&, const Answer&)> on_ack = {};
  std::function<void(const ClientInfo&, const Answer&)> on_nack = {};
  // A call without a good token, a stream too many: as often as somebody tries.
  std::function<void(const std::string& peer, const std::string& reason)> on_refused = {};
};

// What one client has made of one resource that it asked for.
struct ClientResourceStatus {
  enum class State : uint8_t { kSynced, kStale, kNotSent, kRefused, kDoesNotExist };
  std::string name;
  std::string client_version;  // that it has acknowledged; empty: none
  State state = State::kNotSent;
};

// What one client runs of one type.
struct ClientTypeStatus {
  std::string type_url;
  bool wildcard = false;
  size_t names = 0;             // subscribed to by name
  std::string sent_version;     // of the last response
  std::string acked_version;    // "" before the first ACK
  std::string refused_version;  // "" if the last answer was an ACK
  std::string refusal;
  bool awaiting_answer = false;
  uint64_t acks = 0, nacks = 0;
  bool in_sync = false;          // it runs what is served now
  int64_t answered_unix_ms = 0;  // its last ACK or NACK; 0: none yet
  std::string last_nack;         // also after later ACKs
  int64_t last_nack_unix_ms = 0;
  std::vector<ClientResourceStatus> resources;  // by name, if they were asked for
};

struct ClientStatus {
  ClientInfo info;
  std::string group;
  std::vector<ClientTypeStatus> types;
  int64_t connected_unix_ms = 0;
  std::string served_version = {};  // of the group's snapshot; empty: there is none yet
  bool in_sync() const;             // every type is
};

// What was sent and answered of one type since the start.
struct AdsTypeStats {
  std::string type_url;  // "other": of the types beyond the 64th
  uint64_t responses = 0, resources = 0, bytes = 0;
  uint64_t repeated = 0;  // of the resources: the client had that very version, and the protocol asks for it again
  uint64_t acks = 0, nacks = 0;
  uint64_t resumed = 0;  // streams that began by naming what they have
};

struct AdsServerStats {
  size_t sotw_streams = 0, incremental_streams = 0;  // now
  size_t nodes = 0;                                  // distinct node ids among them
  uint64_t streams_opened = 0;
  uint64_t refused_unauthenticated = 0;       // calls of every service
  uint64_t refused_over_limit = 0;            // streams
  uint64_t requests = 0, stale_requests = 0;  // stale: with an old nonce, ignored
  std::vector<AdsTypeStats> types;            // sorted by type
};

class AdsServer {
 public:
  explicit AdsServer(ResourceCache& cache, AdsServerOptions options = {});
  ~AdsServer();
  AdsServer(const AdsServer&) = delete;
  AdsServer& operator=(const AdsServer&) = delete;

  // "127.0.0.1:18000", "[::]:0", "unix:/path". The port that it got (0 for a Unix socket). Refused if the port is
  // taken, or if certificate and key are no good (with file and reason).
  Result<uint16_t> start(const std::string& listen_address);
  // Takes no more streams, ends those that are there with UNAVAILABLE over stop_spread_ms, sends GOAWAY, waits at most
  // stop_grace_ms, then cuts them.
  void stop();

  // group_of gives other answers now: clients move to their groups.
  void regroup();
  // token_ok gives other answers now: streams whose token is no longer good end with UNAUTHENTICATED.
  void readmit();

  // Who is connected and what each runs, waits for and refused. The same is told over gRPC, on the server's own port:
  // envoy.service.status.v3.ClientStatusDiscoveryService and outrigger.control.v1.ProxyStatusService.
  std::vector<ClientStatus> clients(bool with_resources = false) const;
  AdsServerStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::control
