#include "filters/grpc_web/grpc_web.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/grpc.h"
#include "envoy/extensions/filters/http/grpc_web/v3/grpc_web.pb.h"
#include "filters/grpc_web/base64_stream.h"
#include "http/grpc_frames.h"

namespace outrigger::filters {
namespace {

constexpr std::string_view kWeb = "application/grpc-web";
constexpr std::string_view kText = "-text";
constexpr std::string_view kPlain = "application/grpc";
constexpr size_t kMaxMessageBytes = 1024;  // of an answer that is not gRPC's
constexpr uint8_t kTrailersFlag = 0x80;

// "application/grpc-web", "-text" perhaps, and "+proto" or the like perhaps.
struct MediaType {
  bool web = false;
  bool text = false;
  std::string_view suffix;  // with its '+'

  explicit MediaType(std::string_view type) {
    if (!type.starts_with(kWeb)) return;
    type.remove_prefix(kWeb.size());
    text = type.starts_with(kText);
    if (text) type.remove_prefix(kText.size());
    web = type.empty() || type.front() == '+';
    suffix = type;
  }
};

void set_type(HeaderMap& headers, std::string_view base, std::string_view variant, std::string_view suffix) {
  char text[64];
  const std::string_view fits = suffix.substr(0, sizeof(text) - kWeb.size() - kText.size());
  char* at = text;
  for (const std::string_view part : {base, variant, fits}) at = std::copy(part.begin(), part.end(), at);
  headers.set(HeaderId::kContentType, {text, static_cast<size_t>(at - text)});
}

// A gRPC-Web request's head becomes a gRPC one's; what it was.
MediaType to_grpc(HeaderMap& headers) {
  const MediaType type(headers.get(HeaderId::kContentType));
  if (!type.web) return type;
  headers.remove(HeaderId::kContentLength);
  set_type(headers, kPlain, {}, type.suffix);
  headers.set_view(HeaderId::kTe, "trailers");
  headers.set("grpc-accept-encoding", "identity,deflate,gzip");
  return type;
}

class WebFilter final : public Filter {
 public:
  explicit WebFilter(StreamHandle& stream) : stream_(stream) {}

  Verdict on_request_headers(HeaderMap& headers, bool end_stream) override;
  Verdict on_request_data(Buffer& data, bool end_stream) override;
  Verdict on_response_headers(HeaderMap& headers, bool end_stream) override;
  Verdict on_response_data(Buffer& data, bool end_stream) override;
  Verdict on_response_trailers(HeaderMap& trailers) override;

 private:
  Verdict refuse(std::string_view details);
  void gather_message(Buffer& data);
  void finish_foreign();
  void encode(std::string_view bytes, Buffer& out);

