// The admin pages as pure functions of what is published: what an operator reads at 3 a.m. Envoy's formats where Envoy
// has the page; what only we know (what waits for what, versions by worker) beside it.
//
// Thread rule: the main thread.
// Use:  AdminPages pages(loop, state, registry, actions);  AdminServer::listen(loop, address, [&](auto& r) { return
//       pages.answer(r); }, {});
#pragma once

#include <functional>
#include <string>

#include "admin/admin_server.h"
#include "server/state.h"

namespace outrigger::server {

using admin::AdminRequest;
using admin::AdminResponse;

struct AdminActions {
  std::function<void()> quit;             // ends the process, as SIGTERM without drain time
  std::function<void()> drain_listeners;  // stops accepting; the process goes on
  std::function<void()> reopen_logs;
};

class AdminPages {
 public:
  // `refresh` brings what changes without being published up to date (worker_versions, uptime) before each page.
  AdminPages(event::Loop& loop, ServerState& state, stats::Registry& registry, AdminActions actions,
             std::function<void()> refresh)
      : loop_(loop), state_(state), registry_(registry), actions_(std::move(actions)), refresh_(std::move(refresh)) {}

  AdminResponse answer(const AdminRequest& request);

 private:
  struct Page;
  static const Page kPages[];

  AdminResponse help(const AdminRequest& request);
  AdminResponse ready(const AdminRequest& request);
  AdminResponse stats(const AdminRequest& request);
  AdminResponse prometheus(const AdminRequest& request);
  AdminResponse config_dump(const AdminRequest& request);
  AdminResponse clusters(const AdminRequest& request);
  AdminResponse explain(const AdminRequest& request);
  AdminResponse listeners(const AdminRequest& request);
  AdminResponse server_info(const AdminRequest& request);
  AdminResponse xds(const AdminRequest& request);
  AdminResponse logging(const AdminRequest& request);
  AdminResponse quit(const AdminRequest& request);
  AdminResponse drain_listeners(const AdminRequest& request);
  AdminResponse reopen_logs(const AdminRequest& request);

  event::Loop& loop_;
  ServerState& state_;
  stats::Registry& registry_;
  AdminActions actions_;
  std::function<void()> refresh_;
};

// The bodies that are long enough for files of their own.
AdminResponse stats_page(const AdminRequest& request, const stats::Registry& registry);       // admin_stats.cc
AdminResponse prometheus_page(const AdminRequest& request, const stats::Registry& registry);  // admin_stats.cc
AdminResponse config_dump_page(const AdminRequest& request, const ServerState& state);        // admin_config_dump.cc
AdminResponse clusters_page(const AdminRequest& request, const ServerState& state);           // admin_clusters.cc
AdminResponse explain_page(const AdminRequest& request, const ServerState& state,
                           event::Loop& loop);  // admin_explain.cc

AdminResponse text_response(std::string body, uint16_t status = 200);
AdminResponse json_response(std::string body);
bool wants_json(const AdminRequest& request);

}  // namespace outrigger::server
