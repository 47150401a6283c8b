// GrpcStream: one bidirectional gRPC stream of bytes, on gRPC's own threads; everything that happens is told on the
// loop's thread. One attempt is one channel to one address: the channel's own reconnecting is never used, so that there
// is one back-off (DiscoveryClient's) and every failure has its reason.
//
// Flow control is the caller's: one write at a time (again after on_writable), one read at a time (the first begins
// with the call; again after read_next()). A message is decoded on gRPC's thread.
//
// Thread rule: the loop's thread. close() and the destructor cancel the call and wait for gRPC to let go of it; no
// callback comes afterwards. A callback may close() or destroy the stream.
// Use:  GrpcStream stream(loop, channel, "127.0.0.1:18000", stream_method({}, false), decode_response, {...});
//       stream.write(encode_request(request, node));
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "outrigger/result.h"
#include "xds/types.h"

namespace outrigger::event {
class Loop;
}

namespace outrigger::xds {

struct ChannelSpec;

class GrpcStream {
 public:
  using Decode = Result<Response> (*)(std::string_view bytes);
  struct Callbacks {
    std::function<void()> on_writable;                  // the write before has left; the first: the server was reached
    std::function<void(Result<Response>)> on_message;   // an error: the bytes do not parse
    std::function<void(std::string reason)> on_closed;  // once, and last; "OK" or "UNAVAILABLE: ..."
  };

  GrpcStream(event::Loop& loop, const ChannelSpec& channel, const std::string& address, const std::string& method,
             Decode decode, Callbacks callbacks);
  ~GrpcStream();
  GrpcStream(const GrpcStream&) = delete;
  GrpcStream& operator=(const GrpcStream&) = delete;

  void write(std::string bytes);
  void read_next();
  void close();

 private:
  class Call;
  std::shared_ptr<Call> call_;
};

}  // namespace outrigger::xds