  StreamHandle& stream_;
  Base64Decoder decoder_;
  Base64Encoder encoder_;
  http::GrpcFrames frames_;  // of a response in text form
  char* message_ = nullptr;  // the body so far of an answer that is not gRPC's
  size_t message_size_ = 0;
  bool web_ = false;
  bool text_request_ = false;
  bool text_response_ = false;
  bool foreign_ = false;  // the answer is not gRPC's
};

class WebConfig final : public FilterConfig {
 public:
  Filter* create(StreamHandle& stream) const override { return stream.arena().make<WebFilter>(stream); }
  FilterExplanation explain(ExplainRequest& request) const override;
};

// --- request ---------------------------------------------------------------------------------------------------------

Verdict WebFilter::on_request_headers(HeaderMap& headers, bool) {
  const MediaType type = to_grpc(headers);
  web_ = type.web;
  text_request_ = type.text;
  text_response_ = web_ && MediaType(headers.get(HeaderId::kAccept)).text;
  return Verdict::kContinue;
}

Verdict WebFilter::on_request_data(Buffer& data, bool end_stream) {
  if (!text_request_) return Verdict::kContinue;
  Buffer decoded;
  for (const Buffer::Slice& slice : data)
    if (!decoder_.decode(slice.view(), decoded)) return refuse("grpc_base_64_decode_failed");
  if (end_stream && !decoder_.between()) return refuse("grpc_base_64_decode_failed_bad_size");
  data = std::move(decoded);
  return Verdict::kContinue;
}

Verdict WebFilter::refuse(std::string_view details) {
  stream_.reply({.status = 400, .body = "Bad gRPC-web request, invalid base64 data.", .details = details});
  return Verdict::kPause;
}

// --- response --------------------------------------------------------------------------------------------------------

Verdict WebFilter::on_response_headers(HeaderMap& headers, bool end_stream) {
  if (!web_) return Verdict::kContinue;
  const std::string_view type = headers.get(HeaderId::kContentType);
  const std::string_view suffix = is_grpc(type) && type.size() > kPlain.size() ? type.substr(kPlain.size()) : "+proto";
  const bool status_given = headers.has(HeaderId::kGrpcStatus);
  foreign_ = end_stream ? !status_given : headers.get(HeaderId::kStatus) != "200" || !is_grpc(type);
  headers.remove(HeaderId::kContentLength);
  set_type(headers, kWeb, text_response_ ? kText : std::string_view{}, suffix);
  if (!foreign_) return Verdict::kContinue;
  if (!status_given) {
    uint16_t status = 0;
    for (const char c : headers.get(HeaderId::kStatus)) status = static_cast<uint16_t>(status * 10 + (c - '0'));
    char digits[12];
    const char* const end = std::to_chars(digits, digits + sizeof(digits), grpc_status_of_http(status)).ptr;
    headers.set(HeaderId::kGrpcStatus, {digits, static_cast<size_t>(end - digits)});
  }
  headers.set_view(HeaderId::kStatus, "200");
  return end_stream ? Verdict::kContinue : Verdict::kBuffer;
}

Verdict WebFilter::on_response_data(Buffer& data, bool end_stream) {
  if (!web_) return Verdict::kContinue;
  if (foreign_) {
    gather_message(data);
    if (!end_stream) return Verdict::kBuffer;
    finish_foreign();
    return Verdict::kContinue;
  }
  if (!text_response_) return Verdict::kContinue;
  Buffer text;
  for (const Buffer::Slice& slice : data) encode(slice.view(), text);
  if (end_stream) encoder_.finish(text);
  data = std::move(text);
  return Verdict::kContinue;
}

// The trailers become the body's last frame: a browser cannot see trailers.
Verdict WebFilter::on_response_trailers(HeaderMap& trailers) {
  if (!web_) return Verdict::kContinue;
  if (foreign_) {
    finish_foreign();
    trailers.clear();
    return Verdict::kContinue;
  }
  size_t size = 0;
  trailers.for_each([&](const Header& h) { size += h.name.size() + h.value.size() + 3; });
  char head[http::GrpcFrames::kHeadBytes];
  http::GrpcFrames::write_head(head, kTrailersFlag, static_cast<uint32_t>(size));
  Buffer frame(std::string_view(head, sizeof(head)));
  trailers.for_each([&](const Header& h) {
    for (const std::string_view part : {h.name, std::string_view(":"), h.value, std::string_view("\r\n")})
      frame.append(part);
  });
  if (text_response_) {
    Buffer text;
    for (const Buffer::Slice& slice : frame) encode(slice.view(), text);
    encoder_.finish(text);
    frame = std::move(text);
  }
  stream_.add_data(std::move(frame));
  // The head has gone; what is added to it now is seen by the access log only.
  if (const Header* const status = trailers.find(HeaderId::kGrpcStatus); status != nullptr)
    stream_.response_headers()->set_view(HeaderId::kGrpcStatus, status->value);
  trailers.clear();
  return Verdict::kContinue;
}

// Its first bytes become grpc-message; no byte is passed on.
void WebFilter::gather_message(Buffer& data) {
  if (message_ == nullptr) message_ = static_cast<char*>(stream_.arena().try_allocate(kMaxMessageBytes, 1));
  for (const Buffer::Slice& slice : data) {
    if (message_ == nullptr) break;
    const size_t size = std::min<size_t>(slice.size, kMaxMessageBytes - message_size_);
    std::memcpy(message_ + message_size_, slice.data, size);
    message_size_ += size;
  }
  data.clear();
}

void WebFilter::finish_foreign() {
  HeaderMap& headers = *stream_.response_headers();
  if (message_size_ == 0 || headers.has(HeaderId::kGrpcMessage)) return;
  const std::string_view message = grpc_message({message_, message_size_}, stream_.arena());
  if (message.data() != nullptr) headers.set_view(HeaderId::kGrpcMessage, message);
}

// A message's text ends with it, so that the client can read it before the next one comes.
void WebFilter::encode(std::string_view bytes, Buffer& out) {
  while (!bytes.empty()) {
    bool ended = false;
    const size_t size = frames_.next(bytes, ended);
    encoder_.encode(bytes.substr(0, size), out);
    if (ended) encoder_.finish(out);
    bytes.remove_prefix(size);
  }
}

// --- config ----------------------------------------------------------------------------------------------------------

FilterExplanation WebConfig::explain(ExplainRequest& request) const {
  const MediaType type = to_grpc(request.headers);
  return {.verdict = FilterExplanation::Verdict::kPasses,
          .reason = !type.web   ? "the request is not gRPC-Web's"
                    : type.text ? "text becomes gRPC"
                                : "becomes gRPC"};
}

std::shared_ptr<const FilterConfig> compile(const google::protobuf::Message&, const config::FieldPath&,
                                            config::CompileContext&) {
  return std::make_shared<WebConfig>();
}

}  // namespace

config::FilterType grpc_web_filter_type() {
  return {.name = "envoy.filters.http.grpc_web",
          .config_type = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
          .route_type = "",
          .compile = compile,
          .compile_route = nullptr};
}

}  // namespace outrigger::filters
