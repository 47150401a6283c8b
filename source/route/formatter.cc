#include "route/formatter.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "base/grpc.h"
#include "base/metadata_json.h"

namespace outrigger::route {
namespace {

using Kind = config::FormatOperator::Kind;

// ---- times ----

constexpr std::string_view kDefaultTimeFormat = "%Y-%m-%dT%H:%M:%E3SZ";

void append_padded(TextOut& out, uint32_t value, int digits) {
  char text[10];
  for (int i = digits; i-- > 0; value /= 10) text[i] = static_cast<char>('0' + value % 10);
  out.append({text, static_cast<size_t>(digits)});
}

void append_fraction(TextOut& out, uint32_t micros, int digits) {
  for (int i = digits; i < 6; ++i) micros /= 10;
  append_padded(out, micros, std::min(digits, 6));
  for (int i = 6; i < digits; ++i) out.append('0');
}

// strftime in UTC, with Envoy's additions: %s (seconds since 1970), %f and %1f..%9f (digits of the fraction),
// %E1S..%E9S (seconds with a fraction).
void append_time(TextOut& out, std::string_view format, int64_t unix_us) {
  if (format.empty()) format = kDefaultTimeFormat;
  const int64_t seconds = unix_us >= 0 ? unix_us / 1'000'000 : (unix_us - 999'999) / 1'000'000;
  const auto micros = static_cast<uint32_t>(unix_us - seconds * 1'000'000);
  const time_t time = seconds;
  tm utc{};
  gmtime_r(&time, &utc);
  const auto is_digit = [](char c) { return c >= '1' && c <= '9'; };
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out.append(format[i]);
      continue;
    }
    const std::string_view rest = format.substr(i + 1);
    if (rest[0] == 's') {
      if (seconds < 0) out.append('-');
      out.append_number(static_cast<uint64_t>(seconds < 0 ? -seconds : seconds));
      i += 1;
    } else if (rest[0] == 'f') {
      append_fraction(out, micros, 9);
      i += 1;
    } else if (rest.size() > 1 && is_digit(rest[0]) && rest[1] == 'f') {
      append_fraction(out, micros, rest[0] - '0');
      i += 2;
    } else if (rest.size() > 2 && rest[0] == 'E' && is_digit(rest[1]) && rest[2] == 'S') {
      append_padded(out, static_cast<uint32_t>(utc.tm_sec), 2);
      out.append('.');
      append_fraction(out, micros, rest[1] - '0');
      i += 3;
    } else {
      const size_t length = (rest[0] == 'E' || rest[0] == 'O') && rest.size() > 1 ? 2 : 1;
      char conversion[4] = {'%', rest[0], length == 2 ? rest[1] : '\0', '\0'};
      char text[64];
      out.append({text, strftime(text, sizeof(text), conversion, &utc)});
      i += length;
    }
  }
}

// ---- values ----

std::string_view protocol_text(Protocol protocol) {
  switch (protocol) {
    case Protocol::kHttp10:
      return "HTTP/1.0";
    case Protocol::kHttp11:
      return "HTTP/1.1";
    case Protocol::kHttp2:
      return "HTTP/2";
    case Protocol::kNone:
      break;
  }
  return "";
}

void append_flags(TextOut& out, uint32_t flags, bool long_names) {
  bool any = false;
  const auto add = [&](std::string_view name) {
    if (any) out.append(',');
    out.append(name);
    any = true;
  };
#define OUTRIGGER_FLAG_TEXT(name, bit, short_text, long_text) \
  if ((flags >> bit & 1) != 0) add(long_names ? long_text : short_text);
  OUTRIGGER_RESPONSE_FLAGS(OUTRIGGER_FLAG_TEXT)
#undef OUTRIGGER_FLAG_TEXT
  if (!any) out.append('-');
}

// "ip" of "ip:port" ("::1" of "[::1]:80"); what has no port stays.
std::string_view without_port(std::string_view address) {
  if (address.starts_with('[')) {
    const size_t close = address.find(']');
    return close == std::string_view::npos ? address : address.substr(1, close - 1);
  }
  return address.starts_with('/') || address.starts_with('@') ? address : address.substr(0, address.rfind(':'));
}

std::string_view host_name() {
  struct HostName {
    char text[256] = {};
    HostName() {
      if (gethostname(text, sizeof(text) - 1) != 0) text[0] = '\0';
    }
  };
  static const HostName name;
  return name.text;
}

// A random UUID (version 4, RFC 9562).
void append_uuid(TextOut& out) {
  unsigned char bytes[16];
  CHECK(getrandom(bytes, sizeof(bytes), 0) == static_cast<ssize_t>(sizeof(bytes)));
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  for (size_t i = 0; i < sizeof(bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out.append('-');
    out.append("0123456789abcdef"[bytes[i] >> 4]);
    out.append("0123456789abcdef"[bytes[i] & 15]);
  }
}

bool append_header(const config::FormatOperator& op, const HeaderMap* headers, TextOut& out) {
  if (headers == nullptr) return false;
  const Header* found = headers->find(op.arg);
  if (found == nullptr && !op.alt.empty()) found = headers->find(op.alt);
  if (found == nullptr) return false;
  out.append(found->value);
  return true;
}

bool append_text(std::string_view text, TextOut& out) {
  out.append(text);
  return !text.empty();
}

// Missing unless the request is gRPC's, as in Envoy.
bool append_grpc_status(const config::FormatOperator& op, const FormatContext& context, TextOut& out) {
  if (context.request == nullptr || !is_grpc(context.request->get(HeaderId::kContentType))) return false;
  const uint16_t http_status = context.info == nullptr ? 0 : context.info->response_code;
  const uint32_t status = grpc_status_of_response(context.response, context.response_trailers, http_status);
  std::string_view name;
  if (op.kind == Kind::kGrpcStatus && op.arg != "NUMBER")
    name = op.arg == "SNAKE_STRING" ? grpc_status_snake(status) : grpc_status_camel(status);
  if (name.empty()) {
    out.append_number(status);
  } else {
    out.append(name);
  }
  return true;
}

bool append_milliseconds(int64_t from_ns, int64_t to_ns, TextOut& out) {
  if (from_ns == 0 || to_ns == 0) return false;
  out.append_number(static_cast<uint64_t>(std::max<int64_t>(0, to_ns - from_ns) / 1'000'000));
  return true;
}

bool append_list(const std::vector<std::string>& list, TextOut& out) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out.append(',');
    out.append(list[i]);
  }
  return !list.empty();
}

