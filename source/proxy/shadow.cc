#include "proxy/shadow.h"

#include <utility>

#include "base/check.h"
#include "proxy/aggregate.h"
#include "route/rewrite.h"

namespace outrigger::proxy {
namespace {

constexpr size_t kCompactStep = 64 * 1024;  // bytes

}  // namespace

Shadow::Shadow(WorkerState& worker, upstream::WorkerCluster& cluster, const ShadowOptions& options)
    : worker_(worker),
      cluster_(cluster),
      options_(options),
      compact_at_(kCompactStep),
      timeout_([](void* self) { static_cast<Shadow*>(self)->on_timeout(); }, this),
      start_ns_(worker.loop().now_ns()),
      end_(options.end) {
  cluster_.hold();
  worker_.shard().add(cluster_.stats().rq_total);
  worker_.shard().inc(cluster_.stats().rq_active);
}

Shadow::~Shadow() { CHECK(done_); }

HeaderMap* Shadow::copy(const HeaderMap& from) {
  HeaderMap* to = arena_.make<HeaderMap>(arena_);
  if (to == nullptr) return nullptr;
  from.for_each([&](const Header& field) { to->add_copy(field); });
  return to->overflowed() ? nullptr : to;
}

void Shadow::start(const HeaderMap& request, const upstream::HostSet::Entry& host) {
  head_ = copy(request);
  if (head_ == nullptr) return finish();
  if (options_.append_shadow) {
    const std::string_view shadow = route::shadow_host(head_->get(HeaderId::kAuthority), arena_);
    if (shadow.data() == nullptr) return finish();
    head_->set_view(HeaderId::kAuthority, shadow);
  }
  if (end_) request_whole();
  pool_ = &cluster_.pool(host, options_.http2_client);
  pool_->acquire(*this);
}

void Shadow::data(const Buffer& data, bool end) {
  if (done_) return;
  for (const Buffer::Slice& slice : data) waiting_.append_shared(slice.block, slice.data, slice.size);
  if (end) request_whole();
  flush();
  if (waiting_.size() > options_.buffer_limit) {
    worker_.shard().add(cluster_.stats().rq_shadow_overflow);
    return cut();
  }
  if (waiting_.size() < compact_at_) return;
  waiting_.compact();  // what waits long must not pin blocks that it hardly uses
  compact_at_ = waiting_.size() + kCompactStep;
}

void Shadow::trailers(const HeaderMap& trailers) {
  if (done_) return;
  trailers_ = copy(trailers);
  if (trailers_ == nullptr) return cut();
  request_whole();
  flush();
}

void Shadow::request_whole() {
  end_ = true;
  if (options_.timeout_ms != 0) worker_.loop().timers().arm(timeout_, options_.timeout_ms);
}

void Shadow::let_go() {
  attached_ = false;
  if (done_) {
    worker_.retire(*this);
  } else if (!end_) {
    cut();
  }
}

void Shadow::flush() {
  if (upstream_ == nullptr || end_sent_ || above_watermark_) return;
  const bool data_ends = end_ && trailers_ == nullptr;
  if (!waiting_.empty() || data_ends) {
    end_sent_ = data_ends;
    compact_at_ = kCompactStep;
    upstream_->encode_data(std::move(waiting_), data_ends);
  }
  if (end_ && !end_sent_) {
    end_sent_ = true;
    upstream_->encode_trailers(*trailers_);
  }
}

void Shadow::on_pool_ready(upstream::PooledConnection& connection) {
  pool_ = nullptr;
  upstream_ = &connection.start(*this);
  end_sent_ = end_ && waiting_.empty() && trailers_ == nullptr;
  upstream_->encode_headers(*head_, end_sent_);
  flush();
}

void Shadow::on_pool_failure(upstream::PoolFailure, std::string_view) {
  pool_ = nullptr;
  finish();
}

void Shadow::on_write_watermark(bool above) {
  above_watermark_ = above;
  flush();
}

void Shadow::on_headers(HeaderMap& headers, bool end_stream) {
  const std::string_view status = headers.get(HeaderId::kStatus);
  const int status_class = status.empty() ? 0 : status.front() - '0';
  if (status_class >= 1 && status_class <= 5) worker_.shard().add(cluster_.stats().rq_class[status_class]);
  worker_.shard().add(cluster_.stats().rq_completed);
  if (end_stream) answered();
}

void Shadow::on_data(Buffer&, bool end_stream) {
  if (end_stream) answered();
}

void Shadow::on_trailers(HeaderMap&) { answered(); }

// The codec forgets the stream, or closes its connection if the request was not whole.
void Shadow::answered() {
  upstream_ = nullptr;
  worker_.shard().record(cluster_.stats().rq_time, static_cast<double>(worker_.loop().now_ns() - start_ns_) / 1e6);
  finish();
}

void Shadow::on_reset(http::ResetReason reason, std::string_view) {
  upstream_ = nullptr;
  worker_.shard().add(cluster_.stats().rq_rx_reset);
  if (reason == http::ResetReason::kProtocolError || reason == http::ResetReason::kOverflow)
    worker_.shard().add(cluster_.stats().cx_protocol_error);
  finish();
}

void Shadow::on_timeout() {
  worker_.shard().add(cluster_.stats().rq_timeout);
  cut();
}

void Shadow::cut() {
  if (done_) return;
  if (upstream::HostPool* pool = std::exchange(pool_, nullptr); pool != nullptr) {
    worker_.shard().add(cluster_.stats().rq_cancelled);
    pool->cancel(*this);
  }
  if (http::CodecStream* upstream = std::exchange(upstream_, nullptr); upstream != nullptr) {
    worker_.shard().add(cluster_.stats().rq_tx_reset);
    upstream->reset(http::ResetReason::kLocalReset);
  }
  finish();
}

void Shadow::finish() {
  if (std::exchange(done_, true)) return;
  timeout_.disarm();
  waiting_.clear();
  worker_.shard().dec(cluster_.stats().rq_active);
  upstream::give(cluster_.cluster().state().requests);
  cluster_.drop();
  ListNode<ShadowTag>::unlink();
  if (!attached_) worker_.retire(*this);
}

void Shadows::start(WorkerState& worker, upstream::WorkerCluster& cluster, const PinnedSnapshot* pin,
                    const HeaderMap& request, const ShadowOptions& options) {
  const PickedHost picked = pick_host(worker, cluster, pin, nullptr);
  if (picked.host == nullptr) {
    worker.shard().add(cluster.stats().cx_none_healthy);
    return;
  }
  const upstream::Cluster& part = picked.cluster->cluster();
  if (!upstream::take(part.state().requests, part.spec().max_requests)) {
    worker.shard().add(part.stats().rq_pending_overflow);
    return;
  }
  Shadow* shadow = worker.make_shadow(*picked.cluster, options);
  shadow->next = std::exchange(first_, shadow);
  shadow->start(request, *picked.host);
}

void Shadows::let_go() {
  for (Shadow* at = std::exchange(first_, nullptr); at != nullptr;) std::exchange(at, at->next)->let_go();
}

}  // namespace outrigger::proxy
