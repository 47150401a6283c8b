// check_consistency: what a proxy that had this snapshot and nothing else would refuse or wait for, by the proxy's own
// code: references that dangle (a route to a cluster that is not there, a cluster without its endpoints), two listeners
// on one address, a field that is not honoured. What a bootstrap adds is not seen: a finding may be right there.
//
// Compiles all of it, so it takes as long as a proxy takes. Meant for tests of what makes snapshots, for checks before
// a deployment, and for small snapshots.
//
// Thread rule: any thread.
// Use:  for (const Inconsistency& one : check_consistency(*snapshot)) warn(one.name + ": " + one.problem);
#pragma once

#include <string>
#include <vector>

#include "outrigger/control/resource_cache.h"

namespace outrigger::control {

struct Inconsistency {
  std::string type_url, name;
  std::string problem;  // "names what is not there: cluster b", or why it is refused
};

// Sorted by type, then name.
std::vector<Inconsistency> check_consistency(const ResourceSnapshot& snapshot);

}  // namespace outrigger::control
