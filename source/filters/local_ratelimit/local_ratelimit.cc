#include "filters/local_ratelimit/local_ratelimit.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "config/filter_values.h"
#include "config/route_view.h"
#include "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.pb.h"
#include "filters/local_ratelimit/limiter.h"
#include "route/header_mutation.h"
#include "stats/stats.h"

namespace outrigger::filters {
namespace {

namespace proto = envoy::extensions::filters::http::local_ratelimit::v3;
namespace common = envoy::extensions::common::ratelimit::v3;
using config::CompileContext;
using config::FieldPath;
using config::FractionSpec;
using upstream::Rate;

constexpr uint16_t kTooManyRequests = 429;
constexpr uint16_t kServiceUnavailable = 503;
constexpr int kGrpcResourceExhausted = 8;
constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kMinFillIntervalNs = 50'000'000;
constexpr uint32_t kMaxStage = 10;
constexpr uint32_t kMaxDynamicDescriptors = 1'000'000;

// Two decisions about one stream must not fall together, and there is one random number a stream.
enum class Draw : uint64_t { kEnabled = 0x9e3779b97f4a7c15, kEnforced = 0xd1b54a32d192ed03 };
bool drawn(const FractionSpec& fraction, uint64_t random, Draw draw) {
  uint64_t x = random + static_cast<uint64_t>(draw);  // splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  x ^= x >> 31;
  return x % fraction.denominator < fraction.numerator;
}

enum class VirtualHostLimits : uint8_t { kOverride, kInclude, kIgnore };

// What one message says, listener-wide or of one route.
struct Settings {
  std::string stat_prefix;
  uint16_t status = kTooManyRequests;
  FractionSpec enabled{.numerator = 0};
  FractionSpec enforced{.numerator = 0};
  config::HeaderMutationSpec unenforced_headers;  // of the request
  config::HeaderMutationSpec limited_headers;     // of the reply
  LimiterSpec limits;
  uint32_t stage = 0;
  bool rate_limit_headers = false;
  VirtualHostLimits virtual_host_limits = VirtualHostLimits::kOverride;
  bool resource_exhausted = false;
  std::vector<config::RateLimitSpec> rate_limits;
};

// ---- compiled ----

// Settings with their buckets and counters. Immutable.
class Limits {
 public:
  Limits(const Settings& settings, CompileContext& context)
      : status(settings.status),
        enabled(settings.enabled),
        enforced(settings.enforced),
        unenforced_headers(settings.unenforced_headers),
        limited_headers(settings.limited_headers),
        stage(settings.stage),
        rate_limit_headers(settings.rate_limit_headers),
        virtual_host_limits(settings.virtual_host_limits),
        grpc_status(settings.resource_exhausted ? kGrpcResourceExhausted : -1),
        own_policies(config::compile(settings.rate_limits)),
        local_cluster(context.node_cluster),
        limiter(settings.limits, context.scope, context.states),
        registry_(context.stats),
        group_(context.stats, {{"local_http_ratelimit_prefix", settings.stat_prefix}}) {
    const auto counter = [&](const char* name) {
      return group_.counter(fmt::format("{{local_http_ratelimit_prefix}}.http_local_rate_limit.{}", name));
    };
    count_enabled = counter("enabled");
    count_enforced = counter("enforced");
    count_limited = counter("rate_limited");
    count_ok = counter("ok");
    count_evicted = counter("descriptors_evicted");
  }

  void count(StreamHandle& stream, stats::Counter counter, uint64_t n = 1) const {
    registry_.worker_shard(stream.worker_index()).add(counter, n);
  }

  const uint16_t status;
  const FractionSpec enabled, enforced;
  const route::HeaderMutations unenforced_headers, limited_headers;
  const uint32_t stage;
  const bool rate_limit_headers;
  const VirtualHostLimits virtual_host_limits;
  const int grpc_status;
  const std::vector<config::RateLimitPolicy> own_policies;  // instead of the route's, if any
  const std::string local_cluster;
  const Limiter limiter;
  stats::Counter count_enabled, count_enforced, count_limited, count_ok, count_evicted;

