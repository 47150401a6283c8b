// What the translation tests share: two filter types that compile to a note of their config, and loaders that compare
// faults by path.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/translate.h"
#include "envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.pb.h"
#include "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.pb.h"
#include "stats/stats.h"

namespace outrigger::config::testing {

// A fault that is expected: its exact path and a part of its message.
struct Expected {
  std::string path;
  std::string text;
};

struct NotedConfig : FilterConfig {
  explicit NotedConfig(std::string n) : note(std::move(n)) {}
  Filter* create(StreamHandle&) const override { return nullptr; }
  std::string note;
};
struct NotedPart : FilterPart {
  explicit NotedPart(std::string n) : note(std::move(n)) {}
  std::string note;
};

inline int compiled = 0;  // how often a fake filter was compiled

inline std::shared_ptr<const FilterConfig> compile_limit(const google::protobuf::Message& message,
                                                         const FieldPath& path, CompileContext& context) {
  using envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
  ++compiled;
  const auto& config = static_cast<const LocalRateLimit&>(message);
  if (config.stat_prefix().empty()) {
    context.faults.add(path.field("stat_prefix"), "must not be empty");
    return nullptr;
  }
  return std::make_shared<NotedConfig>(context.scope + " " + config.stat_prefix());
}
inline std::shared_ptr<const FilterPart> compile_limit_route(const google::protobuf::Message& message, const FieldPath&,
                                                             CompileContext& context) {
  using envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
  ++compiled;
  return std::make_shared<NotedPart>(context.scope + " " + static_cast<const LocalRateLimit&>(message).stat_prefix());
}
inline std::shared_ptr<const FilterConfig> compile_key(const google::protobuf::Message&, const FieldPath&,
                                                       CompileContext& context) {
  ++compiled;
  return std::make_shared<NotedConfig>(context.scope);
}
inline std::shared_ptr<const FilterPart> compile_key_route(const google::protobuf::Message&, const FieldPath&,
                                                           CompileContext& context) {
  ++compiled;
  return std::make_shared<NotedPart>(context.scope);
}

inline constexpr FilterType kFilters[] = {
    {"envoy.filters.http.local_ratelimit", "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
     "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", compile_limit, compile_limit_route},
    {"envoy.filters.http.api_key_auth", "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
     "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute", compile_key, compile_key_route},
};

struct Loader {
  explicit Loader(TranslateOptions options = {}) : translator(kFilters, states, stats, options) {}

  // A resource file with one resource: the resource's YAML, "@type" first.
  TranslatedResource resource(std::string_view yaml) {
    std::string text = "resources:\n";
    bool first = true;
    while (!yaml.empty()) {
      const size_t end = std::min(yaml.find('\n'), yaml.size());
      if (end > 0) text += (std::exchange(first, false) ? "- " : "  ") + std::string(yaml.substr(0, end));
      text += "\n";
      yaml.remove_prefix(std::min(end + 1, yaml.size()));
    }
    Faults file_faults;
    auto all = translator.resource_file(text, "test.yaml", file_faults);
    EXPECT_EQ(file_faults.str(), "");
    EXPECT_EQ(all.size(), 1u) << text;
    return all.empty() ? TranslatedResource{} : std::move(all.front());
  }

  stats::Registry stats{1};
  StateRegistry states;
  Translator translator;
};

// Exactly these faults, in any order; "resources[0]." in front of the paths is left out.
inline void expect_faults(const Faults& faults, std::vector<Expected> expected, std::string_view what = {}) {
  std::vector<std::pair<std::string, std::string>> got;
  for (const Fault& fault : faults.all()) {
    std::string_view path = fault.path;
    if (path.starts_with("resources[0]"))
      path.remove_prefix(std::min(path.size(), std::string_view("resources[0].").size()));
    got.emplace_back(std::string(path), fault.message);
    if (fault.warning) got.back().second += " (warning)";
  }
  std::sort(got.begin(), got.end());
  std::sort(expected.begin(), expected.end(),
            [](const Expected& a, const Expected& b) { return std::tie(a.path, a.text) < std::tie(b.path, b.text); });
  bool same = got.size() == expected.size();
  for (size_t i = 0; same && i < got.size(); ++i) {
    same = got[i].first == expected[i].path && got[i].second.find(expected[i].text) != std::string::npos;
  }
  if (same) return;
  std::string text = "expected\n";
  for (const Expected& e : expected) text += "  " + e.path + ": ..." + e.text + "...\n";
  text += "got\n";
  for (const auto& [path, message] : got) text += "  " + path + ": " + message + "\n";
  ADD_FAILURE() << what << "\n" << text;
}

// `yaml` with the first `from` replaced by `to`: a good config made bad in one place.
inline std::string with(std::string_view yaml, std::string_view from, std::string_view to) {
  std::string out(yaml);
  const size_t at = out.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) out.replace(at, from.size(), to);
  return out;
}

}  // namespace outrigger::config::testing
