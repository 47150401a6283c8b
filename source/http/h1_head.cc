#include "http/h1_head.h"

#include <algorithm>

#include "http/h1_scan.h"

namespace outrigger::http {
namespace {

constexpr H1Fault kBadLine{400, "http1.invalid_request_line"};
constexpr H1Fault kBadUrl{400, "http1.invalid_url"};
constexpr H1Fault kBadName{400, "http1.invalid_header_name"};
constexpr H1Fault kBadTransferEncoding{400, "http1.invalid_transfer_encoding"};
constexpr H1Fault kUnknownTransferEncoding{501, "http1.unsupported_transfer_encoding"};
constexpr H1Fault kBadConnection{400, "http1.connection_header_rejected"};
constexpr H1Fault kHeadTooLarge{431, "http1.headers_too_large"};
constexpr H1Fault kBadStatusLine{502, "http1.invalid_status_line"};

constexpr size_t kMaxConnectionFields = 4;  // more lines than that are no honest message's
constexpr size_t kMaxNominated = 16;
constexpr size_t kPadding = 16;  // behind a copied head, so that its last bytes too can be loaded 16 at a time

#if defined(__SSE2__)
constexpr std::array<char, 32> kPrefixMask = [] {
  std::array<char, 32> mask{};
  for (size_t i = 0; i < 16; ++i) mask[i] = static_cast<char>(0xff);
  return mask;
}();
#endif

constexpr std::array<bool, 256> kRegName = [] {
  std::array<bool, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = true;
  for (const char c : std::string_view("-._~!$&'()*+;=")) table[static_cast<size_t>(c)] = true;
  return table;
}();

// What the field section says about its message.
struct Facts {
  std::string_view host;
  int64_t content_length = -1;
  std::string_view transfer_encoding;
  std::string_view upgrade;
  char* connection[kMaxConnectionFields];
  size_t connection_size[kMaxConnectionFields];
  uint32_t connections = 0;
  uint32_t hosts = 0;
  uint32_t content_lengths = 0;
  uint32_t transfer_encodings = 0;
  uint32_t upgrades = 0;
  bool upgrade_nominated = false;
  bool close = false;
  bool keep_alive = false;
};

char* skip_ows(char* at) {
  while (is_ows(*at)) ++at;
  return at;
}

// One field line: name ":" OWS value OWS CRLF. The name is lower-cased where it stands.
struct FieldLine {
  std::string_view name;
  char* value;
  size_t value_size;
  std::string_view text() const { return {value, value_size}; }
};

// Lower-cases the token at `at`; its end.
char* lower_token(char* at) {
#if defined(__SSE2__)
  for (;;) {  // letters, digits, '-' and '_', which most names are made of
    const __m128i bytes = load16(at);
    const __m128i upper = in_range(bytes, 'A', 'Z');
    const __m128i folded = _mm_or_si128(bytes, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
    const __m128i plain = _mm_or_si128(
        _mm_or_si128(in_range(folded, 'a', 'z'), in_range(bytes, '0', '9')),
        _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('_'))));
    const unsigned other = ~static_cast<unsigned>(_mm_movemask_epi8(plain)) & 0xffffu;
    const int size = other == 0 ? 16 : __builtin_ctz(other);
    const __m128i ours = load16(kPrefixMask.data() + 16 - size);  // what follows stays as it is
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                     _mm_or_si128(_mm_and_si128(ours, folded), _mm_andnot_si128(ours, bytes)));
    at += size;
    if (size < 16) break;
  }
#endif
  char lower;
  while ((lower = token_lower(*at)) != 0) *at++ = lower;
  return at;
}

// The CR that is known to follow.
const char* next_cr(const char* at) {
#if defined(__SSE2__)
  for (;; at += 16)
    if (const unsigned m = byte_mask(load16(at), '\r'); m != 0) return at + __builtin_ctz(m);
#else
  while (*at != '\r') ++at;
  return at;
#endif
}

// A copy of a head or trailer section whose every field line can be read 16 bytes at a time. nullptr: the arena is
// full.
char* copy_padded(std::string_view raw, Arena& arena) {
  auto* const copy = static_cast<char*>(arena.try_allocate(raw.size() + kPadding, 1));
  if (copy == nullptr) return nullptr;
  std::memcpy(copy, raw.data(), raw.size());
  std::memset(copy + raw.size(), 0, kPadding);
  return copy;
}

