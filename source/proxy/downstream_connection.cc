#include "proxy/downstream_connection.h"

#include <cstring>

#include "base/check.h"
#include "base/give_back.h"
#include "http/h1_codec.h"
#include "http/h2_codec.h"
#include "net/tls_session.h"
#include "upstream/h2_options.h"

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

http::H2Options h2_options(const ActiveChain& chain) {
  const config::HcmSpec& hcm = chain.linked.chain->spec.hcm;
  http::H2Options options = upstream::h2_options(hcm.http2, chain.buffer_limit);
  options.max_head_bytes = hcm.max_request_headers_kb * 1024;
  options.max_headers_count = hcm.max_headers_count;
  options.allow_connect = hcm.http2.allow_connect;
  return options;
}

}  // namespace

DownstreamConnection::DownstreamConnection(WorkerState& worker, ActiveChain& chain, Accepted accepted,
                                           std::function<void()> on_gone)
    : worker_(worker),
      chain_(chain),
      idle_timeout_([](void* self) { static_cast<DownstreamConnection*>(self)->on_idle(); }, this),
      head_timeout_([](void* self) { static_cast<DownstreamConnection*>(self)->on_head_timeout(); }, this),
      drain_timeout_([](void* self) { static_cast<DownstreamConnection*>(self)->on_drain_timeout(); }, this),
      age_([](void* self) { static_cast<DownstreamConnection*>(self)->on_age(); }, this),
      on_gone_(std::move(on_gone)),
      redirected_(accepted.redirected) {
  char text[3 * net::Address::kMaxText];
  remote_size_ = static_cast<uint8_t>(accepted.remote.write_to(text));
  local_size_ = static_cast<uint8_t>(accepted.local.write_to(text + remote_size_));
  ip_size_ = static_cast<uint8_t>(accepted.remote.write_ip_to(text + remote_size_ + local_size_));
  const size_t size = size_t{remote_size_} + local_size_ + ip_size_;
  text_ = std::make_unique_for_overwrite<char[]>(size);
  std::memcpy(text_.get(), text, size);
  if (accepted.direct_remote != accepted.remote)
    direct_text_ = std::make_unique<const std::string>(accepted.direct_remote.str());
  worker_.shard().add(stats().cx_total);
  worker_.shard().inc(stats().cx_active);
  ++chain_.count;
  chain_.connections.push_back(*this);
  const HttpChain& compiled = *chain_.linked.chain;
  tls_ = chain_.linked.tls;
  connection_ = net::Connection::accept(
      worker_.loop(), accepted.fd, accepted.local, accepted.remote, *this,
      {.write_high_watermark = chain_.buffer_limit, .delayed_close_ms = hcm().delayed_close_timeout_ms},
      tls_ == nullptr ? net::TlsSessionPtr() : tls_->server_session(), std::move(accepted.first));
  if (tls_ == nullptr) {
    if (hcm().codec != config::HcmSpec::Codec::kAuto) make_codec(hcm().codec == config::HcmSpec::Codec::kHttp2);
    arm_idle();
  } else if (compiled.spec.handshake_timeout_ms != 0) {
    worker_.loop().timers().arm(head_timeout_, compiled.spec.handshake_timeout_ms);
  }
  if (const uint64_t ms = hcm().max_connection_duration_ms; ms != 0) worker_.loop().timers().arm(age_, ms);
}

DownstreamConnection::~DownstreamConnection() { CHECK(streams_.empty()); }

void DownstreamConnection::make_codec(bool http2) {
  if (http2) {
    h2_stats_ = std::make_unique<const http::H2Stats>(stats().http2);
    codec_ = http::make_h2_server_codec(*connection_, *this, h2_options(chain_), {h2_stats_.get(), &worker_.shard()});
  } else {
    codec_ = http::make_h1_server_codec(*connection_, *this, h1_options(chain_));
  }
}

upstream::ClientPools& DownstreamConnection::client_pools() {
  if (client_pools_ == nullptr)
    client_pools_ = std::make_unique<upstream::ClientPools>(connection_->remote(), connection_->local());
  return *client_pools_;
}

const TlsInfo* DownstreamConnection::tls() const {
  return connection_->tls() == nullptr ? nullptr : &connection_->tls()->info();
}

// The TLS handshake is done.
void DownstreamConnection::on_connected(net::Connection&) {
  head_timeout_.disarm();
  chain_.linked.chain->transport_stats->tls.count_handshake(worker_.shard(), *connection_->tls());
  const std::string& agreed = tls()->alpn;
  using Codec = config::HcmSpec::Codec;
  if (hcm().codec != Codec::kAuto || !agreed.empty())
    make_codec(hcm().codec == Codec::kHttp2 || (hcm().codec == Codec::kAuto && agreed == "h2"));
  arm_idle();
}

// Whether there is a codec now. Bytes that may still become the preface are not kept: they are the preface's.
bool DownstreamConnection::sniff(const char* data, size_t size) {
  const std::string_view rest = http::kH2Preface.substr(sniffed_);
  const std::string_view bytes(data, std::min(size, rest.size()));
  const bool so_far = rest.starts_with(bytes);
  if (so_far && bytes.size() < rest.size()) {
    sniffed_ = static_cast<uint8_t>(sniffed_ + bytes.size());
    return false;
  }
  make_codec(so_far);
  if (sniffed_ != 0) codec_->on_read(nullptr, http::kH2Preface.data(), sniffed_);
  return true;
}

