#include "proxy/request_headers.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/hex.h"
#include "route/formatter.h"

namespace outrigger::proxy {
namespace {

constexpr auto kHexPairs = [] {
  std::array<std::array<char, 2>, 256> pairs{};
  for (size_t i = 0; i < 256; ++i) pairs[i] = {"0123456789abcdef"[i / 16], "0123456789abcdef"[i % 16]};
  return pairs;
}();

bool unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

// A UUID, version 4 (RFC 9562 section 5.4), of the loop's fast random numbers: unique, not secret.
std::string_view make_request_id(event::Loop& loop, Arena& arena) {
  char* out = static_cast<char*>(arena.try_allocate(36, 1));
  if (out == nullptr) return {};
  uint64_t bits[2] = {loop.random(), loop.random()};
  bits[0] = (bits[0] & ~0xf000ull) | 0x4000ull;
  bits[1] = (bits[1] & ~(3ull << 62)) | (2ull << 62);
  constexpr uint8_t kAt[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};  // where each byte goes
  for (int i = 0; i < 16; ++i) std::memcpy(out + kAt[i], kHexPairs[bits[i / 8] >> (56 - 8 * (i % 8)) & 255].data(), 2);
  out[8] = out[13] = out[18] = out[23] = '-';
  return {out, 36};
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The element of x-forwarded-for that is `hops` places from its end (0: the last); empty if there is none.
std::string_view forwarded_element(std::string_view list, uint32_t hops) {
  for (;;) {
    const size_t comma = list.rfind(',');
    if (hops == 0) return trim(comma == std::string_view::npos ? list : list.substr(comma + 1));
    if (comma == std::string_view::npos) return {};
    list = list.substr(0, comma);
    --hops;
  }
}

// host:port split that knows IPv6 literals; npos if there is no port.
size_t port_colon(std::string_view host) {
  const size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || (host.find(']') != std::string_view::npos && colon < host.rfind(']')))
    return std::string_view::npos;
  if (host.front() != '[' && host.find(':') != colon) return std::string_view::npos;  // a bare IPv6 literal
  return colon;
}

void clean_host(HeaderMap& headers, const config::HcmSpec& hcm, std::string_view scheme) {
  const Header* host = headers.find(HeaderId::kAuthority);
  if (host == nullptr || host->value.empty()) return;
  if (headers.get(HeaderId::kMethod) == "CONNECT") return;  // where it wants to go, port and all (as Envoy)
  std::string_view value = host->value;
  if (const size_t colon = port_colon(value); colon != std::string_view::npos) {
    const std::string_view port = value.substr(colon + 1);
    const bool usual = (scheme == "https" && port == "443") || (scheme == "http" && port == "80");
    if (hcm.strip_any_host_port || (hcm.strip_matching_host_port && usual)) value = value.substr(0, colon);
  }
  if (hcm.strip_trailing_host_dot && !value.empty() && value.back() == '.') value.remove_suffix(1);
  if (value.size() != host->value.size()) headers.set_view(HeaderId::kAuthority, value);
}

void remove_internal_headers(HeaderMap& headers) {
  headers.remove_if(
      [](const Header& h) { return h.name.starts_with("x-envoy-") && h.name != "x-envoy-original-dst-host"; });
}

void forwarding_headers(HeaderMap& headers, const config::HcmSpec& hcm, const RequestContext& context, StreamInfo& info,
                        std::string_view scheme) {
  Arena& arena = headers.arena();
  const std::string_view list =
      headers.has(HeaderId::kXForwardedFor) ? headers.get_all("x-forwarded-for") : std::string_view{};
  bool internal = false;
  std::string_view client;  // as far as the list is trusted
  if (hcm.use_remote_address) {
    client = hcm.xff_num_trusted_hops == 0 ? context.remote_ip : forwarded_element(list, hcm.xff_num_trusted_hops - 1);
    internal = list.empty() && is_internal(context.remote, hcm.internal_cidrs);
    if (!hcm.skip_xff_append && context.remote.is_ip()) {
      if (list.empty()) {
        headers.set_view(HeaderId::kXForwardedFor, arena.copy(context.remote_ip));
      } else {
        char* joined = static_cast<char*>(arena.try_allocate(list.size() + 1 + context.remote_ip.size(), 1));
        if (joined == nullptr) return headers.mark_overflowed();
        std::memcpy(joined, list.data(), list.size());
        joined[list.size()] = ',';
        std::memcpy(joined + list.size() + 1, context.remote_ip.data(), context.remote_ip.size());
        headers.set_view(HeaderId::kXForwardedFor, {joined, list.size() + 1 + context.remote_ip.size()});
      }
    }
    if (hcm.xff_num_trusted_hops == 0 || !headers.has(HeaderId::kXForwardedProto))
      headers.set_view(HeaderId::kXForwardedProto, scheme);
  } else {
    client = forwarded_element(list, hcm.xff_num_trusted_hops);
    if (!client.empty() && list.find(',') == std::string_view::npos) {
      const auto parsed = net::Address::parse(client, 0);
      internal = parsed.has_value() && is_internal(*parsed, hcm.internal_cidrs);
    }
    if (!headers.has(HeaderId::kXForwardedProto)) headers.set_view(HeaderId::kXForwardedProto, scheme);
  }
  const std::string_view proto = headers.get(HeaderId::kXForwardedProto);
  if (proto != "http" && proto != "https") headers.set_view(HeaderId::kXForwardedProto, scheme);
  if (!client.empty() && client != context.remote_ip) {
    if (net::Address::parse(client, 0).has_value()) {
      char* text = static_cast<char*>(arena.try_allocate(client.size() + 4, 1));
      if (text != nullptr) {  // as an address with port 0, so that log fields have one shape
        const bool v6 = client.find(':') != std::string_view::npos;
        char* at = text;
        if (v6) *at++ = '[';
        at = std::copy(client.begin(), client.end(), at);
        if (v6) *at++ = ']';
        *at++ = ':';
        *at++ = '0';
        info.downstream_remote_address = {text, static_cast<size_t>(at - text)};
      }
    }
  }
  if (!internal) remove_internal_headers(headers);
  if (internal && hcm.use_remote_address) headers.set_view(HeaderId::kXEnvoyInternal, "true");

  if (headers.has(HeaderId::kXRequestId) && hcm.use_remote_address && !internal && !hcm.preserve_external_request_id)
    headers.remove(HeaderId::kXRequestId);
  if (!headers.has(HeaderId::kXRequestId) && hcm.generate_request_id) {
    const std::string_view id = make_request_id(context.loop, arena);
    if (id.empty()) return headers.mark_overflowed();
    headers.add_view(header_name(HeaderId::kXRequestId), id, HeaderId::kXRequestId);
  }
  info.request_id = headers.get(HeaderId::kXRequestId);
}

// An element's value; quoted where a reader could take it for several (as Envoy's documentation has it).
void append_element(route::TextOut& out, std::string_view key, std::string_view value, bool quote) {
  if (out.size() > 0 && out.view().back() != ',') out.append(';');
  out.append(key);
  out.append('=');
  quote = quote || value.find_first_of(",;=\"") != std::string_view::npos;
  if (!quote) return out.append(value);
  out.append('"');
  for (const char c : value) {
    if (c == '"') out.append('\\');
    out.append(c);
  }
  out.append('"');
}

std::string_view url_encoded(std::string_view text, Arena& arena) {
  route::TextOut out(arena);
  for (const char c : text) {
    if (unreserved(c)) {
      out.append(c);
      continue;
    }
    constexpr std::string_view kUpper = "0123456789ABCDEF";
    out.append('%');
    out.append(kUpper[static_cast<unsigned char>(c) >> 4]);
    out.append(kUpper[static_cast<unsigned char>(c) & 15]);
  }
  return out.truncated() ? std::string_view() : out.view();
}

// x-forwarded-client-cert: By, Hash and what set_current_client_cert_details asks for, in Envoy's order.
void client_certificate_header(HeaderMap& headers, const config::HcmSpec& hcm, const TlsInfo* tls) {
  using Forward = config::HcmSpec::ForwardClientCert;
  const Forward forward = hcm.forward_client_cert;
  if (forward == Forward::kAlwaysForwardOnly) return;
  const CertificateInfo* peer = tls == nullptr ? nullptr : tls->peer.get();
  if (forward == Forward::kSanitize || peer == nullptr) {
    headers.remove(HeaderId::kXForwardedClientCert);
    return;
  }
  if (forward == Forward::kForwardOnly) return;
  route::TextOut out(headers.arena());
  if (forward == Forward::kAppendForward && headers.has(HeaderId::kXForwardedClientCert)) {
    out.append(headers.get_all("x-forwarded-client-cert"));
    out.append(',');
  }
  if (tls->local != nullptr)
    for (const std::string& name : tls->local->uri_names) append_element(out, "By", name, false);
  append_element(out, "Hash", peer->sha256, false);
  const config::ClientCertDetailsSpec& details = hcm.client_cert_details;
  if (details.cert) append_element(out, "Cert", url_encoded(peer->pem, headers.arena()), true);
  if (details.subject) append_element(out, "Subject", peer->subject, true);
  if (details.uri) {
    if (peer->uri_names.empty()) append_element(out, "URI", "", false);
    for (const std::string& name : peer->uri_names) append_element(out, "URI", name, false);
  }
  if (details.dns)
    for (const std::string& name : peer->dns_names) append_element(out, "DNS", name, false);
  if (out.truncated()) return headers.mark_overflowed();
  headers.set_view(HeaderId::kXForwardedClientCert, out.view());
}

void append_via(HeaderMap& headers, const std::string& via) {
  if (via.empty()) return;
  const std::string_view old = headers.get_all("via");
  if (old.empty()) {
    headers.set_view(HeaderId::kVia, via);
    return;
  }
  char* joined = static_cast<char*>(headers.arena().try_allocate(old.size() + 2 + via.size(), 1));
  if (joined == nullptr) return headers.mark_overflowed();
  std::memcpy(joined, old.data(), old.size());
  std::memcpy(joined + old.size(), ", ", 2);
  std::memcpy(joined + old.size() + 2, via.data(), via.size());
  headers.set_view(HeaderId::kVia, {joined, old.size() + 2 + via.size()});
}

bool has_escaped_slash(std::string_view path) {
  for (size_t i = 0; i + 2 < path.size(); ++i) {
    if (path[i] != '%') continue;
    const bool slash = path[i + 1] == '2' && (path[i + 2] == 'f' || path[i + 2] == 'F');
    const bool backslash = path[i + 1] == '5' && (path[i + 2] == 'c' || path[i + 2] == 'C');
    if (slash || backslash) return true;
  }
  return false;
}

std::string_view unescape_slashes(std::string_view path, Arena& arena) {
  char* out = static_cast<char*>(arena.try_allocate(path.size(), 1));
  if (out == nullptr) return {};
  size_t n = 0;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '%' && i + 2 < path.size()) {
      const int value = hex_digit(path[i + 1]) * 16 + hex_digit(path[i + 2]);
      if (value == '/' || value == '\\') {
        out[n++] = '/';
        i += 2;
        continue;
      }
    }
    out[n++] = path[i];
  }
  return {out, n};
}

