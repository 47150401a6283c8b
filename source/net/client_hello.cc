#include "net/client_hello.h"

#include <algorithm>
#include <optional>

namespace outrigger::net {
namespace {

constexpr uint8_t kHandshakeRecord = 22, kClientHello = 1;
constexpr size_t kRecordHeader = 5, kHandshakeHeader = 4;
constexpr size_t kMaxRecord = 16 * 1024;
constexpr uint16_t kServerName = 0, kProtocols = 16;

// Takes numbers and vectors off the front; once something was not there, nothing more is.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  size_t number(size_t bytes) {
    const std::string_view taken = take(bytes);
    size_t value = 0;
    for (const char c : taken) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  // A vector with a length of so many bytes before it.
  std::string_view vector(size_t length_bytes) { return take(number(length_bytes)); }
  std::string_view take(size_t bytes) {
    if (bad_ || bytes > rest_.size()) {
      bad_ = true;
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  bool more() const { return !bad_ && !rest_.empty(); }
  bool bad() const { return bad_; }

 private:
  std::string_view rest_;
  bool bad_ = false;
};

// The first record and what follows, as far as it must be there: kDone says that `handshake` is the whole message.
HelloState gather(std::string_view bytes, std::string& handshake) {
  size_t found = 0;          // handshake bytes in whole records
  size_t wanted = SIZE_MAX;  // of the message
  for (std::string_view rest = bytes; found < wanted;) {
    if (!rest.empty() && static_cast<uint8_t>(rest[0]) != kHandshakeRecord)
      return handshake.empty() ? HelloState::kNotTls : HelloState::kBad;
    if (rest.size() > 1 && rest[1] != 3) return handshake.empty() ? HelloState::kNotTls : HelloState::kBad;
    if (rest.size() < kRecordHeader) return HelloState::kMore;
    Reader header(rest.substr(3, 2));
    const size_t length = header.number(2);
    if (length == 0 || length > kMaxRecord) return HelloState::kBad;
    const std::string_view part = rest.substr(kRecordHeader, length);
    handshake.append(part.substr(0, std::min(part.size(), kHandshakeHeader)));  // enough to know its length
    if (wanted == SIZE_MAX && found + part.size() >= kHandshakeHeader) {
      Reader first(handshake);
      if (first.number(1) != kClientHello) return HelloState::kBad;
      wanted = kHandshakeHeader + first.number(3);
      if (wanted > kMaxHelloBytes) return HelloState::kBad;
    }
    if (part.size() < length) return HelloState::kMore;
    found += length;
    rest.remove_prefix(kRecordHeader + length);
  }
  handshake.clear();
  for (std::string_view rest = bytes; handshake.size() < wanted;) {
    const size_t length = Reader(rest.substr(3, 2)).number(2);
    handshake.append(rest.substr(kRecordHeader, length));
    rest.remove_prefix(kRecordHeader + length);
  }
  handshake.resize(wanted);
  return HelloState::kDone;
}

// False: malformed.
bool read_server_name(std::string_view extension, ClientHello& out) {
  Reader reader(extension);
  Reader names(reader.vector(2));
  while (names.more()) {
    const size_t type = names.number(1);
    const std::string_view name = names.vector(2);
    if (type != 0 || !out.server_name.empty()) continue;
    if (name.find('\0') != std::string_view::npos) return false;
    out.server_name.resize(name.size());
    std::transform(name.begin(), name.end(), out.server_name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  }
  return !reader.bad() && !names.bad();
}

bool read_protocols(std::string_view extension, ClientHello& out) {
  Reader reader(extension);
  Reader protocols(reader.vector(2));
  while (protocols.more()) {
    const std::string_view one = protocols.vector(1);
    if (one.empty()) return false;
    out.protocols.emplace_back(one);
  }
  return !reader.bad() && !protocols.bad();
}

}  // namespace

HelloState read_client_hello(std::string_view bytes, ClientHello& out) {
  std::string handshake;
  HelloState state = gather(bytes.substr(0, kMaxHelloBytes), handshake);
  if (state == HelloState::kMore && bytes.size() >= kMaxHelloBytes) state = HelloState::kBad;
  if (state != HelloState::kDone) return state;
  out = {};
  Reader hello(std::string_view(handshake).substr(kHandshakeHeader));
  hello.take(2 + 32);  // version, random
  hello.vector(1);     // session id
  hello.vector(2);     // cipher suites
  hello.vector(1);     // compression methods
  if (hello.bad()) return HelloState::kBad;
  if (!hello.more()) return HelloState::kDone;  // no extensions (TLS 1.2 and before)
  Reader extensions(hello.vector(2));
  if (hello.bad() || hello.more()) return HelloState::kBad;
  while (extensions.more()) {
    const size_t type = extensions.number(2);
    const std::string_view content = extensions.vector(2);
    if (extensions.bad()) break;
    if (type == kServerName && !read_server_name(content, out)) return HelloState::kBad;
    if (type == kProtocols && !read_protocols(content, out)) return HelloState::kBad;
  }
  return extensions.bad() ? HelloState::kBad : HelloState::kDone;
}

}  // namespace outrigger::net
