#include "http/h1_writer.h"

#include <algorithm>

#include "http/h1_scan.h"

namespace outrigger::http {
namespace {

void blank_controls(char* at, size_t size) {
  for (size_t i = 0; i < size; ++i)
    if (is_control(at[i])) at[i] = ' ';
}

}  // namespace

bool copy_and_check(char* to, const char* from, size_t size) {
#if defined(__SSE2__)
  if (size >= 16) {
    unsigned bad = 0;
    for (size_t i = 0; i + 16 <= size; i += 16) {
      const __m128i bytes = load16(from + i);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), bytes);
      bad |= control_mask(bytes);
    }
    const __m128i last = load16(from + size - 16);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + size - 16), last);
    return (bad | control_mask(last)) == 0;
  }
  if (size >= 8) {
    const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    const __m128i last = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + size - 8));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), first);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + size - 8), last);
    return control_mask(_mm_unpacklo_epi64(first, last)) == 0;
  }
#endif
  bool good = true;
  for (size_t i = 0; i < size; ++i) {
    to[i] = from[i];
    good = good && !is_control(from[i]);
  }
  return good;
}

void HeadWriter::refill(size_t bytes) {
  finish();
  const size_t room = std::min<size_t>(std::max<size_t>(bytes, 256), Buffer::kMaxReserve);
  begin_ = at_ = out_.reserve(room);
  end_ = begin_ + room;
}

void HeadWriter::number(uint64_t value) {
  char digits[20];
  size_t n = 0;
  do {
    digits[n++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  need(n);
  while (n > 0) *at_++ = digits[--n];
}

void HeadWriter::field(std::string_view name, bool name_known, std::string_view value) {
  if (!name_known && !is_token(name)) return;
  if (name.size() + value.size() + 4 > Buffer::kMaxReserve) {
    text(name);
    text(": ");
    long_value(value);
    text("\r\n");
    return;
  }
  need(name.size() + value.size() + 4);
  char* at = at_;
  copy_and_check(at, name.data(), name.size());
  at += name.size();
  *at++ = ':';
  *at++ = ' ';
  if (!copy_and_check(at, value.data(), value.size())) blank_controls(at, value.size());
  at += value.size();
  *at++ = '\r';
  *at++ = '\n';
  at_ = at;
}

void HeadWriter::long_value(std::string_view value) {
  while (!value.empty()) {
    const size_t n = std::min<size_t>(value.size(), Buffer::kMaxReserve / 2);
    need(n);
    if (!copy_and_check(at_, value.data(), n)) blank_controls(at_, n);
    at_ += n;
    value.remove_prefix(n);
  }
}

std::string_view status_line_end(uint16_t status) {
  switch (status) {
#define OUTRIGGER_STATUS(code, reason) \
  case code:                           \
    return #code " " reason "\r\n";
    OUTRIGGER_STATUS(100, "Continue")
    OUTRIGGER_STATUS(101, "Switching Protocols")
    OUTRIGGER_STATUS(102, "Processing")
    OUTRIGGER_STATUS(103, "Early Hints")
    OUTRIGGER_STATUS(200, "OK")
    OUTRIGGER_STATUS(201, "Created")
    OUTRIGGER_STATUS(202, "Accepted")
    OUTRIGGER_STATUS(203, "Non-Authoritative Information")
    OUTRIGGER_STATUS(204, "No Content")
    OUTRIGGER_STATUS(205, "Reset Content")
    OUTRIGGER_STATUS(206, "Partial Content")
    OUTRIGGER_STATUS(207, "Multi-Status")
    OUTRIGGER_STATUS(208, "Already Reported")
    OUTRIGGER_STATUS(226, "IM Used")
    OUTRIGGER_STATUS(300, "Multiple Choices")
    OUTRIGGER_STATUS(301, "Moved Permanently")
    OUTRIGGER_STATUS(302, "Found")
    OUTRIGGER_STATUS(303, "See Other")
    OUTRIGGER_STATUS(304, "Not Modified")
    OUTRIGGER_STATUS(305, "Use Proxy")
    OUTRIGGER_STATUS(307, "Temporary Redirect")
    OUTRIGGER_STATUS(308, "Permanent Redirect")
    OUTRIGGER_STATUS(400, "Bad Request")
    OUTRIGGER_STATUS(401, "Unauthorized")
    OUTRIGGER_STATUS(402, "Payment Required")
    OUTRIGGER_STATUS(403, "Forbidden")
    OUTRIGGER_STATUS(404, "Not Found")
    OUTRIGGER_STATUS(405, "Method Not Allowed")
    OUTRIGGER_STATUS(406, "Not Acceptable")
    OUTRIGGER_STATUS(407, "Proxy Authentication Required")
    OUTRIGGER_STATUS(408, "Request Timeout")
    OUTRIGGER_STATUS(409, "Conflict")
    OUTRIGGER_STATUS(410, "Gone")
    OUTRIGGER_STATUS(411, "Length Required")
    OUTRIGGER_STATUS(412, "Precondition Failed")
    OUTRIGGER_STATUS(413, "Payload Too Large")
    OUTRIGGER_STATUS(414, "URI Too Long")
    OUTRIGGER_STATUS(415, "Unsupported Media Type")
    OUTRIGGER_STATUS(416, "Range Not Satisfiable")
    OUTRIGGER_STATUS(417, "Expectation Failed")
    OUTRIGGER_STATUS(421, "Misdirected Request")
    OUTRIGGER_STATUS(422, "Unprocessable Entity")
    OUTRIGGER_STATUS(423, "Locked")
    OUTRIGGER_STATUS(424, "Failed Dependency")
    OUTRIGGER_STATUS(425, "Too Early")
    OUTRIGGER_STATUS(426, "Upgrade Required")
    OUTRIGGER_STATUS(428, "Precondition Required")
    OUTRIGGER_STATUS(429, "Too Many Requests")
    OUTRIGGER_STATUS(431, "Request Header Fields Too Large")
    OUTRIGGER_STATUS(451, "Unavailable For Legal Reasons")
    OUTRIGGER_STATUS(500, "Internal Server Error")
    OUTRIGGER_STATUS(501, "Not Implemented")
    OUTRIGGER_STATUS(502, "Bad Gateway")
    OUTRIGGER_STATUS(503, "Service Unavailable")
    OUTRIGGER_STATUS(504, "Gateway Timeout")
    OUTRIGGER_STATUS(505, "HTTP Version Not Supported")
    OUTRIGGER_STATUS(506, "Variant Also Negotiates")
    OUTRIGGER_STATUS(507, "Insufficient Storage")
    OUTRIGGER_STATUS(508, "Loop Detected")
    OUTRIGGER_STATUS(511, "Network Authentication Required")
#undef OUTRIGGER_STATUS
    default:
      return {};
  }
}

}  // namespace outrigger::http
