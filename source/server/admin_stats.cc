// /stats: metrics as text or JSON.
#include <fmt/format.h>
#include <re2/re2.h>

#include "server/admin_pages.h"
#include "server/json.h"

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

}  // namespace

AdminResponse stats_page(const AdminRequest& request, const stats::Registry& registry) {
  std::unique_ptr<RE2> filter;
  if (const std::string* pattern = request.find("filter")) {
    RE2::Options options(RE2::Quiet);
    filter = std::make_unique<RE2>(*pattern, options);
    if (!filter->ok()) return text_response(fmt::format("filter: {}\n", filter->error()), 400);
  }
  const std::string* format = request.find("format");
  if (format != nullptr && *format != "json" && *format != "text")
    return text_response("format: json, prometheus or text\n", 400);
  const bool used_only = request.has("usedonly");
  const auto each = [&](auto&& f) {
    registry.for_each([&](const stats::Sample& sample) {
      if (used_only && !sample.used()) return;
      const std::string name = stats::Registry::text_name(sample);
      if (filter != nullptr && !RE2::PartialMatch(name, *filter)) return;
      f(name, sample);
    });
  };
  if (!wants_json(request)) {
    std::string body;
    each([&](const std::string& name, const stats::Sample& sample) {
      body += name;
      body += ": ";
      if (sample.kind == stats::Kind::kHistogram)
        body += histogram_text(sample);
      else
        body += sample.kind == stats::Kind::kGauge ? std::to_string(static_cast<int64_t>(sample.value))
                                                   : std::to_string(sample.value);
      body += '\n';
    });
    return text_response(std::move(body));
  }
  JsonWriter json, histograms;
  histograms.open('[');
  json.open('{').key("stats").open('[');
  each([&](const std::string& name, const stats::Sample& sample) {
    if (sample.kind == stats::Kind::kHistogram) {
      histogram_json(name, sample, histograms);
      return;
    }
    json.open('{').key("name").string(name).key("value");
    if (sample.kind == stats::Kind::kGauge)
      json.number(static_cast<int64_t>(sample.value));
    else
      json.number(sample.value);
    json.close('}');
  });
  histograms.close(']');
  json.open('{').key("histograms").raw(histograms.take()).close('}');
  json.close(']').close('}');
  return json_response(json.take());
}

}  // namespace outrigger::server
