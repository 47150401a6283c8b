// StringMatcher, HeaderMatcher, QueryMatcher: compiled conditions of routes and rate limit actions. They were checked
// at translation: a regex that does not compile is our mistake (CHECK).
//
// Matching allocates nothing in steady state (a header with several fields is joined in a per-thread buffer).
//
// Thread rule: immutable; any thread.
// Use:  HeaderMatcher m(spec);  if (m.match(request_headers)) ...
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/regex.h"
#include "config/spec.h"
#include "outrigger/header_map.h"

namespace outrigger::config {

class StringMatcher {
 public:
  explicit StringMatcher(const StringMatchSpec& spec);
  bool match(std::string_view text) const;
  // What comes after "to": "be \"a\"", "start with \"a\" in any case".
  std::string describe() const;

 private:
  StringMatchSpec::Kind kind_;
  bool ignore_case_;
  std::string value_;  // lower-case if ignore_case_
  std::shared_ptr<const Regex> regex_;
};

// All fields of one name joined as Envoy joins them: "," (cookie: "; "). nullopt: no such field. "host" is
// ":authority". The view is valid until the next call on this thread, or as long as the headers if there is one field
// only.
std::optional<std::string_view> joined_header(const HeaderMap& headers, std::string_view lower_case_name);

class HeaderMatcher {
 public:
  explicit HeaderMatcher(const HeaderMatchSpec& spec);
  bool match(const HeaderMap& headers) const;
  const std::string& name() const { return name_; }
  std::string describe() const;  // "header x-env not to be \"prod\""

 private:
  bool match_value(std::string_view value) const;

  std::string name_;
  HeaderId id_;
  HeaderMatchSpec::Kind kind_;
  bool present_, invert_, treat_missing_as_empty_;
  int64_t range_start_, range_end_;
  std::optional<StringMatcher> string_;
};

// The value of the first query parameter called `name` in a request target, as it came (not percent-decoded); nullopt
// if there is none. "a" and "a=" both have the value "".
std::optional<std::string_view> query_parameter(std::string_view path_with_query, std::string_view name);
// The same among percent-decoded parameters: names and values are compared and returned decoded (in `arena` if decoding
// changed anything).
std::optional<std::string_view> decoded_query_parameter(std::string_view path_with_query, std::string_view name,
                                                        Arena& arena);

class QueryMatcher {
 public:
  explicit QueryMatcher(const QueryMatchSpec& spec);
  // On the request target as it came, as routes match.
  bool match(std::string_view path_with_query) const { return match_value(query_parameter(path_with_query, name_)); }
  // On percent-decoded parameters, as rate limit actions match.
  bool match_decoded(std::string_view path_with_query, Arena& arena) const {
    return match_value(decoded_query_parameter(path_with_query, name_, arena));
  }
  const std::string& name() const { return name_; }
  std::string describe() const;  // "query parameter v to be \"2\""

 private:
  bool match_value(std::optional<std::string_view> value) const;

  std::string name_;
  bool present_;
  std::optional<StringMatcher> string_;
};

std::vector<HeaderMatcher> compile(const std::vector<HeaderMatchSpec>& specs);
std::vector<QueryMatcher> compile(const std::vector<QueryMatchSpec>& specs);
bool match_all(const std::vector<HeaderMatcher>& matchers, const HeaderMap& headers);

}  // namespace outrigger::config
