#include "net/proxy_protocol.h"

#include <gtest/gtest.h>

#include <string>

namespace outrigger::net {
namespace {

const std::string kSign("\r\n\r\n\0\r\nQUIT\n", 12);

std::string v2(uint8_t version_and_command, uint8_t family, const std::string& rest) {
  return kSign + static_cast<char>(version_and_command) + static_cast<char>(family) +
         static_cast<char>(rest.size() >> 8) + static_cast<char>(rest.size()) + rest;
}
const std::string kV4("\x01\x02\x03\x04\x0a\x00\x00\x01\x04\xd2\x00\x50", 12);
const std::string kV6 = std::string("\xfd", 1) + std::string(14, '\0') + "\x01" + std::string("\xfd", 1) +
                        std::string(14, '\0') + "\x02" + std::string("\x04\xd2\x00\x50", 4);

ProxyHeader read(const std::string& bytes, ProxyState state = ProxyState::kDone) {
  ProxyHeader header;
  EXPECT_EQ(read_proxy_header(bytes, header), state) << bytes << ": " << header.fault;
  return header;
}

TEST(ProxyProtocol, Version1) {
  ProxyHeader header = read("PROXY TCP4 1.2.3.4 10.0.0.1 1234 80\r\nGET /");
  EXPECT_EQ(header.remote.str(), "1.2.3.4:1234");
  EXPECT_EQ(header.local.str(), "10.0.0.1:80");
  EXPECT_EQ(header.size, 37u);
  EXPECT_EQ(header.version, 1);
  header = read("PROXY TCP6 fd00::1 fd00::2 0 65535\r\n");
  EXPECT_EQ(header.remote.str(), "[fd00::1]:0");
  EXPECT_EQ(header.local.str(), "[fd00::2]:65535");
  for (const char* unknown : {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"})
    EXPECT_FALSE(read(unknown).remote.valid()) << unknown;
}

TEST(ProxyProtocol, Version1IsReadStrictly) {
  for (const char* bytes : {"PROXY TCP4 1.2.3.4 10.0.0.1 1234\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 1234 80 9\r\n",
                            "PROXY TCP4 1.2.3.4  10.0.0.1 1234 80\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 01234 80\r\n",
                            "PROXY TCP4 1.2.3.4 10.0.0.1 65536 80\r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 -1 80\r\n",
                            "PROXY TCP4 fd00::1 fd00::2 1 2\r\n", "PROXY TCP6 1.2.3.4 10.0.0.1 1234 80\r\n",
                            "PROXY TCP6 fe80::1%lo fd00::2 1 2\r\n", "PROXY UDP4 1.2.3.4 10.0.0.1 1234 80\r\n",
                            "PROXY \r\n", "PROXY TCP4 1.2.3.4 10.0.0.1 1234 80\n\r\n"})
    EXPECT_EQ(read(bytes, ProxyState::kBad).version, 1) << bytes;
  read("PROXY TCP4 " + std::string(100, '1'), ProxyState::kBad);
}

TEST(ProxyProtocol, Version2) {
  ProxyHeader header = read(v2(0x21, 0x11, kV4) + "GET /");
  EXPECT_EQ(header.remote.str(), "1.2.3.4:1234");
  EXPECT_EQ(header.local.str(), "10.0.0.1:80");
  EXPECT_EQ(header.size, 28u);
  EXPECT_EQ(header.version, 2);
  header = read(v2(0x21, 0x21, kV6 + "some TLVs"));
  EXPECT_EQ(header.remote.str(), "[fd00::1]:1234");
  EXPECT_EQ(header.local.str(), "[fd00::2]:80");
  EXPECT_EQ(header.size, 16u + 36 + 9);
  // The socket's own addresses: a health check of the proxy before us, no family, a Unix socket.
  for (const std::string& own :
       {v2(0x20, 0x11, kV4), v2(0x20, 0x00, ""), v2(0x21, 0x00, "TLVs"), v2(0x21, 0x31, std::string(216, 'x'))})
    EXPECT_FALSE(read(own).remote.valid());
}

TEST(ProxyProtocol, Version2IsReadStrictly) {
  for (const std::string& bytes :
       {v2(0x11, 0x11, kV4), v2(0x22, 0x11, kV4), v2(0x21, 0x41, kV4), v2(0x21, 0x13, kV4), v2(0x21, 0x12, kV4),
        v2(0x21, 0x11, kV4.substr(1)), v2(0x21, 0x21, kV4), v2(0x21, 0x11, kV4 + std::string(4'096, 'x'))})
    EXPECT_NE(read(bytes, ProxyState::kBad).fault[0], '\0');
}

TEST(ProxyProtocol, EveryPrefixWantsMore) {
  for (const std::string& whole : {std::string("PROXY TCP4 1.2.3.4 10.0.0.1 1234 80\r\n"), v2(0x21, 0x21, kV6)})
    for (size_t n = 0; n < whole.size(); ++n) read(whole.substr(0, n), ProxyState::kMore);
}

TEST(ProxyProtocol, OtherBytesAreNoHeader) {
  for (const char* bytes : {"GET / HTTP/1.1", "\x16\x03\x01", "PROXX", "\r\nG", "P\r\n"})
    read(bytes, ProxyState::kNone);
}

TEST(ProxyProtocol, WhatIsWrittenIsRead) {
  const auto v4 = *Address::parse("1.2.3.4", 7), other = *Address::parse("10.0.0.1", 7),
             v6 = *Address::parse("fd00::1", 65'535), other6 = *Address::parse("::", 0);
  for (const uint8_t version : {uint8_t{1}, uint8_t{2}}) {
    for (const auto& [remote, local] : {std::pair(v4, other), std::pair(v6, other6)}) {
      Buffer wire;
      write_proxy_header(version, remote, local, wire);
      const ProxyHeader header = read(wire.to_string());
      EXPECT_EQ(header.version, version);
      EXPECT_EQ(header.size, wire.size());
      EXPECT_EQ(header.remote, remote);
      EXPECT_EQ(header.local, local);
    }
    Buffer wire;
    write_proxy_header(version, *Address::unix_path("/x"), v4, wire);
    EXPECT_FALSE(read(wire.to_string()).remote.valid());
  }
}

}  // namespace
}  // namespace outrigger::net
