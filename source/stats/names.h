// Names of metrics, from their templates ("cluster.{cluster}.upstream_rq_{response_code}") and labels, and the page
// that Prometheus reads.
//
// Thread rule: any thread.
// Use:  PrometheusText page(registry);  while (page.write(out, 100)) send(std::exchange(out, {}));
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "stats/stats.h"

namespace outrigger::stats {

// Both together, sorted by name, `more` over `base`; values made fit for names (see stats.h).
Labels merge_labels(const Labels& base, const Labels& more);
// "name\0value\0" for each, in their order.
std::string label_text(const Labels& labels);
// The names alone.
std::string label_names(std::string_view label_text);
// Whether every label in the template's braces has a value.
bool names_all_labels(std::string_view family, const LabelTexts& labels);

// "cluster.backend.upstream_rq_200"
void append_text_name(std::string& out, std::string_view family, const LabelTexts& labels);
// "envoy_cluster_upstream_rq": the template without its labels.
std::string prometheus_name(std::string_view family);
// "envoy_response_code"
std::string prometheus_label(std::string_view label);

// All metrics in Prometheus' text format 0.0.4, a piece at a time.
class PrometheusText {
 public:
  using Wanted = Registry::Cursor::Wanted;
  explicit PrometheusText(const Registry& registry, Wanted wanted = nullptr, bool used_only = false)
      : cursor_(registry, Registry::Cursor::Order::kPrometheus), wanted_(std::move(wanted)), used_only_(used_only) {}
  // Appends those of the next `count` metrics that are wanted; false: that was the end.
  bool write(std::string& out, size_t count);

 private:
  Registry::Cursor cursor_;
  const Wanted wanted_;
  const bool used_only_;
  std::string last_name_;  // whose type has been told
};

}  // namespace outrigger::stats
