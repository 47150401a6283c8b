// Address: an IPv4, IPv6 or Unix socket address. A small value; of a Unix socket one with memory of its own.
//
// Thread rule: value.
// Use:  TRY(auto a, Address::parse("127.0.0.1", 8080));  a.str() == "127.0.0.1:8080"
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/boxed.h"
#include "outrigger/result.h"

namespace outrigger::net {

class Address {
 public:
  Address() = default;
  // An IP literal and a port.
  static Result<Address> parse(std::string_view ip, uint16_t port);
  // A path, or "@name" for the abstract namespace; at most 107 bytes.
  static Result<Address> unix_path(std::string_view path);
  static Address from_sockaddr(const sockaddr* sa, socklen_t size);

  bool valid() const { return size_ != 0; }
  bool is_unix() const;
  bool is_ip() const { return valid() && !is_unix(); }
  bool is_v6() const;
  bool is_loopback() const;
  uint16_t port() const;
  Address with_port(uint16_t port) const;
  // In the network `prefix`/`length` (an IP literal's address).
  bool in_prefix(const Address& prefix, uint8_t length) const;

  const sockaddr* get() const {
    return unix_ ? reinterpret_cast<const sockaddr*>(&*unix_) : reinterpret_cast<const sockaddr*>(&ip_);
  }
  socklen_t size() const { return size_; }

  std::string str() const;  // "1.2.3.4:80", "[::1]:80", the path, "@name"
  std::string ip() const;   // "1.2.3.4", "::1"; paths as str()
  // Writes str()/ip() into `out` (at least kMaxText bytes); the length. No allocation.
  static constexpr size_t kMaxText = 112;
  size_t write_to(char* out) const;
  size_t write_ip_to(char* out) const;

  bool operator==(const Address& other) const;
  size_t hash() const;

 private:
  struct Unix {
    sa_family_t family = AF_UNIX;
    char path[110] = {};  // with a zero behind the longest
  };
  alignas(4) unsigned char ip_[28] = {};  // a sockaddr_in or sockaddr_in6
  socklen_t size_ = 0;
  Boxed<Unix> unix_;
};

}  // namespace outrigger::net
