// PathIndex: which routes of one virtual host may match a path, and the first of them that does match.
//
// Route i's pattern is filed once per distinct text:
//   exact            hash of the whole path
//   prefixes         PrefixMap of prefix and path_separated_prefix patterns
//   regexes          under their literal prefix in the same PrefixMap; when too many share it, under their rarest
//   required
//                    literal, looked for at every position of the path; else in a list that is always tried (linear)
// Each exists twice: for the path as it is, and, if needed, for case-insensitive patterns and the lower-cased path.
// The routes of one pattern are tried in their order, up to the first that has no further conditions; an entry behind
// the best hit so far is never tried; routes that an earlier unconditional one covers are not filed at all.
//
// Thread rule: built by one thread, then immutable.
// Use:  PathIndex index(routes, regex_of);  const uint32_t i = index.find(query);  if (i != PathIndex::kNone)
// routes[i]...
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "route/pool.h"
#include "route/prefix_map.h"
#include "route/route.h"

namespace outrigger::route {

struct PathQuery {
  std::string_view path;             // without query and fragment
  std::string_view path_with_query;  // as it came
  const HeaderMap& headers;
  uint64_t random = 0;
};

class PathIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // `regexes[i]` is route i's regex, nullptr if its pattern is none. The routes outlive the index.
  PathIndex(std::span<const Route> routes, std::span<const config::Regex* const> regexes, Pool& pool);

  // The lowest index of a matching route.
  uint32_t find(const PathQuery& query) const;
  size_t linear_routes() const { return linear_routes_; }

 private:
  // A route in a list: its index with two flags.
  using Entry = uint32_t;
  static constexpr Entry kConditional = 1u << 30;  // look at the route's conditions too
  static constexpr Entry kSeparated = 1u << 31;    // the path must end, or go on with '/', after the pattern
  static uint32_t index_of(Entry entry) { return entry & (kConditional - 1); }

  struct Range {
    uint32_t begin = 0, end = 0;
  };
  struct Filed {
    Range entries;                 // in entries_
    Range regexes;                 // in regex_lists_
    uint32_t chain_first = kNone;  // lowest route index here and in all parents
  };
  struct RegexPattern {  // numbered in the order of their first routes
    const config::Regex* regex;
    Range entries;
  };
  struct Literals {
    PrefixMap<Range> texts;    // payload: range of regex_lists_
    std::bitset<4096> starts;  // hashes of the literals' first two bytes
  };
  struct Cased {  // one for paths as they are, one for lower-cased ones
    PrefixMap<Range> exact;
    PrefixMap<Filed> prefixes;
    std::unique_ptr<Literals> literals;
  };
  struct Candidates;
  class Builder;

  static Candidates& thread_candidates();
  void search(const Cased& cased, std::string_view path, const PathQuery& query, uint32_t& best) const;
  void search_literals(const Literals& literals, std::string_view path, uint32_t best) const;
  void walk(Range range, size_t pattern_size, const PathQuery& query, uint32_t& best) const;
  void gather(Range range, uint32_t best) const;
  void try_regexes(const PathQuery& query, uint32_t& best) const;

  std::span<const Route> routes_;
  Cased plain_;
  std::unique_ptr<Cased> folded_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> regex_lists_;  // regex numbers, ascending in each range
  std::vector<RegexPattern> regexes_;
  Range linear_;                       // of regex_lists_
  uint32_t first_by_literal_ = kNone;  // lowest route index among regexes filed under a required literal
  size_t linear_routes_ = 0;
};

}  // namespace outrigger::route
