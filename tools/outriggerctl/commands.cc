#include "commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "admin_client.h"
#include "config/any.h"
#include "config/names.h"
#include "config/proto_dump.h"
#include "event/loop.h"
#include "file_config.h"
#include "google/protobuf/any.pb.h"
#include "proxy/explain.h"
#include "server/explain_json.h"

namespace outrigger::ctl {
namespace {

// A page of the proxy as JSON; complains and sets `code` if there is none.
bool get_json(const std::string& admin, const std::string& target, Json& out, int& code) {
  const auto page = admin_get(admin, target);
  if (!page) {
    complain(page.error().detail + " (--admin names the admin port of a proxy)");
    code = kUnreachable;
    return false;
  }
  if (page->status != 200) {
    std::string said = page->body;
    while (said.ends_with('\n')) said.pop_back();
    complain(fmt::format("{} answers {}: {}", admin, page->status, said));
    code = page->status == 400 ? kUsage : kUnreachable;
    return false;
  }
  out = Json::parse(page->body, nullptr, false);
  if (!out.is_discarded()) return true;
  complain(admin + " does not answer with JSON: is it a proxy's admin port?");
  code = kUnreachable;
  return false;
}

// Complains of every fault; false: there are some.
bool load_files(FileConfig& config, const std::vector<std::string>& paths) {
  config.load(paths);
  for (const config::Fault& fault : config.faults())
    if (!fault.warning) complain(fault.str());
  return config.good();
}

// Calls f(kind, list, entry, live) for each resource of a /config_dump; `live` is its active_state, or itself.
template <class F>
void for_each_resource(const Json& dump, F&& f) {
  for (const Json& kind : dump["configs"])
    for (const auto& [list, entries] : kind.items())
      if (entries.is_array())
        for (const Json& entry : entries)
          f(kind, list, entry, entry.contains("active_state") ? entry["active_state"] : entry);
}

std::string text_of(const Json& value, const char* key) {
  const auto at = value.find(key);
  if (at == value.end() || at->is_null()) return "";
  return at->is_string() ? at->get<std::string>() : at->dump();
}

Json fault_json(const config::Fault& fault) {
  return {{"file", fault.file}, {"line", fault.line},       {"resource", fault.resource},
          {"path", fault.path}, {"message", fault.message}, {"warning", fault.warning}};
}

}  // namespace

// ---- validate ----

namespace {

// What is to be said of some files, for each group of their directories. Faults by file and line.
struct Judgement {
  std::vector<config::Fault> faults;
  std::vector<std::string> missing;
  std::set<std::string> files;
  std::set<std::pair<std::string, std::string>> resources;  // name, bytes: groups may share them
  bool good = true;
};

Judgement judge(const std::vector<std::string>& paths) {
  Judgement out;
  const auto add = [](auto& list, const auto& one) {
    if (std::find(list.begin(), list.end(), one) == list.end()) list.push_back(one);
  };
  for (const std::string& group : FileConfig::groups_of(paths)) {
    FileConfig config(group);
    config.load(paths);
    out.good = out.good && config.good();
    for (const config::Fault& fault : config.faults()) add(out.faults, fault);
    out.files.insert(config.files().begin(), config.files().end());
    for (const auto& [name, resource] : config.resources()) out.resources.emplace(name, resource.bytes);
    if (!config.good()) continue;
    for (const std::string& line : config.missing()) add(out.missing, group.empty() ? line : group + ": " + line);
  }
  if (!out.good) out.missing.clear();
  // As somebody reads who mends them: file by file, from top to bottom.
  std::stable_sort(out.faults.begin(), out.faults.end(), [](const config::Fault& a, const config::Fault& b) {
    return std::tie(a.file, a.line) < std::tie(b.file, b.line);
  });
  return out;
}

}  // namespace

int validate(const Output& out, const std::vector<std::string>& paths) {
  const Judgement told = judge(paths);
  if (!out.for_people()) {
    Json faults = Json::array();
    for (const config::Fault& fault : told.faults) faults.push_back(fault_json(fault));
    out.print(Json{{"good", told.good},
                   {"files", told.files.size()},
                   {"resources", told.resources.size()},
                   {"faults", faults},
                   {"missing", told.missing}});
    return told.good ? kGood : kBad;
  }
  for (const config::Fault& fault : told.faults)
    out.line((fault.warning ? "warning: " : "") + fault.str(), fault.warning ? Colour::kYellow : Colour::kRed);
  for (const std::string& line : told.missing) out.line("note: " + line, Colour::kYellow);
  const auto errors =
      std::count_if(told.faults.begin(), told.faults.end(), [](const config::Fault& f) { return !f.warning; });
  const auto counted = [](auto n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  const std::string in_files = counted(told.files.size(), "file");
  out.line(told.good ? fmt::format("{}, {}, no faults", in_files, counted(told.resources.size(), "resource"))
                     : fmt::format("{} in {}", counted(errors, "fault"), in_files),
           told.good ? Colour::kGreen : Colour::kBold);
  return told.good ? kGood : kBad;
}

// ---- explain ----

namespace {

bool explain_files(const ExplainOptions& options, Json& out, int& code) {
  FileConfig config(options.group);
  if (!load_files(config, options.files)) {
    code = kBad;
    return false;
  }
  proxy::ExplainQuery query{.listener = options.listener,
                            .method = options.method,
                            .host = options.host,
                            .path = options.path,
                            .remote_ip = options.remote,
                            .random = options.random,
                            .max_misses = options.misses};
  for (const std::string& header : options.headers) {
    if (query.add_header(header)) continue;
    complain(fmt::format("-H \"{}\": needs \"Name: value\"", header));
    code = kUsage;
    return false;
  }
  event::Loop loop;
  const auto told = proxy::explain(config.snapshot(), query, loop);
  if (!told) {
    complain(told.error().detail);
    code = kUsage;
    return false;
  }
  out = Json::parse(server::explain_json(*told));
  return true;
}

bool explain_running(const ExplainOptions& options, Json& out, int& code) {
  std::string target =
      fmt::format("/explain?method={}&host={}&path={}&remote={}&random={}&misses={}", percent_encoded(options.method),
                  percent_encoded(options.host), percent_encoded(options.path), percent_encoded(options.remote),
                  options.random, options.misses);
  if (!options.listener.empty()) target += "&listener=" + percent_encoded(options.listener);
  for (const std::string& header : options.headers) target += "&header=" + percent_encoded(header);
  return get_json(options.admin, target, out, code);
}

Colour colour_of_verdict(const std::string& verdict) {
  if (verdict == "passes") return Colour::kGreen;
  if (verdict == "refuses") return Colour::kRed;
  return verdict == "depends" || verdict == "unknown" ? Colour::kYellow : Colour::kNone;
}

void tell_route(const Output& out, const Json& told) {
  if (told.contains("virtual_host")) {
    const Json& host = told["virtual_host"];
    out.line(fmt::format("virtual host  {} ({} domain {})", text_of(host, "name"), text_of(host, "rule"),
                         text_of(host, "domain")));
  }
  const Json& misses = told["misses"];
  if (told.contains("route")) {
    const Json& route = told["route"];
    out.line(fmt::format("route         #{} {} {}, {}", text_of(route, "index"), text_of(route, "name"),
                         text_of(route, "match"), text_of(route, "action")),
             Colour::kGreen);
  }
  for (const Json& miss : misses)
    out.line(fmt::format("  not         #{} {}: {}", text_of(miss, "index"), text_of(miss, "name"),
                         text_of(miss, "reason")));
  const uint64_t more = told.value("misses_total", uint64_t{0}) - misses.size();
  if (more > 0) out.line(fmt::format("  not         {} more (--misses N shows them)", more));
}

void tell_cluster(const Output& out, const Json& told) {
  if (!told.contains("cluster")) return;
  const Json& cluster = told["cluster"];
  out.line("cluster       " + text_of(cluster, "name"));
  if (!cluster.value("exists", false)) return;
  out.line(fmt::format("  sends       {}{}", text_of(cluster["request"], "host"), text_of(cluster["request"], "path")));
  for (const Json& member : cluster.value("members", Json::array()))
    out.line(fmt::format("  member      {} takes {} %, {} of {} hosts healthy{}", text_of(member, "name"),
                         text_of(member, "load_percent"), text_of(member, "hosts_healthy"),
                         text_of(member, "hosts_total"), member["name"] == cluster["member"] ? "; this request" : ""));
  for (const Json& mirror : cluster.value("mirrors", Json::array()))
    out.line(fmt::format("  mirrors to  {} as {}{}", text_of(mirror, "cluster"), text_of(mirror, "host"),
                         !mirror.value("exists", false)   ? ": there is no such cluster"
                         : !mirror.value("chosen", false) ? ": not this request"
                                                          : ""));
  if (cluster.contains("subset")) {
    const Json& subset = cluster["subset"];
    out.line(fmt::format("  subset      {} by metadata_match {}: {}; {} of {} hosts healthy",
                         subset["metadata"].is_null() ? "any host" : subset["metadata"].dump(),
                         subset["metadata_match"].dump(), text_of(subset, "by"), text_of(subset, "hosts_healthy"),
                         text_of(subset, "hosts_total")));
  }
  if (!cluster.contains("hosts")) return;
  out.line("  picks by    " + text_of(cluster, "picks"));
  for (const Json& host : cluster["hosts"]) {
    const bool healthy = host.value("healthy", false);
    out.line(fmt::format("  host        {} {} weight {}, {} requests under way", text_of(host, "address"),
                         healthy ? "healthy" : "unhealthy", text_of(host, "weight"), text_of(host, "active_requests")),
             healthy ? Colour::kNone : Colour::kRed);
  }
}

}  // namespace

int explain(const Output& out, const ExplainOptions& options) {
  Json told;
  int code = kGood;
  if (!(options.files.empty() ? explain_running(options, told, code) : explain_files(options, told, code))) return code;
  const int status = told["outcome"].value("status", 0);
  code = status < 400 ? kGood : kBad;
  if (!out.for_people()) {
    out.print(told);
    return code;
  }
  const Json& request = told["request"];
  out.line(fmt::format("request       {} {}{}", text_of(request, "method"), text_of(request, "host"),
                       text_of(request, "path")));
  out.line(fmt::format("config        version {}, listener {}, filter chain {}, route table {}",
                       text_of(told, "config_version"), text_of(told, "listener"), text_of(told, "filter_chain"),
                       text_of(told, "route_table")));
  tell_route(out, told);
  for (const Json& filter : told["filters"]) {
    const std::string verdict = text_of(filter, "verdict");
    const std::string reason = text_of(filter, "reason");
    out.line(
        fmt::format("filter        {} {}{}", text_of(filter, "name"), verdict, reason.empty() ? "" : ": " + reason),
        colour_of_verdict(verdict));
    if (!filter.contains("facts")) continue;
    for (const auto& [name, text] : filter["facts"].items())
      out.line(fmt::format("  {}: {}", name, text.get<std::string>()));
  }
  tell_cluster(out, told);
  out.line("outcome       " + text_of(told["outcome"], "text"), code == kGood ? Colour::kGreen : Colour::kRed);
  return code;
}

// ---- diff ----

namespace {

// By "Cluster/backend", or "ClusterLoadAssignment/backend from SOURCE" where another source has one of that name too.
// `bytes` tell apart what only differs in what is not shown.
struct Side {
  struct One {
    Json shown;
    std::string bytes;  // empty: not known
  };
  std::map<std::string, One> resources;
};

bool is_address(const std::string& side) { return side.starts_with("http://") || side.starts_with("unix:"); }

bool read_running(const std::string& admin, Side& side, int& code) {
  Json dump;
  if (!get_json(admin, "/config_dump", dump, code)) return false;
  static constexpr const char* kFields[] = {"cluster", "listener", "route_config", "endpoint_config", "secret"};
  std::map<std::string, std::map<std::string, Json>> by_source;  // each name may be another resource in each source
  for_each_resource(dump, [&](const Json&, const std::string&, const Json& entry, const Json& live) {
    for (const char* field : kFields) {
      if (!live.contains(field) || !live[field].is_object()) continue;
      Json shown = live[field];
      const std::string type_url = text_of(shown, "@type");
      shown.erase("@type");
      const std::string name = fmt::format("{}/{}", config::short_type(type_url), text_of(entry, "name"));
      by_source[name][text_of(entry, "config_source")] = std::move(shown);
    }
  });
  for (auto& [name, sources] : by_source)
    for (auto& [source, shown] : sources)
      side.resources[sources.size() == 1 || source.empty() ? name : name + " from " + source].shown = std::move(shown);
  return true;
}

bool read_files(const std::string& path, const std::string& group, Side& side, int& code) {
  FileConfig config(group);
  if (!load_files(config, {path})) {
    code = kUsage;
    return false;
  }
  for (const auto& [name, resource] : config.resources()) {
    google::protobuf::Any any;
    any.set_type_url(resource.type_url);
    any.set_value(resource.bytes);
    config::Faults faults;
    const auto message = config::unpack(any, config::FieldPath(), faults);
    if (message != nullptr)
      side.resources[name] = {Json::parse(config::to_json(*message), nullptr, false), resource.bytes};
  }
  return true;
}

// "/virtual_hosts/0/name" of a JSON pointer: "virtual_hosts[0].name".
std::string field_path(const std::string& pointer) {
  std::string out;
  size_t at = 1;
  while (at <= pointer.size() && !pointer.empty()) {
    const size_t end = std::min(pointer.find('/', at), pointer.size());
    const std::string part = pointer.substr(at, end - at);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    out += number ? "[" + part + "]" : (out.empty() ? "" : ".") + part;
    at = end + 1;
  }
  return out;
}

Json changes_of(const Side::One& before, const Side::One& after) {
  Json changes = Json::array();
  for (const auto& step : Json::diff(before.shown, after.shown)) {
    const std::string pointer = step["path"].get<std::string>();
    Json change{{"field", field_path(pointer)}, {"op", step["op"]}};
    if (step["op"] != "add") change["before"] = before.shown.value(Json::json_pointer(pointer), Json());
    if (step["op"] != "remove") change["after"] = step["value"];
    changes.push_back(std::move(change));
  }
  if (changes.empty() && !before.bytes.empty() && !after.bytes.empty() && before.bytes != after.bytes)
    changes.push_back({{"field", ""}, {"op", "replace"}, {"before", "[redacted]"}, {"after", "[redacted]"}});
  return changes;
}

void tell_change(const Output& out, const Json& change) {
  const std::string field = text_of(change, "field").empty() ? "a secret" : text_of(change, "field");
  const auto value = [&](const char* key) { return change.contains(key) ? change[key].dump() : std::string(); };
  if (change["op"] == "add") {
    out.line(fmt::format("    + {}: {}", field, value("after")), Colour::kGreen);
  } else if (change["op"] == "remove") {
    out.line(fmt::format("    - {}: {}", field, value("before")), Colour::kRed);
  } else {
    out.line(fmt::format("    ~ {}: {} -> {}", field, value("before"), value("after")), Colour::kYellow);
  }
}

}  // namespace

int diff(const Output& out, const std::string& before, const std::string& after, const std::string& group) {
  Side a, b;
  int code = kGood;
  for (const auto& [from, side] : {std::pair(&before, &a), std::pair(&after, &b)})
    if (!(is_address(*from) ? read_running(*from, *side, code) : read_files(*from, group, *side, code))) return code;
  Json all = Json::array();
  for (const auto& [name, one] : a.resources)
    if (!b.resources.contains(name)) all.push_back({{"resource", name}, {"change", "removed"}});
  for (const auto& [name, one] : b.resources) {
    const auto old = a.resources.find(name);
    if (old == a.resources.end()) {
      all.push_back({{"resource", name}, {"change", "added"}});
    } else if (Json changes = changes_of(old->second, one); !changes.empty()) {
      all.push_back({{"resource", name}, {"change", "changed"}, {"fields", std::move(changes)}});
    }
  }
  if (!out.for_people()) {
    out.print(Json{{"equal", all.empty()}, {"resources", all}});
  } else {
    for (const Json& one : all) {
      const std::string change = text_of(one, "change");
      const bool added = change == "added";
      out.line(fmt::format("{} {}",
                           added                 ? "+"
                           : change == "removed" ? "-"
                                                 : "~",
                           text_of(one, "resource")),
               added                 ? Colour::kGreen
               : change == "removed" ? Colour::kRed
                                     : Colour::kYellow);
      if (one.contains("fields"))
        for (const Json& field : one["fields"]) tell_change(out, field);
    }
    if (all.empty()) out.line("no difference", Colour::kGreen);
  }
  return all.empty() ? kGood : kBad;
}

// ---- dump ----

int dump(const Output& out, const std::string& admin, const std::string& name_regex) {
  Json page;
  int code = kGood;
  const std::string query = name_regex.empty() ? "" : "?name_regex=" + percent_encoded(name_regex);
  if (!get_json(admin, "/config_dump" + query, page, code)) return code;
  Table table({"TYPE", "NAME", "STATE", "VERSION", "DETAILS"});
  for_each_resource(page, [&](const Json& kind, const std::string& list, const Json& entry, const Json& live) {
    const std::string type_url = text_of(kind, "@type");
    std::string type(config::short_type(type_url));
    if (type.ends_with("sConfigDump")) type.resize(type.size() - 11);
    const std::string name = text_of(entry, "name");
    const std::string source = text_of(entry, "config_source");
    if (live.contains("version_info"))
      table.add({type, name, list.starts_with("static") ? "static" : "live", text_of(live, "version_info"),
                 source.empty() ? "" : "from " + source},
                Colour::kGreen);
    if (entry.contains("warming_state")) {
      std::string waits;
      if (entry["warming_state"].contains("waits_for"))
        for (const Json& wait : entry["warming_state"]["waits_for"])
          waits += (waits.empty() ? "waits for " : ", ") + wait.get<std::string>();
      table.add({type, name, "waiting", text_of(entry["warming_state"], "version_info"), waits}, Colour::kYellow);
    }
    if (entry.contains("error_state")) {
      table.add({type, name, "refused", text_of(entry["error_state"], "version_info"),
                 text_of(entry["error_state"], "details")},
                Colour::kRed);
      code = kBad;
    }
  });
  if (!out.for_people()) {
    out.print(page);
  } else {
    out.line("config version " + text_of(page, "version"));
    out.print(table);
  }
  return code;
}

}  // namespace outrigger::ctl
