// DownstreamConnection: one accepted connection: its codec, its streams, its timeouts; bound to a filter chain by
// identity. With codec_type AUTO the codec is what ALPN has agreed on, else what the first bytes are: HTTP/2's preface
// (RFC 9113 section 3.4), or HTTP/1.
// When its chain drains, it ends after the request in hand; idle ones are spread over the drain time.
//
// Thread rule: the worker's thread. It frees itself after on_close.
// Use:  new DownstreamConnection(worker, active_chain, std::move(accepted), on_gone);
#pragma once

#include <memory>
#include <string>

#include "event/timer.h"
#include "http/codec.h"
#include "net/connection.h"
#include "proxy/chain_connection.h"
#include "proxy/intake.h"
#include "proxy/stream.h"

namespace outrigger::proxy {

class DownstreamConnection final : public net::ConnectionHandler,
                                   public http::CodecCallbacks,
                                   public event::Deferred,
                                   public ChainConnection {
 public:
  DownstreamConnection(WorkerState& worker, ActiveChain& chain, Accepted accepted, std::function<void()> on_gone);
  ~DownstreamConnection() override;

  // Ends it when the request in hand is done; an idle one after `delay_ms`.
  void drain(uint64_t delay_ms) override;
  void close_now() override;

  // For Stream.
  uint64_t id() const { return connection_->id(); }
  const net::Address& remote() const { return connection_->remote(); }
  const net::Address& local() const { return connection_->local(); }
  std::string_view remote_text() const { return {text_.get(), remote_size_}; }
  std::string_view direct_remote_text() const {
    return direct_text_ == nullptr ? remote_text() : std::string_view(*direct_text_);
  }
  std::string_view remote_ip() const { return {text_.get() + remote_size_ + local_size_, ip_size_}; }
  std::string_view local_text() const { return {text_.get() + remote_size_, local_size_}; }
  // Where the client wanted to go, if the kernel redirected it here; nullptr if not.
  const net::Address* original_destination() const { return redirected_ ? &connection_->local() : nullptr; }
  // Of the clusters that tell their hosts who the client is; made when the first does.
  upstream::ClientPools& client_pools();
  uint32_t buffer_limit() const { return chain_.buffer_limit; }
  const TlsInfo* tls() const;  // nullptr: plain
  void on_stream_finished(Stream& stream);

 private:
  void on_connected(net::Connection&) override;
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
  void on_eof(net::Connection&) override;
  void on_write_watermark(net::Connection&, bool above) override;
  void on_close(net::Connection&, const Error* error) override;
  http::StreamSink& on_new_stream(http::CodecStream& stream) override;
  void on_stream_end(bool reusable) override;
  void make_codec(bool http2);
  bool sniff(const char* data, size_t size);
  bool http2() const { return codec_ != nullptr && codec_->protocol() == Protocol::kHttp2; }
  void on_idle();
  void on_drain_timeout();
  void on_head_timeout();
  void on_age();
  void arm_idle();
  const config::HcmSpec& hcm() const { return chain_.linked.chain->spec.hcm; }
  const HttpStats& stats() const { return *chain_.linked.chain->stats; }

  WorkerState& worker_;
  ActiveChain& chain_;
  // The codec counts in it; the chain's version that it was made of may go before the connection.
  std::unique_ptr<const http::H2Stats> h2_stats_;
  std::unique_ptr<http::Codec> codec_;  // nullptr: the preface has not come, and nothing else
  net::Connection* connection_ = nullptr;
  std::shared_ptr<const upstream::TlsContext> tls_;
  std::unique_ptr<upstream::ClientPools> client_pools_;
  std::unique_ptr<char[]> text_;                    // the client's address, ours, the client's without its port
  std::unique_ptr<const std::string> direct_text_;  // if the socket's peer is another than the client
  List<Stream, ConnectionStreamTag> streams_;
  event::Timeout idle_timeout_;  // no request under way
  event::Timeout head_timeout_;  // a head is incomplete, or the TLS handshake
  event::Timeout drain_timeout_;
  event::Timeout age_;  // max_connection_duration
  std::function<void()> on_gone_;
  uint32_t requests_ = 0;
  uint8_t sniffed_ = 0;  // bytes of the preface that have come, without a codec
  bool draining_ = false;
  bool closed_ = false;
  const bool redirected_;
  uint8_t remote_size_ = 0, local_size_ = 0, ip_size_ = 0;
};

}  // namespace outrigger::proxy
