// ChainMatcher: the filter chains of a listener, compiled for choosing one for a connection by Envoy's precedence
// (FilterChainMatch): destination port, destination prefix, server name, transport protocol, application protocol,
// directly connected source prefix, source type, source prefix, source port. At each step the most specific chains stay
// and none looks back: a chain for this destination port hides all chains for any port, even if a later criterion then
// fails. The cost does not grow with the number of chains: each criterion that tells many apart is a hash table.
//
// Thread rule: immutable; any thread.
// Use:  ChainMatcher matcher(specs);   const int index = matcher.match({.local = local, .remote = remote, ...});
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "config/spec.h"
#include "net/address.h"

namespace outrigger::proxy {

// What is known of a connection when its chain is chosen.
struct ConnectionFacts {
  const net::Address& local;          // where the client wanted to go
  const net::Address& remote;         // where it comes from
  const net::Address& direct_remote;  // the peer of the socket: not `remote` where a PROXY header told another one
  std::string_view server_name = {};  // of TLS, in lower case
  std::string_view transport_protocol = "raw_buffer";
  std::span<const std::string_view> application_protocols = {};  // ALPN, as the client prefers them
};

class ChainMatcher {
 public:
  // The specs need not outlive it.
  explicit ChainMatcher(const std::vector<config::FilterChainSpec>& chains);
  ~ChainMatcher();

  // The index of the chain; -1: there is none.
  int match(const ConnectionFacts& facts) const;

 private:
  struct Range;
  struct Criteria;
  struct Node;
  struct Builder;
  std::vector<Criteria> chains_;
  std::unique_ptr<const Node> root_;
};

}  // namespace outrigger::proxy
