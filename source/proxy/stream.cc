#include "proxy/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "base/check.h"
#include "base/grpc.h"
#include "proxy/downstream_connection.h"
#include "proxy/request_headers.h"
#include "proxy/websocket.h"

namespace outrigger::proxy {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

double ms_between(int64_t from_ns, int64_t to_ns) { return static_cast<double>(to_ns - from_ns) / 1e6; }

}  // namespace

Stream::Stream(WorkerState& worker, DownstreamConnection& connection, const LinkedChain& chain, PinnedSnapshot* pin,
               http::CodecStream& downstream)
    : worker_(worker),
      connection_(connection),
      chain_(chain.chain),
      routes_(chain.routes.get()),
      pin_(pin),
      downstream_(&downstream),
      random_(worker.loop().random()),
      idle_timeout_([](void* s) { static_cast<Stream*>(s)->on_idle_timeout(); }, this),
      request_timeout_([](void* s) { static_cast<Stream*>(s)->on_request_timeout(); }, this),
      response_timeout_([](void* s) { static_cast<Stream*>(s)->on_response_timeout(); }, this),
      per_try_timeout_([](void* s) { static_cast<Stream*>(s)->on_per_try_timeout(); }, this),
      duration_timeout_([](void* s) { static_cast<Stream*>(s)->on_max_duration(); }, this),
      retry_timer_([](void* s) { static_cast<Stream*>(s)->start_attempt(); }, this) {
  info_.snapshot_version = pin_->snapshot->version;
  info_.protocol = downstream.protocol();
  info_.start_ns = worker_.loop().now_ns();
  info_.start_time_unix_us = worker_.loop().wall_us();
  info_.connection_id = connection_.id();
  info_.downstream_remote_address = connection_.remote_text();
  info_.downstream_direct_remote_address = connection_.direct_remote_text();
  info_.downstream_local_address = connection_.local_text();
  info_.downstream_tls = connection_.tls();
  ++worker_.active_requests;
  worker_.shard().add(http_stats().rq_total);
  worker_.shard().inc(http_stats().rq_active);
}

Stream::~Stream() {
  CHECK(finished_);
  for (int i = 0; i < stage_count_; ++i) {
    for (Held* held : stages_[i].held)
      if (held != nullptr) held->~Held();
    stages_[i].filter->~Filter();
  }
  worker_.unpin(pin_);
}

// --- the downstream codec's events
// -------------------------------------------------------------------------------------

void Stream::on_headers(HeaderMap& headers, bool end_stream) {
  headers_[kRequest] = &headers;
  request_ended_ = head_ends_request_ = end_stream;
  connect_ = headers.get(HeaderId::kMethod) == "CONNECT";
  upgrade_ = connect_ || headers.has(HeaderId::kUpgrade);
  info_.protocol = downstream_->protocol();
  if (end_stream) info_.request_end_ns = worker_.loop().now_ns();
  const config::HcmSpec& config = hcm();
  set_idle_timeout(config.stream_idle_timeout_ms);
  if (config.request_timeout_ms != 0 && !end_stream && !upgrade_)
    worker_.loop().timers().arm(request_timeout_, config.request_timeout_ms);
  client_timeout_ms_ = grpc_timeout_ms(headers);

  const RequestContext context{connection_.remote(), connection_.remote_ip(), worker_.loop(), info_.downstream_tls};
  if (auto refused = prepare_request(headers, config, context, info_); refused) {
    const std::string_view location = refused->location;
    local_reply({.status = refused->status, .details = refused->details, .edit = [location](HeaderMap& h) {
                   if (location.empty()) {
                     h.set_view(HeaderId::kConnection, "close");  // no trust in what follows
                   } else {
                     h.add(HeaderId::kLocation, location);
                   }
                 }});
    return;
  }
  // As Envoy: the proxy itself invites the body, and the upstream is not asked (RFC 9110 section 10.1.1).
  if (const std::string_view expect = headers.get(HeaderId::kExpect); !expect.empty()) {
    if (!end_stream && info_.protocol != Protocol::kHttp10) {
      HeaderMap* interim = arena_.make<HeaderMap>(arena_);
      if (interim != nullptr) {
        interim->set_view(HeaderId::kStatus, "100");
        downstream_->encode_1xx(*interim);
        continue_sent_ = true;
      }
    }
    headers.remove(HeaderId::kExpect);
  }
  match_route();
  if (refuses_upgrade()) return;
  if (!make_filters()) {
    local_reply({.status = 431, .details = "request_headers_too_large"});
    return;
  }
  pass_headers(kRequest, 0);
}

