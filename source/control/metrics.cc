#include "control/metrics.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace outrigger::control {
namespace {

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

class Text {
 public:
  // Begins a metric; its samples follow.
  void metric(std::string_view name, std::string_view kind, std::string_view help) {
    name_ = name;
    out_ += fmt::format("# HELP outrigger_control_{0} {2}\n# TYPE outrigger_control_{0} {1}\n", name, kind, help);
  }
  void sample(uint64_t value, const Labels& labels = {}) { line(std::to_string(value), labels); }
  void sample(double value, const Labels& labels) { line(fmt::format("{:.3f}", value), labels); }
  void counter(std::string_view name, uint64_t value, std::string_view help) {
    metric(name, "counter", help);
    sample(value);
  }
  void gauge(std::string_view name, uint64_t value, std::string_view help) {
    metric(name, "gauge", help);
    sample(value);
  }
  std::string take() { return std::move(out_); }

 private:
  void line(std::string_view value, const Labels& labels) {
    out_.append("outrigger_control_").append(name_);
    char before = '{';
    for (const auto& [label, text] : labels) {
      out_ += std::exchange(before, ',');
      out_.append(label).append("=\"");
      escape(text);
      out_ += '"';
    }
    if (!labels.empty()) out_ += '}';
    out_.append(" ").append(value).append("\n");
  }
  // Whatever a client sent becomes printable ASCII.
  void escape(std::string_view text) {
    for (const char c : text) {
      if (c == '"' || c == '\\') out_ += '\\';
      out_ += c < 0x20 || c == 0x7f ? '_' : c;
    }
  }
  std::string name_, out_;
};

std::string_view short_type(std::string_view url) { return url.substr(url.rfind('/') + 1); }

void by_type(Text& text, const std::vector<AdsTypeStats>& types, uint64_t AdsTypeStats::*member, std::string_view name,
             std::string_view help) {
  text.metric(name, "counter", help);
  for (const AdsTypeStats& type : types) text.sample(type.*member, {{"type", short_type(type.type_url)}});
}

void of_server(Text& text, const AdsServerStats& server) {
  text.metric("streams", "gauge", "Discovery streams that are open.");
  text.sample(server.sotw_streams, {{"kind", "sotw"}});
  text.sample(server.incremental_streams, {{"kind", "incremental"}});
  text.gauge("nodes", server.nodes, "Distinct node ids that are connected.");
  text.counter("streams_opened_total", server.streams_opened, "Discovery streams that were taken.");
  text.metric("refused_total", "counter", "Calls refused for their token, streams refused because there are too many.");
  text.sample(server.refused_unauthenticated, {{"reason", "unauthenticated"}});
  text.sample(server.refused_over_limit, {{"reason", "too_many_streams"}});
  text.counter("requests_total", server.requests, "Discovery requests, ACKs and NACKs included.");
  text.counter("stale_requests_total", server.stale_requests, "Requests ignored for an old nonce.");
  by_type(text, server.types, &AdsTypeStats::responses, "responses_total", "Discovery responses sent.");
  by_type(text, server.types, &AdsTypeStats::resources, "resources_sent_total", "Resources in the responses.");
  by_type(text, server.types, &AdsTypeStats::repeated, "resources_resent_total",
          "Resources sent to a client that had that very version, as the protocol asks for.");
  by_type(text, server.types, &AdsTypeStats::bytes, "response_bytes_total", "Bytes of the responses.");
  by_type(text, server.types, &AdsTypeStats::acks, "acks_total", "Responses that clients took.");
  by_type(text, server.types, &AdsTypeStats::nacks, "nacks_total", "Responses that clients refused.");
  by_type(text, server.types, &AdsTypeStats::resumed, "resumed_total",
          "Subscriptions that began by naming what the client has.");
}

}  // namespace

std::string metrics_text(const ControlMetrics& metrics, int64_t now_unix_ms) {
  Text text;
  of_server(text, metrics.server);
  text.metric("snapshot_info", "gauge", "The version that each group of nodes is served.");
  for (const auto& group : metrics.groups)
    text.sample(uint64_t{1}, {{"group", group.name}, {"version", group.version}});
  text.metric("snapshot_age_seconds", "gauge", "Since when a group is served its version.");
  for (const auto& group : metrics.groups)
    text.sample(static_cast<double>(now_unix_ms - group.since_unix_ms) / 1000, {{"group", group.name}});
  text.metric("snapshot_resources", "gauge", "Resources of a group's version.");
  for (const auto& group : metrics.groups) text.sample(uint64_t{group.resources}, {{"group", group.name}});
  text.gauge("files", metrics.files, "Resource files.");
  text.gauge("files_refused", metrics.refused_files, "Resource files that are refused.");
  text.counter("file_faults_total", metrics.file_faults, "Faults found in files.");
  return text.take();
}

}  // namespace outrigger::control