// Reads the line at `at` and moves past its CRLF; false if the name is no token or the colon is not next to it.
bool read_field(char*& at, FieldLine& out) {
  char* const name = at;
  char* const colon = lower_token(name);
  if (colon == name || *colon != ':') return false;
  out.name = {name, static_cast<size_t>(colon - name)};
  char* const value = skip_ows(colon + 1);
  const char* const eol = next_cr(value);
  const char* last = eol;
  while (last > value && is_ows(last[-1])) --last;
  out.value = value;
  out.value_size = static_cast<size_t>(last - value);
  at = const_cast<char*>(eol) + 2;
  return true;
}

// "te" is a hop's own except for "trailers", which says that the client (and all between) can take trailers.
bool te_has_trailers(std::string_view value) {
  while (!value.empty()) {
    const size_t comma = value.find(',');
    if (equals_ignoring_case(trim_ows(value.substr(0, comma)), "trailers")) return true;
    if (comma == std::string_view::npos) break;
    value.remove_prefix(comma + 1);
  }
  return false;
}

// Fields [at, end) into `map`, without those that belong to this connection; what they said is in `facts`.
H1Fault read_fields(char* at, const char* end, const H1Options& options, bool request, HeaderMap& map, Facts& facts) {
  FieldLine field;
  while (at < end) {
    if (!read_field(at, field)) return kBadName;
    const HeaderId id = find_header_id(field.name);
    switch (id) {
      case HeaderId::kHost:
        if (!request) break;
        facts.host = field.text();
        if (++facts.hosts == 1 && !map.has(HeaderId::kAuthority))
          map.add_view(header_name(HeaderId::kAuthority), facts.host, HeaderId::kAuthority);
        continue;
      case HeaderId::kContentLength:
        if (++facts.content_lengths > 1) return {400, "http1.multiple_content_lengths"};
        facts.content_length = parse_decimal(field.text());
        if (facts.content_length < 0) return {400, "http1.invalid_content_length"};
        break;
      case HeaderId::kTransferEncoding:
        if (++facts.transfer_encodings > 1) return kBadTransferEncoding;
        facts.transfer_encoding = field.text();
        continue;
      case HeaderId::kConnection:
        if (facts.connections == kMaxConnectionFields) return kBadConnection;
        facts.connection[facts.connections] = field.value;
        facts.connection_size[facts.connections++] = field.value_size;
        continue;
      case HeaderId::kKeepAlive:
      case HeaderId::kProxyConnection:
      case HeaderId::kHttp2Settings:
        continue;
      case HeaderId::kUpgrade:
        facts.upgrade = field.text();
        ++facts.upgrades;
        continue;
      case HeaderId::kTrailer:
        if (!options.enable_trailers) continue;
        break;
      case HeaderId::kTe:
        if (!map.has(HeaderId::kTe) && te_has_trailers(field.text())) map.add_view(field.name, "trailers", id);
        continue;
      default:
        break;
    }
    map.add_view(field.name, field.text(), id);
  }
  return map.overflowed() ? kHeadTooLarge : H1Fault{};
}

// Whether a Connection field may take this field away. A sender's list must not name fields meant for all recipients
// (RFC 9110 section 7.6.1); obeying such a list would let a client remove what a proxy in front of us has added.
bool may_be_nominated(std::string_view name, HeaderId id) {
  switch (id) {
    case HeaderId::kNone:
      return !name.starts_with("x-forwarded-") && !name.starts_with("x-envoy-") && name != "forwarded" &&
             name != "x-real-ip";
    case HeaderId::kTrailer:
    case HeaderId::kProxyAuthenticate:
    case HeaderId::kProxyAuthorization:
      return true;
    default:
      return false;  // "te" included: read_fields has cut it down already
  }
}

