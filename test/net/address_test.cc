#include "net/address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>
#include <string>

namespace outrigger::net {
namespace {

TEST(Address, ParsesAndPrints) {
  const struct {
    const char* ip;
    uint16_t port;
    const char* str;
    const char* printed_ip;
  } cases[] = {
      {"127.0.0.1", 8080, "127.0.0.1:8080", "127.0.0.1"},
      {"0.0.0.0", 0, "0.0.0.0:0", "0.0.0.0"},
      {"255.255.255.255", 65535, "255.255.255.255:65535", "255.255.255.255"},
      {"10.20.30.40", 1, "10.20.30.40:1", "10.20.30.40"},
      {"::1", 443, "[::1]:443", "::1"},
      {"::", 5, "[::]:5", "::"},
      {"2001:DB8:0:0:0:0:0:1", 9, "[2001:db8::1]:9", "2001:db8::1"},
      {"::ffff:1.2.3.4", 9, "[::ffff:1.2.3.4]:9", "::ffff:1.2.3.4"},
      {"1111:2222:3333:4444:5555:6666:7777:8888", 65535, "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
       "1111:2222:3333:4444:5555:6666:7777:8888"},
  };
  for (const auto& c : cases) {
    auto a = Address::parse(c.ip, c.port);
    ASSERT_TRUE(a.has_value()) << c.ip;
    EXPECT_EQ(a->str(), c.str);
    EXPECT_EQ(a->ip(), c.printed_ip);
    EXPECT_EQ(a->port(), c.port);
    EXPECT_TRUE(a->valid());
    EXPECT_TRUE(a->is_ip());
    EXPECT_FALSE(a->is_unix());
    EXPECT_EQ(Address::from_sockaddr(a->get(), a->size()), *a);
  }
}

TEST(Address, RefusesWhatIsNoLiteral) {
  for (const char* text : {"",
                           " ",
                           "localhost",
                           "1.2.3",
                           "1.2.3.4.5",
                           "01.2.3.4",
                           "1.2.3.256",
                           "1.2.3.4 ",
                           " 1.2.3.4",
                           "1.2.3.4:80",
                           "0x7f.0.0.1",
                           "2130706433",
                           "[::1]",
                           ":::1",
                           "::1%lo",
                           "1::2::3",
                           "12345::",
                           "g::1",
                           "1.2.3.4/8",
                           "1111:2222:3333:4444:5555:6666:7777:8888:9999",
                           "1111:2222:3333:4444:5555:6666:1.2.3.4.5.6.7.8.9.10.11.12"}) {
    auto a = Address::parse(text, 80);
    ASSERT_FALSE(a.has_value()) << text;
    EXPECT_EQ(a.error().code, Errc::kInvalidArgument);
  }
  EXPECT_FALSE(Address::parse(std::string_view("1.2.3.4\0x", 9), 1).has_value());
}

TEST(Address, UnixPaths) {
  auto path = Address::unix_path("/tmp/x.sock");
  ASSERT_TRUE(path.has_value());
  EXPECT_TRUE(path->is_unix());
  EXPECT_FALSE(path->is_ip());
  EXPECT_EQ(path->str(), "/tmp/x.sock");
  EXPECT_EQ(path->ip(), "/tmp/x.sock");
  EXPECT_EQ(path->port(), 0);
  EXPECT_EQ(path->with_port(9), *path);
  EXPECT_FALSE(path->is_loopback());

  auto abstract = Address::unix_path("@name");
  ASSERT_TRUE(abstract.has_value());
  EXPECT_EQ(abstract->str(), "@name");
  EXPECT_EQ(reinterpret_cast<const sockaddr_un*>(abstract->get())->sun_path[0], '\0');
  EXPECT_EQ(abstract->size(), sizeof(sa_family_t) + 5);
  EXPECT_FALSE(*abstract == *path);
  EXPECT_EQ(Address::from_sockaddr(abstract->get(), abstract->size()), *abstract);
  EXPECT_EQ(Address::from_sockaddr(path->get(), path->size()), *path);

  EXPECT_EQ(Address::unix_path(std::string(107, 'p'))->str(), std::string(107, 'p'));
  EXPECT_EQ(Address::unix_path("@" + std::string(106, 'p'))->str(), "@" + std::string(106, 'p'));
  for (const std::string& bad : {std::string(), std::string("@"), std::string(108, 'p'), std::string("a\0b", 3)})
    EXPECT_FALSE(Address::unix_path(bad).has_value());
}

TEST(Address, AnUnnamedUnixPeerIsValidAndEmpty) {
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  const Address a = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&un), sizeof(sa_family_t));
  EXPECT_TRUE(a.valid());
  EXPECT_TRUE(a.is_unix());
  EXPECT_EQ(a.str(), "");
}