 private:
  stats::Registry& registry_;
  stats::Group group_;
};

class RouteLimits : public FilterPart {
 public:
  RouteLimits(const Settings& settings, CompileContext& context) : limits(settings, context) {}
  const Limits limits;
};

class LimitConfig : public FilterConfig {
 public:
  LimitConfig(const Settings& settings, CompileContext& context)
      : limits(settings, context), filter_id(context.filter_id) {}
  Filter* create(StreamHandle& stream) const override;
  FilterExplanation explain(ExplainRequest& request) const override;
  const Limits limits;
  const uint16_t filter_id;
};

// ---- the filter ----

void add_number(HeaderMap& headers, std::string_view name, uint64_t number) {
  char text[20];
  headers.add(name, {text, static_cast<size_t>(std::to_chars(text, text + sizeof(text), number).ptr - text)});
}
uint64_t seconds_up(uint64_t ns) { return ns / kNsPerSecond + (ns % kNsPerSecond != 0 ? 1 : 0); }

using Policies = std::span<const config::RateLimitPolicy>;

// Envoy's order: the config's own; else the route's, with or instead of the virtual host's.
void choose_policies(const Limits& limits, const config::RouteView* route, Policies& first, Policies& second) {
  if (!limits.own_policies.empty()) {
    first = limits.own_policies;
    return;
  }
  if (route == nullptr) return;
  first = route->rate_limits;
  VirtualHostLimits which = limits.virtual_host_limits;
  if (route->include_virtual_host_rate_limits) which = VirtualHostLimits::kInclude;
  if (which == VirtualHostLimits::kInclude || (which == VirtualHostLimits::kOverride && first.empty()))
    second = route->virtual_host_view->rate_limits;
}

// A policy that a runtime key could switch off is not ours: there is no runtime layer (Envoy skips it likewise).
bool applies(const Limits& limits, const config::RateLimitPolicy& policy) {
  return !limits.own_policies.empty() || (policy.stage() == limits.stage && policy.disable_key().empty());
}

// nullopt: the arena is full.
std::optional<std::span<const config::Descriptor>> make_descriptors(const Limits& limits,
                                                                    const config::RouteView* route,
                                                                    const HeaderMap& headers, const StreamInfo& info,
                                                                    Arena& arena) {
  Policies first, second;
  if (limits.limiter.has_descriptors()) choose_policies(limits, route, first, second);
  const size_t most = first.size() + second.size();
  auto* descriptors = static_cast<config::Descriptor*>(
      arena.try_allocate(most * sizeof(config::Descriptor), alignof(config::Descriptor)));
  if (descriptors == nullptr) return std::nullopt;
  size_t count = 0;
  for (const Policies policies : {first, second})
    for (const config::RateLimitPolicy& policy : policies)
      if (config::Descriptor made;
          applies(limits, policy) && policy.descriptor(headers, info, limits.local_cluster, arena, made))
        new (&descriptors[count++]) config::Descriptor(made);
  return std::span<const config::Descriptor>{descriptors, count};
}

class LimitFilter : public Filter {
 public:
  LimitFilter(StreamHandle& stream, const LimitConfig& config) : stream_(stream), config_(config) {}

  Verdict on_request_headers(HeaderMap& headers, bool) override {
    const FilterPart* route = stream_.route_config(config_.filter_id);
    limits_ = route == nullptr ? &config_.limits : &static_cast<const RouteLimits*>(route)->limits;
    if (!drawn(limits_->enabled, stream_.random(), Draw::kEnabled)) return Verdict::kContinue;
    limits_->count(stream_, limits_->count_enabled);
    decision_ = decide(headers);
    if (decision_.evicted > 0) limits_->count(stream_, limits_->count_evicted, decision_.evicted);
    if (decision_.admitted) {
      limits_->count(stream_, limits_->count_ok);
      return Verdict::kContinue;
    }
    limits_->count(stream_, limits_->count_limited);
    if (!drawn(limits_->enforced, stream_.random(), Draw::kEnforced)) {
      limits_->unenforced_headers.apply(headers, {.request = &headers, .info = &stream_.info()});
      return Verdict::kContinue;
    }
    limits_->count(stream_, limits_->count_enforced);
    stream_.reply({.status = limits_->status,
                   .body = "local_rate_limited",
                   .details = "local_rate_limited",
                   .flags = static_cast<uint32_t>(ResponseFlag::kRateLimited),
                   .grpc_status = limits_->grpc_status,
                   .edit = [this](HeaderMap& reply) { edit(reply); }});
    return Verdict::kPause;
  }

