// Names of metrics, from their templates ("cluster.{cluster}.upstream_rq_{response_code}") and labels.
//
// Thread rule: any thread.
#pragma once

#include <string>
#include <string_view>

#include "stats/stats.h"

namespace outrigger::stats {

// Both together, sorted by name, `more` over `base`; values made fit for names (see stats.h).
Labels merge_labels(const Labels& base, const Labels& more);
// Whether every label in the template's braces has a value.
bool names_all_labels(std::string_view family, const Labels& labels);

// "cluster.backend.upstream_rq_200"
std::string text_name(std::string_view family, const Labels& labels);
// "envoy_cluster_upstream_rq": the template without its labels.
std::string prometheus_name(std::string_view family);
// "envoy_response_code"
std::string prometheus_label(std::string_view label);

void write_prometheus_type(std::string& out, std::string_view name, Kind kind);
void write_prometheus(std::string& out, std::string_view name, const Sample& sample);

}  // namespace outrigger::stats
