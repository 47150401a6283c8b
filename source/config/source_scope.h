// What resources of one source are told apart by from those of the same name from others.
//
// Thread rule: a pure function.
// Use:  const std::string scope = scope_of(cluster.eds_source);
#pragma once

#include <string>

#include "config/source_spec.h"

namespace outrigger::config {

// "" for ADS; a file's path; of servers their names and a hash of all that same_source() looks at,
// "control_a,control_b#8d1c0a4e5b6f7081". The hash is of tokens, too, and not for dumps.
std::string scope_of(const ConfigSourceSpec& source);

}  // namespace outrigger::config
