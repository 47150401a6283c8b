#include "net/proxy_protocol.h"

#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>

namespace outrigger::net {
namespace {

constexpr std::string_view kV1 = "PROXY ";
constexpr std::string_view kV2{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr size_t kV1Max = 107;
constexpr size_t kV2Head = 16;

ProxyState bad(ProxyHeader& out, const char* fault) {
  out.fault = fault;
  return ProxyState::kBad;
}

// The text up to the next space, which is taken too. Two spaces in a row leave an empty one.
std::string_view word(std::string_view& line) {
  const size_t space = line.find(' ');
  const std::string_view out = line.substr(0, space);
  line.remove_prefix(space == std::string_view::npos ? line.size() : space + 1);
  return out;
}

std::optional<uint16_t> port_of(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || (text.size() > 1 && text[0] == '0')) return {};
  return port;
}

// An address of the family, and nothing that could be read as another.
bool address_of(std::string_view ip, std::string_view port, bool v6, Address& out) {
  const auto number = port_of(port);
  if (!number || ip.find('%') != std::string_view::npos) return false;
  const auto parsed = Address::parse(ip, *number);
  if (!parsed || parsed->is_v6() != v6) return false;
  out = *parsed;
  return true;
}

ProxyState read_v1(std::string_view bytes, ProxyHeader& out) {
  const size_t end = bytes.substr(0, kV1Max).find("\r\n");
  if (end == std::string_view::npos)
    return bytes.size() >= kV1Max ? bad(out, "version 1: no end of line within 107 bytes") : ProxyState::kMore;
  out.version = 1;
  out.size = end + 2;
  std::string_view line = bytes.substr(kV1.size(), end - kV1.size());
  const std::string_view family = word(line);
  if (family == "UNKNOWN") return ProxyState::kDone;
  if (family != "TCP4" && family != "TCP6") return bad(out, "version 1: the family is not TCP4, TCP6 or UNKNOWN");
  const std::string_view from = word(line), to = word(line), from_port = word(line), to_port = line;
  const bool v6 = family == "TCP6";
  if (!address_of(from, from_port, v6, out.remote) || !address_of(to, to_port, v6, out.local))
    return bad(out, "version 1: addresses or ports that are none of the family");
  return ProxyState::kDone;
}

uint16_t number_at(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[at]) << 8 | static_cast<uint8_t>(bytes[at + 1]));
}

Address address_at(std::string_view bytes, size_t at, size_t port_at, bool v6) {
  if (v6) {
    sockaddr_in6 sa{};
    sa.sin6_family = AF_INET6;
    std::memcpy(&sa.sin6_addr, bytes.data() + at, 16);
    sa.sin6_port = htons(number_at(bytes, port_at));
    return Address::from_sockaddr(reinterpret_cast<sockaddr*>(&sa), sizeof(sa));
  }
  sockaddr_in sa{};
  sa.sin_family = AF_INET;
  std::memcpy(&sa.sin_addr, bytes.data() + at, 4);
  sa.sin_port = htons(number_at(bytes, port_at));
  return Address::from_sockaddr(reinterpret_cast<sockaddr*>(&sa), sizeof(sa));
}

ProxyState read_v2(std::string_view bytes, ProxyHeader& out) {
  if (bytes.size() < kV2Head) return ProxyState::kMore;
  const auto version_and_command = static_cast<uint8_t>(bytes[12]);
  const auto family = static_cast<uint8_t>(bytes[13]) >> 4, transport = static_cast<uint8_t>(bytes[13]) & 15;
  const size_t length = number_at(bytes, 14);
  if (version_and_command >> 4 != 2) return bad(out, "version 2: another version number");
  if ((version_and_command & 15) > 1) return bad(out, "version 2: a command that is neither LOCAL nor PROXY");
  if (kV2Head + length > kMaxProxyHeaderBytes) return bad(out, "version 2: longer than 4096 bytes");
  if (family > 3 || transport > 2) return bad(out, "version 2: a family or transport that does not exist");
  const bool tells = (version_and_command & 15) == 1 && (family == 1 || family == 2);
  const bool v6 = family == 2;
  if (tells && transport != 1) return bad(out, "version 2: not TCP");
  if (tells && length < (v6 ? 36u : 12u)) return bad(out, "version 2: too short for its addresses");
  if (bytes.size() < kV2Head + length) return ProxyState::kMore;
  out.version = 2;
  out.size = kV2Head + length;
  if (!tells) return ProxyState::kDone;
  const size_t width = v6 ? 16 : 4, ports = kV2Head + 2 * width;
  out.remote = address_at(bytes, kV2Head, ports, v6);
  out.local = address_at(bytes, kV2Head + width, ports + 2, v6);
  return ProxyState::kDone;
}

const void* ip_bytes(const Address& address) {
  return address.is_v6() ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr)
                         : &reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr;
}

}  // namespace

ProxyState read_proxy_header(std::string_view bytes, ProxyHeader& out) {
  out = {};
  for (const std::string_view sign : {kV1, kV2}) {
    if (!bytes.starts_with(sign.substr(0, std::min(bytes.size(), sign.size())))) continue;
    if (bytes.size() < sign.size()) return ProxyState::kMore;
    return sign == kV1 ? read_v1(bytes, out) : read_v2(bytes, out);
  }
  return ProxyState::kNone;
}

void write_proxy_header(uint8_t version, const Address& remote, const Address& local, Buffer& to) {
  const bool known = remote.is_ip() && local.is_ip() && remote.is_v6() == local.is_v6();
  const bool v6 = known && remote.is_v6();
  if (version == 1) {
    char line[kV1Max + 1];
    char from_ip[Address::kMaxText], to_ip[Address::kMaxText];
    const size_t from_size = remote.write_ip_to(from_ip), to_size = local.write_ip_to(to_ip);
    const int size = known ? std::snprintf(line, sizeof(line), "PROXY TCP%c %.*s %.*s %u %u\r\n", v6 ? '6' : '4',
                                           static_cast<int>(from_size), from_ip, static_cast<int>(to_size), to_ip,
                                           unsigned{remote.port()}, unsigned{local.port()})
                           : std::snprintf(line, sizeof(line), "PROXY UNKNOWN\r\n");
    return to.append(std::string_view(line, static_cast<size_t>(size)));
  }
  char head[kV2Head + 36];
  const size_t width = v6 ? 16 : 4, length = known ? 2 * width + 4 : 0;
  std::memcpy(head, kV2.data(), kV2.size());
  head[12] = known ? 0x21 : 0x20;
  head[13] = static_cast<char>(known ? (v6 ? 0x21 : 0x11) : 0);
  head[14] = 0;
  head[15] = static_cast<char>(length);
  if (known) {
    std::memcpy(head + kV2Head, ip_bytes(remote), width);
    std::memcpy(head + kV2Head + width, ip_bytes(local), width);
    char* const ports = head + kV2Head + 2 * width;
    const uint16_t both[] = {htons(remote.port()), htons(local.port())};
    std::memcpy(ports, both, sizeof(both));
  }
  to.append(std::string_view(head, kV2Head + length));
}

}  // namespace outrigger::net
