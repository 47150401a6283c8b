// How a channel is secured: TLS as plain values, and gRPC's credentials made of them. The server's certificate is
// always verified: its chain, and its name or one of the names that `sans` allow.
//
// Thread rule: values; channel_credentials on any thread.
// Use:  auto credentials = channel_credentials(spec.tls);   // reads the files
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/san_match.h"

namespace grpc {
class ChannelCredentials;
}

namespace outrigger::xds {

// PEM. A file is read again for each connection, so that certificates rotate; `bytes` stand in while it cannot be read.
struct Pem {
  std::string file, bytes;
  bool empty() const { return file.empty() && bytes.empty(); }
  bool operator==(const Pem&) const = default;
};

struct TlsSpec {
  Pem trusted_ca;                      // empty: the system's
  Pem certificate_chain, private_key;  // both or none
  std::string server_name;             // SNI and the name to verify; empty: the channel's authority, or its address
  std::vector<SanMatch> sans;          // not empty: verified instead of the name; one is enough
  bool operator==(const TlsSpec&) const = default;
};

// No TLS: insecure ones.
std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const std::optional<TlsSpec>& tls);

}  // namespace outrigger::xds
