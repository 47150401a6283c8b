// Stream: one request and its response: filter chain, routing decision, upstream attempts, timeouts, and the one end
// (finish) where stats and access logs are written.
//
//   request:   codec -> on_headers/on_data/on_trailers -> filters first..last -> router -> upstream codec
//   response:  upstream codec (or a local reply) -> filters last..first -> downstream codec
//
// Each filter is a stage. A stage that answered Pause or Buffer holds what has arrived for it (Held); several may hold
// at once. What is held counts against the buffer limit and pauses its named reader (source/docs/flow_control.md).
//
// Thread rule: the worker's thread. Made in WorkerState::stream_memory(), destroyed at the turn's end after finish().
// Use:  see DownstreamConnection::on_new_stream.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/list.h"
#include "event/timer.h"
#include "http/codec.h"
#include "outrigger/filter.h"
#include "proxy/shadow.h"
#include "proxy/side_call.h"
#include "proxy/worker_state.h"
#include "route/route_table.h"
#include "upstream/worker_clusters.h"

namespace outrigger::proxy {

class DownstreamConnection;
struct UpstreamFailure;  // stream_upstream.cc
struct ConnectionStreamTag;

class Stream final : public StreamHandle,
                     public http::StreamSink,
                     public upstream::PoolClient,
                     public ListNode<ConnectionStreamTag> {
 public:
  // `chain` is of the snapshot that `pin` holds; the stream takes the pin over.
  Stream(WorkerState& worker, DownstreamConnection& connection, const LinkedChain& chain, PinnedSnapshot* pin,
         http::CodecStream& downstream);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The downstream codec's events.
  Arena& arena() override { return arena_; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap& headers, bool end_stream) override;
  void on_data(Buffer& data, bool end_stream) override;
  void on_trailers(HeaderMap& trailers) override;
  void on_bad_request(uint16_t status, std::string_view details) override;
  void on_reset(http::ResetReason reason, std::string_view details) override;
  void on_write_watermark(bool above) override;

  // Cuts it (a drain whose time is over, shutdown).
  void abort(std::string_view details);

  StreamInfo& stream_info() { return info_; }

 private:
  friend class outrigger::StreamHandle;
  static constexpr uint32_t kMaxFilters = 64;

  // The other side's codec events.
  struct UpstreamSink final : http::StreamSink {
    explicit UpstreamSink(Stream& s) : stream(s) {}
    Stream& stream;
    Arena& arena() override { return stream.arena_; }
    void on_1xx(HeaderMap& headers) override { stream.upstream_1xx(headers); }
    void on_headers(HeaderMap& headers, bool end_stream) override { stream.upstream_headers(headers, end_stream); }
    void on_data(Buffer& data, bool end_stream) override { stream.upstream_data(data, end_stream); }
    void on_trailers(HeaderMap& trailers) override { stream.upstream_trailers(trailers); }
    void on_bad_request(uint16_t, std::string_view) override {}
    void on_reset(http::ResetReason reason, std::string_view details) override {
      stream.upstream_reset(reason, details);
    }
    void on_write_watermark(bool above) override { stream.upstream_watermark(above); }
  };

  // What a stage has received and not passed on.
  struct Held {
    bool buffering = false;     // the filter answered Buffer: body events go on reaching it
    bool headers_wait = false;  // the head has still to reach the next stage
    bool end = false;           // the end has arrived here
    bool end_seen = false;      // ... and the filter has seen it
    Buffer seen, unseen;        // by the filter
    HeaderMap* trailers = nullptr;
    bool trailers_seen = false;
  };
  struct Stage {
    Filter* filter = nullptr;
    Held* held[2] = {nullptr, nullptr};  // request, response
  };
  enum Direction : uint8_t { kRequest = 0, kResponse = 1 };

  // filter_chain: stage indexes run 0..stage_count_-1 in chain order; request events go up, response events down.
  bool make_filters();
  void pass_headers(Direction d, int at);
  void pass_data(Direction d, int at, Buffer& data, bool end);
  void pass_trailers(Direction d, int at, HeaderMap& trailers);
  void resume(Direction d, Filter& who);
  void let_go(Direction d, int at);
  Verdict call_headers(Direction d, Filter& f, bool end);
  Verdict call_data(Direction d, Filter& f, Buffer& data, bool end);
  Verdict call_trailers(Direction d, Filter& f, HeaderMap& trailers);
  Held* hold(Direction d, int at);
  bool stopped(Direction d) const { return finished_ || (d == kRequest && request_stopped_); }
  void after_filter();  // clear_route() takes effect
  bool refuses_upgrade();
  bool held_too_much(Direction d, Held& held);
  void update_held(Direction d, int64_t delta);
  void keep_added(Direction d, Held& held);

  // router: the end of the request direction, the beginning of the response direction.
  void route_headers(bool end);
  void route_data(Buffer& data, bool end);
  void route_trailers(HeaderMap& trailers);
  void match_route();
  void forward(const route::ForwardAction& action, bool end);
  void redirect();
  void direct_response(const route::DirectResponseAction& action);
  void start_attempt();
  const route::Upgrade* termination() const;
  void start_shadows(const route::ForwardAction& action, bool end);
  bool enter(upstream::WorkerCluster& cluster);
  void leave();
  void on_pool_ready(upstream::PooledConnection& connection) override;
  void on_pool_failure(upstream::PoolFailure why, std::string_view details) override;
  void on_addresses(std::string_view remote, std::string_view local) override;
  void send_upstream();
  void request_complete();
  // Why an attempt is over: the connection could not be made; the host reset it, and said that it had done nothing; it
  // reset it, or did not answer in time; it answered.
  enum class Outcome : uint8_t { kNotConnected, kRefused, kReset, kAnswered };
  bool retry_allowed(Outcome outcome, uint16_t status, const HeaderMap* answer);
  bool try_again(Outcome outcome, uint16_t status = 0, const HeaderMap* answer = nullptr);
  void end_attempt(bool reset);
  void upstream_1xx(HeaderMap& headers);
  void upstream_headers(HeaderMap& headers, bool end);
  void upstream_data(Buffer& data, bool end);
  void upstream_trailers(HeaderMap& trailers);
  void upstream_reset(http::ResetReason reason, std::string_view details);
  void upstream_watermark(bool above);
  void upstream_failed(const UpstreamFailure& failure);
  void on_response_timeout();
  void on_per_try_timeout();

  // the downstream end of the response.
  void send_headers(bool end);
  void send_data(Buffer& data, bool end);
  void send_trailers(HeaderMap& trailers);
  void local_reply(const LocalReply& reply);
  GrpcCall* begin_call(std::string_view cluster, GrpcCallHandler& handler, const GrpcCallOptions& options);
  void cut(ResponseFlag flag, std::string_view details);
  void finish();
  void log();
  void touch() { active_ns_ = worker_.loop().now_ns(); }  // for the idle timeout
  void set_idle_timeout(uint64_t ms);
  void on_idle_timeout();
  void on_request_timeout();
  void limit_duration();
  void on_max_duration();
  bool grpc_request() const;
  void accept_upgrade(HeaderMap& response);
  void make_grpc(HeaderMap& headers, const LocalReply& reply);
  const config::HcmSpec& hcm() const { return chain_->spec.hcm; }
  const HttpStats& http_stats() const { return *chain_->stats; }
  route::FormatContext format_context() const;

  WorkerState& worker_;
  DownstreamConnection& connection_;
  const HttpChain* chain_;           // of pin_, as all that is compiled
  const route::RouteTable* routes_;  // nullptr: not known
  PinnedSnapshot* pin_;
  http::CodecStream* downstream_;  // nullptr: over
  http::CodecStream* upstream_ = nullptr;
  UpstreamSink upstream_sink_{*this};
  upstream::HostPool* pool_ = nullptr;          // where this waits
  upstream::WorkerCluster* cluster_ = nullptr;  // the route's
  upstream::WorkerCluster* member_ = nullptr;   // where the attempt goes: cluster_ itself, or a member of the aggregate
  upstream::MetadataHold upstream_metadata_;    // of the attempt's host
  route::Match match_;
  Arena arena_;
  StreamInfo info_;
  HeaderMap* headers_[2] = {nullptr, nullptr};
  HeaderMap* trailers_[2] = {nullptr, nullptr};
  Stage* stages_ = nullptr;
  int stage_count_ = 0;
  int current_stage_ = 0;
  size_t held_bytes_[2] = {0, 0};

  Buffer added_;  // StreamHandle::add_data

  Buffer to_upstream_;  // what the router has and the upstream has not yet
  Buffer replay_;       // the request's body so far, while a retry is possible
  HeaderMap* upstream_trailers_ = nullptr;
  Shadows shadows_;
  List<SideCall, StreamCallTag> calls_;  // of the filters
  const config::RetryPolicySpec* retry_ = nullptr;
  uint32_t attempts_ = 0;
  uint64_t random_;
  int64_t attempt_start_ns_ = 0;

  event::Timeout idle_timeout_;
  event::Timeout request_timeout_;
  event::Timeout response_timeout_;
  event::Timeout per_try_timeout_;
  event::Timeout duration_timeout_;
  event::Timeout retry_timer_;
  std::optional<uint64_t> client_timeout_ms_;  // grpc-timeout, as the client has set it
  uint64_t route_timeout_ms_ = 0;              // 0: none
  int64_t duration_ends_ns_ = 0;               // duration_timeout_ is armed again if it comes before that
  uint64_t idle_ms_ = 0;                       // 0: none
  int64_t active_ns_ = 0;  // the last event; an idle timeout that comes too early is armed again for the rest

  bool finished_ = false;
  bool request_stopped_ = false;  // a local reply has been made: request events go nowhere
  bool request_ended_ = false;    // the downstream has sent everything
  bool routed_ = false;           // the head has reached the router
  bool router_end_ = false;       // the end has reached the router
  bool head_sent_ = false;        // upstream has the head of this attempt
  bool upstream_end_sent_ = false;
  bool response_begun_ = false;      // a response head goes down the filters
  bool head_ends_response_ = false;  // ... and is all of it
  bool head_ends_request_ = false;
  bool response_head_sent_ = false;
  bool response_ended_ = false;  // the last byte was given to the downstream codec
  bool local_ = false;
  bool continue_sent_ = false;  // the proxy has invited the body itself
  bool route_cleared_ = false;
  bool request_budget_ = false;  // counted in member_'s max_requests
  bool retry_budget_ = false;
  bool replayable_ = false;
  bool counted_active_ = false;
  bool upgrade_ = false;  // the request asks for one, or is CONNECT (http/codec.h)
  bool connect_ = false;
  bool tunnel_ = false;          // ... and has got it: the stream ends when both sides have ended
  bool upstream_ended_ = false;  // tunnel_: the upstream's side has
};

}  // namespace outrigger::proxy
