#include "control/status_service.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "control/grpc_bytes.h"
#include "envoy/service/status/v3/csds.grpc.pb.h"
#include "outrigger/control/v1/status.grpc.pb.h"

namespace outrigger::control {
namespace {

namespace csds = envoy::service::status::v3;
namespace admin = envoy::admin::v3;

using RawReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;
using CsdsService = csds::ClientStatusDiscoveryService;
using RawCsds = CsdsService::WithRawCallbackMethod_StreamClientStatus<
    CsdsService::WithRawCallbackMethod_FetchClientStatus<CsdsService::Service>>;
using RawOwn = v1::ProxyStatusService::WithRawCallbackMethod_GetStatus<v1::ProxyStatusService::Service>;

void set_time(google::protobuf::Timestamp& to, int64_t unix_ms) {
  to.set_seconds(unix_ms / 1000);
  to.set_nanos(static_cast<int>(unix_ms % 1000) * 1'000'000);
}

// As the server sees it, and as the client does.
std::pair<csds::ConfigStatus, admin::ClientResourceStatus> states_of(ClientResourceStatus::State state) {
  using State = ClientResourceStatus::State;
  switch (state) {
    case State::kSynced:
      return {csds::SYNCED, admin::ACKED};
    case State::kStale:
      return {csds::STALE, admin::ACKED};
    case State::kNotSent:
      return {csds::NOT_SENT, admin::REQUESTED};
    case State::kRefused:
      return {csds::ERROR, admin::NACKED};
    case State::kDoesNotExist:
      return {csds::NOT_SENT, admin::DOES_NOT_EXIST};
  }
  return {csds::UNKNOWN, admin::UNKNOWN};
}

void fill(const ClientStatus& client, csds::ClientConfig& to) {
  to.mutable_node()->set_id(client.info.node_id);
  to.mutable_node()->set_cluster(client.info.node_cluster);
  to.set_client_scope("stream " + std::to_string(client.info.stream_id));
  for (const ClientTypeStatus& type : client.types) {
    for (const ClientResourceStatus& resource : type.resources) {
      csds::ClientConfig::GenericXdsConfig& config = *to.add_generic_xds_configs();
      config.set_type_url(type.type_url);
      config.set_name(resource.name);
      config.set_version_info(resource.client_version);
      if (type.answered_unix_ms != 0) set_time(*config.mutable_last_updated(), type.answered_unix_ms);
      const auto [served, held] = states_of(resource.state);
      config.set_config_status(served);
      config.set_client_status(held);
      if (resource.state != ClientResourceStatus::State::kRefused) continue;
      config.mutable_error_state()->set_details(type.refusal);
      config.mutable_error_state()->set_version_info(type.refused_version);
      set_time(*config.mutable_error_state()->mutable_last_update_attempt(), type.last_nack_unix_ms);
    }
  }
}

// The answer to a CSDS request, both as bytes.
grpc::Status answer(const StatusSource& source, const grpc::ByteBuffer& request, grpc::ByteBuffer& response) {
  const auto bytes = bytes_of(request);
  csds::ClientStatusRequest asked;
  if (!bytes || !asked.ParseFromString(*bytes))
    return {grpc::StatusCode::INVALID_ARGUMENT, "the request is no ClientStatusRequest"};
  if (!asked.GetReflection()->GetUnknownFields(asked).empty())
    return {grpc::StatusCode::UNIMPLEMENTED, "node and node_matchers are not supported: all clients are told"};
  csds::ClientStatusResponse told;
  for (const ClientStatus& client : source.clients(true)) fill(client, *told.add_config());
  response = buffer_of(told.SerializeAsString());
  return grpc::Status::OK;
}

void fill(const ClientStatus& client, v1::ProxyStatus& to) {
  to.set_stream_id(client.info.stream_id);
  to.set_node_id(client.info.node_id);
  to.set_node_cluster(client.info.node_cluster);
  to.set_user_agent(client.info.user_agent);
  to.set_peer(client.info.peer);
  to.set_group(client.group);
  to.set_incremental(client.info.incremental);
  to.set_connected_unix_ms(client.connected_unix_ms);
  to.set_served_version(client.served_version);
  to.set_in_sync(client.in_sync());
  for (const ClientTypeStatus& type : client.types) {
    v1::TypeStatus& out = *to.add_types();
    out.set_type_url(type.type_url);
    out.set_wildcard(type.wildcard);
    out.set_names(type.names);
    out.set_sent_version(type.sent_version);
    out.set_acked_version(type.acked_version);
    out.set_refused_version(type.refused_version);
    out.set_awaiting_answer(type.awaiting_answer);
    out.set_in_sync(type.in_sync);
    out.set_acks(type.acks);
    out.set_nacks(type.nacks);
    out.set_answered_unix_ms(type.answered_unix_ms);
    out.set_last_nack(type.last_nack);
    out.set_last_nack_unix_ms(type.last_nack_unix_ms);
  }
}

grpc::Status unauthenticated() { return {grpc::StatusCode::UNAUTHENTICATED, "the control plane wants a bearer token"}; }

// Answers each request of a stream in turn. The lock is for ThreadSanitizer, which does not see gRPC's own order of
// these calls.
class CsdsStream final : public RawReactor {
 public:
  CsdsStream(const StatusSource& source, bool admitted) : source_(source) {
    const std::lock_guard lock(mutex_);
    if (admitted) {
      StartRead(&request_);
    } else {
      Finish(unauthenticated());
    }
  }
  void OnReadDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    if (!ok) return Finish(grpc::Status::OK);
    if (const grpc::Status status = answer(source_, request_, response_); !status.ok()) return Finish(status);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    if (!ok) return Finish(grpc::Status::OK);
    StartRead(&request_);
  }
  void OnDone() override {
    { const std::lock_guard lock(mutex_); }
    delete this;
  }

 private:
  const StatusSource& source_;
  grpc::ByteBuffer request_, response_;
  std::mutex mutex_;
};

}  // namespace

struct StatusServices::Impl {
  class Csds final : public RawCsds {
   public:
    explicit Csds(const StatusSource& source) : source_(source) {}
    grpc::ServerUnaryReactor* FetchClientStatus(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) override {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(source_.admit(*context) ? answer(source_, *request, *response) : unauthenticated());
      return reactor;
    }
    RawReactor* StreamClientStatus(grpc::CallbackServerContext* context) override {
      return new CsdsStream(source_, source_.admit(*context));
    }

   private:
    const StatusSource& source_;
  };

  class Own final : public RawOwn {
   public:
    explicit Own(const StatusSource& source) : source_(source) {}
    grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context, const grpc::ByteBuffer*,
                                        grpc::ByteBuffer* response) override {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      if (!source_.admit(*context)) {
        reactor->Finish(unauthenticated());
        return reactor;
      }
      v1::StatusResponse told;
      told.set_control_plane(source_.identifier);
      for (const ClientStatus& client : source_.clients(false)) fill(client, *told.add_proxies());
      *response = buffer_of(told.SerializeAsString());
      reactor->Finish(grpc::Status::OK);
      return reactor;
    }

   private:
    const StatusSource& source_;
  };

  explicit Impl(StatusSource given) : source(std::move(given)), csds(source), own(source) {}
  const StatusSource source;
  Csds csds;
  Own own;
};

StatusServices::StatusServices(StatusSource source) : impl_(std::make_unique<Impl>(std::move(source))) {}
StatusServices::~StatusServices() = default;
std::vector<grpc::Service*> StatusServices::services() { return {&impl_->csds, &impl_->own}; }

}  // namespace outrigger::control
