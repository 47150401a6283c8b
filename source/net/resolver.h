// Resolver: names to addresses with c-ares, on one loop (the control thread's). /etc/hosts is asked first, then the
// name servers of resolv.conf with its search domains, or those given. Nothing is cached here: the answer carries its
// TTL.
//
// Thread rule: its loop's thread; made and destroyed there too.
// Use:  resolver.resolve("backend.local", Family::kAuto, [](Result<Resolved> r) { ... });
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "event/loop.h"
#include "net/address.h"
#include "outrigger/result.h"

namespace outrigger::net {

struct Resolved {
  std::vector<Address> addresses;  // port 0; in the server's order, kAll: in that of RFC 6724
  uint64_t ttl_ms = 0;             // smallest of the answer's; 0: unknown (/etc/hosts, literals)
};

struct ResolverOptions {
  std::vector<Address> servers;  // empty: those of resolv.conf
  uint64_t timeout_ms = 2'000;   // of the first try; each further round waits twice as long
  uint32_t tries = 3;            // per server
};

class Resolver {
 public:
  // Envoy's dns_lookup_family. kAuto: IPv6, and IPv4 if there is none; kV4Preferred: the other way round.
  enum class Family : uint8_t { kAuto, kV4Only, kV6Only, kV4Preferred, kAll };
  using Callback = std::function<void(Result<Resolved>)>;

  explicit Resolver(event::Loop& loop, const ResolverOptions& options = {});
  ~Resolver();  // pending callbacks are dropped
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  // Answers later, in a turn of its own, never from inside this call; at least one address, or an error that names the
  // name: kNotFound (no such name, or none of that family), kTimeout, kUnavailable (no server answers),
  // kInvalidArgument, kIo. An IP literal answers itself; localhost is loopback (::1 only where IPv6 is). The callback
  // may destroy the resolver.
  void resolve(const std::string& name, Family family, Callback callback);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::net
