#include "outrigger/control/ads_server.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "base/check.h"
#include "control/admission.h"
#include "control/ads_session.h"
#include "control/ads_stats.h"
#include "control/discovery_wire.h"
#include "control/grpc_bytes.h"
#include "control/server_credentials.h"
#include "control/status_service.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"
#include "event/clock.h"

namespace outrigger::control {
namespace {

using Ads = envoy::service::discovery::v3::AggregatedDiscoveryService;
using RawService = Ads::WithRawCallbackMethod_StreamAggregatedResources<
    Ads::WithRawCallbackMethod_DeltaAggregatedResources<Ads::Service>>;
using RawReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

}  // namespace

struct AdsServer::Impl {
  class Stream;

  class Service final : public RawService {
   public:
    explicit Service(Impl& server) : server_(server) {}
    RawReactor* StreamAggregatedResources(grpc::CallbackServerContext* context) override {
      return server_.accept(context, false);
    }
    RawReactor* DeltaAggregatedResources(grpc::CallbackServerContext* context) override {
      return server_.accept(context, true);
    }

   private:
    Impl& server_;
  };

  Impl(ResourceCache& cache, AdsServerOptions options)
      : cache(cache),
        options(std::move(options)),
        service(*this),
        admission(this->options),
        status({this->options.identifier, [this](bool with_resources) { return clients(with_resources); },
                [this](const grpc::ServerContextBase& context) { return admission.admit(context); }}) {}
  ~Impl() { std::lock_guard lock(mutex); }  // as at the end of OnDone

  RawReactor* accept(grpc::CallbackServerContext* context, bool incremental);
  void forget(uint64_t stream_id);
  void on_cache_change(const std::string& group);
  void regroup();
  void readmit();
  void end_streams();
  std::string group_of(const ClientInfo& client) const {
    return options.group_of ? options.group_of(client) : std::string();
  }
  std::vector<ClientStatus> clients(bool with_resources);
  AdsServerStats stats();

  ResourceCache& cache;
  const AdsServerOptions options;
  Service service;
  Admission admission;
  StatusServices status;
  AdsCounters counters;
  EncodedSets encoded;
  std::unique_ptr<grpc::Server> server;
  uint64_t cache_listener = 0;

  // Order of locks: this one, then a stream's.
  std::mutex mutex;
  std::map<uint64_t, Stream*> streams;
  uint64_t next_stream_id = 1;
  bool stopping = false;
  std::atomic<uint64_t> groupings = 0;   // regroup() was called so often
  std::atomic<uint64_t> admissions = 0;  // readmit() was called so often
};

// One client's stream. gRPC deletes it by way of OnDone; until it has left Impl::streams it may be called from there.
class AdsServer::Impl::Stream final : public RawReactor {
 public:
  Stream(Impl& server, uint64_t id, grpc::CallbackServerContext* context, bool incremental)
      : server_(server), context_(context), session_(incremental, server.options.max_names) {
    info_.stream_id = id;
    info_.peer = context->peer();
    info_.incremental = incremental;
    const auto proven = context->auth_context();
    if (proven == nullptr || !proven->IsPeerAuthenticated()) return;
    for (const grpc::string_ref& name : proven->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME))
      info_.tls_identities.emplace_back(name.data(), name.size());
  }
  // Here and in OnDone the locks are for ThreadSanitizer, which does not see gRPC's own order of these calls, nor that
  // the server outlives its streams.
  void begin() {
    std::lock_guard lock(mutex_);
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return finish(grpc::Status::OK);  // the client has closed its half or is gone
    const Result<std::string> bytes = bytes_of(incoming_);
    incoming_.Clear();
    Result<DecodedRequest> decoded =
        bytes ? decode_request(*bytes, info_.incremental) : Result<DecodedRequest>(tl::unexpected(bytes.error()));
    if (!decoded) return finish({grpc::StatusCode::INVALID_ARGUMENT, decoded.error().detail});
    if (!known_) introduce(*decoded);

    std::optional<AdsSession::Verdict> verdict;
    bool overflow = false;
    {
      std::lock_guard lock(mutex_);
      const uint64_t stale = session_.stale(), resumed = session_.resumed();
      verdict = session_.on_request(decoded->request);
      server_.counters.requested(decoded->request.type_url, session_.stale() - stale, session_.resumed() - resumed);
      if (verdict) note(*verdict);
      overflow = session_.overflow();
      if (!overflow) pump();
    }
    if (overflow) return finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many types or names subscribed to"});
    const AdsServerOptions& hooks = server_.options;
    if (verdict && verdict->accepted && hooks.on_ack) hooks.on_ack(info_, verdict->answer);
    if (verdict && !verdict->accepted && hooks.on_nack) hooks.on_nack(info_, verdict->answer);
    std::lock_guard lock(mutex_);
    if (!finished_) StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (ok) pump();  // if not, the read fails too and ends the stream
  }