// Of one of the two certificates; false: there is none.
bool append_certificate(Kind kind, const TlsInfo& tls, TextOut& out) {
  const bool ours = kind == Kind::kDownstreamLocalSubject || kind == Kind::kDownstreamLocalUriSan;
  const CertificateInfo* certificate = ours ? tls.local : tls.peer.get();
  if (certificate == nullptr) return false;
  switch (kind) {
    case Kind::kDownstreamPeerSubject:
    case Kind::kDownstreamLocalSubject:
      return append_text(certificate->subject, out);
    case Kind::kDownstreamPeerIssuer:
      return append_text(certificate->issuer, out);
    case Kind::kDownstreamPeerUriSan:
    case Kind::kDownstreamLocalUriSan:
      return append_list(certificate->uri_names, out);
    case Kind::kDownstreamPeerDnsSan:
      return append_list(certificate->dns_names, out);
    case Kind::kDownstreamPeerSerial:
      return append_text(certificate->serial, out);
    case Kind::kDownstreamPeerFingerprint256:
      return append_text(certificate->sha256, out);
    default:
      return false;
  }
}

bool append_tls(Kind kind, const TlsInfo* tls, TextOut& out) {
  if (tls == nullptr) return false;
  switch (kind) {
    case Kind::kRequestedServerName:
      return append_text(tls->server_name, out);
    case Kind::kDownstreamTlsVersion:
      return append_text(tls->version, out);
    case Kind::kDownstreamTlsCipher:
      return append_text(tls->cipher, out);
    default:
      return append_certificate(kind, *tls, out);
  }
}

