#include "outrigger/control/consistency.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "config/extension.h"
#include "config/names.h"
#include "config/translate.h"
#include "filters/all_filters.h"
#include "proxy/store.h"
#include "stats/stats.h"

namespace outrigger::control {

std::vector<Inconsistency> check_consistency(const ResourceSnapshot& snapshot) {
  stats::Registry registry(0);
  config::StateRegistry states;
  config::Translator translator(filters::all_filters(), states, registry,
                                {.api_listeners = true, .files_elsewhere = true});
  proxy::Store store({.stats = &registry, .bind = false, .scopes = false, .now_ms = [] { return int64_t{0}; }});
  std::vector<Inconsistency> found;
  for (const auto& type : snapshot.types()) {
    for (const ResourcePtr& resource : type->resources) {
      config::TranslatedResource one =
          translator.resource(resource->type_url, resource->bytes, config::FieldPath(resource->name));
      for (const config::Fault& fault : one.faults.all())
        if (!fault.warning) found.push_back({resource->type_url, resource->name, fault.path + ": " + fault.message});
      if (!one.spec) continue;
      if (auto verdict = store.accept(std::move(*one.spec), {}, proxy::Source::kXds); !verdict)
        found.push_back({resource->type_url, resource->name, verdict.error().detail});
    }
  }
  store.assemble();
  for (const proxy::StoreStatus::Resource& one : store.status()->resources)
    for (const std::string& wait : one.waits_for())
      found.push_back({std::string(config::type_url(one.type)), one.name, "names what is not there: " + wait});
  std::sort(found.begin(), found.end(), [](const Inconsistency& a, const Inconsistency& b) {
    return std::tie(a.type_url, a.name, a.problem) < std::tie(b.type_url, b.name, b.problem);
  });
  return found;
}

}  // namespace outrigger::control
