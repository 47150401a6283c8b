// NodeSelector, GroupRule: which group a client belongs to, by what it says of itself in its first request and by its
// certificate. The id, cluster and metadata are the client's own words; only tls_identity is proven.
//
// A snapshot for each node is a group for each node: group_of = [](const ClientInfo& c) { return c.node_id; }.
//
// Thread rule: values and pure functions.
// Use:  std::vector<GroupRule> rules = {{"edge", {{.cluster = TextMatch::exact("edge")}}},
//                                       {"canary", {{.metadata = {{{"labels", "track"},
//                                       TextMatch::exact("canary")}}}}}};
//       AdsServer server(cache, {.group_of = [&](const ClientInfo& c) { return group_of(rules, c); }});
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/control/ads_server.h"

namespace outrigger::control {

struct TextMatch {
  std::string text;
  bool is_prefix = false;

  static TextMatch exact(std::string text) { return {std::move(text), false}; }
  static TextMatch prefix(std::string text) { return {std::move(text), true}; }
  bool matches(std::string_view value) const {
    return is_prefix ? value.substr(0, text.size()) == text : value == text;
  }
};

struct MetadataMatch {
  std::vector<std::string> path;  // of keys: {"labels", "app.kubernetes.io/name"}
  TextMatch value;                // numbers as JSON writes them, "true", "false"
};

// All that is said must hold.
struct NodeSelector {
  std::optional<TextMatch> id = {}, cluster = {}, user_agent = {};
  std::optional<TextMatch> tls_identity = {};  // one of the client's
  std::vector<MetadataMatch> metadata = {};

  bool matches(const ClientInfo& client) const;
};

struct GroupRule {
  std::string group;
  std::vector<NodeSelector> any_of;
};

// The group of the first rule that matches; "" if none does.
std::string group_of(const std::vector<GroupRule>& rules, const ClientInfo& client);

}  // namespace outrigger::control
