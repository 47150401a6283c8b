#include "filters/grpc_stats/grpc_stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/grpc.h"
#include "config/names.h"
#include "envoy/extensions/filters/http/grpc_stats/v3/config.pb.h"
#include "filters/grpc_stats/method_stats.h"
#include "http/grpc_frames.h"

namespace outrigger::filters {
namespace {

namespace proto = envoy::extensions::filters::http::grpc_stats::v3;

using Method = std::pair<std::string, std::string>;  // service, method

// "/package.Service/Method"; both empty: the path is no such one.
std::pair<std::string_view, std::string_view> method_of(std::string_view path) {
  path = path.substr(0, path.find('?'));
  if (path.size() < 4 || path.front() != '/') return {};
  const size_t slash = path.find('/', 1);
  if (slash == std::string_view::npos || slash == 1 || slash + 1 == path.size() ||
      path.find('/', slash + 1) != std::string_view::npos)
    return {};
  return {path.substr(1, slash - 1), path.substr(slash + 1)};
}

class StatsConfig final : public FilterConfig {
 public:
  StatsConfig(bool all, std::vector<Method> methods, std::shared_ptr<MethodStats> stats, stats::Registry& registry)
      : stats(std::move(stats)), registry(registry), all_(all), methods_(std::move(methods)) {}
  Filter* create(StreamHandle& stream) const override;
  FilterExplanation explain(ExplainRequest& request) const override;
  // Whether it has counters of its own.
  bool counted(std::string_view service, std::string_view method) const {
    if (all_) return !service.empty();
    const auto at = std::lower_bound(methods_.begin(), methods_.end(), std::pair(service, method),
                                     [](const Method& a, const auto& b) {
                                       return std::pair<std::string_view, std::string_view>(a.first, a.second) < b;
                                     });
    return at != methods_.end() && at->first == service && at->second == method;
  }

  const std::shared_ptr<MethodStats> stats;
  stats::Registry& registry;

 private:
  const bool all_;
  const std::vector<Method> methods_;  // sorted
};

class StatsFilter final : public Filter {
 public:
  StatsFilter(const StatsConfig& config, StreamHandle& stream) : config_(config), stream_(stream) {}

  Verdict on_request_headers(HeaderMap& headers, bool) override {
    grpc_ = is_grpc(headers.get(HeaderId::kContentType));
    // The path may be rewritten before the counters are known.
    const std::string_view path = headers.get(HeaderId::kPath);
    if (const auto [service, method] = method_of(path); grpc_ && config_.counted(service, method)) {
      service_ = service;
      method_ = method;
    }
    return Verdict::kContinue;
  }
  Verdict on_request_data(Buffer& data, bool) override {
    follow(request_, data);
    return Verdict::kContinue;
  }
  Verdict on_response_headers(HeaderMap& headers, bool end_stream) override {
    if (end_stream) count_status(headers);
    return Verdict::kContinue;
  }
  Verdict on_response_data(Buffer& data, bool) override {
    follow(response_, data);
    return Verdict::kContinue;
  }
  Verdict on_response_trailers(HeaderMap& trailers) override {
    count_status(trailers);
    return Verdict::kContinue;
  }
  void on_finish() override { count_messages(); }

 private:
  void follow(http::GrpcFrames& frames, const Buffer& data) {
    if (!grpc_) return;
    for (const Buffer::Slice& slice : data) frames.skip(slice.view());
    count_messages();
  }
  // nullptr: no cluster has been chosen, or none will be.
  const MethodCounters* counters() {
    const std::string_view cluster = stream_.info().cluster;
    if (counters_ == nullptr && grpc_ && !cluster.empty())
      counters_ = &config_.stats->find(stream_.worker_index(), cluster, service_, method_);
    return counters_;
  }
  stats::Shard& shard() { return config_.registry.worker_shard(stream_.worker_index()); }
  void count_messages() {
    const MethodCounters* const c = counters();
    if (c == nullptr) return;
    shard().add(c->request_messages, request_.messages() - std::exchange(requests_counted_, request_.messages()));
    shard().add(c->response_messages, response_.messages() - std::exchange(responses_counted_, response_.messages()));
  }
  void count_status(const HeaderMap& headers) {
    const MethodCounters* const c = counters();
    const auto status = c == nullptr ? std::nullopt : grpc_status_of(headers);
    if (!status) return;
    if (*status < MethodCounters::kStatuses) shard().add(c->status[*status]);
    shard().add(*status == kGrpcOk ? c->success : c->failure);
    shard().add(c->total);
  }

