// Shadow: the copy of a request that goes to a mirror cluster (RouteAction.request_mirror_policies). Its answer is
// thrown away, and nothing that becomes of it is felt by the request: a mirror that does not keep up is cut off.
//
//   head (copied), body (blocks shared), trailers (copied) --> waiting --a connection--> sending --> answering --> done
//   A failure, the timeout, or more waiting bytes than the buffer limit: done at once.
//
// The Stream's Shadows feed it and let go of it when the request ends: a shadow whose request is whole by then goes on
// by itself until its answer has come; another one is cut.
//
// Thread rule: the worker's thread. Recycled memory, destroyed at the turn's end after it is done.
// Use:  see Stream::start_shadows.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/list.h"
#include "event/timer.h"
#include "http/codec.h"
#include "outrigger/arena.h"
#include "proxy/worker_state.h"
#include "upstream/worker_clusters.h"

namespace outrigger::proxy {

struct ShadowOptions {
  bool append_shadow = true;  // to the host
  bool end = false;           // the head is all of the request
  bool http2_client = false;  // which version of HTTP a cluster gets that speaks the client's
  size_t buffer_limit = 0;    // bytes that may wait for the mirror
  uint64_t timeout_ms = 0;    // from the request's end to the answer's; 0: none
};

class Shadow final : public http::StreamSink, public upstream::PoolClient, public ListNode<ShadowTag> {
 public:
  // `host` is of `cluster`, which has counted the request in its max_requests.
  Shadow(WorkerState& worker, upstream::WorkerCluster& cluster, const ShadowOptions& options);
  ~Shadow();
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  void start(const HeaderMap& request, const upstream::HostSet::Entry& host);
  void data(const Buffer& data, bool end);  // shares its blocks
  void trailers(const HeaderMap& trailers);
  // The request has ended; nothing more comes.
  void let_go();
  // Ends it now.
  void cut();

  Shadow* next = nullptr;  // of the same request

 private:
  Arena& arena() override { return arena_; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap& headers, bool end_stream) override;
  void on_data(Buffer& data, bool end_stream) override;
  void on_trailers(HeaderMap& trailers) override;
  void on_bad_request(uint16_t, std::string_view) override {}
  void on_reset(http::ResetReason reason, std::string_view details) override;
  void on_write_watermark(bool above) override;
  void on_pool_ready(upstream::PooledConnection& connection) override;
  void on_pool_failure(upstream::PoolFailure why, std::string_view details) override;

  HeaderMap* copy(const HeaderMap& from);
  void request_whole();
  void flush();
  void on_timeout();
  void answered();
  void finish();

  WorkerState& worker_;
  upstream::WorkerCluster& cluster_;
  const ShadowOptions options_;
  Arena arena_;
  HeaderMap* head_ = nullptr;
  HeaderMap* trailers_ = nullptr;
  Buffer waiting_;  // for the mirror to take it
  size_t compact_at_;
  upstream::HostPool* pool_ = nullptr;  // where this waits
  http::CodecStream* upstream_ = nullptr;
  event::Timeout timeout_;
  int64_t start_ns_;
  bool attached_ = true;  // the request may still feed it
  bool end_;              // the request is whole
  bool end_sent_ = false;
  bool above_watermark_ = false;
  bool done_ = false;
};

// The shadows of one request.
class Shadows {
 public:
  bool empty() const { return first_ == nullptr; }
  // A copy to `cluster`; none if that has no host or no room.
  void start(WorkerState& worker, upstream::WorkerCluster& cluster, const PinnedSnapshot* pin, const HeaderMap& request,
             const ShadowOptions& options);
  void data(const Buffer& data, bool end) {
    for (Shadow* at = first_; at != nullptr; at = at->next) at->data(data, end);
  }
  void trailers(const HeaderMap& trailers) {
    for (Shadow* at = first_; at != nullptr; at = at->next) at->trailers(trailers);
  }
  void let_go();

 private:
  Shadow* first_ = nullptr;
};

}  // namespace outrigger::proxy