H1Fault read_connection(Facts& facts, HeaderMap& map) {
  size_t nominated = 0;
  for (uint32_t i = 0; i < facts.connections; ++i) {
    char* at = facts.connection[i];
    char* const end = at + facts.connection_size[i];
    while (at < end) {
      if (*at == ',' || is_ows(*at)) {
        ++at;
        continue;
      }
      char* const token = at;
      char lower;
      while (at < end && (lower = token_lower(*at)) != 0) *at++ = lower;
      const std::string_view name(token, static_cast<size_t>(at - token));
      while (at < end && is_ows(*at)) ++at;
      if (name.empty() || (at < end && *at != ',') || ++nominated > kMaxNominated) return kBadConnection;
      if (name == "close") {
        facts.close = true;
      } else if (name == "keep-alive") {
        facts.keep_alive = true;
      } else if (name == "upgrade") {
        facts.upgrade_nominated = true;
      } else if (may_be_nominated(name, find_header_id(name))) {
        map.remove(name);
      }
    }
  }
  return {};
}

// What is asked for beside "h2c", which is never taken up; empty: nothing.
std::string_view wanted_upgrade(const Facts& facts) {
  if (facts.upgrades != 1 || !facts.upgrade_nominated) return {};
  std::string_view wanted, rest = facts.upgrade;
  for (;;) {
    const size_t comma = rest.find(',');
    const std::string_view protocol = trim_ows(rest.substr(0, comma));
    if (!protocol.empty() && !equals_ignoring_case(protocol, "h2c")) {
      if (!wanted.empty()) return facts.upgrade;  // several: nobody lists that
      wanted = protocol;
    }
    if (comma == std::string_view::npos) return wanted;
    rest.remove_prefix(comma + 1);
  }
}

// Exactly "chunked" is what we understand. Chunked anywhere but once at the end makes the length unknowable: 400.
H1Fault check_transfer_encoding(std::string_view value) {
  if (equals_ignoring_case(value, "chunked")) return {};
  bool last_is_chunked = false;
  int chunked = 0;
  for (;;) {
    const size_t comma = value.find(',');
    const std::string_view coding = trim_ows(value.substr(0, comma));
    const std::string_view name = trim_ows(coding.substr(0, coding.find(';')));
    if (!is_token(name)) return kBadTransferEncoding;
    last_is_chunked = equals_ignoring_case(name, "chunked");
    if (last_is_chunked && name.size() != coding.size()) return kBadTransferEncoding;  // chunked has no parameters
    chunked += last_is_chunked;
    if (comma == std::string_view::npos) break;
    value.remove_prefix(comma + 1);
  }
  if (chunked > 1 || (chunked == 1 && !last_is_chunked)) return kBadTransferEncoding;
  return kUnknownTransferEncoding;
}

H1Fault check_framing(const Facts& facts, bool http_10) {
  if (facts.transfer_encodings == 0) return {};
  if (http_10) return {400, "http1.transfer_encoding_not_allowed"};
  if (facts.content_lengths != 0) return {400, "http1.content_length_and_chunked_not_allowed"};
  return check_transfer_encoding(facts.transfer_encoding);
}

// Adds :method, :scheme, :path and the target's :authority. `head` is the arena's copy.
void add_target(char* head, const StartLine& line, HeaderMap& map) {
  const std::string_view method(head, line.method_size);
  map.add_view(header_name(HeaderId::kMethod), method, HeaderId::kMethod);
  std::string_view authority(head + line.authority_at, line.authority_size);
  std::string_view path(head + line.path_at, line.path_size);
  if (line.form == StartLine::Form::kAbsolute) {
    const std::string_view scheme = line.https ? "https" : "http";
    map.add_view(header_name(HeaderId::kScheme), scheme, HeaderId::kScheme);
    if (path.empty()) {
      path = method == "OPTIONS" ? "*" : "/";
    } else if (path.front() == '?') {  // the authority moves one byte to the left, over "//", to make room for '/'
      char* const at = head + line.authority_at;
      std::memmove(at - 1, at, authority.size());
      at[authority.size() - 1] = '/';
      authority = {at - 1, authority.size()};
      path = {path.data() - 1, path.size() + 1};
    }
  }
  if (!authority.empty()) map.add_view(header_name(HeaderId::kAuthority), authority, HeaderId::kAuthority);
  if (!path.empty()) map.add_view(header_name(HeaderId::kPath), path, HeaderId::kPath);
}