// An upgrade that neither the route nor the listener lists. A filter may have had the route chosen again since.
bool Stream::refuses_upgrade() {
  if (!upgrade_) return false;
  const std::string_view type = connect_ ? "connect" : headers_[kRequest]->get(HeaderId::kUpgrade);
  if (upgrade_listed(type, match_, hcm())) return false;
  worker_.shard().add(http_stats().rq_ws_on_non_ws_route);
  local_reply({.status = 403, .details = "upgrade_failed"});
  return true;
}

void Stream::match_route() {
  match_ = {};
  if (routes_ != nullptr)
    match_ = routes_->match(*headers_[kRequest], {.random = random_, .tls = over_tls(*headers_[kRequest])});
  info_.route_name = match_.route == nullptr ? std::string_view{} : match_.route->name;
  info_.virtual_host = match_.virtual_host == nullptr ? std::string_view{} : match_.virtual_host->name;
  if (const auto* forward = match_.route == nullptr ? nullptr : match_.route->forward();
      forward != nullptr && forward->idle_timeout_ms.has_value()) {
    set_idle_timeout(*forward->idle_timeout_ms);
  }
  limit_duration();
}

void Stream::on_data(Buffer& data, bool end_stream) {
  if (finished_) return;
  info_.request_bytes += data.size();
  touch();
  if (end_stream) {
    request_ended_ = true;
    info_.request_end_ns = worker_.loop().now_ns();
    request_timeout_.disarm();
  }
  if (request_stopped_) return;
  pass_data(kRequest, 0, data, end_stream);
}

void Stream::on_trailers(HeaderMap& trailers) {
  if (finished_) return;
  trailers_[kRequest] = &trailers;
  request_ended_ = true;
  info_.request_end_ns = worker_.loop().now_ns();
  request_timeout_.disarm();
  if (!request_stopped_) pass_trailers(kRequest, 0, trailers);
}

void Stream::on_bad_request(uint16_t status, std::string_view details) {
  if (finished_) return;
  worker_.shard().add(http_stats().cx_protocol_error);
  info_.set(ResponseFlag::kDownstreamProtocolError);
  if (response_begun_) {
    cut(ResponseFlag::kDownstreamProtocolError, details);
  } else {
    local_reply({.status = status, .details = details});
  }
}

void Stream::on_reset(http::ResetReason reason, std::string_view details) {
  downstream_ = nullptr;
  if (finished_) return;
  worker_.shard().add(http_stats().rq_rx_reset);
  info_.set(reason == http::ResetReason::kProtocolError ? ResponseFlag::kDownstreamProtocolError
                                                        : ResponseFlag::kDownstreamConnectionTermination);
  info_.response_code_details = details.empty() ? "downstream_remote_disconnect" : details;
  finish();
}

void Stream::on_write_watermark(bool above) {
  if (upstream_ == nullptr) return;
  if (above) {
    upstream_->pause_read(net::Pause::kBackpressure);
  } else {
    upstream_->resume_read(net::Pause::kBackpressure);
  }
}

void Stream::abort(std::string_view details) {
  if (!finished_) cut(ResponseFlag::kLocalReset, details);
}

// --- the response's way to the downstream codec
// ------------------------------------------------------------------------

void Stream::send_headers(bool end) {
  HeaderMap& headers = *headers_[kResponse];
  prepare_response(headers, hcm(), worker_.http_date(), info_);
  if (headers.overflowed()) {
    cut(ResponseFlag::kLocalReset, "response_headers_too_large");
    return;
  }
  const std::string_view status = headers.get(HeaderId::kStatus);
  info_.response_code = 0;
  for (const char c : status) info_.response_code = static_cast<uint16_t>(info_.response_code * 10 + (c - '0'));
  info_.response_first_byte_ns = worker_.loop().now_ns();
  response_head_sent_ = true;
  const bool accepted = upgrade_ && !local_ && (connect_ ? info_.response_code / 100 == 2 : info_.response_code == 101);
  if (accepted) accept_upgrade(headers);
  downstream_->encode_headers(headers, end);
  if (accepted) return send_upstream();
  if (end) {
    response_ended_ = true;
    finish();
  }
}

// From here on the stream is a tunnel: bytes both ways until both sides have ended.
void Stream::accept_upgrade(HeaderMap& response) {
  tunnel_ = true;
  worker_.shard().add(http_stats().cx_upgrades_total);
  worker_.shard().inc(http_stats().cx_upgrades_active);
  if (info_.protocol != Protocol::kHttp2 && is_websocket(headers_[kRequest]->get(HeaderId::kUpgrade)))
    add_websocket_accept(response, headers_[kRequest]->get("sec-websocket-key"));
}

void Stream::send_data(Buffer& data, bool end) {
  info_.response_bytes += data.size();
  if (end) response_ended_ = true;
  downstream_->encode_data(std::move(data), end);
  if (end && !finished_ && (!tunnel_ || upstream_end_sent_)) finish();
}

