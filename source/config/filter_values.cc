#include "config/filter_values.h"

#include "config/ignored_fields.h"
#include "config/translation.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"

namespace outrigger::config {
namespace {

// A translation of its own: filters are compiled without knowing the one that they stand in.
struct Alone {
  explicit Alone(CompileContext& context)
      : state{.filters = {}, .states = context.states, .stats = context.stats, .options = {}, .interner = {}},
        translation{.state = state, .faults = context.faults} {}
  TranslatorState state;
  Translation translation;
};

}  // namespace

std::vector<HeaderAddSpec> filter_header_adds(
    const google::protobuf::RepeatedPtrField<envoy::config::core::v3::HeaderValueOption>& options,
    const FieldPath& path, CompileContext& context) {
  Alone alone(context);
  std::vector<HeaderAddSpec> specs;
  each(options, path, [&](const auto& option, const FieldPath& at) {
    check_field_use(option, at, context.faults);
    specs.push_back(header_add_spec(option, at, alone.translation));
  });
  return specs;
}

std::vector<RateLimitSpec> filter_rate_limits(
    const google::protobuf::RepeatedPtrField<envoy::config::route::v3::RateLimit>& limits, const FieldPath& path,
    CompileContext& context) {
  Alone alone(context);
  std::vector<RateLimitSpec> specs;
  each(limits, path, [&](const auto& limit, const FieldPath& at) {
    check_field_use(limit, at, context.faults);
    specs.push_back(rate_limit_spec(limit, at, alone.translation));
  });
  return specs;
}

FractionSpec filter_fraction(const envoy::config::core::v3::RuntimeFractionalPercent& percent, const FieldPath& path,
                             CompileContext& context) {
  check_field_use(percent, path, context.faults);
  if (!percent.has_default_value()) context.faults.add(path.field("default_value"), "is required");
  return fraction_spec(percent.default_value());
}

uint64_t filter_duration_ns(const google::protobuf::Duration& duration, const FieldPath& path,
                            CompileContext& context) {
  Alone alone(context);
  const uint64_t ms = duration_ms(duration, path, alone.translation);
  // The exact nanoseconds, where they are in range (duration_ms rounds up).
  return ms == 0 ? 0
                 : static_cast<uint64_t>(duration.seconds()) * 1'000'000'000 + static_cast<uint64_t>(duration.nanos());
}

}  // namespace outrigger::config