// Host against the target (RFC 9112 section 3.2): one valid Host in 1.1; the target's own authority wins.
H1Fault add_host(const Facts& facts, const StartLine& line, const H1Options& options, HeaderMap& map) {
  if (facts.hosts > 1) return {400, "http1.multiple_hosts"};
  if (facts.hosts == 1 && !valid_authority(facts.host)) return {400, "http1.invalid_host"};
  if (facts.hosts == 0 && !line.http_10) return {400, "missing_host_header"};
  if (map.has(HeaderId::kAuthority)) return {};
  if (options.default_host_for_http_10.empty()) return {400, "missing_host_header"};
  map.add_view(header_name(HeaderId::kAuthority), options.default_host_for_http_10, HeaderId::kAuthority);
  return {};
}

H1Fault parse_absolute(std::string_view line, size_t target_at, std::string_view target, StartLine& out) {
  size_t prefix = 7;
  if (equals_ignoring_case(target.substr(0, 8), "https://")) {
    out.https = true;
    prefix = 8;
  } else if (!equals_ignoring_case(target.substr(0, 7), "http://")) {
    return kBadUrl;
  }
  const size_t end = std::min(target.find_first_of("/?", prefix), target.size());
  const std::string_view authority = target.substr(prefix, end - prefix);
  if (!valid_authority(authority)) return kBadUrl;
  out.form = StartLine::Form::kAbsolute;
  out.authority_at = static_cast<uint32_t>(authority.data() - line.data());
  out.authority_size = static_cast<uint32_t>(authority.size());
  out.path_at = static_cast<uint32_t>(target_at + end);
  out.path_size = static_cast<uint32_t>(target.size() - end);
  return {};
}

H1Fault parse_target(std::string_view line, size_t target_at, std::string_view target, StartLine& out) {
  const std::string_view method = line.substr(0, out.method_size);
  if (method == "CONNECT") {
    if (!valid_authority(target, true)) return kBadUrl;
    out.form = StartLine::Form::kAuthority;
    out.authority_at = static_cast<uint32_t>(target_at);
    out.authority_size = static_cast<uint32_t>(target.size());
    return {};
  }
  if (target.front() != '/' && target != "*") return parse_absolute(line, target_at, target, out);
  if (target.front() == '*') {
    if (method != "OPTIONS") return kBadUrl;
    out.form = StartLine::Form::kAsterisk;
  }
  out.path_at = static_cast<uint32_t>(target_at);
  out.path_size = static_cast<uint32_t>(target.size());
  return {};
}

bool valid_ip_literal(std::string_view text) {  // between the brackets
  if (text.size() < 2) return false;
  for (const char c : text)
    if (kHexDigit[static_cast<unsigned char>(c)] < 0 && c != ':' && c != '.') return false;
  return text.find(':') != std::string_view::npos;
}

}  // namespace

// RFC 9110 section 6.5.1: framing, routing, authentication, request modifiers and content format do not belong there.
bool forbidden_in_trailers(std::string_view name, HeaderId id) {
  switch (id) {
    case HeaderId::kHost:
    case HeaderId::kAuthorization:
    case HeaderId::kCacheControl:
    case HeaderId::kConnection:
    case HeaderId::kContentEncoding:
    case HeaderId::kContentLength:
    case HeaderId::kContentType:
    case HeaderId::kCookie:
    case HeaderId::kDate:
    case HeaderId::kAge:
    case HeaderId::kExpect:
    case HeaderId::kExpires:
    case HeaderId::kHttp2Settings:
    case HeaderId::kIfModifiedSince:
    case HeaderId::kIfNoneMatch:
    case HeaderId::kKeepAlive:
    case HeaderId::kLocation:
    case HeaderId::kProxyAuthenticate:
    case HeaderId::kProxyAuthorization:
    case HeaderId::kProxyConnection:
    case HeaderId::kRange:
    case HeaderId::kRetryAfter:
    case HeaderId::kSetCookie:
    case HeaderId::kTe:
    case HeaderId::kTrailer:
    case HeaderId::kTransferEncoding:
    case HeaderId::kUpgrade:
    case HeaderId::kVary:
    case HeaderId::kWwwAuthenticate:
    case HeaderId::kXForwardedFor:
    case HeaderId::kXForwardedHost:
    case HeaderId::kXForwardedProto:
      return true;
    case HeaderId::kNone:
      return name == "content-range" || name == "max-forwards" || name == "if-match" || name == "if-unmodified-since" ||
             name == "if-range" || name == "warning" || name == "pragma" || name == "forwarded" ||
             name.starts_with("x-envoy-");
    default:
      return name.starts_with("x-envoy-");
  }
}

