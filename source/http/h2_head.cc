#include "http/h2_head.h"

#include <algorithm>
#include <cstring>

#include "http/h1_head.h"
#include "http/h1_scan.h"

namespace outrigger::http {
namespace {

constexpr H2Fault kTooLarge{431, false, "http2.headers_too_large"};

H2Fault finish_authority(HeaderMap& map) {
  const Header* const host = map.find(HeaderId::kHost);
  if (host == nullptr) {
    if (!map.has(HeaderId::kAuthority)) return {400, false, "missing_host_header"};
  } else {
    const std::string_view value = host->value;
    bool differ = false;
    map.for_each([&](const Header& h) { differ = differ || (h.id == HeaderId::kHost && h.value != value); });
    const Header* const authority = map.find(HeaderId::kAuthority);
    if (differ || (authority != nullptr && authority->value != value)) return {400, true, "http2.hosts_differ"};
    if (authority == nullptr) map.add_view(header_name(HeaderId::kAuthority), value, HeaderId::kAuthority);
    map.remove(HeaderId::kHost);
  }
  const bool connect = map.get(HeaderId::kMethod) == "CONNECT";
  if (!valid_authority(map.get(HeaderId::kAuthority), connect)) return {400, false, "http2.invalid_authority"};
  return {};
}

// Origin form or asterisk (RFC 9112 section 3.2), whatever the scheme: a whole URI would be another request at the next
// hop.
bool valid_path(std::string_view path, std::string_view method) {
  const bool form = path.starts_with('/') || (path == "*" && method == "OPTIONS");
  return form && find_target_end(path.data(), path.data() + path.size(), path.data()) == path.data() + path.size();
}

void join_cookies(HeaderMap& map) {
  size_t count = 0, total = 0;
  bool secret = false;
  map.for_each([&](const Header& h) {
    if (h.id != HeaderId::kCookie) return;
    secret = secret || h.never_indexed;
    ++count;
    total += h.value.size() + 2;
  });
  if (count < 2) return;
  char* const joined = static_cast<char*>(map.arena().try_allocate(total, 1));
  if (joined == nullptr) return map.mark_overflowed();
  char* at = joined;
  map.for_each([&](const Header& h) {
    if (h.id != HeaderId::kCookie) return;
    if (at != joined) {
      *at++ = ';';
      *at++ = ' ';
    }
    std::memcpy(at, h.value.data(), h.value.size());
    at += h.value.size();
  });
  map.set_view(HeaderId::kCookie, {joined, static_cast<size_t>(at - joined)});
  if (secret) map.never_index(HeaderId::kCookie);
}

// RFC 9110 section 7.6.1; those that RFC 9113 section 8.2.2 forbids have been refused when they came, and may still be
// in heads that the proxy has made.
bool of_one_hop(HeaderId id) {
  switch (id) {
    case HeaderId::kConnection:
    case HeaderId::kHost:
    case HeaderId::kHttp2Settings:
    case HeaderId::kKeepAlive:
    case HeaderId::kProxyConnection:
    case HeaderId::kTransferEncoding:
    case HeaderId::kUpgrade:
      return true;
    default:
      return false;
  }
}

}  // namespace

uint16_t status_of(const HeaderMap& map) {
  const std::string_view text = map.get(HeaderId::kStatus);
  const int64_t status = text.size() == 3 ? parse_decimal(text) : 0;
  return static_cast<uint16_t>(status < 100 ? 0 : status);
}

H2Fault finish_request(HeaderMap& map) {
  if (const Header* const protocol = map.find(HeaderId::kProtocol); protocol != nullptr) {
    map.set_view(HeaderId::kUpgrade, protocol->value);
    map.set_view(HeaderId::kMethod, "GET");
    map.remove(HeaderId::kProtocol);
  }
  if (H2Fault fault = finish_authority(map)) return fault;
  if (map.has(HeaderId::kPath) && !valid_path(map.get(HeaderId::kPath), map.get(HeaderId::kMethod)))
    return {400, false, "http2.invalid_path"};
  if (map.get(HeaderId::kMethod) == "CONNECT") map.remove(HeaderId::kContentLength);  // it has no body
  map.remove(HeaderId::kHttp2Settings);
  join_cookies(map);
  return map.overflowed() ? kTooLarge : H2Fault{};
}

void finish_response(HeaderMap& map, uint16_t status) {
  if (status < 200 || status == 204) map.remove(HeaderId::kContentLength);
}

void finish_upgrade(HeaderMap& map, std::string_view protocol) {
  map.remove(HeaderId::kContentLength);
  map.set_view(HeaderId::kStatus, "101");
  map.set_view(HeaderId::kUpgrade, protocol);
}

void finish_trailers(HeaderMap& map) {
  map.remove_if([](const Header& h) { return forbidden_in_trailers(h.name, h.id); });
}

// --- checks ----------------------------------------------------------------------------------------------------------

bool H2HeadCheck::see(HeaderId id) {
  if (seen(id)) return false;
  seen_ |= 1u << static_cast<unsigned>(id);
  return true;
}

// Sections 8.3.1, 8.3.2; RFC 3986 section 3.1 for the scheme.
bool H2HeadCheck::add_pseudo(const HpackField& field) {
  const std::string_view value = field.value;
  if (of_ == Of::kTrailers || regular_ || value.empty() || !see(field.id)) return false;
  if (of_ == Of::kResponse) {
    if (field.id != HeaderId::kStatus || value.size() != 3) return false;
    return value[0] >= '1' && is_digit(value[0]) && is_digit(value[1]) && is_digit(value[2]) && value != "101";
  }
  switch (field.id) {
    case HeaderId::kMethod:
      connect_ = value == "CONNECT";
      options_ = value == "OPTIONS";
      return is_token(value);
    case HeaderId::kScheme: {
      web_ = value == "http" || value == "https";
      const auto letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
      return web_ || (letter(value[0]) && std::all_of(value.begin(), value.end(), [&](char c) {
                        return letter(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
                      }));
    }
    case HeaderId::kPath:
      path_ = value[0] == '/' ? '/' : value == "*" ? '*' : 'x';
      return true;
    case HeaderId::kAuthority:
      return true;
    case HeaderId::kProtocol:
      return protocol_;
    default:
      return false;
  }
}

bool H2HeadCheck::add(const HpackField& field) {
  if (!field.good) return false;
  if (field.id == HeaderId::kNone) {
    regular_ = true;
    return true;
  }
  if (field.id <= kLastPseudo) return add_pseudo(field);
  regular_ = true;
  switch (field.id) {
    case HeaderId::kConnection:  // section 8.2.2
    case HeaderId::kKeepAlive:
    case HeaderId::kProxyConnection:
    case HeaderId::kTransferEncoding:
    case HeaderId::kUpgrade:
      return false;
    case HeaderId::kTe:
      return equals_ignoring_case(field.value, "trailers");
    case HeaderId::kHost:
      return of_ != Of::kRequest || (!field.value.empty() && see(HeaderId::kHost));
    case HeaderId::kContentLength:
      if (of_ == Of::kTrailers) return true;  // left out later
      if (content_length_ >= 0) return false;
      content_length_ = parse_decimal(field.value);
      return content_length_ >= 0;
    default:
      return true;
  }
}

bool H2HeadCheck::whole() const {
  if (of_ == Of::kTrailers) return true;
  if (of_ == Of::kResponse) return seen(HeaderId::kStatus);
  const bool place = seen(HeaderId::kScheme) || seen(HeaderId::kPath);
  if (connect_ && !seen(HeaderId::kProtocol)) return seen(HeaderId::kAuthority) && !place;  // section 8.5
  if (seen(HeaderId::kProtocol) && (!connect_ || !seen(HeaderId::kAuthority))) return false;
  if (!seen(HeaderId::kMethod) || !seen(HeaderId::kScheme) || !seen(HeaderId::kPath)) return false;
  return !web_ || path_ == '/' || (path_ == '*' && options_);
}

// --- writing ---------------------------------------------------------------------------------------------------------

namespace {

bool goes_on(const Header& h, bool request) {
  if (h.id == HeaderId::kNone)
    return is_token(h.name) && h.name != "sec-websocket-key" && h.name != "sec-websocket-accept";
  return h.name.front() != ':' && !of_one_hop(h.id) && (request || h.id != HeaderId::kTe);
}

void add_fields(const HeaderMap& map, bool request, HpackEncoder& encoder, HpackOutput& out) {
  map.for_each([&](const Header& h) {
    if (goes_on(h, request))
      encoder.add(out, h.id, h.name, h.id == HeaderId::kTe ? "trailers" : h.value, h.never_indexed);
  });
}

void add_pseudo(HeaderId id, std::string_view value, bool never_indexed, HpackEncoder& encoder, HpackOutput& out) {
  encoder.add(out, id, header_name(id), value, never_indexed);
}
// Of a map that has it.
void add_pseudo(HeaderId id, const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out) {
  const Header& field = *map.find(id);
  add_pseudo(id, field.value, field.never_indexed, encoder, out);
}

}  // namespace

bool encode_request(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out) {
  const std::string_view method = map.get(HeaderId::kMethod);
  const Header* const upgrade = map.find(HeaderId::kUpgrade);
  const bool placed = upgrade != nullptr || method != "CONNECT";
  if ((upgrade == nullptr && method.empty()) || map.get(HeaderId::kAuthority).empty()) return false;
  if (placed && (map.get(HeaderId::kScheme).empty() || map.get(HeaderId::kPath).empty())) return false;
  encoder.begin(out);
  if (upgrade != nullptr) {
    add_pseudo(HeaderId::kMethod, "CONNECT", false, encoder, out);
    add_pseudo(HeaderId::kProtocol, upgrade->value, upgrade->never_indexed, encoder, out);
  } else {
    add_pseudo(HeaderId::kMethod, map, encoder, out);
  }
  add_pseudo(HeaderId::kAuthority, map, encoder, out);
  if (placed) {
    add_pseudo(HeaderId::kScheme, map, encoder, out);
    add_pseudo(HeaderId::kPath, map, encoder, out);
  }
  add_fields(map, true, encoder, out);
  return true;
}

bool encode_response(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out) {
  if (map.get(HeaderId::kStatus).empty()) return false;
  encoder.begin(out);
  add_pseudo(HeaderId::kStatus, map, encoder, out);
  add_fields(map, false, encoder, out);
  return true;
}

bool encode_acceptance(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out) {
  encoder.begin(out);
  add_pseudo(HeaderId::kStatus, "200", false, encoder, out);
  add_fields(map, false, encoder, out);
  return true;
}

bool encode_trailers(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out) {
  bool any = false;
  map.for_each([&](const Header& h) { any = any || goes_on(h, false); });
  if (!any) return false;
  encoder.begin(out);
  add_fields(map, false, encoder, out);
  return true;
}

}  // namespace outrigger::http
