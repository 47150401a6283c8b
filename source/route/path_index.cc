#include "route/path_index.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "route/folded_text.h"

namespace outrigger::route {
namespace {

using PathKind = config::PathMatchSpec::Kind;

constexpr size_t kMinLiteral = 2;        // bytes; every path has a "/"
constexpr uint32_t kMaxPrefixGroup = 4;  // regexes under one literal prefix before a rarer literal is looked for

size_t start_bit(const char* at) {
  return (static_cast<unsigned char>(at[0]) * 67u + static_cast<unsigned char>(at[1])) % 4096;
}

// Distributes (node, value) pairs into one range per node, keeping their order.
struct Filing {
  struct Item {
    uint32_t node;
    uint32_t value;
  };
  std::vector<Item> items;

  template <class SetRange>
  void distribute(size_t nodes, std::vector<uint32_t>& into, SetRange&& set_range) const {
    std::vector<uint32_t> next(nodes + 1, 0);
    for (const Item& item : items) ++next[item.node + 1];
    const auto base = static_cast<uint32_t>(into.size());
    next[0] = base;
    for (size_t node = 0; node < nodes; ++node) {
      next[node + 1] += next[node];
      if (next[node + 1] > next[node]) set_range(static_cast<uint32_t>(node), next[node], next[node + 1]);
    }
    into.resize(base + items.size());
    for (const Item& item : items) into[next[item.node]++] = item.value;
  }
};

}  // namespace

// ---- building ----

class PathIndex::Builder {
 public:
  Builder(PathIndex& index, std::span<const config::Regex* const> regexes, Pool& pool)
      : index_(index), regex_of_(regexes), pool_(pool) {}

  void build() {
    number_regexes();
    count_literals();
    for (uint32_t i = 0; i < index_.routes_.size(); ++i)
      if (regex_of_[i] == nullptr) file_route(i);
    for (uint32_t number = 0; number < index_.regexes_.size(); ++number) file_regex(number);
    finish(index_.plain_, plain_);
    if (index_.folded_ != nullptr) finish(*index_.folded_, folded_);
    finish_regexes();
    index_.entries_.shrink_to_fit();
    index_.regex_lists_.shrink_to_fit();
  }

 private:
  // What is being filed in one Cased.
  struct Draft {
    Filing exact, prefixes, prefix_regexes, literals;
  };
  // Lowest unconditional route that covers everything at and below a node.
  struct Cover {
    uint32_t inherited = kNone, plain = kNone, separated = kNone;
  };

  Cased& cased(bool sensitive) {
    if (sensitive) return index_.plain_;
    if (index_.folded_ == nullptr) index_.folded_ = std::make_unique<Cased>();
    return *index_.folded_;
  }
  Draft& draft(bool sensitive) { return sensitive ? plain_ : folded_; }
  Entry entry(uint32_t route) const { return route | (index_.routes_[route].unconditional() ? 0 : kConditional); }

  void file_route(uint32_t i) {
    const Route& route = index_.routes_[i];
    if (route.path_kind() == PathKind::kConnect) return;  // has no path
    const bool sensitive = route.case_sensitive();
    Cased& to = cased(sensitive);
    std::string_view text = route.path_pattern();
    if (!sensitive) text = pool_.copy(outrigger::route::folded(text));
    if (route.path_kind() == PathKind::kExact) {
      draft(sensitive).exact.items.push_back({to.exact.add(text), entry(i)});
    } else {
      const Entry flag = route.path_kind() == PathKind::kSeparatedPrefix ? kSeparated : 0;
      draft(sensitive).prefixes.items.push_back({to.prefixes.add(text), entry(i) | flag});
    }
  }

  void number_regexes() {
    PrefixMap<uint32_t> numbers;  // by pattern
    for (uint32_t i = 0; i < regex_of_.size(); ++i) {
      if (regex_of_[i] == nullptr) continue;
      const config::RegexLiterals& literals = regex_of_[i]->literals();
      uint32_t at = numbers.exact(regex_of_[i]->pattern());
      if (at == kNone) {
        at = numbers.add(regex_of_[i]->pattern());
        numbers.payload(at) = static_cast<uint32_t>(index_.regexes_.size());
        index_.regexes_.push_back({regex_of_[i], {}});
        first_route_.push_back(i);
        ++prefix_uses_.payload(prefix_uses_.add(literals.prefix));
      }
      regex_entries_.items.push_back({numbers.payload(at), entry(i)});
    }
    index_.regexes_.shrink_to_fit();
  }

