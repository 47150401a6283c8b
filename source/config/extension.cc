#include "config/extension.h"

#include <map>
#include <mutex>

namespace outrigger::config {

void StateRegistry::sweep() {
  std::erase_if(states_, [](const auto& entry) { return entry.second.expired(); });
}

uint16_t filter_name_id(std::string_view name) {
  // Several Translators (the proxy's, the control plane's validation, tests) may live on threads of their own.
  static std::mutex mutex;
  static std::map<std::string, uint16_t, std::less<>> ids;
  const std::lock_guard lock(mutex);
  if (auto it = ids.find(name); it != ids.end()) return it->second;
  if (ids.size() == kNoFilterId) return kNoFilterId;
  const auto id = static_cast<uint16_t>(ids.size());
  ids.emplace(name, id);
  return id;
}

}  // namespace outrigger::config
