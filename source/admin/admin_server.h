// AdminServer: a small HTTP/1 server on the main loop for pages that are made at once or piece by piece. Our own
// sockets and codec; bounded in connections and time; a slow reader holds up nothing but its own page.
//
// It answers only requests whose Host is an IP literal or localhost (a web page in an operator's browser could
// otherwise reach it under a name of its own), and refuses changes that a page of another origin asks for.
//
// Thread rule: the main loop's thread.
// Use:  TRY(auto admin, AdminServer::listen(loop, address, access_logs, handler));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "net/address.h"
#include "net/listener.h"
#include "outrigger/result.h"
#include "proxy/access_log.h"

namespace outrigger::admin {

struct AdminRequest {
  std::string method;
  std::string path;                                        // without query, not decoded
  std::vector<std::pair<std::string, std::string>> query;  // decoded
  const std::string* find(std::string_view name) const;    // of a query parameter; nullptr: absent
  bool has(std::string_view name) const { return find(name) != nullptr; }
};

struct AdminResponse {
  uint16_t status = 200;
  std::string content_type = "text/plain; charset=UTF-8";
  std::string body;
  // Instead of `body`: appends the next piece (a few KiB) and returns whether there is more.
  std::function<bool(std::string& out)> producer = nullptr;
  std::string allow = {};   // of a 405
  bool hide_query = false;  // the request's query may hold secrets: it goes to no access log
};

struct AdminOptions {
  std::vector<std::shared_ptr<const proxy::AccessLogger>> access_logs;
  uint32_t access_log_ring = 0;  // the index that stands for this thread
  uint32_t max_connections = 256;
  uint64_t idle_timeout_ms = 60'000;
};

class AdminServer {
 public:
  using Handler = std::function<AdminResponse(const AdminRequest&)>;

  static Result<std::unique_ptr<AdminServer>> listen(event::Loop& loop, const net::Address& address, Handler handler,
                                                     AdminOptions options);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  const net::Address& address() const;  // with the real port
  // Stops accepting; what is being answered gets its answer. True when no connection is left.
  void drain();
  bool idle() const;
  void close_now();

 private:
  struct Impl;
  AdminServer() = default;
  std::unique_ptr<Impl> impl_;
};

// Whether a Host header's value is an IP literal or localhost, with or without a port.
bool is_literal_host(std::string_view host);
// "127.0.0.1:9901", "[::1]:0", "localhost:9901", or a Unix socket: a path, "@name", "unix:PATH". kInvalidArgument: none
// of these.
Result<net::Address> parse_listen_address(std::string_view text);
// "a=1&b=%20x" decoded.
std::vector<std::pair<std::string, std::string>> parse_query(std::string_view query);

}  // namespace outrigger::admin
