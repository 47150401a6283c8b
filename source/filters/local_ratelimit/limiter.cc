#include "filters/local_ratelimit/limiter.h"

#include <fmt/core.h>

#include <algorithm>

namespace outrigger::filters {
namespace {

using upstream::RateBucket;
using upstream::RateClaim;
using upstream::RateTable;

using Entries = std::vector<std::pair<std::string, std::string>>;

Hash128 combine(const Hash128& a, const Hash128& b) {
  const uint64_t both[4] = {a.low, a.high, b.low, b.high};
  return keyed_hash128({reinterpret_cast<const char*>(both), sizeof(both)});
}
Hash128 combine(const Hash128& hash, std::string_view text) { return combine(hash, keyed_hash128(text)); }
Hash128 combine(const Hash128& hash, uint64_t number) {
  return combine(hash, keyed_hash128({reinterpret_cast<const char*>(&number), sizeof(number)}));
}

template <class Range>
Hash128 hash_entries(const Range& entries) {
  Hash128 hash{entries.size(), 0};
  for (const auto& [key, value] : entries)
    hash = combine(combine(hash, std::string_view(key)), std::string_view(value));
  return hash;
}

// Length before text, so that no two descriptors have the same name.
std::string name_of(const Entries& entries) {
  std::string out;
  for (const auto& [key, value] : entries) out += fmt::format("{}:{}={}:{};", key.size(), key, value.size(), value);
  return out;
}

bool matches(const Entries& limit, std::span<const config::DescriptorEntry> request) {
  if (limit.size() != request.size()) return false;
  for (size_t i = 0; i < limit.size(); ++i)
    if (limit[i].first != request[i].key || (!limit[i].second.empty() && limit[i].second != request[i].value))
      return false;
  return true;
}

}  // namespace

Limiter::Limiter(const LimiterSpec& spec, const std::string& scope, config::StateRegistry& states)
    : always_consume_default_(spec.always_consume_default), per_connection_(spec.per_connection) {
  const auto bucket = [&](const std::string& name) -> std::shared_ptr<RateBucket> {
    if (per_connection_) return nullptr;
    return states.find_or_make<RateBucket>("rate_bucket/" + scope + "/" + name,
                                           [] { return std::make_shared<RateBucket>(); });
  };
  if (spec.default_rate)
    default_ = Limit{.rate = *spec.default_rate, .identity = keyed_hash128("default"), .bucket = bucket("default")};
  limits_.reserve(spec.descriptors.size());
  for (const DescriptorSpec& descriptor : spec.descriptors) {
    const auto number = static_cast<uint32_t>(limits_.size());
    Limit& limit = limits_.emplace_back(
        Limit{.entries = descriptor.entries, .rate = descriptor.rate, .identity = hash_entries(descriptor.entries)});
    limit.wildcard =
        std::any_of(limit.entries.begin(), limit.entries.end(), [](const auto& entry) { return entry.second.empty(); });
    if (limit.wildcard) {
      wildcards_.push_back(number);
    } else {
      static_.insert(limit.identity, number);
      limit.bucket = bucket("descriptor/" + name_of(limit.entries));
    }
  }
  if (wildcards_.empty() && !per_connection_) return;
  const uint64_t keys = uint64_t{spec.max_dynamic_descriptors} * std::max<size_t>(wildcards_.size(), 1);
  uint32_t sets = spec.max_dynamic_descriptors == 0 ? RateTable::kDefaultSets : RateTable::sets_for(keys);
  if (per_connection_) sets = std::max(sets, RateTable::kDefaultSets);
  // A table of another size is another table: its buckets start full.
  table_ = states.find_or_make<RateTable>(fmt::format("rate_table/{}/{}", scope, sets),
                                          [&] { return std::make_shared<RateTable>(sets); });
}

const Limiter::Limit* Limiter::find(const config::Descriptor& descriptor) const {
  if (static_.size() > 0) {
    const uint32_t* at = static_.find(hash_entries(descriptor.entries), [&](uint32_t candidate) {
      return matches(limits_[candidate].entries, descriptor.entries);
    });
    if (at != nullptr) return &limits_[*at];
  }
  for (const uint32_t at : wildcards_)
    if (matches(limits_[at].entries, descriptor.entries)) return &limits_[at];
  return nullptr;
}

RateClaim Limiter::claim(const Limit& limit, const config::Descriptor& descriptor, uint64_t connection_id) const {
  if (limit.bucket != nullptr) return {.rate = limit.rate, .bucket = limit.bucket.get()};
  Hash128 key = limit.identity;
  if (per_connection_) key = combine(key, connection_id);
  for (size_t i = 0; i < limit.entries.size(); ++i)
    if (limit.entries[i].second.empty()) key = combine(key, descriptor.entries[i].value);
  return {.rate = limit.rate, .table = table_.get(), .key = key};
}

Limiter::Decision Limiter::decide(std::span<const config::Descriptor> descriptors, uint64_t connection_id,
                                  int64_t now_ns, Arena& arena) const {
  Decision decision;
  auto* claims =
      static_cast<RateClaim*>(arena.try_allocate((descriptors.size() + 1) * sizeof(RateClaim), alignof(RateClaim)));
  if (claims == nullptr) {
    decision.admitted = false;
    return decision;
  }
  size_t count = 0;
  for_each_bucket(descriptors, [&](const Limit& limit, const config::Descriptor& descriptor) {
    new (&claims[count++]) RateClaim(claim(limit, descriptor, connection_id));
  });
  if (count == 0) return decision;

  decision.limited = true;
  decision.admitted = upstream::admit({claims, count}, now_ns);
  const RateClaim* tightest = claims;
  for (size_t i = 0; i < count; ++i) {
    const RateClaim& c = claims[i];
    decision.evicted += c.evicted ? 1 : 0;
    if (!decision.admitted) decision.wait_ns = std::max(decision.wait_ns, c.wait_ns());
    const bool tighter = decision.admitted ? c.remaining() < tightest->remaining() : c.wait_ns() > tightest->wait_ns();
    if (tighter) tightest = &c;
  }
  decision.limit = tightest->rate.tokens;
  decision.remaining = tightest->remaining();
  decision.reset_ns = tightest->reset_ns();
  return decision;
}

std::string Limiter::display_name(const Limit& limit) const {
  if (limit.entries.empty()) return "default";
  std::string out;
  for (const auto& [key, value] : limit.entries)
    out += fmt::format("{}{}={}", out.empty() ? "" : ", ", key, value.empty() ? "*" : value);
  return out;
}

Limiter::PeekedAll Limiter::peek(std::span<const config::Descriptor> descriptors, int64_t now_ns) const {
  static constexpr uint64_t kNoConnection = UINT64_MAX;
  PeekedAll out;
  std::vector<RateClaim> claims;
  for_each_bucket(descriptors, [&](const Limit& limit, const config::Descriptor& descriptor) {
    claims.push_back(claim(limit, descriptor, kNoConnection));
    out.buckets.push_back({.name = display_name(limit)});
  });
  out.admitted = claims.empty() || upstream::peek(claims, now_ns);
  for (size_t i = 0; i < claims.size(); ++i) {
    out.buckets[i].limit = claims[i].rate.tokens;
    out.buckets[i].remaining = claims[i].remaining();
    out.buckets[i].wait_ns = claims[i].wait_ns();
  }
  return out;
}

}  // namespace outrigger::filters