// Splits "path?query"; the query keeps its mark.
std::string_view path_part(std::string_view target) { return target.substr(0, target.find('?')); }

std::string_view with_query(std::string_view path, std::string_view query, Arena& arena) {
  if (query.empty()) return path;
  char* out = static_cast<char*>(arena.try_allocate(path.size() + query.size(), 1));
  if (out == nullptr) return {};
  std::memcpy(out, path.data(), path.size());
  std::memcpy(out + path.size(), query.data(), query.size());
  return {out, path.size() + query.size()};
}

std::optional<Refused> clean_path(HeaderMap& headers, const config::HcmSpec& hcm) {
  using Slashes = config::HcmSpec::EscapedSlashes;
  const std::string_view target = headers.get(HeaderId::kPath);
  if (target.empty() || target.front() != '/') return std::nullopt;  // CONNECT, OPTIONS *
  Arena& arena = headers.arena();
  std::string_view path = path_part(target);
  const std::string_view query = target.substr(path.size());
  bool redirect = false;
  if (hcm.escaped_slashes != Slashes::kKeep && has_escaped_slash(path)) {
    if (hcm.escaped_slashes == Slashes::kReject) return Refused{400, "path_normalization_failed"};
    path = unescape_slashes(path, arena);
    redirect = hcm.escaped_slashes == Slashes::kUnescapeAndRedirect;
  }
  if (path.data() != nullptr && hcm.normalize_path) path = normalize_path(path, arena);
  if (path.data() != nullptr && hcm.merge_slashes) path = merge_slashes(path, arena);
  if (path.data() == nullptr) return Refused{400, "path_normalization_failed"};
  if (path.data() != target.data()) {
    const std::string_view whole = with_query(path, query, arena);
    if (whole.data() == nullptr) return Refused{431, "request_headers_too_large"};
    headers.set_view(HeaderId::kPath, whole);
    if (redirect) return Refused{307, "path_normalization_redirect", whole};
  }
  return std::nullopt;
}

}  // namespace