void DownstreamConnection::arm_idle() {
  if (hcm().idle_timeout_ms != 0) worker_.loop().timers().arm(idle_timeout_, hcm().idle_timeout_ms);
}

void DownstreamConnection::on_read(net::Connection&, Block* block, const char* data, size_t size) {
  if (codec_ != nullptr || sniff(data, size)) codec_->on_read(block, data, size);
  if (closed_) return;
  if (codec_ == nullptr || codec_->head_incomplete()) {
    idle_timeout_.disarm();
    if (!head_timeout_.armed() && hcm().request_headers_timeout_ms != 0)
      worker_.loop().timers().arm(head_timeout_, hcm().request_headers_timeout_ms);
  } else if (head_timeout_.armed()) {  // HTTP/2: a preface, a head that was reset; a request disarms by itself
    head_timeout_.disarm();
    if (streams_.empty()) arm_idle();
  }
}

void DownstreamConnection::on_eof(net::Connection&) {
  if (codec_ != nullptr) return codec_->on_eof();
  connection_->close(net::Close::kFlush);
}

void DownstreamConnection::on_write_watermark(net::Connection&, bool above) {
  if (codec_ != nullptr) codec_->on_write_watermark(above);
}

http::StreamSink& DownstreamConnection::on_new_stream(http::CodecStream& codec_stream) {
  idle_timeout_.disarm();
  head_timeout_.disarm();
  ++requests_;
  const uint32_t most = hcm().max_requests_per_connection;
  const bool last = most != 0 && requests_ >= most;
  if (last && requests_ == most) worker_.shard().add(stats().cx_max_requests_reached);
  if (draining_ || last || worker_.draining) codec_->drain();
  PinnedSnapshot* pin = chain_.kept != nullptr ? chain_.kept : worker_.current();
  ++pin->pins;
  Stream* const stream = new (worker_.stream_memory()) Stream(worker_, *this, chain_.linked, pin, codec_stream);
  streams_.push_back(*stream);
  return *stream;
}

void DownstreamConnection::on_stream_finished(Stream& stream) {
  static_cast<ListNode<ConnectionStreamTag>&>(stream).unlink();
}

void DownstreamConnection::on_stream_end(bool reusable) {
  if (!reusable || closed_ || !codec_->idle()) return;
  if (!draining_ && !worker_.draining) {
    arm_idle();
  } else if (!http2()) {
    connection_->close(net::Close::kFlush);  // the drain began when the response's head had gone
  }
}

void DownstreamConnection::on_idle() {
  worker_.shard().add(stats().cx_idle_timeout);
  if (codec_ != nullptr) return codec_->close_idle();
  connection_->close(net::Close::kFlush);
}

// A handshake, head or preface that does not become whole.
void DownstreamConnection::on_head_timeout() {
  if (closed_) return;
  if (tls_ != nullptr && !connection_->tls()->handshake_done()) {
    worker_.shard().add(chain_.linked.chain->transport_stats->connect_timeout);
    return connection_->close(net::Close::kNow);
  }
  worker_.shard().add(stats().rq_header_timeout);
  if (codec_ != nullptr) return codec_->on_head_timeout();
  connection_->close(net::Close::kFlush);
}

void DownstreamConnection::drain(uint64_t delay_ms) {
  if (closed_ || draining_) return;
  draining_ = true;
  worker_.shard().add(stats().cx_drain_close);
  if (codec_ != nullptr && (!http2() || delay_ms == 0)) codec_->drain();
  if (http2() ? delay_ms == 0 : !streams_.empty()) return;
  // Somebody who has just come in may have a request on its way.
  if (requests_ == 0) delay_ms = std::max(delay_ms, kFirstRequestMs);
  if (delay_ms == 0 && codec_->idle()) {
    connection_->close(net::Close::kFlush);
  } else {
    worker_.loop().timers().arm(drain_timeout_, std::max<uint64_t>(1, delay_ms));
  }
}

// HTTP/2: says goodbye now, whether idle or not, and closes by itself. HTTP/1: an idle connection ends.
void DownstreamConnection::on_drain_timeout() {
  if (closed_) return;
  if (http2()) return codec_->drain();
  if (streams_.empty()) connection_->close(net::Close::kFlush);
}

// It takes no new requests, and ends with those that it has.
void DownstreamConnection::on_age() {
  if (closed_) return;
  worker_.shard().add(stats().cx_max_duration_reached);
  drain(0);
}

void DownstreamConnection::close_now() {
  if (closed_) return;
  streams_.for_each([](Stream& stream) { stream.abort("connection_cut"); });
  connection_->close(net::Close::kNow);
}

void DownstreamConnection::on_close(net::Connection&, const Error*) {
  closed_ = true;
  idle_timeout_.disarm();
  head_timeout_.disarm();
  drain_timeout_.disarm();
  age_.disarm();
  if (codec_ != nullptr) codec_->on_close();
  client_pools_.reset();
  if (tls_ != nullptr) {
    chain_.linked.chain->transport_stats->tls.count_end(worker_.shard(), *connection_->tls());
    give_back(tls_, chain_.linked.tls, worker_);
  }
  worker_.shard().dec(stats().cx_active);
  worker_.shard().add(stats().cx_destroy);
  unlink();
  --chain_.count;
  worker_.loop().defer_delete(std::unique_ptr<event::Deferred>(this));
  if (on_gone_) on_gone_();
}

}  // namespace outrigger::proxy
