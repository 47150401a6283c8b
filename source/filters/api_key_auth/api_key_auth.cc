#include "filters/api_key_auth/api_key_auth.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "config/names.h"
#include "envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.pb.h"
#include "filters/api_key_auth/credentials.h"
#include "filters/api_key_auth/key_source.h"
#include "stats/stats.h"

namespace outrigger::filters {
namespace {

namespace proto = envoy::extensions::filters::http::api_key_auth::v3;
using config::CompileContext;
using config::FieldPath;

// ---- compiled config ----

struct Forwarding {
  std::string header;  // lower-case; empty: none
  bool hide_credentials = false;
};

// What the filter and a route may each say; a route's parts stand in for the filter's, one by one.
struct Settings {
  Credentials credentials;             // none: not said
  std::vector<KeySource> key_sources;  // none: not said
  std::optional<Forwarding> forwarding;
};

class RouteAuth : public FilterPart {
 public:
  RouteAuth(Settings settings, std::vector<std::string> allowed)
      : settings_(std::move(settings)), allowed_(std::move(allowed)) {
    std::sort(allowed_.begin(), allowed_.end());
  }
  const Settings& settings() const { return settings_; }
  bool allows(const std::string& client) const {
    return allowed_.empty() || std::binary_search(allowed_.begin(), allowed_.end(), client);
  }

 private:
  Settings settings_;
  std::vector<std::string> allowed_;  // sorted; empty: everybody with a key
};

class AuthConfig : public FilterConfig {
 public:
  AuthConfig(Settings settings, CompileContext& context)
      : settings_(std::move(settings)),
        filter_id_(context.filter_id),
        registry_(context.stats),
        group_(context.stats, {{"http", context.http_prefix}}) {
    allowed = group_.counter("http.{http}.api_key_auth.allowed");
    unauthorized = group_.counter("http.{http}.api_key_auth.unauthorized");
    forbidden = group_.counter("http.{http}.api_key_auth.forbidden");
  }

  Filter* create(StreamHandle& stream) const override;
  FilterExplanation explain(ExplainRequest& request) const override;

  const Settings& settings() const { return settings_; }
  uint16_t filter_id() const { return filter_id_; }
  void count(StreamHandle& stream, stats::Counter counter) const {
    registry_.worker_shard(stream.worker_index()).add(counter);
  }

  stats::Counter allowed, unauthorized, forbidden;

 private:
  Settings settings_;
  uint16_t filter_id_;
  stats::Registry& registry_;
  stats::Group group_;
};

// ---- the filter ----

constexpr uint16_t kUnauthorized = 401;
constexpr uint16_t kForbidden = 403;

// What is to be said to a request.
struct Judgement {
  uint16_t status = 0;  // of a refusal; 0: it passes
  std::string_view details;
  const std::string* client = nullptr;  // that the key belongs to
  const std::vector<KeySource>* sources = nullptr;
  const std::optional<Forwarding>* forwarding = nullptr;
};

Judgement judge(const Settings& own, const RouteAuth* route, const HeaderMap& headers, Arena& arena) {
  const Settings& over = route != nullptr ? route->settings() : own;
  const Credentials& credentials = over.credentials.size() > 0 ? over.credentials : own.credentials;
  const auto& sources = over.key_sources.empty() ? own.key_sources : over.key_sources;
  if (sources.empty()) return {kUnauthorized, "missing_key_sources"};
  if (credentials.size() == 0) return {kUnauthorized, "missing_credentials"};
  KeySource::Found found;
  for (const KeySource& source : sources) {
    found = source.find(headers, arena);
    if (found.ambiguous) return {kUnauthorized, "multiple_api_keys"};
    if (!found.key.empty()) break;
  }
  if (found.key.empty()) return {kUnauthorized, "missing_api_key"};
  const std::string* client = credentials.find(found.key);
  if (client == nullptr) return {kUnauthorized, "unknown_api_key"};
  if (route != nullptr && !route->allows(*client)) return {kForbidden, "client_not_allowed", client};
  return {0, "", client, &sources, over.forwarding.has_value() ? &over.forwarding : &own.forwarding};
}

// What an admitted request loses and gains.
void forward(const Judgement& judgement, HeaderMap& headers) {
  if (!judgement.forwarding->has_value()) return;
  const Forwarding& forwarding = **judgement.forwarding;
  if (forwarding.hide_credentials)
    for (const KeySource& source : *judgement.sources) source.remove(headers);
  // After the keys are gone, for the header may be one that a key came in. What the client sent in it is replaced.
  if (forwarding.header.empty()) return;
  headers.remove(forwarding.header);
  headers.add(forwarding.header, *judgement.client);
}

class AuthFilter : public Filter {
 public:
  AuthFilter(StreamHandle& stream, const AuthConfig& config) : stream_(stream), config_(config) {}

  Verdict on_request_headers(HeaderMap& headers, bool) override {
    const auto* route = static_cast<const RouteAuth*>(stream_.route_config(config_.filter_id()));
    const Judgement judgement = judge(config_.settings(), route, headers, stream_.arena());
    if (judgement.status != 0) {
      const bool forbidden = judgement.status == kForbidden;
      config_.count(stream_, forbidden ? config_.forbidden : config_.unauthorized);
      stream_.reply({.status = judgement.status,
                     .body = forbidden ? "Client is forbidden." : "Client authentication failed.",
                     .details = judgement.details});
      return Verdict::kPause;
    }
    stream_.info().client_name = stream_.arena().copy(*judgement.client);
    forward(judgement, headers);
    config_.count(stream_, config_.allowed);
    return Verdict::kContinue;
  }