  Verdict on_response_headers(HeaderMap& headers, bool) override {
    if (limits_ == nullptr || !limits_->rate_limit_headers || !decision_.limited) return Verdict::kContinue;
    add_number(headers, "x-ratelimit-limit", decision_.limit);
    add_number(headers, "x-ratelimit-remaining", decision_.remaining);
    add_number(headers, "x-ratelimit-reset", seconds_up(decision_.reset_ns));
    return Verdict::kContinue;
  }

 private:
  Limiter::Decision decide(const HeaderMap& headers) {
    const auto descriptors = make_descriptors(*limits_, static_cast<const config::RouteView*>(stream_.route()), headers,
                                              stream_.info(), stream_.arena());
    if (!descriptors) return {.admitted = false};
    return limits_->limiter.decide(*descriptors, stream_.info().connection_id, stream_.now_ns(), stream_.arena());
  }

  void edit(HeaderMap& reply) const {
    limits_->limited_headers.apply(
        reply, {.request = &stream_.request_headers(), .response = &reply, .info = &stream_.info()});
    const bool retry_later = limits_->status == kTooManyRequests || limits_->status == kServiceUnavailable;
    if (retry_later && !reply.has(HeaderId::kRetryAfter))
      add_number(reply, header_name(HeaderId::kRetryAfter), std::max<uint64_t>(seconds_up(decision_.wait_ns), 1));
  }

