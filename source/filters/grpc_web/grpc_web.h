// envoy.filters.http.grpc_web: gRPC-Web, binary and text, to gRPC and back. What it does stands in README.md.
//
// Thread rule: see config/extension.h.
// Use:  grpc_web_filter_type() in all_filters.cc
#pragma once

#include "config/extension.h"

namespace outrigger::filters {

config::FilterType grpc_web_filter_type();

}  // namespace outrigger::filters