 private:
  StreamHandle& stream_;
  const AuthConfig& config_;
};

Filter* AuthConfig::create(StreamHandle& stream) const { return stream.arena().make<AuthFilter>(stream, *this); }

FilterExplanation AuthConfig::explain(ExplainRequest& request) const {
  using Says = FilterExplanation::Verdict;
  const auto* route = static_cast<const RouteAuth*>(request.route_config);
  const Judgement judgement = judge(settings_, route, request.headers, request.arena);
  FilterExplanation out{.verdict = judgement.status == 0 ? Says::kPasses : Says::kRefuses,
                        .status = judgement.status,
                        .reason = std::string(judgement.details)};
  if (judgement.client != nullptr) out.facts.emplace_back("client", *judgement.client);
  if (judgement.status != 0) return out;
  out.reason = "the key is known and its client allowed";
  request.info.client_name = request.arena.copy(*judgement.client);
  forward(judgement, request.headers);
  return out;
}

// ---- from the schema ----

template <class Repeated>
Credentials compile_credentials(const Repeated& credentials, const FieldPath& path, config::Faults& faults) {
  Credentials out;
  std::vector<size_t> place;  // of each credential taken, in the list
  for (size_t i = 0; i < static_cast<size_t>(credentials.size()); ++i) {
    const proto::Credential& credential = credentials.Get(static_cast<int>(i));
    const FieldPath at = path.index(i);
    if (credential.client().empty()) faults.add(at.field("client"), "must not be empty");
    if (!config::is_header_value(credential.client())) faults.add(at.field("client"), "must not contain NUL, CR or LF");
    if (credential.key().empty()) {
      faults.add(at.field("key"), "must not be empty");
      continue;
    }
    if (const auto before = out.add(credential.key(), credential.client()))
      faults.add(at.field("key"), fmt::format("is the same key as that of credentials[{}]", place[*before]));
    else
      place.push_back(i);
  }
  return out;
}

template <class Repeated>
std::vector<KeySource> compile_sources(const Repeated& sources, const FieldPath& path, config::Faults& faults) {
  std::vector<KeySource> out;
  for (size_t i = 0; i < static_cast<size_t>(sources.size()); ++i) {
    const proto::KeySource& source = sources.Get(static_cast<int>(i));
    const FieldPath at = path.index(i);
    const int given = !source.header().empty() + !source.query().empty() + !source.cookie().empty();
    if (given != 1) {
      faults.add(at, "needs exactly one of header, query and cookie");
    } else if (!source.header().empty()) {
      std::string name = config::lower_ascii(source.header());
      if (!config::is_header_name(name)) faults.add(at.field("header"), "is not a header name");
      out.emplace_back(KeySource::Kind::kHeader, std::move(name));
    } else if (!source.query().empty()) {
      out.emplace_back(KeySource::Kind::kQuery, source.query());
    } else {
      if (!config::is_header_name(source.cookie()))
        faults.add(at.field("cookie"), "is not a cookie name: a token of RFC 6265 section 4.1.1");
      out.emplace_back(KeySource::Kind::kCookie, source.cookie());
    }
  }
  return out;
}

// Headers that say how a message travels; a client's name in one of them would change what the upstream reads.
constexpr std::array<std::string_view, 8> kFramingHeaders = {
    "connection", "content-length", "host", "keep-alive", "te", "trailer", "upgrade", "transfer-encoding"};

Forwarding compile_forwarding(const proto::Forwarding& forwarding, const FieldPath& path, config::Faults& faults) {
  Forwarding out{config::lower_ascii(forwarding.header()), forwarding.hide_credentials()};
  if (out.header.empty()) return out;
  if (!config::is_header_name(out.header)) faults.add(path.field("header"), "is not a header name");
  if (std::find(kFramingHeaders.begin(), kFramingHeaders.end(), out.header) != kFramingHeaders.end())
    faults.add(path.field("header"), "must be a header that has no part in how messages travel");
  return out;
}

template <class Message>
Settings compile_settings(const Message& message, const FieldPath& path, config::Faults& faults) {
  Settings out;
  out.credentials = compile_credentials(message.credentials(), path.field("credentials"), faults);
  out.key_sources = compile_sources(message.key_sources(), path.field("key_sources"), faults);
  if (message.has_forwarding())
    out.forwarding = compile_forwarding(message.forwarding(), path.field("forwarding"), faults);
  return out;
}

std::shared_ptr<const FilterConfig> compile(const google::protobuf::Message& message, const FieldPath& path,
                                            CompileContext& context) {
  const size_t errors = context.faults.errors();
  Settings settings = compile_settings(static_cast<const proto::ApiKeyAuth&>(message), path, context.faults);
  if (context.faults.errors() != errors) return nullptr;
  return std::make_shared<AuthConfig>(std::move(settings), context);
}

std::shared_ptr<const FilterPart> compile_route(const google::protobuf::Message& message, const FieldPath& path,
                                                CompileContext& context) {
  const size_t errors = context.faults.errors();
  const auto& route = static_cast<const proto::ApiKeyAuthPerRoute&>(message);
  Settings settings = compile_settings(route, path, context.faults);
  std::vector<std::string> allowed(route.allowed_clients().begin(), route.allowed_clients().end());
  for (size_t i = 0; i < allowed.size(); ++i)
    if (allowed[i].empty()) context.faults.add(path.field("allowed_clients").index(i), "must not be empty");
  if (context.faults.errors() != errors) return nullptr;
  return std::make_shared<RouteAuth>(std::move(settings), std::move(allowed));
}

}  // namespace

config::FilterType api_key_auth_filter_type() {
  return {.name = "envoy.filters.http.api_key_auth",
          .config_type = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
          .route_type = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
          .compile = compile,
          .compile_route = compile_route};
}

}  // namespace outrigger::filters