  const StatsConfig& config_;
  StreamHandle& stream_;
  const MethodCounters* counters_ = nullptr;
  std::string_view service_, method_;  // empty: the cluster's counters
  http::GrpcFrames request_, response_;
  uint64_t requests_counted_ = 0, responses_counted_ = 0;
  bool grpc_ = false;
};

Filter* StatsConfig::create(StreamHandle& stream) const { return stream.arena().make<StatsFilter>(*this, stream); }

FilterExplanation StatsConfig::explain(ExplainRequest& request) const {
  FilterExplanation out{.verdict = FilterExplanation::Verdict::kPasses, .reason = "counts gRPC requests only"};
  if (!is_grpc(request.headers.get(HeaderId::kContentType))) return out;
  const auto [service, method] = method_of(request.headers.get(HeaderId::kPath));
  out.reason = counted(service, method) ? fmt::format("counts {}/{}", service, method)
                                        : "counts with the cluster's other methods";
  return out;
}

// --- config ----------------------------------------------------------------------------------------------------------

std::vector<Method> allowed(const envoy::config::core::v3::GrpcMethodList& list, const config::FieldPath& path,
                            config::CompileContext& context) {
  std::vector<Method> methods;
  const config::FieldPath services = path.field("services");
  for (int i = 0; i < list.services_size(); ++i) {
    const auto& service = list.services(i);
    const config::FieldPath at = services.index(static_cast<size_t>(i));
    if (service.name().empty()) context.faults.add(at.field("name"), "must not be empty");
    const config::FieldPath names = at.field("method_names");
    if (service.method_names().empty()) context.faults.add(names, "needs at least one method");
    for (int j = 0; j < service.method_names_size(); ++j) {
      const config::FieldPath name_at = names.index(static_cast<size_t>(j));
      if (service.method_names(j).empty()) context.faults.add(name_at, "must not be empty");
      methods.emplace_back(service.name(), service.method_names(j));
    }
  }
  std::sort(methods.begin(), methods.end());
  if (const size_t most = MethodStats::kMaxMethods; methods.size() > most)
    context.faults.add(path, fmt::format("names {} methods, more than the {} allowed", methods.size(), most));
  return methods;
}

std::shared_ptr<const FilterConfig> compile(const google::protobuf::Message& any_message, const config::FieldPath& path,
                                            config::CompileContext& context) {
  const size_t errors = context.faults.errors();
  const auto& message = static_cast<const proto::FilterConfig&>(any_message);
  std::vector<Method> methods;
  if (message.has_individual_method_stats_allowlist())
    methods =
        allowed(message.individual_method_stats_allowlist(), path.field("individual_method_stats_allowlist"), context);
  if (context.faults.errors() != errors) return nullptr;
  const bool replaced = message.replace_dots_in_grpc_service_name();
  // Found again by the next version, so that it counts on.
  const std::string key = fmt::format("grpc_stats/{}/{}", replaced ? "_" : ".", context.scope);
  auto stats = context.states.find_or_make<MethodStats>(
      key, [&] { return std::make_shared<MethodStats>(context.stats, replaced); });
  return std::make_shared<StatsConfig>(message.stats_for_all_methods().value(), std::move(methods), std::move(stats),
                                       context.stats);
}

}  // namespace

config::FilterType grpc_stats_filter_type() {
  return {.name = "envoy.filters.http.grpc_stats",
          .config_type = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
          .route_type = "",
          .compile = compile,
          .compile_route = nullptr};
}

}  // namespace outrigger::filters