TEST(Address, DefaultIsInvalid) {
  const Address a;
  EXPECT_FALSE(a.valid());
  EXPECT_FALSE(a.is_ip());
  EXPECT_EQ(a.str(), "");
  EXPECT_FALSE(Address::from_sockaddr(nullptr, 0).valid());
}

TEST(Address, EqualityIgnoresPaddingAndFlow) {
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(80);
  six.sin6_addr = in6addr_loopback;
  six.sin6_flowinfo = 77;
  EXPECT_EQ(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&six), sizeof(six)), *Address::parse("::1", 80));
  sockaddr_in four;
  std::memset(&four, 0xEE, sizeof(four));
  four.sin_family = AF_INET;
  four.sin_port = htons(80);
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const Address a = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&four), sizeof(four));
  EXPECT_EQ(a, *Address::parse("127.0.0.1", 80));
  EXPECT_EQ(a.hash(), Address::parse("127.0.0.1", 80)->hash());
  EXPECT_FALSE(a == *Address::parse("127.0.0.1", 81));
  EXPECT_EQ(a.with_port(81), *Address::parse("127.0.0.1", 81));
  EXPECT_EQ(Address::parse("::1", 1)->with_port(2), *Address::parse("::1", 2));
}

TEST(Address, Loopback) {
  EXPECT_TRUE(Address::parse("127.0.0.1", 0)->is_loopback());
  EXPECT_TRUE(Address::parse("127.255.0.9", 0)->is_loopback());
  EXPECT_TRUE(Address::parse("::1", 0)->is_loopback());
  EXPECT_FALSE(Address::parse("128.0.0.1", 0)->is_loopback());
  EXPECT_FALSE(Address::parse("::2", 0)->is_loopback());
}

TEST(Address, Prefixes) {
  const auto in = [](const char* ip, const char* prefix, uint8_t length) {
    return Address::parse(ip, 5)->in_prefix(*Address::parse(prefix, 0), length);
  };
  EXPECT_TRUE(in("10.1.2.3", "10.0.0.0", 8));
  EXPECT_FALSE(in("11.1.2.3", "10.0.0.0", 8));
  EXPECT_TRUE(in("10.1.2.3", "10.1.2.3", 32));
  EXPECT_FALSE(in("10.1.2.2", "10.1.2.3", 32));
  EXPECT_TRUE(in("10.1.2.2", "10.1.2.3", 31));
  EXPECT_TRUE(in("192.168.127.1", "192.168.64.0", 18));
  EXPECT_FALSE(in("192.168.128.1", "192.168.64.0", 18));
  EXPECT_TRUE(in("1.2.3.4", "200.0.0.0", 0));
  EXPECT_TRUE(in("2001:db8::1", "2001:db8::", 32));
  EXPECT_FALSE(in("2001:db9::1", "2001:db8::", 32));
  EXPECT_TRUE(in("fe80::1", "febf::", 10));
  EXPECT_FALSE(in("fec0::1", "febf::", 10));
  EXPECT_FALSE(in("1.2.3.4", "::", 0));
  EXPECT_FALSE(in("1.2.3.4", "1.2.3.4", 33));
  EXPECT_FALSE(Address::unix_path("/x")->in_prefix(*Address::parse("::", 0), 0));
}

}  // namespace
}  // namespace outrigger::net
