// What tests of route tables share: requests as a HeaderMap, and a RouteTable's answer in the oracle's words.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "outrigger/header_map.h"
#include "route/route_table.h"
#include "support/route_oracle.h"

namespace outrigger::test {

using Fields = std::vector<std::pair<std::string, std::string>>;

// A HeaderMap with its own arena.
class Headers {
 public:
  Headers() : map_(arena_) {}
  Headers(const Fields& fields) : map_(arena_) {
    for (const auto& [name, value] : fields) map_.add(name, value);
  }
  HeaderMap& operator*() { return map_; }
  HeaderMap* operator->() { return &map_; }

 private:
  Arena arena_;
  HeaderMap map_;
};

inline OracleAnswer answer_of(const route::RouteTable& table, const OracleRequest& request) {
  Headers headers(request.headers);
  const route::Match match = table.match(*headers, {.random = request.random, .tls = request.tls});
  OracleAnswer answer;
  if (match.virtual_host != nullptr)
    answer.virtual_host = static_cast<int>(match.virtual_host - table.virtual_hosts().data());
  if (match.route != nullptr) {
    answer.tls_redirect = match.route->tls_redirect();
    if (!answer.tls_redirect) answer.route = static_cast<int>(match.route->index());
  }
  if (match.weighted != nullptr)
    answer.weighted = static_cast<int>(match.weighted - match.route->forward()->weighted.data());
  return answer;
}

inline std::string describe(const OracleAnswer& answer) {
  return "virtual host " + std::to_string(answer.virtual_host) + ", route " + std::to_string(answer.route) +
         ", weighted " + std::to_string(answer.weighted) + (answer.tls_redirect ? ", redirect to https" : "");
}

inline std::string describe(const OracleRequest& request) {
  std::string out = "random " + std::to_string(request.random) + (request.tls ? ", tls" : "") + ":";
  for (const auto& [name, value] : request.headers) out += " " + name + "=\"" + value + "\"";
  return out;
}

}  // namespace outrigger::test
