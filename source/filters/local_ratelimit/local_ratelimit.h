// local_ratelimit (envoy.filters.http.local_ratelimit): how many requests pass. See README.md beside this file.
//
// Thread rule: FilterType's compile functions on the builder thread; what they make, on any worker.
// Use:  one line in source/server/filters.cc.
#pragma once

#include "config/extension.h"

namespace outrigger::filters {

config::FilterType local_ratelimit_filter_type();

}  // namespace outrigger::filters