void Stream::send_trailers(HeaderMap& trailers) {
  downstream_->encode_trailers(trailers);
  if (finished_) return;
  response_ended_ = true;
  finish();
}

void Stream::local_reply(const LocalReply& reply) {
  if (finished_) return;
  info_.response_flags |= reply.flags;
  if (response_begun_) {
    cut(ResponseFlag::kLocalReset, reply.details);
    return;
  }
  request_stopped_ = true;
  response_begun_ = local_ = true;
  info_.response_code = reply.status;
  info_.response_code_details = reply.details;
  end_attempt(true);
  response_timeout_.disarm();
  HeaderMap* headers = arena_.make<HeaderMap>(arena_);
  if (headers == nullptr) {
    cut(ResponseFlag::kLocalReset, "stream_memory_exhausted");
    return;
  }
  char digits[8];
  *fmt::format_to(digits, "{}", reply.status) = '\0';
  headers->add(HeaderId::kStatus, digits);
  const bool grpc = grpc_request();
  const bool has_body =
      !grpc && !reply.body.empty() && reply.status >= 200 && reply.status != 204 && reply.status != 304;
  if (has_body) {
    char length[24];
    char* end = fmt::format_to(length, "{}", reply.body.size());
    headers->add(HeaderId::kContentLength, {length, static_cast<size_t>(end - length)});
    headers->set_view(HeaderId::kContentType, "text/plain");
  }
  if (reply.edit) reply.edit(*headers);
  if (grpc) make_grpc(*headers, reply);
  headers_[kResponse] = headers;
  head_ends_response_ = !has_body;
  pass_headers(kResponse, stage_count_ - 1);
  if (finished_ || !has_body) return;
  Buffer body(reply.body);
  pass_data(kResponse, stage_count_ - 1, body, true);
}

bool Stream::grpc_request() const {
  const HeaderMap* const request = headers_[kRequest];
  return request != nullptr && is_grpc(request->get(HeaderId::kContentType));
}

// A gRPC client looks for grpc-status: a head that is all of the answer (its "Trailers-Only").
void Stream::make_grpc(HeaderMap& headers, const LocalReply& reply) {
  headers.set_view(HeaderId::kStatus, "200");
  headers.set_view(HeaderId::kContentType, "application/grpc");
  headers.remove(HeaderId::kContentLength);
  char digits[12];
  const uint32_t status =
      reply.grpc_status >= 0 ? static_cast<uint32_t>(reply.grpc_status) : grpc_status_of_http(reply.status);
  const char* const end = std::to_chars(digits, digits + sizeof(digits), status).ptr;
  headers.set(HeaderId::kGrpcStatus, {digits, static_cast<size_t>(end - digits)});
  if (reply.body.empty()) return;
  const std::string_view message = grpc_message(reply.body, arena_);
  if (message.data() == nullptr) return headers.mark_overflowed();
  headers.set_view(HeaderId::kGrpcMessage, message);
}

// Ends it without a whole response: nothing better can be said any more.
void Stream::cut(ResponseFlag flag, std::string_view details) {
  info_.set(flag);
  if (info_.response_code_details.empty() || !local_) info_.response_code_details = details;
  worker_.shard().add(http_stats().rq_tx_reset);
  if (http::CodecStream* downstream = std::exchange(downstream_, nullptr); downstream != nullptr)
    downstream->reset(http::ResetReason::kLocalReset);
  finish();
}

// --- timeouts
// ----------------------------------------------------------------------------------------------------------

void Stream::set_idle_timeout(uint64_t ms) {
  touch();
  idle_ms_ = ms;
  if (idle_ms_ != 0) {
    worker_.loop().timers().arm(idle_timeout_, idle_ms_);
  } else {
    idle_timeout_.disarm();
  }
}

void Stream::on_idle_timeout() {
  const auto idle_ms = static_cast<uint64_t>(worker_.loop().now_ns() - active_ns_) / 1'000'000;
  if (idle_ms < idle_ms_) {  // too early: the rest, in eighths, so that few distinct durations come up
    const uint64_t eighth = std::max<uint64_t>(1, idle_ms_ / 8);
    worker_.loop().timers().arm(idle_timeout_, (idle_ms_ - idle_ms + eighth - 1) / eighth * eighth);
    return;
  }
  worker_.shard().add(http_stats().rq_idle_timeout);
  if (response_begun_) {
    cut(ResponseFlag::kStreamIdleTimeout, "stream_idle_timeout");
    return;
  }
  local_reply({.status = static_cast<uint16_t>(request_ended_ ? 504 : 408),
               .body = "stream timeout",
               .details = "stream_idle_timeout",
               .flags = static_cast<uint32_t>(ResponseFlag::kStreamIdleTimeout)});
}

void Stream::on_request_timeout() {
  worker_.shard().add(http_stats().rq_timeout);
  local_reply({.status = 408, .body = "request timeout", .details = "request_overall_timeout"});
}

