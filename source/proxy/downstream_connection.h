// DownstreamConnection: one accepted connection: its codec, its streams, its timeouts; bound to a filter chain by
// identity. With codec_type AUTO the first bytes choose the codec: HTTP/2's preface (RFC 9113 section 3.4), or HTTP/1.
//
// ActiveChain is what a worker's connections of one chain share: the chain as the adopted snapshot has it. When a chain
// changes identity or goes, its ActiveChain drains: each connection ends after the request in hand, idle ones are
// spread over the drain time.
//
// Thread rule: the worker's thread. It frees itself after on_close.
// Use:  new DownstreamConnection(worker, active_chain, fd, local, remote);
#pragma once

#include <memory>
#include <string>

#include "base/list.h"
#include "event/timer.h"
#include "http/codec.h"
#include "net/connection.h"
#include "proxy/stream.h"
#include "proxy/worker_state.h"

namespace outrigger::proxy {

struct ChainConnectionTag;
class DownstreamConnection;

struct ActiveChain {
  LinkedChain linked;
  // While draining: the snapshot that `linked` belongs to. Otherwise nullptr: it belongs to the worker's adopted one.
  PinnedSnapshot* kept = nullptr;
  uint32_t buffer_limit = 1024 * 1024;
  std::string default_host;  // for HTTP/1.0; codecs keep a view of it
  bool draining = false;
  bool departed = false;  // to be erased when empty
  uint64_t count = 0;
  List<DownstreamConnection, ChainConnectionTag> connections;
};

class DownstreamConnection final : public net::ConnectionHandler,
                                   public http::CodecCallbacks,
                                   public event::Deferred,
                                   public ListNode<ChainConnectionTag> {
 public:
  DownstreamConnection(WorkerState& worker, ActiveChain& chain, int fd, const net::Address& local,
                       const net::Address& remote, std::function<void()> on_gone);
  ~DownstreamConnection() override;

  // Ends it when the request in hand is done; an idle one after `delay_ms`.
  void drain(uint64_t delay_ms);
  void close_now();

  // For Stream.
  uint64_t id() const { return connection_->id(); }
  const net::Address& remote() const { return connection_->remote(); }
  std::string_view remote_text() const { return {text_, remote_size_}; }
  std::string_view remote_ip() const { return {text_ + remote_size_ + local_size_, ip_size_}; }
  std::string_view local_text() const { return {text_ + remote_size_, local_size_}; }
  uint32_t buffer_limit() const { return chain_.buffer_limit; }
  void on_stream_finished(Stream& stream);

 private:
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
  std::unique_ptr<http::Codec> codec_;  // nullptr: the preface has not come, and nothing else
  net::Connection* connection_ = nullptr;
  List<Stream, ConnectionStreamTag> streams_;
  event::Timeout idle_timeout_;  // no request under way
  event::Timeout head_timeout_;  // a head is incomplete
  event::Timeout drain_timeout_;
  event::Timeout age_;  // max_connection_duration
  std::function<void()> on_gone_;
  uint32_t requests_ = 0;
  uint8_t sniffed_ = 0;  // bytes of the preface that have come, without a codec
  bool draining_ = false;
  bool closed_ = false;
  uint8_t remote_size_ = 0, local_size_ = 0, ip_size_ = 0;
  char text_[176];
};

}  // namespace outrigger::proxy
