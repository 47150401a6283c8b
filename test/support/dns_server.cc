#include "support/dns_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>

#include "base/check.h"

namespace outrigger::test {
namespace {

void put16(std::string& out, unsigned value) {
  out.push_back(static_cast<char>(value >> 8));
  out.push_back(static_cast<char>(value));
}

}  // namespace

DnsServer::DnsServer() {
  fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(name);
  CHECK(fd_ >= 0 && bind(fd_, reinterpret_cast<sockaddr*>(&name), size) == 0);
  CHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &size) == 0);
  port_ = ntohs(name.sin_port);
  CHECK(pipe(stop_) == 0);
  thread_ = std::thread([this] { serve(); });
}

DnsServer::~DnsServer() {
  ::close(stop_[1]);
  thread_.join();
  ::close(stop_[0]);
  ::close(fd_);
}

void DnsServer::set(const std::string& name, std::vector<std::string> addresses, uint32_t ttl_s) {
  std::lock_guard lock(mutex_);
  entries_[name] = Entry{std::move(addresses), ttl_s, false, 0};
}

void DnsServer::set_silent(const std::string& name) {
  std::lock_guard lock(mutex_);
  entries_[name].silent = true;
}

void DnsServer::set_rcode(const std::string& name, int rcode) {
  std::lock_guard lock(mutex_);
  entries_[name].rcode = rcode;
}

void DnsServer::remove(const std::string& name) {
  std::lock_guard lock(mutex_);
  entries_.erase(name);
}

size_t DnsServer::queries() const {
  std::lock_guard lock(mutex_);
  return queries_;
}

void DnsServer::serve() {
  while (true) {
    pollfd p[2] = {{fd_, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    if (::poll(p, 2, -1) < 0) continue;
    if (p[1].revents != 0) return;
    char query[1500];
    sockaddr_storage from;
    socklen_t size = sizeof(from);
    const ssize_t n = recvfrom(fd_, query, sizeof(query), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (n < 17) continue;  // a header and the shortest question
    const std::string reply = answer(std::string(query, static_cast<size_t>(n)));
    if (!reply.empty()) sendto(fd_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
  }
}

std::string DnsServer::answer(const std::string& query) {
  std::string name;
  size_t at = 12;
  while (at < query.size() && query[at] != 0) {
    const auto length = static_cast<unsigned char>(query[at]);
    if (length > 63 || at + 1 + length >= query.size()) return {};
    if (!name.empty()) name += '.';
    for (size_t i = 0; i < length; ++i) name += static_cast<char>(std::tolower(query[at + 1 + i]));
    at += 1 + length;
  }
  if (at + 5 > query.size()) return {};
  const unsigned type = static_cast<unsigned char>(query[at + 2]);  // 1: A, 28: AAAA
  const std::string question = query.substr(12, at + 5 - 12);

  std::lock_guard lock(mutex_);
  ++queries_;
  const auto it = entries_.find(name);
  if (it != entries_.end() && it->second.silent) return {};
  const int rcode = it == entries_.end() ? 3 : it->second.rcode;
  std::string records;
  unsigned count = 0;
  if (it != entries_.end() && rcode == 0) {
    for (const std::string& text : it->second.addresses) {
      const bool six = text.find(':') != std::string::npos;
      if (type != (six ? 28u : 1u)) continue;
      char bytes[16];
      CHECK(inet_pton(six ? AF_INET6 : AF_INET, text.c_str(), bytes) == 1);
      records += "\xC0\x0C";  // the question's name
      put16(records, type);
      put16(records, 1);
      put16(records, it->second.ttl_s >> 16);
      put16(records, it->second.ttl_s & 0xFFFF);
      put16(records, six ? 16 : 4);
      records.append(bytes, six ? 16 : 4);
      ++count;
    }
  }
  std::string out = query.substr(0, 2);
  put16(out, 0x8580u | static_cast<unsigned>(rcode));
  put16(out, 1);
  put16(out, count);
  put16(out, 0);
  put16(out, 0);
  return out + question + records;
}

}  // namespace outrigger::test
