// Regex: an RE2 program, compiled once per distinct pattern in the process and shared, together with the literals that
// every match must contain (route tables file regexes under them).
//
// Thread rule: shared_regex from any thread; a Regex is immutable and usable from any thread.
// Use:  std::shared_ptr<const Regex> r = shared_regex("/v[0-9]+/.*");  if (r && r->full_match(path)) ...
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}

namespace outrigger::config {

// What is known of every string that a regex matches in full. Conservative: empty when nothing is certain.
struct RegexLiterals {
  std::string prefix;                 // each match starts with it
  std::vector<std::string> required;  // each match contains every one of them
  bool folded = false;                // (?i): the literals are lower-case and speak of the lower-cased (ASCII) subject
  bool operator==(const RegexLiterals&) const = default;
};
RegexLiterals regex_literals(std::string_view pattern);

class Regex {
 public:
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  bool ok() const;  // it compiles
  bool full_match(std::string_view text) const;
  const std::string& pattern() const { return pattern_; }
  const re2::RE2& re2() const { return *re_; }
  const RegexLiterals& literals() const { return literals_; }

 private:
  std::string pattern_;
  std::unique_ptr<re2::RE2> re_;
  RegexLiterals literals_;
};

// nullptr if the pattern does not compile (translation has refused those already).
std::shared_ptr<const Regex> shared_regex(std::string_view pattern);

}  // namespace outrigger::config
