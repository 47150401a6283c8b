// DnsServer: a name server on 127.0.0.1, UDP, for tests. Answers A and AAAA from a table; any other name is NXDOMAIN.
//
// Thread rule: any; it serves on a thread of its own.
// Use:  DnsServer dns;  dns.set("backend.test", {"127.0.0.1", "::1"}, 30);  // dns.port()
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace outrigger::test {

class DnsServer {
 public:
  DnsServer();
  ~DnsServer();
  DnsServer(const DnsServer&) = delete;
  DnsServer& operator=(const DnsServer&) = delete;

  uint16_t port() const { return port_; }
  // Names in lower case, without the final dot. IPv4 and IPv6 literals; none: the name exists without addresses.
  void set(const std::string& name, std::vector<std::string> addresses, uint32_t ttl_s = 60);
  void set_silent(const std::string& name);            // queries get no answer
  void set_rcode(const std::string& name, int rcode);  // 2: SERVFAIL
  void remove(const std::string& name);
  size_t queries() const;  // received so far

 private:
  struct Entry {
    std::vector<std::string> addresses;
    uint32_t ttl_s = 60;
    bool silent = false;
    int rcode = 0;
  };
  void serve();
  std::string answer(const std::string& query);

  int fd_ = -1;
  int stop_[2];
  uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  size_t queries_ = 0;
  std::thread thread_;
};

}  // namespace outrigger::test
