#include "http/h1_encode.h"

#include "http/h1_scan.h"

namespace outrigger::http {

DeclaredLength declared_length(const HeaderMap& headers) {
  const Header* const field = headers.find(HeaderId::kContentLength);
  if (field == nullptr) return {};
  const int64_t bytes = parse_decimal(field->value);
  return {true, bytes < 0, bytes < 0 ? 0 : static_cast<uint64_t>(bytes)};
}

bool asks_to_close(const HeaderMap& headers) {
  const Header* const field = headers.find(HeaderId::kConnection);
  return field != nullptr && equals_ignoring_case(field->value, "close");
}

void write_fields(HeadWriter& out, const HeaderMap& headers, bool trailers) {
  headers.for_each([&](const Header& header) {
    switch (header.id) {
      case HeaderId::kMethod:
      case HeaderId::kScheme:
      case HeaderId::kAuthority:
      case HeaderId::kPath:
      case HeaderId::kStatus:
      case HeaderId::kProtocol:
      case HeaderId::kHost:
      case HeaderId::kConnection:
      case HeaderId::kContentLength:
      case HeaderId::kHttp2Settings:
      case HeaderId::kKeepAlive:
      case HeaderId::kProxyConnection:
      case HeaderId::kTe:
      case HeaderId::kTransferEncoding:
      case HeaderId::kUpgrade:
        return;
      case HeaderId::kTrailer:
        if (!trailers) return;
        break;
      default:
        break;
    }
    out.field(header);
  });
}

void write_chunk(Buffer& out, Buffer&& data, bool last) {
  if (!data.empty()) {
    char line[18];
    size_t at = sizeof(line);
    line[--at] = '\n';
    line[--at] = '\r';
    for (size_t size = data.size(); size != 0; size >>= 4) line[--at] = "0123456789abcdef"[size & 15];
    out.append(std::string_view(line + at, sizeof(line) - at));
    out.append(std::move(data));
    out.append(last ? std::string_view("\r\n0\r\n\r\n") : std::string_view("\r\n"));
  } else if (last) {
    out.append(std::string_view("0\r\n\r\n"));
  }
}

void write_last_chunk(Buffer& out, const HeaderMap* trailers) {
  HeadWriter writer(out, trailers == nullptr ? 16 : expected_head_bytes(*trailers));
  writer.text("0\r\n");
  if (trailers != nullptr) write_fields(writer, *trailers, false);
  writer.text("\r\n");
}

}  // namespace outrigger::http
