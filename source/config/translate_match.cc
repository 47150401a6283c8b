// What requests are compared with: header and query matchers, and the rate limit actions that use them.
#include <fmt/format.h>

#include "config/names.h"
#include "config/translation.h"
#include "envoy/config/route/v3/route_components.pb.h"

namespace outrigger::config {
namespace route = envoy::config::route::v3;

namespace {

// Deprecated forms that are a text each.
void simple_match(StringMatchSpec::Kind kind, const std::string& value, std::string_view field, HeaderMatchSpec& spec,
                  const FieldPath& path, Translation& t) {
  spec.kind = HeaderMatchSpec::Kind::kString;
  spec.string.kind = kind;
  spec.string.value = value;
  if (value.empty() && kind != StringMatchSpec::Kind::kExact)
    t.fault(path.field(field), "must not be empty: it would match everything");
}

void required(const std::string& value, std::string_view field, const FieldPath& path, Translation& t) {
  if (value.empty()) t.fault(path.field(field), "must not be empty");
}

uint32_t mask_length(bool given, uint32_t value, uint32_t max, std::string_view field, const FieldPath& path,
                     Translation& t) {
  if (given && value > max) t.fault(path.field(field), fmt::format("is {}, must be at most {}", value, max));
  return given ? value : max;
}

// Each action's own part of rate_limit_action().
void request_headers(const route::RateLimit::Action::RequestHeaders& from, RateLimitActionSpec& spec,
                     const FieldPath& path, Translation& t) {
  spec.kind = RateLimitActionSpec::Kind::kRequestHeaders;
  spec.name = header_name_of(from.header_name(), true, path.field("header_name"), t);
  spec.descriptor_key = from.descriptor_key();
  spec.skip_if_absent = from.skip_if_absent();
  required(spec.descriptor_key, "descriptor_key", path, t);
}

void query_parameters(const route::RateLimit::Action::QueryParameters& from, RateLimitActionSpec& spec,
                      const FieldPath& path, Translation& t) {
  spec.kind = RateLimitActionSpec::Kind::kQueryParameters;
  spec.name = from.query_parameter_name();
  spec.descriptor_key = from.descriptor_key();
  spec.skip_if_absent = from.skip_if_absent();
  required(spec.name, "query_parameter_name", path, t);
  required(spec.descriptor_key, "descriptor_key", path, t);
}

void generic_key(const route::RateLimit::Action::GenericKey& from, RateLimitActionSpec& spec, const FieldPath& path,
                 Translation& t) {
  spec.kind = RateLimitActionSpec::Kind::kGenericKey;
  spec.descriptor_key = from.descriptor_key().empty() ? "generic_key" : from.descriptor_key();
  spec.descriptor_value = from.descriptor_value();
  required(spec.descriptor_value, "descriptor_value", path, t);
}

void header_value_match(const route::RateLimit::Action::HeaderValueMatch& from, RateLimitActionSpec& spec,
                        const FieldPath& path, Translation& t) {
  spec.kind = RateLimitActionSpec::Kind::kHeaderValueMatch;
  spec.descriptor_key = from.descriptor_key().empty() ? "header_match" : from.descriptor_key();
  spec.descriptor_value = from.descriptor_value();
  spec.expect_match = !from.has_expect_match() || from.expect_match().value();
  required(spec.descriptor_value, "descriptor_value", path, t);
  if (from.headers().empty()) t.fault(path.field("headers"), "needs at least one matcher");
  each(from.headers(), path.field("headers"),
       [&](const auto& match, const FieldPath& at) { spec.headers.push_back(header_match_spec(match, at, t)); });
}

void query_value_match(const route::RateLimit::Action::QueryParameterValueMatch& from, RateLimitActionSpec& spec,
                       const FieldPath& path, Translation& t) {
  spec.kind = RateLimitActionSpec::Kind::kQueryParameterValueMatch;
  spec.descriptor_key = from.descriptor_key().empty() ? "query_match" : from.descriptor_key();
  spec.descriptor_value = from.descriptor_value();
  spec.expect_match = !from.has_expect_match() || from.expect_match().value();
  required(spec.descriptor_value, "descriptor_value", path, t);
  if (from.query_parameters().empty()) t.fault(path.field("query_parameters"), "needs at least one matcher");
  each(from.query_parameters(), path.field("query_parameters"), [&](const auto& match, const FieldPath& at) {
    spec.query_parameters.push_back(query_match_spec(match, at, t));
  });
}

void masked_remote_address(const route::RateLimit::Action::MaskedRemoteAddress& from, RateLimitActionSpec& spec,
                           const FieldPath& path, Translation& t) {
  spec.kind = RateLimitActionSpec::Kind::kMaskedRemoteAddress;
  spec.descriptor_key = "masked_remote_address";
  spec.v4_prefix =
      mask_length(from.has_v4_prefix_mask_len(), from.v4_prefix_mask_len().value(), 32, "v4_prefix_mask_len", path, t);
  spec.v6_prefix =
      mask_length(from.has_v6_prefix_mask_len(), from.v6_prefix_mask_len().value(), 128, "v6_prefix_mask_len", path, t);
}

RateLimitActionSpec rate_limit_action(const route::RateLimit::Action& action, const FieldPath& path, Translation& t) {
  using Action = route::RateLimit::Action;
  RateLimitActionSpec spec;
  switch (action.action_specifier_case()) {
    case Action::kSourceCluster:
      spec.kind = RateLimitActionSpec::Kind::kSourceCluster;
      spec.descriptor_key = "source_cluster";
      break;
    case Action::kDestinationCluster:
      spec.kind = RateLimitActionSpec::Kind::kDestinationCluster;
      spec.descriptor_key = "destination_cluster";
      break;
    case Action::kRemoteAddress:
      spec.kind = RateLimitActionSpec::Kind::kRemoteAddress;
      spec.descriptor_key = "remote_address";
      break;
    case Action::kRequestHeaders:
      request_headers(action.request_headers(), spec, path.field("request_headers"), t);
      break;
    case Action::kQueryParameters:
      query_parameters(action.query_parameters(), spec, path.field("query_parameters"), t);
      break;
    case Action::kGenericKey:
      generic_key(action.generic_key(), spec, path.field("generic_key"), t);
      break;
    case Action::kHeaderValueMatch:
      header_value_match(action.header_value_match(), spec, path.field("header_value_match"), t);
      break;
    case Action::kMaskedRemoteAddress:
      masked_remote_address(action.masked_remote_address(), spec, path.field("masked_remote_address"), t);
      break;
    case Action::kQueryParameterValueMatch:
      query_value_match(action.query_parameter_value_match(), spec, path.field("query_parameter_value_match"), t);
      break;
    case Action::ACTION_SPECIFIER_NOT_SET:
      t.fault(path,
              "needs one of source_cluster, destination_cluster, request_headers, query_parameters, "
              "remote_address, generic_key, header_value_match, masked_remote_address, "
              "query_parameter_value_match");
  }
  return spec;
}

}  // namespace

HeaderMatchSpec header_match_spec(const route::HeaderMatcher& match, const FieldPath& path, Translation& t) {
  using Matcher = route::HeaderMatcher;
  using Kind = StringMatchSpec::Kind;
  HeaderMatchSpec spec;
  spec.name = header_name_of(match.name(), true, path.field("name"), t);
  spec.invert = match.invert_match();
  spec.treat_missing_as_empty = match.treat_missing_header_as_empty();
  switch (match.header_match_specifier_case()) {
    case Matcher::kExactMatch:
      simple_match(Kind::kExact, match.exact_match(), "exact_match", spec, path, t);
      break;
    case Matcher::kPrefixMatch:
      simple_match(Kind::kPrefix, match.prefix_match(), "prefix_match", spec, path, t);
      break;
    case Matcher::kSuffixMatch:
      simple_match(Kind::kSuffix, match.suffix_match(), "suffix_match", spec, path, t);
      break;
    case Matcher::kContainsMatch:
      simple_match(Kind::kContains, match.contains_match(), "contains_match", spec, path, t);
      break;
    case Matcher::kSafeRegexMatch:
      spec.kind = HeaderMatchSpec::Kind::kString;
      spec.string.kind = Kind::kRegex;
      spec.string.value = regex_spec(match.safe_regex_match(), path.field("safe_regex_match"), t);
      break;
    case Matcher::kStringMatch:
      spec.kind = HeaderMatchSpec::Kind::kString;
      spec.string = string_match_spec(match.string_match(), path.field("string_match"), t);
      break;
    case Matcher::kRangeMatch:
      spec.kind = HeaderMatchSpec::Kind::kRange;
      spec.range_start = match.range_match().start();
      spec.range_end = match.range_match().end();
      if (spec.range_end <= spec.range_start)
        t.fault(path.field("range_match"),
                fmt::format("[{}, {}) is empty; end must be above start", spec.range_start, spec.range_end));
      break;
    case Matcher::kPresentMatch:
      spec.present = match.present_match();
      break;
    case Matcher::HEADER_MATCH_SPECIFIER_NOT_SET:
      break;
  }
  return spec;
}

QueryMatchSpec query_match_spec(const route::QueryParameterMatcher& match, const FieldPath& path, Translation& t) {
  using Matcher = route::QueryParameterMatcher;
  QueryMatchSpec spec;
  spec.name = match.name();
  required(spec.name, "name", path, t);
  if (match.query_parameter_match_specifier_case() == Matcher::kStringMatch)
    spec.string = string_match_spec(match.string_match(), path.field("string_match"), t);
  else if (match.query_parameter_match_specifier_case() == Matcher::kPresentMatch)
    spec.present = match.present_match();
  return spec;
}

RateLimitSpec rate_limit_spec(const route::RateLimit& limit, const FieldPath& path, Translation& t) {
  constexpr uint32_t kMaxStage = 10;
  RateLimitSpec spec;
  spec.stage = limit.stage().value();
  if (spec.stage > kMaxStage) t.fault(path.field("stage"), fmt::format("is {}, must be at most 10", spec.stage));
  spec.disable_key = limit.disable_key();
  if (limit.actions().empty()) t.fault(path.field("actions"), "needs at least one action");
  each(limit.actions(), path.field("actions"),
       [&](const auto& action, const FieldPath& at) { spec.actions.push_back(rate_limit_action(action, at, t)); });
  return spec;
}

}  // namespace outrigger::config
