// Resolver: names to addresses with c-ares, on one loop (the control thread's).
//
// Thread rule: its loop's thread.
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
  std::vector<Address> addresses;  // port 0
  uint64_t ttl_ms = 0;             // smallest of the answer's; 0: unknown
};

class Resolver {
 public:
  enum class Family : uint8_t { kAuto, kV4Only, kV6Only, kV4Preferred, kAll };  // Envoy's dns_lookup_family
  using Callback = std::function<void(Result<Resolved>)>;

  explicit Resolver(event::Loop& loop);
  ~Resolver();  // pending callbacks are dropped
  // Answers later, never from inside this call. An IP literal answers itself; /etc/hosts is honoured.
  void resolve(const std::string& name, Family family, Callback callback);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::net
