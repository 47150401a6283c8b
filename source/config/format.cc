#include "config/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "config/names.h"

namespace outrigger::config {
namespace {

using Kind = FormatOperator::Kind;

enum class Argument : uint8_t { N, H, T, G, M, S };

struct Command {
  std::string_view name;
  Kind kind;
  Argument argument;
};

constexpr Command kCommands[] = {
#define OUTRIGGER_FORMAT_COMMAND(kind, command, argument) {command, Kind::k##kind, Argument::argument},
    OUTRIGGER_FORMAT_COMMANDS(OUTRIGGER_FORMAT_COMMAND)
#undef OUTRIGGER_FORMAT_COMMAND
};

constexpr std::pair<std::string_view, FormatOperator::Source> kSources[] = {
    {"DYNAMIC", FormatOperator::Source::kDynamic},   {"CLUSTER", FormatOperator::Source::kCluster},
    {"ROUTE", FormatOperator::Source::kRoute},       {"UPSTREAM_HOST", FormatOperator::Source::kUpstreamHost},
    {"LISTENER", FormatOperator::Source::kListener}, {"VIRTUAL_HOST", FormatOperator::Source::kVirtualHost},
};

std::string known_commands() {
  std::string out;
  for (const Command& command : kCommands) {
    if (!out.empty()) out += ", ";
    out += command.name;
  }
  return out;
}

const Command* find_command(std::string_view name) {
  for (const Command& command : kCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

// Walks one format string.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<std::vector<FormatOperator>> parse() {
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      add_text(text_.substr(at_, percent - at_));
      at_ = percent;
      if (at_ == text_.size()) break;
      if (text_.substr(at_, 2) == "%%") {
        add_text("%");
        at_ += 2;
      } else {
        TRY_VOID(parse_command());
      }
    }
    return std::move(operators_);
  }

 private:
  void add_text(std::string_view text) {
    if (text.empty()) return;
    if (operators_.empty() || operators_.back().kind != Kind::kText) operators_.emplace_back();
    operators_.back().arg += text;
  }

  tl::unexpected<Error> refuse(size_t at, std::string what) const {
    return fail(Errc::kInvalidArgument, fmt::format("at character {}: {}", at + 1, what));
  }

  Result<void> parse_command() {
    const size_t start = at_++;
    const size_t name_end =
        std::min(text_.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", at_), text_.size());
    const std::string_view name = text_.substr(at_, name_end - at_);
    if (name.empty()) return refuse(start, "a lone '%'; write %% for a percent sign");
    const Command* command = find_command(name);
    if (command == nullptr)
      return refuse(start, fmt::format("unknown command %{}%; known are {}", name, known_commands()));
    at_ = name_end;

    FormatOperator op{.kind = command->kind};
    bool has_argument = false;
    std::string_view argument;
    if (peek() == '(') {
      const size_t close = text_.find(')', at_);
      if (close == std::string_view::npos) return refuse(start, fmt::format("%{}( has no closing ')'", name));
      argument = text_.substr(at_ + 1, close - at_ - 1);
      has_argument = true;
      at_ = close + 1;
    }
    if (peek() == ':') {
      ++at_;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), op.max_len);
      if (error != std::errc())
        return refuse(start, fmt::format("the length after %{}...: must be a number below 2^32", name));
      at_ += static_cast<size_t>(end - begin);
    }
    if (peek() != '%') return refuse(start, fmt::format("%{} is not closed by a '%'", name));
    ++at_;
    TRY_VOID(set_argument(*command, start, has_argument, argument, op));
    operators_.push_back(std::move(op));
    return {};
  }

  Result<void> set_argument(const Command& command, size_t start, bool given, std::string_view argument,
                            FormatOperator& op) const {
    switch (command.argument) {
      case Argument::N:
        if (given) return refuse(start, fmt::format("%{}% takes no argument", command.name));
        return {};
      case Argument::T:
        op.arg = std::string(argument);
        return {};
      case Argument::G:
        if (given && argument != "CAMEL_STRING" && argument != "SNAKE_STRING" && argument != "NUMBER")
          return refuse(start, fmt::format("%{}% takes CAMEL_STRING, SNAKE_STRING or NUMBER", command.name));
        op.arg = std::string(argument);
        return {};
      case Argument::M:
      case Argument::S:
        return set_metadata(command, start, argument, op);
      case Argument::H:
        break;
    }
    const size_t question = argument.find('?');
    op.arg = lower_ascii(argument.substr(0, question));
    if (question != std::string_view::npos) op.alt = lower_ascii(argument.substr(question + 1));
    if (!is_header_or_pseudo_name(op.arg) || (question != std::string_view::npos && !is_header_or_pseudo_name(op.alt)))
      return refuse(start, fmt::format("%{0}% needs a header name, as %{0}(NAME)% or %{0}(NAME?OTHER)%", command.name));
    if (op.arg == "host") op.arg = ":authority";
    if (op.alt == "host") op.alt = ":authority";
    return {};
  }

  Result<void> set_metadata(const Command& command, size_t start, std::string_view argument, FormatOperator& op) const {
    using Source = FormatOperator::Source;
    op.source = command.kind == Kind::kClusterMetadata    ? Source::kCluster
                : command.kind == Kind::kUpstreamMetadata ? Source::kUpstreamHost
                                                          : Source::kDynamic;
    const auto take = [&] {
      const size_t colon = std::min(argument.find(':'), argument.size());
      const std::string_view word = argument.substr(0, colon);
      argument.remove_prefix(std::min(colon + 1, argument.size()));
      return word;
    };
    if (command.kind == Kind::kMetadata) {
      const std::string_view word = take();
      const auto* const source = std::find_if(std::begin(kSources), std::end(kSources),
                                              [&](const auto& known) { return known.first == word; });
      if (source == std::end(kSources))
        return refuse(start, fmt::format("%METADATA(SOURCE:NAMESPACE:KEY)% needs one of DYNAMIC, CLUSTER, ROUTE, "
                                         "UPSTREAM_HOST, LISTENER, VIRTUAL_HOST as SOURCE, not \"{}\"",
                                         word));
      op.source = source->second;
    }
    while (!argument.empty()) {
      op.path.emplace_back(take());
      if (op.path.back().empty()) break;
    }
    if (op.path.empty() || op.path.back().empty())
      return refuse(start, fmt::format("%{}% needs a namespace, then keys if any, none of them empty", command.name));
    return {};
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<FormatOperator> operators_;
};

}  // namespace

Result<std::vector<FormatOperator>> parse_format(std::string_view text) { return Parser(text).parse(); }

const std::string_view kDefaultAccessLogFormat =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
    "\"%UPSTREAM_HOST%\"\n";

}  // namespace outrigger::config
