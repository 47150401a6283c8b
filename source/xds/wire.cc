#include "xds/wire.h"

#include <fmt/format.h>

#include <climits>
#include <utility>

#include "envoy/service/discovery/v3/discovery.pb.h"

namespace outrigger::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;
constexpr int kInvalidArgument = 3;  // google.rpc.Code

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

bool is_wrapper(const google::protobuf::Any& any) {
  return any.type_url() == "type.googleapis.com/envoy.service.discovery.v3.Resource";
}

}  // namespace

std::string encode_request(const Request& request, std::string_view node) {
  discovery::DiscoveryRequest message;
  message.set_type_url(std::string(type_url(request.type)));
  message.set_version_info(request.version);
  message.set_response_nonce(request.nonce);
  for (const std::string& name : request.names) message.add_resource_names(name);
  if (request.with_node) message.mutable_node()->ParseFromArray(node.data(), static_cast<int>(node.size()));
  if (!request.error_detail.empty()) {
    message.mutable_error_detail()->set_code(kInvalidArgument);
    message.mutable_error_detail()->set_message(clean_detail(request.error_detail));
  }
  return message.SerializeAsString();
}

Result<Response> decode_response(std::string_view bytes) {
  discovery::DiscoveryResponse message;
  if (bytes.size() > INT_MAX || !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Errc::kProtocol, fmt::format("a discovery response of {} bytes does not parse", bytes.size()));
  }
  Response response;
  response.version = std::move(*message.mutable_version_info());
  response.type_url = std::move(*message.mutable_type_url());
  response.nonce = std::move(*message.mutable_nonce());
  response.control_plane = std::move(*message.mutable_control_plane()->mutable_identifier());
  response.resources.reserve(static_cast<size_t>(message.resources_size()));
  for (google::protobuf::Any& any : *message.mutable_resources()) {
    Resource& resource = response.resources.emplace_back();
    discovery::Resource wrapper;
    if (!is_wrapper(any) || !wrapper.ParseFromString(any.value())) {
      fill(resource, any);
      continue;
    }
    resource.name = std::move(*wrapper.mutable_name());
    resource.version = std::move(*wrapper.mutable_version());
    const int64_t ttl_ms = wrapper.ttl().seconds() * 1'000 + wrapper.ttl().nanos() / 1'000'000;
    resource.ttl_ms = ttl_ms > 0 ? static_cast<uint64_t>(ttl_ms) : 0;
    fill(resource, *wrapper.mutable_resource());
  }
  return response;
}

}  // namespace outrigger::xds
