#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/hash.h"

namespace outrigger::net {
namespace {

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
static_assert(sizeof(sockaddr_in6) == 28);

const sockaddr_in& v4(const sockaddr* sa) { return *reinterpret_cast<const sockaddr_in*>(sa); }
const sockaddr_in6& v6(const sockaddr* sa) { return *reinterpret_cast<const sockaddr_in6*>(sa); }

size_t put_number(char* out, unsigned value) {
  char digits[8];
  size_t n = 0;
  do {
    digits[n++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  for (size_t i = 0; i < n; ++i) out[i] = digits[n - 1 - i];
  return n;
}

}  // namespace

Result<Address> Address::parse(std::string_view ip, uint16_t port) {
  char text[INET6_ADDRSTRLEN];
  if (ip.empty() || ip.size() >= sizeof(text) || ip.find('\0') != std::string_view::npos)
    return fail(Errc::kInvalidArgument, "\"" + std::string(ip.substr(0, 64)) + "\" is not an IP address");
  std::memcpy(text, ip.data(), ip.size());
  text[ip.size()] = '\0';

  Address out;
  sockaddr_in four{};
  sockaddr_in6 six{};
  if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    std::memcpy(out.ip_, &four, out.size_ = sizeof(four));
  } else if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    std::memcpy(out.ip_, &six, out.size_ = sizeof(six));
  } else {
    return fail(Errc::kInvalidArgument, "\"" + std::string(ip) + "\" is not an IP address");
  }
  return out;
}

Result<Address> Address::unix_path(std::string_view path) {
  if (path.empty() || path == "@") return fail(Errc::kInvalidArgument, "the path of a Unix socket must not be empty");
  if (path.size() > 107)
    return fail(Errc::kInvalidArgument,
                "the path of a Unix socket has " + std::to_string(path.size()) + " bytes; 107 are possible");
  if (path.find('\0') != std::string_view::npos)
    return fail(Errc::kInvalidArgument, "the path of a Unix socket must not contain a zero byte");
  Address out;
  Unix& to = out.unix_.make();
  std::memcpy(to.path, path.data(), path.size());
  if (path[0] == '@') {
    to.path[0] = 0;
    out.size_ = static_cast<socklen_t>(kPathOffset + path.size());
  } else {
    out.size_ = static_cast<socklen_t>(kPathOffset + path.size() + 1);
  }
  return out;
}

Address Address::from_sockaddr(const sockaddr* sa, socklen_t size) {
  Address out;
  if (sa == nullptr || size < sizeof(sa_family_t)) return out;
  // Only what identifies the address is kept, so that equal addresses are equal bytes.
  if (sa->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = v4(sa).sin_port;
    four.sin_addr = v4(sa).sin_addr;
    std::memcpy(out.ip_, &four, out.size_ = sizeof(four));
  } else if (sa->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = v6(sa).sin6_port;
    six.sin6_addr = v6(sa).sin6_addr;
    six.sin6_scope_id = v6(sa).sin6_scope_id;
    std::memcpy(out.ip_, &six, out.size_ = sizeof(six));
  } else if (sa->sa_family == AF_UNIX) {
    const char* path = reinterpret_cast<const char*>(sa) + kPathOffset;
    size_t length = std::min<size_t>(size > kPathOffset ? size - kPathOffset : 0, 108);
    if (length > 0 && path[0] != '\0') length = strnlen(path, length);  // a path; else abstract or unnamed
    std::memcpy(out.unix_.make().path, path, length);
    const bool is_path = length > 0 && path[0] != '\0';
    out.size_ = static_cast<socklen_t>(kPathOffset + length + (is_path ? 1 : 0));
  }
  return out;
}

bool Address::is_unix() const { return unix_.has_value(); }
bool Address::is_v6() const { return valid() && get()->sa_family == AF_INET6; }

bool Address::is_loopback() const {
  if (!is_ip()) return false;
  if (is_v6()) return IN6_IS_ADDR_LOOPBACK(&v6(get()).sin6_addr);
  return (ntohl(v4(get()).sin_addr.s_addr) >> 24) == 127;
}

uint16_t Address::port() const {
  if (!is_ip()) return 0;
  return ntohs(is_v6() ? v6(get()).sin6_port : v4(get()).sin_port);
}

Address Address::with_port(uint16_t port) const {
  Address out = *this;
  if (!is_ip()) return out;
  const in_port_t value = htons(port);
  const size_t at = is_v6() ? offsetof(sockaddr_in6, sin6_port) : offsetof(sockaddr_in, sin_port);
  std::memcpy(out.ip_ + at, &value, sizeof(value));
  return out;
}

bool Address::in_prefix(const Address& prefix, uint8_t length) const {
  if (!is_ip() || !prefix.is_ip() || is_v6() != prefix.is_v6()) return false;
  const size_t at = is_v6() ? offsetof(sockaddr_in6, sin6_addr) : offsetof(sockaddr_in, sin_addr);
  const unsigned bits = is_v6() ? 128 : 32;
  if (length > bits) return false;
  const unsigned char* mine = ip_ + at;
  const unsigned char* theirs = prefix.ip_ + at;
  if (std::memcmp(mine, theirs, length / 8) != 0) return false;
  if (length % 8 == 0) return true;
  const unsigned mask = 0xFF00u >> (length % 8) & 0xFF;
  return (mine[length / 8] & mask) == (theirs[length / 8] & mask);
}

size_t Address::write_ip_to(char* out) const {
  if (!valid()) return 0;
  if (is_unix()) {
    const char* path = unix_->path;
    size_t length = size_ - kPathOffset;
    if (length == 0) return 0;
    if (path[0] != '\0') --length;  // its final zero
    std::memcpy(out, path, length);
    if (path[0] == '\0') out[0] = '@';
    return length;
  }
  if (is_v6()) {
    char text[INET6_ADDRSTRLEN];
    CHECK(inet_ntop(AF_INET6, &v6(get()).sin6_addr, text, sizeof(text)) != nullptr);
    const size_t length = std::strlen(text);
    std::memcpy(out, text, length);
    return length;
  }
  const uint32_t ip = ntohl(v4(get()).sin_addr.s_addr);
  char* at = out;
  for (int shift = 24; shift >= 0; shift -= 8) {
    at += put_number(at, (ip >> shift) & 0xFF);
    if (shift != 0) *at++ = '.';
  }
  return static_cast<size_t>(at - out);
}

size_t Address::write_to(char* out) const {
  if (!is_ip()) return write_ip_to(out);
  char* at = out;
  if (is_v6()) *at++ = '[';
  at += write_ip_to(at);
  if (is_v6()) *at++ = ']';
  *at++ = ':';
  at += put_number(at, port());
  return static_cast<size_t>(at - out);
}

std::string Address::str() const {
  char text[kMaxText];
  return std::string(text, write_to(text));
}

std::string Address::ip() const {
  char text[kMaxText];
  return std::string(text, write_ip_to(text));
}

bool Address::operator==(const Address& other) const {
  return size_ == other.size_ && std::memcmp(get(), other.get(), size_) == 0;
}

size_t Address::hash() const { return keyed_hash({reinterpret_cast<const char*>(get()), size_}); }

}  // namespace outrigger::net
