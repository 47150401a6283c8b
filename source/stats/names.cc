#include "stats/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
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

// Calls f(name, value) for each label of a text.
template <class F>
void each_label(std::string_view text, F&& f) {
  const auto take = [&text] {
    const size_t end = text.find('\0');
    const std::string_view piece = text.substr(0, end);
    text.remove_prefix(end + 1);
    return piece;
  };
  while (!text.empty()) {
    const std::string_view name = take();
    f(name, take());
  }
}

template <class F>
void each_label(const LabelTexts& labels, F&& f) {
  each_label(labels.block, f);
  each_label(labels.more, f);
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
  while (!value.empty()) {
    const size_t plain = std::min(value.find_first_of("\\\"\n"), value.size());
    out += value.substr(0, plain);
    if (plain == value.size()) return;
    out.push_back('\\');
    out.push_back(value[plain] == '\n' ? 'n' : value[plain]);
    value.remove_prefix(plain + 1);
  }
}

void append_prometheus_label(std::string& out, std::string_view label) {
  for (const auto& [ours, theirs] : kPrometheusLabels) {
    if (label != ours) continue;
    out += theirs;
    return;
  }
  out += "envoy_";
  append_name(out, label);
}

// `a="b",c="d"`, or nothing.
void append_labels(std::string& out, const LabelTexts& labels) {
  bool first = true;
  each_label(labels, [&](std::string_view name, std::string_view value) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_prometheus_label(out, name);
    out += "=\"";
    append_escaped(out, value);
    out.push_back('"');
  });
}

void append_number(std::string& out, uint64_t value) {
  const fmt::format_int text(value);
  out.append(text.data(), text.size());
}

std::string_view type_name(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
      return "counter";
    case Kind::kGauge:
      return "gauge";
    case Kind::kHistogram:
      return "histogram";
  }
  return "";
}

// `le="0.5"} ` and so on.
const std::array<std::string, kBuckets>& bucket_tails() {
  static const auto tails = [] {
    std::array<std::string, kBuckets> all;
    for (uint32_t i = 0; i + 1 < kBuckets; ++i) all[i] = fmt::format("le=\"{}\"}} ", kBucketBounds[i]);
    all[kBuckets - 1] = "le=\"+Inf\"} ";
    return all;
  }();
  return tails;
}

void append_prometheus(std::string& out, const Sample& sample) {
  thread_local std::string labels;
  labels.clear();
  append_labels(labels, sample.labels);
  const auto begin = [&](std::string_view suffix) {
    out.append(sample.prometheus).append(suffix);
    if (!labels.empty()) out.append(1, '{').append(labels).append(1, '}');
    out.push_back(' ');
  };
  if (sample.kind != Kind::kHistogram) {
    begin("");
    if (sample.kind == Kind::kGauge && static_cast<int64_t>(sample.value) < 0) {
      out.push_back('-');
      append_number(out, 0 - sample.value);
    } else {
      append_number(out, sample.value);
    }
    out.push_back('\n');
    return;
  }
  if (!labels.empty()) labels.push_back(',');
  uint64_t below = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    below += sample.buckets[i];
    out.append(sample.prometheus).append("_bucket{").append(labels).append(bucket_tails()[i]);
    append_number(out, below);
    out.push_back('\n');
  }
  if (!labels.empty()) labels.pop_back();
  begin("_sum");
  fmt::format_to(std::back_inserter(out), "{}\n", sample.sum_ms);
  begin("_count");
  append_number(out, sample.count);
  out.push_back('\n');
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

std::string label_text(const Labels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) text.append(name).append(1, '\0').append(value).append(1, '\0');
  return text;
}

std::string label_names(std::string_view label_text) {
  std::string names;
  each_label(label_text, [&](std::string_view name, std::string_view) { names.append(name).append(1, '\0'); });
  return names;
}

bool names_all_labels(std::string_view family, const LabelTexts& labels) {
  bool all = true;
  walk(
      family, [](std::string_view) {},
      [&](std::string_view wanted) {
        bool found = false;
        each_label(labels, [&](std::string_view name, std::string_view) { found = found || name == wanted; });
        all = all && found;
      });
  return all;
}

void append_text_name(std::string& out, std::string_view family, const LabelTexts& labels) {
  walk(
      family, [&](std::string_view text) { out += text; },
      [&](std::string_view wanted) {
        each_label(labels, [&](std::string_view name, std::string_view value) {
          if (name == wanted) out += value;
        });
      });
  each_label(labels, [&](std::string_view name, std::string_view value) {
    bool named = false;
    walk(
        family, [](std::string_view) {}, [&](std::string_view label) { named = named || label == name; });
    if (!named) out.append(".").append(name).append(".").append(value);
  });
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
  std::string out;
  append_prometheus_label(out, label);
  return out;
}

bool PrometheusText::write(std::string& out, size_t count) {
  const auto metric = [&](const Sample& sample) {
    if (used_only_ && !sample.used()) return;
    if (last_name_ != sample.prometheus) {
      last_name_ = sample.prometheus;
      out.append("# TYPE ").append(last_name_).append(1, ' ').append(type_name(sample.kind)).append(1, '\n');
    }
    append_prometheus(out, sample);
  };
  return cursor_.next(count, metric, wanted_);
}

}  // namespace outrigger::stats
