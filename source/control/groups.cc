#include "outrigger/control/groups.h"

#include <algorithm>

namespace outrigger::control {

bool NodeSelector::matches(const ClientInfo& client) const {
  const auto holds = [](const std::optional<TextMatch>& wanted, std::string_view value) {
    return !wanted || wanted->matches(value);
  };
  if (!holds(id, client.node_id) || !holds(cluster, client.node_cluster) || !holds(user_agent, client.user_agent))
    return false;
  const auto is_his = [&](const std::string& identity) { return tls_identity->matches(identity); };
  if (tls_identity && std::none_of(client.tls_identities.begin(), client.tls_identities.end(), is_his)) return false;
  return std::all_of(metadata.begin(), metadata.end(), [&](const MetadataMatch& wanted) {
    return std::any_of(client.metadata.begin(), client.metadata.end(), [&](const NodeMetadata& has) {
      return has.path == wanted.path && wanted.value.matches(has.value);
    });
  });
}

std::string group_of(const std::vector<GroupRule>& rules, const ClientInfo& client) {
  for (const GroupRule& rule : rules) {
    const auto matches = [&](const NodeSelector& selector) { return selector.matches(client); };
    if (std::any_of(rule.any_of.begin(), rule.any_of.end(), matches)) return rule.group;
  }
  return {};
}

}  // namespace outrigger::control
