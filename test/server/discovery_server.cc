#include "discovery_server.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <set>

#include "base/hash.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "support/grpc_bytes.h"

namespace outrigger::test {
namespace {

namespace discovery = envoy::service::discovery::v3;

// Of listeners and clusters no name means all.
bool in_full(const std::string& type_url) { return type_url.ends_with("Listener") || type_url.ends_with("Cluster"); }

template <class Message>
void note_common(const Message& message, Asked& asked) {
  asked.type_url = message.type_url();
  asked.nonce = message.response_nonce();
  asked.error = message.error_detail().message();
  if (message.has_node()) asked.node = message.node().SerializeAsString();
}

}  // namespace

struct DiscoveryServer::Impl : grpc::CallbackGenericService {
  struct TypeSet {
    std::string version;
    Resources resources;
  };
  class Stream;
  // ThreadSanitizer does not see that gRPC has let go of it, but it sees the mutex.
  ~Impl() override { const std::lock_guard lock(mutex); }

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;

  DiscoveryServerOptions options;
  int port = 0;
  std::unique_ptr<grpc::Server> server;
  mutable std::mutex mutex;  // of what follows
  std::map<std::string, TypeSet, std::less<>> sets;
  std::vector<Asked> asked;
  std::set<Stream*> streams;
  uint64_t next_stream = 1;
};

// Everything is done under the server's mutex.
class DiscoveryServer::Impl::Stream : public grpc::ServerGenericBidiReactor {
 public:
  Stream(Impl& owner, grpc::GenericCallbackServerContext* context) : owner_(owner) {
    std::lock_guard lock(owner_.mutex);
    call_.method = context->method();
    call_.stream = owner_.next_stream++;
    for (const auto& [key, value] : context->client_metadata())
      call_.metadata[std::string(key.begin(), key.end())] = std::string(value.begin(), value.end());
    for (const grpc::string_ref& name : context->auth_context()->GetPeerIdentity())
      call_.client = std::string(name.begin(), name.end());
    incremental_ = call_.method.find("/Delta") != std::string::npos;
    owner_.streams.insert(this);
    const bool known = owner_.options.token.empty() || call_.metadata["authorization"] == owner_.options.token;
    known ? StartRead(&incoming_) : finish(grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "who are you?"));
  }

  const std::string& method() const { return call_.method; }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(owner_.mutex);
    if (!ok) return finish(grpc::Status::OK);
    incremental_ ? take_delta(text_of(incoming_)) : take(text_of(incoming_));
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(owner_.mutex);
    writing_ = false;
    if (ok) write_next();
  }
  void OnCancel() override {
    std::lock_guard lock(owner_.mutex);
    finish(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    {
      std::lock_guard lock(owner_.mutex);
      owner_.streams.erase(this);
    }
    delete this;
  }

  void push(const std::string& type_url) {
    const auto found = types_.find(type_url);
    if (found != types_.end()) incremental_ ? answer_delta(type_url, found->second) : answer(type_url, found->second);
  }

 private:
  struct Type {
    bool all = false;
    std::set<std::string> names;
    std::optional<std::string> sent;         // version
    std::map<std::string, std::string> has;  // incremental
    bool answered = false;
  };

  static bool wants(const Type& type, const std::string& name) { return type.all || type.names.contains(name); }

  void take(const std::string& bytes) {
    discovery::DiscoveryRequest request;
    EXPECT_TRUE(request.ParseFromString(bytes));
    Asked asked = call_;
    note_common(request, asked);
    asked.version = request.version_info();
    asked.names.assign(request.resource_names().begin(), request.resource_names().end());
    Type& type = types_[asked.type_url];
    const std::set<std::string> names(asked.names.begin(), asked.names.end());
    if (asked.nonce.empty() && !asked.version.empty()) type.sent = asked.version;
    if (names != type.names) type.sent.reset();
    type.names = names;
    type.all = (names.empty() && in_full(asked.type_url)) || names.contains("*");
    owner_.asked.push_back(asked);
    if (asked.error.empty()) answer(asked.type_url, type);
  }

  void answer(const std::string& type_url, Type& type) {
    const auto found = owner_.sets.find(type_url);
    if (owner_.options.silent || found == owner_.sets.end() || type.sent == found->second.version) return;
    type.sent = found->second.version;
    discovery::DiscoveryResponse response;
    response.set_version_info(found->second.version);
    response.set_type_url(type_url);
    response.set_nonce(std::to_string(++nonce_));
    for (const auto& [name, bytes] : found->second.resources) {
      if (!wants(type, name)) continue;
      auto* any = response.add_resources();
      any->set_type_url(type_url);
      any->set_value(bytes);
    }
    out_.push_back(bytes_of(response.SerializeAsString()));
    write_next();
  }

  void take_delta(const std::string& bytes) {
    discovery::DeltaDiscoveryRequest request;
    EXPECT_TRUE(request.ParseFromString(bytes));
    Asked asked = call_;
    note_common(request, asked);
    asked.names.assign(request.resource_names_subscribe().begin(), request.resource_names_subscribe().end());
    asked.held.insert(request.initial_resource_versions().begin(), request.initial_resource_versions().end());
    const bool first = !types_.contains(asked.type_url);
    Type& type = types_[asked.type_url];
    if (first) {
      type.all = asked.names.empty() && in_full(asked.type_url);
      type.has = asked.held;
    }
    type.all = type.all || std::count(asked.names.begin(), asked.names.end(), "*") > 0;
    type.names.insert(asked.names.begin(), asked.names.end());
    for (const std::string& name : request.resource_names_unsubscribe()) {
      type.names.erase(name);
      type.has.erase(name);
    }
    owner_.asked.push_back(asked);
    if (asked.error.empty()) answer_delta(asked.type_url, type);
  }

  void answer_delta(const std::string& type_url, Type& type) {
    const auto found = owner_.sets.find(type_url);
    if (owner_.options.silent || found == owner_.sets.end()) return;
    discovery::DeltaDiscoveryResponse response;
    for (const auto& [name, bytes] : found->second.resources) {
      const std::string version = content_hash_hex(bytes);
      if (!wants(type, name) || type.has[name] == version) continue;
      type.has[name] = version;
      auto* resource = response.add_resources();
      resource->set_name(name);
      resource->set_version(version);
      resource->mutable_resource()->set_type_url(type_url);
      resource->mutable_resource()->set_value(bytes);
    }
    std::erase_if(type.has, [&](const auto& held) {
      if (found->second.resources.contains(held.first)) return false;
      response.add_removed_resources(held.first);
      return true;
    });
    if (type.answered && response.resources().empty() && response.removed_resources().empty()) return;
    type.answered = true;
    response.set_system_version_info(found->second.version);
    response.set_type_url(type_url);
    response.set_nonce(std::to_string(++nonce_));
    out_.push_back(bytes_of(response.SerializeAsString()));
    write_next();
  }

  void write_next() {
    if (writing_ || finished_ || out_.empty()) return;
    writing_ = true;
    outgoing_ = std::move(out_.front());
    out_.pop_front();
    StartWrite(&outgoing_);
  }

  void finish(const grpc::Status& status) {
    if (std::exchange(finished_, true)) return;
    Finish(status);
  }

  Impl& owner_;
  Asked call_;  // what every request of it has
  bool incremental_ = false;
  std::map<std::string, Type> types_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::deque<grpc::ByteBuffer> out_;
  bool writing_ = false, finished_ = false;
  uint64_t nonce_ = 0;
};

