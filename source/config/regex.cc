#include "config/regex.h"

#include <re2/re2.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "base/hash.h"

namespace outrigger::config {
namespace {

// What is certain about the strings that one part of a pattern matches.
struct Certain {
  bool exact = true;  // it matches nothing but `prefix` (which then equals `suffix`)
  std::string prefix, suffix;
  std::vector<std::string> inner;  // further literals that each match contains
};

Certain anything() { return {.exact = false}; }

void append(Certain& left, Certain&& right) {
  if (left.exact && right.exact) {
    left.prefix += right.prefix;
    left.suffix = left.prefix;
  } else if (left.exact) {
    right.prefix.insert(0, left.prefix);
    left = std::move(right);
  } else if (right.exact) {
    left.suffix += right.prefix;
  } else {
    left.inner.push_back(left.suffix + right.prefix);
    left.inner.insert(left.inner.end(), right.inner.begin(), right.inner.end());
    left.suffix = std::move(right.suffix);
  }
}

void keep_common(Certain& left, const Certain& right) {
  const auto prefix_end =
      std::mismatch(left.prefix.begin(), left.prefix.end(), right.prefix.begin(), right.prefix.end());
  left.prefix.erase(prefix_end.first, left.prefix.end());
  const auto suffix_end =
      std::mismatch(left.suffix.rbegin(), left.suffix.rend(), right.suffix.rbegin(), right.suffix.rend());
  left.suffix.erase(left.suffix.begin(), suffix_end.first.base());
  left.exact = false;
  left.inner.clear();
}

// A reader of RE2's syntax that gives up (nullopt) on whatever it does not know for certain.
class Reader {
 public:
  Reader(std::string_view pattern, bool fold) : text_(pattern), fold_(fold) {}

  std::optional<Certain> read() {
    std::optional<Certain> all = alternation(0);
    if (!all || at_ != text_.size()) return std::nullopt;
    return all;
  }

 private:
  static constexpr int kMaxDepth = 50;

  bool more() const { return at_ < text_.size(); }
  char peek() const { return text_[at_]; }

  std::optional<Certain> alternation(int depth) {
    if (depth > kMaxDepth) return std::nullopt;
    std::optional<Certain> all = concatenation(depth);
    while (all && more() && peek() == '|') {
      ++at_;
      std::optional<Certain> next = concatenation(depth);
      if (!next) return std::nullopt;
      keep_common(*all, *next);
    }
    return all;
  }

  std::optional<Certain> concatenation(int depth) {
    Certain all;
    while (more() && peek() != '|' && peek() != ')') {
      std::optional<Certain> next = atom(depth);
      if (!next || !repetition(*next)) return std::nullopt;
      append(all, std::move(*next));
    }
    return all;
  }

  std::optional<Certain> atom(int depth) {
    const char c = text_[at_++];
    switch (c) {
      case '(':
        return group(depth);
      case '[':
        return character_class();
      case '.':
        return anything();
      case '^':
      case '$':
        return Certain{};
      case '\\':
        return escape();
      case '*':
      case '+':
      case '?':
      case '{':
        return std::nullopt;
      default:
        return literal(c);
    }
  }

  std::optional<Certain> literal(char c) const {
    if (c < 0x20 || c == 0x7f) return std::nullopt;  // bytes of UTF-8 sequences are negative
    if (fold_) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
      if (c == 'k' || c == 's') return anything();  // U+212A and U+017F fold to them
    }
    return Certain{.prefix = std::string(1, c), .suffix = std::string(1, c)};
  }

  std::optional<Certain> group(int depth) {
    const std::string_view rest = text_.substr(at_);
    if (rest.starts_with("?:")) {
      at_ += 2;
    } else if (rest.starts_with("?P<")) {
      const size_t close = rest.find('>');
      if (close == std::string_view::npos) return std::nullopt;
      at_ += close + 1;
    } else if (rest.starts_with("?")) {
      return std::nullopt;  // flags
    }
    std::optional<Certain> inside = alternation(depth + 1);
    if (!inside || !more() || peek() != ')') return std::nullopt;
    ++at_;
    return inside;
  }