bool valid_authority(std::string_view text, bool port_needed) {
  size_t at = 0;
  if (!text.empty() && text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string_view::npos || !valid_ip_literal(text.substr(1, close - 1))) return false;
    at = close + 1;
  } else {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    for (;;) {
      while (at < text.size() && kRegName[byte(at)]) ++at;
      if (at == text.size() || text[at] != '%') break;
      if (text.size() - at < 3 || kHexDigit[byte(at + 1)] < 0 || kHexDigit[byte(at + 2)] < 0) return false;
      at += 3;
    }
    if (at == 0) return false;
  }
  if (at == text.size()) return !port_needed;
  if (text[at] != ':') return false;
  const std::string_view port = text.substr(at + 1);
  if (port.empty()) return !port_needed;
  return port.size() <= 5 && parse_decimal(port) >= 0 && parse_decimal(port) <= 65535;
}

H1Fault parse_request_line(std::string_view line, StartLine& out) {
  const char* const begin = line.data();
  const char* const end = begin + line.size();
  const char* at = begin;
  while (at < end && token_lower(*at) != 0) ++at;
  if (at == begin || at == end || *at != ' ') return kBadLine;
  out = StartLine{};
  out.size = static_cast<uint32_t>(line.size() + 2);
  out.method_size = static_cast<uint32_t>(at - begin);
  const char* const target = ++at;
  at = find_target_end(at, end, begin);
  if (at == end) return kBadLine;
  if (*at != ' ') return kBadUrl;
  if (at == target) return kBadLine;
  const std::string_view version(at + 1, static_cast<size_t>(end - at - 1));
  if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(version[5]) || version[6] != '.' ||
      !is_digit(version[7]))
    return kBadLine;
  if (version[5] != '1' || version[7] > '1') return {505, "http1.unsupported_version"};
  out.http_10 = version[7] == '0';
  return parse_target(line, static_cast<size_t>(target - begin), {target, static_cast<size_t>(at - target)}, out);
}

H1Fault parse_status_line(std::string_view line, StartLine& out) {
  if (line.size() < 12 || !line.starts_with("HTTP/1.") || (line[7] != '1' && line[7] != '0') || line[8] != ' ')
    return kBadStatusLine;
  const int64_t status = parse_decimal(line.substr(9, 3));
  if (status < 100 || (line.size() > 12 && line[12] != ' ')) return kBadStatusLine;
  out = StartLine{};
  out.size = static_cast<uint32_t>(line.size() + 2);
  out.http_10 = line[7] == '0';
  out.status = static_cast<uint16_t>(status);
  return {};
}

H1Fault build_request(std::string_view raw, const StartLine& line, const H1Options& options, Arena& arena,
                      H1Message& out) {
  if (line.http_10 && !options.accept_http_10) return {426, "low_version"};
  if (line.form == StartLine::Form::kAbsolute && !options.allow_absolute_url) return kBadUrl;
  char* const head = copy_padded(raw, arena);
  if (head == nullptr) return kHeadTooLarge;
  HeaderMap* const map = arena.make<HeaderMap>(arena);
  if (map == nullptr) return kHeadTooLarge;
  add_target(head, line, *map);
  Facts facts;
  // Two bytes are left out: the empty line.
  if (H1Fault f = read_fields(head + line.size, head + raw.size() - 2, options, true, *map, facts)) return f;
  if (H1Fault f = add_host(facts, line, options, *map)) return f;
  if (H1Fault f = check_framing(facts, line.http_10)) return f;
  if (H1Fault f = read_connection(facts, *map)) return f;
  const std::string_view method(head, line.method_size);
  out.headers = map;
  out.http_10 = line.http_10;
  out.keep_alive = !facts.close && (!line.http_10 || facts.keep_alive);
  out.head_request = method == "HEAD";
  out.connect_request = line.form == StartLine::Form::kAuthority;
  out.body = H1Body::kNone;
  out.content_length = 0;
  if (out.connect_request && facts.transfer_encodings + facts.content_lengths != 0)
    return {400, "http1.body_disallowed"};
  if (facts.transfer_encodings != 0) {
    out.body = H1Body::kChunked;
  } else if (facts.content_length > 0) {
    out.body = H1Body::kFixed;
    out.content_length = static_cast<uint64_t>(facts.content_length);
  }
  // A request with a body is served as it is (RFC 9110 section 7.8 lets a server ignore the wish).
  const std::string_view upgrade = wanted_upgrade(facts);
  out.upgrade = !upgrade.empty() && !line.http_10 && !out.connect_request && out.body == H1Body::kNone;
  if (out.upgrade) map->add_view(header_name(HeaderId::kUpgrade), upgrade, HeaderId::kUpgrade);
  return map->overflowed() ? kHeadTooLarge : H1Fault{};
}