// Values that StreamInfo holds.
bool append_info(const config::FormatOperator& op, const StreamInfo& info, TextOut& out) {
  switch (op.kind) {
    case Kind::kStartTime:
      if (info.start_time_unix_us == 0) return false;
      append_time(out, op.arg, info.start_time_unix_us);
      return true;
    case Kind::kProtocol:
      return append_text(protocol_text(info.protocol), out);
    case Kind::kResponseCode:
      out.append_number(info.response_code);
      return true;
    case Kind::kResponseCodeDetails:
      return append_text(info.response_code_details, out);
    case Kind::kResponseFlags:
    case Kind::kResponseFlagsLong:
      append_flags(out, info.response_flags, op.kind == Kind::kResponseFlagsLong);
      return true;
    case Kind::kBytesReceived:
      out.append_number(info.request_bytes);
      return true;
    case Kind::kBytesSent:
      out.append_number(info.response_bytes);
      return true;
    case Kind::kDuration:
      return append_milliseconds(info.start_ns, info.end_ns, out);
    case Kind::kRequestDuration:
      return append_milliseconds(info.start_ns, info.request_end_ns, out);
    case Kind::kResponseDuration:
      return append_milliseconds(info.start_ns, info.upstream_first_byte_ns, out);
    case Kind::kUpstreamHost:
      return append_text(info.upstream_host, out);
    case Kind::kUpstreamCluster:
      return append_text(info.cluster, out);
    case Kind::kUpstreamRemoteAddress:
      return append_text(info.upstream_remote_address, out);
    case Kind::kUpstreamRemoteAddressWithoutPort:
      return append_text(without_port(info.upstream_remote_address), out);
    case Kind::kUpstreamLocalAddress:
      return append_text(info.upstream_local_address, out);
    case Kind::kUpstreamRequestAttemptCount:
      out.append_number(info.upstream_attempts);
      return true;
    case Kind::kDownstreamRemoteAddress:
      return append_text(info.downstream_remote_address, out);
    case Kind::kDownstreamRemoteAddressWithoutPort:
      return append_text(without_port(info.downstream_remote_address), out);
    case Kind::kDownstreamDirectRemoteAddress:
      return append_text(info.downstream_direct_remote_address, out);
    case Kind::kDownstreamDirectRemoteAddressWithoutPort:
      return append_text(without_port(info.downstream_direct_remote_address), out);
    case Kind::kDownstreamLocalAddress:
      return append_text(info.downstream_local_address, out);
    case Kind::kDownstreamLocalAddressWithoutPort:
      return append_text(without_port(info.downstream_local_address), out);
    case Kind::kRouteName:
      return append_text(info.route_name, out);
    case Kind::kConnectionId:
      out.append_number(info.connection_id);
      return true;
    case Kind::kStreamId:
      return append_text(info.request_id, out);
    case Kind::kConfigVersion:
      out.append_number(info.snapshot_version);
      return true;
    case Kind::kClientName:
      return append_text(info.client_name, out);
    case Kind::kUpstreamTransportFailureReason:
      return append_text(info.upstream_transport_failure, out);
    default:
      return append_tls(op.kind, info.downstream_tls, out);
  }
}

const Metadata* metadata_of(config::FormatOperator::Source source, const FormatContext& context) {
  using Source = config::FormatOperator::Source;
  switch (source) {
    case Source::kDynamic:
      return context.info == nullptr ? nullptr : context.info->dynamic_metadata;
    case Source::kCluster:
      return context.cluster_metadata;
    case Source::kRoute:
      return context.route_metadata;
    case Source::kUpstreamHost:
      return context.upstream_metadata;
    case Source::kListener:
      return context.listener_metadata;
    case Source::kVirtualHost:
      return context.virtual_host_metadata;
  }
  return nullptr;
}