  void OnCancel() override { finish(grpc::Status::CANCELLED); }

  void OnDone() override {
    server_.forget(info_.stream_id);
    { std::lock_guard lock(mutex_); }
    if (known_ && server_.options.on_disconnect) server_.options.on_disconnect(info_);
    Impl& server = server_;
    delete this;
    std::lock_guard lock(server.mutex);
  }

  void finish(const grpc::Status& status) {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    finished_ = true;
    Finish(status);
  }

  void refresh(const std::string& group) {
    std::lock_guard lock(mutex_);
    if (!group_known_ || group_ != group) return;
    session_.set_snapshot(server_.cache.get(group_));
    pump();
  }

  // As long as it is in Impl::streams.
  std::string_view bearer_token() const { return Admission::bearer_token(*context_); }

  // The group's snapshot is what the client is served from now on.
  void join(std::string group) {
    std::lock_guard lock(mutex_);
    if (group_known_ && group_ == group) return;
    group_ = std::move(group);
    group_known_ = true;
    session_.set_snapshot(server_.cache.get(group_));
    pump();
  }

  ClientInfo info() {
    std::lock_guard lock(mutex_);
    return info_;
  }
  bool has_group() {
    std::lock_guard lock(mutex_);
    return group_known_;
  }

  ClientStatus status(bool with_resources) {
    std::lock_guard lock(mutex_);
    ClientStatus out{info_, group_, session_.status(with_resources), connected_unix_ms_};
    if (const auto served = group_known_ ? server_.cache.get(group_) : nullptr) out.served_version = served->version();
    for (ClientTypeStatus& type : out.types) {
      const auto at = answers_.find(type.type_url);
      if (at == answers_.end()) continue;
      type.answered_unix_ms = at->second.unix_ms;
      type.last_nack = at->second.last_nack;
      type.last_nack_unix_ms = at->second.last_nack_unix_ms;
    }
    return out;
  }

 private:
  static constexpr size_t kMaxNackBytes = 64 * 1024;
  struct Answered {
    int64_t unix_ms = 0;
    std::string last_nack;
    int64_t last_nack_unix_ms = 0;
  };

  // Takes in who the client is, from its first request.
  void introduce(const DecodedRequest& first) {
    known_ = true;
    {
      std::lock_guard lock(mutex_);
      info_.node_id = first.node_id;
      info_.node_cluster = first.node_cluster;
      info_.user_agent = first.user_agent;
      info_.metadata = first.metadata;
    }
    if (server_.options.on_connect) server_.options.on_connect(info_);
    for (bool current = false; !current;) {
      const uint64_t grouping = server_.groupings;
      join(server_.group_of(info_));
      current = grouping == server_.groupings;
    }
  }

  // With the mutex held.
  void note(const AdsSession::Verdict& verdict) {
    server_.counters.answered(verdict.answer.type_url, verdict.accepted);
    Answered& answered = answers_[verdict.answer.type_url];
    answered.unix_ms = event::wall_clock_ms();
    if (verdict.accepted) return;
    answered.last_nack = verdict.answer.error.substr(0, kMaxNackBytes);
    answered.last_nack_unix_ms = answered.unix_ms;
  }

