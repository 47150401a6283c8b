// /stats and /metrics: metrics as text, JSON or for Prometheus, written as they are read: a page of a million lines
// takes a few KiB and no long turn.
#include <fmt/format.h>
#include <re2/re2.h>

#include "server/admin_pages.h"
#include "server/json.h"
#include "stats/names.h"

namespace outrigger::server {
namespace {

constexpr double kQuantiles[] = {0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1};

// By linear interpolation inside the bucket; what lies above the last bound counts as that bound.
double quantile(const stats::Sample& sample, double q) {
  const double rank = q * static_cast<double>(sample.count);
  double seen = 0;
  for (size_t i = 0; i < sample.buckets.size(); ++i) {
    const auto here = static_cast<double>(sample.buckets[i]);
    if (here > 0 && seen + here >= rank) {
      const double low = i == 0 ? 0 : stats::kBucketBounds[i - 1];
      const double high = i + 1 < stats::kBuckets ? stats::kBucketBounds[i] : low;
      return low + (high - low) * (rank - seen) / here;
    }
    seen += here;
  }
  return 0;
}

std::string histogram_text(const stats::Sample& sample) {
  if (sample.count == 0) return "No recorded values";
  std::string out;
  for (const double q : kQuantiles)
    out += fmt::format("{}P{:g}(nan,{:.4g})", out.empty() ? "" : " ", q * 100, quantile(sample, q));
  return out;
}

void histogram_json(const std::string& name, const stats::Sample& sample, JsonWriter& json) {
  json.open('{').key("name").string(name).key("count").number(sample.count).key("sum_ms").real(sample.sum_ms);
  json.key("computed_quantiles").open('[');
  for (const double q : kQuantiles) {
    json.open('{').key("quantile").real(q * 100).key("value");
    if (sample.count == 0)
      json.raw("null");
    else
      json.real(quantile(sample, q));
    json.close('}');
  }
  json.close(']').close('}');
}

constexpr size_t kMetricsAtOnce = 32;  // between two looks at the clock

using Cursor = stats::Registry::Cursor;

// Which metrics a request asks for.
class Wanted {
 public:
  // ?filter=RE2 (anywhere in the name), ?usedonly. The error of a bad filter.
  static Result<std::shared_ptr<Wanted>> of(const AdminRequest& request) {
    auto wanted = std::make_shared<Wanted>();
    wanted->used_only_ = request.has("usedonly");
    if (const std::string* pattern = request.find("filter")) {
      wanted->filter_ = std::make_unique<RE2>(*pattern, RE2::Quiet);
      if (!wanted->filter_->ok())
        return fail(Errc::kInvalidArgument, fmt::format("filter: {}\n", wanted->filter_->error()));
    }
    return wanted;
  }

  bool used_only() const { return used_only_; }
  // nullptr: whatever its name is.
  static Cursor::Wanted by_name(const std::shared_ptr<Wanted>& wanted) {
    if (wanted->filter_ == nullptr) return nullptr;
    return [wanted](std::string_view family, const stats::LabelTexts& labels) {
      return RE2::PartialMatch(wanted->name(family, labels), *wanted->filter_);
    };
  }
  const std::string& name(std::string_view family, const stats::LabelTexts& labels) {
    name_.clear();
    stats::append_text_name(name_, family, labels);
    return name_;
  }
  const std::string& name(const stats::Sample& sample) { return name(sample.family, sample.labels); }

 private:
  bool used_only_ = false;
  std::unique_ptr<RE2> filter_;
  std::string name_;
};

// Counters and gauges, then histograms, as Envoy has them: two walks.
class JsonPage {
 public:
  JsonPage(const stats::Registry& registry, std::shared_ptr<Wanted> wanted)
      : simple_(registry, Cursor::Order::kFamily),
        histograms_(registry, Cursor::Order::kFamily),
        wanted_(std::move(wanted)),
        by_name_(Wanted::by_name(wanted_)) {
    json_.open('{').key("stats").open('[');
  }

  bool write(std::string& out) {
    const bool more = in_histograms_ ? next_histograms() : next_simple();
    out += json_.take_piece();
    if (!more) out += '\n';
    return more;
  }

 private:
  bool next_simple() {
    const auto write = [&](const stats::Sample& sample) {
      if (sample.kind == stats::Kind::kHistogram || (wanted_->used_only() && !sample.used())) return;
      json_.open('{').key("name").string(wanted_->name(sample)).key("value");
      if (sample.kind == stats::Kind::kGauge)
        json_.number(static_cast<int64_t>(sample.value));
      else
        json_.number(sample.value);
      json_.close('}');
    };
    if (!simple_.next(kMetricsAtOnce, write, by_name_)) {
      in_histograms_ = true;
      json_.open('{').key("histograms").open('[');
    }
    return true;
  }
  bool next_histograms() {
    const auto write = [&](const stats::Sample& sample) {
      if (sample.kind != stats::Kind::kHistogram || (wanted_->used_only() && !sample.used())) return;
      histogram_json(wanted_->name(sample), sample, json_);
    };
    const bool more = histograms_.next(kMetricsAtOnce, write, by_name_);
    if (!more) json_.close(']').close('}').close(']').close('}');
    return more;
  }

  Cursor simple_, histograms_;
  const std::shared_ptr<Wanted> wanted_;
  const Cursor::Wanted by_name_;
  JsonWriter json_;
  bool in_histograms_ = false;
};

void text_line(const std::string& name, const stats::Sample& sample, std::string& out) {
  out.append(name).append(": ");
  if (sample.kind == stats::Kind::kHistogram)
    out += histogram_text(sample);
  else
    out += sample.kind == stats::Kind::kGauge ? std::to_string(static_cast<int64_t>(sample.value))
                                              : std::to_string(sample.value);
  out += '\n';
}

}  // namespace

AdminResponse stats_page(const AdminRequest& request, const stats::Registry& registry) {
  const auto wanted = Wanted::of(request);
  if (!wanted) return text_response(wanted.error().detail, 400);
  const std::string* format = request.find("format");
  if (format != nullptr && *format != "json" && *format != "text")
    return text_response("format: json, prometheus or text\n", 400);
  if (wants_json(request)) {
    auto page = std::make_shared<JsonPage>(registry, *wanted);
    return {.content_type = "application/json", .producer = [page](std::string& out) { return page->write(out); }};
  }
  return {.producer = [cursor = Cursor(registry, Cursor::Order::kFamily), wanted = *wanted,
                       by_name = Wanted::by_name(*wanted)](std::string& out) mutable {
    const auto write = [&](const stats::Sample& sample) {
      if (!wanted->used_only() || sample.used()) text_line(wanted->name(sample), sample, out);
    };
    return cursor.next(kMetricsAtOnce, write, by_name);
  }};
}

AdminResponse prometheus_page(const AdminRequest& request, const stats::Registry& registry) {
  const auto wanted = Wanted::of(request);
  if (!wanted) return text_response(wanted.error().detail, 400);
  auto page = std::make_shared<stats::PrometheusText>(registry, Wanted::by_name(*wanted), (*wanted)->used_only());
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .producer = [page](std::string& out) { return page->write(out, kMetricsAtOnce); }};
}

}  // namespace outrigger::server