grpc::ServerGenericBidiReactor* DiscoveryServer::Impl::CreateReactor(grpc::GenericCallbackServerContext* context) {
  return new Stream(*this, context);
}

DiscoveryServer::DiscoveryServer(DiscoveryServerOptions options) : impl_(std::make_shared<Impl>()) {
  impl_->options = std::move(options);
  const DiscoveryServerOptions& o = impl_->options;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!o.certificate.empty()) {
    grpc::SslServerCredentialsOptions ssl(o.client_ca.empty()
                                              ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                              : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    ssl.pem_key_cert_pairs.push_back({o.private_key, o.certificate});
    ssl.pem_root_certs = o.client_ca;
    credentials = grpc::SslServerCredentials(ssl);
  }
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::to_string(o.port), credentials, &impl_->port);
  builder.RegisterCallbackGenericService(impl_.get());
  impl_->server = builder.BuildAndStart();
  EXPECT_NE(impl_->server, nullptr);
}

DiscoveryServer::~DiscoveryServer() { stop(); }

void DiscoveryServer::stop() {
  if (impl_->server == nullptr) return;
  impl_->server->Shutdown(std::chrono::system_clock::now());
  impl_->server->Wait();
  impl_->server.reset();
}

uint16_t DiscoveryServer::port() const { return static_cast<uint16_t>(impl_->port); }

void DiscoveryServer::set(std::string_view type_url, const std::string& version, Resources resources) {
  std::lock_guard lock(impl_->mutex);
  const std::string url(type_url);
  impl_->sets[url] = {version, std::move(resources)};
  for (Impl::Stream* stream : impl_->streams) stream->push(url);
}

std::vector<Asked> DiscoveryServer::asked(std::string_view method) const {
  std::lock_guard lock(impl_->mutex);
  std::vector<Asked> some;
  std::copy_if(impl_->asked.begin(), impl_->asked.end(), std::back_inserter(some),
               [&](const Asked& asked) { return method.empty() || asked.method == method; });
  return some;
}

size_t DiscoveryServer::open_streams(std::string_view method) const {
  std::lock_guard lock(impl_->mutex);
  return static_cast<size_t>(
      std::count_if(impl_->streams.begin(), impl_->streams.end(),
                    [&](const Impl::Stream* stream) { return method.empty() || stream->method() == method; }));
}

}  // namespace outrigger::test
