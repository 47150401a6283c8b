#include "proxy/downstream_connection.h"

#include <cstring>

#include "base/check.h"

namespace outrigger::proxy {
namespace {

constexpr uint64_t kFirstRequestMs = 1'000;  // how long a draining connection waits for its first request

http::H1Options h1_options(const ActiveChain& chain) {
  const config::HcmSpec& hcm = chain.linked.chain->spec.hcm;
  http::H1Options options;
  options.max_head_bytes = hcm.max_request_headers_kb * 1024;
  options.max_headers_count = hcm.max_headers_count;
  options.accept_http_10 = hcm.accept_http_10;
  options.default_host_for_http_10 = chain.default_host;
  options.allow_absolute_url = hcm.allow_absolute_url;
  options.enable_trailers = hcm.enable_trailers;
  return options;
}

}  // namespace

DownstreamConnection::DownstreamConnection(WorkerState& worker, ActiveChain& chain, int fd, const net::Address& local,
                                           const net::Address& remote, std::function<void()> on_gone)
    : worker_(worker),
      chain_(chain),
      idle_timeout_([](void* self) { static_cast<DownstreamConnection*>(self)->on_idle(); }, this),
      head_timeout_([](void* self) { static_cast<DownstreamConnection*>(self)->on_head_timeout(); }, this),
      drain_timeout_(
          [](void* self) {
            auto* c = static_cast<DownstreamConnection*>(self);
            if (c->stream_ == nullptr && !c->closed_) c->connection_->close(net::Close::kFlush);
          },
          this),
      on_gone_(std::move(on_gone)) {
  char buffer[net::Address::kMaxText];
  const auto put = [&](size_t at, size_t size) {
    const size_t room = sizeof(text_) - at;
    size = std::min(size, room);
    std::memcpy(text_ + at, buffer, size);
    return static_cast<uint8_t>(size);
  };
  remote_size_ = put(0, std::min<size_t>(remote.write_to(buffer), 56));
  local_size_ = put(remote_size_, std::min<size_t>(local.write_to(buffer), 56));
  ip_size_ = put(remote_size_ + local_size_, std::min<size_t>(remote.write_ip_to(buffer), 56));
  worker_.shard().add(stats().cx_total);
  worker_.shard().inc(stats().cx_active);
  ++chain_.count;
  chain_.connections.push_back(*this);
  connection_ = net::Connection::accept(
      worker_.loop(), fd, local, remote, *this,
      {.write_high_watermark = chain_.buffer_limit, .delayed_close_ms = hcm().delayed_close_timeout_ms});
  codec_ = http::make_h1_server_codec(*connection_, *this, h1_options(chain_));
  arm_idle();
}

DownstreamConnection::~DownstreamConnection() { CHECK(stream_ == nullptr); }

void DownstreamConnection::arm_idle() {
  if (hcm().idle_timeout_ms != 0) worker_.loop().timers().arm(idle_timeout_, hcm().idle_timeout_ms);
}

void DownstreamConnection::on_read(net::Connection&, Block* block, const char* data, size_t size) {
  codec_->on_read(block, data, size);
  if (closed_ || stream_ != nullptr) return;
  if (codec_->head_incomplete()) {
    idle_timeout_.disarm();
    if (!head_timeout_.armed() && hcm().request_headers_timeout_ms != 0)
      worker_.loop().timers().arm(head_timeout_, hcm().request_headers_timeout_ms);
  }
}

void DownstreamConnection::on_eof(net::Connection&) { codec_->on_eof(); }

void DownstreamConnection::on_write_watermark(net::Connection&, bool above) { codec_->on_write_watermark(above); }

http::StreamSink& DownstreamConnection::on_new_stream(http::CodecStream& codec_stream) {
  CHECK(stream_ == nullptr);
  idle_timeout_.disarm();
  head_timeout_.disarm();
  ++requests_;
  const bool last = hcm().max_requests_per_connection != 0 && requests_ >= hcm().max_requests_per_connection;
  if (draining_ || last || worker_.draining) codec_->drain();
  PinnedSnapshot* pin = chain_.kept != nullptr ? chain_.kept : worker_.current();
  ++pin->pins;
  stream_ = new (worker_.stream_memory()) Stream(worker_, *this, chain_.linked, pin, codec_stream);
  return *stream_;
}

void DownstreamConnection::on_stream_finished(Stream& stream) {
  CHECK(stream_ == &stream);
  stream_ = nullptr;
}

void DownstreamConnection::on_stream_end(bool reusable) {
  if (!reusable || closed_) return;
  if (draining_ || worker_.draining) {
    connection_->close(net::Close::kFlush);  // the drain began when the response's head had gone
  } else {
    arm_idle();
  }
}

void DownstreamConnection::on_idle() {
  worker_.shard().add(stats().cx_idle_timeout);
  connection_->close(net::Close::kFlush);
}

// A head that does not become whole: 408 and closed.
void DownstreamConnection::on_head_timeout() {
  if (stream_ != nullptr || closed_) return;
  worker_.shard().add(stats().rq_header_timeout);
  codec_->on_head_timeout();
}

void DownstreamConnection::drain(uint64_t delay_ms) {
  if (closed_ || draining_) return;
  draining_ = true;
  worker_.shard().add(stats().cx_drain_close);
  codec_->drain();
  if (stream_ != nullptr) return;
  // Somebody who has just come in may have a request on its way.
  if (requests_ == 0) delay_ms = std::max(delay_ms, kFirstRequestMs);
  if (delay_ms == 0 && codec_->idle()) {
    connection_->close(net::Close::kFlush);
  } else {
    worker_.loop().timers().arm(drain_timeout_, std::max<uint64_t>(1, delay_ms));
  }
}

void DownstreamConnection::close_now() {
  if (closed_) return;
  if (stream_ != nullptr) stream_->abort("connection_cut");
  connection_->close(net::Close::kNow);
}

void DownstreamConnection::on_close(net::Connection&, const Error*) {
  closed_ = true;
  idle_timeout_.disarm();
  head_timeout_.disarm();
  drain_timeout_.disarm();
  codec_->on_close();
  worker_.shard().dec(stats().cx_active);
  worker_.shard().add(stats().cx_destroy);
  unlink();
  --chain_.count;
  worker_.loop().defer_delete(std::unique_ptr<event::Deferred>(this));
  if (on_gone_) on_gone_();
}

}  // namespace outrigger::proxy
