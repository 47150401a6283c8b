// Limiter: the buckets of one local_ratelimit config and which of them a request needs.
//
// Each static descriptor (all values given) and the default bucket has a bucket of its own. Descriptors with a wildcard
// (an empty value) have one bucket per combination of values that clients send, in a table of fixed size; so has, with
// per_connection, every bucket of every connection. Buckets and table are found again in the StateRegistry by scope and
// descriptor, so they survive changes of the config.
//
// Thread rule: built on the builder thread, then immutable; decide() from any worker.
// Use:  Limiter::Decision d = limiter.decide(descriptors, connection_id, now_ns, arena);  if (!d.admitted) ...
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "config/extension.h"
#include "config/rate_limit_actions.h"
#include "filters/hash_index.h"
#include "outrigger/arena.h"
#include "upstream/rate_limiter.h"

namespace outrigger::filters {

struct DescriptorSpec {
  std::vector<std::pair<std::string, std::string>> entries;  // an empty value: any
  upstream::Rate rate;
};

struct LimiterSpec {
  std::optional<upstream::Rate> default_rate;
  std::vector<DescriptorSpec> descriptors;  // no two with the same entries
  bool always_consume_default = true;
  bool per_connection = false;
  uint32_t max_dynamic_descriptors = 0;  // 0: not given
};

class Limiter {
 public:
  Limiter(const LimiterSpec& spec, const std::string& scope, config::StateRegistry& states);

  struct Decision {
    bool admitted = true;
    bool limited = false;  // some bucket was asked; the rest speaks of the tightest one
    uint32_t evicted = 0;  // keys that lost their slot to this request's
    uint32_t limit = 0;
    uint32_t remaining = 0;
    uint64_t reset_ns = 0;  // until that bucket is full
    uint64_t wait_ns = 0;   // until all buckets have a token again; 0 if admitted
  };
  // Charges a token of every bucket concerned, or of none. No heap allocation. If the arena is full: not admitted.
  Decision decide(std::span<const config::Descriptor> descriptors, uint64_t connection_id, int64_t now_ns,
                  Arena& arena) const;

  // What decide() would find, without charging; per_connection: as on a new connection.
  struct Peeked {
    std::string name;  // "default", "user=alice, path=*"
    uint32_t limit = 0;
    uint32_t remaining = 0;
    uint64_t wait_ns = 0;  // until it has a token; 0: it has
  };
  struct PeekedAll {
    bool admitted = true;
    std::vector<Peeked> buckets;
  };
  PeekedAll peek(std::span<const config::Descriptor> descriptors, int64_t now_ns) const;

  bool has_descriptors() const { return !limits_.empty(); }

 private:
  struct Limit {
    std::vector<std::pair<std::string, std::string>> entries;
    upstream::Rate rate;
    Hash128 identity;
    bool wildcard = false;
    std::shared_ptr<upstream::RateBucket> bucket;  // nullptr: in the table
  };
  const Limit* find(const config::Descriptor& descriptor) const;
  std::string display_name(const Limit& limit) const;
  // Calls f(limit, descriptor) for every bucket that a request needs.
  template <class F>
  void for_each_bucket(std::span<const config::Descriptor> descriptors, F&& f) const {
    bool found = false;
    for (const config::Descriptor& descriptor : descriptors)
      if (const Limit* limit = find(descriptor); limit != nullptr) {
        f(*limit, descriptor);
        found = true;
      }
    if (default_ && (!found || always_consume_default_)) f(*default_, config::Descriptor{});
  }
  upstream::RateClaim claim(const Limit& limit, const config::Descriptor& descriptor, uint64_t connection_id) const;

  std::optional<Limit> default_;
  std::vector<Limit> limits_;
  HashIndex static_;                 // by the hash of all entries
  std::vector<uint32_t> wildcards_;  // in the order of the config
  std::shared_ptr<upstream::RateTable> table_;
  bool always_consume_default_;
  bool per_connection_;
};

}  // namespace outrigger::filters
