#include "stats/names.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace outrigger::stats {
namespace {

constexpr std::pair<std::string_view, std::string_view> kPrometheusLabels[] = {
    {"cluster", "envoy_cluster_name"},
    {"http", "envoy_http_conn_manager_prefix"},
    {"listener", "envoy_listener_address"},
    {"response_code", "envoy_response_code"},
    {"response_code_class", "envoy_response_code_class"},
    {"worker", "envoy_worker_id"},
};

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

void append_name(std::string& out, std::string_view text) {
  for (const char c : text) out.push_back(is_name_char(c) ? c : '_');
}

// The length of the UTF-8 character at the front, 0 if it is none.
size_t utf8_length(std::string_view s) {
  const auto at = [&](size_t i) -> unsigned { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0; };
  const auto follows = [&](size_t i) { return (at(i) & 0xC0) == 0x80; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!follows(1) || !follows(2)) return 0;
    if (first == 0xE0 && at(1) < 0xA0) return 0;  // overlong
    if (first == 0xED && at(1) > 0x9F) return 0;  // surrogates
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!follows(1) || !follows(2) || !follows(3)) return 0;
    if (first == 0xF0 && at(1) < 0x90) return 0;
    if (first == 0xF4 && at(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

std::string sanitize(std::string_view value) {
  std::string out;
  out.reserve(value.size());
  while (!value.empty()) {
    const size_t length = utf8_length(value);
    const unsigned char first = static_cast<unsigned char>(value[0]);
    if (length == 0 || first == ':' || first < 0x20 || first == 0x7F) {
      out.push_back('_');
      value.remove_prefix(1);
    } else {
      out.append(value.substr(0, length));
      value.remove_prefix(length);
    }
  }
  return out;
}

const std::string* find_label(const Labels& labels, std::string_view name) {
  for (const auto& [label, value] : labels)
    if (label == name) return &value;
  return nullptr;
}

// Calls text(piece) and label(name) for the parts of a template, in order.
template <class Text, class Label>
void walk(std::string_view family, Text&& text, Label&& label) {
  while (!family.empty()) {
    const size_t open = family.find('{');
    text(family.substr(0, open));
    if (open == std::string_view::npos) return;
    const size_t close = family.find('}', open);
    CHECK(close != std::string_view::npos);
    label(family.substr(open + 1, close - open - 1));
    family.remove_prefix(close + 1);
  }
}

void append_escaped(std::string& out, std::string_view value) {
  for (const char c : value) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out += "\\n";
    } else {
      out.push_back(c);
    }
  }
}

// `{a="b",le="5"}`, or nothing.
void append_labels(std::string& out, const Labels& labels, std::string_view le = {}) {
  if (labels.empty() && le.empty()) return;
  char before = '{';
  for (const auto& [name, value] : labels) {
    out.push_back(std::exchange(before, ','));
    out += prometheus_label(name);
    out += "=\"";
    append_escaped(out, value);
    out.push_back('"');
  }
  if (!le.empty()) fmt::format_to(std::back_inserter(out), "{}le=\"{}\"", before, le);
  out.push_back('}');
}

}  // namespace

Labels merge_labels(const Labels& base, const Labels& more) {
  Labels out;
  out.reserve(base.size() + more.size());
  for (const Labels* labels : {&more, &base})
    for (const auto& [name, value] : *labels)
      if (find_label(out, name) == nullptr) out.emplace_back(name, sanitize(value));
  std::sort(out.begin(), out.end());
  return out;
}

bool names_all_labels(std::string_view family, const Labels& labels) {
  bool all = true;
  walk(
      family, [](std::string_view) {},
      [&](std::string_view name) { all = all && find_label(labels, name) != nullptr; });
  return all;
}

std::string text_name(std::string_view family, const Labels& labels) {
  std::string out;
  std::vector<std::string_view> named;
  walk(
      family, [&](std::string_view text) { out += text; },
      [&](std::string_view name) {
        if (const std::string* value = find_label(labels, name); value != nullptr) out += *value;
        named.push_back(name);
      });
  for (const auto& [name, value] : labels)
    if (std::find(named.begin(), named.end(), name) == named.end())
      out.append(".").append(name).append(".").append(value);
  return out;
}

std::string prometheus_name(std::string_view family) {
  std::string bare;
  walk(
      family, [&](std::string_view text) { bare += text; }, [](std::string_view) {});
  std::string out = "envoy";
  while (!bare.empty()) {  // segment by segment: a label may have been all of one, or its end
    const size_t dot = std::min(bare.find('.'), bare.size());
    std::string_view segment = std::string_view(bare).substr(0, dot);
    while (!segment.empty() && segment.back() == '_') segment.remove_suffix(1);
    if (!segment.empty()) {
      out.push_back('_');
      append_name(out, segment);
    }
    bare.erase(0, dot + 1);
  }
  return out;
}

std::string prometheus_label(std::string_view label) {
  for (const auto& [ours, theirs] : kPrometheusLabels)
    if (label == ours) return std::string(theirs);
  std::string out = "envoy_";
  append_name(out, label);
  return out;
}

void write_prometheus_type(std::string& out, std::string_view name, Kind kind) {
  const char* type = kind == Kind::kCounter ? "counter" : kind == Kind::kGauge ? "gauge" : "histogram";
  fmt::format_to(std::back_inserter(out), "# TYPE {} {}\n", name, type);
}

void write_prometheus(std::string& out, std::string_view name, const Sample& sample) {
  auto at = std::back_inserter(out);
  if (sample.kind != Kind::kHistogram) {
    out += name;
    append_labels(out, *sample.labels);
    if (sample.kind == Kind::kCounter) {
      fmt::format_to(at, " {}\n", sample.value);
    } else {
      fmt::format_to(at, " {}\n", static_cast<int64_t>(sample.value));
    }
    return;
  }
  uint64_t below = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    below += sample.buckets[i];
    fmt::format_to(at, "{}_bucket", name);
    append_labels(out, *sample.labels, i + 1 == kBuckets ? "+Inf" : fmt::format("{}", kBucketBounds[i]));
    fmt::format_to(at, " {}\n", below);
  }
  fmt::format_to(at, "{}_sum", name);
  append_labels(out, *sample.labels);
  fmt::format_to(at, " {}\n", sample.sum_ms);
  fmt::format_to(at, "{}_count", name);
  append_labels(out, *sample.labels);
  fmt::format_to(at, " {}\n", sample.count);
}

}  // namespace outrigger::stats
