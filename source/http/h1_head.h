// Heads of HTTP/1 messages: start lines, field sections, and what they decide: framing of the body, persistence, and
// what may be forwarded. Pure functions over bytes whose line structure h1_parser.h has found (CRLF line ends, no other
// control byte). Rules and their sources are in README.md; every refusal has a status for requests and a static text.
//
// Thread rule: pure functions; the arena's thread.
// Use:  StartLine line;  if (H1Fault f = parse_request_line(text, line)) ...;  build_request(raw, line, options, arena,
// out);
#pragma once

#include <cstdint>
#include <string_view>

#include "http/codec.h"
#include "outrigger/header_map.h"

namespace outrigger::http {

// status 0: no fault.
struct H1Fault {
  uint16_t status = 0;
  std::string_view details;  // static text
  explicit operator bool() const { return status != 0; }
};

// Where the parts of a start line are, as offsets from the head's first byte.
struct StartLine {
  enum class Form : uint8_t { kOrigin, kAbsolute, kAuthority, kAsterisk };  // RFC 9112 section 3.2
  uint32_t size = 0;                                                        // with its CRLF
  uint32_t method_size = 0;
  uint32_t authority_at = 0, authority_size = 0;  // absolute and authority form
  uint32_t path_at = 0, path_size = 0;            // path and query; absolute form: may be empty or begin with '?'
  Form form = Form::kOrigin;
  bool https = false;  // absolute form's scheme
  bool http_10 = false;
  uint16_t status = 0;  // responses
};

// `line` is without its CRLF.
H1Fault parse_request_line(std::string_view line, StartLine& out);
H1Fault parse_status_line(std::string_view line, StartLine& out);

enum class H1Body : uint8_t { kNone, kFixed, kChunked, kUntilClose };

struct H1Message {
  HeaderMap* headers = nullptr;  // in the arena; hop-by-hop fields are gone, host is :authority
  H1Body body = H1Body::kNone;
  bool http_10 = false;
  bool keep_alive = false;
  bool head_request = false;     // requests: HEAD
  bool connect_request = false;  // requests: CONNECT
  bool upgrade = false;          // requests: asks for one; responses: accepts it, or CONNECT; the tunnel is the body
  uint16_t status = 0;           // responses
  uint64_t content_length = 0;   // body == kFixed
};

// `raw`: the whole head, from the start line to the empty line.
H1Fault build_request(std::string_view raw, const StartLine& line, const H1Options& options, Arena& arena,
                      H1Message& out);
// What a response answers.
struct H1Asked {
  bool head = false;
  bool connect = false;
  bool upgrade = false;
};
H1Fault build_response(std::string_view raw, const StartLine& line, const H1Options& options, Arena& arena,
                       const H1Asked& asked, H1Message& out);
// `raw`: a trailer section with its empty line. Fields that trailers may not hold are dropped. nullptr on a fault.
HeaderMap* build_trailers(std::string_view raw, Arena& arena, H1Fault& fault);

// A field of that name (and id) in a trailer section is dropped, in any HTTP version.
bool forbidden_in_trailers(std::string_view name, HeaderId id);

// uri-host [":" port] (RFC 3986 section 3.2 without userinfo; no comma). `port_needed`: CONNECT.
bool valid_authority(std::string_view text, bool port_needed = false);

}  // namespace outrigger::http
