#include "net/client_hello.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace outrigger::net {
namespace {

// What OpenSSL's client sends first.
std::string hello(const std::string& server_name, const std::string& alpn, int version = 0, size_t padding = 0) {
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  if (version != 0) SSL_CTX_set_max_proto_version(context.get(), version);
  const std::unique_ptr<SSL, void (*)(SSL*)> ssl(SSL_new(context.get()), SSL_free);
  if (!server_name.empty()) SSL_set_tlsext_host_name(ssl.get(), server_name.c_str());
  std::string wire;
  for (size_t at = 0; at < alpn.size();) {
    const size_t end = std::min(alpn.find(',', at), alpn.size());
    wire += static_cast<char>(end - at);
    wire += alpn.substr(at, end - at);
    at = end + 1;
  }
  for (; padding > 0; --padding) wire += std::string("\1p");
  if (!wire.empty())
    SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(wire.data()),
                        static_cast<unsigned>(wire.size()));
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), out);
  SSL_connect(ssl.get());
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  return std::string(data, static_cast<size_t>(size));
}

// The same message in records of so many bytes.
std::string in_records(const std::string& one_record, size_t size) {
  std::string out;
  for (size_t at = 5; at < one_record.size(); at += size) {
    const std::string part = one_record.substr(at, size);
    out += one_record.substr(0, 3);
    out += static_cast<char>(part.size() >> 8);
    out += static_cast<char>(part.size());
    out += part;
  }
  return out;
}

TEST(ClientHello, NameAndProtocolsOfARealClient) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    ClientHello read;
    ASSERT_EQ(read_client_hello(hello("Shop.Example", "h2,http/1.1", version), read), HelloState::kDone);
    EXPECT_EQ(read.server_name, "shop.example");
    EXPECT_EQ(read.protocols, (std::vector<std::string>{"h2", "http/1.1"}));
    ASSERT_EQ(read_client_hello(hello("", "", version), read), HelloState::kDone);
    EXPECT_EQ(read.server_name, "");
    EXPECT_TRUE(read.protocols.empty());
  }
}

TEST(ClientHello, EveryPrefixWantsMoreHoweverItIsCut) {
  const std::string whole = hello("a.example", "h2");
  for (const size_t size : {size_t{1}, size_t{3}, size_t{7}, size_t{16'384}}) {
    const std::string bytes = in_records(whole, size);
    ClientHello read;
    for (size_t n = 0; n < bytes.size(); ++n)
      ASSERT_EQ(read_client_hello(bytes.substr(0, n), read), HelloState::kMore) << n << " of records of " << size;
    ASSERT_EQ(read_client_hello(bytes, read), HelloState::kDone) << size;
    EXPECT_EQ(read.server_name, "a.example");
    // What follows it does not matter.
    ASSERT_EQ(read_client_hello(bytes + "more", read), HelloState::kDone) << size;
  }
}

TEST(ClientHello, OtherBytesAreNoTls) {
  ClientHello read;
  for (const char* bytes : {"G", "GET / HTTP/1.1\r\n", "\x16\x02\x01", "PRI * HTTP/2.0", "\x80\x2e"})
    EXPECT_EQ(read_client_hello(bytes, read), HelloState::kNotTls) << bytes;
  EXPECT_EQ(read_client_hello("", read), HelloState::kMore);
}

TEST(ClientHello, WhatBreaksOffIsBad) {
  const std::string good = hello("a.example", "h2");
  ClientHello read;
  std::string bytes = good;
  bytes[5] = 2;  // a ServerHello
  EXPECT_EQ(read_client_hello(bytes, read), HelloState::kBad);
  bytes = good;
  bytes[3] = bytes[4] = 0;  // an empty record
  EXPECT_EQ(read_client_hello(bytes, read), HelloState::kBad);
  bytes = in_records(good, 100);
  bytes[105] = 23;  // the second record is data
  EXPECT_EQ(read_client_hello(bytes, read), HelloState::kBad);
  bytes = good;
  bytes[5 + 4 + 34] = '\xff';  // a session id that is longer than the message
  EXPECT_EQ(read_client_hello(bytes, read), HelloState::kBad);
  bytes = good;
  const size_t name = good.find("a.example");
  bytes[name + 2] = '\0';
  EXPECT_EQ(read_client_hello(bytes, read), HelloState::kBad);
}

TEST(ClientHello, ThereIsALimit) {
  ClientHello read;
  const std::string large = hello("a.example", "h2", 0, 6'000);
  ASSERT_GT(large.size(), 12'000u);
  EXPECT_EQ(read_client_hello(large, read), HelloState::kDone);
  // Small records spend it on headers.
  const std::string padded = in_records(large, 10);
  ASSERT_GT(padded.size(), kMaxHelloBytes);
  EXPECT_EQ(read_client_hello(padded, read), HelloState::kBad);
  // A message that says at once that it is too large.
  EXPECT_EQ(read_client_hello(std::string("\x16\x03\x01\x40\x00\x01\xff\xff\xff", 9), read), HelloState::kBad);
}

}  // namespace
}  // namespace outrigger::net