  // How many regexes of large prefix groups contain each literal.
  void count_literals() {
    for (const RegexPattern& pattern : index_.regexes_) {
      const config::RegexLiterals& literals = pattern.regex->literals();
      if (small_prefix_group(literals)) continue;
      for (const std::string& literal : literals.required)
        if (literal.size() >= kMinLiteral) ++literal_uses_.payload(literal_uses_.add(literal));
    }
  }
  bool small_prefix_group(const config::RegexLiterals& literals) const {
    return literals.prefix.size() >= kMinLiteral &&
           prefix_uses_.payload(prefix_uses_.exact(literals.prefix)) <= kMaxPrefixGroup;
  }

  void file_regex(uint32_t number) {
    const config::RegexLiterals& literals = index_.regexes_[number].regex->literals();
    const std::string* best = nullptr;
    if (small_prefix_group(literals)) {
      best = &literals.prefix;
    } else {
      uint32_t fewest = UINT32_MAX;
      for (const std::string& literal : literals.required) {
        if (literal.size() < kMinLiteral) continue;
        const uint32_t uses = literal_uses_.payload(literal_uses_.exact(literal));
        if (uses > fewest || (uses == fewest && literal.size() <= best->size())) continue;
        fewest = uses;
        best = &literal;
      }
    }
    if (best == nullptr) {
      linear_.push_back(number);
      return;
    }
    Cased& to = cased(!literals.folded);
    Draft& filed = draft(!literals.folded);
    if (*best == literals.prefix) {  // the Regex owns the text and outlives the index
      filed.prefix_regexes.items.push_back({to.prefixes.add(literals.prefix), number});
    } else {
      if (to.literals == nullptr) to.literals = std::make_unique<Literals>();
      filed.literals.items.push_back({to.literals->texts.add(*best), number});
      index_.first_by_literal_ = std::min(index_.first_by_literal_, first_route_[number]);
      to.literals->starts.set(start_bit(best->data()));
    }
  }

  void finish(Cased& to, Draft& filed) {
    to.exact.shrink();
    to.prefixes.finish();
    if (to.literals != nullptr) to.literals->texts.finish();
    const std::vector<uint32_t> order = parents_first(to.prefixes);
    const std::vector<Cover> covers = find_covers(to.prefixes, filed.prefixes, order);

    std::erase_if(filed.prefixes.items, [&](const Filing::Item& item) {
      const Cover& cover = covers[item.node];
      const uint32_t i = index_of(item.value);
      return i > cover.inherited || i > cover.plain || ((item.value & kSeparated) != 0 && i > cover.separated);
    });
    std::erase_if(filed.prefix_regexes.items, [&](const Filing::Item& item) {
      return first_route_[item.value] > std::min(covers[item.node].inherited, covers[item.node].plain);
    });
    std::vector<uint32_t> first_unconditional(filed.exact.items.size(), kNone);  // by exact node
    std::erase_if(filed.exact.items, [&](const Filing::Item& item) {
      const uint32_t i = index_of(item.value);
      if (i > first_unconditional[item.node] || i > cover_of(to.prefixes, covers, to.exact.text(item.node)))
        return true;
      if ((item.value & kConditional) == 0) first_unconditional[item.node] = i;
      return false;
    });

    filed.exact.distribute(node_count(filed.exact), index_.entries_, [&](uint32_t n, uint32_t b, uint32_t e) {
      to.exact.payload(n) = {b, e};
    });
    filed.prefixes.distribute(node_count(filed.prefixes), index_.entries_, [&](uint32_t n, uint32_t b, uint32_t e) {
      to.prefixes.payload(n).entries = {b, e};
    });
    filed.prefix_regexes.distribute(node_count(filed.prefix_regexes), index_.regex_lists_,
                                    [&](uint32_t n, uint32_t b, uint32_t e) {
                                      to.prefixes.payload(n).regexes = {b, e};
                                    });
    filed.literals.distribute(node_count(filed.literals), index_.regex_lists_, [&](uint32_t n, uint32_t b, uint32_t e) {
      to.literals->texts.payload(n) = {b, e};
    });
    set_chain_firsts(to.prefixes, order);
  }

  static size_t node_count(const Filing& filing) {
    uint32_t count = 0;
    for (const Filing::Item& item : filing.items) count = std::max(count, item.node + 1);
    return count;
  }

