// The router of a Stream: what becomes of a request when it has passed the filters, and of the response on its way
// back.
#include "proxy/stream.h"

#include <fmt/format.h>

#include <charconv>

#include "base/check.h"
#include "base/grpc.h"
#include "proxy/aggregate.h"
#include "proxy/connect_upstream.h"
#include "proxy/downstream_connection.h"
#include "proxy/request_headers.h"
#include "proxy/websocket.h"
#include "route/rewrite.h"

namespace outrigger::proxy {

// What a client is told of an attempt that failed, before or after its response had begun.
struct UpstreamFailure {
  ResponseFlag flag;
  uint16_t status;
  std::string_view before, after;
};

namespace {

bool wants(const config::RetryPolicySpec& policy, std::string_view condition) {
  for (const std::string& on : policy.retry_on)
    if (on == condition) return true;
  return false;
}

#define OUTRIGGER_RESET(reason) \
  "upstream_reset_before_response_started{" reason "}", "upstream_reset_after_response_started{" reason "}"
constexpr UpstreamFailure kNotConnected{ResponseFlag::kUpstreamConnectionFailure, 503,
                                        OUTRIGGER_RESET("connection_failure")};
constexpr UpstreamFailure kNotConnectedInTime{ResponseFlag::kUpstreamConnectionFailure, 503,
                                              OUTRIGGER_RESET("connection_timeout")};
constexpr UpstreamFailure kProtocolBroken{ResponseFlag::kUpstreamProtocolError, 502, OUTRIGGER_RESET("protocol_error")};
constexpr UpstreamFailure kConnectionEnded{ResponseFlag::kUpstreamConnectionTermination, 503,
                                           OUTRIGGER_RESET("connection_termination")};
constexpr UpstreamFailure kStreamReset{ResponseFlag::kUpstreamRemoteReset, 503, OUTRIGGER_RESET("remote_reset")};
constexpr UpstreamFailure kStreamRefused{ResponseFlag::kUpstreamRemoteReset, 503,
                                         OUTRIGGER_RESET("remote_refused_stream_reset")};
#undef OUTRIGGER_RESET

// RouteAction.max_grpc_timeout: the client's deadline (0: none), less the offset if that leaves anything, and bounded.
uint64_t grpc_route_timeout_ms(const route::ForwardAction& action, uint64_t client_ms) {
  uint64_t ms = client_ms;
  if (action.grpc_timeout_offset_ms < ms) ms -= action.grpc_timeout_offset_ms;
  const uint64_t most = *action.max_grpc_timeout_ms;
  return most != 0 && (ms == 0 || ms > most) ? most : ms;
}

// The condition of retry_on that stands for a gRPC status; empty: none does.
std::string_view grpc_condition(uint32_t status) {
  switch (status) {
    case kGrpcCancelled:
      return "cancelled";
    case kGrpcDeadlineExceeded:
      return "deadline-exceeded";
    case kGrpcResourceExhausted:
      return "resource-exhausted";
    case kGrpcInternal:
      return "internal";
    case kGrpcUnavailable:
      return "unavailable";
    default:
      return {};
  }
}

constexpr uint32_t flag_bits(ResponseFlag flag) { return static_cast<uint32_t>(flag); }

}  // namespace

// --- request
// -----------------------------------------------------------------------------------------------------------

void Stream::route_headers(bool end) {
  routed_ = true;
  if (headers_[kRequest]->overflowed()) {
    local_reply({.status = 431, .details = "request_headers_too_large"});
    return;
  }
  if (match_.route == nullptr) {
    worker_.shard().add(http_stats().no_route);
    local_reply({.status = 404, .details = "route_not_found", .flags = flag_bits(ResponseFlag::kNoRouteFound)});
    return;
  }
  if (refuses_upgrade()) return;
  if (const auto* action = match_.route->forward(); action != nullptr) return forward(*action, end);
  if (match_.route->redirect() != nullptr) return redirect();
  direct_response(*match_.route->direct_response());
}

void Stream::redirect() {
  worker_.shard().add(http_stats().rq_redirect);
  const std::string_view location =
      route::redirect_location(match_, *headers_[kRequest], over_tls(*headers_[kRequest]), arena_);
  if (location.data() == nullptr) {
    local_reply({.status = 431, .details = "request_headers_too_large"});
    return;
  }
  local_reply(
      {.status = match_.route->redirect()->status, .details = "direct_response", .edit = [&](HeaderMap& headers) {
         headers.add_view(header_name(HeaderId::kLocation), location, HeaderId::kLocation);
         if (!match_.route->tls_redirect()) match_.mutate_response(headers, format_context());
       }});
}

void Stream::direct_response(const route::DirectResponseAction& action) {
  worker_.shard().add(http_stats().rq_direct_response);
  local_reply(
      {.status = action.status, .body = action.body, .details = "direct_response", .edit = [&](HeaderMap& headers) {
         match_.mutate_response(headers, format_context());
       }});
}

void Stream::forward(const route::ForwardAction& action, bool end) {
  HeaderMap& request = *headers_[kRequest];
  const route::ClusterName name = match_.cluster(request);
  if (!name.empty()) cluster_ = worker_.find_cluster(name.text, name.hash, pin_);
  if (cluster_ == nullptr) {
    worker_.shard().add(http_stats().no_cluster);
    info_.cluster = arena_.copy(name.text);
    local_reply({.status = action.cluster_not_found_status,
                 .details = "cluster_not_found",
                 .flags = flag_bits(ResponseFlag::kNoClusterFound)});
    return;
  }
  cluster_->hold();
  info_.cluster = arena_.copy(name.text);
  route::finalize_request(match_, request, format_context(), !hcm().router_suppress_envoy_headers);
  route_timeout_ms_ = action.timeout_ms;
  if (action.max_grpc_timeout_ms && grpc_request()) {
    route_timeout_ms_ = grpc_route_timeout_ms(action, client_timeout_ms_.value_or(0));
    if (route_timeout_ms_ != 0) set_grpc_timeout(request, route_timeout_ms_);
  }
  if (!hcm().router_suppress_envoy_headers && route_timeout_ms_ != 0) {
    char digits[24];
    const char* digits_end = std::to_chars(digits, digits + sizeof(digits), route_timeout_ms_).ptr;
    request.set(HeaderId::kXEnvoyExpectedRqTimeoutMs, {digits, static_cast<size_t>(digits_end - digits)});
  }
  request.remove(HeaderId::kXEnvoyUpstreamRqTimeoutMs);
  request.remove(HeaderId::kXEnvoyInternal);
  if (request.overflowed()) {
    local_reply({.status = 431, .details = "request_headers_too_large"});
    return;
  }
  retry_ = action.retry;
  replayable_ = retry_ != nullptr;
  router_end_ = end;
  start_attempt();
  if (finished_ || response_begun_) return;
  if (!action.mirrors.empty() && !upgrade_) start_shadows(action, end);
  if (end) request_complete();
}

// As Envoy: only for requests that have a host of their own to go to, and with the head that goes there.
void Stream::start_shadows(const route::ForwardAction& action, bool end) {
  for (const route::Mirror& mirror : action.mirrors) {
    if (!mirror.chosen(random_)) continue;
    const route::ClusterName name = mirror.cluster_of(*headers_[kRequest]);
    upstream::WorkerCluster* cluster = name.empty() ? nullptr : worker_.find_cluster(name.text, name.hash, pin_);
    if (cluster == nullptr) continue;
    const uint64_t timeout_ms = route_timeout_ms_ != 0 ? route_timeout_ms_ : hcm().stream_idle_timeout_ms;
    shadows_.start(worker_, *cluster, pin_, *headers_[kRequest],
                   {.append_shadow = mirror.append_shadow,
                    .end = end,
                    .http2_client = info_.protocol == Protocol::kHttp2,
                    .buffer_limit = connection_.buffer_limit(),
                    .timeout_ms = timeout_ms});
  }
}

// The request's last byte has come to the router: the route timeout runs from here, as Envoy's. Tunnels have none.
void Stream::request_complete() {
  if (route_timeout_ms_ != 0 && !upgrade_) worker_.loop().timers().arm(response_timeout_, route_timeout_ms_);
}

void Stream::route_data(Buffer& data, bool end) {
  if (cluster_ == nullptr) return;  // answered
  if (replayable_) {
    if (replay_.size() + data.size() > connection_.buffer_limit()) {
      replayable_ = false;
      replay_.clear();
    } else {
      for (const Buffer::Slice& slice : data) replay_.append_shared(slice.block, slice.data, slice.size);
    }
  }
  if (!shadows_.empty()) shadows_.data(data, end);
  to_upstream_.append(std::move(data));
  router_end_ = router_end_ || end;
  if (end) request_complete();
  send_upstream();
}

void Stream::route_trailers(HeaderMap& trailers) {
  if (cluster_ == nullptr) return;
  if (!shadows_.empty()) shadows_.trailers(trailers);
  upstream_trailers_ = &trailers;
  router_end_ = true;
  request_complete();
  send_upstream();
}

void Stream::send_upstream() {
  const size_t limit = connection_.buffer_limit();
  if (upstream_ == nullptr || upstream_end_sent_ || (upgrade_ && !tunnel_)) {
    // Nobody takes it yet: the client waits when enough is here.
    if (downstream_ != nullptr && to_upstream_.size() > limit) downstream_->pause_read(net::Pause::kDrain);
    return;
  }
  if (!to_upstream_.empty() || (router_end_ && upstream_trailers_ == nullptr)) {
    const bool end = router_end_ && upstream_trailers_ == nullptr;
    upstream_end_sent_ = end;
    http::CodecStream& upstream = *upstream_;
    if (end && upstream_ended_) upstream_ = nullptr;  // the codec forgets it with this call
    upstream.encode_data(std::move(to_upstream_), end);
    if (tunnel_ && end && response_ended_) return finish();
  }
  if (router_end_ && upstream_trailers_ != nullptr && upstream_ != nullptr && !upstream_end_sent_) {
    upstream_end_sent_ = true;
    upstream_->encode_trailers(*upstream_trailers_);
  }
  if (downstream_ != nullptr) downstream_->resume_read(net::Pause::kDrain);
}

// --- attempts
// ----------------------------------------------------------------------------------------------------------

// Counts the request in a cluster; false: that has as many as it may, and the client is told so.
bool Stream::enter(upstream::WorkerCluster& cluster) {
  if (member_ == &cluster && request_budget_) return true;
  leave();
  member_ = &cluster;
  member_->hold();
  const upstream::Cluster& part = cluster.cluster();
  request_budget_ = upstream::take(part.state().requests, part.spec().max_requests);
  if (request_budget_) return true;
  worker_.shard().add(cluster.stats().rq_pending_overflow);
  local_reply({.status = 503,
               .body = "upstream connect error or disconnect/reset before headers. reset reason: overflow",
               .details = "upstream_overflow",
               .flags = flag_bits(ResponseFlag::kUpstreamOverflow),
               .edit = [](HeaderMap& headers) { headers.add("x-envoy-overloaded", "true"); }});
  return false;
}

void Stream::leave() {
  if (member_ == nullptr) return;
  if (std::exchange(request_budget_, false)) upstream::give(member_->cluster().state().requests);
  std::exchange(member_, nullptr)->drop();
}

void Stream::start_attempt() {
  ++attempts_;
  info_.upstream_attempts = attempts_;
  attempt_start_ns_ = worker_.loop().now_ns();
  const PickedHost picked =
      pick_host(worker_, *cluster_, pin_, connection_.original_destination(), match_.metadata_match());
  const upstream::HostSet::Entry* host = picked.host;
  if (host == nullptr) {
    worker_.shard().add(cluster_->stats().cx_none_healthy);
    local_reply({.status = 503,
                 .body = "no healthy upstream",
                 .details = "no_healthy_upstream",
                 .flags = flag_bits(ResponseFlag::kNoHealthyUpstream)});
    return;
  }
  if (!enter(*picked.cluster)) return;
  if (match_.route->forward()->auto_host_rewrite && !host->host->hostname.empty())
    route::rewrite_host(*headers_[kRequest], host->host->hostname.text(),
                        match_.route->forward()->append_x_forwarded_host);
  info_.upstream_host = arena_.copy(host->text());
  info_.upstream_remote_address = info_.upstream_local_address = {};
  upstream_metadata_ = member_->metadata(*host);
  worker_.shard().add(member_->stats().rq_total);
  worker_.shard().inc(member_->stats().rq_active);
  counted_active_ = true;
  if (retry_ != nullptr && retry_->per_try_timeout_ms != 0)
    worker_.loop().timers().arm(per_try_timeout_, retry_->per_try_timeout_ms);
  if (const route::Upgrade* const end = termination(); end != nullptr) {
    head_sent_ = true;
    upstream_ = ConnectUpstream::begin(worker_, *member_, *host, upstream_sink_, *this,
                                       {connection_.remote(), connection_.local(), end->proxy_header});
    return;
  }
  pool_ = &member_->pool(*host, info_.protocol == Protocol::kHttp2,
                         member_->tells_clients() ? &connection_.client_pools() : nullptr);
  pool_->acquire(*this);
}

// Of a CONNECT request that ends here; nullptr: it goes on, or is none.
const route::Upgrade* Stream::termination() const {
  if (!connect_) return nullptr;
  for (const route::Upgrade& upgrade : match_.route->forward()->upgrades)
    if (upgrade.terminate && upgrade.enabled) return &upgrade;
  return nullptr;
}

void Stream::on_pool_ready(upstream::PooledConnection& connection) {
  pool_ = nullptr;
  on_addresses(connection.remote_text(), connection.local_text());
  upstream_ = &connection.start(upstream_sink_);
  upstream_end_sent_ = router_end_ && to_upstream_.empty() && upstream_trailers_ == nullptr && !upgrade_;
  head_sent_ = true;
  if (upgrade_ && upstream_->protocol() != Protocol::kHttp2 &&
      is_websocket(headers_[kRequest]->get(HeaderId::kUpgrade)))
    add_websocket_key(*headers_[kRequest], worker_.loop());
  upstream_->encode_headers(*headers_[kRequest], upstream_end_sent_);
  if (!upstream_end_sent_ && upstream_ != nullptr) send_upstream();
}

void Stream::on_addresses(std::string_view remote, std::string_view local) {
  info_.upstream_remote_address = remote.empty() ? info_.upstream_host : arena_.copy(remote);
  info_.upstream_local_address = arena_.copy(local);
}

void Stream::on_pool_failure(upstream::PoolFailure why, std::string_view details) {
  pool_ = nullptr;
  if (why == upstream::PoolFailure::kOverflow) {
    end_attempt(false);
    local_reply({.status = 503,
                 .body = "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                 .details = details,
                 .flags = flag_bits(ResponseFlag::kUpstreamOverflow),
                 .edit = [](HeaderMap& headers) { headers.add("x-envoy-overloaded", "true"); }});
    return;
  }
  if (!details.empty()) info_.upstream_transport_failure = arena_.copy(details);
  end_attempt(false);
  if (try_again(Outcome::kNotConnected)) return;
  upstream_failed(why == upstream::PoolFailure::kConnectTimeout ? kNotConnectedInTime : kNotConnected);
}

// Lets go of the pool or the upstream stream; `reset`: it has not ended by itself.
void Stream::end_attempt(bool reset) {
  per_try_timeout_.disarm();
  retry_timer_.disarm();
  if (upstream::HostPool* pool = std::exchange(pool_, nullptr); pool != nullptr) {
    worker_.shard().add(member_->stats().rq_cancelled);
    pool->cancel(*this);
  }
  if (http::CodecStream* upstream = std::exchange(upstream_, nullptr); upstream != nullptr && reset) {
    worker_.shard().add(member_->stats().rq_tx_reset);
    upstream->reset(http::ResetReason::kLocalReset);
  }
  if (counted_active_) {
    counted_active_ = false;
    worker_.shard().dec(member_->stats().rq_active);
  }
  if (finished_ || request_stopped_) {
    if (std::exchange(request_budget_, false)) upstream::give(member_->cluster().state().requests);
    if (std::exchange(retry_budget_, false)) upstream::give(cluster_->cluster().state().retries);
  }
}

bool Stream::retry_allowed(Outcome outcome, uint16_t status, const HeaderMap* answer) {
  if (retry_ == nullptr || response_begun_ || !replayable_ || attempts_ > retry_->num_retries) return false;
  if (outcome != Outcome::kAnswered) {
    if (wants(*retry_, "reset") || wants(*retry_, "5xx") || wants(*retry_, "gateway-error")) return true;
    if (outcome == Outcome::kNotConnected) return wants(*retry_, "connect-failure");
    if (outcome == Outcome::kRefused && wants(*retry_, "refused-stream")) return true;
    return wants(*retry_, "reset-before-request") && !upstream_end_sent_;
  }
  if (status >= 500 && wants(*retry_, "5xx")) return true;
  if (status >= 502 && status <= 504 && wants(*retry_, "gateway-error")) return true;
  if (status == 409 && wants(*retry_, "retriable-4xx")) return true;
  if (wants(*retry_, "retriable-status-codes"))
    for (const uint32_t code : retry_->retriable_status_codes)
      if (code == status) return true;
  // A status in the trailers comes too late: the response has begun.
  const auto grpc_status = grpc_status_of(*answer);
  return grpc_status && wants(*retry_, grpc_condition(*grpc_status));
}

bool Stream::try_again(Outcome outcome, uint16_t status, const HeaderMap* answer) {
  if (!retry_allowed(outcome, status, answer)) {
    if (retry_ != nullptr && attempts_ > retry_->num_retries && attempts_ > 1) {
      info_.set(ResponseFlag::kUpstreamRetryLimitExceeded);
      worker_.shard().add(cluster_->stats().rq_retry_limit_exceeded);
    }
    return false;
  }
  const upstream::Cluster& cluster = cluster_->cluster();
  if (!retry_budget_ && !upstream::take(cluster.state().retries, cluster.spec().max_retries)) {
    worker_.shard().add(cluster_->stats().rq_retry_overflow);
    return false;
  }
  retry_budget_ = true;
  end_attempt(true);
  worker_.shard().add(cluster_->stats().rq_retry);
  head_sent_ = upstream_end_sent_ = false;
  to_upstream_.clear();
  for (const Buffer::Slice& slice : replay_) to_upstream_.append_shared(slice.block, slice.data, slice.size);
  // Full jitter over an exponential bound, as Envoy.
  const uint64_t bound = std::min(retry_->base_interval_ms << std::min(attempts_ - 1, 16u), retry_->max_interval_ms);
  worker_.loop().timers().arm(retry_timer_, bound == 0 ? 1 : 1 + worker_.loop().random() % bound);
  return true;
}

// --- response
// ----------------------------------------------------------------------------------------------------------

void Stream::upstream_1xx(HeaderMap& headers) {
  if (finished_ || response_begun_) return;
  touch();
  const std::string_view status = headers.get(HeaderId::kStatus);
  if ((status == "100" && continue_sent_) || info_.protocol == Protocol::kHttp10) return;
  for (int i = stage_count_ - 1; i >= 0; --i) stages_[i].filter->on_response_1xx(headers);
  downstream_->encode_1xx(headers);
}

void Stream::upstream_headers(HeaderMap& headers, bool end) {
  if (end) upstream_ = nullptr;  // the codec forgets it when this returns
  touch();
  per_try_timeout_.disarm();
  uint16_t status = 0;
  for (const char c : headers.get(HeaderId::kStatus)) status = static_cast<uint16_t>(status * 10 + (c - '0'));
  const int64_t now = worker_.loop().now_ns();
  info_.upstream_first_byte_ns = now;
  if (end) info_.upstream_last_byte_ns = now;
  stats::Shard& shard = worker_.shard();
  if (status / 100 >= 1 && status / 100 <= 5) shard.add(member_->stats().rq_class[status / 100]);
  shard.add(member_->stats().rq_completed);
  if (try_again(Outcome::kAnswered, status, &headers)) return;
  if (attempts_ > 1 && status < 500) shard.add(cluster_->stats().rq_retry_success);
  replayable_ = false;  // a tunnel or a stream of messages may go on for hours
  replay_.clear();
  headers_[kResponse] = &headers;
  response_begun_ = true;
  info_.response_code = status;
  info_.response_code_details = "via_upstream";
  if (!hcm().router_suppress_envoy_headers) {
    char digits[24];
    const char* digits_end = std::to_chars(digits, digits + sizeof(digits), (now - attempt_start_ns_) / 1'000'000).ptr;
    headers.set(HeaderId::kXEnvoyUpstreamServiceTime, {digits, static_cast<size_t>(digits_end - digits)});
  }
  match_.mutate_response(headers, format_context());
  head_ends_response_ = end;
  pass_headers(kResponse, stage_count_ - 1);
}

void Stream::upstream_data(Buffer& data, bool end) {
  if (end) {
    upstream_ended_ = true;
    if (!tunnel_ || upstream_end_sent_) upstream_ = nullptr;
    info_.upstream_last_byte_ns = worker_.loop().now_ns();
  }
  touch();
  pass_data(kResponse, stage_count_ - 1, data, end);
}

void Stream::upstream_trailers(HeaderMap& trailers) {
  upstream_ = nullptr;
  info_.upstream_last_byte_ns = worker_.loop().now_ns();
  trailers_[kResponse] = &trailers;
  pass_trailers(kResponse, stage_count_ - 1, trailers);
}

void Stream::upstream_reset(http::ResetReason reason, std::string_view) {
  upstream_ = nullptr;
  if (finished_) return;
  worker_.shard().add(member_->stats().rq_rx_reset);
  const bool protocol = reason == http::ResetReason::kProtocolError || reason == http::ResetReason::kOverflow;
  if (protocol) worker_.shard().add(member_->stats().cx_protocol_error);
  end_attempt(false);
  if (try_again(reason == http::ResetReason::kRefused ? Outcome::kRefused : Outcome::kReset)) return;
  switch (reason) {
    case http::ResetReason::kProtocolError:
    case http::ResetReason::kOverflow:
      return upstream_failed(kProtocolBroken);
    case http::ResetReason::kRefused:
      return upstream_failed(kStreamRefused);
    case http::ResetReason::kRemoteReset:
      return upstream_failed(kStreamReset);
    default:
      return upstream_failed(kConnectionEnded);
  }
}

void Stream::upstream_failed(const UpstreamFailure& failure) {
  if (response_begun_) return cut(failure.flag, failure.after);
  local_reply({.status = failure.status,
               .body = "upstream connect error or disconnect/reset before headers",
               .details = failure.before,
               .flags = flag_bits(failure.flag)});
}

// The upstream connection's write side: the client waits while the upstream does not read.
void Stream::upstream_watermark(bool above) {
  if (downstream_ == nullptr) return;
  if (above) {
    downstream_->pause_read(net::Pause::kBackpressure);
  } else {
    downstream_->resume_read(net::Pause::kBackpressure);
  }
}

void Stream::on_response_timeout() {
  worker_.shard().add(member_->stats().rq_timeout);
  if (response_begun_) {
    cut(ResponseFlag::kUpstreamRequestTimeout, "response_timeout");
    return;
  }
  local_reply({.status = 504,
               .body = "upstream request timeout",
               .details = "response_timeout",
               .flags = flag_bits(ResponseFlag::kUpstreamRequestTimeout)});
}

void Stream::on_per_try_timeout() {
  worker_.shard().add(member_->stats().rq_per_try_timeout);
  if (try_again(Outcome::kReset)) return;
  local_reply({.status = 504,
               .body = "upstream request timeout",
               .details = "upstream_per_try_timeout",
               .flags = flag_bits(ResponseFlag::kUpstreamRequestTimeout)});
}

}  // namespace outrigger::proxy
