// Whatever bytes come as a bootstrap, as a resource file or over the wire: the loader answers with specs or faults, in
// bounded time, and what it accepts once it accepts again with an equal result.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "config/translate.h"
#include "filters/all_filters.h"
#include "stats/stats.h"

namespace outrigger::config {
namespace {

void check(const TranslatedResource& resource) {
  CHECK(resource.spec.has_value() == resource.faults.ok());
  if (resource.spec) CHECK(!resource.name.empty());
}

void check_all(Translator& translator, std::string_view input) {
  const TranslatedBootstrap bootstrap = translator.bootstrap(input, "fuzz.yaml");
  CHECK(bootstrap.spec.has_value() == bootstrap.faults.ok());
  for (const TranslatedResource& resource : bootstrap.resources)
    CHECK(resource.spec.has_value() == resource.faults.ok());

  Faults file_faults;
  for (const TranslatedResource& resource : translator.resource_file(input, "fuzz.yaml", file_faults)) {
    check(resource);
    if (!resource.spec) continue;
    const TranslatedResource again = translator.resource(type_url(resource.type), resource.bytes, FieldPath("again"));
    CHECK(again.spec.has_value());
    CHECK(*again.spec == *resource.spec);
    CHECK(again.bytes == resource.bytes);
  }
  for (size_t i = 0; i < kResourceTypeCount; ++i)
    check(translator.resource(type_url(static_cast<ResourceType>(i)), input, FieldPath("wire")));
}

}  // namespace
}  // namespace outrigger::config

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace outrigger;
  static stats::Registry stats(1);
  static config::StateRegistry states;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const auto mode : {config::UnknownFields::kError, config::UnknownFields::kWarn}) {
    config::Translator translator(filters::all_filters(), states, stats, {.unknown_fields = mode});
    config::check_all(translator, input);
  }
  states.sweep();
  return 0;
}