  std::optional<Certain> character_class() {
    if (more() && peek() == '^') ++at_;
    if (more() && peek() == ']') ++at_;
    while (more() && peek() != ']') {
      if (text_.substr(at_, 2) == "[:") {
        const size_t close = text_.find(":]", at_ + 2);
        at_ = close == std::string_view::npos ? at_ + 1 : close + 2;
      } else {
        at_ += peek() == '\\' ? 2 : 1;
      }
    }
    if (!more()) return std::nullopt;
    ++at_;
    return anything();
  }

  std::optional<Certain> escape() {
    if (!more()) return std::nullopt;
    const char c = text_[at_++];
    if (std::string_view("dDsSwW").find(c) != std::string_view::npos) return anything();
    if (std::string_view("bBAz").find(c) != std::string_view::npos) return Certain{};
    const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (alphanumeric) return std::nullopt;
    return literal(c);
  }

  // Reads a repetition of `what`, if there is one. False: not certain.
  bool repetition(Certain& what) {
    if (!more()) return true;
    bool at_least_once = false;
    switch (peek()) {
      case '*':
      case '?':
        ++at_;
        break;
      case '+':
        ++at_;
        at_least_once = true;
        break;
      case '{': {
        const size_t close = text_.find('}', at_);
        if (close == std::string_view::npos) return false;
        const std::string_view counts = text_.substr(at_ + 1, close - at_ - 1);
        if (counts.empty() || counts.find_first_not_of("0123456789,") != std::string_view::npos ||
            counts.front() == ',' || std::count(counts.begin(), counts.end(), ',') > 1)
          return false;
        at_least_once = counts.substr(0, counts.find(',')).find_first_not_of('0') != std::string_view::npos;
        at_ = close + 1;
        break;
      }
      default:
        return true;
    }
    if (more() && peek() == '?') ++at_;
    if (more() && std::string_view("*+?{").find(peek()) != std::string_view::npos) return false;
    if (at_least_once) {
      what.exact = false;
    } else {
      what = anything();
    }
    return true;
  }

  std::string_view text_;
  bool fold_;
  size_t at_ = 0;
};

}  // namespace

RegexLiterals regex_literals(std::string_view pattern) {
  RegexLiterals literals;
  literals.folded = pattern.starts_with("(?i)");
  if (literals.folded) pattern.remove_prefix(4);
  std::optional<Certain> certain = Reader(pattern, literals.folded).read();
  if (!certain) return {};
  literals.required = std::move(certain->inner);
  literals.required.push_back(certain->prefix);
  if (!certain->exact) literals.required.push_back(std::move(certain->suffix));
  literals.prefix = std::move(certain->prefix);
  std::sort(literals.required.begin(), literals.required.end());
  literals.required.erase(std::unique(literals.required.begin(), literals.required.end()), literals.required.end());
  std::erase(literals.required, std::string());
  literals.required.shrink_to_fit();
  return literals;
}

Regex::Regex(std::string_view pattern) : pattern_(pattern), re_(std::make_unique<re2::RE2>(pattern_, re2::RE2::Quiet)) {
  if (re_->ok()) literals_ = regex_literals(pattern_);
}
Regex::~Regex() = default;

bool Regex::ok() const { return re_->ok(); }
bool Regex::full_match(std::string_view text) const {
  return re_->Match(text, 0, text.size(), re2::RE2::ANCHOR_BOTH, nullptr, 0);
}

namespace {

struct PatternHash {
  using is_transparent = void;
  size_t operator()(std::string_view pattern) const { return content_hash(pattern); }
};
using KnownRegexes = std::unordered_map<std::string, std::weak_ptr<const Regex>, PatternHash, std::equal_to<>>;

}  // namespace

std::shared_ptr<const Regex> shared_regex(std::string_view pattern) {
  static std::mutex mutex;
  static auto& known = *new KnownRegexes;
  static size_t sweep_at = 64;

  {
    const std::lock_guard lock(mutex);
    if (const auto found = known.find(pattern); found != known.end())
      if (auto regex = found->second.lock()) return regex;
  }
  auto regex = std::make_shared<const Regex>(pattern);
  if (!regex->ok()) return nullptr;
  const std::lock_guard lock(mutex);
  if (known.size() >= sweep_at) {
    std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
    sweep_at = std::max<size_t>(64, known.size() * 2);
  }
  known[std::string(pattern)] = regex;
  return regex;
}

}  // namespace outrigger::config