  StreamHandle& stream_;
  const LimitConfig& config_;
  const Limits* limits_ = nullptr;  // nullptr: no request head was seen
  Limiter::Decision decision_;
};

Filter* LimitConfig::create(StreamHandle& stream) const { return stream.arena().make<LimitFilter>(stream, *this); }

std::string share(const FractionSpec& fraction) {
  return fmt::format("{}/{}", fraction.numerator, fraction.denominator);
}

FilterExplanation LimitConfig::explain(ExplainRequest& request) const {
  using Says = FilterExplanation::Verdict;
  const auto* over = static_cast<const RouteLimits*>(request.route_config);
  const Limits& chosen = over == nullptr ? limits : over->limits;
  if (chosen.enabled.numerator == 0) return {.verdict = Says::kPasses, .reason = "it is enabled for no request"};
  const auto descriptors = make_descriptors(chosen, static_cast<const config::RouteView*>(request.route),
                                            request.headers, request.info, request.arena);
  if (!descriptors) return {.verdict = Says::kRefuses, .status = chosen.status, .reason = "the request is too large"};
  const Limiter::PeekedAll peeked = chosen.limiter.peek(*descriptors, request.now_ns);
  FilterExplanation out{.verdict = Says::kPasses, .reason = "every bucket has a token"};
  out.facts.emplace_back("enabled", share(chosen.enabled));
  out.facts.emplace_back("enforced", share(chosen.enforced));
  for (const Limiter::Peeked& bucket : peeked.buckets) {
    std::string text = fmt::format("{} of {} tokens left", bucket.remaining, bucket.limit);
    if (bucket.wait_ns > 0) text += fmt::format(", the next in {} ms", bucket.wait_ns / 1'000'000 + 1);
    out.facts.emplace_back("bucket " + bucket.name, std::move(text));
  }
  if (peeked.buckets.empty()) out.reason = "no bucket applies";
  if (peeked.admitted) return out;
  const bool always = chosen.enabled.numerator >= chosen.enabled.denominator &&
                      chosen.enforced.numerator >= chosen.enforced.denominator;
  out.reason = "a bucket has no token";
  if (chosen.enforced.numerator == 0) {
    out.reason += ", but that is not enforced";
    return out;
  }
  out.verdict = always ? Says::kRefuses : Says::kDepends;
  out.status = chosen.status;
  if (!always) out.reason += ", which is enforced for a part of the requests";
  return out;
}

// ---- from the schema ----

Rate compile_bucket(const envoy::type::v3::TokenBucket& bucket, const FieldPath& path, CompileContext& context) {
  const size_t errors = context.faults.errors();
  if (bucket.max_tokens() == 0) context.faults.add(path.field("max_tokens"), "must be at least 1");
  const uint32_t per_fill = bucket.has_tokens_per_fill() ? bucket.tokens_per_fill().value() : 1;
  if (per_fill == 0) context.faults.add(path.field("tokens_per_fill"), "must be at least 1");
  uint64_t interval_ns = 0;
  if (!bucket.has_fill_interval()) {
    context.faults.add(path.field("fill_interval"), "is required");
  } else {
    const size_t before = context.faults.errors();
    interval_ns = config::filter_duration_ns(bucket.fill_interval(), path.field("fill_interval"), context);
    if (context.faults.errors() == before && interval_ns < kMinFillIntervalNs)
      context.faults.add(path.field("fill_interval"), "must be at least 50 ms");
  }
  if (context.faults.errors() != errors) return {};
  if (Rate::too_slow(bucket.max_tokens(), per_fill, interval_ns))
    context.faults.add(path, "takes more than 146 years to fill; use fewer max_tokens or a shorter fill_interval");
  return Rate::make(bucket.max_tokens(), per_fill, interval_ns);
}

DescriptorSpec compile_descriptor(const common::LocalRateLimitDescriptor& descriptor, const FieldPath& path,
                                  CompileContext& context) {
  DescriptorSpec out;
  if (descriptor.entries().empty()) context.faults.add(path.field("entries"), "needs at least one entry");
  for (int i = 0; i < descriptor.entries_size(); ++i) {
    const auto& entry = descriptor.entries(i);
    if (entry.key().empty())
      context.faults.add(path.field("entries").index(static_cast<size_t>(i)).field("key"), "must not be empty");
    out.entries.emplace_back(entry.key(), entry.value());
  }
  if (descriptor.has_token_bucket())
    out.rate = compile_bucket(descriptor.token_bucket(), path.field("token_bucket"), context);
  else
    context.faults.add(path.field("token_bucket"), "is required");
  return out;
}

void compile_descriptors(const proto::LocalRateLimit& message, const FieldPath& path, LimiterSpec& out,
                         CompileContext& context) {
  const FieldPath list = path.field("descriptors");
  std::vector<std::pair<std::vector<std::pair<std::string, std::string>>, size_t>> sorted;
  for (size_t i = 0; i < static_cast<size_t>(message.descriptors_size()); ++i) {
    out.descriptors.push_back(compile_descriptor(message.descriptors(static_cast<int>(i)), list.index(i), context));
    sorted.emplace_back(out.descriptors.back().entries, i);
  }
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i].first == sorted[i - 1].first)
      context.faults.add(list.index(sorted[i].second).field("entries"),
                         fmt::format("are the same as those of descriptors[{}]", sorted[i - 1].second));
}

uint16_t compile_status(const proto::LocalRateLimit& message, const FieldPath& path, CompileContext& context) {
  if (!message.has_status()) return kTooManyRequests;
  const int code = message.status().code();
  const FieldPath status = path.field("status");
  const FieldPath at = status.field("code");
  if (code <= 0 || code > 599) {
    context.faults.add(at, "must be an HTTP status");
  } else if (code < 400) {
    context.faults.warn(at, "is below 400, so 429 is sent, as Envoy does");
    return kTooManyRequests;
  }
  return static_cast<uint16_t>(code);
}

