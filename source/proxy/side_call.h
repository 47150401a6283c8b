// SideCall: the body of GrpcCall (api/outrigger/grpc_call.h has its states): a gRPC call of our own by way of a
// cluster's pools.
//
// Thread rule: the worker's thread. Recycled memory, destroyed at the turn's end after it is over.
// Use:  SideCall* call = SideCall::begin(worker, "authz", pin, handler, {.path = "/package.Service/Method"});
#pragma once

#include <cstdint>
#include <string_view>

#include "base/list.h"
#include "event/timer.h"
#include "http/codec.h"
#include "http/grpc_frames.h"
#include "outrigger/arena.h"
#include "outrigger/grpc_call.h"
#include "proxy/worker_state.h"
#include "upstream/worker_clusters.h"

namespace outrigger::proxy {

class SideCall final : public GrpcCall,
                       public http::StreamSink,
                       public upstream::PoolClient,
                       public ListNode<SideCallTag>,
                       public ListNode<StreamCallTag> {
 public:
  // Never nullptr. If the call cannot be made, on_end says so, later, from the loop.
  static SideCall* begin(WorkerState& worker, std::string_view cluster, const PinnedSnapshot* pin,
                         GrpcCallHandler& handler, const GrpcCallOptions& options);
  // For WorkerState.
  SideCall(WorkerState& worker, GrpcCallHandler& handler, size_t max_message_bytes);
  ~SideCall();
  SideCall(const SideCall&) = delete;
  SideCall& operator=(const SideCall&) = delete;

  void send(Buffer&& message, bool last);
  void end();
  void cancel();
  // The worker ends: UNAVAILABLE.
  void cut();
  size_t write_queue_bytes() const;

 private:
  Arena& arena() override { return arena_; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap& headers, bool end_stream) override;
  void on_data(Buffer& data, bool end_stream) override;
  void on_trailers(HeaderMap& trailers) override;
  void on_bad_request(uint16_t, std::string_view) override {}
  void on_reset(http::ResetReason reason, std::string_view details) override;
  void on_write_watermark(bool) override {}
  void on_pool_ready(upstream::PooledConnection& connection) override;
  void on_pool_failure(upstream::PoolFailure why, std::string_view details) override;

  void start(std::string_view cluster, const PinnedSnapshot* pin, const GrpcCallOptions& options);
  bool make_head(std::string_view cluster, const GrpcCallOptions& options);
  void flush();
  void on_timer();
  void fail_soon(uint32_t status, std::string_view message);
  void answered(const HeaderMap& with_status);
  void leave();
  void finish(uint32_t status, std::string_view message);

  WorkerState& worker_;
  GrpcCallHandler* handler_;  // nullptr: it is over
  const size_t max_message_bytes_;
  Arena arena_;
  HeaderMap* head_ = nullptr;
  upstream::WorkerCluster* cluster_ = nullptr;  // held; an aggregate's member
  upstream::HostPool* pool_ = nullptr;          // where this waits
  http::CodecStream* upstream_ = nullptr;
  Buffer waiting_;  // frames, before there is a connection
  Buffer message_;  // of the service, not whole yet
  http::GrpcFrames frames_;
  event::Timeout timer_;  // the deadline, or a failure that is to be told
  int64_t start_ns_;
  uint32_t failed_status_ = 0;  // to be told
  std::string_view failed_message_;
  uint16_t http_status_ = 0;
  size_t head_left_ = http::GrpcFrames::kHeadBytes;  // of the frame's head, that are to be taken off
  bool end_ = false;                                 // we have said all
  bool end_sent_ = false;
};

}  // namespace outrigger::proxy
