#include "proxy/side_call.h"

#include <algorithm>

#include "base/check.h"
#include "base/grpc.h"
#include "base/hash.h"
#include "proxy/aggregate.h"

namespace outrigger {

void GrpcCall::send(Buffer&& message, bool last) {
  static_cast<proxy::SideCall*>(this)->send(std::move(message), last);
}
void GrpcCall::end() { static_cast<proxy::SideCall*>(this)->end(); }
void GrpcCall::cancel() { static_cast<proxy::SideCall*>(this)->cancel(); }
size_t GrpcCall::write_queue_bytes() const { return static_cast<const proxy::SideCall*>(this)->write_queue_bytes(); }

}  // namespace outrigger

namespace outrigger::proxy {

SideCall* SideCall::begin(WorkerState& worker, std::string_view cluster, const PinnedSnapshot* pin,
                          GrpcCallHandler& handler, const GrpcCallOptions& options) {
  SideCall* call = worker.make_call(handler, options.max_message_bytes);
  call->start(cluster, pin, options);
  return call;
}

SideCall::SideCall(WorkerState& worker, GrpcCallHandler& handler, size_t max_message_bytes)
    : worker_(worker),
      handler_(&handler),
      max_message_bytes_(max_message_bytes),
      timer_([](void* self) { static_cast<SideCall*>(self)->on_timer(); }, this),
      start_ns_(worker.loop().now_ns()) {}

SideCall::~SideCall() { CHECK(handler_ == nullptr && cluster_ == nullptr); }

void SideCall::start(std::string_view cluster, const PinnedSnapshot* pin, const GrpcCallOptions& options) {
  if (!make_head(cluster, options)) return fail_soon(kGrpcResourceExhausted, "the call's headers are too large");
  upstream::WorkerCluster* const named = worker_.find_cluster(cluster, content_hash(cluster), pin);
  if (named == nullptr) return fail_soon(kGrpcUnavailable, "there is no such cluster");
  const PickedHost picked = pick_host(worker_, *named, pin, nullptr);
  if (picked.host == nullptr) {
    worker_.shard().add(named->stats().cx_none_healthy);
    return fail_soon(kGrpcUnavailable, "the cluster has no healthy host");
  }
  const upstream::Cluster& part = picked.cluster->cluster();
  if (part.spec().codec == config::ClusterSpec::Codec::kHttp1)
    return fail_soon(kGrpcUnavailable, "the cluster speaks HTTP/1, and gRPC needs HTTP/2");
  if (!upstream::take(part.state().requests, part.spec().max_requests)) {
    worker_.shard().add(part.stats().rq_pending_overflow);
    return fail_soon(kGrpcUnavailable, "the cluster is at its max_requests");
  }
  cluster_ = picked.cluster;
  cluster_->hold();
  worker_.shard().add(cluster_->stats().rq_total);
  worker_.shard().inc(cluster_->stats().rq_active);
  if (options.timeout_ms != 0) worker_.loop().timers().arm(timer_, options.timeout_ms);
  pool_ = &cluster_->pool(*picked.host, true);
  pool_->acquire(*this);
}

bool SideCall::make_head(std::string_view cluster, const GrpcCallOptions& options) {
  head_ = arena_.make<HeaderMap>(arena_);
  if (head_ == nullptr) return false;
  head_->set_view(HeaderId::kMethod, "POST");
  head_->set_view(HeaderId::kScheme, "http");
  head_->add(HeaderId::kPath, options.path);
  head_->add(HeaderId::kAuthority, options.authority.empty() ? cluster : options.authority);
  head_->set_view(HeaderId::kTe, "trailers");
  head_->set_view(HeaderId::kContentType, "application/grpc");
  if (options.timeout_ms != 0) set_grpc_timeout(*head_, options.timeout_ms);
  for (const auto& [name, value] : options.metadata) head_->add(name, value);
  return !head_->overflowed();
}

// ---- what we say

void SideCall::send(Buffer&& message, bool last) {
  if (handler_ == nullptr || end_) return message.clear();
  char head[http::GrpcFrames::kHeadBytes];
  http::GrpcFrames::write_head(head, 0, static_cast<uint32_t>(message.size()));
  waiting_.append(std::string_view(head, sizeof(head)));
  waiting_.append(std::move(message));
  end_ = last;
  flush();
}

void SideCall::end() {
  end_ = true;
  flush();
}

size_t SideCall::write_queue_bytes() const {
  return waiting_.size() + (upstream_ == nullptr ? 0 : upstream_->write_queue_bytes());
}

void SideCall::flush() {
  if (failed_status_ != 0) return waiting_.clear();  // what is still sent goes nowhere
  if (upstream_ == nullptr || end_sent_ || (waiting_.empty() && !end_)) return;
  end_sent_ = end_;
  upstream_->encode_data(std::move(waiting_), end_);
}

void SideCall::on_pool_ready(upstream::PooledConnection& connection) {
  pool_ = nullptr;
  upstream_ = &connection.start(*this);
  if (upstream_->protocol() != Protocol::kHttp2) return fail_soon(kGrpcUnavailable, "the host does not speak HTTP/2");
  if (cluster_->cluster().tls() != nullptr) head_->set_view(HeaderId::kScheme, "https");
  upstream_->encode_headers(*head_, false);
  flush();
}

void SideCall::on_pool_failure(upstream::PoolFailure why, std::string_view) {
  pool_ = nullptr;
  // From inside begin() it is too early to tell.
  fail_soon(kGrpcUnavailable, why == upstream::PoolFailure::kOverflow         ? "the cluster is at its limits"
                              : why == upstream::PoolFailure::kConnectTimeout ? "connecting took too long"
                                                                              : "the host cannot be reached");
}

// ---- what the service says

void SideCall::on_headers(HeaderMap& headers, bool end_stream) {
  const std::string_view status = headers.get(HeaderId::kStatus);
  for (const char digit : status) http_status_ = static_cast<uint16_t>(http_status_ * 10 + (digit - '0'));
  const int status_class = http_status_ / 100;
  if (status_class >= 1 && status_class <= 5) worker_.shard().add(cluster_->stats().rq_class[status_class]);
  worker_.shard().add(cluster_->stats().rq_completed);
  if (end_stream) return answered(headers);
  if (http_status_ != 200 || !is_grpc(headers.get(HeaderId::kContentType)))
    finish(grpc_status_of_http(http_status_), "the answer is not gRPC's");
}

void SideCall::on_data(Buffer& data, bool end_stream) {
  while (!data.empty() && handler_ != nullptr) {
    const Buffer::Slice slice = *data.begin();
    bool ended = false;
    const size_t taken = frames_.next(slice.view(), ended);
    data.move_front(taken, message_);
    if (head_left_ == http::GrpcFrames::kHeadBytes && message_.begin()->data[0] != 0)
      return finish(kGrpcInternal, "a message is compressed, which nobody asked for");
    const size_t head = std::min(head_left_, message_.size());
    message_.consume(head);
    head_left_ -= head;
    if (message_.size() > max_message_bytes_) return finish(kGrpcResourceExhausted, "a message is too large");
    if (!ended) continue;
    head_left_ = http::GrpcFrames::kHeadBytes;
    Buffer whole = std::move(message_);
    handler_->on_message(whole);
  }
  if (!end_stream || handler_ == nullptr) return;
  if (end_sent_) upstream_ = nullptr;
  finish(kGrpcInternal, "the answer ends without a status");
}

void SideCall::on_trailers(HeaderMap& trailers) {
  if (handler_ != nullptr) answered(trailers);
}

void SideCall::answered(const HeaderMap& with_status) {
  if (end_sent_) upstream_ = nullptr;  // both directions have ended: the codec has forgotten it
  const auto status = grpc_status_of(with_status);
  if (!frames_.between()) return finish(kGrpcInternal, "the answer ends in the middle of a message");
  if (!status) return finish(grpc_status_of_http(http_status_), "the answer has no grpc-status");
  worker_.shard().record(cluster_->stats().rq_time, static_cast<double>(worker_.loop().now_ns() - start_ns_) / 1e6);
  finish(*status, with_status.get(HeaderId::kGrpcMessage));
}

void SideCall::on_reset(http::ResetReason reason, std::string_view) {
  upstream_ = nullptr;
  worker_.shard().add(cluster_->stats().rq_rx_reset);
  const bool broken = reason == http::ResetReason::kProtocolError || reason == http::ResetReason::kOverflow;
  if (broken) worker_.shard().add(cluster_->stats().cx_protocol_error);
  finish(broken ? kGrpcInternal : kGrpcUnavailable,
         broken ? "the service breaks the protocol" : "the call was cut off");
}

// ---- the end

void SideCall::on_timer() {
  if (failed_status_ != 0) return finish(failed_status_, failed_message_);
  worker_.shard().add(cluster_->stats().rq_timeout);
  finish(kGrpcDeadlineExceeded, "the deadline is over");
}

// Not from inside begin(), whose caller does not know the call yet.
void SideCall::fail_soon(uint32_t status, std::string_view message) {
  failed_status_ = status;
  failed_message_ = message;
  worker_.loop().timers().arm(timer_, 1);
}

// Gives back all that it holds of the cluster.
void SideCall::leave() {
  timer_.disarm();
  waiting_.clear();
  message_.clear();
  if (cluster_ == nullptr) return;
  if (upstream::HostPool* pool = std::exchange(pool_, nullptr); pool != nullptr) {
    worker_.shard().add(cluster_->stats().rq_cancelled);
    pool->cancel(*this);
  }
  if (http::CodecStream* upstream = std::exchange(upstream_, nullptr); upstream != nullptr) {
    worker_.shard().add(cluster_->stats().rq_tx_reset);
    upstream->reset(http::ResetReason::kLocalReset);
  }
  worker_.shard().dec(cluster_->stats().rq_active);
  upstream::give(cluster_->cluster().state().requests);
  std::exchange(cluster_, nullptr)->drop();
}

void SideCall::finish(uint32_t status, std::string_view message) {
  GrpcCallHandler* const handler = std::exchange(handler_, nullptr);
  if (handler == nullptr) return;
  leave();
  ListNode<SideCallTag>::unlink();
  ListNode<StreamCallTag>::unlink();
  worker_.retire(*this);
  handler->on_end(status, message);
}

void SideCall::cut() { finish(kGrpcUnavailable, "the proxy is shutting down"); }

void SideCall::cancel() {
  if (std::exchange(handler_, nullptr) == nullptr) return;
  leave();
  ListNode<SideCallTag>::unlink();
  ListNode<StreamCallTag>::unlink();
  worker_.retire(*this);
}

}  // namespace outrigger::proxy