H1Fault build_response(std::string_view raw, const StartLine& line, const H1Options& options, Arena& arena,
                       const H1Asked& asked, H1Message& out) {
  char* const head = copy_padded(raw, arena);
  if (head == nullptr) return kHeadTooLarge;
  HeaderMap* const map = arena.make<HeaderMap>(arena);
  if (map == nullptr) return kHeadTooLarge;
  map->add_view(header_name(HeaderId::kStatus), {head + 9, 3}, HeaderId::kStatus);
  Facts facts;
  if (H1Fault f = read_fields(head + line.size, head + raw.size() - 2, options, false, *map, facts)) return f;
  if (H1Fault f = check_framing(facts, line.http_10)) return f;
  if (H1Fault f = read_connection(facts, *map)) return f;
  out.upgrade = line.status == 101 || (asked.connect && line.status / 100 == 2);
  if (line.status == 101) {
    if (!asked.upgrade || facts.upgrades != 1 || facts.upgrade.empty())
      return {502, "http1.unexpected_switching_protocols"};
    map->add_view(header_name(HeaderId::kUpgrade), facts.upgrade, HeaderId::kUpgrade);
  }
  out.headers = map;
  out.status = line.status;
  out.http_10 = line.http_10;
  out.keep_alive = !facts.close && (!line.http_10 || facts.keep_alive);
  out.content_length = 0;
  const bool interim = line.status < 200 && !out.upgrade;
  if (out.upgrade) {
    map->remove(HeaderId::kContentLength);
    out.body = H1Body::kUntilClose;
    out.keep_alive = false;
    return map->overflowed() ? kHeadTooLarge : H1Fault{};
  }
  if (interim || line.status == 204) map->remove(HeaderId::kContentLength);
  if (interim || line.status == 204 || line.status == 304 || asked.head) {
    out.body = H1Body::kNone;
  } else if (facts.transfer_encodings != 0) {
    out.body = H1Body::kChunked;
  } else if (facts.content_lengths != 0) {
    out.body = facts.content_length == 0 ? H1Body::kNone : H1Body::kFixed;
    out.content_length = static_cast<uint64_t>(facts.content_length);
  } else {
    out.body = H1Body::kUntilClose;
    out.keep_alive = false;
  }
  return map->overflowed() ? kHeadTooLarge : H1Fault{};
}

HeaderMap* build_trailers(std::string_view raw, Arena& arena, H1Fault& fault) {
  fault = kHeadTooLarge;
  char* at = copy_padded(raw, arena);
  if (at == nullptr) return nullptr;
  HeaderMap* const map = arena.make<HeaderMap>(arena);
  if (map == nullptr) return nullptr;
  const char* const end = at + raw.size() - 2;
  FieldLine field;
  while (at < end) {
    if (!read_field(at, field)) {
      fault = kBadName;
      return nullptr;
    }
    const HeaderId id = find_header_id(field.name);
    if (!forbidden_in_trailers(field.name, id)) map->add_view(field.name, field.text(), id);
  }
  if (map->overflowed()) return nullptr;
  fault = {};
  return map;
}

}  // namespace outrigger::http