  // Writes what is owed, if no write is under way. With the mutex held.
  void pump() {
    if (writing_ || finished_) return;
    const std::optional<DiscoveryReply> reply = session_.next_reply();
    if (!reply) return;
    const std::string envelope = encode_envelope(*reply, server_.options.identifier, info_.incremental);
    outgoing_ = reply->whole != nullptr ? buffer_of(envelope, server_.encoded.get(reply->whole, info_.incremental))
                                        : buffer_of(envelope + encode_resources(reply->resources, info_.incremental));
    server_.counters.sent(*reply, outgoing_.Length());
    writing_ = true;
    StartWrite(&outgoing_);
  }

  Impl& server_;
  grpc::CallbackServerContext* const context_;  // gRPC's, until OnDone
  ClientInfo info_;     // written by introduce() under the mutex; read elsewhere under it or by this stream's reads
  bool known_ = false;  // of this stream's reads alone
  grpc::ByteBuffer incoming_, outgoing_;

  const int64_t connected_unix_ms_ = event::wall_clock_ms();

  std::mutex mutex_;
  AdsSession session_;
  std::map<std::string, Answered> answers_;  // by type; as many as the session allows
  std::string group_;
  bool group_known_ = false;
  bool writing_ = false;
  bool finished_ = false;
};

RawReactor* AdsServer::Impl::accept(grpc::CallbackServerContext* context, bool incremental) {
  std::unique_lock lock(mutex, std::defer_lock);
  bool admitted = false;
  for (bool current = false; !current;) {
    const uint64_t admission_count = admissions;
    admitted = admission.admit(*context);
    lock.lock();
    current = admission_count == admissions;
    if (!current) lock.unlock();
  }
  const uint64_t id = next_stream_id++;
  auto* stream = new Stream(*this, id, context, incremental);
  const auto refuse = [&](grpc::StatusCode code, const char* why) {
    stream->finish({code, why});
    return stream;
  };
  if (!admitted) return refuse(grpc::StatusCode::UNAUTHENTICATED, "the control plane wants a bearer token");
  if (stopping) return refuse(grpc::StatusCode::UNAVAILABLE, "the control plane is stopping");
  if (streams.size() >= options.max_streams) {
    lock.unlock();
    admission.refuse_stream(context->peer());
    return refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "the control plane has too many streams");
  }
  streams[id] = stream;
  counters.opened();
  stream->begin();
  return stream;
}

void AdsServer::Impl::forget(uint64_t stream_id) {
  std::lock_guard lock(mutex);
  streams.erase(stream_id);
}

void AdsServer::Impl::on_cache_change(const std::string& group) {
  std::lock_guard lock(mutex);
  for (const auto& [id, stream] : streams) stream->refresh(group);
}

// group_of is the owner's and is called without a lock. Streams that come meanwhile see that `groupings` has changed.
void AdsServer::Impl::regroup() {
  ++groupings;
  std::vector<ClientInfo> clients;
  {
    std::lock_guard lock(mutex);
    for (const auto& [id, stream] : streams)
      if (stream->has_group()) clients.push_back(stream->info());
  }
  for (const ClientInfo& client : clients) {
    std::string group = group_of(client);
    std::lock_guard lock(mutex);
    if (const auto at = streams.find(client.stream_id); at != streams.end()) at->second->join(std::move(group));
  }
}

// As above, for token_ok.
void AdsServer::Impl::readmit() {
  ++admissions;
  struct Admitted {
    uint64_t id;
    std::string token, peer;
  };
  std::vector<Admitted> all;
  {
    std::lock_guard lock(mutex);
    for (const auto& [id, stream] : streams)
      all.push_back({id, std::string(stream->bearer_token()), stream->info().peer});
  }
  for (const Admitted& one : all) {
    if (admission.admit_again(one.token, one.peer)) continue;
    std::lock_guard lock(mutex);
    if (const auto at = streams.find(one.id); at != streams.end())
      at->second->finish({grpc::StatusCode::UNAUTHENTICATED, "the token is no longer good"});
  }
}

