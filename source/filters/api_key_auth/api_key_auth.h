// api_key_auth (envoy.filters.http.api_key_auth): who may pass is who has a key. See README.md beside this file.
//
// Thread rule: FilterType's compile functions on the builder thread; what they make, on any worker.
// Use:  one line in source/server/filters.cc.
#pragma once

#include "config/extension.h"

namespace outrigger::filters {

config::FilterType api_key_auth_filter_type();

}  // namespace outrigger::filters
