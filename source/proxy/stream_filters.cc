// The filter chain of a Stream: stages, holding, resuming; and StreamHandle's methods.
#include "proxy/downstream_connection.h"
#include "proxy/stream.h"

namespace outrigger {

namespace {
proxy::Stream& self(StreamHandle* handle) { return *static_cast<proxy::Stream*>(handle); }
const proxy::Stream& self(const StreamHandle* handle) { return *static_cast<const proxy::Stream*>(handle); }
}  // namespace

StreamInfo& StreamHandle::info() { return self(this).info_; }
Arena& StreamHandle::arena() { return self(this).arena_; }
HeaderMap& StreamHandle::request_headers() { return *self(this).headers_[proxy::Stream::kRequest]; }
HeaderMap* StreamHandle::response_headers() { return self(this).headers_[proxy::Stream::kResponse]; }
void StreamHandle::reply(const LocalReply& reply) { self(this).local_reply(reply); }
void StreamHandle::resume_request(Filter& who) { self(this).resume(proxy::Stream::kRequest, who); }
void StreamHandle::resume_response(Filter& who) { self(this).resume(proxy::Stream::kResponse, who); }
void StreamHandle::add_data(Buffer&& data) { self(this).added_.append(std::move(data)); }
GrpcCall* StreamHandle::begin_call(std::string_view cluster, GrpcCallHandler& handler, const GrpcCallOptions& options) {
  return self(this).begin_call(cluster, handler, options);
}
void StreamHandle::clear_route() { self(this).route_cleared_ = true; }
const FilterPart* StreamHandle::route_config(uint16_t filter_id) const {
  return self(this).match_.filter_config(filter_id);
}
void StreamHandle::for_each_route_config(uint16_t filter_id, const std::function<void(const FilterPart&)>& f) const {
  self(this).match_.for_each_filter_config(filter_id, f);
}
const void* StreamHandle::route() const { return static_cast<const config::RouteView*>(self(this).match_.route); }
int64_t StreamHandle::now_ns() const { return self(this).worker_.loop().now_ns(); }
uint64_t StreamHandle::random() { return self(this).random_; }
uint32_t StreamHandle::worker_index() const { return self(this).worker_.index(); }

namespace proxy {

GrpcCall* Stream::begin_call(std::string_view cluster, GrpcCallHandler& handler, const GrpcCallOptions& options) {
  SideCall* const call = SideCall::begin(worker_, cluster, pin_, handler, options);
  calls_.push_back(*call);
  return call;
}

bool Stream::make_filters() {
  const auto& entries = chain_->filters;
  if (entries.empty()) return true;
  stages_ = static_cast<Stage*>(arena_.try_allocate(sizeof(Stage) * entries.size(), alignof(Stage)));
  if (stages_ == nullptr) return false;
  for (const HttpChain::FilterEntry& entry : entries) {
    if (match_.filter_disabled(entry.id).value_or(entry.disabled)) continue;
    Filter* filter = entry.config->create(*this);
    if (filter == nullptr) return false;
    new (&stages_[stage_count_++]) Stage{filter, {nullptr, nullptr}};
  }
  return true;
}

Verdict Stream::call_headers(Direction d, Filter& f, bool end) {
  return d == kRequest ? f.on_request_headers(*headers_[d], end) : f.on_response_headers(*headers_[d], end);
}

Verdict Stream::call_data(Direction d, Filter& f, Buffer& data, bool end) {
  return d == kRequest ? f.on_request_data(data, end) : f.on_response_data(data, end);
}

Verdict Stream::call_trailers(Direction d, Filter& f, HeaderMap& trailers) {
  return d == kRequest ? f.on_request_trailers(trailers) : f.on_response_trailers(trailers);
}

Stream::Held* Stream::hold(Direction d, int at) { return stages_[at].held[d] = arena_.make<Held>(); }

void Stream::after_filter() {
  if (!route_cleared_ || finished_) return;
  route_cleared_ = false;
  match_route();
}

void Stream::pass_headers(Direction d, int at) {
  const bool end = d == kRequest ? head_ends_request_ : head_ends_response_;
  const int step = d == kRequest ? 1 : -1;
  for (; at >= 0 && at < stage_count_; at += step) {
    const Verdict verdict = call_headers(d, *stages_[at].filter, end);
    if (stopped(d)) return;
    if (d == kRequest) after_filter();
    if (verdict == Verdict::kContinue) continue;
    Held* held = hold(d, at);
    if (held == nullptr) return cut(ResponseFlag::kLocalReset, "stream_memory_exhausted");
    held->headers_wait = true;
    held->buffering = verdict == Verdict::kBuffer;
    held->end = held->end_seen = end;
    return;
  }
  if (d == kRequest) {
    route_headers(end);
  } else {
    send_headers(end);
  }
}

void Stream::pass_data(Direction d, int at, Buffer& data, bool end) {
  const int step = d == kRequest ? 1 : -1;
  for (; at >= 0 && at < stage_count_; at += step) {
    Stage& stage = stages_[at];
    if (Held* held = stage.held[d]; held != nullptr) {
      held->end = end;
      if (!held->buffering) {
        update_held(d, static_cast<int64_t>(data.size()));
        held->unseen.append(std::move(data));
        return;
      }
      update_held(d, static_cast<int64_t>(data.size()));
      held->seen.append(std::move(data));
      held->end_seen = end;
      const size_t before = held->seen.size();
      const Verdict verdict = call_data(d, *stage.filter, held->seen, end);
      if (stopped(d)) return;
      update_held(d, static_cast<int64_t>(held->seen.size()) - static_cast<int64_t>(before));
      if (verdict == Verdict::kPause) {
        held->buffering = false;
      } else if (verdict == Verdict::kContinue || end) {
        let_go(d, at);
      } else {
        held_too_much(d, *held);
      }
      return;
    }
    const Verdict verdict = call_data(d, *stage.filter, data, end);
    if (stopped(d)) return;
    if (verdict == Verdict::kContinue) continue;
    Held* held = hold(d, at);
    if (held == nullptr) return cut(ResponseFlag::kLocalReset, "stream_memory_exhausted");
    held->buffering = verdict == Verdict::kBuffer && !end;
    held->end = held->end_seen = end;
    update_held(d, static_cast<int64_t>(data.size()));
    held->seen.append(std::move(data));
    if (verdict == Verdict::kBuffer && end) let_go(d, at);
    return;
  }
  if (d == kRequest) {
    route_data(data, end);
  } else {
    send_data(data, end);
  }
}

void Stream::pass_trailers(Direction d, int at, HeaderMap& trailers) {
  const int step = d == kRequest ? 1 : -1;
  for (; at >= 0 && at < stage_count_; at += step) {
    Stage& stage = stages_[at];
    if (Held* held = stage.held[d]; held != nullptr) {
      held->trailers = &trailers;
      held->end = true;
      if (!held->buffering) return;
      held->trailers_seen = true;
      call_trailers(d, *stage.filter, trailers);
      if (stopped(d)) return;
      keep_added(d, *held);
      let_go(d, at);  // the end of the message lets a buffering filter go
      return;
    }
    const Verdict verdict = call_trailers(d, *stage.filter, trailers);
    if (stopped(d)) return;
    if (verdict == Verdict::kContinue) {
      if (added_.empty()) continue;
      Buffer added = std::move(added_);
      pass_data(d, at + step, added, false);
      if (stopped(d)) return;
      continue;
    }
    Held* held = hold(d, at);
    if (held == nullptr) return cut(ResponseFlag::kLocalReset, "stream_memory_exhausted");
    keep_added(d, *held);
    held->trailers = &trailers;
    held->trailers_seen = held->end = true;
    return;
  }
  if (d == kRequest) {
    route_trailers(trailers);
  } else {
    send_trailers(trailers);
  }
}

// What a filter has put before its trailers.
void Stream::keep_added(Direction d, Held& held) {
  update_held(d, static_cast<int64_t>(added_.size()));
  held.seen.append(std::move(added_));
}

void Stream::resume(Direction d, Filter& who) {
  for (int at = 0; at < stage_count_; ++at) {
    if (stages_[at].filter != &who) continue;
    if (stages_[at].held[d] != nullptr && !stopped(d)) let_go(d, at);
    return;
  }
}

// What stage `at` holds goes on: its head, what the filter has seen, then what it has not, by way of the filter.
void Stream::let_go(Direction d, int at) {
  Held* held = stages_[at].held[d];
  stages_[at].held[d] = nullptr;
  const int next = d == kRequest ? at + 1 : at - 1;
  if (d == kRequest) after_filter();
  update_held(d, -static_cast<int64_t>(held->seen.size() + held->unseen.size()));
  Buffer seen = std::move(held->seen), unseen = std::move(held->unseen);
  HeaderMap* trailers = held->trailers;
  const bool headers_wait = held->headers_wait, end = held->end, end_seen = held->end_seen,
             trailers_seen = held->trailers_seen;
  held->~Held();
  const bool more_data = !seen.empty() || !unseen.empty() || (end && trailers == nullptr && !headers_wait);
  if (headers_wait) {
    const bool ends_here = end && trailers == nullptr && seen.empty() && unseen.empty();
    (d == kResponse ? head_ends_response_ : head_ends_request_) = ends_here;
    pass_headers(d, next);
    if (stopped(d) || ends_here) return;
  }
  if (more_data) {
    const bool all_seen = end && trailers == nullptr && unseen.empty();
    if (!seen.empty() || (all_seen && end_seen)) {
      pass_data(d, next, seen, all_seen && end_seen);
      if (stopped(d) || (all_seen && end_seen)) return;
    }
    if (!unseen.empty() || (end && trailers == nullptr && !end_seen)) {
      pass_data(d, at, unseen, end && trailers == nullptr);
      if (stopped(d)) return;
    }
  }
  if (trailers != nullptr) pass_trailers(d, trailers_seen ? next : at, *trailers);
}

bool Stream::held_too_much(Direction d, Held&) {
  const uint32_t limit = connection_.buffer_limit();
  if (held_bytes_[d] <= limit) return false;
  if (d == kRequest) {
    worker_.shard().add(http_stats().rq_too_large);
    local_reply({.status = 413, .body = "Payload Too Large", .details = "request_payload_too_large"});
  } else {
    worker_.shard().add(http_stats().rs_too_large);
    cut(ResponseFlag::kLocalReset, "response_payload_too_large");
  }
  return true;
}

void Stream::update_held(Direction d, int64_t delta) {
  const uint32_t limit = connection_.buffer_limit();
  const bool was_above = held_bytes_[d] > limit;
  held_bytes_[d] = static_cast<size_t>(static_cast<int64_t>(held_bytes_[d]) + delta);
  const bool above = held_bytes_[d] > (was_above ? limit / 2 : limit);
  if (above == was_above) return;
  http::CodecStream* reader = d == kRequest ? downstream_ : upstream_;
  if (reader != nullptr) {
    if (above) {
      reader->pause_read(net::Pause::kBuffer);
    } else {
      reader->resume_read(net::Pause::kBuffer);
    }
  }
  for (int i = 0; i < stage_count_; ++i) {
    if (d == kRequest) {
      stages_[i].filter->on_request_watermark(above);
    } else {
      stages_[i].filter->on_response_watermark(above);
    }
  }
}

}  // namespace proxy
}  // namespace outrigger
