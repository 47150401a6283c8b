// Filter: one step of an HTTP filter chain; StreamHandle: what a filter may ask of its stream.
//
// Life: FilterConfig (compiled once per config on the builder thread, immutable, shared by all workers) makes one
// Filter per stream in the stream's arena. Request hooks run first to last filter, response hooks last to first. A
// filter answers each event with a Verdict; it never blocks and never throws.
//
//   Continue  the event goes on to the next filter.
//   Pause     the event, and all that follow in this direction, wait until
//   resume_request(*this)/resume_response(*this). What the
//             codec delivers meanwhile stays in the stream's bounded buffer and pauses its reader
//             (source/docs/flow_control.md).
//   Buffer    as Pause, but body events go on reaching this filter (with the data so far held back by the stream) until
//             it answers Continue or the end of the message arrives, when all goes on by itself. More than the stream's
//             buffer limit: requests get 413, responses 500.
//
// Thread rule: FilterConfig const from any worker; a Filter only on its stream's worker.
// Use: source/filters/local_ratelimit is a complete example.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "outrigger/arena.h"
#include "outrigger/buffer.h"
#include "outrigger/explain.h"
#include "outrigger/grpc_call.h"
#include "outrigger/header_map.h"
#include "outrigger/stream_info.h"

namespace outrigger {

enum class Verdict : uint8_t { kContinue, kPause, kBuffer };

// What a compiled part needs to be there before it can be published.
class References {
 public:
  virtual ~References() = default;
  virtual void cluster(std::string_view name) = 0;
  virtual void route_table(std::string_view name) = 0;
  virtual void secret(std::string_view name) = 0;
};

// A compiled filter config, listener-wide or of one route. Immutable. Destroyed on the builder thread.
class FilterPart {
 public:
  virtual ~FilterPart() = default;
  virtual void references(References&) const {}
};

// A reply made by the proxy itself. It runs through the response filters like any other.
struct LocalReply {
  uint16_t status = 500;
  std::string_view body;     // copied; text/plain
  std::string_view details;  // static text for %RESPONSE_CODE_DETAILS%
  uint32_t flags = 0;        // ResponseFlag bits to set
  int grpc_status = -1;      // for gRPC requests, instead of the one that follows from `status`; -1: that one
  // Edits the reply's headers before the response filters see them; called before reply() returns. May be empty.
  std::function<void(HeaderMap&)> edit;
};

class Filter;

// One concrete class, implemented by proxy::Stream (in tests by test/support/fake_stream.h, at link time).
class StreamHandle {
 public:
  StreamInfo& info();
  Arena& arena();
  HeaderMap& request_headers();
  HeaderMap* response_headers();  // nullptr before they exist

  // Ends the request here with a reply of our own. Call at most once, from a request hook (then answer Pause) or later.
  void reply(const LocalReply& reply);
  // Goes on after the Pause or Buffer that `who` (the calling filter) answered. Not from inside the hook that answers
  // it.
  void resume_request(Filter& who);
  void resume_response(Filter& who);
  // From inside on_request_trailers or on_response_trailers: body that goes on before the trailers.
  void add_data(Buffer&& data);
  // A gRPC call of the filter's to a service behind `cluster` (grpc_call.h). Never nullptr; if it cannot be made,
  // on_end says so later. It is cancelled when the stream ends. The cluster is one that the filter's config names in
  // references().
  GrpcCall* begin_call(std::string_view cluster, GrpcCallHandler& handler, const GrpcCallOptions& options);
  // Forgets the chosen route; it is matched again, in the same snapshot, after the current filter.
  void clear_route();

  // The per-route config of the filter named by `filter_id` (config::filter_name_id), the most specific of route table
  // < virtual host < route < weighted cluster; nullptr if there is none.
  const FilterPart* route_config(uint16_t filter_id) const;
  // The same, least specific first: calls f(part) for each level that has one.
  void for_each_route_config(uint16_t filter_id, const std::function<void(const FilterPart&)>& f) const;
  // The matched route; nullptr if none matched.
  const void* route() const;  // route::Route

  int64_t now_ns() const;  // the loop's steady time
  uint64_t random();       // one value per stream, for fractions
  uint32_t worker_index() const;

 protected:
  StreamHandle() = default;
  ~StreamHandle() = default;
};

class Filter {
 public:
  virtual ~Filter() = default;

  virtual Verdict on_request_headers(HeaderMap&, bool /*end_stream*/) { return Verdict::kContinue; }
  virtual Verdict on_request_data(Buffer&, bool /*end_stream*/) { return Verdict::kContinue; }
  virtual Verdict on_request_trailers(HeaderMap&) { return Verdict::kContinue; }

  virtual void on_response_1xx(HeaderMap&) {}
  virtual Verdict on_response_headers(HeaderMap&, bool /*end_stream*/) { return Verdict::kContinue; }
  virtual Verdict on_response_data(Buffer&, bool /*end_stream*/) { return Verdict::kContinue; }
  virtual Verdict on_response_trailers(HeaderMap&) { return Verdict::kContinue; }

  // The stream's request or response buffer passed its limit (above = true) or is below half of it again.
  virtual void on_request_watermark(bool /*above*/) {}
  virtual void on_response_watermark(bool /*above*/) {}

  // The stream ended, for whatever reason; cancel everything. Called once, just before the destructor.
  virtual void on_finish() {}
};

// Compiled, listener-wide config of one filter.
class FilterConfig : public FilterPart {
 public:
  // Makes the filter of one stream in its arena. nullptr: the arena is full (the stream is then refused with 431).
  virtual Filter* create(StreamHandle& stream) const = 0;
  // What its filter would say to a request's head (explain.h).
  virtual FilterExplanation explain(ExplainRequest&) const {
    return {.reason = "this filter cannot tell before it has seen the request"};
  }
};

}  // namespace outrigger
