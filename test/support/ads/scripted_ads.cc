#include "support/ads/scripted_ads.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "envoy/service/discovery/v3/discovery.pb.h"
#include "support/grpc_bytes.h"

namespace outrigger::test {
namespace {

namespace discovery = envoy::service::discovery::v3;

template <class Message>
Message parse(const std::string& bytes, AdsRequest& request) {
  Message message;
  message.ParseFromString(bytes);
  request.type_url = message.type_url();
  request.nonce = message.response_nonce();
  request.error_detail = message.error_detail().message();
  request.node_id = message.node().id();
  return message;
}

AdsRequest decode(const std::string& bytes, bool incremental) {
  AdsRequest request;
  if (!incremental) {
    const auto message = parse<discovery::DiscoveryRequest>(bytes, request);
    request.version = message.version_info();
    request.names.assign(message.resource_names().begin(), message.resource_names().end());
    return request;
  }
  const auto message = parse<discovery::DeltaDiscoveryRequest>(bytes, request);
  request.names.assign(message.resource_names_subscribe().begin(), message.resource_names_subscribe().end());
  request.unsubscribed.assign(message.resource_names_unsubscribe().begin(), message.resource_names_unsubscribe().end());
  for (const auto& [name, version] : message.initial_resource_versions()) request.held[name] = version;
  return request;
}

void fill(google::protobuf::Any& any, const AdsResource& resource) {
  any.set_type_url(resource.type_url);
  any.set_value(resource.bytes);
}

std::string encode(const AdsResponse& response, bool incremental) {
  if (!incremental) {
    discovery::DiscoveryResponse message;
    message.set_type_url(response.type_url);
    message.set_version_info(response.version);
    message.set_nonce(response.nonce);
    for (const AdsResource& resource : response.resources) fill(*message.add_resources(), resource);
    return message.SerializeAsString();
  }
  discovery::DeltaDiscoveryResponse message;
  message.set_type_url(response.type_url);
  message.set_system_version_info(response.version);
  message.set_nonce(response.nonce);
  for (const AdsResource& resource : response.resources) {
    auto& wrapped = *message.add_resources();
    wrapped.set_name(resource.name);
    wrapped.set_version(resource.version);
    fill(*wrapped.mutable_resource(), resource);
  }
  for (const std::string& name : response.removed) message.add_removed_resources(name);
  return message.SerializeAsString();
}

}  // namespace

struct ScriptedAds::Impl final : public grpc::CallbackGenericService {
  class Stream;
  Impl(ScriptedAds& s, ScriptedAdsOptions o) : self(s), options(std::move(o)) {}
  // ThreadSanitizer does not see that gRPC has let go of it, but it sees the mutex.
  ~Impl() override { const std::lock_guard lock(mutex); }
  void start() {
    grpc::ServerBuilder builder;
    int bound = 0;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(options.port), grpc::InsecureServerCredentials(), &bound);
    builder.SetMaxReceiveMessageSize(-1);
    builder.SetMaxSendMessageSize(-1);
    builder.RegisterCallbackGenericService(this);
    server = builder.BuildAndStart();
    port = static_cast<uint16_t>(bound);
  }

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;
  void send(grpc::ByteBuffer buffer, uint64_t stream);

  ScriptedAds& self;
  const ScriptedAdsOptions options;
  std::unique_ptr<grpc::Server> server;
  uint16_t port = 0;
  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  Stream* newest = nullptr;
  uint64_t streams = 0;
  std::vector<AdsRequest> requests;
};

// Guarded by the server's mutex; gRPC deletes it by way of OnDone.
class ScriptedAds::Impl::Stream final : public grpc::ServerGenericBidiReactor {
 public:
  Stream(Impl& server, uint64_t number) : server_(server), number_(number) {}
  uint64_t number() const { return number_; }
  void begin() { StartRead(&incoming_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      const std::lock_guard lock(server_.mutex);
      return finish(grpc::Status::OK);
    }
    AdsRequest request = decode(text_of(incoming_), server_.options.incremental);
    request.stream = number_;
    request.at = std::chrono::steady_clock::now();
    {
      const std::lock_guard lock(server_.mutex);
      server_.requests.push_back(request);
      server_.changed.notify_all();
    }
    if (server_.options.on_request) server_.options.on_request(server_.self, request);
    const std::lock_guard lock(server_.mutex);
    if (!finished_) StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(server_.mutex);
    queue_.pop_front();
    if (ok) pump();
  }

  void OnCancel() override {
    const std::lock_guard lock(server_.mutex);
    finish(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    {
      const std::lock_guard lock(server_.mutex);
      if (server_.newest == this) server_.newest = nullptr;
    }
    delete this;
  }

  void send(grpc::ByteBuffer buffer) {
    if (finished_) return;
    queue_.push_back(std::move(buffer));
    if (queue_.size() == 1) pump();
  }

  void finish(const grpc::Status& status) {
    if (std::exchange(finished_, true)) return;
    Finish(status);
  }

 private:
  void pump() {
    if (!queue_.empty() && !finished_) StartWrite(&queue_.front());
  }

  Impl& server_;
  const uint64_t number_;
  grpc::ByteBuffer incoming_;
  std::deque<grpc::ByteBuffer> queue_;  // the first is being written
  bool finished_ = false;
};

grpc::ServerGenericBidiReactor* ScriptedAds::Impl::CreateReactor(grpc::GenericCallbackServerContext*) {
  const std::lock_guard lock(mutex);
  newest = new Stream(*this, ++streams);
  newest->begin();
  return newest;
}

void ScriptedAds::Impl::send(grpc::ByteBuffer buffer, uint64_t stream) {
  const std::lock_guard lock(mutex);
  if (newest == nullptr || (stream != 0 && newest->number() != stream)) return;
  newest->send(std::move(buffer));
}

ScriptedAds::ScriptedAds(ScriptedAdsOptions options) : impl_(std::make_unique<Impl>(*this, std::move(options))) {
  impl_->start();
}

ScriptedAds::~ScriptedAds() {
  impl_->server->Shutdown(std::chrono::system_clock::now());
  impl_->server->Wait();
}

bool ScriptedAds::incremental() const { return impl_->options.incremental; }
uint16_t ScriptedAds::port() const { return impl_->port; }

uint64_t ScriptedAds::streams() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->streams;
}

std::vector<AdsRequest> ScriptedAds::requests() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->requests;
}

bool ScriptedAds::wait(const std::function<bool(const std::vector<AdsRequest>&)>& condition,
                       Milliseconds patience) const {
  std::unique_lock lock(impl_->mutex);
  return impl_->changed.wait_for(lock, patience, [&] { return condition(impl_->requests); });
}

void ScriptedAds::send(const AdsResponse& response, uint64_t stream) {
  const grpc::Slice slice(encode(response, impl_->options.incremental));
  impl_->send(grpc::ByteBuffer(&slice, 1), stream);
}

void ScriptedAds::send_bytes(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  impl_->send(grpc::ByteBuffer(&slice, 1), 0);
}

void ScriptedAds::send_zeros(size_t bytes) {
  const grpc::Slice piece(std::string(1 << 20, '\0'));
  std::vector<grpc::Slice> slices(bytes >> 20, piece);
  slices.emplace_back(std::string(bytes & 0xfffff, '\0'));
  impl_->send(grpc::ByteBuffer(slices.data(), slices.size()), 0);
}

void ScriptedAds::end_stream(int code, const std::string& message) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->newest != nullptr) impl_->newest->finish({static_cast<grpc::StatusCode>(code), message});
}

}  // namespace outrigger::test
