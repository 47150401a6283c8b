// ConfigSourceSpec: where resources come from, as a plain comparable value. Equal sources (same_source) share a stream.
//
// Thread rule: values, as in spec.h, which includes this.
// Use:  if (cluster.eds_source.kind == ConfigSourceSpec::Kind::kGrpc) ask(cluster.eds_source.services);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/san_match.h"
#include "base/shared_text.h"

namespace outrigger::config {

// Bytes from outside. Those of a file are read again at each use.
struct DataSpec {
  std::string file;
  SharedText bytes = {};  // as they were at translation
  bool operator==(const DataSpec&) const = default;
};

// TLS of the way to a control plane: UpstreamTlsContext, SslCredentials. PEM that has been checked.
struct ChannelTlsSpec {
  DataSpec trusted_ca;                      // empty: the system's
  DataSpec certificate_chain, private_key;  // both or none
  std::string server_name;                  // SNI and the name that is verified; empty: authority, or the address
  std::vector<SanMatch> san_matches;        // not empty: verified instead of the name; one is enough
  bool operator==(const ChannelTlsSpec&) const = default;
};

// One server of a control plane: GrpcService.
struct GrpcServiceSpec {
  std::string cluster;                // envoy_grpc: name of the static cluster to reach it by
  std::string target_uri;             // google_grpc, instead
  std::string authority;              // empty: the address
  std::optional<ChannelTlsSpec> tls;  // google_grpc; of a cluster: BootstrapSpec::channel_tls
  std::vector<std::pair<std::string, std::string>> initial_metadata;
  bool operator==(const GrpcServiceSpec&) const = default;
};

struct ConfigSourceSpec {
  enum class Kind : uint8_t { kAds, kFile, kGrpc, kSelf };
  Kind kind = Kind::kAds;
  std::string path;                       // kFile
  std::string watched_directory;          // kFile, optional
  std::vector<GrpcServiceSpec> services;  // kGrpc: at least one, in order of preference
  bool set_node_on_first_message_only = false;
  bool delta = false;
  uint64_t initial_fetch_timeout_ms = 15'000;  // 0: wait for ever
  bool operator==(const ConfigSourceSpec&) const = default;
};
// Whether one stream can serve both: they differ in their fetch timeouts at most.
bool same_source(const ConfigSourceSpec& a, const ConfigSourceSpec& b);

}  // namespace outrigger::config