void AdsServer::regroup() { impl_->regroup(); }
void AdsServer::readmit() { impl_->readmit(); }

// In random order, spread evenly: clients that are sent away together come back together.
void AdsServer::Impl::end_streams() {
  std::vector<uint64_t> ids;
  {
    std::lock_guard lock(mutex);
    stopping = true;
    for (const auto& [id, stream] : streams) ids.push_back(id);
  }
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(std::random_device()()));
  const auto began = std::chrono::steady_clock::now();
  const auto spread = std::chrono::milliseconds(options.stop_spread_ms);
  for (size_t i = 0; i < ids.size(); ++i) {
    std::this_thread::sleep_until(began + spread * i / ids.size());
    std::lock_guard lock(mutex);
    const auto at = streams.find(ids[i]);
    if (at != streams.end()) at->second->finish({grpc::StatusCode::UNAVAILABLE, "the control plane is stopping"});
  }
}

AdsServer::AdsServer(ResourceCache& cache, AdsServerOptions options)
    : impl_(std::make_unique<Impl>(cache, std::move(options))) {}

AdsServer::~AdsServer() { stop(); }

Result<uint16_t> AdsServer::start(const std::string& listen_address) {
  CHECK(impl_->server == nullptr);
  TRY(const auto credentials, server_credentials(impl_->options.tls));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(listen_address, credentials, &port);
  builder.RegisterService(&impl_->service);
  for (grpc::Service* service : impl_->status.services()) builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(static_cast<int>(impl_->options.max_receive_bytes));
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port is an error, not a shared port
  // Clients may ping an idle stream every ten seconds.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  if (impl_->options.keepalive_time_ms > 0) {
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(impl_->options.keepalive_time_ms));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  }
  if (impl_->options.max_connection_age_ms > 0) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, static_cast<int>(impl_->options.max_connection_age_ms));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, static_cast<int>(impl_->options.stop_grace_ms));
  }
  impl_->server = builder.BuildAndStart();
  if (impl_->server == nullptr) {
    return fail(Errc::kIo,
                fmt::format("cannot listen on {}: no such address here, or the port is taken", listen_address));
  }
  impl_->cache_listener =
      impl_->cache.listen([impl = impl_.get()](const std::string& group) { impl->on_cache_change(group); });
  return static_cast<uint16_t>(port > 0 ? port : 0);
}

void AdsServer::stop() {
  if (impl_->server == nullptr) return;
  impl_->cache.unlisten(impl_->cache_listener);
  impl_->end_streams();
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(impl_->options.stop_grace_ms));
  impl_->server->Wait();
  impl_->server.reset();
}

std::vector<ClientStatus> AdsServer::Impl::clients(bool with_resources) {
  std::lock_guard lock(mutex);
  std::vector<ClientStatus> all;
  for (const auto& [id, stream] : streams) all.push_back(stream->status(with_resources));
  return all;
}

AdsServerStats AdsServer::Impl::stats() {
  AdsServerStats out;
  counters.fill(out);
  out.refused_unauthenticated = admission.unauthenticated();
  out.refused_over_limit = admission.over_limit();
  std::set<std::string> nodes;
  std::lock_guard lock(mutex);
  for (const auto& [id, stream] : streams) {
    const ClientInfo info = stream->info();
    ++(info.incremental ? out.incremental_streams : out.sotw_streams);
    if (!info.node_id.empty()) nodes.insert(info.node_id);
  }
  out.nodes = nodes.size();
  return out;
}

AdsServerStats AdsServer::stats() const { return impl_->stats(); }

std::vector<ClientStatus> AdsServer::clients(bool with_resources) const { return impl_->clients(with_resources); }

bool ClientStatus::in_sync() const {
  return std::all_of(types.begin(), types.end(), [](const ClientTypeStatus& type) { return type.in_sync; });
}

}  // namespace outrigger::control
