#include "xds/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "envoy/service/discovery/v3/discovery.pb.h"
#include "xds/machine.h"

namespace outrigger::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;
constexpr int kInvalidArgument = 3;  // google.rpc.Code
constexpr int64_t kMaxTtlSeconds = 10LL * 365 * 24 * 3600;

// Length of the well-formed UTF-8 sequence at text[at]; 0: malformed (RFC 3629).
size_t utf8_sequence(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!tail(1) || !tail(2)) return 0;
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) > 0x9F;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    const bool overlong = lead == 0xF0 && byte(1) < 0x90;
    const bool too_high = lead == 0xF4 && byte(1) > 0x8F;
    return overlong || too_high ? 0 : 4;
  }
  return 0;
}

std::string clean_detail(std::string_view text) {
  std::string out;
  out.reserve(std::min(text.size(), kMaxErrorDetailBytes));
  size_t at = 0;
  while (at < text.size() && out.size() < kMaxErrorDetailBytes) {
    const size_t length = utf8_sequence(text, at);
    if (length == 0) {
      out += '?';
      ++at;
    } else {
      out.append(text.substr(at, length));
      at += length;
    }
  }
  if (at < text.size()) out += fmt::format("\n({} more bytes cut)", text.size() - at);
  return out;
}

void fill(Resource& out, google::protobuf::Any& any) {
  out.type_url = std::move(*any.mutable_type_url());
  out.bytes = std::move(*any.mutable_value());
}

uint64_t ttl_ms(const google::protobuf::Duration& ttl) {
  if (ttl.seconds() < 0 || ttl.nanos() < 0) return 0;
  const int64_t seconds = std::min<int64_t>(ttl.seconds(), kMaxTtlSeconds);
  return static_cast<uint64_t>(seconds * 1'000 + ttl.nanos() / 1'000'000);
}

void fill(Resource& out, discovery::Resource& wrapper) {
  out.name = std::move(*wrapper.mutable_name());
  out.version = std::move(*wrapper.mutable_version());
  out.ttl_ms = ttl_ms(wrapper.ttl());
  out.heartbeat = !wrapper.has_resource();
  fill(out, *wrapper.mutable_resource());
}

// What both forms of a request have.
template <class Message>
void fill_common(Message& message, const Request& request, std::string_view node) {
  message.set_type_url(std::string(type_url(request.type)));
  message.set_response_nonce(request.nonce);
  if (request.with_node) message.mutable_node()->ParseFromArray(node.data(), static_cast<int>(node.size()));
  if (!request.error_detail.empty()) {
    message.mutable_error_detail()->set_code(kInvalidArgument);
    message.mutable_error_detail()->set_message(clean_detail(request.error_detail));
  }
}

// What both forms of a response have, the version and resources aside.
template <class Message>
Result<Response> parse_common(Message& message, std::string_view bytes) {
  if (bytes.size() > INT_MAX || !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Errc::kProtocol, fmt::format("a discovery response of {} bytes does not parse", bytes.size()));
  }
  Response response;
  response.type_url = std::move(*message.mutable_type_url());
  response.nonce = std::move(*message.mutable_nonce());
  response.control_plane = std::move(*message.mutable_control_plane()->mutable_identifier());
  response.resources.resize(static_cast<size_t>(message.resources_size()));
  return response;
}

bool is_wrapper(const google::protobuf::Any& any) {
  return any.type_url() == "type.googleapis.com/envoy.service.discovery.v3.Resource";
}

}  // namespace

std::string encode_request(const Request& request, std::string_view node) {
  discovery::DiscoveryRequest message;
  fill_common(message, request, node);
  message.set_version_info(request.version);
  for (const std::string& name : request.names) message.add_resource_names(name);
  return message.SerializeAsString();
}

std::string encode_delta_request(const Request& request, std::string_view node) {
  discovery::DeltaDiscoveryRequest message;
  fill_common(message, request, node);
  for (const std::string& name : request.subscribe) message.add_resource_names_subscribe(name);
  for (const std::string& name : request.unsubscribe) message.add_resource_names_unsubscribe(name);
  for (const auto& [name, version] : request.held) (*message.mutable_initial_resource_versions())[name] = version;
  return message.SerializeAsString();
}

Result<Response> decode_response(std::string_view bytes) {
  discovery::DiscoveryResponse message;
  TRY(Response response, parse_common(message, bytes));
  response.version = std::move(*message.mutable_version_info());
  for (int i = 0; i < message.resources_size(); ++i) {
    google::protobuf::Any& any = *message.mutable_resources(i);
    Resource& resource = response.resources[static_cast<size_t>(i)];
    discovery::Resource wrapper;
    if (is_wrapper(any) && wrapper.ParseFromString(any.value())) {
      fill(resource, wrapper);
    } else {
      fill(resource, any);
    }
  }
  response.hash = fingerprint(response);
  return response;
}

Result<Response> decode_delta_response(std::string_view bytes) {
  discovery::DeltaDiscoveryResponse message;
  TRY(Response response, parse_common(message, bytes));
  response.version = std::move(*message.mutable_system_version_info());
  response.removed.assign(message.removed_resources().begin(), message.removed_resources().end());
  for (int i = 0; i < message.resources_size(); ++i) {
    fill(response.resources[static_cast<size_t>(i)], *message.mutable_resources(i));
  }
  response.hash = fingerprint(response);
  return response;
}

}  // namespace outrigger::xds