std::string_view normalize_path(std::string_view path, Arena& arena) {
  // Most paths have nothing to do.
  bool dirty = false;
  for (size_t i = 0; i < path.size() && !dirty; ++i) {
    const char c = path[i];
    dirty = c == '%' || c == '\\' || (c == '.' && i > 0 && (path[i - 1] == '/'));
  }
  if (!dirty) return path;
  char* out = static_cast<char*>(arena.try_allocate(path.size() + 1, 1));
  if (out == nullptr) return {};
  size_t n = 0;
  for (size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == '\\') c = '/';
    if (c == '%') {
      const int high = i + 2 < path.size() ? hex_digit(path[i + 1]) : -1;
      const int low = high >= 0 ? hex_digit(path[i + 2]) : -1;
      const char decoded = static_cast<char>(high * 16 + low);
      if (low >= 0 && decoded == '\0') return {};
      if (low >= 0 && unreserved(decoded)) {
        out[n++] = decoded;
        i += 2;
        continue;
      }
    }
    out[n++] = c;
  }
  // Dot segments (RFC 3986 section 5.2.4), in place.
  const std::string_view in(out, n);
  size_t w = 0;
  for (size_t i = 0; i < in.size();) {
    const size_t end = std::min(in.find('/', i + 1), in.size());
    const std::string_view segment = in.substr(i, end - i);  // "/name"
    const bool last = end == in.size();
    if (segment == "/.") {
      if (last) out[w++] = '/';
    } else if (segment == "/..") {
      while (w > 0 && out[--w] != '/') {
      }
      if (last) out[w++] = '/';
    } else {
      std::memmove(out + w, segment.data(), segment.size());
      w += segment.size();
    }
    i = end;
  }
  if (w == 0) out[w++] = '/';
  return {out, w};
}

