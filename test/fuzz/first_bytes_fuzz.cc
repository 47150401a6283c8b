// A connection's first bytes, whatever they are: the readers of the ClientHello and of the PROXY protocol come to a
// verdict that more bytes do not change, and never look beyond what is there.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "net/client_hello.h"
#include "net/proxy_protocol.h"

namespace outrigger::net {
namespace {

void check_hello(std::string_view bytes) {
  ClientHello hello, of_prefix;
  const HelloState state = read_client_hello(bytes, hello);
  for (const std::string& protocol : hello.protocols) CHECK(!protocol.empty() || state != HelloState::kDone);
  for (size_t n : {size_t{0}, size_t{1}, bytes.size() / 2, bytes.size()}) {
    n = std::min(n, bytes.size());
    // An allocation of its own, so that a read beyond it shows.
    const std::string copy(bytes.substr(0, n));
    const HelloState earlier = read_client_hello(copy, of_prefix);
    CHECK(earlier == HelloState::kMore || earlier == state);
  }
}

void check_proxy(std::string_view bytes) {
  ProxyHeader header, of_prefix;
  const ProxyState state = read_proxy_header(bytes, header);
  if (state == ProxyState::kDone) {
    CHECK(header.size > 0 && header.size <= bytes.size() && header.size <= kMaxProxyHeaderBytes);
    CHECK(header.remote.valid() == header.local.valid());
    CHECK(read_proxy_header(bytes.substr(0, header.size), of_prefix) == ProxyState::kDone);
    CHECK(read_proxy_header(bytes.substr(0, header.size - 1), of_prefix) == ProxyState::kMore);
    Buffer again;
    write_proxy_header(header.version, header.remote, header.local, again);
    CHECK(read_proxy_header(again.to_string(), of_prefix) == ProxyState::kDone);
    CHECK(of_prefix.remote == header.remote && of_prefix.local == header.local);
  }
}

}  // namespace
}  // namespace outrigger::net

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  outrigger::net::check_hello(bytes);
  outrigger::net::check_proxy(bytes);
  return 0;
}
