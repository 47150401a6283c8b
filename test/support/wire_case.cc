#include "support/wire_case.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <regex>

#include "support/resources.h"

namespace outrigger::test {
namespace {

constexpr std::string_view kConfigSections[] = {"routes", "virtual hosts", "hcm", "filters", "cluster", "clusters"};
constexpr std::string_view kSteps[] = {"client sends",
                                       "client receives",
                                       "client receives head",
                                       "client receives bytes",
                                       "client sees close",
                                       "client half-closes",
                                       "client closes",
                                       "client resets",
                                       "client reconnects",
                                       "upstream accepts",
                                       "upstream receives",
                                       "upstream receives head",
                                       "upstream receives bytes",
                                       "upstream sends",
                                       "upstream closes",
                                       "upstream resets",
                                       "upstream sees close",
                                       "upstream sees nothing",
                                       "access log",
                                       "stats"};

bool one_of(std::string_view text, const auto& list) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// "/regex/" or the text itself.
bool matches(const std::string& actual, const std::string& expected) {
  if (expected.size() >= 2 && expected.front() == '/' && expected.back() == '/') {
    return std::regex_match(actual, std::regex(expected.substr(1, expected.size() - 2)));
  }
  return actual == expected;
}

// The escape that begins at text[at] (a backslash), appended to `out`; the index behind it.
size_t unescape(std::string_view text, size_t at, std::string& out) {
  const char kind = at + 1 < text.size() ? text[at + 1] : '\\';
  const std::map<char, char> plain = {{'r', '\r'}, {'n', '\n'}, {'t', '\t'}, {'\\', '\\'}};
  if (kind == 'x' && at + 3 < text.size()) {
    unsigned value = 0;
    std::from_chars(text.data() + at + 2, text.data() + at + 4, value, 16);
    out += static_cast<char>(value);
    return at + 4;
  }
  const auto found = plain.find(kind);
  out += found == plain.end() ? kind : found->second;
  return at + 2;
}

// "${repeat TEXT N}" at text[at]; the index behind it, or `at` if it is none.
size_t repeat(std::string_view text, size_t at, std::string& out) {
  constexpr std::string_view kOpen = "${repeat ";
  if (text.substr(at, kOpen.size()) != kOpen) return at;
  const size_t end = text.find('}', at);
  const std::string_view inside = text.substr(at + kOpen.size(), end - at - kOpen.size());
  const size_t blank = inside.rfind(' ');
  size_t count = 0;
  std::from_chars(inside.data() + blank + 1, inside.data() + inside.size(), count);
  const std::string unit = case_bytes(std::string(inside.substr(0, blank)) + "\\\n");
  for (size_t i = 0; i < count; ++i) out += unit;
  return end + 1;
}

std::string field_mismatch(const HttpMessage::Fields& actual, const HttpMessage::Fields& expected,
                           std::string_view kind) {
  std::map<std::string, std::vector<std::string>> wanted;
  for (const auto& [name, value] : expected) wanted[name].push_back(value);
  for (const auto& [name, values] : wanted) {
    std::vector<std::string> found;
    for (const auto& [field, value] : actual) {
      if (field == name) found.push_back(value);
    }
    const bool good = found.size() == values.size() && std::equal(found.begin(), found.end(), values.begin(), matches);
    if (good) continue;
    std::string text = std::string(kind) + " " + name + ": expected";
    for (const std::string& value : values) text += " [" + value + "]";
    text += ", got";
    for (const std::string& value : found) text += " [" + value + "]";
    return text;
  }
  return {};
}

}  // namespace

WireCase WireCase::parse(std::string_view text) {
  WireCase result;
  int number = 0;
  std::string* section = nullptr;
  for (const std::string& line : split_lines(text)) {
    ++number;
    if (!line.starts_with("=== ")) {
      if (section != nullptr) {
        *section += line + "\n";
      } else if (line.starts_with("#")) {
        result.title += line.substr(std::min<size_t>(2, line.size())) + " ";
      } else if (!line.empty()) {
        result.error = "line " + std::to_string(number) + ": text before the first section";
      }
      continue;
    }
    const std::string what = line.substr(4);
    if (what == "upstream refuses") {
      result.upstream_refuses = true;
      section = nullptr;
    } else if (one_of(what, kConfigSections)) {
      section = &result.config.emplace_back(what, "").second;
    } else if (one_of(what, kSteps)) {
      section = &result.steps.emplace_back(Step{number, what, ""}).text;
    } else {
      result.error = "line " + std::to_string(number) + ": no section '" + what + "'";
    }
  }
  if (result.error.empty() && result.title.empty()) result.error = "no comment that says what the case proves";
  if (result.error.empty() && result.steps.empty()) result.error = "no step";
  return result;
}

std::string WireCase::bootstrap(uint16_t upstream_port, std::string_view access_log_path) const {
  std::map<std::string, std::string> part;
  for (const auto& [name, text] : config) part[name] += text;
  if (part["virtual hosts"].empty()) {
    if (part["routes"].empty()) part["routes"] = "- match: {prefix: /}\n  route: {cluster: upstream}\n";
    part["virtual hosts"] = "- name: all\n  domains: [\"*\"]\n  routes:\n" + indented(part["routes"], 2);
  }
  std::string yaml =
      "static_resources:\n"
      "  listeners:\n"
      "  - name: main\n"
      "    address:\n"
      "      socket_address: {address: 127.0.0.1, port_value: 0}\n"
      "    filter_chains:\n"
      "    - filters:\n"
      "      - name: envoy.filters.network.http_connection_manager\n"
      "        typed_config:\n"
      "          \"@type\": type.googleapis.com/"
      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n"
      "          stat_prefix: main\n"
      "          access_log:\n"
      "          - name: envoy.access_loggers.file\n"
      "            typed_config:\n"
      "              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n"
      "              path: ${ACCESS_LOG}\n"
      "              log_format:\n"
      "                text_format_source:\n"
      "                  inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\"\n" +
      indented(part["hcm"], 10) +
      "          route_config:\n"
      "            name: table\n"
      "            virtual_hosts:\n" +
      indented(part["virtual hosts"], 12) + "          http_filters:\n" + indented(part["filters"], 10) +
      "          - name: envoy.filters.http.router\n"
      "            typed_config:\n"
      "              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n"
      "  clusters:\n"
      "  - name: upstream\n"
      "    type: STATIC\n"
      "    load_assignment:\n"
      "      cluster_name: upstream\n"
      "      endpoints:\n"
      "      - lb_endpoints:\n"
      "        - endpoint:\n"
      "            address:\n"
      "              socket_address: {address: 127.0.0.1, port_value: ${UPSTREAM_PORT}}\n" +
      indented(part["cluster"], 4) + indented(part["clusters"], 2);
  const auto replace = [&yaml](std::string_view name, std::string_view value) {
    for (size_t at; (at = yaml.find(name)) != std::string::npos;) yaml.replace(at, name.size(), value);
  };
  replace("${UPSTREAM_PORT}", std::to_string(upstream_port));
  replace("${ACCESS_LOG}", access_log_path);
  return yaml;
}

std::string case_bytes(std::string_view text) {
  std::string bytes;
  for (const std::string& whole : split_lines(text)) {
    std::string_view line = whole;
    const size_t backslashes = line.size() - (line.find_last_not_of('\\') + 1);
    const bool joined = backslashes % 2 == 1;
    if (joined) line.remove_suffix(1);
    for (size_t at = 0; at < line.size();) {
      if (line[at] == '\\') {
        at = unescape(line, at, bytes);
      } else if (const size_t behind = repeat(line, at, bytes); behind != at) {
        at = behind;
      } else {
        bytes += line[at++];
      }
    }
    if (!joined) bytes += "\r\n";
  }
  return bytes;
}

std::string mismatch(const HttpMessage& message, std::string_view expected) {
  if (!message.ok()) return message.error;
  const std::vector<std::string> lines = split_lines(expected);
  HttpMessage::Fields headers, trailers;
  size_t at = 0;
  if (lines.empty()) return {};
  if (!matches(message.start_line, lines[at++])) return "expected [" + lines[0] + "], got [" + message.start_line + "]";
  for (; at < lines.size() && !lines[at].empty(); ++at) {
    std::string line = lines[at];
    if (line.front() == '!') {
      if (const auto value = message.header(line.substr(1)))
        return line.substr(1) + ": expected none, got [" + *value + "]";
      continue;
    }
    const bool trailer = line.starts_with("trailer ");
    if (trailer) line.erase(0, 8);
    const size_t colon = line.find(':');
    if (colon == std::string::npos) return "the case has no colon in '" + line + "'";
    const size_t value = line.find_first_not_of(' ', colon + 1);
    (trailer ? trailers : headers)
        .emplace_back(line.substr(0, colon), value == std::string::npos ? std::string() : line.substr(value));
  }
  std::string bad = field_mismatch(message.headers, headers, "header");
  if (bad.empty()) bad = field_mismatch(message.trailers, trailers, "trailer");
  if (!bad.empty() || at == lines.size()) return bad;
  std::string rest;
  for (++at; at < lines.size(); ++at) rest += lines[at] + "\n";
  const std::string body = case_bytes(rest);
  if (message.body != body) {
    return "expected a body of " + std::to_string(body.size()) + " bytes [" + body.substr(0, 200) + "], got " +
           std::to_string(message.body.size()) + " [" + message.body.substr(0, 200) + "]";
  }
  return {};
}

}  // namespace outrigger::test
