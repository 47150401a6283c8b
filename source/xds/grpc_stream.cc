#include "xds/grpc_stream.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "xds/discovery_client.h"

namespace outrigger::xds {
namespace {

grpc::ChannelArguments channel_arguments(const ChannelSpec& spec) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(static_cast<int>(std::min<uint32_t>(spec.max_receive_bytes, INT32_MAX)));
  args.SetMaxSendMessageSize(-1);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Otherwise a subchannel of an earlier attempt would bring its back-off with it.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(spec.connect_timeout_ms));
  if (spec.keepalive_time_ms > 0) {
    args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(spec.keepalive_time_ms));
    args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(spec.keepalive_timeout_ms));
    args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  }
  if (!spec.authority.empty()) args.SetString(GRPC_ARG_DEFAULT_AUTHORITY, spec.authority);
  if (spec.tls && !spec.tls->server_name.empty()) args.SetSslTargetNameOverride(spec.tls->server_name);
  return args;
}

std::string target_of(const std::string& address) {
  static constexpr std::string_view kSchemes[] = {"unix:", "unix-abstract:", "dns:"};
  const bool whole = std::any_of(std::begin(kSchemes), std::end(kSchemes),
                                 [&](std::string_view scheme) { return address.starts_with(scheme); });
  return whole ? address : "dns:///" + address;
}

std::string reason_of(const grpc::Status& status) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const auto code = static_cast<size_t>(status.error_code());
  std::string reason = code < std::size(kNames) ? kNames[code] : "code " + std::to_string(code);
  if (!status.error_message().empty()) reason += ": " + status.error_message();
  return reason;
}

// The message as one contiguous piece; `storage` holds it if gRPC has it in several.
std::string_view flatten(const std::vector<grpc::Slice>& slices, std::string& storage) {
  const auto view = [](const grpc::Slice& slice) {
    return std::string_view(reinterpret_cast<const char*>(slice.begin()), slice.size());
  };
  if (slices.empty()) return {};
  if (slices.size() == 1) return view(slices[0]);
  size_t total = 0;
  for (const grpc::Slice& slice : slices) total += slice.size();
  storage.reserve(total);
  for (const grpc::Slice& slice : slices) storage.append(view(slice));
  return storage;
}

}  // namespace

// The reactor. It lives until gRPC's OnDone and until the last post that holds it has run. `callbacks_` and `open_`
// belong to the loop's thread; what is under the mutex is shared with gRPC's threads.
class GrpcStream::Call final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                               public std::enable_shared_from_this<Call> {
 public:
  Call(event::Loop& loop, Decode decode, Callbacks callbacks)
      : loop_(loop), decode_(decode), callbacks_(std::move(callbacks)) {}

  // Nobody holds it any more. ThreadSanitizer sees neither the counts of references in this file nor gRPC's order, but
  // it sees the mutex: who hands the call on, and who has it back last, takes it.
  ~Call() override { std::lock_guard lock(mutex_); }

  void start(const ChannelSpec& spec, const std::string& address, const std::string& method) {
    self_ = shared_from_this();
    channel_ = grpc::CreateCustomChannel(target_of(address), channel_credentials(spec.tls), channel_arguments(spec));
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
    for (const auto& [key, value] : spec.initial_metadata) context_.AddMetadata(key, value);
    stub_->PrepareBidiStreamingCall(&context_, method, grpc::StubOptions(), this);
    AddHold();  // operations are started from the loop's thread, outside of any reaction
    StartRead(&incoming_);
    { std::lock_guard lock(mutex_); }
    StartCall();
  }

  void write(std::string bytes) {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    grpc::Slice slice(bytes);
    outgoing_ = grpc::ByteBuffer(&slice, 1);
    StartWrite(&outgoing_);
  }

  void read_next() {
    std::lock_guard lock(mutex_);
    if (!ended_) StartRead(&incoming_);
  }

  void close() {
    if (!open_) return;
    open_ = false;
    context_.TryCancel();
    release();
    std::unique_lock lock(mutex_);
    done_signal_.wait(lock, [this] { return done_; });
  }

  void OnReadDone(bool ok) override {
    if (!ok) return release();
    std::vector<grpc::Slice> slices;
    std::string storage;
    const bool dumped = incoming_.Dump(&slices).ok();
    auto message = dumped ? decode_(flatten(slices, storage))
                          : Result<Response>(fail(Errc::kProtocol, "a message could not be decompressed"));
    slices.clear();
    incoming_.Clear();
    // std::function wants copies; the message may be large.
    auto shared = std::make_shared<Result<Response>>(std::move(message));
    tell([shared](Callbacks& to) { to.on_message(std::move(*shared)); });
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return release();
    tell([](Callbacks& to) { to.on_writable(); });
  }

  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<Call> keep = std::move(self_);
    tell([reason = reason_of(status)](Callbacks& to) { to.on_closed(reason); }, true);
    std::lock_guard lock(mutex_);
    done_ = true;
    done_signal_.notify_all();
  }

 private:
  // Lets OnDone come once what is under way is over. gRPC must not be called after that.
  void release() {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    RemoveHold();
  }

  template <class F>
  void tell(F f, bool last = false) {
    loop_.post([call = shared_from_this(), f = std::move(f), last] {
      if (!call->open_) return;
      if (last) call->open_ = false;
      // A copy, since the callback may destroy the stream.
      const std::shared_ptr<Call> keep = call;
      f(keep->callbacks_);
      std::lock_guard lock(keep->mutex_);
    });
  }

  event::Loop& loop_;
  const Decode decode_;
  Callbacks callbacks_;
  bool open_ = true;

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::shared_ptr<Call> self_;

  std::mutex mutex_;
  std::condition_variable done_signal_;
  bool ended_ = false;
  bool done_ = false;
};

GrpcStream::GrpcStream(event::Loop& loop, const ChannelSpec& channel, const std::string& address,
                       const std::string& method, Decode decode, Callbacks callbacks)
    : call_(std::make_shared<Call>(loop, decode, std::move(callbacks))) {
  call_->start(channel, address, method);
}

GrpcStream::~GrpcStream() { close(); }
void GrpcStream::write(std::string bytes) { call_->write(std::move(bytes)); }
void GrpcStream::read_next() { call_->read_next(); }
void GrpcStream::close() { call_->close(); }

}  // namespace outrigger::xds
