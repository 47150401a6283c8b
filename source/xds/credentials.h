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

// What a name in the server's certificate must be.
struct SanMatch {
  enum class Type : uint8_t { kEmail, kDns, kUri, kIp } type = Type::kDns;
  enum class Kind : uint8_t { kExact, kPrefix, kSuffix, kContains } kind = Kind::kExact;
  std::string value;
  bool ignore_case = false;
  bool operator==(const SanMatch&) const = default;

  // `name`: of a certificate; "*.example" is any one label before ".example" to an exact match of DNS names.
  bool matches(std::string_view name) const;
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
