// RunningServer: a whole proxy inside the test, its main loop on a thread of its own.
//
// Thread rule: one thread.
// Use:  RunningServer proxy(static_bootstrap(direct_response("hello")));  http_get(proxy.port("main"), "/").body;
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "server/server.h"
#include "support/http_client.h"
#include "support/wait.h"

namespace outrigger::server {

// The HTTP connection manager of a listener named `main` with `routes` (YAML list, flow or block style of one line).
inline std::string listener_yaml(const std::string& name, const std::string& routes, const std::string& hcm = {}) {
  return "{name: " + name +
         ", address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: hcm, "
         "typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
         "HttpConnectionManager, stat_prefix: " +
         name + (hcm.empty() ? "" : ", " + hcm) + ", " + routes +
         ", http_filters: [{name: router, typed_config: {\"@type\": "
         "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}";
}

inline std::string inline_routes(const std::string& routes) {
  return "route_config: {name: table, virtual_hosts: [{name: all, domains: [\"*\"], routes: [" + routes + "]}]}";
}

inline std::string direct_response(const std::string& body) {
  return inline_routes("{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: \"" + body + "\"}}}");
}

inline std::string static_cluster(const std::string& name, uint16_t port) {
  return "{name: " + name + ", type: STATIC, load_assignment: {cluster_name: " + name +
         ", endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: " +
         std::to_string(port) + "}}}}]}]}}";
}

inline std::string bootstrap(const std::vector<std::string>& listeners, const std::vector<std::string>& clusters = {},
                             const std::string& more = {}) {
  std::string text = "static_resources:\n  listeners:\n";
  for (const std::string& listener : listeners) text += "  - " + listener + "\n";
  text += "  clusters:\n";
  for (const std::string& cluster : clusters) text += "  - " + cluster + "\n";
  return text + more;
}

class RunningServer {
 public:
  explicit RunningServer(const std::string& config, ServerOptions options = {}) : server_(with(config, options)) {
    const Result<void> started = server_.start();
    if (!started) {
      ADD_FAILURE() << started.error().detail;
      return;
    }
    thread_ = std::thread([this] { server_.run(); });
  }
  ~RunningServer() {
    server_.stop();
    wait();
  }

  Server& operator*() { return server_; }
  Server* operator->() { return &server_; }
  // Waits until run() has returned.
  void wait() {
    if (thread_.joinable()) thread_.join();
  }
  uint16_t port(std::string_view listener) {
    uint16_t port = 0;
    test::wait_until([&] { return (port = server_.listener_port(listener)) != 0; });
    EXPECT_NE(port, 0) << listener;
    return port;
  }
  bool live() {
    return test::wait_until([&] { return server_.phase() == Phase::kLive; });
  }
  test::HttpMessage admin(std::string_view target) { return test::http_get(server_.admin_port(), target); }
  test::HttpMessage admin_post(std::string_view target, const test::HttpMessage::Fields& headers = {}) {
    return test::HttpClient(server_.admin_port()).request("POST", target, headers);
  }

 private:
  static ServerOptions with(const std::string& config, ServerOptions options) {
    options.config_path = "bootstrap.yaml";
    options.config_text = config;
    if (options.concurrency == 0) options.concurrency = 2;
    if (options.admin_address.empty()) options.admin_address = "127.0.0.1:0";
    return options;
  }
  Server server_;
  std::thread thread_;
};

}  // namespace outrigger::server