std::string_view merge_slashes(std::string_view path, Arena& arena) {
  if (path.find("//") == std::string_view::npos) return path;
  char* out = static_cast<char*>(arena.try_allocate(path.size(), 1));
  if (out == nullptr) return {};
  size_t n = 0;
  for (const char c : path)
    if (c != '/' || n == 0 || out[n - 1] != '/') out[n++] = c;
  return {out, n};
}

bool is_internal(const net::Address& address, const std::vector<config::CidrSpec>& cidrs) {
  if (address.is_unix()) return true;
  static const std::vector<config::CidrSpec> kUsual = {{"10.0.0.0", 8},  {"172.16.0.0", 12},  {"192.168.0.0", 16},
                                                       {"127.0.0.0", 8}, {"169.254.0.0", 16}, {"::1", 128},
                                                       {"fc00::", 7},    {"fe80::", 10}};
  for (const config::CidrSpec& cidr : cidrs.empty() ? kUsual : cidrs)
    if (const auto prefix = net::Address::parse(cidr.prefix, 0);
        prefix.has_value() && address.in_prefix(*prefix, cidr.length))
      return true;
  return false;
}

std::optional<Refused> prepare_request(HeaderMap& headers, const config::HcmSpec& hcm, const RequestContext& context,
                                       StreamInfo& info) {
  using Underscores = config::HcmSpec::Underscores;
  if (hcm.underscores != Underscores::kAllow) {
    bool seen = false;
    const auto underscore = [&](const Header& h) {
      const bool has = h.name.find('_') != std::string_view::npos;
      seen = seen || has;
      return has && hcm.underscores == Underscores::kDrop;
    };
    headers.remove_if(underscore);
    if (seen && hcm.underscores == Underscores::kReject) return Refused{400, "unexpected_underscore"};
  }
  client_certificate_header(headers, hcm, context.tls);
  const std::string_view scheme = context.tls == nullptr ? "http" : "https";
  headers.set_view(HeaderId::kScheme, scheme);
  clean_host(headers, hcm, scheme);
  if (auto refused = clean_path(headers, hcm)) return refused;
  forwarding_headers(headers, hcm, context, info, scheme);
  append_via(headers, hcm.via);
  if (headers.overflowed()) return Refused{431, "request_headers_too_large"};
  return std::nullopt;
}

void prepare_response(HeaderMap& headers, const config::HcmSpec& hcm, std::string_view date, const StreamInfo& info) {
  using ServerHeader = config::HcmSpec::ServerHeader;
  if (hcm.server_header == ServerHeader::kOverwrite ||
      (hcm.server_header == ServerHeader::kAppendIfAbsent && !headers.has(HeaderId::kServer)))
    headers.set_view(HeaderId::kServer, hcm.server_name);
  if (!headers.has(HeaderId::kDate)) headers.add(HeaderId::kDate, date);
  append_via(headers, hcm.via);
  if (hcm.always_set_request_id_in_response && !info.request_id.empty())
    headers.set_view(HeaderId::kXRequestId, info.request_id);
}

}  // namespace outrigger::proxy
