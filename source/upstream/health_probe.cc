#include "upstream/health_probe.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/grpc.h"
#include "base/proto_wire.h"
#include "http/grpc_frames.h"
#include "upstream/client_codec.h"
#include "upstream/client_pools.h"
#include "upstream/connect_host.h"

namespace outrigger::upstream {
namespace {

using Kind = config::HealthCheckSpec::Kind;
using Result = ProbeResult::Kind;

constexpr size_t kMaxReceived = 64 * 1024;  // of one check
constexpr uint64_t kServing = 1;            // grpc.health.v1.HealthCheckResponse.ServingStatus

constexpr std::string_view kUserAgent = "outrigger-health-check";

// HealthCheckRequest { string service = 1; }
std::string health_request(const std::string& service) {
  std::string message;
  if (!service.empty()) append_field(message, 1, service);
  return message;
}

// HealthCheckResponse { ServingStatus status = 1; }, fields of later versions skipped. False: it is none.
bool serving_status(std::string_view message, uint64_t& status) {
  status = 0;
  ProtoWire fields(message);
  for (ProtoField field; fields.next(field);)
    if (field.number == 1 && field.type == ProtoField::kVarint) status = field.value;
  return !fields.broken();
}

// The one message of a gRPC body, uncompressed; false: the body is something else.
bool only_message(std::string_view body, std::string_view& message) {
  if (body.size() < http::GrpcFrames::kHeadBytes || body[0] != 0) return false;
  uint32_t size = 0;
  for (size_t i = 1; i < http::GrpcFrames::kHeadBytes; ++i) size = size << 8 | static_cast<unsigned char>(body[i]);
  message = body.substr(http::GrpcFrames::kHeadBytes);
  return message.size() == size;
}

bool among(uint16_t status, const std::vector<config::HealthCheckSpec::Statuses>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& range) { return status >= range.begin && status < range.end; });
}

}  // namespace

// ---- the connection

HealthProbe::HealthProbe(std::shared_ptr<const Cluster> cluster, std::shared_ptr<Host> host, stats::Shard& uncounted,
                         ProbeOwner& owner)
    : cluster_(std::move(cluster)), host_(std::move(host)), uncounted_(uncounted), owner_(&owner) {}

HealthProbe* HealthProbe::connect(event::Loop& loop, std::shared_ptr<const Cluster> cluster, std::shared_ptr<Host> host,
                                  const net::Address& address, stats::Shard& uncounted, ProbeOwner& owner) {
  auto* probe = new HealthProbe(std::move(cluster), std::move(host), uncounted, owner);
  const config::ClusterSpec& spec = probe->cluster_->spec();
  probe->connection_ = net::Connection::connect(loop, address, *probe, connection_options(spec), probe->tls_session());
  if (spec.proxy_header != config::ProxyHeaderVersion::kNone)
    tell_client(*probe->connection_, spec.proxy_header, {}, {});
  return probe;
}

net::TlsSessionPtr HealthProbe::tls_session() const {
  const auto& tls = cluster_->tls();
  if (tls == nullptr) return nullptr;
  if (!spec().alpn_protocols.empty())
    return tls->client_session(host_->hostname, alpn_wire(spec().alpn_protocols), nullptr, true);
  if (spec().kind == Kind::kTcp) return tls->client_session(host_->hostname, {}, nullptr);
  return tls->client_session(host_->hostname, spec().speaks_http2() ? "\x02h2" : "\x08http/1.1", nullptr, true);
}

void HealthProbe::on_connected(net::Connection&) {
  connected_ = true;
  if (spec().kind != Kind::kTcp) make_codec();
  if (checking_) check();
}

void HealthProbe::make_codec() {
  codec_ = make_client_codec(spec().speaks_http2(), *connection_, *this, cluster_->spec(),
                             {cluster_->stats().http2.get(), &uncounted_});
}

void HealthProbe::on_read(net::Connection&, Block* block, const char* data, size_t size) {
  if (codec_ != nullptr) return codec_->on_read(block, data, size);
  if (!checking_) return;
  if (received_.size() + size > kMaxReceived) return fail("more bytes than are looked at, and not those expected");
  received_.append(data, size);
  match_bytes();
}

void HealthProbe::on_eof(net::Connection&) {
  if (codec_ != nullptr) return codec_->on_eof();
  fail("the host closed the connection");
}

void HealthProbe::on_write_watermark(net::Connection&, bool above) {
  if (codec_ != nullptr) codec_->on_write_watermark(above);
}

void HealthProbe::on_close(net::Connection& connection, const Error* error) {
  event::Loop& loop = connection.loop();
  connection_ = nullptr;
  if (error != nullptr && checking_) end({Result::kNetwork, error->detail});
  if (codec_ != nullptr) codec_->on_close();
  fail("the connection was closed");
  loop.defer_delete(std::unique_ptr<event::Deferred>(this));
}

void HealthProbe::abandon() {
  owner_ = nullptr;
  give_up();
}

void HealthProbe::cut() {
  abandon();
  if (connection_ != nullptr) connection_->close(net::Close::kNow);
}

// ---- a check

void HealthProbe::check() {
  CHECK(connected_ && !stream_open_);
  checking_ = true;
  received_.clear();
  if (spec().kind == Kind::kTcp) {
    send_bytes();
  } else {
    send_request();
  }
}

void HealthProbe::send_bytes() {
  if (!spec().send.empty()) connection_->write(Buffer(spec().send));
  if (!spec().receive.empty()) return;
  // That there is somebody is enough.
  end({Result::kHealthy});
  if (connection_ != nullptr) connection_->close(net::Close::kFlush);
  give_up();
}