// The route's max_stream_duration (a gRPC client's deadline, if the route looks at it), else the listener's.
void Stream::limit_duration() {
  uint64_t ms = hcm().max_stream_duration_ms;
  bool none = ms == 0;
  bool clients = false;
  const route::ForwardAction* const forward = match_.route == nullptr ? nullptr : match_.route->forward();
  if (forward != nullptr && forward->grpc_timeout_header_max_ms && client_timeout_ms_) {
    clients = true;
    none = false;
    const uint64_t most = *forward->grpc_timeout_header_max_ms;
    ms = most == 0 ? *client_timeout_ms_ : std::min(*client_timeout_ms_, most);
    ms -= std::min(ms, forward->grpc_timeout_header_offset_ms);
    set_grpc_timeout(*headers_[kRequest], ms);
  } else if (forward != nullptr && forward->max_stream_duration_ms) {
    ms = *forward->max_stream_duration_ms;
    none = ms == 0;
  }
  if (none) return duration_timeout_.disarm();
  ms = std::min(ms, event::TimerWheel::kMaxMs);
  duration_ends_ns_ = info_.start_ns + static_cast<int64_t>(ms) * kNsPerMs;
  // Clients' deadlines are all different: few distinct durations come up if a power of two is waited for first.
  worker_.loop().timers().arm(duration_timeout_, clients ? std::bit_floor(ms) : ms);
}

void Stream::on_max_duration() {
  if (const int64_t rest_ns = duration_ends_ns_ - worker_.loop().now_ns(); rest_ns > 0) {
    const auto rest_ms = static_cast<uint64_t>((rest_ns + kNsPerMs - 1) / kNsPerMs);
    worker_.loop().timers().arm(duration_timeout_, std::bit_floor(rest_ms));
    return;
  }
  worker_.shard().add(http_stats().rq_max_duration_reached);
  if (response_begun_) {
    cut(ResponseFlag::kDurationTimeout, "max_duration_timeout");
    return;
  }
  local_reply({.status = static_cast<uint16_t>(request_ended_ ? 504 : 408),
               .body = "downstream duration timeout",
               .details = "max_duration_timeout",
               .flags = static_cast<uint32_t>(ResponseFlag::kDurationTimeout),
               .grpc_status = kGrpcDeadlineExceeded});
}

// --- the end
// -----------------------------------------------------------------------------------------------------------

void Stream::finish() {
  if (finished_) return;
  finished_ = true;
  info_.end_ns = worker_.loop().now_ns();
  end_attempt(!response_ended_ || upstream_ != nullptr);
  if (!shadows_.empty()) shadows_.let_go();
  for (event::Timeout* t :
       {&idle_timeout_, &request_timeout_, &response_timeout_, &per_try_timeout_, &duration_timeout_, &retry_timer_})
    t->disarm();
  for (int i = 0; i < stage_count_; ++i) stages_[i].filter->on_finish();
  while (SideCall* call = calls_.front()) call->cancel();

  stats::Shard& shard = worker_.shard();
  const HttpStats& stats = http_stats();
  shard.dec(stats.rq_active);
  if (tunnel_) shard.dec(stats.cx_upgrades_active);
  shard.add(stats.rq_completed);
  if (const int c = info_.response_code / 100; c >= 1 && c <= 5) shard.add(stats.rq_class[c]);
  shard.record(stats.rq_time, ms_between(info_.start_ns, info_.end_ns));
  if (cluster_ != nullptr) {
    if (!local_ && member_ != nullptr) shard.record(member_->stats().rq_time, ms_between(info_.start_ns, info_.end_ns));
    leave();
    cluster_->drop();
  }
  log();
  upstream_metadata_ = {};
  --worker_.active_requests;
  downstream_ = nullptr;
  connection_.on_stream_finished(*this);
  worker_.retire(*this);
}

void Stream::log() {
  const auto& loggers = chain_->access_logs;
  if (loggers.empty()) return;
  const route::FormatContext context = format_context();
  for (const auto& logger : loggers) logger->log(worker_.index(), context);
}

route::FormatContext Stream::format_context() const {
  return {.request = headers_[kRequest],
          .response = headers_[kResponse],
          .response_trailers = trailers_[kResponse],
          .info = &info_,
          .cluster_metadata = cluster_ == nullptr ? nullptr : cluster_->cluster().spec().metadata.get(),
          .route_metadata = match_.route == nullptr ? nullptr : match_.route->metadata(),
          .virtual_host_metadata = match_.virtual_host == nullptr ? nullptr : match_.virtual_host->metadata(),
          .listener_metadata = chain_->spec.listener_metadata.get(),
          .upstream_metadata = upstream_metadata_.get()};
}

}  // namespace outrigger::proxy