  static std::vector<uint32_t> parents_first(const PrefixMap<Filed>& prefixes) {
    std::vector<uint32_t> order(prefixes.text_count());
    for (uint32_t at = 0; at < order.size(); ++at) order[at] = at;
    const auto shorter = [&](uint32_t a, uint32_t b) { return prefixes.size(a) < prefixes.size(b); };
    if (!std::is_sorted(order.begin(), order.end(), shorter)) std::sort(order.begin(), order.end(), shorter);
    return order;
  }

  static std::vector<Cover> find_covers(const PrefixMap<Filed>& prefixes, const Filing& filed,
                                        const std::vector<uint32_t>& order) {
    std::vector<Cover> covers(prefixes.text_count());
    for (const Filing::Item& item : filed.items) {
      if ((item.value & kConditional) != 0) continue;
      Cover& cover = covers[item.node];
      uint32_t& own = (item.value & kSeparated) != 0 ? cover.separated : cover.plain;
      own = std::min(own, index_of(item.value));
    }
    for (const uint32_t at : order)
      if (prefixes.parent(at) != kNone)
        covers[at].inherited = cover_below(prefixes, covers, prefixes.parent(at), prefixes.text(at));
    return covers;
  }

  // Lowest unconditional route at or above node `at` that matches whatever starts with `text` (which starts with the
  // node's).
  static uint32_t cover_below(const PrefixMap<Filed>& prefixes, const std::vector<Cover>& covers, uint32_t at,
                              std::string_view text) {
    const Cover& cover = covers[at];
    uint32_t lowest = std::min(cover.inherited, cover.plain);
    if (text.size() > prefixes.size(at) && text[prefixes.size(at)] == '/') lowest = std::min(lowest, cover.separated);
    return lowest;
  }

  // The same for an exact path.
  static uint32_t cover_of(const PrefixMap<Filed>& prefixes, const std::vector<Cover>& covers, std::string_view path) {
    const uint32_t at = prefixes.longest(path);
    if (at == kNone) return kNone;
    const uint32_t lowest = cover_below(prefixes, covers, at, path);
    return path.size() == prefixes.size(at) ? std::min(lowest, covers[at].separated) : lowest;
  }

  void set_chain_firsts(PrefixMap<Filed>& prefixes, const std::vector<uint32_t>& order) {
    for (const uint32_t at : order) {
      Filed& filed = prefixes.payload(at);
      uint32_t first = prefixes.parent(at) == kNone ? kNone : prefixes.payload(prefixes.parent(at)).chain_first;
      if (filed.entries.begin != filed.entries.end)
        first = std::min(first, index_of(index_.entries_[filed.entries.begin]));
      if (filed.regexes.begin != filed.regexes.end)
        first = std::min(first, first_route_[index_.regex_lists_[filed.regexes.begin]]);
      filed.chain_first = first;
    }
  }

  void finish_regexes() {
    std::vector<uint32_t> first_unconditional(index_.regexes_.size(), kNone);
    std::erase_if(regex_entries_.items, [&](const Filing::Item& item) {
      uint32_t& first = first_unconditional[item.node];
      if (index_of(item.value) > first) return true;
      if ((item.value & kConditional) == 0) first = index_of(item.value);
      return false;
    });
    regex_entries_.distribute(index_.regexes_.size(), index_.entries_, [&](uint32_t n, uint32_t b, uint32_t e) {
      index_.regexes_[n].entries = {b, e};
    });
    const auto begin = static_cast<uint32_t>(index_.regex_lists_.size());
    index_.regex_lists_.insert(index_.regex_lists_.end(), linear_.begin(), linear_.end());
    index_.linear_ = {begin, static_cast<uint32_t>(index_.regex_lists_.size())};
    for (const uint32_t number : linear_)
      index_.linear_routes_ += index_.regexes_[number].entries.end - index_.regexes_[number].entries.begin;
  }

