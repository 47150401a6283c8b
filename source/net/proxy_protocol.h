// The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): a header before a connection's first byte that
// tells the addresses of the client's own connection. Read strictly, since it decides who a client is said to be.
//
// Thread rule: pure functions.
// Use:  ProxyHeader header;  if (read_proxy_header(bytes, header) == ProxyState::kDone) skip(header.size);
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "net/address.h"
#include "outrigger/buffer.h"

namespace outrigger::net {

struct ProxyHeader {
  uint8_t version = 0;
  size_t size = 0;  // bytes of the header; the connection's own begin behind them
  // The client, and where it wanted to go. Not valid(): the socket's own addresses count (LOCAL, UNKNOWN, UNSPEC, or a
  // family that has no IP addresses).
  Address remote, local;
  const char* fault = "";  // of kBad
};

enum class ProxyState : uint8_t {
  kMore,  // a prefix of a header
  kDone,
  kNone,  // does not begin as a header of either version does
  kBad,
};

constexpr size_t kMaxProxyHeaderBytes = 4 * 1024;  // of version 2, its TLVs included; version 1 has at most 107

ProxyState read_proxy_header(std::string_view bytes, ProxyHeader& out);

// Appends the header for a client. Addresses that are no IP addresses or of two families are told as unknown (LOCAL).
void write_proxy_header(uint8_t version, const Address& remote, const Address& local, Buffer& to);

}  // namespace outrigger::net
