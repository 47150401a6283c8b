#include "config/matchers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/hex.h"

namespace outrigger::config {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}
// `text` starts with the lower-case `value`, whatever the case of text.
bool starts_with_folded(std::string_view text, std::string_view value) {
  return text.size() >= value.size() &&
         std::equal(value.begin(), value.end(), text.begin(), [](char v, char t) { return v == lower(t); });
}

// `text` with %XX decoded, in the arena if that changes anything. A '%' without two digits stays.
std::string_view percent_decoded(std::string_view text, Arena& arena) {
  if (text.find('%') == std::string_view::npos) return text;
  char* out = static_cast<char*>(arena.try_allocate(text.size(), 1));
  if (out == nullptr) return text;
  size_t size = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low >= 0) {
      out[size++] = static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out[size++] = text[i];
    }
  }
  return {out, size};
}

// Calls visit(name, value) for each query parameter of a request target until it returns true.
template <class Visit>
void for_each_parameter(std::string_view path, Visit&& visit) {
  const size_t question = path.find('?');
  if (question == std::string_view::npos) return;
  std::string_view query = path.substr(question + 1);
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view parameter = query.substr(0, end);
    const size_t equal = std::min(parameter.find('='), parameter.size());
    const std::string_view value = equal == parameter.size() ? std::string_view("", 0) : parameter.substr(equal + 1);
    if (visit(parameter.substr(0, equal), value)) return;
    query.remove_prefix(std::min(end + 1, query.size()));
  }
}

}  // namespace

StringMatcher::StringMatcher(const StringMatchSpec& spec)
    : kind_(spec.kind),
      ignore_case_(spec.ignore_case && spec.kind != StringMatchSpec::Kind::kRegex),
      value_(ignore_case_ ? lowered(spec.value) : spec.value) {
  if (kind_ != StringMatchSpec::Kind::kRegex) return;
  regex_ = shared_regex(spec.value);
  CHECK(regex_ != nullptr);
}

bool StringMatcher::match(std::string_view text) const {
  switch (kind_) {
    case StringMatchSpec::Kind::kExact:
      return ignore_case_ ? text.size() == value_.size() && starts_with_folded(text, value_) : text == value_;
    case StringMatchSpec::Kind::kPrefix:
      return ignore_case_ ? starts_with_folded(text, value_) : text.starts_with(value_);
    case StringMatchSpec::Kind::kSuffix:
      if (text.size() < value_.size()) return false;
      text.remove_prefix(text.size() - value_.size());
      return ignore_case_ ? starts_with_folded(text, value_) : text == value_;
    case StringMatchSpec::Kind::kContains:
      if (!ignore_case_) return text.find(value_) != std::string_view::npos;
      return std::search(text.begin(), text.end(), value_.begin(), value_.end(),
                         [](char t, char v) { return lower(t) == v; }) != text.end() ||
             value_.empty();
    case StringMatchSpec::Kind::kRegex:
      return regex_->full_match(text);
  }
  return false;
}

std::string StringMatcher::describe() const {
  static constexpr std::string_view kVerbs[] = {"be", "start with", "end with", "contain", "match"};
  if (kind_ == StringMatchSpec::Kind::kRegex) return fmt::format("match \"{}\"", regex_->pattern());
  return fmt::format("{} \"{}\"{}", kVerbs[static_cast<size_t>(kind_)], value_, ignore_case_ ? " in any case" : "");
}

std::optional<std::string_view> joined_header(const HeaderMap& headers, std::string_view name) {
  if (name == "host") name = ":authority";
  const Header* first = headers.find(name);
  if (first == nullptr) return std::nullopt;
  thread_local std::string joined;
  const std::string_view separator = first->id == HeaderId::kCookie ? "; " : ",";
  bool several = false;
  headers.for_each([&](const Header& field) {
    if (&field == first || field.id != first->id || field.name != first->name) return;
    if (!several) joined.assign(first->value);
    several = true;
    joined.append(separator).append(field.value);
  });
  return several ? std::string_view(joined) : first->value;
}

HeaderMatcher::HeaderMatcher(const HeaderMatchSpec& spec)
    : name_(spec.name == "host" ? ":authority" : spec.name),
      id_(find_header_id(name_)),
      kind_(spec.kind),
      present_(spec.present),
      invert_(spec.invert),
      treat_missing_as_empty_(spec.treat_missing_as_empty),
      range_start_(spec.range_start),
      range_end_(spec.range_end) {
  if (kind_ == HeaderMatchSpec::Kind::kString) string_.emplace(spec.string);
}

bool HeaderMatcher::match(const HeaderMap& headers) const {
  const bool present = id_ != HeaderId::kNone ? headers.has(id_) : headers.find(name_) != nullptr;
  // A missing header never satisfies a value match, inverted or not.
  if (!present && !treat_missing_as_empty_) return kind_ == HeaderMatchSpec::Kind::kPresent && (!present_) != invert_;
  if (kind_ == HeaderMatchSpec::Kind::kPresent) return present_ != invert_;
  return match_value(present ? *joined_header(headers, name_) : std::string_view("", 0)) != invert_;
}

bool HeaderMatcher::match_value(std::string_view value) const {
  if (kind_ == HeaderMatchSpec::Kind::kString) return string_->match(value);
  if (value.starts_with('+') && !value.starts_with("+-")) value.remove_prefix(1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  return error == std::errc() && end == value.data() + value.size() && number >= range_start_ && number < range_end_;
}

std::string HeaderMatcher::describe() const {
  if (kind_ == HeaderMatchSpec::Kind::kPresent)
    return fmt::format("header {} to be {}", name_, present_ != invert_ ? "present" : "absent");
  const std::string what = kind_ == HeaderMatchSpec::Kind::kString
                               ? string_->describe()
                               : fmt::format("be a number from {} to below {}", range_start_, range_end_);
  return fmt::format("header {} {}to {}", name_, invert_ ? "not " : "", what);
}

std::optional<std::string_view> query_parameter(std::string_view path, std::string_view name) {
  std::optional<std::string_view> found;
  for_each_parameter(path, [&](std::string_view key, std::string_view value) {
    if (key == name) found = value;
    return found.has_value();
  });
  return found;
}

std::optional<std::string_view> decoded_query_parameter(std::string_view path, std::string_view name, Arena& arena) {
  std::optional<std::string_view> found;
  for_each_parameter(path, [&](std::string_view key, std::string_view value) {
    if (percent_decoded(key, arena) == name) found = percent_decoded(value, arena);
    return found.has_value();
  });
  return found;
}

QueryMatcher::QueryMatcher(const QueryMatchSpec& spec) : name_(spec.name), present_(spec.present) {
  if (spec.string) string_.emplace(*spec.string);
}

bool QueryMatcher::match_value(std::optional<std::string_view> value) const {
  if (!string_) return value.has_value() == present_;
  return value && string_->match(*value);
}

std::string QueryMatcher::describe() const {
  if (!string_) return fmt::format("query parameter {} to be {}", name_, present_ ? "present" : "absent");
  return fmt::format("query parameter {} to {}", name_, string_->describe());
}

std::vector<HeaderMatcher> compile(const std::vector<HeaderMatchSpec>& specs) { return {specs.begin(), specs.end()}; }
std::vector<QueryMatcher> compile(const std::vector<QueryMatchSpec>& specs) { return {specs.begin(), specs.end()}; }
bool match_all(const std::vector<HeaderMatcher>& matchers, const HeaderMap& headers) {
  return std::all_of(matchers.begin(), matchers.end(), [&](const HeaderMatcher& m) { return m.match(headers); });
}

}  // namespace outrigger::config
