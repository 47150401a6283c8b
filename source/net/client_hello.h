// What a TLS client asks for before anybody answers it: the server's name and its application protocols, read from the
// ClientHello without decrypting or keeping anything (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 7301).
//
// Thread rule: pure function.
// Use:  ClientHello hello;  switch (read_client_hello(bytes_so_far, hello)) { case HelloState::kDone: ... }
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger::net {

struct ClientHello {
  std::string server_name;             // in lower case; empty: none was named
  std::vector<std::string> protocols;  // ALPN, as the client prefers them
};

enum class HelloState : uint8_t {
  kMore,  // a prefix of a ClientHello
  kDone,
  kNotTls,  // does not begin as TLS does
  kBad,     // begins as TLS does and breaks off into nonsense, or is larger than kMaxHelloBytes
};

constexpr size_t kMaxHelloBytes = 16 * 1024;  // of records, their headers included (Envoy's max_client_hello_size)

// `bytes`: all that the client has sent. `out` is whole with kDone.
HelloState read_client_hello(std::string_view bytes, ClientHello& out);

}  // namespace outrigger::net
