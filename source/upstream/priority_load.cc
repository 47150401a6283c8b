#include "upstream/priority_load.h"

#include <algorithm>

namespace outrigger::upstream {
namespace {

uint64_t availability(const PriorityLoad& of) {
  return of.total == 0 ? 0 : std::min<uint64_t>(100, kBearablePercent * of.healthy / of.total);
}

// Each gets min(what is left, share(of)); what rounding leaves goes to the first that has a share.
template <class Share>
void distribute(std::span<PriorityLoad> priorities, Share&& share) {
  uint64_t left = 100;
  for (PriorityLoad& of : priorities) {
    of.percent = static_cast<uint32_t>(std::min(left, share(of)));
    left -= of.percent;
  }
  const auto first =
      std::find_if(priorities.begin(), priorities.end(), [&](const PriorityLoad& of) { return share(of) != 0; });
  if (first != priorities.end()) first->percent += static_cast<uint32_t>(left);
}

}  // namespace

bool spread_load(std::span<PriorityLoad> priorities, uint8_t panic_percent) {
  uint64_t available = 0, hosts = 0;
  bool all_in_panic = true;
  for (const PriorityLoad& of : priorities) {
    available += availability(of);
    hosts += of.total;
    all_in_panic = all_in_panic && (of.total == 0 || below_panic_threshold(of.healthy, of.total, panic_percent));
  }
  available = std::min<uint64_t>(available, 100);
  const bool scarce = available < 100;
  if (scarce && all_in_panic) {
    distribute(priorities, [&](const PriorityLoad& of) { return hosts == 0 ? 0 : 100 * uint64_t{of.total} / hosts; });
  } else {
    distribute(priorities,
               [&](const PriorityLoad& of) { return available == 0 ? 0 : availability(of) * 100 / available; });
  }
  return scarce;
}

size_t choose_priority(std::span<const PriorityLoad> priorities, uint64_t random) {
  uint64_t at = random % 100;
  for (size_t i = 0; i < priorities.size(); ++i) {
    if (at < priorities[i].percent) return i;
    at -= priorities[i].percent;
  }
  return priorities.size();
}

}  // namespace outrigger::upstream