// Text as it is, everything else as JSON.
bool append_metadata(const MetadataValue* value, TextOut& out) {
  if (value == nullptr) return false;
  if (const std::string* text = value->text()) {
    out.append(*text);
  } else {
    write_json(*value, out);
  }
  return true;
}

}  // namespace

void TextOut::append(std::string_view text) {
  if (text.size() > capacity_ - size_ && !grow(size_ + text.size())) {
    truncated_ = true;
    text = text.substr(0, capacity_ - size_);
  }
  if (text.empty()) return;
  std::memcpy(data_ + size_, text.data(), text.size());
  size_ += text.size();
}

bool TextOut::grow(size_t want) {
  if (arena_ == nullptr) return false;
  const size_t bigger = std::max({want, capacity_ * 2, size_t{64}});
  char* data = static_cast<char*>(arena_->try_allocate(bigger, 1));
  if (data == nullptr) return false;
  if (size_ > 0) std::memcpy(data, data_, size_);
  data_ = data;
  capacity_ = bigger;
  return true;
}

void TextOut::append_number(uint64_t value) {
  char text[20];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  append({text, static_cast<size_t>(end - text)});
}

Formatter::Formatter(std::vector<config::FormatOperator> operators) : operators_(std::move(operators)) {}

Formatter Formatter::compile(std::string_view format) {
  auto operators = config::parse_format(format);
  CHECK(operators.has_value());
  return Formatter(std::move(*operators));
}

const MetadataValue* Formatter::metadata_value(const config::FormatOperator& op, const FormatContext& context) {
  const Metadata* metadata = metadata_of(op.source, context);
  if (metadata == nullptr) return nullptr;
  const MetadataValue* value = metadata->find(op.path.front());
  for (size_t i = 1; i < op.path.size() && value != nullptr; ++i) value = value->find(op.path[i]);
  return value == nullptr || value->null() ? nullptr : value;
}

bool Formatter::append_value(const config::FormatOperator& op, const FormatContext& context, TextOut& out) {
  const size_t start = out.size();
  bool found = false;
  switch (op.kind) {
    case Kind::kText:
      out.append(op.arg);
      return true;
    case Kind::kReq:
      found = append_header(op, context.request, out);
      break;
    case Kind::kResp:
      found = append_header(op, context.response, out);
      break;
    case Kind::kTrailer:
      found = append_header(op, context.response_trailers, out);
      break;
    case Kind::kGrpcStatus:
    case Kind::kGrpcStatusNumber:
      found = append_grpc_status(op, context, out);
      break;
    case Kind::kMetadata:
    case Kind::kDynamicMetadata:
    case Kind::kClusterMetadata:
    case Kind::kUpstreamMetadata:
      found = append_metadata(metadata_value(op, context), out);
      break;
    case Kind::kHostname:
      found = append_text(host_name(), out);
      break;
    case Kind::kUniqueId:
      append_uuid(out);
      found = true;
      break;
    default:
      found = context.info != nullptr && append_info(op, *context.info, out);
  }
  if (found && op.max_len < out.size() - start) out.resize_down(start + op.max_len);
  return found;
}

void Formatter::format(const FormatContext& context, Missing missing, TextOut& out) const {
  for (const config::FormatOperator& op : operators_)
    if (!append_value(op, context, out) && missing == Missing::kDash) out.append('-');
}

bool Formatter::constant() const {
  return std::all_of(operators_.begin(), operators_.end(), [](const auto& op) { return op.kind == Kind::kText; });
}

std::string_view Formatter::constant_text() const {
  return operators_.size() == 1 && constant() ? std::string_view(operators_[0].arg) : std::string_view();
}

}  // namespace outrigger::route
