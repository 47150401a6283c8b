// envoy.filters.http.grpc_stats: counts gRPC requests and their messages by cluster and method. See README.md.
//
// Thread rule: see config/extension.h.
// Use:  grpc_stats_filter_type() in all_filters.cc
#pragma once

#include "config/extension.h"

namespace outrigger::filters {

config::FilterType grpc_stats_filter_type();

}  // namespace outrigger::filters
