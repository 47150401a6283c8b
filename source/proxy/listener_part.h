// ListenerCompiler: listener specs into ListenerParts, with the sockets that outlive them.
//
// Thread rule: the Store's thread.
// Use:  Result<std::shared_ptr<const ListenerPart>> part = compiler.compile(spec, previous.get());
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "outrigger/result.h"
#include "proxy/snapshot.h"

namespace outrigger::proxy {

// The names by which the Store knows what listeners and clusters take from a source (scoped_name).
struct ScopedNames {
  bool scopes = true;  // StoreOptions::scopes
  std::string of(const std::string& name, const config::ConfigSourceSpec& source) const;
  std::string of(const config::SecretRefSpec& secret) const {
    return secret.source ? of(secret.name, *secret.source) : secret.name;
  }
};

class ListenerCompiler {
 public:
  ListenerCompiler(stats::Registry& stats, AccessLogSinks* access_log, upstream::TlsContexts& tls, uint32_t workers,
                   bool bind, ScopedNames names)
      : stats_(stats), access_log_(access_log), tls_(tls), workers_(workers), bind_(bind), names_(names) {}

  // The parsed addresses of a listener; an error names the field.
  static Result<std::vector<net::Address>> addresses(const config::ListenerSpec& spec);

  // Chains that are equal to one of `previous` are taken over. Sockets are found again by their address (port 0: by
  // listener and place in the list), as long as any part still holds them; such a one has the options of the listener
  // that is served until the new part is (use_socket_options).
  Result<std::shared_ptr<const ListenerPart>> compile(const config::ListenerSpec& spec, const ListenerPart* previous);

 private:
  Result<std::shared_ptr<const HttpChain>> compile_chain(const config::FilterChainSpec& spec,
                                                         const std::string& listener);
  Result<std::shared_ptr<net::SocketSet>> socket(const config::ListenerSpec& spec, size_t index,
                                                 const net::Address& address);

  stats::Registry& stats_;
  AccessLogSinks* access_log_;
  upstream::TlsContexts& tls_;
  uint32_t workers_;
  bool bind_;
  ScopedNames names_;
  std::unordered_map<std::string, std::weak_ptr<net::SocketSet>> sockets_;
  std::unordered_map<std::string, std::weak_ptr<ConnectionLimit>> limits_;  // by listener and identity
};

// When the part goes live: its sockets may have had the options of the version before it, or of a listener that goes.
void use_socket_options(const ListenerPart& part);

// "address", "additional_addresses[1]": where the index-th address stands in the message.
std::string address_path(size_t index);

}  // namespace outrigger::proxy