  PathIndex& index_;
  std::span<const config::Regex* const> regex_of_;
  Pool& pool_;
  Draft plain_, folded_;
  Filing regex_entries_;                            // node: regex number
  std::vector<uint32_t> first_route_;               // by regex number
  PrefixMap<uint32_t> literal_uses_, prefix_uses_;  // by how many regexes
  std::vector<uint32_t> linear_;                    // regex numbers
};

PathIndex::PathIndex(std::span<const Route> routes, std::span<const config::Regex* const> regexes, Pool& pool)
    : routes_(routes) {
  CHECK(routes.size() < kConditional);
  Builder(*this, regexes, pool).build();
}

// ---- matching ----

// Regexes to try for the request at hand; one per thread, since a match neither nests nor yields.
struct PathIndex::Candidates {
  std::vector<uint32_t> regexes;
  std::vector<uint32_t> seen;  // by literal node: the search that saw it last
  uint32_t search = 0;

  void start_literals(size_t nodes) {
    if (seen.size() < nodes) seen.resize(nodes, 0);
    if (++search == 0) {
      std::fill(seen.begin(), seen.end(), 0);
      search = 1;
    }
  }
  bool first_sight(uint32_t node) { return std::exchange(seen[node], search) != search; }
};

PathIndex::Candidates& PathIndex::thread_candidates() {
  thread_local Candidates candidates;
  return candidates;
}

uint32_t PathIndex::find(const PathQuery& query) const {
  uint32_t best = kNone;
  if (!regexes_.empty()) thread_candidates().regexes.clear();
  search(plain_, query.path, query, best);
  if (folded_ != nullptr) {
    const FoldedText folded(query.path);
    search(*folded_, folded.view(), query, best);
    if (folded_->literals != nullptr && first_by_literal_ < best)
      search_literals(*folded_->literals, folded.view(), best);
  }
  if (regexes_.empty()) return best;
  if (plain_.literals != nullptr && first_by_literal_ < best) search_literals(*plain_.literals, query.path, best);
  gather(linear_, best);
  try_regexes(query, best);
  return best;
}

void PathIndex::search(const Cased& cased, std::string_view path, const PathQuery& query, uint32_t& best) const {
  if (!cased.exact.empty())
    if (const uint32_t at = cased.exact.exact(path); at != kNone)
      walk(cased.exact.payload(at), path.size(), query, best);
  for (uint32_t at = cased.prefixes.longest(path); at != kNone; at = cased.prefixes.parent(at)) {
    const Filed& filed = cased.prefixes.payload(at);
    if (filed.chain_first >= best) break;
    walk(filed.entries, cased.prefixes.size(at), query, best);
    gather(filed.regexes, best);
  }
}

void PathIndex::walk(Range range, size_t pattern_size, const PathQuery& query, uint32_t& best) const {
  for (uint32_t at = range.begin; at != range.end; ++at) {
    const Entry entry = entries_[at];
    const uint32_t i = index_of(entry);
    if (i >= best) return;
    if ((entry & kSeparated) != 0 && query.path.size() != pattern_size && query.path[pattern_size] != '/') continue;
    if ((entry & kConditional) != 0 &&
        !routes_[i].conditions_->hold(query.headers, query.path_with_query, query.random))
      continue;
    best = i;
    return;
  }
}

void PathIndex::gather(Range range, uint32_t best) const {
  if (range.begin == range.end) return;
  Candidates& candidates = thread_candidates();
  for (uint32_t at = range.begin; at != range.end; ++at) {
    const uint32_t number = regex_lists_[at];
    if (index_of(entries_[regexes_[number].entries.begin]) >= best) return;
    candidates.regexes.push_back(number);
  }
}

void PathIndex::search_literals(const Literals& literals, std::string_view path, uint32_t best) const {
  Candidates& candidates = thread_candidates();
  candidates.start_literals(literals.texts.text_count());
  for (size_t from = 0; from + kMinLiteral <= path.size(); ++from) {
    if (!literals.starts.test(start_bit(path.data() + from))) continue;
    uint32_t at = literals.texts.longest(path.substr(from));
    for (; at != kNone && candidates.first_sight(at); at = literals.texts.parent(at))
      gather(literals.texts.payload(at), best);
  }
}

void PathIndex::try_regexes(const PathQuery& query, uint32_t& best) const {
  std::vector<uint32_t>& numbers = thread_candidates().regexes;
  if (numbers.size() > 1) std::sort(numbers.begin(), numbers.end());
  for (const uint32_t number : numbers) {
    const RegexPattern& pattern = regexes_[number];
    if (index_of(entries_[pattern.entries.begin]) >= best) return;
    if (pattern.regex->full_match(query.path)) walk(pattern.entries, query.path.size(), query, best);
  }
}

}  // namespace outrigger::route
