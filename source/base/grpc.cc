#include "base/grpc.h"

#include <array>
#include <charconv>

namespace outrigger {
namespace {

constexpr std::string_view kGrpc = "application/grpc";

struct Names {
  std::string_view camel, snake;
};
constexpr std::array<Names, 17> kNames = {{{"OK", "OK"},
                                           {"Canceled", "CANCELLED"},
                                           {"Unknown", "UNKNOWN"},
                                           {"InvalidArgument", "INVALID_ARGUMENT"},
                                           {"DeadlineExceeded", "DEADLINE_EXCEEDED"},
                                           {"NotFound", "NOT_FOUND"},
                                           {"AlreadyExists", "ALREADY_EXISTS"},
                                           {"PermissionDenied", "PERMISSION_DENIED"},
                                           {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
                                           {"FailedPrecondition", "FAILED_PRECONDITION"},
                                           {"Aborted", "ABORTED"},
                                           {"OutOfRange", "OUT_OF_RANGE"},
                                           {"Unimplemented", "UNIMPLEMENTED"},
                                           {"Internal", "INTERNAL"},
                                           {"Unavailable", "UNAVAILABLE"},
                                           {"DataLoss", "DATA_LOSS"},
                                           {"Unauthenticated", "UNAUTHENTICATED"}}};

bool plain(char c) { return c >= 0x20 && c <= 0x7e && c != '%'; }

}  // namespace

bool is_grpc(std::string_view content_type) {
  return content_type.starts_with(kGrpc) && (content_type.size() == kGrpc.size() || content_type[kGrpc.size()] == '+');
}

uint32_t grpc_status_of_http(uint16_t status) {
  switch (status) {
    case 400:
      return kGrpcInternal;
    case 401:
      return kGrpcUnauthenticated;
    case 403:
      return kGrpcPermissionDenied;
    case 404:
      return kGrpcUnimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return kGrpcUnavailable;
    default:
      return kGrpcUnknown;
  }
}

std::optional<uint32_t> grpc_status_of(const HeaderMap& headers) {
  const Header* const field = headers.find(HeaderId::kGrpcStatus);
  if (field == nullptr) return std::nullopt;
  uint32_t status = 0;
  const char* const end = field->value.data() + field->value.size();
  const auto [at, error] = std::from_chars(field->value.data(), end, status);
  if (error != std::errc() || at != end) return std::nullopt;
  return status;
}

uint32_t grpc_status_of_response(const HeaderMap* head, const HeaderMap* trailers, uint16_t http_status) {
  for (const HeaderMap* map : {trailers, head})
    if (const auto status = map == nullptr ? std::nullopt : grpc_status_of(*map)) return *status;
  return grpc_status_of_http(http_status);
}

std::string_view grpc_status_camel(uint32_t status) {
  return status < kNames.size() ? kNames[status].camel : std::string_view{};
}
std::string_view grpc_status_snake(uint32_t status) {
  return status < kNames.size() ? kNames[status].snake : std::string_view{};
}

std::optional<uint64_t> grpc_timeout_ms(const HeaderMap& request) {
  constexpr size_t kMaxDigits = 8;
  const std::string_view text = request.get(HeaderId::kGrpcTimeout);
  if (text.size() < 2 || text.size() > kMaxDigits + 1) return std::nullopt;
  uint64_t value = 0;
  const char* const end = text.data() + text.size() - 1;
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end) return std::nullopt;
  switch (text.back()) {
    case 'H':
      return value * 3'600'000;
    case 'M':
      return value * 60'000;
    case 'S':
      return value * 1'000;
    case 'm':
      return value;
    case 'u':
      return (value + 999) / 1'000;
    case 'n':
      return (value + 999'999) / 1'000'000;
    default:
      return std::nullopt;
  }
}

void set_grpc_timeout(HeaderMap& request, uint64_t ms) {
  constexpr uint64_t kMostDigits = 99'999'999;
  constexpr std::array<std::pair<uint64_t, char>, 4> kUnits = {
      {{1, 'm'}, {1'000, 'S'}, {60'000, 'M'}, {3'600'000, 'H'}}};
  for (const auto& [unit_ms, letter] : kUnits) {
    if (ms / unit_ms > kMostDigits && letter != 'H') continue;
    char text[24];
    char* const end = std::to_chars(text, text + sizeof(text) - 1, ms / unit_ms).ptr;
    *end = letter;
    return request.set(HeaderId::kGrpcTimeout, {text, static_cast<size_t>(end - text) + 1});
  }
}

std::string_view grpc_message(std::string_view message, Arena& arena) {
  size_t size = 0;
  for (const char c : message) size += plain(c) ? 1 : 3;
  char* const out = static_cast<char*>(arena.try_allocate(size, 1));
  if (out == nullptr) return {};
  char* at = out;
  for (const char c : message) {
    if (plain(c)) {
      *at++ = c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    *at++ = '%';
    *at++ = "0123456789ABCDEF"[byte >> 4];
    *at++ = "0123456789ABCDEF"[byte & 15];
  }
  return {out, size};
}

}  // namespace outrigger