void compile_policies(const proto::LocalRateLimit& message, const FieldPath& path, Settings& out,
                      CompileContext& context) {
  out.stage = message.stage();
  if (out.stage > kMaxStage) context.faults.add(path.field("stage"), "must be at most 10");
  const FieldPath list = path.field("rate_limits");
  out.rate_limits = config::filter_rate_limits(message.rate_limits(), list, context);
  for (size_t i = 0; i < out.rate_limits.size(); ++i) {
    const auto& limit = message.rate_limits(static_cast<int>(i));
    const FieldPath at = list.index(i);
    if (limit.has_stage()) context.faults.add(at.field("stage"), "has no meaning here; remove it");
    if (!limit.disable_key().empty()) context.faults.add(at.field("disable_key"), "has no meaning here; remove it");
  }
  switch (message.vh_rate_limits()) {
    case common::INCLUDE:
      out.virtual_host_limits = VirtualHostLimits::kInclude;
      break;
    case common::IGNORE:
      out.virtual_host_limits = VirtualHostLimits::kIgnore;
      break;
    default:
      out.virtual_host_limits = VirtualHostLimits::kOverride;
  }
}

void compile_limits(const proto::LocalRateLimit& message, bool per_route, const FieldPath& path, LimiterSpec& out,
                    CompileContext& context) {
  if (message.has_token_bucket())
    out.default_rate = compile_bucket(message.token_bucket(), path.field("token_bucket"), context);
  else if (per_route)
    context.faults.add(path.field("token_bucket"), "is required in a per-route config");
  compile_descriptors(message, path, out, context);
  if (message.has_always_consume_default_token_bucket())
    out.always_consume_default = message.always_consume_default_token_bucket().value();
  out.per_connection = message.local_rate_limit_per_downstream_connection();
  if (!message.has_max_dynamic_descriptors()) return;
  out.max_dynamic_descriptors = message.max_dynamic_descriptors().value();
  if (out.max_dynamic_descriptors == 0 || out.max_dynamic_descriptors > kMaxDynamicDescriptors)
    context.faults.add(path.field("max_dynamic_descriptors"), "must be 1 to 1,000,000");
}

// nullopt after faults.
std::optional<Settings> compile_settings(const google::protobuf::Message& any_message, bool per_route,
                                         const FieldPath& path, CompileContext& context) {
  const size_t errors = context.faults.errors();
  const auto& message = static_cast<const proto::LocalRateLimit&>(any_message);
  Settings out;
  out.stat_prefix = message.stat_prefix();
  if (out.stat_prefix.empty()) context.faults.add(path.field("stat_prefix"), "must not be empty");
  out.status = compile_status(message, path, context);
  if (message.has_filter_enabled())
    out.enabled = config::filter_fraction(message.filter_enabled(), path.field("filter_enabled"), context);
  if (message.has_filter_enforced())
    out.enforced = config::filter_fraction(message.filter_enforced(), path.field("filter_enforced"), context);
  out.unenforced_headers.add =
      config::filter_header_adds(message.request_headers_to_add_when_not_enforced(),
                                 path.field("request_headers_to_add_when_not_enforced"), context);
  out.limited_headers.add =
      config::filter_header_adds(message.response_headers_to_add(), path.field("response_headers_to_add"), context);
  compile_limits(message, per_route, path, out.limits, context);
  compile_policies(message, path, out, context);
  out.rate_limit_headers = message.enable_x_ratelimit_headers() == common::DRAFT_VERSION_03;
  out.resource_exhausted = message.rate_limited_as_resource_exhausted();
  if (context.faults.errors() != errors) return std::nullopt;
  return out;
}

std::shared_ptr<const FilterConfig> compile(const google::protobuf::Message& message, const FieldPath& path,
                                            CompileContext& context) {
  const auto settings = compile_settings(message, false, path, context);
  return settings ? std::make_shared<LimitConfig>(*settings, context) : nullptr;
}

std::shared_ptr<const FilterPart> compile_route(const google::protobuf::Message& message, const FieldPath& path,
                                                CompileContext& context) {
  const auto settings = compile_settings(message, true, path, context);
  return settings ? std::make_shared<RouteLimits>(*settings, context) : nullptr;
}

}  // namespace

config::FilterType local_ratelimit_filter_type() {
  return {.name = "envoy.filters.http.local_ratelimit",
          .config_type = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
          .route_type = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
          .compile = compile,
          .compile_route = compile_route};
}

}  // namespace outrigger::filters
