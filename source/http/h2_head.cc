#include "http/h2_head.h"

#include <cstring>

#include "http/h1_head.h"
#include "http/h1_scan.h"

namespace outrigger::http {
namespace {

constexpr H2Fault kTooLarge{431, false, "http2.headers_too_large"};

uint8_t* bytes(std::string_view text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); }

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

void join_cookies(HeaderMap& map) {
  size_t count = 0, total = 0;
  map.for_each([&](const Header& h) {
    if (h.id != HeaderId::kCookie) return;
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
  const std::string_view path = map.get(HeaderId::kPath);
  if (map.has(HeaderId::kPath) && (path.empty() || find_target_end(path.data(), path.data() + path.size(),
                                                                   path.data()) != path.data() + path.size()))
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

FieldList& FieldList::fresh() {
  static thread_local FieldList list;
  list.fields_.clear();
  list.cleaned_.clear();
  return list;
}

const FieldList& FieldList::of_request(const HeaderMap& map) {
  FieldList& list = fresh();
  if (const Header* const upgrade = map.find(HeaderId::kUpgrade); upgrade != nullptr) {
    list.add(header_name(HeaderId::kMethod), "CONNECT", 0);
    list.add(header_name(HeaderId::kProtocol), upgrade->value, 0);
    if (list.add_pseudo(map, HeaderId::kAuthority) && list.add_pseudo(map, HeaderId::kScheme) &&
        list.add_pseudo(map, HeaderId::kPath)) {
      list.add_fields(map, true);
    } else {
      list.fields_.clear();
    }
    return list;
  }
  const bool connect = map.get(HeaderId::kMethod) == "CONNECT";
  const bool whole = list.add_pseudo(map, HeaderId::kMethod) && list.add_pseudo(map, HeaderId::kAuthority) &&
                     (connect || (list.add_pseudo(map, HeaderId::kScheme) && list.add_pseudo(map, HeaderId::kPath)));
  if (whole) {
    list.add_fields(map, true);
  } else {
    list.fields_.clear();
  }
  return list;
}

const FieldList& FieldList::of_response(const HeaderMap& map) {
  FieldList& list = fresh();
  if (list.add_pseudo(map, HeaderId::kStatus)) list.add_fields(map, false);
  return list;
}

const FieldList& FieldList::of_acceptance(const HeaderMap& map) {
  FieldList& list = fresh();
  list.add(header_name(HeaderId::kStatus), "200", 0);
  list.add_fields(map, false);
  return list;
}

const FieldList& FieldList::of_trailers(const HeaderMap& map) {
  FieldList& list = fresh();
  list.add_fields(map, false);
  return list;
}

bool FieldList::add_pseudo(const HeaderMap& map, HeaderId id) {
  const Header* const field = map.find(id);
  if (field == nullptr || field->value.empty()) return false;
  add(field->name, field->value, 0);
  return true;
}

void FieldList::add_fields(const HeaderMap& map, bool request) {
  size_t total = 0;  // cleaned_ must not move while it is filled
  map.for_each([&](const Header& h) { total += h.value.size(); });
  cleaned_.reserve(total);
  map.for_each([&](const Header& h) {
    if (h.name.front() == ':' || of_one_hop(h.id)) return;
    if (h.id == HeaderId::kNone && (h.name == "sec-websocket-key" || h.name == "sec-websocket-accept")) return;
    if (h.id == HeaderId::kTe) {
      if (request) add(h.name, "trailers", 0);
      return;
    }
    if (h.id == HeaderId::kNone && !is_token(h.name)) return;
    // Never the same twice: not worth a place in the peer's table.
    const bool unique = h.id == HeaderId::kXRequestId || h.id == HeaderId::kTraceparent;
    add(h.name, h.value, unique ? NGHTTP2_NV_FLAG_NO_INDEX : 0);
  });
}

void FieldList::add(std::string_view name, std::string_view value, uint8_t flags) {
  value = clean(value);
  fields_.push_back({bytes(name), bytes(value), name.size(), value.size(),
                     static_cast<uint8_t>(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)});
}

// Most values are clean.
std::string_view FieldList::clean(std::string_view value) {
  const char* const end = value.data() + value.size();
  if (find_control(value.data(), end, value.data()) == end) return value;
  const size_t at = cleaned_.size();
  for (const char c : value) cleaned_.push_back(is_control(c) ? ' ' : c);
  return {cleaned_.data() + at, value.size()};
}

}  // namespace outrigger::http
