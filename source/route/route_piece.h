// RoutePiece: what some 64 consecutive routes of a table point to. A piece whose routes come again in the next version
// of the table is shared by both; the Routes themselves, which know their virtual host and index, are copied. Private
// to this room.
//
// Thread rule: built on the builder thread, then immutable.
#pragma once

#include <memory>
#include <vector>

#include "config/matchers.h"
#include "config/rate_limit_actions.h"
#include "config/regex.h"
#include "config/route_spec.h"
#include "route/header_mutation.h"
#include "route/pool.h"

namespace outrigger::route {

struct RoutePiece {
  explicit RoutePiece(size_t pool_bytes) : pool(pool_bytes) {}

  Pool pool;  // texts, actions, filter configs
  // What needs a destructor. Reserved before the first pointer is taken.
  std::vector<config::HeaderMatcher> header_matchers;
  std::vector<config::QueryMatcher> query_matchers;
  std::vector<config::RateLimitPolicy> rate_limits;
  std::vector<HeaderMutations> mutations;
  std::vector<config::RetryPolicySpec> retries;
  std::vector<std::shared_ptr<const config::Regex>> regexes;  // each once
  std::vector<std::shared_ptr<const FilterPart>> parts;
  std::vector<ByValue<Metadata>> metadata;
  std::vector<ByValue<config::MetadataMatch>> matches;
  std::vector<const config::Regex*> path_regexes;  // by route; empty: no route's pattern is a regex
};

}  // namespace outrigger::route
