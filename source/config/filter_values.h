// Pieces of config that HTTP filters have in common with routes (header additions, rate limit actions, fractions,
// durations), translated and checked in the same way.
//
// Thread rule: pure functions of the builder thread.
// Use:  spec.add = filter_header_adds(message.response_headers_to_add(), path.field("response_headers_to_add"),
// context);
#pragma once

#include <cstdint>
#include <vector>

#include "config/spec.h"

namespace envoy::config::core::v3 {
class HeaderValueOption;
class RuntimeFractionalPercent;
}  // namespace envoy::config::core::v3
namespace envoy::config::route::v3 {
class RateLimit;
}
namespace google::protobuf {
class Duration;
template <class Element>
class RepeatedPtrField;
}  // namespace google::protobuf

namespace outrigger::config {

// Each function adds its faults to context.faults and returns the best value that it can.
std::vector<HeaderAddSpec> filter_header_adds(
    const google::protobuf::RepeatedPtrField<envoy::config::core::v3::HeaderValueOption>& options,
    const FieldPath& path, CompileContext& context);
std::vector<RateLimitSpec> filter_rate_limits(
    const google::protobuf::RepeatedPtrField<envoy::config::route::v3::RateLimit>& limits, const FieldPath& path,
    CompileContext& context);
// The default value: there is no runtime layer.
FractionSpec filter_fraction(const envoy::config::core::v3::RuntimeFractionalPercent& percent, const FieldPath& path,
                             CompileContext& context);
// At least 0, at most 100 years.
uint64_t filter_duration_ns(const google::protobuf::Duration& duration, const FieldPath& path, CompileContext& context);

}  // namespace outrigger::config
