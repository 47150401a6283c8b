#include "server/admin_pages.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "event/clock.h"
#include "server/json.h"
#include "server/version.h"

namespace outrigger::server {

AdminResponse text_response(std::string body, uint16_t status) { return {.status = status, .body = std::move(body)}; }

AdminResponse json_response(std::string body) {
  body += '\n';
  return {.content_type = "application/json", .body = std::move(body)};
}

bool wants_json(const AdminRequest& request) {
  const std::string* format = request.find("format");
  return format != nullptr && *format == "json";
}

std::string_view phase_name(Phase phase) {
  switch (phase) {
    case Phase::kPreInitializing:
      return "PRE_INITIALIZING";
    case Phase::kLive:
      return "LIVE";
    case Phase::kDraining:
      return "DRAINING";
  }
  return "";
}

std::optional<int64_t> ServerState::remembered_age_s() const {
  if (!remembered_unix_ms) return std::nullopt;
  return (event::wall_clock_ms() - *remembered_unix_ms) / 1'000;
}

namespace {

// What /xds tells of one stream.
void write_stream(JsonWriter& json, const xds::StreamStatus& stream) {
  json.open('{').key("name").string(stream.only ? xds::short_name(*stream.only) : "ads");
  json.key("incremental").boolean(stream.incremental).key("connected").boolean(stream.connected);
  json.key("channel").string(stream.channel).key("channel_index").number(stream.channel_index);
  json.key("address").string(stream.address).key("failovers").number(stream.failovers);
  json.key("control_plane").string(stream.control_plane).key("last_error").string(stream.last_error);
  json.key("streams").number(stream.streams).key("reconnect_in_ms").number(stream.reconnect_in_ms);
  json.key("ignored").number(stream.ignored);
  json.key("types").open('[');
  for (const xds::TypeStatus& type : stream.types) {
    json.open('{').key("type_url").string(xds::type_url(type.type));
    json.key("wildcard").boolean(type.subscription.wildcard).key("names").open('[');
    for (const std::string& name : type.subscription.names) json.string(name);
    json.close(']').key("accepted_version").string(type.accepted_version);
    json.key("received_version").string(type.received_version).key("received").number(type.received);
    json.key("accepted").number(type.accepted).key("rejected").number(type.rejected);
    json.key("repeated").number(type.repeated);
    json.key("judging").boolean(type.judging).key("refused_version").string(type.refused_version);
    json.key("last_refusal").string(type.last_refusal).close('}');
  }
  json.close(']').close('}');
}

}  // namespace

struct AdminPages::Page {
  std::string_view path;
  AdminResponse (AdminPages::*answer)(const AdminRequest&);
  bool reads;    // GET and HEAD
  bool changes;  // POST
  std::string_view help;
};

const AdminPages::Page AdminPages::kPages[] = {
    {"/", &AdminPages::help, true, false, "this list"},
    {"/clusters", &AdminPages::clusters, true, false, "clusters and their hosts; ?format=json"},
    {"/config_dump", &AdminPages::config_dump, true, false,
     "what is live, what waits for what, what was refused and why (JSON); ?name_regex=RE2"},
    {"/drain_listeners", &AdminPages::drain_listeners, false, true,
     "POST: stop accepting, end connections as their requests end"},
    {"/explain", &AdminPages::explain, true, false,
     "what would become of a request, and why (JSON); "
     "?host=&path=&method=&header=Name:value&listener=&remote=&random="},
    {"/help", &AdminPages::help, true, false, "this list"},
    {"/listeners", &AdminPages::listeners, true, false, "listeners and their addresses; ?format=json"},
    {"/logging", &AdminPages::logging, true, true,
     "the log level; POST ?level=trace|debug|info|warning|error|critical|off"},
    {"/metrics", &AdminPages::prometheus, true, false, "all metrics for Prometheus; ?filter=RE2, ?usedonly"},
    {"/quitquitquit", &AdminPages::quit, false, true, "POST: end the process"},
    {"/ready", &AdminPages::ready, true, false, "200 LIVE, or 503 and what it is"},
    {"/reopen_logs", &AdminPages::reopen_logs, false, true, "POST: open access log files again by name (also SIGUSR1)"},
    {"/server_info", &AdminPages::server_info, true, false, "version, state, options, config versions (JSON)"},
    {"/stats", &AdminPages::stats, true, false, "metrics; ?format=json|prometheus, ?filter=RE2, ?usedonly"},
    {"/stats/prometheus", &AdminPages::prometheus, true, false, "all metrics for Prometheus; ?filter=RE2, ?usedonly"},
    {"/xds", &AdminPages::xds, true, false, "the streams to control planes, by type (JSON)"},
};

AdminResponse AdminPages::answer(const AdminRequest& request) {
  const auto page =
      std::find_if(std::begin(kPages), std::end(kPages), [&](const Page& p) { return p.path == request.path; });
  if (page == std::end(kPages)) {
    AdminResponse response = help(request);
    response.status = 404;
    response.body = "no such page: " + request.path + "\n" + response.body;
    return response;
  }
  const bool read = request.method == "GET" || request.method == "HEAD";
  if (!(read && page->reads) && !(request.method == "POST" && page->changes)) {
    const std::string allow = page->reads ? (page->changes ? "GET, HEAD, POST" : "GET, HEAD") : "POST";
    return {.status = 405, .body = fmt::format("{} takes {}\n", request.path, allow), .allow = allow};
  }
  refresh_();
  return (this->*page->answer)(request);
}

AdminResponse AdminPages::help(const AdminRequest&) {
  std::string body = "admin pages:\n";
  for (const Page& page : kPages) fmt::format_to(std::back_inserter(body), "  {:<20} {}\n", page.path, page.help);
  return text_response(std::move(body));
}

AdminResponse AdminPages::ready(const AdminRequest&) {
  std::string body = fmt::format("{}\n", phase_name(state_.phase));
  if (const auto age_s = state_.remembered_age_s(); age_s)
    body += fmt::format("stale: the configuration was remembered {} s ago; the control plane has not answered yet\n",
                        *age_s);
  return text_response(std::move(body), state_.phase == Phase::kLive ? 200 : 503);
}

AdminResponse AdminPages::stats(const AdminRequest& request) {
  const std::string* format = request.find("format");
  return format != nullptr && *format == "prometheus" ? prometheus(request) : stats_page(request, registry_);
}

AdminResponse AdminPages::prometheus(const AdminRequest& request) { return prometheus_page(request, registry_); }

AdminResponse AdminPages::config_dump(const AdminRequest& request) { return config_dump_page(request, state_); }
AdminResponse AdminPages::clusters(const AdminRequest& request) { return clusters_page(request, state_); }

AdminResponse AdminPages::explain(const AdminRequest& request) { return explain_page(request, state_, loop_); }

AdminResponse AdminPages::listeners(const AdminRequest& request) {
  std::vector<std::pair<std::string, const proxy::ListenerPart*>> sorted;
  state_.snapshot->listeners.for_each([&](const std::string& name, const proxy::LinkedListener& listener) {
    sorted.emplace_back(name, listener.part.get());
  });
  std::sort(sorted.begin(), sorted.end());
  if (!wants_json(request)) {
    std::string body;
    for (const auto& [name, part] : sorted)
      for (const auto& set : part->sockets) body += fmt::format("{}::{}\n", name, set->address().str());
    return text_response(std::move(body));
  }
  JsonWriter json;
  const auto address = [&](const net::Address& a) {
    json.open('{');
    if (a.is_unix()) {
      json.key("pipe").open('{').key("path").string(a.str()).close('}');
    } else {
      json.key("socket_address").open('{').key("address").string(a.ip());
      json.key("port_value").number(uint32_t{a.port()}).close('}');
    }
    json.close('}');
  };
  json.open('{').key("listener_statuses").open('[');
  for (const auto& [name, part] : sorted) {
    if (part->sockets.empty()) continue;
    json.open('{').key("name").string(name).key("local_address");
    address(part->sockets[0]->address());
    if (part->sockets.size() > 1) {
      json.key("additional_local_addresses").open('[');
      for (size_t i = 1; i < part->sockets.size(); ++i) address(part->sockets[i]->address());
      json.close(']');
    }
    json.close('}');
  }
  json.close(']').close('}');
  return json_response(json.take());
}

AdminResponse AdminPages::server_info(const AdminRequest&) {
  const int64_t uptime_s = (event::steady_ns() - state_.start_ns) / 1'000'000'000;
  uint64_t oldest = state_.snapshot->version;
  for (const uint64_t version : state_.worker_versions) oldest = std::min(oldest, version);
  JsonWriter json;
  json.open('{');
  json.key("version").string(fmt::format("outrigger/{}", kVersion));
  json.key("state").string(phase_name(state_.phase));
  json.key("uptime_current_epoch").string(fmt::format("{}s", uptime_s));
  json.key("uptime_all_epochs").string(fmt::format("{}s", uptime_s));
  json.key("command_line_options").open('{');
  json.key("config_path").string(state_.config_path);
  json.key("concurrency").number(state_.concurrency);
  json.key("drain_time").string(fmt::format("{}s", state_.drain_ms / 1000));
  json.key("log_level").string(log::level_name(log::level()));
  json.close('}');
  json.key("node").open('{').key("id").string(state_.node.id).key("cluster").string(state_.node.cluster);
  json.key("locality").open('{').key("region").string(state_.node.region).key("zone").string(state_.node.zone);
  json.key("sub_zone").string(state_.node.sub_zone).close('}').close('}');
  json.key("config").open('{');
  json.key("version").number(state_.snapshot->version);
  json.key("oldest_worker_version").number(oldest);
  json.key("worker_versions").open('[');
  for (const uint64_t version : state_.worker_versions) json.number(version);
  json.close(']');
  const std::optional<int64_t> age_s = state_.remembered_age_s();
  json.key("stale").boolean(age_s.has_value());
  if (age_s) json.key("stale_age").string(fmt::format("{}s", *age_s));
  json.close('}');
  json.close('}');
  return json_response(json.take());
}

AdminResponse AdminPages::xds(const AdminRequest&) {
  JsonWriter json;
  json.open('{').key("configured").boolean(state_.streams != nullptr && !state_.streams->empty());
  json.key("streams").open('[');
  if (state_.streams != nullptr) {
    for (const xds::StreamStatus& stream : *state_.streams) write_stream(json, stream);
  }
  json.close(']').close('}');
  return json_response(json.take());
}

AdminResponse AdminPages::logging(const AdminRequest& request) {
  if (request.method == "POST") {
    const std::string* name = request.find("level");
    const auto level = name == nullptr ? std::nullopt : log::parse_level(*name);
    if (!level) return text_response("POST /logging?level=trace|debug|info|warning|error|critical|off\n", 400);
    log::set_level(*level);
  }
  return text_response(fmt::format("level: {}\n", log::level_name(log::level())));
}

AdminResponse AdminPages::quit(const AdminRequest&) {
  actions_.quit();
  return text_response("OK\n");
}

AdminResponse AdminPages::drain_listeners(const AdminRequest&) {
  actions_.drain_listeners();
  return text_response("OK\n");
}

AdminResponse AdminPages::reopen_logs(const AdminRequest&) {
  actions_.reopen_logs();
  return text_response("OK\n");
}

}  // namespace outrigger::server