void HealthProbe::match_bytes() {
  size_t at = 0;
  for (const std::string& wanted : spec().receive) {
    at = received_.find(wanted, at);
    if (at == std::string::npos) return;
    at += wanted.size();
  }
  received_.clear();
  end({Result::kHealthy});
  if (!spec().reuse_connection) give_up();
}

void HealthProbe::send_request() {
  const bool grpc = spec().kind == Kind::kGrpc;
  arena_.emplace();
  HeaderMap head(*arena_);
  head.set_view(HeaderId::kMethod, grpc ? "POST" : std::string_view(spec().method));
  head.set_view(HeaderId::kScheme, cluster_->tls() == nullptr ? "http" : "https");
  head.set_view(HeaderId::kPath, grpc ? "/grpc.health.v1.Health/Check" : std::string_view(spec().path));
  const bool named = host_->check != nullptr && !host_->check->hostname.empty();
  const std::string& authority = named ? host_->check->hostname : spec().host.empty() ? cluster_->name() : spec().host;
  head.set_view(HeaderId::kAuthority, authority);
  head.set_view(HeaderId::kUserAgent, kUserAgent);
  if (grpc) {
    head.set_view(HeaderId::kTe, "trailers");
    head.set_view(HeaderId::kContentType, "application/grpc");
  }
  for (const auto& [name, value] : spec().headers)
    name == header_name(HeaderId::kUserAgent) ? head.set(name, value) : head.add(name, value);
  status_ = 0;
  stream_open_ = true;
  http::CodecStream& stream = codec_->new_stream(*this);
  stream.encode_headers(head, !grpc);
  if (!grpc) return;
  const std::string message = health_request(spec().service);
  char frame[http::GrpcFrames::kHeadBytes];
  http::GrpcFrames::write_head(frame, 0, static_cast<uint32_t>(message.size()));
  Buffer body(std::string_view(frame, sizeof(frame)));
  body.append(message);
  stream.encode_data(std::move(body), true);
}

void HealthProbe::on_headers(HeaderMap& headers, bool end_stream) {
  for (const char digit : headers.get(HeaderId::kStatus)) status_ = static_cast<uint16_t>(status_ * 10 + (digit - '0'));
  if (end_stream) return answered(headers);
  if (spec().kind != Kind::kGrpc) return;
  if (status_ == 200 && is_grpc(headers.get(HeaderId::kContentType))) return;
  why_ = fmt::format("HTTP status {}, and the answer is not gRPC's", status_);
  end({Result::kUnhealthy, why_});
  give_up();
}

void HealthProbe::on_data(Buffer& data, bool end_stream) {
  if (spec().kind == Kind::kGrpc && checking_) {
    if (received_.size() + data.size() > kMaxReceived) return fail("the answer is too large");
    for (const Buffer::Slice& slice : data) received_ += slice.view();
  }
  if (!end_stream) return;
  const HeaderMap none(*arena_);
  answered(none);
}

void HealthProbe::on_trailers(HeaderMap& trailers) { answered(trailers); }

void HealthProbe::on_reset(http::ResetReason, std::string_view details) {
  stream_open_ = false;
  fail(details.empty() ? "the request was reset" : details);
}

void HealthProbe::answered(const HeaderMap& with_status) {
  end(spec().kind == Kind::kGrpc ? judge_grpc(with_status) : judge_http());
}

ProbeResult HealthProbe::judge_http() {
  if (among(status_, spec().expected)) return {Result::kHealthy};
  why_ = fmt::format("HTTP status {}", status_);
  return {among(status_, spec().retriable) ? Result::kRetriable : Result::kUnhealthy, why_};
}

ProbeResult HealthProbe::judge_grpc(const HeaderMap& with_status) {
  const std::optional<uint32_t> code = grpc_status_of(with_status);
  if (!code) return {Result::kUnhealthy, "the answer has no grpc-status"};
  if (*code != kGrpcOk) {
    why_ = fmt::format("grpc-status {} {}", *code, grpc_status_snake(*code));
    return {Result::kUnhealthy, why_};
  }
  std::string_view message;
  uint64_t status = 0;
  if (!only_message(received_, message) || !serving_status(message, status))
    return {Result::kUnhealthy, "the answer is no HealthCheckResponse"};
  if (status == kServing) return {Result::kHealthy};
  why_ = fmt::format("its status is {}", status == 2 ? "NOT_SERVING" : status == 3 ? "SERVICE_UNKNOWN" : "UNKNOWN");
  return {Result::kUnhealthy, why_};
}

// ---- its end

http::StreamSink& HealthProbe::on_new_stream(http::CodecStream&) {
  CHECK(false);  // servers only
  __builtin_unreachable();
}

void HealthProbe::on_stream_end(bool reusable) {
  stream_open_ = false;
  if (!reusable || !spec().reuse_connection || codec_->capacity() == 0) give_up();
}

// The peer's GOAWAY: a check under way may still end well.
void HealthProbe::on_capacity_change() {
  if (!checking_ && !stream_open_ && codec_->capacity() == 0) give_up();
}

void HealthProbe::end(const ProbeResult& result) {
  if (std::exchange(checking_, false) && owner_ != nullptr) owner_->on_probe_end(*this, result);
}

void HealthProbe::fail(std::string_view why) {
  end({Result::kNetwork, why});
  give_up();
}

void HealthProbe::give_up() {
  if (ProbeOwner* const owner = std::exchange(owner_, nullptr); owner != nullptr) owner->on_probe_gone(*this);
  checking_ = false;
  if (connection_ == nullptr || connection_->closing()) return;
  if (codec_ != nullptr && codec_->idle()) {
    codec_->close_idle();
  } else {
    connection_->close(net::Close::kNow);
  }
}

}  // namespace outrigger::upstream
